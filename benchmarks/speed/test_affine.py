"""The affine map against automatic differentiation of the same scan, written as well as it can be.

The competitor is told what it may leave out: it returns the slope alone (`affine_map`) or slope and initial slope
(`affine_maps`), no codes and no offset; ours returns everything.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks.speed.interleaved import cpu_seconds, ratios


def network(hidden, outputs, inputs):
    return maso_rnn.init(
        jax.random.key(0), inputs, [hidden], outputs, bias_init=jax.nn.initializers.normal(0.1), dtype="float32"
    )


def outputs_of(rnn, xs, h0):
    """The outputs of every step, by the scan that a good hand would write for this one layer."""
    layer = rnn.layers[0]

    def body(h, x):
        h = jax.nn.relu(x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias)
        return h, h

    last, states = jax.lax.scan(body, h0, xs)
    return last @ rnn.readout.kernel + rnn.readout.bias, states @ rnn.readout.kernel + rnn.readout.bias


def compiled(function, *arguments):
    program = jax.jit(function).lower(*arguments).compile()
    return program, program.memory_analysis().temp_size_in_bytes


def state(benchmark, table, memory):
    """Put the comparison into the result, and on the screen."""
    benchmark.extra_info["programs"] = table
    benchmark.extra_info["temporary_bytes"] = memory
    for name in table.keys() - {"ours"}:
        row, bytes_ratio = table[name], memory["ours"] / memory[name] if name in memory else float("nan")
        print(
            f"\nours / {name}: {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}) of CPU time, "
            f"{bytes_ratio:.2f} of temporary memory"
        )


SIZES = [(32, 784, 128, 10, 1), (256, 100, 128, 10, 28)]


@pytest.mark.parametrize(("batch", "time", "hidden", "outputs", "inputs"), SIZES)
def test_affine_map(benchmark, batch, time, hidden, outputs, inputs):
    rnn = network(hidden, outputs, inputs)
    xs = jax.random.normal(jax.random.key(1), (batch, time, inputs), "float32")
    h0 = jnp.zeros(hidden, "float32")
    ours, our_bytes = compiled(lambda rnn, xs: jax.vmap(lambda x: maso_rnn.affine_map(rnn, x))(xs), rnn, xs)
    theirs, their_bytes = compiled(
        lambda rnn, xs: jax.vmap(jax.jacrev(lambda x: outputs_of(rnn, x, h0)[0]))(xs), rnn, xs
    )
    slope = np.asarray(ours(rnn, xs).slope)
    np.testing.assert_allclose(slope, theirs(rnn, xs), rtol=1e-4, atol=1e-5 * np.abs(slope).max())

    # the floor: the same multiplications, forward and pull-back, as one large product
    rows = jnp.ones((batch * time * (1 + outputs), hidden), "float32")
    product = jax.jit(lambda rows, kernel: (rows @ kernel).sum()).lower(rows, rnn.layers[0].recurrent_kernel).compile()
    programs = {
        "ours": lambda: ours(rnn, xs),
        "vmap(jacrev)": lambda: theirs(rnn, xs),
        "one large product": lambda: product(rows, rnn.layers[0].recurrent_kernel),
    }
    table = ratios(cpu_seconds(programs), "ours")
    state(benchmark, table, {"ours": our_bytes, "vmap(jacrev)": their_bytes})
    benchmark.pedantic(lambda: jax.block_until_ready(ours(rnn, xs)), rounds=5, warmup_rounds=1)
    assert table["vmap(jacrev)"]["ratio"] <= 1.1
    assert our_bytes <= 1.1 * their_bytes


@pytest.mark.parametrize(("batch", "time", "hidden", "outputs", "inputs"), [(8, 64, 128, 10, 1), (8, 50, 64, 2, 8)])
def test_affine_maps(benchmark, batch, time, hidden, outputs, inputs):
    rnn = network(hidden, outputs, inputs)
    xs = jax.random.normal(jax.random.key(1), (batch, time, inputs), "float32")
    h0 = jnp.zeros(hidden, "float32")
    ours, our_bytes = compiled(lambda rnn, xs: jax.vmap(lambda x: maso_rnn.affine_maps(rnn, x))(xs), rnn, xs)
    programs, memory = {"ours": lambda: ours(rnn, xs)}, {"ours": our_bytes}
    for name, derivative in [("jacrev", jax.jacrev), ("jacfwd", jax.jacfwd)]:
        program, memory[name] = compiled(
            lambda rnn, xs, derivative=derivative: jax.vmap(
                derivative(lambda x, h: outputs_of(rnn, x, h)[1], argnums=(0, 1)), in_axes=(0, None)
            )(xs, h0),
            rnn,
            xs,
        )
        programs[name] = lambda program=program: program(rnn, xs)
        maps = ours(rnn, xs)
        for got, wanted in zip((maps.slope, maps.initial_slope[0]), program(rnn, xs), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    table = ratios(cpu_seconds(programs), "ours")
    state(benchmark, table, memory)
    benchmark.pedantic(lambda: jax.block_until_ready(ours(rnn, xs)), rounds=5, warmup_rounds=1)
    best = min(("jacrev", "jacfwd"), key=lambda name: table[name]["median_cpu_seconds"])
    assert table[best]["ratio"] <= 1.1
