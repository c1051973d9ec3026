"""Experiments: configurations, how they are trained, what the report says of them; and the one way to run them all.

A run does what its folder does not have yet, group by group, a group being the configurations that one program trains.
Settings are chosen like this: every contender is trained with each of its rates from three seeds, the rate with the
fewest runs that diverged, and of those the best mean score on the validation set, is taken, and the contender is
trained with it from fresh seeds. While the rate chosen is the least or the greatest that was tried, one more beyond it
is tried. The choice is computed from the stored lines, so that a rerun makes the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import re
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from benchmarks import results
from benchmarks.results import Line
from benchmarks.rows import Row, Rows
from maso_rnn import report
from maso_rnn.report import Section

PUBLISHED = Path(__file__).parent / "published"
FORECAST = 20_000  # steps of training from which on it is measured how long they will take
SEARCH_SEEDS = 3  # that settings are chosen on; those after them are trained at the settings chosen

C = TypeVar("C")
Settings = Mapping[str, Any]  # what a contender is tried with, by the names of its fields


def last_validation_loss(result: Mapping[str, Any]) -> float:
    """What a rate is chosen by, unless an experiment says otherwise."""
    return float(result["validation_loss"][-1])


@dataclasses.dataclass(frozen=True)
class Size(Generic[C]):
    """One size of an experiment. A configuration is a frozen dataclass of all settings.

    Attributes:
        contenders: configurations, with fields `rate` and `seed`, whose rate is to be chosen.
        rates: the learning rates that a contender is tried with at first or, where more is to be chosen, values of
            several of its fields, as `{"rate": 0.1, "sigma": 1.0}`; as many for one as for another.
        seeds: how many seeds the rate chosen is trained from.
        fixed: configurations that are run as they stand.
        extensions: how many rates at most are tried beyond those given, while the choice is at their edge.
        trial: what else a contender has while its rate is chosen, such as fewer steps.
    """

    contenders: Sequence[C] = ()
    rates: Callable[[C], Sequence[float | Mapping[str, Any]]] = lambda contender: ()
    seeds: int = 5
    fixed: Sequence[C] = ()
    extensions: int = 6
    trial: Settings = dataclasses.field(default_factory=dict)


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


class OutOfTime(Exception):
    """The minutes that a run was given are over."""


def run(experiment: Experiment[C], size: str, output: Path, *, minutes: float = math.inf, only: str = "") -> None:
    """Do what the folder does not have yet, then write the report on all of it.

    Args:
        experiment: which one.
        size: "smoke", "small" or "paper".
        output: the folder: `results.jsonl` has a line for each configuration, `report/` the pictures.
        minutes: after which to stop, at the next point at which the state of training is saved.
        only: a regular expression; done is what it is found in, as `name=value name=value ...`, with all that is
            trained in one program with it, and no report is written.

    Raises:
        ValueError: if there is no such size, nothing is found, or contenders differ in how many rates they are tried
            with.
        FileExistsError: if `output / "report"` holds files that are not a report's.
        BlockingIOError: if another run has the folder.
        OSError: if results cannot be written; those before are kept.
    """
    setting = setting_of(experiment, size, only)
    report.refuse_foreign(output / "report")
    end = time.monotonic() + 60 * minutes
    with results.Results(output) as stored:
        seeds = setting.seeds if setting.contenders else 0
        first = [*next(_search(experiment, setting, stored.lines))[0], *setting.fixed]
        _forecast(experiment, first, len(setting.contenders) * seeds, stored)
        try:
            for wanted, _ in _search(experiment, setting, stored.lines):
                _complete(experiment, wanted, stored, "trying rates", end)
            _complete(experiment, setting.fixed, stored, "running", end)
            _complete(experiment, _chosen(experiment, setting, stored.lines), stored, f"{seeds} seeds", end)
        except OutOfTime:
            print(f"{experiment.name}: stopped after {minutes:g} minutes; run it again, and it goes on", flush=True)
            return
        if only:
            print(f"{experiment.name}: done; run it without --only for the report", flush=True)
            return
        write(experiment, size, *_rows(experiment, size, setting, stored.lines), output / "report")
    print(output / "report" / "report.html")


def write(experiment: Experiment[C], size: str, rows: Rows[C], lines: Sequence[Line], folder: Path) -> None:
    """Write the report on a size of an experiment from its rows, and the lines that they are."""
    facts = {
        "size": size,
        "runs": len(lines),
        "cpu hours": round(sum(float(line.run["cpu"]) for line in lines) / 3600, 2),
        **{name: "; ".join(_distinct(line.run[name] for line in lines)) for name in ("versions", "machine", "commit")},
    }
    introduction = experiment.introduction(size, rows)
    report.write(folder, experiment.question, introduction, experiment.sections(rows), facts)


def publish(experiment: Experiment[C], size: str, output: Path) -> Path:
    """Copy what is complete of a size from the folder of a run into `benchmarks/published`.

    That are the contenders that were searched and trained to the end, and the configurations that were run.

    Raises:
        ValueError: if nothing is complete, or a line was computed with changes that were not committed.
    """
    lines = {results.key(line.configuration): line for line in results.read(output / "results.jsonl")}
    setting = setting_of(experiment, size)
    contenders = [one for one in setting.contenders if _is_done(experiment, setting, one, lines)]
    fixed = [one for one in setting.fixed if results.key(one) in lines]
    if not contenders and not fixed:
        raise ValueError(f"{output} has nothing complete; `python -m benchmarks run {experiment.name} --size {size}`")
    left_out = len(setting.contenders) + len(setting.fixed) - len(contenders) - len(fixed)
    if left_out:
        print(f"{left_out} contenders or configurations are not complete, and not published", flush=True)
    setting = dataclasses.replace(setting, contenders=contenders, fixed=fixed)
    rows, used = _rows(experiment, size, setting, lines)
    if dirty := sum(is_dirty(line) for line in used):
        raise ValueError(
            f"{dirty} of {len(used)} lines were computed with changes that were not committed; commit them, and run "
            "the experiment in another folder"
        )
    parts = {
        results.key(row.configuration): name for name in ("search", "fixed", "final") for row in getattr(rows, name)
    }
    PUBLISHED.mkdir(exist_ok=True)
    file = _published_file(experiment, size)
    told = [line._replace(run={**line.run, "part": parts[results.key(line.configuration)]}) for line in used]
    results.replace(file, results.brief(told).encode())
    return file


def _is_done(experiment: Experiment[C], setting: Size[C], contender: C, lines: Mapping[str, Line]) -> bool:
    alone = dataclasses.replace(setting, contenders=[contender])
    tried, _ = _tried(experiment, alone, lines)
    return all(results.key(one) in lines for one in tried) and all(
        results.key(one) in lines for one in _chosen(experiment, alone, lines)
    )


def _published_file(experiment: Experiment[C], size: str) -> Path:
    return PUBLISHED / (f"{experiment.name}.jsonl" if size == "small" else f"{experiment.name}-{size}.jsonl")


def is_dirty(line: Line) -> bool:
    """Whether a line was computed with changes that were not committed."""
    return str(line.run["commit"]).endswith("-dirty")


def published(experiment: Experiment[C], size: str = "small") -> tuple[Rows[C], list[Line]]:
    """The published rows of a size of an experiment, and the lines that they are.

    They are those of the settings of their time: what a setting lacks that came later is not among them.

    Raises:
        FileNotFoundError: if none were published.
        ValueError: if a configuration is none of the experiment's.
    """
    file = _published_file(experiment, size)
    if not file.exists():
        raise FileNotFoundError(f"{file} is not there: run the experiment at size {size}, then publish it")
    setting = experiment.sizes[size]()
    kinds: dict[frozenset[str], Any] = {
        frozenset(dataclasses.asdict(one)): type(one)  # type: ignore[call-overload]  # C is a dataclass
        for one in (*setting.contenders, *setting.fixed)
    }
    lines = results.read(file)
    rows = Rows[C]([], [], [])
    for line in lines:
        kind = kinds.get(frozenset(line.configuration))
        if kind is None:
            raise ValueError(f"{file}: {line.configuration} is no configuration of {experiment.name}")
        values = {name: _value(value) for name, value in line.configuration.items()}
        getattr(rows, line.run["part"]).append(Row(kind(**values), line.result))
    return rows, lines


def _value(value: Any) -> Any:
    """A setting as it was before it was written."""
    if isinstance(value, list):
        return tuple(map(_value, value))
    return float(value) if value in ("inf", "nan") else value


def setting_of(experiment: Experiment[C], size: str, only: str = "") -> Size[C]:
    """What there is to do at a size; of it, what a regular expression is found in: see `run`, also for errors."""
    if size not in experiment.sizes:
        raise ValueError(f"size must be one of {', '.join(experiment.sizes)}, got {size!r}")
    setting = experiment.sizes[size]()
    if only:
        everything = [*setting.contenders, *setting.fixed]
        # whole programs: what one computes may hang on how many it trains
        programs = {experiment.together(one) for one in everything if re.search(only, _named(one))}
        if not programs:
            raise ValueError(f'only must be found in a configuration such as "{_named(everything[0])}", got {only!r}')
        contenders, fixed = (
            [one for one in part if experiment.together(one) in programs]
            for part in (setting.contenders, setting.fixed)
        )
        setting = dataclasses.replace(setting, contenders=contenders, fixed=fixed)
    tried = {len(setting.rates(contender)) for contender in setting.contenders}
    if len(tried) > 1:
        raise ValueError(f"every contender must be tried with as many rates as the others, got {sorted(tried)}")
    return setting


def _named(configuration: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in dataclasses.asdict(configuration).items())


def _search(
    experiment: Experiment[C], setting: Size[C], lines: Mapping[str, Line]
) -> Iterator[tuple[list[C], list[list[Settings]]]]:
    """Round after round what is tried now, and by contender all settings so far.

    Of each round the lines must be there before the next is asked for.
    """
    grids: list[list[Settings]] = [[] for _ in setting.contenders]
    new = [[one if isinstance(one, Mapping) else {"rate": one} for one in setting.rates(c)] for c in setting.contenders]
    for _ in range(setting.extensions + 1):
        grids = [[*settings, *more] for settings, more in zip(grids, new, strict=True)]
        wanted = [
            _with(contender, seed=seed, **setting.trial, **one)
            for contender, settings in zip(setting.contenders, new, strict=True)
            for one in settings
            for seed in range(SEARCH_SEEDS)
        ]
        yield wanted, grids
        new = [
            _beyond(settings, _best(experiment, setting, contender, settings, lines))
            for contender, settings in zip(setting.contenders, grids, strict=True)
        ]
        if not any(new):
            return


def _best(
    experiment: Experiment[C], setting: Size[C], contender: C, settings: Sequence[Settings], lines: Mapping[str, Line]
) -> Settings:
    """The settings with the fewest runs that diverged, and of those the least mean score; the first of equals."""

    def rank(one: Settings) -> tuple[int, float]:
        tried = [_with(contender, seed=seed, **setting.trial, **one) for seed in range(SEARCH_SEEDS)]
        scores = [experiment.score(lines[results.key(each)].result) for each in tried]
        kept = [score for score in scores if math.isfinite(score)]
        return len(scores) - len(kept), sum(kept) / len(kept) if kept else math.inf

    return min(settings, key=rank)


def _beyond(settings: Sequence[Settings], best: Settings) -> list[Settings]:
    """Settings with one rate more, as far from the best as its neighbour is, if that is at the edge of the rates."""
    rates = sorted({one["rate"] for one in settings})
    if len(rates) < 2 or best["rate"] not in (rates[0], rates[-1]):
        return []
    neighbour = rates[1] if best["rate"] == rates[0] else rates[-2]
    rate = float(f"{best['rate'] ** 2 / neighbour:.3g}")
    return [{**one, "rate": rate} for one in settings if one["rate"] == best["rate"]]


def _tried(
    experiment: Experiment[C], setting: Size[C], lines: Mapping[str, Line]
) -> tuple[list[C], list[list[Settings]]]:
    """All that is tried, as far as there are lines to say so, and by contender its settings."""
    found: list[C] = []
    grids: list[list[Settings]] = []
    for wanted, grids in _search(experiment, setting, lines):  # noqa: B007  # the last are wanted
        found += wanted
        if any(results.key(one) not in lines for one in wanted):
            break
    return found, grids


def _chosen(experiment: Experiment[C], setting: Size[C], lines: Mapping[str, Line]) -> list[C]:
    """Every contender with the settings chosen, from the seeds after the search's."""
    _, grids = _tried(experiment, setting, lines)
    return [
        _with(contender, seed=SEARCH_SEEDS + seed, **_best(experiment, setting, contender, settings, lines))
        for contender, settings in zip(setting.contenders, grids, strict=True)
        for seed in range(setting.seeds)
    ]


def _with(configuration: C, **changes: Any) -> C:
    changed: C = dataclasses.replace(configuration, **changes)  # type: ignore[type-var]  # C is a dataclass
    return changed


def _rows(
    experiment: Experiment[C], size: str, setting: Size[C], lines: Mapping[str, Line]
) -> tuple[Rows[C], list[Line]]:
    """The rows of a size, and the lines that they are, in its order."""
    (search, _), fixed = _tried(experiment, setting, lines), list(setting.fixed)
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
    also = f", then what the edges of the rates ask for and {later} runs of the rates chosen" if later else ""
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


def _complete(experiment: Experiment[C], wanted: Sequence[C], stored: results.Results, what: str, end: float) -> None:
    """Train the groups that are not complete, and store each when it is.

    Raises:
        OutOfTime: if that is not done at `end`, of the monotonic clock.
    """
    groups = _missing(experiment, wanted, stored)
    for group in _groups(experiment, wanted):
        if group not in groups:  # a run killed just after it had stored its lines leaves its state behind
            _state(stored, group).unlink(missing_ok=True)
    total = sum(experiment.steps(one) for group in groups for one in group)

    with tqdm(total=total, desc=f"{experiment.name}, {what}", unit="step", unit_scale=True, disable=not total) as bar:

        def advanced(steps: int) -> None:
            bar.update(steps)
            if time.monotonic() > end:
                raise OutOfTime

        for group in groups:
            state = _state(stored, group)
            before = bar.n
            with results.timed() as told:
                told["resumed"] = state.exists()
                found = experiment.train(group, state, advanced)
            told |= {name: round(told[name] / len(group), 3) for name in ("wall", "cpu")}  # of each of the group
            told["at"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            lines = [
                Line(dataclasses.asdict(one), result, told)  # type: ignore[call-overload]  # C is a dataclass
                for one, result in zip(group, found, strict=True)
                if results.key(one) not in stored.lines
            ]
            stored.add(lines)
            state.unlink(missing_ok=True)
            advanced(sum(map(experiment.steps, group)) - (bar.n - before))


def _state(stored: results.Results, group: Sequence[Any]) -> Path:
    """The file of what a group's training has come to."""
    keys = [results.key(one) for one in group]
    return stored.folder / f"state-{hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:16]}.npz"


def _distinct(values: Any) -> list[str]:
    """Different values as text, in the order that they come in."""
    return list(dict.fromkeys(value if isinstance(value, str) else json.dumps(value) for value in values))
