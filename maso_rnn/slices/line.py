"""Every piece on a line, on the host: the points carry the state, and each crossing becomes a new point."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine
from maso_rnn.network import RNN, States
from maso_rnn.slices.stages import (
    EPS,
    HostNetwork,
    Sides,
    Stage,
    activate,
    code_bytes,
    collected,
    exploring,
    pre_activations,
    tolerance,
)

CACHED = 2048  # points that stay in the processor's cache; more of them go on half by half


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
    host = exploring(rnn, h0, {"start": start, "stop": stop}, "use walk_line_on_device, which may be traced")
    max_regions = checks.size("max_regions", max_regions)
    host.directions[1] -= host.directions[0]

    ends = host.points(np.array([[0.0], [1.0]]))
    parts, overflow = _walk(host, 0, ends, np.empty((1, 0), np.uint8), max_regions)
    last = parts[-1][0][-1:]
    parts = list(_distinct(parts))
    rows = np.concatenate([*(starts for starts, _ in parts), last])
    codes = np.concatenate([codes for _, codes in parts])
    return LineWalk(
        breakpoints=rows[1:-1, 1].copy(),
        codes=codes,
        outputs=host.outputs(rows),
        overflow=overflow,
        pieces=len(codes),
        reached=float(rows[-1, 1]),
    )


def _walk(
    host: HostNetwork, first: int, rows: np.ndarray, codes: np.ndarray, most: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], bool]:
    """The points after all stages from the first on, and the codes of all stages between them, part by part.

    Given the points before that stage and the codes so far. Parts meet in one point. With them whether there were more
    than `most` pieces.
    """
    kept = [(codes, np.arange(len(codes)))]  # codes, and the piece before them that each was part of
    overflow = False
    for number, stage in enumerate(host.stages(first), first):
        if len(rows) > CACHED and most > 1:
            codes = collected(kept, np.arange(len(rows) - 1))
            parts, more = _walk_halves(host, number, rows, codes, most)
            return parts, overflow or more
        rows, above, parents = _cross(host.act, stage, rows)
        if len(rows) > most + 1:
            overflow = True
            rows, parents = rows[: most + 1], parents[:most]
            above = [passed[: most + 1] for passed in above]
        kept.append((code_bytes(host.act, [passed[:-1] | passed[1:] for passed in above]), parents))
    codes = collected(kept, np.arange(len(rows) - 1))
    return [(rows, codes)], overflow


def _walk_halves(
    host: HostNetwork, first: int, rows: np.ndarray, codes: np.ndarray, most: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], bool]:
    """As `_walk`: the first half of the points through all stages, then the second, which meet in one point."""
    middle = len(rows) // 2
    left, overflow = _walk(host, first, rows[: middle + 1].copy(), codes[:middle], most)
    most -= sum(len(codes) for _, codes in left)
    if overflow or not most:
        return left, True
    right, overflow = _walk(host, first, rows[middle:], codes[middle:], most)
    return left + right, overflow


def _distinct(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pieces of each part, by the points where they start, and their codes, but those with the codes before them.

    Two crossings within rounding of each other may have cancelled: there is no breakpoint between equal codes.
    """
    before = np.empty((0, 0), np.uint8)
    for rows, codes in parts:
        new = np.concatenate([[not np.array_equal(before, codes[:1])], (codes[1:] != codes[:-1]).any(axis=1)])
        before = codes[-1:]
        yield (rows[:-1], codes) if new.all() else (rows[:-1][new], codes[new])


def _cross(act: PiecewiseAffine, stage: Stage, rows: np.ndarray) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """The points after a stage, its crossings among them.

    With them which units are above which kinks there, and for each piece between points the piece before the stage that
    it is part of.
    """
    p, norms = pre_activations(stage, rows)
    sides = Sides.of(p, norms, stage, act)
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
    blur = 4 * EPS / (rows[piece + 1, 1] - rows[piece, 1])
    first, last = where <= blur, where >= 1 - blur
    for at, beyond in ((piece[first], first), (piece[last] + 1, last)):  # as good as at an end: no new point
        p[at, unit[beyond]] = value[beyond]
        for side in (*sides.above, *sides.below):
            side[at, unit[beyond]] = False
    inside = ~(first | last)
    blur = blur + tolerance(norms[piece], stage.scales[unit]) / np.abs(stop - start)
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
    fresh_norms = norms[piece] + where[:, 0] * (norms[piece + 1] - norms[piece])
    fresh_sides = Sides.of(fresh_p, fresh_norms, stage, act)
    activate(act, p, rows[:, stage.writes])
    activate(act, fresh_p, fresh[:, stage.writes])

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
