import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn

STARTS = {
    "orthogonal": jax.nn.initializers.orthogonal(),
    "identity": lambda key, shape, dtype: jnp.eye(*shape, dtype=dtype),
    "he": jax.nn.initializers.he_normal(),
}


def network(key, widths, start="orthogonal", activation="relu"):
    return maso_rnn.init(
        key,
        2,
        widths,
        3,
        activation=activation,
        recurrent_init=STARTS[start],
        bias_init=jax.nn.initializers.normal(0.1),
        dtype="float64",
    )


def compare(rnn, xs):
    """Whether the codes are the sequential ones, how far off the outputs are, relatively, and how it went."""
    parallel, wanted = maso_rnn.parallel_forward(rnn, xs), maso_rnn.trajectory(rnn, xs)
    same = jnp.stack([(a == b).all() for a, b in zip(parallel.trajectory.codes, wanted.codes, strict=True)]).all()
    error = jnp.abs(parallel.trajectory.outputs - wanted.outputs).max() / jnp.abs(wanted.outputs).max()
    return same, error, parallel.iterations, parallel.converged


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("widths", [(16,), (8, 8)])
def test_codes_are_exactly_the_sequential_ones(key, start, widths):
    # 3 starts, 1 and 2 layers, 34 nets each: 204 in all
    keys = jax.random.split(key, 34)
    rnns = jax.vmap(lambda key: network(key, widths, start))(keys)
    xs = jax.vmap(lambda key: jax.random.normal(key, (40, 2)))(keys)
    same, error, rounds, converged = jax.jit(jax.vmap(compare))(rnns, xs)
    assert same.all()
    assert converged.all()
    assert (rounds <= 40).all()
    assert (rounds > 1).all()
    assert (error < 1e-11).all()  # float64, 40 steps that may grow tenfold under He's start


@pytest.mark.parametrize("activation", ["leaky_relu", "abs", "hard_tanh", "identity"])
def test_any_pieces_and_any_initial_state(key, activation):
    rnn = network(key, (8, 5, 6), activation=activation).replace(
        initial=tuple(jnp.full(width, 0.5) for width in (8, 5, 6))
    )
    same, error, _, converged = jax.jit(compare)(rnn, jax.random.normal(key, (30, 2)))
    assert same
    assert converged
    assert error < 1e-11  # float64, 30 steps
    if activation == "identity":
        assert maso_rnn.parallel_forward(rnn, jnp.ones((30, 2))).iterations == 1


def test_cut_short_it_says_so_and_its_first_steps_are_right(key):
    rnn, xs = network(key, (16,), "he"), jax.random.normal(key, (40, 2))
    whole, wanted = maso_rnn.parallel_forward(rnn, xs), maso_rnn.trajectory(rnn, xs)
    needed = int(whole.iterations)
    assert needed > 3
    for most in (1, 3, needed - 1):
        cut = maso_rnn.parallel_forward(rnn, xs, max_iterations=most)
        assert not cut.converged
        assert cut.iterations == most
        np.testing.assert_array_equal(cut.trajectory.codes[0][:most], wanted.codes[0][:most])
    assert maso_rnn.parallel_forward(rnn, xs, max_iterations=needed).converged


def test_numbers_that_are_not_finite_are_not_converged(key):
    rnn = network(key, (4,)).replace(activation=maso_rnn.identity)
    rnn = rnn.replace(layers=(rnn.layers[0].replace(recurrent_kernel=1e30 * jnp.eye(4)),))
    assert not maso_rnn.parallel_forward(rnn, jnp.ones((40, 2))).converged


def test_gradient_is_that_of_the_scan(key):
    rnn, xs = network(key, (8, 5)), jax.random.normal(key, (20, 2))
    got = jax.grad(lambda rnn: (maso_rnn.parallel_forward(rnn, xs).trajectory.outputs ** 2).sum())(rnn)
    wanted = jax.grad(lambda rnn: (maso_rnn.forward(rnn, xs) ** 2).sum())(rnn)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)  # float64, sums in another order


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(key):
    rnn, xs = network(key, (4,)), jnp.ones((5, 2))
    with pytest.raises(ValueError, match="max_iterations"):
        maso_rnn.parallel_forward(rnn, xs, max_iterations=0)
    with pytest.raises(TypeError, match="max_iterations"):
        maso_rnn.parallel_forward(rnn, xs, max_iterations=2.5)
    with pytest.raises(ValueError, match="activation"):
        maso_rnn.parallel_forward(rnn.replace(activation=jnp.tanh), xs)
    with pytest.raises(ValueError, match="xs"):
        maso_rnn.parallel_forward(rnn, xs.at[0].set(jnp.inf))


def one_step_after_the_other(rnn, result, xs):
    """Whether every state follows from the one before, up to a thousand roundings."""
    before = [jnp.concatenate([jnp.zeros((1, h.shape[1])), h[:-1]]) for h in result.trajectory.states]
    after = jax.vmap(lambda h, x: maso_rnn.trajectory(rnn, x[None], h).states)(tuple(before), xs)
    gaps = [jnp.abs(a[:, 0] - b).max() for a, b in zip(after, result.trajectory.states, strict=True)]
    return max(gaps) < 1e3 * 2.3e-16 * 100


def test_a_chaotic_network_converges_within_as_many_rounds_as_steps(key):
    # a rounding grows tenfold in a few steps, so that no solution over all steps is right to the end
    rnn = maso_rnn.init(
        key, 2, [16], 3, activation="hard_tanh", recurrent_init=maso_rnn.spectral_radius(radius=5.0), dtype="float64"
    )
    xs = jax.random.normal(key, (300, 2))
    result = maso_rnn.parallel_forward(rnn, xs)
    assert result.converged
    assert result.iterations <= 300
    assert one_step_after_the_other(rnn, result, xs)


def test_products_that_cancel_are_solved_again_from_what_is_settled():
    # |h| stays below 1 while the products of slopes grow as 1.9 ** 200: one solution over all steps is noise
    one = jnp.ones((1, 1))
    layer = maso_rnn.Layer(0 * one, 1.9 * one, jnp.array([-0.9]))
    rnn = maso_rnn.RNN((layer,), maso_rnn.Readout(one), activation=maso_rnn.abs)
    result = maso_rnn.parallel_forward(rnn, jnp.zeros((200, 1)), (jnp.array([0.3]),))
    assert result.converged
    states = np.concatenate([[0.3], np.asarray(result.trajectory.states[0][:, 0])])
    np.testing.assert_allclose(states[1:], np.abs(1.9 * states[:-1] - 0.9), atol=1e-12)  # a thousand roundings
