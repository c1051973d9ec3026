"""One of several processes that share the work: `python -m tests.processes ADDRESS COUNT ID TIMEOUT OUTPUT`.

Each has its own devices and its share of the examples; the means are over all of them.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import maso_rnn
import srnn
from maso_rnn.batches import map_batches

EXAMPLES, BATCH, PATHS = 24, 4, 32


def ensemble() -> dict[str, Any]:
    """Paths over all devices of all processes; the mean and its standard error come back to each."""
    model = srnn.init(jax.random.key(0), 1, 4, noise=0.5)
    sharding = NamedSharding(Mesh(jax.devices(), ("paths",)), PartitionSpec("paths"))
    run = srnn.simulate(model, key=jax.random.key(1), paths=PATHS, t1=1.0, dt=0.125, sharding=sharding)
    return {"mean": run.mean, "stderr": run.stderr, "diverged": run.diverged}


def data_set() -> dict[str, Any]:
    """Each process maps its own share of the examples on its own devices; counts and sums are added up."""
    rnn = maso_rnn.init(jax.random.key(0), 2, [4], 3)
    xs = np.random.default_rng(0).standard_normal((EXAMPLES, 5, 2))
    mine = xs[jax.process_index() :: jax.process_count()]
    distances = np.concatenate(list(map_batches(maso_rnn.boundary_distance, rnn, mine, batch_size=BATCH)))
    shares = multihost_utils.process_allgather(np.asarray([len(distances), distances.sum()]))
    count, total = shares.reshape(-1, 2).sum(axis=0)
    return {"count": count, "mean_distance": total / count}


def main(address: str, count: str, process: str, timeout: str, output: str) -> None:
    """Join the others, compute, and have the first of them write what came of it.

    Waits `timeout` seconds for the others to join, to be heard of, and to end.
    """
    jax.config.update("jax_enable_x64", True)
    if int(count) > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            address,
            int(count),
            int(process),
            initialization_timeout=int(timeout),
            heartbeat_timeout_seconds=int(timeout),
            shutdown_timeout_seconds=int(timeout),
        )
    found = ensemble() | data_set()
    if process == "0":
        np.savez(output, devices=jax.device_count(), processes=jax.process_count(), **jax.tree.map(np.asarray, found))


if __name__ == "__main__":
    main(*sys.argv[1:])
