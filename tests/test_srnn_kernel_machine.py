"""The weights of a network on the signature of its input: against flows, finite differences, and by their rates."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn

HIDDEN, INPUTS = 3, 2


def made(key, scale=1.0):
    """A field of a tanh layer as a pytree, a readout, a start, and the weights."""
    keys = jax.random.split(key, 5)
    weights = tuple(
        scale * jax.random.normal(k, shape, jnp.float64) for k, shape in zip(keys, [(3, 3), (2, 3), (3,)], strict=False)
    )
    h0, x0 = 0.3 * jax.random.normal(keys[3], (HIDDEN,)), 0.2 * jax.random.normal(keys[4], (INPUTS,))
    return jax.tree_util.Partial(layer, weights), readout, h0, x0


def layer(weights, h, x):
    recurrent, inputs, bias = weights
    return jnp.tanh(h @ recurrent + x @ inputs + bias)


def readout(h):
    return jnp.stack([h[0] + 2 * h[1], h[2] ** 2])


def flow(field, h, x, increments, steps=200):
    """Where pieces (dt, dx) in turn lead: h by Runge and Kutta's fourth order, x in a straight line."""
    for piece in np.asarray(increments):
        dt, dx = piece[0] / steps, piece[1:] / steps

        def step(carry, _, dt=dt, dx=dx):
            h, x = carry
            first = field(h, x)
            second = field(h + dt / 2 * first, x + dx / 2)
            third = field(h + dt / 2 * second, x + dx / 2)
            fourth = field(h + dt * third, x + dx)
            return (h + dt / 6 * (first + 2 * second + 2 * third + fourth), x + dx), None

        (h, x), _ = jax.lax.scan(step, (h, x), None, steps)
    return h, x


def path_of(x0, increments):
    return jnp.concatenate([jnp.zeros((1, 1 + len(x0))), jnp.cumsum(jnp.asarray(increments), axis=0)])


def expansion(found, path, order):
    return found.constant + srnn.signature(path, order) @ found.values


@pytest.mark.parametrize("word", [(0,), (0, 0), (1, 0), (2, 0), (0, 1), (2, 1, 0), (1, 0, 0), (0, 2, 0)])
def test_coefficients_are_derivatives_of_the_flow(key, word):
    field, read, h0, x0 = made(key)
    found = srnn.signature_coefficients(field, read, h0, x0, order=3)

    @jax.jit
    def moved(sizes):
        pieces = jnp.zeros((len(word), INPUTS + 1)).at[jnp.arange(len(word)), jnp.array(word)].set(sizes)
        h, x = h0, x0
        for piece in pieces:  # Euler's midpoint, exact to second order, in small pieces
            (h, x), _ = jax.lax.scan(
                lambda c, _, piece=piece: (midpoint(field, *c, piece / 20), None), (h, x), None, 20
            )
        return read(h)

    # mixed central differences: h² of curvature
    h = 1e-2
    signs = list(itertools.product((-1, 1), repeat=len(word)))
    difference = sum(np.prod(s) * moved(h * jnp.array(s, float)) for s in signs) / (2 * h) ** len(word)
    levels = np.cumsum([0, 3, 9])
    at = levels[len(word) - 1] + sum(letter * 3 ** (len(word) - 1 - i) for i, letter in enumerate(word))
    np.testing.assert_allclose(found.values[at], difference, atol=2e-3)


def midpoint(field, h, x, piece):
    half = h + piece[0] / 2 * field(h, x)
    return h + piece[0] * field(half, x + piece[1:] / 2), x + piece[1:]


def test_a_linear_network_has_the_weights_of_its_series(key):
    recurrent = jax.random.normal(key, (HIDDEN, HIDDEN), jnp.float64)
    inputs = jax.random.normal(jax.random.fold_in(key, 1), (INPUTS, HIDDEN), jnp.float64)
    found = srnn.signature_coefficients(
        lambda h, x: h @ recurrent + x @ inputs, lambda h: h, jnp.zeros(HIDDEN), jnp.zeros(INPUTS), order=3
    )
    # ∫ x V dt, then U once more: words (i, t) and (i, t, t)
    np.testing.assert_allclose(found.values[3 + 3 * 1 + 0], inputs[0], atol=1e-14)
    np.testing.assert_allclose(found.values[3 + 9 + 9 * 2], inputs[1] @ recurrent, atol=1e-14)
    assert jnp.count_nonzero(found.values) == 2 * 2 * HIDDEN


def test_the_error_falls_with_the_size_of_the_path_to_the_power_of_the_next_order(key):
    field, read, h0, x0 = made(key)
    increments = np.array([[0.5, 0.3, -0.2], [0.5, -0.4, 0.5]])
    found = srnn.signature_coefficients(field, read, h0, x0, order=4)
    ends = np.cumsum([3, 9, 27, 81])
    for order, end in enumerate(ends, start=1):
        part = found._replace(values=found.values[:end])
        errors = []
        for size in (0.1, 0.05):
            h, _ = flow(field, h0, x0, size * increments)
            errors.append(np.abs(read(h) - expansion(part, path_of(x0, size * increments), order)).max())
        assert abs(np.log2(errors[0] / errors[1]) - (order + 1)) < 0.25


def test_the_bound_holds_and_errors_fall_at_its_rate_inside_its_condition(key):
    field, read, h0, x0 = made(key, scale=0.1)
    (recurrent, inputs, _), read = field.args[0], lambda h: h
    increments = np.array([[0.5, 0.5, -0.3], [0.5, -0.5, 0.6]])
    path = path_of(x0, increments)
    h, _ = flow(field, h0, x0, increments)
    found = srnn.signature_coefficients(field, read, h0, x0, order=4)
    errors, bounds = [], []
    for order, end in enumerate(np.cumsum([3, 9, 27, 81]), start=1):
        errors.append(np.abs(h - expansion(found._replace(values=found.values[:end]), path, order)).max())
        bounds.append(float(srnn.expansion_bound(recurrent, inputs, path, order=order)))
    assert (np.array(errors) <= bounds).all()
    size = np.abs(recurrent).sum(axis=0).max() + (np.abs(increments[:, 1:]) @ np.abs(inputs)).max(axis=1).sum()
    assert size < 0.66
    assert errors[-1] <= errors[0] * (size / 0.66) ** 3  # (C / r)^N


def test_derivatives_of_tanh_are_within_their_majorant():
    x, derivative = jnp.linspace(-4, 4, 400), jnp.tanh
    factorial = 1.0
    for k in range(1, 7):
        derivative, factorial = jax.grad(derivative), factorial * k
        assert jnp.abs(jax.vmap(derivative)(x)).max() <= factorial * (2 / np.pi) ** (k - 1) * (1 + 1e-12)


def test_the_gap_between_network_and_equation_falls_with_the_number_of_steps(key):
    field, _, h0, x0 = made(key)
    increments = np.array([[1.0, 0.7, -0.5]])
    wanted, _ = flow(field, h0, x0, increments)

    def network(steps):
        xs = x0 + jnp.arange(1, steps + 1)[:, None] / steps * increments[:, 1:]
        return jax.lax.scan(lambda h, x: (h + field(h, x) / steps, None), h0, xs)[0]

    gaps = [jnp.abs(network(steps) - wanted).max() for steps in (50, 100)]
    assert abs(gaps[0] / gaps[1] - 2) < 0.1


def test_outputs_differ_by_no_more_than_the_norm_allows(key):
    field, read, h0, x0 = made(key, scale=0.3)
    variation, order = 0.4, 4
    norm = srnn.kernel_norm(field, read, h0, x0, order=order, variation=variation)
    found = srnn.signature_coefficients(field, read, h0, x0, order=order)
    scales = np.array([2 / (1 - variation), 1, 1])
    weighed, features = [], []
    paths = [path_of(x0, np.array([[1.0, a, -a]])) for a in (0.1, 0.2)]
    at = 0
    for k in range(1, order + 1):
        factor = np.array([np.prod(scales[list(word)]) for word in itertools.product(range(3), repeat=k)])
        count, factorial = len(factor), float(np.prod(np.arange(1, k + 1)))
        weighed.append(found.values[at : at + count] * factor[:, None] / factorial)
        features.append([srnn.signature(p, k)[-count:] / factor * factorial for p in paths])
        at += count
    np.testing.assert_allclose(norm, np.linalg.norm(np.concatenate(weighed)), rtol=1e-12)
    apart = np.linalg.norm(np.concatenate([a - b for a, b in features]))
    first, second = (expansion(found, p, order) for p in paths)
    assert np.linalg.norm(first - second) <= norm * apart


def test_the_norm_is_a_penalty_that_can_be_descended(key):
    field, read, h0, x0 = made(key)
    penalty = jax.jit(jax.value_and_grad(lambda field: srnn.kernel_norm(field, read, h0, x0, order=3) ** 2))
    before, gradient = penalty(field)
    after, _ = penalty(jax.tree.map(lambda w, g: w - 1e-3 * g / jnp.abs(g).max(), field, gradient))
    assert after < before
    nothing = jax.grad(
        lambda w: srnn.kernel_norm(jax.tree_util.Partial(lambda w, h, x: w * h, w), read, h0 * 0, x0, order=2)
    )
    assert nothing(jnp.ones(HIDDEN)).tolist() == [0.0] * HIDDEN


def test_orders_that_are_too_large_are_refused_with_the_size(key):
    field, read, h0, x0 = made(key)
    with pytest.raises(ValueError, match="order"):
        srnn.signature_coefficients(field, read, h0, x0, order=9)
    with pytest.raises(ValueError, match=r"order.*100"):
        srnn.signature_coefficients(lambda h, x: h, read, h0, jnp.zeros(99), order=4)


@pytest.mark.slow
def test_order_five_compiles_in_seconds(key):
    field, read, h0, x0 = made(key)
    start = time.process_time()
    jax.block_until_ready(srnn.signature_coefficients(field, read, h0, x0, order=5))
    assert time.process_time() - start < 10
