"""The partition of input space: how many regions, which ones are near, what lies between inputs, what noise does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import plots
from maso_rnn.codes import count_regions, hamming
from maso_rnn.distances import boundary_distance
from maso_rnn.network import RNN, init, initial_state, last_output, trajectory
from maso_rnn.noise import noise_penalty, random_initial_state
from maso_rnn.parallel import parallel_forward
from maso_rnn.report.document import Picture, Section
from maso_rnn.slices import partition_plane, walk_line

BATCH = 100
SAMPLED = 200  # places at which what is not walked is looked at


def regions(
    epochs: Sequence[int],
    snapshots: Mapping[str, Sequence[RNN]],
    xs: Array,
    *,
    lines: int = 6,
    max_regions: int = 20_000,
) -> Section:
    """The section on how the partition is built up, through time and through training.

    Args:
        epochs: (snapshot,), when the snapshots were taken.
        snapshots: by name, the networks at those epochs; the last one's regions are followed through time.
        xs: (example, time, input), the sequences to count regions of, at least two.
        lines: how many pairs of sequences to walk between: the 1st and 2nd, the 2nd and 3rd, and so on.
        max_regions: the cap of each walk.

    Returns:
        The section.
    """
    lines = min(lines, len(xs) - 1)
    *_, last = snapshots
    through_time = [jax.tree.map(np.asarray, _counts(rnn, xs)) for rnn in snapshots[last]]
    walks = {
        name: [[walk_line(rnn, xs[i], xs[i + 1], max_regions=max_regions) for i in range(lines)] for rnn in rnns]
        for name, rnns in snapshots.items()
    }
    pieces = {name: np.array([[walk.pieces for walk in row] for row in rows]) for name, rows in walks.items()}
    counts = {int(epoch): found.counts for epoch, found in zip(epochs, through_time, strict=True)}
    told_apart = {
        int(epoch): int(np.argmax(found.saturated)) + 1 if found.saturated.any() else None
        for epoch, found in zip(epochs, through_time, strict=True)
    }

    time_figure = plots.new_figure(9, 4.5)
    plots.regions_through_time(counts, sequences=len(xs), axes=time_figure.add_subplot())
    end = told_apart[int(epochs[-1])]
    share = through_time[-1].counts[-1] / len(xs)
    time_reading = (
        f"After training ({last}) the {len(xs)} sequences lie in {through_time[-1].counts[-1]} regions ({share:.0%})"
    )
    time_reading += (
        f"; from step {end} on every one has a region of its own, so that more sequences would show more."
        if end
        else "; some still share one at the end."
    )
    training_figure = plots.new_figure(9, 4.5)
    plots.over_training(epochs, pieces, label="pieces between two sequences", axes=training_figure.add_subplot())
    return Section(
        "regions",
        "Regions",
        "Sequences share a region where every unit at every step is on the same piece of its activation. The count of "
        "distinct codes stops at the number of sequences, which says nothing of the partition; the pieces on the "
        "straight line between two sequences, found exactly, go on counting. Lines are medians, bands quartiles, "
        f"over {lines} pairs.",
        [
            Picture(
                "regions-through-time",
                "How does the partition build up as the sequence is read?",
                time_figure,
                time_reading,
            ),
            Picture(
                "regions-through-training",
                "Does training cut the space between inputs into more pieces?",
                training_figure,
                "; ".join(
                    f"{name}: a median of {np.median(rows[0]):.0f} pieces at the start, "
                    f"{np.median(rows[-1]):.0f} at the end"
                    for name, rows in pieces.items()
                ),
            ),
        ],
        {
            "sequences": len(xs),
            "regions_through_time": {str(epoch): count for epoch, count in counts.items()},
            "step_from_which_all_are_told_apart": {str(epoch): step for epoch, step in told_apart.items()},
            "pieces_between_two_sequences": pieces,
        },
        _cut_short(
            "walks", sum(bool(walk.overflow) for rows in walks.values() for row in rows for walk in row), max_regions
        ),
    )


def code_distances(
    rnn: RNN, xs: Array, labels: Array, *, image_shape: tuple[int, int] | None = None, shown: int = 4
) -> Section:
    """The section on distances between codes: within and between classes, nearest and furthest neighbours.

    Args:
        rnn: the network.
        xs: (example, time, input), the sequences to compare, at least two.
        labels: (example,), their classes.
        image_shape: how a sequence folds into an image.
        shown: how many sequences to draw with their neighbours.

    Returns:
        The section.
    """
    return distance_section(np.asarray(_distances(rnn, xs)), xs, labels, image_shape=image_shape, shown=shown)


def distance_section(
    distances: np.ndarray,
    xs: Array | np.ndarray,
    labels: Array | np.ndarray,
    *,
    image_shape: tuple[int, int] | None = None,
    shown: int = 4,
) -> Section:
    """The section of `code_distances`, once they are measured.

    Args:
        distances: (example, example), between codes.
        xs: (example, time, input), the sequences.
        labels: (example,), their classes.
        image_shape: how a sequence folds into an image.
        shown: how many sequences to draw with their neighbours.

    Returns:
        The section.
    """
    classes = np.asarray(labels)
    pairs = np.triu_indices(len(xs), 1)
    between = distances[pairs]
    same = classes[pairs[0]] == classes[pairs[1]]
    others = distances + np.diag(np.full(len(xs), np.nan))
    nearest, furthest = np.nanargmin(others, axis=1), np.nanargmax(others, axis=1)
    agree = classes[nearest] == classes
    chance = same.mean()

    histogram = plots.new_figure(9, 4)
    plots.within_and_between(between, same, label="share of units on another piece", axes=histogram.add_subplot())
    gallery = plots.new_figure(1.5 * shown + 1.5, 5)
    grid = gallery.subplots(3, min(shown, len(xs)), squeeze=False)
    queries = np.unique(classes, return_index=True)[1][:shown]
    for column, query in zip(grid.T, queries, strict=False):
        for axes, i, name in zip(
            column, (query, nearest[query], furthest[query]), ("sequence", "nearest code", "furthest code"), strict=True
        ):
            plots.sequence(np.asarray(xs[i]), image_shape=image_shape, axes=axes)
            distance = f"\n{distances[query, i]:.1%} of units differ" if name != "sequence" else ""
            axes.set_title(f"class {classes[i]}{distance}", fontsize=9)
            if axes in grid[:, 0]:
                axes.set_ylabel(name)
    for axes in grid.ravel()[len(queries) :] if len(queries) < grid.shape[1] else ():
        axes.set_axis_off()
    within, across = np.median(between[same]), np.median(between[~same])
    return Section(
        "codes",
        "Distances between regions",
        "The distance of two sequences' codes is the share of units, over all steps, that are on different pieces. A "
        "network that sorts its inputs by region puts those of one class nearer to each other.",
        [
            Picture(
                "code-distances",
                "Are the regions of one class nearer to each other than to those of other classes?",
                histogram,
                f"{'Yes' if within < across else 'No'}: the median distance is {within:.3f} within a class and "
                f"{across:.3f} between classes. The nearest neighbour by code has the same class for "
                f"{agree.mean():.0%} of the sequences; by chance it would for {chance:.0%}.",
            ),
            Picture(
                "code-neighbours",
                "Which sequences have the nearest and the furthest code?",
                gallery,
                f"Of the {len(queries)} shown, {int(agree[queries].sum())} have a nearest neighbour of their own "
                f"class, and {int((classes[furthest[queries]] == classes[queries]).sum())} a furthest one.",
            ),
        ],
        {
            "median_within_class": within,
            "median_between_classes": across,
            "nearest_neighbour_has_same_class": agree.mean(),
            "chance_of_same_class": chance,
        },
    )


def digit_walk(
    rnn: RNN,
    start: Array | np.ndarray,
    stop: Array | np.ndarray,
    names: tuple[str, str] = ("start", "stop"),
    *,
    max_regions: int = 20_000,
) -> Section:
    """The section on the straight line between two inputs: every piece, and the class scores along it.

    Args:
        rnn: the network.
        start: (time, input), one end.
        stop: (time, input), the other.
        names: what the ends are.
        max_regions: the cap of the walk.

    Returns:
        The section.
    """
    walk = walk_line(rnn, start, stop, max_regions=max_regions)
    places, outputs = np.concatenate([[0.0], walk.breakpoints, [walk.reached]]), np.asarray(walk.outputs)
    gaps = np.diff(places)
    if walk.overflow:
        beyond = np.linspace(float(walk.reached), 1, SAMPLED + 1)[1:]
        places, outputs = np.append(places, beyond), np.concatenate([outputs, _scores_at(rnn, start, stop, beyond)])
    figure = plots.new_figure(10, 5)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    plots.scores_along(places, outputs, axes=upper)
    plots.breakpoint_density(np.asarray(walk.breakpoints), axes=lower)
    if walk.overflow:
        for axes in (upper, lower):
            axes.axvspan(float(walk.reached), 1, color="#eeeeee", zorder=0)
        lower.text(
            (1 + float(walk.reached)) / 2,
            0.5,
            "sampled, not walked",
            ha="center",
            transform=lower.get_xaxis_transform(),
        )
    lower.set_xlabel(f"from {names[0]} (0) to {names[1]} (1)")
    said = _said_along(outputs)
    way = f"The first {walk.reached:.2g} of the way" if walk.overflow else "The way"
    return Section(
        "walk",
        "A walk between two inputs",
        "On the straight line between two inputs the network is affine between breakpoints, and the walk finds them "
        "all: it carries the state at every breakpoint through time and adds each crossing of a kink.",
        [
            Picture(
                "walk",
                f"What happens to the class scores on the straight way from {names[0]} to {names[1]}?",
                figure,
                f"{way} crosses {walk.pieces} pieces, the shortest {gaps.min():.1e} of its length. From end to end the "
                "network says " + ", then ".join(map(str, said)) + ".",
            )
        ],
        {
            "pieces": walk.pieces,
            "reached": walk.reached,
            "shortest_piece": gaps.min(),
            "median_piece": np.median(gaps),
            "classes_along": said,
        },
        _cut_short("walks", int(walk.overflow), max_regions),
    )


def digit_plane(
    rnn: RNN,
    corners: tuple[Array | np.ndarray, Array | np.ndarray, Array | np.ndarray],
    names: tuple[str, str, str],
    *,
    max_regions: int = 4_000,
    max_along: int = 100_000,
    resolution: int = 200,
) -> Section:
    """The section on the plane through three inputs: where the decision changes, and the pieces around one such place.

    The patch whose pieces are drawn is as large as `max_regions` pieces are expected to fill, by the walks along the
    two sides.

    Args:
        rnn: the network.
        corners: three inputs (time, input), at (0, 0), (1, 0) and (0, 1).
        names: what they are.
        max_regions: the cap of the partition.
        max_along: the cap of the walks along the sides; what lies beyond it is taken to be as dense.
        resolution: points to a side at which the class is evaluated, for the decision boundary.

    Returns:
        The section.
    """
    origin, second, third = (np.asarray(corner, np.float64) for corner in corners)
    u, v = second - origin, third - origin
    sides = [walk_line(rnn, origin, end, max_regions=max_along) for end in (second, third)]
    across = [round(int(walk.pieces) / float(walk.reached)) for walk in sides]
    side = min(1.0, float(np.sqrt(0.5 * max_regions / (across[0] * across[1]))))
    whole = _class_grid(rnn, origin, u, v, resolution)
    middle = _closer(rnn, origin, np.stack([u, v]), _decision_near(whole, (1 / 3, 1 / 3)))
    corner = np.clip(middle - side / 2, 0, 1 - side)
    patch_origin = origin + corner[0] * u + corner[1] * v
    plane = partition_plane(rnn, patch_origin, side * u, side * v, max_regions=max_regions)
    covered = float(plane.areas.sum())
    expected = len(plane.areas) / (covered * side**2)

    figure = plots.new_figure(12, 5.5)
    left, right = figure.subplots(1, 2)
    extent = (corner[0], corner[0] + side, corner[1], corner[1] + side)
    plots.plane(whole, axes=left)
    plots.mark_corners(names, axes=left)
    left.add_patch(plots.frame(extent))
    if side < 0.05:  # a frame too small to see is ringed
        left.plot(*(corner + side / 2), "o", color="black", markersize=16, markerfacecolor="none", markeredgewidth=1.5)
    plots.plane(
        _class_grid(rnn, patch_origin, side * u, side * v, resolution),
        polygons=[corner + side * polygon for polygon in plane.polygons],
        extent=extent,
        classes_shown=np.unique(whole),
        axes=right,
    )
    left.set_title("the plane, by the class that the network says")
    right.set_title(f"the {'framed' if side >= 0.05 else 'ringed'} patch, a side of {side:.3g}, with all its pieces")
    classes, points = np.unique(whole, return_counts=True)
    return Section(
        "plane",
        "A plane through three inputs",
        "The plane through three inputs is cut into convex polygons, on each of which the network is affine. In the "
        "patch every one of them is found; it is as small as it must be for its pieces to be told apart by eye.",
        [
            Picture(
                "plane",
                f"Into which pieces does the network cut the plane through {names[0]}, {names[1]} and {names[2]}, and "
                "where does its decision change?",
                figure,
                f"The patch holds {len(plane.areas)} pieces, {expected:.2g} to the area of the whole, whose sides "
                f"cross {across[0]} and {across[1]}. The decision runs across many pieces. The network says "
                f"{', '.join(map(str, classes))} on the plane.",
            )
        ],
        {
            "pieces_along_the_sides": across,
            "patch_side": side,
            "pieces_in_patch": len(plane.areas),
            "share_of_patch_covered": covered,
            "pieces_to_the_plane_at_that_density": expected,
            "smallest_area": plane.areas.min() * side**2,
            "share_of_each_class": {str(c): n / whole.size for c, n in zip(classes, points, strict=True)},
        },
        [
            *_cut_short("partitions", int(plane.overflow), max_regions),
            *_cut_short("walks along the sides", sum(int(walk.overflow) for walk in sides), max_along),
        ],
    )


def _said_along(outputs: np.ndarray) -> list[int]:
    """The classes that win one after the other, from outputs (breakpoint, class) that are affine in between."""
    said = [int(outputs[0].argmax())]
    for first, last in itertools.pairwise(outputs):
        pace, place = last - first, 0.0
        while True:
            lead, gain = first[said[-1]] - first, pace - pace[said[-1]]
            overtakes = np.where(gain > 0, lead / np.where(gain > 0, gain, 1), np.inf).clip(place)
            place = overtakes.min()
            if place > 1 or not np.isfinite(place):
                break
            said.append(int(np.flatnonzero(overtakes == place)[gain[overtakes == place].argmax()]))
    return said


def _scores_at(rnn: RNN, start: Array | np.ndarray, stop: Array | np.ndarray, places: np.ndarray) -> np.ndarray:
    """(place, output): the last step's outputs at places on a line."""
    start, stop = (np.asarray(end, np.float64) for end in (start, stop))
    xs = (start + places[:, None, None] * (stop - start)).astype(rnn.readout.kernel.dtype)
    return np.asarray(jax.jit(jax.vmap(lambda x: last_output(rnn, x)))(xs), np.float64)


def _class_grid(rnn: RNN, origin: np.ndarray, u: np.ndarray, v: np.ndarray, resolution: int) -> np.ndarray:
    """The class said at each point of a grid over the parallelogram, rows along v."""
    dtype = rnn.readout.kernel.dtype
    return np.asarray(_classes(rnn, *(jnp.asarray(x, dtype) for x in (origin, u, v)), resolution))


def _decision_near(classes: np.ndarray, place: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Of the neighbours on the grid between which the class changes, those nearest to `place`; else `place` twice."""
    here = [(b, a, 0, 1) for b, a in np.argwhere(classes[:, 1:] != classes[:, :-1])]
    here += [(b, a, 1, 0) for b, a in np.argwhere(classes[1:] != classes[:-1])]
    if not here:
        return np.asarray(place), np.asarray(place)
    rows = np.asarray(here)
    last = np.asarray(classes.shape[::-1]) - 1
    first, second = rows[:, 1::-1] / last, (rows[:, :2] + rows[:, 2:])[:, ::-1] / last
    nearest = np.linalg.norm((first + second) / 2 - place, axis=1).argmin()
    return first[nearest], second[nearest]


def _closer(rnn: RNN, origin: np.ndarray, sides: np.ndarray, ends: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The place between two of a plane where the class changes, much nearer than they are to each other."""
    first, second = ends
    places = np.linspace(0, 1, SAMPLED)
    for _ in range(2):
        one, other = (origin + np.tensordot(end, sides, axes=1) for end in (first, second))
        changes = np.flatnonzero(np.diff(_scores_at(rnn, one, other, places).argmax(axis=1)))
        at = places[changes[0] : changes[0] + 2] if len(changes) else (0.5, 0.5)
        first, second = (first + part * (second - first) for part in at)
    return (first + second) / 2


def boundary_distances(networks: Mapping[str, RNN], xs: Array, labels: Array) -> Section:
    """The section on the distance to the nearest kink, for right and for wrong predictions.

    Args:
        networks: by name, the networks to compare.
        xs: (example, time, input), sequences of at least two steps that the networks were not trained on.
        labels: (example,), their classes.

    Returns:
        The section.
    """
    values: dict[str, Any] = {}
    readings = []
    figure = plots.new_figure(5.5 * len(networks), 7)
    rows = figure.subplots(2, len(networks), squeeze=False)
    for column, (name, rnn) in zip(rows.T, networks.items(), strict=True):
        *distances, said = map(np.asarray, _to_walls(rnn, xs))
        right = said == np.asarray(labels)
        values[name] = {}
        for axes, part, found in zip(column, ("whole", "second half"), distances, strict=True):
            on_kink = found == 0
            title = f"{name}, {part}: {on_kink.mean():.0%} exactly on a kink"
            if on_kink.all():
                axes.set(title=title, xticks=[], yticks=[])
                axes.text(0.5, 0.5, "every input lies on a wall", ha="center", transform=axes.transAxes)
            else:
                logs = np.log10(np.where(on_kink, np.nan, found))
                plots.right_and_wrong(logs, right, label="log10 of the distance", title=title, axes=axes)
            medians = [float(np.median(found[chosen])) if chosen.any() else None for chosen in (right, ~right)]
            values[name][part] = {
                "on_a_kink": on_kink.mean(),
                "median_right": medians[0],
                "median_wrong": medians[1],
                "share_of_pairs_where_the_wrong_one_is_nearer": nearer(found[~right], found[right]),
            }
        half = values[name]["second half"]
        if half["on_a_kink"] == 1:
            readings.append(f"{name}: every input lies exactly on a wall, over the second half too")
        elif half["share_of_pairs_where_the_wrong_one_is_nearer"] is None:
            readings.append(f"{name}: all predictions are alike, right or wrong")
        else:
            readings.append(
                f"{name}: over the second half the median is {half['median_right']:.2g} where right, "
                f"{half['median_wrong']:.2g} where wrong, and of a wrong and a right one the wrong one is nearer in "
                f"{half['share_of_pairs_where_the_wrong_one_is_nearer']:.0%} of pairs (half would be chance)"
            )
    return Section(
        "boundary",
        "The nearest wall",
        "The distance from an input to the nearest wall of its region: how far the input may move, in any direction, "
        "before some unit at some step changes its piece. It is exact, from the pre-activations and the norms of their "
        "gradients. Where sequences begin alike, as with black pixels, their nearest wall is often the same one at the "
        "first steps; below, the distance over the second half of the steps alone, from the state then reached.",
        [
            Picture(
                "boundary-distance",
                "Are inputs that the network gets wrong nearer to a wall of their region?",
                figure,
                "; ".join(readings) + ".",
            )
        ],
        values,
    )


def noise(
    networks: Mapping[str, RNN],
    xs: Array,
    labels: Array,
    *,
    key: Array,
    scales: Sequence[float] = (1e-3, 1e-2, 0.1, 1.0),
    pairs: int = 50,
) -> Section:
    """The section on noise on the initial state: the loss it adds, measured and predicted.

    Args:
        networks: by name, the networks to compare.
        xs: (example, time, input), the sequences to measure on, of at least two steps.
        labels: (example,), their classes.
        key: draws the initial states.
        scales: (scale,), the standard deviations of the noise.
        pairs: antithetic pairs of initial states for each sequence.

    Returns:
        The section.
    """
    half = xs.shape[1] // 2
    found = {}
    with jax.enable_x64(True):  # differences of losses of 1e-9 are beyond float32
        wide = jnp.asarray(np.asarray(xs, np.float64))
        for name, rnn in networks.items():
            double = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, np.float64)), rnn)
            begin, middle = _states(double, wide, half)
            for place, start, rest in (("start", begin, wide), ("middle", middle, wide[:, half:])):
                gaps = _gaps(double, rest, labels, start, key, jnp.asarray(scales, float), pairs)
                found[f"{name}, from the {place}"] = jax.tree.map(np.asarray, gaps)
    figure = plots.new_figure(12, 4.5)
    left, right = figure.subplots(1, 2)
    plots.measured_and_predicted(scales, {n: (f.measured, f.stderr, f.predicted) for n, f in found.items()}, axes=left)
    plots.region_changes(scales, {name: f.left for name, f in found.items()}, axes=right)
    readings = [
        f"{name}: "
        + ", ".join(
            f"{_times_predicted(f, i)} at σ = {scales[i]:g}, where {f.left[i]:.0%} of samples leave their region"
            for i in (0, -1)
        )
        for name, f in found.items()
    ]
    return Section(
        "noise",
        "Noise on the initial state",
        "Noise of standard deviation σ on a state adds to the expected loss, to second order and while it stays on the "
        "piece, σ²/2 times the trace of the loss's Hessian with the slope in that state. Measured with antithetic "
        f"pairs, cross-entropy, mean over {len(xs)} sequences, {pairs} pairs each; bars are two standard errors. The "
        "noise is put on the initial state, and on the state in the middle of the sequence: from h0 = 0 and black "
        "pixels units start on or next to their kinks, where every noise leaves the piece, and its cost is then of "
        "first order in σ.",
        [
            Picture(
                "noise-penalty",
                "Does the penalty predict what noise on the state costs, and does the noise stay on the piece?",
                figure,
                "; ".join(readings) + ".",
            )
        ],
        {
            name: {"scales": np.asarray(scales), **{field: getattr(f, field) for field in f._fields}}
            for name, f in found.items()
        },
    )


def rounds(
    trained: Mapping[str, RNN],
    xs: Array,
    *,
    key: Array,
    lengths: Sequence[int] = (8, 16, 32, 64),
    hidden: int = 32,
) -> Section:
    """The section on parallel evaluation: how many rounds it takes, by length, start and training.

    Args:
        trained: by name, networks whose rounds are counted beside those of fresh ones.
        xs: (example, time, input), the sequences to read, each cut to the lengths.
        key: draws the fresh networks.
        lengths: the numbers of steps.
        hidden: units of the fresh networks.

    Returns:
        The section.
    """
    lengths = [length for length in lengths if length <= xs.shape[1]]

    def eye(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        return jnp.eye(shape[0], dtype=dtype)

    starts = {"orthogonal": jax.nn.initializers.orthogonal(), "identity": eye, "He": jax.nn.initializers.he_normal()}
    outputs = next((rnn.readout.kernel.shape[1] for rnn in trained.values()), 1)

    @jax.jit
    def fresh(key: Array) -> dict[str, RNN]:
        return {
            f"{name} start": init(
                key,
                xs.shape[2],
                [hidden],
                outputs,
                recurrent_init=start,
                bias_init=jax.nn.initializers.normal(0.1),
                dtype=xs.dtype,
            )
            for name, start in starts.items()
        }

    networks = {**fresh(key), **trained}
    found = {name: np.array([_rounds(rnn, xs[:, :length]) for length in lengths]) for name, rnn in networks.items()}
    counted = {name: rows[:, 0] for name, rows in found.items()}
    lost = {name: int(rows[:, 1].sum()) for name, rows in found.items()}
    figure = plots.new_figure(8, 4.5)
    plots.rounds_by_length(lengths, counted, axes=figure.add_subplot())
    return Section(
        "parallel",
        "All steps at once (experimental)",
        "Guess every code, solve the linear recurrence that they make in parallel over time, correct the codes, repeat "
        "until none changes: then it is the sequential answer. At most steps + layers rounds; the fewer, the more "
        f"there is to gain on an accelerator. Mean over {len(xs)} sequences; fresh networks have {hidden} units.",
        [
            Picture(
                "parallel-rounds",
                "How many rounds does it take to find the codes of all steps at once?",
                figure,
                "; ".join(f"{name}: {row[-1]:.1f} rounds for {lengths[-1]} steps" for name, row in counted.items())
                + ".",
            )
        ],
        {"lengths": np.asarray(lengths), "rounds": counted, "not_converged": lost},
        [f"{name}: {count} evaluations did not converge" for name, count in lost.items() if count],
    )


class _Gaps(NamedTuple):
    """Over sequences, for each scale: the loss that noise adds, its standard error, the penalty, who left."""

    measured: Array
    stderr: Array
    predicted: Array
    left: Array


def _times_predicted(gaps: _Gaps, i: int) -> str:
    if gaps.predicted[i] == 0:
        return f"{gaps.measured[i]:.2g} ± {2 * gaps.stderr[i]:.1g} where the prediction is nothing"
    ratio, error = gaps.measured[i] / gaps.predicted[i], 2 * gaps.stderr[i] / gaps.predicted[i]
    return f"{ratio:.2g} ± {error:.1g} times the prediction"


def _cut_short(what: str, count: int, cap: int) -> list[str]:
    return [f"{count} of the {what} hit the cap of {cap} pieces: what is shown is part of the answer"] if count else []


def nearer(a: np.ndarray, b: np.ndarray) -> float | None:
    """Of all pairs of one of each, the share in which the one of `a` is the smaller; ties count half."""
    if not len(a) or not len(b):
        return None
    return float((a[:, None] < b).mean() + (a[:, None] == b).mean() / 2)


@jax.jit
def _counts(rnn: RNN, xs: Array) -> Any:
    return count_regions(jax.lax.map(lambda x: trajectory(rnn, x).codes, xs, batch_size=min(BATCH, len(xs))))


@jax.jit
def _distances(rnn: RNN, xs: Array) -> Array:
    codes = jax.lax.map(lambda x: trajectory(rnn, x).codes, xs, batch_size=min(BATCH, len(xs)))
    return jax.lax.map(lambda own: jax.vmap(hamming, (None, 0))(own, codes), codes)


@jax.jit
def _to_walls(rnn: RNN, xs: Array) -> tuple[Array, Array, Array]:
    """Over the whole sequence, over its second half alone from the state then reached, and the class said."""
    half = xs.shape[1] // 2

    def one(x: Array) -> tuple[Array, Array, Array]:
        run = trajectory(rnn, x)
        middle = tuple(h[half - 1] for h in run.states)
        return boundary_distance(rnn, x), boundary_distance(rnn, x[half:], middle), run.outputs[-1].argmax()

    return jax.lax.map(one, xs, batch_size=min(BATCH, len(xs)))


@partial(jax.jit, static_argnames="resolution")
def _classes(rnn: RNN, origin: Array, u: Array, v: Array, resolution: int) -> Array:
    places = jnp.linspace(0, 1, resolution, dtype=origin.dtype)

    def row(b: Array) -> Array:
        return jax.vmap(lambda a: last_output(rnn, origin + a * u + b * v).argmax())(places)

    return jax.lax.map(row, places)


@partial(jax.jit, static_argnames="half")
def _states(rnn: RNN, xs: Array, half: int) -> tuple[Any, Any]:
    """For every sequence the initial state, and the state after `half` steps."""

    def one(x: Array) -> tuple[Any, Any]:
        return initial_state(rnn), tuple(h[half - 1] for h in trajectory(rnn, x).states)

    return jax.lax.map(one, xs)


@partial(jax.jit, static_argnames="pairs")
def _gaps(rnn: RNN, xs: Array, labels: Array, states: Any, key: Array, scales: Array, pairs: int) -> _Gaps:
    """Antithetic pairs: the odd orders cancel, so that few pairs tell the second one."""

    def loss(z: Array, label: Array) -> Array:
        return jax.nn.logsumexp(z) - z[label]

    def one(row: tuple[Array, Array, Any, Array]) -> _Gaps:
        x, label, h0, key = row
        here = trajectory(rnn, x, h0)
        mean = jax.tree.map(jnp.zeros_like, h0)

        def run(noise: Any) -> tuple[Array, Array]:
            there = trajectory(rnn, x, jax.tree.map(jnp.add, h0, noise))
            left = jnp.stack([(a != b).any() for a, b in zip(there.codes, here.codes, strict=True)]).any()
            return loss(there.outputs[-1], label) - loss(here.outputs[-1], label), left.astype(x.dtype)

        def at(scale: Array, key: Array) -> _Gaps:
            def pair(key: Array) -> tuple[Array, Array]:
                noise = random_initial_state(key, mean, scale)
                (up, left_up), (down, left_down) = run(noise), run(jax.tree.map(jnp.negative, noise))
                return (up + down) / 2, (left_up + left_down) / 2

            gaps, left = jax.vmap(pair)(jax.random.split(key, pairs))
            predicted = noise_penalty(rnn, x, h0, scale=scale, loss=lambda z: loss(z, label))
            return _Gaps(gaps.mean(), gaps.var(ddof=1) / pairs, predicted, left.mean())

        return jax.vmap(at)(scales, jax.random.split(key, len(scales)))

    found = jax.lax.map(one, (xs, labels, states, jax.random.split(key, len(xs))))
    mean = jax.tree.map(lambda values: values.mean(axis=0), found)
    return mean._replace(stderr=jnp.sqrt(mean.stderr / len(xs)))


@jax.jit
def _rounds(rnn: RNN, xs: Array) -> tuple[Array, Array]:
    results = jax.lax.map(lambda x: parallel_forward(rnn, x)[1:], xs)
    return results[0].mean(), (~results[1]).sum()
