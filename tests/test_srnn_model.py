import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn


@pytest.mark.parametrize("radius", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("decay_time", [0.2, 3.0])
def test_init_is_a_contraction(key, radius, decay_time):
    model = srnn.init(key, 2, 24, radius=radius, decay_time=decay_time)
    values = np.linalg.eigvals(model.recurrent_kernel)
    # float64 orthogonal factors to rounding
    np.testing.assert_allclose(np.abs(values), radius / decay_time, atol=1e-12)
    assert np.linalg.norm(model.recurrent_kernel, 2) <= radius / decay_time * (1 + 1e-12)
    a, b = jax.random.normal(key, (2, 50, 24))
    towards = ((srnn.drift(model, a) - srnn.drift(model, b)) * (a - b)).sum(axis=1)
    rate = (1 - radius) / decay_time
    assert (towards <= -rate * ((a - b) ** 2).sum(axis=1) * (1 - 1e-9)).all()


def test_noise_level_and_shapes(key):
    model = srnn.init(key, 3, 400, noise=0.3)
    np.testing.assert_array_equal(model.noise_kernel, np.full(400, 0.3))
    model = srnn.init(key, 3, 400, noise=0.3, noise_size=50, dtype="float32")
    assert model.noise_kernel.shape == (50, 400)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(model)} == {"float32"}
    # each unit gets variance noise² in expectation; the mean over 50 × 400 draws has a relative sd of 0.01
    assert (model.noise_kernel**2).sum(axis=0).mean() == pytest.approx(0.09, rel=0.04)


def test_drift_is_the_equation(key):
    model = srnn.init(key, 2, 5).replace(decay=jnp.eye(5) + 0.1, bias=jnp.arange(5.0))
    h = jax.random.normal(key, (7, 5))
    wanted = -h @ model.decay + jnp.tanh(h @ model.recurrent_kernel + model.bias)
    np.testing.assert_allclose(srnn.drift(model, h), wanted, rtol=1e-13)  # float64, one reordering


def test_bad_init_is_refused(key, unchecked):
    with pytest.raises(ValueError, match=r"radius must be below 1.*got 1\.2"):
        srnn.init(key, 1, 4, radius=1.2)
    with pytest.raises(ValueError, match="decay_time"):
        srnn.init(key, 1, 4, decay_time=0)
    with pytest.raises(ValueError, match="noise"):
        srnn.init(key, 1, 4, noise=-1.0)
    with pytest.raises(ValueError, match="hidden_size must be at least 1, got 0"):
        srnn.init(key, 1, 0)
    with pytest.raises(TypeError, match="input_size must be an integer, got float"):
        srnn.init(key, 1.5, 4)
    with pytest.raises(ValueError, match="activation"):
        srnn.init(key, 1, 4, activation="tanhh")
    with pytest.raises(TypeError, match="activation"):
        srnn.init(key, 1, 4, activation=3)
    with pytest.raises(TypeError, match="dtype"):
        srnn.init(key, 1, 4, dtype="int32")
    for half in ("float16", "bfloat16"):
        with pytest.raises(TypeError, match="dtype must be float32 or float64, got"):
            srnn.init(key, 1, 4, dtype=half)
    with pytest.raises(TypeError, match="key"):
        srnn.init(jnp.zeros(3), 1, 4)


def test_old_keys_are_taken(key):
    old = srnn.init(jax.random.PRNGKey(3), 1, 4)
    np.testing.assert_array_equal(old.input_kernel, srnn.init(jax.random.key(3), 1, 4).input_kernel)


def simulate(model, **options):
    return srnn.simulate(model, key=jax.random.key(0), paths=4, **({"t1": 1.0, "dt": 0.125} | options))


def test_bad_models_are_refused(key, unchecked):
    model = srnn.init(key, 2, 4, activation="identity")
    with pytest.raises(TypeError, match="model"):
        simulate({})
    with pytest.raises(ValueError, match=r"model\.decay must be positive stable.*got one at -0\.5"):
        simulate(model.replace(decay=model.decay.at[1].set(-0.5)))
    rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    with pytest.raises(ValueError, match=r"model\.decay must be positive stable"):
        simulate(srnn.init(key, 1, 2).replace(decay=rotation - 0.01 * jnp.eye(2)))
    with pytest.raises(ValueError, match=r"affine activation .* got one at 0\.5"):
        simulate(model.replace(recurrent_kernel=1.5 * jnp.eye(4)))
    simulate(model.replace(recurrent_kernel=1.5 * jnp.eye(4), activation="tanh"))  # saturates: allowed
    faults = {
        "noise_kernel": [jnp.ones(3), jnp.ones((4, 3))],
        "decay": [jnp.ones((4, 5))],
        "input_kernel": [jnp.ones((2, 5))],
        "bias": [model.bias.at[0].set(jnp.nan)],
    }
    for name, values in faults.items():
        for value in values:
            with pytest.raises(ValueError, match=rf"model\.?{name}"):
                simulate(model.replace(**{name: value}))
    with pytest.raises(ValueError, match="model"):
        simulate(model.replace(recurrent_kernel=jnp.ones((3, 4))))
    for half in (jnp.float16, jnp.bfloat16):
        with pytest.raises(TypeError, match=r"model\.recurrent_kernel must be float32 or float64, got"):
            simulate(jax.tree.map(lambda x, half=half: x.astype(half), model))
    with pytest.raises(TypeError, match=r"model\.bias"):
        simulate(model.replace(bias=model.bias.astype("float32")))


def test_numpy_arrays_make_a_model(key):
    model = srnn.init(key, 2, 4)
    same = jax.tree.map(np.asarray, model)
    np.testing.assert_array_equal(simulate(same).values, simulate(model).values)


def test_an_activation_of_the_callers_is_never_stale(key):
    """What it reads is read at every call."""
    model = srnn.init(key, 1, 3).replace(bias=jnp.linspace(-0.5, 0.5, 3))
    slope = np.array(1.0)
    own = model.replace(activation=lambda p: jnp.tanh(jnp.asarray(slope) * p))
    np.testing.assert_allclose(simulate(own).values, simulate(model).values, rtol=1e-12)
    slope *= 0
    np.testing.assert_allclose(
        simulate(own).values,
        simulate(model.replace(recurrent_kernel=jnp.zeros((3, 3)), bias=jnp.zeros(3))).values,
        rtol=1e-12,
    )
