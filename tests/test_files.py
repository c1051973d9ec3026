import json
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import files
from tests.test_activations import RELU6
from tests.test_network import network, states


@pytest.mark.parametrize("activation", ["relu", "hard_tanh", "tanh", RELU6])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_a_saved_network_comes_back_bit_for_bit(key, tmp_path, activation, dtype):
    rnn = network(key, 2, activation, dtype=dtype)
    rnn = rnn.replace(initial=tuple(h.astype(dtype) for h in states(key, rnn)))
    files.save(tmp_path / "rnn.safetensors", rnn)
    again = files.load(tmp_path / "rnn.safetensors")
    assert jax.tree.structure(again) == jax.tree.structure(rnn)  # the activation with it
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(rnn), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_layers_without_recurrence_and_embeddings_come_back(key, tmp_path):
    rnn = network(key, 2)
    first = rnn.layers[0].replace(recurrent_kernel=None)
    rnn = rnn.replace(layers=(first, rnn.layers[1]), embedding=jnp.ones((5, first.input_kernel.shape[0])))
    files.save(tmp_path / "rnn", rnn)
    again = files.load(tmp_path / "rnn")
    assert jax.tree.structure(again) == jax.tree.structure(rnn)
    jax.tree.map(np.testing.assert_array_equal, again, rnn)


def test_arrays_in_fortran_order_come_back(key, tmp_path):
    rnn = jax.tree.map(lambda leaf: np.asfortranarray(np.asarray(leaf)), network(key, 2))
    files.save(tmp_path / "rnn", rnn)
    jax.tree.map(np.testing.assert_array_equal, files.load(tmp_path / "rnn"), rnn)


def test_dtypes_that_nothing_computes_in_are_refused(tmp_path):
    from safetensors.numpy import save_file

    metadata = {"format": "rnn-geometry", "version": "1", "activation": '"tanh"'}
    save_file({"readout.kernel": np.ones((2, 2), int)}, tmp_path / "rnn", metadata)
    with pytest.raises(TypeError, match=r"dtype.*I64"):
        files.load(tmp_path / "rnn")


def test_missing_biases_stay_missing(key, tmp_path):
    rnn = network(key, 1, bias_init=None)
    files.save(tmp_path / "rnn", rnn)
    assert jax.tree.structure(files.load(tmp_path / "rnn")) == jax.tree.structure(rnn)


def test_a_failed_save_leaves_the_earlier_file(key, tmp_path, monkeypatch):
    rnn = network(key, 1)
    files.save(tmp_path / "rnn", rnn)
    before = (tmp_path / "rnn").read_bytes()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.save(tmp_path / "rnn", jax.tree.map(lambda leaf: 2 * leaf, rnn))
    assert (tmp_path / "rnn").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "rnn"]


def _with_header(data, change):
    """The file's bytes with its JSON header changed."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _rename(header):
    header["layers.0.kernel"] = header.pop("layers.0.input_kernel")


FAULTS = {
    "truncated": (lambda data: data[:-5], "not a whole safetensors file"),
    "empty": (lambda data: b"", "not a whole safetensors file"),
    "foreign": (lambda data: b"\x80\x04" + data, "not a whole safetensors file"),
    "another library's": (lambda data: _with_header(data, lambda h: h.pop("__metadata__")), "not written by"),
    "a later version": (
        lambda data: _with_header(data, lambda h: h["__metadata__"].update(version="7")),
        "layout version 7; this library reads 1",
    ),
    "an unknown activation": (
        lambda data: _with_header(data, lambda h: h["__metadata__"].update(activation='"swish"')),
        "does not hold a network: activation must be one of",
    ),
    "a broken activation": (
        lambda data: _with_header(data, lambda h: h["__metadata__"].update(activation="{")),
        "does not hold a network",
    ),
    "a wrong name": (lambda data: _with_header(data, _rename), "does not hold a network"),
    "a wrong shape": (
        lambda data: _with_header(data, lambda h: h["layers.0.bias"].update(shape=[7, 1])),
        r"does not hold a network: rnn.layers\[0\].bias must be",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_one_clear_error(key, tmp_path, fault):
    path = tmp_path / "rnn"
    files.save(path, network(key, 1))
    break_it, message = FAULTS[fault]
    path.write_bytes(break_it(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        files.load(path)
    assert str(path) in str(error.value)


def test_random_corruptions_never_crash(key, tmp_path):
    path = tmp_path / "rnn"
    files.save(path, network(key, 1))
    whole, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        data = bytearray(whole)
        for position in random.integers(0, len(data), size=random.integers(1, 4)):
            data[position] = random.integers(256)
        path.write_bytes(bytes(data[: random.integers(1, len(data) + 1)]) if random.random() < 0.3 else bytes(data))
        try:
            assert isinstance(files.load(path), maso_rnn.RNN)  # a flipped bit inside a number is a number still
        except ValueError:
            refused += 1
    assert 100 < refused < 300


def test_a_missing_file_and_an_activation_without_a_name(key, tmp_path):
    with pytest.raises(FileNotFoundError):
        files.load(tmp_path / "none")
    with pytest.raises(ValueError, match="cannot be written"):
        files.save(tmp_path / "rnn", network(key, 1, jnp.sin))
    assert not list(tmp_path.iterdir())


def test_float64_is_not_narrowed_in_silence(key, tmp_path):
    files.save(tmp_path / "rnn", network(key, 1))
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64 needs"):
        files.load(tmp_path / "rnn")


@pytest.mark.slow
def test_ten_thousand_corruptions_never_crash_or_hang(key, tmp_path):
    path = tmp_path / "rnn"
    files.save(path, network(key, 1))
    whole, random = path.read_bytes(), np.random.default_rng(1)
    (header,) = struct.unpack("<Q", whole[:8])
    refused = 0
    for i in range(10_000):
        data = bytearray(whole)
        # every other one in the header, which is where a file says what it is
        end = 8 + header if i % 2 else len(data)
        for position in random.integers(0, end, size=random.integers(1, 9)):
            data[position] = random.integers(256)
        cut = random.integers(0, len(data) + 1) if i % 5 == 0 else len(data)
        path.write_bytes(bytes(data[:cut]) + random.bytes(random.integers(0, 9) if i % 7 == 0 else 0))
        try:
            assert isinstance(files.load(path), maso_rnn.RNN)
        except ValueError:
            refused += 1
    assert 5000 < refused < 10_000


BOMBS = {
    "a header longer than any of ours": (
        lambda data: _with_header(data, lambda h: h["__metadata__"].update(note="x" * 2**20)),
        "header of .* bytes, more than",
    ),
    "a header longer than the file": (lambda data: struct.pack("<Q", 2**40) + data[8:], "not a whole safetensors file"),
    "a shape larger than the data": (
        lambda data: _with_header(data, lambda h: h["layers.0.bias"].update(shape=[2**40])),
        "not a whole safetensors file",
    ),
    "a shape whose size overflows": (
        lambda data: _with_header(data, lambda h: h["layers.0.bias"].update(shape=[2**40, 2**40])),
        "not a whole safetensors file",
    ),
    "data outside of the file": (
        lambda data: _with_header(data, lambda h: h["layers.0.bias"].update(data_offsets=[2**40, 2**40 + 56])),
        "not a whole safetensors file",
    ),
    "a very deep activation": (
        lambda data: _with_header(data, lambda h: h["__metadata__"].update(activation="[" * 100_000)),
        "does not hold a network",
    ),
    "a thousand breakpoints": (
        lambda data: _with_header(
            data,
            lambda h: h["__metadata__"].update(
                activation=json.dumps({"breakpoints": [*range(1000)], "slopes": [1] * 1001, "offsets": [0] * 1001})
            ),
        ),
        "does not hold a network: n <= 255 breakpoints",
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_is_read(key, tmp_path, bomb):
    path = tmp_path / "rnn"
    files.save(path, network(key, 1))
    make, message = BOMBS[bomb]
    path.write_bytes(make(path.read_bytes()))
    with pytest.raises(ValueError, match=message):
        files.load(path)
