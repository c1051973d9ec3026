"""How every picture of the three packages looks: sizes, fonts and colours, in one place.

Nothing here changes matplotlib's own settings: a figure made by `new_figure` dresses the axes that are put on it.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours and three dark ones: ten that colour-blind readers tell apart, the dark ones first
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#802000", "#0000E0", "#E69F00", "#56B4E9", "#000060",
)  # fmt: skip
MARKERS = "osD^vP*X<>"
INK, GREY, PALE = "#1b1b1b", "#767676", "#d9d9d9"  # text and lines; what is beside the point; grids
HIGHLIGHT = "#E69F00"  # frames around what is meant
DIVERGING, SEQUENTIAL = "RdBu_r", "cividis"
TITLE, LABEL, SMALL = 11, 10, 9  # points; nothing is written smaller
PAGE = 10.0  # inches: a wider picture is shrunk by the page, and its type with it


class _Figure(Figure):
    """A figure whose axes are dressed as they come."""

    def add_subplot(self, *args: Any, **kwargs: Any) -> Any:
        axes = super().add_subplot(*args, **kwargs)
        axes.title.set_fontsize(TITLE)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_fontsize(LABEL)
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        return axes


def new_figure(width: float = 8.0, height: float = 4.0) -> Figure:
    """An empty figure for a picture, which needs no closing.

    Args:
        width: in inches.
        height: in inches.

    Returns:
        The figure.

    Example:
        >>> new_figure(6, 2).get_size_inches().tolist()
        [6.0, 2.0]
    """
    return _Figure(figsize=(width, height), layout="constrained")


def new_axes(axes: Axes | None, *, width: float = 8.0, height: float = 4.0) -> Axes:
    """The axes to draw on: those given, or new ones.

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
    """
    return new_figure(width, height).add_subplot() if axes is None else axes


def legend(axes: Axes, *, outside: bool = False, **options: Any) -> None:
    """A legend in the common type, without a frame; to the right of the axes where it would hide data.

    Args:
        axes: what it explains.
        outside: whether it stands beside the axes.
        **options: of `Axes.legend`.

    Example:
        >>> axes = new_axes(None)
        >>> lines = axes.plot([0, 1], label="a line")
        >>> legend(axes)
        >>> axes.get_legend().get_texts()[0].get_fontsize()
        9.0
    """
    beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if outside else {}
    axes.legend(**{"fontsize": SMALL, "frameon": False, **beside, **options})
