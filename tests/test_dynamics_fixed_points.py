"""Fixed points and cycles from many starts: closed forms, known maps, and every one of them by enumeration."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import maso_rnn
from maso_rnn import (
    RNN,
    Cell,
    FixedPoints,
    Layer,
    Readout,
    all_fixed_points,
    cycles,
    fixed_points,
    fixed_points_along,
    plots_dynamics,
    sample_states,
)
from maso_rnn.dynamics import pieces, progress

BISTABLE = np.array([[0.5, 1.0], [1.0, 0.5]])


def bistable(h, x):
    """Two units that hold each other up: fixed points at ±a(1, 1) and 0, for a = tanh(1.5 a)."""
    return jnp.tanh(h @ jnp.asarray(BISTABLE, h.dtype))


def root(gain):
    """The positive solution of a = tanh(gain · a)."""
    a = 0.9
    for _ in range(200):
        a = math.tanh(gain * a)
    return a


def line(states):
    return sorted(np.round(np.asarray(states).ravel(), 6) + 0.0)


# what is found


def test_fixed_points_of_a_bistable_network(key):
    found = fixed_points(bistable, jax.random.normal(key, (64, 2)))
    a = root(1.5)
    order = np.argsort(found.states[:, 0])
    np.testing.assert_allclose(found.states[order], [[-a, -a], [0, 0], [a, a]], atol=1e-12)  # Newton, in float64
    assert found.stable[order].tolist() == [True, False, True]
    # the Jacobian is (1 − a²) W, with eigenvalues 1.5 and −0.5 of W
    np.testing.assert_allclose(found.eigenvalues[order[1]], [1.5, -0.5], atol=1e-12)
    np.testing.assert_allclose(found.eigenvalues[order[0]], (1 - a * a) * np.array([1.5, -0.5]), atol=1e-12)
    np.testing.assert_allclose(found.jacobians[order[2]], (1 - a * a) * BISTABLE.T, atol=1e-12)
    moved = np.einsum("pij,pjk->pik", found.jacobians, found.eigenvectors)
    np.testing.assert_allclose(moved, found.eigenvalues[:, None] * found.eigenvectors, atol=1e-12)
    assert found.residuals.max() < 1e-30
    np.testing.assert_allclose(found.residuals, found.speeds**2 / 2)
    assert not (found.slow | found.degenerate | found.on_kink).any()
    assert found.unconverged == found.outliers == 0
    assert found.reached.sum() >= 64
    assert np.all(np.diff(found.reached) <= 0)
    assert np.all(np.asarray(found.start_of) >= 0)


def test_three_bits_have_27_fixed_points_of_which_8_are_stable(key):
    # three units that hold themselves up, seen through a rotation of 16 directions
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 3)))
    starts = jax.random.normal(key, (500, 3)) @ basis.T
    found = fixed_points(lambda h, x: jnp.tanh(2.0 * h @ basis) @ basis.T, starts)
    a = root(2.0)
    bits = np.asarray(found.states) @ basis
    assert len(bits) == 27
    assert len({tuple(np.round(row / a).astype(int)) for row in bits}) == 27
    np.testing.assert_allclose(np.abs(bits), a * np.abs(np.round(bits / a)), atol=1e-12)  # Newton, in float64
    assert found.stable.sum() == 8
    assert not found.degenerate.any()  # the other thirteen directions shrink to nothing: eigenvalues 0


# what FixedPointFinder stores with its tests, test/ground-truth (Golub, 2018), for networks of 2, 3 and 4 units
STORED = {
    2: [[-0.957504, 0.957504], [0, 0], [0.957504, -0.957504]],
    3: [[-0.949796, 0.425502, 0.879894], [0, 0, 0], [0.949796, -0.425502, -0.879894]],
    4: [
        [-0.962892, -0.525235, 0.962892, 0.525235],
        [-0.877263, 0.569696, -0.339745, 0.789648],
        [-0.775516, 0.775516, -0.775516, 0.775516],
        [-0.339745, 0.789648, -0.877263, 0.569696],
        [0, 0, 0, 0],
        [0.339745, -0.789648, 0.877263, -0.569696],
        [0.775516, -0.775516, 0.775516, -0.775516],
        [0.877263, -0.569696, 0.339745, -0.789648],
        [0.962892, 0.525235, -0.962892, -0.525235],
    ],
}


@pytest.mark.parametrize("hidden", STORED)
def test_the_points_stored_with_fixed_point_finders_tests(hidden):
    kernel = jnp.array([-np.roll(np.linspace(-1, 1, hidden), -unit) for unit in range(hidden)])
    starts = jnp.array(np.meshgrid(*[[-1.0, 0.0, 1.0]] * hidden)).reshape(hidden, -1).T
    found = fixed_points(lambda h, x: jnp.tanh(h @ kernel), starts)
    order = np.lexsort(np.round(found.states, 3).T[::-1])
    np.testing.assert_allclose(found.states[order], STORED[hidden], atol=1e-6)  # six digits are written here


@pytest.mark.parametrize(
    ("dtype", "halves"), [("float64", (1e-3, 1e-6)), ("float32", (1e-2,))], ids=["float64", "float32"]
)
def test_points_that_are_about_to_vanish_are_told_apart_as_far_as_rounding_can(key, dtype, halves):
    # f = (h² − δ²)/2 in each of three directions: eight roots, then one that rounding hides in
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))
    basis, starts = jnp.asarray(basis, dtype), jax.random.normal(key, (300, 3), dtype)

    def searched(squares):
        squares = jnp.asarray(squares, dtype)
        return fixed_points(lambda h, x: h + 0.5 * ((h @ basis) ** 2 - squares) @ basis.T, starts)

    for half in halves:
        found = searched([1.0, 0.5, half**2])
        assert len(found.states) == 8
        assert not found.degenerate.any()
    assert len(searched([1.0, 0.5, 0.0]).states) == 4
    together = fixed_points(lambda h, x: h + h**2 - 1e-6, starts[:, :1], distance=0.1)  # as the caller asks
    assert len(together.states) == 1


def test_a_cycle_that_has_just_appeared_is_no_fixed_point(key):
    starts = jax.random.uniform(key, (50, 1), minval=0.5, maxval=0.8)

    def step(h, x):
        return (3 + 1e-5) * h * (1 - h)  # the period doubles at 3, to states ∝ √1e-5 apart

    assert len(cycles(step, starts, period=2).states) == 1
    assert len(fixed_points(step, starts).states) == 1


def test_a_stable_point_that_only_iteration_finds():
    # far to the right Newton's method leads to the root at 8, iteration to the one at 0
    def step(h, x):
        return h + 0.2 * h * (h - 8.0) / (1 + h**2)

    found = fixed_points(step, jnp.array([[7.0], [9.0], [-3.0]]))
    assert line(found.states) == [0.0, 8.0]
    assert dict(zip(line(found.states), found.stable[np.argsort(found.states[:, 0])].tolist(), strict=True)) == {
        0.0: True,
        8.0: False,
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_no_isolated_fixed_point_is_said_to_be_none(key, dtype):
    starts = jax.random.normal(key, (64, 1), dtype)
    # the only fixed point is 0, and it is threefold
    cubic = fixed_points(lambda h, x: h - h**3, starts)
    assert len(cubic.states) == 1
    np.testing.assert_allclose(cubic.states, 0, atol=1e-3)
    assert cubic.degenerate.all()
    assert not cubic.stable.any()
    # a ghost: none, but the state moves by 1e-5 only at 0
    ghost = fixed_points(lambda h, x: h + 1e-5 + h**2 / 10, starts)
    assert ghost.slow.tolist() == [True]
    assert not ghost.stable.any()
    np.testing.assert_allclose(ghost.speeds, 1e-5, rtol=1e-2)  # float32: differences of numbers near 1e-3
    # every point of a line
    projection = fixed_points(lambda h, x: jnp.broadcast_to(h.mean(), (2,)), jax.random.normal(key, (16, 2), dtype))
    assert projection.degenerate.all()
    assert not projection.stable.any()


def test_slow_points_above_the_tolerance_are_unconverged():
    found = fixed_points(lambda h, x: h + 0.01 + h**2, jnp.array([[0.3], [-0.2]]))  # slowest at 0, where q is 5e-5
    assert found.states.shape == (0, 1)
    assert found.eigenvalues.shape == (0, 1)
    assert found.unconverged == 2
    assert found.outliers == 0
    np.testing.assert_allclose(found.unconverged_states, 0, atol=1e-3)
    kept = fixed_points(lambda h, x: h + 0.01 + h**2, jnp.array([[0.3], [-0.2]]), tolerance=1e-4)
    assert kept.slow.tolist() == [True]


def test_on_a_kink_every_piece_around_counts(key):
    starts = jax.random.normal(key, (16, 1))
    up = fixed_points(lambda h, x: jax.nn.relu(2 * h), starts)
    assert (up.on_kink.tolist(), up.stable.tolist()) == ([True], [False])
    down = fixed_points(lambda h, x: jax.nn.relu(0.5 * h), starts)
    assert (down.on_kink.tolist(), down.stable.tolist()) == ([True], [True])
    apart = fixed_points(lambda h, x: jax.nn.relu(0.5 * h + 1.0), starts)
    assert (apart.on_kink.tolist(), apart.stable.tolist()) == ([False], [True])
    # JAX has slope 2 / 2 for this one at 0, which is that of no piece; the end of a half line is degenerate
    steep = fixed_points(lambda h, x: jnp.maximum(2 * h, 0), starts)
    assert (steep.states.tolist(), steep.degenerate.tolist(), steep.stable.tolist()) == ([[0.0]], [False], [False])
    end = fixed_points(lambda h, x: jax.nn.relu(h), -abs(starts))
    assert (end.states.tolist(), end.degenerate.tolist(), end.stable.tolist()) == ([[0.0]], [True], [False])


def test_where_the_jacobian_is_infinite_nothing_is_claimed():
    # √h has 1, and 0 with an infinite slope; √(h − 1) + 5 is far from h at 1, where its slope is infinite
    found = fixed_points(lambda h, x: jnp.sqrt(h), jnp.array([[-1.0], [0.0], [2.0]]))
    np.testing.assert_allclose(found.states, [[1.0]], rtol=1e-14)  # float64
    assert found.unconverged == 2
    found = fixed_points(lambda h, x: jnp.sqrt(h - 1) + 5, jnp.array([[1.0], [4.0]]))
    np.testing.assert_allclose(found.states, [[(11 + math.sqrt(17)) / 2]], rtol=1e-14)


def test_under_one_input_and_under_one_for_each_start(unchecked):

    def step(h, x):
        return 0.5 * h + x

    found = fixed_points(step, jnp.zeros((3, 2)), jnp.array([1.0, -2.0]))
    np.testing.assert_allclose(found.states, [[2.0, -4.0]], atol=1e-12)  # Newton, in float64
    assert found.reached.tolist() == [3]
    inputs = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    each = fixed_points(step, np.zeros((3, 2)), inputs)
    np.testing.assert_allclose(each.states, 2 * np.asarray(each.inputs), atol=1e-12)
    assert each.reached.tolist() == [2, 1]
    assert each.start_of.tolist() == [0, 1]


def test_carries_of_several_leaves_in_float32(key):
    def step(carry, x):
        h, c = carry
        return jnp.tanh(2.0 * c), 0.5 * (h + c)

    starts = jax.random.normal(key, (32, 1), jnp.float32)
    found = fixed_points(step, (starts, starts))
    h, c = found.states
    assert h.dtype == jnp.float32
    assert found.eigenvalues.dtype == jnp.complex64
    assert line(h) == pytest.approx([-root(2.0), 0.0, root(2.0)], abs=1e-5)  # float32
    np.testing.assert_allclose(h, c, atol=1e-5)  # float32


def test_far_fixed_points_are_outliers():
    # 0 is where the starts are, 5 and −3 are roots that only strays reach, when the measure says they are too far
    def step(h, x):
        return h - 0.01 * h * (h - 5.0) * (h + 3.0)

    starts = jnp.array([[-0.1], [0.05], [0.1], [4.9]])
    everywhere = fixed_points(step, starts)
    assert {0.0, 5.0} <= set(line(everywhere.states))
    near = fixed_points(step, starts, outlier_scale=1.0)
    assert line(near.states) == [0.0]
    assert near.outliers == 1
    assert near.unconverged == 0


@pytest.mark.parametrize("apart", [0.0, 1e-6])
def test_starts_that_are_one_have_no_outliers(apart):
    # 0.7 has a float32 mean that is not 0.7, and no distance can be measured by that
    starts = jnp.full((3, 2), 0.7, jnp.float32) + apart * jnp.arange(3, dtype=jnp.float32)[:, None]
    found = fixed_points(lambda h, x: 0.5 * h + x.sum(), starts)
    assert found.outliers == 0
    assert found.reached.tolist() == [3]


def test_batched_search_is_the_search_of_each_start(key):
    starts = jax.random.normal(key, (6, 2))
    together = fixed_points(bistable, starts)
    alone = FixedPoints.concatenate([fixed_points(bistable, start[None]) for start in starts])
    ends = [{tuple(row) for row in (np.round(found.states, 6) + 0.0).tolist()} for found in (together, alone)]
    assert ends[0] == ends[1]


# functions of the caller


def test_a_step_is_read_anew_at_every_call():
    w = jnp.array(0.5)

    def step(h, x):
        return w * h + 1.0

    starts = jnp.zeros((2, 1))
    np.testing.assert_allclose(fixed_points(step, starts).states, 2.0, atol=1e-12)
    w = jnp.array(0.75)
    np.testing.assert_allclose(fixed_points(step, starts).states, 4.0, atol=1e-12)


def test_new_weights_compile_nothing(key, compilations):
    def searches(scale):
        kernel = scale * jnp.asarray(BISTABLE)
        cell = Cell(kernel, lambda w, h, x: jnp.tanh(h @ w), lambda w, h: h, jnp.zeros(2))
        starts = jax.random.normal(key, (8, 2))
        for step in (cell, jax.tree_util.Partial(lambda w, h, x: jnp.tanh(h @ w), kernel)):
            fixed_points(step, starts)
            cycles(step, starts, period=2)
        fixed_points(lambda h, x: jnp.tanh(h @ kernel), starts)  # a new function that does the same

    searches(1.0)
    searches(1.05)  # how many points there are decides the shapes of what is returned
    with compilations() as count:
        searches(1.1)
    assert not count


def test_a_network_is_taken_as_it_is(key):
    rnn = maso_rnn.init(key, 2, [3, 2], 1, activation="tanh", dtype="float64")
    x = jnp.array([0.5, -1.0])
    states = tuple(jax.random.normal(key, (16, n)) for n in (3, 2))
    found = fixed_points(rnn, states, x)
    assert found.last_new is None  # tanh has no pieces to restart from
    state = tuple(jnp.zeros(n) for n in (3, 2))
    for _ in range(3000):
        state, _ = maso_rnn.network.step(rnn, state, x)
    moved = maso_rnn.network.step(rnn, state, x)[0]
    if max(np.abs(a - b).max() for a, b in zip(state, moved, strict=True)) < 1e-12:
        gaps = sum(np.abs(a - b).sum(axis=1) for a, b in zip(found.states, state, strict=True))
        assert gaps.min() < 1e-9  # plain iteration, linear


# keeping and choosing


def test_where_concatenate_save_and_load(key, tmp_path):
    def step(carry, x):
        return {"h": jnp.tanh(2.0 * carry["c"][0]), "c": (0.5 * (carry["h"] + carry["c"][0]),)}

    starts = jax.random.normal(key, (32, 1))
    found = fixed_points(step, {"h": starts, "c": (starts,)})
    stable = found.where(found.stable)
    with pytest.raises(ValueError, match="mask"):
        stable.where(found.stable)
    assert len(stable.states["h"]) == len(stable.jacobians) == 2
    assert stable.stable.all()
    both = FixedPoints.concatenate([found, stable])
    assert len(both.residuals) == 5
    both.save(tmp_path / "points.npz")
    with np.load(tmp_path / "points.npz", allow_pickle=False) as file:
        assert "residuals" in file
    again = FixedPoints.load(tmp_path / "points.npz")
    assert jax.tree.structure(again) == jax.tree.structure(both)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(both), strict=True):
        np.testing.assert_array_equal(a, b)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("points")
    for other in ("other.npz", "array.npy", "text.npz"):
        with pytest.raises(ValueError, match="FixedPoints"):
            FixedPoints.load(tmp_path / other)
    with pytest.raises(ValueError, match="searches"):
        FixedPoints.concatenate([found, fixed_points(lambda h, x: jnp.tanh(h), starts)])


def test_sampled_states_are_states_that_may_be_drawn(key):
    states = jnp.arange(24.0).reshape(2, 6, 2)
    mask = jnp.arange(6) < jnp.array([[3], [5]])
    drawn = sample_states(key, (states, states[..., :1]), 8, mask=mask)
    assert sorted(drawn[0][:, 0].tolist()) == sorted(states[mask][:, 0].tolist())  # each once
    np.testing.assert_array_equal(drawn[0][:, :1], drawn[1])  # of one moment
    noisy = sample_states(key, jnp.zeros((1000, 2)), 1000, noise=0.5)
    # 2,000 numbers: a standard error of 1.6%
    np.testing.assert_allclose(noisy.std(), 0.5, rtol=0.08)
    with pytest.raises(ValueError, match=r"count.*8"):
        sample_states(key, states, 9, mask=mask)
    few = jax.jit(lambda mask: sample_states(key, states, 9, mask=mask))(mask)
    assert np.isnan(few).any(axis=1).sum() == 1


# cycles

LOGISTIC = (2, 1, 2, 3, 6, 9, 18, 30)  # prime cycles of each period: (Σ_{d|p} μ(p/d) 2^d) / p
HENON = (2, 1, 0, 1, 0, 2, 4, 7)  # Hénon map at 1.4 and .3 (Cvitanović and others, ChaosBook)


def henon(h, x):
    return jnp.stack([1 - 1.4 * h[0] ** 2 + h[1], 0.3 * h[0]])


@pytest.mark.parametrize("period", [1, 2, 3, 4, 5, pytest.param(6, marks=pytest.mark.slow)])
def test_cycles_of_known_maps(key, period):
    starts = jax.random.uniform(key, (300, 2))
    logistic = cycles(lambda h, x: 4 * h * (1 - h), starts[:, :1], period=period)
    assert len(logistic.states) == LOGISTIC[period - 1]
    assert not logistic.stable.any()
    # |multiplier| is 2^p but at 0, where the slope is 4
    multipliers = np.abs(np.asarray(logistic.multipliers)).ravel()
    multipliers[multipliers > 1.5 * 2**period] = 2**period
    np.testing.assert_allclose(multipliers, 2.0**period, rtol=1e-6)  # roots in float64, near the end at 0 steep
    tent = cycles(lambda h, x: 1 - 2 * jnp.abs(h), 2 * starts[:, :1] - 1, period=period)
    assert len(tent.states) == LOGISTIC[period - 1]
    both = cycles(henon, (starts - 0.5) * jnp.array([2.6, 0.8]), period=period)
    assert len(both.states) == HENON[period - 1]
    for states in np.asarray(both.states):
        after = np.stack([np.asarray(henon(h, None)) for h in states])
        np.testing.assert_allclose(after, np.roll(states, -1, axis=0), atol=1e-14)  # float64 roundings


@pytest.mark.slow
@pytest.mark.parametrize("period", [7, 8])
def test_all_cycles_of_known_maps_up_to_period_8(key, period):
    starts = jax.random.uniform(key, (600, 2))
    assert len(cycles(lambda h, x: 4 * h * (1 - h), starts[:, :1], period=period).states) == LOGISTIC[period - 1]
    both = cycles(henon, (starts - 0.5) * jnp.array([2.6, 0.8]), period=period)
    assert len(both.states) == HENON[period - 1]


def test_a_stable_rhythm_of_a_tree_of_arrays_in_float32(key):
    # a rotation by a quarter, saturated: states return after four steps
    turn = jnp.array([[0.0, 2.0], [-2.0, 0.0]], jnp.float32)
    starts = (jax.random.normal(key, (32, 2), jnp.float32),)
    found = cycles(lambda carry, x: (jnp.tanh(carry[0] @ turn),), starts, period=4)
    a = root(2.0)
    stable = np.asarray(found.states[0])[np.asarray(found.stable)]
    assert stable.shape == (1, 4, 2)
    np.testing.assert_allclose(np.abs(stable), a, atol=1e-5)  # float32
    np.testing.assert_allclose(
        np.abs(np.asarray(found.multipliers)[np.asarray(found.stable)]), (2 * (1 - a * a)) ** 4, rtol=1e-3
    )
    assert found.reached.sum() + found.unconverged > 0


# piecewise affine networks


@pytest.mark.parametrize("every", [0, pieces.EVERY])
def test_the_points_of_piecewise_affine_networks_are_those_of_enumeration(monkeypatch, every):
    monkeypatch.setattr(pieces, "EVERY", every)  # restarts, or all pieces
    wanted = found = 0
    for seed in (1, 2, 4):
        random = np.random.default_rng(seed)
        kernel = 1.2 * np.eye(8) - 0.6 * np.abs(random.standard_normal((8, 8)))
        layer = Layer(jnp.zeros((1, 8)), jnp.asarray(kernel), jnp.asarray(random.standard_normal(8) + 1))
        rnn = RNN((layer,), Readout(jnp.ones((8, 1))))
        every = all_fixed_points(rnn, jnp.zeros(1))
        search = fixed_points(rnn, (jnp.asarray(random.standard_normal((50, 8))),), jnp.zeros(1), outlier_scale=1e6)
        gaps = np.linalg.norm(np.asarray(every.states[0])[:, None] - np.asarray(search.states[0]), axis=2)
        assert np.all(gaps.min(axis=0) < 1e-8 * (1 + np.linalg.norm(search.states[0], axis=1)))  # none is invented
        wanted, found = wanted + len(every.residuals), found + len(search.residuals)
        assert search.last_new == 0
    assert wanted == 22
    assert found == wanted


def test_a_winner_take_all_network_has_a_point_for_every_subset():
    rnn = RNN((Layer(jnp.zeros((1, 6)), 1.2 * jnp.eye(6) - 0.5, jnp.ones(6)),), Readout(jnp.ones((6, 1))))
    found = all_fixed_points(rnn)
    # k units are on at c / (k/2 − .2), and the others see 1 − .5 k h < 0 for every k > 0
    assert len(found.states[0]) == 2**6 - 1
    np.testing.assert_allclose(
        found.states[0].sum(axis=1), [k / (0.5 * k - 0.2) for k in np.asarray(found.codes[0]).sum(axis=1)], rtol=1e-12
    )
    assert found.stable.sum() == 6  # one winner
    with pytest.raises(ValueError, match="max_points"):
        all_fixed_points(rnn, max_points=50)
    with pytest.raises(ValueError, match=r"64.*max_codes=64"):
        all_fixed_points(rnn, max_codes=63)


def test_points_on_kinks_and_continua():
    one = jnp.ones((1, 1))

    def network(kernel, bias):
        layer = Layer(jnp.zeros((1, len(bias))), jnp.asarray(kernel), jnp.asarray(bias))
        return RNN((layer,), Readout(jnp.ones((len(bias), 1))))

    # h = relu(2h): 0 alone, on its kink, unstable; h = relu(h/2): the same, stable
    for gain, stable in ((2.0, False), (0.5, True)):
        found = all_fixed_points(network(gain * one, np.zeros(1)))
        assert found.states[0].tolist() == [[0.0]]
        assert found.on_kink.tolist() == [True]
        assert found.stable.tolist() == [stable]
    # h = relu(h): a half line, on the code of slope 1
    found = all_fixed_points(network(one, np.zeros(1)))
    assert found.singular == 1
    assert found.degenerate.sum() == 1
    assert float(found.states[0][np.argmax(found.degenerate)][0]) > 0
    # h = relu(h + 1): its equation is singular, and has no solution
    found = all_fixed_points(network(one, np.ones(1)))
    assert (len(found.residuals), found.singular) == (0, 1)
    # on a kink that rounding decides: h₁ = .1, h₂ = relu(h₁ − .1)
    found = all_fixed_points(network(np.array([[0.0, 1.0], [0.0, 0.0]]), np.array([0.1, -0.1])))
    np.testing.assert_allclose(found.states[0], [[0.1, 0.0]], atol=1e-15)
    assert found.on_kink.tolist() == [True]


def one_unit(activation, gain, bias):
    layer = Layer(jnp.zeros((1, 1)), jnp.full((1, 1), gain), jnp.array([bias]))
    return RNN((layer,), Readout(jnp.ones((1, 1))), activation=activation)


def test_the_tent_map_as_a_network_has_its_prime_cycles():
    tent = one_unit(maso_rnn.activation("abs"), 2.0, -1.0)  # h = |2 h − 1|
    for period in range(1, 6):
        found = all_fixed_points(tent, period=period)
        states = np.asarray(found.states[0]).reshape(-1, period)
        assert len(states) == LOGISTIC[period - 1]
        np.testing.assert_allclose(abs(2 * states - 1), np.roll(states, -1, axis=1), atol=1e-14)  # float64
        np.testing.assert_allclose(np.abs(found.multipliers), 2.0**period, rtol=1e-12)


@pytest.mark.parametrize(("activation", "gain", "bias"), [("identity", -1.0, 1.0), ("relu", -1.0, 1.0)])
def test_of_a_continuum_of_cycles_one_is_found(activation, gain, bias):
    # 1 − (1 − h) = h: every h but 1/2 is on a cycle of period 2 (from 0 to 1 where it is rectified)
    network = one_unit(maso_rnn.activation(activation), gain, bias)
    found = all_fixed_points(network, period=2)
    cycles = np.asarray(found.states[0])[np.asarray(found.degenerate), :, 0]
    assert len(cycles) == 1
    np.testing.assert_allclose(cycles.sum(axis=1), 1, atol=1e-12)
    assert abs(cycles[0, 0] - cycles[0, 1]) > 1e-3
    assert not found.stable.any()
    assert len(all_fixed_points(network, period=4).residuals) == 0


def test_layers_without_recurrence_and_periods_that_divide(key):
    # an encoder, a unit that flips, and one that follows it: period 2 together
    one = jnp.ones((1, 1))
    flip = Layer(one, -2 * one, jnp.array([1.0]))
    rnn = RNN((Layer(one), flip, Layer(one, 0.5 * one)), Readout(one), activation=maso_rnn.hard_tanh)
    found = all_fixed_points(rnn, jnp.zeros(1), period=2)
    assert [state.shape for state in found.states] == [(1, 2, 1)] * 3
    state = tuple(part[0, 0] for part in found.states)
    after, _ = maso_rnn.network.step(rnn, state, jnp.zeros(1))
    np.testing.assert_allclose(after, [part[0, 1] for part in found.states], atol=1e-14)  # float64
    assert not np.allclose(after, state)


# bad input


def test_refused_starts(unchecked):
    starts, step = jnp.ones((3, 2)), bistable
    for search in (fixed_points, lambda *given, **options: cycles(*given, **options, period=2)):
        with pytest.raises(TypeError, match=r"starts.*outside jax\.jit"):
            jax.jit(lambda starts, search=search: search(step, starts))(starts)
        for bad in (starts[:0], jnp.float64(1.0), starts * jnp.nan, starts[0]):
            with pytest.raises(ValueError, match="starts"):
                search(step, bad)
        with pytest.raises(ValueError, match=r"starts.*sample_states"):
            search(lambda h, x: jnp.tanh(2 * h), jnp.ones((4, 5, 2)))
        with pytest.raises(TypeError, match="starts"):
            search(lambda h, x: h[:1], starts)
        with pytest.raises(TypeError, match=r"starts.*float32"):
            search(lambda h, x: h, starts.astype(jnp.bfloat16))
        with pytest.raises(ValueError, match="x must"):
            search(lambda h, x: h + x.sum(), starts, jnp.ones((2, 1)))
        with pytest.raises(ValueError, match="same"):
            search(lambda h, x: h / 2 + np.random.standard_normal(), starts)  # noqa: NPY002 (a step that differs each time)
    for option in ("tolerance", "distance", "outlier_scale", "max_steps"):
        with pytest.raises((ValueError, TypeError), match=option):
            fixed_points(step, starts, **{option: 0.0})
    with pytest.raises(ValueError, match="period"):
        cycles(step, starts, period=0)
    rnn = maso_rnn.init(jax.random.key(0), 3, [2, 4], 1)
    states = (starts, jnp.ones((3, 4)))
    for search in (fixed_points, lambda *given: cycles(*given, period=2)):
        for bad in (starts, states[:1], states[::-1], (starts[0], jnp.ones(4))):
            with pytest.raises((ValueError, TypeError), match="starts"):
                search(rnn, bad, jnp.zeros(3))
        for bad in (None, jnp.zeros(2), jnp.zeros((3, 2))):
            with pytest.raises(ValueError, match=r"x must.*input = 3"):
                search(rnn, states, bad)
    cell = Cell(jnp.asarray(BISTABLE), lambda w, h, x: jnp.tanh(h @ w), lambda w, h: h, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"starts.*sample_states"):
        fixed_points(cell, jnp.ones((4, 5, 2)))


def test_what_takes_long_says_so(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    fixed_points(bistable, jnp.ones((4, 2)))
    assert "starts" in capsys.readouterr().err
    fixed_points(bistable, jnp.ones((4, 2)), progress=False)
    assert not capsys.readouterr().err


# along a line of inputs, and pictures


def test_points_appear_and_vanish_where_the_fold_is():
    # h = tanh(2h + x) has three solutions for |x| < √.5·… : the fold is where 2(1 − h²) = 1, so h² = 1/2
    h = math.sqrt(0.5)
    fold = 2 * h - math.atanh(h)
    starts = jnp.array([[-1.0], [0.0], [1.0]])
    found = fixed_points_along(
        lambda h, x: jnp.tanh(2.0 * h + x), starts, jnp.array([-1.0]), jnp.array([1.0]), count=41
    )
    for x in np.linspace(-1, 1, 41):
        here = np.isclose(found.inputs[:, 0], x)
        assert here.sum() == (3 if abs(x) < fold else 1)
        assert found.stable[here].sum() == (2 if abs(x) < fold else 1)


def test_pictures_say_what_is_there(key):
    found = fixed_points(bistable, jax.random.normal(key, (16, 2)))
    paths = jax.random.normal(key, (3, 10, 2))
    axes = plots_dynamics.fixed_points_among_states(found, paths)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["stable: 2", "unstable: 1"]
    axes = plots_dynamics.eigenvalues_of_points(found)
    assert len(axes.get_legend().get_texts()) == 3
    line = fixed_points_along(lambda h, x: jnp.tanh(2.0 * h + x), jnp.array([[-1.0], [1.0]]), -jnp.ones(1), jnp.ones(1))
    given = plots_dynamics.fixed_points_along_line(line).figure.add_subplot()
    assert plots_dynamics.fixed_points_along_line(line, axes=given) is given
    nothing = found.where(np.zeros(3, bool))
    for draw in (plots_dynamics.fixed_points_among_states, plots_dynamics.eigenvalues_of_points):
        assert draw(nothing).get_xlabel()
    assert plots_dynamics.fixed_points_along_line(nothing).get_xlabel()


# trained networks


def flip_flop(key, time=60):
    pulse_key, sign_key = jax.random.split(key)
    signs = jax.random.rademacher(sign_key, (time, 3), jnp.float32)
    xs = jnp.where(jax.random.bernoulli(pulse_key, 0.1, (time, 3)), signs, 0).at[0].set(signs[0])

    def hold(bits, x):
        bits = jnp.where(x != 0, x, bits)
        return bits, bits

    return xs, jax.lax.scan(hold, jnp.zeros(3, jnp.float32), xs)[1]


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(16,), (12, 12)])
def test_a_trained_flip_flop_has_the_points_that_its_codes_have(key, widths):
    # the search by its defaults, from states of trajectories, against all codes; every pattern of three bits is held
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(1e-2, 800)))

    def loss(rnn, key):
        xs, bits = jax.vmap(flip_flop)(jax.random.split(key, 64))
        return ((jax.vmap(lambda x: maso_rnn.forward(rnn, x))(xs) - bits) ** 2).mean()

    @jax.jit
    def train(rnn, key):
        def step(carry, key):
            rnn, state = carry
            updates, state = optimizer.update(jax.grad(loss)(rnn, key), state)
            return (optax.apply_updates(rnn, updates), state), None

        return jax.lax.scan(step, (rnn, optimizer.init(rnn)), jax.random.split(key, 800))[0][0]

    rnn = train(maso_rnn.init(jax.random.key(0), 3, widths, 3, dtype="float32"), jax.random.key(1))
    xs, _ = jax.vmap(flip_flop)(jax.random.split(key, 32))
    states = jax.vmap(lambda x: maso_rnn.trajectory(rnn, x).states)(xs)
    silent = jnp.zeros(3, jnp.float32)
    found = fixed_points(rnn, sample_states(key, states, 500), silent)
    every = all_fixed_points(rnn, silent)
    assert not (found.slow | found.degenerate).any()
    assert found.stable.sum() >= 8
    assert found.stable.sum() == every.stable.sum()
    if widths == (16,):
        assert (len(every.stable), int(every.stable.sum())) == (27, 8)
    assert len(found.stable) == len(every.stable)
    rows = [np.concatenate([np.asarray(part) for part in one.states], axis=1) for one in (found, every)]
    gaps = np.linalg.norm(rows[0][:, None] - rows[1], axis=2) / np.linalg.norm(rows[1], axis=1)
    assert gaps.min(axis=1).max() < 1e-3  # float32, times the condition near passes


@pytest.mark.slow
def test_trained_networks_of_torch_come_to_rest_where_iteration_does():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net, head = torch.nn.GRU(3, 16, 2, batch_first=True), torch.nn.Linear(16, 3)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], 1e-2)
    for k in range(200):
        xs, bits = (
            torch.from_numpy(np.array(part)) for part in jax.vmap(flip_flop)(jax.random.split(jax.random.key(k), 64))
        )
        loss = ((head(net(xs)[0]) - bits) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    weights = {name: jnp.asarray(value.detach().double().numpy()) for name, value in net.named_parameters()}

    def step(carry, x):
        after = []
        for l, h in enumerate(carry):
            driven = jnp.split(weights[f"weight_ih_l{l}"] @ x + weights[f"bias_ih_l{l}"], 3)
            own = jnp.split(weights[f"weight_hh_l{l}"] @ h + weights[f"bias_hh_l{l}"], 3)
            reset, update = (jax.nn.sigmoid(a + b) for a, b in zip(driven[:2], own[:2], strict=True))
            x = (1 - update) * jnp.tanh(driven[2] + reset * own[2]) + update * h
            after.append(x)
        return tuple(after)

    @jax.jit
    def run(carry, xs):
        def body(carry, x):
            after = step(carry, x)
            return after, after

        return jax.lax.scan(body, carry, xs)[1]

    xs, _ = jax.vmap(flip_flop)(jax.random.split(jax.random.key(3), 32))
    states = jax.vmap(lambda xs: run((jnp.zeros(16),) * 2, xs.astype(float)))(xs)
    starts = sample_states(jax.random.key(4), states, 100)
    found = fixed_points(step, starts, jnp.zeros(3))
    # by plain iteration
    rest = [np.asarray(part[:, -1]) for part in jax.vmap(lambda c: run(c, jnp.zeros((3000, 3))))(starts)]
    rest = np.concatenate(rest, axis=1)
    points = np.concatenate([np.asarray(part) for part in found.states], axis=1)
    gaps = np.linalg.norm(rest[:, None] - points, axis=2)
    stable = np.asarray(found.stable)
    assert set(gaps.argmin(axis=1)) <= set(np.flatnonzero(stable))
    assert gaps.min(axis=1).max() < 1e-6  # 3,000 steps at the slowest eigenvalue
    assert found.unconverged == 0
    real = ~np.asarray(found.slow)
    moved = jax.vmap(lambda c: step(c, jnp.zeros(3)))(found.states)
    speeds = np.sqrt(sum(((a - b) ** 2).sum(axis=1) for a, b in zip(moved, found.states, strict=True)))
    assert speeds[real].max() < 1e-14  # rounding in float64, not a tolerance
