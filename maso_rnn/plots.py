"""Pictures. Each function draws on matplotlib axes, its own where none are given, and returns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
        log: whether its axis is logarithmic; values that are not positive are then left out.
        axes: where to draw.

    Returns:
        The axes.
    """
    axes = new_axes(axes)
    for (name, value), colour in zip(values.items(), COLOURS, strict=False):
        value = np.asarray(value, float)
        if log:
            value = np.where(value > 0, value, np.nan)
        if value.ndim == 2:
            low, middle, high = np.quantile(value, [0.25, 0.5, 0.75], axis=1)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        else:
            middle = value
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
    axes.legend(fontsize=8, loc="lower right")
    return axes
