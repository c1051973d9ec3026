import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from tests.oracles import boundary

SIZES = ((), [7], [7, 4], [7, 4, 5])


def network(key, layers, activation="relu", **options):
    options = {"bias_init": jax.nn.initializers.normal(0.5), "dtype": "float64"} | options
    return maso_rnn.init(key, 3, SIZES[layers], 2, activation=activation, **options)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs", "hard_tanh"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("time", [2, 25])  # with the gradients carried, and with their Gram matrix
def test_boundary_distance_equals_all_jacobians(key, activation, layers, time):
    rnn = network(key, layers, activation)
    h0 = tuple(0.3 * jnp.ones(width) for width in SIZES[layers])
    distances = jax.jit(jax.vmap(lambda xs: maso_rnn.boundary_distance(rnn, xs, h0)))
    wanted = jax.jit(jax.vmap(lambda xs: boundary.distance(rnn, activation, xs, h0)))
    xs = jax.random.normal(key, (20, time, 3))
    # float64: two ways to sum the same squares
    np.testing.assert_allclose(distances(xs), wanted(xs), rtol=1e-12)


@pytest.mark.slow
def test_boundary_distance_is_exact_and_ten_times_cheaper_at_full_size(key):
    rnn = maso_rnn.init(key, 1, [128], 10, bias_init=jax.nn.initializers.normal(0.1), dtype="float64")
    h0 = (jnp.zeros(128),)
    fast = jax.jit(lambda xs: maso_rnn.boundary_distance(rnn, xs, h0))
    slow = jax.jit(lambda xs: boundary.distance(rnn, "relu", xs, h0))
    ratios = []
    for k in jax.random.split(key, 4):
        xs = jax.random.normal(k, (64, 1))
        spent = []
        for function in (fast, slow):
            before = time.process_time()
            distance = function(xs).block_until_ready()
            spent.append(time.process_time() - before)
        # float64: two ways to sum the same squares
        np.testing.assert_allclose(fast(xs), distance, rtol=1e-12)
        ratios.append(spent[0] / spent[1])
    print("CPU time against jacrev:", ratios[1:])
    assert np.median(ratios[1:]) < 0.1  # the first of each includes compilation


@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
@pytest.mark.parametrize("layers", [1, 2])
def test_no_point_nearer_than_the_wall_has_another_code(key, activation, layers):
    rnn = network(key, layers, activation)
    xs = jax.random.normal(key, (6, 3))
    distance = maso_rnn.boundary_distance(rnn, xs)
    here = maso_rnn.pack(maso_rnn.trajectory(rnn, xs).codes)

    @jax.jit
    def changed(key, radius):
        direction = jax.random.normal(key, xs.shape)
        nearby = xs + radius * direction / jnp.linalg.norm(direction)
        return (maso_rnn.pack(maso_rnn.trajectory(rnn, nearby).codes) != here).any()

    def count(radius):
        return int(jax.vmap(changed, (0, None))(jax.random.split(key, 10_000), radius).sum())

    assert count(distance * (1 - 1e-9)) == 0  # rounding of the distance
    assert count(distance * 1.5) > 0  # and it is not a loose bound


def test_on_a_wall_the_distance_is_zero_and_without_dependence_infinite(key):
    rnn = network(key, 1, bias_init=None)
    zeros = jnp.zeros((4, 3))
    assert maso_rnn.boundary_distance(rnn, zeros) == 0  # every unit on its kink, and each could be moved off it
    deaf = rnn.replace(layers=(rnn.layers[0].replace(input_kernel=jnp.zeros((3, 7))),))
    assert maso_rnn.boundary_distance(deaf, zeros) == jnp.inf
    assert maso_rnn.boundary_distance(rnn.replace(activation=maso_rnn.identity), zeros) == jnp.inf


def test_boundary_distance_when_squared_gradients_leave_the_range_of_floats():
    one = jnp.ones((1, 1), "float32")
    for steps in (40, 90):  # gradients to 2 ** 90, squares beyond float32
        rnn = maso_rnn.RNN((maso_rnn.Layer(one, 2 * one),), maso_rnn.Readout(one))
        xs = jnp.ones((steps, 1), "float32")
        # h_t = 2 ** t - 1 with gradient (1, 2, 4, …): the first kink is at p_1 = x_1 = 1, at distance 1
        assert float(maso_rnn.boundary_distance(rnn, xs)) == pytest.approx(1, rel=1e-6)  # float32
    rnn = maso_rnn.init(jax.random.key(0), 1, [8], 1, dtype="float32", bias_init=None)
    small = rnn.replace(layers=(rnn.layers[0].replace(input_kernel=1e-24 * rnn.layers[0].input_kernel),))
    xs = jnp.array([[0.3], [-0.5], [0.8], [0.2], [-0.9]], "float32")
    near, far = float(maso_rnn.boundary_distance(rnn, xs)), float(maso_rnn.boundary_distance(small, xs))
    assert far == pytest.approx(near, rel=1e-4)  # float32; without biases the distance does not change with the kernel
    # p_1 = 0.75e38, and powers of two that have no inverse in float32
    huge = maso_rnn.Layer(1e38 * one, 0.5 * one, 0.25e38 * one[0])
    xs = jnp.full((5, 1), 0.5, "float32")
    assert float(maso_rnn.boundary_distance(maso_rnn.RNN((huge,), maso_rnn.Readout(one)), xs)) == pytest.approx(0.75)


def test_gradients_that_a_gram_matrix_loses_are_carried():
    # the third unit reads the difference of two that are nearly the same
    apart = 1e-4
    kernel = jnp.array([[0.9, 0, 1.3], [0, 0.9 * (1 - apart), -1.3 * (1 + apart)], [0, 0, 0]], "float32")
    layer = maso_rnn.Layer(
        jnp.array([[1.37, 1.37 * (1 + apart), 0]], "float32"), kernel, jnp.array([5.0, 5, 0], "float32")
    )
    cancelling = maso_rnn.RNN((layer,), maso_rnn.Readout(jnp.ones((3, 1), "float32")))
    # the second unit reads the first with so small a weight that the square is zero beside it; the third is closed
    kernel = jnp.array([[0, 1e-25, 0], [0, 0, 0], [0, 0, 0]], "float32")
    layer = maso_rnn.Layer(jnp.array([[1.0, 0, 1]], "float32"), kernel, jnp.array([100, -1e-23, -5], "float32"))
    uneven = cancelling.replace(layers=(layer,))
    for rnn in (cancelling, uneven):
        xs = jnp.full((12, 1), 0.7, "float32")
        wide = jax.tree.map(lambda leaf: leaf.astype("float64"), rnn)
        wanted = boundary.distance(wide, "relu", xs.astype("float64"), (jnp.zeros(rnn.layers[0].bias.shape),))
        assert float(maso_rnn.boundary_distance(rnn, xs)) == pytest.approx(
            float(wanted), rel=1e-2
        )  # float32, cancelled
        assert jax.jit(maso_rnn.boundary_distance)(rnn, xs) == maso_rnn.boundary_distance(rnn, xs)
        assert jnp.isnan(jax.grad(maso_rnn.boundary_distance, 1)(rnn, xs)).all()


def test_a_lost_gradient_never_gives_a_number_that_it_could_have_changed():
    """Two units alike but for a difference of their kernels that squares all but lose, and one that reads it.

    Its wall is 0.3 away, that of the others at any distance around.
    """

    def distance(difference, others):
        kernel = jnp.stack([jnp.ones(()), 1 + difference, jnp.zeros(())])[None]
        bias = jnp.stack([others - 0.7, others - 0.7, (0.3 + 0.7) * difference])
        reads = jnp.zeros((3, 3)).at[:2, 2].set(jnp.array([1.0, -1.0]))
        rnn = maso_rnn.RNN((maso_rnn.Layer(kernel, reads, bias),), maso_rnn.Readout(jnp.ones((3, 1))))
        return maso_rnn.boundary_distance(rnn, jnp.full((8, 1), 0.7))

    wrong = 4 * np.finfo(float).eps  # what rounding may make of 1 + 1 − 2
    differences = np.sqrt(64 * wrong) * np.linspace(0.3, 1.3, 16)  # below one their squares are lost
    others = 0.3 * np.linspace(0.3, 2.5, 23)
    found = np.asarray(jax.jit(jax.vmap(jax.vmap(distance, (None, 0)), (0, None)))(differences, others))
    # of a known square, a 64th may be wrong; what is lost is carried
    np.testing.assert_allclose(found, np.minimum(0.3, np.broadcast_to(others, found.shape)), rtol=0.01)
    slopes = jax.jit(jax.vmap(jax.vmap(jax.grad(distance, 1), (None, 0)), (0, None)))(differences, others)
    known = np.isfinite(slopes)
    # known if it is not lost, or too far even with a square as large as twice what would not be lost
    farthest = np.where(differences**2 < 64 * wrong, 0.3 * differences / np.sqrt(2 * 64 * wrong), np.inf)
    np.testing.assert_array_equal(known, others < farthest[:, None])


def test_a_gain_of_an_upper_layer_whose_square_overflows():
    """A path of gain 2 ** 78 that opens at the last step, when the gradients of the first layer are as large."""
    first = maso_rnn.Layer(jnp.ones((1, 2)), jnp.diag(jnp.array([2.0, 0])), jnp.array([1.0, -1.5]))
    second = maso_rnn.Layer(jnp.array([[0.0], [2.0**78]]), jnp.zeros((1, 1)), jnp.ones(1))
    rnn = maso_rnn.RNN((first, second), maso_rnn.Readout(jnp.ones((1, 1))))
    rnn = jax.tree.map(lambda leaf: leaf.astype("float32"), rnn)
    xs = jnp.zeros((30, 1), "float32").at[-1].set(1.75)
    assert jax.jit(maso_rnn.boundary_distance)(rnn, xs) == 0.25


def test_long_sequences_in_float16_have_a_distance(key):
    rnn = maso_rnn.init(key, 4, [8], 1, bias_init=jax.nn.initializers.normal(0.1), dtype="float16")
    xs = jax.random.normal(key, (40, 4), "float16")
    found = jax.jit(maso_rnn.boundary_distance)(rnn, xs)
    wide = jax.tree.map(lambda leaf: leaf.astype("float32"), rnn)
    # the nearest unit's distance to its kink is a difference of numbers of size one
    assert found == pytest.approx(float(maso_rnn.boundary_distance(wide, xs.astype("float32"))), abs=4e-3)


def test_kinks_that_no_symmetry_pairs():
    relu6 = maso_rnn.PiecewiseAffine(breakpoints=(0, 6), slopes=(0, 1, 0), offsets=(0, 0, 6))
    one = jnp.ones((1, 1))
    rnn = maso_rnn.RNN((maso_rnn.Layer(2 * one, 0 * one, jnp.ones(1)),), maso_rnn.Readout(one), activation=relu6)
    for p, distance in ((5.0, 0.5), (2.0, 1.0), (7.5, 0.75), (-1.0, 0.5)):  # the gradient is 2
        assert maso_rnn.boundary_distance(rnn, (p - 1) / 2 * one) == distance
        assert maso_rnn.doubtful_codes(rnn, (p - 1) / 2 * one) == 0
    assert maso_rnn.doubtful_codes(rnn, 2.5 * one) == 1  # p is 6


def test_a_unit_that_only_a_closed_one_reaches_is_infinitely_far_from_the_kink_it_is_on():
    layer = maso_rnn.Layer(jnp.array([[1.0, 0]]), jnp.array([[0, 1.0], [0, 0]]), jnp.array([-5.0, 0]))
    rnn = maso_rnn.RNN((layer,), maso_rnn.Readout(jnp.ones((2, 1))))
    for distance in (maso_rnn.boundary_distance, jax.jit(maso_rnn.boundary_distance)):
        assert distance(rnn, jnp.full((12, 1), 0.5)) == 4.5


@pytest.mark.parametrize("time", [1, 12])
def test_traced_infinities_are_no_distance(time):
    layer = maso_rnn.Layer(jnp.array([[1.0, 0.5]]), jnp.array([[0.5, 0.25], [0.25, 0.5]]), jnp.zeros(2))
    rnn = maso_rnn.RNN((layer,), maso_rnn.Readout(jnp.ones((2, 1))))
    distance = jax.jit(maso_rnn.boundary_distance)
    xs, h0 = jnp.full((time, 1), 0.5), (jnp.full(2, 0.1),)
    assert jnp.isfinite(distance(rnn, xs, h0))
    for bad in (jnp.inf, -jnp.inf):
        assert jnp.isnan(distance(rnn, xs.at[-1].set(bad), h0))
        assert jnp.isnan(distance(rnn, xs, (h0[0].at[0].set(bad),)))
