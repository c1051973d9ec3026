"""The main job, as a user calls it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.__main__ import main

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}


def test_smoke_run_writes_the_whole_report(tmp_path):
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "quickstart", "--smoke", "--seed", "3", "--output", tmp_path / "r"],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "epoch" in run.stderr  # a progress bar
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert result["seed"] == 3
    assert result["configuration"]["smoke"] is True
    assert set(result["versions"]) >= {"jax", "python", "rnn-geometry"}
    page = (tmp_path / "r" / "report.html").read_text()
    pictures = list((tmp_path / "r").glob("*.png"))
    assert len(pictures) == page.count("<figure>") >= 5
    summary = page.partition('<div class="summary">')[2].partition("</div>")[0]
    assert 5 <= summary.count("<li>") <= 10
    assert summary.count("<img ") == 2
    assert set(re.findall(r'<li><a href="#([^"]+)">', summary)) <= set(result["sections"])
    for name in result["sections"]:
        assert f'<section id="{name}">' in page
    assert result["sections"]["templates"]["identity_error"] < 1e-4  # float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quickstart", "--epochs", "few"], "--epochs"),
        (["quickstart", "--epoks", "3"], "--epoks"),
        (["quickstart", "--epochs", "0"], "--epochs must be at least 1, got 0"),
        (["quickstart", "--sigma", "-1"], "--sigma must be between 0 and a million, got -1.0"),
        (["quickstart", "--sigma", "nan"], "--sigma must be between 0 and a million, got nan"),
        (["quickstart", "--seed", "-1"], "--seed must be"),
        (["quickstart", "--output", "."], "is in use and cannot be replaced"),
        (["quickstart", "--sigma", "1e39"], "--sigma must be between"),
        (["run"], "experiment"),
        (["list", "all"], "unrecognized arguments: all"),
        (["quickstart", "--output", "tests"], "files that are not a report's"),
        (["quickstart", "--output", "README.md"], "is a file"),
        (["run", "nothing"], "argument experiment: invalid choice"),
        (["walk"], "argument COMMAND: invalid choice"),
        ([], "COMMAND"),
    ],
)
def test_bad_arguments_get_one_line_and_status_2(arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert len(printed.err.strip().splitlines()) == 1, printed.err
    assert message in printed.err
    assert not printed.out


def test_an_interrupted_run_leaves_no_half_written_report(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "quickstart", "--smoke", "--epochs", "100000", "--output", tmp_path / "r"],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
    )
    assert run.stderr is not None
    os.set_blocking(run.stderr.fileno(), False)
    seen, deadline = b"", time.monotonic() + 120
    while b"/100000" not in seen and time.monotonic() < deadline:
        seen += run.stderr.read() or b""
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=300)
    assert run.returncode == 130
    assert list(tmp_path.iterdir()) == []
