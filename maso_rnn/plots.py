"""Pictures. Each function draws on matplotlib axes, its own where none are given, and returns them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

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
    """A figure that belongs to nobody's global state and so needs no closing.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The figure.

    Example:
        >>> new_figure(6, 2).get_size_inches().tolist()
        [6.0, 2.0]

    Source:
        Matplotlib's guide to figures without pyplot.
    """
    return Figure(figsize=(width, height), layout="constrained")


def new_axes(axes: Axes | None, *, width: float = 8.0, height: float = 4.0) -> Axes:
    """The axes given, or new ones on a `new_figure`.

    Args:
        axes: those given, or None.
        width: of a new figure, in inches.
        height: of a new figure, in inches.

    Returns:
        The axes.

    Example:
        >>> given = new_axes(None)
        >>> new_axes(given) is given
        True

    Source:
        As `new_figure`.
    """
    return new_figure(width, height).add_subplot() if axes is None else axes


def as_image(values: np.ndarray, image_shape: tuple[int, int] | None) -> np.ndarray:
    """A sequence as a picture: folded into `image_shape`, else time across and inputs down.

    Args:
        values: (time, input).
        image_shape: rows and columns, time · input in all.

    Returns:
        (row, column), or (input, time).

    Raises:
        ValueError: if the sequence does not fold into that shape.

    Example:
        >>> as_image(np.zeros((6, 1)), (2, 3)).shape, as_image(np.zeros((6, 1)), None).shape
        ((2, 3), (1, 6))

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    values = np.asarray(values)
    return values.T if image_shape is None else values.reshape(image_shape)


def _unfolded() -> Axes:
    """Axes of their own for a sequence that is no image."""
    axes = new_axes(None, width=6, height=2)
    axes.set(xlabel="time", ylabel="input")
    return axes


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

    Example:
        >>> template(np.array([[-1.0], [3.0]])).images[0].get_clim() == (-3.0, 3.0)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    axes = new_axes(axes, width=3, height=3) if axes is not None or image_shape else _unfolded()
    image = as_image(slope, image_shape)
    limit = np.abs(image).max() if limit is None else limit
    axes.imshow(image, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="equal" if image_shape else "auto")
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def sequence(xs: np.ndarray, *, image_shape: tuple[int, int] | None = None, axes: Axes | None = None) -> Axes:
    """One input sequence, in the layout of its template.

    Args:
        xs: (time, input).
        image_shape: how the sequence folds into an image; by default time runs across and inputs down.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> sequence(np.arange(6.0)[:, None], image_shape=(2, 3)).images[0].get_array().shape
        (2, 3)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    axes = new_axes(axes, width=3, height=3) if axes is not None or image_shape else _unfolded()
    axes.imshow(as_image(xs, image_shape), cmap="gray_r", aspect="equal" if image_shape else "auto")
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def templates_beside_input(
    xs: np.ndarray,
    slope: np.ndarray,
    *,
    name: str = "input",
    said: str = "",
    shown: Sequence[int] | None = None,
    image_shape: tuple[int, int] | None = None,
    axes: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """An input beside the templates that it meets, each with its match score ⟨template, input⟩; the best is framed.

    Args:
        xs: (time, input), the sequence.
        slope: (output, time, input), from `affine_map` at `xs`.
        name: what the input is.
        said: what the network says of it.
        shown: the classes to draw, by default all; the best match is framed if it is among them.
        image_shape: how the sequence folds into an image; by default time runs across and inputs down.
        axes: one for the input and one for each class shown; by default a row, or a column where nothing is folded.

    Returns:
        The axes, (1 + shown,).

    Example:
        >>> drawn = templates_beside_input(np.ones((4, 1)), np.stack([np.ones((4, 1)), -np.ones((4, 1))]))
        >>> [panel.get_ylabel() for panel in drawn]
        ['input', '0: +4.0', '1: -4.0']

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    xs, slope = np.asarray(xs), np.asarray(slope)
    shown = range(len(slope)) if shown is None else shown
    if axes is None:
        panels = 1 + len(shown)
        if image_shape:
            axes = new_figure(1.2 * panels, 1.6).subplots(1, panels)
        else:
            axes = new_figure(6.0, 0.5 * panels).subplots(panels, 1)
    axes = np.asarray(axes)
    scores = np.einsum("cti,ti->c", slope, xs, dtype=np.float64)
    limit = float(np.abs(slope[list(shown)]).max())
    sequence(xs, image_shape=image_shape, axes=axes[0])
    for panel, c in zip(axes[1:], shown, strict=True):
        template(slope[c], image_shape=image_shape, limit=limit or 1.0, axes=panel)
    heads = [name, *(f"{c}: {scores[c]:+.1f}" for c in shown)]
    for panel, head, one in zip(axes, heads, [None, *shown], strict=True):
        best = one == scores.argmax()
        weight = "bold" if best else "normal"
        if image_shape:
            panel.set_title(head, fontsize=9, fontweight=weight)
        else:
            panel.set_ylabel(head, fontsize=8, fontweight=weight, rotation=0, ha="right", va="center")
        if one is not None:
            for side in panel.spines.values():
                side.set(color=COLOURS[4] if best else "#bbbbbb", linewidth=3 if best else 0.5)
    if image_shape:
        axes[0].set_ylabel(said, fontsize=9)
    else:
        axes[0].set_title(said, fontsize=9)
        axes[-1].set_xlabel("time", fontsize=9)
    return axes


def barcode(
    codes: Sequence[np.ndarray], *, order: Sequence[np.ndarray] | None = None, axes: Axes | None = None
) -> Axes:
    """Codes of one sequence as a barcode: which piece each unit is on, time across, units down, layer by layer.

    Args:
        codes: for each layer (time, hidden), as `Trajectory.codes`.
        order: for each layer (hidden,), which unit is drawn where, so that two barcodes can agree; by default those
            that are on higher pieces for longer stand above.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> barcode([np.array([[False, True], [False, False]])]).images[0].get_array().tolist()
        [[1, 0], [0, 0]]

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the codes.
    """
    axes = new_axes(axes, height=4)
    codes = [np.asarray(code).astype(int) for code in codes]
    order = barcode_order(codes) if order is None else order
    rows = np.concatenate([code[:, rank].T for code, rank in zip(codes, order, strict=True)])
    pieces = max(2, int(rows.max()) + 1)
    shades = colormaps["gray_r"](np.linspace(0.05, 1.0, pieces))
    time = rows.shape[1]
    axes.imshow(
        rows,
        cmap=ListedColormap(shades),
        vmin=-0.5,
        vmax=pieces - 0.5,
        aspect="auto",
        extent=(0.5, time + 0.5, len(rows) - 0.5, -0.5),
        interpolation="nearest",
    )
    ends = np.cumsum([code.shape[1] for code in codes])
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color=COLOURS[1], linewidth=2)
    axes.set_yticks(
        ends - np.array([code.shape[1] for code in codes]) / 2 - 0.5,
        [f"layer {l}\n{code.shape[1]} units" for l, code in enumerate(codes)],
    )
    axes.set_xlabel("step")
    names = ["off: below the kink", "on: above it"] if pieces == 2 else [f"piece {r}" for r in range(pieces)]
    axes.legend(
        handles=[
            Patch(facecolor=tuple(shade), edgecolor="black", label=name)
            for shade, name in zip(shades, names, strict=True)
        ],
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=min(pieces, 4),
        fontsize=8,
        frameon=False,
    )
    return axes


def barcode_order(codes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each layer the order of a barcode: units that are on higher pieces for longer come first.

    Args:
        codes: for each layer (time, hidden), or (…, time, hidden) over several sequences.

    Returns:
        For each layer (hidden,), indices of units.

    Example:
        >>> barcode_order([np.array([[False, True], [False, False]])])[0].tolist()
        [1, 0]

    Source:
        This package's own.
    """
    return [np.argsort(-np.asarray(code).reshape(-1, code.shape[-1]).mean(axis=0), kind="stable") for code in codes]


def code_map(codes: np.ndarray, classes: np.ndarray, *, title: str = "", axes: Axes | None = None) -> Axes:
    """Codes of many sequences in the plane of their two leading principal components, each marked by its class.

    Args:
        codes: (example, unit), codes at one time, or of any length.
        classes: (example,), their classes; the ten that are commonest are marked, the others are grey dots.
        title: the heading.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> code_map(np.eye(4), np.array([0, 0, 1, 1])).get_xlabel()
        'first component, 33% of the variance'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, who map codes by t-SNE; principal components keep distances.
    """
    axes = new_axes(axes, width=5, height=5)
    values, classes = np.asarray(codes, float), np.asarray(classes)
    left, sizes, _ = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    points = np.zeros((len(values), 2))
    points[:, : left.shape[1]] = (left * sizes)[:, :2]
    shares = np.append(sizes**2, [0.0, 0.0])[:2] / max(float((sizes**2).sum()), np.finfo(float).tiny)
    names, counts = np.unique(classes, return_counts=True)
    marked = np.sort(names[np.argsort(-counts, kind="stable")][:10])
    rest = ~np.isin(classes, marked)
    axes.scatter(points[rest, 0], points[rest, 1], s=6, color="#bbbbbb")
    for name, colour in zip(marked, itertools.cycle(COLOURS), strict=False):
        own = classes == name
        axes.scatter(points[own, 0], points[own, 1], s=28, marker=f"${name}$", color=colour, linewidths=0.3)
    axes.set(
        xlabel=f"first component, {shares[0]:.0%} of the variance",
        ylabel=f"second component, {shares[1]:.0%}",
        title=title,
        xticks=[],
        yticks=[],
    )
    return axes


def right_and_wrong(
    values: np.ndarray,
    right: np.ndarray,
    *,
    label: str,
    title: str = "",
    names: tuple[str, str] = ("predicted right", "predicted wrong"),
    axes: Axes | None = None,
) -> Axes:
    """Two histograms of one quantity, each of area 1: over the examples predicted right, and over those wrong.

    Args:
        values: (example,), the quantity; not finite ones are left out, and the one per cent at either end is drawn in
            the outermost bins.
        right: (example,), whether the prediction was right.
        label: what the quantity is, with its unit.
        title: the heading.
        names: what the two are called.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> drawn = right_and_wrong(np.array([1.0, 2.0, 9.0]), np.array([True, True, False]), label="margin (logits)")
        >>> [text.get_text() for text in drawn.get_legend().get_texts()]
        ['predicted right (2)', 'median 1.5', 'predicted wrong (1)', 'median 9']

    Source:
        This package's own.
    """
    axes = new_axes(axes)
    values, right = np.asarray(values), np.asarray(right)
    finite = np.isfinite(values)
    low, high = np.quantile(values[finite], [0.01, 0.99]) if finite.any() else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5 - 0.01 * abs(low), high + 0.5 + 0.01 * abs(high)
    bins = np.linspace(low, high, 41).tolist()
    for chosen, name, colour in [(right, names[0], COLOURS[0]), (~right, names[1], COLOURS[1])]:
        shown = values[chosen & finite]
        if shown.size:
            axes.hist(
                shown.clip(low, high),
                bins,
                density=True,
                alpha=0.6,
                color=colour,
                label=f"{name} ({shown.size})",
            )
            axes.axvline(np.median(shown), color=colour, linestyle="--", label=f"median {np.median(shown):.3g}")
    axes.set(xlabel=label, ylabel="density", title=title)
    if finite.any():
        axes.legend()
    else:
        axes.text(0.5, 0.5, f"none of the {values.size} values is finite", ha="center", transform=axes.transAxes)
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

    Example:
        >>> over_training([0, 1, 2], {"a network": np.array([3.0, 2.0, 1.0])}, label="loss (nats)").get_xlabel()
        'epoch'

    Source:
        This package's own.
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

    Example:
        >>> drawn = eigenvalue_cloud({"a kernel": np.array([0.5, 1.2])})
        >>> drawn.get_legend().get_texts()[0].get_text()
        'a kernel: radius 1.2, 1 of 2 outside the circle'

    Source:
        Dou, Principe (2023), for what eigenvalues say of memory.
    """
    axes = new_axes(axes, width=5, height=5)
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color="#888888", linewidth=1, zorder=0)
    axes.axhline(0, color="#dddddd", linewidth=0.8, zorder=0)
    axes.axvline(0, color="#dddddd", linewidth=0.8, zorder=0)
    # the first largest and on top, so that one place that many share is seen
    for (name, values), colour, marker, size in zip(eigenvalues.items(), COLOURS, "o^s", (110, 45, 14), strict=False):
        values = np.asarray(values)
        outside = (np.abs(values) > 1 + 1e-6).sum()
        axes.scatter(
            values.real,
            values.imag,
            s=size,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            linewidths=1.2,
            zorder=2 + size / 1000,
            label=f"{name}: radius {np.abs(values).max():.3g}, {outside} of {len(values)} outside the circle",
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

    Example:
        >>> drawn = horizon_histogram({"a kernel": np.array([2.0, 10.0, np.inf])})
        >>> drawn.get_legend().get_texts()[0].get_text()
        'a kernel: 1 of 3 for 1,000 steps or more'

    Source:
        Dou, Principe (2023), for what eigenvalues say of memory.
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
            label=f"{name}: {(~decays).sum()} of {len(values)} for 1,000 steps or more",
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

    Example:
        >>> power_growth({"a kernel": np.array([1.0, 2.0, 1.0])}, {"a kernel": 0.9}).get_yscale()
        'log'

    Source:
        This package's own; ‖W^k‖ against the radius is the usual picture of non-normal growth.
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

    Example:
        >>> steps = {"a kernel": np.array([1.0, 10.0])}
        >>> memory_measured(steps, steps).get_xlabel()
        'predicted: −1 / ln|λ| (steps)'

    Source:
        Dou, Principe (2023), the abstract.
    """
    axes = new_axes(axes, width=4, height=4)
    low, high = 0.1, 1000.0
    axes.plot([low, high], [low, high], color="#888888", linewidth=1, zorder=0)
    for (name, values), colour, marker, size in zip(predicted.items(), COLOURS, "o^s", (60, 24, 8), strict=False):
        x, y = (
            np.where(steps < 0, high, np.asarray(steps)).clip(low, high)
            for steps in (np.asarray(values, float), np.asarray(measured[name], float))
        )
        axes.scatter(
            x, y, s=size, zorder=2 + size / 1000, marker=marker, facecolors="none", edgecolors=colour, label=name
        )
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
    axes.text(2.0, 0.2, "forgotten sooner\nthan predicted", color="#555555", fontsize=8)
    axes.text(0.12, 1.3, "remembered\nlonger", color="#555555", fontsize=8)
    # under the upper row, where the modes that never decay are
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, 0.93))
    return axes


def regions_through_time(counts: Mapping[Any, np.ndarray], *, sequences: int, axes: Axes | None = None) -> Axes:
    """How many regions a set of sequences falls into, step by step, one line for each epoch of training.

    Args:
        counts: by epoch, or by name, (time,), from `count_regions`.
        sequences: how many sequences there are, the most that can be counted.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> drawn = regions_through_time({0: np.array([1, 2, 3])}, sequences=4)
        >>> [text.get_text() for text in drawn.get_legend().get_texts()]
        ['epoch 0', 'all 4 told apart']

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3.
    """
    axes = new_axes(axes)
    shades = colormaps[SEQUENTIAL](np.linspace(0.0, 0.9, len(counts)))
    for (epoch, count), shade in zip(counts.items(), shades, strict=True):
        axes.plot(
            np.arange(1, len(count) + 1),
            count,
            color=shade,
            label=epoch if isinstance(epoch, str) else f"epoch {epoch}",
        )
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

    Example:
        >>> drawn = within_and_between(np.array([0.1, 0.4]), np.array([True, False]), label="distance")
        >>> drawn.get_legend().get_texts()[0].get_text()
        'within a class (1 pairs)'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3.
    """
    axes = new_axes(axes)
    low, high = values.min(), values.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    bins = np.linspace(low, high, 61).tolist()
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

    Example:
        >>> drawn = scores_along(np.array([0.0, 1.0]), np.array([[1.0, 0.0], [0.0, 1.0]]))
        >>> drawn.get_ylabel()
        'class score (logits)'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition.
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

    Example:
        >>> breakpoint_density(np.array([0.1, 0.2])).get_xlim()
        (np.float64(0.0), np.float64(1.0))

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition.
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

    Example:
        >>> drawn = plane(np.array([[0, 0], [0, 1]]))
        >>> [text.get_text() for text in drawn.get_legend().get_texts()]
        ['class 0', 'class 1', 'decision']

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition.
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
    axes.set(xlabel="along the first side", ylabel="along the second side")
    handles = [
        *(Patch(color=palette(int(i)), alpha=0.35, label=f"class {order[i]}") for i in present),
        Line2D([], [], color="black", linewidth=2, label="decision"),
        *([Line2D([], [], color="#333333", linewidth=0.8, label="walls of pieces")] if len(polygons) else []),
    ]
    axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return axes


def mark_corners(names: Sequence[str], *, axes: Axes | None = None) -> Axes:
    """Name the inputs that lie at (0, 0), (1, 0) and (0, 1) of a plane.

    Args:
        names: of the three, in that order.
        axes: where to draw, those of `plane`.

    Returns:
        The axes.

    Example:
        >>> [text.get_text() for text in mark_corners(("one", "another", "a third")).texts]
        ['one', 'another', 'a third']

    Source:
        This package's own.
    """
    axes = new_axes(axes)
    places = [(0, 0, 8, 8), (1, 0, -8, 8), (0, 1, 8, -16)]
    for name, (a, b, aside, lift) in zip(names, places, strict=True):
        axes.plot(a, b, "o", color="black", markersize=8, clip_on=False)
        axes.annotate(
            name,
            (a, b),
            xytext=(aside, lift),
            textcoords="offset points",
            ha="left" if aside > 0 else "right",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "edgecolor": "none"},
        )
    return axes


def frame(extent: tuple[float, float, float, float]) -> Rectangle:
    """The outline of a part of a plane.

    Args:
        extent: left, right, bottom and top, in the plane's coordinates.

    Returns:
        The rectangle, to be added to axes.

    Example:
        >>> frame((0.0, 0.5, 0.0, 0.25)).get_height()
        0.25

    Source:
        This package's own.
    """
    left, right, bottom, top = extent
    return Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor="black", linewidth=1.5)


def measured_and_predicted(
    scales: Sequence[float] | np.ndarray,
    values: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    axes: Axes | None = None,
) -> Axes:
    """Measured over predicted against the scale of the noise: 1 where the prediction holds.

    What is predicted to be nothing has no ratio and is left out.

    Args:
        scales: (scale,).
        values: by name, what was measured, its standard error and what was predicted, each (scale,).
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> one = np.ones(2)
        >>> measured_and_predicted([0.1, 1.0], {"a network": (one, 0.1 * one, one)}).get_ylabel()
        'loss added: measured / predicted'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 5, for the noise on the initial state.
    """
    axes = new_axes(axes)
    axes.axhline(1, color="black", linewidth=0.8)
    for (name, (measured, stderr, predicted)), colour in zip(values.items(), COLOURS, strict=False):
        known = np.where(predicted == 0, np.nan, predicted)
        ratio, error = measured / known, 2 * stderr / known
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

    Example:
        >>> region_changes([0.1, 1.0], {"a network": np.array([0.0, 1.0])}).get_ylabel()
        'share of samples that leave their region'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 5, for the noise on the initial state.
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

    Example:
        >>> rounds_by_length([8, 16], {"a network": np.array([4, 6])}).get_ylabel()
        'rounds'

    Source:
        This package's own, for `parallel_forward`.
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
