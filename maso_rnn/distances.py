"""How far the nearest wall of a region is.

A pre-activation is affine within the region, so the wall where it meets a kink is a hyperplane at distance
|p - kink| / ‖∇p‖. Where the sequence has more numbers than about twice the hidden units, gradients are never formed,
only their Gram matrix, which obeys its own recursion, for column vectors

    S_t = Uᵀ D S_{t-1} D U + WᵀW,    ‖∇p_i‖² = S_t[i, i],

with U, W and D those of all layers jointly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from maso_rnn import powers
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, Inputs, States, checked_arguments
from maso_rnn.network import step as network_step


def boundary_distance(
    rnn: RNN, xs: Inputs, h0: States | None = None, *, length: int | Int[Array, ""] | None = None
) -> Float[Array, ""]:
    """How far the input may move, in any direction, before some unit at some step changes its piece.

    Equation: min_{l,t,i,r} |p^l_t[i] − breakpoint_r| / ‖∂p^l_t[i]/∂xs‖₂, the gradients carried forward through
    time, or their Gram matrix, whichever takes fewer multiplications; in float16 always the gradients.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. It is held fixed.
        length: how many steps of `xs` count; the rest is padding, which has no walls. May be traced.

    Returns:
        A scalar, the l2 distance over all steps and channels of `xs`, in the units of the input: 0 on a wall, infinite
        where no pre-activation depends on the input or the activation has no kink; NaN where traced numbers are not
        finite. Where a unit that may be the nearest reads states that cancel, so that the Gram matrix has lost its
        gradient, the gradients are carried after all, at more cost; the derivative of the distance is NaN there.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, or concrete values
            are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> from maso_rnn import init
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> distance = boundary_distance(rnn, jnp.ones((5, 1)))
        >>> bool(0 < distance < jnp.inf)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition; the recursion is the chain rule.
    """
    rnn, xs, state, length = checked_arguments(rnn, xs, h0, length)
    if not require_pieces(rnn.activation).breakpoints:
        return jnp.asarray(jnp.inf, xs.dtype)
    return _distance(rnn, xs, state, jnp.asarray(len(xs)) if length is None else length)


@jax.jit
def _distance(rnn: RNN, xs: Array, state: States, length: Array) -> Array:
    if _prefers_gradients(rnn, xs):
        distance = _by_gradients(rnn, xs, state, length, _scan, _sum_of_squares)
    else:
        distance = _by_gram_matrix_or_gradients(rnn, xs, state, length)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((rnn, xs, state))]).all()
    return jnp.where(finite, distance, jnp.nan)


def _prefers_gradients(rnn: RNN, xs: Array) -> bool:
    """Whether carrying the gradients takes fewer multiplications than their Gram matrix, or is the only way."""
    units = sum(layer.input_kernel.shape[1] for layer in rnn.layers)
    kernels = [layer.recurrent_kernel for layer in rnn.layers] + [layer.input_kernel for layer in rnn.layers[1:]]
    products = sum(kernel.size for kernel in kernels if kernel is not None)
    info = jnp.finfo(xs.dtype)
    has_squares = LOST * info.tiny < info.eps  # float16 has not: it would lose them all
    return not has_squares or xs.size * products < 2 * units**3


@jax.custom_jvp
def _by_gram_matrix_or_gradients(rnn: RNN, xs: Array, state: States, length: Array) -> Array:
    """By the Gram matrix; where it has lost a gradient that may matter, by the gradients.

    These run in a loop of no steps where nothing is lost, so that under `jax.vmap` they cost nothing unless some
    example needs them.
    """
    distance, is_known = _by_gram_matrix(rnn, xs, state, length)
    return jnp.where(
        is_known, distance, _by_gradients(rnn, xs, state, jnp.where(is_known, 0, length), _loop, _sum_of_squares)
    )


@_by_gram_matrix_or_gradients.defjvp
def _jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    """The derivative of the distance by the Gram matrix; NaN where that has lost it."""
    distance = _by_gram_matrix_or_gradients(*primals)
    _, moved, is_known = jax.jvp(
        lambda rnn, xs, state: _by_gram_matrix(rnn, xs, state, primals[-1]), primals[:-1], tangents[:-1], has_aux=True
    )
    return distance, moved * jnp.where(is_known, 1, jnp.nan)  # a product, so that NaN goes backwards too


def _scan(body: Callable[[Array, Any], Any], carry: Any, start: int, stop: int, length: Array) -> Any:
    """`body` for all steps from `start` to `stop`; it can be differentiated either way."""
    del length
    return jax.lax.scan(lambda carry, t: (body(t, carry), None), carry, jnp.arange(start, stop))[0]


def _loop(body: Callable[[Array, Any], Any], carry: Any, start: int, stop: int, length: Array) -> Any:
    """The same for those below `length` alone, forward only."""
    return jax.lax.fori_loop(start, jnp.clip(length, start, stop), body, carry)


def norm_distance(
    rnn: RNN, xs: Array, state: States, length: Array | None, moves: Array, norm: str
) -> Float[Array, ""]:
    """`boundary_distance` in the norm "l2" or "linf", of the steps that move (time,) alone."""

    def squared(rows: Array) -> Array:
        """Squares of the dual norms."""
        rows = rows * jnp.repeat(moves, xs.shape[1])[: len(rows), None]
        return _sum_of_squares(rows) if norm == "l2" else jnp.square(jnp.abs(rows).sum(axis=0))

    if not require_pieces(rnn.activation).breakpoints:
        return jnp.asarray(jnp.inf, xs.dtype)
    return _by_gradients(rnn, xs, state, jnp.asarray(len(xs)) if length is None else length, _scan, squared)


def _sum_of_squares(rows: Array) -> Array:
    return jnp.square(rows).sum(axis=0)


def _by_gradients(
    rnn: RNN,
    xs: Array,
    state: States,
    length: Array,
    repeat: Callable[..., Any],
    squared: Callable[[Array], Array],
) -> Array:
    """The distance with the gradients themselves carried, a row for each number of the sequence."""
    act, dtype, inputs = require_pieces(rnn.activation), xs.dtype, xs.shape[1]

    def body(t: Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        state, before, nearest = carry
        state, pre_activations = network_step(rnn, state, xs[t])
        gradients: list[Array] = []
        for l, (layer, p) in enumerate(zip(rnn.layers, pre_activations, strict=True)):
            rows = jnp.zeros_like(before[l]) if layer.recurrent_kernel is None else before[l] @ layer.recurrent_kernel
            if l:
                rows = rows + gradients[-1] @ layer.input_kernel
            else:
                rows = jax.lax.dynamic_update_slice_in_dim(rows, layer.input_kernel, t * inputs, axis=0)
            largest = jax.lax.stop_gradient(jnp.abs(rows).max(axis=0))  # squares leave the range of floats first
            unit = jnp.where(largest == 0, 1, largest)
            here = _nearest(_to_kink(act, p) / unit, squared(rows / unit))
            is_read = t < length if l < rnn.every_step else t == length - 1
            nearest = jnp.minimum(nearest, jnp.where(is_read, here, jnp.inf))
            gradients.append(rows * act.slope(act.code(p), dtype))
        return state, tuple(gradients), nearest

    # a row for each input so far: of those that are still to come all gradients are zero
    time = len(xs)
    cuts = [0, *(time * part // PARTS for part in range(1, PARTS) if time >= 4 * PARTS), time]
    carry: tuple[Any, ...] = (
        state,
        tuple(jnp.zeros((0, h.shape[0]), dtype) for h in state),
        jnp.asarray(jnp.inf, dtype),
    )
    for start, stop in itertools.pairwise(cuts):
        grown = tuple(jnp.pad(rows, ((0, stop * inputs - len(rows)), (0, 0))) for rows in carry[1])
        carry = repeat(body, (carry[0], grown, carry[2]), start, stop, length)
    return carry[-1]


def _by_gram_matrix(rnn: RNN, xs: Array, state: States, length: Array) -> tuple[Array, Array]:
    """The distance with the Gram matrix of the gradients carried, of the joint state of all layers.

    With it whether it is known: where a unit reads differences of states that nearly cancel, their squares lose the
    digits of its gradient, and it may be nearer than any other.
    """
    act, dtype, info = require_pieces(rnn.activation), xs.dtype, jnp.finfo(xs.dtype)
    widths = [h.shape[0] for h in state]
    # each layer's part of the joint state, from the one before (square, joint) and from the input
    from_state = [jnp.zeros((sum(widths), width), dtype) for width in widths]
    for l, layer in enumerate(rnn.layers):
        if layer.recurrent_kernel is not None:
            first = sum(widths[:l])
            from_state[l] = from_state[l].at[first : first + widths[l]].set(layer.recurrent_kernel)

    def body(carry: tuple[Any, ...], now: tuple[Array, Array]) -> tuple[tuple[Any, ...], None]:
        # the Gram matrix of the states' gradients, each in units of 2 ** exponent, since their squares leave the
        # range of floats long before the gradients do; how wrong rounding may have made its diagonal; and which
        # states depend on the input at all
        (state, gram, wrong, reached, exponent, nearest, unknown), (t, x) = carry, now
        state, pre_activations = network_step(rnn, state, x)
        slopes = [act.slope(act.code(p), dtype) for p in pre_activations]
        by_state, by_input = [from_state[0]], [rnn.layers[0].input_kernel]
        for l, layer in enumerate(rnn.layers[1:], start=1):
            below = slopes[l - 1][:, None] * layer.input_kernel
            by_state.append(from_state[l] + by_state[-1] @ below)
            by_input.append(by_input[-1] @ below)
        through, onto = jnp.concatenate(by_state, axis=1), jnp.concatenate(by_input, axis=1)
        reached = (reached @ jnp.abs(through) + jnp.abs(onto).sum(axis=0) > 0).astype(dtype)
        unit = least if len(rnn.layers) == 1 else exponent  # the same at every step: XLA multiplies it once
        onto = powers.scaled(onto, -unit)
        new = powers.scaled(onto.T @ onto, 2 * (unit - exponent))
        wrong = (wrong + info.eps * jnp.diagonal(gram)) @ through**2 + info.eps * jnp.diagonal(new)
        wrong = wrong + info.tiny / info.eps * reached
        gram = through.T @ gram @ through + new
        squares = jnp.diagonal(gram)
        p, slope = jnp.concatenate(pre_activations), jnp.concatenate(slopes)
        to_kink, is_lost = _to_kink(act, p), jax.lax.stop_gradient(squares < LOST * wrong)
        known_and_lost = jnp.stack([jnp.where(is_lost, 0, squares), is_lost * 2 * LOST * wrong])
        here = _nearest(to_kink, jnp.where(at_every_step | (t == length - 1), known_and_lost, 0))
        here = jnp.where(t < length, jnp.ldexp(here, -exponent), jnp.inf)
        nearest, unknown = jnp.minimum(jnp.stack([nearest, unknown]), here)
        grown = jnp.maximum(_exponent(squares) // 2, least - exponent)
        slope = powers.scaled(slope, -grown)
        gram = slope[:, None] * gram * slope
        return (state, gram, wrong * slope**2, reached * (slope != 0), exponent + grown, nearest, unknown), None

    at_every_step = jnp.arange(sum(widths)) < sum(widths[: rnn.every_step])  # not of a head that is read once
    least = _exponent(rnn.layers[0].input_kernel)  # inputs come in anew at every step
    nothing, never = jnp.zeros(sum(widths), dtype), jnp.asarray(jnp.inf, dtype)
    start = (state, jnp.zeros((sum(widths), sum(widths)), dtype), nothing, nothing, least, never, never)
    *_, nearest, unknown = jax.lax.scan(body, start, (jnp.arange(len(xs)), xs))[0]
    return nearest, jax.lax.stop_gradient(unknown >= nearest)


def _exponent(values: Array) -> Array:
    """The power of two just above the largest magnitude; 0 where all are zero."""
    largest = jnp.abs(values).max()
    return jnp.where(largest == 0, 0, powers.exponent(largest))


PARTS = 4  # in which gradients are carried, each of them a program of its own
LOST = 64  # a square that is less than so many of its rounding errors is lost


def _to_kink(act: PiecewiseAffine, p: Array) -> Array:
    """How far each pre-activation is from the nearest kink."""
    return jnp.min(jnp.stack([jnp.abs(p - kink) for kink in act.breakpoints]), axis=0)


def _nearest(to_kink: Array, squared_norms: Array) -> Array:
    """The least distance / norm over units; units that depend on nothing are infinitely far."""
    depends = (squared_norms != 0) | jnp.isnan(to_kink)  # NaN is no distance, and is not passed over
    norms = jnp.sqrt(jnp.where(depends, squared_norms, 1))  # the gradient of sqrt at 0 is not finite
    return jnp.min(jnp.where(depends, to_kink / norms, jnp.inf), axis=-1)
