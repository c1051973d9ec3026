"""Claims of the papers on path space and Path-SGD about training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.claims.evidence import (
    HOLDS,
    IN_PART,
    NOT_HERE,
    Estimate,
    Evidence,
    Finding,
    chosen,
    distinct,
    estimate,
    less,
    listed,
    prevails,
    scaled,
    tally,
)
from benchmarks.experiment import Row
from benchmarks.path_metric import METRICS
from benchmarks.path_space.training import shape

PAIRS = {"path-space SGD": "SGD", "path-space Adam": "Adam"}


def losses(rows: Sequence[Row[Any]], setting: str, method: str, start: str = "balanced") -> Estimate:
    """The test loss of a method in a setting."""
    found = [row for row in chosen(rows, method=method, start=start) if shape(row.configuration) == setting]
    return estimate(scaled(row.result["test_loss"] for row in found))


def _against(evidence: Evidence, pairs: dict[str, str]) -> Finding:
    rows = evidence["path-space"].final
    gains, shown = {}, {}
    for setting in distinct(rows, shape):
        for method, baseline in pairs.items():
            ours, theirs = (losses(rows, setting, name) for name in (method, baseline))
            gains[f"{setting}, {method}"] = less(theirs, ours)
            shown[f"{setting}, {method}:"] = f"{ours} against {theirs}"
    seeds = len(distinct(rows, "seed"))
    return Finding(prevails(gains), f"{tally(gains)}. Test loss: {listed(shown)}", seeds)


def trains_better(evidence: Evidence) -> Finding:
    """Claim (d): path space is the better place to train in."""
    return _against(evidence, PAIRS)


def path_sgd_trains_better(evidence: Evidence) -> Finding:
    """Claim (b) of Neyshabur et al.: Path-SGD is better than SGD."""
    return _against(evidence, {"Path-SGD": "SGD"})


def first_term_suffices(evidence: Evidence) -> Finding:
    """Claim (a) of Neyshabur et al.: κ¹ alone suffices."""
    rows = evidence["path-metric"].final
    worse, shown = [], {}
    for task in distinct(rows, "task"):
        for start in distinct(rows, "start"):
            alone, both = (
                estimate(scaled(row.result["test_loss"] for row in chosen(rows, task=task, start=start, metric=metric)))
                for metric in METRICS
            )
            worse.append(less(alone, both).sign > 0)
            shown[f"{task}, {start} start:"] = f"{alone} and {both}"
    sizes = [float(row.result["second_order"]) for row in evidence["exact"].fixed]
    verdict = HOLDS if not any(worse) else IN_PART if 2 * sum(worse) <= len(worse) else NOT_HERE
    return Finding(
        verdict,
        f"test loss with κ¹ alone and with κ¹ + κ². {listed(shown)}; on random networks κ² is {min(sizes):.2g} to "
        f"{max(sizes):.2g} times as large as κ¹",
        len(distinct(rows, "seed")),
    )
