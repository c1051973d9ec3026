"""The pictures and the table of the experiment: learning curves from both starts, and the losses they end at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.path_space.training import Method, Training
from maso_rnn import plots
from maso_rnn.report import Picture, Section

Rows = Sequence[Mapping[str, Any]]


class Outcome(NamedTuple):
    """A method's validation loss at its best learning rate.

    Attributes:
        rate: the learning rate whose mean validation loss at the end is the least.
        curve: (point,), the mean over seeds.
        last: the mean over seeds at the end; infinite where every rate diverged.
        stderr: its standard error over seeds.
    """

    rate: float
    curve: np.ndarray
    last: float
    stderr: float


def outcome(rows: Rows, task: str, method: str, start: str) -> Outcome:
    """What one method came to on one task from one start."""
    found: list[Outcome] = []
    chosen = [row for row in rows if (row["task"], row["method"], row["start"]) == (task, method, start)]
    for rate in dict.fromkeys(row["rate"] for row in chosen):
        curves = np.asarray([row["validation_loss"] for row in chosen if row["rate"] == rate], float)
        curves = np.where(np.isfinite(curves), curves, np.inf)
        last = curves[:, -1]
        finite = len(last) > 1 and bool(np.isfinite(last).all())
        stderr = float(last.std(ddof=1) / np.sqrt(len(last))) if finite else float("nan")
        found.append(Outcome(rate, curves.mean(axis=0), float(last.mean()), stderr))
    return min(found, key=lambda one: one.last)


def sections(rows: Rows, methods: Mapping[str, Method], training: Training) -> list[Section]:
    """One section for each task: learning curves, and how far the two starts are apart."""
    return [_task(rows, task, methods, training) for task in dict.fromkeys(row["task"] for row in rows)]


def _task(rows: Rows, task: str, methods: Mapping[str, Method], training: Training) -> Section:
    starts = list(dict.fromkeys(row["start"] for row in rows))
    table = {start: {name: outcome(rows, task, name, start) for name in methods} for start in starts}
    steps = np.linspace(training.steps / training.points, training.steps, training.points)
    # no loss of a method that learned anything is far above that of the first point
    curves = [one.curve for row in table.values() for one in row.values() if np.isfinite(one.last)]
    least, most = min(curve.min() for curve in curves), np.median([curve[0] for curve in curves])
    figure = plots.new_figure(11, 4.6)
    panels = figure.subplots(1, len(starts), sharey=True)
    styles = ("-", "--", ":")
    for axes, start in zip(panels, starts, strict=True):
        for i, (name, one) in enumerate(table[start].items()):
            axes.plot(
                steps,
                np.where(np.isfinite(one.curve), one.curve, np.nan),
                styles[i // len(plots.COLOURS)],
                color=plots.COLOURS[i % len(plots.COLOURS)],
                linewidth=2.5 if methods[name].invariant else 1.2,
                label=f"{name} ({one.rate:g})" if np.isfinite(one.last) else f"{name} (diverged)",
            )
        axes.set(title=f"{start} start", xlabel="step", yscale="log", ylim=(0.45 * least, 1.3 * most))
        axes.legend(fontsize=7, loc="lower left")
    panels[0].set_ylabel("validation loss")
    best = {start: sorted((one.last, name) for name, one in row.items())[0][1] for start, row in table.items()}
    moved = {name: table[starts[-1]][name].last / table[starts[0]][name].last for name in methods}
    reading = (
        "; ".join(f"{start}: {best[start]} ends lowest, at {table[start][best[start]].last:.3g}" for start in starts)
        + f". From the rescaled start Adam ends at {moved['Adam']:.2f} times its loss from the balanced one, "
        f"equivariant Adam at {moved['equivariant Adam']:.2f} times. Thick: invariant methods."
    )
    return Section(
        task,
        task.replace("-", " "),
        f"Hidden units {training.hidden}, {training.steps} steps of {training.batch} sequences. Each method is shown "
        "at the learning rate (in brackets) whose validation loss is least in the end. The rescaled start computes the "
        f"same function as the balanced one; the logarithms of its scales have standard deviation {training.spread:g}.",
        [Picture(f"{task}-curves", "Which method learns fastest, and survives a rescaled start?", figure, reading)],
        {
            start: {
                name: {"rate": one.rate, "validation_loss": one.last, "stderr": one.stderr, "curve": one.curve}
                for name, one in table[start].items()
            }
            for start in starts
        },
        [
            f"{name} diverged at every learning rate from the {start} start."
            for start in starts
            for name, one in table[start].items()
            if not np.isfinite(one.last)
        ],
    )
