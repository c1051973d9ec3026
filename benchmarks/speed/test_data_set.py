"""Affine maps of a whole data set: streamed, in bounded memory, by one compiled program, on both cores."""

import json
import os
import subprocess
import sys

from benchmarks.speed.cores import all_cores
from benchmarks.speed.reach import Bar

SIZE = {"examples": 10_000, "time": 784, "hidden": 128, "output": 10, "input": 1}
BATCH = 100


def test_affine_maps_of_a_data_set(record, tmp_path):
    command = [sys.executable, "-m", "benchmarks.speed.data_set", tmp_path, *SIZE.values(), BATCH]
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    with all_cores():
        done = subprocess.run(
            [str(word) for word in command], env=environment, stdout=subprocess.PIPE, check=True, timeout=1800
        )
    found = json.loads(done.stdout)
    assert found["devices"] == 2
    bars = (
        Bar("peak memory of the process, in bytes", found.pop("peak_bytes"), 1e9),
        Bar("compilations", found.pop("compilations"), 1),
        Bar("wall time, against CPU time shared by both cores", 2 * found["wall_seconds"] / found["cpu_seconds"], 1.15),
    )
    facts = {
        "examples at once": BATCH,
        "devices": found["devices"],
        "wall time (s)": found["wall_seconds"],
        "CPU time (s)": found["cpu_seconds"],
        "written (bytes)": found["bytes_written"],
    }
    record("affine maps of a data set", SIZE, {}, bars, **facts)
