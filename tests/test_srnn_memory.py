import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn


def kernel_of(lags, values, stderr=None):
    stderr = jnp.zeros_like(values) if stderr is None else stderr
    nothing = jnp.zeros(())
    return srnn.Kernel(lags.max() - lags, values, stderr, lags, nothing, jnp.asarray(0), jnp.zeros(2))


def test_time_scales_of_a_known_kernel_are_found():
    lags = jnp.linspace(5.0, 0.05, 100)
    basis = jnp.exp(-lags[:, None] / jnp.array([0.2, 1.5]))
    amplitudes = jnp.array([[1.0, -2.0], [0.5, 1.0]])
    found = srnn.memory_timescales(kernel_of(lags, basis @ amplitudes), components=2)
    assert found.converged
    # noiseless: the solver's tolerance, sqrt(eps)
    np.testing.assert_allclose(found.timescales, [0.2, 1.5], rtol=1e-5)
    np.testing.assert_allclose(found.amplitudes, amplitudes, rtol=1e-4)
    assert found.residual < 1e-6


def test_noise_is_weighed_and_the_residual_says_whether_the_fit_is_good(key):
    lags = jnp.linspace(5.0, 0.05, 100)
    stderr = jnp.where(lags[:, None] > 2, 0.2, 0.005)
    values = jnp.exp(-lags[:, None] / 0.8) + stderr * jax.random.normal(key, (100, 1))
    found = srnn.memory_timescales(kernel_of(lags, values, stderr), components=1)
    assert found.residual == pytest.approx(1, abs=0.3)  # 100 residuals: sd 0.07
    assert found.timescales[0] == pytest.approx(0.8, rel=0.02)  # 60 points of 0.5% each
    oscillating = kernel_of(lags, jnp.cos(6 * lags)[:, None], jnp.full((100, 1), 0.01))
    assert srnn.memory_timescales(oscillating, components=2).residual > 10


@pytest.mark.slow
def test_time_scales_of_a_linear_model_are_its_decay_times(key):
    dt, rates = 0.02, jnp.array([1.0, 6.0])
    model = srnn.init(key, 1, 2, radius=0.0).replace(
        decay=rates, input_kernel=jnp.array([[1.0, 3.0]]), activation="identity"
    )
    kernel = srnn.response_kernel(model, jnp.sum, t1=3.0, dt=dt, key=key, paths=2)
    found = srnn.memory_timescales(kernel, components=2)
    # Euler's chain decays as (1 − dt·rate)^k, so its own time-scale is −dt/log(1 − dt·rate)
    np.testing.assert_allclose(found.timescales, np.sort(-dt / np.log(1 - dt * rates)), rtol=1e-4)


def test_bad_arguments_are_refused(unchecked):
    lags = jnp.linspace(1.0, 0.1, 4)
    with pytest.raises(ValueError, match="components: 2 exponentials need more than 4 steps, got 4"):
        srnn.memory_timescales(kernel_of(lags, lags[:, None]), components=2)
    with pytest.raises(ValueError, match="kernel must be of order 1"):
        srnn.memory_timescales(kernel_of(lags, jnp.ones((4, 4, 1, 1))), components=1)
    with pytest.raises(TypeError, match=r"kernel must be an srnn\.Kernel"):
        srnn.memory_timescales(lags, components=1)


@pytest.mark.parametrize("value", [0.0, jnp.nan])
def test_a_kernel_of_nothing_has_no_time_scale(value):
    lags = jnp.linspace(1.0, 0.1, 10)
    found = srnn.memory_timescales(kernel_of(lags, jnp.full((10, 1), value)), components=1)
    assert not found.converged
    assert np.isnan(found.timescales).all()
