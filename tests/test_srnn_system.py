"""Any drift with additive noise, against closed forms, the stochastic RNN, a density on a grid and simulation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn
from tests.oracles.srnn_fokker_planck import FokkerPlanck
from tests.oracles.srnn_ornstein_uhlenbeck import example

RUN = {"t1": 1.0, "dt": 0.05}


def linear(params, h, u):
    return -h @ params


def as_systems(model):
    """A tanh model as a system with its input added, and with its input inside the drift."""
    params = (model.decay, model.recurrent_kernel, model.bias, model.input_kernel)

    def still(p, h, u):
        return jnp.tanh(h @ p[1] + p[2]) - h * p[0]

    def driven(p, h, u):
        return still(p, h, u) + u @ p[3]

    added = srnn.System(params, still, model.noise_kernel, input_kernel=model.input_kernel)
    return added, srnn.System(params, driven, model.noise_kernel, input_size=2)


@pytest.mark.parametrize("method", ["adjoint", "malliavin"])
def test_an_ornstein_uhlenbeck_process_agrees_with_its_closed_form(key, method):
    model, ou, f, start = example()
    system = srnn.System(model.decay, linear, model.noise_kernel, input_kernel=model.input_kernel)
    paths = 50_000 if method == "malliavin" else 2000
    kernel = srnn.response_kernel(system, f, key=key, paths=paths, method=method, initial=start, **RUN)
    # the Euler chain is what is sampled: no bias, so 4 standard errors at every step
    assert np.abs((kernel.values - ou.chain(1.0, 0.05)[0]) / kernel.stderr).max() < 4


def test_a_system_is_the_srnn_that_it_spells_out(key):
    model = srnn.init(key, 2, 3, noise=0.5, radius=0.3).replace(bias=jnp.array([0.5, -0.3, 0.2]))
    control = jax.random.normal(key, (4, 2))
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 6}

    def f(h):
        return (h**3).sum()

    def everything(m, methods):
        yield srnn.drift(m, jnp.ones(3))
        yield srnn.simulate(m, control, save_steps=(0, 2, 4), **options)
        for order in (1, 2):
            for method in methods:
                yield srnn.response_kernel(
                    m, f, control=control, order=order, steps=(0, 3), method=method, **options
                ).values
        yield srnn.volterra_terms(m, f, control, max_order=2, **options)

    for system, methods in zip(
        as_systems(model), (("adjoint", "tangent", "malliavin"), ("adjoint", "tangent")), strict=True
    ):
        found, wanted = list(everything(system, methods)), list(everything(model, methods))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
            # the same numbers up to the order of sums, at powers of states
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_params_may_hold_what_is_no_number(key):
    network = eqx.nn.MLP(2, 2, 3, 1, key=key)
    options = {"t1": 0.25, "dt": 0.125, "key": key, "paths": 2}
    held = srnn.System(network, lambda p, h, u: p(h) - h, jnp.full(2, 0.5))
    read = srnn.System((), lambda p, h, u: network(h) - h, jnp.full(2, 0.5))
    found, wanted = (srnn.simulate(system, **options).values for system in (held, read))
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


@pytest.mark.slow
def test_a_double_well_agrees_with_the_fokker_planck_equation(key):
    """dh = (h − h³ + u) dt + .7 dB, from one well."""
    well = srnn.System((), lambda params, h, u: h - h**3 + u, jnp.array([0.7]))
    paths, dt = 40_000, 0.025
    start = -0.8 + 0.2 * jax.random.normal(jax.random.key(1), (paths, 1))
    oracle = FokkerPlanck(0, 0, 0, 1.0, 0.7, np.tanh, mean=-0.8, sd=0.2, drift=lambda x: x - x**3)
    at = (0, 20, 36)
    options = {"t1": 1.0, "dt": dt, "key": key, "paths": paths, "initial": start}
    kernel = srnn.response_kernel(well, lambda h: jnp.tanh(h[0]), steps=at, **options)
    exact = oracle.kernel(1.0, np.array(at) * dt + dt / 2)
    # 3 standard errors, and Euler's step: kernels of order 1 with rates up to 3
    assert (np.abs(kernel.values[:, 0] - exact) < 3 * kernel.stderr[:, 0] + 2 * dt).all()
    assert kernel.mismatch < 3
    mean = srnn.simulate(well, lambda t: jnp.cos(t)[None], readout=lambda h: jnp.tanh(h[0]), **options)
    assert abs(mean.mean[0] - oracle.response(np.cos, 1.0)) < 4 * mean.stderr[0] + dt


def rate_network(key):
    keys = jax.random.split(key, 3)
    return srnn.from_rate_network(
        0.8 * jax.random.normal(keys[0], (6, 6)) / 6**0.5,
        jax.random.normal(keys[1], (2, 6)),
        0.3 * jax.random.normal(keys[2], (6,)),
        time_constant=0.5,
        noise=0.3,
    )


def test_the_rate_network_is_its_equation(key):
    system = rate_network(key)
    recurrent, inputs, bias, _ = system.params
    h, u = jax.random.normal(key, (6,)), jnp.array([0.3, -1.0])
    wanted = (-h + jnp.tanh(h @ recurrent + u @ inputs + bias)) / 0.5
    np.testing.assert_allclose(system.drift(system.params, h, u), wanted, rtol=1e-13)


def test_the_series_of_an_input_inside_the_activation(key):
    """Three amplitudes against simulation with common random numbers: what is left falls as the next power."""
    system = rate_network(key)
    control = jnp.stack([jnp.sin(jnp.arange(20.0)), jnp.cos(0.3 * jnp.arange(20.0))], axis=1)
    options = RUN | {"key": key, "paths": 100}

    def f(h):
        return jnp.tanh(h).sum() + h[0] ** 2

    terms = srnn.volterra_terms(system, f, control, max_order=2, **options)
    kernel = srnn.response_kernel(system, f, **options)
    np.testing.assert_allclose(srnn.volterra(kernel, control, 0.05), terms.mean[:1], rtol=1e-9)  # one chunk each
    amplitudes = np.array([0.1, 0.05, 0.025])
    driven = [srnn.simulate(system, a * control, readout=f, **options).mean[0] for a in amplitudes]
    for order in (1, 2):
        predicted = sum(terms.mean[n - 1] * amplitudes**n for n in range(1, order + 1))
        errors = np.abs(np.array(driven) - terms.unperturbed - predicted)
        # amplitudes are small: 0.15 is what higher powers bend
        assert np.polyfit(np.log(amplitudes), np.log(errors), 1)[0] == pytest.approx(order + 1, abs=0.15)


def test_a_drift_is_never_stale(key):
    weights = np.array(1.0)
    system = srnn.System((), lambda params, h, u: -jnp.asarray(weights) * h, jnp.array([0.0]))
    options = {"t1": 1.0, "dt": 0.125, "key": key, "paths": 2, "initial": jnp.ones(1)}
    np.testing.assert_allclose(srnn.simulate(system, **options).mean, 0.875**8, rtol=1e-12)
    weights *= 0.5
    np.testing.assert_allclose(srnn.simulate(system, **options).mean, [[0.9375**8]], rtol=1e-12)


def test_bad_systems_are_refused(key, unchecked):
    options = {"t1": 1.0, "dt": 0.125, "key": key, "paths": 2}
    with pytest.raises(TypeError, match="noise_kernel must be an array"):
        srnn.System((), linear, lambda h: h)
    with pytest.raises(ValueError, match=r"drift must return \(2,\)"):
        srnn.simulate(srnn.System((), lambda params, h, u: h[:1], jnp.ones(2)), **options)
    with pytest.raises(ValueError, match="input_kernel"):
        srnn.simulate(srnn.System((), lambda params, h, u: -h, jnp.ones(2), jnp.ones((1, 3))), **options)
    with pytest.raises(ValueError, match="control"):
        srnn.simulate(srnn.System((), lambda params, h, u: -h, jnp.ones(2)), jnp.ones((8, 2)), **options)
    inside = srnn.System((), lambda params, h, u: u - h, jnp.ones(1))
    both = srnn.System((), lambda params, h, u: u - h, jnp.ones(1), jnp.ones((1, 1)))
    for system in (inside, both):
        with pytest.raises(ValueError, match="model must add its input"):
            srnn.response_kernel(system, lambda h: h[0], method="malliavin", **options)
        with pytest.raises(ValueError, match="model must add its input"):
            srnn.truncation_bound(system, jnp.ones((8, 1)), dt=0.125, order=1, readout_sd=1.0)
    with pytest.raises(ValueError, match="time_constant"):
        srnn.from_rate_network(jnp.eye(2), jnp.ones((1, 2)), jnp.zeros(2), time_constant=0.0, noise=0.1)
    with pytest.raises(ValueError, match="bias"):
        srnn.from_rate_network(jnp.eye(2), jnp.ones((1, 2)), jnp.zeros(3), noise=0.1)
    with pytest.raises(ValueError, match="noise must be"):
        srnn.from_rate_network(jnp.eye(2), jnp.ones((1, 2)), jnp.zeros(2), noise=jnp.ones(3))
    clash = srnn.System((), lambda params, h, u: -h, jnp.ones(1), jnp.ones((2, 1)), input_size=3)
    with pytest.raises(ValueError, match="input_kernel"):
        srnn.simulate(clash, **options)
