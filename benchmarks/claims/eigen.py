"""Claims of Dou and Principe (2023) about random and trained networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.claims.evidence import (
    Comparison,
    Contender,
    Evidence,
    Setting,
    by_seed,
    constant,
    contender,
    level,
    setting,
)
from benchmarks.rows import Row, distinct, has_diverged, having

OURS = "eigen-schur"  # the reconstruction that the library has as its default
OTHER = "he"  # what stands in its place in the controls
CLOSE = 0.02  # of accuracy
TOLD = 0.5  # a rank correlation
SAME_INPUTS = ("adding", "adding-ternary")  # regression and classification
QUANTITIES = {"radius": "spectral radius", "median_modulus": "median modulus"}


def explains(evidence: Evidence, *, shuffled: bool = False) -> list[Comparison]:
    """Claim (a): eigenvalues explain how information decays; the control are horizons in a fixed shuffled order."""
    rows = [row for row in evidence["memory"].fixed if row.configuration.activation != "identity"]
    found = []
    for activation, loudness in distinct(rows, lambda one: (one.activation, one.loudness)):
        of = having(rows, activation=activation, loudness=loudness)
        ours = by_seed(activation, of, _shuffled_rank if shuffled else lambda row: float(row.result["rank"]))
        one = of[0].configuration
        where = Setting(f"noise, input of {loudness:g}", str(one.steps), str(one.hidden))
        found.append(Comparison(where, ours, level("level", TOLD, ours), metric="rank correlation"))
    return found


def _shuffled_rank(row: Row[Any]) -> float:
    """Spearman's correlation of the predicted horizons with the measured ones in another order."""
    predicted, measured = (np.asarray(row.result[name], float) for name in ("predicted", "measured"))
    order = np.random.default_rng(row.configuration.seed).permutation(len(measured))
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, measured[order])]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def kinds_differ(evidence: Evidence, *, tasks: Sequence[str] = ()) -> list[Comparison]:
    """Claim (c): eigenvalues move otherwise in regression than in classification, of the same inputs."""
    rows = [row for row in evidence["eigen-init"].final if not has_diverged(row.result)]
    names = distinct(rows, "task")
    if not tasks:
        lengths = {name.rsplit("-", 1)[1] for name in names if name.startswith(SAME_INPUTS[1])}
        tasks = [f"{kind}-{length}" for length in sorted(lengths)[:1] for kind in SAME_INPUTS]
    if not set(tasks) <= set(names) or not tasks:
        return []
    classes = [name for name in names if not name.startswith("adding") or name.startswith(SAME_INPUTS[1])]
    found = []
    for cell in distinct(rows, "cell"):
        of = having(rows, cell=cell)
        for quantity, said in QUANTITIES.items():
            moves = {name: _moves(having(of, task=name), quantity) for name in (*tasks, *classes)}
            apart = max(abs(moves[a].mean - moves[b].mean) for a, b in itertools.combinations(classes, 2))
            one, other = (moves[name] for name in tasks)
            scores = {seed: abs(one.scores[seed] - other.scores[seed]) for seed in one.scores if seed in other.scores}
            ours = Contender(f"{tasks[0]} and {tasks[1]}", scores)
            where = setting(evidence, having(of, task=tasks[0])[0].configuration)
            found.append(
                Comparison(
                    where._replace(data=cell),
                    ours,
                    level("any two classifications", apart, ours),
                    metric=f"difference of the change of the {said}",
                )
            )
    return found


def _moves(rows: Sequence[Row[Any]], quantity: str) -> Contender:
    """How far training moves a quantity: the mean over initializers."""
    return by_seed(quantity, rows, lambda row: float(row.result[quantity][1]) - float(row.result[quantity][0]))


def against(
    evidence: Evidence,
    others: Sequence[str],
    *,
    ours: str = OURS,
    tasks: tuple[str, ...] = ("",),
    margin: float = 0.0,
) -> list[Comparison]:
    """An initializer against others, in each cell and task whose name begins so."""
    rows = evidence["eigen-init"]
    found = []
    for cell in distinct(rows.final, "cell"):
        for task in distinct(rows.final, "task"):
            if not task.startswith(tasks):
                continue
            of = having(rows.final, cell=cell, task=task)
            if not {ours, *others} <= set(distinct(of, "initializer")):
                continue
            metric = "test_accuracy" if "test_accuracy" in of[0].result else "test_loss"
            ways = {
                name: contender(rows, having(of, initializer=name), f"{cell}, {name}", metric)
                for name in (ours, *others)
            }
            one = of[0].configuration
            found += [
                Comparison(
                    setting(evidence, one),
                    ways[ours],
                    ways[other],
                    metric=metric.replace("_", " "),
                    higher=metric == "test_accuracy",
                    constant=constant(evidence, task, metric),
                    margin=margin,
                )
                for other in others
            ]
    return found


PAPERS = ("tomita", "digits", "mnist")  # the tasks of the abstract


def improves(evidence: Evidence, *, ours: str = OURS) -> list[Comparison]:
    """Claim (d): the initializer improves performance consistently."""
    return against(evidence, ("glorot",), ours=ours)


def applies(evidence: Evidence, *, ours: str = OURS) -> list[Comparison]:
    """Claim (e): it applies to RNN, LSTM and GRU: it is nowhere far behind."""
    return against(evidence, ("glorot",), ours=ours, margin=CLOSE)


def outperforms(
    evidence: Evidence, *, ours: str = OURS, others: Sequence[str] = ("glorot", "he", "identity")
) -> list[Comparison]:
    """Claim (f): it outperforms the others on the paper's tasks."""
    return against(evidence, others, ours=ours, tasks=PAPERS)
