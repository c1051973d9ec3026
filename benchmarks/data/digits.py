"""The 8x8 handwritten digits that scikit-learn ships: 1,797 images, real and small."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from benchmarks.data.dataset import Dataset, Split


def digits(*, by: str = "pixel") -> Dataset:
    """The digits one pixel at a time (64 steps of 1), or one row at a time (8 steps of 8), scaled to [0, 1].

    A fixed permutation, the same in every run, parts them into 1,197 to train on, 300 to choose on and 300 to test on.

    Raises:
        ValueError: if `by` is neither "pixel" nor "row".
    """
    shapes = {"pixel": (64, 1), "row": (8, 8)}
    if by not in shapes:
        raise ValueError(f"by must be one of {sorted(shapes)}, got {by!r}")
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    inputs = (images[order] / 16).astype(np.float32).reshape(-1, *shapes[by])
    targets = labels[order].astype(np.int32)
    lengths = np.full(len(inputs), shapes[by][0])
    train, validation, test = (
        Split(inputs[part], targets[part], lengths[part])
        for part in (slice(1197), slice(1197, 1497), slice(1497, None))
    )
    return Dataset(
        train,
        validation,
        test,
        name=f"digits-by-{by}",
        source="Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak (1998), UCI; from scikit-learn",
        licence="CC BY 4.0",
    )
