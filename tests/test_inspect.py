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
from maso_rnn.report import inspection

ROOT = Path(__file__).parent.parent
EXAMPLES, TIME, CLASSES = 24, 8, 3


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
    (folder / "text.npy").write_text("not an array")
    files.save(folder / "rnn", network())
    files.save(folder / "tanh", network("tanh"))
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
    names = ["templates", "regions", "codes", "walk", "plane", "boundary", "eigenvalues"]
    assert list(result["sections"]) == names
    page = (folder / "r" / "report.html").read_text()
    assert page.count("<figure>") == len(list((folder / "r").glob("*.png"))) == len(result["pictures"])
    assert result["configuration"]["layers"] == [6, 5]
    assert "sequences" in progress
    assert str(folder) not in page


def test_its_numbers_are_those_of_the_library(folder, made):
    rnn, xs = network(), jnp.asarray(np.load(folder / "xs.npy"), "float32")
    labels = np.load(folder / "labels.npy")
    maps = jax.vmap(lambda x: maso_rnn.affine_map(rnn, x))(xs)
    margins = np.array(jax.vmap(maso_rnn.template_margin)(maps, xs, labels))
    right = np.asarray(maps.output.argmax(1)) == labels
    sections = made[0]["sections"]
    found = sections["templates"]["the network"]
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


def test_memory_is_bounded_by_keeping_codes_of_some(folder, monkeypatch):
    rnn, xs = network(), np.load(folder / "xs.npy")
    monkeypatch.setattr(inspection, "CODE_BYTES", 5 * TIME * 2)  # two bytes a step
    monkeypatch.setattr(inspection, "BATCH_BYTES", 5 * TIME * (11 + 4 * (CLASSES + 1)))
    found = inspection._read(rnn, xs, None, None, 0.1, jax.random.key(0), lambda steps, desc: steps)
    assert found.kept.tolist() == [0, 6, 12, 17, 23]  # in batches of five, the last one filled up
    codes = [maso_rnn.trajectory(rnn, jnp.asarray(xs[i], "float32")).codes for i in found.kept]
    np.testing.assert_array_equal(found.packed, [maso_rnn.pack(code) for code in codes])
    assert found.numbers["scores"].shape == (EXAMPLES, CLASSES)
    assert found.numbers["right"].all()


BAD = [
    ("none --data xs.npy", "No such file"),
    ("rnn --data none.npy", "No such file"),
    ("cut --data xs.npy", "not a whole safetensors file"),
    ("text.npy --data xs.npy --activation relu", "neither a safetensors file nor one of torch.save"),
    ("xs.npy --data xs.npy", "neither a safetensors file nor one of torch.save"),
    ("rnn --data text.npy", "not an .npy or .npz file"),
    ("rnn --data objects.npy", "holds objects"),
    ("rnn --data two.npz", "one array, or one named inputs, got ['a', 'b']"),
    ("rnn --data flat.npy", "(example, time, input) and not empty, got shape (24, 8)"),
    ("rnn --data wide.npy", "must have 1 inputs, as the network has, got 2"),
    ("rnn --data whole.npy", "must be floating, got int64"),
    ("rnn --data nan.npy", "finite in float32, got sequence 7"),
    ("rnn --data huge.npy", "finite in float32, got sequence 0"),
    ("rnn --data xs.npy --labels high.npy", "must be in [0, 3), got 1 to 3"),
    ("rnn --data xs.npy --labels few.npy", "one for each of the 24 sequences, got shape (5,)"),
    ("rnn --data xs.npy --labels xs.npy", "one for each of the 24 sequences"),
    ("rnn --data xs.npy --image 3 3", "does not fold into (3, 3)"),
    ("rnn --data xs.npy --image 0 8", "--image must be two positive numbers"),
    ("rnn --data xs.npy --seed -1", "--seed must be in"),
    ("rnn --data xs.npy --activation relu", "leave out --activation"),
    ("rnn --data xs.npy --output taken", "thesis.tex"),
    ("tanh --data xs.npy", "relu, leaky_relu, abs, hard_tanh"),
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
    assert "the command must be inspect" in capsys.readouterr().err


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
    monkeypatch.setitem(sys.modules, "tyro", None)
    with pytest.raises(SystemExit) as stop:
        main(["inspect"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "rnn-geometry: tyro is missing; pip install 'rnn-geometry[report]'\n"


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
    assert names == {"templates", "regions", "boundary", "eigenvalues"} | ({"walk"} if examples == 2 else set())


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
        assert json.loads(done.stdout)["sections"]["templates"]["the network"]["accuracy"] == 1  # torch's own classes

    torch.save(module, tmp_path / "pickled.pt")
    torch.save(module.half().state_dict(), tmp_path / "half.pt")
    torch.save(torch.nn.GRU(1, 6).state_dict() | {"head.weight": torch.ones(3, 6)}, tmp_path / "gru.pt")
    torch.save(torch.nn.RNN(1, 6, bidirectional=True).state_dict(), tmp_path / "both.pt")
    torch.save([1.0], tmp_path / "list.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-50])
    for name, activation, message in [
        ("m.safetensors", None, "--activation must be given"),
        ("state.pt", "tanh", "relu, leaky_relu, abs, hard_tanh"),
        ("state.pt", "swish", "activation must be one of"),
        ("pickled.pt", "relu", "holds more than weights"),
        ("half.pt", "relu", "torch.float16"),
        ("gru.pt", "relu", "GRU, not an nn.RNN"),
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
