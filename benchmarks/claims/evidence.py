"""What a verdict is computed from: means with standard errors, and rules that several claims share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from benchmarks.experiment import Row, Rows

Verdict: TypeAlias = Literal["holds", "holds in part", "does not hold here", "not testable here"]

HOLDS: Verdict = "holds"
IN_PART: Verdict = "holds in part"
NOT_HERE: Verdict = "does not hold here"
NOT_TESTABLE: Verdict = "not testable here"

Evidence: TypeAlias = Mapping[str, Rows[Any]]

BY_CHANCE = 1 / 25  # that a difference of two means of five is above two standard errors where there is none


class Estimate(NamedTuple):
    """A mean and its standard error.

    Attributes:
        mean: of the values.
        stderr: of the mean; 0 where it is not finite.
        size: how many values, one a seed unless said otherwise.
    """

    mean: float
    stderr: float
    size: int

    @property
    def sign(self) -> int:
        """1 or −1 where the mean is more than two standard errors from zero, else 0."""
        return 0 if math.isnan(self.mean) or abs(self.mean) <= 2 * self.stderr else int(math.copysign(1, self.mean))

    def __str__(self) -> str:
        if not math.isfinite(self.mean):
            return "diverged"
        if not self.stderr:
            return f"{self.mean:.3g}"
        digits = max(0, 1 - math.floor(math.log10(self.stderr)))
        return f"{self.mean:.{digits}f} ± {self.stderr:.{digits}f}"


class Finding(NamedTuple):
    """What was found of a claim.

    Attributes:
        verdict: what the rule says.
        ours: our figures, for the table.
        seeds: how many stand behind them.
    """

    verdict: Verdict
    ours: str
    seeds: int


def estimate(values: Iterable[Any]) -> Estimate:
    """The mean of values, one a seed; a value that is not a number makes it so."""
    array = np.asarray(list(values), float)
    mean = float(array.mean()) if len(array) else math.nan
    if not math.isfinite(mean):
        return Estimate(mean, 0.0, len(array))
    return Estimate(mean, float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else 0.0, len(array))


def by_seed(rows: Iterable[Row[Any]], value: Callable[[Row[Any]], float]) -> Estimate:
    """The mean over seeds of a value; rows of one seed are no separate evidence, and their mean is one value."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row.configuration.seed, []).append(value(row))
    return estimate(float(np.mean(values)) for values in found.values())


def less(a: Estimate, b: Estimate) -> Estimate:
    """The first less the second, of separate seeds; what diverged is infinite, and of two that did neither is ahead."""
    mean = 0.0 if a.mean == b.mean else a.mean - b.mean
    return Estimate(mean, math.hypot(a.stderr, b.stderr) if math.isfinite(mean) else 0.0, min(a.size, b.size))


def scaled(values: Iterable[Any]) -> list[float]:
    """Losses as numbers; what is not finite is infinite."""
    return [value if math.isfinite(value) else math.inf for value in map(float, values)]


def prevails(gains: Mapping[Any, Estimate]) -> Verdict:
    """The verdict by the rule of comparisons, from differences that are positive where they are in the claim's favour.

    A difference counts if it is more than two of its standard errors. The claim holds if it counts in favour in at
    least half of the comparisons and against in none, and in part if in favour more often than against; both only if
    chance would bring as many in favour less than once in twenty times.
    """
    signs = [gain.sign for gain in gains.values()]
    ahead, behind = signs.count(1), signs.count(-1)
    if ahead <= behind or is_chance(ahead, len(signs)):
        return NOT_HERE
    return HOLDS if not behind and 2 * ahead >= len(signs) else IN_PART


def is_chance(count: int, of: int) -> bool:
    """Whether chance brings so many differences, or more, at least once in twenty times."""
    fewer = sum(math.comb(of, k) * BY_CHANCE**k * (1 - BY_CHANCE) ** (of - k) for k in range(count))
    return 1 - fewer >= 0.05


def tally(gains: Mapping[Any, Estimate]) -> str:
    """In how many comparisons the difference counts, for and against."""
    signs = [gain.sign for gain in gains.values()]
    return f"better in {signs.count(1)}, worse in {signs.count(-1)} of {len(signs)}"


def listed(values: Mapping[str, object]) -> str:
    """Names with their figures."""
    return "; ".join(f"{name} {value}" for name, value in values.items())


def graded(parts: Sequence[bool]) -> Verdict:
    """Holds if all parts do, in part if some, else not."""
    return HOLDS if all(parts) else IN_PART if any(parts) else NOT_HERE


def chosen(rows: Iterable[Row[Any]], **fields: Any) -> list[Row[Any]]:
    """The rows whose configurations have these values."""
    return [
        row for row in rows if all(getattr(row.configuration, name, None) == value for name, value in fields.items())
    ]


def distinct(rows: Iterable[Row[Any]], field: str | Callable[[Any], Any]) -> list[Any]:
    """The values that a field of the configurations has, in order."""
    take = field if callable(field) else lambda one: getattr(one, field)
    return list(dict.fromkeys(take(row.configuration) for row in rows))
