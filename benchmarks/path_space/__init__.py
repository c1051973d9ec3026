"""Path space against weight space: images by row and by pixel, adding, characters; three starts, ten methods.

`small` has the nearest known setting of Wang et al. (2019), 28 rows of 28 pixels, 4 layers of 128 without biases, read
out at the last step, on a sixth of the images; the tasks of Neyshabur et al. (2016) at lengths and widths that a CPU
can do; and the MLP of Meng et al. (2019) as a network of one step. `paper` has the first and the last on all images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarks.experiment import Experiment, Size
from benchmarks.path_space.report import sections
from benchmarks.path_space.training import (
    CLIPS,
    METHODS,
    STARTS,
    Configuration,
    rates_of,
    shape,
    step_seconds,
    together,
    train,
)
from benchmarks.rows import Rows


def _contenders(settings: Sequence[Configuration]) -> list[Configuration]:
    """Every method from every start, in each setting."""
    return [
        dataclasses.replace(setting, method=method, start=start)
        for setting in settings
        for method in METHODS
        for start in STARTS
    ]


def _setting(task: str, hidden: tuple[int, ...], steps: int, batch: int, *, biases: bool = True) -> Configuration:
    return Configuration(task, "", "", hidden=hidden, steps=steps, batch=batch, biases=biases)


def _size(
    seeds: int, *settings: Configuration, rates: int = 5, extensions: int = 6, **trial: int
) -> Size[Configuration]:
    """Every contender is tried at each rate without clipping and with gradients clipped to norm 1."""

    def tried(one: Configuration) -> list[Mapping[str, float]]:
        return [{"rate": rate, "clip": clip} for clip in CLIPS for rate in rates_of(one)[:rates]]

    return Size(_contenders(settings), rates=tried, seeds=seeds, extensions=extensions, trial=trial)


def _introduction(size: str, rows: Rows[Configuration]) -> str:
    tasks = {shape(row.configuration) for row in rows.final}
    seeds = {row.configuration.seed for row in rows.final}
    return (
        f"{len(METHODS)} methods in {len(tasks)} settings, from a balanced start, from a rescaling of it that computes "
        "the same function, and from the papers' start, the weights of the skeleton set to 1. The learning rate, and "
        "whether gradients are clipped to norm 1, are those of least validation loss at the end over the seeds of the "
        f"search, and each method was then trained from {len(seeds)} other(s)."
        + (" At this size nothing is trained to its end: it shows that all of it runs." if size == "smoke" else "")
    )


SIZES = {
    "smoke": lambda: _size(2, _setting("adding-16", (8,), steps=20, batch=8), rates=2, extensions=0),
    "small": lambda: _size(
        5,
        _setting("digits-10k-by-row", (64,), steps=500, batch=32),
        _setting("digits-10k-by-row", (128,) * 4, steps=100, batch=16, biases=False),
        _setting("digits-by-pixel", (64,), steps=600, batch=32),
        _setting("adding-50", (32,), steps=1500, batch=32),
        _setting("fortunes", (64,), steps=200, batch=16),
        _setting("digits-10k-whole", (100, 100), steps=1000, batch=32),
    ),
    # 10 epochs, and 2 while rates are chosen
    "paper": lambda: _size(
        3,
        _setting("mnist-by-row", (64,), steps=3910, batch=128, biases=False),
        _setting("mnist-by-row", (128,) * 4, steps=3910, batch=128, biases=False),
        _setting("mnist-whole", (100, 100), steps=3910, batch=128),
        steps=780,
    ),
}

EXPERIMENT = Experiment(
    name="path-space",
    question="Does it matter in which coordinates an RNN is trained?",
    introduction=_introduction,
    sizes=SIZES,
    train=train,
    sections=sections,
    together=together,
    steps=lambda one: one.steps,
    step_seconds=step_seconds,
    shape=shape,
)
