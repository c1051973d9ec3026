"""The pictures of the experiment: learning curves from both starts, and the losses they end at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.path_space.training import METHODS, STARTS, Configuration, shape
from benchmarks.rows import DIVERGED, Row, Rows, tried_rates
from maso_rnn import plots
from maso_rnn.report import Picture, Section


class Outcome(NamedTuple):
    """What a method came to at the rate chosen for it.

    Attributes:
        rate: the learning rate.
        at_edge: whether it is the least or the greatest that was tried.
        curve: (point,), the mean validation loss over seeds, from the start on; infinite where one diverged.
        test: (seed,), the test loss; infinite where it diverged.
        accuracy: (seed,), the test accuracy; none where numbers are asked for.
    """

    rate: float
    at_edge: bool
    curve: np.ndarray
    test: np.ndarray
    accuracy: np.ndarray

    @property
    def loss(self) -> float:
        """The mean test loss."""
        return float(self.test.mean())

    @property
    def stderr(self) -> float:
        """Its standard error over seeds; not a number where one diverged or there is one seed alone."""
        usable = len(self.test) > 1 and bool(np.isfinite(self.test).all())
        return float(self.test.std(ddof=1) / np.sqrt(len(self.test))) if usable else float("nan")


def outcome(rows: Rows[Configuration], setting: str, method: str, start: str) -> Outcome:
    """What one method came to in one setting from one start; the setting as `shape` names it."""

    def is_asked(row: Row[Configuration]) -> bool:
        one = row.configuration
        return (shape(one), one.method, one.start) == (setting, method, start)

    chosen = list(filter(is_asked, rows.final))
    tried = tried_rates(rows, chosen[0].configuration)
    (rate,) = {row.configuration.rate for row in chosen}
    curves = _finite([row.result["validation_loss"] for row in chosen])
    tests = _finite([row.result["test_loss"] for row in chosen])
    accuracies = np.asarray([row.result["test_accuracy"] for row in chosen if "test_accuracy" in row.result], float)
    return Outcome(rate, rate in (min(tried), max(tried)), curves.mean(axis=0), tests, accuracies)


def settings_of(rows: Rows[Configuration]) -> list[str]:
    """The settings that there are, in order."""
    return list(dict.fromkeys(shape(row.configuration) for row in rows.final))


def starts_of(rows: Rows[Configuration]) -> list[str]:
    """The starts that there are, in order."""
    there = {row.configuration.start for row in rows.final}
    return [start for start in STARTS if start in there]


def methods_of(rows: Rows[Configuration]) -> list[str]:
    """The methods that there are, in order."""
    there = {row.configuration.method for row in rows.final}
    return [method for method in METHODS if method in there]


def sections(rows: Rows[Configuration]) -> list[Section]:
    """One section for each setting: learning curves, and how far the two starts are apart."""
    return [_section(rows, setting) for setting in settings_of(rows)]


def curves(rows: Rows[Configuration], setting: str, methods: Sequence[str]) -> Figure:
    """Learning curves of those methods in one setting, from every start."""
    starts = starts_of(rows)
    steps = next(row for row in rows.final if shape(row.configuration) == setting).result["steps"]
    table = {start: {name: outcome(rows, setting, name, start) for name in methods} for start in starts}
    # no loss of a method that learned anything is far above that of the start
    whole = [end.curve for row in table.values() for end in row.values() if np.isfinite(end.curve).all()]
    least, most = min(curve.min() for curve in whole), np.median([curve[0] for curve in whole])
    figure = plots.new_figure(11, 4.6)
    panels = figure.subplots(1, len(starts), sharey=True)
    styles = ("-", "--", ":")
    for axes, start in zip(panels, starts, strict=True):
        for name, end in table[start].items():
            i = list(METHODS).index(name)  # a method looks the same everywhere
            axes.plot(
                steps,
                np.where(np.isfinite(end.curve), end.curve, np.nan),
                styles[i // len(plots.COLOURS)],
                color=plots.COLOURS[i % len(plots.COLOURS)],
                linewidth=2.5 if METHODS[name].invariant else 1.2,
                label=f"{name} ({end.rate:g})" if np.isfinite(end.curve).all() else f"{name} (diverged)",
            )
        axes.set(title=f"{start} start", xlabel="step", yscale="log", ylim=(0.45 * least, 1.3 * most))
        axes.legend(fontsize=7, loc="lower left")
    panels[0].set_ylabel("validation loss")
    return figure


def _section(rows: Rows[Configuration], setting: str) -> Section:
    one = next(row.configuration for row in rows.final if shape(row.configuration) == setting)
    starts, methods = starts_of(rows), methods_of(rows)
    table = {start: {name: outcome(rows, setting, name, start) for name in methods} for start in starts}
    seeds = len(table[starts[0]]["Adam"].test)
    best = {start: min((end.loss, name) for name, end in row.items())[1] for start, row in table.items()}
    moved = {name: table["rescaled"][name].loss / table["balanced"][name].loss for name in methods}
    reading = (
        "; ".join(
            f"{start}: {best[start]} ends lowest, at a test loss of {table[start][best[start]].loss:.3g}"
            for start in starts
        )
        + f". From the rescaled start Adam ends at {moved['Adam']:.2f} times its loss from the balanced one, "
        f"equivariant Adam at {moved['equivariant Adam']:.2f} times. Thick: invariant methods."
    )
    name = "-".join([one.task, *map(str, one.hidden)])
    return Section(
        name,
        f"{one.task.replace('-', ' ')}, {len(one.hidden)} layer(s) of {one.hidden[0]}",
        f"{one.steps} steps of {one.batch} sequences, {'with' if one.biases else 'without'} biases; means over {seeds} "
        "seed(s), each method at the learning rate in brackets. The rescaled start computes the same function as the "
        f"balanced one; the logarithms of its scales have standard deviation {one.spread:g}.",
        [
            Picture(
                f"{name}-curves",
                "Which method learns fastest, and survives a rescaled start?",
                curves(rows, setting, methods),
                reading,
            )
        ],
        {
            start: {
                name: {
                    "rate": end.rate,
                    "rate_at_edge": end.at_edge,
                    "test_loss": end.loss,
                    "stderr": end.stderr,
                    **({"test_accuracy": end.accuracy.mean()} if len(end.accuracy) else {}),
                    "validation_loss": end.curve,
                }
                for name, end in table[start].items()
            }
            for start in starts
        },
        [
            f"{name} from the {start} start: {what}."
            for start in starts
            for name, end in table[start].items()
            for what, is_so in (
                ("some runs diverged, at the best rate that was tried", not np.isfinite(end.test).all()),
                (f"the rate chosen, {end.rate:g}, is at the edge of those tried", end.at_edge),
            )
            if is_so
        ],
    )


def _finite(values: Sequence[object]) -> np.ndarray:
    """Losses; one that is not a number, or above `DIVERGED`, is infinite."""
    numbers = np.asarray(values, float)
    return np.where(numbers < DIVERGED, numbers, np.inf)
