"""The report's section on eigenvalues: of the start, which both networks share, and of both when trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from benchmarks.data.dataset import Dataset
from benchmarks.quickstart.training import Trained
from maso_rnn.report import Section, dynamics

if TYPE_CHECKING:
    from benchmarks.quickstart import Quickstart


def eigenvalues(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Where the eigenvalues went, and how long a pulse is remembered while the networks read a test digit."""
    del settings  # the section is as quick at any size
    start = next(iter(trained.snapshots.values()))[0]
    return dynamics.eigenvalues({"before training": start, **trained.networks}, jnp.asarray(data.test.inputs[0]))
