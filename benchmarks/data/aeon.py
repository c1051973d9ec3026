"""Time series that come inside the aeon package's wheel, read out of it without installing it."""

from __future__ import annotations

import re
import zipfile

import numpy as np

from benchmarks.data import files
from benchmarks.data.dataset import Dataset, Split

# SHA-256 of the two .ts files, as in aeon 1.6.0
CHECKSUMS = {
    "ACSF1": (
        "0646b90dc4843e02baed6b2ba345c5601a4991b6796565489cef1b2d92a7537b",
        "93e8aaeb44a10af181d24a156e60da7021193cd990ca28f263fccf3b905bfebf",
    ),
    "BasicMotions": (
        "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
        "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    ),
    "GunPoint": (
        "f842401779fd9800d247d8b33121a1a4643710a19b24917dbdd9a060ca8630d5",
        "79332750788a6227b325b96bd0d70130c8eb707b9731f8d7dec62b7a7d36017e",
    ),
    "ItalyPowerDemand": (
        "341269cb7e6cef96846b30e774580beec79addb93848ba360145219115a74b7c",
        "26122451f87dd0387ef90b18bc8a86c041371b8a1c068004922b939971247144",
    ),
    "JapaneseVowels_eq": (
        "8958279c6296b97c8e34038346407935222db171492b84dffa3b930d087bc2d6",
        "bb83bb1aa6bfb17faae269f6829b7cac71de36fdd3264ee34137fe90270d5895",
    ),
    "OSULeaf": (
        "86b9d6e860414ffd26cebc62fff84ffb37fa588ef3e5bf79e4094a437c36ddfc",
        "6c549dd354f9e42d5985fa5fab75321ca9acefc7873457e71467fc8a31f107ce",
    ),
    "PickupGestureWiimoteZ_eq": (
        "b4963f9491f3c5db60ee20a11fedaab5badc476c5086e7592014b64dcf46571b",
        "982ae7fe7613cf7f4e8e5e7e06b014ae12c6efdc3d59f08abb28f78068b7a66c",
    ),
}


def aeon(name: str, *, validation: float = 0.3) -> Dataset:
    """One of aeon's data sets of equal lengths, such as "ACSF1" or "JapaneseVowels_eq".

    Args:
        name: as its .ts files are named.
        validation: the share of the training examples to choose settings on: every n-th of them, so that classes that
            come in turn are in both.

    Returns:
        The data set; inputs (example, time, channel) as they are stored, targets numbered in the order of their names.

    Raises:
        FileNotFoundError: if there is no wheel, or no such data set in it.
        ValueError: if the wheel is broken, a file is not the one that was published, or its classes come in
            such turns that one is all held back.
    """
    home = files.folder()
    wheels = sorted(home.glob("aeon-*.whl"))
    if not wheels:
        raise FileNotFoundError(
            f"{home} holds no wheel of aeon, which the data are in; get it with `make data`, or with "
            f"`python -m pip download --no-deps --dest {home} aeon==1.6.0`"
        )
    place = f"aeon/datasets/data/{name.removesuffix('_eq')}/{name}"
    members = [f"{place}_{part}.ts" for part in ("TRAIN", "TEST")]
    parts = []
    with files.unpacking(str(wheels[-1])), zipfile.ZipFile(wheels[-1]) as wheel:
        if missing := set(members) - set(wheel.namelist()):
            raise FileNotFoundError(f"{wheels[-1].name} has no {min(missing)}")
        for member, checksum in zip(members, CHECKSUMS.get(name, ("", "")), strict=True):
            with wheel.open(member) as file:
                content = files.bounded(file, name=member)
            files.check(content, checksum, name=f"{member} in {wheels[-1]}")
            parts.append(read(content.decode("utf-8", "replace"), name=member))
    (fit_inputs, fit_labels), (inputs, labels) = parts
    classes = sorted(set(fit_labels) | set(labels))
    numbers = {label: number for number, label in enumerate(classes)}
    held = np.arange(len(fit_inputs)) % max(2, round(1 / validation)) == 0
    if lost := set(fit_labels[held]) - set(fit_labels[~held]):
        raise ValueError(
            f"{name}: every example of {', '.join(sorted(lost))} would be held back; choose another validation share"
        )

    def split(inputs: np.ndarray, labels: np.ndarray) -> Split:
        return Split(inputs, np.array([numbers[label] for label in labels]), np.full(len(inputs), inputs.shape[1]))

    return Dataset(
        train=split(fit_inputs[~held], fit_labels[~held]),
        validation=split(fit_inputs[held], fit_labels[held]),
        test=split(inputs, labels),
        name=name,
        source=f"{name} of timeseriesclassification.com, from the wheel {wheels[-1].name}",
        licence="as stated at timeseriesclassification.com; the wheel is BSD-3-Clause",
    )


def read(text: str, *, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (example, time, channel) and labels of a .ts file: a header, then channels and label apart by colons.

    Raises:
        ValueError: if there is no data, or series are not complete, finite and of equal lengths.
    """
    _, *rest = re.split(r"^@data\s*$", text, maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)
    rows = [line.strip().split(":") for line in "".join(rest).splitlines() if line.strip()]
    if not rows:
        raise ValueError(f"{name}: a .ts file has a line @data and series after it, this has none")
    channels = {len(row) - 1 for row in rows}
    lengths = {channel.count(",") + 1 for row in rows for channel in row[:-1]}
    if channels == {0} or len(channels) != 1 or len(lengths) != 1:
        raise ValueError(
            f"{name}: series must be of equal lengths and channels, with a label after the last colon; got "
            f"lengths {sorted(lengths)[:5]}, channels {sorted(channels)[:5]}"
        )
    try:
        series = np.array([[[float(x) for x in channel.split(",")] for channel in row[:-1]] for row in rows])
    except ValueError as error:
        raise ValueError(f"{name}: series must be complete: {error!s:.100}") from error
    if not np.isfinite(series).all():
        raise ValueError(f"{name}: series must be finite")
    return series.transpose(0, 2, 1), np.array([row[-1] for row in rows])
