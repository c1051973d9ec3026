"""A whole data set, batch by batch, on two devices."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn.batches import map_batches

TIME, HIDDEN = 6, 4


def network(dtype="float64"):
    return maso_rnn.init(jax.random.key(0), 2, [HIDDEN], 3, dtype=dtype)


def sequences(count):
    return np.random.default_rng(0).standard_normal((count, TIME, 2))


def slopes(rnn, x):
    affine = maso_rnn.affine_map(rnn, x)
    return {"slope": affine.slope, "said": affine.output.argmax()}


def test_every_example_is_mapped_once_by_one_program_on_both_devices():
    rnn, xs, traces = network(), sequences(11), itertools.count()

    def traced(rnn, x):
        next(traces)
        return slopes(rnn, x)

    parts = list(map_batches(traced, rnn, xs, batch_size=4))
    assert next(traces) == 1
    assert [len(part["slope"]) for part in parts] == [4, 4, 3]
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(parts))
    got = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    wanted = jax.vmap(slopes, (None, 0))(rnn, xs)
    # float64: batches of another size are other products, whose sums may be ordered otherwise
    np.testing.assert_allclose(got["slope"], wanted["slope"], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(got["said"], wanted["said"])


def test_pytrees_of_examples_go_together_and_a_mapped_file_stays_one(tmp_path):
    rnn, xs = network(), np.lib.format.open_memmap(tmp_path / "xs.npy", "w+", np.float64, (6, TIME, 2))
    xs[:] = sequences(6)
    labels = np.arange(6) % 3

    def margin(rnn, row):
        x, label = row
        return maso_rnn.template_margin(maso_rnn.affine_map(rnn, x), x, label)

    got = np.concatenate(list(map_batches(margin, rnn, (xs, labels), batch_size=2)))
    wanted = [margin(rnn, (jnp.asarray(x), int(label))) for x, label in zip(xs, labels, strict=True)]
    np.testing.assert_allclose(got, wanted, rtol=1e-12)  # float64


def test_a_batch_too_large_for_memory_is_refused_before_anything_runs():
    ran = []

    def slope(rnn, x):
        jax.debug.callback(lambda: ran.append(True))
        return maso_rnn.affine_map(rnn, x).slope

    xs = sequences(4000)
    with pytest.raises(ValueError, match=r"batch_size.* about \d+ fit") as e:
        map_batches(slope, network(), xs, batch_size=4000, memory=2**19)
    most = int(str(e.value).split("about ")[1].split()[0])
    results = most * 3 * TIME * 2 * 8
    assert 0 < results < 2**19
    next(iter(map_batches(slope, network(), xs, batch_size=most, memory=2**19)))  # what it says fits does
    assert ran
    with pytest.raises(ValueError, match="about 0 fit"):
        map_batches(slope, network(), xs, batch_size=2, memory=100)


def test_what_the_devices_do_not_divide_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match="batch_size must be a multiple of the 2 devices, got 5"):
        map_batches(slopes, network(), sequences(8), batch_size=5)
    with pytest.raises(ValueError, match="batch_size"):
        map_batches(slopes, network(), sequences(8), batch_size=1)


def test_examples_that_are_none_or_do_not_go_together_are_refused():
    for examples in (sequences(0), (sequences(3), sequences(2)), np.float64(1), ()):
        with pytest.raises(ValueError, match="examples must be arrays with one leading axis of at least one example"):
            map_batches(slopes, network(), examples, batch_size=2)


def test_examples_of_unequal_length_are_told_to_be_padded():
    few = [x[:steps] for x, steps in zip(sequences(3), (3, 2, 5), strict=True)]
    told = r".*2 steps in \[1\] and 5 in \[2\]; pad .*`lengths`"
    ragged = np.array(few, dtype=object)
    for examples, where in [
        (few, ""),
        (ragged, ""),
        ([x.tolist() for x in few], ""),
        ([(1, 2, 3), (1, 2), (5,) * 5], ""),
        ([(x, len(x)) for x in few], ""),
        ((ragged, np.arange(3)), r"\[0\]"),
        ({"xs": few, "labels": np.arange(3)}, r"\['xs'\]"),
    ]:
        with pytest.raises(ValueError, match=f"examples{where} must be{told}"):
            map_batches(slopes, network(), examples, batch_size=2)
    with pytest.raises(TypeError, match="examples must be arrays of numbers"):
        map_batches(slopes, network(), sequences(2).astype(object), batch_size=2)
    together = [np.ones(4), np.arange(4)]  # a list of arrays that go together is no list of sequences
    (found,) = map_batches(lambda _, pair: pair[0] * pair[1], (), together, batch_size=4)
    np.testing.assert_array_equal(found, np.arange(4))


def test_fewer_examples_than_a_batch_make_a_smaller_one():
    (found,) = map_batches(slopes, network("float32"), sequences(3).astype("float32"), batch_size=1000)
    assert found["slope"].shape == (3, 3, TIME, 2)
    assert found["slope"].dtype == np.float32


def test_what_pads_a_sequence_changes_no_number():
    rnn, xs = network(), sequences(5)
    lengths = np.array([1, 6, 3, 2, 4])
    wanted = [maso_rnn.boundary_distance(rnn, jnp.asarray(x[:length])) for x, length in zip(xs, lengths, strict=True)]
    for padding in (0.0, 7.0):
        for x, length in zip(xs, lengths, strict=True):
            x[length:] = padding
        got = map_batches(maso_rnn.boundary_distance, rnn, xs, batch_size=2, lengths=lengths)
        np.testing.assert_allclose(np.concatenate(list(got)), wanted, rtol=1e-12)  # float64
    for bad in (lengths - 1, lengths + 1, lengths[:3]):
        with pytest.raises(ValueError, match="lengths must be"):
            map_batches(maso_rnn.boundary_distance, rnn, xs, batch_size=2, lengths=bad)


def test_new_weights_are_not_compiled_again():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if "backend_compile" in event else None
    )
    networks, xs = [maso_rnn.init(jax.random.key(seed), 2, [HIDDEN], 3) for seed in (0, 1)], sequences(4)
    for number, rnn in enumerate(networks):
        before = len(compiled)
        list(map_batches(lambda rnn, x: maso_rnn.forward(rnn, x)[-1], rnn, xs, batch_size=2))
        assert (len(compiled) > before) == (number == 0)
