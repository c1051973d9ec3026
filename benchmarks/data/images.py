"""Images as sequences: a pixel or a row at a time, in order or permuted."""

from __future__ import annotations

import numpy as np

from benchmarks.data.dataset import Dataset, Split


def sequences(images: np.ndarray, labels: np.ndarray, *, by: str, white: int = 255) -> Split:
    """Images read from the top left, scaled to [0, 1].

    Args:
        images: (example, row, column), 0 to `white`.
        labels: (example,).
        by: "pixel" for steps of one number, or "row" for steps of a whole row.
        white: the largest value.

    Raises:
        ValueError: if `by` is neither, or images and labels are not as many.
    """
    if by not in ("pixel", "row"):
        raise ValueError(f"by must be one of ['pixel', 'row'], got {by!r}")
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"images must be (example, row, column) with a label each, got shapes {images.shape} and {labels.shape}"
        )
    inputs = np.divide(images, white, dtype=np.float32)
    if by == "pixel":
        inputs = inputs.reshape(len(images), -1, 1)
    return Split(inputs, labels.astype(np.int32), np.full(len(images), inputs.shape[1]))


def permuted(data: Dataset, seed: int = 0) -> Dataset:
    """The same sequences with their steps (pixels, or rows) in another order, the same for all of them.

    Step t of the result is step π(t) of the original, π = numpy.random.default_rng(seed).permutation(time).

    Args:
        data: sequences of equal lengths.
        seed: of the permutation.

    Raises:
        ValueError: if sequences differ in length.
    """
    time = data.train.inputs.shape[1]
    parts = (data.train, data.validation, data.test)
    if any((part.lengths != time).any() or part.inputs.shape[1] != time for part in parts):
        raise ValueError(f"data must have sequences of one length to be permuted, {data.name} has several")
    order = np.random.default_rng(seed).permutation(time)
    train, validation, test = (part._replace(inputs=part.inputs[:, order]) for part in parts)
    return data._replace(
        train=train,
        validation=validation,
        test=test,
        name=f"{data.name}-permuted",
        source=f"{data.source}; steps permuted by numpy.random.default_rng({seed}).permutation({time})",
    )
