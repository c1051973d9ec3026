"""Claims of Dou and Principe (2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.claims.evidence import (
    HOLDS,
    IN_PART,
    NOT_HERE,
    Estimate,
    Evidence,
    Finding,
    by_seed,
    chosen,
    distinct,
    estimate,
    graded,
    is_chance,
    less,
    listed,
    prevails,
    scaled,
    tally,
)
from benchmarks.experiment import Row

OURS = "eigen-schur"  # the reconstruction that the library has as its default


def explains(evidence: Evidence) -> Finding:
    """Claim (a): eigenvalues explain how information decays."""
    rows = evidence["memory"].fixed
    linear = chosen(rows, activation="identity")
    error = max(float(row.result["error"]) for row in linear)
    ranks = {name: estimate(row.result["rank"] for row in found) for name, found in _nonlinear(rows).items()}
    told = [rank.mean - 2 * rank.stderr > 0.5 for rank in ranks.values()]
    exact = error < 1e-3
    return Finding(
        HOLDS if exact and all(told) else IN_PART if exact or any(told) else NOT_HERE,
        f"largest relative error of a linear network's horizons {error:.1g}; rank correlation of predicted and "
        f"measured horizons: {listed(ranks)}",
        len(linear),
    )


def _nonlinear(rows: Sequence[Row[Any]]) -> Mapping[str, Sequence[Row[Any]]]:
    kinds = distinct(rows, lambda one: (one.activation, one.loudness))
    return {
        f"{activation}, input of {loudness:g}": chosen(rows, activation=activation, loudness=loudness)
        for activation, loudness in kinds
        if activation != "identity"
    }


def activations_change_it(evidence: Evidence) -> Finding:
    """Claim (b): activations change how information decays."""
    found = _nonlinear(evidence["memory"].fixed)
    ratios = {name: estimate(row.result["ratio"] for row in rows) for name, rows in found.items()}
    changed = [ratio._replace(mean=ratio.mean - 1).sign != 0 for ratio in ratios.values()]
    return Finding(
        graded(changed),
        f"measured over predicted horizon, median over modes: {listed(ratios)}",
        min(ratio.size for ratio in ratios.values()),
    )


def kinds_differ(evidence: Evidence) -> Finding:
    """Claim (c): eigenvalues behave differently for regression and classification."""
    rows = evidence["eigen-init"].final
    differ, shown = [], {}
    for cell in distinct(rows, "cell"):
        signs = []
        for quantity, name in (("radius", "radius"), ("median_modulus", "median modulus")):
            moves = [_moves(chosen(rows, cell=cell), quantity, is_class=is_class) for is_class in (True, False)]
            signs.append(less(*moves).sign)
            shown[f"{cell}, {name}:"] = f"{moves[0]} and {moves[1]}"
        differ.append(any(signs))
    return Finding(
        graded(differ),
        f"change by training, of classification and of regression. {listed(shown)}",
        len(distinct(rows, "seed")),
    )


def _moves(rows: Sequence[Row[Any]], quantity: str, *, is_class: bool) -> Estimate:
    """How far training moves a quantity: for each seed the mean over tasks and initializers that did not diverge."""
    moved = [
        row
        for row in rows
        if ("test_accuracy" in row.result) == is_class and np.isfinite(np.asarray(row.result[quantity], float)).all()
    ]
    return by_seed(moved, lambda row: float(row.result[quantity][1]) - float(row.result[quantity][0]))


def improves(evidence: Evidence) -> Finding:
    """Claim (d): the initializer improves performance consistently."""
    rows = evidence["eigen-init"].final
    return _against(rows, ("glorot",), distinct(rows, "task"))


def applies(evidence: Evidence) -> Finding:
    """Claim (e): it applies to RNN, LSTM and GRU."""
    rows = evidence["eigen-init"].final
    found = scores(rows)
    usable, shown = [], {}
    for cell in distinct(rows, "cell"):
        gains = _gains(found, [cell], ("glorot",), distinct(rows, "task"))
        signs = [gain.sign for gain in gains.values()]
        usable.append(is_chance(signs.count(-1), len(signs)))
        shown[f"{cell}:"] = tally(gains)
    return Finding(graded(usable), f"against glorot, {listed(shown)}", len(distinct(rows, "seed")))


def outperforms(evidence: Evidence) -> Finding:
    """Claim (f): it outperforms the others on the paper's tasks."""
    rows = evidence["eigen-init"].final
    tasks = [task for task in distinct(rows, "task") if task.startswith(("tomita", "digits", "mnist"))]
    return _against(rows, ("glorot", "he", "identity"), tasks)


def _against(rows: Sequence[Row[Any]], others: Sequence[str], tasks: Sequence[str]) -> Finding:
    cells, found, judged = distinct(rows, "cell"), scores(rows), classes(rows, tasks)
    gains = {other: _gains(found, cells, (other,), tasks) for other in (*others, "orthogonal")}
    means = {
        f"{cell} {name}": f"{np.mean([found[cell, name, task].mean for task in judged]):.3f}"
        for cell in cells
        for name in (OURS, *gains)
    }
    against = {key: gain for other in others for key, gain in gains[other].items()}
    tallies = {f"{other}:": tally(gains[other]) for other in others}
    return Finding(
        prevails(against),
        f"against {listed(tallies)}; and against orthogonal, which the abstract does not name: "
        f"{tally(gains['orthogonal'])}. Mean accuracy over tasks: {listed(means)}",
        len(distinct(rows, "seed")),
    )


def _gains(
    found: Mapping[tuple[str, str, str], Estimate], cells: Sequence[str], others: Sequence[str], tasks: Sequence[str]
) -> dict[tuple[str, ...], Estimate]:
    return {
        (cell, other, task): less(found[cell, OURS, task], found[cell, other, task])
        for cell in cells
        for other in others
        for task in tasks
    }


def scores(rows: Sequence[Row[Any]]) -> dict[tuple[str, str, str], Estimate]:
    """By cell, initializer and task the test accuracy, or the squared error with a minus, so that more is better."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        one, result = row.configuration, row.result
        value = result["test_accuracy"] if "test_accuracy" in result else -scaled([result["test_loss"]])[0]
        found.setdefault((one.cell, one.initializer, one.task), []).append(float(value))
    return {key: estimate(values) for key, values in found.items()}


def classes(rows: Sequence[Row[Any]], tasks: Sequence[str]) -> list[str]:
    """The tasks that are classifications."""
    found = {row.configuration.task for row in rows if "test_accuracy" in row.result}
    return [task for task in tasks if task in found]
