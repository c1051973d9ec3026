import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import srnn
from srnn import noise, simulation
from tests.oracles import srnn_scan
from tests.oracles.srnn_ornstein_uhlenbeck import example

SOLVERS = {"euler": diffrax.Euler(), "heun": diffrax.Heun(), "shark": diffrax.ShARK()}
T1, DT, STEPS = 1.5, 0.125, 12


def setting(key, full=True):
    model = srnn.init(key, 2, 4, noise_size=3 if full else None, noise=0.5)
    model = model.replace(bias=jnp.linspace(-0.3, 0.5, 4))
    if full:
        model = model.replace(decay=jnp.diag(model.decay) + 0.1 * jax.random.normal(key, (4, 4)))
    return model, jax.random.normal(jax.random.fold_in(key, 1), (STEPS, 2))


def run(model, control=None, **options):
    options = {"key": jax.random.key(7), "paths": 6, "t1": T1, "dt": DT} | options
    return srnn.simulate(model, control, **options)


@pytest.mark.parametrize(
    ("solver", "increments", "full"),
    [
        ("euler", "gaussian", True),
        ("euler", "two_point", False),
        ("heun", "two_point", True),
        ("shark", "gaussian", False),
    ]
    + [
        pytest.param(*rest, marks=pytest.mark.slow)
        for rest in (
            ("euler", "gaussian", False),
            ("euler", "two_point", True),
            ("heun", "gaussian", True),
            ("heun", "gaussian", False),
            ("heun", "two_point", False),
            ("shark", "gaussian", True),
        )
    ],
)
def test_paths_equal_a_hand_written_scan(key, solver, increments, full):
    model, control = setting(key, full)
    paths = 40  # more than one word of two-point bits
    start = jax.random.normal(key, (paths, 4))
    saved = [0, 3, 4, STEPS]
    got = run(
        model, control, paths=paths, solver=SOLVERS[solver], increments=increments, initial=start, save_steps=saved
    )
    wanted = srnn_scan.paths(model, control, start, key=jax.random.key(7), dt=DT, solver=solver, increments=increments)
    wanted = jnp.moveaxis(wanted[jnp.array(saved)], 0, 1)
    # float64: twelve steps of rounding
    np.testing.assert_allclose(got.values, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(got.times, np.array(saved) * DT)
    np.testing.assert_allclose(got.mean, wanted.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(got.stderr, np.std(wanted, axis=0, ddof=1) / np.sqrt(paths), atol=1e-12)
    assert got.diverged == 0


def read_run(model, control=None, **options):
    options = {"key": jax.random.key(7), "paths": 6, "t1": T1, "dt": DT, "initial": None} | options
    options = {"solver": diffrax.Euler(), "increments": "gaussian"} | options
    return simulation.read_run(model, control, **options)


def test_the_plain_scan_of_the_kernels_takes_the_same_steps(key):
    model, control = setting(key)
    for solver in SOLVERS.values():
        ours, grid = read_run(model, control, solver=solver)
        last, before = simulation.last_states(ours, grid, jnp.zeros((6, 4)))
        saved = run(model, control, solver=solver, save_steps=range(STEPS + 1)).values
        # the same arithmetic, compiled twice
        np.testing.assert_allclose(jnp.moveaxis(jnp.concatenate([before, last[None]]), 0, 1), saved, atol=1e-13)


def test_one_key_is_one_set_of_noise_paths(key):
    model, control = setting(key)
    full = run(model, control, save_steps=range(STEPS + 1)).values
    np.testing.assert_array_equal(run(model, control).values[:, 0], full[:, -1])
    half = run(model, control[:6], t1=T1 / 2).values
    np.testing.assert_array_equal(half[:, 0], full[:, 6])
    assert (run(model, control, key=jax.random.key(8)).values != full[:, -1:]).all()


def test_a_function_of_time_is_taken_at_the_middle_of_each_step(key):
    model, _ = setting(key)
    middles = (jnp.arange(STEPS) + 0.5) * DT
    rows = jnp.stack([jnp.sin(middles), middles**2], axis=1)
    got = run(model, lambda t: jnp.stack([jnp.sin(t), t**2])).values
    np.testing.assert_array_equal(got, run(model, rows).values)


def test_saving_a_readout_only(key):
    model, control = setting(key)
    states = run(model, control, save_steps=[2, 5]).values
    read = run(model, control, save_steps=[2, 5], readout=lambda h: h[:2] ** 2)
    assert read.values.shape == (6, 2, 2)
    np.testing.assert_allclose(read.values, states[..., :2] ** 2, rtol=1e-12)  # float64
    assert run(model, control, readout=lambda h: h.sum()).values.shape == (6, 1)


@pytest.mark.parametrize(
    "solver", ["euler", pytest.param("heun", marks=pytest.mark.slow), pytest.param("shark", marks=pytest.mark.slow)]
)
def test_gradients_equal_finite_differences(key, solver):
    model, control = setting(key)

    @jax.jit
    def loss(model, control, start):
        ensemble = run(model, control, initial=start, solver=SOLVERS[solver], save_steps=[5, STEPS])
        return (ensemble.mean**2).sum() + ensemble.stderr.sum()

    at = (model, control, jnp.full(4, 0.2))
    gradient = jax.jit(jax.grad(loss, (0, 1, 2)))(*at)
    leaves, structure = jax.tree.flatten(at)
    along = [jax.random.normal(jax.random.fold_in(key, i), x.shape) for i, x in enumerate(leaves)]
    slope = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), along, strict=True))
    h = 1e-6  # central: h² curvature and 1e-16 / h of rounding, about 1e-9
    forth, back = (loss(*structure.unflatten([x + s * d for x, d in zip(leaves, along, strict=True)])) for s in (h, -h))
    np.testing.assert_allclose(slope, (forth - back) / (2 * h), rtol=1e-7)


def test_sharding_over_paths_changes_nothing(key):
    model, control = setting(key)
    sharding = NamedSharding(Mesh(jax.devices()[:2], ("paths",)), PartitionSpec("paths"))
    for increments in ("gaussian", "two_point"):
        whole = run(model, control, paths=64, increments=increments)
        shared = run(model, control, paths=64, increments=increments, sharding=sharding)
        assert len(shared.values.sharding.device_set) == 2
        np.testing.assert_allclose(shared.values, whole.values, atol=1e-13)  # rounding of products cut otherwise
        np.testing.assert_allclose(shared.mean, whole.mean, atol=1e-13)


def test_paths_that_the_devices_do_not_divide_are_refused_with_the_numbers(key, unchecked):
    model, control = setting(key)
    mesh = Mesh(jax.devices()[:2], ("paths",))
    with pytest.raises(ValueError, match="7 paths over 2 devices leave 1; take 6 or 8 paths"):
        run(model, control, paths=7, sharding=NamedSharding(mesh, PartitionSpec("paths")))
    with pytest.raises(TypeError, match=r"sharding must be a jax\.sharding\.Sharding"):
        run(model, control, paths=8, sharding=PartitionSpec("paths"))


def test_divergent_paths_are_counted_and_not_left_out(key):
    model = srnn.init(key, 1, 2, noise=1.0, activation=lambda p: p**3)
    wild = jnp.where(jnp.arange(6)[:, None] < 2, 300.0, 0.01) * jnp.ones((6, 2))
    ensemble = run(model, initial=wild)
    assert ensemble.diverged == 2
    assert np.isfinite(ensemble.values[2:]).all()
    assert not np.isfinite(ensemble.mean).any()


def test_moments_of_two_point_noise(key):
    draw = noise.increment(key, jnp.asarray(2), (40_000, 2), 0.25, jnp.float64, "two_point", area=False).rise
    assert set(np.unique(draw).tolist()) == {-0.5, 0.5}
    assert np.abs(draw.mean(axis=0)).max() < 4 * 0.5 / 200  # four standard errors
    # a correlation of 40,000 pairs is within 4/200 = 2% of zero
    assert abs(np.corrcoef(draw.T)[0, 1]) < 0.02
    assert abs(np.corrcoef(draw[:-1, 0], draw[1:, 0])[0, 1]) < 0.02


def test_the_halves_of_a_step_make_up_the_step(key):
    k, dt, paths = jnp.asarray(3), 0.5, 100_000
    whole = noise.increment(key, k, (paths, 1), dt, jnp.float64, "gaussian", area=True)
    first, second = noise.halves(key, k, whole, dt)
    np.testing.assert_allclose(first.rise + second.rise, whole.rise, atol=1e-14)
    # the area of a path from those of its halves
    area = (first.area + second.area) / 2 + (first.rise - second.rise) / 4
    np.testing.assert_allclose(area, whole.area, atol=1e-14)
    parts = np.concatenate([first.rise, first.area, second.rise, second.area], axis=1)
    # four independent normals with variances h and h/12 of h = dt/2; 100,000 draws: 4 sqrt(2/1e5) = 1.8%
    wanted = np.diag([dt / 2, dt / 24, dt / 2, dt / 24])
    sizes = np.sqrt(np.diag(wanted))
    np.testing.assert_allclose(np.cov(parts.T) / np.outer(sizes, sizes), np.eye(4), atol=0.018)
    plain = noise.halves(key, k, whole._replace(area=None), dt)
    np.testing.assert_allclose(plain[0].rise + plain[1].rise, whole.rise, atol=1e-14)
    assert np.var(plain[0].rise) == pytest.approx(dt / 2, rel=0.018)


def test_the_error_of_the_step_is_measured_on_the_same_noise(key):
    """An Ornstein–Uhlenbeck unit: E (h_dt − h_dt/2)² by the sum over steps of what each leaves behind."""
    model = srnn.init(key, 1, 1, radius=0.0, noise=1.0).replace(activation="identity")
    found = run(model, paths=20_000, check_step=True)
    a, half = 1 - DT, 1 - DT / 2
    # over one step, noise of its halves is (1, 1) in the coarse run and (half, 1) in the finer; then a and half² carry
    after = np.arange(STEPS)
    squares = (a**after - half ** (2 * after + 1)) ** 2 + (a**after - half ** (2 * after)) ** 2
    wanted = np.sqrt(DT / 2 * squares.sum())
    # 20,000 paths give an rms to 0.5%; four standard errors
    assert found.step_error[0, 0] == pytest.approx(wanted, rel=0.02)
    exact = run(model, paths=200, check_step=True, solver=diffrax.ShARK())
    assert exact.step_error[0, 0] < 0.05 * wanted
    assert run(model).step_error is None


def test_one_brownian_path_at_two_step_sizes(key):
    """Given increments: Euler's strong order, 1 for additive noise."""
    model, _ = setting(key)
    fine = noise.increment(key, jnp.asarray(0), (96 * 50, 3), T1 / 96, jnp.float64, "gaussian", area=False).rise
    fine = fine.reshape(96, 50, 3)

    def ends(steps):
        given = fine.reshape(steps, 96 // steps, 50, 3).sum(axis=1)
        return run(model, paths=50, dt=T1 / steps, increments=given).values[:, 0]

    errors = [np.sqrt(((ends(n) - ends(96)) ** 2).mean()) for n in (12, 24)]
    # against a finer Euler run, not the solution: (1/12 − 1/96)/(1/24 − 1/96) = 7/3 at order 1, 1.6 at order 1/2
    assert errors[0] / errors[1] == pytest.approx(7 / 3, rel=0.15)
    drawn = [noise.increment(jax.random.key(7), jnp.asarray(k), (6, 3), DT, jnp.float64, "gaussian", area=False).rise
             for k in range(STEPS)]  # fmt: skip
    np.testing.assert_array_equal(run(model, increments=jnp.stack(drawn)).values, run(model).values)


def test_a_brownian_tree_may_be_given(key):
    model, _ = setting(key)
    tree = diffrax.VirtualBrownianTree(0.0, T1, tol=2.0**-9, shape=(6, 3), key=key, levy_area=diffrax.SpaceTimeLevyArea)
    coarse = run(model, increments=tree, solver=diffrax.ShARK()).values
    fine = run(model, increments=tree, solver=diffrax.ShARK(), dt=DT / 8).values
    # one path at both steps: ShARK's error is of order dt^1.5 of paths of size 1
    np.testing.assert_allclose(coarse, fine, atol=0.5 * DT**1.5)
    assert np.abs(fine).max() > 0.3
    short = diffrax.VirtualBrownianTree(0.0, T1 / 2, tol=2.0**-9, shape=(6, 3), key=key)
    with pytest.raises(ValueError, match="increments must be a Brownian path from 0 to"):
        run(model, increments=short)
    whole = diffrax.VirtualBrownianTree(0.0, T1, tol=2.0**-9, shape=(6, 3), key=key)
    with pytest.raises(ValueError, match="increments must have levy_area"):
        run(model, increments=whole, solver=diffrax.ShARK())


def weak_errors(increments, steps, paths):
    """Error of E sin(a·h) against continuous time, and its standard error, for each number of steps."""
    model, ou, f, start = example()
    exact = ou.expectation(1.0)
    found = []
    for count in steps:
        key = jax.random.fold_in(jax.random.key(11), count)
        ensemble = srnn.simulate(
            model, key=key, paths=paths, t1=1.0, dt=1 / count, increments=increments, initial=start, readout=f
        )
        found.append((float(ensemble.mean[0] - exact), float(ensemble.stderr[0])))
    return np.array(found).T


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:dt = ")  # coarse steps are what is measured
def test_two_point_increments_have_weak_order_one():
    steps = np.array([4, 6, 8, 12, 16])
    errors, stderr = weak_errors("two_point", steps, 2**19)
    x, weight = np.log(1 / steps), np.abs(errors) / stderr
    design = np.stack([x, np.ones(5)], axis=1) * weight[:, None]
    covariance = np.linalg.inv(design.T @ design)
    slope = (covariance @ design.T @ (np.log(np.abs(errors)) * weight))[0]
    spread = np.sqrt(covariance[0, 0])
    # power: the slope is known to ±0.06, so that orders 1/2 and 2 lie more than 5 standard errors away
    assert spread < 0.06
    # 3 standard errors, and 0.2 of curvature: the next order's share of the error at these steps
    assert abs(slope - 1) < 3 * spread + 0.2


@pytest.mark.slow
def test_strong_orders_against_a_brownian_tree(key):
    """Euler 1 (the noise is additive), ShARK 1.5 at least: the same Brownian path at five step sizes."""
    model = srnn.init(key, 1, 3, noise=0.8, noise_size=3).replace(bias=jnp.array([0.3, -0.2, 0.5]))
    start = jnp.array([1.0, -1.0, 0.5])

    def solve(key, solver, steps):
        tree = diffrax.VirtualBrownianTree(
            0.0, 1.0, tol=2.0**-11, shape=(3,), key=key, levy_area=diffrax.SpaceTimeLevyArea
        )
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, h, args: srnn.drift(model, h)),
            diffrax.ControlTerm(lambda t, h, args: model.noise_kernel.T, tree),
        )
        return diffrax.diffeqsolve(terms, solver, 0.0, 1.0, 1 / steps, start, max_steps=steps + 1).ys[0]

    keys = jax.random.split(key, 200)

    def ends(solver, steps):
        return jax.jit(jax.vmap(lambda k: solve(k, solver, steps)))(keys)

    reference = ends(diffrax.ShARK(), 1024)
    steps = [8, 16, 32, 64, 128]
    for solver, least, most in [(diffrax.Euler(), 0.9, 1.15), (diffrax.ShARK(), 1.5, 2.2)]:
        errors = [np.sqrt(((ends(solver, n) - reference) ** 2).sum(axis=1).mean()) for n in steps]
        slope = np.polyfit(-np.log(steps), np.log(errors), 1)[0]
        # 200 paths give each error to 5%, the slope to 0.03; 0.1 more for steps that are not yet small
        assert least < slope < most


def test_bad_arguments_are_refused(key, unchecked):
    model, control = setting(key)
    cases = [
        (ValueError, "paths", {"paths": 1}),
        (ValueError, r"t1 must be a whole number of steps.* dt = 0\.12\d* would do", {"dt": 0.123}),
        (ValueError, "dt", {"dt": -0.1}),
        (ValueError, "t1", {"t1": float("nan")}),
        (ValueError, r"solver must be diffrax\.Euler\(\).*got Tsit5", {"solver": diffrax.Tsit5()}),
        (ValueError, "increments", {"increments": "normal"}),
        (ValueError, "ShARK", {"solver": diffrax.ShARK(), "increments": "two_point"}),
        (ValueError, "ShARK", {"solver": diffrax.ShARK(), "increments": jnp.zeros((12, 6, 3))}),
        (ValueError, "increments", {"increments": jnp.zeros((12, 6, 4))}),
        (ValueError, "increments", {"increments": jnp.full((12, 6, 3), jnp.nan)}),
        (ValueError, "check_step", {"increments": jnp.zeros((12, 6, 3)), "check_step": True}),
        (ValueError, "save_steps", {"save_steps": [3, 13]}),
        (ValueError, "save_steps", {"save_steps": [3, 3]}),
        (ValueError, "save_steps", {"save_steps": []}),
        (TypeError, "save_steps", {"save_steps": 3}),
        (TypeError, "key", {"key": 0}),
        (ValueError, "initial", {"initial": jnp.zeros((5, 4))}),
        (ValueError, "initial", {"initial": jnp.full(4, jnp.inf)}),
        (ValueError, "control", {"control": control[:-1]}),
        (ValueError, "control", {"control": jnp.ones((12, 3))}),
        (ValueError, "control", {"control": control.at[3, 0].set(jnp.nan)}),
        (ValueError, "control", {"control": lambda t: jnp.ones(3)}),
        (TypeError, "control", {"control": jnp.ones((12, 2), int)}),
    ]
    for error, match, options in cases:
        with pytest.raises(error, match=match):
            run(model, **options)


def test_a_result_that_does_not_fit_is_refused_before_anything_runs(key):
    model = srnn.init(key, 1, 8)
    with pytest.raises(ValueError, match=r"save_steps: 1000000 paths at 801 steps take 47\.\d GiB"):
        srnn.simulate(model, key=key, paths=10**6, t1=80.0, dt=0.1, save_steps=range(801))


def test_dtypes_are_the_models_whatever_is_saved(key):
    model = srnn.init(key, 1, 2, dtype="float32")
    for saved in ([8], [2, 8], range(9)):
        ensemble = srnn.simulate(model, key=key, paths=2, t1=1.0, dt=0.125, save_steps=saved, check_step=True)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(ensemble)} == {"float32", "int64"}  # int64: the count


def test_a_readout_is_never_stale(key):
    """What a readout reads is read at every call; a second one that does the same is not compiled again."""
    model, control = setting(key)
    weights = np.ones(4)

    def read(state):
        return state @ jnp.asarray(weights)

    before = run(model, control, readout=read).mean
    weights *= -3
    np.testing.assert_allclose(run(model, control, readout=read).mean, -3 * before, rtol=1e-12)
    bound = run(model, control, readout=jax.tree_util.Partial(jnp.dot, jnp.full(4, 2.0))).mean
    np.testing.assert_allclose(bound, 2 * before, rtol=1e-12)


class Head(eqx.Module):
    weight: jax.Array

    def __call__(self, state):
        return self.weight @ state


@pytest.mark.parametrize("readout", [np.sum, Head(jnp.ones(4))], ids=["numpy", "equinox"])
def test_any_callable_is_a_readout(key, readout):
    model, control = setting(key)
    wanted = run(model, control).values.sum(axis=-1)
    np.testing.assert_allclose(run(model, control, readout=readout).values, wanted, rtol=1e-12)


@pytest.mark.parametrize("of", ["paths", "kernel"])
def test_paths_and_kernels_under_shard_map(key, of):
    """Each device its own key, under the check of what varies: no sum over devices slips into a derivative."""
    model, _ = setting(key, full=False)

    def found(keys):
        if of == "paths":
            return run(model, key=keys[0], readout=lambda h: h[0]).values[None]
        options = {"t1": 0.25, "dt": 0.125, "paths": 6, "compare": False}
        return srnn.response_kernel(model, lambda h: h[0] ** 2, key=keys[0], **options).values[None]

    mesh, spec = Mesh(jax.devices()[:2], ("keys",)), PartitionSpec("keys")
    keys = jax.random.split(key, 2)
    together = jax.jit(jax.shard_map(found, mesh=mesh, in_specs=spec, out_specs=spec))(keys)
    np.testing.assert_allclose(together, jnp.stack([found(keys[i : i + 1])[0] for i in range(2)]), rtol=1e-12)


def test_a_readout_does_not_hide_divergence(key):
    model = srnn.init(key, 1, 2, noise=1.0, activation=lambda p: p**3)
    wild = jnp.where(jnp.arange(6)[:, None] < 2, 300.0, 0.01) * jnp.ones((6, 2))
    ensemble = run(model, initial=wild, readout=lambda h: jnp.where(h > 0, 1.0, 0.0))
    assert ensemble.diverged == 2
    assert np.isfinite(ensemble.values[2:]).all()
    assert np.isnan(ensemble.mean).all()


def test_readouts_that_are_not_one_floating_array_are_refused(key, unchecked):
    model, _ = setting(key)
    for readout in (lambda h: h[0] > 0, lambda h: h.astype(int), lambda h: (h, h), 3):
        with pytest.raises(TypeError, match="readout"):
            run(model, readout=readout)
    narrow = run(model, readout=lambda h: h.astype(jnp.float16))
    assert narrow.times.dtype == model.bias.dtype


def test_bad_numpy_controls_are_refused_under_tracing(key, unchecked):
    model, _ = setting(key)
    with pytest.raises(ValueError, match="control must be finite"):
        jax.jit(lambda x: x * run(model, np.full((STEPS, 2), np.nan)).mean)(1.0)


def test_half_a_step_is_refused_however_many_there_are(key, unchecked):
    model, _ = setting(key)
    with pytest.raises(ValueError, match="t1 must be a whole number of steps"):
        run(model, t1=500_000.4 * 0.125, dt=0.125)
    with pytest.raises(TypeError, match="t1"):
        run(model, t1="abc")
