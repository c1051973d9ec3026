"""The spline paper's experiment: it runs and resumes, and what it measures and concludes is what it says."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks import experiment, results
from benchmarks.data.dataset import Dataset, Split
from benchmarks.rows import Row
from benchmarks.spline import EXPERIMENT, report, training
from benchmarks.spline.partition import neighbours
from benchmarks.spline.training import Configuration
from benchmarks.tasks import TASKS


@pytest.mark.parametrize("size", ["smoke", "small", "paper"])
def test_every_contender_has_as_many_tries_and_every_configuration_is_one_of_its_own(size):
    setting = EXPERIMENT.sizes[size]()
    tries = [setting.rates(one) for one in setting.contenders]
    assert len({len(tried) for tried in tries}) == 1
    assert len({results.key(one) for one in setting.fixed}) == len(setting.fixed)
    for one, tried in zip(setting.contenders, tries, strict=True):
        assert len({json.dumps(settings) for settings in tried}) == len(tried)
        assert any("sigma" in settings for settings in tried) == (one.regulariser == "noise")
    assert {one.task for one in [*setting.contenders, *setting.fixed]} <= set(TASKS)
    assert {one.regulariser for one in setting.fixed} == {"none", "noise", *training.PENALTIES}


@pytest.mark.parametrize("model", ["rnn", "gru"])
def test_words_are_embedded_by_a_table_that_learns(monkeypatch, tmp_path, model):
    random = np.random.default_rng(0)
    codes, lengths = random.integers(1, 6, (32, 4, 1)), random.integers(1, 5, 32)
    said = (codes[np.arange(32), lengths - 1, 0] > 2).astype(int)  # what the last word says
    data = Dataset(*[Split(codes, said, lengths)] * 3, name="words", source="drawn", licence="none")
    monkeypatch.setitem(TASKS, "words", lambda: data)
    one = Configuration("table", "words", model, "none", hidden=8, batch=8, rate=0.02, steps=60, points=1, clip=1.0)
    table = training.start(one, data)["words"]
    assert table.shape == (6, 8)
    network, runs = training._runs([one], data)
    flat = training.training.celled(training.CELLS["gru"](8)) if model == "gru" else training.training.layered()
    h0 = network.initial(runs[0].start)
    states = network.states(runs[0].start, codes[0], h0)
    np.testing.assert_array_equal(states, flat.states(runs[0].start["network"], table[codes[0, :, 0]], h0))
    (result,) = training.train([one], tmp_path / "state", lambda steps: None)
    assert result["test_accuracy"] == 1


@pytest.fixture(scope="module")
def small():
    """A network, three sequences, and an initial state for each."""
    rng = np.random.default_rng(0)
    layer = maso_rnn.Layer(rng.normal(size=(2, 4)), rng.normal(size=(4, 4)), rng.normal(size=4))
    rnn = jax.tree.map(jnp.asarray, maso_rnn.RNN((layer,), maso_rnn.Readout(rng.normal(size=(4, 3)))))
    examples = Split(jnp.asarray(rng.normal(size=(3, 5, 2))), jnp.array([0, 2, 1]), np.full(3, 5))
    return rnn, examples, (jnp.asarray(rng.normal(size=(3, 4))),)


def test_norms_are_those_of_derivatives(small):
    rnn, examples, (h0,) = small
    kernel, recurrent, bias = (np.asarray(leaf) for leaf in jax.tree.leaves(rnn.layers))
    readout = np.asarray(rnn.readout.kernel)

    def slope(xs, h):
        pulled = np.eye(4)
        for x in np.asarray(xs):
            p = x @ kernel + h @ recurrent + bias
            pulled, h = (pulled @ recurrent) * (p > 0), np.maximum(p, 0)
        return pulled @ readout

    def loss(recurrent):
        h = np.asarray(h0)
        for t in range(5):
            h = np.maximum(np.asarray(examples.inputs)[:, t] @ kernel + h @ recurrent + bias, 0)
        z = h @ readout
        return (np.log(np.exp(z).sum(axis=1)) - z[np.arange(3), examples.targets]).mean()

    slopes = [np.linalg.norm(slope(xs, h)) for xs, h in zip(examples.inputs, np.asarray(h0), strict=True)]
    assert jax.jit(training.slope_norm)(rnn, examples, (h0,)) == pytest.approx(np.mean(slopes), rel=1e-12)  # float64
    steps = 1e-6 * np.eye(16).reshape(16, 4, 4)
    gradient = [(loss(recurrent + step) - loss(recurrent - step)) / 2e-6 for step in steps]
    # central differences are good to the square of their step, and no kink is that near
    assert jax.jit(training.gradient_norm)(rnn, examples, (h0,)) == pytest.approx(np.linalg.norm(gradient), rel=1e-7)


def test_the_penalty_near_rest_is_that_of_one_draw_for_each_sequence(small):
    rnn, examples, _ = small
    hyper, xs, target = {"strength": jnp.asarray(0.5)}, examples.inputs[0], examples.targets[0]
    penalty = jax.jit(training.penalty_near_rest)
    first = penalty(rnn, xs, target, hyper)
    assert first == penalty(rnn, xs, target, hyper)
    # of the same sequence but for a thousandth, the draw is another, and with it the piece
    assert abs(penalty(rnn, 1.001 * xs, target, hyper) / first - 1) > 0.01


def test_neighbours_share_where_several_are_as_near():
    codes = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 1]], bool)
    # the first has two neighbours, one of its class; so have the last two; the second's only one is of its class
    assert neighbours(codes, np.array([0, 0, 1, 1])) == pytest.approx((1 / 2 + 1 + 0 + 1 / 2) / 4)


def row(losses=(2.0, 1.0), accuracy=0.5, **settings):
    one = Configuration(**{"part": "table", "task": "t", "model": "rnn", "regulariser": "none", **settings})
    return Row(one, {"validation_loss": losses, "test_accuracy": accuracy})


def test_the_highest_rate_is_one_at_which_all_seeds_learn():
    # an even guess among ten has a loss of 2.3026, and a dead network comes just below it
    ends = {0.1: (2.31, 2.0), 0.2: (1.0, 2.0), 0.4: (1.0, 0.5), 0.8: (2.302, 1.0), 1.6: ("nan", 1.0)}
    rows = [
        row(losses=(9.0, end), rate=rate, seed=seed) for rate, both in ends.items() for seed, end in enumerate(both)
    ]
    assert report.highest_rate(rows) == 0.4
    assert report.highest_rate([one for one in rows if one.configuration.rate > 0.4]) == 0
    assert not report.learns({"validation_loss": [2.0, "inf"]})


def test_gains_are_of_the_same_seeds():
    quiet = [row(accuracy=accuracy, seed=seed) for seed, accuracy in [(1, 0.5), (2, 0.7), (3, 0.9)]]
    noisy = [
        row(accuracy=accuracy, seed=seed, regulariser="noise", sigma=0.1)
        for seed, accuracy in [(3, 0.91), (1, 0.52), (2, 0.73)]
    ]
    gain = report.gains([*quiet, *noisy])["t"]["rnn"]
    assert gain.mean == pytest.approx(0.02)
    assert gain.stderr == pytest.approx(np.std([0.02, 0.03, 0.01], ddof=1) / np.sqrt(3))
    assert gain.seeds == 3
    found = report.accuracies([*quiet, *noisy])["t"]
    assert found["rnn"]["accuracy"].mean == pytest.approx(0.7)
    assert found["rnn + noise"]["sigma"] == 0.1


def test_what_is_published_is_of_five_seeds_and_whole():
    rows, _ = experiment.published(EXPERIMENT)
    table = report.accuracies(rows.final)
    assert set(table) == {"digits-by-pixel", "digits-permuted", "digits-10k-by-row", "adding-ternary-60"}
    assert {one["accuracy"].seeds for row in table.values() for one in row.values()} == {5}
    assert all({"rnn", "rnn + noise", "gru"} <= set(row) for row in table.values())
    # no walk was cut short, and the maps are exact
    opened = [row.result[when] for row in rows.fixed if "after" in row.result for when in ("before", "after")]
    assert len(opened) == 20
    assert all(one["cut"] == 0 and one["template"]["error"] < 1e-4 for one in opened)


@pytest.mark.slow
def test_the_smoke_run_writes_every_picture_and_a_rerun_does_nothing(tmp_path):
    experiment.run(EXPERIMENT, "smoke", tmp_path)
    before = (tmp_path / "results.jsonl").read_bytes()
    experiment.run(dataclasses.replace(EXPERIMENT, train=None), "smoke", tmp_path)
    assert (tmp_path / "results.jsonl").read_bytes() == before
    told = json.loads((tmp_path / "report" / "result.json").read_text())
    assert len(told["pictures"]) == 9
    opened = [
        line.result for line in results.read(tmp_path / "results.jsonl") if line.configuration["part"] == "partition"
    ]
    for one in opened:
        assert one["before"] != one["after"]
        assert one["after"]["times"] == list(range(1, 9))
        assert np.all(np.diff(one["after"]["regions"]) >= 0)
        assert one["after"]["template"]["error"] < 1e-4  # float32
        # the pieces of a prefix are joined from those of the whole, so there are no more of them
        assert np.all(np.diff(one["after"]["pieces"]) >= 0)
