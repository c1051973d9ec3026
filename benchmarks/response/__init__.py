"""The response of a stochastic RNN: its kernels, what they predict, and what can be learned from it.

Data: ACSF1 (power drawn by household appliances), JapaneseVowels, BasicMotions and ItalyPowerDemand, out of the aeon
wheel (`benchmarks.data.aeon`); at size smoke they are generated. The claims of Lim (2021) that its parts answer:

    kernels          (a) the output is a Volterra series, (c) truncation improves with order for small inputs
    correlations     (b) kernels are correlation functions of the unperturbed dynamics
    regression       (d) the response feature is universal
    readout          (e) SRNNs with a trained readout are kernel machines
    gram             (f) the representer form, with the Gram matrix of products of exponentials
    classification   what all this is worth on data
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.experiment import Experiment, Size
from benchmarks.response import classification, correlations, functionals, kernels, machines
from benchmarks.response.classification import Classification
from benchmarks.response.correlations import Correlations
from benchmarks.response.functionals import FUNCTIONALS, Regression
from benchmarks.response.kernels import Kernels
from benchmarks.response.machines import Gram, Readout
from benchmarks.rows import Row, Rows
from maso_rnn.report import Picture, Section
from srnn import plots

Configuration: TypeAlias = Kernels | Correlations | Regression | Readout | Gram | Classification

MEASURES: dict[type, Callable[[Any], dict[str, Any]]] = {
    Kernels: kernels.measured,
    Correlations: correlations.measure,
    Regression: functionals.measure,
    Readout: machines.measure_readout,
    Gram: machines.measure_gram,
    Classification: classification.measure,
}
CLASSIFIED = ("JapaneseVowels", "BasicMotions", "ItalyPowerDemand", "bumps")


def train(group: Sequence[Configuration], state: Path, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Measure the configurations of a group; nothing runs long enough to be saved half done."""
    del state
    found = []
    for one in group:
        found.append(_short(MEASURES[type(one)](one)))
        advanced(1)
    return found


def _short(value: Any) -> Any:
    """Numbers to six digits."""
    if isinstance(value, dict):
        return {name: _short(item) for name, item in value.items()}
    if isinstance(value, bool | int):
        return value
    if np.ndim(value):
        return [_short(item) for item in value]
    return float(f"{float(value):.6g}")


def of(rows: Rows[Configuration], kind: type) -> list[Row[Any]]:
    """The rows of one part."""
    return [row for row in rows.fixed if isinstance(row.configuration, kind)]


def mean(values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error over the first axis."""
    array = np.asarray(values, float)
    return array.mean(axis=0), array.std(axis=0, ddof=1) / np.sqrt(len(array)) if len(array) > 1 else 0 * array[0]


def sections(rows: Rows[Configuration]) -> list[Section]:
    """A section a part."""
    return [_response(rows), _correlations(rows), _learning(rows), _machines(rows), _classification(rows)]


def _response(rows: Rows[Configuration]) -> Section:
    first, *_ = found = of(rows, Kernels)
    one, shown = first.configuration, kernels.restored(first.result)
    slopes, stderr = mean([row.result["slopes"] for row in found])
    said = ", ".join(f"{a:.2f} ± {b:.2f}" for a, b in zip(slopes, stderr, strict=True))
    return Section(
        "response",
        "Response to a real signal",
        f"The signal is a series of {one.signal} of {one.steps} steps; the network has {one.hidden} units, and "
        f"expectations are over {one.paths} paths. Prediction and simulation have the same noise, so that their "
        f"difference is what the series leaves out. Shown is one network of {len(found)}; over all, errors of orders 1 "
        f"to {one.orders} grow with the amplitude to the power {said}.",
        kernels.pictures(one.amplitudes, shown, prefix="response"),
        {str(row.configuration.seed): dict(row.result) for row in found},
        [warning for row in found for warning in kernels.warnings(kernels.restored(row.result))],
    )


def _correlations(rows: Rows[Configuration]) -> Section:
    found = of(rows, Correlations)
    names = list(found[0].result["differences"])
    values, stderr = mean([[row.result["differences"][name] for name in names] for row in found])
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    labels = {"second order": "second order, adjoint, malliavin", "score": "the paper's correlation, closed form"}
    plots.compared(
        {labels.get(name, name): value for name, value in zip(names, values, strict=True)},
        stderr={labels.get(name, name): value for name, value in zip(names, stderr, strict=True)},
        label="mean squared difference, standard errors²",
        axes=left,
    )
    left.axvline(1, color="#444444", linestyle="--", linewidth=1)
    variances = {
        str(name): float(np.mean([row.result["variances"][name] for row in found])) for name in correlations.METHODS
    }
    plots.compared(variances, label="variance of one path", log=True, axes=right)
    signal = float(np.mean([row.result["signal"] for row in found]))
    ratio = variances["malliavin"] / variances["adjoint"]
    picture = Picture(
        "response-correlations",
        "Are response kernels correlations of the undriven network, and which estimate of them is the least noisy?",
        figure,
        f"Estimates differ by {values.min():.2f} to {values.max():.2f} standard errors squared, where chance alone "
        f"gives 1 and a kernel of zero would give {signal:.0f}; a correlation has {ratio:.0f} times the variance of "
        "the adjoint.",
    )
    return Section(
        "correlations",
        "Kernels as correlations",
        f"Kernels of {len(found)} undriven networks, estimated with separate noise from "
        f"{found[0].configuration.paths} paths each. The adjoint needs one pass back, the tangent one forward for each "
        "impulse; a correlation needs neither.",
        [picture],
        {str(row.configuration.seed): dict(row.result) for row in found},
    )


def _learning(rows: Rows[Configuration]) -> Section:
    found = of(rows, Regression)
    tasks = [name for name in FUNCTIONALS if any(row.configuration.functional == name for row in found)]
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    said, values = [], {}
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks), sharey=True)), tasks, strict=True):
        results = [row.result for row in found if row.configuration.functional == task]
        depths = next(row.configuration.depths for row in found)
        errors, stderr = mean([[result[f"depth {depth}"] for depth in depths] for result in results])
        axes.errorbar(depths, errors, 2 * stderr, fmt="o-", color=plots.COLOURS[0], label="response feature")
        for colour, name in zip(plots.COLOURS[1:], ("reservoir", "raw"), strict=False):
            other = float(np.mean([result[name] for result in results]))
            axes.axhline(other, color=colour, linestyle="--", label=name)
        _logarithmic(axes)
        axes.set_title(task)
        axes.set_xlabel("depth of the signature")
        axes.set_xticks(depths)
        values[task] = results
        best = float(np.mean([result["reservoir"] for result in results]))
        said.append(f"{task} {errors[0]:.2g} → {errors[-1]:.2g} (reservoir {best:.2g})")
    figure.axes[0].set_ylabel("squared error on the test set,\nshare of the variance")
    figure.axes[0].legend(frameon=False)
    picture = Picture(
        "response-learning",
        "Does a deeper response feature learn any functional, and better than a reservoir of the same size?",
        figure,
        f"Test error from depth {depths[0]} to {depths[-1]}: {'; '.join(said)}.",
    )
    return Section(
        "learning",
        "Known functionals",
        f"Ridge regression on {found[0].configuration.sequences} random waves; benchmarks/response/functionals.py has "
        "what is learned.",
        [picture],
        values,
    )


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def _machines(rows: Rows[Configuration]) -> Section:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    said, values = [], {}
    for axes, kind, xs, label, title in zip(
        figure.subplots(1, 2),
        (Readout, Gram),
        ("paths", "refinements"),
        ("paths for each sequence", "parts of each step"),
        ("trained readout against kernel machine", "explicit features against Gram matrix"),
        strict=True,
    ):
        found = of(rows, kind)
        points = np.asarray(getattr(found[0].configuration, xs))
        for row in found:
            axes.plot(points, row.result["differences"], "o-", color=plots.COLOURS[0], alpha=0.4, markersize=3)
        slope, stderr = mean([row.result["slope"] for row in found])
        theory = -0.5 if kind is Readout else -1.0
        start = float(np.mean([row.result["differences"][0] for row in found]))
        axes.plot(points, start * (points / points[0]) ** theory, "--", color="#444444", label=f"slope {theory:g}")
        axes.set_xscale("log", base=2)
        _logarithmic(axes)
        axes.set_xlabel(label)
        axes.set_ylabel("relative difference of predictions")
        axes.set_title(title)
        axes.legend(frameon=False)
        last = float(np.mean([row.result["differences"][-1] for row in found]))
        said.append(f"{title}: slope {slope:.2f} ± {stderr:.2f}, {last:.2g} at the last")
        values[kind.__name__.lower()] = [dict(row.result) for row in found]
    picture = Picture(
        "response-machines",
        "Is a network of which only the readout is trained a kernel machine, with the Gram matrix of the paper?",
        figure,
        f"{'; '.join(said)}.",
    )
    return Section(
        "machines",
        "Kernel machines",
        "Left, ridge regression on simulated mean states against the representer form with the kernel that response "
        "kernels of the undriven network make. Right, ridge regression on explicit signatures against the Gram matrix.",
        [picture],
        values,
    )


def _classification(rows: Rows[Configuration]) -> Section:
    found = of(rows, Classification)
    tasks = list(dict.fromkeys(row.configuration.task for row in found))
    rows_of_axes = -(-len(tasks) // 2)
    figure = Figure(figsize=(11, 2.9 * rows_of_axes), layout="constrained")
    every = figure.subplots(rows_of_axes, min(len(tasks), 2), squeeze=False).ravel()
    said = []
    for axes, task in zip(every, tasks, strict=False):
        results = [row.result for row in found if row.configuration.task == task]
        accuracy, stderr = mean([list(result.values()) for result in results])
        names = list(results[0])
        plots.compared(
            dict(zip(names, map(float, accuracy), strict=True)),
            stderr=dict(zip(names, map(float, stderr), strict=True)),
            label="test accuracy, ± 2 standard errors",
            axes=axes,
        )
        axes.set_title(task)
        best = int(accuracy.argmax())
        said.append(f"{task} {names[best]}, {accuracy[best]:.3f} ± {stderr[best]:.3f}")
    picture = Picture(
        "response-classification",
        "Does the response of stochastic RNNs tell sequences apart as well as others' signatures and reservoirs do?",
        figure,
        f"Best of {'; of '.join(said)}.",
    )
    return Section(
        "classification",
        "Classification without training a network",
        "Kernel ridge regression on the response's Gram matrix, ridge regression on features, beside signatures by "
        "pysiglib and a reservoir by reservoirpy: each a scikit-learn pipeline, with penalty and scale of the input "
        f"chosen by the same cross-validation of the training sequences in {classification.FOLDS} parts, cut anew for "
        "each seed.",
        [picture],
        {f"{row.configuration.task}, {row.configuration.seed}": dict(row.result) for row in found},
    )


def _sized(seeds: int, *parts: Configuration) -> Size[Configuration]:
    return Size(fixed=[dataclasses.replace(part, seed=seed) for part in parts for seed in range(seeds)])


def _smoke() -> Size[Configuration]:
    return _sized(
        1,
        Kernels(0, "waves", hidden=3, steps=8, paths=20, orders=2, amplitudes=(0.125, 0.25, 0.5, 1.0)),
        Correlations(0, paths=200, hidden=3, steps=8),
        Regression(0, "product", depths=(1, 2), order=1, sequences=60, steps=8),
        Readout(0, paths=(16, 64, 256), hidden=2, sequences=60, steps=6, kernel_paths=2048, order=2),
        Gram(0, refinements=(1, 2), sequences=6, depth=2),
        Classification(0, "bumps", scales=(1.0,)),
    )


def _full(seeds: int, **larger: int) -> Size[Configuration]:
    paths = larger.get("paths", 1)
    return _sized(
        seeds,
        Kernels(0, "ACSF1", paths=1000 * paths),
        Correlations(0, paths=20_000 * paths),
        *(Regression(0, functional) for functional in FUNCTIONALS),
        Readout(0),
        Gram(0),
        *(Classification(0, task) for task in CLASSIFIED),
    )


EXPERIMENT = Experiment(
    name="response",
    question="How does a stochastic RNN respond?",
    introduction=lambda size, rows: (
        "Random tanh RNNs in continuous time, with noise, and nothing of them trained but a readout: how they answer a "
        "signal is predicted from the undriven network, functionals are learned from what they make of sequences, and "
        "sequences are classified." + (" At this size it only shows that all of it runs." if size == "smoke" else "")
    ),
    sizes={"smoke": _smoke, "small": lambda: _full(5), "paper": lambda: _full(10, paths=10)},
    train=train,
    sections=sections,
    together=lambda one: one,
)
