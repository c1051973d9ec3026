"""Where the largest output changes, on a line and on a plane: exactly, since outputs are affine on every piece.

On a piece of a line each output is a straight line, and the largest of them a broken one. A class that is largest at
both ends of a piece is largest all along it, so only pieces whose ends differ are looked into. On a plane the same
holds of polygons and their corners.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from maso_rnn import checks
from maso_rnn.slices.line import LineWalk
from maso_rnn.slices.plane import PlanePartition

EPS = float(np.finfo(np.float64).eps)


class Decisions(NamedTuple):
    """Which output is largest along a line.

    Attributes:
        places: (change,), ascending in (0, 1), where another output becomes the largest.
        classes: (change + 1,), the largest before, between and after them.
    """

    places: Float[np.ndarray, " change"]
    classes: Int[np.ndarray, " stretch"]


class Boundary(NamedTuple):
    """Where two outputs are the largest together, on a plane.

    Attributes:
        segments: (segment, 2, 2), both ends of each straight part, in the plane's coordinates.
        classes: (segment, 2), the outputs that are largest on its two sides, the lower one first.
    """

    segments: Float[np.ndarray, "segment 2 2"]
    classes: Int[np.ndarray, "segment 2"]


def decisions(walk: LineWalk) -> Decisions:
    """Every place on a line where the largest output changes: between breakpoints too, and none is missed.

    Equation: argmax_c z_c(s), z affine between breakpoints. Outputs that differ by no more than 4 ε of the largest
    count as tied, and of tied ones the lowest index is taken, as `argmax` does.

    Args:
        walk: from `walk_line` or `walk_line_on_device`, of a network with at least two outputs.

    Returns:
        `Decisions(places, classes)`, NumPy arrays; places are exact to rounding, as breakpoints are.

    Raises:
        ValueError: if the walk has been cut off by its cap, or has one output only.
        TypeError: if `walk` is no `LineWalk`, or is traced.

    Example:
        >>> import jax
        >>> import maso_rnn
        >>> from jax import numpy as jnp
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> walk = maso_rnn.walk_line(rnn, jnp.full((5, 1), -1.0), jnp.ones((5, 1)), max_regions=100)
        >>> found = decisions(walk)
        >>> len(found.classes) == len(found.places) + 1
        True

    Source:
        Sotoudeh, Thakur (2019), *Computing linear restrictions of neural networks*, for networks without recurrence.
    """
    _check(walk, "walk", LineWalk, "maso_rnn.walk_line")
    pieces = int(walk.pieces)
    points = np.concatenate([[0.0], np.asarray(walk.breakpoints, np.float64)[: pieces - 1], [1.0]])
    outputs, eps = np.asarray(walk.outputs, np.float64)[: pieces + 1], float(np.finfo(walk.outputs.dtype).eps)
    winners = _winners(outputs, eps)
    places, classes = [], [winners[0]]
    for piece in np.flatnonzero(winners[1:] != winners[:-1]):
        for share, winner in _overtakings(outputs[piece : piece + 2], *map(int, winners[piece : piece + 2])):
            places.append(points[piece] + share * (points[piece + 1] - points[piece]))
            classes.append(winner)
    return _stretches(np.array(places), np.array(classes), 4 * eps)


def _overtakings(ends: np.ndarray, first: int, last: int) -> Iterator[tuple[float, int]]:
    """Where, between 0 and 1, which output overtakes, given (2, output) and the largest at both ends."""
    start, slope, here = ends[0], ends[1] - ends[0], 0.0
    while first != last:
        steeper = slope > slope[first]
        steeper[last] = True
        ahead = np.full(len(start), np.inf)
        gain = np.maximum(slope - slope[first], np.finfo(np.float64).tiny)
        np.divide(start[first] - start, gain, out=ahead, where=steeper)
        # at the end the last one leads, whatever rounding has made of its place
        ahead = np.maximum(np.minimum(ahead, np.where(np.arange(len(start)) == last, 1.0, np.inf)), here)
        here = ahead.min()
        tied = np.flatnonzero(ahead == here)
        first = last if last in tied and here >= 1 else int(tied[slope[tied].argmax()])
        yield float(here), first


def _stretches(places: np.ndarray, classes: np.ndarray, least: float) -> Decisions:
    """Without stretches that are shorter than a place is known, and without changes from a class to itself."""
    ends = np.concatenate([[-np.inf], places, [np.inf]])
    kept = np.diff(ends) > least
    starts, classes = ends[:-1][kept], classes[kept]
    new = np.concatenate([[True], classes[1:] != classes[:-1]])
    starts, classes = starts[new], classes[new]
    inside = (starts[1:] > least) & (starts[1:] < 1 - least)
    first = int(np.searchsorted(starts[1:], least, side="right"))  # those that lead at 0 for no length at all
    return Decisions(starts[1:][inside], classes[first : first + inside.sum() + 1])


def decision_boundary(plane: PlanePartition) -> Boundary:
    """Where on a plane the largest output changes: straight segments, inside polygons and along their edges.

    Equation: {(a, b): z_c = z_d ≥ z_e for all e}, z affine on each polygon. Ties go to the lower class, as in
    `decisions`.

    Args:
        plane: from `partition_plane`, of a network with at least two outputs.

    Returns:
        `Boundary(segments, classes)`, NumPy arrays. Each segment lies in one polygon; those of neighbours meet.

    Raises:
        ValueError: if the partition has been cut off by its cap, or has one output only.
        TypeError: if `plane` is no `PlanePartition`, or is traced.

    Example:
        >>> import jax
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> origin, u, v = jax.random.normal(jax.random.key(1), (3, 5, 1))
        >>> found = decision_boundary(maso_rnn.partition_plane(rnn, origin, u, v, max_regions=1000))
        >>> len(found.segments) == len(found.classes)
        True

    Source:
        Sotoudeh, Thakur (2019), *Computing linear restrictions of neural networks*, for networks without recurrence.
    """
    _check(plane, "plane", PlanePartition, "maso_rnn.partition_plane")
    segments, classes = [np.empty((0, 2, 2))], [np.empty((0, 2), int)]
    for polygon, outputs in zip(plane.polygons, plane.outputs, strict=True):
        winners = _winners(outputs, EPS)
        if (winners != winners[0]).any():
            for segment, pair in _parts(polygon, outputs):
                segments.append(segment[None])
                classes.append(np.array([pair]))
    return Boundary(np.concatenate(segments), np.concatenate(classes))


def _parts(polygon: np.ndarray, outputs: np.ndarray) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """The straight parts of the boundary in one polygon, and the classes on their sides."""
    onward = np.roll(np.arange(len(polygon)), -1)
    least = 4 * EPS * np.abs(outputs).max()
    lower, upper = np.triu_indices(outputs.shape[1], 1)
    differences = outputs[:, lower] - outputs[:, upper]
    side = (differences > least).astype(int) - (differences < -least)
    # the line of a pair must meet the polygon in more than a corner
    for pair in np.flatnonzero((side.max(axis=0) - side.min(axis=0) == 2) | (np.equal(side, 0).sum(axis=0) > 1)):
        c, d, s, z = int(lower[pair]), int(upper[pair]), side[:, pair], differences[:, pair]
        if not s.any():
            continue  # tied all over
        crossed = np.flatnonzero(s * s[onward] < 0)
        share = (z[crossed] / (z[crossed] - z[onward[crossed]]))[:, None]
        on = np.flatnonzero(s == 0)
        points, values = (
            np.concatenate([rows[on], rows[crossed] + share * (rows[onward[crossed]] - rows[crossed])])
            for rows in (polygon, outputs)
        )
        first, last = _furthest(points)
        clipped = _where_largest(values[[first, last]], c, least)
        if clipped is None:
            continue
        ends = points[first] + np.array(clipped)[:, None] * (points[last] - points[first])
        middle = values[first] + sum(clipped) / 2 * (values[last] - values[first])
        tied = np.flatnonzero(middle >= middle.max() - 2 * least)
        # the class that leads on each side; beyond an edge of the polygon, the one that a tie goes to
        leads = {
            int(tied[outputs[corner, tied].argmax()]) if s[corner] == sign else int(tied[0])
            for sign, corner in ((1, z.argmax()), (-1, z.argmin()))
        }
        if leads == {c, d} and np.abs(ends[1] - ends[0]).max() > 4 * EPS:
            yield ends, (c, d)


def _furthest(points: np.ndarray) -> tuple[int, int]:
    """The two points furthest apart of some on a line."""
    along = points[:, np.ptp(points, axis=0).argmax()]
    return int(along.argmin()), int(along.argmax())


def _where_largest(ends: np.ndarray, c: int, least: float) -> tuple[float, float] | None:
    """Between which shares of a segment, given the outputs at its ends (2, output), c is the largest, or None."""
    lead, other = ends[:, [c]] - ends + least
    slope = other - lead
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = -lead / slope
    first = max(0.0, np.max(zero, where=slope > 0, initial=0.0))
    last = min(1.0, np.min(zero, where=slope < 0, initial=1.0))
    return (first, last) if first < last and (lead + (first + last) / 2 * slope >= 0).all() else None


def _winners(outputs: np.ndarray, eps: float) -> np.ndarray:
    """The largest output of each row, the lowest of those that rounding cannot tell from it."""
    tied = 4 * eps * np.abs(outputs).max(axis=1, keepdims=True)
    return (outputs >= outputs.max(axis=1, keepdims=True) - tied).argmax(axis=1)


def _check(found: Any, name: str, kind: type, source: str) -> None:
    checks.instance(name, found, kind, source)
    checks.known("this is a host function", **{name: found})
    if bool(found.overflow):
        raise ValueError(f"{name} must be whole, got one that was cut off; call {source} with a larger max_regions")
    if found.outputs[0].shape[-1] < 2:
        raise ValueError(f"{name} must be of a network with at least two outputs, got one: nothing is decided")
