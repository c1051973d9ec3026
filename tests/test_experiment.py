"""The engine of the experiments: what is stored, what is done again, and that a killed run ends like any other."""

import dataclasses
import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import maso_rnn
from benchmarks import experiment, results, training
from benchmarks.__main__ import EXPERIMENTS
from benchmarks.data.adding import adding
from benchmarks.data.copying import copy_memory
from benchmarks.data.tomita import tomita
from benchmarks.results import Line, Results
from benchmarks.rows import tried_rates
from tests import tiny_experiment
from tests.tiny_experiment import EXPERIMENT, Configuration

LINES = [Line({"rate": 0.1, "seed": seed}, {"loss": seed / 3}, {"cpu": 1.0}) for seed in range(3)]


def same(folder):
    """The lines of a folder, but for what the run is told by."""
    return [(line.configuration, line.result) for line in results.read(folder / "results.jsonl")]


def pretended(monkeypatch, loss=lambda one: abs(one.rate - 0.01) + one.seed):
    """The experiment without its training; the groups that were asked for."""
    asked = []

    def train(group, state, advanced):
        asked.append(list(group))
        curve = {"steps": [0, 1]}
        return [curve | {"validation_loss": [1.0, loss(one)], "train_loss": [1.0]} for one in group]

    return dataclasses.replace(EXPERIMENT, train=train), asked


def of(groups):
    """By group the method, and the rates with their seeds."""
    found = []
    for group in groups:
        seeds = {}
        for one in group:
            seeds.setdefault(one.rate, []).append(one.seed)
        found.append((group[0].method, seeds))
    return found


SEARCH, FINAL = [0, 1, 2], [3, 4, 5]


def test_rates_are_chosen_on_three_seeds_and_trained_from_others(monkeypatch, tmp_path, capsys):
    tiny, asked = pretended(monkeypatch)
    experiment.run(tiny, "smoke", tmp_path)
    assert "18 of 18 runs to do, 720 steps, then what the edges of the rates ask for and 6" in capsys.readouterr().out
    grid = {1e-3: SEARCH, 1e-2: SEARCH, 1e-1: SEARCH}
    assert of(asked) == [("sgd", grid), ("adam", grid), ("sgd", {1e-2: FINAL}), ("adam", {1e-2: FINAL})]
    told = json.loads((tmp_path / "report" / "result.json").read_text())
    assert told["sections"]["losses"] == {"sgd": 0.01, "adam": 0.01}
    assert told["runs"] == 24
    before = (tmp_path / "results.jsonl").read_bytes()
    experiment.run(tiny, "smoke", tmp_path)
    assert len(asked) == 4
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_rates_are_tried_beyond_the_edge_while_the_choice_is_there(monkeypatch, tmp_path):
    tiny, asked = pretended(monkeypatch, lambda one: abs(math.log10(one.rate) - (4 if one.method == "sgd" else -2)))
    size = dataclasses.replace(EXPERIMENT.sizes["smoke"](), extensions=3)
    tiny = dataclasses.replace(tiny, sizes={"smoke": lambda: size})
    experiment.run(tiny, "smoke", tmp_path)
    assert of(asked[2:]) == [
        *(("sgd", {rate: SEARCH}) for rate in (1.0, 10.0, 100.0)),  # no more than three, though the best is beyond
        ("sgd", {100.0: FINAL}),
        ("adam", {1e-2: FINAL}),
    ]
    lines = {results.key(one.configuration): one for one in results.read(tmp_path / "results.jsonl")}
    rows, _ = experiment._rows(tiny, "smoke", size, lines)
    assert tried_rates(rows, asked[-2][0]) == [1e-3, 1e-2, 1e-1, 1, 10, 100]
    assert tried_rates(rows, asked[-1][0]) == [1e-3, 1e-2, 1e-1]
    # what diverges at every rate is tried lower
    tiny, asked = pretended(monkeypatch, lambda one: math.nan)
    experiment.run(tiny, "smoke", tmp_path / "diverging")
    assert of(asked[2:4]) == [("sgd", {1e-4: SEARCH}), ("adam", {1e-4: SEARCH})]


def test_the_rate_with_the_fewest_divergences_is_chosen(monkeypatch, tmp_path):
    def loss(one):
        if one.rate == 1e-2:  # the best, where it survives
            return 0.0 if one.seed else math.inf
        return one.rate

    tiny, asked = pretended(monkeypatch, loss)
    size = dataclasses.replace(EXPERIMENT.sizes["smoke"](), extensions=0)
    experiment.run(dataclasses.replace(tiny, sizes={"smoke": lambda: size}), "smoke", tmp_path)
    assert of(asked[2:]) == [("sgd", {1e-3: FINAL}), ("adam", {1e-3: FINAL})]


def test_rates_may_be_chosen_in_fewer_steps(monkeypatch, tmp_path):
    tiny, asked = pretended(monkeypatch)
    size = dataclasses.replace(EXPERIMENT.sizes["smoke"](), trial={"steps": 7})
    experiment.run(dataclasses.replace(tiny, sizes={"smoke": lambda: size}), "smoke", tmp_path)
    assert [{one.steps for one in group} for group in asked] == [{7}, {7}, {40}, {40}]


def test_only_what_is_asked_for_is_done_and_time_is_kept(monkeypatch, tmp_path, capsys):
    tiny, asked = pretended(monkeypatch)
    experiment.run(tiny, "smoke", tmp_path, only="method=adam")
    assert {method for method, _ in of(asked)} == {"adam"}
    assert "run it without --only" in capsys.readouterr().out
    assert not (tmp_path / "report").exists()
    asked.clear()
    experiment.run(tiny, "smoke", tmp_path, minutes=0)
    assert of(asked) == [("sgd", {1e-3: SEARCH, 1e-2: SEARCH, 1e-1: SEARCH})]  # what was computed is kept
    assert "stopped after 0 minutes" in capsys.readouterr().out
    asked.clear()
    experiment.run(tiny, "smoke", tmp_path)
    assert of(asked) == [("sgd", {1e-2: FINAL})]
    with pytest.raises(ValueError, match='only must be found in a configuration such as "method=sgd rate'):
        experiment.run(tiny, "smoke", tmp_path, only="method=lbfgs")


def test_training_stopped_in_time_goes_on_to_the_same_bits(monkeypatch, tmp_path):
    size = dataclasses.replace(EXPERIMENT.sizes["smoke"](), contenders=[Configuration("sgd")], seeds=1, extensions=0)
    tiny = dataclasses.replace(EXPERIMENT, sizes={"smoke": lambda: size})
    experiment.run(tiny, "smoke", tmp_path / "whole")
    experiment.run(tiny, "smoke", tmp_path / "stopped", minutes=0)
    assert not results.read(tmp_path / "stopped" / "results.jsonl")
    assert len(list((tmp_path / "stopped").glob("state-*"))) == 1
    experiment.run(tiny, "smoke", tmp_path / "stopped")
    assert same(tmp_path / "stopped") == same(tmp_path / "whole")


def test_a_state_that_a_finished_group_left_behind_is_removed(monkeypatch, tmp_path):
    tiny, asked = pretended(monkeypatch)
    states = []

    def train(group, state, advanced):
        states.append(state)
        return tiny.train(group, state, advanced)

    experiment.run(dataclasses.replace(tiny, train=train), "smoke", tmp_path)
    for state in states:  # as a run leaves it that is killed between storing its lines and removing this
        state.write_bytes(b"")
    experiment.run(tiny, "smoke", tmp_path)
    assert len(asked) == 4
    assert not any(state.exists() for state in states)


def test_other_settings_are_never_mistaken_for_done(monkeypatch, tmp_path):
    tiny, asked = pretended(monkeypatch)
    experiment.run(tiny, "smoke", tmp_path)
    size = EXPERIMENT.sizes["smoke"]()
    longer = dataclasses.replace(size, contenders=[Configuration("sgd", steps=41), Configuration("adam")])
    experiment.run(dataclasses.replace(tiny, sizes={"smoke": lambda: longer}), "smoke", tmp_path)
    assert {(one.method, one.steps) for group in asked[4:] for one in group} == {("sgd", 41)}
    assert len(asked) == 6


def test_more_than_a_rate_may_be_chosen(monkeypatch, tmp_path):
    tiny, asked = pretended(monkeypatch, lambda one: abs(one.rate - 0.01) + abs(one.steps - 3))
    tries = [{"rate": rate, "steps": steps} for rate in (1e-2, 1e-1) for steps in (2, 3)]
    size = dataclasses.replace(EXPERIMENT.sizes["smoke"](), contenders=[Configuration("sgd")], rates=lambda one: tries)
    experiment.run(dataclasses.replace(tiny, sizes={"smoke": lambda: size}), "smoke", tmp_path)
    # a lower rate is tried with all that goes with it
    assert [[(one.rate, one.steps) for one in group if one.seed == 0] for group in asked[:2]] == [
        [(1e-2, 2), (1e-2, 3), (1e-1, 2), (1e-1, 3)],
        [(1e-3, 2), (1e-3, 3)],
    ]
    assert [(one.rate, one.steps, one.seed) for one in asked[2]] == [(1e-2, 3, seed) for seed in FINAL]


def test_every_contender_has_as_many_rates(tmp_path):
    size = dataclasses.replace(
        EXPERIMENT.sizes["smoke"](), rates=lambda one: (0.1,) if one.method == "sgd" else (0.1, 0.2)
    )
    with pytest.raises(ValueError, match=r"as many rates as the others, got \[1, 2\]"):
        experiment.run(dataclasses.replace(EXPERIMENT, sizes={"smoke": lambda: size}), "smoke", tmp_path)
    with pytest.raises(ValueError, match="size must be one of smoke, got 'huge'"):
        experiment.run(EXPERIMENT, "huge", tmp_path)


def test_published_results_make_the_report_and_are_of_settings_that_were_committed(monkeypatch, tmp_path):
    tiny, _ = pretended(monkeypatch)
    tiny = dataclasses.replace(tiny, sizes={"small": EXPERIMENT.sizes["smoke"]})
    monkeypatch.setattr(experiment, "PUBLISHED", tmp_path / "published")
    with pytest.raises(FileNotFoundError, match="run the experiment at size small"):
        experiment.published(tiny)
    monkeypatch.setattr(results, "_commit", lambda: "abc")
    results._machine.cache_clear()
    experiment.run(tiny, "small", tmp_path / "run")
    experiment.publish(tiny, "small", tmp_path / "run")
    rows, lines = experiment.published(tiny)
    experiment.write(tiny, "small", rows, lines, tmp_path / "report")
    for name in ("report.html", "result.json", "losses.png"):
        assert (tmp_path / "report" / name).read_bytes() == (tmp_path / "run" / "report" / name).read_bytes()
    assert [len(part) for part in rows] == [18, 6, 0]
    # settings that came later are not among them, and those of their time stay
    fewer = dataclasses.replace(EXPERIMENT.sizes["smoke"](), contenders=[Configuration("sgd", steps=50)])
    assert experiment.published(dataclasses.replace(tiny, sizes={"small": lambda: fewer}))[0] == rows
    # what is not complete is left out
    lines = (tmp_path / "run" / "results.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "run" / "results.jsonl").write_text("".join(lines[:-1]))
    experiment.publish(tiny, "small", tmp_path / "run")
    assert {row.configuration.method for part in experiment.published(tiny)[0] for row in part} == {"sgd"}
    (tmp_path / "run" / "results.jsonl").write_text("".join(lines[:5]))
    with pytest.raises(ValueError, match="nothing complete"):
        experiment.publish(tiny, "small", tmp_path / "run")
    monkeypatch.setattr(results, "_commit", lambda: "abc-dirty")
    results._machine.cache_clear()
    experiment.run(tiny, "small", tmp_path / "dirty")
    with pytest.raises(ValueError, match="24 of 24 lines were computed with changes that were not committed"):
        experiment.publish(tiny, "small", tmp_path / "dirty")
    results._machine.cache_clear()


def test_lines_are_read_as_they_were_written(tmp_path):
    with Results(tmp_path) as stored:
        stored.add([Line({"seed": 0}, {"loss": float("nan"), "curve": np.float32([1, np.inf])}, {})])
    (line,) = results.read(tmp_path / "results.jsonl")
    assert line == Line({"seed": 0}, {"loss": "nan", "curve": [1.0, "inf"]}, {})
    assert stored.lines == {'{"seed": 0}': line}


def test_published_lines_are_short_and_read_as_whole_ones(tmp_path):
    other = Line({"rate": 0.1, "width": 3}, {"loss": 1}, {"cpu": 2.0})
    lines = [*LINES, other, LINES[0], LINES[0]]
    file = tmp_path / "published.jsonl"
    file.write_text(results.brief(lines))
    assert results.read(file) == lines
    assert json.loads(file.read_text().splitlines()[1]) == {
        "but": {"configuration": {"seed": 1}, "run": {}},
        "result": {"loss": 1 / 3},
    }


@pytest.mark.parametrize("left", [b'{"configuration": {"se', b'{"loss": 1}\n', b"\xff\xfe\n", b"{}"])
def test_what_is_left_of_a_line_is_named_and_taken_out_once(tmp_path, capsys, left):
    file = tmp_path / "results.jsonl"
    file.write_bytes(results.text(LINES).encode() + left)
    for warnings in (1, 0):
        with Results(tmp_path) as stored:
            assert list(stored.lines.values()) == LINES
        assert capsys.readouterr().err.count("a line that is not whole") == warnings
    assert file.read_text() == results.text(LINES)


def test_a_second_run_in_a_folder_is_refused_at_once(tmp_path):
    with Results(tmp_path), pytest.raises(BlockingIOError, match="in use by another run"), Results(tmp_path):
        pass
    with Results(tmp_path):
        pass


def test_a_lock_does_not_outlive_a_killed_run(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from benchmarks.results import Results\n"
        "with Results(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), Results(tmp_path):
            pass
        other.kill()
    with Results(tmp_path):
        pass


def test_a_full_disk_leaves_earlier_results_whole(tmp_path):
    with Results(tmp_path) as stored:
        stored.add(LINES[:2])
        file = tmp_path / "results.jsonl"
        before = file.read_bytes()
        # a limit on file sizes lets half a line through, as a full disk does
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
        try:
            with pytest.raises(OSError, match=r"results\.jsonl cannot be written .*the results before are kept"):
                stored.add(LINES[2:])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert file.read_bytes() == before
        assert list(stored.lines.values()) == LINES[:2]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="file/results cannot hold results: Not a directory"),
        Results(tmp_path / "file" / "results"),
    ):
        pass
    if os.geteuid():  # nothing is read-only to root
        tmp_path.chmod(0o500)
        with pytest.raises(PermissionError, match="cannot hold results: Permission denied"), Results(tmp_path):
            pass


@pytest.fixture(scope="module")
def trained():
    """Three runs, two of them alike, as they are trained when nothing stops them."""
    return training.train(training.layered(), adding(5, examples=32), RUNS, tiny_experiment.adam, **SETTING)


RUNS = [
    training.Run(tiny_experiment.start(seed), seed, {"rate": rate, "sigma": sigma})
    for seed, rate, sigma in [(0, 0.01, 0.0), (0, 0.01, 0.0), (1, 0.02, 0.5)]
]
SETTING = {"steps": 12, "batch": 4, "points": 4, "measure": lambda rnn: {"bias": rnn.readout.bias}}


def test_what_training_tells(trained):
    data = adding(5, examples=32)
    for run, one in zip(RUNS, trained, strict=True):
        outputs = jax.vmap(lambda xs, rnn=one.params: training.layered().states(rnn, xs, (np.zeros(4, "f4"),)))(
            data.test.inputs
        )
        said = np.asarray(outputs)[:, -1] @ one.params.readout.kernel + one.params.readout.bias
        assert one.result["test_loss"] == pytest.approx(((said - data.test.targets) ** 2).mean(), rel=1e-4)  # float32
        assert one.result["steps"] == [0, 3, 6, 9, 12]
        assert [len(one.result[name]) for name in ("train_loss", "validation_loss", "bias")] == [4, 5, 5]
        assert one.result["bias"][0] == [0]
        assert one.result["bias"][-1] == pytest.approx(one.params.readout.bias, rel=1e-5)
        assert run.start.readout.kernel is not one.params.readout.kernel
        fit = jax.vmap(lambda xs, rnn=one.params: maso_rnn.forward(rnn, xs)[-1])(data.train.inputs)
        assert one.result["fit_loss"] == pytest.approx(((np.asarray(fit) - data.train.targets) ** 2).mean(), rel=1e-4)
    same_seed, other = trained[0].result == trained[1].result, trained[0].result == trained[2].result
    assert (same_seed, other) == (True, False)


def test_a_state_on_the_disk_goes_on_to_the_same_bits(trained, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    done = []

    def stop(steps):
        done.append(steps)
        if len(done) == 3:
            raise Stopped

    state = tmp_path / "state.npz"
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    arguments = (training.layered(), adding(5, examples=32), RUNS, tiny_experiment.adam)
    with pytest.raises(Stopped):
        training.train(*arguments, **SETTING, state=state, advanced=stop)
    done.clear()
    again = training.train(*arguments, **SETTING, state=state, advanced=done.append)
    assert done == [27, 9]  # three points of three steps and runs were there
    for one, other in zip(trained, again, strict=True):
        assert one.result == other.result
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="the state of other runs"):
        training.train(*arguments[:2], RUNS[:2], arguments[3], **SETTING, state=state)
    state.write_bytes(state.read_bytes()[:-30])
    with pytest.raises(ValueError, match="not a state of training"):
        training.train(*arguments, **SETTING, state=state)


def test_padding_is_not_read_and_every_step_may_have_a_target():
    grammar, copied = tomita(4, examples=8, longest=(3, 5, 6)), copy_memory(2, examples=4)
    for data in (grammar, copied):
        inputs, outputs = data.train.inputs.shape[-1], training.outputs_of(data)
        rnn = maso_rnn.init(jax.random.key(0), inputs, [4], outputs, dtype=np.float32)
        (one,) = training.train(
            training.layered(),
            data,
            [training.Run(rnn, 0, {"rate": 0.0})],
            tiny_experiment.sgd,
            steps=1,
            batch=2,
            points=1,
        )
        losses, rights = [], []
        said = np.asarray(jax.vmap(lambda xs, rnn=rnn: maso_rnn.forward(rnn, xs))(jax.numpy.asarray(data.test.inputs)))
        for outputs, target, length in zip(said, *data.test[1:], strict=True):
            logs = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
            pairs = [(length - 1, target)] if target.ndim == 0 else list(enumerate(target))[:length]
            losses.append(np.mean([-logs[t, label] for t, label in pairs]))
            rights.append(np.mean([outputs[t].argmax() == label for t, label in pairs]))
        assert one.result["test_loss"] == pytest.approx(np.mean(losses), rel=1e-5)  # six digits are kept
        assert one.result["test_accuracy"] == pytest.approx(np.mean(rights), rel=1e-5)


def test_points_divide_steps():
    with pytest.raises(ValueError, match="points must divide steps, got 3, 5 and 12"):
        training.train(training.layered(), adding(5), RUNS, tiny_experiment.adam, steps=12, batch=4, points=5)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_like_one_that_never_was(tmp_path):
    def begin(folder):
        return subprocess.Popen([sys.executable, "-m", "tests.tiny_experiment", str(folder)], stderr=subprocess.DEVNULL)

    def saved(folder):
        """Changes whenever the run has saved something, which it does some 160 times."""
        try:
            return {(file.name, file.stat().st_mtime_ns) for file in os.scandir(folder)}
        except FileNotFoundError:  # not there yet, or no more
            return set()

    assert begin(tmp_path / "whole").wait() == 0
    moments = random.Random(20190501)
    for _ in range(20):
        with begin(tmp_path / "killed") as run:
            seen, saves = saved(tmp_path / "killed"), moments.randint(1, 2)
            while saves and run.poll() is None:
                if (now := saved(tmp_path / "killed")) != seen:
                    seen, saves = now, saves - 1
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.02))
            run.kill()
        assert run.returncode == -signal.SIGKILL
    assert begin(tmp_path / "killed").wait() == 0
    assert same(tmp_path / "killed") == same(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob("state-*"))
    # and so do two that nothing stops
    assert begin(tmp_path / "again").wait() == 0
    assert same(tmp_path / "again") == same(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_at_size_smoke_and_a_second_time_does_nothing(tmp_path, name):
    command = [sys.executable, "-m", "benchmarks", "run", name, "--size", "smoke", "--output", str(tmp_path)]
    told = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert f"{name}: 0 of" not in told[0]
    assert f"{name}: 0 of" in told[1]
    assert (tmp_path / name / "report" / "report.html").exists()
