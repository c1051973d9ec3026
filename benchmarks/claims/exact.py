"""Claims that are identities: of both papers on ReLU networks."""

from __future__ import annotations

import numpy as np

from benchmarks.claims.evidence import (
    HOLDS,
    IN_PART,
    NOT_HERE,
    Evidence,
    Finding,
    estimate,
    graded,
)

ROUNDING = 1e-12  # relative, in float64, over sequences of twenty steps


def _worst(evidence: Evidence, name: str) -> float:
    return max(float(row.result[name]) for row in evidence["exact"].fixed)


def _count(evidence: Evidence) -> int:
    return len(evidence["exact"].fixed)


def is_affine_spline(evidence: Evidence) -> Finding:
    """Spline (a)."""
    identity, piece = _worst(evidence, "identity"), _worst(evidence, "piece")
    pieces = np.median([row.result["pieces"] for row in evidence["exact"].fixed])
    return Finding(
        graded([identity < ROUNDING, piece < ROUNDING]),
        f"largest relative error {identity:.1g} at a point, {piece:.1g} on {pieces:.0f} pieces of a line (median)",
        _count(evidence),
    )


def is_invariant(evidence: Evidence) -> Finding:
    """Path space (a)."""
    function = _worst(evidence, "function")
    moved = min(float(row.result["moved"]) for row in evidence["exact"].fixed)
    return Finding(
        graded([function < ROUNDING, moved > 0.1]),
        f"outputs move by {function:.1g} at most, weights by {moved:.2g} at least (relative)",
        _count(evidence),
    )


def is_represented(evidence: Evidence) -> Finding:
    """Path space (b)."""
    paths, represented = _worst(evidence, "paths"), _worst(evidence, "represented")
    same = all(len(set(row.result["ranks"])) == 1 for row in evidence["exact"].fixed)
    ranks = (
        "the same number of independent paths at 3 and at 24 steps"
        if same
        else "more independent paths at 24 steps than at 3"
    )
    return Finding(
        graded([paths < ROUNDING and represented < ROUNDING, same]),
        f"path values move by {paths:.1g}; outputs computed back from them are off by {represented:.1g}; {ranks}",
        _count(evidence),
    )


def is_spanned(evidence: Evidence) -> Finding:
    """Path space (c)."""
    rows = evidence["exact"].fixed
    full = [row.result["rank"] == row.result["expected"] == row.result["together"] for row in rows]
    operations = max(float(row.result["operations"]) for row in rows)
    return Finding(
        HOLDS if all(full) and operations <= 3 else IN_PART if all(full) or operations <= 3 else NOT_HERE,
        f"rank m − H, and no more with drawn paths, in {sum(full)} of {len(full)} networks; {operations:.2g} "
        "operations a weight at most",
        len(rows),
    )


def is_allocated(evidence: Evidence) -> Finding:
    """Meng et al."""
    rows = evidence["exact"].fixed
    counted = [row.result["rank"] == row.result["edges"] - row.result["units"] for row in rows]
    represented = _worst(evidence, "represented")
    return Finding(
        graded([all(counted), represented < ROUNDING]),
        f"m − H independent paths in {sum(counted)} of {len(counted)} networks; outputs of the weights allocated from "
        f"path values are off by {represented:.1g}",
        len(rows),
    )


def noise_is_penalty(evidence: Evidence) -> tuple[bool, str]:
    """Whether a little noise adds to the loss what the penalty says; for spline (d)."""
    ratio = estimate(value for row in evidence["exact"].fixed if np.isfinite(value := float(row.result["penalty"])))
    return abs(ratio.mean - 1) <= max(3 * ratio.stderr, 0.01), f"added loss over predicted penalty {ratio}"
