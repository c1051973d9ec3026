"""The eigen initializer against the others: digits, Tomita's grammars, the adding problem; RNN, GRU and LSTM."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks.eigen_init.pictures import SHOWN, sections
from benchmarks.eigen_init.training import (
    CELLS,
    INITIALIZERS,
    RATES,
    Configuration,
    score,
    shape,
    step_seconds,
    together,
    train,
)
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows

TOMITA = [f"tomita-{grammar}" for grammar in range(1, 8)]


def _size(
    seeds: int, settings: Sequence[Configuration], *, clouds: Sequence[str], rates: int = 3, extensions: int = 6
) -> Size[Configuration]:
    """Every cell and initializer in each setting; eigenvalues are kept in the tasks `clouds`."""
    contenders = [
        dataclasses.replace(
            setting, cell=cell, initializer=initializer, cloud=setting.task in clouds and initializer in SHOWN
        )
        for setting in settings
        for cell in CELLS
        for initializer in INITIALIZERS
    ]
    return Size(contenders, rates=lambda one: RATES[:rates], seeds=seeds, extensions=extensions)


def _settings(tasks: Sequence[str], hidden: int, steps: int, batch: int = 32) -> list[Configuration]:
    return [Configuration(task, "", "", hidden=hidden, steps=steps, batch=batch) for task in tasks]


SIZES = {
    "smoke": lambda: _size(
        2,
        _settings(["tomita-4-short", "adding-8", "adding-ternary-8"], 8, 20, 16),
        clouds=["tomita-4-short", "adding-8"],
        rates=2,
        extensions=0,
    ),
    "small": lambda: _size(
        5,
        [
            *_settings(TOMITA, 32, 300),
            *_settings(["digits-by-pixel", "digits-permuted"], 32, 1200, 16),
            *_settings(["adding-20", "adding-ternary-20"], 32, 600),
        ],
        clouds=["digits-by-pixel", "adding-20"],
    ),
    "paper": lambda: _size(
        5,
        [
            *_settings(TOMITA, 64, 5000, 64),
            *_settings(["mnist-by-pixel", "mnist-permuted"], 128, 50_000, 128),
            *_settings(["adding-200", "adding-ternary-200"], 128, 20_000, 128),
        ],
        clouds=["mnist-by-pixel", "adding-200"],
    ),
}


def _introduction(size: str, rows: Rows[Configuration]) -> str:
    tasks = {row.configuration.task for row in rows.final}
    seeds = {row.configuration.seed for row in rows.final}
    return (
        f"{len(CELLS)} cells, {len(INITIALIZERS)} initializers of the recurrent kernel (of each gate by itself), "
        f"{len(tasks)} tasks. Of the learning rates tried, the one that was best on the validation set over the seeds "
        f"of the search was trained from {len(seeds)} others. The grammars are tested on longer strings than they "
        "were trained on, in sets where every rule about the length alone scores 0.5."
        + (" At this size nothing is trained to its end: it shows that all of it runs." if size == "smoke" else "")
    )


EXPERIMENT = Experiment(
    name="eigen-init",
    question="Does it matter where the eigenvalues of a recurrent network start?",
    introduction=_introduction,
    sizes=SIZES,
    train=train,
    sections=sections,
    together=together,
    steps=lambda one: one.steps,
    step_seconds=step_seconds,
    shape=shape,
    score=score,
)
