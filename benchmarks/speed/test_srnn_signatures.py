"""The signature against signax's, on batches of 32 paths: the same numbers, CPU time in turn."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from jax import Array

import srnn
from benchmarks.speed.interleaved import cpu_seconds, ratios


@pytest.mark.parametrize(("length", "channels", "depth"), [(100, 3, 5), (1000, 3, 4), (1000, 6, 3), (1000, 6, 4)])
def test_signature(benchmark: Any, length: int, channels: int, depth: int) -> None:
    signax = pytest.importorskip("signax", reason="the competitor; `pip install signax` for this comparison")
    paths = 0.05 * jax.random.normal(jax.random.key(0), (32, length, channels), "float32")
    ours = jax.jit(jax.vmap(lambda path: srnn.signature(path, depth)))
    theirs = jax.jit(lambda paths: signax.signature(paths, depth))
    wanted = np.asarray(theirs(paths))
    np.testing.assert_allclose(ours(paths), wanted, atol=1e-5 * np.abs(wanted).max())  # float32
    inner = 10  # one call takes a millisecond or so: several to each reading of the clock

    def repeated(function: Callable[[Array], Array]) -> Callable[[], list[Array]]:
        return lambda: [jax.block_until_ready(function(paths)) for _ in range(inner)]

    table = ratios(cpu_seconds({"ours": repeated(ours), "signax": repeated(theirs)}, repeats=15), "ours")
    benchmark.extra_info["programs"] = table
    row = table["signax"]
    print(f"\nours / signax: {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}) of CPU time")
    benchmark.pedantic(lambda: jax.block_until_ready(ours(paths)), rounds=5, warmup_rounds=1)
    assert row["ratio"] <= 1.2
