"""One picture of the main results, a panel a paper, for the README."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from benchmarks.claims import eigen, path_space, spline
from benchmarks.claims.evidence import Evidence, chosen, distinct, less
from benchmarks.path_space.training import shape
from benchmarks.response import of
from benchmarks.response.kernels import Kernels
from maso_rnn import plots

NEEDED = ("spline", "path-space", "response", "eigen-init")
STARTS = ("eigen-schur", "orthogonal", "glorot", "he", "identity")
MARKERS = "osD^v"


def png(evidence: Evidence) -> bytes:
    """The picture as a file, which names the version of matplotlib that drew it."""
    figure = plots.new_figure(12, 8)
    (noise, paths), (series, starts) = figure.subplots(2, 2)
    _noise(noise, evidence)
    _paths(paths, evidence)
    _series(series, evidence)
    _starts(starts, evidence)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": f"matplotlib {mpl.__version__}"})
    return file.getvalue()


def _noise(axes: Axes, evidence: Evidence) -> None:
    rows = chosen(evidence["spline"].final, part="table")
    gains = {
        f"{task}, {model}": less(
            spline.accuracy(rows, task, model, "noise"), spline.accuracy(rows, task, model, "none")
        )
        for task in distinct(rows, "task")
        for model in distinct(chosen(rows, task=task, regulariser="noise"), "model")
    }
    places = np.arange(len(gains))
    means, errors = ([getattr(gain, field) for gain in gains.values()] for field in ("mean", "stderr"))
    axes.errorbar(means, places, xerr=2 * np.asarray(errors), fmt="o", color=plots.COLOURS[0])
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(places, list(gains))
    axes.invert_yaxis()
    axes.set(title="Noise on the initial state", xlabel="test accuracy with noise less without, ± 2 standard errors")


def _paths(axes: Axes, evidence: Evidence) -> None:
    rows = evidence["path-space"].final
    settings = distinct(rows, shape)
    pairs = {**path_space.PAIRS, "Path-SGD": "SGD"}
    for i, (method, baseline) in enumerate(pairs.items()):
        ratios = [
            path_space.losses(rows, setting, method).mean / path_space.losses(rows, setting, baseline).mean
            for setting in settings
        ]
        places = np.arange(len(settings)) + 0.2 * (i - 1)
        finite = np.isfinite(ratios)
        label = f"{method} / {baseline}"
        axes.plot(np.asarray(ratios)[finite], places[finite], MARKERS[i], color=plots.COLOURS[i], label=label)
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(settings)), settings)
    axes.invert_yaxis()
    axes.set(title="Path space", xlabel="test loss over that of the same method in weight space (left is better)")
    axes.legend(frameon=False, fontsize=8)


def _series(axes: Axes, evidence: Evidence) -> None:
    rows = of(evidence["response"], Kernels)
    amplitudes = rows[0].configuration.amplitudes
    errors = np.asarray([np.asarray(row.result["errors"], float) for row in rows])
    for n, (colour, marker) in enumerate(zip(plots.COLOURS, MARKERS[: errors.shape[1]], strict=False)):
        middle = np.exp(np.log(errors[:, n]).mean(axis=0))
        axes.loglog(amplitudes, middle, f"{marker}-", color=colour, label=f"to order {n + 1}")
    axes.set_xscale("log", base=2)
    axes.set(title="Response series", xlabel="amplitude of the input", ylabel="error of the predicted mean response")
    axes.legend(frameon=False)


def _starts(axes: Axes, evidence: Evidence) -> None:
    rows = evidence["eigen-init"].final
    cells = distinct(rows, "cell")
    tasks, found = eigen.classes(rows, distinct(rows, "task")), eigen.scores(rows)
    for i, name in enumerate(STARTS):
        means = [np.mean([found[cell, name, task].mean for task in tasks]) for cell in cells]
        places = np.arange(len(cells)) + 0.12 * (i - 2)
        axes.plot(means, places, MARKERS[i], color=plots.COLOURS[i], label=name)
    axes.set_yticks(range(len(cells)), cells)
    axes.invert_yaxis()
    axes.set(title="Initializers", xlabel=f"test accuracy, mean over {len(tasks)} tasks")
    axes.legend(frameon=False, fontsize=8)
