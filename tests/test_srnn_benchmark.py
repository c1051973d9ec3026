"""The response experiment and the report's section, on small data made here: no network needed."""

import json
import zipfile

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import srnn
from benchmarks import experiment, response, results
from benchmarks.data import aeon as aeon_wheel
from benchmarks.response import correlations, functionals, kernels, machines, signals
from srnn import plots

TS = """# a comment: with a colon
@problemName Made
@univariate {univariate}
@classLabel true b a
@data
{rows}
"""


def ts(key, examples, channels, time):
    """Series whose class is their frequency."""
    rows = []
    for i in range(examples):
        noise = np.asarray(0.1 * jax.random.normal(jax.random.fold_in(key, i), (channels, time)))
        wave = np.sin((1 + i % 2) * np.linspace(0, 6, time)) + noise
        rows.append(":".join(",".join(f"{x:.5f}" for x in channel) for channel in wave) + ":" + "ab"[i % 2])
    return TS.format(univariate="true" if channels == 1 else "false", rows="\n".join(rows))


@pytest.fixture
def wheel(tmp_path, monkeypatch, key):
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    monkeypatch.setattr(aeon_wheel, "CHECKSUMS", {})
    with zipfile.ZipFile(tmp_path / "aeon-0.0-py3-none-any.whl", "w") as file:
        for folder, name, channels, time in [("ACSF1", "ACSF1", 1, 40), ("JapaneseVowels", "JapaneseVowels_eq", 2, 9)]:
            for part, examples in [("TRAIN", 21), ("TEST", 10)]:
                content = ts(jax.random.fold_in(key, examples), examples, channels, time)
                file.writestr(f"aeon/datasets/data/{folder}/{name}_{part}.ts", content)
    return tmp_path


def test_series_are_read_out_of_the_wheel(wheel):
    data = aeon_wheel.aeon("JapaneseVowels_eq")
    assert data.train.inputs.shape == (14, 9, 2)
    assert data.validation.inputs.shape == (7, 9, 2)
    assert data.test.inputs.shape == (10, 9, 2)
    np.testing.assert_array_equal(data.test.targets, [0, 1] * 5)  # a before b
    inputs, labels = aeon_wheel.read("@data\n1,2,3:4,5,6:x\n", name="made")
    np.testing.assert_array_equal(inputs, [[[1, 4], [2, 5], [3, 6]]])
    assert labels.tolist() == ["x"]


def test_what_is_missing_is_said_with_what_to_run(wheel, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"has no aeon/datasets/data/Other/Other_TEST\.ts"):
        aeon_wheel.aeon("Other")
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=r"make data.*pip download --no-deps --dest .*empty aeon"):
        experiment.run(response.EXPERIMENT, "small", tmp_path / "out")
    with pytest.raises(ValueError, match="of equal lengths"):
        aeon_wheel.read("@data\n1,2:a\n1,2,3:a\n", name="made")
    with pytest.raises(ValueError, match=r"made: a \.ts file has a line @data"):
        aeon_wheel.read("1,2:a\n", name="made")


@pytest.mark.filterwarnings("ignore:dt = ")  # at size smoke steps are coarse
@pytest.mark.slow
def test_the_experiment_writes_its_report_and_repeats_itself(tmp_path):
    for name in ("once", "again"):
        experiment.run(response.EXPERIMENT, "smoke", tmp_path / name)
    lines, again = (results.read(tmp_path / name / "results.jsonl") for name in ("once", "again"))
    assert [line[:2] for line in lines] == [line[:2] for line in again]
    told = json.loads((tmp_path / "once" / "report" / "result.json").read_text())
    assert set(told["sections"]) == {"response", "correlations", "learning", "machines", "classification"}
    assert len(told["pictures"]) == 6
    kernel, agreement, _, readout, _, classes = (line.result for line in lines)
    np.testing.assert_allclose(kernel["slopes"], [2, 3], atol=0.3)  # at amplitudes of an eighth to a half
    assert max(agreement["differences"].values()) < 5 < agreement["signal"]  # standard errors squared
    assert readout["differences"][-1] < 0.4 * readout["differences"][0]  # 16 times the paths, so a quarter
    assert classes["response gram"] >= 0.9


def test_functionals_are_what_they_are_said_to_be():
    us = signals.waves(np.random.default_rng(0), 3, 6)
    times = (np.arange(6) + 0.5) / 6
    for u, product, saturating, most in zip(
        us[:, :, 0], *(functionals.FUNCTIONALS[name](us) for name in ("product", "saturating", "maximum")), strict=True
    ):
        wanted = 0.0
        for t in range(6):
            for s in range(t):
                wanted += np.exp(-2 * (1 - times[t]) - 3 * (times[t] - times[s])) * u[t] * u[s] / 36
        assert product == pytest.approx(wanted, rel=1e-12)
        assert saturating == pytest.approx(np.tanh(3 * sum(np.exp(-2 * (1 - times)) * u) / 6), rel=1e-12)
        assert most == pytest.approx(max(u[: t + 1].sum() / 6 for t in range(6)), rel=1e-12)


def test_readout_and_kernel_machine_are_one_on_the_same_features(key):
    features = np.asarray(jax.random.normal(key, (12, 3)))
    targets = np.asarray(jax.random.normal(jax.random.key(1), (12,)))
    by_readout = machines._by_readout(features, targets, 8, 0.3)
    by_kernel = machines._by_kernel(features, targets, 8, 0.3)
    np.testing.assert_allclose(by_readout, by_kernel, rtol=1e-9)  # float64


def test_a_turned_network_has_the_same_units(key):
    model = kernels.tanh_srnn(key, inputs=1, hidden=3)
    turned = machines._turned(model, 2)
    state = jnp.array([0.3, -0.1, 0.7])
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(srnn.drift(turned, state[order]), srnn.drift(model, state)[order], rtol=1e-12)


def test_estimates_that_differ_are_told_from_those_that_do_not():
    nothing = jnp.zeros(())
    values = jnp.ones((400, 1))
    one = srnn.Kernel(nothing, values, 0.1 * values, nothing, nothing, jnp.asarray(0), jnp.zeros(2))
    noise = 0.1 * jax.random.normal(jax.random.key(0), (2, 400, 1))
    a, b = (one._replace(values=values + part) for part in noise)
    assert correlations._apart(a, b) == pytest.approx(1, abs=0.3)  # four standard errors of a mean of 400 squares
    assert correlations._apart(a, b._replace(values=0 * values)) > 40


def test_stored_numbers_draw_the_same_pictures(key):
    first = srnn.Kernel(jnp.zeros(2), jnp.ones((2, 1)), jnp.ones((2, 1)), jnp.ones(2), jnp.ones(()), jnp.asarray(0), 0)
    second = first._replace(values=jnp.ones((2, 2, 1, 1)), stderr=jnp.ones((2, 2, 1, 1)))
    timescales = srnn.Timescales(jnp.ones(1), jnp.ones((1, 1)), jnp.ones(()), jnp.asarray(True))
    one = np.array([1.0, 2.0, 4.0])
    found = kernels.Responses(
        first,
        second,
        timescales,
        one,
        one,
        np.full((2, 3), 0.7),
        np.full((2, 3), 1e-9),
        np.full((2, 3), 9.0),
        (2.0, 3.0),
        True,
        3,
    )
    setting = kernels.Setting(None, None, 0.1, 10, 2, (0.1, 0.2, 0.4))
    stored = json.loads(json.dumps(response._short(kernels.values(setting, found))))
    again = kernels.restored(stored)
    assert kernels.warnings(again) == kernels.warnings(found) == ["3 paths diverged: no mean over the rest is given."]
    assert [p.reading for p in kernels.pictures(setting.amplitudes, again, prefix="x")] == [
        p.reading for p in kernels.pictures(setting.amplitudes, found, prefix="x")
    ]


def test_downsampling_takes_means_and_standardises():
    series = np.repeat(np.arange(4.0), 5)[:, None]
    got = signals.downsampled(series, 4)[:, 0]
    np.testing.assert_allclose(got, (np.arange(4) - 1.5) / np.std(np.arange(4)), rtol=1e-12)


def test_warnings_say_what_went_wrong():
    nothing = np.zeros(())
    growing = srnn.Kernel(nothing, nothing, nothing, nothing, np.asarray(1e3), nothing, nothing)
    zeros = np.zeros(1)
    found = kernels.Responses(growing, growing, None, zeros, zeros, zeros, zeros, zeros, (2.0,), False, 3)
    said = " ".join(kernels.warnings(found))
    assert all(word in said for word in ("3 paths diverged", "may not converge", "1e+03-fold"))


def test_pictures_draw_what_they_are_given():
    assert matplotlib.get_backend()
    lags = jnp.linspace(1.0, 0.1, 10)
    nothing = jnp.zeros(())
    first = srnn.Kernel(1 - lags, lags[:, None], 0.1 * lags[:, None], lags, nothing, jnp.asarray(0), jnp.zeros(2))
    axes = plots.first_order({"made": first})
    np.testing.assert_allclose(axes.lines[0].get_ydata(), lags)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(1.2)  # two standard errors above the largest
    second = first._replace(values=jnp.outer(lags, lags)[:, :, None, None], stderr=jnp.full((10, 10, 1, 1), 0.25))
    axes = plots.second_order(second)
    assert len(axes.lines[0].get_xdata()) == int((jnp.outer(lags, lags) < 0.5).sum())
    axes = plots.compared({"a": 1.0, "b": 2.0}, label="x", stderr={"a": 0.1, "b": 0.2})
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
