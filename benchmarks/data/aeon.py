"""Time series that come inside the aeon package's wheel, read out of it without installing it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.data.dataset import Dataset, Split


def folder() -> Path:
    """Where downloaded data lie: the environment's RNN_GEOMETRY_DATA, else `data`."""
    return Path(os.environ.get("RNN_GEOMETRY_DATA", "data"))


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
    """
    wheels = sorted(folder().glob("aeon-*.whl"))
    if not wheels:
        raise FileNotFoundError(
            f"{folder()} holds no wheel of aeon, which the data are in; get it with `make data`, or with "
            f"`python -m pip download --no-deps --dest {folder()} aeon`"
        )
    place = f"aeon/datasets/data/{name.removesuffix('_eq')}/{name}"
    with zipfile.ZipFile(wheels[-1]) as wheel:
        members = [f"{place}_{part}.ts" for part in ("TRAIN", "TEST")]
        if missing := set(members) - set(wheel.namelist()):
            raise FileNotFoundError(f"{wheels[-1].name} has no {min(missing)}")
        (fit_inputs, fit_labels), (inputs, labels) = (
            read(wheel.read(member).decode("utf-8", "replace"), name=member) for member in members
        )
    classes = sorted(set(fit_labels) | set(labels))
    numbers = {label: number for number, label in enumerate(classes)}
    held = np.arange(len(fit_inputs)) % max(2, round(1 / validation)) == 0

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
    """Inputs (example, time, channel) and labels of a .ts file: a header, then channels and label apart by colons."""
    header, marker, body = text.partition("@data")
    if not marker:
        raise ValueError(f"{name}: a .ts file has a line @data, this has none")
    rows = [line.strip().split(":") for line in body.splitlines() if line.strip()]
    lengths = {len(channel.split(",")) for row in rows for channel in row[:-1]}
    if len(lengths) != 1 or "?" in body:
        raise ValueError(f"{name}: series must be complete and of equal lengths, got lengths {sorted(lengths)}")
    del header
    series = np.array([[[float(x) for x in channel.split(",")] for channel in row[:-1]] for row in rows])
    return series.transpose(0, 2, 1), np.array([row[-1] for row in rows])
