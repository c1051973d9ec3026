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

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, States, check_network, checked_arguments, initial_state, read_out
from maso_rnn.regions import pack

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
    """How far from its kink a pre-activation may be by rounding alone."""
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
        start: (time, input), the input at s = 0.
        stop: (time, input), the input at s = 1.
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
    advice = "use walk_line_on_device, which may be traced"
    host = _host(rnn, h0, {"start": start, "stop": stop}, advice)
    max_regions = checks.size("max_regions", max_regions)
    if (host.directions[0] == host.directions[1]).all():
        raise ValueError("stop must differ from start: the segment has length zero")
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
        at = np.flatnonzero(flips)
        found.append(np.stack([at // p.shape[1], at % p.shape[1], np.full(len(at), r)]))
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
    piece, unit, value, where, blur = (a[inside] for a in (piece, unit, value, where, blur))
    blur = blur + tolerance[piece, unit] / np.abs(stop - start)[inside]

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

    before = np.arange(len(rows))
    old = before + np.searchsorted(piece, before, side="left")  # new points of earlier pieces stand before each
    young = piece + 1 + np.arange(len(piece))
    merged = np.empty((len(rows) + len(piece), rows.shape[1]))
    merged[old], merged[young] = rows, fresh
    merged[old, stage.writes], merged[young, stage.writes] = _activate(act, p), _activate(act, fresh_p)
    above = []
    for passed, fresh_passed in zip(sides.above, fresh_sides.above, strict=True):
        both = np.empty((len(merged), p.shape[1]), bool)
        both[old], both[young] = passed, fresh_passed
        above.append(both)
    parents = np.empty(len(merged), np.intp)
    parents[old], parents[young] = before, piece
    return merged, above, parents[:-1]


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
        origin: (time, input), the input at (0, 0).
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
    if not lengths.all() or np.linalg.matrix_rank(sides / lengths) < 2:
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
        whole = ~crossed.any(axis=1)
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
            rest, parents = rest.pick(np.arange(len(parents)) < most), parents[:most]
    polygons, inside, parents = _Polygons.join(done), np.concatenate(done_above), np.concatenate(done_parents)
    if len(parents) > most:
        overflow = True
        polygons, inside, parents = polygons.pick(np.arange(len(parents)) < most), inside[:most], parents[:most]
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


def _host(
    rnn: RNN,
    h0: States | None,
    corners: dict[str, Any],
    advice: str,
) -> _Host:
    """The network and its corners on the host, once all have been checked."""
    if not checks.is_concrete(rnn, h0, *corners.values()):
        raise TypeError(f"rnn, h0 and {', '.join(corners)} must not be traced: this is a host function; {advice}")
    check_network(rnn)
    act = require_pieces(rnn.activation)
    channels = rnn.layers[0].input_kernel.shape[0]
    names = list(corners)
    for name, corner in corners.items():
        checks.array(name, corner, rank=2, axes="(time, input)")
        if corner.shape[1] != channels or not corner.shape[0]:
            raise ValueError(f"{name} must be (time, {channels}) with at least one step, got {corner.shape}")
        if corner.shape != corners[names[0]].shape:
            raise ValueError(f"{name} must have the shape of {names[0]}, {corners[names[0]].shape}, got {corner.shape}")
        if not np.isfinite(corner).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity in it")

    def numbers(value: Any) -> np.ndarray:
        return np.array(value, np.float64)

    def maybe(value: Any) -> np.ndarray | None:
        return None if value is None else numbers(value)

    return _Host(
        act=act,
        layers=tuple((numbers(l.input_kernel), numbers(l.recurrent_kernel), maybe(l.bias)) for l in rnn.layers),
        readout=numbers(rnn.readout.kernel),
        readout_bias=maybe(rnn.readout.bias),
        state=np.concatenate([numbers(h) for h in initial_state(rnn, h0)]),
        directions=np.stack([numbers(corner) for corner in corners.values()]),
    )
