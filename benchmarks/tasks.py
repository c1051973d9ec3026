"""What the experiments train on, by name, each read or drawn once.

Other data need another name: results are found again by it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from benchmarks.data import load
from benchmarks.data.dataset import Dataset


def _fewer(data: Dataset) -> Dataset:
    """With at most 500 examples to choose on, which a curve takes many times over, and 2,000 to test on."""
    return data._replace(validation=data.validation.first(500), test=data.test.first(2000))


def _whole(data: Dataset) -> Dataset:
    """Each sequence as one step of all its numbers."""
    train, validation, test = (
        part._replace(inputs=part.inputs.reshape(len(part.inputs), 1, -1), lengths=np.ones_like(part.lengths))
        for part in (data.train, data.validation, data.test)
    )
    return data._replace(train=train, validation=validation, test=test)


def _adding(length: int, examples: int, *, kind: str = "adding", whole: bool = True) -> Callable[[], Dataset]:
    def make() -> Dataset:
        data = load(kind, length=length, examples=examples)
        return data if whole else _fewer(data)

    return make


_MADE: dict[str, Callable[[], Dataset]] = {
    "digits-by-row": lambda: load("digits", by="row"),
    "digits-by-pixel": lambda: load("digits", by="pixel"),
    "digits-permuted": lambda: load("digits-permuted", by="pixel"),
    "digits-10k-by-row": lambda: _fewer(load("digits-10k", by="row")),
    "digits-10k-whole": lambda: _whole(_fewer(load("digits-10k", by="row"))),
    "mnist-whole": lambda: _whole(load("mnist", by="row")),
    "mnist-by-row": lambda: load("mnist", by="row"),
    "mnist-by-pixel": lambda: load("mnist", by="pixel"),
    "mnist-permuted": lambda: load("mnist-permuted", by="pixel"),
    "sst-2": lambda: load("sst-2"),
    "sst-2-phrases": lambda: load("sst-2", phrases=True),
    "fortunes": lambda: _fewer(load("fortunes")),
    "adding-8": _adding(8, 128),
    "adding-16": _adding(16, 256),
    "adding-20": _adding(20, 2000),
    "adding-50": _adding(50, 10_000, whole=False),
    "adding-100": _adding(100, 50_000, whole=False),
    "adding-200": _adding(200, 20_000),
    "adding-ternary-8": _adding(8, 128, kind="adding-ternary"),
    "adding-ternary-20": _adding(20, 2000, kind="adding-ternary"),
    "adding-ternary-60": _adding(60, 4000, kind="adding-ternary", whole=False),
    "adding-ternary-100": _adding(100, 50_000, kind="adding-ternary"),
    "adding-ternary-200": _adding(200, 20_000, kind="adding-ternary"),
    "tomita-4-short": lambda: load("tomita", grammar=4, examples=64, longest=(4, 6, 8)),
    **{f"tomita-{grammar}": functools.partial(load, "tomita", grammar=grammar) for grammar in range(1, 8)},
}
TASKS = {name: functools.cache(make) for name, make in _MADE.items()}
