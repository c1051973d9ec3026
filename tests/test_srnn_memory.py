import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn

LAGS = jnp.linspace(5.0, 0.05, 100)


def kernel_of(lags, values, stderr=None, groups=None):
    stderr = jnp.zeros_like(values) if stderr is None else stderr
    nothing = jnp.zeros(())
    return srnn.Kernel(lags.max() - lags, values, stderr, lags, nothing, jnp.asarray(0), jnp.zeros(2), groups=groups)


def grouped(rng, values, error, *, together=10, count=32):
    """A kernel of groups whose errors go together over some steps, as those of a simulated kernel do."""
    weights = np.exp(-np.arange(6 * together) / together)
    weights /= np.sqrt((weights**2).sum())
    draws = rng.normal(size=(count, len(values) + len(weights) - 1, values.shape[1]))
    noise = np.apply_along_axis(lambda row: np.convolve(row, weights, "valid"), 1, draws)
    groups = jnp.asarray(values + error * np.sqrt(count) * noise)
    return kernel_of(LAGS, groups.mean(axis=0), groups.std(axis=0, ddof=1) / np.sqrt(count), groups)


def test_time_scales_of_a_known_kernel_are_found():
    basis = jnp.exp(-LAGS[:, None] / jnp.array([0.2, 1.5]))
    amplitudes = jnp.array([[1.0, -2.0], [0.5, 1.0]])
    found = srnn.memory_timescales(kernel_of(LAGS, basis @ amplitudes), components=2)
    assert found.converged
    # noiseless: the solver's tolerance, sqrt(eps)
    np.testing.assert_allclose(found.timescales, [0.2, 1.5], rtol=1e-5)
    np.testing.assert_allclose(found.amplitudes, amplitudes, rtol=1e-4)
    assert not found.frequencies.any()
    assert found.residual < 1e-6
    assert found.stderr is None


def test_an_exact_step_does_not_take_over():
    """Errors of .01, and 1e-7 at the last step, as every linear readout has: the fit is to all of it."""
    rng = np.random.default_rng(0)
    stderr = jnp.full((100, 1), 0.01).at[-1].set(1e-7)
    values = (2 * jnp.exp(-LAGS / 0.5) - jnp.exp(-LAGS / 3))[:, None] + stderr * rng.normal(size=(100, 1))
    found = srnn.memory_timescales(kernel_of(LAGS, values, stderr), components=2)
    assert found.converged
    # of 100 points with errors of .01: repeats of the noise spread by .01 and .06
    np.testing.assert_allclose(found.timescales, [0.5, 3.0], atol=0.2)
    assert found.residual == pytest.approx(1, abs=0.3)  # 100 residuals: sd 0.07


def test_a_mode_that_oscillates_is_found():
    values = (jnp.exp(-LAGS / 1.5) * jnp.cos(3 * LAGS + 0.3))[:, None]
    found = srnn.memory_timescales(kernel_of(LAGS, values), components=1)
    assert found.converged
    for got, wanted in ((found.timescales, 1.5), (found.frequencies, 3), (found.amplitudes[:, 0], np.cos(0.3))):
        np.testing.assert_allclose(got, [wanted], rtol=1e-5)
    np.testing.assert_allclose(found.sines, [[-np.sin(0.3)]], rtol=1e-5)


@pytest.mark.parametrize("groups", [True, False])
def test_noise_alone_says_so(groups):
    rng = np.random.default_rng(1)
    if groups:
        kernel = grouped(rng, np.zeros((100, 1)), 0.01)
        assert srnn.memory_timescales(kernel).timescales.shape == (0,)
    else:
        kernel = kernel_of(LAGS, jnp.asarray(0.01 * rng.normal(size=(100, 1))), jnp.full((100, 1), 0.01))
    assert not srnn.memory_timescales(kernel, components=1).converged


def test_components_are_counted_by_what_they_predict():
    rng = np.random.default_rng(2)
    two = (2 * np.exp(-LAGS / 0.5) - np.exp(-LAGS / 3))[:, None]
    for values, wanted in ((np.exp(-LAGS / 0.7)[:, None], 1), (two, 2)):
        found = srnn.memory_timescales(grouped(rng, values, 0.005))
        assert found.timescales.shape == (wanted,)
        assert found.converged
        assert found.stderr.shape == found.frequency_stderr.shape == (wanted,)


def test_components_that_cancel_have_not_converged():
    """One time-scale, fitted by two: large amplitudes of opposite signs."""
    rng = np.random.default_rng(3)
    kernel = grouped(rng, (LAGS * np.exp(-LAGS / 0.7))[:, None], 0.001)
    assert not srnn.memory_timescales(kernel, components=2).converged


@pytest.mark.slow
def test_standard_errors_cover_and_components_are_right():
    """200 repeats with errors that go together, as those of measured kernels do."""
    rng, covered, right = np.random.default_rng(4), [], 0
    values = (2 * np.exp(-LAGS / 0.5) - np.exp(-LAGS / 3))[:, None]
    for repeat in range(200):
        kernel = grouped(rng, values, 0.005)
        found = srnn.memory_timescales(kernel, components=2)
        covered.append(np.abs(found.timescales - np.array([0.5, 3.0])) < 1.96 * found.stderr)
        right += repeat < 75 and srnn.memory_timescales(kernel).timescales.shape == (2,)
    # 200 repeats at 95% of 31 degrees of freedom: one coverage is known to ±1.5%
    assert 0.90 <= np.mean(covered) <= 0.98
    assert right == 75


@pytest.mark.slow
def test_a_rotation_oscillates_within_its_standard_errors(key):
    """Two units that turn: dh = (−h/τ + ω J h) dt, with the input and the readout on the first."""
    tau, omega, dt = 1.0, 4.0, 0.02
    decay = jnp.array([[1 / tau, omega], [-omega, 1 / tau]])
    model = srnn.SRNN(
        decay, jnp.zeros((2, 2)), jnp.zeros(2), jnp.array([[1.0, 0.0]]), jnp.full(2, 0.5), activation="identity"
    )
    kernel = srnn.response_kernel(
        model, lambda h: jnp.sin(h[0]), t1=4.0, dt=dt, key=key, paths=2000, initial=jnp.array([0.3, 0.0])
    )
    found = srnn.memory_timescales(kernel, components=1)
    # Euler's chain turns and decays by the logarithm of 1 + dt (−1/τ + iω)
    rate = np.log(1 + dt * (-1 / tau + 1j * omega)) / dt
    assert abs(found.timescales[0] + 1 / rate.real) < 3 * found.stderr[0] + 1e-6
    assert abs(found.frequencies[0] - rate.imag) < 3 * found.frequency_stderr[0] + 1e-6


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
    with pytest.raises(ValueError, match="components: 2 modes need more than 8 steps, got 4"):
        srnn.memory_timescales(kernel_of(lags, lags[:, None]), components=2)
    with pytest.raises(ValueError, match="components"):
        srnn.memory_timescales(kernel_of(LAGS, LAGS[:, None]))
    with pytest.raises(ValueError, match="kernel must be of order 1"):
        srnn.memory_timescales(kernel_of(lags, jnp.ones((4, 4, 1, 1))), components=1)
    with pytest.raises(TypeError, match="kernel"):
        srnn.memory_timescales(lags, components=1)
    with pytest.raises(TypeError, match="kernel must be concrete"):
        jax.jit(lambda x: srnn.memory_timescales(kernel_of(LAGS, x), components=1))(LAGS[:, None])


@pytest.mark.parametrize("value", [0.0, jnp.nan])
def test_a_kernel_of_nothing_has_no_time_scale(value):
    lags = jnp.linspace(1.0, 0.1, 10)
    found = srnn.memory_timescales(kernel_of(lags, jnp.full((10, 1), value)), components=1)
    assert not found.converged
    assert np.isnan(found.timescales).all()
