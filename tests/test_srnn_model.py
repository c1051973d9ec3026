import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn
from srnn import model as srnn_model


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


def smooth(activation, order, readout=jnp.sum):
    model = srnn.init(jax.random.key(0), 1, 3, activation=activation)
    srnn_model.require_smooth(model, readout, order, "this")


@pytest.mark.parametrize("name", sorted(srnn_model._BY_NAME))
def test_jumps_are_found_at_the_order_that_they_matter_for(name):
    smooth(name, 1)
    if name in {"relu", "leaky_relu", "abs", "hard_tanh"}:
        with pytest.raises(ValueError, match=r"activation .* has a kink"):
            smooth(name, 2)
        return
    smooth(name, 2)
    if name == "elu":
        with pytest.raises(ValueError, match="activation elu has a jump in its second derivative near"):
            smooth(name, 3)
    else:
        smooth(name, 3)


@pytest.mark.parametrize(
    "act",
    [
        lambda p: jnp.tanh(30 * p),
        lambda p: jnp.tanh(60 * p),
        lambda p: jnp.sin(60 * p),
        lambda p: p**3,
        jnp.exp,
        lambda p: jnp.sqrt(p**2 + 1e-6),
    ],
)
def test_steep_functions_are_not_taken_for_kinked(act):
    smooth(act, 2)


def test_kinks_of_given_functions_are_found():
    with pytest.raises(ValueError, match="selu has a kink near"):
        smooth(jax.nn.selu, 2)
    with pytest.raises(ValueError, match="has a kink near 2"):  # far out
        smooth(lambda p: jnp.minimum(p, 200.3), 2)
    with pytest.raises(ValueError, match="has a kink near"):  # small
        smooth(lambda p: 1e-3 * jnp.abs(p), 2)
    with pytest.raises(ValueError, match="has a jump near"):
        smooth(jnp.sign, 1)
    with pytest.raises(ValueError, match="has a jump near"):  # a slope that is NaN passes no comparison
        smooth(lambda p: jnp.sqrt(jnp.abs(p)), 2)


def test_jumps_of_readouts_are_found():
    def indicator(h):
        return jnp.where(h[0] > 0, 1.0, 0.0)

    with pytest.raises(ValueError, match=r"readout has a jump, .* method='malliavin'"):
        smooth("tanh", 1, indicator)
    smooth("tanh", 1, lambda h: jax.nn.relu(h[0]))
    with pytest.raises(ValueError, match="readout has a kink"):
        smooth("tanh", 2, lambda h: jax.nn.relu(h[0]))
    smooth("tanh", 3, lambda h: jnp.tanh(h).sum() + h[0] ** 2 + jnp.sin(h @ h) + jnp.exp(h[1]))

    weights = jnp.array([1e3, -800.0, 300.0], jnp.float32)  # large terms that cancel
    narrow = srnn.init(jax.random.key(0), 1, 3, dtype="float32")
    srnn_model.require_smooth(narrow, lambda h: jnp.tanh(h) @ weights, 3, "this")

    @jax.jit
    def traced(w):  # nothing to look at
        smooth("tanh", 1, lambda h: jnp.where(w @ h > 0, 1.0, 0.0))
        return w

    traced(jnp.ones(3))


@pytest.mark.parametrize("order", [1, 2])
def test_stability_limit_is_where_the_linear_recursion_turns(key, order):
    rates = np.asarray(-jnp.exp(jax.random.normal(key, (20,))) + 3j * jax.random.normal(jax.random.key(1), (20,)))
    for rate in rates:
        limit = srnn_model._largest_step(rate, order)

        def amplification(dt, rate=rate):
            z = dt * rate
            return abs(1 + z + (z * z / 2 if order == 2 else 0))

        assert amplification(limit) == pytest.approx(1, abs=1e-9)  # a root to rounding
        assert all(amplification(share * limit) < 1 for share in np.linspace(0.02, 0.98, 25))
        assert amplification(1.02 * limit) > 1


def test_bad_init_is_refused(key, unchecked):
    with pytest.raises(ValueError, match=r"radius must be below 1.*got 1\.2"):
        srnn.init(key, 1, 4, radius=1.2)
    with pytest.raises(ValueError, match="decay_time must be finite and positive, got 0"):
        srnn.init(key, 1, 4, decay_time=0)
    with pytest.raises(ValueError, match=r"noise must be finite and not negative, got -1"):
        srnn.init(key, 1, 4, noise=-1.0)
    with pytest.raises(ValueError, match="hidden_size must be at least 1, got 0"):
        srnn.init(key, 1, 0)
    with pytest.raises(TypeError, match="input_size must be an integer, got float"):
        srnn.init(key, 1.5, 4)
    with pytest.raises(ValueError, match=r"activation must be one of .* got 'tanhh'"):
        srnn.init(key, 1, 4, activation="tanhh")
    with pytest.raises(TypeError, match="activation must be a name or a function, got int"):
        srnn.init(key, 1, 4, activation=3)
    with pytest.raises(TypeError, match="dtype must be floating, got int32"):
        srnn.init(key, 1, 4, dtype="int32")
    for half in ("float16", "bfloat16"):
        with pytest.raises(TypeError, match="dtype must be float32 or float64, got"):
            srnn.init(key, 1, 4, dtype=half)
    with pytest.raises(TypeError, match="key must be one typed random key"):
        srnn.init(jnp.zeros(2, jnp.uint32), 1, 4)


def simulate(model, **options):
    return srnn.simulate(model, key=jax.random.key(0), paths=4, **({"t1": 1.0, "dt": 0.125} | options))


def test_bad_models_are_refused(key, unchecked):
    model = srnn.init(key, 2, 4, activation="identity")
    with pytest.raises(TypeError, match=r"model must be an srnn\.SRNN, got dict"):
        simulate({})
    with pytest.raises(ValueError, match=r"model\.decay must be positive stable.*got one at -0\.5"):
        simulate(model.replace(decay=model.decay.at[1].set(-0.5)))
    rotation = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
    with pytest.raises(ValueError, match=r"model\.decay must be positive stable"):
        simulate(srnn.init(key, 1, 2).replace(decay=rotation - 0.01 * jnp.eye(2)))
    with pytest.raises(ValueError, match=r"affine activation identity the drift .* got one at 0\.5"):
        simulate(model.replace(recurrent_kernel=1.5 * jnp.eye(4)))
    simulate(model.replace(recurrent_kernel=1.5 * jnp.eye(4), activation="tanh"))  # saturates: allowed
    with pytest.raises(ValueError, match=r"model\.noise_kernel must be .*\(4,\), got \(3,\)"):
        simulate(model.replace(noise_kernel=jnp.ones(3)))
    with pytest.raises(ValueError, match=r"model\.noise_kernel must be .*got \(4, 3\)"):
        simulate(model.replace(noise_kernel=jnp.ones((4, 3))))
    with pytest.raises(ValueError, match=r"model\.decay must be .*got \(4, 5\)"):
        simulate(model.replace(decay=jnp.ones((4, 5))))
    with pytest.raises(ValueError, match=r"model\.input_kernel must be .*got \(2, 5\)"):
        simulate(model.replace(input_kernel=jnp.ones((2, 5))))
    with pytest.raises(ValueError, match=r"model\.recurrent_kernel must be square"):
        simulate(model.replace(recurrent_kernel=jnp.ones((3, 4))))
    with pytest.raises(ValueError, match="model must be finite"):
        simulate(model.replace(bias=model.bias.at[0].set(jnp.nan)))
    for half in (jnp.float16, jnp.bfloat16):
        with pytest.raises(TypeError, match=r"model\.recurrent_kernel must be float32 or float64, got"):
            simulate(jax.tree.map(lambda x, half=half: x.astype(half), model))
    narrow = jax.tree.map(lambda x: x.astype("float32"), model)
    with pytest.raises(ValueError, match="t1: 16777216 steps cannot be told apart in float32"):
        simulate(narrow, t1=2.0**21)
    with pytest.raises(TypeError, match=r"model\.bias must have the dtype float64.*got float32"):
        simulate(model.replace(bias=model.bias.astype("float32")))


def test_a_step_past_the_stability_limit_is_refused_with_one_that_would_do(key, unchecked):
    model = srnn.init(key, 1, 4, radius=0.0, decay_time=0.1)
    with pytest.raises(ValueError, match=r"dt = 0\.25 is past the stability limit 0\.2 .* dt = 0\.1 would do"):
        simulate(model, dt=0.25)
    simulate(model, dt=0.1)


def test_an_affine_activation_is_never_flat(key):
    """Decay 1 alone would allow steps below 2, but the drift is −0.1 everywhere."""
    model = srnn.init(key, 1, 1, activation="identity").replace(recurrent_kernel=jnp.array([[0.9]]))
    assert np.isfinite(simulate(model, t1=20.0, dt=5.0).mean).all()
    with pytest.raises(ValueError, match="dt = 25"):
        simulate(model, t1=100.0, dt=25.0)
