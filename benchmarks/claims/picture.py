"""One picture of the main results, a panel a paper, for the README."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.claims import eigen, path_space, spline
from benchmarks.claims.evidence import Evidence, chosen, distinct, less
from benchmarks.path_space.training import shape
from benchmarks.response import of
from benchmarks.response.kernels import Kernels
from maso_rnn import plots

STARTS = ("eigen-schur", "orthogonal", "glorot", "he", "identity")
MARKERS = "osD^v"


def results(evidence: Evidence) -> Figure:
    """The picture."""
    figure = plots.new_figure(12, 8)
    (noise, paths), (series, starts) = figure.subplots(2, 2)
    _noise(noise, evidence)
    _paths(paths, evidence)
    _series(series, evidence)
    _starts(starts, evidence)
    return figure


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
        for place, setting in enumerate(settings):
            ours, theirs = (path_space.losses(rows, setting, name).mean for name in (method, baseline))
            at, label = place + 0.25 * (i - 1), f"{method} / {baseline}"
            if np.isfinite([ours, theirs]).all():
                axes.plot(ours / theirs, at, MARKERS[i], color=plots.COLOURS[i], label=label)
            else:
                both = not np.isfinite([ours, theirs]).any()
                said = "both diverged" if both else f"{baseline if np.isfinite(ours) else method} diverged"
                axes.text(1.1, at, said, color=plots.COLOURS[i], fontsize=8, va="center")
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(settings)), [_wrapped(setting) for setting in settings])
    axes.invert_yaxis()
    axes.set(title="Path space and weight space", xlabel="ratio of test losses (left: the first is better)")
    named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    axes.legend(named.values(), named.keys(), frameon=False, fontsize=8)


def _wrapped(setting: str) -> str:
    task, hidden = setting.split(", ")
    widths = hidden.removesuffix(" hidden").split("+")
    return f"{task},\n{len(widths)} × {widths[0]} units"


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
        each = [[found[cell, name, task] for task in tasks] for cell in cells]
        means = [np.mean([one.mean for one in row]) for row in each]
        errors = [np.linalg.norm([one.stderr for one in row]) / len(row) for row in each]
        places = np.arange(len(cells)) + 0.14 * (i - 2)
        axes.errorbar(
            means, places, xerr=2 * np.asarray(errors), fmt=MARKERS[i], color=plots.COLOURS[i], label=name, linewidth=1
        )
    axes.set_yticks(range(len(cells)), cells)
    axes.invert_yaxis()
    axes.set(title="Initializers", xlabel=f"test accuracy, mean over {len(tasks)} tasks ± 2 standard errors")
    axes.legend(frameon=False, fontsize=8)
