"""Every piece on a parallelogram: convex polygons, cut along the lines on which a unit is on its kink."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine
from maso_rnn.network import RNN, States
from maso_rnn.slices.stages import (
    Slice,
    Stage,
    activate,
    code_bytes,
    collected,
    exploring,
    kinks,
    padded,
)


class PlanePartition(NamedTuple):
    """The pieces on a parallelogram `origin + a u + b v`, in the coordinates (a, b) of the unit square.

    Attributes:
        polygons: for each piece (corner, 2), the corners of a convex polygon, counterclockwise.
        codes: (pieces, packed), as `pack` makes them of a trajectory's codes; padding has code 0.
        outputs: for each piece (corner, output), the output of the last step at each corner; affine between.
        areas: (pieces,), they sum to 1 unless there was an overflow.
        overflow: whether there are more pieces than `max_regions`; these are then some of them only.
    """

    polygons: tuple[Float[np.ndarray, "corner 2"], ...]
    codes: UInt8[np.ndarray, "piece packed"]
    outputs: tuple[Float[np.ndarray, "corner output"], ...]
    areas: Float[np.ndarray, " piece"]
    overflow: bool


def partition_plane(
    rnn: RNN,
    origin: Float[Array | np.ndarray, "time input"],
    u: Float[Array | np.ndarray, "time input"],
    v: Float[Array | np.ndarray, "time input"],
    h0: States | None = None,
    *,
    max_regions: int,
    length: int | Int[Array, ""] | None = None,
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
        length: how many steps of the three count; the rest is padding.

    Returns:
        `PlanePartition(polygons, codes, outputs, areas, overflow)`, NumPy arrays.

    Raises:
        ValueError: if the three differ in shape or do not fit the network, are not finite, `u` and `v` are parallel
            or zero (three collinear corners), `max_regions` is below 1, `length` is out of range, the activation has no
            pieces, or the outputs are beyond float64.
        TypeError: if an argument is traced, or one of the three is not a floating array.

    Example:
        >>> import jax
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
    host, state, corners = exploring(rnn, h0, length, advice, origin=origin, u=u, v=v)
    max_regions = checks.size("max_regions", max_regions)
    _require_plane(corners[1:], max(float(jnp.finfo(corner.dtype).eps) for corner in (origin, u, v)))

    plane = Slice(host, state, np.stack(corners))
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    polygons = _Polygons(plane.points(square), np.array([4]))
    stages: list[tuple[np.ndarray, np.ndarray]] = []  # codes, and the polygon before the stage that each is part of
    overflow = False
    for number in range(len(plane)):
        polygons, above, parents, cut_short = _cut(host.act, plane[number], polygons, max_regions)
        overflow |= cut_short
        stages.append((code_bytes(above), parents))
    codes = plane.of_all_steps(collected(stages, np.arange(len(polygons.sizes))))

    ends = np.cumsum(polygons.sizes)[:-1]
    places = polygons.rows[:, 1:3].copy()
    onward = places[polygons.onward()]
    twice = places[:, 0] * onward[:, 1] - places[:, 1] * onward[:, 0]
    return PlanePartition(
        polygons=tuple(np.split(places, ends)),
        codes=padded(codes, len(corners[0]), len(origin)),
        outputs=tuple(np.split(host.outputs(polygons.rows), ends)),
        areas=np.add.reduceat(twice, polygons.starts()) / 2,
        overflow=overflow,
    )


def _require_plane(directions: list[np.ndarray], eps: float) -> None:
    """Directions that are not parallel, by more than the rounding of the dtype that they came in."""
    sides = np.stack(directions).reshape(2, -1)
    lengths = np.linalg.norm(sides, axis=1, keepdims=True)
    if not lengths.all() or np.linalg.matrix_rank(sides / lengths, tol=8 * eps) < 2:
        raise ValueError("u and v must span a plane: origin, origin + u and origin + v are three collinear corners")


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

    def largest(self) -> np.ndarray:
        """(polygon, ...), the largest of each polygon's corners."""
        return np.maximum.reduceat(self.rows, self.starts(), axis=0) if len(self.rows) else self.rows

    def pick(self, chosen: np.ndarray) -> _Polygons:
        return _Polygons(self.rows[np.repeat(chosen, self.sizes)], self.sizes[chosen])

    def head(self, count: int) -> _Polygons:
        return _Polygons(self.rows[: self.sizes[:count].sum()], self.sizes[:count])

    @classmethod
    def join(cls, parts: list[_Polygons]) -> _Polygons:
        return cls(np.concatenate([part.rows for part in parts]), np.concatenate([part.sizes for part in parts]))


def _cut(
    act: PiecewiseAffine, stage: Stage, polygons: _Polygons, most: int
) -> tuple[_Polygons, list[np.ndarray], np.ndarray, bool]:
    """The polygons after a stage, cut wherever one of its units crosses a kink.

    With them which units are above which kinks inside each, for each the polygon before the stage that it is part of,
    and whether there were more than `most`. Rounds: of every polygon that some unit still crosses, cut one unit's line.
    """
    rows = polygons.rows.copy()
    rows[:, stage.writes] = stage.pre_activations(polygons.rows)  # in the place of the state
    rest, values = _Polygons(rows, polygons.sizes), kinks(act)
    # nearly all polygons are whole by the largest rounding of any; only the others are held to their own
    read = polygons.rows[:, stage.reads]
    widest = stage.rounding(np.full(read.shape[1], max(read.max(), -read.min()))).max()
    whole, inside = _whole(rest, *_sides(rest, stage, values, widest))
    done, done_inside, done_parents = [rest.pick(whole)], [inside], [np.flatnonzero(whole)]
    parents, count = np.flatnonzero(~whole), int(whole.sum())
    rounding = stage.rounding(polygons._replace(rows=np.abs(read)).pick(~whole).largest())
    rest = rest.pick(~whole)
    overflow = False
    while len(parents) and count <= most:
        above, below = _sides(rest, stage, values, np.repeat(rounding, rest.sizes, axis=0)[:, None])
        any_above = np.logical_or.reduceat(above, rest.starts(), axis=0)
        crossed = any_above & np.logical_or.reduceat(below, rest.starts(), axis=0)
        crossed = crossed.reshape(len(crossed), -1)
        whole = np.logical_not(crossed.any(axis=1))
        done.append(rest.pick(whole))
        done_inside.append(any_above[whole])
        done_parents.append(parents[whole])
        count += int(whole.sum())

        corners = np.repeat(~whole, rest.sizes)
        rest, above, below = rest.pick(~whole), above[corners], below[corners]
        parents, rounding = np.tile(parents[~whole], 2), np.tile(rounding[~whole], (2, 1))
        kink, unit = np.divmod(crossed[~whole].argmax(axis=1), above.shape[2])
        rest = _split(stage, rest, above, below, unit, kink, np.asarray(values)[kink])
        if len(parents) > most:
            overflow = True
            rest, parents, rounding = rest.head(most), parents[:most], rounding[:most]
    polygons, inside, parents = _Polygons.join(done), np.concatenate(done_inside), np.concatenate(done_parents)
    if len(parents) > most:
        overflow = True
        polygons, inside, parents = polygons.head(most), inside[:most], parents[:most]
    activate(act, polygons.rows[:, stage.writes], polygons.rows[:, stage.writes])
    return polygons, list(np.moveaxis(inside, 1, 0)), parents, overflow


def _sides(
    polygons: _Polygons, stage: Stage, values: tuple[float, ...], rounding: np.ndarray | np.floating
) -> tuple[np.ndarray, np.ndarray]:
    """(corner, kink, hidden): whether a unit lies clearly above a kink, clearly below it."""
    distance = polygons.rows[:, None, stage.writes] - np.asarray(values)[:, None]
    return distance > rounding, distance < -rounding


def _whole(polygons: _Polygons, above: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which polygons no unit crosses, as all their corners lie clearly on one side, and for these which."""
    first = above[polygons.starts()]
    same = (above ^ below) & (above == np.repeat(first, polygons.sizes, axis=0))
    whole = np.logical_and.reduceat(same.reshape(len(same), -1).all(axis=1), polygons.starts())
    return whole, first[whole]


def _split(
    stage: Stage,
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
