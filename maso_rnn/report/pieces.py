"""The sections on a network that is made of affine pieces: templates, regions, codes, a walk, a plane, the walls."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import plots, style
from maso_rnn.activations import require_pieces
from maso_rnn.affine import affine_map
from maso_rnn.attribution import integrated_gradients
from maso_rnn.bounds import certified_radius
from maso_rnn.codes import count_regions, unpack
from maso_rnn.counterfactuals import nearest_change
from maso_rnn.distances import boundary_distance
from maso_rnn.network import RNN, initial_state, last_output, trajectory
from maso_rnn.report.document import Picture, Section
from maso_rnn.report.reading import BATCH_BYTES, CODE_BYTES, PIECES, Pieces, Reading
from maso_rnn.slices import decision_boundary, decisions, partition_plane, walk_line

COMPARED = 1e10  # bytes of codes compared, over all pairs twice
WALLS = 100  # sequences whose nearest wall is looked for, over fewer steps where need be
JUDGED, TRIES = 30, 12  # sequences for medians of proved radii; radii that are tried for each
SAMPLED = 200  # places at which what is not walked is looked at


def _of(found: Reading) -> tuple[RNN, Pieces]:
    assert isinstance(found.network, RNN)
    assert found.pieces is not None
    return found.network, found.pieces


def templates(found: Reading) -> Section:
    """What the templates look like, whether the right one wins, and what carries the output."""
    rnn, pieces = _of(found)
    right, margin, shares = found.right, pieces.margin, pieces.shares
    wins = {"right": _mean(margin[right] > 0), "wrong": _mean(margin[~right] > 0)}
    kind = "right class" if found.labels is not None else "class said"
    figure = style.new_figure(8, 4)
    axes = figure.add_subplot()
    label = f"template margin (logits): above 0 the template of the {kind} matches best"
    plots.right_and_wrong(margin, right, label=label, names=found.groups, axes=axes)
    axes.axvline(0, color=style.INK, linewidth=1)
    bars = style.new_figure(8, 1.5)
    _share_bar(bars.add_subplot(), shares)
    most = max(shares, key=lambda part: shares[part])
    reading = f"For {(margin > 0).mean():.0%} of the sequences, those with a margin above 0" + (
        f": {_share(wins['right'])} of those predicted right, {_share(wins['wrong'])} of those predicted wrong."
        if found.labels is not None
        else "."
    )
    chance = np.unique(found.truth, return_counts=True)[1].max() / len(right)
    answers = [] if found.labels is None else [accuracy(found, float(chance))]
    parts = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
    return Section(
        "templates",
        "Templates",
        "On the piece of input space around one sequence the network is exactly an affine map, output = slope · x + "
        "initial slope · h0 + offset. Its slope holds one template for each class; the inner product of a template "
        f"with the input is its match score, and the template margin is the {kind}'s score less the best other. What "
        "carries the output is measured as the mean size of each part about its mean over the classes, with initial "
        f"states drawn at scale {found.noise_scale:g}, on {min(100, len(right))} sequences.",
        [
            template_picture(found, lambda x: np.asarray(affine_map(rnn, x).slope), pieces.scores),
            Picture("margins", f"Does the template of the {kind} match best?", figure, reading),
            Picture("shares", "What carries the output: slope, initial state or offset?", bars, f"Mostly the {most}."),
        ],
        {
            "examples": len(right),
            "accuracy": None if found.labels is None else right.mean(),
            "commonest_class": chance,
            "identity_error": pieces.identity_error,
            "template_wins": (margin > 0).mean(),
            "template_wins_where_right": wins["right"],
            "template_wins_where_wrong": wins["wrong"],
            "median_margin_right": _median(margin[right]),
            "median_margin_wrong": _median(margin[~right]),
            "shares": shares,
        },
        ["No labels were given: the class that the network says stands for them."] * (found.labels is None),
        [
            *answers,
            f"Its answers are made of {parts}; the template of the {kind} matches best for {(margin > 0).mean():.0%}.",
        ],
    )


def accuracy(found: Reading, chance: float) -> str:
    """The line of the summary on how often the network is right."""
    said = f"It is right for {found.right.mean():.1%} of {len(found.right)} sequences"
    warning = (
        " It may not be the network that these labels are of, or not its activation."
        if (found.right.mean() <= chance)
        else ""
    )
    return f"{said}; the commonest class makes {chance:.1%} of them.{warning}"


def template_picture(found: Reading, slope_at: Any, scores: np.ndarray, *, most: int = 10) -> Picture:
    """Some sequences predicted right and one wrong, each beside the templates of the right class and the best others.

    Where nothing folds into an image the templates are strips, one below another, and three sequences are drawn.
    """
    shape = found.image_shape
    wrong = np.flatnonzero(~found.right)[:1].tolist()
    firsts = [i for i in found.of_different_classes(20) if found.right[i]]
    count = 5 if shape else 3
    shown = firsts[:: max(1, len(firsts) // (count - 1))][: count - len(wrong)] + wrong
    classes = scores.shape[1]
    panels = 1 + min(classes, most)
    if shape:
        figure = style.new_figure(min(style.PAGE, 1.05 * panels + 0.4), 1.2 * len(shown) + 0.7)
        grid = figure.subplots(len(shown), panels, squeeze=False)
    else:
        figure = style.new_figure(style.PAGE, 0.55 * panels + 1.2)
        grid = figure.subplots(panels, len(shown), squeeze=False).T
    for axes, i in zip(grid, shown, strict=True):
        said, ranking = found.said[i], np.argsort(-scores[i], kind="stable")
        leading = np.concatenate([[found.truth[i]], ranking[ranking != found.truth[i]][: most - 1]])
        plots.templates_beside_input(
            np.asarray(found.sequence(i)),
            slope_at(found.sequence(i)),
            name="input" if found.labels is None else f"input: {found.labels[i]}",
            said=f"says {said}" + ("" if found.labels is None else ", right" if found.right[i] else ", WRONG"),
            shown=np.sort(leading).tolist(),
            image_shape=shape,
            axes=axes,
        )
    place, then = ("Left", "Then") if shape else ("Top", "Below")
    figure.suptitle(
        f"{place}: the input and what the network says. {then}: the template of each class, with its match score\n"
        "template · input; the best is framed. Input under red adds to the class, under blue takes from it.",
        fontsize=style.LABEL,
    )
    wins = sum(int(scores[i].argmax() == found.truth[i]) for i in shown)
    winner = "that of the class it says" if found.labels is None else "that of the right class"
    reading = f"The template that matches best is {winner} for {wins} of the {len(shown)} inputs shown."
    if classes > most:
        reading += f" Of {classes} classes the {most} are drawn whose templates match best."
    question = "Which template does each input meet, and which class's matches it best?"
    return Picture("templates", question, figure, reading, leads=True)


def _share_bar(axes: Any, shares: dict[str, float]) -> None:
    left = 0.0
    for (part, share), colour in zip(shares.items(), style.COLOURS, strict=False):
        axes.barh([0], [share], left=left, color=colour, label=f"{part}: {share:.0%}")
        left += share
    axes.set(xlim=(0, 1), yticks=[], xlabel="share of the size of the logits about their mean")
    style.legend(axes, ncols=3, loc="lower left", bbox_to_anchor=(0.0, 1.0))


def attributions(found: Reading) -> Section | None:
    """What the piece of an input says of it, against what all pieces on the way to it say."""
    rnn, _ = _of(found)
    if len(found.xs) < 2:
        return None
    shape, cap = found.image_shape, found.affordable(found.work, _most_pieces(found))
    told: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    crossed, apart = [], []
    for i in found.of_different_classes(3):
        x = np.asarray(found.sequence(i), np.float64)
        baseline = np.broadcast_to(found.mean_input.astype(np.float64), x.shape)
        try:
            way = integrated_gradients(rnn, x, baseline, max_regions=cap)
        except ValueError:  # all else fits: there are more pieces
            continue
        alone = np.asarray(affine_map(rnn, found.sequence(i)).slope, np.float64)[found.said[i]] * (x - baseline)
        whole = np.asarray(way.values[found.said[i]])
        told[i] = (x, alone, whole)
        crossed.append(int(way.pieces))
        apart.append(np.linalg.norm(alone - whole) / max(float(np.linalg.norm(whole)), np.finfo(float).tiny))
    if not told:
        return None
    rows = len(told)
    figure = style.new_figure(5.4, 1.7 * rows) if shape else style.new_figure(8, 2.4 * rows)
    grid = figure.subplots(rows, 3) if shape else figure.subplots(3 * rows, 1)
    for axes, (i, (x, *parts)) in zip(np.reshape(grid, (-1, 3)), told.items(), strict=True):
        plots.sequence(x, image_shape=shape, axes=axes[0])
        axes[0].set_title(f"input: says {found.said[i]}", fontsize=style.SMALL)
        limit = max(float(np.abs(part).max()) for part in parts) or 1.0
        for panel, name, part in zip(axes[1:], ("its piece alone", "the whole way"), parts, strict=True):
            plots.template(part, image_shape=shape, limit=limit, axes=panel)
            panel.set_title(f"{name}: {part.sum():+.1f}", fontsize=style.SMALL)
    figure.supxlabel("red adds to the class said, blue takes from it", fontsize=style.SMALL)
    middle = float(np.median(apart))
    answer = (
        f"{'Nearly' if middle < 0.1 else 'No'}: what the piece of the input says is off by {middle:.0%} of what all "
        f"{np.median(crossed):.0f} pieces on the way say (medians of {rows})."
    )
    return Section(
        "attributions",
        "What the input added",
        "From the mean input, held at every step, straight to the input: what a step adds to the output of the class "
        "said is what it moves by, times the slope of every piece on the way, weighed by how long the piece is. All "
        "steps together add what the output changes by. The template of the input's own piece, the last of them, says "
        "this of the whole way only if all pieces are alike.",
        [Picture("attributions", "Does the piece of an input say what the whole way to it says?", figure, answer)],
        {"pieces": crossed, "relative_difference": apart},
    )


def regions(found: Reading) -> Section:
    """How many regions the sequences fall into, step by step."""
    _, pieces = _of(found)
    time, count = found.xs.shape[1], len(pieces.kept)
    codes = (jnp.asarray(pieces.packed).reshape(count, time, -1),)
    counted = jax.tree.map(np.asarray, count_regions(codes, jnp.asarray(found.lengths[pieces.kept])))
    alone = int(np.argmax(counted.saturated)) + 1 if counted.saturated.any() else None
    figure = style.new_figure(9, 4)
    plots.regions_through_time({"regions": counted.counts}, sequences=count, axes=figure.add_subplot())
    answer = f"The {count} sequences end in {counted.counts[-1]} regions" + (
        f"; from step {alone} on each has one of its own." if alone else "; some share one."
    )
    return Section(
        "regions",
        "Regions",
        "Sequences share a region where every unit at every step is on the same piece of its activation: there the "
        "network is one affine map. The count of distinct codes cannot exceed the number of sequences, so that more "
        "sequences would show more.",
        [Picture("regions-through-time", "When does each input get an affine map of its own?", figure, answer)],
        {
            "sequences": count,
            "regions_through_time": counted.counts,
            "step_from_which_all_are_told_apart": alone,
        },
    )


def codes(found: Reading) -> Section | None:
    """How a code goes through time, how the codes of the classes part, and who is near whom."""
    rnn, pieces = _of(found)
    if len(pieces.kept) < 3:
        return None
    common = int(found.lengths.min())  # what all sequences have is compared
    steps = pieces.packed.reshape(len(pieces.kept), found.xs.shape[1], -1)[:, :common]
    truth = found.truth[pieces.kept]
    few = found.of_different_classes(3)
    shown = [
        [np.asarray(code) for code in unpack(steps[i].reshape(-1), rnn)] for i in np.searchsorted(pieces.kept, few)
    ]
    layers = [np.stack(layer) for layer in zip(*shown, strict=True)]  # for each (example, time, hidden)
    bars = style.new_figure(style.PAGE, 4.5)
    panels = bars.subplots(1, len(few), squeeze=False)[0]
    for axes, i, code in zip(panels, few, shown, strict=True):
        plots.barcode(code, order=plots.barcode_order(layers), axes=axes)
        axes.set_title(found.named(i), loc="left", pad=24)
    for axes in panels[1:]:  # one legend and one scale do for all
        axes.get_legend().remove()
        axes.set_yticks([])
    always = np.mean(np.concatenate([(layer == layer[:1, :1]).all(axis=(0, 1)) for layer in layers]))
    running = layers[: rnn.every_step]
    flips = np.mean([(layer[:, 1:] != layer[:, :-1]).mean() for layer in running]) if common > 1 else 0.0

    times = np.unique(np.linspace(common / 4, common, 4).round().astype(int).clip(1))
    maps = style.new_figure(9, 4.5 * -(-len(times) // 2))
    agree = {}
    for axes, t in zip(maps.subplots(-(-len(times) // 2), 2, squeeze=False).ravel(), times, strict=False):
        at = [np.asarray(code)[:, 0] for code in unpack(steps[:, t - 1], rnn)]
        values = np.concatenate(at, axis=1).astype(np.float32)
        plots.code_map(values, truth, axes=axes)
        apart = ((values**2).sum(1)[:, None] + (values**2).sum(1) - 2 * values @ values.T).round()
        agree[int(t)] = _nearest_agree(apart, truth)
        axes.set_title(f"after step {t}: nearest is own class for {agree[int(t)]:.0%}")
    for axes in maps.axes[len(times) :]:
        axes.set_visible(False)
    same = truth[:, None] == truth
    chance = float((same.sum() - len(truth)) / (len(truth) * (len(truth) - 1)))

    most = int(np.clip(np.sqrt(COMPARED / steps[0].size), 3, len(steps)))
    compared = np.unique(np.linspace(0, len(steps) - 1, most).round().astype(int))
    classes = truth[compared]
    distances = _distances(steps[compared].reshape(len(compared), -1), rnn, common)
    pairs = np.triu_indices(len(compared), 1)
    alike = classes[pairs[0]] == classes[pairs[1]]
    histogram = style.new_figure(9, 4)
    plots.within_and_between(
        distances[pairs], alike, label="share of units on another piece", axes=histogram.add_subplot()
    )
    within, across = _median(distances[pairs][alike]), _median(distances[pairs][~alike])
    nearer = within is not None and across is not None and within < across
    nearest = _nearest_agree(distances, classes)
    kind = "class" if found.labels is not None else "class said"
    answer = f"{'Yes' if nearer else 'No'}: " + (
        f"codes of one {kind} differ in {_share(within)} of the units, codes of two in {_share(across)}."
    )
    return Section(
        "codes",
        "Codes",
        "A code says which piece of its activation every unit is on at every step: equal codes, one affine map. The "
        "distance of two codes is the share of units, over all steps, that are on different pieces"
        + (
            f"; the first {common} steps are compared, which all sequences have."
            if found.lengths.max() > common
            else "."
        ),
        [
            Picture(
                "barcode",
                "Which units switch while a sequence is read, and do different inputs switch different ones?",
                bars,
                f"{always:.0%} of the units stay on one piece all the time in all {len(few)}; at a step {flips:.1%} of "
                "the units change theirs.",
            ),
            Picture(
                "code-map",
                f"Do the codes of one {kind} come together as time goes on?",
                maps,
                f"{_come_together(list(agree.values()))}: the nearest code has the same class for "
                + ", ".join(f"{share:.0%} after step {t}" for t, share in agree.items())
                + f"; by chance for {chance:.0%}.",
            ),
            Picture(
                "code-distances",
                f"Are the regions of one {kind} nearer to each other than to those of others?",
                histogram,
                f"{answer} The nearest code has the same class for {nearest:.0%} (by chance {chance:.0%}).",
            ),
            _neighbours(found, pieces.kept[compared], distances),
        ],
        {
            "median_within_class": within,
            "median_between_classes": across,
            "nearest_neighbour_has_same_class": nearest,
            "chance_of_same_class": chance,
            "compared": len(compared),
            "units_on_one_piece": always,
            "units_that_change_at_a_step": flips,
            "nearest_code_has_same_class_after_step": agree,
        },
        answers=[
            f"The nearest code is of the same {kind} for {nearest:.0%} of the sequences (by chance {chance:.0%})."
        ],
    )


def _come_together(shares: list[float]) -> str:
    """Whether shares of neighbours of the same class rise from the first to the last."""
    gained = shares[-1] - shares[0]
    return "Yes" if gained > 0.1 else "No" if gained < 0 else "Hardly"


def _nearest_agree(apart: np.ndarray, truth: np.ndarray) -> float:
    """How often the nearest other one has the same class; of several that are as near, the mean."""
    apart = apart + np.diag(np.full(len(apart), np.inf))
    nearest = apart == apart.min(axis=1, keepdims=True)
    return float(((truth[:, None] == truth) & nearest).sum(1) @ (1 / nearest.sum(1)) / len(truth))


def _neighbours(found: Reading, chosen: np.ndarray, distances: np.ndarray, count: int = 4) -> Picture:
    """Sequences of different classes, with the nearest and the furthest code below each."""
    truth = found.truth[chosen]
    queries = np.unique(truth, return_index=True)[1][:count]
    others = distances + np.diag(np.full(len(chosen), np.nan))
    rows = {"sequence": queries}
    rows |= {"nearest code": np.nanargmin(others, axis=1)[queries]}
    rows |= {"furthest code": np.nanargmax(others, axis=1)[queries]}
    figure = style.new_figure(1.9 * len(queries) + 1, 5.4)
    for line, (name, row) in zip(figure.subplots(3, len(queries), squeeze=False), rows.items(), strict=True):
        line[0].set_ylabel(name)
        for axes, query, i in zip(line, queries, row, strict=True):
            plots.sequence(np.asarray(found.sequence(chosen[i])), image_shape=found.image_shape, axes=axes)
            differ = "" if i == query else f"\n{distances[query, i]:.1%} of units differ"
            axes.set_title(f"class {truth[i]}{differ}", fontsize=style.SMALL)
    own = {name: int((truth[row] == truth[queries]).sum()) for name, row in rows.items()}
    return Picture(
        "code-neighbours",
        "Which sequences have the nearest and the furthest code?",
        figure,
        f"Of the {len(queries)} shown, {own['nearest code']} have a nearest code of their own class, and "
        f"{own['furthest code']} a furthest one.",
    )


def _distances(packed: np.ndarray, rnn: RNN, steps: int) -> np.ndarray:
    """(example, example): the share of units on different pieces, as `hamming`, from packed codes."""
    units = sum(layer.input_kernel.shape[1] for layer in rnn.layers)
    two_pieces = len(require_pieces(rnn.activation).slopes) <= 2
    apart = np.zeros((len(packed), len(packed)), np.int64)
    for i, own in enumerate(packed):
        other = packed[:i]
        apart[i, :i] = (np.bitwise_count(own ^ other) if two_pieces else own != other).sum(axis=1, dtype=np.int64)
    return (apart + apart.T) / (steps * units)


def _most_pieces(found: Reading) -> int:
    """As many pieces as a walk may carry: each has a code, and a state for every unit."""
    return max(2, min(PIECES, CODE_BYTES // (2 * _of(found)[1].packed.shape[1])))


def walk(found: Reading) -> Section | None:
    """The straight way between two sequences of different classes: every piece, and the scores along it."""
    rnn, _ = _of(found)
    ends = _independent(found, 2)
    if len(ends) < 2:
        return None
    start, stop = (np.asarray(found.sequence(i), np.float64) for i in ends)
    first, second = map(found.named, ends)
    cap = found.affordable(found.work, _most_pieces(found))
    walked = walk_line(rnn, start, stop, max_regions=cap)
    places, outputs = np.concatenate([[0.0], walked.breakpoints, [walked.reached]]), np.asarray(walked.outputs)
    shortest, median = np.diff(places).min(), np.median(np.diff(places))
    if walked.overflow:
        beyond = np.linspace(float(walked.reached), 1, SAMPLED + 1)[1:]
        places, outputs = np.append(places, beyond), np.concatenate([outputs, _scores_at(rnn, start, stop, beyond)])
    changes = None if walked.overflow else decisions(walked)
    winners = outputs.argmax(axis=1) if changes is None else changes.classes
    said = [int(c) for c, _ in itertools.groupby(winners)]
    figure = style.new_figure(10, 5)
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    plots.scores_along(places, outputs, changes, axes=upper)
    plots.breakpoint_density(np.asarray(walked.breakpoints), axes=lower)
    if walked.overflow:
        for axes in (upper, lower):
            axes.axvspan(float(walked.reached), 1, color=style.PALE, zorder=0)
        middle = (1 + float(walked.reached)) / 2
        lower.text(middle, 0.5, "sampled, not walked", ha="center", transform=lower.get_xaxis_transform())
    lower.set_xticks(np.linspace(0, 1, 5), [f"0 %\n{first}", "25 %", "50 %", "75 %", f"100 %\n{second}"])
    way = f"The first {walked.reached:.2g} of the way" if walked.overflow else "The way"
    answer = f"{way} from {first} to {second} crosses {walked.pieces} pieces; on it the network says " + (
        ", then ".join(map(str, said)) + "."
    )
    return Section(
        "walk",
        "A walk between two inputs",
        "On the straight line between two inputs the network is affine between breakpoints, and the walk finds them "
        "all: it carries the state at every breakpoint through time and adds each crossing of a kink. The lower panel "
        "counts breakpoints.",
        [Picture("walk", "What happens to the class scores on the straight way between two inputs?", figure, answer)],
        {
            "pieces": walked.pieces,
            "reached": walked.reached,
            "shortest_piece": shortest,
            "median_piece": median,
            "classes_along": said,
            "decision_changes_at": [] if changes is None else changes.places,
        },
        _cut_short("walk", bool(walked.overflow), cap),
        [f"Between two inputs of different classes lie {walked.pieces} pieces."] if not walked.overflow else [],
    )


def plane(found: Reading) -> Section | None:
    """The plane through three sequences: where the decision changes, and the pieces around one such place.

    The patch whose pieces are drawn is as large as the affordable pieces are expected to fill, by the walks along the
    two sides.
    """
    rnn, _ = _of(found)
    ends = _independent(found, 3)
    if len(ends) < 3:
        return None
    origin, second, third = (np.asarray(found.sequence(i), np.float64) for i in ends)
    names = [found.named(i) for i in ends]
    cap, along = (found.affordable(cost * found.work, _most_pieces(found)) for cost in (10, 4))
    resolution = int(np.sqrt(found.affordable(found.work, 150**2, least=30**2)))
    u, v = second - origin, third - origin
    sides = [walk_line(rnn, origin, end, max_regions=along) for end in (second, third)]
    across = [round(int(side.pieces) / float(side.reached)) for side in sides]
    side = min(1.0, float(np.sqrt(0.5 * cap / (across[0] * across[1]))))
    whole = _score_grid(rnn, origin, u, v, resolution)
    middle = _closer(rnn, origin, np.stack([u, v]), _decision_near(whole.argmax(axis=-1), (1 / 3, 1 / 3)))
    corner = np.clip(middle - side / 2, 0, 1 - side)
    patch = origin + corner[0] * u + corner[1] * v
    cut = partition_plane(rnn, patch, side * u, side * v, max_regions=cap)
    figure = style.new_figure(style.PAGE, 7)
    left, right = figure.subplots(1, 2)
    extent = (corner[0], corner[0] + side, corner[1], corner[1] + side)
    plots.plane(whole, axes=left)
    plots.mark_corners(names, axes=left)
    left.add_patch(plots.frame(extent))
    if side < 0.05:  # a frame too small to see is ringed
        left.plot(*(corner + side / 2), "o", color=style.INK, markersize=16, markerfacecolor="none")
    crossed = None if cut.overflow else decision_boundary(cut).segments
    plots.plane(
        _score_grid(rnn, patch, side * u, side * v, resolution),
        polygons=[corner + side * polygon for polygon in cut.polygons],
        boundary=None if crossed is None else corner + side * crossed,
        extent=extent,
        classes_shown=np.unique(whole.argmax(axis=-1)),
        axes=right,
    )
    right.set(xticks=[], yticks=[])
    left.set_title("the plane", pad=26)
    right.set_title(f"the {'framed' if side >= 0.05 else 'ringed'} patch, {side:.2%} of each side long", pad=26)
    right.set(xlabel=f"{len(cut.areas)} pieces", ylabel="")
    marks: dict[str, Any] = {}
    for axes in (left, right):  # one legend for both
        own = axes.get_legend()
        marks |= {text.get_text(): mark for text, mark in zip(own.get_texts(), own.legend_handles, strict=True)}
        own.remove()
    figure.legend(
        marks.values(), marks.keys(), loc="outside lower center", ncols=4, fontsize=style.SMALL, frameon=False
    )
    classes, points = np.unique(whole.argmax(axis=-1), return_counts=True)
    expected = len(cut.areas) / (float(cut.areas.sum()) * side**2)
    line = "" if crossed is None else f", and the thick line in it has {len(crossed)} straight parts"
    answer = (
        f"At the thick lines, between {_listed(classes)}. The patch alone holds {len(cut.areas):,} pieces{line}; as "
        f"dense everywhere, they would be {float(f'{expected:.2g}'):,.0f} on the whole plane."
    )
    return Section(
        "plane",
        "A plane through three inputs",
        "The plane through three inputs is cut into convex polygons, on each of which the network is affine. In the "
        "patch every one of them is found; it is as small as it must be for its pieces to be told apart by eye. The "
        "axes run from the input at the lower left to the inputs at the other two marked corners.",
        [
            Picture(
                "plane",
                "Where does the decision change on the plane through three inputs, and how small are its pieces there?",
                figure,
                answer,
                leads=True,
            )
        ],
        {
            "pieces_along_the_sides": across,
            "patch_side": side,
            "pieces_in_patch": len(cut.areas),
            "share_of_patch_covered": float(cut.areas.sum()),
            "pieces_to_the_plane_at_that_density": expected,
            "smallest_area": cut.areas.min() * side**2,
            "share_of_each_class": {str(c): n / points.sum() for c, n in zip(classes, points, strict=True)},
        },
        [
            *_cut_short("partition", bool(cut.overflow), cap),
            *_cut_short("walk along a side", any(bool(side.overflow) for side in sides), along),
        ],
    )


@partial(jax.jit, static_argnames="steps")
def _to_walls(rnn: RNN, xs: Array, lengths: Array, *, steps: int) -> tuple[Array, Array]:
    """Over the last steps alone, from the state reached before them: the nearest wall, and the nearest other answer.

    The other answer is where the affine map of the piece would change its class, were the piece to go on for ever.
    """

    def one(x: Array, length: Array) -> tuple[Array, Array]:
        rest, before, own = _last_steps(rnn, x, length, steps)
        affine = affine_map(rnn, rest, before, length=own)
        said = affine.output.argmax()
        gaps = affine.output[said] - affine.output
        slopes = jnp.sqrt(((affine.slope[said] - affine.slope) ** 2).sum(axis=(1, 2)))
        others = jnp.where(jnp.arange(len(gaps)) == said, jnp.inf, gaps / slopes)
        return boundary_distance(rnn, rest, before, length=own), others.min()

    return jax.vmap(one)(xs, lengths)


def walls(found: Reading) -> Section:
    """How far an input may move before a unit switches, and before the answer can change."""
    rnn, _ = _of(found)
    examples, time, _ = found.xs.shape
    count = min(WALLS, examples)
    steps = found.affordable(count * found.units**3, (time + 1) // 2)  # two products of the Gram recursion, halved
    chosen = np.unique(np.linspace(0, examples - 1, count).round().astype(int))
    batch = int(np.clip(BATCH_BYTES // (found.units * (time + 8 * found.units) * 8), 1, min(20, count)))
    parts = [
        _to_walls(rnn, found.sequences(rows), jnp.asarray(found.lengths[rows]), steps=steps)
        for rows in np.resize(chosen, (-(-count // batch), batch))
    ]
    distances, others = (np.concatenate(part)[:count] for part in zip(*parts, strict=True))
    safe = np.minimum(distances, others)
    right = found.right[chosen]
    groups = {found.groups[0]: distances[right], found.groups[1]: distances[~right]}
    figure = style.new_figure(8, 4)
    plots.nearest_wall({name: part for name, part in groups.items() if part.size}, axes=figure.add_subplot())
    nearer = _nearer(distances[~right], distances[right])
    on_wall = float((distances == 0).mean())
    reading = f"Half of the inputs have a wall within {np.median(distances):.2g}, and {on_wall:.0%} lie exactly on one."
    question = "How far may an input move before some unit changes its piece?"
    if found.labels is not None:
        question = "Are inputs that the network gets wrong nearer to a wall, where some unit changes its piece?"
    if nearer is not None:
        verdict = "Yes" if nearer > 0.55 else "No" if nearer < 0.45 else "Hardly"
        reading = (
            f"{verdict}: of a wrong and a right one the wrong one is nearer in {nearer:.0%} of pairs (half would be "
            f"chance). {reading}"
        )
    if on_wall == 1:
        reading = (
            "No distance tells them apart: every input lies exactly on a wall, where some unit stands at its kink."
        )
    moved = "the second half of the steps" if steps == (time + 1) // 2 else f"the last {steps} of the {time} steps"
    answer = f"Half of the inputs are within {np.median(distances):.2g} of a wall of their region (over {moved})"
    return Section(
        "boundary",
        "The nearest wall",
        "A wall of a region is where some unit at some step changes its piece. The distance from an input to the "
        "nearest one is how far the input may move, in any direction, before that. It is exact, from the "
        f"pre-activations and the norms of their gradients, here over {moved} alone. No change of the input that is "
        "smaller than that, and smaller than the distance at which the affine map would change its class, can change "
        "the answer: the safe distance is the lesser of the two. It is a proof, not an estimate, and the true one may "
        "be far larger.",
        [Picture("boundary-distance", question, figure, reading)],
        {
            "sequences": count,
            "steps": steps,
            "on_a_wall": on_wall,
            "median_right": _median(distances[right]),
            "median_wrong": _median(distances[~right]),
            "share_of_pairs_where_the_wrong_one_is_nearer": nearer,
            "median_safe_distance": np.median(safe),
        },
        answers=[
            f"{answer}; for half of them no change smaller than {np.median(safe):.2g} alters the answer (proved).",
        ],
    )


def _last_steps(rnn: RNN, x: Array, length: Array, steps: int) -> tuple[Array, tuple[Array, ...], Array]:
    """The last steps of a sequence, at most half of them; the state before them; and how many they are."""
    own = jnp.minimum(steps, (length + 1) // 2)
    run = trajectory(rnn, x, length=length)
    before = tuple(
        jnp.where(own < length, h[jnp.maximum(length - own - 1, 0)], start)
        for h, start in zip(run.states, initial_state(rnn), strict=True)
    )
    return jnp.roll(x, own - length, axis=0)[:steps], before, own


@partial(jax.jit, static_argnames="steps")
def _bracket(rnn: RNN, x: Array, length: Array, moving: Array, *, steps: int) -> tuple[Array, Array]:
    """What is proved, and what is found, where only so many of the last steps may move."""
    rest, before, own = _last_steps(rnn, x, length, steps)
    moves = jnp.arange(steps) >= own - moving
    label = last_output(rnn, rest, before, length=own).argmax()
    proved = certified_radius(rnn, rest, label, before, moves=moves, length=own, tries=TRIES)
    return proved.radius, nearest_change(rnn, rest, label, before, moves=moves, length=own).distance


def safety(found: Reading) -> Section | None:
    """Between what is proved and what is found: how far the nearest input is that gets another answer."""
    rnn, _ = _of(found)
    examples, time, _ = found.xs.shape
    if examples < JUDGED or rnn.readout.kernel.dtype not in (jnp.float32, jnp.float64):
        return None
    each = 2 * TRIES * found.units**3  # a proof takes so many multiply-adds for each pair of steps
    steps = max(1, min((time + 1) // 2, int(np.sqrt(found.affordable(12 * each, (time + 1) ** 2)))))
    moving = np.unique(np.geomspace(1, steps, 3).round().astype(int))
    count = found.affordable(len(moving) * each * steps**2, 12, least=2)
    chosen = {
        name: np.flatnonzero(found.right == right)[: -(-count // 2)]
        for name, right in zip(found.groups, (True, False), strict=True)
    }
    brackets = {
        name: np.array(
            [
                [_bracket(rnn, found.sequences(i), jnp.asarray(found.lengths[i]), k, steps=steps) for k in moving]
                for i in rows
            ]
        )
        for name, rows in chosen.items()
        if len(rows)
    }
    medians = {name: np.median(bracket, axis=0) for name, bracket in brackets.items()}
    figure = style.new_figure(8, 4)
    axes = figure.add_subplot()
    for (name, (proved, nearest)), colour in zip(
        ((name, median.T) for name, median in medians.items()), style.COLOURS, strict=False
    ):
        axes.plot(moving, nearest, "v-", color=colour, label=f"{name}: an input of another class")
        axes.plot(moving, proved, "^-", color=colour, markerfacecolor="none", label=f"{name}: proved")
        axes.fill_between(moving, proved, nearest, color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="last steps that may move", ylabel="distance of the input")
    axes.set_xticks(moving, [str(k) for k in moving])
    axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    style.legend(axes)
    low, high = np.median(np.concatenate([bracket[:, -1] for bracket in brackets.values()]), axis=0)
    answer = (
        f"Where the last {steps} steps may move, no change smaller than {low:.2g} alters the answer (proved, median), "
        f"and one of {high:.2g} does (found)."
    )
    return Section(
        "safety",
        "How safe an answer is",
        "The nearest input that gets another answer lies between two distances: below it the answer is proved not to "
        "change, by linear bounds of every unit carried back through time; above it an input of another class has been "
        f"found, by going from piece to piece. Medians over {sum(map(len, brackets.values()))} sequences, where only "
        "the last steps may move.",
        [Picture("safety", "How far is the nearest input that gets another answer?", figure, answer)],
        {
            "steps_that_may_move": moving,
            "proved": {name: median[:, 0] for name, median in medians.items()},
            "found": {name: median[:, 1] for name, median in medians.items()},
        },
        answers=[answer],
    )


def _scores_at(rnn: RNN, start: np.ndarray, stop: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(place, output): the last step's outputs at places on a line."""
    xs = (start + places[:, None, None] * (stop - start)).astype(rnn.readout.kernel.dtype)
    return np.asarray(_last_outputs(rnn, xs), np.float64)


@jax.jit
def _last_outputs(rnn: RNN, xs: Array) -> Array:
    return jax.vmap(lambda x: last_output(rnn, x))(xs)


def _score_grid(rnn: RNN, origin: np.ndarray, u: np.ndarray, v: np.ndarray, resolution: int) -> np.ndarray:
    """(place, place, output): the output on a grid over the parallelogram, rows along v."""
    dtype = rnn.readout.kernel.dtype
    corner, along, up = (jnp.asarray(x, dtype) for x in (origin, u, v))
    places = jnp.linspace(0, 1, resolution, dtype=dtype)
    return np.stack([np.asarray(_row(rnn, corner, along, up, places, b)) for b in places])


@jax.jit
def _row(rnn: RNN, origin: Array, u: Array, v: Array, places: Array, b: Array) -> Array:
    return jax.vmap(lambda a: last_output(rnn, origin + a * u + b * v))(places)


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


def _independent(found: Reading, count: int) -> list[int]:
    """At most `count` sequences of one length and different classes, neither on one another nor on one line."""
    chosen: list[int] = []
    commonest = np.bincount(found.lengths).argmax()
    for i in found.of_different_classes(50):
        if found.lengths[i] != commonest:
            continue
        points = np.asarray([found.sequence(j) for j in (*chosen, i)], np.float64).reshape(len(chosen) + 1, -1)
        sides = points[1:] - points[0]
        sizes = np.linalg.norm(sides, axis=1, keepdims=True)
        if sizes.all() and (not chosen or np.linalg.matrix_rank(sides / sizes, tol=1e-4) == len(sides)):
            chosen.append(i)
        if len(chosen) == count:
            break
    return chosen


def _nearer(a: np.ndarray, b: np.ndarray) -> float | None:
    """Of all pairs of one of each, the share in which the one of `a` is the smaller; ties count half."""
    if not len(a) or not len(b):
        return None
    return float((a[:, None] < b).mean() + (a[:, None] == b).mean() / 2)


def _cut_short(what: str, cut: bool, cap: int) -> list[str]:
    return [f"A {what} hit the cap of {cap} pieces: what is shown is part of the answer."] * cut


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.0%}"


def _listed(classes: np.ndarray) -> str:
    """Classes in a sentence."""
    *rest, last = map(str, classes)
    return f"{', '.join(rest)} and {last}" if rest else last


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if values.size else None
