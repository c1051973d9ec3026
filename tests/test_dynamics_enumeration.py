"""Every fixed point and cycle of piecewise affine networks, against solving for every code of all layers at once."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import RNN, Layer, Readout, all_fixed_points

ACTIVATIONS = ("relu", "leaky_relu", "abs", "hard_tanh", "identity")


def ring(rnn, x, period):
    """K and c of p = K h + c for the states (period · units) of all layers in a cycle, and how to build them."""
    widths = [layer.input_kernel.shape[1] for layer in rnn.layers]
    units, ends = sum(widths), np.cumsum([0, *widths])
    kernel, drive = np.zeros((period, units, period, units)), np.zeros((period, units))
    for t in range(period):
        for l, layer in enumerate(rnn.layers):
            here = slice(ends[l], ends[l + 1])
            kernel[t, here, t - 1, here] += np.asarray(layer.recurrent_kernel).T
            if l:
                kernel[t, here, t, slice(ends[l - 1], ends[l])] += np.asarray(layer.input_kernel).T
            drive[t, here] = (x @ np.asarray(layer.input_kernel) if l == 0 else 0) + np.asarray(layer.bias)
    return kernel.reshape(period * units, -1), drive.ravel()


def brute_force(rnn, x, period):
    """One point after the other of every code whose equation is regular: states (point, period, units)."""
    kernel, drive = ring(rnn, x, period)
    act, n = rnn.activation, len(drive)
    found = []
    for code in itertools.product(range(len(act.slopes)), repeat=n):
        slopes, offsets = (np.array(values)[list(code)] for values in (act.slopes, act.offsets))
        system = np.eye(n) - slopes[:, None] * kernel
        if np.linalg.cond(system) > 1e12:
            continue
        h = np.linalg.solve(system, slopes * drive + offsets)
        p = kernel @ h + drive
        if np.abs(np.asarray(act(jnp.asarray(p))) - h).max() > 1e-9 * max(1, np.abs(h).max()):
            continue
        h = h.reshape(period, -1)
        divisors = [d for d in range(1, period) if period % d == 0]
        if any(np.abs(h - np.roll(h, d, axis=0)).max() < 1e-8 * max(1, np.abs(h).max()) for d in divisors):
            continue
        shifts = [np.roll(h, shift, axis=0) for shift in range(period)]
        if not any(np.abs(shift - old).max() < 1e-8 * max(1, np.abs(h).max()) for shift in shifts for old in found):
            found.append(h)
    return found


def joint(found, period):
    states = [np.asarray(part) for part in found.states]
    states = [part[:, None] if period == 1 else part for part in states]
    return np.concatenate(states, axis=2)


def assert_same(found, wanted, period):
    """Regular points are those of brute force, as sets of cycles."""
    states = joint(found, period)[~np.asarray(found.degenerate)]
    assert len(states) == len(wanted)
    for h in states:
        gaps = [np.abs(np.roll(h, s, axis=0) - old).max() for s in range(period) for old in wanted]
        assert min(gaps) < 1e-8 * max(1, np.abs(h).max())  # float64, times the condition of the code's equation


def random_network(random, activation, widths, kind="normal"):
    act = maso_rnn.activation(activation)
    layers, below = [], 2
    for width in widths:
        kernel = 1.5 * random.standard_normal((width, width)) / np.sqrt(width)
        bias = random.standard_normal(width)
        if kind == "unit diagonal":
            np.fill_diagonal(kernel, 1.0)
        if kind == "zero bias":
            bias = np.zeros(width)
        if kind == "winner take all":
            kernel, bias = 1.2 * np.eye(width) - 0.5, np.full(width, 1.0)
        layers.append(Layer(*map(jnp.asarray, (random.standard_normal((below, width)), kernel, bias))))
        below = width
    x = np.zeros(2) if kind in ("zero bias", "winner take all") else random.standard_normal(2)
    return RNN(tuple(layers), Readout(jnp.ones((below, 1))), activation=act), x


SIZES = {1: ([5], [2, 2], [2, 1, 2]), 2: ([3], [2, 1], [1, 1, 1]), 3: ([2], [1, 1]), 4: ([2], [1, 1])}


def cases(count):
    """Networks of one to three layers, every activation, periods 1 to 4, with codes ≤ 2^12."""
    kinds = ("normal", "normal", "normal", "unit diagonal", "zero bias", "winner take all")
    turns = itertools.product(SIZES, ACTIVATIONS, range(3), kinds)
    every = [turn for turn in turns if turn[2] < len(SIZES[turn[0]])]
    chosen = np.random.default_rng(1).permutation(len(every))
    for seed in range(count):
        period, activation, size, kind = every[chosen[seed % len(every)]]
        widths = SIZES[period][size]
        if activation == "hard_tanh" and sum(widths) * period > 7:
            widths = widths[:1]
        yield seed, period, activation, widths, kind


def check_against_brute_force(count):
    points = 0
    for seed, period, activation, widths, kind in cases(count):
        random = np.random.default_rng(seed)
        rnn, x = random_network(random, activation, widths, kind)
        wanted = brute_force(rnn, x, period)
        found = all_fixed_points(rnn, jnp.asarray(x), period=period)
        assert_same(found, wanted, period)
        assert np.all(np.asarray(found.residuals) < 1e-20)  # squares of float64 roundings
        whole = all_fixed_points(rnn, jnp.asarray(x), period=period, prune=False)
        assert_same(whole, wanted, period)
        points += len(wanted)
    assert points > count / 4


def test_every_cycle_of_random_networks_by_brute_force():
    check_against_brute_force(24)


@pytest.mark.slow
def test_every_cycle_of_two_hundred_random_networks_by_brute_force():
    check_against_brute_force(200)
