"""Every piece on a line, on the host: the points carry the state, and each crossing becomes a new point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from maso_rnn import checks
from maso_rnn.network import RNN, States
from maso_rnn.slices.stages import (
    HALF,
    Sides,
    Slice,
    Stage,
    activate,
    code_bytes,
    collected,
    exploring,
    kinks,
    padded,
    sides,
)

CACHED = 2048  # points that stay in the processor's cache; more of them go on half by half
PLACED = 8 * HALF  # how well a position along the whole line is known


class LineWalk(NamedTuple):
    """The pieces along a segment, from `walk_line` (NumPy) or `walk_line_on_device` (JAX, filled up to the cap).

    On the device the arrays have the length that `max_regions` pieces need. What lies beyond `pieces` repeats the end
    of the walk: pieces of length zero, with the codes of the last one.

    Attributes:
        breakpoints: (pieces - 1,), ascending, strictly between 0 and 1.
        codes: (pieces, packed), as `pack` makes them of a trajectory's codes; padding has code 0.
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


def walk_line(
    rnn: RNN,
    start: Float[Array | np.ndarray, "time input"],
    stop: Float[Array | np.ndarray, "time input"],
    h0: States | None = None,
    *,
    max_regions: int,
    length: int | Int[Array, ""] | None = None,
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
        length: how many steps of both ends count; the rest is padding.

    Returns:
        `LineWalk(breakpoints, codes, outputs, overflow, pieces, reached)`, NumPy arrays.

    Raises:
        ValueError: if the ends differ in shape or do not fit the network, are equal or not finite, `max_regions` is
            below 1, `length` is out of range, the activation has no pieces, or the outputs are beyond float64.
        TypeError: if an argument is traced (use `walk_line_on_device`), or an end is not a floating array.

    Example:
        >>> import jax
        >>> import maso_rnn
        >>> from jax import numpy as jnp
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> walk = walk_line(rnn, jnp.full((5, 1), -1.0), jnp.ones((5, 1)), max_regions=100)
        >>> walk.pieces == len(walk.breakpoints) + 1 == len(walk.codes), walk.overflow
        (True, False)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition; the walk is this package's own.
    """
    host, state, ends = exploring(
        rnn, h0, length, "use walk_line_on_device, which may be traced", start=start, stop=stop
    )
    max_regions = checks.size("max_regions", max_regions)
    if np.array_equal(ends[0], ends[1]):
        raise ValueError("stop must differ from start: the segment has length zero")
    line = Slice(host, state, np.stack([ends[0], ends[1] - ends[0]]))
    rows, codes = _joined(walked(line, max_regions))
    return LineWalk(
        breakpoints=rows[1:-1, 1].copy(),
        codes=padded(codes, len(ends[0]), len(start)),
        outputs=host.outputs(rows),
        overflow=bool(rows[-1, 1] < 1),
        pieces=len(codes),
        reached=float(rows[-1, 1]),
    )


def walked(line: Slice, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The walk stretch by stretch, from 0 on: the points after all stages, and the codes of the pieces between them.

    Stretches meet in one point. Where there are more than `most` pieces the last point is not at 1. What is kept at one
    time does not grow with the number of pieces.
    """
    waiting = [(0, line.points(np.array([[0.0], [1.0]])), np.empty((1, 0), np.uint8))]
    while waiting and most:
        first, rows, codes = waiting.pop()
        kept = [(codes, np.arange(len(codes)))]  # codes, and the piece before them that each was part of
        for number in range(first, len(line)):
            while len(rows) > CACHED:
                codes, middle = collected(kept, np.arange(len(rows) - 1)), len(rows) // 2
                waiting.append((number, rows[middle:].copy(), codes[middle:]))
                rows, codes = rows[: middle + 1].copy(), codes[:middle]
                kept = [(codes, np.arange(middle))]
            rows, above, parents = _cross(line, line[number], rows)
            if len(rows) > most + 1:
                waiting.clear()
                rows, parents = rows[: most + 1], parents[:most]
                above = [passed[: most + 1] for passed in above]
            kept.append((code_bytes([passed[:-1] | passed[1:] for passed in above]), parents))
        most -= len(rows) - 1
        yield rows, line.of_all_steps(collected(kept, np.arange(len(rows) - 1)))


def begin(codes: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Which pieces (piece,) are not of the codes of the one before, for the first of them `before` (at most 1, packed).

    Two crossings within rounding of each other may have cancelled: there is no breakpoint between equal codes.
    """
    return np.concatenate([[not np.array_equal(before, codes[:1])], (codes[1:] != codes[:-1]).any(axis=1)])


def _joined(stretches: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """The points and the codes of all stretches."""
    starts, found, last = [], [], np.empty((0, 0), np.uint8)
    for rows, codes in stretches:
        new = begin(codes, last)
        starts.append(rows[:-1][new])
        found.append(codes[new])
        last, end = codes[-1:], rows[-1:]
    return np.concatenate([*starts, end]), np.concatenate(found)


class _Crossings(NamedTuple):
    """Where units cross kinks between neighbouring points, (crossing,) each."""

    piece: np.ndarray
    unit: np.ndarray
    value: np.ndarray  # of the kink
    where: np.ndarray  # the place, as a share of the piece
    blur: np.ndarray  # how well that is known, by the rounding of places

    def pick(self, index: np.ndarray) -> _Crossings:
        return _Crossings(*(field[index] for field in self))


def _cross(line: Slice, stage: Stage, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """The points after a stage, its crossings among them.

    With them which units are above which kinks there, and for each piece between points the piece before the stage that
    it is part of.
    """
    act = line.host.act
    p, read = stage.pre_activations(rows), rows[:, stage.reads]
    widest = stage.widest(read)
    at_points = sides(p, read, stage, act, widest)
    found = _crossings(p, at_points, kinks(act), rows[:, 1])
    if not len(found.piece):
        activate(act, p, rows[:, stage.writes])
        return rows, at_points.above, np.arange(len(rows) - 1)
    found = _inside(found, p, at_points)
    new = _apart(found, p, stage, read, widest)
    piece, where = found.piece[new], found.where[new, None]
    fresh = rows[piece] + where * (rows[piece + 1] - rows[piece])
    fresh_p = p[piece] + where * (p[piece + 1] - p[piece])
    fresh_p[np.cumsum(new) - 1, found.unit] = found.value  # those that coincide share a point
    at_fresh = sides(fresh_p, fresh[:, stage.reads], stage, act, widest)
    activate(act, p, rows[:, stage.writes])
    activate(act, fresh_p, fresh[:, stage.writes])

    # each point after those before it and the crossings before it
    young = piece + 1 + np.arange(len(piece))
    points = np.arange(len(rows))
    order = np.empty(len(rows) + len(piece), np.intp)
    order[points + np.searchsorted(piece, points)] = points
    order[young] = len(rows) + np.arange(len(piece))
    above = [np.concatenate(pair)[order] for pair in zip(at_points.above, at_fresh.above, strict=True)]
    return np.concatenate([rows, fresh])[order], above, np.concatenate([points, piece])[order[:-1]]


def _crossings(p: np.ndarray, at: Sides, values: tuple[float, ...], places: np.ndarray) -> _Crossings:
    """Every unit that is on different sides of a kink at neighbouring points."""
    flips = [
        np.flatnonzero((above[:-1] & below[1:]) | (below[:-1] & above[1:])) for above, below in zip(*at, strict=True)
    ]
    before = np.concatenate(flips)  # as indices into the values of the first point of a piece
    value = np.repeat(values, [len(some) for some in flips])
    start, stop = p.ravel()[before], p.ravel()[before + p.shape[1]]
    where = (value - start) / (stop - start)
    piece, unit = np.divmod(before, p.shape[1])
    order = np.lexsort((where, piece))
    piece = piece[order]
    blur = PLACED / (places[piece + 1] - places[piece])
    return _Crossings(piece, unit[order], value[order], where[order], blur)


def _inside(found: _Crossings, p: np.ndarray, at: Sides) -> _Crossings:
    """The crossings that are clear of both ends of their piece; the others' units rest on their kinks at that end."""
    first, last = found.where <= found.blur, found.where >= 1 - found.blur
    at_ends = first | last
    if not at_ends.any():
        return found
    for row, here in ((found.piece[first], first), (found.piece[last] + 1, last)):
        p[row, found.unit[here]] = found.value[here]
        for side in (*at.above, *at.below):
            side[row, found.unit[here]] = False
    return found.pick(~at_ends)


def _apart(found: _Crossings, p: np.ndarray, stage: Stage, read: np.ndarray, widest: float) -> np.ndarray:
    """Which crossings (crossing,) are clear of the one before, by the largest rounding of any or else by their own."""
    piece, unit = found.piece, found.unit
    new = np.ones(len(piece), bool)
    rise = np.abs(p[piece + 1, unit] - p[piece, unit])
    for rounding in (lambda: widest, lambda: stage.rounding(np.abs(read[piece]))[np.arange(len(piece)), unit]):
        blur = found.blur + rounding() / rise
        new[1:] = (piece[1:] > piece[:-1]) | (found.where[1:] - found.where[:-1] > blur[1:] + blur[:-1])
        if new.all():
            break
    return new
