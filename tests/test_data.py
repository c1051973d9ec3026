"""The names of the data sets: each loads what it says, in the one shape, or says what to get."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.data import DATA, load
from benchmarks.data.dataset import Dataset
from benchmarks.data.images import permuted

HERE = {
    "digits": {"by": "row"},
    "digits-permuted": {"by": "row", "seed": 3},
    "adding": {"length": 5, "examples": 4},
    "adding-ternary": {"length": 5, "examples": 4},
    "copy": {"delay": 2, "examples": 4},
    "tomita": {"grammar": 4, "examples": 4},
}
ELSEWHERE = {"text": {"path": Path("nowhere")}, "series": {"name": "GunPoint"}}


@pytest.mark.parametrize("name", HERE)
def test_what_is_here_has_the_one_shape(name):
    data = load(name, **HERE[name])
    assert isinstance(data, Dataset)
    assert data.source
    assert data.licence
    for part in data[:3]:
        examples, time, _ = part.inputs.shape
        assert len(part.targets) == len(part.lengths) == examples > 0
        assert (part.lengths <= time).all()
        assert (part.lengths > 0).all()
    again = load(name, **HERE[name])
    np.testing.assert_array_equal(data.test.inputs, again.test.inputs)


@pytest.mark.parametrize("name", [name for name in DATA if name not in HERE and "hub" not in name])
def test_what_is_not_here_says_what_to_get(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("benchmarks.data.files.SYSTEM", tmp_path / "system")
    with pytest.raises(FileNotFoundError, match=rf"(put .* in {tmp_path}/data|get (it|them) with `make data`|nowhere)"):
        load(name, **ELSEWHERE.get(name, {}))
    assert not any(tmp_path.iterdir())


def test_permuted_names_permute():
    shuffled = permuted(load("digits", by="row"), 3)
    np.testing.assert_array_equal(load("digits-permuted", by="row", seed=3).train.inputs, shuffled.train.inputs)


def test_unknown_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"name must be one of digits, digits-10k, .*; got 'cifar'"):
        load("cifar")
    with pytest.raises(TypeError, match="unexpected keyword argument 'rows'"):
        load("digits", rows=3)


def test_list_has_every_name(capsys):
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-len(DATA) :]] == list(DATA)
    assert [line.partition(" ")[2].strip() for line in lines[-len(DATA) :]] == [entry.what for entry in DATA.values()]
