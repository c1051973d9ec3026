"""The experiment on path space: it runs, resumes, and shows what the methods promise."""

import json

import numpy as np
import pytest

from benchmarks import path_space
from benchmarks.data.adding import adding
from benchmarks.data.digits import digits
from benchmarks.path_space import tables
from benchmarks.path_space.training import METHODS, Training, starts, train

SEEDS = range(5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["digits-by-row", "digits-by-pixel", "adding"])
def test_equivariant_adam_is_no_worse_than_adam_and_better_from_rescaled_starts(task):
    data = {
        "digits-by-row": lambda: digits(by="row"),
        "digits-by-pixel": lambda: digits(by="pixel"),
        "adding": lambda: adding(16, examples=256),
    }[task]()
    training = Training(steps=200)
    networks = {seed: starts(data, seed, training) for seed in SEEDS}
    ends = {}
    for name in ("Adam", "equivariant Adam"):
        method = METHODS[name]
        runs = [(s, start, rate) for s in SEEDS for start in ("balanced", "rescaled") for rate in method.rates]
        curves = train(
            data,
            method,
            [networks[s][start] for s, start, _ in runs],
            [r for *_, r in runs],
            [s for s, *_ in runs],
            training,
        )
        last = curves.validation[:, -1].reshape(len(SEEDS), 2, len(method.rates))
        # each start at the rate whose mean is least
        ends[name] = [last[:, i, last[:, i].mean(axis=0).argmin()] for i in range(2)]
    (adam, adam_rescaled), (ours, ours_rescaled) = ends["Adam"], ends["equivariant Adam"]
    stderr = np.sqrt((adam.var(ddof=1) + ours.var(ddof=1)) / len(SEEDS))
    print(
        task, "balanced", adam.mean(), ours.mean(), "±", stderr, "rescaled", adam_rescaled.mean(), ours_rescaled.mean()
    )
    assert ours.mean() <= adam.mean() + 2 * stderr
    assert ours_rescaled.mean() < adam_rescaled.mean()


@pytest.mark.slow
def test_it_writes_a_line_for_each_run_and_resumes(tmp_path, monkeypatch):
    size = path_space.Size(
        Training(hidden=(4,), steps=4, points=2), seeds=1, tasks={"adding": lambda: adding(6, examples=64)}
    )
    monkeypatch.setitem(path_space.SIZES, "smoke", size)
    path_space.run("smoke", tmp_path)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    wanted = 2 * sum(len(method.rates) for method in METHODS.values())
    assert len(lines) == wanted
    assert {json.loads(line)["method"] for line in lines} == set(METHODS)
    assert (tmp_path / "report" / "adding-curves.png").exists()
    # the last line was cut short: it alone is done again
    (tmp_path / "results.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    path_space.run("smoke", tmp_path)
    assert len(list(path_space.read(tmp_path / "results.jsonl"))) >= wanted
    with pytest.raises(ValueError, match="size must be one of smoke, got 'huge'"):
        path_space.run("huge", tmp_path)


def test_half_a_line_is_taken_out_of_the_results_once(tmp_path, capsys):
    results = tmp_path / "results.jsonl"
    results.write_text('{"seed": 0}\n{"seed": 1}\n{"see')
    for warnings in (1, 0):
        assert [line["seed"] for line in path_space.read(results)] == [0, 1]
        assert capsys.readouterr().err.count("a line that is not whole") == warnings
    assert results.read_text() == '{"seed": 0}\n{"seed": 1}\n'


def test_the_table_in_the_documentation_is_that_of_the_stored_results():
    page = tables.PAGE.read_text()
    assert tables.with_table(page, list(path_space.read(tables.STORED))) == page
