import dataclasses
import warnings

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn
from srnn import stability


def simulate(model, **options):
    return srnn.simulate(model, key=jax.random.key(0), paths=4, **({"t1": 1.0, "dt": 0.125} | options))


@pytest.mark.parametrize("order", [1, 2])
def test_stability_limit_is_where_the_linear_recursion_turns(key, order):
    rates = np.asarray(-jnp.exp(jax.random.normal(key, (20,))) + 3j * jax.random.normal(jax.random.key(1), (20,)))
    for rate in rates:
        limit = stability.largest_step(np.array([rate]), order)

        def amplification(dt, rate=rate):
            z = dt * rate
            return abs(1 + z + (z * z / 2 if order == 2 else 0))

        assert amplification(limit) == pytest.approx(1, abs=1e-9)  # a root to rounding
        assert all(amplification(share * limit) < 1 for share in np.linspace(0.02, 0.98, 25))
        assert amplification(1.02 * limit) > 1


def test_a_step_past_the_stability_limit_is_refused_with_one_that_would_do(key):
    model = srnn.init(key, 1, 4, radius=0.0, decay_time=0.1)
    for dt in (0.25, 0.2):  # past it, and on it
        with pytest.raises(ValueError, match=rf"dt = {dt} is past the stability limit 0\.2 .* dt = 0\.02 would do"):
            simulate(model, dt=dt, t1=8 * dt)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(model, dt=0.01)


@pytest.mark.parametrize("rate", [0.2, 0.5, 1.9])
def test_a_coarse_step_is_warned_of(key, rate):
    """At dt · rate = .5 the variance of an Ornstein–Uhlenbeck process is 33% off, at 1.9 twenty-fold."""
    model = srnn.init(key, 1, 1, radius=0.0, decay_time=1 / rate, noise=1.0, activation="identity")
    with pytest.warns(UserWarning, match="dt = 1.0 is coarse"):
        ensemble = srnn.simulate(model, key=key, paths=40_000, t1=200.0, dt=1.0)
    stationary = 1 / (2 * rate)
    # the chain's own variance is 1/(1 - (1 - rate)^2); 40,000 paths: 4 sqrt(2/40000) = 2.8%
    assert ensemble.values.var() == pytest.approx(stationary / (1 - rate / 2), rel=0.03)


def test_units_that_are_on_are_looked_at(key):
    """JAX's relu has slope 0 at 0, where all units are at rest: its Jacobian there does not show what happens."""
    model = srnn.init(key, 1, 1, activation="relu").replace(recurrent_kernel=jnp.array([[-50.0]]))
    for bias in (0.0, 1e-6):
        with pytest.raises(ValueError, match=r"dt = 0\.1 is past the stability limit 0\.0392"):
            simulate(model.replace(bias=jnp.array([bias])), dt=0.1)
    simulate(model, dt=0.001, t1=0.1)
    with pytest.warns(UserWarning, match="past the stability limit"):  # bounded: it may be, and does not blow up
        simulate(model.replace(activation="tanh"), dt=0.1)


def test_an_affine_activation_is_never_flat(key):
    """Decay 1 alone would allow steps below 2, but the drift is −0.1 everywhere."""
    model = srnn.init(key, 1, 1, activation="identity").replace(recurrent_kernel=jnp.array([[0.9]]))
    for activation in ("identity", lambda p: 1.0 * p):
        own = model.replace(activation=activation)
        with pytest.warns(UserWarning, match="coarse"):
            assert np.isfinite(simulate(own, t1=20.0, dt=5.0).mean).all()
        with pytest.raises(ValueError, match="dt = 25"):
            simulate(own, t1=100.0, dt=25.0)


def test_functions_that_once_looked_kinked_are_taken(key):
    """Hand-written sigmoids, softplus and tanh, whose exponentials overflow far out."""
    for act in (
        lambda p: 1 / (1 + jnp.exp(-p)),
        lambda p: 1 / jnp.cosh(p) ** 2,
        lambda p: (jnp.exp(p) - jnp.exp(-p)) / (jnp.exp(p) + jnp.exp(-p)),
        lambda p: jnp.log1p(jnp.exp(p)),
    ):
        model = srnn.init(key, 1, 2, dtype="float32", activation=act)
        kernel = srnn.response_kernel(
            model, lambda h: jnp.exp(5 * h[0]), t1=0.5, dt=0.125, key=key, paths=64, order=2, steps=(0, 3)
        )
        assert kernel.mismatch < 3


def test_a_system_is_looked_at_along_a_pilot(key):
    stiff = srnn.System((), lambda params, h, u: -30 * h, jnp.array([0.1]))
    with pytest.raises(ValueError, match=r"past the stability limit 0\.0666"):
        simulate(stiff)
    with pytest.warns(UserWarning, match="coarse"):
        simulate(stiff, dt=0.025)
    undefined = srnn.System((), lambda params, h, u: jnp.log(h), jnp.array([0.1]))
    with pytest.raises(ValueError, match="drift must be finite at the start"):
        simulate(undefined, initial=jnp.array([-1.0]))
    with pytest.raises(ValueError, match=r"drift must be finite at the start.*path 1, unit 0"):
        simulate(undefined, initial=jnp.ones((4, 1)).at[1].set(-1.0))
    many = dataclasses.replace(undefined, noise_kernel=jnp.full(300, 0.1))
    with pytest.raises(ValueError, match="drift must be finite at the start"):
        simulate(many, initial=jnp.full(300, -1.0))


def test_a_drift_without_forward_derivatives_runs():
    @jax.custom_vjp
    def turned(h):
        return -h

    turned.defvjp(lambda h: (-h, None), lambda _, g: (-g,))
    paths = [
        simulate(srnn.System((), lambda params, h, u, rate=rate: rate(h), jnp.array([0.1]))).mean
        for rate in (turned, jnp.negative)
    ]
    np.testing.assert_array_equal(*paths)


def test_every_bounded_activation_is_warned_of(key):
    model = srnn.init(key, 1, 1)
    for act in ("tanh", "hard_tanh", "sin", lambda p: p / (1 + jnp.abs(p))):
        steep = model.replace(recurrent_kernel=jnp.array([[-50.0]]), activation=act)
        with pytest.warns(UserWarning, match="past the stability limit"):
            simulate(steep)


def test_a_step_that_float32_rounds_away_is_refused(key):
    """Decay 1 from 1 over ten million steps of 3e-8: float32 stays at .993, the answer is .741."""
    model = srnn.init(key, 1, 1, radius=0.0, noise=0.0, dtype="float32")
    options = {"t1": 0.3, "dt": 3e-8}
    with pytest.raises(ValueError, match="float32 rounds the steps away"):
        simulate(model, **options)
    simulate(model, t1=3e-6, dt=3e-8)  # a hundred of them do no harm


def test_eigenvalues_are_taken_once(key, monkeypatch):
    model = srnn.init(key, 1, 5, radius=0.3, activation="relu")
    simulate(model)
    taken = []
    eigvals = np.linalg.eigvals
    monkeypatch.setattr(np.linalg, "eigvals", lambda matrix: taken.append(1) or eigvals(matrix))
    simulate(model)
    simulate(srnn.init(key, 1, 5))  # of a tanh none at all
    assert not taken


def test_second_order_solvers_may_take_longer_steps(key):
    model = srnn.init(key, 1, 1, radius=0.0)
    with pytest.warns(UserWarning, match="coarse"):
        simulate(model, t1=2.0, dt=0.25)
    simulate(model, t1=2.0, dt=0.25, solver=diffrax.ShARK())
