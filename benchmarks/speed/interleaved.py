"""Timing programs against each other on a noisy machine: CPU time, one after the other in turn, paired ratios."""

from __future__ import annotations

import importlib
import importlib.util
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

# of a thread that still runs the system knows the CPU time in whole ticks only, of some milliseconds
LEAST_SECONDS = 0.05


class Program(NamedTuple):
    """What is timed.

    Attributes:
        run: the call.
        first_seconds: wall time to the first result, compiling included; None where that is not measured.
        temporary_bytes: what XLA sets aside for it; None for other programs.
    """

    run: Callable[[], Any]
    first_seconds: float | None = None
    temporary_bytes: int | None = None


def jitted(function: Callable[..., Any], *arguments: Any) -> Program:
    """A function compiled for these arguments."""
    began = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(compiled(*arguments))
    first = time.perf_counter() - began
    return Program(lambda: compiled(*arguments), first, int(compiled.memory_analysis().temp_size_in_bytes))


def first_called(run: Callable[[], Any]) -> Program:
    """A function of no arguments, called for the first time."""
    began = time.perf_counter()
    jax.block_until_ready(run())
    return Program(run, time.perf_counter() - began)


def cpu_seconds(programs: Mapping[str, Callable[[], Any]], *, repeats: int = 9) -> dict[str, np.ndarray]:
    """CPU seconds of a call of each program, (repeat,), all of them run in turn `repeats` times after a first call.

    A program is called as often in a row as fills `LEAST_SECONDS`.
    """
    calls = {}
    for name, program in programs.items():
        jax.block_until_ready(program())
        began = time.perf_counter()
        jax.block_until_ready(program())
        calls[name] = math.ceil(LEAST_SECONDS / max(time.perf_counter() - began, LEAST_SECONDS / 1000))
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            began = time.process_time()
            for _ in range(calls[name]):
                jax.block_until_ready(program())
            seconds[name].append((time.process_time() - began) / calls[name])
    return {name: np.asarray(values) for name, values in seconds.items()}


def ratios(seconds: Mapping[str, np.ndarray], ours: str = "ours") -> dict[str, dict[str, float]]:
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


def compare(programs: Mapping[str, Program], *, repeats: int = 9) -> dict[str, dict[str, float]]:
    """The programs in turn; "ours" is the first of them, and each row is `ratios`' with what else a program tells."""
    seconds = cpu_seconds({name: program.run for name, program in programs.items()}, repeats=repeats)
    table = ratios(seconds, next(iter(programs)))
    for name, program in programs.items():
        for quantity in ("first_seconds", "temporary_bytes"):
            if (value := getattr(program, quantity)) is not None:
                table[name][quantity] = value
    return table


def best(table: Mapping[str, Mapping[str, float]], *names: str) -> float:
    """Ours over the fastest of the other programs, or of those named: the median paired ratio."""
    return max(table[name]["ratio"] for name in names or [*table][1:])


def installed(name: str) -> Any:
    """A competitor's module, or None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None
