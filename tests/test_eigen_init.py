"""The experiment on initializers: what it writes, and what it compares."""

import json

import numpy as np
import pytest

from benchmarks import eigen_init, experiment, results
from benchmarks.eigen_init import training
from benchmarks.eigen_init.training import CELLS, INITIALIZERS, Configuration, score, together, train


@pytest.mark.slow
def test_smoke_writes_lines_and_report(tmp_path):
    experiment.run(eigen_init.EXPERIMENT, "smoke", tmp_path)
    lines = results.read(tmp_path / "results.jsonl")
    assert len(lines) == 3 * len(CELLS) * len(INITIALIZERS) * (3 * 2 + 2)
    for one, result, _ in lines:
        assert ("test_accuracy" in result) == one["task"].startswith(("tomita", "adding-ternary"))
        assert np.isfinite(result["test_loss"])
        assert ("eigenvalues" in result) == (one["cloud"] and one["seed"] == experiment.SEARCH_SEEDS)
        if one["initializer"] in ("eigen-schur", "eigen-orthogonal", "orthogonal", "identity"):
            assert result["radius"][0] == result["median_modulus"][0] == 1
        assert result["radius"][0] != result["radius"][1]  # it was trained
    told = json.loads((tmp_path / "report" / "result.json").read_text())
    assert set(told["sections"]["scores"]["accuracy"]) == set(CELLS)
    assert (tmp_path / "report" / "clouds-lstm.png").exists()


def test_every_size_has_every_cell_and_initializer_and_small_every_task():
    tasks = {name: {one.task for one in size().contenders} for name, size in eigen_init.SIZES.items()}
    grammars = {f"tomita-{grammar}" for grammar in range(1, 8)}
    assert tasks["small"] == grammars | {"digits-by-pixel", "digits-permuted", "adding-20", "adding-ternary-20"}
    for name, size in eigen_init.SIZES.items():
        contenders = size().contenders
        assert {(one.cell, one.initializer) for one in contenders} == {(c, i) for c in CELLS for i in INITIALIZERS}
        assert len(contenders) == len(tasks[name]) * len(CELLS) * len(INITIALIZERS)
        assert set.union(*tasks.values()) <= set(training.TASKS)


@pytest.mark.slow
def test_initializers_share_a_program_their_start_but_the_kernel_and_keep_their_eigenvalues():
    group = [
        Configuration(
            "adding-8", "gru", name, 1e-2, experiment.SEARCH_SEEDS, hidden=4, steps=2, points=1, batch=4, cloud=True
        )
        for name in ("identity", "eigen-schur")
    ]
    assert len({together(one) for one in group}) == 1
    starts = [training._run(one, training.TASKS[one.task]()).start for one in group]
    for gate in ("ir", "iz", "in"):
        np.testing.assert_array_equal(*(start["cell"][gate]["kernel"] for start in starts))
    irnn, eigen = train(group)
    assert irnn["eigenvalues"]["before"] == [[1.0, 0.0]] * 12  # three gates of four units
    assert irnn["eigenvalues"]["after"] != irnn["eigenvalues"]["before"]
    np.testing.assert_allclose(np.hypot(*np.transpose(eigen["eigenvalues"]["before"])), 1, atol=1e-3)  # three digits
    assert eigen["radius"][0] == 1


def test_classes_are_chosen_by_accuracy_and_numbers_by_their_error():
    assert score({"validation_accuracy": [0.1, 0.9], "validation_loss": [1, 9]}) == pytest.approx(0.1)
    assert score({"validation_loss": [1, 0.5]}) == 0.5
