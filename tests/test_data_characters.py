"""Texts: each target is the character after, each saying is in one part, and files are read as published."""

import gzip
import zipfile

import numpy as np
import pytest

from benchmarks.data import characters, files


def spell(split, alphabet):
    return ["".join(alphabet[code] for code in window) for window in split.targets]


def test_targets_are_the_characters_after():
    data = characters.windows("xabcabdé", "abcz", "xabc", time=3, name="made", source="", licence="")
    # é is past the last whole window, and x is only ever shown, never said
    assert spell(data.train, "?abcd") == ["abc", "abd"]
    assert data.train.inputs[0, 0, 0] == data.test.inputs[0, 0, 0] == 0
    assert spell(data.validation, "?abcd") == ["bc?"]
    for split in data[:3]:
        np.testing.assert_array_equal(split.inputs[:, 1:, 0], split.targets[:, :-1])
        np.testing.assert_array_equal(split.inputs[1:, 0, 0], split.targets[:-1, -1])
        assert (split.lengths == 3).all()


def test_sayings_are_in_one_part_only(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "SYSTEM", tmp_path)
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path / "data"))
    with pytest.raises(FileNotFoundError, match="make data`, or `apt-get install fortunes`"):
        characters.fortunes()
    home = tmp_path / "usr" / "share" / "games" / "fortunes"
    home.mkdir(parents=True)
    every = "% abcdefghijklmnopqr"  # so that each part has each character
    # 20 sayings, ten of them twice; one begins with %, one is indented
    (home / "a").write_text("".join(f"{c}{every}\n%\n" for c in "abcdefghij") + f"%{every}\n%\n  {every}\n\n%\n")
    (home / "b").write_text("%\n".join(f"{c}{every}\n" for c in "abcdefghijklmnopqr"))
    (home / "a.dat").write_bytes(b"\xff\x00")
    (home / "a.u8").symlink_to("a")
    data = characters.fortunes(time=1)
    alphabet = "?" + "".join(sorted(set("\n" + every)))
    told = []
    for split in data[:3]:
        shown = "".join(alphabet[c] for c in split.inputs[:1, 0, 0]) + "".join(spell(split, alphabet))
        told.append(shown.split("\n%\n"))
    assert [len(part) for part in told] == [18, 1, 1]
    assert len(set().union(*told)) == 20
    assert {f"  {every}", f"%{every}"} < set().union(*told)


@pytest.mark.parametrize("end", ["", ".gz"])
def test_a_text_file_is_cut_in_order(tmp_path, end):
    text = "0123456789" * 20
    path = tmp_path / f"text{end}"
    path.write_bytes(gzip.compress(text.encode()) if end else text.encode())
    data = characters.text_file(path, time=3)
    assert [len(part.inputs) for part in data[:3]] == [59, 3, 3]
    assert "".join(spell(data.validation, "?0123456789")) == text[181:190]
    assert data.train.targets.dtype == np.uint8
    path.write_bytes(gzip.compress(b"\xff") if end else b"\xff")
    with pytest.raises(ValueError, match="must be text in UTF-8"):
        characters.text_file(path)
    path.write_bytes(gzip.compress(b"short") if end else b"short")
    with pytest.raises(ValueError, match="each part must have more than time=50 characters, one has 0"):
        characters.text_file(path)


def test_penn_treebank_loses_the_spaces_around_its_lines(tmp_path, monkeypatch):
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    (tmp_path / "ptb").mkdir()
    for part in ("train", "valid"):
        (tmp_path / "ptb" / f"ptb.{part}.txt").write_bytes(b" ab <unk> N \n ba \n")
    with pytest.raises(FileNotFoundError, match=r"no .*ptb\.test\.txt; put ptb\.train\.txt.* in .*ptb"):
        characters.penn_treebank()
    (tmp_path / "ptb" / "ptb.test.txt").write_bytes(b" b a \n")
    data = characters.penn_treebank(time=1)
    alphabet = "?" + "".join(sorted(set("b <unk> N\nba\n")))
    assert "".join(spell(data.train, alphabet)) == "b <unk> N\nba\n"
    assert "".join(spell(data.test, alphabet)) == " a\n"


def test_text8_is_read_packed_or_not(tmp_path, monkeypatch):
    monkeypatch.setenv("RNN_GEOMETRY_DATA", str(tmp_path))
    (tmp_path / "text8").mkdir()
    with pytest.raises(FileNotFoundError, match=r"put mattmahoney\.net/dc/text8\.zip in .*text8"):
        characters.text8()
    text = " anarchism originated as a term of abuse" * 5
    with zipfile.ZipFile(tmp_path / "text8" / "text8.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("text8", text)
    packed = characters.text8(time=4)
    assert [len(part.inputs) for part in packed[:3]] == [44, 2, 2]
    monkeypatch.setattr(files, "LIMIT", 199)
    with pytest.raises(ValueError, match=r"text8\.zip/text8 holds more than 199 bytes"):
        characters.text8()
    monkeypatch.undo()
    (tmp_path / "text8" / "text8.zip").unlink()
    (tmp_path / "text8" / "text8").write_text(text)
    plain = characters.text8(time=4, folder=tmp_path / "text8")
    np.testing.assert_array_equal(plain.train.inputs, packed.train.inputs)
    (tmp_path / "text8" / "text8").write_text(text + "A9")
    with pytest.raises(ValueError, match="must be of a to z and spaces, it has b'9A'"):
        characters.text8(folder=tmp_path / "text8")
