"""Every piece on a line, in JAX: from piece to piece, by the nearest crossing of the present one."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.codes import pack
from maso_rnn.network import RNN, Layer, States, checked_sequences, read_out
from maso_rnn.slices.line import LineWalk


def walk_line_on_device(
    rnn: RNN,
    start: Float[Array, "time input"],
    stop: Float[Array, "time input"],
    h0: States | None = None,
    *,
    max_regions: int,
    length: int | Int[Array, ""] | None = None,
) -> LineWalk:
    """The walk of `walk_line` inside JAX: in the network's dtype, under jit and vmap, up to a cap.

    Equation: on the piece around s, p_i(s + d) = p_i + d ∂p_i/∂s; the next breakpoint is at the least d > 0 at which
    some p_i meets a kink, and there that unit's code changes by one.

    Goes from piece to piece with one forward pass each, where the walk on the host shares its work between pieces. In
    float32, pieces that are shorter than rounding are lost: that of each sum, by the size of its terms, so that scaling
    the inputs or a hidden unit changes nothing.

    Args:
        rnn: the network; its activation must be piecewise affine.
        start: (time, input), the input at s = 0, in the network's dtype.
        stop: (time, input), the input at s = 1, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. The same all along.
        max_regions: the most pieces to return, at least 1, static.
        length: how many steps of both ends count; the rest is padding. May be traced.

    Returns:
        `LineWalk(breakpoints, codes, outputs, overflow, pieces, reached)`, of the shapes that `max_regions` pieces
        need: beyond `pieces` the end of the walk is repeated. A traced segment of length zero is one piece; where the
        network's numbers are not finite the walk stops, with `reached` NaN.

    Raises:
        ValueError: if the ends differ in shape or do not fit the network, `max_regions` is below 1, the activation has
            no pieces; or if concrete ends are equal or not finite.
        TypeError: if an end is not a floating array of the network's dtype, or `max_regions` is not an integer.

    Example:
        >>> import jax
        >>> import maso_rnn
        >>> from jax import numpy as jnp
        >>> from maso_rnn import walk_line
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> start, stop = jnp.full((5, 1), -1.0), jnp.ones((5, 1))
        >>> walk = walk_line_on_device(rnn, start, stop, max_regions=100)
        >>> int(walk.pieces) == walk_line(rnn, start, stop, max_regions=100).pieces
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition; the walk is this package's own.
    """
    rnn, (start, stop), state, length = checked_sequences(rnn, h0, length, start=start, stop=stop)
    max_regions = checks.size("max_regions", max_regions)
    if checks.is_concrete(start, stop) and np.array_equal(np.asarray(start), np.asarray(stop)):
        raise ValueError("stop must differ from start: the segment has length zero")
    return walk_between(rnn, start, stop, state, length, max_regions)


@functools.partial(jax.jit, static_argnames="max_regions")
def walk_between(
    rnn: RNN, start: Array, stop: Array, state: States, length: Array | None, max_regions: int
) -> LineWalk:
    """`walk_line_on_device`, once all has been checked."""
    act, dtype = require_pieces(rnn.activation), start.dtype
    line = _Line(rnn, *_onto_first(rnn, start, stop - start), state, length)
    codes = _first_codes(act, line)
    packed = jax.eval_shape(lambda codes: pack(_as_codes(act, codes)), codes)
    walk = _Progress(
        s=jnp.zeros((), dtype),
        codes=codes,
        pieces=jnp.zeros((), jnp.int32),
        breakpoints=jnp.zeros(max_regions, dtype),
        packed=jnp.zeros((max_regions, *packed.shape), jnp.uint8),
        outputs=jnp.zeros((max_regions + 1, rnn.readout.kernel.shape[1]), dtype),
        done=jnp.zeros((), bool),
        overflow=jnp.zeros((), bool),
    )
    walk = jax.lax.while_loop(lambda walk: ~walk.done, functools.partial(_next_piece, line, max_regions), walk)
    # beyond the last piece its end is repeated
    last = jnp.minimum(jnp.arange(max_regions), walk.pieces - 1)
    ends = jnp.minimum(jnp.arange(max_regions + 1), walk.pieces)
    return LineWalk(
        breakpoints=walk.breakpoints[last][:-1],
        codes=walk.packed[last],
        outputs=walk.outputs[ends],
        overflow=walk.overflow,
        pieces=walk.pieces,
        reached=walk.s,
    )


class _Line(NamedTuple):
    """A network on start + s · along."""

    rnn: RNN
    driven: Array  # (time, 2, hidden), what start, with the bias, and along put on the first layer
    sizes: Array  # the same by the sizes of all terms
    state: States
    length: Array | None


class _Progress(NamedTuple):
    """How far the walk has come."""

    s: Array
    codes: tuple[Array, ...]  # (time, hidden), of the piece after s
    pieces: Array
    breakpoints: Array
    packed: Array
    outputs: Array
    done: Array
    overflow: Array


class _Motion(NamedTuple):
    """Pre-activations moving along the line, and how far off both numbers may be by rounding."""

    place: Array
    pace: Array
    blur: Array
    pace_blur: Array


class _Passage(NamedTuple):
    """The network at one place of the line: each layer's motions at all steps (time, hidden), and the output's."""

    motions: tuple[_Motion, ...]
    output: Array
    output_pace: Array


def _next_piece(line: _Line, max_regions: int, walk: _Progress) -> _Progress:
    """Record the piece that the walk is on, and step to its end."""
    act = require_pieces(line.rnn.activation)
    here = _follow(act, line, walk.s, walk.codes)
    nearest, blur, codes = _nearest_crossing(act, here, walk.codes)
    ends = walk.s + nearest >= 1 - 4 * float(jnp.finfo(walk.s.dtype).eps)
    record = ends | (nearest > blur)  # else a crossing that coincides with the breakpoint that we are on
    at = jnp.where(record, walk.pieces, max_regions + 1)  # out of range: dropped
    s = jnp.where(ends, 1, walk.s + jnp.where(record, nearest, 0))
    pieces = walk.pieces + record
    lost = ~jnp.stack([jnp.isfinite(motion.place).all() for motion in here.motions]).all()
    return _Progress(
        s=jnp.where(lost, jnp.nan, s),
        codes=codes,
        pieces=pieces,
        breakpoints=walk.breakpoints.at[at].set(s, mode="drop"),
        packed=walk.packed.at[at].set(pack(_as_codes(act, walk.codes)), mode="drop"),
        outputs=walk.outputs.at[at]
        .set(here.output, mode="drop")
        .at[at + 1]
        .set(here.output + here.output_pace * (s - walk.s), mode="drop"),
        done=ends | lost | (pieces == max_regions),
        overflow=lost | (~ends & (pieces == max_regions)),
    )


def _nearest_crossing(
    act: PiecewiseAffine, here: _Passage, codes: tuple[Array, ...]
) -> tuple[Array, Array, tuple[Array, ...]]:
    """How far ahead the next unit meets a kink, how well that is known, and the codes after it.

    Crossings that cannot be told from it by rounding happen with it.
    """
    found = [_crossings(act, motion, code) for motion, code in zip(here.motions, codes, strict=True)]
    ahead, blur = (jnp.concatenate([part[i].ravel() for part in found]) for i in (0, 1))
    first = ahead.argmin()
    after = tuple(
        jnp.where(far <= ahead[first] + blurred, moved, code)
        for (far, blurred, moved), code in zip(found, codes, strict=True)
    )
    return ahead[first], blur[first], after


def _crossings(act: PiecewiseAffine, motion: _Motion, code: Array) -> tuple[Array, Array, Array]:
    """How far ahead each unit meets a kink, how well that is known, and the code that it has then."""
    dtype = motion.place.dtype
    lower, upper = jnp.asarray([-np.inf, *act.breakpoints], dtype), jnp.asarray([*act.breakpoints, np.inf], dtype)
    up, down = motion.pace > motion.pace_blur, motion.pace < -motion.pace_blur
    gap = jnp.where(up, upper[code], lower[code]) - motion.place
    rests = ~up & (-gap <= motion.blur)  # on the kink below it, and not about to rise
    pace = jnp.where(up | down, motion.pace, 1)
    ahead = jnp.where(rests, 0, jnp.where(up | down, jnp.maximum(gap / pace, 0), jnp.inf))
    blur = motion.blur / jnp.abs(pace) + 4 * float(jnp.finfo(dtype).eps)
    return ahead, blur, jnp.where(up, code + 1, code - 1)


def _onto_first(rnn: RNN, start: Array, along: Array) -> tuple[Array, Array]:
    """What the input puts on the first layer at all steps (time, 2, hidden), place at 0 and pace, and its sizes."""
    layer, ends = rnn.layers[0], jnp.stack([start, along], axis=1)
    driven, sizes = ends @ layer.input_kernel, jnp.abs(ends) @ jnp.abs(layer.input_kernel)
    if layer.bias is None:
        return driven, sizes
    return driven + _resting(layer.bias), sizes + _resting(jnp.abs(layer.bias))


def _resting(place: Array) -> Array:
    """(..., 2, hidden), places that do not move."""
    return jnp.stack([place, jnp.zeros_like(place)], axis=-2)


def _at(driven: Array, s: Array) -> Array:
    """What is put on the first layer at s."""
    return driven + _resting(s * driven[:, 1])


def _gathered(layers: tuple[Layer, ...], l: int, driven: Array, below: Array, own: Array) -> Array:
    """A layer's pre-activations (..., 2, hidden) by what it reads: of the input, `driven`, or of the layer below."""
    layer, found = layers[l], driven
    if l:
        found = below @ layer.input_kernel
        found = found if layer.bias is None else found + _resting(layer.bias)
    return found if layer.recurrent_kernel is None else found + own @ layer.recurrent_kernel


def _motion(rnn: RNN, l: int, moved: Array, size: Array) -> _Motion:
    """Places and paces (..., 2, hidden) of a layer, with their rounding by the sizes of all terms."""
    layer = rnn.layers[l]
    terms = len(layer.input_kernel) + 1 + (0 if layer.recurrent_kernel is None else len(layer.recurrent_kernel))
    # the bound on the rounding of a sum in any order (Higham, 2002, section 3.1), and of the input at s
    blur = (terms + 2) / 2 * float(jnp.finfo(moved.dtype).eps) * size
    return _Motion(moved[..., 0, :], moved[..., 1, :], blur[..., 0, :], blur[..., 1, :])


def _after(act: PiecewiseAffine, moved: Array, code: Array) -> Array:
    """The states, and their paces, of pre-activations on those pieces."""
    states = act.slope(code, moved.dtype)[..., None, :] * moved
    return states + _resting(act.offset(code, moved.dtype)) if act.has_offsets else states


def _is_read(line: _Line, l: int, t: Array) -> Array | None:
    """Whether a layer is read at steps t: padding is not, and a head at the last step alone; None for always."""
    length = len(line.driven) if line.length is None else line.length
    if l >= line.rnn.every_step:
        return t == length - 1
    return None if line.length is None else t < length


def _first_codes(act: PiecewiseAffine, line: _Line) -> tuple[Array, ...]:
    """The codes (time, hidden) just after s = 0; of padding 0."""
    layers, sizes = line.rnn.layers, jax.tree.map(jnp.abs, line.rnn.layers)

    def body(carry: tuple[Array, ...], now: Any) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        t, driven, driven_size = now
        below, after, codes = driven, [], []
        for l, own in enumerate(carry):
            moved = _gathered(layers, l, driven, below, own)
            size = _gathered(sizes, l, driven_size, jnp.abs(below), jnp.abs(own))
            code = _onward(act, _motion(line.rnn, l, moved, size))
            below = _after(act, moved, code)
            if (there := _is_read(line, l, t)) is not None:
                below, code = jnp.where(there, below, own), jnp.where(there, code, 0)
            after.append(below)
            codes.append(code)
        return tuple(after), tuple(codes)

    steps = (jnp.arange(len(line.driven)), line.driven, line.sizes)
    return jax.lax.scan(body, tuple(map(_resting, line.state)), steps)[1]


def _onward(act: PiecewiseAffine, motion: _Motion) -> Array:
    """The codes just after the place of the motion."""
    clear = [motion.place > kink + motion.blur for kink in act.breakpoints]
    leaves = [(motion.place >= kink - motion.blur) & (motion.pace > motion.pace_blur) for kink in act.breakpoints]
    blank = jnp.zeros(motion.place.shape, jnp.int32)
    return sum((a | b for a, b in zip(clear, leaves, strict=True)), start=blank)


def _follow(act: PiecewiseAffine, line: _Line, s: Array, codes: tuple[Array, ...]) -> _Passage:
    """The network at s, on the piece of those codes.

    Step by step only what depends on the step before; how far off it may be, of all steps in one product.
    """
    layers, driven = line.rnn.layers, _at(line.driven, s)

    def body(carry: tuple[Array, ...], now: Any) -> tuple[tuple[Array, ...], Any]:
        t, driven, code = now
        below, after, found = driven, [], []
        for l, own in enumerate(carry):
            moved = _gathered(layers, l, driven, below, own)
            below = _after(act, moved, code[l])
            if (there := _is_read(line, l, t)) is not None:  # what is not read leaves the state as it is
                below = jnp.where(there, below, own)
            found.append(moved)
            after.append(below)
        return tuple(after), tuple(found)

    at_rest = tuple(map(_resting, line.state))
    (*_, (h, dh)), moved = jax.lax.scan(body, at_rest, (jnp.arange(len(driven)), driven, codes))
    sizes, below, motions = jax.tree.map(jnp.abs, layers), driven, []
    for l, (found, code, start) in enumerate(zip(moved, codes, at_rest, strict=True)):
        states = jnp.abs(_after(act, found, code))
        own = jnp.concatenate([jnp.abs(start)[None], states[:-1]])
        motion = _motion(line.rnn, l, found, _gathered(sizes, l, _at(line.sizes, s), below, own))
        if (there := _is_read(line, l, jnp.arange(len(driven))[:, None])) is not None:  # and crosses nothing
            motion = motion._replace(pace=jnp.where(there, motion.pace, 0))
        motions.append(motion)
        below = states
    return _Passage(tuple(motions), read_out(line.rnn, h), dh @ line.rnn.readout.kernel)


def _as_codes(act: PiecewiseAffine, codes: tuple[Array, ...]) -> tuple[Array, ...]:
    """Whole numbers as the dtype that a trajectory's codes have."""
    return tuple(code.astype(jnp.uint8 if len(act.slopes) > 2 else bool) for code in codes)
