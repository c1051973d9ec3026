"""Wall time of a batch of affine maps over two forced host devices, and of their multiplications as one product.

Run as `python -m benchmarks.speed.both_cores BATCH TIME HIDDEN OUTPUT INPUT`, with
`XLA_FLAGS=--xla_force_host_platform_device_count=2`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import maso_rnn


def main(batch: int, steps: int, hidden: int, outputs: int, inputs: int, *, repeats: int = 7) -> None:
    """Print JSON: for `ours` and each other way, median wall seconds, and their paired ratio to the `product`."""
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    whole_rnn = maso_rnn.init(jax.random.key(0), inputs, [hidden], outputs, dtype="float32")
    whole_xs = jax.random.normal(jax.random.key(1), (batch, steps, inputs), "float32")
    rnn = jax.device_put(whole_rnn, NamedSharding(mesh, PartitionSpec()))
    xs = jax.device_put(whole_xs, NamedSharding(mesh, PartitionSpec("batch")))
    maps = jax.jit(jax.vmap(maso_rnn.affine_map, (None, 0)))
    # one forward product and one pull-back for each output, at every step of every example; summed, so that no memory
    # is asked of the system for the result, which takes longer than the product
    rows = jnp.ones((batch * steps * (1 + outputs), hidden), "float32")
    kernel = jnp.ones((hidden, hidden), "float32")
    # each device all sequences, and a part of the outputs
    by_outputs = []
    for device, some in zip(jax.devices(), np.array_split(np.arange(outputs), jax.device_count()), strict=True):
        readout = maso_rnn.Readout(whole_rnn.readout.kernel[:, some], whole_rnn.readout.bias[some])
        by_outputs.append(jax.device_put((dataclasses.replace(whole_rnn, readout=readout), whole_xs), device))
    programs = {
        "product": functools.partial(jax.jit(lambda rows, kernel: (rows @ kernel).sum()), rows, kernel),
        "ours": functools.partial(maps, rnn, xs),
        "sharded over outputs": lambda: [maps(*part) for part in by_outputs],
        "unsharded": functools.partial(maps, whole_rnn, whole_xs),
    }
    seconds = np.zeros((repeats + 1, len(programs)))
    for row in seconds:
        for column, program in enumerate(programs.values()):
            began = time.perf_counter()
            jax.block_until_ready(program())
            row[column] = time.perf_counter() - began
    median = np.median(seconds[1:], axis=0)
    ratio = np.median(seconds[1:] / seconds[1:, :1], axis=0)
    print(json.dumps({name: {"seconds": median[k], "ratio": ratio[k]} for k, name in enumerate(programs)}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
