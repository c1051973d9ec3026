"""Verdicts are computed: each flips with its results, each control fails, and what is published makes every page."""

import dataclasses
import io
import math

import jax
import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread
from scipy import stats

import maso_rnn
from benchmarks import claims, constant, documents, exact, experiment, memory, path_metric
from benchmarks.claims.catalogue import CLAIMS, IDENTITIES
from benchmarks.claims.evidence import (
    HOLDS,
    IN_PART,
    NOT_HERE,
    NOT_TESTED,
    Comparison,
    Contender,
    Judged,
    Setting,
    decide,
    holm,
    judge,
)
from benchmarks.data.dataset import Dataset, Split
from benchmarks.path_space.training import SKELETON_ONE
from benchmarks.rows import Row, Rows

EVIDENCE = claims.evidence()["small"]
SEEDS = range(5)


def everywhere(**values):
    """Results of all configurations with these values."""
    return lambda one, result: values


def by(field, **values):
    """Results with a value that hangs on a field of the configuration."""
    (name, of) = next(iter(values.items()))
    return lambda one, result: {name: of(getattr(one, field))} if hasattr(one, field) else {}


def both(*edits):
    return lambda one, result: {key: value for edit in edits for key, value in edit(one, result).items()}


def within(outer, **values):
    return lambda one, result: {outer: {**result[outer], **values}} if isinstance(result.get(outer), dict) else {}


def template(share):
    """Templates alone are right as often as that, the network nine times in ten."""

    def edit(one, result):
        if "after" not in result:
            return {}
        return {"after": {**result["after"], "template": {"right": share, "accuracy": 0.9}}}

    return edit


def noise(without, with_):
    """A value of networks without noise, and of those with any."""
    return lambda one: with_ if getattr(one, "sigma", 0) > 0 else without


def told(**values):
    """Results that hang on the configuration."""
    return lambda one, result: {name: value(one) for name, value in values.items()}


def learned(**values):
    """The same of runs that all learned something."""
    return both(everywhere(validation_loss=[2.0, 1.0]), told(**values))


def tolerance(bad):
    """Test accuracies of which those at the largest σ are bad under one optimiser."""

    def edit(one, result):
        is_bad = getattr(one, "part", "") == "grid" and one.sigma == 5 and one.optimizer == bad
        return {"test_accuracy": 0.3 if is_bad else 0.9, "validation_accuracy": [0.1, 0.3 if is_bad else 0.9]}

    return edit


def starts(best):
    """Scores that hang on the initializer: accuracies where there are some, else squared errors."""

    def edit(one, result):
        if not hasattr(one, "initializer"):
            return {}
        if "test_accuracy" in result:
            return {"test_accuracy": 0.9 if best(one.initializer) else 0.7}
        return {"test_loss": 0.05 if best(one.initializer) else 0.1}

    return edit


def losses(good):
    """A test loss that hangs on the method."""
    return by("method", test_loss=lambda method: 0.01 if good(method) else 0.1)


def cells(best):
    """Scores that hang on the cell: accuracies where there are some, else squared errors."""

    def edit(one, result):
        if not hasattr(one, "cell"):
            return {}
        if "test_accuracy" in result:
            return {"test_accuracy": 0.9 if best(one.cell) else 0.7}
        return {"test_loss": 0.01 if best(one.cell) else 0.1}

    return edit


def spectra(told):
    """Spectra that tell the accuracy, and radii and losses that do not; or the other way round."""

    def edit(one, result):
        if not hasattr(one, "draw"):
            return {}
        good, other = ((one.draw * step % 60) / 60 for step in (7, 23))
        first, rest = (good, other) if told else (other, good)
        return {"test_accuracy": good, "spectrum": [[first] * 8] * 3, "radius": rest, "validation_loss": [rest] * 3}

    return edit


def depths(error):
    return lambda one, result: {key: error(int(key.split()[1])) for key in result if key.startswith("depth")}


def moves(numbers):
    """The spectral radius moves by 1 in classification, and by another number in regression."""

    def edit(one, result):
        is_class = "test_accuracy" in result
        return {"radius": [1.0, 2.0 if is_class else numbers], "median_modulus": [0.5, 0.5]}

    return edit


EIGEN, PATHS = (lambda name: name == "eigen-schur"), (lambda method: method.startswith("path-space"))

# for each claim, results under which it holds, and under which it does not
EDITS = {
    "spline-b2": (
        both(within("before", neighbours=[0.1]), within("after", neighbours=[0.9])),
        both(within("before", neighbours=[0.4]), within("after", neighbours=[0.4])),
    ),
    "spline-c": (template(0.899), template(0.5)),
    "spline-d2": (learned(initial_slope_norm=noise([1], [0.1])), learned(initial_slope_norm=noise([1], [9]))),
    "spline-e1": (
        learned(recurrent_gradient_norm=noise([1, 99, 1], [1, 99, 0.1])),
        learned(recurrent_gradient_norm=noise([1, 99, 1], [1, 99, 9])),
    ),
    "spline-e2": (told(validation_loss=noise([1, "nan"], [1, 0.5])), told(validation_loss=noise([1, 0.5], [1, "nan"]))),
    "spline-f": (told(test_accuracy=noise(0.8, 0.9)), told(test_accuracy=noise(0.9, 0.8))),
    "spline-g": (everywhere(test_accuracy=0.9), told(test_accuracy=noise(0.9, 0.5))),
    "spline-f2": (told(test_accuracy=noise(0.8, 0.9)), told(test_accuracy=noise(0.9, 0.8))),
    "spline-g2": (everywhere(test_accuracy=0.9), told(test_accuracy=noise(0.9, 0.5))),
    "spline-h": (tolerance("sgd"), tolerance("rmsprop")),
    "path-d": (losses(PATHS), losses(lambda method: not PATHS(method))),
    "path-d, balanced": (losses(PATHS), losses(lambda method: not PATHS(method))),
    "path-sgd-a": (everywhere(test_loss=0.1), by("metric", test_loss=lambda metric: 0.1 if metric == "κ¹" else 0.05)),
    "path-sgd-b": (losses(lambda method: method == "Path-SGD"), losses(lambda method: method != "Path-SGD")),
    "g-sgd-b": (losses(PATHS), losses(lambda method: not PATHS(method))),
    "response-d": (depths(lambda depth: 10.0**-depth), depths(lambda depth: 0.5)),
    "eigen-a2": (everywhere(rank=0.9), everywhere(rank=0.4)),
    "eigen-c": (moves(5.0), moves(2.0)),
    "eigen-d": (starts(EIGEN), starts(lambda name: not EIGEN(name))),
    "eigen-e": (starts(lambda name: True), starts(lambda name: not EIGEN(name))),
    "eigen-f": (starts(EIGEN), starts(lambda name: not EIGEN(name))),
    "cornn-b": (cells(lambda name: name == "cornn"), cells(lambda name: name != "cornn")),
    "kernel-d": (
        by("strength", attacked=lambda strength: [1.0, *[0.9 if strength > 1e-6 else 0.5] * 4]),
        by("strength", attacked=lambda strength: [1.0, *[0.4 if strength > 1e-6 else 0.5] * 4]),
    ),
    "lyapunov-a": (spectra(told=True), spectra(told=False)),
    "automata-c": (everywhere(agreement=0.99, constant=0.8), everywhere(agreement=0.8, constant=0.8)),
}  # fmt: skip

# for each identity, results that break it
BROKEN = {
    "spline-a": everywhere(piece=1e-3),
    "spline-b1": within("after", pieces=[9, 4]),
    "spline-d1": everywhere(penalty=1.1),
    "path-a": everywhere(moved=0.0),
    "path-b": everywhere(ranks=[5, 6]),
    "path-c": everywhere(rank=4, expected=5, together=5),
    "g-sgd-a": everywhere(rank=9, edges=10, units=2),
    "response-a": lambda one, result: {"errors": [result["simulated"]]} if "simulated" in result else {},
    "response-b": within("differences", score=40.0),
    "response-c": everywhere(slopes=[2.0, 2.0, 2.0]),
    "response-e": everywhere(differences=[0.5, 0.5]),
    "response-f": everywhere(differences=[0.1, 0.1]),
    "eigen-a1": everywhere(error=2.0),
    "eigen-b": everywhere(ratio=1.0),
    "automata-a": everywhere(error=1e-3),
    "automata-b": everywhere(error=1e-3),
    "cornn-a": everywhere(gradient=1.5),
    "kernel-a": everywhere(shares=[0.1, 1.2]),
    "kernel-b": everywhere(slopes=[2.0, 3.0, 4.0, 4.0]),
    "kernel-c": everywhere(gaps=[0.1, 0.09]),
}  # fmt: skip


def perturbed(edit, experiments):
    """What is published with some of the results of experiments changed; with runs that were not published yet."""

    def changed(rows):
        return [Row(row.configuration, {**row.result, **edit(row.configuration, row.result)}) for row in rows]

    return LATER | {name: Rows(*map(changed, LATER[name])) for name in experiments}


def with_later_runs():
    """The published rows, and made-up ones where nothing was published: words, the papers' start, ternary adding."""
    found = dict(EVIDENCE)
    table = [row for row in found["spline"].final if row.configuration.task == "digits-permuted"]
    words = [as_if(row, task="sst-2") for row in table]
    found["spline"] = found["spline"]._replace(final=found["spline"].final + words)
    paths = [row for row in found["path-space"].final if row.configuration.start == "balanced"]
    paths += [as_if(row, method="path-space momentum") for row in paths if row.configuration.method == "path-space SGD"]
    paths += [as_if(row, task="digits-10k-whole") for row in paths if row.configuration.task == "digits-10k-by-row"]
    found["path-space"] = found["path-space"]._replace(
        final=found["path-space"].final + [as_if(row, start=SKELETON_ONE) for row in paths]
    )
    numbers = [row for row in found["eigen-init"].final if row.configuration.task == "adding-20"]
    ternary = [as_if(row, task="adding-ternary-20") for row in numbers]
    ternary = [row._replace(result={**row.result, "test_accuracy": 0.9}) for row in ternary]
    found["eigen-init"] = found["eigen-init"]._replace(final=found["eigen-init"].final + ternary)
    return found


def as_if(row, **changes):
    return row._replace(configuration=dataclasses.replace(row.configuration, **changes))


LATER = with_later_runs()


def verdict(compare, evidence):
    return decide(judge(compare(evidence)))


def unsearched(compare):
    """Comparisons as if no rate had been at the edge."""

    def compared(evidence):
        return [
            one._replace(ours=one.ours._replace(at_edge=False), theirs=one.theirs._replace(at_edge=False))
            for one in compare(evidence)
        ]

    return compared


@pytest.mark.parametrize("name", CLAIMS)
def test_a_verdict_follows_its_results(name):
    compare = unsearched(CLAIMS[name].compare)
    found = [verdict(compare, perturbed(edit, CLAIMS[name].experiments)) for edit in EDITS[name]]
    assert found == [HOLDS, NOT_HERE]


@pytest.mark.parametrize("name", CLAIMS)
def test_a_rule_fails_its_control(name):
    assert verdict(CLAIMS[name].fails, LATER) in (NOT_HERE, NOT_TESTED)


@pytest.mark.parametrize("name", CLAIMS)
def test_results_at_the_papers_size_come_first_and_none_are_not_tested(name):
    nothing = {experiment: Rows([], [], []) for experiment in EVIDENCE}
    assert claims.verdict(CLAIMS[name], {"paper": nothing, "small": nothing}) == NOT_TESTED
    found = {"paper": perturbed(EDITS[name][1], CLAIMS[name].experiments), "small": nothing}
    assert list(claims.judged(CLAIMS[name], found)) == ["paper"]
    assert claims.verdict(CLAIMS[name], found) in (NOT_HERE, NOT_TESTED)


@pytest.mark.parametrize("name", IDENTITIES)
def test_an_identity_holds_and_breaks_with_its_results(name):
    one = IDENTITIES[name]
    error, networks = one.measure(EVIDENCE)
    assert error <= one.bound
    assert networks >= 5
    assert one.measure(perturbed(BROKEN[name], [one.experiment]))[0] > one.bound


def way(scores, at_edge=False):
    return Contender("way", dict(enumerate(scores)), at_edge=at_edge)


def compared(ours, theirs, **options):
    return Comparison(Setting("data"), way(ours), way(theirs), **{"metric": "test loss", "higher": False, **options})


def state(*arguments, **options):
    (one,) = judge([compared(*arguments, **options)])
    return one.state


BETTER = (0.1, 0.11, 0.12, 0.1, 0.13)
WORSE = (0.2, 0.23, 0.22, 0.24, 0.21)
NAN = math.nan


def test_differences_are_paired_by_seed_with_their_interval():
    (one,) = judge([compared(BETTER, WORSE)])
    test = stats.ttest_rel(WORSE, BETTER)
    assert one.p == pytest.approx(test.pvalue)
    assert (one.low, one.high) == pytest.approx(tuple(test.confidence_interval()))
    assert one.difference == pytest.approx(np.mean(WORSE) - np.mean(BETTER))
    assert one.state == "better"
    assert state(WORSE, BETTER) == "worse"
    assert state(BETTER, BETTER[::-1]) == "undecided"
    # a pairing is more than two means: all alike but for a constant
    assert state([9, 1, 5, 3, 7], [9.1, 1.1, 5.1, 3.1, 7.1]) == "better"


def test_divergence_ranks_worst_and_one_run_of_five_decides_nothing():
    assert state(BETTER, [*WORSE[:4], NAN]) == "better"
    assert state(BETTER, [NAN] * 5) == "better"
    assert state([NAN] * 5, WORSE) == "worse"
    assert state([NAN] * 5, [NAN] * 5) == "undecided"
    # it was the better one whenever it survived
    assert state(WORSE, [*BETTER[:4], NAN]) == "undecided"
    (one,) = judge([compared(BETTER, [*WORSE[:4], NAN])])
    assert math.isnan(one.difference)
    assert one.comparison.theirs.diverged == 1


def test_settings_that_say_nothing():
    assert state(BETTER, WORSE, constant=0.1) == "nobody learns"
    assert state(BETTER, WORSE, constant=0.2) == "better"  # one does
    assert state(BETTER, [NAN, NAN, NAN, 0.0, 0.0], constant=0.1) == "nobody learns"
    accuracies = {"metric": "test accuracy", "higher": True}
    assert state([0.999] * 5, [1.0] * 5, constant=0.5, **accuracies) == "at the ceiling"
    assert state([0.99] * 5, [1.0] * 5, constant=0.5, **accuracies) == "worse"  # one is below
    assert state([0.999] * 4 + [NAN], [1.0] * 5, constant=0.5, **accuracies) != "at the ceiling"
    assert state([0.6] * 5, [0.52] * 5, constant=0.5, **accuracies) == "better"
    assert state([0.54] * 5, [0.52] * 5, constant=0.5, **accuracies) == "nobody learns"
    assert state([], []) == "not there"
    assert state(BETTER, WORSE, idle=True) == "not there"


def test_a_difference_is_open_where_the_loser_may_have_been_searched_badly():
    for ours, theirs, found in ((BETTER, WORSE, "better"), (WORSE, BETTER, "worse")):
        (loser,) = ("theirs",) if found == "better" else ("ours",)
        one = compared(ours, theirs)
        edges = {loser: getattr(one, loser)._replace(at_edge=True)}
        assert judge([one._replace(**edges)])[0].state == "open"
        winner = "ours" if loser == "theirs" else "theirs"
        edges = {winner: getattr(one, winner)._replace(at_edge=True)}
        assert judge([one._replace(**edges)])[0].state == found


def test_no_worse_must_be_shown():
    near = (0.201, 0.231, 0.219, 0.241, 0.211)
    assert state(near, WORSE, margin=0.01) == "better"
    assert state(near, WORSE, margin=0.0) == "undecided"
    assert state((0.1, 0.5, 0.2, 0.05, 0.3), WORSE, margin=0.01) == "undecided"  # too few to tell


def test_p_values_are_corrected_for_their_number():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    # of many settings without a difference next to none counts
    draws = np.random.default_rng(0).normal(size=(200, 2, 5))
    found = judge([compared(*pair) for pair in draws])
    assert sum(one.state != "undecided" for one in found) <= 1


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        (["better"], HOLDS),
        (["better", "undecided"], HOLDS),
        (["better", "undecided", "undecided"], IN_PART),
        (["better", "better", "worse"], IN_PART),
        (["better", *["undecided"] * 4], NOT_HERE),
        (["better", "worse"], NOT_HERE),
        (["undecided"], NOT_HERE),
        (["worse"], NOT_HERE),
        (["better", "open"], NOT_TESTED),
        (["better", "better", "nobody learns"], HOLDS),
        (["better", "at the ceiling", "at the ceiling"], HOLDS),
        (["at the ceiling"], NOT_TESTED),
        ([], NOT_TESTED),
    ],
)
def test_settings_make_a_verdict(states, verdict):
    assert decide([Judged(compared([], []), 0.0, 0.0, 0.0, 1.0, one) for one in states]) == verdict


def test_the_constant_prediction():
    def split(targets, lengths=None):
        return Split(np.zeros((len(targets), 3, 1)), np.asarray(targets), np.asarray(lengths or [3] * len(targets)))

    def data(train, test):
        return Dataset(train, test, test, "", "", "")

    # classes: counts 4 and 2 with one more of each
    found = constant.scores(data(split([0, 0, 0, 1]), split([0, 1])))
    assert found["test_loss"] == pytest.approx(-(math.log(4 / 6) + math.log(2 / 6)) / 2)
    assert found["test_accuracy"] == 0.5
    # a class a step, of sequences that count alike
    steps = data(split([[0, 0, 1], [0, 9, 9]], [3, 1]), split([[0, 1, 1], [0, 0, 0]], [2, 1]))
    found = constant.scores(steps)
    assert found["test_accuracy"] == pytest.approx((0.5 + 1) / 2)
    found = constant.scores(data(split([[0.0], [1.0]]), split([[0.5], [1.5]])))
    assert found == {"test_loss": 0.5}


@pytest.mark.parametrize("file", documents.PICTURES)
def test_published_results_make_the_pictures_to_the_byte(file):
    stored = (documents.ROOT / file).read_bytes()
    drawn = documents.png(documents.PICTURES[file]())
    if f"matplotlib {matplotlib.__version__}".encode() in stored:
        assert drawn == stored
    else:  # another version draws otherwise, and no more can be asked
        assert imread(io.BytesIO(drawn)).shape == imread(io.BytesIO(stored)).shape


def test_published_results_are_few_bytes():
    sizes = {file.name: file.stat().st_size for file in experiment.PUBLISHED.glob("*.jsonl")}
    small = {f"{name}.jsonl" for name in (*claims.EXPERIMENTS, "speed")}
    assert small <= sizes.keys() <= small | {f"{name}-paper.jsonl" for name in claims.EXPERIMENTS}
    assert sum(sizes.values()) < 5e6


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
