"""The claim of Lim (2021) that is about learning."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.claims.evidence import Comparison, Evidence, Setting, by_seed, level
from benchmarks.response import of
from benchmarks.response.functionals import FUNCTIONALS, Regression
from benchmarks.rows import Row, having

LEARNED = 0.05  # of the variance of what is to be learned


def is_universal(evidence: Evidence, *, depth: int = -1) -> list[Comparison]:
    """Claim (d): with the feature of this place among the depths, functionals are learned; the control is depth 1."""
    rows = of(evidence["response"], Regression)
    found = []
    for name in FUNCTIONALS:
        if not (learned := having(rows, functional=name)):
            continue
        one = learned[0].configuration
        way = f"depth {one.depths[depth]}"
        ours = by_seed(way, learned, partial(_error, way))
        where = Setting(f"{name}, {one.sequences:,} random waves", str(one.steps))
        bar = level("level", LEARNED, ours)
        found.append(Comparison(where, ours, bar, metric="squared error over variance", higher=False, constant=1.0))
    return found


def _error(way: str, row: Row[Any]) -> float:
    return float(row.result[way])
