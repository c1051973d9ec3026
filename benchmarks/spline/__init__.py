"""The spline paper's experiments: noise on the initial state, what it does to training, partitions and templates.

Every ReLU network starts with identity recurrent kernels and learns by RMSprop, unless the optimiser is what is
compared; for the table gradients of all networks are clipped to norm 1. A contender without noise is tried with as many
learning rates as one with noise is tried with pairs of a rate and a σ; the best on the validation set is trained from
fresh seeds. `paper` has the paper's sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows
from benchmarks.spline.report import sections
from benchmarks.spline.training import Configuration, shape, step_seconds, together, train

GRID_SIGMAS = (0.0, 0.001, 0.01, 0.1, 1.0, 5.0)


def _table(tasks: Mapping[str, Sequence[str]], **settings: Any) -> list[Configuration]:
    """By task the models; ReLU networks both without and with noise."""
    return [
        Configuration("table", task, model, regulariser, **settings)
        for task, models in tasks.items()
        for model in models
        for regulariser in (("none", "noise") if model.startswith("rnn") else ("none",))
    ]


def _rates(
    sigmas: Sequence[float], rates: Sequence[float], only_rates: Sequence[float], gated: Sequence[float]
) -> Mapping[str, Sequence[Mapping[str, float]]]:
    """By kind of contender, what it is tried with: as many settings for one as for another."""
    return {
        "noise": [{"rate": rate, "sigma": sigma} for rate in rates for sigma in sigmas],
        "none": [{"rate": rate} for rate in only_rates],
        "gated": [{"rate": rate} for rate in gated],
    }


def _kind(one: Configuration) -> str:
    return one.regulariser if one.model.startswith("rnn") else "gated"


def _grid(
    task: str, sigmas: Sequence[float], rates: Mapping[str, Sequence[float]], seeds: int, **settings: Any
) -> list[Configuration]:
    """σ × learning rate × optimiser; by optimiser the rates."""
    return [
        Configuration("grid", task, "rnn", "noise" if sigma else "none", sigma, optimizer, rate, seed, **settings)
        for optimizer, tried in rates.items()
        for sigma, rate, seed in itertools.product(sigmas, tried, range(seeds))
    ]


def _penalty(task: str, sigmas: Sequence[float], rate: float, seeds: int, **settings: Any) -> list[Configuration]:
    """Noise against the explicit penalty at equal σ, and neither."""
    kinds = [("none", 0.0), *itertools.product(("noise", "penalty at rest", "penalty near rest"), sigmas)]
    return [
        Configuration("penalty", task, "rnn", regulariser, sigma, rate=rate, seed=seed, **settings)
        for regulariser, sigma in kinds
        for seed in range(seeds)
    ]


def _partition(task: str, sigma: float, rate: float, seeds: int, **settings: Any) -> list[Configuration]:
    """One network without noise and one with, to be opened up."""
    return [
        Configuration("partition", task, "rnn", regulariser, scale, rate=rate, seed=seed, **settings)
        for regulariser, scale in (("none", 0.0), ("noise", sigma))
        for seed in range(seeds)
    ]


def _smoke() -> Size[Configuration]:
    size = {"hidden": 8, "steps": 20, "batch": 8, "points": 2}
    tried = _rates((0.1,), (1e-3,), (1e-3,), (1e-3,))
    rates = {"rmsprop": (1e-3,), "sgd": (1e-3,)}
    return Size(
        _table({"digits-by-row": ("rnn", "gru")}, **size),
        rates=lambda one: tried[_kind(one)],
        seeds=1,
        extensions=1,
        fixed=[
            *_grid("digits-by-row", (0.0, 0.1), rates, 1, **size),
            *_penalty("digits-by-row", (0.1,), 1e-3, 1, **size),
            *_partition("digits-by-row", 0.1, 1e-3, 1, **size),
        ],
    )


def _small() -> Size[Configuration]:
    models, fewer = ("rnn", "rnn, 2 layers", "gru", "lstm"), ("rnn", "gru")
    tried = _rates(
        sigmas=(0.01, 0.1, 1.0),
        rates=(1e-3, 3e-3, 1e-2),
        only_rates=(1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 2e-2),
        gated=(5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2, 1.5e-2, 2e-2, 3e-2),
    )
    by_pixel = {"rmsprop": (3e-4, 1e-3, 3e-3, 1e-2, 3e-2), "sgd": (1e-5, 1e-4, 3e-4, 1e-3, 3e-3)}
    by_row = {"rmsprop": (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), "sgd": (1e-3, 1e-2, 3e-2, 1e-1, 3e-1)}
    small = {"hidden": 32, "steps": 400, "points": 8}
    return Size(
        _table(
            {
                "digits-by-pixel": models,
                "digits-permuted": fewer,
                "digits-10k-by-row": models,
                "adding-ternary-60": fewer,
            },
            **{"steps": 4000, "points": 8, "clip": 1.0},
        ),
        rates=lambda one: tried[_kind(one)],
        seeds=5,
        fixed=[
            *_grid("digits-by-pixel", GRID_SIGMAS, by_pixel, 5, **small),
            *_grid("digits-by-row", GRID_SIGMAS, by_row, 5, **small),
            *_penalty("digits-by-pixel", (0.01, 0.1, 1.0), 1e-3, 5, **small),
            *_partition("digits-by-pixel", 0.1, 1e-3, 5),
        ],
    )


def _paper() -> Size[Configuration]:
    size = {"hidden": 128, "steps": 60_000, "batch": 100, "points": 100}
    models = ("rnn", "rnn, 2 layers", "gru", "lstm")
    rates = tuple(1e-5 * 10 ** (i / 4) for i in range(15))
    tried = _rates(sigmas=(0.001, 0.01, 0.1, 1.0, 5.0), rates=(1e-4, 3e-4, 1e-3), only_rates=rates, gated=rates)
    words = {"hidden": 128, "batch": 64, "points": 20, "clip": 1.0}
    grid = {"rmsprop": (1e-5, 1e-4, 1e-3, 1e-2), "sgd": (1e-5, 1e-4, 1e-3, 1e-2)}
    return Size(
        [
            *_table({"sst-2": models}, **words, steps=2_000),
            *_table({"sst-2-phrases": ("rnn", "lstm")}, **words, steps=8_000),
            *_table(
                {"mnist-by-pixel": models, "mnist-permuted": models, "adding-ternary-100": models}, clip=1.0, **size
            ),
        ],
        rates=lambda one: tried[_kind(one)],
        seeds=5,
        fixed=[
            *_grid("mnist-by-pixel", GRID_SIGMAS, grid, 3, **size),
            *_penalty("mnist-by-pixel", (0.01, 0.1, 1.0), 1e-4, 5, **size),
            *_partition("mnist-by-pixel", 0.1, 1e-4, 5, **size),
        ],
    )


def _introduction(size: str, rows: Rows[Configuration]) -> str:
    seeds = {row.configuration.seed for row in rows.final}
    return (
        "ReLU networks that start with identity recurrent kernels, with and without noise on the initial state, after "
        "Wang, Balestriero and Baraniuk (2019). For the table every contender was tried with as many settings at first "
        "(with noise, pairs of a learning rate and a σ; else learning rates), and the one of least validation loss at "
        f"the end, over the seeds of the search, trained from {len(seeds)} other(s)."
        + (" At this size nothing is trained to its end: it shows that all of it runs." if size == "smoke" else "")
    )


EXPERIMENT = Experiment(
    name="spline",
    question="What does noise on the initial state do to a recurrent network?",
    introduction=_introduction,
    sizes={"smoke": _smoke, "small": _small, "paper": _paper},
    train=train,
    sections=sections,
    together=together,
    steps=lambda one: one.steps,
    step_seconds=step_seconds,
    shape=shape,
)
