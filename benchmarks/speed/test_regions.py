"""The distance to the nearest wall by the Gram recursion against every pre-activation's Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks.speed.interleaved import cpu_seconds, ratios


def by_jacobians(rnn, xs):
    """The least |p| / ‖∇p‖ for one ReLU layer from h0 = 0, by reverse mode over a scan."""
    layer = rnn.layers[0]

    def pre_activations(xs):
        def body(h, x):
            p = x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias
            return jax.nn.relu(p), p

        return jax.lax.scan(body, jnp.zeros(layer.bias.shape, xs.dtype), xs)[1].ravel()

    p = pre_activations(xs)
    norms = jnp.linalg.norm(jax.jacrev(pre_activations)(xs).reshape(p.size, -1), axis=1)
    return jnp.where(norms > 0, jnp.abs(p) / norms, jnp.inf).min()


@pytest.mark.parametrize(("time", "hidden", "inputs"), [(64, 128, 1)])
def test_boundary_distance(benchmark, time, hidden, inputs):
    rnn = maso_rnn.init(
        jax.random.key(0), inputs, [hidden], 10, bias_init=jax.nn.initializers.normal(0.1), dtype="float32"
    )
    xs = jax.random.normal(jax.random.key(1), (time, inputs), "float32")
    ours, theirs = jax.jit(maso_rnn.boundary_distance), jax.jit(by_jacobians)
    # float32, two ways to sum the same squares
    np.testing.assert_allclose(ours(rnn, xs), theirs(rnn, xs), rtol=1e-4)
    table = ratios(cpu_seconds({"ours": lambda: ours(rnn, xs), "jacrev": lambda: theirs(rnn, xs)}, repeats=5), "ours")
    benchmark.extra_info["programs"] = table
    print(f"\nours / jacrev: {table['jacrev']['ratio']:.4f} of CPU time")
    benchmark.pedantic(lambda: jax.block_until_ready(ours(rnn, xs)), rounds=5, warmup_rounds=1)
    assert table["jacrev"]["ratio"] <= 0.1
