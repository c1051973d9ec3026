"""Long work whose parts are files: `python -m tests.interrupted FOLDER`, again and again until it ends.

Walks, ensembles and the batches of a data set, each written aside and renamed when it is whole, so that what has its
name is done: as docs/datasets.md tells.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import maso_rnn
import srnn
from maso_rnn.batches import map_batches

PARTS, BATCH = 40, 4
KINDS = ("walk", "ensemble", "batch")


def file(folder: Path, kind: str, part: int) -> Path:
    """Where a part is kept."""
    return folder / f"{kind}-{part:02}.npz"


def keep(whole: Path, found: Any) -> None:
    """Write a part so that it is there whole or not at all."""
    aside = whole.with_suffix(".part")
    with aside.open("wb") as out:
        np.savez(out, *jax.tree.leaves(found))
    os.replace(aside, whole)


def walks(missing: list[int]) -> Iterator[Any]:
    """Along the sides of a polygon of sequences."""
    rnn = maso_rnn.init(jax.random.key(0), 1, [32], 3, bias_init=jax.nn.initializers.normal(0.3), dtype="float64")
    corners = np.random.default_rng(0).standard_normal((PARTS + 1, 100, 1))
    for part in missing:
        yield maso_rnn.walk_line(rnn, corners[part], corners[part + 1], max_regions=10_000)


def ensembles(missing: list[int]) -> Iterator[Any]:
    """Of one model, with a key for each."""
    model = srnn.init(jax.random.key(0), 1, 4, noise=0.5)
    run = jax.jit(lambda key: srnn.simulate(model, key=key, paths=64, t1=1.0, dt=0.125))
    for part in missing:
        yield run(jax.random.fold_in(jax.random.key(1), part))


def batches(missing: list[int]) -> Iterator[Any]:
    """Of a data set, those that are missing."""
    rnn = maso_rnn.init(jax.random.key(0), 2, [4], 3)
    xs = np.random.default_rng(1).standard_normal((PARTS, BATCH, 5, 2))[missing]
    if missing:
        yield from map_batches(maso_rnn.affine_map, rnn, xs.reshape(-1, 5, 2), batch_size=BATCH)


def main(name: str) -> None:
    """Make the parts that are missing."""
    jax.config.update("jax_enable_x64", True)
    folder = Path(name)
    folder.mkdir(exist_ok=True)
    for kind, make in zip(KINDS, (walks, ensembles, batches), strict=True):
        missing = [part for part in range(PARTS) if not file(folder, kind, part).exists()]
        for part, found in zip(missing, make(missing), strict=True):
            keep(file(folder, kind, part), found)


if __name__ == "__main__":
    main(*sys.argv[1:])
