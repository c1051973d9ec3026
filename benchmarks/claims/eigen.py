"""Claims of Dou and Principe (2023), and of Lim (2021) about learning."""

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
    chosen,
    constant,
    contender,
    distinct,
    level,
    setting,
)
from benchmarks.experiment import Row, has_diverged

OURS = "eigen-schur"  # the reconstruction that the library has as its default
OTHER = "he"  # what stands in its place in the controls
CLOSE = 0.02  # of accuracy
SAME_INPUTS = ("adding", "adding-ternary")  # regression and classification
QUANTITIES = {"radius": "spectral radius", "median_modulus": "median modulus"}


def _of_modes(
    evidence: Evidence, activations: Sequence[str], name: str, against: float, *, higher: bool
) -> list[Comparison]:
    """A result of the memory experiment against a number, for each activation and loudness of the input."""
    rows = evidence["memory"].fixed
    found = []
    for activation, loudness in distinct(rows, lambda one: (one.activation, one.loudness)):
        if activation in activations:
            of = chosen(rows, activation=activation, loudness=loudness)
            ours = by_seed(activation, of, lambda row: float(row.result[name]))
            one = of[0].configuration
            where = Setting(f"noise, input of {loudness:g}", str(one.steps), str(one.hidden))
            said = {"rank": "rank correlation", "ratio": "measured over predicted horizon"}[name]
            found.append(Comparison(where, ours, level(f"{against:g}", against, ours), metric=said, higher=higher))
    return found


def explains(evidence: Evidence) -> list[Comparison]:
    """Claim (a): eigenvalues explain how information decays, where activations bend it."""
    return _of_modes(evidence, ("tanh", "relu"), "rank", 0.5, higher=True)


def explains_nothing(evidence: Evidence) -> list[Comparison]:
    """The control of claim (a): the measured horizons of other modes, in a fixed shuffled order."""
    found = []
    for one in explains(evidence):
        rows = [
            row
            for row in evidence["memory"].fixed
            if row.configuration.activation == one.ours.name
            and one.setting.data.endswith(f" {row.configuration.loudness:g}")
        ]
        found.append(one._replace(ours=by_seed(f"{one.ours.name}, shuffled", rows, _shuffled_rank)))
    return found


def _shuffled_rank(row: Row[Any]) -> float:
    """Spearman's correlation of the predicted horizons with the measured ones in another order."""
    predicted, measured = (np.asarray(row.result[name], float) for name in ("predicted", "measured"))
    order = np.random.default_rng(row.configuration.seed).permutation(len(measured))
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, measured[order])]
    return float(np.corrcoef(*ranks)[0, 1])


def activations_change_it(evidence: Evidence, *, activations: Sequence[str] = ("tanh", "relu")) -> list[Comparison]:
    """Claim (b): activations shorten what eigenvalues predict; the control are linear networks."""
    return _of_modes(evidence, activations, "ratio", 1.0, higher=False)


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
        of = chosen(rows, cell=cell)
        for quantity, said in QUANTITIES.items():
            moves = {name: _moves(chosen(of, task=name), quantity) for name in (*tasks, *classes)}
            apart = max(abs(moves[a].mean - moves[b].mean) for a, b in itertools.combinations(classes, 2))
            one, other = (moves[name] for name in tasks)
            scores = {seed: abs(one.scores[seed] - other.scores[seed]) for seed in one.scores if seed in other.scores}
            ours = Contender(f"{tasks[0]} and {tasks[1]}", scores)
            where = setting(evidence, tasks[0], hidden=of[0].configuration.hidden, updates=of[0].configuration.steps)
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
            of = chosen(rows.final, cell=cell, task=task)
            metric = "test_accuracy" if "test_accuracy" in of[0].result else "test_loss"
            ways = {
                name: contender(rows, chosen(of, initializer=name), f"{cell}, {name}", metric)
                for name in (ours, *others)
            }
            one = of[0].configuration
            found += [
                Comparison(
                    setting(evidence, task, hidden=one.hidden, updates=one.steps),
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


def outperforms(evidence: Evidence, *, ours: str = OURS, others: Sequence[str] = ("glorot", "he", "identity")) -> list[Comparison]:
    """Claim (f): it outperforms the others on the paper's tasks."""
    return against(evidence, others, ours=ours, tasks=PAPERS)
