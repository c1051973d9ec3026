"""The response of a stochastic RNN to a real signal, and classification by it.

Data: ACSF1 (power drawn by household appliances) and JapaneseVowels, out of the aeon wheel; see `benchmarks.data.aeon`.
"""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from benchmarks.data.aeon import aeon
from benchmarks.data.dataset import Dataset
from benchmarks.response import classification, kernels, methods
from maso_rnn import report
from maso_rnn.report import Picture, Section
from srnn import plots

SEED = 0


def run(size: str, output: Path) -> None:
    """Measure, draw, and write the report into `output`.

    Args:
        size: "smoke".
        output: the folder of the report; an earlier report there is replaced.

    Raises:
        FileNotFoundError: if the data are not there; it says what to run.
        FileExistsError: if `output` holds files that are not a report's.
        ValueError: if there is no such size.
    """
    if size != "smoke":
        raise ValueError(f'size must be "smoke", got {size!r}')
    report.refuse_foreign(output)
    appliances, vowels = aeon("ACSF1"), aeon("JapaneseVowels_eq")
    facts = {
        "configuration": {"size": size, "data": [appliances.name, vowels.name]},
        "seed": SEED,
        "data": f"{appliances.source}; {vowels.source}; {vowels.licence}",
        "versions": {name: version(name) for name in ("rnn-geometry", "jax", "jaxlib", "diffrax", "scikit-learn")}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {jax.devices()[0].platform}",
    }
    signal = downsampled(appliances.test.inputs[0], 64)
    sections = [response(signal, appliances.name), vowel_classes(vowels)]
    report.write(
        output,
        "How does a stochastic RNN respond?",
        "A random tanh RNN in continuous time, with noise, is driven by the power that an appliance draws; its "
        "response is predicted from the undriven network. Then sequences are classified by what such networks make of "
        "them.",
        sections,
        facts,
    )
    print(output / "report.html")


def downsampled(series: np.ndarray, steps: int) -> np.ndarray:
    """Means over equal stretches of a series (time, channel), brought to mean 0 and variance 1."""
    stretch = max(1, len(series) // steps)
    cut = series[: len(series) // stretch * stretch].reshape(-1, stretch, series.shape[1]).mean(axis=1)[:steps]
    return (cut - cut.mean(axis=0)) / np.maximum(cut.std(axis=0), 1e-12)


def response(signal: np.ndarray, name: str) -> Section:
    """Kernels, series against simulation, and the methods against each other."""
    model_key, noise_key, method_key = jax.random.split(jax.random.key(SEED), 3)
    setting = kernels.Setting(
        model=kernels.tanh_srnn(model_key, inputs=signal.shape[1], hidden=16),
        control=jnp.asarray(signal, float),
        dt=0.1,
        paths=1000,
        orders=3,
        amplitudes=(0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    )
    found = kernels.measure(setting, noise_key)
    table = methods.compare(setting, method_key, paths=4000, steps=8, repeats=3)
    figure = Figure(figsize=(11, 3), layout="constrained")
    for axes, (quantity, label) in zip(
        figure.subplots(1, 3, sharey=True),
        [
            ("variance", "variance of one path"),
            ("bias", "difference from the reference\n(root mean square, standard errors)"),
            ("cpu_microseconds_per_path", "CPU time, µs per path"),
        ],
        strict=True,
    ):
        chosen = {method: row[quantity] for method, row in table.items()}
        plots.compared(chosen, label=label, log=quantity == "variance", axes=axes)
    cost = {method: row["variance"] * row["cpu_microseconds_per_path"] for method, row in table.items()}
    best = min(cost, key=cost.__getitem__)
    ranked = sorted(cost, key=cost.__getitem__)
    dear = ", ".join(f"{method} {cost[method] / cost[best]:.3g} times" for method in ranked[1:])
    off = [method for method, row in table.items() if row["bias"] > 2]
    bias = f"Off the reference: {', '.join(off)}" if off else "None is further from the reference than chance takes it"
    picture = Picture(
        "response-methods",
        "Which method gives a kernel of a given precision in the least time?",
        figure,
        f"Variance times time, the cost of a given precision, is least for {best}; {dear} as much. {bias}.",
    )
    return Section(
        "response",
        "Response to a real signal",
        f"The signal is one series of {name}, cut to {len(signal)} means over equal stretches; the network has "
        f"{len(setting.model.bias)} units, and expectations are over {setting.paths} paths. Prediction and simulation "
        "have the same noise, so that their difference is what the series leaves out.",
        [*kernels.pictures(setting, found, prefix="response"), picture],
        kernels.values(setting, found) | {"methods": table},
        kernels.warnings(found),
    )


def vowel_classes(data: Dataset) -> Section:
    """Four ways to tell speakers by their vowels."""
    table = classification.accuracies(data, seed=SEED, reservoirs=2)
    figure = Figure(figsize=(8, 3), layout="constrained")
    values = {name: row["accuracy"] for name, row in table.items()}
    errors = {name: row["stderr"] for name, row in table.items()}
    plots.compared(values, stderr=errors, label="test accuracy, ± 2 standard errors", axes=figure.subplots())
    best = max(values, key=values.__getitem__)
    near = [n for n in values if n != best and values[best] - values[n] < 2 * np.hypot(errors[best], errors[n])]
    alike = f"; within two standard errors of it: {', '.join(near)}" if near else ", clear of the rest"
    return Section(
        "classification",
        "Classification without training a network",
        f"{data.name}: {len(data.train.inputs)} sequences to fit a ridge regression on, {len(data.validation.inputs)} "
        f"to choose penalty and input scale on, {len(data.test.inputs)} to test on. The reservoir is a random SRNN, "
        "mean of two.",
        [
            Picture(
                "response-classification",
                "Does the response of stochastic RNNs tell sequences apart as well as a signature or a reservoir?",
                figure,
                f"Best is {best} with {values[best]:.3f} ± {errors[best]:.3f}{alike}.",
            )
        ],
        {"accuracy": table},
    )
