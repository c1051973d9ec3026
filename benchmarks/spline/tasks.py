"""The tasks by name; each is read or drawn once."""

from __future__ import annotations

import functools
from collections.abc import Callable

from benchmarks.data import load
from benchmarks.data.dataset import Dataset

VALIDATED = 500  # examples that a curve is made of, where there are more


def _small(make: Callable[[], Dataset]) -> Dataset:
    data = make()
    return data._replace(validation=data.validation.first(VALIDATED), test=data.test.first(4 * VALIDATED))


TASKS: dict[str, Callable[[], Dataset]] = {
    "digits-by-pixel": lambda: load("digits", by="pixel"),
    "digits-permuted": lambda: load("digits-permuted", by="pixel"),
    "digits-by-row": lambda: load("digits", by="row"),
    "digits-10k-by-row": lambda: _small(lambda: load("digits-10k", by="row")),
    "adding-ternary-30": lambda: _small(lambda: load("adding-ternary", length=30, examples=4000)),
    "adding-ternary-60": lambda: _small(lambda: load("adding-ternary", length=60, examples=4000)),
    "adding-ternary-100": lambda: load("adding-ternary", length=100, examples=50_000),
    "mnist-by-pixel": lambda: load("mnist", by="pixel"),
    "mnist-permuted": lambda: load("mnist-permuted", by="pixel"),
}
TASKS = {name: functools.cache(make) for name, make in TASKS.items()}
