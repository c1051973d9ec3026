"""The exact affine map that a piecewise-affine RNN is on the piece around an input.

With D_t the diagonal of the slopes that the units use at step t, the output of step T is, in column vectors,

    z_T = Σ_t slope_t x_t + initial_slope h_0 + offset,
    G_T = V,  G_{t-1} = G_t D_t U,   slope_t = G_t D_t W,   initial_slope = G_0,
    offset = c + Σ_t G_t (D_t b + offsets of the pieces used at t),

each layer handing G_t D_t W on to the one below it. That is one forward scan that stores the codes and one pull-back
scan for all outputs. The offset is accumulated from its terms, never taken as what the slopes leave over: the identity
is a check, not a definition.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, Inputs, States, checked_arguments, read_out, run_through, until, where_read
from maso_rnn.network import step as network_step


class AffineMap(NamedTuple):
    """`output = Σ_t slope[:, t] @ xs[t] + Σ_l initial_slope[l] @ h0[l] + offset`, on the piece of `codes`.

    From `affine_maps` each of the first four has a leading time axis: the step whose output it is.

    Attributes:
        slope: (output, time, input); zero after the step asked for.
        initial_slope: for each layer (output, hidden).
        offset: (output,), what the biases and the offsets of the pieces add.
        output: (output,), from the forward pass.
        codes: for each layer (time, hidden), the piece that each unit used.
    """

    slope: Float[Array, "output time input"]
    initial_slope: tuple[Float[Array, "output hidden"], ...]
    offset: Float[Array, " output"]
    output: Float[Array, " output"]
    codes: tuple[Shaped[Array, "time hidden"], ...]


def affine_map(
    rnn: RNN,
    xs: Inputs,
    h0: States | None = None,
    *,
    step: int | Int[Array, ""] = -1,
    length: int | Int[Array, ""] | None = None,
) -> AffineMap:
    """The affine map that the network is around `xs`, for the output of one step.

    Equation: G_T = V, G_{t-1} = G_t D_t U, slope_t = G_t D_t W, initial_slope = G_0,
    offset = c + Σ_t G_t (D_t b + piece offsets).

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        step: the step whose output is mapped, from 0 or, if negative, from the end; it may be traced.
        length: how many steps of `xs` count; the rest is padding, with zero slope. May be traced.

    Returns:
        `AffineMap(slope, initial_slope, offset, output, codes)`. With a traced `step` out of range all numbers are
        NaN.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, concrete values are
            not finite, or a concrete `step` is out of range.
        TypeError: if `xs` is not a floating array of the network's dtype, or `step` is not an integer.

    Example:
        >>> from maso_rnn import init
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> xs = jnp.linspace(-1.0, 1.0, 5)[:, None]
        >>> affine = affine_map(rnn, xs)
        >>> rebuilt = jnp.einsum("oti,ti->o", affine.slope, xs) + affine.offset
        >>> bool(jnp.allclose(rebuilt, affine.output, atol=1e-5))
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), theorem 1, with the readout in every term and the products over all steps.
    """
    rnn, xs, state, length = checked_arguments(rnn, xs, h0, length)
    end = int(length) if length is not None and checks.is_concrete(length) else len(xs)
    at, inside = checks.index("step", step, -end, end)
    return map_at(rnn, xs, state, at, inside, length)


@jax.jit  # so that a call outside of jit compiles once, not at every call
def map_at(rnn: RNN, xs: Array, state: States, at: Array, inside: Array, length: Array | None) -> AffineMap:
    """`affine_map`, once all has been checked; NaN where `at` is not inside."""
    act = require_pieces(rnn.activation)
    end = len(xs) if length is None else length
    at = jnp.where(at < 0, at + end, at)
    inside = inside & (at >= 0) & (at < end)
    top, codes = _run(rnn, act, xs, state, at)
    codes = where_read(rnn, until(length, codes), at)
    output = read_out(rnn, top)

    rows = _pulled_rows(rnn)
    pulled = _pull_back(rnn, act, codes, lambda t: jnp.where(t == at, rows, 0), rows.shape[:1])
    numbers = (*_through_readout(rnn, pulled), output)
    slope, initial_slope, offset, output = jax.tree.map(lambda value: jnp.where(inside, value, jnp.nan), numbers)
    return AffineMap(slope, initial_slope, offset, output, codes)


def affine_maps(
    rnn: RNN, xs: Inputs, h0: States | None = None, *, length: int | Int[Array, ""] | None = None
) -> AffineMap:
    """The affine map of every step's output: `affine_map` for each `step`, on a leading time axis.

    Equation: as `affine_map`; slope[T, :, t] is zero for t > T. Pulls the outputs of all steps back, or pushes the
    inputs of all steps forward, whichever carries fewer rows.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        length: how many steps of `xs` count; the rest is padding, and its maps are zero. May be traced.

    Returns:
        `AffineMap` with slope (time, output, time, input), initial_slope (time, output, hidden) for each layer,
        offset and output (time, output), and codes (time, hidden) for each layer, of a head too: here it is read at
        every step.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, or concrete values
            are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> from maso_rnn import init
        >>> affine = affine_maps(init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1)))
        >>> affine.slope.shape, bool((affine.slope[1, :, 2:] == 0).all())
        ((5, 3, 5, 1), True)

    Source:
        Wang, Balestriero, Baraniuk (2019), theorem 1 and section 3.
    """
    return _affine_maps(*checked_arguments(rnn, xs, h0, length))


@jax.jit
def _affine_maps(rnn: RNN, xs: Array, state: States, length: Array | None) -> AffineMap:
    act = require_pieces(rnn.activation)
    time, inputs = xs.shape
    run = run_through(dataclasses.replace(rnn, read_once=False), xs, state, length)

    units = sum(h.shape[0] for h in state)
    rows = _pulled_rows(rnn)
    if time * len(rows) <= time * inputs + units + 1:
        steps = jnp.arange(time)[:, None, None]
        pulled = _pull_back(rnn, act, run.codes, lambda t: jnp.where(steps == t, rows, 0), (time, len(rows)))
        slope, initial_slope, offset = jax.vmap(lambda rows: _through_readout(rnn, rows))(pulled)
    else:
        slope, initial_slope, offset = _push_forward(rnn, act, run.codes, inputs)
    slope, initial_slope, offset = until(length, (slope, initial_slope, offset))
    return AffineMap(slope, initial_slope, offset, run.outputs, run.codes)


def _pulled_rows(rnn: RNN) -> Array:
    """What is pulled back through time: the outputs, or the top layer's units where those are fewer."""
    kernel = rnn.readout.kernel
    hidden, outputs = kernel.shape
    return kernel.T if outputs <= hidden else jnp.eye(hidden, dtype=kernel.dtype)


def _through_readout(rnn: RNN, pulled: Any) -> tuple[Array, tuple[Array, ...], Array]:
    """The outputs' slopes and offset, from those of `_pulled_rows`."""
    kernel, bias = rnn.readout.kernel, rnn.readout.bias
    hidden, outputs = kernel.shape
    if outputs > hidden:
        pulled = jax.tree.map(lambda value: jnp.tensordot(kernel, value, axes=(0, 0)), pulled)
    slope, initial_slope, offset = pulled
    return slope, initial_slope, offset if bias is None else offset + bias


def _run(rnn: RNN, act: PiecewiseAffine, xs: Array, state: States, at: Array) -> tuple[Array, tuple[Array, ...]]:
    """The top layer's state after step `at`, and the codes of every step, from one pass."""

    def body(carry: tuple[States, Array], now: tuple[Array, Array]) -> tuple[tuple[States, Array], Any]:
        (state, top), (t, x) = carry, now
        state, pre_activations = network_step(rnn, state, x)
        return (state, jnp.where(t == at, state[-1], top)), tuple(act.code(p) for p in pre_activations)

    (_, top), codes = jax.lax.scan(body, (state, state[-1]), (jnp.arange(xs.shape[0]), xs))
    return top, codes


def _pull_back(
    rnn: RNN,
    act: PiecewiseAffine,
    codes: tuple[Array, ...],
    seed: Callable[[Array], Array],
    rows: tuple[int, ...],
) -> tuple[Array, tuple[Array, ...], Array]:
    """Slope (*rows, time, input), initial slopes (*rows, hidden) and offset (*rows,) of linear forms of the state.

    `seed(t)`, (*rows, hidden), is what the forms put on the top layer's state after step t.
    """
    dtype = rnn.readout.kernel.dtype
    zeros = tuple(jnp.zeros((*rows, code.shape[1]), dtype) for code in codes)

    def body(carry: tuple[Any, Array], now: tuple[Array, tuple[Array, ...]]) -> tuple[Any, Array]:
        (gradients, offset), (t, code) = carry, now
        before = []
        onto = seed(t)  # what the layer above and the readout put on this layer's state
        for l in reversed(range(len(rnn.layers))):
            layer = rnn.layers[l]
            onto = gradients[l] + onto
            through = onto * act.slope(code[l], dtype)
            if layer.bias is not None:
                offset = offset + through @ layer.bias
            if act.has_offsets:
                offset = offset + onto @ act.offset(code[l], dtype)
            recurrent = layer.recurrent_kernel
            before.append(jnp.zeros_like(through) if recurrent is None else through @ recurrent.T)
            onto = through @ layer.input_kernel.T
        return (tuple(before[::-1]), offset), onto

    times = jnp.arange(codes[0].shape[0])
    start = (zeros, jnp.zeros(rows, dtype))
    (initial_slope, offset), slope = jax.lax.scan(body, start, (times, codes), reverse=True)
    return jnp.moveaxis(slope, 0, -2), initial_slope, offset


def _push_forward(
    rnn: RNN, act: PiecewiseAffine, codes: tuple[Array, ...], inputs: int
) -> tuple[Array, tuple[Array, ...], Array]:
    """Slope (time, output, time, input), initial slopes (time, output, hidden) and offset (time, output).

    Carries, for each layer, the derivatives of its state as rows: one for each input so far, one for each unit of the
    initial state, and a last row for the affine part.
    """
    dtype = rnn.readout.kernel.dtype
    time = codes[0].shape[0]
    widths = [code.shape[1] for code in codes]
    count = time * inputs + sum(widths) + 1
    start, rows = time * inputs, []
    for width in widths:
        rows.append(jnp.zeros((count, width), dtype).at[start : start + width].set(jnp.eye(width, dtype=dtype)))
        start += width

    def body(rows: tuple[Array, ...], now: tuple[Array, tuple[Array, ...]]) -> tuple[tuple[Array, ...], Array]:
        t, code = now
        after: list[Array] = []
        for l, layer in enumerate(rnn.layers):
            p = jnp.zeros_like(rows[l]) if layer.recurrent_kernel is None else rows[l] @ layer.recurrent_kernel
            if l == 0:
                here = jax.lax.dynamic_slice_in_dim(p, t * inputs, inputs)
                p = jax.lax.dynamic_update_slice_in_dim(p, here + layer.input_kernel, t * inputs, axis=0)
            else:
                p = p + after[-1] @ layer.input_kernel
            if layer.bias is not None:
                p = p.at[-1].add(layer.bias)
            p = p * act.slope(code[l], dtype)
            if act.has_offsets:
                p = p.at[-1].add(act.offset(code[l], dtype))
            after.append(p)
        return tuple(after), (after[-1] @ rnn.readout.kernel).T

    _, columns = jax.lax.scan(body, tuple(rows), (jnp.arange(time), codes))
    bounds = [time * inputs + sum(widths[:l]) for l in range(len(widths))]
    slope, *initial_slope, offset = jnp.split(columns, [*bounds, count - 1], axis=-1)
    offset = offset[..., 0]
    if rnn.readout.bias is not None:
        offset = offset + rnn.readout.bias
    return slope.reshape(time, -1, time, inputs), tuple(initial_slope), offset


def match(affine: AffineMap, xs: Float[Array, "time input"]) -> Float[Array, " output"]:
    """How well `xs` matches each output's template: their inner products.

    Equation: match_c = Σ_t slope[c, t] · xs[t].

    Args:
        affine: from `affine_map`; its slope alone is read.
        xs: (time, input), the sequence to match, in the map's dtype.

    Returns:
        (output,), in the units of the output.

    Raises:
        ValueError: if the slope is not (output, time, input), `xs` does not fit it, or concrete ones are not finite.
        TypeError: if `affine` is not an `AffineMap`, or `xs` is not a floating array of its dtype.

    Example:
        >>> from maso_rnn import init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> match(affine_map(rnn, xs), xs).shape
        (3,)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    return _match(*_checked_match(affine, xs))


@jax.jit
def _match(slope: Array, xs: Array) -> Array:
    return jnp.einsum("oti,ti->o", slope, xs)


def template_margin(affine: AffineMap, xs: Float[Array, "time input"], label: int | Int[Array, ""]) -> Float[Array, ""]:
    """By how much the template of the right class matches better than the best of the others.

    Equation: match_label − max_{c ≠ label} match_c.

    Args:
        affine: from `affine_map`; its slope alone is read.
        xs: (time, input), the sequence to match, in the map's dtype.
        label: the right class, in [0, output); it may be traced.

    Returns:
        A scalar in the units of the output, positive where the right template wins; NaN for a traced `label` out of
        range.

    Raises:
        ValueError: if there is only one output, a concrete `label` is out of range, or shapes do not fit.
        TypeError: as `match`; or if `label` is not an integer.

    Example:
        >>> from maso_rnn import init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> affine = affine_map(rnn, xs)
        >>> winner = match(affine, xs).argmax()
        >>> bool(template_margin(affine, xs, winner) > 0)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    slope, xs = _checked_match(affine, xs)
    return _margin(slope, xs, *checks.label(label, len(slope)))


def _checked_match(affine: AffineMap, xs: Any) -> tuple[Array, Array]:
    checks.instance("affine", affine, AffineMap, "maso_rnn.affine_map")
    sizes: dict[str, Any] = {}
    slope = checks.array("affine.slope", affine.slope, "output time input", sizes)
    xs = checks.array("xs", xs, "time input", sizes, slope.dtype)
    checks.finite(**{"affine.slope": slope}, xs=xs)
    return slope, xs


@jax.jit
def _margin(slope: Array, xs: Array, own: Array, inside: Array) -> Array:
    scores = _match(slope, xs)
    classes = jnp.arange(len(scores))
    others = jnp.where(classes == own, -jnp.inf, scores)
    return jnp.where(inside, scores[own] - others.max(), jnp.nan)
