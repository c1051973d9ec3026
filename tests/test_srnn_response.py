import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn
from srnn import response
from tests.oracles import srnn_scan
from tests.oracles.srnn_fokker_planck import FokkerPlanck
from tests.oracles.srnn_ornstein_uhlenbeck import example

# the oracle of a coarse step is the chain of those steps
pytestmark = pytest.mark.filterwarnings("ignore:dt = .* is coarse")

METHODS = ("adjoint", "tangent", "malliavin")
T1, DT, STEPS = 1.0, 0.05, 20


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_every_method_agrees_with_the_closed_form(key, method, order):
    model, ou, f, start = example()
    dt = DT if order == 1 else 0.125
    paths = 100_000 if method == "malliavin" else 2_000
    kernel = srnn.response_kernel(
        model, f, t1=T1, dt=dt, key=key, paths=paths, order=order, method=method, initial=start
    )
    exact = ou.chain(T1, dt)[order - 1]
    # the Euler chain is what is sampled: no bias, so 4 standard errors at every step
    assert np.abs((kernel.values - exact) / kernel.stderr).max() < 4
    # and small enough to tell; the weights of Malliavin's second order have a variance of 1/dt²
    assert kernel.stderr.max() < (1.0 if (method, order) == ("malliavin", 2) else 0.15) * np.abs(exact).max()
    np.testing.assert_allclose(kernel.times, np.arange(round(T1 / dt)) * dt)
    np.testing.assert_allclose(kernel.lags, T1 - kernel.times)
    assert kernel.diverged == 0


def test_the_chain_goes_to_continuous_time_with_the_step():
    _, ou, _, _ = example()
    for order in (0, 1):
        exact = ou.flow(T1, [0.0, 0.5])[order]
        errors = [
            np.abs(ou.chain(T1, dt)[order][np.ix_(*[[0, round(0.5 / dt)]] * (order + 1))] - exact).max()
            for dt in (0.02, 0.01, 0.005)
        ]
        # Euler's bias: half at half the step
        np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 2, atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [diffrax.Heun(), diffrax.ShARK()], ids=["heun", "shark"])
def test_second_order_solvers_have_a_smaller_bias(key, solver):
    model, ou, f, start = example()
    dt, steps = 0.1, 10
    kernel = srnn.response_kernel(model, f, t1=T1, dt=dt, key=key, paths=20_000, initial=start, solver=solver)
    # an impulse spread over a step is the continuous kernel's mean over the step
    fine = ou.flow(T1, (np.arange(20 * steps) + 0.5) * dt / 20)[0].reshape(steps, 20, 2).mean(axis=1)
    bias = np.abs(kernel.values - fine) - 4 * kernel.stderr
    euler_bias = np.abs(ou.chain(T1, dt)[0] - fine).max()
    assert bias.max() < 0.2 * euler_bias


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", [1, 2])
def test_standard_errors_cover(method, order):
    model, ou, f, start = example()
    dt, chosen = 0.125, (1, 5)
    exact = ou.chain(T1, dt)[order - 1]
    exact = exact[np.ix_(*[chosen] * order)]

    @jax.jit
    @jax.vmap
    def z_scores(key):
        kernel = srnn.response_kernel(
            model, f, t1=T1, dt=dt, key=key, paths=400, order=order, steps=chosen, method=method, initial=start
        )
        return (kernel.values - exact) / kernel.stderr

    z = z_scores(jax.random.split(jax.random.key(3), 200))
    covered = (np.abs(z) < 1.96).mean(axis=0)
    # 200 repeats at 95%: one coverage is known to ±1.5%; 90–98% is asked for at the mean over entries
    assert 0.90 <= covered.mean() <= 0.98
    assert covered.min() > 0.88


def fokker_planck():
    """A tanh unit with a bias, started from a normal distribution."""
    model = srnn.SRNN(
        decay=jnp.array([1.0]),
        recurrent_kernel=jnp.array([[1.5]]),
        bias=jnp.array([0.3]),
        input_kernel=jnp.array([[0.8]]),
        noise_kernel=jnp.array([0.6]),
    )
    oracle = FokkerPlanck(1.0, 1.5, 0.3, 0.8, 0.6, np.tanh, mean=-0.2, sd=0.4)
    return model, oracle


@pytest.mark.slow
def test_adjoint_kernel_of_a_tanh_unit_agrees_with_the_fokker_planck_equation(key):
    model, oracle = fokker_planck()
    bias, spread = [], []
    for dt in (0.1, 0.05):
        paths, steps = 400_000, round(1 / dt)
        start = -0.2 + 0.4 * jax.random.normal(jax.random.key(1), (paths, 1))
        kernel = srnn.response_kernel(
            model, lambda h: jnp.tanh(h[0]), t1=1.0, dt=dt, key=key, paths=paths, initial=start
        )
        exact = oracle.kernel(1.0, np.arange(steps) * dt + dt / 2)  # at the middle of each step
        at = np.linspace(0, 1, 10, endpoint=False)
        error = np.asarray(kernel.values[:, 0]) - exact
        index = np.round(at / dt).astype(int)
        bias.append(error[index])
        spread.append(np.asarray(kernel.stderr[index, 0]))
    # 3 standard errors plus the bias of Euler's step, which is at most 0.25 dt here and halves with dt
    for dt, error, stderr in zip((0.1, 0.05), bias, spread, strict=True):
        assert (np.abs(error) < 3 * stderr + 0.25 * dt).all()
    ratio = np.abs(bias[0]).mean() / np.abs(bias[1]).mean()
    assert 1.4 < ratio < 2.9  # 2, with the standard errors' share


@pytest.mark.slow
def test_the_estimate_does_not_depend_on_how_paths_are_cut(key, monkeypatch):
    model, _, f, start = example()

    def kernel():
        jax.clear_caches()
        return srnn.response_kernel(model, f, t1=T1, dt=0.25, key=key, paths=1001, initial=start)

    whole = kernel()
    chunks_of = response.chunks_of
    monkeypatch.setattr(response, "chunks_of", lambda paths, size: chunks_of(paths, size, budget=100 * size))
    cut = kernel()
    # other random numbers, so equal within their common standard error; and the same size of it (2.2% of noise)
    z = (whole.values - cut.values) / np.hypot(whole.stderr, cut.stderr)
    assert 1e-6 < np.abs(z).max() < 4
    np.testing.assert_allclose(cut.stderr, whole.stderr, rtol=0.15)


@pytest.mark.parametrize("paths", [2, 3, 7, 100, 101, 1024])
@pytest.mark.parametrize("most", [2, 5, 50, 5000])
def test_chunks_hold_every_path_once(paths, most):
    chunks = response.chunks_of(paths, 1.0, budget=most)
    counted = np.asarray(chunks.counted(jnp.float32))
    assert counted.sum() == paths
    assert counted.sum(axis=1).min() >= 2  # each has a variance
    rows = jnp.arange(paths, dtype=float)[:, None]
    np.testing.assert_array_equal(np.sort(np.asarray(chunks.cut(rows))[counted == 1][:, 0]), np.arange(paths))


def test_pooled_moments_equal_those_of_all_paths(key):
    from srnn.statistics import moments, pool

    values = 1e4 + jax.random.normal(key, (23, 5))
    chunks = response.chunks_of(23, 1.0, budget=6)
    mean, stderr = pool(jax.vmap(moments)(chunks.cut(values), chunks.counted(values.dtype)))
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-13)
    # deviations of 1 from 1e4 lose 4 digits of 16, and squares another 4 would be lost without the shift
    np.testing.assert_allclose(stderr, values.std(axis=0, ddof=1) / np.sqrt(23), rtol=1e-10)


@pytest.mark.slow
def test_weak_and_gaussian_runs_give_the_same_kernel(key):
    model, _ = fokker_planck()
    options = {"t1": 1.0, "dt": 0.05, "paths": 20_000}
    gaussian = srnn.response_kernel(model, jnp.sum, key=key, **options)
    weak = srnn.response_kernel(model, jnp.sum, key=jax.random.key(5), increments="two_point", **options)
    # 4 standard errors at each of 20 steps; the bias of weak order 1 is below them (1e-3)
    assert (np.abs(gaussian.values - weak.values) <= 4 * np.hypot(gaussian.stderr, weak.stderr) + 1e-12).all()


@pytest.mark.slow
def test_kernel_about_a_control(key):
    """The kernel at u is the derivative of the response there: against common random numbers."""
    model, _ = fokker_planck()
    control, direction = jnp.ones((8, 1)), jnp.sin(jnp.arange(8.0))[:, None]
    options = {"t1": 1.0, "dt": 0.125, "key": key, "paths": 500}
    kernel = srnn.response_kernel(model, jnp.sum, control=control, **options)
    ends = [srnn.simulate(model, control + s * direction, readout=jnp.sum, **options).mean[0] for s in (1e-5, -1e-5)]
    # central differences at 1e-5: rounding 1e-11; one chunk has the random numbers of `simulate`
    np.testing.assert_allclose((kernel.values * direction).sum() * 0.125, (ends[0] - ends[1]) / 2e-5, rtol=1e-7)


def test_second_order_kernels_are_the_same_by_adjoint_and_tangent(key):
    model = srnn.init(key, 2, 3, noise=0.5).replace(bias=jnp.array([0.5, -0.3, 0.2]))
    options = {"t1": 1.0, "dt": 0.125, "key": key, "paths": 10, "order": 2, "steps": (0, 3, 7)}
    adjoint = srnn.response_kernel(model, lambda h: (h**3).sum(), method="adjoint", **options)
    tangent = srnn.response_kernel(model, lambda h: (h**3).sum(), method="tangent", **options)
    # the same derivatives of the same paths
    np.testing.assert_allclose(adjoint.values, tangent.values, atol=1e-12)
    np.testing.assert_allclose(adjoint.stderr, tangent.stderr, atol=1e-12)
    np.testing.assert_allclose(adjoint.values, adjoint.values.transpose(1, 0, 3, 2), atol=1e-12)
    assert np.abs(adjoint.values).min() > 0


@pytest.mark.slow
def test_drift_tells_a_run_that_is_not_stationary(key):
    model = srnn.init(key, 1, 3, radius=0.5, noise=0.5).replace(bias=jnp.array([0.5, -0.3, 0.2]))
    options = {"t1": 1.0, "dt": 0.1, "key": key, "paths": 2000, "initial": jnp.full(3, 2.0)}
    early = srnn.response_kernel(model, jnp.sum, burn_in=0.5, **options)
    late = srnn.response_kernel(model, jnp.sum, burn_in=15.0, **options)
    assert np.abs(early.trend).max() > 10
    assert np.abs(late.trend).max() < 4  # z-scores of a stationary run
    # the stationary kernel does not know its start
    again = srnn.response_kernel(model, jnp.sum, burn_in=15.0, **options | {"initial": None, "key": jax.random.key(4)})
    # 4 standard errors; the last step's kernel is a sum of weights and has none
    assert (np.abs(late.values - again.values) <= 4 * np.hypot(late.stderr, again.stderr) + 1e-12).all()


def test_growth_is_that_of_the_linear_flow(key):
    decay = jnp.array([[1.0, -6.0], [0.0, 1.0]])  # far from normal: the flow grows before it decays
    model = srnn.init(key, 1, 2, radius=0.0).replace(
        decay=decay, input_kernel=jnp.array([[0.3, 0.0]]), activation="identity"
    )
    options = {"t1": 2.0, "dt": 0.05, "key": key, "paths": 2}
    one = np.eye(2) - 0.05 * (np.asarray(decay))
    powers = [np.linalg.matrix_power(one, k) for k in range(41)]
    adjoint = srnn.response_kernel(model, lambda h: h[1], **options)
    assert adjoint.growth == pytest.approx(max(np.linalg.norm(p[:, 1]) for p in powers[1:]), rel=1e-9)
    tangent = srnn.response_kernel(model, lambda h: h[1], method="tangent", **options)
    assert tangent.growth == pytest.approx(max(np.linalg.norm(p[0]) for p in powers[:-1]), rel=1e-9)
    assert adjoint.growth > 1.9
    # of pairs of steps, the growth of the earlier impulse and of the later one
    twice = options | {"t1": 0.4, "order": 2, "steps": (2, 5), "method": "tangent"}
    second = srnn.response_kernel(model, lambda h: h[1] ** 2, **twice)
    assert second.growth == pytest.approx(max(np.linalg.norm(powers[7 - k][0]) for k in (2, 5)), rel=1e-9)
    assert srnn.response_kernel(model, lambda h: h[1], method="malliavin", **options | {"t1": 0.1}).growth is None


def test_divergent_paths_are_counted(key):
    model = srnn.init(key, 1, 2, noise=1.0, activation=lambda p: p**3)
    wild = jnp.where(jnp.arange(6)[:, None] < 2, 300.0, 0.01) * jnp.ones((6, 2))
    kernel = srnn.response_kernel(model, jnp.sum, t1=1.5, dt=0.125, key=key, paths=6, initial=wild)
    assert kernel.diverged == 2
    assert not np.isfinite(kernel.values[0]).any()


def test_a_kinked_activation_has_first_order_and_malliavin_only(key):
    model = srnn.init(key, 1, 3, noise=1.0, radius=0.5, activation="relu").replace(bias=jnp.array([0.1, -0.2, 0.0]))
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 20_000, "steps": (0, 3)}
    first = srnn.response_kernel(model, jnp.sum, **options)
    weighed = srnn.response_kernel(model, jnp.sum, method="malliavin", **options)
    assert np.abs((first.values - weighed.values) / np.hypot(first.stderr, weighed.stderr)).max() < 4
    assert first.mismatch < 3
    assert weighed.mismatch is None
    assert srnn.response_kernel(model, jnp.sum, order=2, method="malliavin", **options).values.shape == (2, 2, 1, 1)
    for method in ("adjoint", "tangent"):
        with pytest.raises(ValueError, match=r"activation relu has a kink.* method='malliavin'"):
            srnn.response_kernel(model, jnp.sum, order=2, method=method, **options)
    # a relu of the caller's is not known by name: every second derivative is zero, first ones differ
    own = model.replace(activation=lambda p: jnp.maximum(p, 0))
    few = options | {"paths": 64, "order": 2}
    assert srnn.response_kernel(own, jnp.sum, **few).mismatch == np.inf
    with pytest.raises(ValueError, match="activation elu has a kink"):
        srnn.volterra_terms(model.replace(activation="elu"), jnp.sum, jnp.ones((4, 1)), max_order=3, t1=0.5, dt=0.125,
                            key=key, paths=4)  # fmt: skip


def test_bad_arguments_are_refused(key, unchecked):
    model, _, f, start = example()
    good = {"t1": 1.0, "dt": 0.125, "key": key, "paths": 8, "initial": start}
    cases = [
        (ValueError, r"order must be 1 or 2, got 3; srnn\.volterra_terms", {"order": 3}),
        (ValueError, "method", {"method": "reverse"}),
        (ValueError, '"malliavin" weighs with Gaussian noise', {"method": "malliavin", "increments": "two_point"}),
        (ValueError, "paths", {"paths": 1}),
        (ValueError, "steps", {"steps": [8]}),
        (ValueError, "burn_in must be a whole number of steps", {"burn_in": 0.3}),
        (TypeError, "readout", {"readout": lambda h: h[:, None]}),
        (TypeError, "readout", {"readout": 3}),
        (TypeError, "compare", {"compare": 1}),
        (ValueError, "control must be finite", {"control": jnp.full((8, 2), jnp.nan)}),
    ]
    for error, match, options in cases:
        with pytest.raises(error, match=match):
            srnn.response_kernel(model, **{"readout": f, **good, **options})
    silent = model.replace(noise_kernel=model.noise_kernel[:2])
    with pytest.raises(ValueError, match=r"model\.input_kernel pushes the state where no noise reaches"):
        srnn.response_kernel(silent, f, method="malliavin", **good)
    srnn.response_kernel(silent, f, method="adjoint", **good)
    call = functools.partial(srnn.response_kernel, model, f, t1=2000.0, dt=0.125, key=key, paths=8, order=2)
    with pytest.raises(
        ValueError, match=r"at 16000 steps, 2 inputs and 1 outputs has 1024000000 numbers.* choose fewer steps"
    ):
        call()


def test_what_cannot_be_refused_under_tracing_is_nan(key):
    model, _, f, start = example()

    @jax.jit
    def values(noise_kernel):
        silent = model.replace(noise_kernel=noise_kernel)
        return srnn.response_kernel(
            silent, f, t1=1.0, dt=0.25, key=key, paths=8, initial=start, method="malliavin"
        ).values

    assert np.isnan(values(model.noise_kernel[:2])).all()
    assert np.isfinite(values(model.noise_kernel)).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_readout_does_not_hide_divergence(key, method):
    model = srnn.init(key, 1, 2, noise=1.0, activation=lambda p: p**3)
    wild = jnp.where(jnp.arange(6)[:, None] < 2, 300.0, 0.01) * jnp.ones((6, 2))
    kernel = srnn.response_kernel(
        model,
        lambda h: jnp.nan_to_num(jnp.clip(h[0], -1, 1)),
        t1=1.5,
        dt=0.125,
        key=key,
        paths=6,
        initial=wild,
        method=method,
        steps=(0, 11),
    )
    assert kernel.diverged == 2
    assert np.isnan(kernel.values).all()


def test_a_concrete_push_out_of_range_is_refused_under_tracing(key, unchecked):
    model, _, f, start = example()
    silent = model.replace(noise_kernel=model.noise_kernel[:2])
    options = {"t1": 1.0, "dt": 0.25, "key": key, "paths": 4, "initial": start, "method": "malliavin"}
    with pytest.raises(ValueError, match="no noise reaches"):
        jax.jit(lambda x: x * srnn.response_kernel(silent, f, **options).values)(1.0)


def ball():
    """A model whose states pass where the readout jumps, and what the indicator answers to an impulse at 0."""
    model = srnn.init(jax.random.key(0), 1, 2, noise=0.5, radius=0.5)
    return model, lambda h: (h @ h < 0.25).astype(h.dtype)


@pytest.mark.parametrize("method", ["adjoint", "tangent"])
def test_a_kernel_that_misses_a_jump_says_so(key, method):
    model, indicator = ball()
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 4096, "steps": (0, 3), "initial": jnp.array([0.3, -0.2])}
    for jump in (indicator, lambda h: jnp.sign(h[0])):
        kernel = srnn.response_kernel(model, jump, method=method, **options)
        assert not kernel.values.any()
        assert kernel.mismatch == np.inf
    kernel = srnn.response_kernel(model, indicator, method="malliavin", **options | {"paths": 200_000})
    assert np.abs(kernel.values / kernel.stderr).max() > 10  # there is a response


def test_a_steep_step_is_noticed(key):
    """Its slope is finite, and met by next to no path: zero derivatives with zero errors, in the mean of them all."""
    model, _ = ball()
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 4096, "steps": (0, 3), "initial": jnp.array([0.3, -0.2])}
    steep = srnn.response_kernel(model, lambda h: jax.nn.sigmoid(1e7 * (h[0] - 0.2)), **options)
    assert 3 < steep.mismatch < np.inf
    smooth = srnn.response_kernel(model, lambda h: jax.nn.sigmoid(30 * (h[0] - 0.2)), **options)
    assert smooth.mismatch < 3
    assert srnn.response_kernel(model, lambda h: h[0], compare=False, **options).mismatch is None


def test_jumps_are_seen_at_every_order_and_in_what_is_made_of_derivatives(key):
    model, indicator = ball()
    options = {"t1": 0.25, "dt": 0.125, "key": key, "paths": 256, "initial": jnp.array([0.3, -0.2])}
    assert srnn.response_kernel(model, indicator, order=2, **options).mismatch == np.inf
    terms = srnn.volterra_terms(model, indicator, jnp.ones((2, 1)), max_order=2, **options)
    balance = srnn.fluctuation_dissipation(model, indicator, burn_in=0.0, **options)
    assert terms.mismatch == balance.mismatch == np.inf
    assert srnn.fluctuation_dissipation(model, jnp.sum, burn_in=0.0, compare=False, **options).mismatch is None


def test_what_the_input_does_not_meet_is_no_jump(key):
    """Two units without a connection, and an input to the first."""
    model = srnn.SRNN(jnp.ones(2), jnp.zeros((2, 2)), jnp.zeros(2), jnp.array([[1.0, 0.0]]), jnp.full(2, 0.5))
    options = {"t1": 0.25, "dt": 0.125, "key": key, "paths": 64}
    assert srnn.response_kernel(model, lambda h: h[1], **options).mismatch == 0
    assert srnn.response_kernel(model, lambda h: h[0] * h[1], order=2, **options).mismatch < 3


def test_a_readout_that_does_not_change_has_no_trend(key):
    model = srnn.init(key, 1, 2)
    with jax.debug_nans(True):
        kernel = srnn.response_kernel(model, lambda h: 1 + 0 * h[0], t1=0.25, dt=0.125, key=key, paths=4)
    np.testing.assert_array_equal(kernel.trend, 0)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1, 2])
def test_smooth_kernels_are_believed(order):
    """Below 3 in 95% of 200 smooth cases."""

    @jax.jit
    @jax.vmap
    def mismatches(key):
        keys = jax.random.split(key, 3)
        model = srnn.init(keys[0], 2, 3, noise=0.5, radius=0.8)
        model = model.replace(bias=jax.random.normal(keys[1], (3,)))
        weights = jax.random.normal(keys[2], (3,))
        return srnn.response_kernel(
            model, lambda h: jnp.tanh(h @ weights) + h[0] ** 2, t1=1.0, dt=0.125, key=key, paths=64, order=order,
            steps=(0, 3, 7),
        ).mismatch  # fmt: skip

    found = mismatches(jax.random.split(jax.random.key(8), 200))
    assert (found < 3).mean() >= 0.95


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", [1, 2])
def test_a_readout_of_many_outputs_has_a_kernel_for_each(key, method, order):
    model = srnn.init(key, 2, 3, noise=0.5).replace(bias=jnp.array([0.5, -0.3, 0.2]))
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 40, "order": order, "steps": (0, 3), "method": method}
    both = srnn.response_kernel(model, lambda h: jnp.stack([h[0] ** 3, jnp.tanh(h[1])]), **options)
    first = srnn.response_kernel(model, lambda h: h[0] ** 3, **options)
    second = srnn.response_kernel(model, lambda h: jnp.tanh(h[1]), **options)
    for name in ("values", "stderr", "trend", "groups"):
        alone = [getattr(kernel, name) for kernel in (first, second)]
        if alone[0] is not None:
            # the same derivatives of the same paths
            np.testing.assert_allclose(getattr(both, name), jnp.stack(alone, axis=-1), rtol=1e-9, atol=1e-12)


def test_groups_are_means_over_groups_of_paths(key):
    model = srnn.init(key, 2, 3, noise=0.5).replace(bias=jnp.array([0.5, -0.3, 0.2]))
    options = {"t1": 0.5, "dt": 0.125, "key": key, "steps": (0, 3)}
    for paths in (320, 5):
        for method in METHODS:
            kernel = srnn.response_kernel(model, jnp.tanh, paths=paths, method=method, **options)
            assert kernel.groups.shape == (min(32, paths), 2, 2, 3)
            np.testing.assert_allclose(kernel.groups.mean(axis=0), kernel.values, atol=1e-12)
    spread = kernel.groups.std(axis=0, ddof=1) / np.sqrt(5)  # five paths, five groups
    np.testing.assert_allclose(spread, kernel.stderr, rtol=1e-9)


def test_a_weak_push_beside_a_strong_one_is_looked_at_by_itself(key):
    """Noise on one unit; pushes of 1 there and of 1e-4 on another, which no noise reaches."""
    model = srnn.SRNN(
        jnp.ones(2), jnp.zeros((2, 2)), jnp.zeros(2), jnp.eye(2), jnp.array([1.0, 0.0]), activation="identity"
    )
    weak = model.replace(input_kernel=jnp.array([[1.0, 1e-4]]))
    options = {"t1": 1.0, "dt": 0.125, "key": key, "paths": 4}
    bound = {"dt": 0.125, "order": 1, "readout_sd": 0.0}
    with pytest.raises(ValueError, match=r"model\.input_kernel pushes .* \(row 0, unit 1\)"):
        srnn.response_kernel(weak, lambda h: h[1], method="malliavin", **options)
    with pytest.raises(ValueError, match=r"control @ model\.input_kernel pushes"):
        srnn.truncation_bound(model, jnp.array([[1.0, 1e-4]]), **bound)
    # the reverse: weak noise reaches a weak push
    for dtype in ("float32", "float64"):
        for kernel in (jnp.array([1.0, 1e-6]), jnp.diag(jnp.array([1.0, 1e-6]))):
            reached = model.replace(noise_kernel=kernel, input_kernel=jnp.array([[0.0, 1e-6]]))
            reached = jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), reached)
            found = srnn.truncation_bound(reached, jnp.ones((8, 1), dtype), dt=0.125, order=0, readout_sd=1.0)
            assert found == pytest.approx(np.sqrt(np.e - 1), rel=1e-5)  # ‖θ‖² = 1
    # of which the square is beyond float32
    faint = jax.tree.map(lambda x: x.astype("float32"), model).replace(
        noise_kernel=jnp.array([1.0, 1e-30], "float32"), input_kernel=jnp.array([[0.0, 1e-30]], "float32")
    )
    found = srnn.truncation_bound(faint, jnp.ones((8, 1), "float32"), dt=0.125, order=0, readout_sd=1.0)
    assert found == pytest.approx(np.sqrt(np.e - 1), rel=1e-5)


def test_valid_input_passes_under_debug_nans(key):
    model, _, f, start = example()
    options = {"t1": 0.5, "dt": 0.25, "key": key, "paths": 4, "initial": start}
    with jax.debug_nans(True):
        for method in METHODS:
            srnn.response_kernel(model, f, method=method, **options)
        srnn.simulate(model, **options)
        srnn.truncation_bound(model, jnp.ones((4, 2)), dt=0.25, order=1, readout_sd=1.0)


def test_readouts_are_read_at_every_call(key):
    """A readout that closes over w, and w made −3 of it, or over weights that are updated in place."""
    model = srnn.init(key, 1, 4, noise=0.3)
    w = np.array([1.0, 0.0, 0.0, 0.0])
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 16}
    kernel = functools.partial(srnn.response_kernel, model, lambda h: h @ jnp.asarray(w), **options)
    before = kernel().values
    w *= -3
    np.testing.assert_allclose(kernel().values, -3 * before, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("steps", [2, 20])
def test_a_path_takes_the_memory_that_chunks_are_cut_by(monkeypatch, method, order, steps):
    planned, cut = [], response.chunks_of

    def one_chunk(paths, size):
        planned.append(size)
        return cut(paths, size, budget=paths * size)

    monkeypatch.setattr(response, "chunks_of", one_chunk)
    model, paths = srnn.init(jax.random.key(0), 2, 24, noise=0.5), 64

    def kernel(key):
        chosen = {2: (0, 1), 20: (0, 3, 7, 15)}[steps]
        return srnn.response_kernel(
            model, jnp.sum, t1=steps / 8, dt=1 / 8, key=key, paths=paths, order=order, steps=chosen, method=method,
            compare=False,
        )  # fmt: skip

    plan = jax.jit(kernel).lower(jax.random.key(1)).compile().memory_analysis()
    # a bound from above: XLA has some of these numbers in the same buffers
    assert 0.2 < plan.temp_size_in_bytes / (paths * planned[0]) < 1.1


def test_drift_is_the_change_of_both_moments_over_its_standard_error(key):
    model = srnn.init(key, 1, 3, noise=0.5)
    start = 1 + jax.random.normal(jax.random.key(2), (12, 3))
    options = {"t1": 0.5, "dt": 0.125, "key": key, "paths": 12, "initial": start}
    kernel = srnn.response_kernel(model, jnp.sum, steps=(0,), **options)
    # one chunk has the random numbers of `simulate`
    after, before = srnn.simulate(model, **options).values[:, -1].sum(axis=-1), start.sum(axis=-1)
    change = np.stack([after - before, after**2 - before**2])
    wanted = change.mean(axis=1) / (change.std(axis=1, ddof=1) / np.sqrt(12))
    np.testing.assert_allclose(kernel.trend, wanted, rtol=1e-9)  # float64


def test_second_malliavin_weights_are_hermite_polynomials_of_the_noise(key):
    model, paths, dt = srnn.init(key, 2, 3, noise=0.5), 12, 0.125
    options = {"t1": 2 * dt, "dt": dt, "key": key, "paths": paths}
    kernel = srnn.response_kernel(model, jnp.sum, order=2, method="malliavin", **options)
    # one chunk has the random numbers of `simulate`, which are those of the key with the step folded in
    f = np.asarray(srnn.simulate(model, **options).values[:, -1].sum(axis=-1))
    noise = np.stack([dt**0.5 * srnn_scan.normal(jax.random.fold_in(key, k), paths, 3) for k in range(2)])
    shift = np.asarray(model.input_kernel / model.noise_kernel)
    first = noise @ shift.T / dt  # (step, path, input)
    weights = np.einsum("kpi,lpj->klpij", first, first)
    weights -= np.eye(2)[:, :, None, None, None] * (shift @ shift.T / dt)
    others = (f.sum() - f) / (paths - 1)
    samples = (f - others)[:, None, None] * weights
    np.testing.assert_allclose(kernel.values, samples.mean(axis=2), rtol=1e-9)
    np.testing.assert_allclose(kernel.stderr, samples.std(axis=2, ddof=1) / np.sqrt(paths), rtol=1e-9)


def test_an_input_that_pushes_nowhere_needs_no_noise(key):
    model = srnn.init(key, 1, 3, noise=0.5).replace(input_kernel=jnp.zeros((1, 3)))
    kernel = srnn.response_kernel(model, jnp.sum, t1=0.5, dt=0.125, key=key, paths=4, method="malliavin")
    assert not kernel.values.any()


@pytest.mark.usefixtures("unchecked")
def test_a_kernel_of_another_shape_is_refused_by_its_axes():
    kernel = srnn.Kernel(*(jnp.ones((3,)) for _ in srnn.Kernel._fields))
    for values in (jnp.ones((3,)), jnp.ones((3, 2, 1, 1)), jnp.ones((0, 1))):
        with pytest.raises(ValueError, match=r"kernel\.values"):
            response.read_kernel("kernel", kernel._replace(values=values))
