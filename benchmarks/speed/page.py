"""The page SPEED.md, made from what `make speed` measured and from what is said of it here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.speed.reach import FILE, Bar, Comparison

PAGE = Path(__file__).parents[1] / "SPEED.md"
GROWTH, FIRST, PARTS = "growth of ", "time to first result", "parts of: "

# what is said of a work, for whoever compares: where programs are equivalent, and what each may leave out
NOTES = {
    "affine map of the last step": "`vmap(jacrev)` and ours are the same arithmetic, one forward scan and one "
    "pull-back for all outputs; ours gives codes, offset and initial slope as well. PyTorch runs on one thread, which "
    "costs it the least CPU time; its pull-back by hand is our algorithm in PyTorch. The wall time on both cores is "
    "that of a batch sharded over two forced host devices, against a product over all cores, in a process of its own.",
    "affine maps of every step": "The Jacobian of all outputs in all inputs. Forward mode carries a zero tangent for "
    "every input that is still to come, as ours does.",
    "distance to the nearest wall": "The Jacobian way needs every pre-activation's gradient: by `jacrev` a pull-back "
    "for each, by `jacfwd` a push-forward for each input; gradients carried by hand are such push-forwards without a "
    "Jacobian to keep. Ours carries the Gram matrix of the gradients, and for sequences of fewer than 2·hidden numbers "
    "the gradients, too.",
    "walk along a line": "Dense sampling is a compiled batch of forward passes and misses pieces; the walk has all.",
    "one update: path_sgd, κ¹": "Against the gradient that the update is made from; optax's own steps stand beside it.",
    "one step of training": "All do the same arithmetic. The hand-written scan carries the batch, ours is one example "
    "under `vmap`.",
    "SRNN paths, gaussian increments, diagonal decay and noise": "The hand-written scan draws the same numbers and "
    "gives the same paths: the two are equivalent. torchsde runs on one thread, its equation in one fused function, "
    "its Brownian motion told the step; the second row is its scheme on plain normal numbers, which is no Brownian "
    "motion that could be asked again.",
    "signature of 32 paths, 10 times": "pysiglib is hand-vectorised C++; it is called from JAX and on a NumPy array.",
}


def document() -> str:
    """The whole page."""
    lines = results.read(FILE)
    found = [Comparison.of(line) for line in lines]
    grown = [one for one in found if one.work.startswith(GROWTH)]
    first = [one for one in found if one.work == FIRST]
    compared = [one for one in found if one not in grown and one not in first]
    parts = [
        "# How fast it is\n\nMade by `make speed`; `python -m benchmarks report` makes the page again from "
        f"`benchmarks/published/{FILE.name}`. All programs of a comparison, but for parts, are checked to give the "
        "same answer, then run in turn in one process, on one core, where the system can be told: on several, the "
        "threads that XLA, BLAS or PyTorch keep waiting count as CPU time, for an XLA scan of small products nearly as "
        "much again. What is said of both cores, of the data set and of `inspect` is measured in processes of their "
        "own, on all cores. What is compared is CPU time: ratios are medians of pairs, with their quartiles; above 1, "
        "ours is slower.",
        _machine(lines),
        "## What is to be reached\n\n" + _reached(compared),
        *(
            _section(work, [one for one in compared if one.work == work])
            for work in _once(one.work for one in compared)
        ),
    ]
    if first:
        parts.append(_first_results(first[0]))
    if grown:
        parts.append(_growths(grown))
    return "\n\n".join(parts) + "\n"


def _machine(lines: Sequence[results.Line]) -> str:
    versions: dict[str, list[str]] = {}
    for line in lines:
        for name, version in line.run["versions"].items():
            versions[name] = _once([*versions.get(name, []), version])
    loads = [line.run["load"] for line in lines]
    return _rows(
        ["", ""],
        [
            ["machine", "; ".join(_once(line.run["machine"] for line in lines))],
            ["load, from least to most", f"{min(loads):g} to {max(loads):g}" if loads else ""],
            ["versions", ", ".join(f"{name} {' and '.join(all_of)}" for name, all_of in versions.items())],
            ["commit", ", ".join(_once(line.run["commit"][:12] for line in lines))],
        ],
    )


def _reached(compared: Sequence[Comparison]) -> str:
    rows = [
        [
            one.work,
            _size(one.size),
            bar.what,
            _number(bar.measured),
            _number(bar.most),
            _verdict(one, bar),
        ]
        for one in compared
        for bar in one.bars
    ]
    return _rows(["work", "size", "measure", "measured", "at most", "reached"], rows)


def _verdict(one: Comparison, bar: Bar) -> str:
    """Whether a bar is reached; a ratio whose quartiles are on both sides of it is within noise."""
    spread = [row for row in one.programs.values() if row["ratio"] == bar.measured]
    if any(row["ratio_low"] <= bar.most <= row["ratio_high"] for row in spread):
        return "within noise"
    return "yes" if bar.is_met else "**no**"


def _section(work: str, compared: Sequence[Comparison]) -> str:
    parts = [f"## {work[0].upper()}{work[1:]}"]
    if work in NOTES:
        parts.append(NOTES[work])
    rows = [
        [
            _size(one.size),
            name,
            _number(row["median_cpu_seconds"]),
            "1" if name == next(iter(one.programs)) else _ratio(row),
            _mebibytes(row.get("temporary_bytes")),
            _number(row["first_seconds"]) if "first_seconds" in row else "",
        ]
        for one in compared
        for name, row in one.programs.items()
    ]
    if rows:
        head = ["size", "program", "CPU time (s)", "ours / it", "XLA temporary memory (MiB)", "first result (s)"]
        parts.append(_rows(head, rows))
    for one in compared:
        said = [f"{name} {_fact(value)}" for name, value in one.facts.items()]
        said += [f"{name} is not installed, left out" for name in one.absent]
        if said:
            parts.append(f"{_size(one.size) or 'Measured'}: {'; '.join(said)}.")
    missed = [bar.what for one in compared for bar in one.bars if _verdict(one, bar) == "**no**"]
    if missed:
        parts.append(f"Not reached: {', '.join(_once(missed))}.")
    return "\n\n".join(parts)


def _first_results(one: Comparison) -> str:
    """The slowest first."""
    ordered = sorted(one.facts.items(), key=lambda item: -item[1]["first"])
    rows = [[f"`{name}`", _number(spent["first"]), _number(spent["again"])] for name, spent in ordered]
    return (
        "## Time to first result\n\nWall time of a first call, compiling included, with all caches of JAX empty, and "
        f"of the next. Sizes: {_size(one.size)}.\n\n" + _rows(["function", "first (s)", "again (s)"], rows)
    )


def _growths(grown: Sequence[Comparison]) -> str:
    rows = []
    for one in grown:
        facts, expected = one.facts, one.facts["expected"]
        rest = {name: value for name, value in one.size.items() if name != "along"}
        rows.append(
            [
                f"`{one.work.removeprefix(GROWTH)}`",
                f"{one.size['along']}, {facts['sizes'][0]:g} to {facts['sizes'][-1]:g}",
                _size(rest),
                _exponent(facts["time"]),
                str(expected["time"]),
                _exponent(facts["memory"]),
                "" if expected["memory"] is None else str(expected["memory"]),
                "yes" if all(bar.is_met for bar in one.bars) else "**no**",
            ]
        )
    head = ["function", "along", "with", "time", "expected", "memory", "expected", "no worse"]
    return (
        "## Cost as work grows\n\nExponents fitted on a log scale to CPU time and memory, beside those expected. They "
        "come out lower where what every call costs, however little it does, counts; from a quarter above they count "
        f"as worse. Of a walk, time is that of a piece.\n\n{_rows(head, rows)}"
    )


def _exponent(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"


def _ratio(row: Mapping[str, float]) -> str:
    return f"{_number(row['ratio'])} ({_number(row['ratio_low'])} to {_number(row['ratio_high'])})"


def _mebibytes(count: float | None) -> str:
    return "" if count is None else _number(count / 2**20)


def _size(size: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in size.items()
    )


def _fact(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_fact, value))
    return value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else _number(value)


def _number(value: float) -> str:
    return f"{value:.3g}"


def _once(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
