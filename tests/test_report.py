import json
import re

import jax
import numpy as np
import pytest

from maso_rnn import plots, report
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

    for step in ("_page", "_replace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"maso_rnn.report.document.{step}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                report.write(tmp_path / "r", "Title", "", [section("two")], FACTS)
        assert written(tmp_path / "r") == before
        assert list(tmp_path.iterdir()) == [tmp_path / "r"]


def test_other_files_are_never_overwritten(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        report.write(tmp_path, "Title", "", [section()], FACTS)
    with pytest.raises(FileExistsError, match="is a file"):
        report.write(tmp_path / "thesis.tex", "Title", "", [section()], FACTS)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


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
    made = report.templates(networks, xs, labels, key=jax.random.key(0))
    from maso_rnn import affine_map, forward, match

    for name, rnn in networks.items():
        outputs = np.stack([forward(rnn, x)[-1] for x in xs])
        scores = np.stack([match(affine_map(rnn, x), x) for x in xs])
        own = scores[np.arange(12), labels]
        others = np.where(np.arange(3) == labels[:, None], -np.inf, scores).max(1)
        values = made.values[name]
        assert values["accuracy"] == (outputs.argmax(1) == labels).mean()
        assert values["template_wins"] == (own > others).mean()
        assert values["identity_error"] < 1e-12  # float64
        assert sum(values["shares"].values()) == pytest.approx(1)
    assert {picture.name for picture in made.pictures} == {"templates", "margins", "shares"}


def test_initial_slope_section_says_yes_and_no_by_the_numbers(examples):
    networks, xs, _ = examples
    doubled = networks["a"].replace(readout=jax.tree.map(lambda leaf: 2 * leaf, networks["a"].readout))
    for first, last, answer in [(networks["a"], doubled, "No"), (doubled, networks["a"], "Yes")]:
        made = report.initial_slope_over_training([0, 3], {"x": [first, first], "y": [last, last]}, xs)
        assert made.pictures[0].reading.startswith(answer)
        ratio = made.values["median_norm"]["y"] / made.values["median_norm"]["x"]
        np.testing.assert_allclose(ratio, 0.5 if answer == "Yes" else 2.0)
