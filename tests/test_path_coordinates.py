"""Path values represent the function, and training in them is what the closed forms say, from any rescaled start."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import maso_rnn
import path_opt
from path_opt.graph import at_sources, at_targets
from tests.oracles import path_updates
from tests.path_networks import ARCHITECTURES, flat, graph_of, log_normal, network, sequence

pytestmark = pytest.mark.filterwarnings("ignore:path-space steps")
SKELETONS = ["largest", "modulo"]
# whole calls compiled: quicker than their operations one by one
path_values = jax.jit(path_opt.path_values)
from_path_values = jax.jit(path_opt.from_path_values)
rescale = jax.jit(path_opt.rescale)
forward = jax.jit(maso_rnn.forward)


def loss_of(graph, seed=3):
    xs = sequence(graph.inputs, seed=seed)
    targets = jnp.cos(jnp.arange(xs.shape[0] * graph.outputs, dtype=float)).reshape(-1, graph.outputs)
    return lambda rnn: ((forward(rnn, xs) - targets) ** 2).mean()


@pytest.mark.parametrize("skeleton", SKELETONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_round_trip(name, skeleton):
    rnn = network(name)
    graph = graph_of(rnn, skeleton)
    back = from_path_values(path_values(rnn, graph), graph)
    assert jax.tree.structure(back) == jax.tree.structure(rnn)
    # a few products and quotients
    np.testing.assert_allclose(flat(back), flat(rnn), rtol=1e-12)


@pytest.mark.parametrize("skeleton", SKELETONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_values_round_trip_too(name, skeleton, key):
    # every choice of free path values is the values of some network: the coordinates are independent
    rnn = network(name)
    graph = graph_of(rnn, skeleton)
    values, frozen = path_values(rnn, graph)
    leaves, structure = jax.tree.flatten(values)
    keys = jax.random.split(key, len(leaves))
    moved = structure.unflatten(
        [v * jax.random.uniform(k, v.shape, minval=0.5, maxval=2.0) for k, v in zip(keys, leaves, strict=True)]
    )
    weights = from_path_values(path_opt.PathValues(moved, frozen), graph)
    again = path_values(weights, graph)
    free = ~frozen_edges(rnn, graph)
    np.testing.assert_allclose(flat(again.values)[free], flat(moved)[free], rtol=1e-11)  # rounding of quotients
    for a, b in zip(again.frozen, frozen, strict=True):
        np.testing.assert_array_equal(a, b)


def frozen_edges(rnn, graph):
    """Which weights, flat, lead out of hidden units along the skeleton."""
    marks = jax.tree.map(lambda leaf: np.zeros(leaf.shape, bool), rnn)
    kernels = [layer.input_kernel for layer in marks.layers[1:]] + [marks.readout.kernel]
    for kernel, targets in zip(kernels, graph.skeleton.outgoing, strict=True):
        kernel[np.arange(len(targets)), list(targets)] = True
    return np.asarray(flat(marks))


@pytest.mark.parametrize("skeleton", SKELETONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rank_is_parameters_less_hidden_units(name, skeleton):
    rnn = network(name)
    graph = graph_of(rnn, skeleton)
    leaves, structure = jax.tree.flatten(rnn)
    signs = [jnp.sign(leaf) for leaf in leaves]

    def logs(log_weights):
        weights = structure.unflatten([s * jnp.exp(x) for s, x in zip(signs, log_weights, strict=True)])
        return flat(jax.tree.map(lambda v: jnp.log(abs(v)), path_values(weights, graph).values))

    jacobian = jax.jit(jax.jacobian(logs))([jnp.log(abs(leaf)) for leaf in leaves])
    matrix = np.concatenate([block.reshape(block.shape[0], -1) for block in jacobian], axis=1)
    # entries are small integers up to rounding, so singular values are either of order 1 or of order 1e-15
    rank = np.linalg.matrix_rank(matrix, tol=1e-8)
    assert rank == graph.edges - graph.units == graph.basis_paths
    assert np.linalg.matrix_rank(matrix[~frozen_edges(rnn, graph)], tol=1e-8) == rank


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rescaling_changes_no_path_value(name, key):
    rnn = network(name)
    graph = graph_of(rnn)
    other = rescale(rnn, graph, log_normal(graph, key))
    a, b = path_values(rnn, graph), path_values(other, graph)
    np.testing.assert_allclose(flat(a.values), flat(b.values), rtol=1e-12)  # products of a few exponentials
    assert not np.allclose(a.frozen[0], b.frozen[0], rtol=0.1)


@pytest.mark.parametrize("skeleton", SKELETONS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sufficiency(name, skeleton, key):
    """Equal path values and equal skeleton signs, from frozen weights drawn on their own: the same function."""
    rnn = network(name)
    graph = graph_of(rnn, skeleton)
    values, frozen = path_values(rnn, graph)
    drawn = log_normal(graph, key)
    other = tuple(jnp.sign(f) * jnp.exp(x) for f, x in zip(frozen, drawn, strict=True))
    built = from_path_values(path_opt.PathValues(values, other), graph)
    assert not np.allclose(flat(built), flat(rnn), rtol=0.1)
    xs = sequence(graph.inputs)
    wanted = forward(rnn, xs)
    # rounding of a dozen steps
    assert abs(forward(built, xs) - wanted).max() <= 1e-11 * abs(wanted).max()


@pytest.mark.parametrize("name", ["one-layer", "three-layers"])
def test_flipping_the_signs_of_a_unit_keeps_every_path_value_and_changes_the_function(name):
    rnn = network(name)
    graph = graph_of(rnn, "modulo")
    units = [jnp.ones(width) for width in graph.widths]
    units[0] = units[0].at[0].set(-1.0)
    flipped = jax.tree.map(lambda w, s, t: w * t / s, rnn, at_sources(units, rnn), at_targets(units, rnn))
    a, b = path_values(rnn, graph), path_values(flipped, graph)
    np.testing.assert_array_equal(flat(a.values), flat(b.values))
    assert (a.frozen[0][0] < 0) != (b.frozen[0][0] < 0)
    xs = sequence(graph.inputs)
    difference = abs(forward(rnn, xs) - forward(flipped, xs)).max()
    assert difference > 1e-2 * abs(forward(rnn, xs)).max()


@pytest.mark.parametrize("name", ["one-layer", "four-layers"])
def test_set_skeleton(name):
    rnn = network(name)
    graph = graph_of(rnn)
    fixed = path_opt.set_skeleton(rnn, graph)
    before, after = path_values(rnn, graph), path_values(fixed, graph)
    np.testing.assert_allclose(flat(after.values), flat(before.values), rtol=1e-12)  # a rescaling's rounding
    for old, new in zip(before.frozen, after.frozen, strict=True):
        np.testing.assert_allclose(new, jnp.sign(old), rtol=1e-12)
    xs = sequence(graph.inputs)
    # rounding of a dozen steps
    np.testing.assert_allclose(forward(fixed, xs), forward(rnn, xs), rtol=1e-10, atol=1e-13)

    ones = path_opt.set_skeleton(rnn, graph, how="overwrite")
    for weights in path_values(ones, graph).frozen:
        np.testing.assert_array_equal(weights, 1)
    for layer, sources in zip(ones.layers, graph.skeleton.incoming, strict=True):
        np.testing.assert_array_equal(layer.input_kernel[list(sources), np.arange(len(sources))], 1)
    assert (flat(ones) != flat(rnn)).sum() <= 2 * graph.units
    targets = np.asarray(graph.skeleton.outgoing[-1])
    wanted = rnn.readout.kernel.at[np.arange(len(targets)), targets].set(1)
    np.testing.assert_array_equal(ones.readout.kernel, wanted)
    assert not np.allclose(forward(ones, xs), forward(rnn, xs))
    with pytest.raises(ValueError, match="how must be one of"):
        path_opt.set_skeleton(rnn, graph, how="replace")


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_one_step_is_the_closed_form_of_one_layer(skeleton):
    rnn = network("one-layer")
    graph = graph_of(rnn, skeleton)
    gradient = jax.jit(jax.grad(loss_of(graph)))(rnn)
    compare(step(path_opt.path_space_sgd(0.01, graph=graph), gradient, rnn), graph, path_updates.one_layer_step)


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_one_step_is_the_closed_form_of_three_layers(skeleton):
    rnn = dataclasses.replace(network("three-layers"), initial=None)
    graph = graph_of(rnn, skeleton)
    gradient = jax.jit(jax.grad(loss_of(graph)))(rnn)
    compare(step(path_opt.path_space_sgd(0.01, graph=graph), gradient, rnn), graph, path_updates.three_layer_step)


def step(transform, gradient, rnn):
    updates, _ = jax.jit(transform.update)(gradient, transform.init(rnn), rnn)
    return rnn, gradient, optax.apply_updates(rnn, updates)


def compare(stepped, graph, oracle):
    rnn, gradient, after = stepped
    wanted = oracle(rnn, gradient, graph, 0.01)
    got = {
        "input_kernel": [layer.input_kernel for layer in after.layers],
        "recurrent_kernel": [layer.recurrent_kernel for layer in after.layers],
        "bias": [layer.bias for layer in after.layers],
        "initial": after.initial,
        "readout": after.readout.kernel,
        "readout_bias": after.readout.bias,
    }
    assert not np.allclose(flat(after), flat(rnn), rtol=1e-4)
    for part, values in wanted.items():
        for a, b in zip(jax.tree.leaves(got[part]), jax.tree.leaves(values), strict=True):
            # the same numbers by other sums
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13, err_msg=part)


def test_frozen_weights_do_not_move_even_under_decay(key):
    rnn = network("four-layers")
    graph = graph_of(rnn)
    transform = path_opt.in_path_space(optax.chain(optax.add_decayed_weights(0.1), optax.adam(1e-2)), graph)
    gradient, state, params = jax.jit(jax.grad(loss_of(graph))), transform.init(rnn), rnn
    update = jax.jit(transform.update)
    for _ in range(3):
        updates, state = update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    before, after = path_values(rnn, graph).frozen, path_values(params, graph).frozen
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_crossings_and_the_smallest_skeleton_weight_are_counted():
    rnn = network("one-layer")
    graph = graph_of(rnn)
    gentle = path_opt.path_space_sgd(1e-6, graph=graph)
    _, state = gentle.update(jax.grad(loss_of(graph))(rnn), gentle.init(rnn), rnn)
    assert int(state.inner.crossings) == 0
    # a step that takes every skeleton path value to its negative
    flip = path_opt.in_path_space(optax.stateless(lambda g, v: jax.tree.map(lambda v: -2 * v, v)), graph)
    _, state = flip.update(rnn, flip.init(rnn), rnn)
    assert int(state.inner.crossings) == graph.units
    edges = jnp.concatenate(
        [
            rnn.layers[0].input_kernel[list(graph.skeleton.incoming[0]), np.arange(4)],
            rnn.readout.kernel[np.arange(4), list(graph.skeleton.outgoing[0])],
        ]
    )
    np.testing.assert_allclose(gentle.init(rnn).inner.smallest_skeleton, abs(edges).min())
    # a step that shrinks them is remembered
    shrink = path_opt.in_path_space(optax.stateless(lambda g, v: jax.tree.map(lambda v: -0.9 * v, v)), graph)
    _, state = shrink.update(rnn, shrink.init(rnn), rnn)
    incoming = abs(edges[:4]).min() * 0.1
    np.testing.assert_allclose(state.inner.smallest_skeleton, min(incoming, abs(edges).min()), rtol=1e-6)


def test_crossings_are_those_of_path_values():
    rnn = network("widening")
    graph = graph_of(rnn, "modulo")

    def flip_one(gradient, values):
        # unit 0 of the lower layer; by it the skeleton weight into unit 2 of the upper one changes sign as well
        still = jax.tree.map(jnp.zeros_like, values)
        kernel = still.layers[0].input_kernel.at[0, 0].set(-2 * values.layers[0].input_kernel[0, 0])
        return still.replace(layers=(still.layers[0].replace(input_kernel=kernel), still.layers[1]))

    transform = path_opt.in_path_space(optax.stateless(flip_one), graph)
    updates, state = jax.jit(transform.update)(rnn, transform.init(rnn), rnn)
    assert float(updates.layers[1].input_kernel[0, 2] * rnn.layers[1].input_kernel[0, 2]) < 0
    assert int(state.inner.crossings) == 1

    # 1e-30 squared is 0 in float32
    small = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), rnn)
    kernel = small.layers[0].input_kernel * jnp.float32(1e-30)
    small = small.replace(layers=(small.layers[0].replace(input_kernel=kernel), small.layers[1]))
    still = path_opt.in_path_space(optax.set_to_zero(), graph)
    _, state = jax.jit(still.update)(small, still.init(small), small)
    assert int(state.inner.crossings) == 0


def test_a_start_from_which_steps_are_steep_is_warned_of_and_the_recipe_helps():
    rnn = network("one-layer")
    layer = rnn.layers[0].replace(input_kernel=rnn.layers[0].input_kernel.at[0, 0].set(1e-6))
    rnn = rnn.replace(layers=(layer,))
    graph = graph_of(rnn, "modulo")
    with pytest.warns(UserWarning, match=r"path-space steps of this start are up to .* clip="):
        path_opt.path_space_sgd(0.1, graph=graph).init(rnn)
    path_opt.path_space_sgd(0.1, graph=graph).init(path_opt.set_skeleton(rnn, graph, how="overwrite"))


def test_skeleton_weights_of_zero_are_refused_by_leaf():
    rnn = network("one-layer")
    zero = rnn.replace(readout=rnn.readout.replace(kernel=jnp.zeros_like(rnn.readout.kernel)))
    graph = graph_of(zero)
    for call in (
        lambda: path_opt.path_values(zero, graph),
        lambda: path_opt.set_skeleton(zero, graph),
        lambda: path_opt.path_space_sgd(0.1, graph=graph).init(zero),
    ):
        with pytest.raises(ValueError, match=r"leaf 'readout/kernel': the skeleton weight out of unit 0 of layer 0 is"):
            call()
    nothing_in = rnn.replace(layers=(rnn.layers[0].replace(input_kernel=rnn.layers[0].input_kernel.at[:, 2].set(0)),))
    with pytest.raises(ValueError, match=r"leaf 'layers/0/input_kernel': the skeleton weight into unit 2"):
        path_opt.path_values(nothing_in, graph_of(nothing_in))
    mended = path_opt.set_skeleton(zero, graph, how="overwrite")
    assert path_opt.path_space_sgd(0.1, graph=graph).init(mended).skipped == 0


@pytest.mark.usefixtures("unchecked")
def test_calls_of_the_wrong_form_are_refused():
    rnn = network("one-layer")
    graph = graph_of(rnn)
    values = path_opt.path_values(rnn, graph)
    with pytest.raises(ValueError, match=r"frozen\[0\] must be \(hidden,\)"):
        path_opt.from_path_values(values._replace(frozen=(jnp.ones(3),)), graph)
    with pytest.raises(TypeError, match="inner must be an optax transform"):
        path_opt.in_path_space(0.1, graph)
    with pytest.raises(
        TypeError, match=r"graph must be a path_opt\.ReductionGraph.*reduction_graph\(params\) makes one"
    ):
        path_opt.in_path_space(optax.sgd(0.1), rnn)
