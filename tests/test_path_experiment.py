"""The experiment on path space: it runs, and shows what the methods promise."""

import jax
import numpy as np
import optax
import pytest

import maso_rnn
import path_opt
from benchmarks import documents, experiment, path_space, results
from benchmarks.data.adding import adding
from benchmarks.path_space.training import METHODS, SKELETON_ONE, STARTS, Configuration, together, train

SEEDS = range(5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["digits-by-row", "digits-by-pixel", "adding-16"])
def test_equivariant_adam_is_no_worse_than_adam_and_better_from_rescaled_starts(task):
    ends = {}
    for name in ("Adam", "equivariant Adam"):
        rates = (0.003, 0.01, 0.03)
        group = [
            Configuration(task, name, start, rate, seed) for seed in SEEDS for start in STARTS[:2] for rate in rates
        ]
        last = np.asarray([result["validation_loss"][-1] for result in train(group)])
        last = last.reshape(len(SEEDS), 2, len(rates))
        # each start at the rate whose mean is least
        ends[name] = [last[:, i, last[:, i].mean(axis=0).argmin()] for i in range(2)]
    (adam, adam_rescaled), (ours, ours_rescaled) = ends["Adam"], ends["equivariant Adam"]
    stderr = np.sqrt((adam.var(ddof=1) + ours.var(ddof=1)) / len(SEEDS))
    assert ours.mean() <= adam.mean() + 2 * stderr
    assert ours_rescaled.mean() < adam_rescaled.mean()


@pytest.mark.slow
def test_smoke_has_every_method_from_every_start(tmp_path):
    experiment.run(path_space.EXPERIMENT, "smoke", tmp_path)
    lines = [line.configuration for line in results.read(tmp_path / "results.jsonl")]
    final = [one for one in lines if one["seed"] >= experiment.SEARCH_SEEDS]
    assert {(one["method"], one["start"]) for one in final} == {
        (method, start) for method in METHODS for start in STARTS
    }
    assert (tmp_path / "report" / "adding-16-8-curves.png").exists()


@pytest.mark.slow
def test_the_ablation_freezes_one_weight_of_each_unit():
    one = Configuration("", "SGD, frozen skeleton", "balanced", 1.0, 1, hidden=(4, 3))
    (run,), optimizer = path_space.training._runs([one], adding(4, examples=8))
    graph, transform = path_opt.reduction_graph(run.start), optimizer(run.hyper)
    steps, _ = transform.update(jax.tree.map(np.ones_like, run.start), transform.init(run.start), run.start)
    kernels = (steps.layers[1].input_kernel, steps.readout.kernel)
    for kernel, targets in zip(kernels, graph.skeleton.outgoing, strict=True):
        np.testing.assert_array_equal(np.argwhere(kernel == 0), list(enumerate(targets)))
    assert sum(int((leaf == 0).sum()) for leaf in jax.tree.leaves(steps)) == 7


def test_programs_are_shared_as_far_as_skeletons_allow():
    programs = {}
    for method in ("Adam", "path-space Adam"):
        for starts in (("balanced", "rescaled"), (SKELETON_ONE,)):
            group = [Configuration("adding-16", method, start, 0.1 * seed, seed) for seed in SEEDS for start in starts]
            programs[method, len(starts)] = len({together(one) for one in group})
    # the skeleton of the papers' start does not hang on the weights
    assert programs == {
        ("Adam", 2): 1,
        ("path-space Adam", 2): len(SEEDS),
        ("Adam", 1): 1,
        ("path-space Adam", 1): 1,
    }


def test_the_papers_start_has_a_skeleton_of_ones_and_keeps_the_other_weights():
    data, one = adding(4, examples=8), Configuration("", "path-space SGD", SKELETON_ONE, 1e-3, hidden=(4, 4))
    (run,), _ = path_space.training._runs([one], data)
    units = np.arange(4)
    into, between, out = run.start.layers[0].input_kernel, run.start.layers[1].input_kernel, run.start.readout.kernel
    for kernel, skeleton in ((into, (units % 2, units)), (between, (units, units)), (out, (units, 0 * units))):
        assert (kernel[skeleton] == 1).all()
    assert (np.concatenate([kernel.ravel() for kernel in (into, between)]) == 1).sum() == 8
    graph = path_opt.reduction_graph(run.start, skeleton="modulo")
    values = path_opt.path_values(jax.tree.map(jax.numpy.asarray, run.start), graph)
    # with a skeleton of ones the value of every other basis path is its weight
    np.testing.assert_allclose(values.values.layers[1].recurrent_kernel, run.start.layers[1].recurrent_kernel)


def test_gradients_are_clipped_in_weights_or_in_path_space_where_no_rescaling_changes_that():
    data = adding(4, examples=8)

    def loss(rnn):
        outputs = jax.vmap(lambda xs: maso_rnn.forward(rnn, xs)[-1])(data.train.inputs)
        return ((outputs - data.train.targets) ** 2).mean()

    ends, sizes = {}, {}
    for method in ("SGD", "path-space SGD"):
        group = [Configuration("", method, start, 1.0, hidden=(4,), clip=1e-2) for start in ("balanced", "rescaled")]
        runs, optimizer = path_space.training._runs(group, data)
        for one, run in zip(group, runs, strict=True):
            transform, start = optimizer(run.hyper), jax.tree.map(jax.numpy.asarray, run.start)
            steps, _ = transform.update(jax.grad(loss)(start), transform.init(start), start)
            sizes[method, one.start] = float(optax.tree.norm(steps))
            ends[method, one.start] = float(loss(optax.apply_updates(start, steps)))
    assert sizes["SGD", "balanced"] == pytest.approx(1e-2, rel=1e-5)  # float32
    assert sizes["SGD", "rescaled"] == pytest.approx(1e-2, rel=1e-5)
    assert ends["path-space SGD", "balanced"] == pytest.approx(ends["path-space SGD", "rescaled"], rel=1e-5)
    assert ends["SGD", "balanced"] != pytest.approx(ends["SGD", "rescaled"], rel=1e-3)


@pytest.mark.parametrize("document", documents.DOCUMENTS)
def test_a_document_is_what_the_published_results_make_of_it(document):
    page = (documents.ROOT / document).read_text()
    assert documents.DOCUMENTS[document](page) == page
