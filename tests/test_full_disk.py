"""A disk that is full, and a folder that is read-only: one clear error, and what was there before still is."""

import contextlib
import os
import subprocess

import jax
import pytest

from maso_rnn import files, report
from tests.test_network import network
from tests.test_report import FACTS, section, written


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB, which only root can make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no small disk can be made here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass


def test_a_network_that_does_not_fit_leaves_the_earlier_one(key, small_disk):
    rnn = network(key, 1)
    files.save(small_disk / "rnn", rnn)
    before = (small_disk / "rnn").read_bytes()
    fill(small_disk)
    with pytest.raises(OSError, match="No space left on device"):
        files.save(small_disk / "rnn", jax.tree.map(lambda leaf: 2 * leaf, rnn))
    assert (small_disk / "rnn").read_bytes() == before
    assert {path.name for path in small_disk.iterdir()} == {"rnn", "filler"}
    assert files.load(small_disk / "rnn").activation == rnn.activation


def test_a_report_that_does_not_fit_leaves_the_earlier_one(small_disk):
    report.write(small_disk / "r", "Title", "", [section("one")], FACTS)
    before = written(small_disk / "r")
    fill(small_disk)
    with pytest.raises(OSError, match="No space left on device"):
        report.write(small_disk / "r", "Title", "", [section("two")], FACTS)
    assert written(small_disk / "r") == before
    assert {path.name for path in small_disk.iterdir()} == {"r", "filler"}


@pytest.fixture
def read_only(tmp_path):
    """A folder that not even root can write to: a disk mounted read-only, or else one without the permission."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "rnn").write_bytes(b"earlier")
    if os.geteuid():
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    for options in (["--bind", str(folder)], ["-o", "remount,bind,ro"]):
        made = subprocess.run(["mount", *options, str(folder)], capture_output=True)
        if made.returncode:
            pytest.skip(f"no folder can be made read-only here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_folder_is_named(key, read_only):
    with pytest.raises(OSError, match=r"locked"):
        files.save(read_only / "rnn", network(key, 1))
    with pytest.raises(OSError, match=r"locked"):
        report.write(read_only / "r", "Title", "", [section("one")], FACTS)
    assert (read_only / "rnn").read_bytes() == b"earlier"
    assert [path.name for path in read_only.iterdir()] == ["rnn"]
