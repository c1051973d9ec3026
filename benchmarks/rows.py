"""What came of an experiment's configurations, and how it is looked through."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

C = TypeVar("C")

DIVERGED = 1e3  # a loss above has run away, whether or not float32 still holds it
SEARCHED = ("rate", "sigma", "clip", "seed", "steps", "points")  # what may differ between the runs of one contender


class Row(NamedTuple, Generic[C]):
    """A configuration and what came of it."""

    configuration: C
    result: Mapping[str, Any]


class Rows(NamedTuple, Generic[C]):
    """Everything that a report is made of.

    Attributes:
        search: every contender with each of its rates, from the first seeds.
        final: every contender with the rate chosen, from the seeds after them.
        fixed: the configurations that were run as they stand.
    """

    search: list[Row[C]]
    final: list[Row[C]]
    fixed: list[Row[C]]


def having(rows: Iterable[Row[C]], **fields: Any) -> list[Row[C]]:
    """The rows whose configurations have these values."""
    return [row for row in rows if all(getattr(row.configuration, name) == value for name, value in fields.items())]


def distinct(rows: Iterable[Row[C]], field: str | Callable[[C], Any]) -> list[Any]:
    """The values that a field of the configurations has, in order."""
    take = field if callable(field) else lambda one: getattr(one, field)
    return list(dict.fromkeys(take(row.configuration) for row in rows))


def has_diverged(result: Mapping[str, Any]) -> bool:
    """Whether a network ended with a test loss that is not finite or has run away."""
    return not float(result["test_loss"]) < DIVERGED


def tried_rates(rows: Rows[C], configuration: C) -> list[float]:
    """The learning rates that the contender of a configuration was tried with; none where it was not searched."""
    contender = _contender(configuration)
    alike: list[Any] = [row.configuration for row in rows.search if _contender(row.configuration) == contender]
    return sorted({one.rate for one in alike})


def _contender(configuration: Any) -> tuple[Any, ...]:
    """What the runs of one contender have in common."""
    names = [field.name for field in dataclasses.fields(configuration) if field.name not in SEARCHED]
    return tuple(getattr(configuration, name) for name in names)
