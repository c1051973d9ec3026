"""`rnn-geometry inspect`, as a user calls it."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import files, report
from maso_rnn.__main__ import main
from maso_rnn.report import reading

ROOT = Path(__file__).parent.parent
EXAMPLES, TIME, CLASSES = 24, 8, 3
OF_PIECES = ["templates", "attributions", "regions", "codes", "walk", "plane", "boundary"]
OF_ANY = ["eigenvalues", "fixed-points", "stability"]


def network(activation="relu", dtype="float32"):
    bias = jax.nn.initializers.normal(0.5)
    return maso_rnn.init(jax.random.key(0), 1, [6, 5], CLASSES, activation=activation, bias_init=bias, dtype=dtype)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network, data and labels in files, and files that do not fit."""
    folder = tmp_path_factory.mktemp("inspect")
    xs = np.random.default_rng(1).normal(size=(EXAMPLES, TIME, 1))
    labels = np.arange(EXAMPLES) % CLASSES
    np.save(folder / "xs.npy", xs)
    np.savez(folder / "both.npz", inputs=xs, labels=labels)
    np.savez(folder / "two.npz", a=xs, b=xs)
    np.save(folder / "labels.npy", labels)
    np.save(folder / "flat.npy", xs[..., 0])
    np.save(folder / "wide.npy", np.concatenate([xs, xs], axis=2))
    np.save(folder / "whole.npy", xs.astype(int))
    np.save(folder / "nan.npy", np.where(np.arange(EXAMPLES)[:, None, None] == 7, np.nan, xs))
    np.save(folder / "huge.npy", 1e300 * xs)
    np.save(folder / "high.npy", labels + 1)
    np.save(folder / "few.npy", labels[:5])
    np.save(folder / "objects.npy", np.array([None, {}]), allow_pickle=True)
    ragged = np.array([xs[0], xs[1, :3]], dtype=object)
    np.savez(folder / "ragged.npz", inputs=ragged)
    (folder / "text.npy").write_text("not an array")
    files.save(folder / "rnn", network())
    files.save(folder / "tanh", network("tanh"))
    np.save(folder / "lengths.npy", np.arange(EXAMPLES) % 5 + 4)
    np.save(folder / "none.npy", np.zeros(EXAMPLES, int))
    one = network()
    readout = one.readout.replace(kernel=one.readout.kernel[:, :1], bias=one.readout.bias[:1])
    files.save(folder / "one", one.replace(readout=readout))
    (folder / "cut").write_bytes((folder / "rnn").read_bytes()[:-5])
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.tex").write_text("years of work")
    return folder


@pytest.fixture(scope="module")
def made(folder):
    printed, progress = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(progress):
        inputs = ["--data", str(folder / "both.npz"), "--labels", str(folder / "both.npz"), "--image", "2", "4"]
        main(["inspect", str(folder / "rnn"), *inputs, "--output", str(folder / "r"), "--json"])
    return json.loads(printed.getvalue()), progress.getvalue()


def test_the_report_is_whole_and_json_is_all_that_is_printed(folder, made):
    result, progress = made
    assert result == json.loads((folder / "r" / "result.json").read_text())
    assert list(result["sections"]) == [*OF_PIECES, *OF_ANY]
    page = (folder / "r" / "report.html").read_text()
    assert page.count("<figure>") == len(list((folder / "r").glob("*.png"))) == len(result["pictures"])
    assert "6 + 5 hidden units (relu)" in page
    assert f"It is right for {result['sections']['templates']['accuracy']:.1%} of 24 sequences" in page
    assert "sequences" in progress
    assert str(folder) not in page


def test_its_numbers_are_those_of_the_library(folder, made):
    rnn, xs = network(), jnp.asarray(np.load(folder / "xs.npy"), "float32")
    labels = np.load(folder / "labels.npy")
    maps = jax.vmap(lambda x: maso_rnn.affine_map(rnn, x))(xs)
    margins = np.array(jax.vmap(maso_rnn.template_margin)(maps, xs, labels))
    right = np.asarray(maps.output.argmax(1)) == labels
    sections = made[0]["sections"]
    found = sections["templates"]
    assert found["accuracy"] == right.mean()
    assert found["median_margin_right"] == pytest.approx(np.median(margins[right]), rel=1e-4)  # float32
    assert found["median_margin_wrong"] == pytest.approx(np.median(margins[~right]), rel=1e-4)
    assert found["identity_error"] < 1e-5
    assert sum(found["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert found["shares"]["initial state"] > 0
    counts = maso_rnn.count_regions(maps.codes).counts
    assert sections["regions"]["regions_through_time"] == counts.tolist()
    distances = jax.vmap(lambda own: jax.vmap(maso_rnn.hamming, (None, 0))(own, maps.codes))(maps.codes)
    same = labels[:, None] == labels
    within = np.asarray(distances)[same & ~np.eye(EXAMPLES, dtype=bool)]
    assert sections["codes"]["median_within_class"] == pytest.approx(np.median(within), abs=1e-6)
    after = jax.vmap(lambda x: maso_rnn.trajectory(rnn, x[:4]).states)(xs)
    walls = jax.vmap(lambda x, h: maso_rnn.boundary_distance(rnn, x[4:], h))(
        xs, jax.tree.map(lambda h: h[:, -1], after)
    )
    assert sections["boundary"]["median_right"] == pytest.approx(np.median(walls[right]), rel=1e-4)
    assert set(sections["eigenvalues"]) == {"layer 0", "layer 1"}


def test_a_safe_distance_is_safe(made):
    rnn, safe = network(), made[0]["sections"]["boundary"]["median_safe_distance"]
    xs = np.random.default_rng(1).normal(size=(EXAMPLES, TIME, 1)).astype("float32")
    pushes = np.random.default_rng(2).normal(size=(50, *xs.shape))
    pushes[:, :, : TIME // 2] = 0  # the second half moves
    pushes /= np.linalg.norm(pushes, axis=(2, 3), keepdims=True)
    say = jax.vmap(lambda x: maso_rnn.last_output(rnn, x).argmax())
    moved = np.stack([say(jnp.asarray(xs + 0.999 * safe * push, "float32")) for push in pushes])
    assert (moved == np.asarray(say(jnp.asarray(xs)))).all(axis=0).mean() >= 0.5  # half of them are at least so safe


def test_memory_is_bounded_by_keeping_codes_of_some(folder, monkeypatch):
    rnn, xs = network(), np.load(folder / "xs.npy")
    monkeypatch.setattr(reading, "CODE_BYTES", 5 * TIME * 2)  # two bytes a step
    monkeypatch.setattr(reading, "BATCH_BYTES", 5 * TIME * (11 + 4 * (CLASSES + 1)))
    found = reading.read(rnn, xs, None, None, None, 0.1, jax.random.key(0), lambda steps, desc: steps)
    assert found.pieces.kept.tolist() == [0, 6, 12, 17, 23]  # in batches of five, the last one filled up
    codes = [maso_rnn.trajectory(rnn, jnp.asarray(xs[i], "float32")).codes for i in found.pieces.kept]
    np.testing.assert_array_equal(found.pieces.packed, [maso_rnn.pack(code) for code in codes])
    assert found.pieces.scores.shape == (EXAMPLES, CLASSES)
    assert found.right.all()


def test_tokens_are_embedded_and_the_page_says_so():
    table = np.random.default_rng(3).normal(size=(5, 1)).astype("float32")
    rnn = network("tanh").replace(embedding=jnp.asarray(table))
    tokens = np.random.default_rng(4).integers(0, 5, size=(6, TIME))
    made = [report.inspect(rnn, xs, key=jax.random.key(0)) for xs in (tokens, table[tokens])]
    assert any("tokens" in warning for warning in made[0][0].warnings)
    for one, two in zip(*made, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one.values, two.values)
    with pytest.raises(ValueError, match=r"data must be tokens"):
        report.inspect(rnn, tokens + 1, key=jax.random.key(0))
    lengths = np.array([1, 2, 3, 4, 5, TIME])
    padded = np.where(np.arange(TIME) < lengths[:, None], tokens, -1)
    reading.check(rnn, padded, None, lengths, None)
    with pytest.raises(ValueError, match=r"tokens in \[0, 5\), got -1"):
        reading.check(rnn, padded, None, np.maximum(lengths, 2), None)


def test_sequences_that_are_not_padded_are_told_to_be(unchecked):
    few = [np.zeros((steps, 1)) for steps in (3, 2, 5)]
    for xs in (few, np.array(few, dtype=object), [[1, 2, 0], [3, 4], [0] * 5]):
        with pytest.raises(ValueError, match=r"data .* 2 steps in \[1\] and 5 in \[2\].*lengths"):
            report.inspect(network(), xs, key=jax.random.key(0))
    for xs in (few[:1], [[[1.0]], [[2.0]]]):
        with pytest.raises(TypeError, match=r"data must be an array \(example, time, input\), got list"):
            report.inspect(network(), xs, key=jax.random.key(0))


@pytest.mark.slow
def test_padding_changes_no_number(folder):
    """Whatever stands behind the end of a sequence."""
    rnn, xs, lengths = network(), np.load(folder / "xs.npy"), np.load(folder / "lengths.npy")
    other = np.where(np.arange(TIME)[:, None] < lengths[:, None, None], xs, np.nan)
    made = [report.inspect(rnn, data, lengths=lengths, key=jax.random.key(0)) for data in (xs, other)]
    assert [section.name for section in made[0]] == [*OF_PIECES, *OF_ANY]
    for one, two in zip(*made, strict=True):
        assert one.answers == two.answers
        jax.tree.map(np.testing.assert_array_equal, one.values, two.values)
    scores = [maso_rnn.last_output(rnn, jnp.asarray(x[:n], "float32")) for x, n in zip(xs, lengths, strict=True)]
    labels = np.argmax(scores, axis=1)
    first = report.inspect(rnn, xs, labels, lengths=lengths, key=jax.random.key(0))[0]
    assert first.values["accuracy"] == 1


BAD = [
    ("nothing --data xs.npy", "No such file"),
    ("rnn --data nothing.npy", "No such file"),
    ("cut --data xs.npy", "not a whole safetensors file"),
    ("text.npy --data xs.npy --activation relu", "neither a safetensors file nor one of torch.save"),
    ("xs.npy --data xs.npy", "neither a safetensors file nor one of torch.save"),
    ("rnn --data text.npy", "not an .npy or .npz file"),
    ("rnn --data objects.npy", "objects.npy is not an .npy or .npz file of one array: it holds objects; pad"),
    ("rnn --data ragged.npz", "pass --lengths"),
    ("rnn --data xs.npy --labels objects.npy", "holds objects"),
    ("rnn --data two.npz", "one array, or one named inputs, got ['a', 'b']"),
    ("rnn --data flat.npy", "(example, time, input), not empty, got float64 (24, 8)"),
    ("rnn --data wide.npy", "does not take 2 inputs"),
    ("rnn --data whole.npy", "got int64"),
    ("rnn --data nan.npy", "finite in float32, got sequence 7"),
    ("rnn --data huge.npy", "finite in float32, got sequence 0"),
    ("rnn --data xs.npy --labels high.npy", "labels must be in [0, 2], got 1 to 3"),
    ("rnn --data xs.npy --lengths none.npy", "lengths must be in [1, 8], got 0 to 0"),
    ("rnn --data xs.npy --lengths few.npy", "lengths must be (example,) with example = 24"),
    ("rnn --data xs.npy --image 2 4 --lengths lengths.npy", "unequal length fold into no image"),
    ("rnn --data xs.npy --labels few.npy", "labels must be (example,) with example = 24"),
    ("rnn --data xs.npy --labels xs.npy", "labels must be integer"),
    ("rnn --data xs.npy --image 3 3", "does not fold into (3, 3)"),
    ("rnn --data xs.npy --image 0 8", "--image must be two positive numbers"),
    ("rnn --data xs.npy --seed -1", "--seed must be in"),
    ("rnn --data xs.npy --activation relu", "leave out --activation"),
    ("rnn --data xs.npy --output taken", "thesis.tex"),
    ("one --data xs.npy", "at least two outputs"),
    ("rnn", "--data"),
    ("rnn --data xs.npy --lables y.npy", "--lables"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[arguments for arguments, _ in BAD])
def test_bad_arguments_get_one_line_and_status_2(folder, arguments, message, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    output = [] if "--output" in arguments else ["--output", "new"]
    with pytest.raises(SystemExit) as stop:
        main(["inspect", *arguments.split(), *output])
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1, printed.err
    assert not printed.out
    assert not (folder / "new").exists()


@pytest.mark.parametrize("arguments", [[], ["walk"]])
def test_other_commands_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


def test_help_says_what_it_does_with_an_example(capsys):
    for arguments in (["--help"], ["inspect", "--help"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
        assert "rnn-geometry inspect " in capsys.readouterr().out.partition("example")[2]


def test_a_tanh_network_gets_what_holds_for_it(folder):
    rnn, xs = network("tanh", "float64"), np.load(folder / "xs.npy")
    labels = np.arange(EXAMPLES) % CLASSES
    sections = report.inspect(rnn, xs, labels, key=jax.random.key(0))
    assert [section.name for section in sections] == ["templates", *OF_ANY]
    right = np.array([maso_rnn.last_output(rnn, x).argmax() for x in jnp.asarray(xs)]) == labels
    assert sections[0].values["accuracy"] == right.mean()
    # a first-order map: an error that is a share of the change grows in proportion to the move
    errors = sections[0].values["median_error"]
    assert errors[1] / errors[0] == pytest.approx(3, rel=0.1)
    exponents = maso_rnn.lyapunov_exponents(
        lambda h, x: maso_rnn.cell(rnn)(h, x), maso_rnn.initial_state(rnn), jnp.asarray(xs[0])
    ).exponents
    np.testing.assert_allclose(sections[-1].values["lyapunov_exponents"], exponents)
    for section in sections:
        for picture in section.pictures:
            picture.figure.savefig(os.devnull, format="png")


def test_any_cell_is_opened_up(folder):
    """The same tanh network as a step of one's own says the same."""
    rnn, xs = network("tanh", "float64"), np.load(folder / "xs.npy")
    cell = maso_rnn.cell(rnn)
    sections = [report.inspect(one, xs, key=jax.random.key(0)) for one in (rnn, cell)]
    assert [section.name for section in sections[1]] == ["templates", "fixed-points", "stability"]
    ours = {section.name: section for section in sections[0]}
    for section in sections[1]:
        assert section.answers == ours[section.name].answers
    with pytest.raises(ValueError, match="the data must fit the network"):
        report.inspect(cell, np.ones((2, 3, 5)), key=jax.random.key(0))


def test_outputs_that_overflow_are_refused(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    np.save(folder / "large.npy", np.full((2, TIME, 1), 3e38))
    with pytest.raises(SystemExit) as stop:
        main(["inspect", "rnn", "--data", "large.npy", "--output", "new"])
    assert stop.value.code == 2
    assert "not finite in float32 for" in capsys.readouterr().err.splitlines()[-1]


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "maso_rnn.command", raising=False)
    monkeypatch.delattr(maso_rnn, "command", raising=False)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(SystemExit) as stop:
        main(["inspect"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "rnn-geometry: tqdm is missing; pip install 'rnn-geometry[report]'\n"


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["hard_tanh", "identity"])
def test_other_activations_without_labels(folder, activation):
    rnn = network(activation, "float64")
    sections = report.inspect(rnn, np.load(folder / "xs.npy"), key=jax.random.key(0))
    assert sections[0].warnings
    for section in sections:
        for picture in section.pictures:
            assert picture.question.endswith("?")
            picture.figure.savefig(os.devnull, format="png")


@pytest.mark.slow
@pytest.mark.parametrize("examples", [1, 2])
def test_few_sequences(folder, examples):
    xs = np.load(folder / "xs.npy")[:examples]
    names = {section.name for section in report.inspect(network(), xs, key=jax.random.key(0))}
    assert names == {"templates", "regions", "boundary", *OF_ANY} | (
        {"walk", "attributions"} if examples == 2 else set()
    )


def run(arguments, **options):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-m", "maso_rnn", "inspect", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **options)


@pytest.mark.slow
def test_torch_files(folder, tmp_path):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    body = torch.nn.RNN(1, 6, num_layers=2, nonlinearity="relu", batch_first=True)
    module = torch.nn.ModuleDict({"body": body, "head": torch.nn.Linear(6, CLASSES)})
    torch.save(module.state_dict(), tmp_path / "state.pt")
    torch.save({"epoch": 3, "model": module.state_dict()}, tmp_path / "checkpoint.pt")
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    xs = np.load(folder / "xs.npy").astype("float32")
    with torch.no_grad():
        said = module["head"](body(torch.from_numpy(xs))[0][:, -1]).argmax(1).numpy()
    np.save(tmp_path / "said.npy", said)
    options = ["--data", folder / "xs.npy", "--labels", tmp_path / "said.npy", "--output", tmp_path / "r", "--json"]
    for name in ("state.pt", "checkpoint.pt", "m.safetensors"):
        done = run([tmp_path / name, "--activation", "relu", *options])
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["sections"]["templates"]["accuracy"] == 1  # torch's own classes

    torch.save(module, tmp_path / "pickled.pt")
    torch.save(module.half().state_dict(), tmp_path / "half.pt")
    torch.save(torch.nn.RNN(1, 6, bidirectional=True).state_dict(), tmp_path / "both.pt")
    torch.save([1.0], tmp_path / "list.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-50])
    for name, activation, message in [
        ("m.safetensors", None, "activation must be given"),
        ("state.pt", "swish", "activation"),
        ("pickled.pt", "relu", "holds more than weights"),
        ("half.pt", "relu", "torch.float16"),
        ("both.pt", "relu", "bidirectional"),
        ("list.pt", "relu", "must hold one state dict, got list"),
        ("cut.pt", "relu", "not a whole file of torch.save"),
    ]:
        chosen = [] if activation is None else ["--activation", activation]
        done = run([tmp_path / name, *chosen, *options])
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not done.stdout

    for kind in (torch.nn.GRU, torch.nn.LSTM):
        gated = torch.nn.ModuleDict({"body": kind(1, 6, batch_first=True), "head": torch.nn.Linear(6, CLASSES)})
        torch.save(gated.state_dict(), tmp_path / "gated.pt")
        with torch.no_grad():
            np.save(
                tmp_path / "said.npy", gated["head"](gated["body"](torch.from_numpy(xs))[0][:, -1]).argmax(1).numpy()
            )
        done = run([tmp_path / "gated.pt", *options])
        assert done.returncode == 0, done.stderr
        sections = json.loads(done.stdout)["sections"]
        assert sections["templates"]["accuracy"] == 1  # torch's own classes
        assert list(sections) == ["templates", "fixed-points", "stability"]


PEAK = r"""
import pathlib, re, sys
from maso_rnn.__main__ import main
main(sys.argv[1:])
told = pathlib.Path("/proc/self/status").read_text()  # getrusage's maximum counts the process that forked this one
print(re.search(r"VmHWM:\s*(\d+) kB", told)[1])
"""


@pytest.mark.slow
def test_memory_stays_far_below_what_all_codes_take(tmp_path):
    rnn = maso_rnn.init(jax.random.key(0), 1, [16, 16], 4, bias_init=jax.nn.initializers.normal(0.1), dtype="float32")
    files.save(tmp_path / "rnn", rnn)
    peaks = {}
    for examples in (200, 10_000):
        np.save(tmp_path / "xs.npy", np.random.default_rng(0).normal(size=(examples, 1600, 1)).astype("float32"))
        arguments = ["inspect", tmp_path / "rnn", "--data", tmp_path / "xs.npy", "--output", tmp_path / "r"]
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks[examples] = int(done.stdout.splitlines()[-1]) / 1024
    assert peaks[10_000] < 1200  # MiB
    # the sequences that were added have codes of 479 MiB as bool, 60 MiB packed
    assert peaks[10_000] - peaks[200] < 400
