"""The one shape that every data set comes in."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """Sequences and what is to be said of them.

    Attributes:
        inputs: (example, time, input), padded with zeros where sequences differ in length.
        targets: (example,) classes, or (example, time) classes, one to be said at each step: whole numbers; or
            (example, output) numbers.
        lengths: (example,), how many steps of each are real.
    """

    inputs: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray

    def first(self, count: int) -> Split:
        """Its first `count` examples."""
        return Split(self.inputs[:count], self.targets[:count], self.lengths[:count])


class Dataset(NamedTuple):
    """A data set in three parts, and where it comes from.

    Attributes:
        train: to fit on.
        validation: to choose settings on.
        test: to report on.
        name: its name in the results.
        source: who made it and how it was had.
        licence: under which terms.
    """

    train: Split
    validation: Split
    test: Split
    name: str
    source: str
    licence: str
