"""The experiment on initializers: what it writes, and that a rerun does only what is missing."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks import eigen_init
from benchmarks.data.adding import adding
from benchmarks.data.tomita import tomita
from benchmarks.eigen_init import pictures, training


@pytest.fixture
def tiny(monkeypatch):
    """Two tasks, one cell with gates and one without, one step of training in each of ten reports of the loss."""
    size = eigen_init.SIZES["smoke"]
    tasks = {"tomita-4": lambda: tomita(4, examples=16), "adding": lambda: adding(4, examples=16)}
    small = dataclasses.replace(size.training, hidden=4, steps=10, batch=4)
    monkeypatch.setitem(eigen_init.SIZES, "smoke", size._replace(training=small, tasks=tasks))
    cells = {name: training.CELLS[name] for name in ("tanh-rnn", "gru")}
    for module in (eigen_init, pictures):
        monkeypatch.setattr(module, "CELLS", cells)


@pytest.mark.slow
def test_lines_report_and_rerun(tiny, tmp_path, monkeypatch):
    eigen_init.run("smoke", tmp_path)
    results = tmp_path / "results.jsonl"
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(lines) == 2 * 2 * len(training.INITIALIZERS)
    for line in lines:
        assert line["metric"] == ("mean squared error" if line["task"] == "adding" else "accuracy")
        assert np.isfinite(line["test"])
        gates = ["h"] if line["cell"] == "tanh-rnn" else ["r", "z", "n"]
        assert list(line["eigenvalues_before"]) == list(line["eigenvalues_after"]) == gates
        if line["initializer"].startswith("eigen"):
            for values in line["eigenvalues_before"].values():
                np.testing.assert_allclose(np.hypot(*np.transpose(values)), 1, atol=1e-5)  # float32
        assert line["eigenvalues_before"] != line["eigenvalues_after"]  # it was trained
    assert (tmp_path / "report" / "report.html").exists()
    said = json.loads((tmp_path / "report" / "result.json").read_text())
    assert set(said["sections"]["scores"]["accuracy"]) == {"tanh-rnn", "gru"}

    # an interrupted run: one line lost, one cut short
    whole = results.read_text().splitlines()
    results.write_text("\n".join(whole[:-2]) + "\n" + whole[-2][:40])
    trained = []

    def counted(*arguments):
        trained.append(arguments[1:])
        return training.train(*arguments)

    monkeypatch.setattr(eigen_init, "train", counted)
    eigen_init.run("smoke", tmp_path)
    assert [names[:2] for names in trained] == [("gru", name) for name in list(training.INITIALIZERS)[-2:]]
    again = {}
    for text in results.read_text().splitlines():
        if text.endswith("}"):
            line = json.loads(text)
            again[line["task"], line["cell"], line["initializer"]] = line
    assert list(again.values()) == lines  # the same numbers, seed by seed


def test_smoke_has_every_task_cell_and_initializer():
    configurations = list(eigen_init._configurations("smoke"))
    tasks = {"digits", "adding", *(f"tomita-{grammar}" for grammar in range(1, 8))}
    assert {c["task"] for c in configurations} == tasks
    assert {c["cell"] for c in configurations} == {"tanh-rnn", "relu-rnn", "gru", "lstm"}
    eigens = {"eigen-schur", "eigen-orthogonal", "eigen-eigenvectors"}
    others = {"glorot", "he", "orthogonal", "identity", "np-rnn", "spectral-radius"}
    assert {c["initializer"] for c in configurations} == others | eigens
    assert len(configurations) == 9 * 4 * 9


def test_refused(tmp_path):
    with pytest.raises(ValueError, match="size must be one of smoke, got 'huge'"):
        eigen_init.run("huge", tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"thesis\.txt"):
        eigen_init.run("smoke", tmp_path)
