"""The tasks by name, each read or drawn once. Other data need another name: results are found again by it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from benchmarks.data.adding import adding
from benchmarks.data.characters import fortunes, penn_treebank
from benchmarks.data.dataset import Dataset
from benchmarks.data.digits import digits, digits_10k
from benchmarks.data.mnist import mnist


def _judged_on_fewer(data: Dataset) -> Dataset:
    """With at most 500 examples to choose on, which a curve takes many times over, and 2,000 to test on."""
    return data._replace(validation=data.validation.first(500), test=data.test.first(2000))


TASKS: dict[str, Callable[[], Dataset]] = {
    name: functools.cache(make)
    for name, make in {
        "digits-by-row": lambda: digits(by="row"),
        "digits-by-pixel": lambda: digits(by="pixel"),
        "digits-10k-by-row": lambda: _judged_on_fewer(digits_10k(by="row")),
        "adding-16": lambda: adding(16, examples=256),
        "adding-50": lambda: _judged_on_fewer(adding(50, examples=10_000)),
        "fortunes": lambda: _judged_on_fewer(fortunes()),
        "mnist-by-row": lambda: mnist(by="row"),
        "mnist-by-pixel": lambda: mnist(by="pixel"),
        "adding-100": lambda: _judged_on_fewer(adding(100, examples=50_000)),
        "adding-400": lambda: _judged_on_fewer(adding(400, examples=50_000)),
        "penn-treebank": penn_treebank,
    }.items()
}
