"""Path-SGD with the whole metric of shared weights against its first term alone.

Neyshabur et al. (2016) leave out κ², what the products of two uses of one recurrent weight add to the metric, and claim
that κ¹ alone suffices in practice: here both are trained, from starts near the identity, where κ² is large, and from
orthogonal ones.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import maso_rnn
import path_opt
from benchmarks import training
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows
from benchmarks.tasks import TASKS
from maso_rnn import RNN, plots
from maso_rnn.report import Picture, Section

STARTS = {"orthogonal": jax.nn.initializers.orthogonal(), "near identity": maso_rnn.initializers.identity(0.9)}
METRICS = {"κ¹": False, "κ¹ + κ²": True}


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A network trained by Path-SGD.

    Attributes:
        task: one of `TASKS`.
        start: of the recurrent kernel, one of `STARTS`.
        metric: one of `METRICS`.
        rate: the learning rate.
        seed: of the start and of the order of the data.
        hidden: units.
        steps: of the optimiser.
        batch: sequences in a step.
        points: at how many evenly spaced steps the validation loss is taken.
    """

    task: str
    start: str
    metric: str
    rate: float = 0.0
    seed: int = 0
    hidden: int = 24
    steps: int = 400
    batch: int = 32
    points: int = 4


def train(group: Sequence[Configuration], state: Path | None, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Train configurations that differ in rate and seed."""
    one, data = group[0], TASKS[group[0].task]()
    inputs, outputs = training.inputs_of(data), training.outputs_of(data)
    runs = [
        training.Run(_start(each.start, each.seed, each.hidden, inputs, outputs), each.seed, {"rate": each.rate})
        for each in group
    ]
    graph = path_opt.reduction_graph(runs[0].start)
    found = training.train(
        training.layered(),
        data,
        runs,
        _optimizer(graph, data.train.inputs.shape[1], METRICS[one.metric]),
        steps=one.steps,
        batch=one.batch,
        points=one.points,
        state=state,
        advanced=advanced,
    )
    return [trained.result for trained in found]


@functools.cache
def _start(start: str, seed: int, hidden: int, inputs: int, outputs: int) -> RNN:
    rnn: RNN = jax.device_get(
        maso_rnn.init(jax.random.key(seed), inputs, [hidden], outputs, recurrent_init=STARTS[start], dtype=jnp.float32)
    )
    return rnn


def _optimizer(graph: path_opt.ReductionGraph, time: int, second_order: bool) -> training.Optimizer:
    def optimizer(hyper: training.Hyper) -> optax.GradientTransformation:
        return path_opt.path_sgd(hyper["rate"], graph=graph, num_steps=time, second_order=second_order)

    return optimizer


def sections(rows: Rows[Configuration]) -> list[Section]:
    """Test losses with and without the second term."""
    settings = list(dict.fromkeys((row.configuration.task, row.configuration.start) for row in rows.final))
    losses = {
        metric: {
            setting: [
                float(row.result["test_loss"])
                for row in rows.final
                if (row.configuration.task, row.configuration.start, row.configuration.metric) == (*setting, metric)
            ]
            for setting in settings
        }
        for metric in METRICS
    }
    figure = plots.new_figure(9, 3.6)
    axes = figure.subplots()
    for shift, colour, (metric, found) in zip((-0.1, 0.1), plots.COLOURS, losses.items(), strict=False):
        places = np.repeat(np.arange(len(settings)), [len(seeds) for seeds in found.values()])
        axes.plot(places + shift, np.concatenate(list(found.values())), "o", color=colour, label=metric, alpha=0.6)
    axes.set_xticks(range(len(settings)), [f"{task},\n{start} start" for task, start in settings])
    axes.set(ylabel="test loss", yscale="log")
    axes.legend(frameon=False)
    said = ", ".join(
        f"{', '.join(setting)} {np.mean(losses['κ¹'][setting]):.3g} and {np.mean(losses['κ¹ + κ²'][setting]):.3g}"
        for setting in settings
    )
    picture = Picture(
        "path-metric",
        "Does Path-SGD lose anything by leaving out the second term of its metric?",
        figure,
        f"Mean test loss with κ¹ alone and with both: {said}.",
    )
    values = {
        metric: {", ".join(setting): seeds for setting, seeds in found.items()} for metric, found in losses.items()
    }
    return [Section("metric", "One term or two", "Each point is one seed, at the rate chosen.", [picture], values)]


def _size(
    tasks: Sequence[str], seeds: int, rates: Sequence[float], extensions: int = 6, **settings: int
) -> Size[Configuration]:
    contenders = [
        Configuration(task, start, metric, **settings) for task in tasks for start in STARTS for metric in METRICS
    ]
    return Size(contenders, rates=lambda one: rates, seeds=seeds, extensions=extensions)


RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

EXPERIMENT = Experiment(
    name="path-metric",
    question="Does the first term of Path-SGD's metric suffice?",
    introduction=lambda size, rows: f"{len(rows.final)} networks trained, each at the best of its learning rates.",
    sizes={
        "smoke": lambda: _size(["adding-16"], 2, RATES[:2], 0, hidden=4, steps=8, batch=4),
        "small": lambda: _size(["adding-16", "digits-by-row"], 5, RATES),
        "paper": lambda: _size(["adding-100", "mnist-by-row"], 5, RATES, hidden=100, steps=20_000),
    },
    train=train,
    sections=sections,
    together=lambda one: dataclasses.replace(one, rate=0.0, seed=0),
    steps=lambda one: one.steps,
)
