"""Affine maps of a whole data set, from a file to files: how long, in how much memory, with how many compilations.

Run as `python -m benchmarks.speed.data_set FOLDER EXAMPLES TIME HIDDEN OUTPUT INPUT BATCH`, with
`XLA_FLAGS=--xla_force_host_platform_device_count=2` for two cores.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import maso_rnn
from benchmarks.speed.peak import peak_bytes
from maso_rnn.batches import map_batches

COMPILATION = "/jax/core/compile/backend_compile_duration"


def whole_map(rnn: maso_rnn.RNN, x: jax.Array) -> dict[str, jax.Array]:
    """All of an affine map, its codes eight to a byte."""
    affine = maso_rnn.affine_map(rnn, x)
    parts = {"slope": affine.slope, "offset": affine.offset, "output": affine.output}
    return parts | {"initial_slope": affine.initial_slope[0], "codes": maso_rnn.pack(affine.codes)}


def main(folder: Path, examples: int, steps: int, hidden: int, outputs: int, inputs: int, batch: int) -> None:
    """Print JSON: wall and CPU seconds, peak bytes of the process, compilations, devices, bytes written."""
    xs = np.lib.format.open_memmap(folder / "xs.npy", "w+", np.float32, (examples, steps, inputs))
    xs[:] = np.random.default_rng(0).standard_normal(xs.shape, np.float32)
    xs = np.load(folder / "xs.npy", mmap_mode="r", allow_pickle=False)
    rnn = maso_rnn.init(jax.random.key(0), inputs, [hidden], outputs, dtype="float32")

    compilations = []

    def heard(event: str, duration: float, **about: Any) -> None:
        if event == COMPILATION:
            compilations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(heard)
    wall, cpu, written = time.perf_counter(), time.process_time(), 0
    with contextlib.ExitStack() as opened:
        files: dict[str, Any] = {}
        batches = map_batches(whole_map, rnn, xs, batch_size=batch)
        for found in tqdm(batches, total=math.ceil(examples / batch), desc="batches"):
            for name, values in found.items():
                if name not in files:
                    files[name] = opened.enter_context((folder / f"{name}.bin").open("wb"))
                values.tofile(files[name])
                written += values.nbytes
    print(
        json.dumps(
            {
                "wall_seconds": time.perf_counter() - wall,
                "cpu_seconds": time.process_time() - cpu,
                "peak_bytes": peak_bytes(),
                "compilations": len(compilations),
                "devices": jax.device_count(),
                "bytes_written": written,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
