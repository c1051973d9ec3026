"""Treebanks and translations as published, byte for byte."""

import gzip
import zipfile

import numpy as np
import pytest

from benchmarks.data import words

TREES = {
    "train": b"(3 (2 (2 The) (2 film)) (3 (4 (3 good) (2 film)) (2 .)))\n(2 (2 so) (2 -LRB-))\n(1 (2 The) (0 bad))\n",
    "dev": b"(4 (2 film) (2 unheard))\n",
    "test": b"(0 (2 The) (0 (2 bad) (2 film)))\n(3 good)\n",
}


@pytest.mark.parametrize("packed", [True, False])
def test_sst_2_has_sentences_without_the_neutral(tmp_path, monkeypatch, packed):
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    home = tmp_path / "sst"
    (home / "trees").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"train\.txt; put nlp\.stanford\.edu.*trainDevTestTrees_PTB\.zip in"):
        words.sst2()
    if packed:
        with zipfile.ZipFile(home / "trainDevTestTrees_PTB.zip", "w") as archive:
            for part, content in TREES.items():
                archive.writestr(f"trees/{part}.txt", content)
    else:
        for part, content in TREES.items():
            (home / "trees" / f"{part}.txt").write_bytes(content)
    data = words.sst2()
    # twice or more in the sentences that are trained on: The, film; then 1 is any other word, and 0 none
    np.testing.assert_array_equal(data.train.inputs[..., 0], [[2, 3, 1, 3, 1], [2, 1, 0, 0, 0]])
    np.testing.assert_array_equal(data.train.lengths, [5, 2])
    np.testing.assert_array_equal(data.train.targets, [1, 0])
    np.testing.assert_array_equal(data.validation.inputs[..., 0], [[3, 1]])
    np.testing.assert_array_equal(data.test.inputs[..., 0], [[2, 1, 3], [1, 0, 0]])
    np.testing.assert_array_equal(data.test.targets, [0, 1])


def test_sst_2_has_every_phrase_that_is_judged_once(tmp_path):
    (tmp_path / "trees").mkdir()
    for part, content in TREES.items():
        (tmp_path / "trees" / f"{part}.txt").write_bytes(content)
    alone, data = words.sst2(folder=tmp_path), words.sst2(phrases=True, folder=tmp_path)
    # the sentence, good film ., good film, good, the other sentence, bad
    told = [[2, 3, 1, 3, 1], [1, 3, 1], [1, 3], [1], [2, 1], [1]]
    assert [
        [*codes[:length]] for codes, length in zip(data.train.inputs[..., 0], data.train.lengths, strict=True)
    ] == told
    np.testing.assert_array_equal(data.train.targets, [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(data.validation.inputs, alone.validation.inputs)


@pytest.mark.parametrize(
    "line", ["good film", "(5 (2 good) (2 film))", "(3 (2 good) (2 film)", "(3 ())", "2 good)", "x(3 a)"]
)
def test_no_tree(line):
    with pytest.raises(ValueError, match="made: a line must be a tree such as"):
        words.tree(line, name="made")


TEXTS = {
    "train.en": "A dog, a dog.\nTwo dogs run.\n",
    "train.de": "Ein Hund, ein Hund.\nZwei Hunde laufen.\n",
    "val.en": "A dog runs.\n",
    "val.de": "Ein Hund läuft.\n",
    "test_2016_flickr.en": "A\u2028dog.",
    "test_2016_flickr.de": "Hund",
}


def test_multi30k_pairs_its_languages(tmp_path, monkeypatch):
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    home = tmp_path / "multi30k"
    home.mkdir()
    for name, text in TEXTS.items():
        if name.startswith("val"):
            (home / name).write_bytes(text.encode())
        else:
            (home / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    data = words.multi30k()
    # English: "." 2, "a" 3, "dog" 4; German: "." 2, "ein" 3, "hund" 4; of each count, in the order of their code points
    np.testing.assert_array_equal(data.train.inputs[..., 0], [[3, 4, 1, 3, 4, 2], [1, 1, 1, 2, 0, 0]])
    np.testing.assert_array_equal(data.train.targets, [[3, 4, 1, 3, 4, 2, 0], [1, 1, 1, 2, 0, 0, 0]])
    np.testing.assert_array_equal(data.validation.inputs[..., 0], [[3, 4, 1, 2]])
    np.testing.assert_array_equal(data.validation.targets, [[3, 4, 1, 2, 0]])
    np.testing.assert_array_equal(data.test.inputs[..., 0], [[3, 4, 2]])
    np.testing.assert_array_equal(data.test.targets, [[4, 0]])
    np.testing.assert_array_equal(data.train.lengths, [6, 4])
    (home / "val.de").write_text("Ein Hund.\nZwei.\n")
    with pytest.raises(ValueError, match="both languages must have as many lines, got 1 and 2"):
        words.multi30k()
    (home / "val.de").unlink()
    with pytest.raises(FileNotFoundError, match=r"val\.de\.gz and no .*val\.de; put .*multi30k/dataset.* in "):
        words.multi30k()
