"""Path space in flax: graphs of stacks without key paths, and training under `nnx.Optimizer` as on the pure dict."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import path_opt
from maso_rnn import Layer, Readout

pytestmark = pytest.mark.filterwarnings("ignore:path-space steps")
HIDDEN = (4, 3)
XS = jax.random.normal(jax.random.key(1), (5, 2), jnp.float32)


class Stack(nnx.Module):
    def __init__(self, rngs, activation=nnx.relu, residual=False):
        sizes = zip((2, *HIDDEN), HIDDEN, strict=False)
        self.cells = nnx.List(
            [nnx.SimpleCell(a, b, activation_fn=activation, residual=residual, rngs=rngs) for a, b in sizes]
        )
        self.head = nnx.Linear(HIDDEN[-1], 2, rngs=rngs)

    def __call__(self, xs):
        carries = [jnp.zeros(width, jnp.float32) for width in HIDDEN]
        for x in xs:
            for l, cell in enumerate(self.cells):
                carries[l], x = cell(carries[l], x)
        return self.head(x)


class LinenStack(nn.Module):
    @nn.compact
    def __call__(self, xs):
        for l, width in enumerate(HIDDEN):
            xs = nn.RNN(nn.SimpleCell(width, activation_fn=nn.relu, name=f"cell{l}"))(xs)
        return nn.Dense(2, name="head")(xs[-1])


def loss(model):
    return ((model(XS) - 1) ** 2).sum()


TRANSFORMS = {
    "in_path_space": lambda graph: path_opt.in_path_space(optax.chain(optax.clip(1.0), optax.adamw(1e-3)), graph),
    "path_space_sgd": lambda graph: path_opt.path_space_sgd(1e-4, graph=graph, momentum=0.9),
    "path_space_adam": lambda graph: path_opt.path_space_adam(1e-3, graph=graph),
    "scale_by_path_norm": lambda graph: optax.chain(path_opt.scale_by_path_norm(graph, 5), optax.scale(-1e-4)),
    "path_sgd": lambda graph: path_opt.path_sgd(1e-4, graph=graph, num_steps=5, refresh_every=2),
    "equivariant_adam": lambda graph: path_opt.equivariant_adam(1e-2, graph=graph),
}


def named_graph(params, suffix):
    """The graph with the names spelt out, with the attribute of variables at their end or without."""
    name = ("cells/{}/dense_{}/{}" + suffix).format
    layers = [Layer(name(l, "i", "kernel"), name(l, "h", "kernel"), name(l, "i", "bias")) for l in range(2)]
    readout = Readout("head/kernel" + suffix, "head/bias" + suffix)
    return path_opt.reduction_graph_from_paths(params, layers, readout, activation=nnx.relu)


@functools.cache
def after_five_steps_by_hand(name):
    definition, params = nnx.split(Stack(nnx.Rngs(2)), nnx.Param)
    params = nnx.to_pure_dict(params)
    transform = TRANSFORMS[name](named_graph(params, ""))

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda params: loss(nnx.merge(definition, params)))(params)
        updates, state = transform.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = transform.init(params)
    for _ in range(5):
        params, state = step(params, state)
    return params


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("path_space_adam", "path_sgd") else pytest.param(name, marks=pytest.mark.slow)
        for name in TRANSFORMS
    ],
)
def test_under_an_nnx_optimizer_the_same_weights_as_on_the_pure_dict(name):
    model = Stack(nnx.Rngs(2))
    graphs = [path_opt.reduction_graph(model)]
    graphs += [named_graph(nnx.state(model, nnx.Param), suffix) for suffix in ("", "/value")]
    assert graphs[0] == graphs[1] == graphs[2]
    optimizer = nnx.Optimizer(model, TRANSFORMS[name](graphs[0]), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    before = loss(model)
    for _ in range(5):
        step(model, optimizer)
    assert loss(model) < before
    got, wanted = nnx.to_pure_dict(nnx.state(model, nnx.Param)), after_five_steps_by_hand(name)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)  # float32, compiled otherwise
    assert "no step was skipped" in path_opt.summary(optimizer.opt_state)


def test_only_the_attribute_of_a_variable_is_left_out_of_names():
    params = {"value": {"value": jnp.ones((2, 3))}, "own": {"value": jnp.eye(3)}, "head": {"value": jnp.ones((3, 2))}}
    layer, readout = Layer("value/value", "own/value"), Readout("head/value")
    graph = path_opt.reduction_graph_from_paths(params, [layer], readout, activation="relu")
    assert graph.names.layers[0].input_kernel == "value/value"
    assert graph.read(params).readout.kernel.shape == (3, 2)


def test_a_linen_stack_needs_its_activation_alone(key):
    model = LinenStack()
    params = model.init(key, XS)
    graph = path_opt.reduction_graph(params, activation=nn.relu)
    assert (graph.inputs, graph.widths, graph.outputs) == (2, HIDDEN, 2)
    assert graph.names.layers[1].input_kernel == "params/cell1/i/kernel"
    other = path_opt.rescale(params, graph, [jnp.ones(4), -jnp.ones(3)])
    # float32, a few steps
    np.testing.assert_allclose(model.apply(other, XS), model.apply(params, XS), rtol=2e-5, atol=1e-5)
    with pytest.raises(ValueError, match="activation must be given"):
        path_opt.reduction_graph(params)


def test_more_than_nine_cells_keep_their_order():
    cell = {"i": {"kernel": jnp.ones((3, 3))}, "h": {"kernel": jnp.eye(3)}}
    params = {f"cell{l}": cell for l in range(11)} | {"head": {"kernel": jnp.ones((3, 2))}}
    graph = path_opt.reduction_graph(params, activation="relu")
    assert [layer.input_kernel for layer in graph.names.layers] == [f"cell{l}/i/kernel" for l in range(11)]


def test_flax_models_whose_wiring_cannot_be_told_are_refused():
    cell = {"i": {"kernel": jnp.ones((3, 3))}, "h": {"kernel": jnp.eye(3)}}
    head = {"kernel": jnp.ones((3, 2))}
    for params in ({"a": cell, "b": cell, "head": head}, {"cell": cell, "head": head, "norm": {"scale": jnp.ones(3)}}):
        with pytest.raises(ValueError, match=r"rnn.*reduction_graph_from_paths"):
            path_opt.reduction_graph(params, activation="relu")
    with pytest.raises(ValueError, match="not positively homogeneous"):
        path_opt.reduction_graph(Stack(nnx.Rngs(0), activation=nnx.tanh))
    with pytest.raises(ValueError, match="residual"):
        path_opt.reduction_graph(Stack(nnx.Rngs(0), residual=True))
    twice = Stack(nnx.Rngs(0))
    twice.cells.append(twice.cells[1])
    with pytest.raises(ValueError, match=r"same weights in several places.*cells\.1.*cells\.2"):
        path_opt.reduction_graph(twice)
    gated = Stack(nnx.Rngs(0))
    gated.cells = nnx.List([nnx.GRUCell(2, HIDDEN[-1], rngs=nnx.Rngs(0))])
    with pytest.raises(ValueError, match=r"must hold nnx\.SimpleCells"):
        path_opt.reduction_graph(gated)


def test_kernels_that_are_out_in_are_refused_where_it_can_be_told_and_asked_about_where_not():
    torch = {"ih": {"weight": jnp.ones((4, 2))}, "hh": {"weight": jnp.eye(4)}, "head": {"weight": jnp.ones((3, 4))}}
    layer, readout = Layer("ih/weight", "hh/weight"), Readout("head/weight")
    with pytest.raises(ValueError, match=r"must be \(in, out\).*transpose"):
        path_opt.reduction_graph_from_paths(torch, [layer], readout, activation="relu")
    square = jax.tree.map(lambda _: jnp.eye(4), torch)
    with pytest.raises(ValueError, match="layout must be 'in, out', got None"):
        path_opt.reduction_graph_from_paths(square, [layer], readout, activation="relu")
    graph = path_opt.reduction_graph_from_paths(square, [layer], readout, activation="relu", layout="in, out")
    assert graph.widths == (4,)


def test_a_layer_without_recurrence_has_no_recurrent_edges(key):
    params = {
        "encoder": {"kernel": jnp.ones((2, 3))},
        "cell": {"i": {"kernel": jax.random.normal(key, (3, 4))}, "h": {"kernel": jnp.eye(4) / 2}},
        "head": {"kernel": jnp.ones((4, 2))},
    }
    layers = [Layer("encoder/kernel"), Layer("cell/i/kernel", "cell/h/kernel")]
    graph = path_opt.reduction_graph_from_paths(params, layers, Readout("head/kernel"), activation="relu")
    assert graph.edges == 6 + 12 + 16 + 8

    def outputs(params):
        h = jnp.zeros(4)
        for x in XS:
            h = jax.nn.relu(
                jax.nn.relu(x @ params["encoder"]["kernel"]) @ params["cell"]["i"]["kernel"]
                + h @ params["cell"]["h"]["kernel"]
            )
        return h @ params["head"]["kernel"]

    before = outputs(params)
    for other in (
        path_opt.balance(params, graph),
        path_opt.condition(params, graph, 5),
        path_opt.rescale(params, graph, [jnp.ones(3), -jnp.ones(4)]),
        path_opt.from_path_values(path_opt.path_values(params, graph), graph),
    ):
        np.testing.assert_allclose(outputs(other), before, rtol=1e-10)  # rounding of a few products
    gradient = jax.grad(lambda params: (outputs(params) ** 2).sum())(params)
    for transform in (
        path_opt.path_space_sgd(1e-6, graph=graph),
        path_opt.path_sgd(1e-4, graph=graph, num_steps=5, second_order=True),
        path_opt.equivariant_adam(1e-3, graph=graph),
    ):
        updates, _ = transform.update(gradient, transform.init(params), params)
        assert (outputs(optax.apply_updates(params, updates)) ** 2).sum() < (before**2).sum()
