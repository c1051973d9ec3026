"""What drives the networks: a real series cut short, and random waves where data are to be made."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.data.aeon import aeon
from benchmarks.data.dataset import Dataset, Split


def downsampled(series: np.ndarray, steps: int) -> np.ndarray:
    """Means over equal stretches of a series (time, channel), brought to mean 0 and variance 1."""
    stretch = max(1, len(series) // steps)
    cut = series[: len(series) // stretch * stretch].reshape(-1, stretch, series.shape[1]).mean(axis=1)[:steps]
    return (cut - cut.mean(axis=0)) / np.maximum(cut.std(axis=0), 1e-12)


def waves(rng: np.random.Generator, count: int, steps: int) -> np.ndarray:
    """Sums of four sines of random size, phase and frequency up to two periods, of variance 1: (count, step, 1)."""
    frequencies = rng.uniform(0, 2, (count, 1, 4))
    phases = rng.uniform(0, 2 * np.pi, (count, 1, 4))
    times = (np.arange(steps) + 0.5)[:, None] / steps
    sines = rng.normal(size=(count, 1, 4)) * np.sin(2 * np.pi * frequencies * times + phases)
    return np.asarray(sines.sum(axis=2, keepdims=True) / np.sqrt(2))


def bumps(examples: int = 90, *, steps: int = 24, seed: int = 0) -> Dataset:
    """Two bumps in noise, one up and one down: the class is which comes first."""
    rng = np.random.default_rng([seed, 1])

    def split(count: int) -> Split:
        targets = np.arange(count) % 2
        first, second = rng.uniform(0.1, 0.4, count), rng.uniform(0.6, 0.9, count)
        times = np.linspace(0, 1, steps)
        sign = 1 - 2 * targets[:, None]
        series = sign * (_bump(times - first[:, None]) - _bump(times - second[:, None]))
        inputs = series[:, :, None] + 0.5 * rng.normal(size=(count, steps, 1))
        return Split(inputs, targets, np.full(count, steps))

    return Dataset(split(examples), split(examples), split(2 * examples), "bumps", "generated", "CC0-1.0")


def _bump(distance: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-((distance / 0.08) ** 2)))


SIGNALS: dict[str, Callable[[int, int], np.ndarray]] = {
    "ACSF1": lambda steps, seed: downsampled(aeon("ACSF1").test.inputs[seed], steps),
    "waves": lambda steps, seed: waves(np.random.default_rng([seed, 2]), 1, steps)[0],
}

TASKS: dict[str, Callable[[], Dataset]] = {
    "JapaneseVowels": lambda: aeon("JapaneseVowels_eq"),
    "BasicMotions": lambda: aeon("BasicMotions"),
    "ItalyPowerDemand": lambda: aeon("ItalyPowerDemand"),
    "bumps": bumps,
}
