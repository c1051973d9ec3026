"""κ is what enumeration of all paths says, and stays finite where γ² does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import maso_rnn
import path_opt
from maso_rnn import powers
from tests.oracles import path_enumeration as enumeration
from tests.path_networks import flat, graph_of, log_normal, network

# whole calls compiled: quicker than their operations one by one
path_norm = jax.jit(path_opt.path_norm, static_argnums=2, static_argnames=("log", "readout"))
NETWORKS = {"one-layer": 4, "narrowing": 3, "widening": 4}  # with the steps over which paths are enumerated


def kappa_of(rnn, steps, readout, *, second_order, normalize):
    """What the transform divides by, from its state."""
    transform = path_opt.scale_by_path_norm(
        graph_of(rnn, "modulo"), steps, second_order=second_order, normalize=normalize, readout=readout
    )
    _, state = transform.update(rnn, transform.init(rnn), rnn)
    return jax.tree.map(jnp.square, state.inner.root_kappa)


@pytest.fixture(scope="module", params=[(name, readout) for name in NETWORKS for readout in ("last", "every")])
def case(request):
    name, readout = request.param
    rnn, steps = network(name), NETWORKS[name]
    if name == "one-layer":  # two units fewer: 4 steps of 4 units are too many paths to differentiate
        rnn = maso_rnn.init(jax.random.key(2), 2, [2], 2, bias_init=jax.nn.initializers.normal(0.5))
        rnn = rnn.replace(initial=(jnp.array([0.7, -1.1]),))
    if name == "narrowing":
        rnn = maso_rnn.init(jax.random.key(2), 1, [3, 2], 1, bias_init=None)
    if name == "widening":
        steps = 3
    return rnn, steps, readout, enumeration.unrolled_paths(rnn, steps, readout)


def test_path_norm_is_the_sum_over_all_paths(case):
    rnn, steps, readout, paths = case
    wanted = (enumeration.path_lifting(rnn, paths) ** 2).sum()
    graph = graph_of(rnn)
    # the same sum in another order
    np.testing.assert_allclose(path_norm(rnn, graph, steps, readout=readout), wanted, rtol=1e-12)
    log = path_norm(rnn, graph, steps, readout=readout, log=True)
    np.testing.assert_allclose(log, jnp.log(wanted), rtol=1e-12, atol=1e-12)


def test_first_order_metric_is_the_sum_over_all_paths(case):
    rnn, steps, readout, paths = case
    wanted = enumeration.first_order_metric(rnn, paths)
    got = kappa_of(rnn, steps, readout, second_order=False, normalize=False)
    np.testing.assert_allclose(flat(got), flat(wanted), rtol=1e-12)  # the same sum in another order


def test_both_orders_together_are_the_diagonal_of_the_path_metric(case):
    rnn, steps, readout, paths = case
    wanted = enumeration.metric_diagonal(rnn, paths)
    got = kappa_of(rnn, steps, readout, second_order=True, normalize=False)
    np.testing.assert_allclose(flat(got), flat(wanted), rtol=1e-12)  # the same sum in another order
    first = kappa_of(rnn, steps, readout, second_order=False, normalize=False)
    assert not np.allclose(flat(first), flat(got), rtol=1e-3)


@pytest.mark.parametrize(
    ("second_order", "readout"),
    [
        (False, "last"),
        (True, "every"),
        pytest.param(False, "every", marks=pytest.mark.slow),
        pytest.param(True, "last", marks=pytest.mark.slow),
    ],
)
def test_the_transform_divides_by_it(second_order, readout, key):
    rnn = network("widening")
    graph = graph_of(rnn)
    gradient = jax.tree.map(lambda leaf: jax.random.normal(key, leaf.shape), rnn)
    for normalize in (True, False):
        transform = path_opt.scale_by_path_norm(
            graph, 5, second_order=second_order, normalize=normalize, readout=readout
        )
        scaled, state = jax.jit(transform.update)(gradient, transform.init(rnn), rnn)
        kappa = kappa_of(rnn, 5, readout, second_order=second_order, normalize=normalize)
        # compiled together with the division, so rounded otherwise
        np.testing.assert_allclose(flat(scaled), flat(gradient) / flat(kappa), rtol=1e-12)
        np.testing.assert_allclose(flat(state.inner.root_kappa) ** 2, flat(kappa), rtol=1e-12)
    norm = path_norm(rnn, graph, 5, readout=readout)
    normalized = kappa_of(rnn, 5, readout, second_order=second_order, normalize=True)
    np.testing.assert_allclose(flat(normalized) * norm, flat(kappa), rtol=1e-12)


def test_path_sgd_is_the_transform_and_a_rate():
    rnn = network("one-layer")
    graph, gradient = graph_of(rnn), jax.tree.map(jnp.ones_like, rnn)
    sgd = path_opt.path_sgd(0.1, graph=graph, num_steps=4)
    first_order = path_opt.scale_by_path_norm(graph, 4, second_order=False, normalize=True, readout="last")
    got, wanted = (jax.jit(transform.update)(gradient, transform.init(rnn), rnn)[0] for transform in (sgd, first_order))
    np.testing.assert_allclose(flat(got), -0.1 * flat(wanted), rtol=1e-12)


@pytest.mark.parametrize("second_order", [pytest.param(False, marks=pytest.mark.slow), True])
def test_he_initialisation_over_784_steps_stays_finite_in_float32(second_order):
    he = jax.nn.initializers.he_normal()
    rnn = maso_rnn.init(jax.random.key(0), 1, [32], 10, input_init=he, recurrent_init=he, readout_init=he)
    rnn = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), rnn)
    graph = graph_of(rnn)
    assert jnp.isinf(path_norm(rnn, graph, 784))
    log = path_norm(rnn, graph, 784, log=True)
    assert jnp.isfinite(log)
    kappa = kappa_of(rnn, 784, "last", second_order=second_order, normalize=True)
    exact_weights = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), rnn)
    exact = kappa_of(exact_weights, 784, "last", second_order=second_order, normalize=True)
    np.testing.assert_allclose(log, path_norm(exact_weights, graph, 784, log=True), rtol=1e-5)
    kernel = kappa.layers[0].recurrent_kernel
    assert bool(jnp.isfinite(flat(kappa)).all())
    assert bool((kernel > 0).all())
    # float32 over 784 steps of sums of positive numbers: rounding grows with their number at most
    np.testing.assert_allclose(kernel, exact.layers[0].recurrent_kernel, rtol=784 * 32 * 6e-8)
    transform = path_opt.path_sgd(0.1, graph=graph, num_steps=784, second_order=second_order)
    gradient = jax.tree.map(jnp.ones_like, rnn)
    updates, state = jax.jit(transform.update)(gradient, transform.init(rnn), rnn)
    assert bool(jnp.isfinite(flat(updates)).all())
    assert (int(state.skipped), int(state.nonfinite_gradients)) == (0, 0)
    assert bool((updates.layers[0].recurrent_kernel != 0).all())


def test_powers_of_two_are_exact():
    for dtype in (jnp.float32, jnp.float64):
        exponents = jnp.arange(-126, 128)
        twos = powers.power(exponents, dtype)
        assert twos.dtype == dtype
        np.testing.assert_array_equal(twos, [2.0**e for e in range(-126, 128)])
        np.testing.assert_array_equal(powers.exponent(twos), exponents + 1)
        np.testing.assert_array_equal(powers.exponent(twos * jnp.asarray(1.5, dtype)), exponents + 1)
    assert powers.power(jnp.asarray(-400), jnp.float32) == 0
    assert powers.power(jnp.asarray(400), jnp.float32) == jnp.inf
    assert powers.exponent(jnp.zeros(())) < 0
    least = jnp.asarray(2.0**-126, jnp.float32)
    for exponent in (1, 2, 125, 252, 253):  # odd and even, to the other end of the range and back
        assert powers.scaled(least, jnp.asarray(exponent)) == 2.0 ** (exponent - 126)
        assert powers.scaled(jnp.asarray(2.0 ** (exponent - 126), jnp.float32), jnp.asarray(-exponent)) == least
    assert powers.scaled(jnp.asarray(0.0), jnp.asarray(10_000)) == 0


@pytest.mark.parametrize("make", [path_opt.path_sgd, path_opt.scale_by_path_norm])
def test_a_masked_recurrent_kernel_is_refused_and_one_whose_steps_are_masked_is_not(make):
    rnn = network("one-layer")
    graph = graph_of(rnn)
    rate = {"learning_rate": 0.1} if make is path_opt.path_sgd else {}
    transform = make(**rate, graph=graph, num_steps=3)
    masked = rnn.replace(layers=(rnn.layers[0].replace(recurrent_kernel=optax.MaskedNode()),))
    for refused in (
        lambda: transform.init(masked),
        lambda: path_opt.path_norm(masked, graph, 3),
        lambda: path_opt.condition(masked, graph, 3),
    ):
        with pytest.raises(ValueError, match="recurrent_kernel is masked"):
            refused()
    mask = jax.tree.map(lambda leaf: leaf is rnn.layers[0].recurrent_kernel, rnn)
    freezing = optax.chain(transform, optax.masked(optax.set_to_zero(), mask))
    updates, _ = freezing.update(rnn, freezing.init(rnn), rnn)
    assert not np.any(updates.layers[0].recurrent_kernel)
    assert np.all(updates.initial[0] != 0)


def test_no_rescaling_changes_the_path_norm(key):
    rnn = network("four-layers")
    graph = graph_of(rnn)
    other = path_opt.rescale(rnn, graph, log_normal(graph, key))
    a, b = (path_norm(params, graph, 7) for params in (rnn, other))
    np.testing.assert_allclose(a, b, rtol=1e-12)  # rounding of sums of positive numbers


def test_unused_weights_get_no_update():
    # one step: no path has used a recurrent weight, unless the state before it is learned
    rnn = dataclasses.replace(network("one-layer"), initial=None)
    transform = path_opt.path_sgd(0.1, graph=graph_of(rnn), num_steps=1)
    updates, _ = transform.update(jax.tree.map(jnp.ones_like, rnn), transform.init(rnn), rnn)
    np.testing.assert_array_equal(updates.layers[0].recurrent_kernel, 0)
    assert bool((updates.layers[0].input_kernel != 0).all())


def test_a_readout_of_zeros_is_refused_by_leaf():
    rnn = network("one-layer")
    zero = rnn.replace(readout=jax.tree.map(jnp.zeros_like, rnn.readout))
    graph = graph_of(rnn)
    for transform in (path_opt.path_sgd(0.1, graph=graph, num_steps=4), path_opt.scale_by_path_norm(graph, 4)):
        with pytest.raises(ValueError, match=r"leaf 'readout/kernel': the readout is all zeros"):
            transform.init(zero)
        # a bias alone is a path, and the readout's weights begin to move by it
        transform.init(zero.replace(readout=zero.readout.replace(bias=rnn.readout.bias)))


def test_a_metric_that_overflows_has_no_share_of_unused_weights():
    rnn = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), network("one-layer"))
    # nothing leaves unit 0, and all else grows past float32
    recurrent = (100 * rnn.layers[0].recurrent_kernel).at[0].set(0)
    rnn = rnn.replace(
        layers=(rnn.layers[0].replace(recurrent_kernel=recurrent),),
        readout=rnn.readout.replace(kernel=rnn.readout.kernel.at[0].set(0)),
    )
    graph = graph_of(rnn, "modulo")
    assert jnp.isinf(path_norm(rnn, graph, 30))
    transform = path_opt.scale_by_path_norm(graph, 30, normalize=False)
    updates, state = jax.jit(transform.update)(jax.tree.map(jnp.ones_like, rnn), transform.init(rnn), rnn)
    assert int(state.skipped) == 0
    np.testing.assert_array_equal(state.inner.root_kappa.layers[0].input_kernel[:, 0], 0)
    np.testing.assert_array_equal(updates.layers[0].input_kernel, 0)


def test_a_metric_serves_until_it_is_due():
    rnn = network("one-layer")
    graph = graph_of(rnn)
    transform = path_opt.path_sgd(1e-2, graph=graph, num_steps=4, refresh_every=3)
    update = jax.jit(transform.update)
    gradient, state, params, kappas = jax.tree.map(jnp.ones_like, rnn), transform.init(rnn), rnn, []
    for _ in range(5):
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        kappas.append(np.asarray(flat(state.inner.root_kappa)))
    assert (kappas[0] == kappas[1]).all()
    assert (kappas[1] == kappas[2]).all()
    assert (kappas[2] != kappas[3]).any()
    assert (kappas[3] == kappas[4]).all()


@pytest.mark.usefixtures("unchecked")
def test_calls_of_the_wrong_form_are_refused():
    rnn = network("one-layer")
    graph = graph_of(rnn)
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        path_opt.path_norm(rnn, graph, 0)
    with pytest.raises(TypeError, match="num_steps must be an integer"):
        path_opt.path_sgd(0.1, graph=graph, num_steps=4.0)
    with pytest.raises(ValueError, match="refresh_every must be at least 1"):
        path_opt.scale_by_path_norm(graph, 4, refresh_every=0)
    with pytest.raises(ValueError, match="readout must be one of"):
        path_opt.scale_by_path_norm(graph, 4, readout="first")
    with pytest.raises(TypeError, match=r"graph must be a path_opt\.ReductionGraph"):
        path_opt.scale_by_path_norm(rnn, 4)


@pytest.mark.parametrize("steps", [10, 784])
def test_states_that_grow_slower_than_the_largest_weight_keep_their_digits(steps):
    rng = np.random.default_rng(0)
    u, r = (rng.normal(size=shape).astype("float32") for shape in ((1, 8), (8, 2)))
    rnn = maso_rnn.RNN((maso_rnn.Layer(jnp.asarray(u), jnp.eye(8, dtype="float32")),), maso_rnn.Readout(jnp.asarray(r)))
    graph = path_opt.reduction_graph(rnn)
    # a unit adds u² in each step, and keeps what it has
    through = (u.astype(float) ** 2).ravel() * (r.astype(float) ** 2).sum(axis=1)
    rounding = steps * float(np.finfo("float32").eps)  # a sum of so many
    assert path_norm(rnn, graph, steps) == pytest.approx(steps * through.sum(), rel=rounding)
    expected = (r.astype(float) ** 2).sum(axis=1) / through.sum()  # ∂ ln γ² / ∂ u²
    for second_order in (False, True):  # a path has one edge of the input, so that its κ² is 0
        kappa = kappa_of(rnn, steps, "last", second_order=second_order, normalize=True)
        np.testing.assert_allclose(kappa.layers[0].input_kernel[0], expected, rtol=rounding)
        assert np.isfinite(kappa.layers[0].recurrent_kernel).all()
