"""Claims of Wang, Balestriero and Baraniuk (2019) about training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.claims.evidence import Comparison, Contender, Evidence, by_seed, constant, contender, setting
from benchmarks.rows import Row, distinct, has_diverged, having
from benchmarks.spline.report import learns

CLOSE = 0.02  # of accuracy
USUAL, IDLE, LARGE = 0.1, 0.001, 5.0  # σ: the paper's for pixels, one too small to do anything, the largest
EXPLODES = 10.0  # times what it was before training, that a gradient comes to
WORDS = "sst-2"  # what the names of tasks of words start with
OPTIMIZERS = {"rmsprop": "RMSprop", "sgd": "SGD"}

Rows = Sequence[Row[Any]]


def _compared(evidence: Evidence, rows: Rows, ours: Contender, theirs: Contender, **options: Any) -> Comparison:
    """The two, in the setting of the rows; in the grid the optimiser is part of it."""
    one = rows[0].configuration
    where = setting(evidence, one)
    if one.part == "grid" and len(distinct(rows, "optimizer")) == 1:
        where = where._replace(data=f"{one.task}, {OPTIMIZERS[one.optimizer]}")
    if options.get("metric") == "test accuracy":
        options["constant"] = constant(evidence, one.task, "test_accuracy")
    return Comparison(where, ours, theirs, **options)


def partitions(evidence: Evidence, *, trained: bool = True) -> list[Comparison]:
    """Claim (b): codes of a class come together in training; the control is another network before training."""
    found = []
    for rows in _by_task(having(evidence["spline"].fixed, part="partition", regulariser="none")):

        def gathered(when: str, rows: Rows = rows) -> Contender:
            return by_seed(f"{when} training", rows, lambda row: float(row.result[when]["neighbours"][-1]))

        before, ours = gathered("before"), gathered("after")
        if not trained:
            values = list(before.scores.values())
            ours = Contender("another start", dict(zip(before.scores, values[1:] + values[:1], strict=True)))
        found.append(_compared(evidence, rows, ours, before, metric="share whose nearest code is of the class"))
    return found


def _by_task(rows: Rows) -> list[list[Row[Any]]]:
    return [having(rows, task=task) for task in distinct(rows, "task")]


def templates(evidence: Evidence, *, when: str = "after") -> list[Comparison]:
    """Claim (c): the right class has the larger inner product with its template."""
    rows = having(evidence["spline"].fixed, part="partition")
    found = []
    for of in (of for kind in distinct(rows, "regulariser") for of in _by_task(having(rows, regulariser=kind))):
        kind = of[0].configuration.regulariser
        ours = by_seed("templates alone", of, lambda row: float(row.result[when]["template"]["right"]))
        name = "the network, with noise" if kind == "noise" else "the network"
        theirs = by_seed(name, of, lambda row: float(row.result["after"]["template"]["accuracy"]))
        found.append(_compared(evidence, of, ours, theirs, metric="test accuracy", margin=CLOSE))
    return found


def penalises(evidence: Evidence) -> list[Comparison]:
    """Claim (d): training with noise makes the slope in the initial state smaller."""
    found = []
    for rows in _by_task(having(evidence["spline"].fixed, part="penalty")):
        found += _slopes(evidence, having(rows, regulariser="none"), having(rows, regulariser="noise", sigma=USUAL))
    return found


def hardly_penalises(evidence: Evidence) -> list[Comparison]:
    """The control of claim (d): next to no noise."""
    rows = having(evidence["spline"].fixed, part="grid", task="digits-by-pixel", optimizer="rmsprop", rate=1e-3)
    return _slopes(evidence, having(rows, sigma=0.0), having(rows, sigma=IDLE))


def _slopes(evidence: Evidence, quiet: Rows, noisy: Rows) -> list[Comparison]:
    if not quiet or not noisy:
        return []

    def slopes(name: str, rows: Rows) -> Contender:
        alive = [row for row in rows if learns(row.result)]  # a dead network has no slope
        return by_seed(name, alive, lambda row: _log10(row.result["initial_slope_norm"][-1]))

    ours, theirs = slopes(f"σ {noisy[0].configuration.sigma:g}", noisy), slopes("no noise", quiet)
    return [_compared(evidence, quiet, ours, theirs, metric="log10 of the slope's norm", higher=False)]


def _log10(value: Any) -> float:
    number = float(value)
    return math.log10(max(number, 1e-30)) if math.isfinite(number) else math.inf


def mollifies(evidence: Evidence, *, sigma: float = USUAL) -> list[Comparison]:
    """Claim (e): the gradient falls, at rates where both learn, if it explodes without noise."""

    def gradient(row: Row[Any]) -> float:
        return float(np.mean([_log10(value) for value in row.result["recurrent_gradient_norm"][1:]]))

    found = []
    for rows in _grids(evidence):
        alive = [{_run(row): row for row in having(rows, sigma=each) if learns(row.result)} for each in (sigma, 0.0)]
        runs = [run for run in alive[0] if run in alive[1]]
        ours, theirs = (
            by_seed(name, [of[run] for run in runs], gradient)
            for name, of in zip((f"σ {sigma:g}", "no noise"), alive, strict=True)
        )
        explodes = any(map(_explodes, having(rows, sigma=0.0)))
        options = {"metric": "log10 of ‖dL/dW_r‖", "higher": False, "idle": not explodes}
        found.append(_compared(evidence, rows, ours, theirs, **options))
    return found


def _explodes(row: Row[Any]) -> bool:
    first, *later = (float(value) for value in row.result["recurrent_gradient_norm"])
    return any(not math.isfinite(value) or value > EXPLODES * first for value in later)


def _run(row: Row[Any]) -> tuple[float, int]:
    return row.configuration.rate, row.configuration.seed


def _grids(evidence: Evidence) -> Iterator[list[Row[Any]]]:
    """The rows of σ × rate, for each task and optimiser."""
    for rows in _by_task(having(evidence["spline"].fixed, part="grid")):
        for optimizer in distinct(rows, "optimizer"):
            yield having(rows, optimizer=optimizer)


def stabilises(evidence: Evidence, *, sigma: float = USUAL) -> list[Comparison]:
    """Claim (e): higher rates are stable."""
    found = []
    for rows in _grids(evidence):
        ours, theirs = (
            Contender(
                name, {seed: _largest_rate(having(rows, sigma=each, seed=seed)) for seed in distinct(rows, "seed")}
            )
            for each, name in ((sigma, f"σ {sigma:g}"), (0.0, "no noise"))
        )
        found.append(_compared(evidence, rows, ours, theirs, metric="log10 of the largest rate that learns"))
    return found


def _largest_rate(tried: Rows) -> float:
    learned = [row.configuration.rate for row in tried if learns(row.result)]
    return math.log10(max(learned, default=min(row.configuration.rate for row in tried) / 10))


def _table(evidence: Evidence, *, words: bool) -> Rows:
    """The rows of the table, on words or on all else."""
    rows = having(evidence["spline"].final, part="table")
    return [row for row in rows if row.configuration.task.startswith(WORDS) == words]


def generalises(evidence: Evidence, *, words: bool = False) -> list[Comparison]:
    """Claim (f): generalisation improves."""
    spline, rows = evidence["spline"], _table(evidence, words=words)
    found = []
    for task in distinct(rows, "task"):
        for model in distinct(having(rows, task=task, regulariser="noise"), "model"):
            of = having(rows, task=task, model=model)
            if "none" not in distinct(of, "regulariser"):
                continue
            ours, theirs = (
                contender(spline, having(of, regulariser=kind), f"{model}{said}", "test_accuracy")
                for kind, said in (("noise", " + noise"), ("none", ""))
            )
            found.append(_compared(evidence, of, ours, theirs, metric="test accuracy"))
    return found


def shuffled(evidence: Evidence) -> list[Comparison]:
    """The control of claim (f) on words: without noise, and without noise from the seed before."""
    found = []
    for one in generalises(evidence, words=True):
        theirs = list(one.theirs.scores.values())
        scores = dict(zip(one.theirs.scores, theirs[-1:] + theirs[:-1], strict=True))
        found.append(one._replace(ours=one.theirs._replace(name="another seed", scores=scores)))
    return found


def hardly_generalises(evidence: Evidence) -> list[Comparison]:
    """The control of claim (f): next to no noise."""
    return [
        _compared(evidence, rows, _at_best(rows, IDLE), _at_best(rows, 0.0), metric="test accuracy")
        for rows in _grids(evidence)
    ]


def _at_best(rows: Rows, sigma: float) -> Contender:
    """A σ of the grid at the rate that is best on the validation set, over all seeds."""
    tried = having(rows, sigma=sigma)
    rates = {rate: _validated(having(tried, rate=rate)) for rate in distinct(tried, "rate")}
    best = max(rates, key=lambda rate: rates[rate])
    scores = {
        row.configuration.seed: math.nan if has_diverged(row.result) else float(row.result["test_accuracy"])
        for row in having(tried, rate=best)
    }
    name = f"{OPTIMIZERS[tried[0].configuration.optimizer]}, {f'σ {sigma:g}' if sigma else 'no noise'}"
    return Contender(name, scores, f"rate {best:g}", best in (min(rates), max(rates)))


def _validated(rows: Rows) -> float:
    """The mean accuracy on the validation set at the end; what diverged has none."""
    ends = [0.0 if has_diverged(row.result) else float(row.result["validation_accuracy"][-1]) for row in rows]
    return float(np.mean(ends))


def comes_close(evidence: Evidence, *, regulariser: str = "noise", words: bool = False) -> list[Comparison]:
    """Claim (g): simple RNNs come close to gated ones; the best of either by validation."""
    spline, rows = evidence["spline"], _table(evidence, words=words)
    found = []
    for task in distinct(rows, "task"):
        of = having(rows, task=task)
        simple: list[list[Row[Any]]] = []
        gated: list[list[Row[Any]]] = []
        for model in distinct(of, "model"):
            is_simple = model.startswith("rnn")
            (simple if is_simple else gated).append(
                having(of, model=model, regulariser=regulariser if is_simple else "none")
            )
        simple, gated = ([rows for rows in each if rows] for each in (simple, gated))
        if not simple or not gated:
            continue
        ours, theirs = (max(each, key=_validated) for each in (simple, gated))
        name = ours[0].configuration.model + (" + noise" if regulariser == "noise" else "")
        found.append(
            _compared(
                evidence,
                of,
                contender(spline, ours, name, "test_accuracy"),
                contender(spline, theirs, theirs[0].configuration.model, "test_accuracy"),
                metric="test accuracy",
                margin=CLOSE,
            )
        )
    return found


def tolerates(evidence: Evidence, *, tolerant: str = "rmsprop", other: str = "sgd") -> list[Comparison]:
    """Claim (h): one optimiser tolerates much noise, the other less; each σ at its best rate."""
    rows = having(evidence["spline"].fixed, part="grid")
    found = []
    for task in distinct(rows, "task"):
        of = having(rows, task=task)
        if not {tolerant, other} <= set(distinct(of, "optimizer")):
            continue
        pairs = {
            optimizer: [_at_best(having(of, optimizer=optimizer), sigma) for sigma in (LARGE, 0.0)]
            for optimizer in (tolerant, other)
        }
        lost, more = (
            Contender(
                f"{OPTIMIZERS[name]} at σ {LARGE:g}",
                {seed: quiet.scores[seed] - score for seed, score in noisy.scores.items()},
            )
            for name, (noisy, quiet) in pairs.items()
        )
        found.append(_compared(evidence, of, *pairs[tolerant], metric="test accuracy", margin=CLOSE))
        found.append(_compared(evidence, of, lost, more, metric="accuracy lost", higher=False))
    return found
