"""Lyapunov spectra as predictors: can one tell from them, before or during training, how good a network will be?

Tanh networks with drawn hyperparameters, the gain of the recurrent kernel and the learning rate, are trained on digits
by rows. The test accuracy at the end is predicted from the spectrum, by ridge regression and by a kernel one, and from
the spectral radius and the validation loss at the same time. R² is of networks that the regression has not seen.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import maso_rnn
from benchmarks import training
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Row, Rows, distinct, having
from benchmarks.tasks import TASKS
from maso_rnn import plots
from maso_rnn.report import Picture, Section
from maso_rnn.style import MARKERS

COUNT = 8  # exponents
FOLDS, SHUFFLES = 5, 4
LOWEST = -20.0  # an exponent of minus infinity, or of a network that diverged
WHEN = {"before training": 0, "after a tenth": 1}
PREDICTORS = ("spectrum", "spectral radius", "validation loss")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A network whose hyperparameters are drawn.

    Attributes:
        draw: one of a set of networks.
        seed: which set: R² is of each by itself.
        task: one of `TASKS`.
        units: hidden units.
        steps: of Adam.
        batch: sequences in a step.
    """

    draw: int
    seed: int
    task: str = "digits-by-row"
    units: int = 16
    steps: int = 600
    batch: int = 16


def hyper(one: Configuration) -> tuple[float, float]:
    """The gain of the recurrent kernel and the learning rate, evenly drawn in their logarithms."""
    rng = np.random.default_rng([one.seed, one.draw])
    return float(np.exp(rng.uniform(np.log(0.3), np.log(3)))), float(np.exp(rng.uniform(np.log(1e-4), np.log(3e-2))))


def train(group: Sequence[Configuration], state: Path | None, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Train networks, all in one program, with their exponents at ten points."""
    first, data = group[0], TASKS[group[0].task]()
    starts = [_start(one, training.inputs_of(data), training.outputs_of(data)) for one in group]
    runs = [
        training.Run(start, 1000 * one.seed + one.draw, {"rate": hyper(one)[1]})
        for one, start in zip(group, starts, strict=True)
    ]
    trained = training.train(
        training.layered(), data, runs, _optimizer, steps=first.steps, batch=first.batch, points=10,
        measure=_measure(first.task), state=state, advanced=advanced,
    )  # fmt: skip
    found = []
    for one, start, each in zip(group, starts, trained, strict=True):
        kernel = np.asarray(start.layers[0].recurrent_kernel, float)
        result = {name: each.result[name] for name in ("test_accuracy", "test_loss")}
        points = [*WHEN.values(), len(each.result["steps"]) - 1]
        result |= {name: [each.result[name][at] for at in points] for name in ("validation_loss", "spectrum")}
        radius = float(f"{np.abs(np.linalg.eigvals(kernel)).max():.4g}")
        found.append(result | {"radius": radius, "gain": hyper(one)[0], "rate": hyper(one)[1]})
    return found


def _start(one: Configuration, inputs: int, outputs: int) -> maso_rnn.RNN:
    scaled = jax.nn.initializers.normal(hyper(one)[0] / one.units**0.5)
    key = jax.random.key(1000 * one.seed + one.draw)
    found: maso_rnn.RNN = jax.device_get(
        maso_rnn.init(key, inputs, [one.units], outputs, activation="tanh", recurrent_init=scaled, dtype=jnp.float32)
    )
    return found


def _optimizer(hyper: training.Hyper) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(hyper["rate"]))


@functools.cache
def _measure(task: str) -> Callable[[Any], Mapping[str, jax.Array]]:
    xs = jnp.concatenate(list(jnp.asarray(TASKS[task]().validation.inputs[:16])))

    def measure(rnn: Any) -> Mapping[str, jax.Array]:
        def step(state: Any, x: jax.Array) -> Any:
            return maso_rnn.network.step(rnn, state, x)[0]

        return {"spectrum": maso_rnn.lyapunov_exponents(step, maso_rnn.initial_state(rnn), xs, count=COUNT).exponents}

    return measure


def features(row: Row[Any], predictor: str, at: int) -> np.ndarray:
    """What the accuracy is predicted from."""
    if predictor == "spectrum":
        values = np.asarray(row.result["spectrum"][at], float)
    else:
        values = np.atleast_1d(
            row.result["radius"] if predictor == "spectral radius" else row.result["validation_loss"][at]
        )
    return np.maximum(np.nan_to_num(np.asarray(values, float), nan=LOWEST, neginf=LOWEST), LOWEST)


def r_squared(xs: np.ndarray, y: np.ndarray, *, linear: bool) -> float:
    """The share of variance explained in networks that were not fitted, over folds of several shuffles.

    Both are ridge regressions: on the standardised features, or on their Gaussian kernel with the median distance.
    """
    rng = np.random.default_rng(0)
    scores = []
    for _ in range(SHUFFLES):
        order, predicted = rng.permutation(len(y)), np.zeros(len(y))
        for fold in np.array_split(order, FOLDS):
            kept = np.setdiff1d(order, fold)
            mean, spread = xs[kept].mean(axis=0), xs[kept].std(axis=0) + 1e-12
            fit, test = (xs[kept] - mean) / spread, (xs[fold] - mean) / spread
            gram, cross = _grams(fit, test, linear=linear)
            level = y[kept].mean()
            predicted[fold] = level + cross @ np.linalg.solve(gram + 0.1 * np.eye(len(kept)), y[kept] - level)
        scores.append(1 - ((y - predicted) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return float(np.mean(scores))


def _grams(fit: np.ndarray, test: np.ndarray, *, linear: bool) -> tuple[np.ndarray, np.ndarray]:
    if linear:
        return fit @ fit.T, test @ fit.T
    apart = ((fit[:, None] - fit) ** 2).sum(axis=2)
    width = np.median(apart[apart > 0]) if (apart > 0).any() else 1.0
    return np.exp(-apart / width), np.exp(-((test[:, None] - fit) ** 2).sum(axis=2) / width)


def explained(rows: Sequence[Row[Any]], predictor: str, at: int, *, linear: bool, shuffled: bool = False) -> float:
    """R² of the final accuracy in one set of networks; shuffled, of features of other networks."""
    xs = np.stack([features(row, predictor, at) for row in rows])
    y = np.asarray([float(row.result["test_accuracy"]) for row in rows])
    return r_squared(np.random.default_rng(1).permutation(xs) if shuffled else xs, y, linear=linear)


def sections(rows: Rows[Configuration]) -> list[Section]:
    """R² by predictor and time, and accuracy against the first exponent."""
    figure = plots.new_figure(10, 3.5)
    left, right = figure.subplots(1, 2)
    said, values = [], {}
    sets = [having(rows.fixed, seed=seed) for seed in distinct(rows.fixed, "seed")]
    for i, (predictor, linear) in enumerate([(p, kind) for p in PREDICTORS for kind in (True, False)]):
        name = f"{predictor}, {'linear' if linear else 'kernel'}"
        for when, at in WHEN.items():
            scores = np.asarray([explained(one, predictor, at, linear=linear) for one in sets])
            error = scores.std(ddof=1) / len(scores) ** 0.5 if len(scores) > 1 else np.nan
            left.errorbar(at + 0.06 * (i - 2.5), scores.mean(), yerr=error, fmt=MARKERS[i], color=plots.COLOURS[i],
                          label=name if at == 0 else None)  # fmt: skip
            values[f"{name}, {when}"] = scores.tolist()
            said.append(f"{name}, {when} {scores.mean():.2f} ± {error:.2f}")
    left.set(ylabel="R² of unseen networks", xticks=list(WHEN.values()), xticklabels=list(WHEN))
    left.legend(fontsize=7)
    largest = [features(row, "spectrum", 0)[0] for row in rows.fixed]
    right.plot(largest, [row.result["test_accuracy"] for row in rows.fixed], ".", color=plots.COLOURS[0])
    right.set(xlabel="largest exponent before training (per step)", ylabel="test accuracy at the end")
    picture = Picture("lyapunov", "Does the spectrum tell how good a network will be?", figure, "; ".join(said) + ".")
    return [Section("lyapunov", "Predictions of the final accuracy", "", [picture], values)]


def _size(draws: int, seeds: int, **settings: Any) -> Size[Configuration]:
    return Size(fixed=[Configuration(draw, seed, **settings) for seed in range(seeds) for draw in range(draws)])


EXPERIMENT = Experiment(
    name="lyapunov",
    question="Do Lyapunov spectra predict how good a network will be?",
    introduction=lambda size, rows: f"{len(rows.fixed)} networks, in {len(distinct(rows.fixed, 'seed'))} sets.",
    sizes={
        "smoke": lambda: _size(6, 1, units=8, steps=20),
        "small": lambda: _size(60, 5),
        "paper": lambda: _size(300, 5, units=128, steps=20_000),
    },
    train=train,
    sections=sections,
    together=lambda one: dataclasses.replace(one, draw=0),
    steps=lambda one: one.steps,
)
