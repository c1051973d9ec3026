"""One picture of the main results, a panel a paper, for the README."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.claims import path_space, spline
from benchmarks.claims.evidence import Evidence, by_seed, judge
from benchmarks.response import of
from benchmarks.response.kernels import Kernels
from benchmarks.rows import distinct, having
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
    judged = judge(spline.generalises(evidence))
    names = [f"{one.comparison.setting.data}, {one.comparison.theirs.name}" for one in judged]
    places = np.arange(len(names))
    means = np.asarray([one.difference for one in judged])
    errors = np.asarray([one.high - one.difference for one in judged])
    axes.errorbar(means, places, xerr=errors, fmt="o", color=plots.COLOURS[0])
    axes.axvline(0, color="#888888", linewidth=0.8)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(title="Noise on the initial state", xlabel="test accuracy with noise less without, 95% interval")


def _paths(axes: Axes, evidence: Evidence) -> None:
    pairs = {**path_space.PAIRS, "Path-SGD": "SGD"}
    found = path_space.against(evidence, pairs)
    settings = list(dict.fromkeys(one.setting for one in found))
    for one in found:
        i = list(pairs).index(one.ours.name)
        at = settings.index(one.setting) + 0.25 * (i - 1)
        if one.ours.diverged or one.theirs.diverged:
            seeds = len(one.seeds)
            said = [
                f"{way.name} diverged in {way.diverged} of {seeds}" for way in (one.ours, one.theirs) if way.diverged
            ]
            axes.text(1.1, at, ", ".join(said), color=plots.COLOURS[i], fontsize=8, va="center")
        else:
            label = f"{one.ours.name} / {one.theirs.name}"
            axes.plot(one.ours.mean / one.theirs.mean, at, MARKERS[i], color=plots.COLOURS[i], label=label)
    axes.axvline(1, color="#888888", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(settings)), [f"{one.data},\n{one.units} units" for one in settings])
    axes.invert_yaxis()
    axes.set(title="Path space and weight space", xlabel="ratio of test losses (left: the first is better)")
    named = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    axes.legend(named.values(), named.keys(), frameon=False, fontsize=8)


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
    rows = [row for row in evidence["eigen-init"].final if "test_accuracy" in row.result]
    cells, tasks = distinct(rows, "cell"), distinct(rows, "task")
    for i, name in enumerate(STARTS):
        ways = [
            by_seed(name, having(rows, cell=cell, initializer=name), lambda row: float(row.result["test_accuracy"]))
            for cell in cells
        ]
        each = np.asarray([list(way.scores.values()) for way in ways])
        errors = 2 * each.std(axis=1, ddof=1) / np.sqrt(each.shape[1])
        places = np.arange(len(cells)) + 0.14 * (i - 2)
        means = each.mean(axis=1)
        axes.errorbar(means, places, xerr=errors, fmt=MARKERS[i], color=plots.COLOURS[i], label=name, linewidth=1)
    axes.set_yticks(range(len(cells)), cells)
    axes.invert_yaxis()
    axes.set(title="Initializers", xlabel=f"test accuracy, mean over {len(tasks)} tasks ± 2 standard errors")
    axes.legend(frameon=False, fontsize=8)
