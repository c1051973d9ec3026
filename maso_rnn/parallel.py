"""A whole trajectory at once, by guessing the codes and correcting the guess: experimental.

With the codes known the network is linear, h_t = M_t h_{t-1} + c_t with M_t = D_t Uᵀ in column vectors, and a linear
recurrence can be solved in parallel over time. So: guess codes, solve, see which codes the solution would really have,
and repeat until they no longer change; then it is the sequential answer up to rounding (where the network expands,
roundings grow, and two valid answers may part). Each round makes at least
one more step of each layer right, so that it ends after time + layers rounds at most, and on most networks far sooner.

Each round multiplies (hidden, hidden) matrices where the scan multiplies vectors, and holds one for each step: on a CPU
that is far slower. It is meant for long sequences and few hidden units on accelerators, not measured there yet.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, States, Trajectory, checked_arguments, read_out


class ParallelResult(NamedTuple):
    """A trajectory solved in parallel over time, and whether it is one.

    Attributes:
        trajectory: as from `trajectory`; right in its first steps only, if not converged.
        iterations: the rounds that were made, the last of which found nothing to correct if converged.
        converged: whether the codes are those that the solution really has, its numbers are finite, and every state
            follows from the one before up to rounding. On a network that expands, one rounding grows over the steps:
            it is then a trajectory up to rounding, but not always the one that `trajectory` gives.
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
        max_iterations: the most rounds to make, at least 1, static; by default time + layers, which always suffice.

    Returns:
        `ParallelResult(trajectory, iterations, converged)`. Differentiable, through the last round's linear solution.

    Raises:
        ValueError: if `max_iterations` is below 1, the activation has no pieces, shapes do not fit, the sequence is
            empty, or concrete values are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype, or `max_iterations` is not an integer.

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
    most = xs.shape[0] + len(rnn.layers)
    return _solved_in_rounds(rnn, xs, state, most if enough is None else min(most, enough))


@jax.jit
def _solved_in_rounds(rnn: RNN, xs: Array, state: States, max_iterations: Array | int) -> ParallelResult:
    act = require_pieces(rnn.activation)

    def correct(codes: tuple[Array, ...], rnn: RNN, xs: Array, state: Any) -> tuple[Any, Any]:
        """The states that these codes make, and the codes that those states make."""
        states, corrected, below = [], [], xs
        for layer, h, code in zip(rnn.layers, state, codes, strict=True):
            driven = below @ layer.input_kernel
            driven = driven if layer.bias is None else driven + layer.bias
            if layer.recurrent_kernel is None:
                solved, p = act(driven), driven
            else:
                solved = _solve(act, layer.recurrent_kernel, driven, h, code)
                p = driven + jnp.concatenate([h[None], solved[:-1]]) @ layer.recurrent_kernel
            corrected.append(act.code(p))
            states.append(solved)
            below = solved
        return tuple(states), tuple(corrected)

    def unfinished(carry: tuple[Any, Array, Array]) -> Array:
        _, rounds, settled = carry
        return ~settled & (rounds < max_iterations)

    # codes have no derivative: the rounds run on constants, the solution that they lead to does not
    constants = jax.lax.stop_gradient((rnn, xs, state))

    def again(carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
        codes, rounds, _ = carry
        _, corrected = correct(codes, *constants)
        settled = jnp.stack([(a == b).all() for a, b in zip(codes, corrected, strict=True)]).all()
        return corrected, rounds + 1, settled

    guess = tuple(act.code(jnp.zeros((xs.shape[0], h.shape[0]), xs.dtype)) for h in state)
    begin = (guess, jnp.zeros((), jnp.int32), jnp.zeros((), bool))
    codes, rounds, settled = jax.lax.while_loop(unfinished, again, begin)
    states, _ = correct(codes, rnn, xs, state)
    outputs = read_out(rnn, states[-1])
    finite = jnp.isfinite(outputs).all() & jnp.stack([jnp.isfinite(h).all() for h in states]).all()
    obeys = _obeys(rnn, act, xs, state, states)
    return ParallelResult(Trajectory(outputs, states, codes), rounds, settled & finite & obeys)


def _obeys(rnn: RNN, act: PiecewiseAffine, xs: Array, state: Any, states: tuple[Array, ...]) -> Array:
    """Whether every state follows from the one before: long products can cancel, and codes alone do not show it."""
    obeyed, below = [], xs
    for layer, h, solved in zip(rnn.layers, state, states, strict=True):
        p, size = below @ layer.input_kernel, jnp.abs(below) @ jnp.abs(layer.input_kernel)
        if layer.recurrent_kernel is not None:
            before = jnp.concatenate([h[None], solved[:-1]])
            p = p + before @ layer.recurrent_kernel
            size = size + jnp.abs(before) @ jnp.abs(layer.recurrent_kernel)
        if layer.bias is not None:
            p, size = p + layer.bias, size + jnp.abs(layer.bias)
        steepest, furthest = np.abs(act.slopes).max(), np.abs(act.offsets).max()
        # a thousand roundings of the largest number that has gone in so far
        largest = jax.lax.cummax(size.max(axis=1, keepdims=True))
        allowed = 1e3 * jnp.finfo(p.dtype).eps * (steepest * largest + furthest)
        obeyed.append((jnp.abs(solved - act(p)) <= allowed).all())
        below = solved
    return jnp.stack(obeyed).all()


def _solve(act: PiecewiseAffine, kernel: Array, driven: Array, h: Array, code: Array) -> Array:
    """States (time, hidden) of one layer with its codes given, from what drives it (time, hidden) and its start."""
    dtype = driven.dtype
    slope = act.slope(code, dtype)
    matrices = kernel * slope[:, None, :]  # h @ matrices[t]
    constant = slope * driven + act.offset(code, dtype)
    # the initial state goes into the first constant, so that no product need be applied to it
    constant = constant.at[0].add(h @ matrices[0])

    def after(first: tuple[Array, Array], then: tuple[Array, Array]) -> tuple[Array, Array]:
        matrix, offset = then
        return first[0] @ matrix, jnp.einsum("...i,...ij->...j", first[1], matrix) + offset

    return jax.lax.associative_scan(after, (matrices, constant))[1]
