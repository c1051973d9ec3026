"""The adding problem: a sequence of numbers, two of them marked, whose sum is to be said at the end."""

from __future__ import annotations

import numpy as np

from benchmarks.data.dataset import Dataset, Split


def adding(length: int, *, seed: int = 0, examples: int = 1024) -> Dataset:
    """Numbers uniform in [0, 1] with a mark on one of each half; the target is the sum of the two.

    Saying 1 always has a mean squared error of 1/6.

    Args:
        length: steps of each sequence, at least 2.
        seed: of the draws.
        examples: in each of the three parts.

    Raises:
        ValueError: if `length` is below 2 or `examples` below 1.
    """
    if length < 2 or examples < 1:
        raise ValueError(f"length must be at least 2 and examples at least 1, got {length} and {examples}")
    rng = np.random.default_rng([seed, length])
    parts = []
    for _ in range(3):
        numbers = rng.random((examples, length), np.float32)
        marks = np.zeros_like(numbers)
        half = length // 2
        marks[np.arange(examples), rng.integers(0, half, examples)] = 1
        marks[np.arange(examples), rng.integers(half, length, examples)] = 1
        targets = (numbers * marks).sum(axis=1, keepdims=True)
        parts.append(Split(np.stack([numbers, marks], axis=-1), targets, np.full(examples, length)))
    train, validation, test = parts
    return Dataset(
        train,
        validation,
        test,
        name=f"adding-{length}",
        source="generated; S. Hochreiter and J. Schmidhuber, Long short-term memory (1997)",
        licence="none needed",
    )
