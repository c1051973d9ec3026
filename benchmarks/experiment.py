"""Experiments: configurations, how they are trained, what the report says of them; and the one way to run them all.

A run does what its folder does not have yet, group by group, a group being the configurations that one program trains.
Settings are chosen like this: every contender is trained with each of its rates from one seed, the rate with the best
score on the validation set is taken, and the contender is trained with it from fresh seeds. The choice is computed
from the stored lines, so that a rerun makes the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from tqdm import tqdm

from benchmarks import results
from benchmarks.results import Line
from maso_rnn import report
from maso_rnn.report import Section

PUBLISHED = Path(__file__).parent / "published"
FORECAST = 20_000  # steps of training from which on it is measured how long they will take

C = TypeVar("C")


class Row(NamedTuple, Generic[C]):
    """A configuration and what came of it."""

    configuration: C
    result: Mapping[str, Any]


class Rows(NamedTuple, Generic[C]):
    """Everything that a report is made of.

    Attributes:
        search: every contender with each of its rates, from the first seed.
        final: every contender with the rate chosen, from the other seeds.
        fixed: the configurations that were run as they stand.
    """

    search: list[Row[C]]
    final: list[Row[C]]
    fixed: list[Row[C]]


def last_validation_loss(result: Mapping[str, Any]) -> float:
    """What a rate is chosen by, unless an experiment says otherwise."""
    return float(result["validation_loss"][-1])


@dataclasses.dataclass(frozen=True)
class Size(Generic[C]):
    """One size of an experiment. A configuration is a frozen dataclass of all settings.

    Attributes:
        contenders: configurations, with fields `rate` and `seed`, whose rate is to be chosen.
        rates: the learning rates that a contender is tried with or, where more is to be chosen, values of several of
            its fields, as `{"rate": 0.1, "sigma": 1.0}`; as many for one as for another.
        seeds: how many seeds the rate chosen is trained from.
        fixed: configurations that are run as they stand.
    """

    contenders: Sequence[C] = ()
    rates: Callable[[C], Sequence[float | Mapping[str, Any]]] = lambda contender: ()
    seeds: int = 5
    fixed: Sequence[C] = ()


@dataclasses.dataclass(frozen=True)
class Experiment(Generic[C]):
    """An experiment.

    Attributes:
        name: what `python -m benchmarks run` calls it.
        question: the report's title.
        introduction: the paragraph under it, from the name of the size and its rows.
        sizes: by name "smoke", "small" and "paper".
        train: trains a group: `(configurations, state, advanced)` → for each what came of it. `state` is a file that
            a long training may keep its state in, `advanced` is called with the steps done, over all configurations.
        sections: the report's.
        together: configurations of which this is equal are trained in one program.
        steps: how many steps of training a configuration takes.
        step_seconds: the time (s) of one step of a group, measured; the groups of a `shape` take about the same.
        shape: see `step_seconds`.
        score: from a result, what is least at the best rate.
    """

    name: str
    question: str
    introduction: Callable[[str, Rows[C]], str]
    sizes: Mapping[str, Callable[[], Size[C]]]
    train: Callable[[Sequence[C], Path, Callable[[int], None]], Sequence[Mapping[str, Any]]]
    sections: Callable[[Rows[C]], list[Section]]
    together: Callable[[C], Hashable]
    steps: Callable[[C], int] = lambda configuration: 1
    step_seconds: Callable[[Sequence[C]], float] | None = None
    shape: Callable[[C], Hashable] = lambda configuration: None
    score: Callable[[Mapping[str, Any]], float] = last_validation_loss


def load(name: str) -> Experiment[Any]:
    """The experiment of that name: `EXPERIMENT` of its module."""
    found: Experiment[Any] = importlib.import_module(f"benchmarks.{name.replace('-', '_')}").EXPERIMENT
    return found


def run(experiment: Experiment[C], size: str, output: Path) -> None:
    """Do what the folder does not have yet, then write the report on all of it.

    Args:
        experiment: which one.
        size: "smoke", "small" or "paper".
        output: the folder: `results.jsonl` has a line for each configuration, `report/` the pictures.

    Raises:
        ValueError: if there is no such size, or contenders differ in how many rates they are tried with.
        FileExistsError: if `output / "report"` holds files that are not a report's.
        BlockingIOError: if another run has the folder.
        OSError: if results cannot be written; those before are kept.
    """
    setting = _size(experiment, size)
    report.refuse_foreign(output / "report")
    with results.Results(output) as stored:
        search, fixed = _searched(setting), list(setting.fixed)
        seeds = setting.seeds if setting.contenders else 0
        _forecast(experiment, [*search, *fixed], len(setting.contenders) * seeds, stored)
        _complete(experiment, [*search, *fixed], stored, "trying rates" if search else "running")
        if search:
            _complete(experiment, _chosen(experiment, setting, stored.lines), stored, f"{seeds} seeds")
        write(experiment, size, stored.lines, output / "report")
    print(output / "report" / "report.html")


def write(experiment: Experiment[C], size: str, lines: Mapping[str, Line], folder: Path) -> None:
    """Write the report on a size of an experiment from its lines.

    Raises:
        ValueError: if a line is missing.
    """
    rows, used = _rows(experiment, size, lines)
    facts = {
        "size": size,
        "runs": len(used),
        "cpu hours": round(sum(float(line.run["cpu"]) for line in used) / 3600, 2),
        **{name: "; ".join(_distinct(line.run[name] for line in used)) for name in ("versions", "machine", "commit")},
    }
    introduction = experiment.introduction(size, rows)
    report.write(folder, experiment.question, introduction, experiment.sections(rows), facts)


def publish(experiment: Experiment[C], output: Path) -> Path:
    """Copy what the `small` report is made of from the folder of a run into `benchmarks/published`."""
    lines = {results.key(line.configuration): line for line in results.read(output / "results.jsonl")}
    _, used = _rows(experiment, "small", lines)
    PUBLISHED.mkdir(exist_ok=True)
    file = PUBLISHED / f"{experiment.name}.jsonl"
    results.replace(file, results.brief(used).encode())
    return file


def published(experiment: Experiment[C]) -> Rows[C]:
    """The published rows of an experiment.

    Raises:
        FileNotFoundError: if none were published.
        ValueError: if a line is missing.
    """
    return _rows(experiment, "small", published_lines(experiment))[0]


def published_lines(experiment: Experiment[C]) -> dict[str, Line]:
    """The published lines of an experiment, by `results.key`."""
    file = PUBLISHED / f"{experiment.name}.jsonl"
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there: run the experiment at size small, then publish it")
    return {results.key(line.configuration): line for line in results.read(file)}


def _size(experiment: Experiment[C], size: str) -> Size[C]:
    if size not in experiment.sizes:
        raise ValueError(f"size must be one of {', '.join(experiment.sizes)}, got {size!r}")
    setting = experiment.sizes[size]()
    tried = {len(setting.rates(contender)) for contender in setting.contenders}
    if len(tried) > 1:
        raise ValueError(f"every contender must be tried with as many rates as the others, got {sorted(tried)}")
    return setting


def _searched(setting: Size[C]) -> list[C]:
    return [one for contender in setting.contenders for one in _tried(setting, contender)]


def _tried(setting: Size[C], contender: C) -> list[C]:
    """What a contender is trained with, from the first seed, before its rate is chosen."""
    settings = [one if isinstance(one, Mapping) else {"rate": one} for one in setting.rates(contender)]
    return [_with(contender, seed=0, **one) for one in settings]


def _chosen(experiment: Experiment[C], setting: Size[C], lines: Mapping[str, Line]) -> list[C]:
    """Every contender with the rate of least score, the first of equals, from the seeds after the search's."""
    found = []
    for contender in setting.contenders:
        tried = _tried(setting, contender)
        scores = [experiment.score(lines[results.key(one)].result) for one in tried]
        finite = [score if math.isfinite(score) else math.inf for score in scores]
        best = tried[finite.index(min(finite))]
        found += [_with(best, seed=seed) for seed in range(1, setting.seeds + 1)]
    return found


def _with(configuration: C, **changes: Any) -> C:
    changed: C = dataclasses.replace(configuration, **changes)  # type: ignore[type-var]  # C is a dataclass
    return changed


def _rows(experiment: Experiment[C], size: str, lines: Mapping[str, Line]) -> tuple[Rows[C], list[Line]]:
    """The rows of a size, and the lines that they are, in its order."""
    setting = _size(experiment, size)
    search, fixed = _searched(setting), list(setting.fixed)
    _require(experiment, size, [*search, *fixed], lines)
    final = _chosen(experiment, setting, lines)
    _require(experiment, size, final, lines)
    rows = Rows(*([Row(one, lines[results.key(one)].result) for one in part] for part in (search, final, fixed)))
    return rows, [lines[results.key(one)] for one in dict.fromkeys([*search, *fixed, *final])]


def _require(experiment: Experiment[C], size: str, wanted: Sequence[C], lines: Mapping[str, Line]) -> None:
    missing = [one for one in wanted if results.key(one) not in lines]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(wanted)} results are missing, the first of {missing[0]}; "
            f"`python -m benchmarks run {experiment.name} --size {size}` computes them"
        )


def _groups(experiment: Experiment[C], configurations: Sequence[C]) -> list[list[C]]:
    groups: dict[Hashable, list[C]] = {}
    for one in dict.fromkeys(configurations):
        groups.setdefault(experiment.together(one), []).append(one)
    return list(groups.values())


def _missing(experiment: Experiment[C], wanted: Sequence[C], stored: results.Results) -> list[list[C]]:
    """The groups of which a line is missing, whole: what a program computes may hang on how many it trains."""
    groups = _groups(experiment, wanted)
    return [group for group in groups if any(results.key(one) not in stored.lines for one in group)]


def _forecast(experiment: Experiment[C], wanted: Sequence[C], later: int, stored: results.Results) -> None:
    """Say what is to be done, and how long it will take."""
    missing = [one for group in _missing(experiment, wanted, stored) for one in group]
    steps = sum(map(experiment.steps, missing))
    also = f", then {later} runs of the rates chosen" if later else ""
    print(f"{experiment.name}: {len(missing)} of {len(wanted)} runs to do, {steps:,} steps{also}", flush=True)
    if experiment.step_seconds is None or steps < FORECAST:
        return
    shapes: dict[Hashable, list[list[C]]] = {}
    for group in _missing(experiment, wanted, stored):
        shapes.setdefault(experiment.shape(group[0]), []).append(group)
    total = 0.0
    for shape, groups in shapes.items():
        each = experiment.step_seconds(groups[0]) / len(groups[0])
        runs = [one for group in groups for one in group]
        seconds = each * sum(map(experiment.steps, runs))
        total += seconds
        print(
            f"  {shape}: {len(runs)} runs × {experiment.steps(runs[0])} steps × {1e3 * each:.2f} ms = {seconds:.0f} s"
        )
    total *= 1 + later / max(1, len(wanted))
    print(f"  about {total / 60:.0f} minutes in all, without compiling and measuring", flush=True)


def _complete(experiment: Experiment[C], wanted: Sequence[C], stored: results.Results, what: str) -> None:
    """Train the groups that are not complete, and store each when it is."""
    groups = _missing(experiment, wanted, stored)
    for group in _groups(experiment, wanted):
        if group not in groups:  # a run killed just after it had stored its lines leaves its state behind
            _state(stored, group).unlink(missing_ok=True)
    total = sum(experiment.steps(one) for group in groups for one in group)
    with tqdm(total=total, desc=f"{experiment.name}, {what}", unit="step", unit_scale=True, disable=not total) as bar:
        for group in groups:
            state = _state(stored, group)
            before = bar.n
            with results.timed() as told:
                told["resumed"] = state.exists()
                found = experiment.train(group, state, bar.update)
            told |= {name: round(told[name] / len(group), 3) for name in ("wall", "cpu")}  # of each of the group
            told["at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            lines = [
                Line(dataclasses.asdict(one), result, told)  # type: ignore[call-overload]  # C is a dataclass
                for one, result in zip(group, found, strict=True)
                if results.key(one) not in stored.lines
            ]
            stored.add(lines)
            state.unlink(missing_ok=True)
            bar.update(sum(map(experiment.steps, group)) - (bar.n - before))


def _state(stored: results.Results, group: Sequence[Any]) -> Path:
    """The file of what a group's training has come to."""
    keys = [results.key(one) for one in group]
    return stored.folder / f"state-{hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16]}.npz"


def _distinct(values: Any) -> list[str]:
    """Different values as text, in the order that they come in."""
    return list(dict.fromkeys(value if isinstance(value, str) else json.dumps(value) for value in values))
