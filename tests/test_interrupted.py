"""Walks, ensembles and a data set's analysis, killed again and again: nothing is lost, and the bits are the same."""

import contextlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.interrupted import KINDS, PARTS


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
    moments, kills, kinds = random.Random(20190501), 0, set()
    while True:
        before = parts(killed)
        with begin(killed) as run:
            enough = len(before) + moments.randint(0, 4)
            while run.poll() is None and len(list(killed.glob("*.npz"))) < enough:
                time.sleep(0.001)
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.wait(moments.uniform(0, 0.01))
            run.kill()
        after = parts(killed)
        assert before.items() <= after.items() <= wanted.items()
        kinds |= {name.partition("-")[0] for name in after.keys() - before.keys()}
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL
        kills += 1
    assert kills >= 20
    assert kinds == set(KINDS)  # each was stopped in its midst
    assert parts(killed) == wanted
    with np.load(whole / "walk-00.npz", allow_pickle=False) as walk:
        assert all(array.size for array in walk.values())
