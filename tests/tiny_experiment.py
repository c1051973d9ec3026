"""An experiment of seconds, run as `python -m tests.tiny_experiment FOLDER` so that it can be killed."""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np
import optax

import maso_rnn
from benchmarks import experiment, training
from benchmarks.data.adding import adding
from maso_rnn import plots
from maso_rnn.report import Picture, Section


@dataclasses.dataclass(frozen=True)
class Configuration:
    method: str
    rate: float = 0.0
    seed: int = 0
    steps: int = 40


METHODS = {"sgd": optax.sgd, "adam": optax.adam}


def adam(hyper):
    return optax.adam(hyper["rate"])


def sgd(hyper):
    return optax.sgd(hyper["rate"])


def start(seed):
    rnn = maso_rnn.init(jax.random.key(seed), 2, [4], 1, dtype=np.float32)
    return jax.device_get(rnn)


def train(group, state, advanced):
    runs = [training.Run(start(one.seed), one.seed, {"rate": one.rate, "sigma": 0.1}) for one in group]
    trained = training.train(
        training.layered(),
        adding(5, examples=32),
        runs,
        {"sgd": sgd, "adam": adam}[group[0].method],
        steps=group[0].steps,
        batch=4,
        points=40,
        state=state,
        advanced=advanced,
    )
    return [one.result for one in trained]


def sections(rows):
    figure = plots.new_figure(3, 2)
    for row in rows.final:
        figure.gca().plot(row.result["steps"], row.result["validation_loss"])
    values = {row.configuration.method: row.configuration.rate for row in rows.final}
    return [Section("losses", "Losses", "", [Picture("losses", "Which?", figure, "None.")], values)]


EXPERIMENT = experiment.Experiment(
    name="tiny",
    question="Does it run?",
    introduction=lambda size, rows: f"{size}, {len(rows.final)} runs",
    sizes={
        "smoke": lambda: experiment.Size(
            [Configuration(method) for method in METHODS], rates=lambda one: (1e-3, 1e-2, 1e-1), seeds=3, extensions=1
        )
    },
    train=train,
    sections=sections,
    together=lambda one: one.method,
    steps=lambda one: one.steps,
)

if __name__ == "__main__":
    training.SAVE_EVERY = 0.0
    experiment.run(EXPERIMENT, "smoke", Path(sys.argv[1]))
