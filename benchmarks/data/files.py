"""Files of data: where they lie, what must be in them, and how much of them is read."""

from __future__ import annotations

import gzip
import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

LIMIT = 2**28  # bytes of one file, unpacked; the largest that is asked for, text8, has 10^8
SYSTEM = Path("/")

P = TypeVar("P", Path, Path | zipfile.Path)


class Readable(Protocol):
    """A file that is open for reading bytes."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes."""


def folder() -> Path:
    """Where downloaded data lie: the environment's RNN_GEOMETRY_DATA, else `data`."""
    return Path(os.environ.get("RNN_GEOMETRY_DATA", "data"))


def debian(path: str) -> list[Path]:
    """Where a file of a Debian package may lie: installed, or unpacked by `make data`."""
    return [SYSTEM / path, folder() / "debian" / path]


def root(home: Path, archive: str) -> Path | zipfile.Path:
    """What is to be read from: the archive where it lies in the folder, else the folder; nothing is written anywhere.

    Raises:
        ValueError: if the archive is broken.
    """
    with unpacking(str(home / archive)):
        return zipfile.Path(home / archive) if (home / archive).is_file() else home


def first(*places: P, get: str) -> P:
    """The first of the places that is there.

    Args:
        places: paths, the preferred first.
        get: how to come by it, for the error.

    Raises:
        FileNotFoundError: if none is.
    """
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"no {' and no '.join(map(str, places))}; {get}")


def read(path: Path | zipfile.Path, *, sha256: str = "") -> bytes:
    """What is in a file, unpacked where its name ends in .gz.

    Args:
        path: of the file.
        sha256: of what must be in it, in hexadecimal; empty where that is not known.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be unpacked, holds more than `LIMIT` bytes, or something else than it must.
    """
    with (
        unpacking(str(path)),
        gzip.open(path) if isinstance(path, Path) and path.suffix == ".gz" else path.open("rb") as file,
    ):
        content = bounded(file, name=str(path))
    check(content, sha256, name=str(path))
    return content


def text(path: Path | zipfile.Path) -> str:
    """What is in a file of UTF-8, plain or .gz; refused as by `read`, and where it is not UTF-8."""
    try:
        return read(path).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}") from error


def bounded(file: Readable, *, name: str) -> bytes:
    """What is in an open file, refused beyond `LIMIT` bytes: a small archive may unpack to more than a machine has."""
    content = file.read(LIMIT + 1)
    if len(content) > LIMIT:
        raise ValueError(f"{name} holds more than {LIMIT} bytes once unpacked; no file of these data is that large")
    return content


def check(content: bytes, sha256: str, *, name: str) -> None:
    """Refuse what is not the content that this SHA-256 was taken of; an empty one takes anything."""
    if sha256 and (came := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(
            f"{name} is not the file that the results were computed from: its SHA-256 is {came}, not {sha256}; "
            "it may have been cut off or be of another version, so remove it and get it again"
        )


@contextmanager
def unpacking(name: str) -> Iterator[None]:
    """Whatever an archive may be broken by, as a ValueError that names it."""
    try:
        yield
    except OSError as error:
        # of the file system, with a name, or of what is in the archive
        if error.filename is not None or isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{name} cannot be unpacked ({error}); remove it and get it again") from error
    except (EOFError, RuntimeError, UnicodeDecodeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{name} cannot be unpacked ({error}); remove it and get it again") from error
