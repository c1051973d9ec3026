"""The report's sections on the partition of input space, on the test digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.data.dataset import Dataset
from benchmarks.quickstart.training import Trained
from maso_rnn import last_output
from maso_rnn.report import Section, partition

if TYPE_CHECKING:
    from benchmarks.quickstart import Quickstart


def regions(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Regions through time and through training."""
    return partition.regions(
        trained.epochs.tolist(),
        trained.snapshots,
        jnp.asarray(data.test.inputs),
        lines=2 if settings.smoke else 4,
    )


def codes(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Distances between the codes of test digits, of the network without noise."""
    del settings
    name = next(iter(trained.networks))
    return partition.code_distances(
        trained.networks[name], jnp.asarray(data.test.inputs), jnp.asarray(data.test.targets), image_shape=(8, 8)
    )


def walk(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """From one digit to another, both predicted right."""
    del settings
    (first, second, _), names = _three(trained, data)
    return partition.digit_walk(next(iter(trained.networks.values())), first, second, names[:2])


def plane(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Through three digits, all predicted right."""
    (first, second, third), names = _three(trained, data)
    return partition.digit_plane(
        next(iter(trained.networks.values())),
        (first, second, third),
        names,
        max_regions=200 if settings.smoke else 3_000,
        resolution=40 if settings.smoke else 200,
    )


def boundary(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """The distance to the nearest kink, right against wrong."""
    del settings
    return partition.boundary_distances(trained.networks, jnp.asarray(data.test.inputs), jnp.asarray(data.test.targets))


def noise(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Measured against predicted noise penalty."""
    count, pairs = (10, 5) if settings.smoke else (60, 25)
    return partition.noise(
        trained.networks,
        jnp.asarray(data.test.inputs[:count]),
        jnp.asarray(data.test.targets[:count]),
        key=jax.random.fold_in(jax.random.key(settings.seed), 3),
        pairs=pairs,
    )


def parallel(trained: Trained, data: Dataset, settings: Quickstart) -> Section:
    """Rounds of parallel evaluation, by length, start and training."""
    name, rnns = next(iter(trained.snapshots.items()))
    count, hidden = (1, 16) if settings.smoke else (2, 32)
    return partition.rounds(
        {f"{name}, before training": rnns[0], f"{name}, trained": rnns[-1]},
        jnp.asarray(data.test.inputs[:count]),
        key=jax.random.fold_in(jax.random.key(settings.seed), 4),
        lengths=(32,) if settings.smoke else (16, 32, 64),
        hidden=hidden,
    )


def _three(trained: Trained, data: Dataset) -> tuple[list[np.ndarray], tuple[str, str, str]]:
    """The first test digits of three classes that the network gets right (or any, where too few are), and names."""
    rnn = next(iter(trained.networks.values()))
    said = np.asarray(jax.jit(jax.vmap(lambda x: last_output(rnn, x).argmax()))(jnp.asarray(data.test.inputs)))
    right = np.flatnonzero(said == data.test.targets)
    _, firsts = np.unique(data.test.targets[right], return_index=True)
    chosen = [*right[firsts], *np.setdiff1d(np.arange(len(said)), right[firsts])][:3]
    first, second, third = (f"a {int(data.test.targets[i])}" for i in chosen)
    return [data.test.inputs[i] for i in chosen], (first, second, third)
