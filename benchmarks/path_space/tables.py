"""The table of `docs/path_space.md`, made from the published results."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from benchmarks.experiment import Rows
from benchmarks.path_space.report import Outcome, outcome, settings_of
from benchmarks.path_space.training import METHODS, STARTS, Configuration

PAGE = Path(__file__).parents[2] / "docs" / "path_space.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def table(rows: Rows[Configuration]) -> str:
    """Test losses by method, setting and start: bits per character of texts, cross-entropy in nats, squared error."""
    columns = [(setting, start) for setting in settings_of(rows) for start in STARTS]
    lines = [
        "| method | " + " | ".join(f"{setting}, {start}" for setting, start in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name in METHODS:
        cells = [_cell(outcome(rows, setting, name, start), setting) for setting, start in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(end: Outcome, setting: str) -> str:
    if not np.isfinite(end.test).all():
        return f"diverged {np.sum(~np.isfinite(end.test))}/{len(end.test)} (at {end.rate:g})"
    unit = math.log(2) if setting.startswith(("fortunes", "penn-treebank")) else 1.0
    return f"{end.loss / unit:.3f} ± {end.stderr / unit:.3f} (at {end.rate:g}{', edge' if end.at_edge else ''})"


def with_table(page: str, rows: Rows[Configuration]) -> str:
    """The page with the table of `rows` between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}"
