"""Claims of Wang, Balestriero and Baraniuk (2019) about training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.claims import exact
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
    less,
    listed,
    prevails,
    tally,
)
from benchmarks.experiment import Row
from benchmarks.spline.report import learns

CLOSE = 0.02  # of accuracy


def partitions(evidence: Evidence) -> Finding:
    """Claim (b): the partition is built up through time, and changed by training."""
    rows = chosen(evidence["spline"].fixed, part="partition")

    def pieces(row: Row[Any], when: str, at: int) -> float:
        return math.log10(row.result[when]["pieces"][at])

    def neighbours(row: Row[Any], at: int) -> float:
        return float(row.result["after"]["neighbours"][at])

    grown = by_seed(rows, lambda row: pieces(row, "after", -1) - pieces(row, "after", 0))
    changed = by_seed(rows, lambda row: pieces(row, "after", -1) - pieces(row, "before", -1))
    sorted_out = by_seed(rows, lambda row: neighbours(row, -1) - neighbours(row, 0))
    first, last = (np.mean([row.result["after"]["pieces"][i] for row in rows]) for i in (0, -1))
    untrained = np.mean([row.result["before"]["pieces"][-1] for row in rows])
    return Finding(
        graded([grown.sign > 0, changed.sign != 0]),
        f"pieces between two digits: {first:.0f} after an eighth of the sequence, {last:.0f} after all of it; before "
        f"training {untrained:.0f}; nearest neighbour by code of the same class: {sorted_out} more at the end",
        grown.size,
    )


def templates(evidence: Evidence) -> Finding:
    """Claim (c): the right class has the larger inner product."""
    rows = chosen(evidence["spline"].fixed, part="partition")

    def told(name: str) -> Estimate:
        return by_seed(rows, lambda row: float(row.result["after"]["template"][name]))

    right, where_right, share = map(told, ("right", "where_right", "accuracy"))
    wins = where_right.mean - 2 * where_right.stderr
    verdict = HOLDS if wins > 0.9 else IN_PART if wins > 0.5 else NOT_HERE
    return Finding(
        verdict,
        f"the right class's template matches best in {right} of all sequences, and in {where_right} of those predicted "
        f"right (accuracy {share})",
        right.size,
    )


def penalises(evidence: Evidence) -> Finding:
    """Claim (d): noise is an explicit penalty."""
    is_penalty, said = exact.noise_is_penalty(evidence)
    rows = _learned(evidence, "penalty")
    none = estimate(_log_slope(row) for row in chosen(rows, regulariser="none"))
    noisy = chosen(rows, regulariser="noise")
    gains = {
        f"σ = {sigma:g}:": less(none, estimate(_log_slope(row) for row in chosen(noisy, sigma=sigma)))
        for sigma in distinct(noisy, "sigma")
    }
    lowered = prevails(gains)
    verdict = HOLDS if is_penalty and lowered == HOLDS else IN_PART if is_penalty or lowered != NOT_HERE else NOT_HERE
    return Finding(
        verdict,
        f"{said}; training with noise lowers log10 of the slope's norm by {listed(gains)}",
        none.size,
    )


def _log_slope(row: Row[Any]) -> float:
    return _log10(row.result["initial_slope_norm"][-1])


def _log10(value: Any) -> float:
    number = float(value)
    return math.log10(max(number, 1e-30)) if math.isfinite(number) else math.inf


def mollifies(evidence: Evidence) -> Finding:
    """Claim (e): the gradient falls."""
    rows = _learned(evidence, "grid")
    quiet = {_others(row): _log_gradient(row) for row in chosen(rows, regulariser="none")}
    gains = {}
    for sigma in distinct(chosen(rows, regulariser="noise"), "sigma"):
        noisy = [row for row in chosen(rows, regulariser="noise", sigma=sigma) if _others(row) in quiet]
        gains[f"σ = {sigma:g}:"] = estimate(quiet[_others(row)] - _log_gradient(row) for row in noisy)
    return Finding(
        prevails(gains),
        f"log10 of ‖dL/dW_r‖ falls by {listed(gains)} (over rates, optimisers and tasks)",
        _seeds(rows),
    )


def _learned(evidence: Evidence, part: str) -> list[Row[Any]]:
    """The rows of a part that learned something; a dead network has no slope and no gradient."""
    return [row for row in chosen(evidence["spline"].fixed, part=part) if learns(row.result)]


def _others(row: Row[Any]) -> tuple[Any, ...]:
    one = row.configuration
    return one.task, one.optimizer, one.rate, one.seed


def _log_gradient(row: Row[Any]) -> float:
    return float(np.mean([_log10(value) for value in row.result["recurrent_gradient_norm"][1:]]))


def _seeds(rows: Sequence[Row[Any]]) -> int:
    return len(distinct(rows, "seed"))


def stabilises(evidence: Evidence) -> Finding:
    """Claim (e): higher rates are stable."""
    rows = chosen(evidence["spline"].fixed, part="grid")
    gains = {
        f"σ = {sigma:g}:": estimate(
            _largest_rate(rows, sigma, task, optimizer, seed) - _largest_rate(rows, 0.0, task, optimizer, seed)
            for task in distinct(rows, "task")
            for optimizer in distinct(rows, "optimizer")
            for seed in distinct(rows, "seed")
        )
        for sigma in distinct(rows, "sigma")
        if sigma
    }
    return Finding(
        prevails(gains),
        f"log10 of the largest rate that still learns rises by {listed(gains)} (over optimisers and tasks)",
        _seeds(rows),
    )


def _largest_rate(rows: Sequence[Row[Any]], sigma: float, task: str, optimizer: str, seed: int) -> float:
    tried = chosen(rows, sigma=sigma, task=task, optimizer=optimizer, seed=seed)
    learned = [row.configuration.rate for row in tried if learns(row.result)]
    return math.log10(max(learned, default=min(row.configuration.rate for row in tried) / 10))


def generalises(evidence: Evidence) -> Finding:
    """Claim (f): generalisation improves."""
    rows = chosen(evidence["spline"].final, part="table")
    gains, shown = {}, {}
    for task in distinct(rows, "task"):
        for model in distinct(chosen(rows, task=task, regulariser="noise"), "model"):
            with_, without = (accuracy(rows, task, model, kind) for kind in ("noise", "none"))
            gains[f"{task}, {model}"] = less(with_, without)
            shown[f"{task}, {model}:"] = f"{without} → {with_}"
    return Finding(prevails(gains), f"{tally(gains)}. {listed(shown)}", _seeds(rows))


def accuracy(rows: Sequence[Row[Any]], task: str, model: str, regulariser: str = "none") -> Estimate:
    """The test accuracy of a contender."""
    found = chosen(rows, task=task, model=model, regulariser=regulariser)
    return estimate(_finite(row.result["test_accuracy"]) for row in found)


def _finite(value: Any) -> float:
    """An accuracy; of a network that diverged it is none."""
    number = float(value)
    return number if math.isfinite(number) else 0.0


def comes_close(evidence: Evidence) -> Finding:
    """Claim (g): simple RNNs come close to gated ones."""
    rows = chosen(evidence["spline"].final, part="table")
    near, shown = [], {}
    for task in distinct(rows, "task"):
        models = distinct(chosen(rows, task=task), "model")
        simple = max(
            (accuracy(rows, task, model, "noise") for model in models if model.startswith("rnn")),
            key=lambda one: one.mean,
        )
        gated = max(
            (accuracy(rows, task, model) for model in models if not model.startswith("rnn")), key=lambda one: one.mean
        )
        gap = less(gated, simple)
        near.append(gap.mean + 2 * gap.stderr < CLOSE)
        shown[f"{task}:"] = f"{simple} against {gated}"
    return Finding(
        graded(near), f"simple RNN with noise against the better of GRU and LSTM. {listed(shown)}", _seeds(rows)
    )


def tolerates(evidence: Evidence) -> Finding:
    """Claim (h): RMSprop tolerates much noise, SGD less."""
    rows = chosen(evidence["spline"].fixed, part="grid")
    largest = max(distinct(rows, "sigma"))
    losses = {
        optimizer: estimate(
            _best(rows, 0.0, task, optimizer, seed) - _best(rows, largest, task, optimizer, seed)
            for task in distinct(rows, "task")
            for seed in distinct(rows, "seed")
        )
        for optimizer in ("rmsprop", "sgd")
    }
    tolerated = losses["rmsprop"].mean - 2 * losses["rmsprop"].stderr < CLOSE
    return Finding(
        graded([tolerated, less(losses["sgd"], losses["rmsprop"]).sign > 0]),
        f"validation accuracy lost at σ = {largest:g}, at the best rate: "
        f"{listed({'RMSprop': losses['rmsprop'], 'SGD': losses['sgd']})} (over tasks)",
        _seeds(rows),
    )


def _best(rows: Sequence[Row[Any]], sigma: float, task: str, optimizer: str, seed: int) -> float:
    tried = chosen(rows, sigma=sigma, task=task, optimizer=optimizer, seed=seed)
    return max(_finite(row.result["validation_accuracy"][-1]) for row in tried)
