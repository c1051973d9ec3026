"""Every affine piece on a line or a plane through input space, found exactly.

Along a line x(s) = start + s (stop - start) a piecewise-affine network is itself piecewise affine in s. The walk
carries the state at both ends and at every breakpoint found so far through time. Between neighbouring points all
pre-activations are affine, so a unit whose pre-activation lies on different sides of a kink at the two crosses it once,
at a place that the two values give; the crossing becomes a new point. After the last step of the last layer the points
are all the breakpoints there are. A plane is cut the same way, into convex polygons that carry the state at their
corners and are split along the line on which a unit is on its kink.

These are host functions, NumPy in float64 whatever the network's dtype. A pre-activation counts as on its kink where
it is nearer than the rounding error of the sum that it is; so crossings that coincide are one breakpoint, and a
unit that rests on its kink makes none and has the lower code, as everywhere in this package. `walk_line_on_device` goes
from piece to piece instead, in JAX: solve for the nearest crossing of the present piece, step onto it, change the code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, Layer, States, check_network, initial_state, read_out
from maso_rnn.regions import pack, unpack

_EPS = float(np.finfo(np.float64).eps)


class LineWalk(NamedTuple):
    """The pieces along a segment, from `walk_line` (NumPy) or `walk_line_on_device` (JAX, filled up to the cap).

    On the device the arrays have the length that `max_regions` pieces need; what lies beyond `pieces` is NaN in
    `breakpoints` and `outputs`, and 0 in `codes`.

    Attributes:
        breakpoints: (pieces - 1,), ascending, strictly between 0 and 1.
        codes: (pieces, packed), as `pack` makes them of a trajectory's codes.
        outputs: (pieces + 1, output), of the last step: at 0, at each breakpoint, and at `reached`.
        overflow: whether there are more pieces than `max_regions`; the walk is then the first ones only.
        pieces: how many were found.
        reached: where the last piece ends: 1, or less after an overflow.
    """

    breakpoints: Float[Array | np.ndarray, " breakpoint"]
    codes: UInt8[Array | np.ndarray, "piece packed"]
    outputs: Float[Array | np.ndarray, "point output"]
    overflow: bool | Bool[Array, ""]
    pieces: int | Int[Array, ""]
    reached: float | Float[Array, ""]


class PlanePartition(NamedTuple):
    """The pieces on a parallelogram `origin + a u + b v`, in the coordinates (a, b) of the unit square.

    Attributes:
        polygons: for each piece (corner, 2), the corners of a convex polygon, counterclockwise.
        codes: (pieces, packed), as `pack` makes them of a trajectory's codes.
        outputs: for each piece (corner, output), the output of the last step at each corner; affine between.
        areas: (pieces,), they sum to 1 unless there was an overflow.
        overflow: whether there are more pieces than `max_regions`; these are then some of them only.
    """

    polygons: tuple[Float[np.ndarray, "corner 2"], ...]
    codes: UInt8[np.ndarray, "piece packed"]
    outputs: tuple[Float[np.ndarray, "corner output"], ...]
    areas: Float[np.ndarray, " piece"]
    overflow: bool


class PieceMaps(NamedTuple):
    """The affine maps of a walk's pieces.

    On piece k: `output = Σ_t slope[k, :, t] @ xs[t] + Σ_l initial_slope[l][k] @ h0[l] + offset[k]`.

    Attributes:
        slope: (piece, output, time, input), of the last step's output.
        initial_slope: for each layer (piece, output, hidden).
        offset: (piece, output), what the biases and the offsets of the pieces add.
    """

    slope: Float[np.ndarray, "piece output time input"]
    initial_slope: tuple[Float[np.ndarray, "piece output hidden"], ...]
    offset: Float[np.ndarray, "piece output"]


class _Stage(NamedTuple):
    """One layer at one step: what it reads, what it writes, and how."""

    reads: slice
    writes: slice
    weights: np.ndarray
    bias: np.ndarray | None
    scales: np.ndarray  # (hidden,), times the norm of what is read: how large the terms of the sum may be


class _Host(NamedTuple):
    """A network on the host, in float64, and the directions in which its input is explored.

    A point is a row (coordinates, then the state of each layer); the first coordinate is 1, and the input is the sum of
    the coordinates times the directions.
    """

    act: PiecewiseAffine
    layers: tuple[tuple[np.ndarray, np.ndarray, np.ndarray | None], ...]
    readout: np.ndarray
    readout_bias: np.ndarray | None
    state: np.ndarray  # of all layers
    directions: np.ndarray  # (coordinate, time, input)

    def points(self, coordinates: np.ndarray) -> np.ndarray:
        """Rows (point, coordinates and state) before the first step."""
        ones = np.ones((len(coordinates), 1))
        return np.hstack([ones, coordinates, np.broadcast_to(self.state, (len(coordinates), len(self.state)))])

    def stages(self) -> Iterator[_Stage]:
        """Every layer of every step, in the order of computation."""
        kernel, recurrent, bias = self.layers[0]
        driven = self.directions @ kernel
        terms = np.abs(self.directions) @ np.abs(kernel)
        if bias is not None:
            driven[0] += bias
            terms[0] += np.abs(bias)
        count = len(driven)
        end = count + len(recurrent)
        squares = (recurrent**2).sum(axis=0)
        uppers, below = [], slice(count, end)
        for kernel, own, offset in self.layers[1:]:
            writes = slice(below.stop, below.stop + len(own))
            weights = np.vstack([kernel, own])
            square = (weights**2).sum(axis=0) + (0 if offset is None else offset**2)
            uppers.append(_Stage(slice(below.start, writes.stop), writes, weights, offset, np.sqrt(square)))
            below = writes
        for t in range(driven.shape[1]):
            scales = np.sqrt(squares + (terms[:, t] ** 2).sum(axis=0))
            yield _Stage(slice(0, end), slice(count, end), np.vstack([driven[:, t], recurrent]), None, scales)
            yield from uppers

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """The readout of each row's last layer."""
        z = rows[:, -len(self.readout) :] @ self.readout
        z = z if self.readout_bias is None else z + self.readout_bias
        if not np.isfinite(z).all():
            raise ValueError("rnn grows beyond float64 on these inputs: its output is not finite")
        return z


class _Sides(NamedTuple):
    """For each kink (point, hidden): whether a unit lies clearly above it, clearly below it."""

    above: list[np.ndarray]
    below: list[np.ndarray]

    @classmethod
    def of(cls, p: np.ndarray, tolerance: np.ndarray, act: PiecewiseAffine) -> _Sides:
        kinks = act.breakpoints or (np.inf,)  # without kinks: all units below one that nothing reaches
        return cls(
            [p > (kink + tolerance if kink else tolerance) for kink in kinks],
            [p < (kink - tolerance if kink else -tolerance) for kink in kinks],
        )


def _pre_activations(stage: _Stage, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stage's pre-activations at each point, and (point,) how large the terms of its sums are in norm."""
    read = rows[:, stage.reads]
    p = read @ stage.weights
    if stage.bias is not None:
        p += stage.bias
    return p, np.sqrt(np.einsum("ij,ij->i", read, read) + 1.0)


def _tolerance(stage: _Stage, norms: np.ndarray) -> np.ndarray:
    """How far from its kink a pre-activation may be by rounding alone, for sums of terms of those norms."""
    return np.multiply.outer(norms * (4 * _EPS), stage.scales)


def _activate(act: PiecewiseAffine, p: np.ndarray) -> np.ndarray:
    """`act(p)`, which may overwrite `p`."""
    if act.breakpoints == (0.0,) and act.slopes == (0.0, 1.0):
        return np.maximum(p, 0.0, out=p)
    codes = np.searchsorted(act.breakpoints, p, side="left")  # kinks strictly below p
    return p * np.asarray(act.slopes)[codes] + np.asarray(act.offsets)[codes]


def _code_bytes(act: PiecewiseAffine, above: list[np.ndarray]) -> np.ndarray:
    """(pieces, hidden) of whether each kink is passed, as one step's bytes in `pack`'s form."""
    if len(above) > 1:
        return sum((passed.astype(np.uint8) for passed in above[1:]), start=above[0].astype(np.uint8))
    return np.packbits(above[0], axis=1)


def walk_line(
    rnn: RNN,
    start: Float[Array | np.ndarray, "time input"],
    stop: Float[Array | np.ndarray, "time input"],
    h0: States | None = None,
    *,
    max_regions: int,
) -> LineWalk:
    """Every affine piece of the network on the segment from `start` to `stop`: all of them, exactly.

    Equation: x(s) = start + s (stop − start), 0 ≤ s ≤ 1; breakpoints where some p^l_t[i](x(s)) crosses a kink.

    A host function: NumPy in float64. Cost grows with pieces · time · hidden².

    Args:
        rnn: the network; its activation must be piecewise affine.
        start: (time, input), the input at s = 0; in any floating dtype, as all is done in float64.
        stop: (time, input), the input at s = 1; in any floating dtype, as all is done in float64.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. The same all along.
        max_regions: the most pieces to return, at least 1; if there are more, the first ones are returned and
            `overflow` is set.

    Returns:
        `LineWalk(breakpoints, codes, outputs, overflow, pieces, reached)`, NumPy arrays.

    Raises:
        ValueError: if the ends differ in shape or do not fit the network, are equal or not finite, `max_regions` is
            below 1, the activation has no pieces, or the outputs are beyond float64.
        TypeError: if an argument is traced (use `walk_line_on_device`), or an end is not a floating array.

    Example:
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> walk = walk_line(rnn, jnp.full((5, 1), -1.0), jnp.ones((5, 1)), max_regions=100)
        >>> walk.pieces == len(walk.breakpoints) + 1 == len(walk.codes), walk.overflow
        (True, False)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition; the walk is this package's own.
    """
    host = _host(rnn, h0, {"start": start, "stop": stop}, "use walk_line_on_device, which may be traced")
    max_regions = checks.size("max_regions", max_regions)
    host.directions[1] -= host.directions[0]

    rows = host.points(np.array([[0.0], [1.0]]))
    stages: list[
        tuple[np.ndarray, np.ndarray]
    ] = []  # each one's codes, and the piece that each of its pieces was part of
    overflow = False
    for stage in host.stages():
        rows, above, parents = _cross(host.act, stage, rows)
        if len(rows) > max_regions + 1:
            overflow = True
            rows, parents = rows[: max_regions + 1], parents[:max_regions]
            above = [passed[: max_regions + 1] for passed in above]
        stages.append((_code_bytes(host.act, [passed[:-1] | passed[1:] for passed in above]), parents))

    codes = _collect(stages, len(rows) - 1)
    outputs = host.outputs(rows)
    # two crossings within rounding of each other may have cancelled: no breakpoint between equal codes
    kept = np.concatenate([[True], (codes[1:] != codes[:-1]).any(axis=1), [True]])
    rows, codes, outputs = rows[kept], codes[kept[:-1]], outputs[kept]
    return LineWalk(
        breakpoints=rows[1:-1, 1].copy(),
        codes=codes,
        outputs=outputs,
        overflow=overflow,
        pieces=len(codes),
        reached=float(rows[-1, 1]),
    )


def _cross(act: PiecewiseAffine, stage: _Stage, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """The points after a stage, its crossings among them.

    With them which units are above which kinks there, and for each piece between points the piece before the stage that
    it is part of.
    """
    p, norms = _pre_activations(stage, rows)
    tolerance = _tolerance(stage, norms)
    sides = _Sides.of(p, tolerance, act)
    found = []
    for r, (above, below) in enumerate(zip(*sides, strict=True)):
        flips = (above[:-1] & below[1:]) | (below[:-1] & above[1:])
        some = np.flatnonzero(flips.any(axis=1))
        at, unit = np.nonzero(flips[some])
        found.append(np.stack([some[at], unit, np.full(len(at), r)]))
    piece, unit, kink = np.concatenate(found, axis=1)

    start, stop = p[piece, unit], p[piece + 1, unit]
    value = np.append(act.breakpoints, np.inf)[kink]
    where = (value - start) / (stop - start)
    # how well the place is known: the rounding of p, and of the position along the whole line
    blur = 4 * _EPS / (rows[piece + 1, 1] - rows[piece, 1])
    first, last = where <= blur, where >= 1 - blur
    for at, beyond in ((piece[first], first), (piece[last] + 1, last)):  # as good as at an end: no new point
        p[at, unit[beyond]] = value[beyond]
        for side in (*sides.above, *sides.below):
            side[at, unit[beyond]] = False
    inside = ~(first | last)
    blur = blur + tolerance[piece, unit] / np.abs(stop - start)
    piece, unit, value, where, blur = (a[inside] for a in (piece, unit, value, where, blur))

    order = np.lexsort((where, piece))
    piece, unit, value, where, blur = (a[order] for a in (piece, unit, value, where, blur))
    apart = (np.diff(piece) > 0) | (np.diff(where) > blur[1:] + blur[:-1])
    new = np.concatenate([[True], apart]) if len(piece) else np.zeros(0, bool)
    point = np.cumsum(new) - 1  # the new point that each crossing belongs to
    piece, where = piece[new], where[new, None]

    fresh = rows[piece] + where * (rows[piece + 1] - rows[piece])
    fresh_p = p[piece] + where * (p[piece + 1] - p[piece])
    fresh_p[point, unit] = value
    fresh_tolerance = tolerance[piece] + where * (tolerance[piece + 1] - tolerance[piece])
    fresh_sides = _Sides.of(fresh_p, fresh_tolerance, act)
    rows[:, stage.writes] = _activate(act, p)
    fresh[:, stage.writes] = _activate(act, fresh_p)

    before = np.arange(len(rows))
    old = before + np.searchsorted(piece, before, side="left")  # new points of earlier pieces stand before each
    young = piece + 1 + np.arange(len(piece))
    merged = np.empty((len(rows) + len(piece), rows.shape[1]))
    merged[old], merged[young] = rows, fresh
    passes = []
    for passed, fresh_passed in zip(sides.above, fresh_sides.above, strict=True):
        both = np.empty((len(merged), p.shape[1]), bool)
        both[old], both[young] = passed, fresh_passed
        passes.append(both)
    parents = np.empty(len(merged), np.intp)
    parents[old], parents[young] = before, piece
    return merged, passes, parents[:-1]


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
        >>> import maso_rnn
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
    start, stop = _checked_corners(rnn, {"start": start, "stop": stop}, dtype=rnn.readout.kernel.dtype)
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


def affine_maps_along(rnn: RNN, walk: LineWalk, *, refresh_every: int = 128) -> PieceMaps:
    """The affine maps of all pieces of a walk, each from the one before by low-rank updates.

    Equation: where unit j of step t changes its piece, slope' − slope = (s' − s) g ⊗ a and the like for the rest, with
    a the slope of its pre-activation, pulled back through the codes before the breakpoint, and g what its state does to
    the output, pushed forward through the codes after it.

    That is one vector for each breakpoint and step in place of a matrix with a row for each output. Rounding adds up
    along the walk, so every `refresh_every`-th map is made afresh. A host function: NumPy in float64.

    Args:
        rnn: the network that the walk is of.
        walk: from `walk_line` or `walk_line_on_device`; its codes are read, and of its outputs how many there are.
        refresh_every: how many pieces share one map made afresh, at least 1; 1 makes no updates.

    Returns:
        `PieceMaps(slope, initial_slope, offset)`, of the last step's output, one map for each piece.

    Raises:
        ValueError: if the walk's codes are not of such a network, or `refresh_every` is below 1.
        TypeError: if an argument is traced, `walk` is none, or `refresh_every` is not an integer.

    Example:
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> walk = walk_line(rnn, jnp.full((5, 1), -1.0), jnp.ones((5, 1)), max_regions=100)
        >>> maps = affine_maps_along(rnn, walk)
        >>> maps.slope.shape == (walk.pieces, 3, 5, 1)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), theorem 1, for the maps; the updates are the product rule.
    """
    if not checks.is_concrete(rnn, walk):
        raise TypeError(
            "rnn and walk must not be traced: affine_maps_along is a host function; use jax.vmap of affine_map"
        )
    check_network(rnn)
    refresh_every = checks.size("refresh_every", refresh_every)
    codes = _codes_of(walk, rnn)
    pieces = len(codes[0])
    host = _on_host(rnn, None)
    inputs, units = len(host.layers[0][0]), len(host.state)
    outputs, time = host.readout.shape[1], codes[0].shape[1]
    # each map as rows (inputs of all steps, initial states, constant)
    maps = np.empty((pieces, outputs, time * inputs + units + 1))
    chunk = max(1, 1024 // refresh_every) * refresh_every
    for first in range(0, pieces, chunk):
        _fill(maps[first : first + chunk], [code[first : first + chunk] for code in codes], host, refresh_every)
    ends = time * inputs + np.cumsum([0, *(len(own) for _, own, _ in host.layers)])
    slope, *initial_slope, offset = np.split(maps, ends, axis=2)
    return PieceMaps(slope.reshape(pieces, outputs, time, inputs), tuple(initial_slope), offset[:, :, 0])


def _codes_of(walk: Any, rnn: RNN) -> list[np.ndarray]:
    """For each layer (piece, time, hidden), the codes of a walk of that network."""
    if not isinstance(walk, LineWalk):
        raise TypeError(f"walk must be a LineWalk, from maso_rnn.walk_line, got {type(walk).__name__}")
    for name in ("codes", "outputs"):
        value = getattr(walk, name)
        if not isinstance(value, jax.Array | np.ndarray) or value.ndim != 2:
            raise TypeError(
                f"walk.{name} must be an array of rank 2, got {getattr(value, 'shape', type(value).__name__)}"
            )
    wanted, got = rnn.readout.kernel.shape[1], walk.outputs.shape[1]
    if wanted != got:
        raise ValueError(f"walk must be of this network, of {wanted} outputs, got one of {got}")
    pieces = int(walk.pieces)
    if not 1 <= pieces <= len(walk.codes):
        raise ValueError(f"walk.codes must have a row for each of {pieces} pieces, got {len(walk.codes)}")
    try:
        with jax.ensure_compile_time_eval():
            return [np.asarray(code) for code in unpack(np.asarray(walk.codes)[:pieces], rnn)]
    except (TypeError, ValueError) as error:
        raise type(error)(f"walk.codes: {error}") from None


def _fill(maps: np.ndarray, codes: list[np.ndarray], host: _Host, refresh_every: int) -> None:
    """Write the maps (piece, output, ...) of pieces in a row."""
    pieces, outputs, length = maps.shape
    fresh = np.arange(0, pieces, refresh_every)
    # every change of a unit's code from one piece to the next: (piece before, step, unit), layer by layer
    changes = [np.nonzero(code[1:] != code[:-1]) for code in codes]
    layer = np.repeat(np.arange(len(codes)), [len(before) for before, _, _ in changes])
    before, step, unit = (np.concatenate(arrays) for arrays in zip(*changes, strict=True))
    kept = (before + 1) % refresh_every != 0
    order = np.flatnonzero(kept)[np.argsort(-step[kept], kind="stable")]  # those of late steps first
    layer, before, step, unit = (array[order] for array in (layer, before, step, unit))

    # rows that are pulled back: each fresh piece's outputs from the end, then each change's unit from its step
    from_end = len(fresh) * outputs
    seeds = np.concatenate([np.full(from_end, codes[0].shape[1]), step])
    through = np.concatenate([np.repeat(fresh, outputs), before])
    pulled = _pull_back(codes, host, through, seeds, from_end, layer, unit)
    onto_outputs = _push_forward(codes, host, before + 1, step, layer, unit)

    old, new = (_at_changes(codes, layer, piece, step, unit) for piece in (before, before + 1))
    slopes, offsets = np.asarray(host.act.slopes), np.asarray(host.act.offsets)
    forms = pulled[from_end:] * (slopes[new] - slopes[old])[:, None]
    forms[:, -1] += offsets[new] - offsets[old]
    maps[fresh] = pulled[:from_end].reshape(len(fresh), outputs, length)
    if host.readout_bias is not None:
        maps[fresh, :, -1] += host.readout_bias
    update = np.empty(maps.shape[1:])
    along = np.argsort(before, kind="stable")
    bounds = np.searchsorted(before[along], np.arange(pieces + 1))
    for piece in np.setdiff1d(np.arange(pieces), fresh):
        maps[piece] = maps[piece - 1]
        for change in along[bounds[piece - 1] : bounds[piece]]:
            np.multiply(onto_outputs[change][:, None], forms[change], out=update)
            maps[piece] += update


def _at_changes(
    codes: list[np.ndarray], layer: np.ndarray, piece: np.ndarray, step: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """The codes of single units, as indices into the activation's pieces."""
    found = np.zeros(len(layer), np.intp)
    for l, code in enumerate(codes):
        own = layer == l
        found[own] = code[piece[own], step[own], unit[own]]
    return found


def _scaled(act: PiecewiseAffine, code: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows times the slopes of the pieces that the codes name."""
    return rows * (code if act.slopes == (0.0, 1.0) else np.asarray(act.slopes)[code.astype(np.intp)])


def _pull_back(
    codes: list[np.ndarray],
    host: _Host,
    piece: np.ndarray,
    seeds: np.ndarray,
    from_end: int,
    layer: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """Linear forms as rows (inputs of all steps, initial states, constant), each through its piece's codes.

    The first `from_end` rows are the outputs of the last step, the others single pre-activations of step `seeds`, with
    those of late steps first.
    """
    _, time, _ = codes[0].shape
    inputs, outputs = len(host.layers[0][0]), host.readout.shape[1]
    slopes = np.zeros((len(piece), time, inputs))
    constant = np.zeros(len(piece))
    states = [np.zeros((len(piece), len(own))) for _, own, _ in host.layers]
    states[-1][:from_end] = np.tile(host.readout.T, (from_end // outputs, 1))
    constants = np.asarray(host.act.offsets)
    for t in reversed(range(time)):
        active = int(np.searchsorted(-seeds, -t, side="right"))
        born = slice(int(np.searchsorted(-seeds, -t, side="left")), active)
        onto = np.zeros((active, 0))
        for l in reversed(range(len(codes))):
            kernel, own, bias = host.layers[l]
            onto = states[l][:active] + onto if onto.size else states[l][:active]
            code = codes[l][piece[:active], t]
            if host.act.has_offsets:
                constant[:active] += (onto * constants[code.astype(np.intp)]).sum(axis=1)
            through = _scaled(host.act, code, onto)
            mine = np.flatnonzero(layer[born.start - from_end : born.stop - from_end] == l) + born.start
            through[mine, unit[mine - from_end]] = 1.0
            if bias is not None:
                constant[:active] += through @ bias
            states[l][:active] = through @ own.T
            onto = through @ kernel.T
        slopes[:active, t] = onto
    return np.hstack([slopes.reshape(len(piece), -1), *states, constant[:, None]])


def _push_forward(
    codes: list[np.ndarray],
    host: _Host,
    piece: np.ndarray,
    step: np.ndarray,
    layer: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """What each named unit's state, moved by 1, does to the outputs of the last step: (row, output)."""
    _, time, _ = codes[0].shape
    states = [np.zeros((len(piece), len(own))) for _, own, _ in host.layers]
    for t in range(time):
        first = int(np.searchsorted(-step, -t, side="left"))  # of those that have begun
        last = int(np.searchsorted(-step, -t, side="right"))
        below = np.zeros((len(piece) - first, 0))
        for l, (kernel, own, _) in enumerate(host.layers):
            moved = states[l][first:] @ own
            if l:
                moved += below @ kernel
            moved = _scaled(host.act, codes[l][piece[first:], t], moved)
            mine = np.flatnonzero(layer[first:last] == l)
            moved[mine, unit[first:last][mine]] = 1.0
            states[l][first:] = below = moved
    return states[-1] @ host.readout


def partition_plane(
    rnn: RNN,
    origin: Float[Array | np.ndarray, "time input"],
    u: Float[Array | np.ndarray, "time input"],
    v: Float[Array | np.ndarray, "time input"],
    h0: States | None = None,
    *,
    max_regions: int,
) -> PlanePartition:
    """Every affine piece of the network on the parallelogram that `u` and `v` span at `origin`.

    Equation: x(a, b) = origin + a u + b v, 0 ≤ a, b ≤ 1. For the plane through three inputs A, B, C: origin = A,
    u = B − A, v = C − A.

    A host function: NumPy in float64. Cost grows with pieces · time · hidden².

    Args:
        rnn: the network; its activation must be piecewise affine.
        origin: (time, input), the input at (0, 0); in any floating dtype, as all is done in float64.
        u: (time, input), the direction and length of the first side.
        v: (time, input), the direction and length of the second side, not parallel to `u`.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. The same all over.
        max_regions: the most pieces to return, at least 1; if there are more, some of them are returned and
            `overflow` is set.

    Returns:
        `PlanePartition(polygons, codes, outputs, areas, overflow)`, NumPy arrays.

    Raises:
        ValueError: if the three differ in shape or do not fit the network, are not finite, `u` and `v` are parallel
            or zero (three collinear corners), `max_regions` is below 1, the activation has no pieces, or the outputs
            are beyond float64.
        TypeError: if an argument is traced, or one of the three is not a floating array.

    Example:
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> origin, u, v = jax.random.normal(jax.random.key(1), (3, 5, 1))
        >>> plane = partition_plane(rnn, origin, u, v, max_regions=1000)
        >>> len(plane.polygons) == len(plane.codes) == len(plane.areas), round(float(plane.areas.sum()), 9)
        (True, 1.0)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition; the walk is this package's own.
    """
    advice = "call it outside jax.jit and jax.vmap; walk_line_on_device may be traced, for lines"
    host = _host(rnn, h0, {"origin": origin, "u": u, "v": v}, advice)
    max_regions = checks.size("max_regions", max_regions)
    sides = host.directions[1:].reshape(2, -1)
    lengths = np.linalg.norm(sides, axis=1, keepdims=True)
    # the corners are as exact as the dtype they came in
    rounding = 8 * max(float(jnp.finfo(corner.dtype).eps) for corner in (origin, u, v))
    if not lengths.all() or np.linalg.matrix_rank(sides / lengths, tol=rounding) < 2:
        raise ValueError("u and v must span a plane: origin, origin + u and origin + v are three collinear corners")

    polygons = _Polygons(host.points(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])), np.array([4]))
    stages: list[tuple[np.ndarray, np.ndarray]] = []  # as in walk_line
    overflow = False
    for stage in host.stages():
        polygons, above, parents, cut_short = _cut(host.act, stage, polygons, max_regions)
        overflow |= cut_short
        stages.append((_code_bytes(host.act, above), parents))

    ends = np.cumsum(polygons.sizes)[:-1]
    corners = polygons.rows[:, 1:3].copy()
    onward = corners[polygons.onward()]
    twice = corners[:, 0] * onward[:, 1] - corners[:, 1] * onward[:, 0]
    return PlanePartition(
        polygons=tuple(np.split(corners, ends)),
        codes=_collect(stages, len(polygons.sizes)),
        outputs=tuple(np.split(host.outputs(polygons.rows), ends)),
        areas=np.add.reduceat(twice, polygons.starts()) / 2,
        overflow=overflow,
    )


class _Polygons(NamedTuple):
    """Convex polygons, one after another, each with its corners in counterclockwise order."""

    rows: np.ndarray  # (corner, ...), what is carried at each corner
    sizes: np.ndarray  # (polygon,), how many corners each has

    def starts(self) -> np.ndarray:
        return np.cumsum(self.sizes) - self.sizes

    def onward(self) -> np.ndarray:
        """For each corner the next one of its polygon."""
        onward = np.arange(1, len(self.rows) + 1)
        starts = self.starts()
        onward[starts + self.sizes - 1] = starts
        return onward

    def pick(self, chosen: np.ndarray) -> _Polygons:
        return _Polygons(self.rows[np.repeat(chosen, self.sizes)], self.sizes[chosen])

    def head(self, count: int) -> _Polygons:
        return _Polygons(self.rows[: self.sizes[:count].sum()], self.sizes[:count])

    @classmethod
    def join(cls, parts: list[_Polygons]) -> _Polygons:
        return cls(np.concatenate([part.rows for part in parts]), np.concatenate([part.sizes for part in parts]))


def _cut(
    act: PiecewiseAffine, stage: _Stage, polygons: _Polygons, most: int
) -> tuple[_Polygons, list[np.ndarray], np.ndarray, bool]:
    """The polygons after a stage, cut wherever one of its units crosses a kink.

    With them which units are above which kinks inside each, for each the polygon before the stage that it is part of,
    and whether there were more than `most`. Rounds: of every polygon that some unit still crosses, cut one unit's line.
    """
    p, norms = _pre_activations(stage, polygons.rows)
    # pre-activations in the place of the state, and the size of the sums' terms as a last column
    rows = np.hstack([polygons.rows, norms[:, None]])
    rows[:, stage.writes] = p
    rest = _Polygons(rows, polygons.sizes)
    kinks = np.append(act.breakpoints, np.inf)  # without kinks: one that nothing reaches
    parents = np.arange(len(rest.sizes))
    done, done_above, done_parents = [], [], []
    overflow, count = False, 0
    while len(parents) and count <= most:
        sides = _Sides.of(rest.rows[:, stage.writes], _tolerance(stage, rest.rows[:, -1]), act)
        above, below = np.stack(sides.above, axis=1), np.stack(sides.below, axis=1)  # (corner, kink, hidden)
        any_above = np.logical_or.reduceat(above, rest.starts(), axis=0)
        crossed = any_above & np.logical_or.reduceat(below, rest.starts(), axis=0)
        crossed = crossed.reshape(len(crossed), -1)
        whole = np.equal(crossed.sum(axis=1), 0)
        done.append(rest.pick(whole))
        done_above.append(any_above[whole])
        done_parents.append(parents[whole])
        count += int(whole.sum())

        corners = np.repeat(~whole, rest.sizes)
        rest, above, below = rest.pick(~whole), above[corners], below[corners]
        parents = np.tile(parents[~whole], 2)
        kink, unit = np.divmod(crossed[~whole].argmax(axis=1), above.shape[2])
        rest = _split(stage, rest, above, below, unit, kink, kinks[kink])
        if len(parents) > most:
            overflow = True
            rest, parents = rest.head(most), parents[:most]
    polygons, inside, parents = _Polygons.join(done), np.concatenate(done_above), np.concatenate(done_parents)
    if len(parents) > most:
        overflow = True
        polygons, inside, parents = polygons.head(most), inside[:most], parents[:most]
    rows = polygons.rows[:, :-1]
    rows[:, stage.writes] = _activate(act, rows[:, stage.writes])
    return _Polygons(rows, polygons.sizes), list(np.moveaxis(inside, 1, 0)), parents, overflow


def _split(
    stage: _Stage,
    polygons: _Polygons,
    above: np.ndarray,
    below: np.ndarray,
    unit: np.ndarray,
    kink: np.ndarray,
    value: np.ndarray,
) -> _Polygons:
    """Each polygon in two, along the line where its chosen unit is on its chosen kink: the parts above, then below."""
    rows, corner = polygons.rows, np.arange(len(polygons.rows))
    unit, kink, value = (np.repeat(a, polygons.sizes) for a in (unit, kink, value))
    over, under = above[corner, kink, unit], below[corner, kink, unit]
    onward = polygons.onward()
    crosses = (over & under[onward]) | (under & over[onward])
    at = np.flatnonzero(crosses)
    column = stage.writes.start + unit
    here, there = (rows[a, column[at]] - value[at] for a in (at, onward[at]))
    fresh = rows[at] + (here / (here - there))[:, None] * (rows[onward[at]] - rows[at])
    fresh[np.arange(len(at)), column[at]] = value[at]
    rows = np.concatenate([rows, fresh])

    # two places for each corner: the corner itself, and the crossing on the edge from it
    place = np.stack([corner, len(corner) + np.cumsum(crosses) - 1], axis=1)
    parts = []
    for kept in (~under, ~over):
        both = np.stack([kept, crosses], axis=1)
        sizes = np.add.reduceat(both.sum(axis=1), polygons.starts()) if len(corner) else polygons.sizes
        parts.append(_Polygons(rows[place[both]], sizes))
    return _Polygons.join(parts)


def _collect(stages: list[tuple[np.ndarray, np.ndarray]], pieces: int) -> np.ndarray:
    """The codes of all stages for the final pieces, through the pieces that they were part of."""
    ends = np.cumsum([codes.shape[1] for codes, _ in stages])
    collected = np.empty((pieces, ends[-1]), np.uint8)
    index = np.arange(pieces)
    for (codes, parents), end in zip(reversed(stages), ends[::-1], strict=True):
        collected[:, end - codes.shape[1] : end] = codes[index]
        index = parents[index]
    return collected


def _host(rnn: RNN, h0: States | None, corners: dict[str, Any], advice: str) -> _Host:
    """The network and the corners on the host, once all have been checked."""
    if not checks.is_concrete(rnn, h0, *corners.values()):
        raise TypeError(f"rnn, h0, {', '.join(corners)} must not be traced: this is a host function; {advice}")
    check_network(rnn)
    require_pieces(rnn.activation)
    with jax.ensure_compile_time_eval():  # a host function looks at concrete values even while others are traced
        _checked_corners(rnn, corners)
    directions = np.stack([np.array(corner, np.float64) for corner in corners.values()])
    return _on_host(rnn, h0)._replace(directions=directions)


def _on_host(rnn: RNN, h0: States | None) -> _Host:
    """The network in NumPy, float64, with no direction to explore yet."""

    def numbers(value: Any) -> np.ndarray:
        return np.array(value, np.float64)

    with jax.ensure_compile_time_eval():
        state = initial_state(rnn, h0)

    def maybe(value: Any) -> np.ndarray | None:
        return None if value is None else numbers(value)

    return _Host(
        act=require_pieces(rnn.activation),
        layers=tuple((numbers(l.input_kernel), numbers(l.recurrent_kernel), maybe(l.bias)) for l in rnn.layers),
        readout=numbers(rnn.readout.kernel),
        readout_bias=maybe(rnn.readout.bias),
        state=np.concatenate([numbers(h) for h in state]),
        directions=np.zeros((0, 0, len(rnn.layers[0].input_kernel))),
    )


def _checked_corners(rnn: RNN, corners: dict[str, Any], dtype: Any = None) -> list[Array]:
    """Inputs (time, input) of one shape that the network can read, the second one not equal to the first."""
    channels = rnn.layers[0].input_kernel.shape[0]
    first_name = next(iter(corners))
    arrays = []
    for name, corner in corners.items():
        arrays.append(checks.array(name, corner, rank=2, axes="(time, input)", dtype=dtype))
        if corner.shape[1] != channels or not corner.shape[0]:
            raise ValueError(f"{name} must be (time, {channels}) with at least one step, got {corner.shape}")
        if corner.shape != arrays[0].shape:
            raise ValueError(f"{name} must have the shape of {first_name}, {arrays[0].shape}, got {corner.shape}")
        checks.finite(name, arrays[-1])
    if (
        "stop" in corners
        and checks.is_concrete(corners)
        and np.array_equal(np.asarray(corners["start"]), np.asarray(corners["stop"]))
    ):
        raise ValueError("stop must differ from start: the segment has length zero")
    return arrays
