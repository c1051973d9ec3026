"""The experiments on neighbouring papers: what their results are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks import automata, experiment, kernel_machine, lyapunov


def test_r_squared_is_one_of_what_tells_all_and_at_most_nothing_of_noise():
    rng = np.random.default_rng(0)
    xs = rng.standard_normal((60, 3))
    assert lyapunov.r_squared(xs, xs @ [1.0, -2.0, 0.5], linear=True) > 0.99
    assert lyapunov.r_squared(xs, np.sin(2 * xs[:, 0]), linear=False) > lyapunov.r_squared(
        xs, np.cos(2 * xs[:, 0]), linear=True
    )
    assert lyapunov.r_squared(xs, rng.standard_normal(60), linear=True) < 0.1


def test_spectra_in_a_batch_are_those_of_single_runs(key):
    measure = lyapunov._measure("digits-by-row")
    one = lyapunov.Configuration(0, 0, units=8)
    starts = [lyapunov._start(one, 8, 10), lyapunov._start(lyapunov.Configuration(1, 0, units=8), 8, 10)]
    together = jax.vmap(measure)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts))["spectrum"]
    xs = jnp.concatenate(list(jnp.asarray(lyapunov.TASKS["digits-by-row"]().validation.inputs[:16])))
    for found, rnn in zip(together, starts, strict=True):
        step = lambda h, x, rnn=rnn: maso_rnn.network.step(rnn, h, x)[0]  # noqa: E731
        single = maso_rnn.lyapunov_exponents(step, maso_rnn.initial_state(rnn), xs).exponents
        np.testing.assert_allclose(found, single, rtol=0, atol=1e-4)  # float32 over 128 steps


def test_spirals_turn_by_their_class():
    data = kernel_machine.spirals(examples=64)
    angles = np.unwrap(np.arctan2(data.train.inputs[..., 1], data.train.inputs[..., 0]), axis=1)
    assert ((angles[:, -1] > angles[:, 0]) == (data.train.targets == 1)).all()


def test_an_attack_stays_within_its_size_and_none_changes_nothing():
    one = kernel_machine.Robust("spirals", 0.0, 0, units=4)
    data = kernel_machine.spirals(examples=16)
    params = kernel_machine._start(one, data)
    split = jax.tree.map(jnp.asarray, data.test.first(32))
    outputs = jax.vmap(lambda xs: kernel_machine._states(params, xs, jnp.zeros(4))[-1] @ params["readout"])(
        split.inputs
    )
    right = (outputs.argmax(axis=1) == split.targets).mean()
    assert kernel_machine.attacked(params, split, 0.0) == right
    assert kernel_machine.attacked(params, split, 1.0) <= right


@pytest.mark.slow
@pytest.mark.parametrize("one", [automata, kernel_machine, lyapunov], ids=lambda one: one.EXPERIMENT.name)
def test_small_experiments_run(one, tmp_path):
    experiment.run(one.EXPERIMENT, "smoke", tmp_path)
    assert (tmp_path / "report" / "report.html").exists()
