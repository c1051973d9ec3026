"""Compiled programs are let go of before they fill a test process's table of memory maps, which ends it."""

import gc
import itertools
from pathlib import Path

import jax

MAPS = Path("/proc/self/maps")
MOST = 20_000  # Linux allows a process 65,530
_finished = itertools.count(1)


def pytest_runtest_teardown():
    """Looked at after every tenth test."""
    if next(_finished) % 10 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MOST:
        jax.clear_caches()
        gc.collect()
