"""The table of `docs/path_space.md`, made from stored results: `python -m benchmarks.path_space.tables RESULTS`.

Copies the runs into `docs/results/path_space.jsonl`, without their curves but for the end, and writes the table between
the page's two marks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.path_space import KEYS, read
from benchmarks.path_space.report import outcome
from benchmarks.path_space.training import METHODS

PAGE = Path(__file__).parents[2] / "docs" / "path_space.md"
STORED = PAGE.parent / "results" / "path_space.jsonl"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Validation losses at the end, by method, task and start, each at its best learning rate."""
    columns = [(task, start) for task in dict.fromkeys(r["task"] for r in rows) for start in ("balanced", "rescaled")]
    lines = [
        "| method | " + " | ".join(f"{task}, {start}" for task, start in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in METHODS:
        cells = []
        for task, start in columns:
            one = outcome(rows, task, name, start)
            cells.append("diverged" if one.last > 1e3 else f"{one.last:.3f} ± {one.stderr:.3f} (at {one.rate:g})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(page: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page with the table of `rows` between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}"


def main(arguments: Sequence[str]) -> None:
    """Store the results of a run and rewrite the page."""
    (results,) = arguments
    rows = [
        {key: row[key] for key in KEYS} | {"validation_loss": row["validation_loss"][-1:]}
        for row in read(Path(results))
    ]
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text("".join(json.dumps(row) + "\n" for row in rows))
    PAGE.write_text(with_table(PAGE.read_text(), rows))


if __name__ == "__main__":
    main(sys.argv[1:])
