"""Laws that hold for every network, path and kernel, at scales from 1e-8 to 1e8.

Hypothesis chooses seeds, scales and lengths; shapes stay few, so that each law is compiled once or twice. Everything is
float64, and each tolerance is a number of roundings of the largest terms that are summed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maso_rnn
import path_opt
import srnn

EPS = np.finfo(np.float64).eps
TIME, INPUTS, WIDTHS, OUTPUTS = 6, 2, (5, 4), 3
ACTIVATIONS = ("relu", "leaky_relu", "abs", "hard_tanh")

seeds = st.integers(0, 2**32 - 1)
scales = st.integers(-8, 8).map(lambda power: 10.0**power)
# the same examples at every run
law = settings(derandomize=True, deadline=None, max_examples=25, database=None)


def drawn(seed, activation="leaky_relu", widths=WIDTHS):
    """A network with biases, a sequence and an initial state, from NumPy: nothing is compiled."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.asarray(random.normal(size=shape) / np.sqrt(shape[0]))

    sizes = (INPUTS, *widths)
    layers = tuple(
        maso_rnn.Layer(normal(below, width), normal(width, width), normal(width))
        for below, width in zip(sizes, widths, strict=False)
    )
    readout = maso_rnn.Readout(normal(widths[-1], OUTPUTS), normal(OUTPUTS))
    rnn = maso_rnn.RNN(layers, readout, activation=maso_rnn.activation(activation))
    return rnn, normal(TIME, INPUTS), tuple(normal(width) for width in widths)


@functools.cache
def compiled(function):
    return jax.jit(function)


def magnified(rnn, scale):
    """The network whose every bias is `scale` times as large: with inputs and states too, so are all its states."""
    layers = tuple(layer.replace(bias=layer.bias * scale) for layer in rnn.layers)
    return rnn.replace(layers=layers, readout=rnn.readout.replace(bias=rnn.readout.bias * scale))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_affine_map_rebuilds_the_output(activation):
    @law
    @given(seeds, scales, scales)
    def holds(seed, of_input, of_bias):
        rnn, xs, h0 = drawn(seed, activation)
        rnn, xs = magnified(rnn, of_bias), xs * of_input
        affine = compiled(maso_rnn.affine_map)(rnn, xs, h0)
        terms = [np.asarray(affine.slope * xs).reshape(OUTPUTS, -1), np.asarray(affine.offset)[:, None]]
        terms += [np.asarray(slope * h) for slope, h in zip(affine.initial_slope, h0, strict=True)]
        together = np.concatenate(terms, axis=1)
        # the terms of one output, each a sum over paths that may have cancelled: some roundings of the largest state
        largest = np.abs(together).sum(axis=1) + of_input + of_bias + 1
        assert (np.abs(together.sum(axis=1) - np.asarray(affine.output)) <= 1e4 * EPS * largest).all()
        assert (np.asarray(affine.output) == np.asarray(compiled(maso_rnn.last_output)(rnn, xs, h0))).all() or (
            np.allclose(affine.output, compiled(maso_rnn.last_output)(rnn, xs, h0), rtol=0, atol=1e3 * EPS * largest)
        )

    holds()


def test_rescaling_changes_neither_the_function_nor_the_path_values():
    graph = path_opt.reduction_graph(drawn(0)[0], skeleton="modulo")

    @compiled
    def before_and_after(rnn, xs, h0, logs):
        other = path_opt.rescale(rnn, graph, logs)
        moved = tuple(h * jnp.exp(log) for h, log in zip(h0, logs, strict=True))
        found = []
        for network, state in ((rnn, h0), (other, moved)):
            run = maso_rnn.trajectory(network, xs, state)
            values = path_opt.path_values(network, graph).values
            found.append((run.outputs, run.codes, values, path_opt.path_norm(network, graph, TIME, log=True)))
        return found

    @law
    @given(seeds, scales, scales)
    def holds(seed, first, second):
        rnn, xs, h0 = drawn(seed)
        # each unit by its own scale, the largest and the smallest of them far apart
        logs = [np.linspace(np.log(first), np.log(second), width) for width in WIDTHS]
        (z, codes, values, norm), (moved_z, moved_codes, moved_values, moved_norm) = before_and_after(
            rnn, xs, h0, [jnp.asarray(log) for log in logs]
        )
        np.testing.assert_allclose(moved_z, z, rtol=0, atol=1e4 * EPS * max(1, np.abs(z).max()))
        assert sum((np.asarray(a) != np.asarray(b)).sum() for a, b in zip(codes, moved_codes, strict=True)) == 0
        for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(moved_values), strict=True):
            np.testing.assert_allclose(b, a, rtol=100 * EPS)  # products alone: relative to each of them
        np.testing.assert_allclose(moved_norm, norm, rtol=0, atol=1e3 * EPS)

    holds()


@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
def test_codes_are_constant_and_outputs_affine_along_every_piece_of_a_walk(activation):
    checked = 0

    @law
    @given(seeds, scales)
    def holds(seed, scale):
        nonlocal checked
        rnn, xs, _ = drawn(seed, activation)
        rnn = magnified(rnn, scale) if activation == "relu" else rnn
        start, stop = np.asarray(xs) * scale, np.asarray(xs)[::-1] * scale
        walk = maso_rnn.walk_line(rnn, start, stop, max_regions=500)
        assert not walk.overflow
        edges = np.concatenate([[0.0], walk.breakpoints, [1.0]])
        lengths = np.diff(edges)
        for piece in np.flatnonzero(lengths > 1e-6)[:5]:  # in a shorter one the kinks are a rounding away
            for share in (0.25, 0.75):
                s = edges[piece] + share * lengths[piece]
                run = compiled(maso_rnn.trajectory)(rnn, jnp.asarray((1 - s) * start + s * stop))
                # packed in NumPy: eight units to a byte
                whole = [np.asarray(code) for code in run.codes]
                steps = [code if code.dtype == np.uint8 else np.packbits(code, axis=-1) for code in whole]
                assert (np.concatenate(steps, axis=-1).ravel() == walk.codes[piece]).all()
                between = (1 - share) * walk.outputs[piece] + share * walk.outputs[piece + 1]
                size = scale + np.abs(walk.outputs).max() + 1
                np.testing.assert_allclose(run.outputs[-1], between, rtol=0, atol=1e-8 * size)
                checked += 1

    holds()
    assert checked > 50


@pytest.mark.parametrize("basis", ["schur", "orthogonal"])
def test_every_eigenvalue_of_the_eigen_initializer_lies_on_its_circle(basis):
    @law
    @given(seeds, scales)
    def holds(seed, radius):
        kernel = maso_rnn.eigen(radius, basis=basis)(jax.random.key(seed), (5, 5), jnp.float64)
        moduli = np.abs(np.linalg.eigvals(np.asarray(kernel)))
        np.testing.assert_allclose(moduli, radius, rtol=1e4 * EPS)  # normal matrices: all eigenvalues well conditioned

    holds()


def test_spectral_radius_is_what_was_asked_for():
    @law
    @given(seeds, scales)
    def holds(seed, radius):
        kernel = maso_rnn.spectral_radius(radius=radius)(jax.random.key(seed), (5, 5), jnp.float64)
        # of a random matrix, whose eigenvalues may be ill conditioned
        np.testing.assert_allclose(np.abs(np.linalg.eigvals(np.asarray(kernel))).max(), radius, rtol=1e-9)

    holds()


def _levels(flat, channels, depth):
    ends = np.cumsum([channels**k for k in range(1, depth + 1)])
    parts = np.split(np.asarray(flat), ends[:-1])
    return [np.ones(1), *parts]


def _product(a, b):
    """The truncated tensor product, by definition."""
    return [sum(np.outer(a[j], b[k - j]).ravel() for j in range(k + 1)) for k in range(len(a))]


def test_signatures_join_by_chens_identity_and_time_reversal_inverts_them():
    depth, channels = 3, 2

    @law
    @given(seeds, scales)
    def holds(seed, scale):
        path = scale * np.random.default_rng(seed).normal(size=(9, channels))

        def of(points):
            return _levels(srnn.signature(jnp.asarray(points), depth), channels, depth)

        joined = _product(of(path[:5]), of(path[4:]))
        undone = _product(of(path), of(path[::-1]))
        length = np.abs(np.diff(path, axis=0)).sum()
        for k, (got, wanted) in enumerate(zip(joined, of(path), strict=True)):
            # level k is a sum of products of k increments
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e2 * EPS * length**k)
        for k, level in enumerate(undone):
            np.testing.assert_allclose(level, 1.0 if k == 0 else 0.0, rtol=0, atol=1e2 * EPS * length**k)

    holds()


def test_the_first_order_response_is_linear_and_the_second_quadratic():
    steps, channels, dt = 4, 2, 0.25

    @law
    @given(seeds, scales, scales)
    def holds(seed, a, b):
        random = np.random.default_rng(seed)
        times = jnp.arange(steps) * dt
        rest = (steps * dt - times, jnp.zeros(()), jnp.asarray(0), jnp.zeros(2))
        shapes = ((steps, channels), (steps, steps, channels, channels))
        values = [jnp.asarray(random.normal(size=shape)) for shape in shapes]
        kernels = [srnn.Kernel(times, value, jnp.ones_like(value), *rest) for value in values]
        u, v = random.normal(size=(2, steps, channels))

        def terms(control):
            return np.asarray(srnn.volterra(kernels, jnp.asarray(control), dt))

        first = terms(a * u + b * v)[0]
        size = (a + b) * sum(np.abs(values[0]).ravel() * dt * (np.abs(u) + np.abs(v)).ravel())
        np.testing.assert_allclose(first, a * terms(u)[0] + b * terms(v)[0], rtol=0, atol=50 * EPS * size)
        largest = a**2 * np.abs(values[1]).sum() * dt**2 * np.abs(u).max() ** 2
        np.testing.assert_allclose(terms(a * u)[1], a**2 * terms(u)[1], rtol=0, atol=50 * EPS * largest)

    holds()


@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
def test_the_parallel_trajectory_is_the_sequential_one(activation):
    @law
    @given(seeds, scales)
    def holds(seed, scale):
        rnn, xs, h0 = drawn(seed, activation)
        xs = xs * scale
        result = compiled(maso_rnn.parallel_forward)(rnn, xs, h0)
        run = compiled(maso_rnn.trajectory)(rnn, xs, h0)
        assert bool(result.converged)
        # a unit closer to its kink than rounding may have either code: its state is the same
        size = 1 + scale + max(float(np.abs(h).max()) for h in run.states)
        for got, wanted in zip(
            (result.trajectory.outputs, *result.trajectory.states), (run.outputs, *run.states), strict=True
        ):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e4 * EPS * size)

    holds()


def _by_jacobians(rnn, xs, h0):
    """The distance to the nearest kink with all gradients ∂p/∂xs carried as matrices, in NumPy."""
    slopes, kinks = np.asarray(rnn.activation.slopes), np.asarray(rnn.activation.breakpoints)
    offsets = np.asarray(rnn.activation.offsets)
    xs, states = np.asarray(xs), [np.asarray(h) for h in h0]
    gradients = [np.zeros((xs.size, len(h))) for h in states]
    nearest = np.inf
    for t, x in enumerate(xs):
        below, into = x, np.zeros((xs.size, INPUTS))
        into[t * INPUTS : (t + 1) * INPUTS] = np.eye(INPUTS)
        for l, layer in enumerate(rnn.layers):
            kernel, recurrent = np.asarray(layer.input_kernel), np.asarray(layer.recurrent_kernel)
            p = below @ kernel + states[l] @ recurrent + np.asarray(layer.bias)
            moved = into @ kernel + gradients[l] @ recurrent
            norms = np.linalg.norm(moved, axis=0)
            to_kink = np.abs(p[:, None] - kinks).min(axis=1)
            nearest = min(nearest, (to_kink[norms > 0] / norms[norms > 0]).min(initial=np.inf))
            code = (p[:, None] > kinks).sum(axis=1)
            states[l], gradients[l] = slopes[code] * p + offsets[code], moved * slopes[code]
            below, into = states[l], gradients[l]
    return nearest


@pytest.mark.parametrize("activation", ["leaky_relu", "hard_tanh"])
def test_the_gram_recursion_has_the_norms_of_the_jacobians(activation):
    @law
    @given(seeds, scales, scales)
    def holds(seed, of_input, of_kernel):
        rnn, xs, h0 = drawn(seed, activation)
        first = rnn.layers[0].replace(input_kernel=rnn.layers[0].input_kernel * of_kernel)
        rnn, xs = rnn.replace(layers=(first, *rnn.layers[1:])), xs * of_input
        got = float(compiled(maso_rnn.boundary_distance)(rnn, xs, h0))
        wanted = _by_jacobians(rnn, xs, h0)
        # squares in the Gram matrix: half the digits of a norm that others cancel to, and rounding of p over that norm
        largest = 1 + of_input * of_kernel
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e3 * EPS * largest / of_kernel)

    holds()
