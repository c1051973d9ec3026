"""Arguments of the commands: dataclasses through tyro, with one clear line for what is wrong."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeVar

import tyro

T = TypeVar("T")


def parse(settings: type[T], arguments: Sequence[str], *, command: str) -> T:
    """The settings that the arguments ask for; a bad argument ends the program with one line and status 2."""
    panel = io.StringIO()
    try:
        with contextlib.redirect_stderr(panel):
            return tyro.cli(settings, args=list(arguments), prog=f"python -m benchmarks {command}")
    except SystemExit as stop:
        if stop.code == 2:
            # tyro draws a panel: a heading in its frame, the message, a rule, then help
            lines = [line.strip("│| ") for line in panel.getvalue().splitlines()]
            said = itertools.dropwhile(lambda line: not re.search(r"\w", line), lines[1:])
            refuse(" ".join(itertools.takewhile(lambda line: re.search(r"\w", line), said)), command)
        raise


def refuse(message: str, command: str) -> NoReturn:
    """End the program with one line on standard error and status 2."""
    print(f"python -m benchmarks {command}: {message}", file=sys.stderr)
    raise SystemExit(2)
