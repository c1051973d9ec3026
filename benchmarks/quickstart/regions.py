"""The report's section on regions while the networks train: does training cut the space between inputs finer?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data.dataset import Dataset
from benchmarks.quickstart.training import Trained
from maso_rnn import plots, style, walk_line
from maso_rnn.report import Picture, Section

if TYPE_CHECKING:
    from benchmarks.quickstart import Quickstart

MOST = 20_000  # pieces of a walk
SNAPSHOTS = 5  # at most, evenly among those taken, which lie ever further apart


def regions_through_training(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Pieces between test digits, at some snapshots of both networks."""
    xs, lines = data.test.inputs, 2 if settings.smoke else 3
    shown = np.unique(np.linspace(0, len(trained.epochs) - 1, SNAPSHOTS).round().astype(int))
    walks = {
        name: [[walk_line(rnns[k], xs[i], xs[i + 1], max_regions=MOST) for i in range(lines)] for k in shown]
        for name, rnns in trained.snapshots.items()
    }
    pieces = {name: np.array([[walk.pieces for walk in row] for row in rows]) for name, rows in walks.items()}
    cut = sum(bool(walk.overflow) for rows in walks.values() for row in rows for walk in row)
    figure = style.new_figure(9, 4.5)
    plots.over_training(trained.epochs[shown], pieces, label="pieces between two digits", axes=figure.add_subplot())
    ends = {name: (np.median(rows[0]), np.median(rows[-1])) for name, rows in pieces.items()}
    answer = f"{'Yes' if all(end > start for start, end in ends.values()) else 'No'}: " + (
        "; ".join(f"{name} from {start:.0f} to {end:.0f}" for name, (start, end) in ends.items()) + "."
    )
    return Section(
        "regions-through-training",
        "Regions while training",
        "The pieces on the straight line between two digits, found exactly, say how finely the space between them is "
        f"cut. Lines are medians, bands quartiles, over {lines} pairs of test digits.",
        [
            Picture(
                "regions-through-training",
                "Does training cut the space between inputs into more pieces?",
                figure,
                answer,
            )
        ],
        {"epochs": trained.epochs[shown], "pieces_between_two_sequences": pieces},
        [f"{cut} of the walks hit the cap of {MOST} pieces."] * bool(cut),
    )
