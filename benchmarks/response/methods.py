"""The three ways to a first-order kernel against each other: variance, bias, time."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

import srnn
from benchmarks.response.kernels import Setting, readout
from srnn.response import Method

METHODS: tuple[Method, ...] = ("adjoint", "tangent", "malliavin")


def compare(setting: Setting, key: Array, *, paths: int, steps: int, repeats: int) -> dict[str, dict[str, float]]:
    """For each method, the mean over steps of the variance of one path, the bias, and CPU time for each path.

    The bias is against the adjoint with sixteen times the paths, in standard errors of the difference (root mean
    square over steps: 1 where there is none).
    """
    length = len(setting.control)
    chosen = tuple(range(0, length, max(1, length // steps)))
    run: dict[str, Any] = {"t1": length * setting.dt, "dt": setting.dt, "steps": chosen}
    reference_key, key = jax.random.split(key)
    reference = srnn.response_kernel(setting.model, readout, key=reference_key, paths=16 * paths, **run)
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    kernels = {}
    for repeat in range(repeats + 1):  # the first round compiles
        for method in METHODS:
            began = time.process_time()
            kernels[method] = jax.block_until_ready(
                srnn.response_kernel(setting.model, readout, key=key, paths=paths, method=method, **run)
            )
            if repeat:
                seconds[method].append(time.process_time() - began)
    table: dict[str, dict[str, float]] = {}
    for method, kernel in kernels.items():
        spread = np.hypot(kernel.stderr, reference.stderr)
        usable = np.asarray(spread) > 1e-12
        off = np.asarray((kernel.values - reference.values) / np.where(usable, spread, 1))[usable]
        table[method] = {
            "variance": float((kernel.stderr**2).mean() * paths),
            "bias": float(np.sqrt((off**2).mean())),
            "cpu_microseconds_per_path": 1e6 * float(np.median(seconds[method])) / paths,
        }
    return table
