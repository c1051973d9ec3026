"""One optimiser step of the RNN that reads digits pixel by pixel, against what others would train it with.

All have the same weights, batch, loss (cross-entropy of the last step) and optimiser (Adam), and the loss and the
gradient in the recurrent kernel are checked to agree first. The hand-written scan over equinox modules is batched by
`vmap`, as equinox has it; flax nnx runs its own `RNN` over batches; PyTorch runs `torch.nn.RNN`, batch first as the
data come, with its fused Adam.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import maso_rnn
from benchmarks.speed.interleaved import cpu_seconds, ratios
from maso_rnn import adapters

BATCH, TIME, HIDDEN, CLASSES = 128, 784, 128, 10
RATE = 1e-3


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def jax_step(loss, params):
    """A compiled step that trains `params` in place, as a training loop does, and gives loss and gradient."""
    optimizer = optax.adam(RATE)

    def update(params, state, xs, labels):
        value, gradient = jax.value_and_grad(loss)(params, xs, labels)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value, gradient

    return jax.jit(update), optimizer.init(params)


class Cell(eqx.Module):
    """A simple cell, written as equinox writes its GRU: matrices (out, in), one example."""

    weight_ih: jax.Array
    weight_hh: jax.Array
    bias: jax.Array

    def __call__(self, x, h):
        return jax.nn.relu(self.weight_ih @ x + self.weight_hh @ h + self.bias)


class Model(eqx.Module):
    """The cell over a sequence, and a linear readout of the last state."""

    cell: Cell
    readout: eqx.nn.Linear

    def __call__(self, xs):
        h = jnp.zeros(self.cell.bias.shape, xs.dtype)
        h, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), h, xs)
        return self.readout(h)


def equinox_model(rnn):
    layer = rnn.layers[0]
    readout = eqx.nn.Linear(HIDDEN, CLASSES, key=jax.random.key(0))
    readout = eqx.tree_at(lambda m: (m.weight, m.bias), readout, (rnn.readout.kernel.T, rnn.readout.bias))
    return Model(Cell(layer.input_kernel.T, layer.recurrent_kernel.T, layer.bias), readout)


def test_one_step_of_training(benchmark):
    torch = pytest.importorskip("torch")
    rnn = maso_rnn.init(jax.random.key(0), 1, [HIDDEN], CLASSES, dtype="float32")
    xs = jax.random.uniform(jax.random.key(1), (BATCH, TIME, 1), "float32")
    labels = jax.random.randint(jax.random.key(2), (BATCH,), 0, CLASSES)

    def ours_loss(rnn, xs, labels):
        return cross_entropy(jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs), labels)

    def equinox_loss(model, xs, labels):
        return cross_entropy(jax.vmap(model)(xs), labels)

    flax_rnn, readout = adapters.to_nnx(rnn)
    definition, nnx_params, rest = nnx.split((flax_rnn[0], readout), nnx.Param, ...)

    def nnx_loss(params, xs, labels):
        recurrent, readout = nnx.merge(definition, params, rest)
        return cross_entropy(readout(recurrent(xs, initial_carry=jnp.zeros((BATCH, HIDDEN)))[:, -1]), labels)

    steps = {
        "ours": (jax_step(ours_loss, rnn), rnn),
        "equinox, vmapped scan": (jax_step(equinox_loss, equinox_model(rnn)), equinox_model(rnn)),
        "flax nnx.RNN": (jax_step(nnx_loss, nnx_params), nnx_params),
    }
    programs, first = {}, {}
    for name, ((step, state), params) in steps.items():
        carry = [params, state]

        def run(step=step, carry=carry):
            carry[0], carry[1], value, gradient = step(carry[0], carry[1], xs, labels)
            return value, gradient

        first[name] = run()
        programs[name] = run

    theirs = torch_step(torch, rnn, np.asarray(xs), np.asarray(labels))
    programs["torch.nn.RNN"] = theirs
    value, kernel_gradient = theirs()
    recurrent = {
        "ours": first["ours"][1].layers[0].recurrent_kernel,
        "equinox, vmapped scan": first["equinox, vmapped scan"][1].cell.weight_hh.T,
        "flax nnx.RNN": next(
            leaf for leaf in jax.tree.leaves(first["flax nnx.RNN"][1]) if leaf.shape == (HIDDEN, HIDDEN)
        ),
        "torch.nn.RNN": kernel_gradient.T,
    }
    losses = {name: float(found[0]) for name, found in first.items()} | {"torch.nn.RNN": value}
    for name in programs:
        np.testing.assert_allclose(losses[name], losses["ours"], rtol=1e-5)
        np.testing.assert_allclose(recurrent[name], recurrent["ours"], rtol=1e-3, atol=1e-5)

    table = ratios(cpu_seconds(programs, repeats=11), "ours")
    benchmark.extra_info["programs"] = table
    for name in programs.keys() - {"ours"}:
        row = table[name]
        print(f"\nours / {name}: {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}) of CPU time")
    benchmark.pedantic(programs["ours"], rounds=3, warmup_rounds=1)
    assert table["equinox, vmapped scan"]["ratio"] <= 1.1
    assert table["flax nnx.RNN"]["ratio"] < 1
    assert table["torch.nn.RNN"]["ratio"] < 1


def torch_step(torch, rnn, xs, labels):
    """A step of PyTorch's own RNN; gives the loss and the gradient in the recurrent kernel, (out, in)."""
    recurrent = torch.nn.RNN(1, HIDDEN, nonlinearity="relu", batch_first=True)
    readout = torch.nn.Linear(HIDDEN, CLASSES)
    layer = rnn.layers[0]
    with torch.no_grad():
        for parameter, value in [
            (recurrent.weight_ih_l0, layer.input_kernel.T),
            (recurrent.weight_hh_l0, layer.recurrent_kernel.T),
            (recurrent.bias_ih_l0, layer.bias),
            (recurrent.bias_hh_l0, jnp.zeros_like(layer.bias)),
            (readout.weight, rnn.readout.kernel.T),
            (readout.bias, rnn.readout.bias),
        ]:
            parameter.copy_(torch.from_numpy(np.array(value)))
    optimizer = torch.optim.Adam([*recurrent.parameters(), *readout.parameters()], lr=RATE, fused=True)
    inputs, targets = torch.from_numpy(np.array(xs)), torch.from_numpy(np.array(labels, np.int64))

    def run():
        optimizer.zero_grad()
        states, _ = recurrent(inputs)
        loss = torch.nn.functional.cross_entropy(readout(states[:, -1]), targets)
        loss.backward()
        gradient = recurrent.weight_hh_l0.grad.numpy().copy()
        optimizer.step()
        return float(loss.detach()), gradient

    return run
