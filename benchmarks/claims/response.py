"""Claims of Lim (2021)."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.claims.evidence import (
    HOLDS,
    IN_PART,
    NOT_HERE,
    Evidence,
    Finding,
    chosen,
    estimate,
    graded,
    listed,
)
from benchmarks.response import of
from benchmarks.response.correlations import Correlations
from benchmarks.response.functionals import FUNCTIONALS, Regression
from benchmarks.response.kernels import Kernels
from benchmarks.response.machines import Gram, Readout

SMALL = 0.5  # of the amplitudes, the largest that is small


def is_volterra_series(evidence: Evidence) -> Finding:
    """Claim (a): the output is a Volterra series."""
    rows = of(evidence["response"], Kernels)
    at = rows[0].configuration.amplitudes.index(SMALL)
    relative, within = [], []
    for row in rows:
        simulated, errors, bounds = (np.asarray(row.result[name], float) for name in ("simulated", "errors", "bounds"))
        relative.append(errors[-1, at] / abs(simulated[at]))
        within.append((errors <= bounds).mean())
    missed = estimate(relative)
    most = missed.mean + 2 * missed.stderr
    return Finding(
        HOLDS if most < 0.01 and min(within) == 1 else IN_PART if most < 0.1 else NOT_HERE,
        f"the series to order {rows[0].configuration.orders} misses {100 * missed.mean:.2g} ± "
        f"{100 * missed.stderr:.1g} % of the simulated response at amplitude {SMALL:g}; errors are within the bound "
        f"in {100 * np.mean(within):.3g} % of cases",
        len(rows),
    )


def are_correlations(evidence: Evidence) -> Finding:
    """Claim (b): kernels are correlations of the unperturbed dynamics."""
    rows = of(evidence["response"], Correlations)
    names = {"adjoint, malliavin": "order 1", "second order": "order 2", "score": "closed form"}
    found = {said: estimate(row.result["differences"][name] for row in rows) for name, said in names.items()}
    signal = estimate(row.result["signal"] for row in rows)
    agreed = [signal.mean > 10 and one.mean - 3 * one.stderr <= 1 for one in found.values()]
    return Finding(
        graded(agreed),
        f"mean squared difference, in standard errors: {listed(found)}; chance alone gives 1, a kernel of zero "
        f"{signal}",
        len(rows),
    )


def improves_with_order(evidence: Evidence) -> Finding:
    """Claim (c): truncation improves with order."""
    rows = of(evidence["response"], Kernels)
    small = [i for i, amplitude in enumerate(rows[0].configuration.amplitudes) if amplitude <= SMALL]
    errors = np.asarray([np.asarray(row.result["errors"], float)[:, small] for row in rows])
    steps = np.log10(errors[:, :-1] / errors[:, 1:]).mean(axis=2)
    gains = {f"order {n + 2}:": estimate(steps[:, n]) for n in range(steps.shape[1])}
    slopes = [estimate(row.result["slopes"][n] for row in rows) for n in range(errors.shape[1])]
    return Finding(
        graded([gain.sign > 0 for gain in gains.values()]),
        f"log10 of the error falls by, to {listed(gains)}, at amplitudes to {SMALL:g}; errors grow with the amplitude "
        f"to the power {', '.join(map(str, slopes))} (theory: {', '.join(str(n + 2) for n in range(len(slopes)))})",
        len(rows),
    )


def is_universal(evidence: Evidence) -> Finding:
    """Claim (d): the feature is universal."""
    rows = of(evidence["response"], Regression)
    learned, shown = [], {}
    for name in FUNCTIONALS:
        found = chosen(rows, functional=name)
        first, *_, last = found[0].configuration.depths
        gain = estimate(math.log10(row.result[f"depth {first}"] / row.result[f"depth {last}"]) for row in found)
        end, reservoir = (estimate(row.result[way] for row in found) for way in (f"depth {last}", "reservoir"))
        start = estimate(row.result[f"depth {first}"] for row in found)
        learned.append(gain.sign > 0 and end.mean + 2 * end.stderr < 0.05)
        shown[f"{name}:"] = f"{start} at depth {first}, {end} at depth {last} (reservoir {reservoir})"
    seeds = len({row.configuration.seed for row in rows})
    return Finding(graded(learned), f"squared error, share of the variance. {listed(shown)}", seeds)


def is_kernel_machine(evidence: Evidence) -> Finding:
    """Claim (e): a trained readout is a kernel machine."""
    rows = of(evidence["response"], Readout)
    slope, last = estimate(row.result["slope"] for row in rows), estimate(row.result["differences"][-1] for row in rows)
    falls = abs(slope.mean + 0.5) <= max(2 * slope.stderr, 0.05)
    is_near = last.mean + 2 * last.stderr < 0.1
    return Finding(
        HOLDS if falls and is_near else IN_PART if slope.sign < 0 else NOT_HERE,
        f"predictions differ by {last} (relative) at {rows[0].configuration.paths[-1]} paths; the difference goes as "
        f"paths to the power {slope}",
        len(rows),
    )


def has_gram(evidence: Evidence) -> Finding:
    """Claim (f): the Gram matrix of the representer form."""
    rows = of(evidence["response"], Gram)
    slope, last = estimate(row.result["slope"] for row in rows), estimate(row.result["differences"][-1] for row in rows)
    is_near = last.mean + 2 * last.stderr < 0.02
    return Finding(
        HOLDS if slope.sign < 0 and is_near else IN_PART if slope.sign < 0 or is_near else NOT_HERE,
        f"predictions of the Gram matrix and of explicit signatures differ by {last} of the target's deviation; the "
        f"difference goes as the number of steps to the power {slope}",
        len(rows),
    )
