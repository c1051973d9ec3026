"""Searches for fixed points against those that people use, in NumPy and torch; the first few exponents alone."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.interleaved import compare, first_called, installed, ratios
from benchmarks.speed.reach import Bar
from maso_rnn import RNN, Layer, Readout, all_fixed_points, fixed_points, lyapunov_exponents

HIDDEN, STARTS = 64, 4096
PATTERNS = np.asarray(jax.random.rademacher(jax.random.key(0), (3, HIDDEN), jnp.float32))
KERNEL = 1.5 * PATTERNS.T @ PATTERNS / HIDDEN
DISTANCE = 1e-2  # at which two points of norm 8 are one


def remembering(h, x):
    """A network that remembers three patterns: seven fixed points and more, some of them stable."""
    return jnp.tanh(h @ KERNEL)


def newton_from_every_start(starts, kernel, steps=20):
    """Plain Newton in NumPy from all starts; those that have converged rest."""
    states, active, eye = starts.copy(), np.arange(len(starts)), np.eye(len(kernel), dtype=starts.dtype)
    enough = 4 * np.finfo(starts.dtype).eps * np.sqrt(len(kernel))
    for _ in range(steps):
        after = np.tanh(states[active] @ kernel)
        misses = after - states[active]
        active_on = np.abs(misses).max(axis=1) > enough
        active, after, misses = active[active_on], after[active_on], misses[active_on]
        if not len(active):
            break
        system = (1 - after**2)[:, :, None] * kernel.T - eye
        with np.errstate(all="ignore"):
            states[active] -= np.linalg.solve(system, misses[..., None])[..., 0]
        active = active[np.isfinite(states[active]).all(axis=1)]
    return states


def adam_from_every_start(torch, starts, kernel, steps=5000, tolerance=1e-9):
    """As FixedPointFinder searches: Adam on the mean of q over all starts, the rate falling, until q stays small."""
    kernel = torch.from_numpy(kernel)
    states = torch.from_numpy(starts.copy()).requires_grad_()
    optimizer = torch.optim.Adam([states], lr=1.0 / 20)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.95, patience=2)
    for _ in range(steps):
        optimizer.zero_grad()
        q = 0.5 * ((torch.tanh(states @ kernel) - states) ** 2).sum(dim=1)
        if float(q.detach().max()) <= tolerance:
            break
        total = q.mean()
        total.backward()
        optimizer.step()
        schedule.step(total.detach())
    return states.detach().numpy()


def true_points(states, kernel):
    """The different fixed points among states, each polished in float64 and held against the equation."""
    states = states[np.isfinite(states).all(axis=1)].astype(np.float64)
    q = 0.5 * ((np.tanh(states @ kernel) - states) ** 2).sum(axis=1)
    found = []
    for h in states[np.argsort(q)][np.sort(q) <= 1e-9]:
        if any(np.linalg.norm(h - old) < DISTANCE for old in found):
            continue
        end = h.copy()
        for _ in range(10):
            after = np.tanh(end @ kernel)
            end = end - np.linalg.solve((1 - after**2)[:, None] * kernel.T - np.eye(len(end)), after - end)
        is_root = np.abs(np.tanh(end @ kernel) - end).max() < 1e-12
        if is_root and np.linalg.norm(end - h) < DISTANCE and all(np.linalg.norm(end - o) >= DISTANCE for o in found):
            found.append(end)
    return len(found)


def test_fixed_points_against_newton_and_adam(record):
    """All from the same starts, in float32; what counts are points that float64 agrees are there."""
    starts = np.asarray(jax.random.normal(jax.random.key(1), (STARTS, HIDDEN), jnp.float32))
    programs = {
        "ours": first_called(lambda: fixed_points(remembering, starts)),
        "Newton from every start, NumPy": first_called(lambda: newton_from_every_start(starts, KERNEL)),
    }
    ends = {
        "ours": np.asarray(fixed_points(remembering, starts).states),
        "Newton from every start, NumPy": newton_from_every_start(starts, KERNEL),
    }
    table = compare(programs, repeats=5)
    fastest = table["Newton from every start, NumPy"]["ratio"]
    absent = []
    if torch := installed("torch"):
        torch.set_num_threads(1)
        name = "Adam as in FixedPointFinder, torch"
        began = time.process_time()
        ends[name] = adam_from_every_start(torch, starts, KERNEL)
        once = np.array([time.process_time() - began])  # a minute: no need of several
        table[name] = ratios({"ours": np.array([table["ours"]["median_cpu_seconds"]]), name: once})[name]
        fastest = max(fastest, table[name]["ratio"])
    else:
        absent = ["torch"]
    points = {name: true_points(states, KERNEL.astype(np.float64)) for name, states in ends.items()}
    record(
        "fixed points from many starts",
        {"hidden": HIDDEN, "starts": STARTS},
        table,
        [
            Bar("CPU time, of that of the fastest other", fastest, 1.2),
            Bar("the most true points of another, of ours", max(points.values()) / points["ours"], 1.0),
        ],
        absent,
        **{f"points, {name}": count for name, count in points.items()},
    )


def scyfi(random, kernel, bias, restarts=100, iterations=500):
    """SCYFI's published search for fixed points of h = relu(h U + b): from random codes, each solution's codes next.

    As in Eisenmann, Monfared, Göring and Durstewitz (2023), algorithm 1: up to `iterations` codes from each of
    `restarts` random ones; a new point starts the count of restarts anew.
    """
    hidden = len(bias)
    found, left = [], restarts
    while left:
        left -= 1
        code = random.integers(0, 2, hidden)
        for _ in range(iterations):
            try:
                h = np.linalg.solve(np.eye(hidden) - (kernel * code).T, code * bias)
            except np.linalg.LinAlgError:
                code = random.integers(0, 2, hidden)
                continue
            after = (h @ kernel + bias > 0).astype(int)
            if (after == code).all():
                if not any(np.abs(h - old).max() < 1e-9 * max(1, np.abs(h).max()) for old in found):
                    found.append(h)
                    left = restarts
                break
            code = after
    return np.array(found)


def competitive(seed, hidden):
    """ReLU units that hold themselves up and others down: several fixed points, few of them stable."""
    random = np.random.default_rng(seed)
    kernel = 1.1 * np.eye(hidden) - 0.8 * np.abs(random.standard_normal((hidden, hidden))) / np.sqrt(hidden)
    bias = random.standard_normal(hidden) + 0.5
    layer = Layer(jnp.zeros((1, hidden)), jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32))
    return RNN((layer,), Readout(jnp.ones((hidden, 1), jnp.float32)))


def test_points_of_relu_networks_against_scyfi(record):
    """Two networks of 14 ReLU units, all of whose points are known by going through the codes."""
    rnns = [competitive(seed, 14) for seed in range(2)]
    weights = [tuple(np.float64(part) for part in (rnn.layers[0].recurrent_kernel, rnn.layers[0].bias)) for rnn in rnns]

    def ours():
        return [all_fixed_points(rnn) for rnn in rnns]

    def searched():
        random = np.random.default_rng(0)
        starts = random.standard_normal((64, 14)).astype(np.float32)
        return [fixed_points(rnn, (starts,), np.zeros(1, np.float32), outlier_scale=1e9) for rnn in rnns]

    def theirs():
        return [scyfi(np.random.default_rng(seed), *one) for seed, one in enumerate(weights)]

    every = sum(len(found.residuals) for found in ours())
    recall = {
        "ours": 1.0,
        "ours, from starts": sum(int((~found.slow).sum()) for found in searched()) / every,
        "SCYFI, NumPy": sum(len(found) for found in theirs()) / every,
    }
    programs = {
        "ours": first_called(ours),
        "ours, from starts": first_called(searched),
        "SCYFI, NumPy": first_called(theirs),
    }
    table = compare(programs, repeats=3)
    from_starts = table["SCYFI, NumPy"]["ratio"] / table["ours, from starts"]["ratio"]
    record(
        "fixed points of ReLU networks",
        {"hidden": 14, "networks": len(rnns)},
        table,
        [
            Bar("CPU time, of that of SCYFI", table["SCYFI, NumPy"]["ratio"], 0.1),
            Bar("CPU time from starts, of that of SCYFI", from_starts, 0.1),
            Bar("SCYFI's recall, of that from starts", recall["SCYFI, NumPy"] / recall["ours, from starts"], 1.0),
        ],
        points=every,
        **{f"recall, {name}": share for name, share in recall.items()},
    )


def test_twenty_units_by_their_codes(record):
    """Every fixed point of a ReLU network of 20 units: 2^20 codes."""
    random = np.random.default_rng(0)
    kernel, bias = 1.2 * random.standard_normal((20, 20)) / np.sqrt(20), random.standard_normal(20)
    layer = Layer(jnp.zeros((1, 20)), jnp.asarray(kernel, jnp.float32), jnp.asarray(bias, jnp.float32))
    rnn = RNN((layer,), Readout(jnp.ones((20, 1), jnp.float32)))
    table = compare({"ours": first_called(lambda: all_fixed_points(rnn))}, repeats=3)
    record(
        "all fixed points by their codes",
        {"hidden": 20},
        table,
        [Bar("CPU seconds", table["ours"]["median_cpu_seconds"], 5.0)],
    )


def test_five_exponents_against_all(record):
    kernel = 1.5 * jax.random.normal(jax.random.key(0), (128, 128), jnp.float32) / np.sqrt(128)
    h, inputs = jnp.ones(128, jnp.float32), jnp.zeros((10_000, 0), jnp.float32)

    def step(h, x):
        return jnp.tanh(h @ kernel)

    five, every = (lyapunov_exponents(step, h, inputs, count=count).exponents for count in (5, None))
    np.testing.assert_allclose(five, every[:5], atol=0.02)  # other first directions, and float32 in chaos
    programs = {
        "ours": first_called(lambda: lyapunov_exponents(step, h, inputs, count=5)),
        "all 128": first_called(lambda: lyapunov_exponents(step, h, inputs)),
    }
    table = compare(programs, repeats=3)
    record(
        "the first five Lyapunov exponents",
        {"hidden": 128, "time": 10_000},
        table,
        [Bar("CPU time, of that of all", table["all 128"]["ratio"], 0.1)],
    )
