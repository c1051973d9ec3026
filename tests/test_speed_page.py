"""The page of speeds: made to the byte from what is published, with what is missed in plain sight."""

import math
import subprocess
import sys

import pytest

from benchmarks import results
from benchmarks.speed import cores, page, reach
from benchmarks.speed.reach import Bar, Comparison

RUN = {"machine": "a machine", "versions": {"jax": "1"}, "commit": "0" * 40, "load": 0.5}
ROW = {"ratio": 1.2, "ratio_low": 1.1, "ratio_high": 1.3, "least_cpu_seconds": 0.1, "median_cpu_seconds": 0.2}


def test_the_page_is_what_the_published_results_make_of_it():
    assert page.PAGE.read_text() == page.document()


def test_what_is_said_is_said_of_work_that_was_done():
    works = {line.configuration["work"] for line in results.read(reach.FILE)}
    assert page.NOTES.keys() <= works


def test_a_missed_bar_and_an_absent_competitor_are_seen(tmp_path, monkeypatch):
    bars = (Bar("time", 0.5, 1.0), Bar("memory", math.nan, 1.0))
    one = Comparison("work", {"size": 3}, {"ours": ROW | {"ratio": 1.0}, "theirs": ROW}, bars, ("them",), {})
    monkeypatch.setattr(reach, "FILE", tmp_path / "speed.jsonl")
    monkeypatch.setattr(page, "FILE", tmp_path / "speed.jsonl")
    reach.publish([one.line(RUN)])
    made = page.document()
    assert "| work | size 3 | time | 0.5 | 1 | yes |" in made
    assert "| work | size 3 | memory | nan | 1 | **no** |" in made
    assert "| size 3 | theirs | 0.2 | 1.2 (1.1 to 1.3) |" in made
    assert "them is not installed" in made
    assert "Not reached: memory." in made


def test_a_ratio_whose_quartiles_are_about_its_bar_is_within_noise():
    for low, high, verdict in ((1.1, 1.3, "**no**"), (0.9, 1.3, "within noise"), (0.8, 0.9, "yes")):
        row = ROW | {"ratio": (low + high) / 2, "ratio_low": low, "ratio_high": high}
        one = Comparison("work", {}, {"ours": ROW, "theirs": row}, (Bar("time", row["ratio"], 1.0),), (), {})
        assert page._verdict(one, one.bars[0]) == verdict


def test_a_new_measurement_takes_the_place_of_the_old(tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "FILE", tmp_path / "speed.jsonl")
    old, other, new = (
        Comparison(work, {"size": 3}, {}, (Bar("time", measured, 1.0),), (), {})
        for work, measured in (("work", 3.0), ("other", 2.0), ("work", 0.5))
    )
    reach.publish([old.line(RUN), other.line(RUN)])
    reach.publish([new.line(RUN)])
    assert [Comparison.of(line) for line in results.read(reach.FILE)] == [new, other]


def test_programs_are_compared_on_one_core_and_processes_get_all():
    script = """
import os, subprocess, sys
import numpy, threadpoolctl
from benchmarks.speed import cores
count = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
def counted():
    return int(subprocess.run(count, capture_output=True, text=True, check=True).stdout)
everywhere = counted()
cores.take_one()
assert counted() == len(os.sched_getaffinity(0)) == 1
assert {library["num_threads"] for library in threadpoolctl.threadpool_info()} == {1}
with cores.all_cores():
    assert counted() == everywhere
assert counted() == 1
"""
    if cores.ALL is None:
        pytest.skip("this system cannot be told which cores to use")
    subprocess.run([sys.executable, "-c", script], check=True)
