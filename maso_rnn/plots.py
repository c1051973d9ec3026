"""Pictures. Each function draws on matplotlib axes, its own where none are given, and returns them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

# Okabe and Ito's colours, told apart by colour-blind readers; used in this order everywhere
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DIVERGING = "RdBu_r"
SEQUENTIAL = "cividis"


def new_figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """A figure that belongs to nobody's global state and so needs no closing."""
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(axes: Axes | None, *, width: float = 8.0, height: float = 4.0) -> Axes:
    """The axes given, or new ones."""
    return new_figure(width, height).add_subplot() if axes is None else axes


def as_image(values: np.ndarray, image_shape: tuple[int, int] | None) -> np.ndarray:
    """A sequence (time, input) as a picture: folded into `image_shape`, else time across and inputs down."""
    values = np.asarray(values)
    return values.T if image_shape is None else values.reshape(image_shape)


def template(
    slope: np.ndarray,
    *,
    image_shape: tuple[int, int] | None = None,
    limit: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """One class's template: where the input counts for it (red) and against it (blue).

    Args:
        slope: (time, input), one row of `AffineMap.slope`.
        image_shape: how the sequence folds into an image; by default time runs across and inputs down.
        limit: the size at which the colours are full; by default the largest of this template.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes, width=3, height=3)
    image = as_image(slope, image_shape)
    limit = np.abs(image).max() if limit is None else limit
    axes.imshow(image, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="equal" if image_shape else "auto")
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def sequence(xs: np.ndarray, *, image_shape: tuple[int, int] | None = None, axes: Axes | None = None) -> Axes:
    """One input sequence (time, input), in the layout of its template."""
    axes = new_axes(axes, width=3, height=3)
    axes.imshow(as_image(xs, image_shape), cmap="gray_r", aspect="equal" if image_shape else "auto")
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def right_and_wrong(
    values: np.ndarray, right: np.ndarray, *, label: str, title: str = "", axes: Axes | None = None
) -> Axes:
    """Two histograms of one quantity, each of area 1: over the examples predicted right, and over those wrong.

    Args:
        values: (example,), the quantity; not finite ones are left out, and the one per cent at either end is drawn in
            the outermost bins.
        right: (example,), whether the prediction was right.
        label: what the quantity is, with its unit.
        title: the heading.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    values, right = np.asarray(values), np.asarray(right)
    finite = np.isfinite(values)
    low, high = np.quantile(values[finite], [0.01, 0.99]) if finite.any() else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, 41).tolist()
    for chosen, name, colour in [(right, "right", COLOURS[0]), (~right, "wrong", COLOURS[1])]:
        shown = values[chosen & finite]
        if shown.size:
            axes.hist(
                shown.clip(low, high),
                bins,
                density=True,
                alpha=0.6,
                color=colour,
                label=f"predicted {name} ({shown.size})",
            )
            axes.axvline(np.median(shown), color=colour, linestyle="--", label=f"median {np.median(shown):.3g}")
    axes.set(xlabel=label, ylabel="density", title=title)
    if finite.any():
        axes.legend()
    return axes


def over_training(
    epochs: Sequence[float] | np.ndarray,
    values: Mapping[str, np.ndarray],
    *,
    label: str,
    log: bool = False,
    axes: Axes | None = None,
) -> Axes:
    """One quantity over training for each of several networks: the median, with quartiles where there is a spread.

    Args:
        epochs: (snapshot,).
        values: by name, (snapshot,) or (snapshot, example).
        label: what the quantity is, with its unit.
        log: whether its axis is logarithmic; medians that are not positive are then left out.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    for (name, value), colour in zip(values.items(), itertools.cycle(COLOURS), strict=False):
        value = np.asarray(value, float)
        quantiles = np.quantile(value, [0.25, 0.5, 0.75], axis=1) if value.ndim == 2 else value[None]
        if log:
            quantiles = np.where(quantiles > 0, quantiles, np.nan)
        middle = quantiles[len(quantiles) // 2]
        if value.ndim == 2:
            low, _, high = quantiles
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(epochs, middle, color=colour, marker="o" if len(epochs) < 20 else "", label=name)
    axes.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
    axes.legend()
    return axes


def eigenvalue_cloud(eigenvalues: Mapping[str, np.ndarray], *, axes: Axes | None = None) -> Axes:
    """Eigenvalues in the complex plane with the unit circle: inside it a mode decays, outside it grows.

    Args:
        eigenvalues: by name, (hidden,), as before and after training; up to three sets.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes, width=5, height=5)
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color="#888888", linewidth=1, zorder=0)
    axes.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#dddddd", linewidth=0.8, zorder=0)
    for (name, values), colour, marker in zip(eigenvalues.items(), COLOURS, "o^s", strict=False):
        values = np.asarray(values)
        axes.scatter(
            values.real,
            values.imag,
            s=22,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            label=f"{name}: radius {np.abs(values).max():.3g}",
        )
    reach = 1.1 * max(1.0, *(float(np.abs(np.asarray(values)).max()) for values in eigenvalues.values()))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="real part", ylabel="imaginary part")
    axes.legend(loc="upper left", fontsize=8)
    return axes


def horizon_histogram(horizons: Mapping[str, np.ndarray], *, axes: Axes | None = None) -> Axes:
    """How many eigenvalues remember for how long, on a logarithmic axis of steps.

    Args:
        horizons: by name, (hidden,), −1 / ln|λ| in steps, as `Spectrum.horizons` has them; what does not decay
            (infinite, negative, or above 1,000 steps) has a bar of its own at the right.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    edges = np.logspace(-1, 3, 25)
    centres, never = np.sqrt(edges[:-1] * edges[1:]), edges[-1] * edges[1] / edges[0]
    width = np.diff(np.log(edges))[0] / (len(horizons) + 1)
    for i, ((name, values), colour) in enumerate(zip(horizons.items(), COLOURS, strict=False)):
        values = np.asarray(values, float)
        decays = (values >= 0) & (values < edges[-1])
        counts, _ = np.histogram(values[decays].clip(edges[0], None), edges)
        places = np.append(centres, never) * np.exp((i - (len(horizons) - 1) / 2) * width)
        axes.bar(
            places,
            np.append(counts, (~decays).sum()),
            width=places * width,
            color=colour,
            label=f"{name}: {(~decays).sum()} of {len(values)} never decay",
        )
    axes.axvline(edges[-1], color="#888888", linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="memory horizon −1 / ln|λ| (steps)", ylabel="eigenvalues")
    axes.set_xticks([0.1, 1, 10, 100, never], ["≤ 0.1", "1", "10", "100", "≥ 1000\nor grows"])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return axes


def power_growth(growth: Mapping[str, np.ndarray], radius: Mapping[str, float], *, axes: Axes | None = None) -> Axes:
    """The norm of the kernel's powers, and dashed what the largest eigenvalue alone would make of them.

    Args:
        growth: by name, (steps + 1,), ‖W^k‖ for k = 0, 1, …, as `Spectrum.growth` has it.
        radius: by name, the spectral radius.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    for (name, values), colour in zip(growth.items(), COLOURS, strict=False):
        values = np.asarray(values, float)
        steps = np.arange(len(values))
        shown = np.where((values > 0) & np.isfinite(values), values, np.nan)
        axes.plot(steps, shown, color=colour, label=f"{name}: ‖W^k‖")
        with np.errstate(over="ignore", under="ignore"):
            axes.plot(
                steps,
                float(radius[name]) ** steps,
                color=colour,
                linestyle="--",
                linewidth=1,
                label=f"{name}: radius^k, radius {float(radius[name]):.3g}",
            )
    axes.set(yscale="log", xlabel="k (steps)", ylabel="largest stretch of a state, ‖W^k‖")
    axes.legend(fontsize=8)
    return axes


def memory_measured(
    predicted: Mapping[str, np.ndarray],
    measured: Mapping[str, np.ndarray],
    *,
    title: str = "",
    axes: Axes | None = None,
) -> Axes:
    """Each mode's memory as its eigenvalue predicts it, against that of a pulse; on the diagonal where it is so.

    Args:
        predicted: by name, (hidden,), −1 / ln|λ| in steps.
        measured: by name, (hidden,), as `PulseDecay.measured` has it; both are cut to [0.1, 1000] steps, and what
            never decays is at the upper end.
        title: the heading.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes, width=4, height=4)
    low, high = 0.1, 1000.0
    axes.plot([low, high], [low, high], color="#888888", linewidth=1, zorder=0)
    for (name, values), colour, marker in zip(predicted.items(), COLOURS, "o^s", strict=False):
        x, y = (
            np.where(steps < 0, high, np.asarray(steps)).clip(low, high)
            for steps in (np.asarray(values, float), np.asarray(measured[name], float))
        )
        axes.scatter(x, y, s=20, marker=marker, facecolors="none", edgecolors=colour, label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(low / 1.4, high * 1.4),
        ylim=(low / 1.4, high * 1.4),
        aspect="equal",
        xlabel="predicted: −1 / ln|λ| (steps)",
        ylabel="measured on a pulse (steps)",
        title=title,
    )
    ticks = {0.1: "≤ 0.1", 1.0: "1", 10.0: "10", 100.0: "100", high: "≥ 1000\nor grows"}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    # under the upper row, where the modes that never decay are
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.93))
    return axes


def regions_through_time(counts: Mapping[int, np.ndarray], *, sequences: int, axes: Axes | None = None) -> Axes:
    """How many regions a set of sequences falls into, step by step, one line for each epoch of training.

    Args:
        counts: by epoch, (time,), from `count_regions`.
        sequences: how many sequences there are, the most that can be counted.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    shades = colormaps[SEQUENTIAL](np.linspace(0.0, 0.9, len(counts)))
    for (epoch, count), shade in zip(counts.items(), shades, strict=True):
        axes.plot(np.arange(1, len(count) + 1), count, color=shade, label=f"epoch {epoch}")
    axes.axhline(sequences, color="black", linestyle="--", linewidth=0.8, label=f"all {sequences} told apart")
    axes.set(xlabel="steps read", ylabel="distinct codes", ylim=(0, 1.06 * sequences))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes


def within_and_between(values: np.ndarray, same: np.ndarray, *, label: str, axes: Axes | None = None) -> Axes:
    """Two histograms of one quantity of pairs, each of area 1: pairs of one class, and pairs of two.

    Args:
        values: (pair,), the quantity.
        same: (pair,), whether both are of one class.
        label: what the quantity is, with its unit.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    bins = np.linspace(values.min(), values.max(), 61).tolist()
    for chosen, name, colour in [(same, "within a class", COLOURS[0]), (~same, "between classes", COLOURS[1])]:
        shown = values[chosen]
        if shown.size:
            axes.hist(shown, bins, density=True, alpha=0.6, color=colour, label=f"{name} ({shown.size} pairs)")
            axes.axvline(np.median(shown), color=colour, linestyle="--", label=f"median {np.median(shown):.3f}")
    axes.set(xlabel=label, ylabel="density")
    axes.legend()
    return axes


def scores_along(places: np.ndarray, outputs: np.ndarray, *, shown: int = 4, axes: Axes | None = None) -> Axes:
    """Class scores along a line, straight between breakpoints; those that ever lead are coloured, the rest grey.

    Args:
        places: (point,), positions along the line, the breakpoints and both ends.
        outputs: (point, output), the scores there.
        shown: at most this many classes are coloured, those that lead longest.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    winners = outputs.argmax(axis=1)
    lengths = np.bincount(winners, np.gradient(places) if len(places) > 1 else None, outputs.shape[1])
    leading = [int(c) for c in np.argsort(-lengths)[:shown] if lengths[c] > 0]
    for c in range(outputs.shape[1]):
        if c not in leading:
            axes.plot(places, outputs[:, c], color="#bbbbbb", linewidth=0.8)
    for c, colour in zip(leading, COLOURS, strict=False):
        axes.plot(places, outputs[:, c], color=colour, linewidth=2, label=f"class {c}")
    for at in places[1:][winners[1:] != winners[:-1]]:
        axes.axvline(at, color="black", linestyle="--", linewidth=0.8)
    axes.plot([], [], color="#bbbbbb", linewidth=0.8, label="never the highest")
    axes.plot([], [], color="black", linestyle="--", linewidth=0.8, label="the decision changes")
    axes.set_ylabel("class score (logits)")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes


def breakpoint_density(breakpoints: np.ndarray, *, bins: int = 100, axes: Axes | None = None) -> Axes:
    """How many breakpoints lie in each hundredth of a line.

    Args:
        breakpoints: (breakpoint,), positions in (0, 1).
        bins: how many parts the line is cut into.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes, height=2)
    axes.hist(breakpoints, np.linspace(0, 1, bins + 1).tolist(), color=COLOURS[5])
    axes.set(xlim=(0, 1), ylabel="breakpoints\nin 1/100" if bins == 100 else "breakpoints")
    return axes


def plane(
    classes: np.ndarray,
    *,
    polygons: Sequence[np.ndarray] = (),
    extent: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0),
    classes_shown: np.ndarray | None = None,
    axes: Axes | None = None,
) -> Axes:
    """A plane of inputs: the class that the network says at each point, and the walls of the pieces over it.

    Args:
        classes: (point, point), the class at each point of a grid over `extent`, rows upwards.
        polygons: for each piece (corner, 2).
        extent: left, right, bottom and top of what is shown.
        classes_shown: the classes that get colours, in that order, so that two pictures can agree; by default those
            present.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes, width=6, height=5)
    order = np.unique(classes) if classes_shown is None else np.union1d(classes_shown, classes)
    ranks = np.searchsorted(order, classes)
    palette = ListedColormap([COLOURS[i % len(COLOURS)] for i in range(len(order))])
    axes.imshow(ranks, cmap=palette, vmin=-0.5, vmax=len(order) - 0.5, origin="lower", extent=extent, alpha=0.35)
    if len(polygons):
        width = float(np.clip(20 / np.sqrt(len(polygons)), 0.1, 1.0))
        axes.add_collection(PolyCollection(list(polygons), facecolors="none", edgecolors="#333333", linewidths=width))
    left, right, bottom, top = extent
    middles = np.linspace(left, right, classes.shape[1]), np.linspace(bottom, top, classes.shape[0])
    present = np.unique(ranks)
    for rank in present[:-1]:
        axes.contour(*middles, (ranks == rank).astype(float), levels=[0.5], colors="black", linewidths=2.0)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], aspect="equal")
    handles = [
        *(Patch(color=palette(int(i)), alpha=0.35, label=f"class {order[i]}") for i in present),
        Line2D([], [], color="black", linewidth=2, label="decision"),
        *([Line2D([], [], color="#333333", linewidth=0.8, label="walls of pieces")] if len(polygons) else []),
    ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return axes


def mark_corners(names: Sequence[str], *, axes: Axes | None = None) -> Axes:
    """Name the inputs that lie at (0, 0), (1, 0) and (0, 1) of a plane."""
    axes = new_axes(axes)
    places = [(0, 0, "left", -16), (1, 0, "right", -16), (0, 1, "left", 8)]
    for name, (a, b, side, lift) in zip(names, places, strict=True):
        axes.plot(a, b, "o", color="black", markersize=8, clip_on=False)
        axes.annotate(name, (a, b), xytext=(0, lift), textcoords="offset points", ha=side, annotation_clip=False)
    return axes


def frame(extent: tuple[float, float, float, float]) -> Rectangle:
    """The outline of a part of a plane: left, right, bottom and top."""
    left, right, bottom, top = extent
    return Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor="black", linewidth=1.5)


def measured_and_predicted(
    scales: Sequence[float] | np.ndarray,
    values: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    axes: Axes | None = None,
) -> Axes:
    """Measured over predicted against the scale of the noise: 1 where the prediction holds.

    Args:
        scales: (scale,).
        values: by name, what was measured, its standard error and what was predicted, each (scale,).
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    axes.axhline(1, color="black", linewidth=0.8)
    for (name, (measured, stderr, predicted)), colour in zip(values.items(), COLOURS, strict=False):
        ratio, error = measured / predicted, 2 * stderr / predicted
        axes.errorbar(scales, ratio, error, color=colour, marker="o", capsize=3, label=name)
    axes.set(xscale="log", xlabel="standard deviation σ of the noise", ylabel="loss added: measured / predicted")
    axes.set_yscale("symlog", linthresh=2)
    axes.legend(fontsize=8)
    return axes


def region_changes(
    scales: Sequence[float] | np.ndarray, shares: Mapping[str, np.ndarray], *, axes: Axes | None = None
) -> Axes:
    """The share of noisy initial states that lead to another region, against the scale of the noise.

    Args:
        scales: (scale,).
        shares: by name, (scale,).
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    for (name, share), colour in zip(shares.items(), COLOURS, strict=False):
        axes.plot(scales, share, color=colour, marker="o", label=name)
    axes.set(
        xscale="log",
        xlabel="standard deviation σ of the noise",
        ylabel="share of samples that leave their region",
        ylim=(-0.03, 1.03),
    )
    axes.legend()
    return axes


def rounds_by_length(
    lengths: Sequence[int] | np.ndarray, rounds: Mapping[str, np.ndarray], *, axes: Axes | None = None
) -> Axes:
    """Rounds of parallel evaluation against the number of steps, with the most that there can be.

    Args:
        lengths: (length,), numbers of steps.
        rounds: by name, (length,).
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    for i, (name, row) in enumerate(rounds.items()):
        axes.plot(lengths, row, color=COLOURS[i % len(COLOURS)], marker="osD^v"[i % 5], label=name)
    axes.plot(lengths, lengths, color="black", linestyle="--", linewidth=0.8, label="one round a step")
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="rounds")
    powers = [2**i for i in range(int(np.log2(max(lengths))) + 1)]
    axes.set_xticks(list(lengths), [str(length) for length in lengths])
    axes.set_yticks(powers, [str(power) for power in powers])
    axes.minorticks_off()
    axes.legend()
    return axes
