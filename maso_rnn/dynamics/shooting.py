"""Fixed points and cycles as roots: damped Newton and plain iteration from many starts, in blocks of one size.

A cycle of period p is a root of multiple shooting: its states z = (h_1 … h_p) miss by f_i = step(h_i) − h_{i+1}, and
h_{p+1} is h_1. A fixed point is a cycle of period 1. Steps and Jacobians are compiled, for blocks of a fixed number of
starts, so that nothing is compiled again as starts converge; linear algebra is NumPy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maso_rnn.dynamics.progress import Progress
from maso_rnn.functions import Traced

MOST_STEPS = 60  # of damped Newton
PATIENCE = 10  # steps, in which what a start misses by must fall to
GAIN = 0.5  # of what it was; else it is given up, unless it is nearly
SLOW = 1e-3  # relative to the size of its states
LARGEST_BLOCK = 256  # starts that are evaluated at once
LARGEST_GROUP = 2**24  # numbers in the Jacobians that are held at once
ITERATIONS = 50  # of the step, before it is looked at who has settled
FRACTIONS = 0.5 ** np.arange(1, 9)  # of a Newton step that are tried where the whole one does not do
DAMPINGS = 10.0 ** np.arange(-6, 10, 2)  # of Levenberg and Marquardt


class Shooting(NamedTuple):
    """A search for cycles of one period.

    Attributes:
        step: the cell on flat carries.
        period: how many states a cycle has.
        typical: the median size of the numbers in the starts.
        starts: how many starts there are.
        progress: says how far it is.
    """

    step: Traced
    period: int
    typical: float
    starts: int
    progress: Progress

    def block(self, hidden: int) -> int:
        """How many starts are evaluated at once."""
        return max(1, min(LARGEST_BLOCK, self.starts, LARGEST_GROUP // (self.period * hidden**2)))


class Candidates(NamedTuple):
    """Where searches have ended.

    Attributes:
        states: (candidate, period, hidden).
        inputs: (candidate, input).
        fixed: (candidate,), whether what they miss by is rounding.
        speeds: (candidate,), the norm of what they miss by.
    """

    states: np.ndarray
    inputs: np.ndarray
    fixed: np.ndarray
    speeds: np.ndarray

    @staticmethod
    def joined(*parts: Candidates) -> Candidates:
        """Those of several searches, one after the other."""
        return Candidates(*map(np.concatenate, zip(*parts, strict=True)))


def descended(problem: Shooting, states: np.ndarray, inputs: np.ndarray) -> Candidates:
    """Damped Newton on what the states miss by, from each of (start, period, hidden), until it is rounding or stays.

    A step is Newton's; where it does not bring the misses down, the best of several fractions of it; where none of them
    does, the best of several Levenberg–Marquardt steps; where these do not either, the search from there has ended.
    """
    group = max(1, LARGEST_GROUP // max(1, states[:1].size ** 2))
    parts = []
    for i in range(0, max(len(states), 1), group):
        parts.append(_descended(problem, states[i : i + group], inputs[i : i + group]))
        problem.progress.tell(f"Newton's method: {min(i + group, len(states))} of {len(states)} starts")
    return Candidates.joined(*parts)


def _descended(problem: Shooting, states: np.ndarray, inputs: np.ndarray) -> Candidates:
    count = len(states)
    ends, fixed, speeds, active = states.copy(), np.zeros(count, bool), np.full(count, np.nan), np.arange(count)
    before, earlier = np.full(count, np.inf), np.full(count, np.inf)
    for k in range(MOST_STEPS + 1):
        problem.progress.tell(f"Newton's method: step {k}, {len(active)} of {count} starts go on")
        z, x = ends[active], inputs[active]
        misses, newton, fixed[active], going = _newton(problem, z, x, before[active])
        speeds[active] = np.linalg.norm(misses, axis=(1, 2))
        if k % PATIENCE == 0:
            sizes = np.maximum(np.linalg.norm(z, axis=(1, 2)), problem.typical)
            going &= (speeds[active] < GAIN * earlier[active]) | (speeds[active] < SLOW * sizes)
            earlier[active] = speeds[active]
        active, z, x, misses, newton = (rows[going] for rows in (active, z, x, misses, newton))
        if not len(active) or k == MOST_STEPS:
            break
        before[active] = np.abs(misses).max(axis=(1, 2))
        z, better = _improved(problem, z, x, misses, newton)
        active = active[better]
        ends[active] = z[better]
    return Candidates(ends, inputs, fixed, speeds)


def _newton(problem: Shooting, z: np.ndarray, x: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, ...]:
    """What states miss by, Newton's step from there, who is fixed, and who goes on; `before` is what they missed by."""

    def solved(here: slice, misses: np.ndarray, matrix: np.ndarray, carried: np.ndarray) -> tuple[np.ndarray, ...]:
        # where the Jacobian is infinite nothing can be told
        misses = np.where(np.isfinite(carried)[:, None, None], misses, np.nan)
        largest = np.abs(misses).max(axis=(1, 2))
        fixed = np.isfinite(largest) & (largest <= rounding(problem, z[here], carried))
        # where the Jacobian is singular Newton's steps gain a digit in several: they go on until nothing is gained
        there = (largest == 0) | fixed & (largest < 0.1 * before[here])
        going = ~there & np.isfinite(largest)
        rows = slice(None) if going.all() else going  # copies of the matrices take time
        steps = np.zeros_like(misses)
        if going.any():
            steps[rows] = _solved(matrix[rows], -misses[rows].reshape(going.sum(), -1)).reshape(steps[rows].shape)
        return misses, steps, fixed, going

    return _in_blocks(problem, _evaluate_misses, z, x, then=solved)


def _improved(
    problem: Shooting, z: np.ndarray, x: np.ndarray, misses: np.ndarray, newton: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """States that miss by less than these do, and where there are such states."""
    scale = np.abs(misses).max(axis=(1, 2))
    now = np.linalg.norm((misses / scale[:, None, None]).reshape(len(z), -1), axis=1)

    def tried(chosen: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best of the steps (chosen, way, period, hidden) from the chosen states, and what it misses by."""
        ends, ways = z[chosen, None] + steps, steps.shape[1]
        where, units = np.repeat(x[chosen], ways, axis=0), np.repeat(scale[chosen], ways)
        sizes = missed(problem, ends.reshape(-1, *z.shape[1:]), where, units).reshape(-1, ways)
        best = np.where(np.isfinite(sizes), sizes, np.inf).argmin(axis=1)
        rows = np.arange(len(chosen))
        return ends[rows, best], sizes[rows, best]

    found, sizes = tried(np.arange(len(z)), newton[:, None])
    enough = now * (1 - 0.01 * np.sqrt(np.finfo(z.dtype).eps))
    fractions = FRACTIONS.astype(z.dtype)[:, None, None]
    if len(stuck := np.flatnonzero(~(sizes < enough))):
        found[stuck], sizes[stuck] = tried(stuck, fractions * newton[stuck, None])
    if len(stuck := np.flatnonzero(~(sizes < enough))):
        lengths = np.maximum(np.linalg.norm(z[stuck], axis=(1, 2)), problem.typical)
        matrix = system(evaluated(problem, z[stuck], x[stuck])[1])
        steps = _marquardt(matrix, -misses[stuck].reshape(len(stuck), -1), lengths)
        found[stuck], sizes[stuck] = tried(stuck, steps.reshape(len(stuck), len(DAMPINGS), *z.shape[1:]))
    return found, sizes < enough


def _solved(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution of every system; of a singular one, that of a system very near to it."""
    try:
        return np.linalg.solve(matrix, right[..., None])[..., 0]
    except np.linalg.LinAlgError:
        near = 64 * np.finfo(matrix.dtype).eps * (1 + np.abs(matrix).max(axis=(1, 2)))  # more than rounding
        shift = near[:, None, None] * np.random.default_rng(0).standard_normal(matrix.shape[1:])
        return np.linalg.solve(matrix + shift.astype(matrix.dtype), right[..., None])[..., 0]


def _marquardt(matrix: np.ndarray, right: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The Levenberg–Marquardt steps of several dampings, for states of these lengths: (start, damping, number).

    Dampings are relative to the largest singular value, or to what the misses are per unit of length: at a ghost all
    singular values are small.
    """
    left, sizes, basis = np.linalg.svd(matrix)
    unit = np.maximum(sizes[:, 0], np.linalg.norm(right, axis=1) / np.maximum(lengths, np.finfo(matrix.dtype).tiny))
    damping = DAMPINGS.astype(matrix.dtype)[:, None] * unit[:, None, None] ** 2
    gains = sizes[:, None] / (sizes[:, None] ** 2 + damping)
    return (gains * np.einsum("sij,si->sj", left, right)[:, None]) @ basis


def rounding(problem: Shooting, states: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """What (start, period, hidden) states may miss by for no other reason than rounding of the numbers that go in."""
    largest = np.maximum(np.maximum(np.abs(states).max(axis=(1, 2)), carried), problem.typical)
    return 4 * np.finfo(states.dtype).eps * np.sqrt(states.shape[-1]) * largest


def singular_values(jacobians: np.ndarray) -> np.ndarray:
    """The singular values of the Jacobian of the misses, (cycle, period · hidden), the largest first."""
    return np.linalg.svd(system(jacobians), compute_uv=False)


def is_degenerate(singular_values: np.ndarray) -> np.ndarray:
    """Whether the Jacobian of the misses is singular up to half of the digits: no isolated cycle can be told."""
    largest, least = singular_values[:, 0], singular_values[:, -1]
    return least <= np.sqrt(np.finfo(singular_values.dtype).eps) * np.maximum(1, largest)


def system(jacobians: Any) -> Any:
    """The Jacobians of the misses, (start, period · hidden, period · hidden), from those of the step at each state."""
    count, period, hidden, _ = jacobians.shape
    own, one = np.eye(period, dtype=jacobians.dtype), np.eye(hidden, dtype=jacobians.dtype)
    after = np.roll(own, 1, axis=1)
    matrix = jacobians[:, :, :, None] * own[:, None, :, None] - after[:, None, :, None] * one[:, None]
    return matrix.reshape(count, period * hidden, period * hidden)


def evaluated(problem: Shooting, states: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """What (start, period, hidden) states miss by, the Jacobian of the step at each, and the largest of |J| |h|."""
    return _in_blocks(problem, _evaluate, states, inputs)


@jax.jit
def _evaluate(step: Traced, states: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    def twice(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        after = step(h, x)
        return after, after

    jacobians, after = jax.vmap(jax.vmap(jax.jacfwd(twice, has_aux=True), (0, None)))(states, inputs)
    carried = jnp.einsum("spij,spj->spi", jnp.abs(jacobians), jnp.abs(states)).max(axis=(1, 2))
    return after - jnp.roll(states, -1, axis=1), jacobians, carried


@jax.jit
def _evaluate_misses(step: Traced, states: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As `_evaluate`, with the Jacobians of the misses."""
    misses, jacobians, carried = _evaluate(step, states, inputs)
    return misses, system(jacobians), carried


def missed(problem: Shooting, states: np.ndarray, inputs: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The norm of what the states miss by, in units of `scale`, (start,)."""
    block = min(LARGEST_BLOCK, len(FRACTIONS) * problem.starts)  # there are several ways to go on from each start
    return _in_blocks(problem, _miss, states, inputs, scale, block=block)[0]


@jax.jit
def _miss(step: Traced, states: jax.Array, inputs: jax.Array, scale: jax.Array) -> tuple[jax.Array]:
    after = jax.vmap(jax.vmap(step, (0, None)))(states, inputs)
    return (jnp.sqrt(jnp.sum(((after - jnp.roll(states, -1, axis=1)) / scale[:, None, None]) ** 2, axis=(1, 2))),)


def iterated(problem: Shooting, states: np.ndarray, inputs: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Where at most `steps` steps lead from each of (start, hidden) states, and who has settled into a cycle."""
    ends, settled, active = states.copy(), np.zeros(len(states), bool), np.arange(len(states))
    for k in range(0, steps, ITERATIONS):
        problem.progress.tell(f"iteration: step {k}, {len(active)} of {len(states)} starts go on")
        counts = np.array([min(ITERATIONS, steps - k), problem.period])
        after, moved = _in_blocks(problem, _iterate, ends[active], inputs[active], shared=counts)
        ends[active] = after
        stays = moved <= np.sqrt(np.finfo(states.dtype).eps) * np.maximum(np.abs(after).max(axis=1), problem.typical)
        settled[active[stays]] = True
        active = active[~stays & np.isfinite(moved)]
        if not len(active):
            break
    return ends, settled


@jax.jit
def _iterate(step: Traced, states: jax.Array, inputs: jax.Array, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The states after so many steps, and how far the next so many lead from there."""

    def go(count: jax.Array, states: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, count, lambda _, states: jax.vmap(step)(states, inputs), states)

    after = go(counts[0], states)
    return after, jnp.abs(go(counts[1], after) - after).max(axis=1)


def orbits(problem: Shooting, states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The first states of the trajectory from each of (start, hidden): (start, period, hidden)."""
    orbit = [states]
    for _ in range(problem.period - 1):
        orbit.append(_in_blocks(problem, _iterate, orbit[-1], inputs, shared=np.array([1, 0]))[0])
    return np.stack(orbit, axis=1)


def _in_blocks(
    problem: Shooting,
    compiled: Callable[..., tuple[jax.Array, ...]],
    *arrays: np.ndarray,
    shared: Any = None,
    then: Callable[..., tuple[np.ndarray, ...]] | None = None,
    block: int | None = None,
) -> tuple[np.ndarray, ...]:
    """A compiled function of the step and arrays, in blocks of one size, the last filled up with copies of its rows.

    `then` makes of each block's rows, and what was computed, what is kept of them.
    """
    block = block or problem.block(arrays[0].shape[-1])
    parts = []
    for i in range(0, max(len(arrays[0]), 1), block):
        here = slice(i, i + block)
        rows = [array[here] for array in arrays]
        count = len(rows[0])
        if count < block:
            rows = [np.resize(row, (block, *row.shape[1:])) for row in rows]
        found = [
            np.asarray(out)[:count] for out in compiled(problem.step, *rows, *(() if shared is None else (shared,)))
        ]
        parts.append(found if then is None else then(here, *found))
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
