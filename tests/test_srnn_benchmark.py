"""The response benchmark and the report's section, on small data made here: no network needed."""

import json
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import srnn
from benchmarks import response
from benchmarks.data import aeon as aeon_wheel
from benchmarks.response import classification, kernels
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
        response.run("smoke", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="of equal lengths"):
        aeon_wheel.read("@data\n1,2:a\n1,2,3:a\n", name="made")
    with pytest.raises(ValueError, match=r"made: a \.ts file has a line @data"):
        aeon_wheel.read("1,2:a\n", name="made")


@pytest.mark.slow
def test_the_benchmark_writes_its_report(wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(classification, "SCALES", (1.0,))
    response.run("smoke", tmp_path / "reports" / "response")
    folder = tmp_path / "reports" / "response"
    result = json.loads((folder / "result.json").read_text())
    sections = result["sections"]
    assert set(sections) == {"response", "classification"}
    # this signal's second-order term is small, so that at order 1 the third still bends the line: 1.83 seen
    np.testing.assert_allclose(sections["response"]["slopes"], [2, 3, 4], atol=0.3)
    errors = np.abs(np.array(sections["response"]["simulated"]) - np.array(sections["response"]["predicted"]))
    bounds = np.array([[float(b) for b in row] for row in sections["response"]["bounds"]])
    assert (errors <= bounds).all()
    # two frequencies with a tenth of noise are told apart
    assert all(row["accuracy"] >= 0.9 for row in sections["classification"]["accuracy"].values())
    pictures = {"response-kernels", "response-series", "response-methods", "response-classification"}
    assert {path.stem for path in Path(folder).glob("*.png")} == pictures
    assert "to the power" in (folder / "report.html").read_text()


def test_an_unknown_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="size must be"):
        response.run("huge", tmp_path)


def test_downsampling_takes_means_and_standardises():
    series = np.repeat(np.arange(4.0), 5)[:, None]
    got = response.downsampled(series, 4)[:, 0]
    np.testing.assert_allclose(got, (np.arange(4) - 1.5) / np.std(np.arange(4)), rtol=1e-12)


@pytest.mark.slow
def test_warnings_say_what_went_wrong(key):
    control = jnp.sin(jnp.arange(8.0))[:, None]
    model = kernels.tanh_srnn(key, inputs=1, hidden=3)
    setting = kernels.Setting(model, control, 0.1, 20, 2, (0.1, 0.2, 0.4))
    found = kernels.measure(setting, key)
    assert kernels.warnings(found) == []
    bad = found._replace(diverged=3, shrinking=False, first=found.first._replace(growth=np.asarray(1e3)))
    said = " ".join(kernels.warnings(bad))
    assert all(word in said for word in ("3 paths diverged", "may not converge", "1e+03-fold"))
    assert [picture.name for picture in kernels.pictures(setting, found, prefix="x")] == ["x-kernels", "x-series"]


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
