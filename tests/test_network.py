import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from tests.oracles import reference

SIZES = ((), [7], [7, 4], [7, 4, 5])


def network(key, layers, activation="relu", **options):
    options = {"bias_init": jax.nn.initializers.normal(0.5), "dtype": "float64"} | options
    return maso_rnn.init(key, 3, SIZES[layers], 2, activation=activation, **options)


def states(key, rnn):
    widths = [layer.recurrent_kernel.shape[0] for layer in rnn.layers]
    return tuple(jax.random.normal(jax.random.fold_in(key, w), (w,)) for w in widths)


@pytest.mark.parametrize("activation", ["relu", "hard_tanh", "tanh"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("bias_init", [None, jax.nn.initializers.normal(0.5)])
def test_forward_equals_a_plain_loop(key, activation, layers, bias_init):
    rnn = network(key, layers, activation, bias_init=bias_init)
    xs, h0 = jax.random.normal(key, (6, 3)), states(key, rnn)
    wanted = reference.forward(rnn, activation, xs, h0)
    # float64, a few hundred operations: sums may round differently
    np.testing.assert_allclose(maso_rnn.forward(rnn, xs, h0), wanted, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(maso_rnn.last_output(rnn, xs, h0), wanted[-1], rtol=1e-12, atol=1e-13)


def test_initial_state_is_given_then_learned_then_zero(key):
    rnn, xs = network(key, 2), jax.random.normal(key, (6, 3))
    learned, given = states(key, rnn), states(jax.random.key(1), rnn)
    zeros = jax.tree.map(jnp.zeros_like, learned)
    with_learned = rnn.replace(initial=learned)
    np.testing.assert_array_equal(maso_rnn.forward(rnn, xs), maso_rnn.forward(rnn, xs, zeros))
    np.testing.assert_array_equal(maso_rnn.forward(with_learned, xs), maso_rnn.forward(rnn, xs, learned))
    np.testing.assert_array_equal(maso_rnn.forward(with_learned, xs, given), maso_rnn.forward(rnn, xs, given))
    assert not np.array_equal(maso_rnn.forward(rnn, xs, given), maso_rnn.forward(rnn, xs, learned))


def test_trajectory_is_consistent(key):
    rnn, xs = network(key, 2, "hard_tanh"), jax.random.normal(key, (6, 3))
    run = maso_rnn.trajectory(rnn, xs)
    np.testing.assert_allclose(run.outputs, maso_rnn.forward(rnn, xs), rtol=1e-13)  # other fusion
    for layer, (h, code) in enumerate(zip(run.states, run.codes, strict=True)):
        assert h.shape == code.shape == (6, SIZES[2][layer])
        # a unit inside (-1, 1) is on the middle piece, one at the ends on an outer one
        np.testing.assert_array_equal(code == 1, (h > -1) & (h < 1))


def test_a_network_is_a_pytree_with_a_static_activation(key):
    rnn = network(key, 2).replace(initial=states(key, network(key, 2)))
    assert len(jax.tree.leaves(rnn)) == 2 * 3 + 2 + 2
    doubled = jax.tree.map(lambda leaf: 2 * leaf, rnn)
    assert doubled.activation is rnn.activation
    assert isinstance(jax.eval_shape(lambda r: r, rnn), maso_rnn.RNN)


def test_init_draws_are_independent_and_of_the_asked_scale(key):
    rnn = maso_rnn.init(key, 400, [300, 300], 200)
    for layer in rnn.layers:
        identity = layer.recurrent_kernel @ layer.recurrent_kernel.T
        np.testing.assert_allclose(identity, np.eye(300), atol=1e-12)  # orthogonal, float64
    assert not np.allclose(rnn.layers[0].recurrent_kernel, rnn.layers[1].recurrent_kernel)
    # lecun: variance 1 / fan_in; 6e4 draws estimate it to 0.6%, five standard errors are 3%
    assert np.var(rnn.readout.kernel) * 300 == pytest.approx(1, rel=0.03)
    assert np.var(rnn.layers[0].input_kernel) * 400 == pytest.approx(1, rel=0.03)


BAD_SEQUENCES = {
    "a batch": (lambda xs: xs[None], ValueError, "vmap"),
    "one channel too many": (
        lambda xs: jnp.pad(xs, ((0, 0), (0, 1))),
        ValueError,
        r"xs .*input = 3, got shape \(6, 4\)",
    ),
    "empty": (lambda xs: xs[:0], ValueError, "xs .* not empty"),
    "integers": (lambda xs: xs.astype(int), TypeError, "floating, got int"),
    "booleans": (lambda xs: xs > 0, TypeError, "floating, got bool"),
    "complex": (lambda xs: xs + 0j, TypeError, "floating, got complex"),
    "another float": (lambda xs: xs.astype("float32"), TypeError, "xs must be float64.* got float32"),
    "NaN": (lambda xs: xs.at[2, 1].set(jnp.nan), ValueError, "xs must be finite"),
    "a list": (lambda xs: xs.tolist(), TypeError, "xs must be an array .* got list"),
}


@pytest.mark.parametrize("fault", BAD_SEQUENCES)
@pytest.mark.parametrize("function", [maso_rnn.forward, maso_rnn.trajectory, maso_rnn.affine_map, maso_rnn.affine_maps])
def test_bad_sequences_are_refused(key, unchecked, function, fault):
    break_it, error, message = BAD_SEQUENCES[fault]
    with pytest.raises(error, match=message):
        function(network(key, 1), break_it(jax.random.normal(key, (6, 3))))


def _layer(rnn, **changes):
    return rnn.replace(layers=(rnn.layers[0].replace(**changes), *rnn.layers[1:]))


BAD_NETWORKS = {
    "not a network": (lambda rnn: rnn.layers, TypeError, "maso_rnn.RNN, got tuple"),
    "no layers": (lambda rnn: rnn.replace(layers=()), ValueError, "at least one Layer"),
    "a list of layers": (lambda rnn: rnn.replace(layers=list(rnn.layers)), ValueError, "tuple"),
    "widths": (
        lambda rnn: rnn.replace(layers=rnn.layers[::-1]),
        ValueError,
        r"layers\[1\].input_kernel",
    ),
    "not square": (
        lambda rnn: _layer(rnn, recurrent_kernel=jnp.ones((7, 6))),
        ValueError,
        r"layers\[0\].recurrent_kernel",
    ),
    "bias": (lambda rnn: _layer(rnn, bias=jnp.ones(6)), ValueError, r"layers\[0\].bias"),
    "readout": (
        lambda rnn: rnn.replace(readout=maso_rnn.Readout(jnp.ones((5, 2)))),
        ValueError,
        "rnn.readout.kernel",
    ),
    "mixed dtypes": (
        lambda rnn: _layer(rnn, bias=jnp.ones(7, "float32")),
        TypeError,
        r"layers\[0\].bias must be float64",
    ),
    "integers": (lambda rnn: jax.tree.map(lambda leaf: leaf.astype(int), rnn), TypeError, "floating"),
    "NaN": (lambda rnn: _layer(rnn, bias=jnp.full(7, jnp.nan)), ValueError, r"layers\[0\].bias must be finite"),
    "an activation's name": (lambda rnn: rnn.replace(activation="relu"), TypeError, "rnn.activation"),
    "no readout": (lambda rnn: rnn.replace(readout=None), TypeError, "rnn.readout must be a maso_rnn.Readout"),
    "learned state": (lambda rnn: rnn.replace(initial=(jnp.ones(7),)), ValueError, "rnn.initial"),
}


@pytest.mark.parametrize("fault", BAD_NETWORKS)
def test_bad_networks_are_refused(key, unchecked, fault):
    break_it, error, message = BAD_NETWORKS[fault]
    with pytest.raises(error, match=message):
        maso_rnn.forward(break_it(network(key, 2)), jnp.ones((6, 3)))


def test_bad_initial_states_are_refused(key, unchecked):
    rnn, xs = network(key, 2), jnp.ones((6, 3))
    for h0, error, message in [
        (jnp.ones(7), TypeError, "tuple of one"),
        ((jnp.ones(7),), ValueError, "h0 .* 2 layers, got 1"),
        ((jnp.ones(4), jnp.ones(7)), ValueError, r"h0\[0\]"),
        ((jnp.ones(7), jnp.full(4, jnp.inf)), ValueError, r"h0\[1\] must be finite"),
    ]:
        with pytest.raises(error, match=message):
            maso_rnn.forward(rnn, xs, h0)


def test_bad_sizes_are_refused(key, unchecked):
    for arguments, error, message in [
        ((0, [4], 2), ValueError, "input_size must be at least 1, got 0"),
        ((3, [], 2), ValueError, "at least one layer"),
        ((3, 4, 2), TypeError, r"as \[4\]"),
        ((3, np.int64(4), 2), TypeError, "hidden_sizes must be one width"),
        ((3, None, 2), TypeError, "hidden_sizes must be one width"),
        ((3, [4, -1], 2), ValueError, r"hidden_sizes\[1\]"),
        ((3, [4], 2.0), TypeError, "output_size must be an integer"),
        ((True, [4], 2), TypeError, "input_size"),
    ]:
        with pytest.raises(error, match=message):
            maso_rnn.init(key, *arguments)
    with pytest.raises(TypeError, match="dtype must be a floating dtype"):
        maso_rnn.init(key, 3, [4], 2, dtype="int32")
    with pytest.raises(TypeError, match="dtype must be a floating dtype"):
        maso_rnn.init(key, 3, [4], 2, dtype="flot")
    with pytest.raises(TypeError, match="key must be"):
        maso_rnn.init(0, 3, [4], 2)
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        maso_rnn.init(key, 3, [4], 2, dtype="float64")


def test_pieces_of_a_smooth_activation_are_refused_with_the_way_out(key):
    rnn = network(key, 1, "tanh")
    for function in (maso_rnn.affine_map, maso_rnn.affine_maps):
        with pytest.raises(ValueError, match=r"tanh has no affine pieces.*maso_rnn\.linearize"):
            function(rnn, jnp.ones((6, 3)))


def test_non_finite_values_under_jit_show_in_the_result(key):
    rnn = network(key, 1)
    assert jnp.isnan(jax.jit(maso_rnn.forward)(rnn, jnp.full((6, 3), jnp.nan))).all()
