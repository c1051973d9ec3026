import functools

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import maso_rnn
from maso_rnn import adapters
from tests.test_network import network, states

KEY = jax.random.key(6)
XS = jax.random.normal(jax.random.key(5), (9, 3), "float32")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # float32, two libraries' orders of summing


def nnx_stack(activation_fn, rngs, **options):
    cells = [nnx.SimpleCell(a, b, activation_fn=activation_fn, rngs=rngs, **options) for a, b in [(3, 7), (7, 4)]]
    for cell in cells:
        cell.dense_i.bias[...] = jax.random.normal(rngs.params(), cell.dense_i.bias.shape, "float32")
    return [nnx.RNN(cell) for cell in cells], nnx.Linear(4, 2, rngs=rngs)


def run_nnx(layers, readout, xs):
    for layer in layers:
        xs = layer(xs[None])[0]
    return readout(xs)


@pytest.mark.parametrize("activation", [nnx.relu, nnx.tanh, nnx.leaky_relu, nnx.relu6, jnp.abs, nnx.hard_tanh])
def test_from_nnx_gives_the_same_outputs(activation):
    layers, readout = nnx_stack(activation, nnx.Rngs(0))
    rnn = adapters.from_nnx(layers, readout)
    np.testing.assert_allclose(maso_rnn.forward(rnn, XS), run_nnx(layers, readout, XS), **CLOSE)


def test_to_nnx_and_back(key):
    rnn = network(key, 2, dtype="float32")
    layers, readout = adapters.to_nnx(rnn)
    np.testing.assert_allclose(run_nnx(layers, readout, XS), maso_rnn.forward(rnn, XS), **CLOSE)
    again = adapters.from_nnx(layers, readout)
    jax.tree.map(np.testing.assert_array_equal, again, rnn)


def test_linen_both_ways(key):
    cell, head = linen.SimpleCell(7, activation_fn=linen.relu), linen.Dense(2)
    layer, readout = cell.init(key, jnp.zeros(7), XS[0]), head.init(key, jnp.zeros(7))
    h, outputs = jnp.zeros(7), []
    for x in XS:
        h, _ = cell.apply(layer, h, x)
        outputs.append(head.apply(readout, h))
    rnn = adapters.from_linen([layer["params"]], readout["params"], activation="relu")
    np.testing.assert_allclose(maso_rnn.forward(rnn, XS), jnp.stack(outputs), **CLOSE)
    layers, back = adapters.to_linen(rnn)
    jax.tree.map(np.testing.assert_array_equal, (layers[0], back), (layer["params"], readout["params"]))


def test_what_an_rnn_cannot_hold_is_refused_by_name(key, unchecked):
    rngs = nnx.Rngs(0)
    layers, readout = nnx_stack(nnx.relu, rngs)
    gru, residual = nnx.GRUCell(3, 7, rngs=rngs), nnx.SimpleCell(3, 7, residual=True, rngs=rngs)
    both_ways = nnx.Bidirectional(layers[0], layers[0])
    for cells, head, error, message in [
        ([gru], readout, TypeError, "GRUCell; maso_rnn.linearize"),
        ([both_ways], readout, TypeError, "Bidirectional"),
        ([nnx.Dropout(0.5)], readout, TypeError, "Dropout"),
        ([residual], readout, ValueError, "residual"),
        ([nnx.RNN(layers[0].cell, reverse=True)], readout, ValueError, "reverse"),
        ([layers[0], nnx.SimpleCell(7, 4, rngs=rngs)], readout, ValueError, "one activation"),
        ([nnx.SimpleCell(3, 4, activation_fn=nnx.gelu, rngs=rngs)], readout, TypeError, "gelu is not known"),
        (layers, gru, TypeError, "readout must be an nnx.Linear"),
        (layers[:1], readout, ValueError, "readout.kernel must be"),
    ]:
        with pytest.raises(error, match=message):
            adapters.from_nnx(cells, head)
    with pytest.raises(ValueError, match="SimpleCell's parameters"):
        adapters.from_linen([{"ii": {}}], {"kernel": jnp.ones((4, 2))}, activation="relu")
    learned = network(key, 1)
    learned = learned.replace(initial=states(key, learned))
    for function in (adapters.to_nnx, adapters.to_linen, adapters.to_torch):
        with pytest.raises(ValueError, match="learned initial state"):
            function(learned)


def torch_module(kind, **options):
    import torch

    torch.manual_seed(0)
    return torch.nn.ModuleDict({"body": getattr(torch.nn, kind)(3, 7, **options), "head": torch.nn.Linear(7, 2)})


def run_torch(module):
    import torch

    with torch.no_grad():
        xs = torch.from_numpy(np.array(XS))
        out, _ = module["body"](xs[None] if module["body"].batch_first else xs[:, None])
        return module["head"](out).reshape(9, 2).numpy()


@pytest.mark.slow  # needs PyTorch
@pytest.mark.parametrize("nonlinearity", ["relu", "tanh"])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 3}, {"bias": False}, {"batch_first": True, "num_layers": 2, "dropout": 0.5}]
)
def test_torch_both_ways(tmp_path, nonlinearity, options):
    import torch
    from safetensors.numpy import load_file
    from safetensors.torch import save_file

    module = torch_module("RNN", nonlinearity=nonlinearity, **options).eval()
    wanted = run_torch(module)
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    for rnn in (
        adapters.from_torch(module),
        adapters.from_torch(module.state_dict(), activation=nonlinearity),
        adapters.from_torch(load_file(tmp_path / "m.safetensors"), activation=nonlinearity, readout="head"),
    ):
        np.testing.assert_allclose(maso_rnn.forward(rnn, XS), wanted, **CLOSE)
    again = torch_module("RNN", nonlinearity=nonlinearity, **options).eval()
    state = adapters.to_torch(rnn, layers="body", readout="head")
    again.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    np.testing.assert_allclose(run_torch(again), wanted, **CLOSE)


@pytest.mark.slow  # needs PyTorch
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bias": False}])
def test_torch_gated_cells_linearize(kind, options):
    import torch

    module = torch_module(kind, **options)
    cell = adapters.torch_cell(module)
    linear = maso_rnn.linearize(cell.step, cell.readout, cell.carry, XS)
    np.testing.assert_allclose(linear.output, run_torch(module)[-1], **CLOSE)
    slope = torch.autograd.functional.jacobian(
        lambda xs: module["head"](module["body"](xs[:, None])[0][-1, 0]), torch.from_numpy(np.array(XS))
    )
    np.testing.assert_allclose(linear.slope, slope.numpy(), **CLOSE)


@pytest.mark.slow  # needs PyTorch
def test_torch_models_that_an_rnn_cannot_hold_are_refused_by_name(unchecked):
    for kind, options, train, message in [
        ("RNN", {"bidirectional": True}, False, "bidirectional"),
        ("LSTM", {"proj_size": 2}, False, "projections"),
        ("RNN", {"num_layers": 2, "dropout": 0.5}, True, r"dropout switched on; call model.eval\(\)"),
        ("GRU", {}, False, "is a GRU, not an nn.RNN; .*torch_cell"),
        ("LSTM", {}, False, "is a LSTM"),
    ]:
        with pytest.raises(ValueError, match=message):
            adapters.from_torch(torch_module(kind, **options).train(train))
    with pytest.raises(ValueError, match=r"not a GRU or LSTM; use maso_rnn\.adapters\.from_torch"):
        adapters.torch_cell(torch_module("RNN"))
    module = torch_module("RNN")
    with pytest.raises(ValueError, match="activation must be given"):
        adapters.from_torch(module.state_dict())
    with pytest.raises(ValueError, match=r"readout 'tail' is not in the model; it has \['head.bias', 'head.weight'\]"):
        adapters.from_torch(module, readout="tail")


RNGS = nnx.Rngs(0)
HIDDEN = jnp.zeros(5, "float32")
GATED = {
    "nnx GRU": (nnx.GRUCell(3, 5, rngs=RNGS), lambda cell, carry, x: cell(carry, x)[0], HIDDEN),
    "nnx LSTM": (nnx.LSTMCell(3, 5, rngs=RNGS), lambda cell, carry, x: cell(carry, x)[0], (HIDDEN, HIDDEN)),
    "equinox GRU": (equinox.nn.GRUCell(3, 5, key=KEY, dtype="float32"), lambda cell, carry, x: cell(x, carry), HIDDEN),
    "equinox LSTM": (
        equinox.nn.LSTMCell(3, 5, key=KEY, dtype="float32"),
        lambda cell, carry, x: cell(x, carry),
        (HIDDEN, HIDDEN),
    ),
}


@pytest.mark.parametrize("name", GATED)
def test_gated_cells_of_flax_and_equinox_linearize(name):
    cell, call, carry = GATED[name]
    step = functools.partial(call, cell)
    linear = maso_rnn.linearize(step, lambda h: jax.tree.leaves(h)[0], carry, XS)
    for x in XS:
        carry = step(carry, x)
    np.testing.assert_allclose(linear.output, jax.tree.leaves(carry)[0], **CLOSE)
