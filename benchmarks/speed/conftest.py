"""Comparisons are shown as they are made, and kept with machine, versions and load; `--publish` makes the page."""

import importlib.util
import os
from importlib import metadata

import pytest

from benchmarks import results
from benchmarks.speed import cores, page
from benchmarks.speed.reach import FILE, Comparison, publish
from maso_rnn.report.document import plain

COMPETITORS = ("equinox", "torch", "torchsde", "signax", "pysiglib", "tensordev")
LINES = pytest.StashKey[list]()


def pytest_addoption(parser):
    parser.addoption(
        "--publish", action="store_true", help=f"put what is measured into {FILE.name} and {page.PAGE.name}"
    )


def pytest_configure(config):
    if config.getoption("--jaxtyping-packages"):
        raise pytest.UsageError("type checks cost time; without them: pytest -o addopts= benchmarks/speed")
    cores.take_one()
    config.stash[LINES] = []


@pytest.fixture
def record(request):
    """Keeps and shows a comparison, and fails if it misses a bar."""
    found = []

    def keep(work, size, programs, bars=(), absent=(), **facts):
        found.append(Comparison(work, size, programs, tuple(bars), tuple(absent), plain(facts)))
        print(f"\n{found[-1]}")
        missed = [f"{bar.what}: {bar.measured:.4g}, at most {bar.most:g}" for bar in bars if not bar.is_met]
        assert not missed, "; ".join(missed)

    with results.timed() as run:
        yield keep
    versions = {name: metadata.version(name) for name in COMPETITORS if importlib.util.find_spec(name)}
    run |= {"versions": run["versions"] | versions, "load": round(os.getloadavg()[0], 2)}
    request.config.stash[LINES] += [comparison.line(run) for comparison in found]


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash[LINES]
    if config.getoption("publish") and lines:
        publish(lines)
        page.PAGE.write_text(page.document())
        terminalreporter.write_line(f"{len(lines)} comparisons written to {FILE} and {page.PAGE}")
