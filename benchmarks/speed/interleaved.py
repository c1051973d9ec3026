"""Timing programs against each other on a noisy machine: CPU time, one after the other in turn, paired ratios."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def cpu_seconds(programs: Mapping[str, Callable[[], Any]], *, repeats: int = 9) -> dict[str, np.ndarray]:
    """CPU seconds of each program, (repeat,), all of them run in turn `repeats` times after one run to warm up."""
    for program in programs.values():
        jax.block_until_ready(program())
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            began = time.process_time()
            jax.block_until_ready(program())
            seconds[name].append(time.process_time() - began)
    return {name: np.asarray(values) for name, values in seconds.items()}


def ratios(seconds: Mapping[str, np.ndarray], ours: str) -> dict[str, dict[str, float]]:
    """Ours over each other program: the quartiles of the paired ratios, and each one's least and median seconds."""
    table = {}
    for name, theirs in seconds.items():
        low, median, high = np.quantile(seconds[ours] / theirs, [0.25, 0.5, 0.75])
        table[name] = {
            "ratio": float(median),
            "ratio_low": float(low),
            "ratio_high": float(high),
            "least_cpu_seconds": float(theirs.min()),
            "median_cpu_seconds": float(np.median(theirs)),
        }
    return table
