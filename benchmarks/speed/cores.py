"""The cores that programs are compared on: one, where the system can be told.

XLA, BLAS and PyTorch keep a thread for each core that they find, and a thread that waits for the next product turns in
circles for a while, which counts as CPU time: on two cores an XLA scan of small products takes nearly twice the CPU
time that it takes on one. So all programs of a comparison run where there is one core to find; NumPy's BLAS, which has
counted them when it is imported, is told.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

ALL = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else None


def take_one() -> None:
    """Run this thread, and threads that it starts, on one core; before XLA has counted the cores."""
    threadpool_limits(1, "blas")
    if ALL is not None:
        os.sched_setaffinity(0, {min(ALL)})


@contextlib.contextmanager
def all_cores() -> Iterator[None]:
    """Start processes that run on all cores again."""
    if ALL is not None:
        os.sched_setaffinity(0, ALL)
    try:
        yield
    finally:
        take_one()
