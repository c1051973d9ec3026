"""The tables of `docs/path_space.md`, made from the published results."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from benchmarks.path_space.report import Outcome, methods_of, outcome, settings_of, starts_of
from benchmarks.path_space.training import Configuration
from benchmarks.rows import Rows

PAGE = Path(__file__).parents[2] / "docs" / "path_space.md"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def tables(rows: Rows[Configuration]) -> str:
    """A table of test losses for each setting, by method and start."""
    parts, starts = [], starts_of(rows)
    for setting in settings_of(rows):
        unit, scale = _unit(setting)
        lines = [
            f"| {setting}: {unit} | {' | '.join(f'{start} start' for start in starts)} |",
            "|---" * (len(starts) + 1) + "|",
        ]
        for name in methods_of(rows):
            cells = [_cell(outcome(rows, setting, name, start), scale) for start in starts]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _unit(setting: str) -> tuple[str, float]:
    """What a setting's losses are shown in, and how many nats or squares that is."""
    if setting.startswith(("fortunes", "penn-treebank")):
        return "bits per character", math.log(2)
    return ("mean squared error" if setting.startswith("adding") else "cross-entropy (nats)"), 1.0


def _cell(end: Outcome, scale: float) -> str:
    rate = f"(at {end.rate:g}{', edge' if end.at_edge else ''})"
    diverged = int(np.sum(~np.isfinite(end.test)))
    if diverged:
        return f"diverged in {diverged} of {len(end.test)} {rate}"
    return f"{end.loss / scale:.3f} ± {end.stderr / scale:.3f} {rate}"


def with_tables(page: str, rows: Rows[Configuration]) -> str:
    """The page with the tables of `rows` between its marks."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables(rows)}\n\n{END}{after}"
