"""Arguments of the commands: dataclasses through tyro, with one clear line for what is wrong."""

from __future__ import annotations

import contextlib
import io
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
            # tyro draws a panel: a heading, then a line that says what is wrong
            lines = [line.strip("│|╭╮╰╯─ ") for line in panel.getvalue().splitlines()]
            said = [line for line in lines if any(map(str.isalpha, line))]
            refuse(said[1] if len(said) > 1 else "the arguments could not be read", command)
        raise


def refuse(message: str, command: str) -> NoReturn:
    """End the program with one line on standard error and status 2."""
    print(f"python -m benchmarks {command}: {message}", file=sys.stderr)
    raise SystemExit(2)
