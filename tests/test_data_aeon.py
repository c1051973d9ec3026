"""Wheels that are broken or changed, and series that are not what a .ts file holds."""

import re
import zipfile

import numpy as np
import pytest

from benchmarks.data import aeon, files

GUN = "aeon/datasets/data/GunPoint/GunPoint_{}.ts"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    path = tmp_path / "aeon-0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for part in ("TRAIN", "TEST"):
            file.writestr(GUN.format(part), "@data\n" + "1.5,2.5:a\n3.5,4.5:b\n" * 500)
    return path


def test_a_changed_file_is_refused(wheel, monkeypatch):
    with pytest.raises(ValueError, match=r"GunPoint_TRAIN\.ts in .*whl is not the file .* SHA-256"):
        aeon.aeon("GunPoint")
    monkeypatch.setattr(aeon, "CHECKSUMS", {})
    assert aeon.aeon("GunPoint").test.inputs.shape == (1000, 2, 1)
    monkeypatch.setattr(files, "LIMIT", 9000)
    with pytest.raises(ValueError, match=r"GunPoint_TRAIN\.ts holds more than 9000 bytes once unpacked"):
        aeon.aeon("GunPoint")
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"aeon-0\.0-py3-none-any\.whl cannot be unpacked"):
        aeon.aeon("GunPoint")


def test_no_class_is_held_back_whole(wheel, monkeypatch):
    monkeypatch.setattr(aeon, "CHECKSUMS", {})
    with pytest.raises(ValueError, match=r"every example of a would be held back"):
        aeon.aeon("GunPoint", validation=0.5)


def test_an_at_data_in_a_comment_is_no_data():
    inputs, labels = aeon.read("# before @data comes a header\n@classLabel true\n@DATA \n1:x\n\n2:y\n", name="made")
    np.testing.assert_array_equal(inputs.ravel(), [1, 2])
    assert labels.tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("", "a .ts file has a line @data and series after it"),
        ("1,2,3\n", "with a label after the last colon"),
        ("1,2:3,4:x\n1,2:y\n", "channels [1, 2]"),
        ("1,2:3:x\n", "lengths [1, 2]"),
        ("1,?:x\n", "series must be complete: could not convert string to float: '?'"),
        ("1,nan:x\n", "series must be finite"),
        ("1,1e999:x\n", "series must be finite"),
    ],
)
def test_no_series(rows, what):
    with pytest.raises(ValueError, match=re.escape("made: ") + ".*" + re.escape(what)):
        aeon.read("@data\n" + rows, name="made")
