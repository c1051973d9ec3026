"""`condition` computes the same function, and no other rescaling has a more even diagonal of the path metric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import maso_rnn
import path_opt
from tests.oracles import path_enumeration as enumeration
from tests.path_networks import flat, graph_of, log_normal, sequence

NETWORKS = {
    "one layer": (maso_rnn.init(jax.random.key(2), 2, [3], 2, bias_init=jax.nn.initializers.normal(0.5)), 3, "last"),
    "two layers": (maso_rnn.init(jax.random.key(3), 1, [2, 2], 1, bias_init=None), 3, "every"),
}


def unevenness(kappa):
    """The log-det divergence of diag(κ) from the nearest multiple of the identity, for each weight."""
    kappa = np.asarray(kappa)
    return np.log(kappa.mean()) - np.log(kappa).mean()


@pytest.mark.parametrize("name", NETWORKS)
def test_no_rescaling_is_more_even(name):
    rnn, steps, readout = NETWORKS[name]
    graph = graph_of(rnn)
    paths = enumeration.unrolled_paths(rnn, steps, readout)
    kappa = flat(enumeration.metric_diagonal(rnn, paths))
    got = path_opt.condition(rnn, graph, steps, readout=readout)
    xs = sequence(graph.inputs)
    np.testing.assert_allclose(maso_rnn.forward(got, xs), maso_rnn.forward(rnn, xs), rtol=1e-12, atol=1e-14)

    # how each weight of a network of ones changes shows the exponents of e^u by which a rescaling changes κ
    ones = jax.tree.map(jnp.ones_like, rnn)
    rows = []
    for unit in np.eye(graph.units):
        logs = [jnp.asarray(part) for part in np.split(unit, np.cumsum(graph.widths)[:-1])]
        rows.append(-2 * np.log(flat(path_opt.rescale(ones, graph, logs))))
    exponents = np.array(rows)
    best = scipy.optimize.minimize(
        lambda u: unevenness(kappa * np.exp(u @ exponents)), np.zeros(graph.units), tol=1e-12
    )
    reached = unevenness(flat(enumeration.metric_diagonal(got, paths)))
    assert reached < unevenness(kappa) - 1e-3
    # BFGS by differences stops within 1e-8 of the minimum's place, and so within 1e-14 of its value
    np.testing.assert_allclose(reached, best.fun, atol=1e-10)


def test_every_rescaling_of_a_network_has_the_same(key):
    rnn, steps, _ = NETWORKS["one layer"]
    graph = graph_of(rnn)
    other = path_opt.rescale(rnn, graph, log_normal(graph, key))
    a, b = (path_opt.condition(params, graph, steps) for params in (rnn, other))
    # Newton's method ends within the root of rounding of the minimum
    np.testing.assert_allclose(flat(a), flat(b), rtol=1e-6)


@pytest.mark.usefixtures("unchecked")
def test_bad_arguments_are_refused_by_name():
    rnn, _, _ = NETWORKS["one layer"]
    graph = graph_of(rnn)
    with pytest.raises(ValueError, match="num_steps"):
        path_opt.condition(rnn, graph, 0)
    with pytest.raises(ValueError, match="readout"):
        path_opt.condition(rnn, graph, 3, readout="first")
    with pytest.raises(TypeError, match="graph"):
        path_opt.condition(rnn, rnn, 3)
