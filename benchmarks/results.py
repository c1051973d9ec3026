"""Results of experiments as JSON lines: one for each configuration, written as it completes, and so the checkpoint.

A line is `{"configuration": {...}, "result": {...}, "run": {...}}`. The configuration holds every setting that the
result hangs on, the seed among them, and is what a result is found again by: what was computed under other settings is
never taken for it. The run (versions, machine, commit, times) is all that two runs of one configuration differ in.
In published files, which are to be short, `{"but": {"configuration": {...}, "run": {...}}, "result": {...}}` is a line
like the one before it, but for these settings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from maso_rnn.report.document import plain


class Line(NamedTuple):
    """One result.

    Attributes:
        configuration: every setting, the seed among them.
        result: what came of it, as JSON has it: a number that is not finite is its name.
        run: versions, machine, commit and times.
    """

    configuration: Mapping[str, Any]
    result: Mapping[str, Any]
    run: Mapping[str, Any]


def key(configuration: Any) -> str:
    """What a configuration, a dataclass or what JSON made of one, is found again by."""
    settings = configuration if isinstance(configuration, Mapping) else dataclasses.asdict(configuration)
    return json.dumps(plain(settings), sort_keys=True)


def read(file: Path) -> list[Line]:
    """The lines of a results file that are whole; the others are named on standard error."""
    return _parsed(file)[0]


def text(lines: Iterable[Line]) -> str:
    """The lines as a results file has them."""
    return "".join(json.dumps(plain(line._asdict()), allow_nan=False) + "\n" for line in lines)


def brief(lines: Iterable[Line]) -> str:
    """The lines as a published file has them."""
    written, before = [], Line({}, {}, {})
    for line in lines:
        whole: Mapping[str, Any] = line._asdict()
        parts = ((line.configuration, before.configuration), (line.run, before.run))
        if all(now.keys() == then.keys() for now, then in parts):
            differing = [{name: value for name, value in now.items() if then[name] != value} for now, then in parts]
            whole = {"but": dict(zip(("configuration", "run"), differing, strict=True)), "result": line.result}
        written.append(json.dumps(plain(whole), allow_nan=False) + "\n")
        before = line
    return "".join(written)


class Results:
    """The results of one folder, open to one run at a time: `with Results(folder) as results`.

    Entering takes a lock that the system gives back however the run ends, and takes out of `results.jsonl` what an
    interrupted run left of a line.

    Attributes:
        folder: the folder.
        lines: what has been computed, by `key`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: dict[str, Line] = {}
        self._file = folder / "results.jsonl"
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Results:
        """Lock the folder and read its lines.

        Raises:
            BlockingIOError: if another run has the folder.
            OSError: if the folder cannot be written to.
        """
        with contextlib.ExitStack() as opened:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = opened.enter_context((self.folder / ".lock").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlockingIOError(
                    f"{self.folder} is in use by another run; wait for it to end, or name another folder"
                ) from None
            except OSError as error:
                raise type(error)(f"{self.folder} cannot hold results: {error.strerror}; name another folder") from None
            lines, are_whole = _parsed(self._file)
            if not are_whole:
                replace(self._file, text(lines).encode())
            self.lines = {key(line.configuration): line for line in lines}
            self._open = opened.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._open.close()

    def add(self, lines: Sequence[Line]) -> None:
        """Write lines to the disk, all of them or none.

        Raises:
            OSError: if they cannot be written; what was there before is as it was.
        """
        data = text(lines).encode()
        try:
            with self._file.open("ab", buffering=0) as file:
                before = file.tell()
                try:
                    if file.write(data) != len(data):
                        raise OSError("no space for a whole line")
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(before)
                    raise
        except OSError as error:
            raise type(error)(
                f"{self._file} cannot be written ({error.strerror or error}); the results before are kept, and a rerun "
                "goes on from them"
            ) from None
        self.lines |= {key(line.configuration): line for line in _through_json(lines)}


def replace(file: Path, data: bytes) -> None:
    """Put data in place of a file, whole or not at all."""
    draft = file.with_name(f".{file.name}.draft")
    try:
        with draft.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def timed() -> Iterator[dict[str, Any]]:
    """What a run is told by; its times (s) are those of the block."""
    run = dict(_machine())
    wall, cpu = time.perf_counter(), time.process_time()
    yield run
    run |= {"wall": round(time.perf_counter() - wall, 3), "cpu": round(time.process_time() - cpu, 3)}


@functools.cache
def _machine() -> Mapping[str, Any]:
    packages = ("rnn-geometry", "jax", "jaxlib", "flax", "optax", "diffrax", "numpy")
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {device.platform} ({device.device_kind})",
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit of the code that runs, with "-dirty" where files differ from it."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        found = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _through_json(lines: Sequence[Line]) -> list[Line]:
    """Lines as they will be read."""
    return [Line(**json.loads(one)) for one in text(lines).splitlines()]


def _parsed(file: Path) -> tuple[list[Line], bool]:
    """The lines that are whole, and whether all are."""
    found: list[Line] = []
    content = file.read_bytes().split(b"\n") if file.exists() else [b""]
    broken = content.pop() != b""
    for one in content:
        try:
            line = json.loads(one)
            if "but" in line:
                line |= {name: getattr(found[-1], name) | settings for name, settings in line.pop("but").items()}
            found.append(Line(**line))
        except (ValueError, TypeError, IndexError):
            broken = True
    if broken:
        print(f"{file}: a line that is not whole is left out and done again", file=sys.stderr)
    return found, not broken
