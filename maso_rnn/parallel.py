"""A whole trajectory at once, by guessing the codes and correcting the guess: experimental.

With the codes known the network is linear, h_t = M_t h_{t-1} + c_t with M_t = D_t Uᵀ in column vectors, and a linear
recurrence can be solved in parallel over time. So: guess codes, solve, see which states really follow from those
before, keep the first ones that do, and repeat from there until all do; then it is the sequential answer up to rounding
(where the network expands, roundings grow, and two valid answers may part). Each round settles at least one more step,
in all layers, so that it ends after as many rounds as there are steps, at most, and on most networks far sooner.

Each round multiplies (hidden, hidden) matrices where the scan multiplies vectors, and holds one for each step: on a CPU
that is far slower. It is meant for long sequences and few hidden units on accelerators, not measured there yet.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, Layer, States, Trajectory, checked_arguments, read_out, where_read

Rows: TypeAlias = tuple[Array, ...]  # for each layer (time, hidden)


class ParallelResult(NamedTuple):
    """A trajectory solved in parallel over time, and whether it is one.

    Attributes:
        trajectory: as from `trajectory`; right in its first steps only, if not converged.
        iterations: the rounds that were made.
        converged: whether its numbers are finite, and every state follows from the one before up to rounding. On a
            network that expands, one rounding grows over the steps: it is then a trajectory up to rounding, but not
            always the one that `trajectory` gives.
    """

    trajectory: Trajectory
    iterations: Int[Array, ""]
    converged: Bool[Array, ""]


def parallel_forward(
    rnn: RNN, xs: Float[Array, "time input"], h0: States | None = None, *, max_iterations: int | None = None
) -> ParallelResult:
    """The trajectory by rounds that are parallel over time; experimental, not yet measured on an accelerator.

    Equation: h_t = D_t Uᵀ h_{t-1} + D_t (Wᵀ x_t + b) + piece offsets, solved by an associative scan with D from the
    round before, until D no longer changes.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        max_iterations: the most rounds to make, at least 1; by default time, which always suffice.

    Returns:
        `ParallelResult(trajectory, iterations, converged)`. Differentiable, through the last round's linear solution.

    Raises:
        ValueError: if `max_iterations` is below 1, the activation has no pieces, shapes do not fit, the sequence is
            empty, or concrete values are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype, or `max_iterations` is not a known integer.

    Example:
        >>> from maso_rnn import init, trajectory
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> xs = jnp.linspace(-1.0, 1.0, 20)[:, None]
        >>> result = parallel_forward(rnn, xs)
        >>> same = jnp.allclose(result.trajectory.outputs, trajectory(rnn, xs).outputs, atol=1e-5)
        >>> bool(result.converged), bool(same)
        (True, True)

    Source:
        Lim et al., Parallelizing non-linear sequential models over the sequence length (2024), for Newton's method in
        parallel over time; on affine pieces it ends after finitely many rounds.
    """
    enough = None if max_iterations is None else checks.size("max_iterations", max_iterations)
    rnn, xs, state, _ = checked_arguments(rnn, xs, h0)
    return _solved_in_rounds(rnn, xs, state, len(xs) if enough is None else enough)


@jax.jit
def _solved_in_rounds(rnn: RNN, xs: Array, state: States, max_iterations: Array | int) -> ParallelResult:
    # codes have no derivative: the rounds run on constants, the solution that they lead to does not
    constants = jax.lax.stop_gradient((rnn, xs, state))

    def unfinished(carry: tuple[Rows, Array, Array]) -> Array:
        _, rounds, settled = carry
        return (settled < len(xs)) & (rounds < max_iterations)

    def again(carry: tuple[Rows, Array, Array]) -> tuple[Rows, Array, Array]:
        states, rounds, settled = carry
        _, states, settled = _corrected(states, settled, *constants)
        return states, rounds + 1, settled

    nothing = jnp.zeros((), jnp.int32)
    guess = tuple(jnp.zeros((len(xs), len(h)), xs.dtype) for h in state)
    states, rounds, settled = jax.lax.while_loop(unfinished, again, (guess, nothing, nothing))
    # the numbers are those that have settled, their derivative is that of the solution on their codes
    solved, _, _ = _corrected(states, nothing, rnn, xs, state)
    solved = tuple(jnp.where(jnp.isfinite(s), s, h) for s, h in zip(solved, states, strict=True))
    states = tuple(h + (s - jax.lax.stop_gradient(s)) for s, h in zip(solved, states, strict=True))
    outputs = read_out(rnn, states[-1])
    finite = jnp.isfinite(outputs).all() & jnp.stack([jnp.isfinite(h).all() for h in states]).all()
    return ParallelResult(
        Trajectory(outputs, states, _codes(rnn, xs, state, states)), rounds, (settled == len(xs)) & finite
    )


def _corrected(before: Rows, settled: Array, rnn: RNN, xs: Array, state: States) -> tuple[Rows, Rows, Array]:
    """One round: states solved on the codes that those before make, one step on from each of them, and what is settled.

    The first `settled` steps are kept. The next one is a step on from what is kept, in every layer, and so it is right.
    """
    act = require_pieces(rnn.activation)
    solutions, after, below, follows = [], [], xs, []
    for layer, h, old in zip(rnn.layers, state, before, strict=True):
        driven = below @ layer.input_kernel
        driven = driven if layer.bias is None else driven + layer.bias
        if layer.recurrent_kernel is None:
            solved = stepped = act(driven)
        else:
            code = act.code(driven + _shifted(h, old) @ layer.recurrent_kernel)
            solved = _solve(act, layer.recurrent_kernel, driven, h, code, old, settled)
            stepped = act(driven + _shifted(h, solved) @ layer.recurrent_kernel)
        stepped = jnp.where(_known(settled, old), old, stepped)
        follows.append(_follows(act, layer, below, _shifted(h, solved), solved, stepped))
        solutions.append(solved)
        after.append(stepped)
        below = stepped
    right = jnp.cumprod(jnp.stack(follows).all(axis=0)).sum().astype(jnp.int32)
    return tuple(solutions), tuple(after), jnp.maximum(right, jnp.minimum(settled + 1, len(xs)))


def _shifted(h: Array, states: Array) -> Array:
    """The state before each step."""
    return jnp.concatenate([h[None], states[:-1]])


def _known(settled: Array, states: Array) -> Array:
    """Which steps are settled, (time, 1)."""
    return (jnp.arange(len(states)) < settled)[:, None]


def _codes(rnn: RNN, xs: Array, state: States, states: Rows) -> tuple[Array, ...]:
    act = require_pieces(rnn.activation)
    codes, below = [], xs
    for layer, h, after in zip(rnn.layers, state, states, strict=True):
        p = below @ layer.input_kernel
        p = p if layer.recurrent_kernel is None else p + _shifted(h, after) @ layer.recurrent_kernel
        codes.append(act.code(p if layer.bias is None else p + layer.bias))
        below = after
    return where_read(rnn, tuple(codes), len(xs) - 1)


def _follows(act: PiecewiseAffine, layer: Layer, below: Array, before: Array, solved: Array, stepped: Array) -> Array:
    """At which steps every state follows from the one before: long products can cancel, and codes do not show it."""
    size = jnp.abs(below) @ jnp.abs(layer.input_kernel)
    if layer.recurrent_kernel is not None:
        size = size + jnp.abs(before) @ jnp.abs(layer.recurrent_kernel)
    if layer.bias is not None:
        size = size + jnp.abs(layer.bias)
    steepest, furthest = np.abs(act.slopes).max(), np.abs(act.offsets).max()
    # a thousand roundings of the largest number that has gone in so far
    largest = jax.lax.cummax(size.max(axis=1))
    allowed = 1e3 * jnp.finfo(solved.dtype).eps * (steepest * largest + furthest)
    return jnp.abs(solved - stepped).max(axis=1) <= allowed


def _solve(
    act: PiecewiseAffine, kernel: Array, driven: Array, h: Array, code: Array, kept: Array, settled: Array
) -> Array:
    """States (time, hidden) of one layer with its codes given, from what drives it (time, hidden) and its start.

    The first `settled` steps are those that are kept, and what comes next goes on from there.
    """
    dtype = driven.dtype
    slope = act.slope(code, dtype)
    matrices = kernel * slope[:, None, :]  # h @ matrices[t]
    constant = slope * driven + act.offset(code, dtype)
    # the initial state goes into the first constant, so that no product need be applied to it
    constant = constant.at[0].add(h @ matrices[0])
    known = _known(settled, kept)
    matrices, constant = jnp.where(known[:, None], 0, matrices), jnp.where(known, kept, constant)

    def after(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, offset = then
        return first[0] @ matrix, jnp.einsum("...i,...ij->...j", first[1], matrix) + offset

    return jax.lax.associative_scan(after, (matrices, constant))[1]
