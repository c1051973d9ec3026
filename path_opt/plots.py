"""Pictures of small reduction graphs."""

from __future__ import annotations

import matplotlib.patches
import numpy as np
from jaxtyping import PyTree
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from maso_rnn.network import Layer
from maso_rnn.style import COLOURS, INK, legend, new_axes
from path_opt.graph import ReductionGraph

INCOMING, FROZEN, BOTH, OTHER = COLOURS[0], COLOURS[1], "#000000", "#B0B0B0"
_MOST = 60  # circles that can still be told apart


def draw_graph(params: PyTree, graph: ReductionGraph, *, axes: Axes | None = None) -> Axes:
    """A small reduction graph: units as circles, weights as lines, skeleton edges thick.

    Layers stand in columns from the inputs, left, to the outputs, right; recurrent weights are arcs within a column.
    Lines are dashed where the weight is negative, and thin lines are thinner where it is small.

    Args:
        params: the parameters.
        graph: their reduction graph.
        axes: where to draw; by default a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: if there are more than 60 circles to draw, or `params` does not fit the graph.

    Example:
        >>> import jax, maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 2, [4, 3], 2)
        >>> draw_graph(rnn, path_opt.reduction_graph(rnn)).get_title()
        '53 basis paths: 60 weights less 7 hidden units'

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019), for the reduction graph.
    """
    sizes = (graph.inputs, *graph.widths, graph.outputs)
    if sum(sizes) > _MOST:
        raise ValueError(
            f"graph has {sum(sizes)} inputs, units and outputs, of which at most {_MOST} can be drawn; print(graph) "
            "describes a larger one"
        )
    weights = graph.read(params)
    axes = new_axes(axes, width=2.2 * len(sizes), height=5)
    heights = [np.linspace(size / 2, -size / 2, size) if size > 1 else np.zeros(1) for size in sizes]
    kernels = [np.asarray(layer.input_kernel) for layer in weights.layers] + [np.asarray(weights.readout.kernel)]
    for column, kernel in enumerate(kernels):
        kind = np.full(kernel.shape, OTHER, dtype=object)
        if column < len(graph.widths):
            kind[np.asarray(graph.skeleton.incoming[column]), np.arange(kernel.shape[1])] = INCOMING
        if column:
            out = (np.arange(kernel.shape[0]), np.asarray(graph.skeleton.outgoing[column - 1]))
            kind[out] = np.where(kind[out] == INCOMING, BOTH, FROZEN)
        relative = np.abs(kernel) / max(np.abs(kernel).max(), np.finfo(np.float32).tiny)
        for (j, i), weight in np.ndenumerate(kernel):
            skeleton = kind[j, i] != OTHER
            axes.plot(
                [column, column + 1],
                [heights[column][j], heights[column + 1][i]],
                color=kind[j, i],
                linewidth=2.6 if skeleton else 0.3 + 1.2 * relative[j, i],
                linestyle="-" if weight >= 0 else (0, (3, 2)),
                zorder=2 if skeleton else 1,
            )
    for column, layer in enumerate(weights.layers, start=1):
        if layer.recurrent_kernel is None:
            continue
        kernel = np.asarray(layer.recurrent_kernel)
        relative = np.abs(kernel) / max(np.abs(kernel).max(), np.finfo(np.float32).tiny)
        for (i, j), weight in np.ndenumerate(kernel):
            if i == j:
                continue  # a loop has no length to see
            axes.add_patch(
                matplotlib.patches.FancyArrowPatch(
                    (column, float(heights[column][i])),
                    (column, float(heights[column][j])),
                    connectionstyle="arc3,rad=0.35",
                    arrowstyle="-",
                    color=OTHER,
                    linewidth=0.2 + 0.8 * relative[i, j],
                    linestyle="-" if weight >= 0 else "--",
                    alpha=0.6,
                )
            )
    for column, height in enumerate(heights):
        axes.scatter(np.full(len(height), column), height, s=90, color="white", edgecolors=INK, zorder=3)
    names = ["inputs", *[_title(l, layer) for l, layer in enumerate(weights.layers)], "outputs"]
    axes.set_xticks(range(len(sizes)), names)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{graph.basis_paths} basis paths: {graph.edges} weights less {graph.units} hidden units")
    marks = {
        "skeleton, in": (INCOMING, 2.6),
        "skeleton, out (frozen)": (FROZEN, 2.6),
        "both (frozen)": (BOTH, 2.6),
        "other weights": (OTHER, 1.0),
    }
    handles = [Line2D([], [], color=colour, linewidth=width, label=name) for name, (colour, width) in marks.items()]
    handles.append(Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (3, 2)), label="negative"))
    legend(axes, handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)
    return axes


def _title(number: int, layer: Layer) -> str:
    return f"layer {number}" if layer.recurrent_kernel is None else f"layer {number}\n(arcs: recurrent)"
