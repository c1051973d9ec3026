"""Claims of neighbouring papers: each rule was written before there were any results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import automata, cornn, kernel_machine, lyapunov
from benchmarks.claims.evidence import Comparison, Contender, Evidence, Setting, by_seed, constant, contender, setting
from benchmarks.claims.identities import Measured
from benchmarks.rows import Row, distinct, having


def recovered(source: str) -> Callable[[Evidence], Measured]:
    """The largest error of random automata learned back without noise."""

    def error(evidence: Evidence) -> Measured:
        rows = having(automata.of(evidence["automata"], automata.Recovery), source=source, noise=0.0)
        return max((float(row.result["error"]) for row in rows), default=float("inf")), len(rows)

    return error


def agrees(evidence: Evidence, *, of: str = "agreement") -> list[Comparison]:
    """Claim (automata-c): the automaton says what the network does; the control is the one of a single state."""
    rows = automata.of(evidence["automata"], automata.Extraction)
    found = []
    for grammar in distinct(rows, "grammar"):
        chosen = having(rows, grammar=grammar)
        one = chosen[0].configuration
        where = Setting(f"tomita-{grammar}", str(2 * automata.LONGEST), str(one.hidden), f"{one.steps:,}")
        ours = by_seed("automaton", chosen, lambda row: float(row.result[of]))
        theirs = by_seed("constant", chosen, lambda row: float(row.result["constant"]))
        found.append(Comparison(where, ours, theirs, metric="share of words with the network's decision"))
    return found


def bounded(evidence: Evidence) -> Measured:
    """By how much random oscillators exceed a bound, on gradients or states, as a share of it."""
    rows = cornn.of(evidence["cornn"].fixed, cornn.Draw)
    shares = [float(row.result[name]) for row in rows for name in ("gradient", "states")]
    return max((max(share - 1, 0.0) for share in shares), default=float("inf")), len(rows)


def oscillates(
    evidence: Evidence, *, ours: str = "cornn", others: tuple[str, ...] = ("lstm", "irnn")
) -> list[Comparison]:
    """Claim (cornn-b): oscillators learn better than others; the control is the IRNN in their place."""
    rows, found = evidence["cornn"], []
    for task in distinct(rows.final, "task"):
        of_ours = having(rows.final, task=task, cell=ours)
        metric = cornn.metric_of(of_ours[0].result)
        for name in others:
            found.append(
                Comparison(
                    setting(evidence, of_ours[0].configuration),
                    contender(rows, of_ours, ours, metric),
                    contender(rows, having(rows.final, task=task, cell=name), name, metric),
                    metric=metric.replace("_", " "),
                    higher=metric == "test_accuracy",
                    constant=constant(evidence, task, metric),
                )
            )
    return found


def _expansions(evidence: Evidence, error: Callable[[dict[str, list[float]]], float], *, all_of_them: bool) -> Measured:
    rows = kernel_machine.of(evidence["kernel-machine"], kernel_machine.Expansion)
    errors = [error(row.result) for row in rows if all_of_them or row.result["inside"]]
    return max(errors, default=float("inf")), len(errors)


def within_bound(evidence: Evidence) -> Measured:
    """By how much expansions of random networks miss more than their bound, as a share of it."""
    return _expansions(evidence, lambda result: max(max(result["shares"]) - 1, 0.0), all_of_them=True)


def expansion_orders(evidence: Evidence) -> Measured:
    """By how much the power of the path's size by which errors grow differs from the order plus 1."""
    powers = np.asarray(kernel_machine.ORDERS) + 1
    return _expansions(
        evidence, lambda result: float(np.abs(np.asarray(result["slopes"]) - powers).max()), all_of_them=False
    )


def network_gap(evidence: Evidence) -> Measured:
    """By how much the ratio of the gaps between network and equation, at twice the steps, differs from 2."""
    return _expansions(evidence, lambda result: abs(result["gaps"][0] / result["gaps"][1] - 2), all_of_them=True)


def robust(evidence: Evidence, *, among: Sequence[float] = kernel_machine.STRENGTHS[2:]) -> list[Comparison]:
    """Claim (kernel-d): the penalty makes networks robust; the control is one too weak to do anything."""
    rows = kernel_machine.of(evidence["kernel-machine"], kernel_machine.Robust)
    found = []
    for task in distinct(rows, "task"):
        of_task = having(rows, task=task)

        def on_validation(strength: float, of_task: list[Row[Any]] = of_task) -> float:
            return float(np.mean([row.result["attacked_validation"] for row in having(of_task, strength=strength)]))

        best = max((one for one in among if having(of_task, strength=one)), key=on_validation)
        one = of_task[0].configuration
        for i, size in enumerate(kernel_machine.ATTACKS[1:], start=1):

            def under_attack(row: Row[Any], i: int = i) -> float:
                return float(row.result["attacked"][i])

            ways = [
                by_seed(name, having(of_task, strength=strength), under_attack)
                for name, strength in ((f"penalty {best:g}", best), ("none", 0.0))
            ]
            where = Setting(f"{task}, moved by {size:g} deviations", "—", str(one.units), f"{one.steps:,}")
            found.append(Comparison(where, ways[0], ways[1], metric="accuracy under attack"))
    return found


def predicts(evidence: Evidence, *, shuffled: bool = False) -> list[Comparison]:
    """Claim (lyapunov-a): the spectrum predicts better than what is at hand; the control are shuffled spectra."""
    rows = evidence["lyapunov"].fixed
    sets = {seed: having(rows, seed=seed) for seed in distinct(rows, "seed")}
    others = {"before training": "spectral radius", "after a tenth": "validation loss"}
    found = []
    for linear in (True, False):
        for when, at in lyapunov.WHEN.items() if sets else ():
            ways = [
                Contender(
                    name,
                    {
                        seed: lyapunov.explained(one, name, at, linear=linear, shuffled=mixed)
                        for seed, one in sets.items()
                    },
                )
                for name, mixed in (("spectrum", shuffled), (others[when], False))
            ]
            one = rows[0].configuration
            where = Setting(
                f"{one.task}, {when}, {'linear' if linear else 'kernel'}", "—", str(one.units), f"{one.steps:,}"
            )
            found.append(Comparison(where, ways[0], ways[1], metric="R² of unseen networks"))
    return found
