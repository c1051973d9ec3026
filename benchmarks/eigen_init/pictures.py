"""The pictures of the experiment: scores by initializer, and the eigenvalues before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.eigen_init.training import CELLS, INITIALIZERS, Configuration
from benchmarks.rows import Row, Rows
from maso_rnn import plots
from maso_rnn.report import Picture, Section

# the starts whose clouds differ most
SHOWN = ("eigen-schur", "eigen-eigenvectors", "glorot", "orthogonal", "identity", "np-rnn")

KINDS = {"accuracy": "classification", "mean squared error": "regression"}

Chosen = Sequence[Row[Configuration]]


def sections(rows: Rows[Configuration]) -> list[Section]:
    """Scores, eigenvalue clouds, and what regression does to eigenvalues that classification does not."""
    return [_scores(rows.final), _clouds(rows.final), _kinds(rows.final)]


def metric_of(row: Row[Configuration]) -> str:
    """What a result is judged by."""
    return "accuracy" if "test_accuracy" in row.result else "mean squared error"


def tests(rows: Chosen, cell: str, initializer: str, task: str) -> np.ndarray:
    """(seed,), the test metric; what diverged has accuracy as it is, or an infinite error."""
    wanted = (cell, initializer, task)
    chosen = [row for row in rows if _names(row) == wanted]
    values = np.asarray([row.result.get("test_accuracy", row.result["test_loss"]) for row in chosen], float)
    return np.where(np.isfinite(values), values, np.inf)


def tasks_of(rows: Chosen, metric: str) -> list[str]:
    """The tasks that are judged by a metric."""
    return list(dict.fromkeys(row.configuration.task for row in rows if metric_of(row) == metric))


def _names(row: Row[Configuration]) -> tuple[str, str, str]:
    return row.configuration.cell, row.configuration.initializer, row.configuration.task


def _scores(rows: Chosen) -> Section:
    values: dict[str, Any] = {}
    pictures = []
    for metric, name, question, best in (
        ("accuracy", "accuracy", "Which start classifies best on the test sequences, cell by cell?", "highest"),
        ("mean squared error", "error", "Which start leaves the smallest error where a number is asked for?", "lowest"),
    ):
        tasks = tasks_of(rows, metric)
        figure = plots.new_figure(3.2 + 1.6 * len(CELLS) * max(1.0, len(tasks) / 3), 4.2)
        leaders = []
        for axes, cell in zip(figure.subplots(1, len(CELLS), sharey=True), CELLS, strict=True):
            found = {name: {task: tests(rows, cell, name, task) for task in tasks} for name in INITIALIZERS}
            values.setdefault(metric, {})[cell] = {
                name: {
                    task: {"mean": seeds.mean(), "stderr": stderr(seeds), "seeds": len(seeds)}
                    for task, seeds in row.items()
                }
                for name, row in found.items()
            }
            table = np.asarray([[seeds.mean() for seeds in row.values()] for row in found.values()])
            mean = table.mean(axis=1)
            shown = table if len(tasks) == 1 else np.column_stack([table, mean])
            limits = {"vmin": 0.0, "vmax": 1.0} if metric == "accuracy" else {"vmin": 0.0, "vmax": 0.2}
            axes.imshow(shown, cmap=plots.SEQUENTIAL, aspect="auto", **limits)
            for (i, j), value in np.ndenumerate(shown):
                colour = "black" if value > limits["vmax"] / 2 else "white"
                axes.annotate(f"{value:.2g}", (j, i), ha="center", va="center", fontsize=7, color=colour)
            axes.set_xticks(range(shown.shape[1]), [*tasks, "mean"][: shown.shape[1]], rotation=60, ha="right")
            axes.set_yticks(range(len(INITIALIZERS)), list(INITIALIZERS))
            axes.set_title(cell)
            leader = int(np.argmax(mean) if metric == "accuracy" else np.argmin(mean))
            of = dict(zip(INITIALIZERS, mean, strict=True))
            leaders.append(
                f"{cell}: {list(INITIALIZERS)[leader]} {mean[leader]:.3g} (orthogonal {of['orthogonal']:.3g}, "
                f"eigen-schur {of['eigen-schur']:.3g})"
            )
        pictures.append(Picture(name, question, figure, f"{best.capitalize()} mean over tasks, {'; '.join(leaders)}."))
    seeds = len({row.configuration.seed for row in rows})
    return Section(
        "scores",
        "Scores",
        f"Each number is the test metric after training, a mean over {seeds} seeds; the column mean is over tasks. "
        "Saying always the same scores 0.5 on a grammar, about 0.1 on digits, and a squared error of 1/6 on adding.",
        pictures,
        values,
        ["few seeds: differences between initializers may be chance"] if seeds < 5 else [],
    )


def stderr(seeds: np.ndarray) -> float:
    """The standard error of a mean over seeds; not a number where one is infinite or there is one alone."""
    usable = len(seeds) > 1 and bool(np.isfinite(seeds).all())
    return float(seeds.std(ddof=1) / np.sqrt(len(seeds))) if usable else float("nan")


def _values(result: Mapping[str, Any], when: str) -> np.ndarray:
    """The eigenvalues of all gates together."""
    pairs = np.asarray(result["eigenvalues"][when], float).reshape(-1, 2)
    return pairs[:, 0] + 1j * pairs[:, 1]


def _clouds(rows: Chosen) -> Section:
    kept = [row for row in rows if "eigenvalues" in row.result]
    shown = [(tasks_of(kept, metric)[0], kind) for metric, kind in KINDS.items()]
    pictures, values = [], {}
    for cell in CELLS:
        figure = plots.new_figure(2.3 * len(SHOWN), 2.4 * len(shown) + 0.4)
        grid = figure.subplots(len(shown), len(SHOWN), squeeze=False)
        moved = []
        for line, (task, kind) in zip(grid, shown, strict=True):
            for axes, name in zip(line, SHOWN, strict=True):
                row = next(row for row in kept if _names(row) == (cell, name, task))
                before, after = _values(row.result, "before"), _values(row.result, "after")
                if not after.size:
                    axes.set_title(f"{name}\n{task}: diverged", fontsize=8)
                    continue
                plots.eigenvalue_cloud({"before": before, "after": after}, axes=axes)
                axes.set_title(f"{name}\n{task} ({kind})", fontsize=8)
                axes.set(xlabel="", ylabel="")
                axes.get_legend().remove()
            there = [row for row in rows if (row.configuration.cell, row.configuration.task) == (cell, task)]
            moved.append(f"{task} by {np.nanmedian(changes(there, 'median_modulus')):.2g}")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, ["before training", "after training"][: len(labels)], loc="outside lower center", ncols=2
        )
        reading = f"Median change of the median modulus, over all starts: {', '.join(moved)}."
        question = f"{cell}: where do the eigenvalues of each start go, when classes and when numbers are asked for?"
        pictures.append(Picture(f"clouds-{cell}", question, figure, reading))
        values[cell] = moved
    return Section(
        "clouds",
        "Eigenvalues before and after",
        "Eigenvalues of the recurrent kernel, of all gates together, with the unit circle; one seed.",
        pictures,
        values,
    )


def changes(rows: Chosen, quantity: str) -> np.ndarray:
    """(row,), by how much training changed "radius" or "median_modulus"; not a number where it diverged."""
    pairs = np.asarray([row.result[quantity] for row in rows], float).reshape(-1, 2)
    return pairs[:, 1] - pairs[:, 0]


def _kinds(rows: Chosen) -> Section:
    figure = plots.new_figure(11, 4.5)
    values: dict[str, Any] = {}
    readings = []
    for axes, cell in zip(figure.subplots(1, len(CELLS), sharey=True), CELLS, strict=True):
        places = np.arange(len(INITIALIZERS))
        for (metric, kind), colour, marker in zip(KINDS.items(), plots.COLOURS, "o^", strict=False):
            medians = []
            for name in INITIALIZERS:
                chosen = [row for row in rows if (*_names(row)[:2], metric_of(row)) == (cell, name, metric)]
                change = changes(chosen, "radius")
                medians.append(float(np.nanmedian(change)) if np.isfinite(change).any() else float("nan"))
            axes.scatter(medians, places, color=colour, marker=marker, label=kind)
            values.setdefault(cell, {})[kind] = dict(zip(INITIALIZERS, medians, strict=True))
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.set(title=cell, xlabel="change of the spectral radius")
        axes.set_yticks(places, list(INITIALIZERS))
        one, other = (np.nanmedian(list(values[cell][kind].values())) for kind in KINDS.values())
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
