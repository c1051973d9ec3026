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
        values: (example,), the quantity; not finite ones are left out, and the one per cent at either end is drawn in the
            outermost bins.
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
    bins = np.histogram_bin_edges([low, high], bins=40)
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
    epochs: Sequence[float],
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
