"""Theorems, checked numerically: for each the error that was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.claims.evidence import Evidence
from benchmarks.response import of
from benchmarks.response.correlations import Correlations
from benchmarks.response.kernels import Kernels
from benchmarks.response.machines import Gram, Readout
from benchmarks.rows import having

SMALL = 0.5  # of the amplitudes of the response experiment, the largest that is small

Measured = tuple[float, int]  # the error, and over how many networks


def _of_networks(*names: str) -> Callable[[Evidence], Measured]:
    """The largest of these errors over all random networks."""

    def error(evidence: Evidence) -> Measured:
        rows = evidence["exact"].fixed
        return max(float(row.result[name]) for row in rows for name in names), len(rows)

    return error


def _all_or(evidence: Evidence, error: float, *, holds: Callable[[Any], bool]) -> Measured:
    """The error, or infinity where something that is counted does not come out."""
    rows = evidence["exact"].fixed
    return (error if all(holds(row.result) for row in rows) else float("inf")), len(rows)


affine_spline = _of_networks("identity", "piece")


def growing(evidence: Evidence) -> Measured:
    """How often a later time has fewer pieces than an earlier one."""
    rows = having(evidence["spline"].fixed, part="partition")
    pieces = [row.result[when]["pieces"] for row in rows for when in ("before", "after")]
    return float(sum((np.diff(one) < 0).sum() for one in pieces)), len(rows)


def penalty(evidence: Evidence) -> Measured:
    """How far the loss that a little noise adds is from the penalty that is predicted."""
    ratios = [value for row in evidence["exact"].fixed if np.isfinite(value := float(row.result["penalty"]))]
    return float(abs(np.mean(ratios) - 1)), len(ratios)


def invariant(evidence: Evidence) -> Measured:
    """How far outputs move under a rescaling; infinite where the weights do not move."""
    error, _ = _of_networks("function")(evidence)
    return _all_or(evidence, error, holds=lambda result: float(result["moved"]) > 0.1)


def represented(evidence: Evidence) -> Measured:
    """How far path values, and outputs made from them, are off; infinite where the rank grows with time."""
    error, _ = _of_networks("paths", "represented")(evidence)
    return _all_or(evidence, error, holds=lambda result: len(set(result["ranks"])) == 1)


def spanned(evidence: Evidence) -> Measured:
    """How many paths the basis lacks, or drawn paths add; infinite above 3 operations a weight."""
    rows = evidence["exact"].fixed
    error = max(abs(row.result[name] - row.result["expected"]) for row in rows for name in ("rank", "together"))
    return _all_or(evidence, float(error), holds=lambda result: float(result["operations"]) <= 3)


def allocated(evidence: Evidence) -> Measured:
    """How far outputs of allocated weights are off; infinite where there are not m − H independent paths."""
    error, _ = _of_networks("represented")(evidence)
    return _all_or(evidence, error, holds=lambda result: result["rank"] == result["edges"] - result["units"])


def series(evidence: Evidence) -> Measured:
    """What the series to the highest order misses at the amplitude `SMALL`, as a share of the response."""
    rows = of(evidence["response"], Kernels)
    at = rows[0].configuration.amplitudes.index(SMALL)
    missed = [float(row.result["errors"][-1][at]) / abs(float(row.result["simulated"][at])) for row in rows]
    return float(np.mean(missed)), len(rows)


def orders(evidence: Evidence) -> Measured:
    """How far the powers of the amplitude that errors grow with are from 2, 3, 4."""
    rows = of(evidence["response"], Kernels)
    slopes = np.mean([np.asarray(row.result["slopes"], float) for row in rows], axis=0)
    return float(np.abs(slopes - np.arange(2, len(slopes) + 2)).max()), len(rows)


def correlations(evidence: Evidence) -> Measured:
    """The squared difference from correlations, in standard errors; infinite where a zero would pass too."""
    rows = of(evidence["response"], Correlations)
    names = ("adjoint, malliavin", "second order", "score")
    found = [np.mean([float(row.result["differences"][name]) for row in rows]) for name in names]
    signal = min(float(row.result["signal"]) for row in rows)
    return (float(max(found)) if signal > 10 else float("inf")), len(rows)


def _last(kind: type) -> Callable[[Evidence], Measured]:
    def error(evidence: Evidence) -> Measured:
        rows = of(evidence["response"], kind)
        return float(np.mean([float(row.result["differences"][-1]) for row in rows])), len(rows)

    return error


kernel_machine, gram = _last(Readout), _last(Gram)


def horizons(evidence: Evidence) -> Measured:
    """How far the horizons of linear networks are from −1 / ln|λ|."""
    rows = having(evidence["memory"].fixed, activation="identity")
    return max(float(row.result["error"]) for row in rows), len(rows)


def shortened(evidence: Evidence) -> Measured:
    """In how many networks an activation that is not linear leaves the median horizon as long, or makes it longer."""
    rows = [row for row in evidence["memory"].fixed if row.configuration.activation != "identity"]
    return float(sum(float(row.result["ratio"]) >= 1 for row in rows)), len(rows)
