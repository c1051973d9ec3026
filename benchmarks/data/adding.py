"""The adding problem: a sequence of numbers, two of them marked, whose sum is to be said at the end."""

from __future__ import annotations

from collections.abc import Callable

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
    rng = np.random.default_rng([seed, length])
    train, validation, test = _parts(length, examples, rng, lambda shape: rng.random(shape, np.float32))
    return Dataset(
        train,
        validation,
        test,
        name=f"adding-{length}",
        source="generated; S. Hochreiter and J. Schmidhuber, Long short-term memory (1997)",
        licence="none needed",
    )


def ternary_adding(length: int, *, seed: int = 0, examples: int = 1024) -> Dataset:
    """Zeros and ones with a mark on one of each half; the class is the sum of the two: 0, 1 or 2.

    Always saying 1 is right half of the time.

    Args:
        length: steps of each sequence, at least 2.
        seed: of the draws.
        examples: in each of the three parts.

    Raises:
        ValueError: if `length` is below 2 or `examples` below 1.
    """
    rng = np.random.default_rng([seed, length, 3])
    train, validation, test = (
        split._replace(targets=split.targets[:, 0].astype(np.int32))
        for split in _parts(length, examples, rng, lambda shape: rng.integers(0, 2, shape).astype(np.float32))
    )
    return Dataset(
        train,
        validation,
        test,
        name=f"adding-ternary-{length}",
        source="generated; Z. Wang, R. Balestriero and R. Baraniuk, A max-affine spline perspective of recurrent "
        "neural networks (2019)",
        licence="none needed",
    )


def _parts(
    length: int, examples: int, rng: np.random.Generator, draw: Callable[[tuple[int, int]], np.ndarray]
) -> list[Split]:
    """Three times: numbers (example, time) as drawn, marks on one of each half, and the sums of the marked."""
    if length < 2 or examples < 1:
        raise ValueError(f"length must be at least 2 and examples at least 1, got {length} and {examples}")
    parts = []
    for _ in range(3):
        numbers = draw((examples, length))
        marks = np.zeros_like(numbers)
        half = length // 2
        marks[np.arange(examples), rng.integers(0, half, examples)] = 1
        marks[np.arange(examples), rng.integers(half, length, examples)] = 1
        targets = (numbers * marks).sum(axis=1, keepdims=True)
        parts.append(Split(np.stack([numbers, marks], axis=-1), targets, np.full(examples, length)))
    return parts
