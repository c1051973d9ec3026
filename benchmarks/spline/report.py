"""The report of the spline experiment: one section for each thing that noise on the initial state is said to do."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from benchmarks.rows import Row, Rows, distinct, having
from benchmarks.spline.training import REFERENCE, Configuration
from maso_rnn import plots
from maso_rnn.report import Picture, Section

Found = Sequence[Row[Configuration]]

DIGITS = 10  # classes, of all tasks whose rates are compared
LEARNED = 0.9


class Estimate(NamedTuple):
    """A mean over seeds.

    Attributes:
        mean: the mean.
        stderr: its standard error; not a number of one seed.
        seeds: how many.
    """

    mean: float
    stderr: float
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Estimate:
        """The estimate from one value a seed."""
        found = np.asarray(values, float)
        spread = float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else float("nan")
        return cls(float(found.mean()), spread, len(found))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.stderr:.3f}"


def sections(rows: Rows[Configuration]) -> list[Section]:
    """The table, and then what was measured on networks of given settings."""
    grid = having(rows.fixed, part="grid")
    opened = having(rows.fixed, part="partition")
    return [
        _table(rows.final),
        _over_training(grid),
        _stability(grid),
        _partition(opened),
        _codes(opened),
        _templates(opened),
        _penalty(opened, having(rows.fixed, part="penalty")),
    ]


def _array(rows: Found, name: str) -> np.ndarray:
    """A result of every row: (row,) or (row, point)."""
    return np.asarray([np.asarray(row.result[name], float) for row in rows])


def accuracies(final: Found) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and contender: `rate`, `sigma`, and the `Estimate` of the test accuracy."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in distinct(final, "task"):
        of_task = having(final, task=task)
        for model, regulariser in dict.fromkeys((r.configuration.model, r.configuration.regulariser) for r in of_task):
            rows = having(of_task, model=model, regulariser=regulariser)
            one = rows[0].configuration
            name = model if regulariser == "none" else f"{model} + noise"
            accuracy = Estimate.of(_array(rows, "test_accuracy"))
            found.setdefault(task, {})[name] = {"rate": one.rate, "sigma": one.sigma, "accuracy": accuracy}
    return found


def gains(final: Found) -> dict[str, dict[str, Estimate]]:
    """By task and model: the test accuracy with noise minus that without, seed by seed: same start, same batches."""
    found: dict[str, dict[str, Estimate]] = {}
    for noisy in having(final, regulariser="noise"):
        task, model = noisy.configuration.task, noisy.configuration.model
        if model in found.setdefault(task, {}):
            continue
        pairs = [
            np.asarray([row.result["test_accuracy"] for row in sorted(rows, key=lambda row: row.configuration.seed)])
            for rows in (having(final, task=task, model=model, regulariser=kind) for kind in ("noise", "none"))
        ]
        found[task][model] = Estimate.of(pairs[0] - pairs[1])
    return found


def _table(final: Found) -> Section:
    found, gained = accuracies(final), gains(final)
    names = list(dict.fromkeys(name for row in found.values() for name in row))
    figure = plots.new_figure(11, 0.9 + 0.42 * len(names))
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (task, row) in zip(panels, found.items(), strict=True):
        for name, one in row.items():
            colour = plots.COLOURS[1 if name.endswith("noise") else 0 if name.startswith("rnn") else 2]
            accuracy, place = one["accuracy"], -names.index(name)
            axes.errorbar(accuracy.mean, place, xerr=2 * np.nan_to_num(accuracy.stderr), fmt="o", color=colour)
            label = f"{accuracy.mean:.3f}" + (f" (σ {one['sigma']:g})" if one["sigma"] else "")
            axes.annotate(label, (accuracy.mean, place), (0, 6), textcoords="offset points", ha="center", fontsize=7)
        axes.set(title=task, xlabel="test accuracy", ylim=(0.6 - len(names), 0.8))
        axes.margins(x=0.25)
    panels[0].set_yticks([-i for i in range(len(names))], names)
    readings = [
        f"{task}: " + ", ".join(f"{model} {gain.mean:+.3f} ± {gain.stderr:.3f}" for model, gain in row.items())
        for task, row in gained.items()
    ]
    setting = final[0].configuration
    return Section(
        "table",
        "Accuracy with and without noise",
        f"{setting.hidden} hidden units a layer, {setting.steps} steps of {setting.batch} sequences, RMSprop with a "
        "rate that falls to zero along a cosine, no clipping. Every contender had as many tries on the validation set: "
        "with noise, pairs of a rate and a σ, else rates only. Evaluated without noise. Differences are of the same "
        "seeds, which share start and batches; ± is one standard error.",
        [
            Picture(
                "table",
                "Does noise on the initial state make a simple RNN better, and as good as gated ones?",
                figure,
                "With noise minus without: " + "; ".join(readings) + ". Bars: two standard errors.",
            )
        ],
        {
            "accuracy": {
                task: {name: {**one, "accuracy": one["accuracy"]._asdict()} for name, one in row.items()}
                for task, row in found.items()
            },
            "gain": {task: {model: gain._asdict() for model, gain in row.items()} for task, row in gained.items()},
        },
    )


def _colour(sigma: float, sigmas: Sequence[float]) -> str:
    return "#000000" if sigma == 0 else plots.COLOURS[(sigmas.index(sigma) - 1) % (len(plots.COLOURS) - 1)]


def _name(sigma: float) -> str:
    return f"σ = {sigma:g}" if sigma else "no noise"


CURVES = {
    "initial_slope_norm": "‖A_h‖",
    "recurrent_gradient_norm": "‖∂L/∂W_r‖",
    "validation_loss": "validation loss (nats)",
}


def _over_training(grid: Found) -> Section:
    rows = having(grid, optimizer="rmsprop")
    tasks, sigmas = distinct(rows, "task"), sorted(distinct(rows, "sigma"))
    figure = plots.new_figure(11, 3.2 * len(tasks) + 0.4)
    panels = figure.subplots(len(tasks), len(CURVES), squeeze=False)
    values: dict[str, Any] = {}
    readings = []
    for line, task in zip(panels, tasks, strict=True):
        rate = _best_without_noise(having(rows, task=task))
        chosen = having(rows, task=task, rate=rate)
        values[task] = {"rate": rate, "steps": chosen[0].result["steps"]}
        for axes, (name, label) in zip(line, CURVES.items(), strict=True):
            curves = {sigma: _array(having(chosen, sigma=sigma), name).mean(axis=0) for sigma in sigmas}
            for sigma, curve in curves.items():
                shown = np.where(np.isfinite(curve) & (curve > 0), curve, np.nan)
                colour = _colour(sigma, sigmas)
                axes.plot(chosen[0].result["steps"], shown, marker=".", color=colour, label=_name(sigma))
            axes.set(yscale="log", xlabel="step", ylabel=label, title=f"{task}, rate {rate:g}")
            values[task][name] = {str(sigma): curve for sigma, curve in curves.items()}
        ends = {name: {s: values[task][name][str(s)][-1] for s in sigmas} for name in CURVES}
        said = [
            f"{CURVES[name]} {end[sigmas[0]]:.3g} without noise, "
            + ", ".join(f"{end[s]:.3g} at {s:g}" for s in sigmas[1:])
            for name, end in ends.items()
        ]
        readings.append(f"{task}, at the end: " + "; ".join(said))
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(sigmas))
    seeds = len(distinct(rows, "seed"))
    return Section(
        "over-training",
        "Slopes and gradients over training",
        "‖A_h‖ is the Frobenius norm of the output's slope in the initial state, a mean over training sequences, taken "
        f"for every network from initial states with noise of σ = {REFERENCE:g}: at h0 = 0, with black first pixels, "
        "units stand on their kinks. ‖∂L/∂W_r‖ is taken with the noise that the network is trained with. RMSprop at a "
        f"constant rate, the best one without noise; means over {seeds} seeds.",
        [
            Picture(
                "over-training",
                "Do the initial state's reach and the recurrent gradient shrink with the noise?",
                figure,
                ". ".join(readings) + ".",
            )
        ],
        values,
    )


def _best_without_noise(rows: Found) -> float:
    """The rate at which the networks without noise end with the least validation loss."""
    quiet = having(rows, sigma=0.0)
    ends = {rate: _array(having(quiet, rate=rate), "validation_loss")[:, -1].mean() for rate in distinct(quiet, "rate")}
    return float(min(ends, key=lambda rate: ends[rate] if np.isfinite(ends[rate]) else np.inf))


def learns(result: Mapping[str, Any]) -> bool:
    """Whether the validation loss ends finite and below `LEARNED` of that of an even guess: dead networks guess too."""
    return bool(float(result["validation_loss"][-1]) < LEARNED * math.log(DIGITS))


def highest_rate(rows: Found) -> float:
    """The highest rate at which all seeds learn; 0 if there is none."""
    rates = [rate for rate in distinct(rows, "rate") if all(learns(row.result) for row in having(rows, rate=rate))]
    return float(max(rates, default=0.0))


def _stability(grid: Found) -> Section:
    tasks, optimizers, sigmas = distinct(grid, "task"), distinct(grid, "optimizer"), sorted(distinct(grid, "sigma"))
    figure = plots.new_figure(11, 3.4 * len(tasks) + 0.3)
    panels = figure.subplots(len(tasks), len(optimizers), squeeze=False)
    values: dict[str, Any] = {}
    readings = []
    for line, task in zip(panels, tasks, strict=True):
        for axes, optimizer in zip(line, optimizers, strict=True):
            rows = having(grid, task=task, optimizer=optimizer)
            rates = sorted(distinct(rows, "rate"))
            cells = [[having(rows, sigma=sigma, rate=rate) for rate in rates] for sigma in sigmas]
            accuracy = np.array([[_array(cell, "validation_accuracy")[:, -1].mean() for cell in row] for row in cells])
            share = np.array([[np.mean([learns(one.result) for one in cell]) for cell in row] for row in cells])
            _cells(axes, accuracy, share, rates, sigmas)
            axes.set(title=f"{task}, {optimizer}", xlabel="learning rate", ylabel="σ of the noise")
            highest = {str(sigma): highest_rate(having(rows, sigma=sigma)) for sigma in sigmas}
            best = {str(sigma): float(row.max()) for sigma, row in zip(sigmas, accuracy, strict=True)}
            values.setdefault(task, {})[optimizer] = {
                "rates": rates,
                "sigmas": sigmas,
                "validation_accuracy": accuracy,
                "share_that_learns": share,
                "highest_rate": highest,
                "best_accuracy": best,
            }
            told = ", ".join(f"{highest[str(s)] or 'none'} {f'at σ = {s:g}' if s else 'without'}" for s in sigmas)
            last = str(sigmas[-1])
            readings.append(
                f"{task}, {optimizer}: all seeds learn up to a rate of {told}; best accuracy {best['0.0']:.2f} without "
                f"noise, {best[last]:.2f} at σ = {last}"
            )
    one = grid[0].configuration
    return Section(
        "stability",
        "Noise, learning rate and optimiser",
        f"{one.hidden} hidden units, {one.steps} steps at a constant rate, no clipping, {len(distinct(grid, 'seed'))} "
        f"seeds. A run has learned if its validation loss ends below {LEARNED:g} times that of an even guess; where "
        "some or all seeds have not, the cell is crossed out.",
        [
            Picture(
                "stability",
                "Which noise and which learning rates does each optimiser stand?",
                figure,
                ". ".join(readings) + ". Numbers: mean validation accuracy at the end.",
            )
        ],
        values,
    )


def _cells(axes: Axes, accuracy: np.ndarray, share: np.ndarray, rates: list[float], sigmas: list[float]) -> None:
    axes.imshow(accuracy, cmap=plots.SEQUENTIAL, vmin=0, vmax=1, aspect="auto", origin="lower")
    for i, j in itertools.product(range(len(sigmas)), range(len(rates))):
        colour = "black" if accuracy[i, j] > 0.6 else "white"
        axes.text(j, i, f"{accuracy[i, j]:.2f}", ha="center", va="center", fontsize=8, color=colour)
        if share[i, j] < 1:
            axes.plot([j - 0.4, j + 0.4], [i - 0.4, i + 0.4], color=plots.COLOURS[1], linewidth=2)
    axes.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
    axes.set_yticks(range(len(sigmas)), [f"{sigma:g}" for sigma in sigmas])


QUANTITIES = {
    "regions": "regions of the test sequences",
    "pieces": "pieces between two of them",
    "neighbours": "nearest code is of the same class",
}


def _partition(opened: Found) -> Section:
    sigmas, times = sorted(distinct(opened, "sigma")), opened[0].result["after"]["times"]
    figure = plots.new_figure(11, 3.8)
    values: dict[str, Any] = {"times": times}
    for axes, (name, label) in zip(figure.subplots(1, len(QUANTITIES)), QUANTITIES.items(), strict=True):
        lines = {"before training": (having(opened, sigma=sigmas[0]), "before", "#888888", ":")}
        lines |= {
            f"trained, {_name(sigma)}": (having(opened, sigma=sigma), "after", plots.COLOURS[i], "-")
            for i, sigma in enumerate(sigmas)
        }
        for line, (rows, when, colour, style) in lines.items():
            found = [Estimate.of([row.result[when][name][t] for row in rows]) for t in range(len(times))]
            errors = 2 * np.nan_to_num([one.stderr for one in found])
            axes.errorbar(
                times, [one.mean for one in found], yerr=errors, color=colour, linestyle=style, marker=".", label=line
            )
            values.setdefault(name, {})[line] = [one._asdict() for one in found]
        axes.set(xlabel="steps read", ylabel=label)
    axes.axhline(1 / DIGITS, color="#bbbbbb", linewidth=0.8)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    told = [
        f"{line}, {row[0]['mean']:.0f} to {row[-1]['mean']:.0f} pieces, and at the end the nearest code is of the same "
        f"class for {values['neighbours'][line][-1]['mean']:.0%}"
        for line, row in values["pieces"].items()
    ]
    cut = sum(row.result[when]["cut"] for row in opened for when in ("before", "after"))
    return Section(
        "partition",
        "The partition through time and training",
        "Sequences share a region up to a step where every unit so far was on the same piece; pieces are counted on "
        "the straight line between two test sequences cut after that step. On the right, for how many test sequences "
        "the nearest other one, by the units on and off at that step alone, is of their class; grey: chance. "
        "Before training, without biases and from an identity, a network that reads one number at a time, never a "
        "negative one, keeps the code of the first that is not zero.",
        [
            Picture(
                "partition",
                "Does the partition grow as the sequence is read, and does training change it?",
                figure,
                f"From step {times[0]} to step {times[-1]}: {'; '.join(told)}. Bars: two standard errors over "
                f"{len(distinct(opened, 'seed'))} seeds.",
            )
        ],
        values,
        [f"{cut} walks hit their cap: there are more pieces than counted"] if cut else [],
    )


def _codes(opened: Found) -> Section:
    drawn = [row for row in opened if "code_map" in row.result["after"]]
    times = drawn[0].result["after"]["times"][1::3]
    maps = {"before training": next(row.result["before"] for row in drawn if "code_map" in row.result["before"])}
    maps |= {f"trained, {_name(row.configuration.sigma)}": row.result["after"] for row in drawn}
    figure = plots.new_figure(3.2 * len(times), 3.25 * len(maps))
    panels = figure.subplots(len(maps), len(times), squeeze=False)
    values: dict[str, Any] = {}
    for line, (name, found) in zip(panels, maps.items(), strict=True):
        values[name] = dict(zip(map(str, times), found["neighbours"][1::3], strict=True))
        classes = np.asarray(found["classes"])
        for axes, t, points in zip(line, times, found["code_map"], strict=True):
            for digit in np.unique(classes):
                chosen = np.asarray(points, float)[classes == digit]
                colour = plots.COLOURS[digit % len(plots.COLOURS)]
                axes.scatter(*chosen.T, s=22, marker=f"${digit}$", color=colour, linewidths=0.2)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"step {t}: neighbours agree in {values[name][str(t)]:.0%}", fontsize=9)
        line[0].set_ylabel(name)
    last = str(times[-1])
    return Section(
        "codes",
        "Codes by class",
        "t-SNE, by Hamming distance, of which units are on at a step, each test sequence as its digit; above, "
        "for how many the nearest other code is of the same class. First seed.",
        [
            Picture(
                "codes",
                "Do the codes gather by class as the sequence is read?",
                figure,
                f"At step {last}: " + ", ".join(f"{row[last]:.0%} {name}" for name, row in values.items()) + ".",
            )
        ],
        values,
    )


TEMPLATE = {
    "right": "all",
    "where_right": "predicted right",
    "where_wrong": "predicted wrong",
}


def _templates(opened: Found) -> Section:
    sigmas = sorted(distinct(opened, "sigma"))
    cases = {"before training": (having(opened, sigma=sigmas[0]), "before")}
    cases |= {f"trained, {_name(sigma)}": (having(opened, sigma=sigma), "after") for sigma in sigmas}
    figure = plots.new_figure(9, 3.6)
    axes = figure.add_subplot()
    values: dict[str, Any] = {}
    for i, (name, (rows, when)) in enumerate(cases.items()):
        found = [row.result[when]["template"] for row in rows]
        values[name] = {
            key: Estimate.of([float(one[key]) for one in found])._asdict() for key in found[0] if key != "error"
        }
        values[name]["largest_error"] = max(float(one["error"]) for one in found)
        bars = [values[name][key] for key in TEMPLATE]
        axes.bar(
            np.arange(len(TEMPLATE)) + 0.27 * (i - 1),
            [bar["mean"] for bar in bars],
            0.25,
            yerr=2 * np.nan_to_num([bar["stderr"] for bar in bars]),
            color=["#bbbbbb", *plots.COLOURS][i],
            label=name,
        )
    axes.axhline(0.1, color="#888888", linewidth=0.8, linestyle="--", label="chance")
    axes.set_xticks(range(len(TEMPLATE)), list(TEMPLATE.values()))
    axes.set(ylabel="right class has the largest\ninner product", ylim=(0, 1.05))
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    last = list(cases)[-1]
    told = {key: one["mean"] for key, one in values[last].items() if key != "largest_error"}
    reading = (
        f"{last}: the right template wins in {told['where_right']:.0%} of the digits predicted right and in "
        f"{told['where_wrong']:.0%} of those predicted wrong; mean margins {told['margin_where_right']:+.2g} and "
        f"{told['margin_where_wrong']:+.2g}. The maps give the outputs to "
        f"{max(one['largest_error'] for one in values.values()):.1g} of the largest."
    )
    shown = next(row for row in opened if row.configuration.sigma == sigmas[-1] and "shown" in row.result["after"])
    return Section(
        "templates",
        "Templates",
        "The slope of a class's output in the input is its template for that input; the output is their inner product "
        "and an offset. Test sequences.",
        [
            Picture("template-wins", "Does the right class's template match best?", figure, reading),
            _shown(shown.result["after"]["shown"], last),
        ],
        values,
    )


def _shown(examples: Sequence[Mapping[str, Any]], name: str) -> Picture:
    inputs = [np.asarray(example["input"], float) for example in examples]
    slopes = [np.asarray(example["slope"], float) for example in examples]
    classes, length = len(slopes[0]), inputs[0].size
    side = round(length**0.5)
    figure = plots.new_figure(1.1 * (classes + 1), 1.7 * len(examples))
    panels = figure.subplots(len(examples), classes + 1, squeeze=False)
    for line, example, xs, slope in zip(panels, examples, inputs, slopes, strict=True):
        plots.templates_beside_input(
            xs,
            slope.reshape(classes, *xs.shape),
            name=f"a {example['label']}",
            said=f"said: {example['said']}",
            image_shape=(side, length // side),
            axes=line,
        )
    told = [
        f"the {example['label']}, of which {example['said']} is said, matches the template of "
        f"{int(np.einsum('ck,k->c', slope, xs.ravel()).argmax())} best"
        for example, xs, slope in zip(examples, inputs, slopes, strict=True)
    ]
    return Picture(
        "templates-shown",
        "What do the templates look like where the network is right, and where it is wrong?",
        figure,
        f"{name}: {'; '.join(told)}. Above each template its inner product with the input, the largest framed.",
    )


STYLES = {
    "none": ("#000000", "_"),
    "noise": (plots.COLOURS[1], "o"),
    "penalty at rest": (plots.COLOURS[0], "s"),
    "penalty near rest": (plots.COLOURS[2], "^"),
}


def _penalty(opened: Found, rows: Found) -> Section:
    sigmas = sorted(set(distinct(rows, "sigma")) - {0.0})
    gaps, gap_readings = _gaps(opened)
    figure = plots.new_figure(11, 3.8)
    panels = figure.subplots(1, 3)
    values: dict[str, Any] = {"cost_of_noise": gaps}
    names = {
        "test_accuracy": "test accuracy",
        "test_loss": "test loss (nats)",
        "initial_slope_norm": "‖A_h‖ at the end",
    }
    for axes, (name, label) in zip(panels, names.items(), strict=True):
        for kind in distinct(rows, "regulariser"):
            colour, marker = STYLES[kind]
            places = [0.0] if kind == "none" else sigmas
            found = [
                Estimate.of(np.atleast_2d(_array(having(rows, regulariser=kind, sigma=sigma), name).T)[-1])
                for sigma in places
            ]
            values.setdefault(name, {})[kind] = {
                str(sigma): one._asdict() for sigma, one in zip(places, found, strict=True)
            }
            if kind == "none":
                axes.axhline(found[0].mean, color=colour, linewidth=1, linestyle="--", label="neither")
                continue
            errors = 2 * np.nan_to_num([one.stderr for one in found])
            axes.errorbar(sigmas, [one.mean for one in found], yerr=errors, color=colour, marker=marker, label=kind)
        axes.set(xscale="log", xlabel="σ", ylabel=label)
        if name != "test_accuracy":
            axes.set_yscale("log")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    told = [
        f"at σ = {sigma:g} noise {values['test_accuracy']['noise'][str(sigma)]['mean']:.3f}, the penalty at rest "
        f"{values['test_accuracy']['penalty at rest'][str(sigma)]['mean']:.3f} and near rest "
        f"{values['test_accuracy']['penalty near rest'][str(sigma)]['mean']:.3f}"
        for sigma in sigmas
    ]
    neither = values["test_accuracy"]["none"]["0.0"]["mean"]
    one = rows[0].configuration
    return Section(
        "penalty",
        "The explicit penalty against the noise",
        "To second order, and while it stays on the piece, noise adds σ²/2 tr(GᵀHG) to the expected loss. Trained on "
        "that penalty instead of noise, at equal σ: on the piece of h0 = 0 (at rest), or of an initial state drawn "
        f"with the noise (near rest). {one.hidden} hidden units, {one.steps} steps, rate {one.rate:g}, "
        f"{len(distinct(rows, 'seed'))} seeds; bars are two standard errors. Below, what noise adds to the loss of "
        "trained networks, medians over seeds: on the initial state, from which black pixels leave units on or next to "
        "their kinks, and on the state in the middle of the sequence. Where noise lowers the loss nothing is drawn.",
        [
            Picture(
                "penalty",
                "Does the explicit penalty do what the noise does?",
                figure,
                f"Test accuracy {neither:.3f} with neither; {'; '.join(told)}.",
            ),
            gap_readings,
        ],
        values,
    )


def _gaps(opened: Found) -> tuple[dict[str, Any], Picture]:
    """What noise costs a trained network, against what the penalty predicts."""
    values: dict[str, Any] = {}
    figure = plots.new_figure(11, 3.8)
    left, right = figure.subplots(1, 2)
    readings = []
    cases = itertools.product(sorted(distinct(opened, "sigma")), ("start", "middle"))
    for (sigma, place), colour in zip(cases, plots.COLOURS, strict=False):
        rows = having(opened, sigma=sigma)
        name = f"{_name(sigma)}, from the {place}"
        told = [row.result["after"]["noise"][place] for row in rows]
        scales = told[0]["scales"]
        measured, predicted, shares = (
            np.array([np.asarray(one[key], float) for one in told]) for key in ("measured", "predicted", "left")
        )
        values[name] = {
            "scales": scales,
            "measured": [Estimate.of(column)._asdict() for column in measured.T],
            "predicted": [Estimate.of(column)._asdict() for column in predicted.T],
            "left": shares.mean(axis=0),
        }
        costs = [np.median(one, axis=0) for one in (measured, predicted)]
        is_start = place == "start"
        marker: dict[str, Any] = {"marker": "s" if is_start else "o", "markersize": 11 if is_start else 5}
        marker["markerfacecolor"] = "none" if is_start else colour
        left.plot(scales, np.where(costs[0] > 0, costs[0], np.nan), color=colour, label=name, **marker)
        left.plot(scales, np.where(costs[1] > 0, costs[1], np.nan), linestyle="--", color=colour)
        right.plot(scales, shares.mean(axis=0), color=colour, **marker)
        readings.append(
            f"{name}: "
            + ", ".join(
                f"{one:.2g} for {other:.2g} predicted at σ = {scale:g}"
                for scale, one, other in zip(scales, *costs, strict=True)
            )
        )
    left.plot([], [], color="#888888", linestyle="--", label="predicted")
    left.set(xscale="log", yscale="log", xlabel="σ of the noise", ylabel="loss added (nats)", ylim=(1e-7, None))
    right.set(xscale="log", xlabel="σ of the noise", ylabel="share of draws that leave the piece", ylim=(-0.02, 1.02))
    left.legend(fontsize=8, title="trained with", title_fontsize=8)
    question = "Does the penalty predict what noise costs a trained network, and does noise stay on its piece?"
    return values, Picture("penalty-predicts", question, figure, "; ".join(readings) + ".")
