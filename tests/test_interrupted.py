"""Walks, ensembles and a data set's analysis, killed again and again: nothing is lost, and the bits are the same."""

import random
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest

from tests.interrupted import KINDS, PARTS

KILLS = 20


def begin(folder):
    return subprocess.Popen([sys.executable, "-m", "tests.interrupted", str(folder)], stderr=subprocess.DEVNULL)


def parts(folder):
    """What is done: the bytes of every part that has its name."""
    return {file.name: file.read_bytes() for file in folder.glob("*.npz")}


@pytest.mark.slow
def test_long_work_killed_at_random_moments_ends_like_work_that_never_was(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert begin(whole).wait() == 0
    wanted = parts(whole)
    assert len(wanted) == len(KINDS) * PARTS
    moments, stopped = random.Random(20190501), set()
    for kill in range(KILLS):
        before = parts(killed)
        enough = len(wanted) * kill // KILLS  # so that all of the work meets kills
        with begin(killed) as run:
            if len(before) > enough:  # more than that while the last one was on its way: while importing or compiling
                time.sleep(moments.uniform(0, 2))
            while run.poll() is None and len(list(killed.glob("*.npz"))) < enough:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.005))
            run.kill()
        assert run.returncode == -signal.SIGKILL
        after = parts(killed)
        assert before.items() <= after.items() <= wanted.items()
        done = Counter(name.partition("-")[0] for name in after)
        stopped |= {kind for kind in KINDS if 0 < done[kind] < PARTS}
    assert stopped == set(KINDS)  # each in its midst
    assert begin(killed).wait() == 0
    assert parts(killed) == wanted
    with np.load(whole / "walk-00.npz", allow_pickle=False) as walk:
        assert all(array.size for array in walk.values())
