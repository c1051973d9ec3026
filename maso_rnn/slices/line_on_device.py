"""Every piece on a line, in JAX: from piece to piece, by the nearest crossing of the present one."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    line = _Line(rnn, start, stop - start, state, length)
    act, dtype = require_pieces(rnn.activation), start.dtype
    at_start = _follow(line, jnp.zeros((), dtype), functools.partial(_onward, act), _no_codes(line))
    packed = pack(_as_codes(act, at_start.codes))
    walk = _Progress(
        s=jnp.zeros((), dtype),
        codes=at_start.codes,
        pieces=jnp.zeros((), jnp.int32),
        breakpoints=jnp.zeros(max_regions, dtype),
        packed=jnp.zeros((max_regions, *packed.shape), jnp.uint8),
        outputs=jnp.zeros((max_regions + 1, *at_start.output.shape), dtype).at[0].set(at_start.output),
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
    start: Array
    along: Array
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
    """The network at one place of the line: each layer's motions and codes at all steps, and the output's."""

    motions: tuple[_Motion, ...]
    codes: tuple[Array, ...]
    output: Array
    output_pace: Array


def _next_piece(line: _Line, max_regions: int, walk: _Progress) -> _Progress:
    """Record the piece that the walk is on, and step to its end."""
    act = require_pieces(line.rnn.activation)
    here = _follow(line, walk.s, lambda _, code: code, walk.codes)
    nearest, blur, codes = _nearest_crossing(act, here)
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
        outputs=walk.outputs.at[at + 1].set(here.output + here.output_pace * (s - walk.s), mode="drop"),
        done=ends | lost | (pieces == max_regions),
        overflow=lost | (~ends & (pieces == max_regions)),
    )


def _nearest_crossing(act: PiecewiseAffine, here: _Passage) -> tuple[Array, Array, tuple[Array, ...]]:
    """How far ahead the next unit meets a kink, how well that is known, and the codes after it.

    Crossings that cannot be told from it by rounding happen with it.
    """
    found = [_crossings(act, motion, code) for motion, code in zip(here.motions, here.codes, strict=True)]
    ahead, blur = (jnp.concatenate([part[i].ravel() for part in found]) for i in (0, 1))
    first = ahead.argmin()
    codes = tuple(
        jnp.where(far <= ahead[first] + blurred, moved, code)
        for (far, blurred, moved), code in zip(found, here.codes, strict=True)
    )
    return ahead[first], blur[first], codes


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


def _onward(act: PiecewiseAffine, motion: _Motion, blank: Array) -> Array:
    """The codes just after the place of the motion."""
    clear = [motion.place > kink + motion.blur for kink in act.breakpoints]
    leaves = [(motion.place >= kink - motion.blur) & (motion.pace > motion.pace_blur) for kink in act.breakpoints]
    return sum((a | b for a, b in zip(clear, leaves, strict=True)), start=blank)


def _follow(line: _Line, s: Array, choose: Callable[[_Motion, Array], Array], hints: tuple[Array, ...]) -> _Passage:
    """The network at s, on the piece whose codes at each step `choose` names, given a hint for each layer."""
    layers, act, dtype = line.rnn.layers, require_pieces(line.rnn.activation), s.dtype
    sizes = jax.tree.map(jnp.abs, layers)
    length = len(line.start) if line.length is None else line.length

    def body(carry: tuple[Array, ...], now: Any) -> tuple[tuple[Array, ...], Any]:
        t, start, along, hint = now
        below, size = (
            jnp.stack([start + s * along, along]),
            jnp.stack([jnp.abs(start) + s * jnp.abs(along), abs(along)]),
        )
        after, motions, codes = [], [], []
        for l, (layer, layer_sizes, own, hinted) in enumerate(zip(layers, sizes, carry, hint, strict=True)):
            motion = _motion(layer, layer_sizes, below, size, own)
            code = choose(motion, hinted)
            slope = act.slope(code, dtype)
            below = jnp.stack([slope * motion.place + act.offset(code, dtype), slope * motion.pace])
            size = jnp.abs(below)
            is_in_head = l >= line.rnn.every_step
            if line.length is not None or is_in_head:  # what is not read leaves the state as it is, and crosses nothing
                there = t == length - 1 if is_in_head else t < length
                below, code = jnp.where(there, below, own), jnp.where(there, code, 0)
                motion = motion._replace(pace=jnp.where(there, motion.pace, 0))
            after.append(below)
            motions.append(motion)
            codes.append(code)
        return tuple(after), (tuple(motions), tuple(codes))

    at_rest = tuple(jnp.stack([h, jnp.zeros_like(h)]) for h in line.state)
    steps = (jnp.arange(len(line.start)), line.start, line.along, hints)
    carry, (motions, codes) = jax.lax.scan(body, at_rest, steps)
    h, dh = carry[-1]
    return _Passage(motions, codes, read_out(line.rnn, h), dh @ line.rnn.readout.kernel)


def _motion(layer: Layer, sizes: Layer, below: Array, below_size: Array, own: Array) -> _Motion:
    """How a layer's pre-activations move where what it reads moves as given, (place and pace, number)."""
    moved, size, terms = below @ layer.input_kernel, below_size @ sizes.input_kernel, below.shape[1] + 1
    if layer.recurrent_kernel is not None:
        moved, size = moved + own @ layer.recurrent_kernel, size + jnp.abs(own) @ sizes.recurrent_kernel
        terms += own.shape[1]
    if layer.bias is not None:
        moved, size = moved.at[0].add(layer.bias), size.at[0].add(sizes.bias)
    # the bound on the rounding of a sum in any order (Higham, 2002, section 3.1), and of the input at s
    return _Motion(*moved, *((terms + 2) / 2 * float(jnp.finfo(moved.dtype).eps) * size))


def _no_codes(line: _Line) -> tuple[Array, ...]:
    """Code 0 for every unit at every step."""
    return tuple(jnp.zeros((len(line.start), len(h)), jnp.int32) for h in line.state)


def _as_codes(act: PiecewiseAffine, codes: tuple[Array, ...]) -> tuple[Array, ...]:
    """Whole numbers as the dtype that a trajectory's codes have."""
    return tuple(code.astype(jnp.uint8 if len(act.slopes) > 2 else bool) for code in codes)
