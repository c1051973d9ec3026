import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import regions
from tests.oracles import boundary

SIZES = ((), [7], [7, 4], [7, 4, 5])


def network(key, layers, activation="relu", **options):
    options = {"bias_init": jax.nn.initializers.normal(0.5), "dtype": "float64"} | options
    return maso_rnn.init(key, 3, SIZES[layers], 2, activation=activation, **options)


def random_codes(key, *shape):
    return tuple(jax.random.bernoulli(k, shape=(*shape, width)) for k, width in ((key, 5), (jax.random.key(9), 11)))


def test_hamming_is_the_share_of_units_that_differ(key):
    codes = random_codes(key, 4)
    flipped = (codes[0].at[1, 2].set(~codes[0][1, 2]), codes[1].at[3, :3].set(~codes[1][3, :3]))
    assert maso_rnn.hamming(codes, codes) == 0
    assert maso_rnn.hamming(codes, flipped) == maso_rnn.hamming(flipped, codes) == 4 / (4 * 16)
    assert maso_rnn.hamming(codes, tuple(~code for code in codes)) == 1


def test_hamming_counts_a_unit_once_however_many_pieces_it_moves():
    codes = (jnp.array([[0, 1, 2]], jnp.uint8),)
    assert maso_rnn.hamming(codes, (jnp.array([[2, 1, 1]], jnp.uint8),)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
def test_packed_codes_unpack_to_themselves(key, activation):
    rnn = network(key, 3, activation)
    xs = jax.random.normal(key, (2, 6, 3))
    codes = jax.vmap(lambda xs: maso_rnn.trajectory(rnn, xs).codes)(xs)
    packed = maso_rnn.pack(codes)
    # bits of 7, 4 and 5 units each fill a byte; codes of three pieces take a byte each
    assert packed.shape == (2, 6 * (3 if activation == "relu" else 16))
    assert packed.dtype == jnp.uint8
    for got, wanted in zip(maso_rnn.unpack(packed, rnn), codes, strict=True):
        assert got.dtype == wanted.dtype
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(maso_rnn.pack(tuple(code[1] for code in codes)), packed[1])


def test_bytes_of_a_prefix_are_a_prefix_of_the_bytes(key):
    codes = random_codes(key, 4)
    shorter = maso_rnn.pack(tuple(code[:3] for code in codes))
    np.testing.assert_array_equal(shorter, maso_rnn.pack(codes)[: shorter.size])


def distinct_prefixes(codes):
    rows = np.concatenate([np.asarray(code) for code in codes], axis=-1)
    return [len({row[: t + 1].tobytes() for row in rows}) for t in range(rows.shape[1])]


def test_count_regions_counts_distinct_prefixes(key):
    # few bits, many sequences: collisions in every step; and 70 units, so that a step has more than two words
    few = (jax.random.bernoulli(key, 0.2, (200, 5, 2)), jax.random.bernoulli(key, 0.1, (200, 5, 1)))
    wide = (jax.random.bernoulli(key, 0.005, (60, 7, 70)),)
    pieces = (jax.random.randint(key, (100, 4, 3), 0, 3).astype(jnp.uint8),)
    for codes in (few, wide, pieces):
        found = maso_rnn.count_regions(codes)
        wanted = distinct_prefixes(codes)
        assert found.counts.tolist() == wanted
        assert found.saturated.tolist() == [count == len(codes[0]) for count in wanted]
        assert 1 < wanted[0] < len(codes[0])


def test_count_regions_tells_every_single_unit_apart():
    one_on = jnp.vstack([jnp.eye(70, dtype=bool), jnp.zeros((1, 70), bool)])  # every bit of two words and of a third
    assert maso_rnn.count_regions((one_on[:, None],)).counts.tolist() == [71]


def test_saturation_is_told_apart():
    codes = (jnp.eye(3, dtype=bool)[:, :, None],)  # the step at which each sequence switches on
    found = maso_rnn.count_regions(codes)
    assert found.counts.tolist() == [2, 3, 3]
    assert found.saturated.tolist() == [False, True, True]
    assert maso_rnn.count_regions((codes[0][:1],)).saturated.all()


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


# multiplications a step, of gradients time · input · (7 · 7 + 7 · 4 + 4 · 4), of the Gram matrix 2 · (7 + 4)³ = 2,662
@pytest.mark.parametrize(("time", "way"), [(9, "_by_gradients"), (10, "_by_gram_matrix")])
def test_boundary_distance_goes_the_way_of_fewer_multiplications(monkeypatch, key, time, way):
    gone = []
    for name in ("_by_gradients", "_by_gram_matrix"):
        there = getattr(regions, name)
        monkeypatch.setattr(regions, name, lambda *given, n=name, f=there: (gone.append(n), f(*given))[1])
    rnn = network(key, 2)
    jax.eval_shape(lambda xs: maso_rnn.boundary_distance(rnn, xs), jnp.ones((time, 3)))  # traced anew
    assert gone == [way]


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


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(key):
    rnn, codes = network(key, 1), random_codes(key, 4)
    shorter = tuple(code[:3] for code in codes)
    with pytest.raises(ValueError, match="codes_b"):
        maso_rnn.hamming(codes, shorter)  # another length
    with pytest.raises(ValueError, match="codes_b"):
        maso_rnn.hamming(codes, codes[:1])  # another net
    with pytest.raises(ValueError, match="codes_b"):
        maso_rnn.hamming(codes, tuple(code.astype(jnp.uint8) for code in codes))  # another activation
    for no_tuple in ([1], list(codes), ()):
        with pytest.raises(TypeError, match="codes_a must be a tuple of one array for each layer"):
            maso_rnn.hamming(no_tuple, codes)
    with pytest.raises(TypeError, match=r"codes\[0\]"):
        maso_rnn.pack((jnp.ones((4, 2)),))
    with pytest.raises(ValueError, match=r"codes\[1\]"):
        maso_rnn.pack((codes[0], codes[1][:2]))
    with pytest.raises(ValueError, match=r"codes\[0\].*batch"):
        maso_rnn.count_regions(codes)
    with pytest.raises(TypeError, match="packed"):
        maso_rnn.unpack(jnp.ones(3), rnn)
    with pytest.raises(ValueError, match="packed"):
        maso_rnn.unpack(jnp.ones(0, jnp.uint8), rnn)
    with pytest.raises(ValueError, match="activation tanh has no affine pieces"):
        maso_rnn.boundary_distance(network(key, 1, "tanh"), jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="xs must be finite"):
        maso_rnn.boundary_distance(rnn, jnp.full((4, 3), jnp.nan))


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


def test_gradients_that_a_gram_matrix_loses_are_carried_or_nan():
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
        assert jnp.isnan(jax.jit(maso_rnn.boundary_distance)(rnn, xs))


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
    known = np.isfinite(found)
    # of a known square, a 64th may be wrong
    np.testing.assert_allclose(found[known], np.minimum(0.3, np.broadcast_to(others, found.shape))[known], rtol=0.01)
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


def test_codes_of_another_network_are_refused(key):
    wide = maso_rnn.init(key, 1, [8], 1)
    packed = maso_rnn.pack((jnp.ones((5, 8), bool),))
    assert maso_rnn.unpack(packed, wide)[0].all()
    with pytest.raises(ValueError, match="another form"):
        maso_rnn.unpack(packed, maso_rnn.init(key, 1, [5], 1))


def test_codes_that_rounding_decides_are_counted(unchecked):
    random = np.random.default_rng(0)
    inputs, hidden = 40, 200
    kernel = random.normal(size=(inputs, hidden)).astype(np.float32)
    # half of the units sum to zero but for rounding, the others are far from it
    kernel[-1, ::2] = -kernel[:-1, ::2].astype(np.float64).sum(axis=0)
    kernel[-1, 1::2] = 50.0
    layer = maso_rnn.Layer(kernel, np.zeros((hidden, hidden), np.float32))
    rnn = maso_rnn.RNN((layer,), maso_rnn.Readout(np.ones((hidden, 1), np.float32)))
    xs = np.ones((1, inputs), np.float32)
    count = int(maso_rnn.doubtful_codes(rnn, xs))
    assert count == hidden // 2
    wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), rnn)
    narrow_codes, wide_codes = (
        np.asarray(maso_rnn.trajectory(network, x).codes[0]) for network, x in ((rnn, xs), (wide, xs.astype(float)))
    )
    differ = narrow_codes != wide_codes
    assert 0 < differ.sum() <= count  # rounding did decide some
    assert not differ[0, 1::2].any()
    # in float64 only what rounding to float32 happened to leave at zero
    assert int(maso_rnn.doubtful_codes(wide, xs.astype(float))) < count // 10


def test_a_bias_adds_to_what_rounding_may_leave():
    def network(dtype):
        one = jnp.ones((1, 1), dtype)
        layer = maso_rnn.Layer(1000 * one, 0 * one, jnp.asarray([-1000 + 1e-5], dtype))
        return maso_rnn.RNN((layer,), maso_rnn.Readout(one)), one

    # two terms of 1,000 round by 1e-4 in float32, by 1e-13 in float64; their sum is 1e-5
    assert [int(maso_rnn.doubtful_codes(*network(dtype))) for dtype in ("float32", "float64")] == [1, 0]
