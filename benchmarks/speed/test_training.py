"""One optimiser step of the RNN that reads digits pixel by pixel, against what others would train it with.

All have the same weights, batch, loss (cross-entropy of the last step) and optimiser (Adam), and the loss and the
gradient in the recurrent kernel are checked to agree first. The scan over equinox modules is batched by `vmap`, as
equinox has it; the hand-written scan carries the batch; flax nnx runs its own `RNN` over batches and reads out the last
carry; PyTorch runs on one thread, with its fused Adam: its own `torch.nn.RNN` over time-major data, which it likes
best, and a layer with the backward pass written by hand.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import maso_rnn
from benchmarks.speed.interleaved import best, compare, first_called, installed
from benchmarks.speed.reach import Bar
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


def test_one_step_of_training(record):
    rnn = maso_rnn.init(jax.random.key(0), 1, [HIDDEN], CLASSES, dtype="float32")
    xs = jax.random.uniform(jax.random.key(1), (BATCH, TIME, 1), "float32")
    labels = jax.random.randint(jax.random.key(2), (BATCH,), 0, CLASSES)

    def ours_loss(rnn, xs, labels):
        return cross_entropy(jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs), labels)

    def scan_loss(rnn, xs, labels):
        layer = rnn.layers[0]

        def body(h, x):
            return jax.nn.relu(x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias), None

        h, _ = jax.lax.scan(body, jnp.zeros((BATCH, HIDDEN), xs.dtype), xs.swapaxes(0, 1))
        return cross_entropy(h @ rnn.readout.kernel + rnn.readout.bias, labels)

    def equinox_loss(model, xs, labels):
        return cross_entropy(jax.vmap(model)(xs), labels)

    flax_rnn, readout = adapters.to_nnx(rnn)
    definition, nnx_params, rest = nnx.split((flax_rnn[0], readout), nnx.Param, ...)

    def nnx_loss(params, xs, labels):
        recurrent, readout = nnx.merge(definition, params, rest)
        h, _ = recurrent(xs, initial_carry=jnp.zeros((BATCH, HIDDEN)), return_carry=True)
        return cross_entropy(readout(h), labels)

    steps = {
        "ours": (ours_loss, rnn),
        "hand-written scan": (scan_loss, rnn),
        "equinox, vmapped scan": (equinox_loss, equinox_model(rnn)),
        "flax nnx.RNN": (nnx_loss, nnx_params),
    }
    programs, losses, kernels = {}, {}, {}
    for name, (loss, params) in steps.items():
        step, state = jax_step(loss, params)
        carry = [params, state]

        def run(step=step, carry=carry):
            carry[0], carry[1], *found = step(carry[0], carry[1], xs, labels)
            return found

        temporary = step.lower(params, state, xs, labels).compile().memory_analysis().temp_size_in_bytes
        losses[name], gradient = run()
        (kernels[name],) = (leaf for leaf in jax.tree.leaves(gradient) if leaf.shape == (HIDDEN, HIDDEN))
        programs[name] = first_called(run)._replace(first_seconds=None, temporary_bytes=temporary)
    kernels["equinox, vmapped scan"] = kernels["equinox, vmapped scan"].T
    absent = []
    if torch := installed("torch"):
        torch.set_num_threads(1)
        for name, make in {"torch.nn.RNN": torch_rnn, "torch, backward by hand": torch_by_hand}.items():
            run = torch_step(torch, *make(torch, rnn), np.asarray(xs), np.asarray(labels))
            losses[name], kernels[name] = run()
            programs[name] = first_called(run)._replace(first_seconds=None)
        kernels["torch.nn.RNN"] = kernels["torch.nn.RNN"].T
    else:
        absent.append("torch")
    for name in programs:
        np.testing.assert_allclose(losses[name], losses["ours"], rtol=1e-5)
        np.testing.assert_allclose(kernels[name], kernels["ours"], rtol=1e-3, atol=1e-5)
    table = compare(programs, repeats=9)
    record(
        "one step of training",
        {"batch": BATCH, "time": TIME, "hidden": HIDDEN, "input": 1},
        table,
        [Bar("CPU time, against the best competitor", best(table), 1.05)],
        absent,
    )


def torch_step(torch, parameters, last_output, xs, labels):
    """A step of PyTorch; gives the loss and the gradient in the recurrent kernel, the second parameter."""
    optimizer = torch.optim.Adam(parameters, lr=RATE, fused=True)
    inputs, targets = torch.from_numpy(np.array(xs.swapaxes(0, 1))), torch.from_numpy(np.array(labels, np.int64))

    def run():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(last_output(inputs), targets)
        loss.backward()
        gradient = parameters[1].grad.numpy().copy()
        optimizer.step()
        return float(loss.detach()), gradient

    return run


def torch_rnn(torch, rnn):
    """The parameters of PyTorch's own RNN, its recurrent kernel (out, in), and its last output."""
    recurrent = torch.nn.RNN(1, HIDDEN, nonlinearity="relu")
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
    return [*recurrent.parameters(), *readout.parameters()], lambda xs: readout(recurrent(xs)[1][0])


def torch_by_hand(torch, rnn):
    """The parameters, in our layout, and the last output by a layer that knows its backward pass."""
    layer = rnn.layers[0]
    arrays = (layer.input_kernel, layer.recurrent_kernel, layer.bias, rnn.readout.kernel, rnn.readout.bias)
    *weights, kernel, bias = (torch.from_numpy(np.array(array)).requires_grad_() for array in arrays)
    at_once = 16  # steps whose gradients in the weights are one product: few enough to stay in the processor's cache
    assert TIME % at_once == 0

    class Recurrence(torch.autograd.Function):
        @staticmethod
        def forward(ctx, xs, w, u, b):
            states = torch.empty(TIME + 1, BATCH, HIDDEN)
            h, *after = states.unbind()
            h.zero_()
            for x, state in zip(xs.unbind(), after, strict=True):
                h = torch.addmm(b, x, w, out=state).addmm_(h, u).relu_()
            ctx.save_for_backward(xs, u, states)
            return h.clone()

        @staticmethod
        def backward(ctx, onto):
            xs, u, states = ctx.saved_tensors
            _, *after = states.unbind()
            gradients, before = torch.empty(at_once, BATCH, HIDDEN), torch.empty(BATCH, HIDDEN)
            rows, in_w, in_u, in_b = gradients.flatten(0, 1), torch.zeros(1, HIDDEN), torch.zeros_like(u), 0
            for start in reversed(range(0, TIME, at_once)):
                now = slice(start, start + at_once)
                for state, gradient in zip(reversed(after[now]), reversed(gradients.unbind()), strict=True):
                    torch.ops.aten.threshold_backward.grad_input(onto, state, 0, grad_input=gradient)
                    onto = torch.mm(gradient, u.T, out=before)
                in_w.addmm_(xs[now].flatten(0, 1).T, rows)
                in_u.addmm_(states[now].flatten(0, 1).T, rows)
                in_b = in_b + rows.sum(0)
            return None, in_w, in_u, in_b

    return [*weights, kernel, bias], lambda xs: torch.addmm(bias, Recurrence.apply(xs, *weights), kernel)
