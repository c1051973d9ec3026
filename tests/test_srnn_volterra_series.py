import math

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn
from tests.oracles.srnn_fokker_planck import FokkerPlanck
from tests.oracles.srnn_ornstein_uhlenbeck import example

# the oracle of a coarse step is the chain of those steps
pytestmark = pytest.mark.filterwarnings("ignore:dt = .* is coarse")


def slopes(amplitudes, errors):
    return np.polyfit(np.log(amplitudes), np.log(np.abs(errors)), 1)[0]


def eight_units(key):
    model = srnn.init(key, 2, 8, noise=0.3, radius=0.8).replace(bias=jnp.linspace(-0.6, 0.7, 8))
    control = jnp.stack([jnp.sin(jnp.arange(16.0)), jnp.cos(0.3 * jnp.arange(16.0))], axis=1)
    return model, control


def readout(state):
    return jnp.tanh(state).sum() + state[0] ** 2


OPTIONS = {"t1": 2.0, "dt": 0.125}


def test_truncation_falls_with_the_order_along_every_path(key):
    """Slopes 2, 3, 4 for orders 1, 2, 3: n = 8, common random numbers, so no noise in the differences."""
    model, control = eight_units(key)
    options = OPTIONS | {"key": key, "paths": 100}
    terms = srnn.volterra_terms(model, readout, control, max_order=3, **options)
    amplitudes = np.array([0.1, 0.05, 0.025])
    driven = [srnn.simulate(model, a * control, readout=readout, **options).mean[0] for a in amplitudes]
    for order in (1, 2, 3):
        predicted = sum(terms.mean[n - 1] * amplitudes**n for n in range(1, order + 1))
        errors = np.array(driven) - terms.unperturbed - predicted
        # what is left are higher powers of amplitudes that are small; 0.15 is what is asked
        assert slopes(amplitudes, errors) == pytest.approx(order + 1, abs=0.15)


def test_truncation_falls_with_the_order_on_the_grid():
    oracle = FokkerPlanck(1.0, 1.5, 0.3, 0.8, 0.6, lambda x: np.tanh(x) + 0.5 * x**2, mean=-0.2, sd=0.4, points=161)
    terms = oracle.terms(np.cos, 1.0, 3)
    amplitudes = np.array([0.1, 0.05, 0.025])
    driven = np.array([oracle.response(lambda t, a=a: a * np.cos(t), 1.0) for a in amplitudes])
    for order in (1, 2, 3):
        predicted = sum(terms[n] * amplitudes**n for n in range(order + 1))
        # the grid's own series, exact but for rounding; powers beyond the next bend it a little
        assert slopes(amplitudes, driven - predicted) == pytest.approx(order + 1, abs=0.15)


@pytest.mark.slow
def test_terms_agree_with_the_fokker_planck_equation(key):
    model = srnn.SRNN(jnp.array([1.0]), jnp.array([[1.5]]), jnp.array([0.3]), jnp.array([[0.8]]), jnp.array([0.6]))
    oracle = FokkerPlanck(1.0, 1.5, 0.3, 0.8, 0.6, np.tanh, mean=-0.2, sd=0.4)
    exact = oracle.terms(np.cos, 1.0, 3)
    paths = 40_000
    terms = srnn.volterra_terms(
        model,
        lambda h: jnp.tanh(h[0]),
        lambda t: jnp.cos(t)[None],
        max_order=3,
        t1=1.0,
        dt=0.05,
        key=key,
        paths=paths,
        initial=-0.2 + 0.4 * jax.random.normal(jax.random.key(1), (paths, 1)),
        solver=diffrax.ShARK(),
    )
    assert terms.unperturbed == pytest.approx(exact[0], abs=0.01)
    # 4 standard errors, and 1e-3 for ShARK's step (0.05² of terms of order 1) and the grid
    assert (np.abs(terms.mean - exact[1:]) < 4 * terms.stderr + 1e-3).all()


@pytest.mark.slow
def test_terms_equal_sums_over_kernels(key):
    """Nested derivatives along the control, and kernels contracted over the ordered simplex: the same paths."""
    model, control = eight_units(key)
    options = OPTIONS | {"key": key, "paths": 40}
    terms = srnn.volterra_terms(model, readout, control, max_order=2, **options)
    kernels = [srnn.response_kernel(model, readout, order=n, **options) for n in (1, 2)]
    contributions = srnn.volterra(kernels, control, 0.125)
    # the adjoint of order 2 cuts paths into chunks with their own noise: equal within 5 standard errors
    assert (np.abs(contributions - terms.mean) < 5 * terms.stderr + 1e-12).all()
    np.testing.assert_allclose(srnn.volterra(kernels[0], control, 0.125), terms.mean[:1], rtol=1e-10)  # one chunk each


@pytest.mark.slow
@pytest.mark.parametrize("solver", [diffrax.Heun(), diffrax.ShARK()], ids=["heun", "shark"])
def test_solvers_with_stages_have_derivatives_of_every_order(key, solver):
    model, control = eight_units(key)
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 4, "solver": solver}
    terms = srnn.volterra_terms(model, readout, control[:4], max_order=3, **options)
    kernels = [srnn.response_kernel(model, readout, order=n, **options) for n in (1, 2)]
    # one chunk each: the same derivatives of the same paths
    np.testing.assert_allclose(srnn.volterra(kernels, control[:4], 0.125), terms.mean[:2], rtol=1e-10)


def test_series_of_a_linear_model_is_its_taylor_series():
    model, ou, f, start = example()
    control = jnp.ones((20, 2))
    terms = srnn.volterra_terms(
        model, f, control, max_order=4, t1=1.0, dt=0.05, key=jax.random.key(2), paths=4000, initial=start
    )
    # E sin(m + x + φ) e^{-v/2}: derivatives in x are ±sin, ±cos times powers of the push
    push = (ou.chain(1.0, 0.05)[0] * 0.05).sum()
    one = np.eye(4) - 0.05 * ou.decay
    mean = ou.start @ np.linalg.matrix_power(one, 20) @ ou.weights + ou.phase
    factor = push / np.cos(mean)  # e^{-v/2} x
    variance = 0.05 * sum(np.sum((ou.noise @ np.linalg.matrix_power(one, k) @ ou.weights) ** 2) for k in range(20))
    x = factor / np.exp(-variance / 2)
    derivatives = [np.cos(mean), -np.sin(mean), -np.cos(mean), np.sin(mean)]
    exact = np.array([np.exp(-variance / 2) * d * x**n / math.factorial(n) for n, d in enumerate(derivatives, 1)])
    assert (np.abs(terms.mean - exact) < 4 * terms.stderr).all()
    assert (terms.stderr < 0.02 * np.abs(x) ** np.arange(1, 5)).all()


def test_a_series_that_does_not_shrink_is_reported(key):
    model, control = eight_units(key)
    options = OPTIONS | {"key": key, "paths": 50, "max_order": 3}
    assert srnn.volterra_terms(model, readout, 0.1 * control, **options).shrinking
    assert not srnn.volterra_terms(model, readout, 30.0 * control, **options).shrinking
    # terms of order 2 and 3 that are exactly zero
    linear = model.replace(activation="identity", recurrent_kernel=jnp.zeros((8, 8)))
    assert srnn.volterra_terms(linear, lambda h: h[0], control, **options).shrinking
    # a cubic far beyond where its series converges: the last term is huge, and as uncertain as it is huge
    cubic = srnn.System((), lambda params, h, u: -h + 0.3 * h**3, jnp.array([0.3]), jnp.ones((1, 1)))
    wild = srnn.volterra_terms(cubic, lambda h: h[0] ** 3, jnp.full((16, 1), 40.0), **options)
    assert not wild.shrinking


def test_high_orders_are_warned_of(key):
    """Order 8 takes minutes: the warning, an error here, comes before anything is compiled."""
    model, control = eight_units(key)
    with pytest.raises(UserWarning, match="max_order = 8"):
        srnn.volterra_terms(model, readout, control, max_order=8, key=key, paths=2, **OPTIONS)


def test_terms_of_many_outputs(key):
    model, control = eight_units(key)
    options = OPTIONS | {"key": key, "paths": 20, "max_order": 2}
    both = srnn.volterra_terms(model, lambda h: jnp.stack([readout(h), h[1]]), control, **options)
    alone = [srnn.volterra_terms(model, f, control, **options) for f in (readout, lambda h: h[1])]
    for name in ("mean", "stderr", "unperturbed"):
        np.testing.assert_allclose(
            getattr(both, name), jnp.stack([getattr(terms, name) for terms in alone], axis=-1), rtol=1e-10
        )


@pytest.mark.slow
def test_divergent_paths_are_counted(key):
    model = srnn.init(key, 1, 2, noise=1.0, activation=lambda p: p**3)
    wild = jnp.where(jnp.arange(6)[:, None] < 2, 300.0, 0.01) * jnp.ones((6, 2))
    terms = srnn.volterra_terms(
        model, jnp.sum, jnp.ones((12, 1)), max_order=2, t1=1.5, dt=0.125, key=key, paths=6, initial=wild
    )
    assert terms.diverged == 2
    assert not np.isfinite(terms.mean).any()


@pytest.mark.parametrize("square", [1e-6, 0.3, 4.0, 60.0])
@pytest.mark.parametrize("order", [0, 1, 3, 8])
def test_bound_equals_its_formula(square, order):
    model = srnn.init(jax.random.key(0), 1, 1, noise=0.5).replace(input_kernel=jnp.array([[2.0]]))
    control = jnp.full((10, 1), math.sqrt(square / 10 / 0.1) * 0.5 / 2.0)  # θ = u C / σ
    bound = srnn.truncation_bound(model, control, dt=0.1, order=order, readout_sd=1.7)
    tail, term = 0.0, 1.0
    for n in range(1, 400):
        term *= square / n
        tail += term if n > order else 0.0
    assert bound == pytest.approx(1.7 * math.sqrt(tail), rel=1e-12)  # float64


def test_bound_is_infinite_where_it_overflows():
    model = srnn.init(jax.random.key(0), 1, 1, noise=0.01)
    assert srnn.truncation_bound(model, jnp.full((10, 1), 50.0), dt=0.1, order=1, readout_sd=1.0) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["tanh", "linear"])
def test_the_bound_holds(key, setting):
    if setting == "tanh":
        model, control = eight_units(key)
        f, start, options = readout, None, OPTIONS
    else:
        model, _, f, start = example()
        control, options = jnp.ones((16, 2)), {"t1": 1.0, "dt": 0.0625}
    paths = 2000
    options = options | {"key": key, "paths": paths, "initial": start}
    free = srnn.simulate(model, readout=f, **options).values
    # sd at its upper 99.9% limit; 3.1 standard errors of an sd of near-normal values, sd/sqrt(2 paths), twice over
    upper = free.std(ddof=1) * (1 + 2 * 3.1 / math.sqrt(2 * paths))
    for amplitude in (0.03, 0.15, 0.5):
        driven = srnn.simulate(model, amplitude * control, readout=f, **options).mean[0]
        terms = srnn.volterra_terms(model, f, amplitude * control, max_order=3, **options)
        for order in range(4):
            missed = driven - terms.unperturbed - terms.mean[:order].sum()
            bound = srnn.truncation_bound(model, amplitude * control, dt=options["dt"], order=order, readout_sd=upper)
            assert abs(missed) <= bound


def test_bad_arguments_are_refused(key, unchecked):
    model, control = eight_units(key)
    options = OPTIONS | {"key": key, "paths": 4}
    relu = model.replace(activation="relu")
    with pytest.raises(ValueError, match="activation relu has a kink"):
        srnn.volterra_terms(relu, readout, control, max_order=2, **options)
    srnn.volterra_terms(relu, readout, control, max_order=1, **options)
    for order in (0, 11):
        with pytest.raises(ValueError, match="max_order"):
            srnn.volterra_terms(model, readout, control, max_order=order, **options)
    with pytest.raises(TypeError, match=r"control must be .* got None"):
        srnn.volterra_terms(model, readout, None, max_order=1, **options)
    kernel = srnn.response_kernel(model, readout, **options)
    with pytest.raises(TypeError, match=r"kernels must be one srnn\.Kernel"):
        srnn.volterra(kernel.values, control, 0.125)
    with pytest.raises(ValueError, match="kernels must be of order 1, then 2"):
        srnn.volterra([kernel, kernel], control, 0.125)
    with pytest.raises(ValueError, match="control"):
        srnn.volterra(kernel, control[1:], 0.125)
    some = srnn.response_kernel(model, readout, steps=[1, 5], **options)
    with pytest.raises(ValueError, match="kernels must be on all steps"):
        srnn.volterra(some, control[:2], 0.125)
    bound = {"dt": 0.125, "order": 1, "readout_sd": 1.0}
    silent = model.replace(noise_kernel=model.noise_kernel.at[2].set(0.0))
    with pytest.raises(ValueError, match=r"control @ model\.input_kernel pushes the state where no noise reaches"):
        srnn.truncation_bound(silent, control, **bound)
    assert jax.jit(lambda m: srnn.truncation_bound(m, control, **bound))(silent) == np.inf
    with pytest.raises(ValueError, match="readout_sd"):
        srnn.truncation_bound(model, control, **bound | {"readout_sd": float("nan")})
    with pytest.raises(ValueError, match="control"):
        srnn.truncation_bound(model, control.at[0, 0].set(jnp.inf), **bound)
    with pytest.raises(ValueError, match="order"):
        srnn.truncation_bound(model, control, **bound | {"order": -1})


@pytest.mark.parametrize("order", [36, 60])
def test_bound_does_not_underflow_in_float32(order):
    model = srnn.init(jax.random.key(0), 1, 1, noise=0.5).replace(input_kernel=jnp.array([[2.0]]))
    control = jnp.full((10, 1), math.sqrt(30.0) * 0.5 / 2.0)
    narrow = jax.tree.map(lambda x: x.astype(jnp.float32), model)
    options = {"dt": 0.1, "order": order, "readout_sd": 1.0}
    exact = srnn.truncation_bound(model, control, **options)
    got = srnn.truncation_bound(narrow, control.astype(jnp.float32), **options)
    assert exact > 0
    # logarithms of size 100 in float32: 100 times its rounding
    assert got == pytest.approx(float(exact), rel=1e-4)
    assert srnn.truncation_bound(model, 0 * control, **options) == 0


def test_a_readout_does_not_hide_divergence(key):
    model = srnn.init(key, 1, 2, noise=1.0, activation=lambda p: p**3)
    wild = jnp.where(jnp.arange(6)[:, None] < 2, 300.0, 0.01) * jnp.ones((6, 2))
    terms = srnn.volterra_terms(
        model,
        lambda h: jnp.nan_to_num(jnp.clip(h[0], -1, 1)),
        jnp.ones((12, 1)),
        max_order=1,
        t1=1.5,
        dt=0.125,
        key=key,
        paths=6,
        initial=wild,
    )
    assert terms.diverged == 2
    assert np.isnan(terms.mean).all()
    assert np.isnan(terms.unperturbed)


def test_kernels_of_other_steps_are_refused(key, unchecked):
    model, control = eight_units(key)
    kernels = [
        srnn.response_kernel(model, readout, order=n, t1=n * 0.25, dt=n * 0.125, key=key, paths=2) for n in (1, 2)
    ]
    with pytest.raises(ValueError, match="kernels must be of order 1, then 2, on the same steps; got other times"):
        srnn.volterra(kernels, control[:2], 0.125)
    with pytest.raises(ValueError, match="kernels must be on all steps from 0 at this dt"):
        srnn.volterra(kernels[0], control[:2], 0.25)


def test_a_weak_push_out_of_range_is_refused_beside_a_strong_one(key, unchecked):
    model = srnn.init(key, 2, 2).replace(input_kernel=jnp.array([[1e12, 0.0], [0.0, 1e-3]]))
    model = model.replace(noise_kernel=jnp.array([[1.0, 0.0]]))
    bound = {"dt": 0.125, "order": 1, "readout_sd": 1.0}
    with pytest.raises(ValueError, match=r"no noise reaches \(row 1, unit 1\)"):
        srnn.truncation_bound(model, jnp.eye(2), **bound)
    with pytest.raises(ValueError, match="no noise reaches"):  # all concrete, while something else is traced
        jax.jit(lambda x: x * srnn.truncation_bound(model, np.eye(2), **bound))(1.0)
