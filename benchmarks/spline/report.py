"""The report of the spline experiment."""

from __future__ import annotations

from benchmarks.experiment import Rows
from benchmarks.spline.training import Configuration
from maso_rnn.report import Section


def sections(rows: Rows[Configuration]) -> list[Section]:
    """None yet."""
    del rows
    return []
