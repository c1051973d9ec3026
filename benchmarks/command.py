"""Arguments of the commands: dataclasses through tyro, with one clear line for what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, TypeVar

from maso_rnn import command as command_line

T = TypeVar("T")


def parse(settings: type[T], arguments: Sequence[str], *, command: str) -> T:
    """The settings that the arguments ask for; a bad argument ends the program with one line and status 2."""
    return command_line.parse(settings, arguments, program=f"python -m benchmarks {command}")


def refuse(message: str, command: str) -> NoReturn:
    """End the program with one line on standard error and status 2."""
    command_line.refuse(message, f"python -m benchmarks {command}")
