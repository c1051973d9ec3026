"""Verdicts are computed: every one flips with its results, and what is published makes every page to the byte."""

import io
import math

import jax
import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

import maso_rnn
from benchmarks import claims, documents, exact, experiment, memory, path_metric
from benchmarks.claims.catalogue import CLAIMS
from benchmarks.claims.evidence import HOLDS, IN_PART, NOT_HERE, NOT_TESTABLE, Estimate, estimate, less, prevails
from benchmarks.experiment import Row, Rows

EVIDENCE = claims.evidence()
TESTABLE = [name for name, claim in CLAIMS.items() if claim.judge is not None]


def everywhere(**values):
    """Results of all configurations with these values."""
    return lambda one, result: values


def by(field, **values):
    """Results with a value that hangs on a field of the configuration."""
    (name, of) = next(iter(values.items()))
    return lambda one, result: {name: of(getattr(one, field))} if hasattr(one, field) else {}


def nested(outer, **values):
    return lambda one, result: {outer: {**result[outer], **values}} if isinstance(result.get(outer), dict) else {}


def both(*edits):
    return lambda one, result: {key: value for edit in edits for key, value in edit(one, result).items()}


def opened(before, after):
    """Pieces of a partition's first and last time."""

    def edit(one, result):
        if "after" not in result:
            return {}
        return {when: {**result[when], "pieces": pieces} for when, pieces in (("before", before), ("after", after))}

    return edit


def template(share):
    def edit(one, result):
        if "after" not in result:
            return {}
        return {"after": {**result["after"], "template": {**result["after"]["template"], "where_right": share}}}

    return edit


def series(error):
    """Errors of the series that hang on its order."""

    def edit(one, result):
        if "simulated" not in result:
            return {}
        wrong = [[abs(value) * error(n) for value in result["simulated"]] for n in range(len(result["errors"]))]
        return {"errors": wrong, "bounds": [[1e9 for _ in row] for row in wrong]}

    return edit


def depths(error):
    return lambda one, result: {key: error(int(key.split()[1])) for key in result if key.startswith("depth")}


def tolerance(bad):
    """Validation accuracies of which those at the largest σ are bad under one optimiser."""

    def edit(one, result):
        is_bad = getattr(one, "part", "") == "grid" and one.sigma == 5 and one.optimizer == bad
        return {"validation_accuracy": [0.1, 0.1 if is_bad else 0.9]}

    return edit


def learning(is_better):
    """Noise, or its absence, learns at the rates that the other does not."""
    good, bad = [1.0, 0.5], [1.0, "nan"]
    return lambda one, result: {"validation_loss": good if (getattr(one, "sigma", 0) > 0) == is_better else bad}


def starts(best):
    """Scores that hang on the initializer: accuracies where there are some, else squared errors."""

    def edit(one, result):
        if not hasattr(one, "initializer"):
            return {}
        if "test_accuracy" in result:
            return {"test_accuracy": 0.9 if best(one.initializer) else 0.5}
        return {"test_loss": 0.1 if best(one.initializer) else 1.0}

    return edit


def moves(of_class):
    return lambda one, result: {
        "radius": [1.0, 1.0 + of_class * ("test_accuracy" in result)],
        "median_modulus": [0.5, 0.5],
    }


def learned(**values):
    """Results of runs that all learned something, with a value that hangs on the regulariser."""
    return both(everywhere(validation_loss=[2.0, 1.0]), by("regulariser", **values))


def noisy(kind):
    return kind == "noise"


def slope(with_noise):
    return learned(initial_slope_norm=lambda kind: [1, with_noise if noisy(kind) else 1])


# for each claim, stored results under which it holds, and under which it does not
EDITS = {
    "spline-a": (everywhere(identity=1e-15, piece=1e-15), everywhere(identity=1e-3, piece=1e-3)),
    "spline-b": (opened([1, 2], [1, 9]), opened([4, 4], [4, 4])),
    "spline-c": (template(0.99), template(0.2)),
    "spline-d": (
        both(everywhere(penalty=1.0), slope(0.1)),
        both(everywhere(penalty=2.0), slope(9)),
    ),
    "spline-e1": (
        learned(recurrent_gradient_norm=lambda kind: [1, 0.1 if noisy(kind) else 1]),
        learned(recurrent_gradient_norm=lambda kind: [1, 9 if noisy(kind) else 1]),
    ),
    "spline-e2": (learning(True), learning(False)),
    "spline-f": (
        by("regulariser", test_accuracy=lambda kind: 0.9 if noisy(kind) else 0.8),
        by("regulariser", test_accuracy=lambda kind: 0.8 if noisy(kind) else 0.9),
    ),
    "spline-g": (
        by("regulariser", test_accuracy=lambda kind: 0.9),
        by("regulariser", test_accuracy=lambda kind: 0.5 if noisy(kind) else 0.9),
    ),
    "spline-h": (tolerance("sgd"), tolerance("rmsprop")),
    "path-a": (everywhere(function=1e-15, moved=1.0), everywhere(function=1e-3, moved=0.0)),
    "path-b": (
        everywhere(paths=1e-15, represented=1e-15, ranks=[5, 5]),
        everywhere(paths=1e-3, represented=1e-15, ranks=[5, 6]),
    ),
    "path-c": (
        everywhere(rank=5, expected=5, together=5, operations=2.0),
        everywhere(rank=4, expected=5, together=5, operations=90.0),
    ),
    "path-d": (
        by("method", test_loss=lambda method: 0.1 if method.startswith("path-space") else 1.0),
        by("method", test_loss=lambda method: 1.0 if method.startswith("path-space") else 0.1),
    ),
    "path-sgd-a": (
        by("metric", test_loss=lambda metric: 1.0),
        by("metric", test_loss=lambda metric: 1.0 if metric == "κ¹" else 0.5),
    ),
    "path-sgd-b": (
        by("method", test_loss=lambda method: 0.1 if method == "Path-SGD" else 1.0),
        by("method", test_loss=lambda method: "inf" if method == "Path-SGD" else 1.0),
    ),
    "g-sgd-a": (
        everywhere(rank=8, edges=10, units=2, represented=1e-15),
        everywhere(rank=9, edges=10, units=2, represented=1e-3),
    ),
    "response-a": (series(lambda n: 1e-4), series(lambda n: 0.5)),
    "response-b": (
        both(nested("differences", **dict.fromkeys(("adjoint, malliavin", "second order", "score"), 0.9)),
             everywhere(signal=100.0)),
        nested("differences", **dict.fromkeys(("adjoint, malliavin", "second order", "score"), 40.0)),
    ),
    "response-c": (series(lambda n: 10.0**-n), series(lambda n: 0.1)),
    "response-d": (depths(lambda depth: 10.0**-depth), depths(lambda depth: 0.5)),
    "response-e": (everywhere(slope=-0.5, differences=[0.5, 0.01]), everywhere(slope=0.0, differences=[0.5, 0.5])),
    "response-f": (everywhere(slope=-1.0, differences=[0.1, 0.001]), everywhere(slope=0.0, differences=[0.1, 0.1])),
    "eigen-a": (everywhere(error=1e-6, rank=0.9), everywhere(error=2.0, rank=0.0)),
    "eigen-b": (everywhere(ratio=0.5), everywhere(ratio=1.0)),
    "eigen-c": (moves(0.3), moves(0.0)),
    "eigen-d": (starts(lambda name: name == "eigen-schur"), starts(lambda name: name == "glorot")),
    "eigen-e": (starts(lambda name: name == "eigen-schur"), starts(lambda name: name == "glorot")),
    "eigen-f": (starts(lambda name: name == "eigen-schur"), starts(lambda name: name != "eigen-schur")),
}  # fmt: skip


def perturbed(edit):
    """What is published with some of the results changed."""

    def changed(rows):
        return [Row(row.configuration, {**row.result, **edit(row.configuration, row.result)}) for row in rows]

    return {name: Rows(*map(changed, rows)) for name, rows in EVIDENCE.items()}


def test_every_claim_but_those_not_testable_has_a_rule_and_results_that_flip_it():
    assert sorted(EDITS) == sorted(TESTABLE)
    for claim in CLAIMS.values():
        assert bool(claim.rule) == bool(claim.experiments) == (claim.judge is not None)
    verdicts = {name: claims.judged(claim, EVIDENCE) for name, claim in CLAIMS.items()}
    untestable = {name for name, found in verdicts.items() if found.verdict == NOT_TESTABLE}
    assert untestable == set(CLAIMS) - set(TESTABLE)


@pytest.mark.parametrize("name", TESTABLE)
def test_a_verdict_follows_its_results(name):
    found = claims.judged(CLAIMS[name], EVIDENCE)
    for edit, verdict in zip(EDITS[name], (HOLDS, NOT_HERE), strict=True):
        assert claims.judged(CLAIMS[name], perturbed(edit)).verdict == verdict
    assert found.seeds >= 5
    assert found.verdict in (HOLDS, IN_PART, NOT_HERE)


@pytest.mark.parametrize("file", documents.PICTURES)
def test_published_results_make_the_pictures_to_the_byte(file):
    stored = (documents.ROOT / file).read_bytes()
    drawn = documents.png(documents.PICTURES[file]())
    if f"matplotlib {matplotlib.__version__}".encode() in stored:
        assert drawn == stored
    else:  # another version draws otherwise, and no more can be asked
        assert imread(io.BytesIO(drawn)).shape == imread(io.BytesIO(stored)).shape


def test_no_claim_waits_for_its_results():
    assert claims.MISSING not in claims.document(EVIDENCE)


def test_published_results_are_few_bytes():
    sizes = {file.name: file.stat().st_size for file in experiment.PUBLISHED.glob("*.jsonl")}
    named = {f"{name}.jsonl" for claim in CLAIMS.values() for name in claim.experiments}
    assert sizes.keys() == named | {"speed.jsonl"}
    assert sum(sizes.values()) < 5e6


def test_means_have_standard_errors():
    one = estimate([1.0, 2.0, 3.0])
    assert one == Estimate(2.0, pytest.approx(1 / math.sqrt(3)), 3)
    assert str(one) == "2.00 ± 0.58"
    assert (one.sign, Estimate(-2.0, 0.9, 5).sign, Estimate(2.0, 1.0, 5).sign) == (1, -1, 0)
    diverged = estimate([1.0, math.inf])
    assert str(diverged) == "diverged"
    assert less(diverged, one).sign == 1
    assert less(diverged, diverged).sign == 0
    assert less(one, Estimate(1.0, 1.0, 4)) == Estimate(1.0, pytest.approx(math.sqrt(4 / 3)), 3)


@pytest.mark.parametrize(
    ("signs", "verdict"),
    [
        ((1,), HOLDS),
        ((1, 1, 1, 0), HOLDS),
        ((1, 1, 0, 0, 0), IN_PART),
        ((1, 1, -1), IN_PART),
        ((1, 0, 0), NOT_HERE),
        ((1, 1, *38 * (0,)), NOT_HERE),
        ((1, -1), NOT_HERE),
        ((0, 0), NOT_HERE),
        ((0, -1), NOT_HERE),
    ],
)
def test_comparisons_are_counted(signs, verdict):
    assert prevails({i: Estimate(float(sign), 0.1, 5) for i, sign in enumerate(signs)}) == verdict


@pytest.mark.slow
@pytest.mark.parametrize("one", [exact.EXPERIMENT, memory.EXPERIMENT, path_metric.EXPERIMENT], ids=lambda one: one.name)
def test_small_experiments_run_and_repeat_themselves(one, tmp_path):
    for name in ("once", "again"):
        experiment.run(one, "smoke", tmp_path / name)
    once, again = ((tmp_path / name / "results.jsonl").read_text() for name in ("once", "again"))
    assert [line.split('"run"')[0] for line in once.splitlines()] == [
        line.split('"run"')[0] for line in again.splitlines()
    ]


def test_paths_drawn_are_paths_of_the_network():
    """Of one layer of one unit without biases: W U^k V, with as many steps as there may be."""
    rnn = maso_rnn.init(jax.random.key(0), 1, [1], 1, bias_init=None)
    paths = exact._walks(rnn, 4, 200, np.random.default_rng(0))
    leaves = jax.tree.leaves(jax.tree_util.tree_map_with_path(lambda path, _: jax.tree_util.keystr(path), rnn))
    into, around, out = (
        next(i for i, leaf in enumerate(leaves) if part in leaf) for part in ("input", "recurrent", "readout")
    )
    assert (paths[:, [into, out]] == 1).all()
    assert set(paths[:, around]) == {0, 1, 2, 3}
