"""Every piece on a line, in JAX: from piece to piece, by the nearest crossing of the present one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.codes import pack
from maso_rnn.network import RNN, Layer, States, initial_state, read_out
from maso_rnn.slices.line import LineWalk
from maso_rnn.slices.stages import checked_corners


def walk_line_on_device(
    rnn: RNN,
    start: Float[Array, "time input"],
    stop: Float[Array, "time input"],
    h0: States | None = None,
    *,
    max_regions: int,
) -> LineWalk:
    """The walk of `walk_line` inside JAX: in the network's dtype, under jit and vmap, up to a cap.

    Equation: on the piece around s, p_i(s + d) = p_i + d ∂p_i/∂s; the next breakpoint is at the least d > 0 at which
    some p_i meets a kink, and there that unit's code changes by one.

    Goes from piece to piece with one forward pass each, where the walk on the host shares its work between pieces. In
    float32, pieces that are shorter than rounding are lost.

    Args:
        rnn: the network; its activation must be piecewise affine.
        start: (time, input), the input at s = 0, in the network's dtype.
        stop: (time, input), the input at s = 1, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. The same all along.
        max_regions: the most pieces to return, at least 1, static.

    Returns:
        `LineWalk(breakpoints, codes, outputs, overflow, pieces, reached)`, of the shapes that `max_regions` pieces
        need. A traced segment of length zero is one piece; where the network's numbers are not finite the walk stops,
        with `reached` NaN.

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
    state = initial_state(rnn, h0)
    act = require_pieces(rnn.activation)
    start, stop = checked_corners(rnn, {"start": start, "stop": stop}, dtype=rnn.readout.kernel.dtype)
    max_regions = checks.size("max_regions", max_regions)
    dtype = start.dtype
    rounding = 4 * float(jnp.finfo(dtype).eps)
    # the kinks around each piece
    lower, upper = jnp.asarray([-np.inf, *act.breakpoints], dtype), jnp.asarray([*act.breakpoints, np.inf], dtype)

    def follow(s: Array, choose: Callable[[_Motion, Array], Array], hints: tuple[Array, ...]) -> Any:
        """Each unit's motion and code and the output's motion at s, where `choose` names a step's codes."""

        def body(carry: Any, now: Any) -> tuple[Any, Any]:
            x, dx, hint = now
            after, motions, codes = [], [], []
            for l, (layer, (h, dh)) in enumerate(zip(rnn.layers, carry, strict=True)):
                motion = _Motion.of(layer, (x, dx), (h, dh), rounding)
                code = choose(motion, hint[l])
                slope = act.slope(code, dtype)
                x, dx = slope * motion.place + act.offset(code, dtype), slope * motion.pace
                after.append((x, dx))
                motions.append(motion)
                codes.append(code)
            return tuple(after), (tuple(motions), tuple(codes))

        along = stop - start
        at_rest = tuple((h, jnp.zeros_like(h)) for h in state)
        carry, (motions, codes) = jax.lax.scan(body, at_rest, (start + s * along, along, hints))
        h, dh = carry[-1]
        return motions, codes, read_out(rnn, h), dh @ rnn.readout.kernel

    def onward(motion: _Motion, hint: Array) -> Array:
        """The codes just after s = 0."""
        clear = [motion.place > kink + motion.blur for kink in act.breakpoints]
        leaves = [(motion.place >= kink - motion.blur) & (motion.pace > motion.pace_blur) for kink in act.breakpoints]
        return sum((a | b for a, b in zip(clear, leaves, strict=True)), start=jnp.zeros_like(hint))

    def crossings(motion: _Motion, code: Array) -> tuple[Array, Array, Array]:
        """How far ahead each unit meets a kink, how well that is known, and the code that it has then."""
        up, down = motion.pace > motion.pace_blur, motion.pace < -motion.pace_blur
        gap = jnp.where(up, upper[code], lower[code]) - motion.place
        rests = ~up & (-gap <= motion.blur)  # on the kink below it, and not about to rise
        pace = jnp.where(up | down, motion.pace, 1)
        ahead = jnp.where(rests, 0, jnp.where(up | down, jnp.maximum(gap / pace, 0), jnp.inf))
        return ahead, motion.blur / jnp.abs(pace) + rounding, jnp.where(up, code + 1, code - 1)

    def body(walk: _Progress) -> _Progress:
        motions, _, z, dz = follow(walk.s, lambda _, hint: hint, walk.codes)
        found = [crossings(motion, code) for motion, code in zip(motions, walk.codes, strict=True)]
        ahead, blur = (jnp.concatenate([part[i].ravel() for part in found]) for i in (0, 1))
        first = ahead.argmin()
        nearest = ahead[first]
        codes = tuple(
            jnp.where(far <= nearest + blurred, moved, code)
            for (far, blurred, moved), code in zip(found, walk.codes, strict=True)
        )
        ends = walk.s + nearest >= 1 - rounding
        record = ends | (nearest > blur[first])  # else a crossing that coincides with the breakpoint that we are on
        at = jnp.where(record, walk.pieces, max_regions + 1)  # out of range: dropped
        s = jnp.where(ends, 1, walk.s + jnp.where(record, nearest, 0))
        pieces = walk.pieces + record
        lost = ~jnp.stack([jnp.isfinite(motion.place).all() for motion in motions]).all()
        return _Progress(
            s=jnp.where(lost, jnp.nan, s),
            codes=codes,
            pieces=pieces,
            breakpoints=walk.breakpoints.at[at].set(s, mode="drop"),
            packed=walk.packed.at[at].set(pack(_as_codes(act, walk.codes)), mode="drop"),
            outputs=walk.outputs.at[at + 1].set(z + dz * (s - walk.s), mode="drop"),
            done=ends | lost | (pieces == max_regions),
            overflow=lost | (~ends & (pieces == max_regions)),
        )

    blank = tuple(jnp.zeros((start.shape[0], h.shape[0]), jnp.int32) for h in state)
    _, codes, z, _ = follow(jnp.zeros((), dtype), onward, blank)
    packed = jax.eval_shape(lambda codes: pack(_as_codes(act, codes)), codes)
    walk = _Progress(
        s=jnp.zeros((), dtype),
        codes=codes,
        pieces=jnp.zeros((), jnp.int32),
        breakpoints=jnp.full(max_regions, jnp.nan, dtype),
        packed=jnp.zeros((max_regions, *packed.shape), jnp.uint8),
        outputs=jnp.full((max_regions + 1, *z.shape), jnp.nan, dtype).at[0].set(z),
        done=jnp.zeros((), bool),
        overflow=jnp.zeros((), bool),
    )
    walk = jax.lax.while_loop(lambda walk: ~walk.done, body, walk)
    inside = jnp.arange(max_regions) < walk.pieces - 1
    breakpoints = jnp.where(inside, walk.breakpoints, jnp.nan)[:-1]
    return LineWalk(breakpoints, walk.packed, walk.outputs, walk.overflow, walk.pieces, walk.s)


class _Motion(NamedTuple):
    """Pre-activations moving along the line, and how far off both numbers may be by rounding."""

    place: Array
    pace: Array
    blur: Array
    pace_blur: Array

    @classmethod
    def of(cls, layer: Layer, below: tuple[Array, Array], own: tuple[Array, Array], rounding: float) -> _Motion:
        """The motion of a layer whose input and whose own state move as given, (place, pace)."""
        (x, dx), (h, dh) = below, own
        place = x @ layer.input_kernel + h @ layer.recurrent_kernel
        squares = (layer.input_kernel**2).sum(axis=0) + (layer.recurrent_kernel**2).sum(axis=0)
        if layer.bias is not None:
            place, squares = place + layer.bias, squares + layer.bias**2
        scale = rounding * jnp.sqrt(squares)
        return cls(
            place=place,
            pace=dx @ layer.input_kernel + dh @ layer.recurrent_kernel,
            blur=scale * jnp.sqrt(1 + jnp.vdot(x, x) + jnp.vdot(h, h)),
            pace_blur=scale * jnp.sqrt(jnp.vdot(dx, dx) + jnp.vdot(dh, dh)),
        )


class _Progress(NamedTuple):
    """How far the walk on the device has come."""

    s: Array
    codes: tuple[Array, ...]  # (time, hidden), of the piece after s
    pieces: Array
    breakpoints: Array
    packed: Array
    outputs: Array
    done: Array
    overflow: Array


def _as_codes(act: PiecewiseAffine, codes: tuple[Array, ...]) -> tuple[Array, ...]:
    """Whole numbers as the dtype that a trajectory's codes have."""
    return tuple(code.astype(jnp.uint8 if len(act.slopes) > 2 else bool) for code in codes)
