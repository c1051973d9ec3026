"""The experiment on path space: it runs, and shows what the methods promise."""

import jax
import numpy as np
import pytest

import path_opt
from benchmarks import documents, experiment, path_space, results
from benchmarks.data.adding import adding
from benchmarks.path_space.training import METHODS, STARTS, Configuration, together, train

SEEDS = range(5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["digits-by-row", "digits-by-pixel", "adding-16"])
def test_equivariant_adam_is_no_worse_than_adam_and_better_from_rescaled_starts(task):
    ends = {}
    for name in ("Adam", "equivariant Adam"):
        rates = (0.003, 0.01, 0.03)
        group = [Configuration(task, name, start, rate, seed) for seed in SEEDS for start in STARTS for rate in rates]
        last = np.asarray([result["validation_loss"][-1] for result in train(group)])
        last = last.reshape(len(SEEDS), 2, len(rates))
        # each start at the rate whose mean is least
        ends[name] = [last[:, i, last[:, i].mean(axis=0).argmin()] for i in range(2)]
    (adam, adam_rescaled), (ours, ours_rescaled) = ends["Adam"], ends["equivariant Adam"]
    stderr = np.sqrt((adam.var(ddof=1) + ours.var(ddof=1)) / len(SEEDS))
    assert ours.mean() <= adam.mean() + 2 * stderr
    assert ours_rescaled.mean() < adam_rescaled.mean()


@pytest.mark.slow
def test_smoke_has_every_method_from_both_starts(tmp_path):
    experiment.run(path_space.EXPERIMENT, "smoke", tmp_path)
    final = [line.configuration for line in results.read(tmp_path / "results.jsonl") if line.configuration["seed"]]
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
        group = [Configuration("adding-16", method, start, 0.1 * seed, seed) for seed in SEEDS for start in STARTS]
        programs[method] = len({together(one) for one in group})
    assert programs == {"Adam": 1, "path-space Adam": len(SEEDS)}


@pytest.mark.parametrize("document", documents.DOCUMENTS)
def test_a_document_is_what_the_published_results_make_of_it(document):
    page = (documents.ROOT / document).read_text()
    assert documents.DOCUMENTS[document](page) == page
