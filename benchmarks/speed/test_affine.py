"""The affine map against automatic differentiation of the same scan, in JAX and in PyTorch.

The competitors are told what they may leave out: they return the slope alone (`affine_map`) or slope and initial slope
(`affine_maps`), no codes and no offset; ours returns everything.
"""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks.speed.cores import all_cores
from benchmarks.speed.interleaved import best, compare, first_called, installed, jitted
from benchmarks.speed.reach import Bar

AXES = ("batch", "time", "hidden", "output", "input")


def network(hidden, outputs, inputs):
    return maso_rnn.init(
        jax.random.key(0), inputs, [hidden], outputs, bias_init=jax.nn.initializers.normal(0.1), dtype="float32"
    )


def outputs_of(rnn, xs, h0):
    """The last output and those of every step, by the scan that a good hand would write for this one layer.

    It reads every step out at once: derivatives of outputs are stacked then, not those of all states.
    """
    layer, readout = rnn.layers[0], rnn.readout

    def body(h, x):
        h = jax.nn.relu(x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias)
        return h, h @ readout.kernel + readout.bias

    last, outputs = jax.lax.scan(body, h0, xs)
    return last @ readout.kernel + readout.bias, outputs


def in_torch(rnn, xs):
    """Slopes (batch, output, time, input) by PyTorch on one thread, which costs it the least CPU time."""
    torch = installed("torch")
    if not torch:
        return {}, ["torch"]
    torch.set_num_threads(1)
    layer = rnn.layers[0]
    arrays = (layer.input_kernel, layer.recurrent_kernel, layer.bias, rnn.readout.kernel, rnn.readout.bias)
    w, u, b, v, c = (torch.from_numpy(np.array(array)) for array in arrays)
    inputs = torch.from_numpy(np.array(xs))
    (batch, time, _), outputs = inputs.shape, len(c)
    basis = torch.eye(outputs)

    def last_output(xs):
        """Of (time, input), or of (batch, time, input): the projection of the inputs is one product."""
        h = torch.zeros(*xs.shape[:-2], len(b))
        for projected in (xs @ w + b).unbind(-2):
            h = torch.relu(torch.addmm(projected, h, u) if h.ndim == 2 else projected + h @ u)
        return h @ v + c

    def by_jacrev():
        return torch.func.vmap(torch.func.jacrev(last_output))(inputs)

    def by_batched_gradients():
        xs = inputs.clone().requires_grad_()
        seeds = basis[:, None].expand(outputs, batch, outputs)
        (slope,) = torch.autograd.grad(last_output(xs), xs, seeds, is_grads_batched=True)
        return slope.transpose(0, 1)

    @torch.inference_mode()
    def by_hand():
        """All in place; a step's rows are read while they are still in the processor's cache, then written over."""
        h, states = torch.zeros(batch, len(b)), (inputs.transpose(0, 1) @ w + b).unbind()
        for t in range(time):
            h = states[t].addmm_(h, u).relu_()
        onto, rows = v.T.expand(batch, outputs, len(b)), torch.empty(batch, outputs, len(b))
        through, before = (array.view(-1, len(b)) for array in (rows, torch.empty_like(rows)))
        slope = torch.empty(time, batch, outputs, xs.shape[-1])
        for t in reversed(range(time)):
            torch.mul(onto, states[t].sign_()[:, None], out=rows)
            torch.mm(through, w.T, out=slope[t].view(-1, xs.shape[-1]))
            onto = torch.mm(through, u.T, out=before).view_as(rows)
        return slope.permute(1, 2, 0, 3)

    return {
        "torch.func.vmap(jacrev)": first_called(by_jacrev),
        "torch, unbind and is_grads_batched": first_called(by_batched_gradients),
        "torch, pull-back by hand": first_called(by_hand),
    }, []


# the size, and how much longer than the same multiplications as one large product it may take on both cores
SIZES = [
    ((32, 784, 128, 10, 1), 1.3),
    ((256, 100, 128, 10, 28), 1.7),
    ((64, 784, 256, 10, 1), 1.0),
    ((8, 2000, 64, 10, 4), 2.5),
]


@pytest.mark.parametrize(("size", "over_product"), SIZES)
def test_affine_map(record, size, over_product):
    batch, time, hidden, outputs, inputs = size
    rnn = network(hidden, outputs, inputs)
    xs = jax.random.normal(jax.random.key(1), (batch, time, inputs), "float32")
    h0 = jnp.zeros(hidden, "float32")
    others, absent = in_torch(rnn, xs)
    programs = {
        "ours": jitted(jax.vmap(maso_rnn.affine_map, (None, 0)), rnn, xs),
        "vmap(jacrev)": jitted(lambda rnn, xs: jax.vmap(jax.jacrev(lambda x: outputs_of(rnn, x, h0)[0]))(xs), rnn, xs),
        **others,
    }
    slope = np.asarray(programs["ours"].run().slope)
    for name in programs.keys() - {"ours"}:
        np.testing.assert_allclose(slope, programs[name].run(), rtol=1e-4, atol=1e-5 * np.abs(slope).max())
    table = compare(programs, repeats=5)
    wall = on_both_cores(size)
    record(
        "affine map of the last step",
        dict(zip(AXES, size, strict=True)),
        table,
        [
            Bar("CPU time, against the best competitor", best(table), 1.05),
            Bar(
                "temporary memory, against vmap(jacrev)",
                table["ours"]["temporary_bytes"] / table["vmap(jacrev)"]["temporary_bytes"],
                1.05,
            ),
            Bar("wall time on both cores, against one large product", wall["ours"]["ratio"], over_product),
        ],
        absent,
        **{f"wall time on both cores, {name} (s)": wall[name]["seconds"] for name in ("ours", "product")},
        **{f"{name}, against one large product": wall[name]["ratio"] for name in ("sharded over outputs", "unsharded")},
    )


def on_both_cores(size):
    """Wall time of the batch over two forced host devices, against the product by as many threads."""
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-m", "benchmarks.speed.both_cores", *map(str, size)]
    with all_cores():
        return json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("size", [(8, 64, 128, 10, 1), (8, 50, 64, 2, 8)])
def test_affine_maps(record, size):
    batch, time, hidden, outputs, inputs = size
    rnn = network(hidden, outputs, inputs)
    xs = jax.random.normal(jax.random.key(1), (batch, time, inputs), "float32")
    h0 = jnp.zeros(hidden, "float32")

    def derived(derivative):
        of_one = derivative(lambda x, h: outputs_of(rnn, x, h)[1], argnums=(0, 1))
        return jitted(jax.vmap(of_one, in_axes=(0, None)), xs, h0)

    programs = {
        "ours": jitted(jax.vmap(maso_rnn.affine_maps, (None, 0)), rnn, xs),
        "vmap(jacrev)": derived(jax.jacrev),
        "vmap(jacfwd)": derived(jax.jacfwd),
    }
    maps = programs["ours"].run()
    for name in ("vmap(jacrev)", "vmap(jacfwd)"):
        for got, wanted in zip((maps.slope, maps.initial_slope[0]), programs[name].run(), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    table = compare(programs)
    record(
        "affine maps of every step",
        dict(zip(AXES, size, strict=True)),
        table,
        [Bar("CPU time, against the best competitor", best(table), 1.1)],
    )
