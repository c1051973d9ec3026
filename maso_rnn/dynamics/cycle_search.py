"""Cycles of a cell, searched from many starts at once."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int, PyTree

from maso_rnn import checks
from maso_rnn.cells import Step
from maso_rnn.dynamics import shooting
from maso_rnn.dynamics.distinct import reach, told_apart
from maso_rnn.dynamics.eigensystem import eigensystems
from maso_rnn.dynamics.fixed_point_search import arrivals, searched
from maso_rnn.dynamics.kinks import around_kinks, around_the_cycle
from maso_rnn.dynamics.progress import Progress
from maso_rnn.dynamics.shooting import Shooting
from maso_rnn.dynamics.starts import read_starts
from maso_rnn.network import RNN


class Cycles(NamedTuple):
    """Prime cycles of one period that a search found, each once, most often reached first.

    Attributes:
        states: a carry like the starts, with leading axes (cycle, period).
        multipliers: (cycle, hidden), the eigenvalues of the product of the Jacobians once around, largest first.
        stable: (cycle,), whether all of them are inside the unit circle and it is not degenerate; on a kink, those of
            every adjacent piece that was met, which is a sign and no proof.
        residuals: (cycle,), ½ Σ ‖step(h_i, x) − h_{i+1}‖² around the cycle.
        reached: (cycle,), from how many of the starts Newton's method or iteration came to it.
        degenerate: (cycle,), whether a multiplier is 1 up to half of the digits: no isolated cycle; on a kink, one of
            any adjacent piece that was met.
        on_kink: (cycle,), whether the Jacobian jumps at one of its states.
        inputs: (cycle, input), the input that it is a cycle under.
        unconverged: how many starts came to no cycle whose period divides `period`.
    """

    states: PyTree[Float[Array, "..."]]
    multipliers: Complex[Array, "cycle hidden"]
    stable: Bool[Array, " cycle"]
    residuals: Float[Array, " cycle"]
    reached: Int[Array, " cycle"]
    degenerate: Bool[Array, " cycle"]
    on_kink: Bool[Array, " cycle"]
    inputs: Float[Array, "cycle input"]
    unconverged: int


@np.errstate(over="ignore", invalid="ignore")  # states may run away
def cycles(
    step: Step | RNN,
    starts: PyTree[Float[Array, "..."]],
    x: Float[Array, " input"] | Float[Array, "start input"] | None = None,
    *,
    period: int,
    max_steps: int = 500,
    distance: float | None = None,
    progress: bool = True,
) -> Cycles:
    """The rhythms of a network under a constant input: states that come back after `period` steps, and not before.

    Equation: step(h_i, x) = h_{i+1}, h_{p+1} = h_1, all p of them at once by damped Newton (multiple shooting), from
    the first p states after every start and after where plain iteration settles. A cycle is kept where what it misses
    by is rounding, as in `fixed_points`, and where no divisor of p brings it back.

    A host function. Each step of a start costs the solution of (hidden · period) equations: (hidden · period)³. How
    many cycles there are grows exponentially with the period where there is chaos: give many starts.

    Args:
        step: a `Cell`, a network (`maso_rnn.RNN`), or `(carry, x) -> carry`, smooth or piecewise affine.
        starts: carries with a leading axis of starts, as states that trajectories passed through: `sample_states`.
        x: (input,), the constant input, or (start, input), one for each start; by default none.
        period: of the cycles; 1 for fixed points.
        max_steps: of plain iteration, from each start.
        distance: cycles are one, and a state has come back, if closer than this, relative to the norm of the states (of
            the starts, or of the cycle's largest, whichever is larger). By default that is 1e-3 (1e-2 in float32) for
            degenerate cycles only; others are one where rounding cannot tell them apart.
        progress: whether a search that takes more than ten seconds says on stderr how far it is.

    Returns:
        `Cycles(states, multipliers, stable, residuals, reached, …)`; none found is an empty leading axis.

    Raises:
        ValueError: if there are no starts, or no leading axis of starts; if there are not as many inputs as starts;
            if numbers are not finite, an option is not positive, or `step` does not always do the same.
        TypeError: if `starts` or `x` is traced or not floating, `starts` below float32, or `step` does not return a
            carry like a start.

    Example:
        >>> found = cycles(lambda h, x: 3.2 * h * (1 - h), jnp.linspace(0.1, 0.9, 9)[:, None], period=2)
        >>> sorted(round(float(h), 4) for h in found.states.ravel()), found.stable.tolist()
        ([0.513, 0.7995], [True])

    Source:
        Stoer, Bulirsch, *Introduction to numerical analysis* (2002), section 7.3.5, for multiple shooting; Eisenmann,
        Monfared, Göring, Durstewitz, *Bifurcations and loss jumps in RNN training* (2023), for cycles of ReLU networks.
    """
    period = checks.size("period", period)
    max_steps = checks.size("max_steps", max_steps)
    distance = None if distance is None else checks.number("distance", distance, above=0)
    told = Progress(checks.flag("progress", progress))
    found = read_starts(step, starts, x, "cycles")
    problem = Shooting(found.step, period, float(np.median(np.abs(found.states))), len(found.states), told)
    candidates, came = searched(problem, found.states, found.inputs, max_steps)
    near = reach(candidates.states, found.states, distance)
    chosen, cycle_of, radii = told_apart(problem, candidates, candidates.fixed, near, merged=distance is not None)
    reached, _ = arrivals(cycle_of[came], len(chosen))
    prime = is_prime(candidates.states[chosen], radii)
    chosen, reached = chosen[prime], reached[prime]
    ranked = np.argsort(-reached, kind="stable")
    chosen, reached = chosen[ranked], reached[ranked]
    states, inputs, _, speeds = (rows[chosen] for rows in candidates)
    _, jacobians, _ = shooting.evaluated(problem, states, inputs)
    multipliers, _ = eigensystems(around_the_cycle(jacobians))
    on_kink, steepest, flat = around_kinks(problem, states, inputs)
    degenerate = np.where(on_kink, flat, shooting.is_degenerate(shooting.singular_values(jacobians)))
    inside = np.maximum(np.abs(multipliers).max(axis=1, initial=0), steepest) < 1
    return Cycles(
        states=jax.vmap(found.carries)(jnp.asarray(states)),
        multipliers=jnp.asarray(multipliers, jnp.result_type(states.dtype, jnp.complex64)),
        stable=jnp.asarray(inside & ~degenerate),
        residuals=jnp.asarray(0.5 * speeds**2),
        reached=jnp.asarray(reached),
        degenerate=jnp.asarray(degenerate),
        on_kink=jnp.asarray(on_kink),
        inputs=jnp.asarray(inputs),
        unconverged=int((~candidates.fixed[came].any(axis=0)).sum()),
    )


def is_prime(states: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Whether no shift by a divisor of the period brings (cycle, period, hidden) states back."""
    period = states.shape[1]
    prime = np.ones(len(states), bool)
    for divisor in (d for d in range(1, period) if period % d == 0):
        back = np.linalg.norm(states - np.roll(states, -divisor, axis=1), axis=2).max(axis=1)
        prime &= back > near
    return prime
