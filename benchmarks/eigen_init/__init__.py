"""The eigen initializer against the others: digits, Tomita's grammars, the adding problem; RNN, GRU and LSTM."""

from __future__ import annotations

import dataclasses
import functools
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
from benchmarks.data.tomita import GRAMMARS, tomita
from benchmarks.eigen_init.pictures import sections
from benchmarks.eigen_init.training import CELLS, INITIALIZERS, Training, train
from maso_rnn import report
from maso_rnn.report.document import plain


class Size(NamedTuple):
    """One size of the experiment.

    Attributes:
        training: how every configuration is trained.
        seeds: how many starts each has.
        tasks: the data sets, made when their turn comes.
    """

    training: Training
    seeds: int
    tasks: Mapping[str, Callable[[], Dataset]]


def _tomita(examples: int) -> dict[str, Callable[[], Dataset]]:
    return {f"tomita-{grammar}": functools.partial(tomita, grammar, examples=examples) for grammar in GRAMMARS}


SIZES = {
    "smoke": Size(
        Training(hidden=16, steps=40, batch=16, learning_rate=1e-2),
        seeds=1,
        tasks={"digits": lambda: digits(by="row"), **_tomita(128), "adding": lambda: adding(8, examples=128)},
    ),
}


def run(size: str, output: Path) -> None:
    """Train every configuration that `results.jsonl` does not have yet, then write the report on all of them.

    Args:
        size: "smoke".
        output: the folder; `results.jsonl` has one line for each configuration and seed, written as it is done, and
            `report/` the pictures.

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
    wanted = list(_configurations(size))
    done = {_name(line): line for line in _read(results)}
    _end_line(results)
    datasets: dict[str, Dataset] = {}
    with results.open("a") as lines:
        for number, configuration in enumerate(wanted, start=1):
            if _name(configuration) in done:
                continue
            task, cell, initializer, seed = (configuration[k] for k in ("task", "cell", "initializer", "seed"))
            if task not in datasets:
                print(f"configuration {number} of {len(wanted)}: {task}", file=sys.stderr, flush=True)
                datasets[task] = setting.tasks[task]()
            line = configuration | train(datasets[task], cell, initializer, seed, setting.training)
            done[_name(configuration)] = line
            lines.write(json.dumps(plain(line)) + "\n")
            lines.flush()
    rows = [done[_name(configuration)] for configuration in wanted]
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
        "Does it matter where the eigenvalues of a recurrent network start?",
        f"{len(CELLS)} cells, {len(INITIALIZERS)} initializers of the recurrent kernel (of each gate by itself), "
        f"{len(setting.tasks)} tasks, {setting.seeds} start(s) each. The grammars are tested on longer strings than "
        "they were trained on, in sets where every rule about the length alone scores 0.5."
        + (" At this size nothing is trained to its end: it shows that all of it runs." if size == "smoke" else ""),
        sections(rows),
        facts,
    )
    print(f"{output / 'report' / 'report.html'} ({time.monotonic() - began:.0f} s)")


def _configurations(size: str) -> Iterator[dict[str, Any]]:
    setting = SIZES[size]
    for task in setting.tasks:
        for cell in CELLS:
            for initializer in INITIALIZERS:
                for seed in range(setting.seeds):
                    yield {"size": size, "task": task, "cell": cell, "initializer": initializer, "seed": seed}


def _name(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(line[key] for key in ("size", "task", "cell", "initializer", "seed"))


def _read(results: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole; an interrupted run may have left half of one."""
    for text in results.read_text().splitlines() if results.exists() else []:
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            print(f"{results}: a line that is not whole is left out and done again", file=sys.stderr)


def _end_line(results: Path) -> None:
    """A line that is not whole must not run on into the next one."""
    if results.exists() and results.stat().st_size and not results.read_bytes().endswith(b"\n"):
        with results.open("a") as lines:
            lines.write("\n")
