"""Texts a character at a time: at each step, the next character is to be said."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from benchmarks.data import files
from benchmarks.data.dataset import Dataset, Split


def text_file(path: Path, *, time: int = 50) -> Dataset:
    """Any text: its first 90% to train on, the next 5% to choose on, the last 5% to test on.

    Args:
        path: of the file, UTF-8, plain or .gz.
        time: steps of each window.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not UTF-8, or has no window for each part.
    """
    text = files.text(path)
    return windows(*_cut(text), time=time, name=f"characters-{path.stem}", source=str(path), licence="its own")


def fortunes(*, time: int = 50, folder: Path | None = None) -> Dataset:
    """The sayings that Debian's `fortune` tells, 2.5 million characters, each saying in one part only.

    Different sayings, in a fixed random order, apart by lines of "%": 90% of them to train on, 5% to choose on, 5% to
    test on.

    Args:
        time: steps of each window.
        folder: of the files; by default where Debian's package fortunes puts them.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if a file is not UTF-8, or there is no window for each part.
    """
    home = files.first(
        *([folder] if folder else files.debian("usr/share/games/fortunes")),
        get="get it with `make data`, or `apt-get install fortunes`, or name the folder",
    )
    paths = sorted(path for path in home.iterdir() if path.is_file() and not path.suffix)
    told = (saying.strip("\n") for path in paths for saying in re.split("^%$", files.text(path), flags=re.MULTILINE))
    sayings = np.array(list(dict.fromkeys(filter(None, told))), object)
    order = np.random.default_rng(0).permutation(len(sayings))
    parts = ["\n%\n".join(x) for x in np.split(sayings[order], [len(order) * 9 // 10, len(order) * 19 // 20])]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    return windows(
        *parts,
        time=time,
        name="fortunes",
        source=f"Debian's packages fortunes and fortunes-min; SHA-256 of the parts {digest}",
        licence="BSD (the collection); the sayings are their authors'",
    )


def penn_treebank(*, time: int = 50, folder: Path | None = None) -> Dataset:
    """The Penn Treebank as T. Mikolov prepared it, in its own three parts: lines without the spaces around them.

    Args:
        time: steps of each window.
        folder: of ptb.train.txt, ptb.valid.txt and ptb.test.txt; by default `ptb` in the folder of the data.

    Raises:
        FileNotFoundError: if one is not there.
        ValueError: if one is not UTF-8, or has no window.
    """
    home = folder or files.folder() / "ptb"
    get = f"put ptb.train.txt, ptb.valid.txt and ptb.test.txt, of T. Mikolov's simple-examples/data, in {home}"
    texts = (files.text(files.first(home / f"ptb.{part}.txt", get=get)) for part in ("train", "valid", "test"))
    return windows(
        *("".join(f"{line.strip(' ')}\n" for line in text.strip("\n").split("\n")) for text in texts),
        time=time,
        name="penn-treebank",
        source="Penn Treebank, M. Marcus, B. Santorini and M. Marcinkiewicz (1993), prepared by T. Mikolov (2010)",
        licence="of the Linguistic Data Consortium",
    )


def text8(*, time: int = 50, folder: Path | None = None) -> Dataset:
    """A hundred million characters of Wikipedia, a to z and spaces: 90% to train on, 5% to choose on, 5% to test on.

    Args:
        time: steps of each window.
        folder: of text8.zip, or of text8 unpacked; by default `text8` in the folder of the data.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it cannot be unpacked, or has other characters.
    """
    home = folder or files.folder() / "text8"
    path = files.first(files.root(home, "text8.zip") / "text8", get=f"put mattmahoney.net/dc/text8.zip in {home}")
    content = files.read(path)
    if strange := set(content) - set(b"abcdefghijklmnopqrstuvwxyz "):
        raise ValueError(f"{path} must be of a to z and spaces, it has {bytes(sorted(strange))[:9]!r}")
    parts = _cut(content.decode())
    return windows(
        *parts, time=time, name="text8", source="text8, M. Mahoney (2006), of Wikipedia", licence="GFDL, CC BY-SA"
    )


def windows(train: str, validation: str, test: str, *, time: int, name: str, source: str, licence: str) -> Dataset:
    """Texts cut into windows that do not overlap, in order; each character's target is the one after it.

    Characters are whole numbers: from 1 on those that are trained on, by code point; 0 for any other. So a network
    wants them one-hot in `train.targets.max() + 1` channels, with the mean cross-entropy over log 2 as its bits per
    character.

    Args:
        train: a text.
        validation: another.
        test: another.
        time: steps of each window.
        name: of the data set.
        source: who made it.
        licence: under which terms.

    Returns:
        Inputs (window, time, 1) and targets (window, time).

    Raises:
        ValueError: if a text is shorter than one window and the character after it.
    """
    if time < 1:
        raise ValueError(f"time must be at least 1, got {time}")
    points = [np.frombuffer(text.encode("utf-32-le"), np.uint32) for text in (train, validation, test)]
    if (shortest := min(map(len, points))) <= time:
        raise ValueError(f"{name}: each part must have more than time={time} characters, one has {shortest}")
    counts = [(len(text) - 1) // time for text in points]
    known = np.zeros(0x110000, bool)
    known[points[0][1 : counts[0] * time + 1]] = True
    code = np.where(known, np.cumsum(known), 0).astype(np.min_scalar_type(known.sum()))
    parts = []
    for text, count in zip(points, counts, strict=True):
        codes = code[text[: count * time + 1]]
        inputs, targets = codes[:-1].reshape(count, time, 1), codes[1:].reshape(count, time)
        parts.append(Split(inputs, targets, np.full(count, time)))
    return Dataset(parts[0], parts[1], parts[2], name=name, source=source, licence=licence)


def _cut(text: str) -> tuple[str, str, str]:
    """The first 90%, the next 5% and the last 5%."""
    first, second = len(text) * 9 // 10, len(text) * 19 // 20
    return text[:first], text[first:second], text[second:]
