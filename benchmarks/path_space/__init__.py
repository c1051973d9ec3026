"""Path space against weight space: digits by row and by pixel, and the adding problem; two starts, nine methods."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.data.adding import adding
from benchmarks.data.dataset import Dataset
from benchmarks.data.digits import digits
from benchmarks.path_space.report import sections
from benchmarks.path_space.training import METHODS, Training, starts, train
from maso_rnn import report
from maso_rnn.report.document import plain

STARTS = ("balanced", "rescaled")
KEYS = ("size", "task", "method", "start", "rate", "seed")


class Size(NamedTuple):
    """One size of the experiment.

    Attributes:
        training: how every run is trained.
        seeds: how many starts each configuration has.
        tasks: the data sets, made when their turn comes.
    """

    training: Training
    seeds: int
    tasks: Mapping[str, Callable[[], Dataset]]


SIZES = {
    "smoke": Size(
        Training(hidden=(16,), steps=160, batch=32, points=10),
        seeds=2,
        tasks={
            "digits-by-row": lambda: digits(by="row"),
            "digits-by-pixel": lambda: digits(by="pixel"),
            "adding": lambda: adding(16, examples=256),
        },
    ),
}


def run(size: str, output: Path) -> None:
    """Train every configuration that `results.jsonl` does not have yet, then write the report on all of them.

    Args:
        size: "smoke".
        output: the folder; `results.jsonl` has one line for each configuration and seed, written as it is done, and
            `report/` the learning curves.

    Raises:
        ValueError: if there is no such size.
        FileExistsError: if `output / "report"` holds files that are not a report's.
    """
    if size not in SIZES:
        raise ValueError(f"size must be one of {', '.join(SIZES)}, got {size!r}")
    began = time.monotonic()
    setting = SIZES[size]
    report.refuse_foreign(output / "report")
    output.mkdir(parents=True, exist_ok=True)
    results = output / "results.jsonl"
    done = {tuple(line[key] for key in KEYS): line for line in read(results)}
    groups = list(_groups(size))
    datasets: dict[str, Dataset] = {}
    with results.open("a") as lines:
        for number, group in enumerate(groups, start=1):
            if all(tuple(run[key] for key in KEYS) in done for run in group):
                continue
            task, method = group[0]["task"], group[0]["method"]
            print(f"{number} of {len(groups)}: {task}, {method}", file=sys.stderr, flush=True)
            if task not in datasets:
                datasets[task] = setting.tasks[task]()
            made = {run["seed"]: starts(datasets[task], run["seed"], setting.training) for run in group}
            curves = train(
                datasets[task],
                METHODS[method],
                [made[run["seed"]][run["start"]] for run in group],
                [run["rate"] for run in group],
                [run["seed"] for run in group],
                setting.training,
            )
            for run, loss, validation in zip(group, curves.train, curves.validation, strict=True):
                line = run | {"train_loss": loss, "validation_loss": validation}
                done[tuple(run[key] for key in KEYS)] = plain(line)
                lines.write(json.dumps(plain(line)) + "\n")
            lines.flush()
    rows = [done[tuple(run[key] for key in KEYS)] for group in groups for run in group]
    facts = {
        "size": size,
        "configuration": dataclasses.asdict(setting.training),
        "seeds": setting.seeds,
        "versions": {name: version(name) for name in ("rnn-geometry", "jax", "jaxlib", "flax", "optax", "numpy")}
        | {"python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {jax.devices()[0].platform}",
    }
    report.write(
        output / "report",
        "Does it matter in which coordinates an RNN is trained?",
        f"{len(METHODS)} methods, each with its best of a few learning rates, on {len(setting.tasks)} tasks, from a "
        f"balanced start and from a rescaling of it that computes the same function; {setting.seeds} seeds."
        + (" At this size nothing is trained to its end: it shows that all of it runs." if size == "smoke" else ""),
        sections(rows, METHODS, setting.training),
        facts,
    )
    print(f"{output / 'report' / 'report.html'} ({time.monotonic() - began:.0f} s)")


def read(results: Path) -> Iterator[dict[str, Any]]:
    """The lines of a results file that are whole; half of one, as an interrupted run leaves it, is taken out of it."""
    if not results.exists():
        return
    text, whole = results.read_text(), []
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            print(f"{results}: a line that is not whole is taken out and done again", file=sys.stderr)
        else:
            whole.append(line + "\n")
    if "".join(whole) != text:
        mended = results.with_suffix(".mended")
        mended.write_text("".join(whole))
        mended.replace(results)


def _groups(size: str) -> Iterator[list[dict[str, Any]]]:
    """The runs that one program trains at once: those whose graphs may be the same."""
    setting = SIZES[size]
    for task in setting.tasks:
        for name, method in METHODS.items():
            seeds = range(setting.seeds)
            for together in [[seed] for seed in seeds] if method.uses_skeleton else [list(seeds)]:
                yield [
                    dict(zip(KEYS, (size, task, name, start, rate, seed), strict=True))
                    for seed in together
                    for start in STARTS
                    for rate in method.rates
                ]
