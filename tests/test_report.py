import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from maso_rnn import plots, report, style
from maso_rnn.report import Picture, Section
from maso_rnn.report.document import plain

FACTS = {"seed": 0, "versions": {"jax": jax.__version__}}


def section(name="one", **values):
    figure = style.new_figure()
    plots.over_training([0, 1], {"a": np.array([1.0, 2.0])}, label="x", axes=figure.add_subplot())
    picture = Picture(f"{name}-picture", "Does it <rise>?", figure, "Yes, from 1 to 2.", leads=True)
    return Section(name, "A title", "A text.", [picture], values, ["Mind this."], ["It rises."])


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_report_is_one_self_contained_page_with_its_pictures_and_numbers(tmp_path):
    report.write(tmp_path / "r", "Title", "Intro.", [section(x=np.float32(0.5), bad=float("nan"))], FACTS)
    files = written(tmp_path / "r")
    assert set(files) == {"report.html", "result.json", "one-picture.png"}
    page = files["report.html"].decode()
    assert "Does it &lt;rise&gt;?" in page
    assert "Yes, from 1 to 2." in page
    assert "Mind this." in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)  # nothing from elsewhere
    assert '<li><a href="#one">It rises.</a></li>' in page
    assert page.count("<img ") == 2  # once in the summary, once in its section
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page
    result = json.loads(files["result.json"])
    assert result["sections"]["one"] == {"x": 0.5, "bad": "nan"}
    assert result["seed"] == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "r"]


def test_a_second_report_replaces_the_first(tmp_path):
    report.write(tmp_path / "r", "Title", "", [section("one")], FACTS)
    report.write(tmp_path / "r", "Title", "", [section("two")], FACTS)
    assert set(written(tmp_path / "r")) == {"report.html", "result.json", "two-picture.png"}
    assert list(tmp_path.iterdir()) == [tmp_path / "r"]


def test_an_interrupted_report_leaves_the_earlier_one(tmp_path, monkeypatch):
    report.write(tmp_path / "r", "Title", "", [section("one")], FACTS)
    before = written(tmp_path / "r")

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    def rename_of(nth):
        calls, rename = [], Path.rename

        def interrupt_at(path, target):
            calls.append(path)
            return interrupt() if len(calls) == nth else rename(path, target)

        return interrupt_at

    for step, replacement in [
        ("maso_rnn.report.document._page", interrupt),
        ("pathlib.Path.rename", rename_of(1)),
        ("pathlib.Path.rename", rename_of(2)),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(step, replacement)
            with pytest.raises(KeyboardInterrupt):
                report.write(tmp_path / "r", "Title", "", [section("two")], FACTS)
        assert written(tmp_path / "r") == before
        assert list(tmp_path.iterdir()) == [tmp_path / "r"]


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / "holiday.png").write_text("a picture")
    for folder, name in [(tmp_path, "album"), (tmp_path / "album", "holiday.png")]:
        with pytest.raises(FileExistsError, match=name):
            report.write(folder, "Title", "", [section()], FACTS)
    report.write(tmp_path / "r", "Title", "", [section()], FACTS)
    (tmp_path / "r" / "mine.png").write_text("a picture")
    with pytest.raises(FileExistsError, match=r"mine\.png"):
        report.write(tmp_path / "r", "Title", "", [section()], FACTS)
    with pytest.raises(FileExistsError, match="is a file"):
        report.write(tmp_path / "thesis.tex", "Title", "", [section()], FACTS)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_folders_that_cannot_be_replaced_are_refused_and_links_followed(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (Path(), Path(".."), Path("/")):
        with pytest.raises(OSError, match=r"in use|not a report's"):
            report.write(folder, "Title", "", [section()], FACTS)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    report.write(tmp_path / "link", "Title", "", [section()], FACTS)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "report.html").exists()


def test_names_must_differ_and_be_file_names(tmp_path):
    with pytest.raises(ValueError, match="must differ"):
        report.write(tmp_path / "r", "Title", "", [section(), section()], FACTS)
    with pytest.raises(ValueError, match="lower-case"):
        report.write(tmp_path / "r", "Title", "", [section("../x")], FACTS)
    assert not list(tmp_path.iterdir())


def test_plain_refuses_what_json_cannot_hold():
    assert plain({1: np.arange(2), "x": (1.5, None, "a", True)}) == {"1": [0, 1], "x": [1.5, None, "a", True]}
    with pytest.raises(TypeError, match="set"):
        plain({"x": {1}})
