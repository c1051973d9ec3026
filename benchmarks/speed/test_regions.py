"""The distance to the nearest wall by the Gram recursion against every pre-activation's Jacobian."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks.speed.interleaved import best, compare, jitted
from benchmarks.speed.reach import Bar


def by_jacobians(derivative):
    """The least |p| / ‖∇p‖ for one ReLU layer from h0 = 0, by differentiating a scan."""

    def distance(rnn, xs):
        layer = rnn.layers[0]

        def pre_activations(xs):
            def body(h, x):
                p = x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias
                return jax.nn.relu(p), p

            return jax.lax.scan(body, jnp.zeros(layer.bias.shape, xs.dtype), xs)[1].ravel()

        p = pre_activations(xs)
        norms = jnp.linalg.norm(derivative(pre_activations)(xs).reshape(p.size, -1), axis=1)
        return jnp.where(norms > 0, jnp.abs(p) / norms, jnp.inf).min()

    return distance


def carried(rnn, xs, *, scans=1):
    """The same by hand: every gradient carried forward, and only its norms kept.

    With more than one scan, each has the rows of the inputs up to its end only.
    """
    layer = rnn.layers[0]
    (time, inputs), hidden = xs.shape, len(layer.bias)
    h, gradients = jnp.zeros(hidden, xs.dtype), jnp.zeros((0, hidden), xs.dtype)
    nearest = jnp.asarray(jnp.inf, xs.dtype)

    def body(carry, now):
        h, gradients, nearest = carry
        t, x = now
        p = x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias
        gradients = gradients @ layer.recurrent_kernel
        gradients = jax.lax.dynamic_update_slice(gradients, layer.input_kernel, (t * inputs, 0))
        norms = jnp.sqrt((gradients**2).sum(axis=0))
        nearest = jnp.minimum(nearest, jnp.where(norms > 0, jnp.abs(p) / norms, jnp.inf).min())
        return (jax.nn.relu(p), gradients * (p > 0), nearest), None

    cuts = [round(time * k / scans) for k in range(scans + 1)]
    for start, stop in itertools.pairwise(cuts):
        rows = jnp.zeros(((stop - start) * inputs, hidden), xs.dtype)
        carry = (h, jnp.concatenate([gradients, rows]), nearest)
        (h, gradients, nearest), _ = jax.lax.scan(body, carry, (jnp.arange(start, stop), xs[start:stop]))
    return nearest


@pytest.mark.parametrize(("time", "hidden", "inputs"), [(64, 128, 1), (256, 64, 4), (784, 32, 1), (28, 64, 28)])
def test_boundary_distance(record, time, hidden, inputs):
    rnn = maso_rnn.init(
        jax.random.key(0), inputs, [hidden], 10, bias_init=jax.nn.initializers.normal(0.1), dtype="float32"
    )
    xs = jax.random.normal(jax.random.key(1), (time, inputs), "float32")
    programs = {
        "ours": jitted(maso_rnn.boundary_distance, rnn, xs),
        "jacrev": jitted(by_jacobians(jax.jacrev), rnn, xs),
        "jacfwd": jitted(by_jacobians(jax.jacfwd), rnn, xs),
        "gradients carried by hand": jitted(carried, rnn, xs),
    }
    for name in programs.keys() - {"ours"}:  # float32, other ways to sum the same squares
        np.testing.assert_allclose(programs["ours"].run(), programs[name].run(), rtol=1e-4)
    table = compare(programs, repeats=3)
    record(
        "distance to the nearest wall",
        {"time": time, "hidden": hidden, "input": inputs},
        table,
        [
            Bar("CPU time, against the Jacobian by jacrev", best(table, "jacrev"), 0.1),
            Bar("CPU time, against the Jacobian by jacfwd", best(table, "jacfwd"), 0.1),
            Bar("CPU time, against gradients carried by hand", best(table, "gradients carried by hand"), 0.1),
        ],
    )
