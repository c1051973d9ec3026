import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from maso_rnn import affine_map, forward, match, plots, report, template_margin
from maso_rnn.report import Picture, Section
from maso_rnn.report.document import plain
from tests.contracts.network import network, sequence

FACTS = {"seed": 0, "versions": {"jax": jax.__version__}}


def section(name="one", **values):
    figure = plots.new_figure()
    plots.over_training([0, 1], {"a": np.array([1.0, 2.0])}, label="x", axes=figure.add_subplot())
    picture = Picture(f"{name}-picture", "Does it <rise>?", figure, "Yes, from 1 to 2.")
    return Section(name, "A title", "A text.", [picture], values, ["Mind this."])


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


@pytest.fixture(scope="module")
def examples():
    keys = jax.random.split(jax.random.key(2), 12)
    xs = jax.vmap(lambda k: sequence(k, "float64"))(keys)
    return {"a": network(keys[0], "float64"), "b": network(keys[1], "float64")}, xs, jax.numpy.arange(12) % 3


def test_template_section_agrees_with_a_loop(examples):
    networks, xs, labels = examples
    key, scale = jax.random.key(0), 0.1
    made = report.templates(networks, xs, labels, key=key, noise_scale=scale)
    for name, rnn in networks.items():
        right, margins, shares = [], [], []
        for x, label, k in zip(xs, labels, jax.random.split(key, 12), strict=True):
            right.append(forward(rnn, x)[-1].argmax() == label)
            margins.append(template_margin(affine_map(rnn, x), x, label))
            h0 = tuple(
                scale * jax.random.normal(kk, h.shape, "float64")
                for kk, h in zip(jax.random.split(k), rnn.initial, strict=True)
            )
            noisy = affine_map(rnn, x, h0)
            initial = sum(slope @ h for slope, h in zip(noisy.initial_slope, h0, strict=True))
            sizes = [np.abs(part - part.mean()).mean() for part in (match(noisy, x), initial, noisy.offset)]
            shares.append(np.array(sizes) / sum(sizes))
        right, margins, shares = np.array(right), np.array(margins), np.mean(shares, axis=0)
        assert 0 < right.sum() < 12
        values = made.values[name]
        assert values["accuracy"] == right.mean()
        assert values["template_wins"] == (margins > 0).mean()
        assert values["template_wins_where_right"] == (margins[right] > 0).mean()
        assert values["template_wins_where_wrong"] == (margins[~right] > 0).mean()
        np.testing.assert_allclose(values["median_margin_right"], np.median(margins[right]), rtol=1e-12)
        np.testing.assert_allclose(values["median_margin_wrong"], np.median(margins[~right]), rtol=1e-12)
        assert list(values["shares"]) == ["slope", "initial state", "offset"]
        np.testing.assert_allclose(list(values["shares"].values()), shares, rtol=1e-10)
        assert values["identity_error"] < 1e-12  # float64
    assert {picture.name for picture in made.pictures} == {"templates", "margins", "shares"}


@pytest.mark.parametrize("all_right", [True, False])
def test_template_section_of_a_network_that_is_always_right_or_never(examples, all_right):
    networks, xs, _ = examples
    said = jax.vmap(lambda x: forward(networks["a"], x)[-1].argmax())(xs)
    made = report.templates({"a": networks["a"]}, xs, said if all_right else (said + 1) % 3, key=jax.random.key(0))
    assert made.values["a"]["accuracy"] == all_right
    assert "none of those predicted" in made.pictures[1].reading


def test_template_section_refuses_what_does_not_fit(examples, unchecked):
    networks, xs, labels = examples
    for arguments, message in [
        (({}, xs, labels), "at least one network"),
        ((networks, xs[:0], labels[:0]), "at least one sequence"),
        ((networks, xs, labels[:3]), "one for each"),
        ((networks, xs, labels + 1), r"labels must be in \[0, 3\), got 1 to 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            report.templates(*arguments, key=jax.random.key(0))


def test_initial_slope_section_says_yes_and_no_by_the_numbers(examples):
    networks, xs, _ = examples
    doubled = networks["a"].replace(readout=jax.tree.map(lambda leaf: 2 * leaf, networks["a"].readout))
    for first, last, answer in [(networks["a"], doubled, "No"), (doubled, networks["a"], "Yes")]:
        made = report.initial_slope_over_training([0, 3], {"x": [first, first], "y": [last, last]}, xs)
        assert made.pictures[0].reading.startswith(answer)
        ratio = made.values["median_norm"]["y"] / made.values["median_norm"]["x"]
        np.testing.assert_allclose(ratio, 0.5 if answer == "Yes" else 2.0)
    alone = report.initial_slope_over_training([0, 3], {"x": [doubled, doubled]}, xs)
    assert alone.pictures[0].reading.startswith("Median")
