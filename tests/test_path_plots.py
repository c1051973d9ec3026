"""The drawing of a small graph shows every weight and marks the skeleton."""

import jax
import numpy as np
import pytest
from matplotlib.colors import to_hex

import maso_rnn
import path_opt
from path_opt import plots
from tests.path_networks import graph_of, network


def test_every_weight_is_drawn_and_the_skeleton_marked():
    rnn = network("three-layers")
    graph = graph_of(rnn)
    axes = plots.draw_graph(rnn, graph)
    kernels = [layer.input_kernel for layer in rnn.layers] + [rnn.readout.kernel]
    assert len(axes.lines) == sum(kernel.size for kernel in kernels)
    assert len(axes.patches) == sum(width * (width - 1) for width in graph.widths)
    colours = [to_hex(line.get_color()).upper() for line in axes.lines]
    both = sum(
        graph.skeleton.outgoing[l][j] == i
        for l, sources in enumerate(graph.skeleton.incoming[1:])
        for i, j in enumerate(sources)
    )
    assert colours.count(plots.BOTH) == both > 0
    assert colours.count(plots.INCOMING) == graph.units - both
    assert colours.count(plots.FROZEN) == graph.units - both
    dashed = sum(line.get_linestyle() != "-" for line in axes.lines)
    assert dashed == sum(int((np.asarray(kernel) < 0).sum()) for kernel in kernels)


def test_a_layer_without_recurrence_has_no_arcs():
    rnn = network("narrowing")
    rnn = rnn.replace(layers=(rnn.layers[0].replace(recurrent_kernel=None), rnn.layers[1]))
    axes = plots.draw_graph(rnn, graph_of(rnn))
    assert len(axes.patches) == 2 * 1  # of the two units above
    titles = [label.get_text() for label in axes.get_xticklabels()]
    assert ["recurrent" in title for title in titles] == [False, False, True, False]


def test_a_large_graph_is_refused():
    rnn = maso_rnn.init(jax.random.key(0), 1, [64], 2)
    with pytest.raises(ValueError, match=r"67 inputs, units and outputs, of which at most 60.*print\(graph\)"):
        plots.draw_graph(rnn, path_opt.reduction_graph(rnn))
