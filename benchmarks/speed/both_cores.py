"""Wall time of a batch of affine maps over two forced host devices, and of their multiplications as one product.

Run as `python -m benchmarks.speed.both_cores BATCH TIME HIDDEN OUTPUT INPUT`, with
`XLA_FLAGS=--xla_force_host_platform_device_count=2`.
"""

from __future__ import annotations

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
    """Print JSON: median wall seconds of `ours` and of the `product`, interleaved, and the median paired ratio."""
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    rnn = maso_rnn.init(jax.random.key(0), inputs, [hidden], outputs, dtype="float32")
    rnn = jax.device_put(rnn, NamedSharding(mesh, PartitionSpec()))
    xs = jax.random.normal(jax.random.key(1), (batch, steps, inputs), "float32")
    xs = jax.device_put(xs, NamedSharding(mesh, PartitionSpec("batch")))
    # one forward product and one pull-back for each output, at every step of every example; summed, so that no memory
    # is asked of the system for the result, which takes longer than the product
    rows = jnp.ones((batch * steps * (1 + outputs), hidden), "float32")
    kernel = jnp.ones((hidden, hidden), "float32")
    programs = {
        "ours": functools.partial(jax.jit(jax.vmap(maso_rnn.affine_map, (None, 0))), rnn, xs),
        "product": functools.partial(jax.jit(lambda rows, kernel: (rows @ kernel).sum()), rows, kernel),
    }
    seconds = np.zeros((repeats + 1, 2))
    for row in seconds:
        for column, program in enumerate(programs.values()):
            began = time.perf_counter()
            jax.block_until_ready(program())
            row[column] = time.perf_counter() - began
    ours, product = np.median(seconds[1:], axis=0)
    ratio = np.median(seconds[1:, 0] / seconds[1:, 1])
    print(json.dumps({"ours": ours, "product": product, "ratio": ratio}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
