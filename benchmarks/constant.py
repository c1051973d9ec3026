"""What a prediction scores that never looks at its input: the least that a network must do better than.

Of classes it says how often each occurs among the training targets, of numbers their mean.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.dataset import Dataset, Split
from benchmarks.experiment import Experiment, Size, load
from benchmarks.rows import Rows
from benchmarks.tasks import TASKS
from maso_rnn.report import Section

TRAINED = ("spline", "path-space", "path-metric", "eigen-init")  # the experiments whose tasks these are


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A task, one of `TASKS`."""

    task: str


def scores(data: Dataset) -> dict[str, float]:
    """The test loss and, of classes, the test accuracy of the constant prediction, as training measures them.

    Frequencies are those of the training targets, each class counted once more than it occurs.
    """
    if not np.issubdtype(data.train.targets.dtype, np.integer):
        return {"test_loss": float(((data.test.targets - data.train.targets.mean(axis=0)) ** 2).mean())}
    said, _ = _steps(data.train)
    counts = np.bincount(said, minlength=int(data.train.targets.max()) + 1) + 1.0
    said, weights = _steps(data.test)
    losses, right = -np.log(counts / counts.sum())[said], said == counts.argmax()
    return {"test_loss": float((losses * weights).sum()), "test_accuracy": float((right * weights).sum())}


def _steps(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Every target that is real, and its weight: sequences count alike, and so do the steps of one."""
    targets = split.targets.reshape(len(split.targets), -1)
    lengths = split.lengths if split.targets.ndim == 2 else np.ones(len(targets), int)
    is_real = np.arange(targets.shape[1]) < lengths[:, None]
    weights = np.broadcast_to(1 / (len(targets) * lengths[:, None]), targets.shape)
    return targets[is_real], weights[is_real]


def _train(group: Sequence[Configuration], state: Path, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    del state, advanced
    found: list[dict[str, Any]] = []
    for one in group:
        data = TASKS[one.task]()
        found.append({"length": data.train.inputs.shape[1], "examples": len(data.train.inputs)})
        found[-1] |= {name: float(f"{value:.6g}") for name, value in scores(data).items()}
    return found


def _sections(rows: Rows[Configuration]) -> list[Section]:
    values = {row.configuration.task: dict(row.result) for row in rows.fixed}
    told = [
        f"{task}, {name.replace('_', ' ')} {value:.3g}" for task, each in values.items() for name, value in each.items()
    ]
    return [Section("scores", "Scores", "; ".join(told) + ".", [], values)]


def _size(size: str) -> Size[Configuration]:
    settings = [load(name).sizes[size]() for name in TRAINED]
    tasks = dict.fromkeys(one.task for setting in settings for one in [*setting.contenders, *setting.fixed])
    return Size[Any](fixed=[Configuration(task) for task in tasks])


EXPERIMENT = Experiment(
    name="constant",
    question="What does a prediction score that never looks at its input?",
    introduction=lambda size, rows: f"The tasks of {', '.join(TRAINED)} at size {size}.",
    sizes={
        "smoke": lambda: Size(fixed=[Configuration("adding-16"), Configuration("tomita-4-short")]),
        "small": lambda: _size("small"),
        "paper": lambda: _size("paper"),
    },
    train=_train,
    sections=_sections,
    together=lambda one: one,
)
