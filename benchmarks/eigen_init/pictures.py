"""The pictures of the experiment: scores by initializer, and the eigenvalues before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.eigen_init.training import CELLS, INITIALIZERS
from maso_rnn import plots
from maso_rnn.report import Picture, Section

Rows = Sequence[dict[str, Any]]

# the starts whose clouds differ most; results.jsonl has the eigenvalues of all
SHOWN = ("eigen-schur", "eigen-eigenvectors", "glorot", "orthogonal", "identity", "np-rnn")


def sections(rows: Rows) -> list[Section]:
    """Scores, eigenvalue clouds, and what regression does to eigenvalues that classification does not."""
    return [_scores(rows), _clouds(rows), _kinds(rows)]


def _tasks(rows: Rows, metric: str) -> list[str]:
    return list(dict.fromkeys(row["task"] for row in rows if row["metric"] == metric))


def _table(rows: Rows, cell: str, tasks: Sequence[str]) -> np.ndarray:
    """(initializer, task), the mean of the test metric over seeds; NaN where a network diverged."""
    table = [
        [_mean([row for row in rows if (row["cell"], row["initializer"], row["task"]) == (cell, name, task)])]
        for name in INITIALIZERS
        for task in tasks
    ]
    return np.array(table).reshape(len(INITIALIZERS), len(tasks))


def _mean(rows: Rows) -> float:
    return float(np.mean([float(row["test"]) for row in rows]))


def _scores(rows: Rows) -> Section:
    values: dict[str, Any] = {}
    pictures = []
    for metric, name, question, best in (
        ("accuracy", "accuracy", "Which start classifies best on the test sequences, cell by cell?", "highest"),
        ("mean squared error", "error", "Which start leaves the smallest error where a number is asked for?", "lowest"),
    ):
        tasks = _tasks(rows, metric)
        figure = plots.new_figure(3.2 + 1.6 * len(CELLS) * max(1.0, len(tasks) / 3), 4.2)
        leaders = []
        for axes, cell in zip(figure.subplots(1, len(CELLS), sharey=True), CELLS, strict=True):
            table = _table(rows, cell, tasks)
            values.setdefault(metric, {})[cell] = dict(zip(INITIALIZERS, table, strict=True))
            mean = table.mean(axis=1)
            shown = table if len(tasks) == 1 else np.column_stack([table, mean])
            limits = {"vmin": 0.0, "vmax": 1.0} if metric == "accuracy" else {}
            axes.imshow(shown, cmap=plots.SEQUENTIAL, aspect="auto", **limits)
            middle = 0.5 if limits else np.nanmean(shown)
            for (i, j), value in np.ndenumerate(shown):
                colour = "black" if value > middle else "white"
                axes.annotate(f"{value:.2g}", (j, i), ha="center", va="center", fontsize=7, color=colour)
            axes.set_xticks(range(shown.shape[1]), [*tasks, "mean"][: shown.shape[1]], rotation=60, ha="right")
            axes.set_yticks(range(len(INITIALIZERS)), list(INITIALIZERS))
            axes.set_title(cell)
            order = -mean if metric == "accuracy" else mean
            leader = int(np.nanargmin(order)) if np.isfinite(order).any() else 0
            leaders.append(f"{cell}: {list(INITIALIZERS)[leader]} {mean[leader]:.3g}")
        pictures.append(Picture(name, question, figure, f"{best.capitalize()} mean over tasks, {'; '.join(leaders)}."))
    seeds = len({row["seed"] for row in rows})
    return Section(
        "scores",
        "Scores",
        "Each number is the test metric after training, a mean over seeds; the column mean is over tasks. Saying "
        "always the same scores 0.5 on a grammar, about 0.1 on digits, and a squared error of 1/6 on adding.",
        pictures,
        values,
        [] if seeds > 1 else ["one seed only: differences between initializers may be chance"],
    )


def _values(row: dict[str, Any], when: str) -> np.ndarray:
    """The eigenvalues of all gates together."""
    parts = [np.asarray(values, float).reshape(-1, 2) for values in row[f"eigenvalues_{when}"].values()]
    joined = np.concatenate(parts)
    return joined[:, 0] + 1j * joined[:, 1]


def _clouds(rows: Rows) -> Section:
    shown = [(_tasks(rows, metric)[0], kind) for metric, kind in _KINDS.items()]
    pictures, values = [], {}
    for cell in CELLS:
        figure = plots.new_figure(2.3 * len(SHOWN), 2.4 * len(shown) + 0.4)
        grid = figure.subplots(len(shown), len(SHOWN), squeeze=False)
        moved = []
        for line, (task, kind) in zip(grid, shown, strict=True):
            for axes, name in zip(line, SHOWN, strict=True):
                row = next(r for r in rows if (r["cell"], r["task"], r["initializer"]) == (cell, task, name))
                before, after = _values(row, "before"), _values(row, "after")
                if not after.size:
                    axes.set_title(f"{name}\n{task}: diverged", fontsize=8)
                    continue
                plots.eigenvalue_cloud({"before": before, "after": after}, axes=axes)
                axes.set_title(f"{name}\n{task} ({kind})", fontsize=8)
                axes.set(xlabel="", ylabel="")
                axes.get_legend().remove()
            moved.append(f"{task} by {_shift([r for r in rows if (r['cell'], r['task']) == (cell, task)]):.2g}")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, ["before training", "after training"][: len(labels)], loc="outside lower center", ncols=2
        )
        reading = f"Median change of a modulus, over all starts: {', '.join(moved)}."
        question = f"{cell}: where do the eigenvalues of each start go, when classes and when numbers are asked for?"
        pictures.append(Picture(f"clouds-{cell}", question, figure, reading))
        values[cell] = moved
    return Section(
        "clouds",
        "Eigenvalues before and after",
        "Eigenvalues of the recurrent kernel, of all gates together, with the unit circle; first seed.",
        pictures,
        values,
    )


_KINDS = {"accuracy": "classification", "mean squared error": "regression"}


def _shift(rows: Rows) -> float:
    """The median, over rows, of how much the median modulus changed."""
    shifts = [
        np.median(np.abs(_values(row, "after"))) - np.median(np.abs(_values(row, "before")))
        for row in rows
        if _values(row, "after").size
    ]
    return float(np.median(shifts)) if shifts else float("nan")


def _radius(row: dict[str, Any], when: str) -> float:
    values = _values(row, when)
    return float(np.abs(values).max()) if values.size else float("nan")


def _kinds(rows: Rows) -> Section:
    figure = plots.new_figure(11, 4.5)
    values: dict[str, Any] = {}
    readings = []
    for axes, cell in zip(figure.subplots(1, len(CELLS), sharey=True), CELLS, strict=True):
        places = np.arange(len(INITIALIZERS))
        for (metric, kind), colour, marker in zip(_KINDS.items(), plots.COLOURS, "o^", strict=False):
            changes = []
            for name in INITIALIZERS:
                chosen = [r for r in rows if (r["cell"], r["initializer"], r["metric"]) == (cell, name, metric)]
                change = [_radius(row, "after") - _radius(row, "before") for row in chosen]
                changes.append(float(np.nanmedian(change)) if np.isfinite(change).any() else float("nan"))
            axes.scatter(changes, places, color=colour, marker=marker, label=kind)
            values.setdefault(cell, {})[kind] = dict(zip(INITIALIZERS, changes, strict=True))
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.set(title=cell, xlabel="change of the spectral radius")
        axes.set_yticks(places, list(INITIALIZERS))
        one, other = (np.nanmedian(list(values[cell][kind].values())) for kind in _KINDS.values())
        readings.append(f"{cell}: {one:+.2g} against {other:+.2g}")
    axes.legend(fontsize=8)
    return Section(
        "regression-classification",
        "Regression against classification",
        "The change of the spectral radius by training, median over tasks and seeds.",
        [
            Picture(
                "radius-change",
                "Does training move the largest eigenvalue otherwise when numbers are asked for than when classes are?",
                figure,
                f"Median over starts, classification against regression: {'; '.join(readings)}.",
            )
        ],
        values,
    )
