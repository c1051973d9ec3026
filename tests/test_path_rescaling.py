"""Rescaling leaves the function alone, and every orbit has one balanced network."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
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


def without(rnn, *, into=None, out_of=None):
    """A network of one layer in which no path enters the units `into` or leaves the units `out_of`."""
    layer, readout = rnn.layers[0], rnn.readout
    if into is not None:
        kernel, bias = layer.input_kernel.at[:, into].set(0), layer.bias.at[into].set(0)
        layer = layer.replace(
            input_kernel=kernel, bias=bias, recurrent_kernel=layer.recurrent_kernel.at[:, into].set(0)
        )
    if out_of is not None:
        layer = layer.replace(recurrent_kernel=layer.recurrent_kernel.at[out_of].set(0))
        readout = readout.replace(kernel=readout.kernel.at[out_of].set(0))
    return rnn.replace(layers=(layer,), readout=readout)


def test_a_unit_that_a_path_neither_enters_nor_leaves_keeps_its_scale():
    dead = without(network("one-layer"), into=1, out_of=1)
    balanced = balance(dead, graph_of(dead))
    assert balanced.initial[0][1] == dead.initial[0][1]
    assert (balanced.initial[0] != dead.initial[0]).sum() == 3


HALF_DEAD = {"zero readout": {"out_of": slice(None)}, "nothing in": {"into": 2}}


@pytest.mark.parametrize("case", HALF_DEAD)
def test_units_that_paths_only_enter_or_only_leave_are_balanced(case, key):
    rnn = without(network("one-layer"), **HALF_DEAD[case])
    graph = graph_of(rnn, "modulo")
    other = rescale(rnn, graph, log_normal(graph, key))
    # rounding of sums and roots of rescaled numbers
    np.testing.assert_allclose(flat(balance(other, graph)), flat(balance(rnn, graph)), rtol=1e-12)


@pytest.mark.parametrize("case", HALF_DEAD)
def test_equivariant_adam_trains_them_alike_from_rescaled_starts(case, key):
    rnn = without(network("one-layer"), **HALF_DEAD[case])
    graph = graph_of(rnn, "modulo")
    xs = sequence(graph.inputs)
    transform = path_opt.equivariant_adam(0.01, graph=graph)

    @jax.jit
    def step(params, state):
        gradient = jax.grad(lambda rnn: ((maso_rnn.forward(rnn, xs) - 1) ** 2).mean())(params)
        updates, state = transform.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    outputs = []
    for start in (rnn, rescale(rnn, graph, log_normal(graph, key))):
        params, state = start, transform.init(start)
        for _ in range(4):
            params, state = step(params, state)
        outputs.append(forward(params, xs))
    assert abs(outputs[0] - forward(rnn, xs)).max() > 1e-3
    np.testing.assert_allclose(*outputs, rtol=1e-8, atol=1e-10)  # a few steps of rounding


@pytest.mark.usefixtures("unchecked")
def test_scales_of_the_wrong_form_are_refused():
    rnn = network("narrowing")
    graph = graph_of(rnn)
    with pytest.raises(ValueError, match=r"log_scales must be a sequence of one .* for each of 2 layers"):
        path_opt.rescale(rnn, graph, (jnp.zeros(5),))
    with pytest.raises(ValueError, match=r"log_scales\[1\] must be \(hidden,\) with hidden = 2, got shape \(3,\)"):
        path_opt.rescale(rnn, graph, (jnp.zeros(5), jnp.zeros(3)))
