"""Coupled oscillators beside LSTM and IRNN: the adding problem, digits pixel by pixel, and in a fixed random order.

Every cell is tried with as many settings: four learning rates, or two with two sizes of the step in time. And what
random oscillators come to, as a share of the bounds on their states, perturbations and gradients.
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
from flax import linen

import maso_rnn
from benchmarks import training
from benchmarks.data.dataset import Dataset
from benchmarks.eigen_init.training import score
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows, distinct, has_diverged, having
from benchmarks.tasks import TASKS
from maso_rnn import initializers, plots
from maso_rnn.report import Picture, Section
from maso_rnn.style import MARKERS

CELLS = ("cornn", "lstm", "irnn")
DAMPING = {"gamma": 2.7, "epsilon": 4.7}  # as recalled of the paper's for pixels
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
TIMES = (0.1, 0.5)


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A network to be trained.

    Attributes:
        task: one of `TASKS`.
        cell: one of `CELLS`.
        rate: of Adam.
        seed: of the start and of the order of the data.
        dt: the time of a step of the oscillators; 0 for the others.
        hidden: units.
        steps: of Adam.
        batch: sequences in a step.
        points: at how many evenly spaced steps the validation set is looked at.
    """

    task: str
    cell: str
    rate: float = 0.0
    seed: int = 0
    dt: float = 0.0
    hidden: int = 32
    steps: int = 600
    batch: int = 16
    points: int = 2


@dataclasses.dataclass(frozen=True)
class Draw:
    """Random oscillators that are not trained.

    Attributes:
        seed: of weights, inputs and targets.
        dt: the time of a step.
        units: oscillators.
        length: of the sequence.
    """

    seed: int
    dt: float = 0.05
    units: int = 8
    length: int = 40


def exceeded(one: Draw) -> dict[str, float]:
    """Shares of the bounds that random oscillators come to, in float64."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(one.seed)
        cell = maso_rnn.cornn(
            jax.random.key(one.seed), 2, one.units, 1, dt=one.dt, gamma=1.0, epsilon=1.0, dtype=jnp.float64
        )
        scale = 10 ** rng.uniform(-1, 0.5)
        cell = dataclasses.replace(cell, params=jax.tree.map(lambda leaf: scale * leaf, cell.params))
        us = jnp.asarray(rng.uniform(-1, 1, (one.length, 2)))
        targets = jnp.asarray(rng.standard_normal((one.length, one.units)))
        largest, states, slope = _gradient(cell, us, targets)
        bounds = maso_rnn.cornn_bounds(cell, one.length, slope=float(slope))
        return {
            "gradient": _short(largest / bounds.gradient),
            "states": _short((states / bounds.states).max()),
            "growth": _short(bounds.growth),
        }


@jax.jit
def _gradient(cell: maso_rnn.Cell, us: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The largest entry of the gradient of half the mean squared error, energies, and errors of the places."""

    def loss(cell: maso_rnn.Cell) -> tuple[jax.Array, Any]:
        def body(carry: Any, u: jax.Array) -> tuple[Any, Any]:
            carry = cell(carry, u)
            return carry, carry

        y, z = jax.lax.scan(body, cell.initial, us)[1]
        return ((y - targets) ** 2).sum() / 2 / len(us), (y, z)

    (_, (y, z)), gradient = jax.value_and_grad(loss, has_aux=True)(cell)
    found = gradient.params
    parts = (found.recurrent_kernel, found.velocity_kernel, found.input_kernel, found.bias)
    largest = jnp.stack([jnp.abs(part).max() for part in parts]).max()
    energies = cell.params.gamma * (y**2).sum(axis=1) + (z**2).sum(axis=1)
    return largest, energies, jnp.linalg.norm(y - targets, axis=1).max()


def _short(number: Any) -> float:
    return float(f"{float(number):.4g}")


def train(group: Sequence[Any], state: Path | None, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Train the networks of a group, or look at random ones."""
    if isinstance(group[0], Draw):
        found = []
        for one in group:
            found.append(exceeded(one))
            advanced(1)
        return found
    one, data = group[0], TASKS[group[0].task]()
    runs = [_run(each, data) for each in group]
    trained = training.train(
        _network(one.cell, one.hidden, one.dt), data, runs, _optimizer,
        steps=one.steps, batch=one.batch, points=one.points, state=state, advanced=advanced,
    )  # fmt: skip
    return [each.result for each in trained]


def step_seconds(group: Sequence[Any]) -> float:
    """The time (s) of one step of a group."""
    one = group[0]
    if isinstance(one, Draw):
        return 0.1
    data = TASKS[one.task]()
    runs = [_run(each, data) for each in group]
    return training.step_seconds(_network(one.cell, one.hidden, one.dt), data, runs, _optimizer, batch=one.batch)


def _optimizer(hyper: training.Hyper) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(hyper["rate"]))


def _run(one: Configuration, data: Dataset) -> training.Run:
    sizes = training.inputs_of(data), one.hidden, training.outputs_of(data)
    return training.Run(_start(one.cell, one.dt, one.seed, *sizes), one.seed, {"rate": one.rate})


@functools.cache
def _network(cell: str, hidden: int, dt: float) -> training.Network:
    if cell != "cornn":
        return training.celled(_module(cell, hidden))
    like = _oscillators(jax.random.key(0), 1, hidden, 1, dt)

    def states(params: Any, xs: jax.Array, carry: Any) -> jax.Array:
        def body(carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
            carry = like.step(params, carry, x)
            return carry, carry[0]

        return jax.lax.scan(body, carry, xs)[1]

    return training.Network(
        lambda params: like.initial, states, lambda params, y: y @ params.readout.kernel + params.readout.bias
    )


def _oscillators(key: jax.Array, inputs: int, hidden: int, outputs: int, dt: float) -> maso_rnn.Cell:
    return maso_rnn.cornn(key, inputs, hidden, outputs, dt=dt, dtype=jnp.float32, **DAMPING)


def _module(cell: str, hidden: int) -> linen.RNNCellBase:
    if cell == "lstm":
        return linen.OptimizedLSTMCell(hidden)
    return linen.SimpleCell(hidden, recurrent_kernel_init=initializers.identity(), activation_fn=linen.relu)


@functools.cache
def _start(cell: str, dt: float, seed: int, inputs: int, hidden: int, outputs: int) -> Any:
    if cell == "cornn":
        return jax.device_get(_oscillators(jax.random.key(seed), inputs, hidden, outputs, dt).params)
    cell_key, readout_key = jax.random.split(jax.random.key(seed))
    module, x = _module(cell, hidden), jnp.zeros(inputs, jnp.float32)
    params = module.init(cell_key, module.initialize_carry(cell_key, x.shape), x)["params"]
    kernel = jax.nn.initializers.lecun_normal()(readout_key, (hidden, outputs), jnp.float32)
    return jax.device_get({"cell": params, "readout": {"kernel": kernel, "bias": jnp.zeros(outputs, jnp.float32)}})


def of(rows: Sequence[Any], kind: type) -> list[Any]:
    """The rows of one kind of configuration."""
    return [row for row in rows if isinstance(row.configuration, kind)]


def metric_of(result: Mapping[str, Any]) -> str:
    """What a network is judged by."""
    return "test_accuracy" if "test_accuracy" in result else "test_loss"


def sections(rows: Rows[Any]) -> list[Section]:
    """Scores by task and cell, and shares of the bounds."""
    tasks = distinct(rows.final, "task")
    figure = plots.new_figure(4 * len(tasks), 3.5)
    said, values = [], {}
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        for i, cell in enumerate(CELLS):
            found = having(rows.final, task=task, cell=cell)
            metric = metric_of(found[0].result)
            scores = np.asarray([np.nan if has_diverged(row.result) else row.result[metric] for row in found], float)
            axes.plot(np.full(len(scores), i), scores, MARKERS[i], color=plots.COLOURS[i])
            values[f"{task}, {cell}"] = [dict(row.result) for row in found]
            said.append(f"{task}, {cell} {np.nanmean(scores):.3g}")
        axes.set_xticks(range(len(CELLS)), CELLS)
        axes.set(title=task, ylabel=metric.replace("_", " "))
    caption = f"Each mark is a seed. Means: {'; '.join(said)}."
    picture = Picture("cornn-scores", "Do oscillators learn better than an LSTM and an IRNN?", figure, caption)
    draws = [row.result for row in of(rows.fixed, Draw)]
    shares = f"Of {len(draws)} random networks the largest share of the bound on gradients is " + (
        f"{max(one['gradient'] for one in draws):.2g}, on states {max(one['states'] for one in draws):.2g}."
    )
    return [
        Section("scores", "Scores", "", [picture], values),
        Section("bounds", "Bounds", shares, [], {"draws": [dict(one) for one in draws]}),
    ]


def _tried(one: Configuration) -> list[Mapping[str, float]]:
    if one.cell == "cornn":
        return [{"rate": rate, "dt": dt} for dt in TIMES for rate in RATES[1:3]]
    return [{"rate": rate} for rate in RATES]


def _size(tasks: Sequence[str], draws: int, seeds: int, extensions: int = 2, **settings: int) -> Size[Any]:
    contenders = [Configuration(task, cell, **settings) for task in tasks for cell in CELLS]
    return Size(
        contenders, rates=_tried, seeds=seeds, fixed=[Draw(seed) for seed in range(draws)], extensions=extensions
    )


EXPERIMENT = Experiment(
    name="cornn",
    question="Do coupled oscillators learn better than an LSTM and an IRNN?",
    introduction=lambda size, rows: (
        f"{len(CELLS)} cells on {len(distinct(rows.final, 'task'))} tasks, all of them tried with as many settings."
    ),
    sizes={
        "smoke": lambda: _size(["adding-8"], 1, 1, 0, hidden=8, steps=20),
        "small": lambda: _size(["adding-20", "digits-by-pixel", "digits-permuted"], 20, 5),
        "paper": lambda: _size(
            ["adding-200", "mnist-by-pixel", "mnist-permuted"], 200, 5, hidden=128, steps=50_000, batch=128
        ),
    },
    train=train,
    sections=sections,
    together=lambda one: dataclasses.replace(one, seed=0, **({} if isinstance(one, Draw) else {"rate": 0.0})),
    steps=lambda one: getattr(one, "steps", 1),
    step_seconds=step_seconds,
    shape=lambda one: (type(one).__name__, getattr(one, "task", ""), getattr(one, "cell", "")),
    score=score,
)
