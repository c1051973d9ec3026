import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn

OPTIONS = {"t1": 1.0, "dt": 0.05, "paths": 20_000, "burn_in": 5.0}


def read(state):
    return state[0] + 0.3 * state[1] ** 2


def reciprocal():
    """Drift −D∇V: symmetric decay, isotropic noise."""
    decay = jnp.array([[1.5, 0.4], [0.4, 2.0]])
    return srnn.init(jax.random.key(0), 1, 2, radius=0.0, noise=0.8).replace(
        decay=decay, input_kernel=jnp.array([[1.0, 0.7]]), bias=jnp.array([0.3, -0.2])
    )


def test_the_relation_holds_in_equilibrium(key):
    check = srnn.fluctuation_dissipation(reciprocal(), read, key=key, **OPTIONS)
    assert np.abs(check.trend).max() < 4
    # 4 standard errors, and Euler's step: 0.05 of kernels of order 1
    assert (np.abs(check.difference) < 4 * check.stderr + 0.05).all()
    np.testing.assert_allclose(check.difference, check.response - check.correlation, atol=1e-12)
    assert np.abs(check.response).max() > 0.3
    kernel = srnn.response_kernel(reciprocal(), read, key=key, **OPTIONS)
    assert np.abs((check.response - kernel.values) / kernel.stderr).max() < 6
    assert check.diverged == 0


@pytest.mark.slow
def test_the_relation_holds_for_a_nonlinear_model_in_equilibrium(key):
    model = srnn.SRNN(jnp.array([1.0]), jnp.array([[1.5]]), jnp.array([0.3]), jnp.array([[0.8]]), jnp.array([0.6]))
    check = srnn.fluctuation_dissipation(model, lambda h: h[0] ** 2, key=key, **OPTIONS)
    assert (np.abs(check.difference) < 4 * check.stderr + 0.05).all()


@pytest.mark.slow
def test_the_relation_fails_out_of_equilibrium(key):
    model = reciprocal().replace(decay=jnp.array([[1.5, 2.4], [-1.6, 2.0]]))
    check = srnn.fluctuation_dissipation(model, read, key=key, steps=(0, 10, 15), **OPTIONS)
    assert np.abs(check.trend).max() < 4
    assert (np.abs(check.difference) > 10 * check.stderr + 0.05).any()


def test_noise_that_misses_a_direction_is_refused(key, unchecked):
    model = reciprocal().replace(noise_kernel=jnp.array([[1.0, 0.5]]))
    with pytest.raises(ValueError, match=r"model\.noise_kernel must reach all 2 directions.*rank 1"):
        srnn.fluctuation_dissipation(model, read, key=key, **OPTIONS)


def test_weak_noise_reaches_a_direction(key):
    """One unit a thousandth of a millionth of the other: what is done to it is measured by its own noise."""
    options = OPTIONS | {"paths": 16, "burn_in": 0.0, "key": key}
    found = []
    for weak in (1.0, 1e-9):
        model = srnn.init(key, 1, 2, radius=0.0, dtype="float32").replace(
            noise_kernel=jnp.array([1.0, weak], "float32"), input_kernel=jnp.array([[0.0, weak]], "float32")
        )
        found.append(srnn.fluctuation_dissipation(model, lambda h, weak=weak: h[1] / weak, **options).correlation)
    np.testing.assert_allclose(*found, rtol=1e-4)  # float32


def test_few_paths_do_not_bias_the_correlation(key):
    """Two paths to a run: centred by their common mean, the correlation would be half of what it is."""
    model = srnn.init(key, 1, 1, radius=0.0, noise=1.0).replace(input_kernel=jnp.ones((1, 1)))
    options = {"t1": 0.25, "dt": 0.125, "paths": 2, "burn_in": 3.0}

    @jax.jit
    @jax.vmap
    def correlation(key):
        return srnn.fluctuation_dissipation(model, lambda h: h[0], key=key, **options).correlation[:, 0]

    found = correlation(jax.random.split(key, 20_000))
    # Euler's chain h <- a h + dB: variance dt/(1 - a^2), correlation a^lag of it, 2/sigma^2 its weight
    a = 1 - 0.125
    exact = 2 * 0.125 / (1 - a**2) * a ** np.array([2, 1])
    stderr = np.std(found, axis=0) / np.sqrt(20_000)
    assert (stderr < 0.05).all()
    assert (np.abs(found.mean(axis=0) - exact) < 4 * stderr + 0.01).all()  # 0.01: the burn-in's exp(-6)


def test_badly_conditioned_noise_keeps_its_digits(key):
    """In float32 σ may have a condition number of 5,000: its square, 2.5e7, leaves no digit."""
    tilt = 2e-4
    model = srnn.init(key, 1, 2, radius=0.0, dtype="float32").replace(
        noise_kernel=jnp.array([[1.0, 1.0], [tilt, -tilt]], jnp.float32),
        input_kernel=jnp.array([[0.3, -0.8]], jnp.float32),
    )
    start = jax.random.normal(key, (4, 2), jnp.float32)
    wide, wide_start = jax.tree.map(lambda x: x.astype(jnp.float64), (model, start))
    options = {"t1": 0.125, "dt": 0.125, "paths": 4, "burn_in": 0.0, "key": key}
    found, exact = (
        srnn.fluctuation_dissipation(m, lambda h: h[0] - h[1], initial=s, **options).correlation
        for m, s in ((model, start), (wide, wide_start))
    )
    # the readout sees the weak noise only, which adds other numbers in float32: 2e-4 of 1; and cond · eps = 6e-4
    np.testing.assert_allclose(found, exact, rtol=0.01)


def test_a_system_whose_input_is_added_is_taken(key):
    model = reciprocal()
    params = (model.decay, model.bias)
    system = srnn.System(
        params, lambda p, h, u: jnp.tanh(p[1]) - h @ p[0], model.noise_kernel, input_kernel=model.input_kernel
    )
    options = OPTIONS | {"paths": 50, "burn_in": 0.0, "key": key, "initial": jnp.array([0.4, 0.1])}
    found, wanted = (srnn.fluctuation_dissipation(m, read, **options) for m in (system, model))
    np.testing.assert_allclose(found.difference, wanted.difference, rtol=1e-9, atol=1e-12)
    inside = srnn.System(params, lambda p, h, u: u.sum() - h @ p[0], model.noise_kernel)
    with pytest.raises(ValueError, match="model must add its input"):
        srnn.fluctuation_dissipation(inside, read, **options)
