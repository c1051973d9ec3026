"""What a comparison has to reach, and the file that all of them are kept in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from benchmarks import results
from benchmarks.experiment import PUBLISHED

FILE = PUBLISHED / "speed.jsonl"


class Bar(NamedTuple):
    """A number that may be at most so large.

    Attributes:
        what: of what, and against what.
        measured: the number; NaN where it could not be measured.
        most: the largest that will do.
    """

    what: str
    measured: float
    most: float

    @property
    def is_met(self) -> bool:
        """Whether it is; not where nothing could be measured."""
        return self.measured <= self.most


class Comparison(NamedTuple):
    """One piece of work at one size.

    Attributes:
        work: what is done.
        size: of what.
        programs: for each program, ours first, what `interleaved.compare` says of it.
        bars: what is to be reached.
        absent: competitors that are not installed.
        facts: what else was measured, by name.
    """

    work: str
    size: Mapping[str, Any]
    programs: Mapping[str, Mapping[str, float]]
    bars: tuple[Bar, ...]
    absent: tuple[str, ...]
    facts: Mapping[str, Any]

    def line(self, run: Mapping[str, Any]) -> results.Line:
        """As a results file has it."""
        result = self._asdict() | {"bars": [bar._asdict() for bar in self.bars]}
        return results.Line({name: result.pop(name) for name in ("work", "size")}, result, run)

    @classmethod
    def of(cls, line: results.Line) -> Comparison:
        """From a line of a results file."""
        bars = tuple(Bar(bar["what"], float(bar["measured"]), bar["most"]) for bar in line.result["bars"])
        return cls(**{**line.configuration, **line.result, "bars": bars, "absent": tuple(line.result["absent"])})

    def __str__(self) -> str:
        ours = next(iter(self.programs), None)
        rows = [f"{self.work}, {', '.join(f'{name} {value}' for name, value in self.size.items())}"]
        for name, row in self.programs.items():
            spread = f"; {ours} / it {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})"
            rows.append(f"{name}: {row['median_cpu_seconds']:.4f} s of CPU{spread}")
        rows += [f"{name}: not installed, left out" for name in self.absent]
        rows += [f"{name}: {value}" for name, value in self.facts.items()]
        rows += [f"{bar.what}: {bar.measured:.4g}, at most {bar.most:g}" for bar in self.bars]
        return "\n  ".join(rows)


def publish(lines: Iterable[results.Line]) -> None:
    """Put lines in the place of those of the same work and size in `FILE`, and at its head."""
    new = {results.key(line.configuration): line for line in lines}
    old = {results.key(line.configuration): line for line in results.read(FILE)}
    kept = {name: line for name, line in old.items() if name not in new}
    results.replace(FILE, results.brief((new | kept).values()).encode())
