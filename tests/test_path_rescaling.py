"""Rescaling leaves the function alone, and every orbit has one balanced network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
import path_opt
from tests.path_networks import ARCHITECTURES, flat, graph_of, log_normal, network, sequence

# whole calls compiled: quicker than their operations one by one
rescale, balance, forward = jax.jit(path_opt.rescale), jax.jit(path_opt.balance), jax.jit(maso_rnn.forward)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_rescaling_leaves_the_function_alone(name, key):
    rnn = network(name)
    graph = graph_of(rnn)
    xs = sequence(graph.inputs)
    before = forward(rnn, xs)
    for k in jax.random.split(key, 3):
        after = forward(rescale(rnn, graph, log_normal(graph, k)), xs)
        # the target of the theorem; rounding of a dozen steps is a hundred times smaller
        assert abs(after - before).max() <= 1e-12 * abs(before).max()


def test_rescaling_is_a_group_action(key):
    rnn = network("three-layers")
    graph = graph_of(rnn)
    a, b = (log_normal(graph, k) for k in jax.random.split(key))
    one_by_one = rescale(rescale(rnn, graph, a), graph, b)
    together = rescale(rnn, graph, tuple(x + y for x, y in zip(a, b, strict=True)))
    # products of a few exponentials
    np.testing.assert_allclose(flat(one_by_one), flat(together), rtol=1e-13)
    assert not np.allclose(flat(one_by_one), flat(rnn), rtol=0.1)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_balance_is_one_network_of_each_orbit(name, key):
    rnn = network(name)
    graph = graph_of(rnn)
    balanced = balance(rnn, graph)
    other = balance(rescale(rnn, graph, log_normal(graph, key)), graph)
    # sums and roots of rescaled numbers
    np.testing.assert_allclose(flat(other), flat(balanced), rtol=1e-12)
    np.testing.assert_allclose(flat(balance(balanced, graph)), flat(balanced), rtol=1e-12)
    xs = sequence(graph.inputs)
    np.testing.assert_allclose(forward(balanced, xs), forward(rnn, xs), rtol=1e-11, atol=1e-13)


def test_balanced_units_are_as_far_from_the_inputs_as_from_the_outputs():
    # one layer without recurrent weights: the norm of what enters a unit equals that of what leaves it
    rnn = network("one-input-one-output")
    rnn = rnn.replace(layers=(rnn.layers[0].replace(recurrent_kernel=jnp.zeros((3, 3))),))
    balanced = balance(rnn, graph_of(rnn))
    into = jnp.linalg.norm(balanced.layers[0].input_kernel, axis=0)
    out_of = jnp.linalg.norm(balanced.readout.kernel, axis=1)
    np.testing.assert_allclose(into, out_of, rtol=1e-12)  # rounding of a fourth root


def test_a_unit_without_paths_keeps_its_scale():
    rnn = network("one-layer")
    dead = rnn.replace(readout=rnn.readout.replace(kernel=jnp.zeros_like(rnn.readout.kernel)))
    balanced = balance(dead, graph_of(dead))
    np.testing.assert_array_equal(flat(balanced), flat(dead))


@pytest.mark.usefixtures("unchecked")
def test_scales_of_the_wrong_form_are_refused():
    rnn = network("narrowing")
    graph = graph_of(rnn)
    with pytest.raises(ValueError, match=r"of shapes \[\(5,\), \(2,\)\], got \[\(5,\)\]"):
        path_opt.rescale(rnn, graph, (jnp.zeros(5),))
    with pytest.raises(ValueError, match=r"got \[\(5,\), \(3,\)\]"):
        path_opt.rescale(rnn, graph, (jnp.zeros(5), jnp.zeros(3)))
