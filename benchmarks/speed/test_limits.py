"""What limits the programs that miss a bar: the same work in parts, and other ways to do it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
import srnn
from benchmarks.speed import test_affine, test_regions, test_srnn_simulation
from benchmarks.speed.interleaved import compare, first_called, installed, jitted
from benchmarks.speed.page import PARTS


def bare_gram_matrices(rnn, xs):
    """The recursion alone: squares may leave the range of floats, and what rounding loses is not known."""
    layer = rnn.layers[0]
    hidden = len(layer.bias)

    def body(carry, x):
        h, gram, nearest = carry
        p = x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias
        gram = layer.recurrent_kernel.T @ gram @ layer.recurrent_kernel + layer.input_kernel.T @ layer.input_kernel
        norms = jnp.sqrt(jnp.diagonal(gram))
        nearest = jnp.minimum(nearest, jnp.where(norms > 0, jnp.abs(p) / norms, jnp.inf).min())
        slope = (p > 0).astype(p.dtype)
        return (jax.nn.relu(p), slope[:, None] * gram * slope, nearest), None

    start = (jnp.zeros(hidden, xs.dtype), jnp.zeros((hidden, hidden), xs.dtype), jnp.asarray(jnp.inf, xs.dtype))
    return jax.lax.scan(body, start, xs)[0][2]


def products_of_gradients(rnn, xs):
    kernel = orthogonal(rnn)
    rows = jnp.ones((xs.size, len(kernel)), xs.dtype)
    return jax.lax.scan(lambda rows, _: (rows @ kernel, None), rows, length=len(xs))[0].sum()


def products_of_gram_matrices(rnn, xs):
    kernel = orthogonal(rnn)
    start = jnp.ones(kernel.shape, xs.dtype)
    return jax.lax.scan(lambda gram, _: (kernel.T @ gram @ kernel, None), start, length=len(xs))[0].sum()


def orthogonal(rnn):
    """A kernel of the same size whose products neither grow nor vanish."""
    return jnp.linalg.qr(rnn.layers[0].recurrent_kernel)[0]


@pytest.mark.parametrize(("time", "hidden", "inputs"), [(64, 128, 1), (784, 32, 1), (28, 64, 28)])
def test_boundary_distance(record, time, hidden, inputs):
    rnn = test_affine.network(hidden, 10, inputs)
    xs = jax.random.normal(jax.random.key(1), (time, inputs), "float32")
    whole = {
        "ours": maso_rnn.boundary_distance,
        "jacfwd": test_regions.by_jacobians(jax.jacfwd),
        "gradients carried by hand": test_regions.carried,
        "the same in 8 scans, without rows that are still zero": functools.partial(test_regions.carried, scans=8),
        "Gram matrices, without care for range and rounding": bare_gram_matrices,
    }
    parts = {
        "the products of all gradients alone": products_of_gradients,
        "the products of Gram matrices alone": products_of_gram_matrices,
    }
    programs = {name: jitted(function, rnn, xs) for name, function in (whole | parts).items()}
    for name in whole:  # float32, other ways to sum the same squares
        np.testing.assert_allclose(programs["ours"].run(), programs[name].run(), rtol=1e-4)
    size = {"time": time, "hidden": hidden, "input": inputs}
    record(PARTS + "distance to the nearest wall", size, compare(programs, repeats=9))


def test_affine_map(record):
    batch, time, hidden, outputs, inputs = size = (64, 784, 256, 10, 1)
    rnn = test_affine.network(hidden, outputs, inputs)
    xs = jax.random.normal(jax.random.key(1), (batch, time, inputs), "float32")
    codes = jax.vmap(lambda x: maso_rnn.trajectory(rnn, x).codes[0])(xs)
    kernel = orthogonal(rnn)

    def forward(rnn, xs):
        return jax.vmap(lambda x: maso_rnn.trajectory(rnn, x).codes)(xs)

    def pull_back(kernel, codes, gate):
        """The products of the pull-back, with the codes between them or without."""
        rows = jnp.broadcast_to(rnn.readout.kernel.T, (batch, outputs, hidden))

        def body(rows, code):
            return (rows * code[:, None].astype(rows.dtype) if gate else rows) @ kernel.T, None

        return jax.lax.scan(body, rows, codes.swapaxes(0, 1), reverse=True)[0]

    def one_product(rows, kernel):  # summed: no memory is asked of the system for the result
        return (rows @ kernel).sum()

    rows = jnp.ones((batch * time * (1 + outputs), hidden), "float32")
    programs = {
        "ours": jitted(jax.vmap(maso_rnn.affine_map, (None, 0)), rnn, xs),
        "the forward pass alone": jitted(forward, rnn, xs),
        "the products of the pull-back and the codes": jitted(functools.partial(pull_back, gate=True), kernel, codes),
        "the products of the pull-back alone": jitted(functools.partial(pull_back, gate=False), kernel, codes),
        "all products as one large product": jitted(one_product, rows, kernel),
    }
    size = dict(zip(test_affine.AXES, size, strict=True))
    record(PARTS + "affine map of the last step", size, compare(programs, repeats=5))


@pytest.mark.parametrize("full", [False, True])
def test_simulate(record, full):
    model, control = test_srnn_simulation.setting(full=full)
    paths, hidden, run = test_srnn_simulation.PATHS, test_srnn_simulation.HIDDEN, test_srnn_simulation.RUN
    key = jax.random.key(2)

    def simulated(model, control, key):
        return srnn.simulate(model, control, key=key, **run).values

    def numbers(key):
        def body(total, k):
            return total + jax.random.normal(jax.random.fold_in(key, k), (paths, hidden), "float32"), None

        start = jnp.zeros((paths, hidden), "float32")
        return jax.lax.scan(body, start, jnp.arange(test_srnn_simulation.STEPS))[0]

    def quiet(model, control):
        """The scan of a good hand with no noise."""

        def body(h, u):
            decayed = h @ model.decay if full else h * model.decay
            rate = jnp.tanh(h @ model.recurrent_kernel + model.bias) - decayed + u @ model.input_kernel
            return h + run["dt"] * rate, None

        return jax.lax.scan(body, jnp.zeros((paths, hidden), "float32"), control)[0]

    programs = {
        "ours": jitted(simulated, model, control, key),
        "the normal numbers alone": jitted(numbers, key),
        "all but the noise": jitted(quiet, model, control),
    }
    absent = []
    if torch := installed("torch"):
        torch.set_num_threads(1)

        def numbers_in_torch():
            total = torch.zeros(paths, hidden)
            for _ in range(test_srnn_simulation.STEPS):
                total += torch.randn(paths, hidden)
            return total.numpy()

        programs["the normal numbers alone, in PyTorch"] = first_called(numbers_in_torch)
    else:
        absent.append("torch")
    kind = f"gaussian increments, {'full' if full else 'diagonal'} decay and noise"
    record(f"{PARTS}SRNN paths, {kind}", test_srnn_simulation.SIZE, compare(programs, repeats=5), (), absent)
