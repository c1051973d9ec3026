"""Pictures. Each function draws on matplotlib axes, its own where none are given, and returns them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from maso_rnn.slices import Decisions
from maso_rnn.style import COLOURS as COLOURS
from maso_rnn.style import DIVERGING as DIVERGING
from maso_rnn.style import GREY, HIGHLIGHT, INK, MARKERS, PALE, SMALL, legend
from maso_rnn.style import SEQUENTIAL as SEQUENTIAL
from maso_rnn.style import new_axes as new_axes
from maso_rnn.style import new_figure as new_figure

ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0)}  # a legend over the axes hides no data


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
    """
    values = np.asarray(values)
    return values.T if image_shape is None else values.reshape(image_shape)


def _image_axes(axes: Axes | None, image_shape: tuple[int, int] | None) -> Axes:
    if axes is None:
        axes = new_axes(None, width=4, height=3) if image_shape else new_axes(None, width=6, height=2)
        if image_shape is None:
            axes.set(xlabel="time", ylabel="input")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
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
    image = as_image(slope, image_shape)
    limit = np.abs(image).max() if limit is None else limit
    alone, axes = axes is None, _image_axes(axes, image_shape)
    drawn = axes.imshow(image, cmap=DIVERGING, vmin=-limit, vmax=limit, aspect="equal" if image_shape else "auto")
    if alone:
        axes.figure.colorbar(drawn, ax=axes, label="what input there adds to the class")
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
    """
    axes = _image_axes(axes, image_shape)
    axes.imshow(as_image(xs, image_shape), cmap="gray_r", aspect="equal" if image_shape else "auto")
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
        slope: (output, time, input), from `affine_map` or `linearize` at `xs`.
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
    panels = 1 + len(shown)
    if axes is None and image_shape:
        axes = new_figure(1.2 * panels, 1.6).subplots(1, panels)
    elif axes is None:
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
            panel.set_title(head, fontsize=SMALL, fontweight=weight)
        else:
            panel.set_ylabel(head, fontsize=SMALL, fontweight=weight, rotation=0, ha="right", va="center")
        if one is not None:
            panel.spines[:].set(color=HIGHLIGHT if best else PALE, linewidth=3 if best else 0.5)
    if image_shape:
        axes[0].set_ylabel(said, fontsize=SMALL)
    else:
        axes[0].set_title(said, fontsize=SMALL)
        axes[-1].set_xlabel("time")
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
    axes.imshow(
        rows,
        cmap=ListedColormap(shades),
        vmin=-0.5,
        vmax=pieces - 0.5,
        aspect="auto",
        extent=(0.5, rows.shape[1] + 0.5, len(rows) - 0.5, -0.5),
        interpolation="nearest",
    )
    widths = np.array([code.shape[1] for code in codes])
    ends = np.cumsum(widths)
    for end in ends[:-1]:
        axes.axhline(end - 0.5, color=COLOURS[1], linewidth=2)
    axes.set_yticks(ends - widths / 2 - 0.5, [f"layer {l}\n{width} units" for l, width in enumerate(widths)])
    axes.set_xlabel("step")
    names = ["off: below the kink", "on: above it"] if pieces == 2 else [f"piece {r}" for r in range(pieces)]
    handles = [Patch(facecolor=tuple(s), edgecolor=INK, label=name) for s, name in zip(shades, names, strict=True)]
    legend(axes, handles=handles, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=min(pieces, 4))
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
    """
    return [np.argsort(-np.asarray(code).reshape(-1, code.shape[-1]).mean(axis=0), kind="stable") for code in codes]


def code_map(codes: np.ndarray, classes: np.ndarray, *, title: str = "", axes: Axes | None = None) -> Axes:
    """Codes of many sequences in the plane of their two leading principal components, each marked by its class.

    Args:
        codes: (example, unit), codes at one time, or of any length.
        classes: (example,), their classes; the ten that are commonest have colours, the others are grey dots.
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
    classes = np.asarray(classes)
    points, shares, _ = principal_components(np.asarray(codes, float))
    names, counts = np.unique(classes, return_counts=True)
    marked = np.sort(names[np.argsort(-counts, kind="stable")][: len(COLOURS)])
    rest = ~np.isin(classes, marked)
    axes.scatter(points[rest, 0], points[rest, 1], s=6, color=PALE)
    for name, colour in zip(marked, COLOURS, strict=False):
        own = classes == name
        axes.scatter(points[own, 0], points[own, 1], s=32, marker=f"${name}$", color=colour, linewidths=0.3)
    axes.set(
        xlabel=f"first component, {shares[0]:.0%} of the variance",
        ylabel=f"second component, {shares[1]:.0%}",
        title=title,
        xticks=[],
        yticks=[],
    )
    return axes


def principal_components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in the plane of their two leading principal components.

    Args:
        values: (point, dimension).

    Returns:
        The places (point, 2), the shares of the variance (2,), and the directions (2, dimension); zeros where there
        is no such component.

    Example:
        >>> places, shares, _ = principal_components(np.array([[0.0, 0.0], [2.0, 0.0]]))
        >>> np.abs(places[:, 0]).round(6).tolist(), shares.tolist()
        ([1.0, 1.0], [1.0, 0.0])
    """
    left, sizes, right = np.linalg.svd(values - values.mean(axis=0), full_matrices=False)
    points, directions = np.zeros((len(values), 2)), np.zeros((2, values.shape[1]))
    points[:, : len(sizes)] = (left * sizes)[:, :2]
    directions[: len(sizes)] = right[:2]
    shares = np.append(sizes**2, [0.0, 0.0])[:2] / max(float((sizes**2).sum()), np.finfo(float).tiny)
    return points, shares, directions


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
        ['predicted right (2), median 1.5', 'predicted wrong (1), median 9']
    """
    axes = new_axes(axes)
    values, right = np.asarray(values), np.asarray(right)
    finite = np.isfinite(values)
    low, high = np.quantile(values[finite], [0.01, 0.99]) if finite.any() else (0.0, 1.0)
    _histograms(axes, {names[0]: values[right & finite], names[1]: values[~right & finite]}, low, high)
    axes.set(xlabel=label, ylabel="density")
    axes.set_title(title, pad=38 if finite.any() else None)
    if not finite.any():
        axes.text(0.5, 0.5, f"none of the {values.size} values is finite", ha="center", transform=axes.transAxes)
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
        'pairs of one class (1), median 0.1'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3.
    """
    axes = new_axes(axes)
    groups = {"pairs of one class": values[same], "pairs of two classes": values[~same]}
    _histograms(axes, groups, values.min(), values.max())
    axes.set(xlabel=label, ylabel="density")
    return axes


def _histograms(axes: Axes, groups: Mapping[str, np.ndarray], low: float, high: float) -> None:
    """Two groups in the same bins, with their medians; what lies outside is put at the ends."""
    if low == high:
        low, high = low - 0.5 - 0.01 * abs(low), high + 0.5 + 0.01 * abs(high)
    bins = np.linspace(low, high, 41).tolist()
    for (name, shown), colour, style in zip(groups.items(), COLOURS, ("--", ":"), strict=False):
        if shown.size:
            label = f"{name} ({shown.size}), median {np.median(shown):.3g}"
            axes.hist(shown.clip(low, high), bins, density=True, alpha=0.5, color=colour)
            axes.axvline(np.median(shown), color=colour, linestyle=style, linewidth=2)
            axes.plot([], [], color=colour, linestyle=style, linewidth=5, label=label)
    if any(shown.size for shown in groups.values()):
        legend(axes, **ABOVE)


def nearest_wall(distances: Mapping[str, np.ndarray], *, axes: Axes | None = None) -> Axes:
    """For every distance, the share of inputs that have a wall of their region nearer than that.

    A wall is where some unit at some step changes its piece. A curve that lies higher belongs to inputs that are nearer
    to their walls. Inputs on a wall, at distance 0, are where a curve begins.

    Args:
        distances: by group of inputs, (example,), in units of the input, as `boundary_distance` has them.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> drawn = nearest_wall({"right": np.array([0.1, 0.2]), "wrong": np.array([0.0])})
        >>> [text.get_text() for text in drawn.get_legend().get_texts()]
        ['right (2): half within 0.15', 'wrong (1): half within 0']
    """
    axes = new_axes(axes)
    every = np.concatenate([np.asarray(found, float) for found in distances.values()])
    shown = every[(every > 0) & np.isfinite(every)]
    low, high = (0.7 * np.quantile(shown, 0.02), 1.4 * shown.max()) if shown.size else (0.1, 1.0)
    for (name, found), colour, style in zip(distances.items(), COLOURS, itertools.cycle(("-", "--", "-.", ":"))):
        found = np.sort(np.asarray(found, float))
        if len(found):
            reached = np.arange(1, len(found) + 1) / len(found)
            places = np.concatenate([[low], found.clip(low, None), [high]])
            axes.step(
                places,
                np.concatenate([[(found <= 0).mean()], reached, [(found < np.inf).mean()]]),
                where="post",
                color=colour,
                linestyle=style,
                linewidth=2,
                label=f"{name} ({len(found)}): half within {np.median(found):.2g}",
            )
    axes.set(
        xscale="log",
        xlim=(low, high),
        ylim=(0, 1.02),
        xlabel="distance that the input moves, in units of the input (logarithmic)",
        ylabel="share of inputs with\na wall within it",
    )
    axes.grid(color=PALE, linewidth=0.6)
    if not shown.size:
        axes.text(0.5, 0.5, "every input lies on a wall", ha="center", transform=axes.transAxes)
    legend(axes, **ABOVE)
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
    """
    axes = new_axes(axes)
    for (name, value), colour, marker in zip(values.items(), itertools.cycle(COLOURS), itertools.cycle(MARKERS)):
        value = np.asarray(value, float)
        quantiles = np.quantile(value, [0.25, 0.5, 0.75], axis=1) if value.ndim == 2 else value[None]
        if log:
            quantiles = np.where(quantiles > 0, quantiles, np.nan)
        middle = quantiles[len(quantiles) // 2]
        if value.ndim == 2:
            low, _, high = quantiles
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(epochs, middle, color=colour, marker=marker if len(epochs) < 20 else "", label=name)
    axes.set(xlabel="epoch", ylabel=label, yscale="log" if log else "linear")
    legend(axes)
    return axes


def eigenvalue_cloud(eigenvalues: Mapping[str, np.ndarray], *, axes: Axes | None = None) -> Axes:
    """Eigenvalues in the complex plane with the unit circle: inside it a mode decays, outside it grows (filled).

    Where all lie close together at the circle, that part of the plane is drawn, and a small picture shows which it is.

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
    axes = new_axes(axes, width=6, height=6)
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, linewidth=1.5, zorder=0)
    axes.axhline(0, color=PALE, linewidth=0.8, zorder=0)
    axes.axvline(0, color=PALE, linewidth=0.8, zorder=0)
    # the first largest and on top, so that one place that many share is seen
    for (name, values), colour, marker, size in zip(eigenvalues.items(), COLOURS, "o^s", (110, 45, 14), strict=False):
        values = np.asarray(values)
        size = size if len(eigenvalues) > 1 else max(12, 600 // len(values))
        outside = np.abs(values) > 1 + 1e-6
        axes.scatter(
            values.real,
            values.imag,
            s=size,
            marker=marker,
            facecolors=[colour if grows else "none" for grows in outside],
            edgecolors=colour,
            linewidths=1.2,
            zorder=2 + size / 1000,
        )
        label = f"{name}: radius {np.abs(values).max():.3g}, {outside.sum()} of {len(values)} outside the circle"
        axes.scatter([], [], s=45, marker=marker, facecolors=colour, edgecolors=colour, label=label)
    every = np.concatenate([np.ravel(values) for values in eigenvalues.values()])
    across, up, reach = _window(every)
    axes.set(xlim=(across - reach, across + reach), ylim=(up - reach, up + reach), aspect="equal")
    axes.set(xlabel="real part", ylabel="imaginary part")
    if up or across:  # a part of the circle, whose place the small picture shows
        whole = axes.inset_axes((0.02, 0.7, 0.28, 0.28))
        whole.plot(np.cos(angle), np.sin(angle), color=GREY, linewidth=1)
        whole.add_patch(frame((across - reach, across + reach, up - reach, up + reach)))
        furthest = 1.1 * max(1.0, float(np.abs(every).max()))
        whole.set(xlim=(-furthest, furthest), ylim=(-furthest, furthest), aspect="equal", xticks=[], yticks=[])
    legend(axes, **ABOVE)
    return axes


def _window(eigenvalues: np.ndarray) -> tuple[float, float, float]:
    """The middle and half the side of a square: around a small cloud that the unit circle cuts, else around it all."""
    parts = np.stack([eigenvalues.real, eigenvalues.imag])
    low, high = parts.min(axis=1), parts.max(axis=1)
    across, up = map(float, (low + high) / 2)
    reach = 0.6 * float((high - low).max())
    whole = 1.1 * max(1.0, float(np.abs(eigenvalues).max()))
    if 0.05 < reach < 0.5 * whole and abs(np.hypot(across, up) - 1) < reach:
        return across, up, reach
    return 0.0, 0.0, whole


def horizon_histogram(horizons: Mapping[str, np.ndarray], *, axes: Axes | None = None) -> Axes:
    """How many eigenvalues remember for how long, on a logarithmic axis of steps that is as long as it must be.

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
    every = np.concatenate([np.asarray(values, float) for values in horizons.values()])
    known = every[(every > 0) & (every < 1000)]
    low = float(10 ** np.floor(np.log10(max(known.min(), 0.1)))) if known.size else 100.0
    edges = np.geomspace(low, 1000, 25)
    centres, never = np.sqrt(edges[:-1] * edges[1:]), edges[-1] * (edges[1] / edges[0]) ** 2
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
    axes.axvline(edges[-1], color=GREY, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", xlabel="memory horizon −1 / ln|λ| (steps)", ylabel="number of eigenvalues")
    powers = [10.0**k for k in range(-1, 3) if 10.0**k >= low]
    axes.set_xticks([*powers, never], [*(f"{'≤ ' * (power == low)}{power:g}" for power in powers), "≥ 1000\nor grows"])
    axes.minorticks_off()
    legend(axes, **ABOVE)
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
    """
    axes = new_axes(axes)
    for (name, values), colour, marker in zip(growth.items(), COLOURS, MARKERS, strict=False):
        values = np.asarray(values, float)
        steps = np.arange(len(values))
        shown = np.where((values > 0) & np.isfinite(values), values, np.nan)
        axes.plot(steps, shown, color=colour, marker=marker, markevery=8, label=f"{name}: ‖W^k‖")
        with np.errstate(over="ignore", under="ignore"):
            explained = float(radius[name]) ** steps
        axes.plot(
            steps, explained, color=colour, linestyle="--", label=f"{name}: radius^k, {float(radius[name]):.3g}^k"
        )
    axes.set(yscale="log", xlabel="k (steps)", ylabel="largest stretch of a state, ‖W^k‖")
    legend(axes, outside=True)
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
    axes = new_axes(axes, width=5, height=5)
    high = 1000.0
    cut = {
        name: [
            np.where(steps < 0, high, steps).clip(0.1, high)
            for steps in (np.asarray(values, float), np.asarray(measured[name], float))
        ]
        for name, values in predicted.items()
    }
    known = [steps[np.isfinite(steps)].min(initial=high) for pair in cut.values() for steps in pair]
    low = float(10 ** np.floor(np.log10(min(*known, 100.0))))  # no decade in which nothing lies
    axes.plot([low, high], [low, high], color=GREY, linewidth=1.5, zorder=0, label="as predicted")
    for (name, (x, y)), colour, marker, size in zip(cut.items(), COLOURS, "o^s", (60, 24, 8), strict=False):
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
    powers = [10.0**k for k in range(-1, 3) if 10.0**k >= low]
    ticks = [*(f"{'≤ ' * (power == 0.1)}{power:g}" for power in powers), "≥ 1000\nor grows"]
    axes.set_xticks([*powers, high], ticks)
    axes.set_yticks([*powers, high], ticks)
    axes.minorticks_off()
    axes.text(0.97, 0.03, "forgotten sooner", color=GREY, fontsize=SMALL, ha="right", transform=axes.transAxes)
    axes.text(0.03, 0.84, "remembered longer", color=GREY, fontsize=SMALL, transform=axes.transAxes)
    legend(axes, loc="upper left", bbox_to_anchor=(0.0, 0.82))
    return axes


def regions_through_time(counts: Mapping[Any, np.ndarray], *, sequences: int, axes: Axes | None = None) -> Axes:
    """How many regions a set of sequences falls into, step by step, up to where the counts change no more.

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
    last = 1
    shades = [COLOURS[0]] if len(counts) == 1 else colormaps[SEQUENTIAL](np.linspace(0.0, 0.85, len(counts)))
    for (epoch, count), shade, marker in zip(counts.items(), shades, itertools.cycle(MARKERS)):
        name = epoch if isinstance(epoch, str) else f"epoch {epoch}"
        axes.plot(np.arange(1, len(count) + 1), count, color=shade, marker=marker, markersize=4, label=name)
        last = max(last, *(np.flatnonzero(np.diff(count)) + 2).tolist(), 1)
    time = max(map(len, counts.values()))
    axes.axhline(sequences, color=INK, linestyle="--", linewidth=1, label=f"all {sequences} told apart")
    axes.set(xlabel="steps read", ylabel="different regions", ylim=(0, 1.06 * sequences))
    axes.set_xlim(0.5, min(time, 1.2 * last + 2) + 0.5)
    if axes.get_xlim()[1] < time:
        axes.set_xlabel(f"steps read (of {time}; nothing changes after step {last})")
    legend(axes, outside=True)
    return axes


def scores_along(
    places: np.ndarray,
    outputs: np.ndarray,
    decisions: Decisions | None = None,
    *,
    shown: int = 6,
    axes: Axes | None = None,
) -> Axes:
    """Class scores along a line, straight between breakpoints: the classes that lead are coloured, the rest grey.

    Args:
        places: (point,), positions along the line, the breakpoints and both ends.
        outputs: (point, output), the scores there.
        decisions: where the largest score changes, from `maso_rnn.decisions`; by default nothing is looked for between
            the points, and changes are not marked.
        shown: at most this many classes are coloured: those that lead, longest first, then the closest rivals.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> found = Decisions(np.array([0.5]), np.array([0, 1]))
        >>> drawn = scores_along(np.array([0.0, 1.0]), np.array([[1.0, 0.0], [0.0, 1.0]]), found)
        >>> [float(line.get_xdata()[0]) for line in drawn.lines if line.get_linestyle() == "--"]
        [0.5]

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition.
    """
    if axes is None:
        axes = new_axes(None)
        axes.set_xlabel("place on the line")
    places, outputs = np.asarray(places, float), np.asarray(outputs, float)
    if decisions is None:
        changes, leaders, spans = np.empty(0), outputs.argmax(axis=1), np.gradient(places)
    else:
        changes, leaders = np.asarray(decisions.places), np.asarray(decisions.classes)
        spans = np.diff(np.concatenate([places[:1], changes, places[-1:]]))
    lengths = np.bincount(leaders, spans, outputs.shape[1])
    behind = (outputs.max(axis=1, keepdims=True) - outputs).min(axis=0)
    ranking = sorted(range(outputs.shape[1]), key=lambda c: (c not in leaders, -lengths[c], behind[c]))
    coloured = ranking[: min(shown, max(len(set(leaders.tolist())), 2))]
    for c in ranking[len(coloured) :]:
        axes.plot(places, outputs[:, c], color=PALE, linewidth=0.8, zorder=1)
    for rank, (c, colour) in enumerate(zip(coloured, itertools.cycle(COLOURS))):
        name = f"class {c}" + (": leads" if c in leaders else ": closest rival")
        line = "-" if c in leaders else "-."
        axes.plot(places, outputs[:, c], color=colour, linewidth=2, linestyle=line, label=name, zorder=3 - rank / 100)
    for i, at in enumerate(changes):
        axes.axvline(at, color=INK, linestyle="--", linewidth=1, label=None if i else "the decision changes")
    if len(coloured) < outputs.shape[1]:
        axes.plot([], [], color=PALE, linewidth=0.8, label="other classes")
    axes.set_ylabel("class score (logits)")
    legend(axes, outside=True)
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
    if axes is None:
        axes = new_axes(None, height=2)
        axes.set_xlabel("place on the line")
    axes.hist(breakpoints, np.linspace(0, 1, bins + 1).tolist(), color=COLOURS[8])
    axes.set(xlim=(0, 1), ylabel=f"breakpoints\nin 1/{bins}")
    return axes


def plane(
    scores: np.ndarray,
    *,
    polygons: Sequence[np.ndarray] = (),
    boundary: np.ndarray | None = None,
    extent: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 1.0),
    classes_shown: np.ndarray | None = None,
    axes: Axes | None = None,
) -> Axes:
    """A plane of inputs: the class that the network says at each point, and the walls of the pieces over it.

    Args:
        scores: (point, point, output), the network's output on a grid over `extent`, rows upwards.
        polygons: for each piece (corner, 2), as `PlanePartition.polygons`.
        boundary: (segment, 2, 2), where the decision changes, exactly, as `Boundary.segments`; by default it is drawn
            between the points of the grid.
        extent: left, right, bottom and top of what is shown.
        classes_shown: the classes that get colours, in that order, so that two pictures can agree; by default those
            present.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> drawn = plane(np.array([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]]))
        >>> [text.get_text() for text in drawn.get_legend().get_texts()]
        ['says 0', 'says 1', 'the decision changes']

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition.
    """
    axes = new_axes(axes, width=6, height=5)
    scores = np.asarray(scores, float)
    classes = scores.argmax(axis=-1)
    present = np.unique(classes)
    order = present if classes_shown is None else np.union1d(classes_shown, present)
    left, right, bottom, top = extent
    middles = np.linspace(left, right, classes.shape[1]), np.linspace(bottom, top, classes.shape[0])
    handles: list[Any] = []
    for c in present:
        colour = COLOURS[np.searchsorted(order, c) % len(COLOURS)]
        lead = scores[..., c] - np.delete(scores, c, axis=-1).max(axis=-1, initial=-np.inf)
        handles.append(Patch(facecolor=colour, alpha=0.35, label=f"says {c}"))
        if len(present) == 1:
            axes.axvspan(left, right, color=colour, alpha=0.35, linewidth=0)
            break
        axes.contourf(*middles, lead, levels=[0, np.inf], colors=[colour], alpha=0.35)
        if boundary is None:
            axes.contour(*middles, lead, levels=[0], colors=INK, linewidths=2.0)
    if len(polygons):
        width = float(np.clip(20 / np.sqrt(len(polygons)), 0.1, 1.0))
        axes.add_collection(PolyCollection(list(polygons), facecolors="none", edgecolors=INK, linewidths=width))
    if boundary is not None:
        axes.add_collection(LineCollection(list(boundary), colors=INK, linewidths=2.5))
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set(xlabel="share of the first side", ylabel="share of the second side")
    if len(present) > 1:
        handles.append(Line2D([], [], color=INK, linewidth=2, label="the decision changes"))
    if len(polygons):
        handles.append(Line2D([], [], color=INK, linewidth=0.5, label="walls of pieces"))
    legend(axes, handles=handles, outside=True)
    return axes


def mark_corners(names: Sequence[str], *, axes: Axes | None = None) -> Axes:
    """Name the inputs that lie at (0, 0), (1, 0) and (0, 1) of a plane, outside it, where they hide nothing.

    Args:
        names: of the three, in that order.
        axes: where to draw, those of `plane`.

    Returns:
        The axes.

    Example:
        >>> [text.get_text() for text in mark_corners(("one", "another", "a third")).texts]
        ['one', 'another', 'a third']
    """
    axes = new_axes(axes)
    axes.set(xticks=[], yticks=[])
    axes.xaxis.labelpad = 18  # below the names
    places = [(0, 0, "left", -8), (1, 0, "right", -8), (0, 1, "left", 8)]
    for name, (a, b, side, lift) in zip(names, places, strict=True):
        axes.plot(a, b, "o", color=INK, markersize=8, clip_on=False)
        axes.annotate(
            name,
            (a, b),
            xytext=(0, lift),
            textcoords="offset points",
            ha=side,
            va="bottom" if lift > 0 else "top",
            fontsize=SMALL,
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
    """
    left, right, bottom, top = extent
    return Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor=INK, linewidth=1.5)


def measured_and_predicted(
    scales: Sequence[float] | np.ndarray,
    values: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    axes: Axes | None = None,
) -> Axes:
    """What noise adds to the loss: measured, as points with two standard errors, and predicted, as lines.

    The axes are logarithmic. Where noise lowers the loss the point is hollow, at the size of the change; a prediction
    of nothing is left out.

    Args:
        scales: (scale,).
        values: by name, what was measured, its standard error and what was predicted, each (scale,).
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> one = np.ones(2)
        >>> measured_and_predicted([0.1, 1.0], {"a network": (one, 0.1 * one, one)}).get_ylabel()
        'loss added (nats)'

    Source:
        Wang, Balestriero, Baraniuk (2019), section 5, for the noise on the initial state.
    """
    axes = new_axes(axes)
    falls, scales = False, np.asarray(scales, float)
    for i, (name, (measured, stderr, predicted)) in enumerate(values.items()):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        places = scales * 1.06 ** (i - (len(values) - 1) / 2)  # beside each other, so that none hides another
        size = np.abs(measured)
        below = np.minimum(2 * np.asarray(stderr), 0.9 * size)  # a bar that reaches zero has no end on this axis
        axes.errorbar(places, size, (below, 2 * np.asarray(stderr)), fmt="none", color=colour, capsize=2, zorder=2)
        rises = np.asarray(measured) > 0
        axes.plot(places[rises], size[rises], marker, color=colour, label=f"{name}: measured", zorder=3)
        axes.plot(places[~rises], size[~rises], marker, color=colour, markerfacecolor="white", zorder=3)
        falls |= bool((~rises).any())
        known = np.where(np.asarray(predicted) > 0, predicted, np.nan)
        axes.plot(scales, known, color=colour, linewidth=1.5, linestyle=("-", "--", "-.", ":")[i % 4])
    axes.plot([], [], color=GREY, label="lines: predicted")
    if falls:
        axes.plot([], [], "o", color=GREY, markerfacecolor="white", label="hollow: the loss falls")
    axes.set(xscale="log", yscale="log", xlabel="standard deviation σ of the noise", ylabel="loss added (nats)")
    legend(axes, **ABOVE)
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
    for i, (name, share) in enumerate(shares.items()):
        style = ("-", "--", "-.", ":")[i % 4]
        places = np.asarray(scales, float) * 1.06 ** (
            i - (len(shares) - 1) / 2
        )  # beside each other: none hides another
        axes.plot(places, share, style, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], label=name)
    axes.set(
        xscale="log",
        xlabel="standard deviation σ of the noise",
        ylabel="share of samples that leave their region",
        ylim=(-0.03, 1.03),
    )
    legend(axes, **ABOVE)
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
    """
    axes = new_axes(axes)
    for i, (name, row) in enumerate(rounds.items()):
        axes.plot(lengths, row, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], label=name)
    axes.plot(lengths, lengths, color=INK, linestyle="--", linewidth=1, label="one round a step")
    axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="rounds")
    powers = [2**i for i in range(int(np.log2(max(lengths))) + 1)]
    axes.set_xticks(list(lengths), [str(length) for length in lengths])
    axes.set_yticks(powers, [str(power) for power in powers])
    axes.minorticks_off()
    legend(axes, outside=True)
    return axes


def perturbation_growth(log_singular_values: np.ndarray, exponents: np.ndarray, *, axes: Axes | None = None) -> Axes:
    """How much a change of the first state is stretched after each step, in the directions that it is stretched most.

    Args:
        log_singular_values: (time, hidden), as `JacobianSpectra` has them, largest first.
        exponents: (hidden,), Lyapunov exponents for one step; the largest is drawn as a line.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> perturbation_growth(np.log(np.full((3, 2), 0.5)), np.log(np.full(2, 0.5))).get_xlabel()
        'steps since the change'

    Source:
        Engelken, Wolf, Abbott, *Lyapunov spectra of chaotic recurrent neural networks* (2023).
    """
    axes = new_axes(axes)
    sizes = np.asarray(log_singular_values, float) / np.log(10)
    sizes = np.where(sizes < -6, np.nan, sizes)  # a millionth is nothing to see
    steps = np.arange(1, len(sizes) + 1)
    tenth = sizes.shape[1] // 10
    for row, name, colour, style in ((0, "most", COLOURS[0], "-"), (tenth, "more than nine in ten", COLOURS[1], "--")):
        label = f"direction that is stretched {name}"
        axes.plot(steps, 10 ** sizes[:, row], style, color=colour, linewidth=2, label=label)
    rate = float(exponents[0])
    if np.isfinite(rate):
        axes.plot(
            steps,
            np.exp(rate * steps),
            ":",
            color=INK,
            linewidth=2,
            label=f"largest Lyapunov exponent, {rate:+.3g} a step",
        )
    axes.axhline(1, color=GREY, linewidth=1)
    axes.set(yscale="log", xlabel="steps since the change", ylabel="size of the change, 1 at first")
    legend(axes, **ABOVE)
    return axes


def linear_errors(scales: np.ndarray, errors: np.ndarray, *, axes: Axes | None = None) -> Axes:
    """How wrong a first-order map is when the input moves: the median over sequences, with quartiles.

    Args:
        scales: (scale,), how far the input moved, as a share of its own size.
        errors: (scale, example), the error as a share of the change of the output.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> linear_errors(np.array([0.1, 1.0]), np.array([[0.01], [0.5]])).get_ylabel()
        'error / change of the output'
    """
    axes = new_axes(axes)
    low, middle, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=1)
    axes.plot(scales, middle, "o-", color=COLOURS[0], label="median error")
    axes.fill_between(scales, low, high, color=COLOURS[0], alpha=0.2, linewidth=0, label="half of the sequences")
    axes.axhline(1, color=GREY, linestyle="--", linewidth=1, label="as large as the change of the output itself")
    axes.set(xscale="log", ylim=(0, max(1.1, 1.1 * float(high.max()))), ylabel="error / change of the output")
    axes.set_xlabel("how far the input moves / its own size")
    legend(axes, **ABOVE)
    return axes
