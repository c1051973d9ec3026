"""To the edge of a dtype every rescaling of a network gives the same answer, and trains to the same function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import maso_rnn
import path_opt
from maso_rnn import RNN, Layer, Readout
from tests.path_networks import flat, graph_of, network, sequence

pytestmark = pytest.mark.filterwarnings("ignore:path-space steps")
# log2 of the largest factor of a unit: weights between two units are spread twice as far, to where a hundredth of them,
# as a step is, would be subnormal. XLA takes subnormal numbers of float32 for 0 on CPUs; float16 is here down to them
EDGE = {"float32": 56, "float16": 6}


def one_unit(into, out_of, dtype):
    layer = Layer(jnp.full((1, 1), into, dtype), jnp.zeros((1, 1), dtype))
    return RNN((layer,), Readout(jnp.full((1, 1), out_of, dtype)))


@pytest.mark.parametrize(("into", "out_of", "dtype"), [(1e10, 1e-10, "float32"), (16, 1 / 16, "float16")])
def test_one_unit_is_balanced(into, out_of, dtype):
    rnn = one_unit(into, out_of, dtype)
    balanced = path_opt.balance(rnn, graph_of(rnn))
    np.testing.assert_allclose([balanced.layers[0].input_kernel, balanced.readout.kernel], 1, rtol=1e-6)


@pytest.mark.parametrize(("into", "out_of"), [(1e20, 1e-20), (1e20, 1.0), (1e19, 1e19), (1e-22, 1.0)])
def test_the_logarithm_of_the_path_norm_of_one_unit(into, out_of):
    rnn = one_unit(into, out_of, "float32")
    got = path_opt.path_norm(rnn, graph_of(rnn), 1, log=True)
    # the two weights are rounded to 2^-24, and so is the result
    np.testing.assert_allclose(got, 2 * (np.log(into) + np.log(out_of)), rtol=2e-7, atol=3e-7)


@functools.cache
def rescaled(dtype, count=1000):
    """A network of that dtype, and rescalings of it to the edge, stacked."""
    rnn = jax.tree.map(lambda leaf: leaf.astype(dtype), network("widening"))
    graph = graph_of(rnn)
    scales = [
        jax.random.uniform(jax.random.key(l), (count, width), jnp.float32, -1, 1) * EDGE[dtype] * np.log(2)
        for l, width in enumerate(graph.widths)
    ]
    return rnn, graph, jax.jit(jax.vmap(lambda *logs: path_opt.rescale(rnn, graph, logs)))(*scales)


def test_rescalings_reach_the_edge():
    for dtype, edge in EDGE.items():
        _, _, many = rescaled(dtype)
        sizes = np.abs(np.asarray(many.layers[1].recurrent_kernel, np.float64))
        assert sizes.max() > 2 ** (1.8 * edge)
        assert sizes.min() < 2 ** (-1.8 * edge)
        assert sizes.min() > 0


def test_units_on_two_devices_are_balanced_where_sums_overflow():
    size = 2.0 ** jnp.array([[-57, -19, 19, 57]], jnp.float32)  # of ones rescaled, which are balanced by symmetry
    mesh = jax.make_mesh((2,), ("units",), axis_types=(AxisType.Auto,))
    by_unit, from_unit = (NamedSharding(mesh, spec) for spec in (P(None, "units"), P("units")))
    layer = Layer(jax.device_put(size, by_unit), jax.device_put(size / size.T, by_unit))
    rnn = RNN((layer,), Readout(jax.device_put(1 / size.T, from_unit)))
    balanced = path_opt.balance(rnn, path_opt.reduction_graph(rnn, skeleton="modulo"))
    np.testing.assert_allclose(flat(jax.device_get(balanced)), 1, rtol=1e-6)


def test_a_weight_of_zero_stays_zero_however_far_apart_its_units_are():
    far, near = (jnp.diag(jnp.asarray([2.0**e, 2.0**-e], jnp.float32)) for e in (120, -120))
    zeros = jnp.zeros((2, 2), jnp.float32)
    rnn = RNN((Layer(far, zeros), Layer(far, zeros), Layer(near, zeros)), Readout(near))
    graph = graph_of(rnn, "modulo")
    for of in (path_opt.balance, path_opt.set_skeleton):
        got = of(rnn, graph)
        np.testing.assert_allclose(np.abs(got.layers[1].input_kernel), np.eye(2), rtol=1e-5)
        np.testing.assert_array_equal(got.layers[1].recurrent_kernel, 0)
    np.testing.assert_allclose(path_opt.path_norm(rnn, graph, 3), 2, rtol=1e-5)


@pytest.mark.parametrize("log", [False, True])
def test_path_norms_are_those_in_float64(log):
    rnn, graph, many = rescaled("float32")
    exact = path_opt.path_norm(jax.tree.map(lambda leaf: leaf.astype(float), rnn), graph, 9, log=log)
    got = jax.jit(jax.vmap(lambda params: path_opt.path_norm(params, graph, 9, log=log)))(many)
    # a weight is rounded once in the rescaling, and used squared up to 9 times on a path
    np.testing.assert_allclose(got, exact, rtol=40 * 6e-8)


@pytest.mark.parametrize("dtype", EDGE)
def test_all_have_one_balanced_network_and_the_same_path_values(dtype):
    rnn, graph, many = rescaled(dtype)
    rounding = float(jnp.finfo(dtype).eps)
    for of, factor in ((path_opt.balance, 8), (lambda params, graph: path_opt.path_values(params, graph).values, 8)):
        got = jax.jit(jax.vmap(lambda params, of=of: flat(of(params, graph))))(many)
        wanted = flat(of(rnn, graph))
        # each is a product of a few weights, which the rescaling has rounded once
        np.testing.assert_allclose(got - wanted, 0, atol=factor * rounding * float(abs(wanted).max()))


TRANSFORMS = {
    "equivariant_adam": lambda graph: path_opt.equivariant_adam(1e-2, graph=graph),
    "path_space_adam": lambda graph: path_opt.path_space_adam(3e-3, graph=graph),
    "path_space_sgd": lambda graph: path_opt.path_space_sgd(1e-3, graph=graph),
    "path_sgd": lambda graph: path_opt.path_sgd(1e-2, graph=graph, num_steps=6, second_order=True),
}


@pytest.mark.parametrize("dtype", EDGE)
@pytest.mark.parametrize(
    "name", ["equivariant_adam", *(pytest.param(name, marks=pytest.mark.slow) for name in list(TRANSFORMS)[1:])]
)
def test_all_train_to_the_same_function(name, dtype):
    rnn, graph, many = rescaled(dtype)
    transform = TRANSFORMS[name](graph)
    xs = sequence(1, time=6).astype(dtype)

    def loss(params):
        return ((maso_rnn.forward(params, xs).astype(jnp.float32) - 1) ** 2).mean()

    def trained(params):
        def step(carry, _):
            params, state = carry
            updates, state = transform.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, state), _ = jax.lax.scan(step, (params, transform.init(params)), length=3)
        return maso_rnn.forward(params, xs).astype(jnp.float32), state.skipped

    before = maso_rnn.forward(rnn, xs).astype(jnp.float32)
    outputs, skipped = jax.jit(jax.vmap(trained))(many)
    alone, _ = jax.jit(trained)(rnn)
    assert not np.any(skipped)
    rounding, size = float(jnp.finfo(dtype).eps), float(abs(before).max())
    # three steps of six time steps each: rounding adds up, and a step divides by small numbers
    bound = 50 * rounding * size
    assert float(abs(outputs - alone).max()) < bound
    assert float(abs(alone - before).max()) > bound / 4
