"""The reduction graph: what it reads, how its skeleton is chosen, what it refuses."""

import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import maso_rnn
import path_opt
from maso_rnn import Layer, Readout
from tests.path_networks import ARCHITECTURES, graph_of, log_normal, network

PARAMS = {
    "cell": {"i": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, "h": {"kernel": jnp.eye(3)}},
    "head": {"kernel": jnp.ones((3, 2))},
}
LAYER, READOUT = Layer("cell/i/kernel", "cell/h/kernel", "cell/i/bias"), Readout("head/kernel")


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("skeleton", ["largest", "modulo"])
def test_counts_and_shapes(name, skeleton):
    rnn = network(name)
    graph = graph_of(rnn, skeleton)
    inputs, hidden, outputs, _, _ = ARCHITECTURES[name]
    assert (graph.inputs, graph.widths, graph.outputs) == (inputs, hidden, outputs)
    assert graph.edges == sum(leaf.size for leaf in jax.tree.leaves(rnn))
    assert graph.units == sum(hidden)
    assert graph.basis_paths == graph.edges - graph.units
    assert [len(row) for row in graph.skeleton.incoming] == list(hidden)
    for row, below in zip(graph.skeleton.incoming, (inputs, *hidden), strict=False):
        assert all(0 <= j < below for j in row)
    for row, above in zip(graph.skeleton.outgoing, (*hidden[1:], outputs), strict=True):
        assert all(0 <= k < above for k in row)


def test_modulo_is_the_index_modulo_the_width():
    graph = graph_of(network("narrowing"), "modulo")
    assert graph.skeleton.incoming == ((0, 1, 2, 0, 1), (0, 1))
    assert graph.skeleton.outgoing == ((0, 1, 0, 1, 0), (0, 1))


def test_largest_is_the_largest_product_over_all_trees():
    # greedy layer by layer is the maximum over whole paths, since products of positive numbers are monotone
    rnn = network("four-layers")
    graph = graph_of(rnn)
    kernels = [np.abs(layer.input_kernel) for layer in rnn.layers] + [np.abs(rnn.readout.kernel)]
    best = np.ones(graph.inputs)
    for kernel, chosen in zip(kernels, graph.skeleton.incoming, strict=False):
        onto = best[:, None] * kernel
        np.testing.assert_array_equal(chosen, onto.argmax(axis=0))
        best = onto.max(axis=0)
    best = np.ones(graph.outputs)
    for kernel, chosen in zip(kernels[:0:-1], graph.skeleton.outgoing[::-1], strict=True):
        onto = kernel * best
        np.testing.assert_array_equal(chosen, onto.argmax(axis=1))
        best = onto.max(axis=1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_largest_does_not_change_under_rescaling(name, key):
    rnn = network(name)
    graph = graph_of(rnn)
    for k in jax.random.split(key, 5):
        assert graph_of(path_opt.rescale(rnn, graph, log_normal(graph, k))) == graph


def test_ties_survive_the_rounding_of_a_rescaling(key):
    rnn = jax.tree.map(jnp.ones_like, network("three-layers"))
    graph = graph_of(rnn)
    assert graph.skeleton.incoming[1] == (0, 0, 0, 0)
    assert graph_of(path_opt.rescale(rnn, graph, log_normal(graph, key))) == graph


def test_is_static_hashable_and_picklable():
    rnn = network("narrowing")
    graph, again = graph_of(rnn), graph_of(rnn)
    assert graph == again
    assert hash(graph) == hash(again)
    assert pickle.loads(pickle.dumps(graph)) == graph
    assert jax.tree.leaves(graph) == []
    values = jax.jit(path_opt.path_values)(rnn, graph)
    assert values.frozen[0].shape == (5,)


def test_a_network_inside_a_larger_tree_is_found_with_its_path():
    rnn = network("one-layer")
    model = {"embed": jnp.ones(3), "rnn": rnn}
    graph = path_opt.reduction_graph(model)
    assert graph.names.layers[0].bias == "rnn/layers/0/bias"
    masked = {"embed": optax.MaskedNode(), "rnn": rnn}
    values = path_opt.path_values(masked, graph)
    assert values.values["embed"] == optax.MaskedNode()
    back = path_opt.from_path_values(values, graph)
    assert jax.tree.structure(back) == jax.tree.structure(masked)


def test_summary_names_every_leaf_with_its_part():
    text = str(graph_of(network("widening")))
    assert "1 inputs, 2 + 4 hidden units in 2 layers, 1 outputs" in text
    assert f"edges {graph_of(network('widening')).edges}" in text
    for line in ("layers/0/recurrent_kernel", "layers/1/bias", "initial/1", "layers 1 input kernel"):
        assert line in text
    assert "layer 1  0: " in text


def nnx_stack():
    class Stack(nnx.Module):
        def __init__(self, rngs):
            sizes = [(2, 4), (4, 3)]
            self.cells = nnx.List([nnx.SimpleCell(a, b, activation_fn=nnx.relu, rngs=rngs) for a, b in sizes])
            self.head = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, xs):
            carries = [jnp.zeros(4, jnp.float32), jnp.zeros(3, jnp.float32)]
            for x in xs:
                for l, cell in enumerate(self.cells):
                    carries[l], x = cell(carries[l], x)
            return self.head(x)

    model = Stack(nnx.Rngs(2))
    definition, params = nnx.split(model, nnx.Param)
    name = "cells/{}/dense_{}/{}/value".format
    layers = [Layer(name(l, "i", "kernel"), name(l, "h", "kernel"), name(l, "i", "bias")) for l in range(2)]
    readout = Readout("head/kernel/value", "head/bias/value")
    return params, layers, readout, lambda params, xs: nnx.merge(definition, params)(xs)


def linen_stack():
    class Stack(nn.Module):
        @nn.compact
        def __call__(self, xs):
            for l, width in enumerate((4, 3)):
                xs = nn.RNN(nn.SimpleCell(width, activation_fn=nn.relu, name=f"cell{l}"))(xs)
            return nn.Dense(2, name="head")(xs[-1])

    model = Stack()
    params = model.init(jax.random.key(0), jnp.zeros((3, 2), jnp.float32))
    name = "params/cell{}/{}/{}".format
    layers = [Layer(name(l, "i", "kernel"), name(l, "h", "kernel"), name(l, "i", "bias")) for l in range(2)]
    readout = Readout("params/head/kernel", "params/head/bias")
    return params, layers, readout, model.apply


@pytest.mark.parametrize("stack", [pytest.param(nnx_stack, marks=pytest.mark.slow), linen_stack])
def test_stacks_of_flax_cells(stack, key):
    params, layers, readout, apply = stack()
    graph = path_opt.reduction_graph_from_paths(params, layers, readout, activation=jax.nn.relu)
    assert graph.widths == (4, 3)
    xs = jax.random.normal(key, (5, 2), jnp.float32)
    before = apply(params, xs)
    assert bool((abs(before) > 1e-3).all())  # alive, or there would be nothing to compare
    other = path_opt.rescale(params, graph, log_normal(graph, key))
    # float32 weights: six-digit rounding, a few steps
    np.testing.assert_allclose(apply(other, xs), before, rtol=2e-5, atol=1e-5)
    back = path_opt.from_path_values(path_opt.path_values(params, graph), graph)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
        # float32, a few products and quotients
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    transform = path_opt.path_space_sgd(1e-4, graph=graph)

    def loss(params):
        return ((apply(params, xs) - 1) ** 2).sum()

    updates, _ = transform.update(jax.grad(loss)(params), transform.init(params), params)
    assert loss(optax.apply_updates(params, updates)) < loss(params)


@pytest.mark.parametrize("activation", ["relu", "abs", "identity", maso_rnn.leaky_relu(0.2), jax.nn.relu, jnp.abs])
def test_positively_homogeneous_activations_pass(activation):
    graph = path_opt.reduction_graph_from_paths(PARAMS, [LAYER], READOUT, activation=activation)
    assert graph.basis_paths == 2 * 3 + 9 + 3 + 6 - 3


@pytest.mark.parametrize("activation", ["tanh", "hard_tanh", jnp.tanh, jax.nn.relu6, jax.nn.gelu, jax.nn.softplus])
def test_other_activations_are_refused(activation):
    with pytest.raises(ValueError, match="not positively homogeneous"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], READOUT, activation=activation)
    with pytest.raises(ValueError, match="not positively homogeneous"):
        path_opt.reduction_graph(network("one-layer", activation=activation))


def test_a_leaf_that_the_graph_does_not_know_is_refused():
    rnn = network("one-layer")
    graph = graph_of(rnn)
    with pytest.raises(ValueError, match=r"leaf that the graph does not know: extra.*optax\.partition"):
        graph.read({"layers": rnn.layers, "readout": rnn.readout, "initial": rnn.initial, "extra": jnp.ones(2)})


def test_a_leaf_that_the_tree_lacks_is_refused():
    rnn = network("one-layer")
    graph = graph_of(rnn)
    with pytest.raises(ValueError, match="lacks a leaf that the graph names: readout/bias"):
        graph.read(rnn.replace(readout=rnn.readout.replace(bias=None)))
    with pytest.raises(ValueError, match="lacks the leaf cell/g/kernel; it has cell/h/kernel"):
        path_opt.reduction_graph_from_paths(
            PARAMS, [LAYER.replace(recurrent_kernel="cell/g/kernel")], READOUT, activation="relu"
        )


def test_a_leaf_of_another_shape_or_dtype_is_refused():
    rnn = network("one-layer")
    graph = graph_of(rnn)
    wide = rnn.replace(readout=rnn.readout.replace(bias=jnp.ones(4)))
    with pytest.raises(ValueError, match=r"leaf 'readout/bias' must be \(3,\), as in the graph, got \(4,\)"):
        graph.read(wide)
    with pytest.raises(TypeError, match="'readout/bias' must be floating, got int"):
        graph.read(rnn.replace(readout=rnn.readout.replace(bias=jnp.ones(3, int))))
    with pytest.raises(TypeError, match="'readout/bias' must be float64"):
        graph.read(rnn.replace(readout=rnn.readout.replace(bias=jnp.ones(3, jnp.float32))))
    with pytest.raises(TypeError, match="leaf 'readout/bias' must be an array"):
        graph.read(rnn.replace(readout=rnn.readout.replace(bias=1.0)))


def test_tied_weights_are_refused():
    with pytest.raises(ValueError, match="leaf head/kernel is tied"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], READOUT, activation="relu", tied=["head/kernel"])
    with pytest.raises(ValueError, match="leaf cell/h/kernel is tied"):
        path_opt.reduction_graph_from_paths(
            PARAMS, [LAYER, Layer("cell/h/kernel", "cell/h/kernel")], READOUT, activation="relu"
        )


def test_tied_may_be_one_name_and_must_be_one_of_the_leaves():
    with pytest.raises(ValueError, match="leaf head/kernel is tied"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], READOUT, activation="relu", tied="head/kernel")
    with pytest.raises(ValueError, match="tied names a leaf that params lacks: head/kernels"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], READOUT, activation="relu", tied="head/kernels")
    with pytest.raises(ValueError, match="tied names a leaf that params lacks: embed"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], READOUT, activation="relu", tied=["embed"])


def test_two_leaves_of_one_name_are_refused():
    params = PARAMS | {"head/kernel": jnp.zeros((3, 2))}
    with pytest.raises(ValueError, match="two leaves have the name head/kernel"):
        path_opt.reduction_graph_from_paths(params, [LAYER], READOUT, activation="relu")


def test_a_function_is_probed_within_jit():
    def edges(params):
        return path_opt.reduction_graph_from_paths(
            params, [LAYER], READOUT, activation=nn.relu, skeleton="modulo"
        ).edges

    assert jax.jit(edges)(PARAMS) == edges(PARAMS)


def test_traced_weights_are_refused_for_the_largest_and_fine_for_modulo():
    rnn = network("one-layer")
    with pytest.raises(TypeError, match=r"outside of jax\.jit"):
        jax.jit(lambda rnn: path_opt.reduction_graph(rnn).edges)(rnn)
    assert jax.jit(lambda rnn: graph_of(rnn, "modulo").edges)(rnn) == graph_of(rnn).edges


@pytest.mark.usefixtures("unchecked")
def test_calls_of_the_wrong_form_are_refused():
    rnn = network("one-layer")
    with pytest.raises(ValueError, match="skeleton must be one of"):
        path_opt.reduction_graph(rnn, skeleton="smallest")
    with pytest.raises(ValueError, match=r"rnn must .*got list.*reduction_graph_from_paths"):
        path_opt.reduction_graph([jnp.ones(2)])
    with pytest.raises(ValueError, match="got 2 in list"):
        path_opt.reduction_graph([rnn, rnn])
    with pytest.raises(TypeError, match=r"layers must be a list of at least one maso_rnn\.Layer"):
        path_opt.reduction_graph_from_paths(PARAMS, [{}], READOUT, activation="relu")
    with pytest.raises(TypeError, match=r"readout must be a maso_rnn\.Readout, got str"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], "head/kernel", activation="relu")
    with pytest.raises(TypeError, match="as strings, got 3"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], Readout(3), activation="relu")
    with pytest.raises(TypeError, match="layers must be a list of at least one"):
        path_opt.reduction_graph_from_paths(PARAMS, [], READOUT, activation="relu")
    with pytest.raises(ValueError, match="initial must have one leaf"):
        path_opt.reduction_graph_from_paths(PARAMS, [LAYER], READOUT, activation="relu", initial=["a", "b"])
    with pytest.raises(ValueError, match=r"'cell/i/bias' must be \(in, out\).*got shape \(3,\)"):
        path_opt.reduction_graph_from_paths(PARAMS, [Layer("cell/i/bias", "cell/h/kernel")], READOUT, activation="relu")
