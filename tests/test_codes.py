import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn

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


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(key):
    rnn, codes = network(key, 1), random_codes(key, 4)
    shorter = tuple(code[:3] for code in codes)
    with pytest.raises(ValueError, match="codes_b"):
        maso_rnn.hamming(codes, shorter)  # another length
    with pytest.raises(ValueError, match="codes_b"):
        maso_rnn.hamming(codes, codes[:1])  # another net
    with pytest.raises(TypeError, match="codes_b"):
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
    ragged = [codes, shorter]  # of sequences of unequal length
    for held, where in [
        (ragged, "codes"),
        (([code[0] for code in ragged],), r"codes\[0\]"),
        ((np.array([np.asarray(code[0]) for code in ragged], dtype=object),), r"codes\[0\]"),
    ]:
        with pytest.raises(ValueError, match=rf"{where} must be .*3 steps in \[1\] and 4 in \[0\].*lengths"):
            maso_rnn.count_regions(held)
    with pytest.raises(TypeError, match="packed"):
        maso_rnn.unpack(jnp.ones(3), rnn)
    with pytest.raises(ValueError, match="packed"):
        maso_rnn.unpack(jnp.ones(0, jnp.uint8), rnn)
    with pytest.raises(ValueError, match="activation tanh has no affine pieces"):
        maso_rnn.boundary_distance(network(key, 1, "tanh"), jnp.ones((4, 3)))
    with pytest.raises(ValueError, match="xs must be finite"):
        maso_rnn.boundary_distance(rnn, jnp.full((4, 3), jnp.nan))


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
