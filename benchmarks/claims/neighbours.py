"""Claims of neighbouring papers: each rule was written before there were any results."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import automata, cornn
from benchmarks.claims.evidence import Comparison, Evidence, Setting, by_seed, constant, contender, setting
from benchmarks.claims.identities import Measured
from benchmarks.rows import distinct, having


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
