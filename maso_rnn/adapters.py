"""Networks trained elsewhere: flax nnx, flax linen and PyTorch, into `RNN` and back out.

Only what an `RNN` can hold exactly comes in: stacks of `act(W x + U h + b)` with a linear readout. A GRU or LSTM is not
piecewise affine; `maso_rnn.linearize` takes its step function, which `torch_cell` makes of PyTorch weights and which
the other libraries' cells are already: `lambda carry, x: cell(carry, x)[0]` in flax nnx,
`lambda carry, x: cell.apply(variables, carry, x)[0]` in linen, `lambda carry, x: cell(x, carry)` in equinox.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn.activations import Activation, PiecewiseAffine, abs, leaky_relu, relu
from maso_rnn.activations import activation as activation_of
from maso_rnn.network import RNN, Layer, Readout, check_network


class Cell(NamedTuple):
    """A gated network as `maso_rnn.linearize` takes it.

    Attributes:
        step: `(carry, x) -> carry`.
        readout: `carry -> (output,)`.
        carry: the initial carry, zeros: one h a layer for a GRU, one (h, c) a layer for an LSTM, as a tuple.
    """

    step: Callable[[Any, Array], Any]
    readout: Callable[[Any], Array]
    carry: Any


def from_nnx(layers: Sequence[Any], readout: Any) -> RNN:
    """A network from flax nnx cells and a linear readout.

    Args:
        layers: first to last, each an `nnx.SimpleCell` or an `nnx.RNN` of one.
        readout: an `nnx.Linear`.

    Returns:
        The network, with the cells' own activation.

    Raises:
        TypeError: if a layer is anything else (a GRU, an LSTM, a `Bidirectional`, a `Dropout`), or the activation
            function is not known; `maso_rnn.linearize` takes any cell.
        ValueError: if a cell is residual, an `nnx.RNN` runs in reverse, or the cells' activations differ.

    Example:
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> cells = [nnx.SimpleCell(1, 8, activation_fn=nnx.relu, rngs=rngs)]
        >>> from_nnx(cells, nnx.Linear(8, 3, rngs=rngs)).readout.kernel.shape
        (8, 3)

    Source:
        flax.nnx.SimpleCell.
    """
    from flax import nnx

    cells = []
    for l, layer in enumerate(layers):
        cell = layer
        if isinstance(layer, nnx.RNN):
            if layer.reverse:
                raise ValueError(f"layers[{l}] runs in reverse, which an RNN does not hold; reverse the data instead")
            cell = layer.cell
        if not isinstance(cell, nnx.SimpleCell):
            raise TypeError(
                f"layers[{l}] must be an nnx.SimpleCell or an nnx.RNN of one, got {type(cell).__name__}; "
                "maso_rnn.linearize takes any cell to first order"
            )
        if cell.residual:
            raise ValueError(f"layers[{l}] is residual, which an RNN does not hold; use maso_rnn.linearize")
        cells.append(cell)
    if not isinstance(readout, nnx.Linear):
        raise TypeError(f"readout must be an nnx.Linear, got {type(readout).__name__}")
    acts = {_known_activation(cell.activation_fn) for cell in cells}
    if len(acts) != 1:
        raise ValueError(f"layers must be cells of one activation, got {len(acts)}")

    def value(parameter: Any) -> Array | None:
        return None if parameter is None else jnp.asarray(parameter[...])

    rnn = RNN(
        layers=tuple(
            Layer(value(cell.dense_i.kernel), value(cell.dense_h.kernel), value(cell.dense_i.bias)) for cell in cells
        ),
        readout=Readout(value(readout.kernel), value(readout.bias)),
        activation=acts.pop(),
    )
    check_network(rnn)
    return rnn


def to_nnx(rnn: RNN) -> tuple[list[Any], Any]:
    """The network as flax nnx modules, which train and serialise as any others.

    Args:
        rnn: the network; a learned initial state is refused, since a `SimpleCell` has no place for one.

    Returns:
        One `nnx.RNN` of a `SimpleCell` for each layer, and an `nnx.Linear`.

    Raises:
        ValueError: if the network has a learned initial state.

    Example:
        >>> from maso_rnn import init
        >>> layers, readout = to_nnx(init(jax.random.key(0), 1, [8], 3))
        >>> readout(layers[0](jnp.ones((1, 5, 1)))).shape
        (1, 5, 3)

    Source:
        flax.nnx.SimpleCell.
    """
    from flax import nnx

    check_network(rnn)
    _refuse_learned_state(rnn, "an nnx.SimpleCell")
    rngs, layers = nnx.Rngs(0), []
    dtype = rnn.readout.kernel.dtype
    for layer in rnn.layers:
        inputs, hidden = layer.input_kernel.shape
        cell = nnx.SimpleCell(inputs, hidden, activation_fn=rnn.activation, dtype=dtype, param_dtype=dtype, rngs=rngs)
        cell.dense_i.kernel[...] = layer.input_kernel
        cell.dense_h.kernel[...] = layer.recurrent_kernel
        cell.dense_i.bias = nnx.Param(jnp.zeros(hidden, dtype) if layer.bias is None else layer.bias)
        layers.append(nnx.RNN(cell))
    kernel, bias = rnn.readout.kernel, rnn.readout.bias
    readout = nnx.Linear(*kernel.shape, use_bias=bias is not None, dtype=dtype, param_dtype=dtype, rngs=rngs)
    readout.kernel[...] = kernel
    if bias is not None:
        readout.bias = nnx.Param(bias)
    return layers, readout


def from_linen(layers: Sequence[Mapping[str, Any]], readout: Mapping[str, Any], *, activation: str | Activation) -> RNN:
    """A network from the parameters of flax linen `SimpleCell`s and a `Dense` readout.

    Args:
        layers: first to last, each cell's parameters: `{"i": {"kernel", "bias"}, "h": {"kernel"}}`.
        readout: the readout's parameters: `{"kernel", "bias"}`.
        activation: the cells' activation, which parameters do not show.

    Returns:
        The network.

    Raises:
        ValueError: if the parameters are not those of a `SimpleCell`, or shapes do not fit.

    Example:
        >>> cell = {"i": {"kernel": jnp.ones((1, 8)), "bias": jnp.ones(8)}, "h": {"kernel": jnp.eye(8)}}
        >>> from_linen([cell], {"kernel": jnp.ones((8, 3))}, activation="relu").readout.bias is None
        True

    Source:
        flax.linen.SimpleCell.
    """
    for l, cell in enumerate(layers):
        if set(cell) != {"i", "h"} or set(cell["h"]) != {"kernel"} or not {"kernel"} <= set(cell["i"]):
            raise ValueError(
                f"layers[{l}] must be a SimpleCell's parameters, i: kernel, bias and h: kernel, got {_names(cell)}; "
                "maso_rnn.linearize takes any cell to first order"
            )
    rnn = RNN(
        layers=tuple(Layer(cell["i"]["kernel"], cell["h"]["kernel"], cell["i"].get("bias")) for cell in layers),
        readout=Readout(readout["kernel"], readout.get("bias")),
        activation=activation_of(activation),
    )
    check_network(rnn)
    return rnn


def to_linen(rnn: RNN) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The network as parameters of flax linen `SimpleCell`s and a `Dense` readout.

    Args:
        rnn: the network; a learned initial state is refused.

    Returns:
        One parameter dictionary for each layer, and the readout's. A missing layer bias becomes zeros.

    Raises:
        ValueError: if the network has a learned initial state.

    Example:
        >>> from maso_rnn import init
        >>> layers, readout = to_linen(init(jax.random.key(0), 1, [8], 3))
        >>> sorted(layers[0]), sorted(readout)
        (['h', 'i'], ['bias', 'kernel'])

    Source:
        flax.linen.SimpleCell.
    """
    check_network(rnn)
    _refuse_learned_state(rnn, "a linen.SimpleCell")
    layers = []
    for layer in rnn.layers:
        bias = jnp.zeros_like(layer.recurrent_kernel[0]) if layer.bias is None else layer.bias
        layers.append({"i": {"kernel": layer.input_kernel, "bias": bias}, "h": {"kernel": layer.recurrent_kernel}})
    readout = {"kernel": rnn.readout.kernel}
    return layers, readout if rnn.readout.bias is None else readout | {"bias": rnn.readout.bias}


def from_torch(model: Any, *, activation: str | Activation | None = None, readout: str | None = None) -> RNN:
    """A network from a PyTorch `nn.RNN` and a linear readout.

    PyTorch's two biases are summed and its kernels, (out, in), transposed. `batch_first` is the layout of the data,
    not of the weights: nothing follows from it here.

    Args:
        model: the module that holds both, or its `state_dict()` (also as read from a safetensors file).
        activation: the nonlinearity; needed for a state dict, which does not show it.
        readout: the readout's name in the state dict, as `"head"` for `head.weight`; by default the one matrix whose
            width is that of the last layer.

    Returns:
        The network, in the weights' dtype.

    Raises:
        ValueError: if the RNN is bidirectional, has projections, is a GRU or LSTM (see `torch_cell`), has dropout
            switched on, or the readout cannot be told.

    Example:
        >>> weights = {"rnn.weight_ih_l0": np.ones((8, 1)), "rnn.weight_hh_l0": np.eye(8)}
        >>> rnn = from_torch(weights | {"head.weight": np.ones((3, 8))}, activation="relu")
        >>> rnn.readout.kernel.shape
        (8, 3)

    Source:
        torch.nn.RNN.
    """
    weights, found = _torch_weights(model)
    layers, gates, prefix = _torch_layers(weights)
    if gates != 1:
        kind = {3: "GRU", 4: "LSTM"}.get(gates, "cell of another kind")
        raise ValueError(f"model is a {kind}, not an nn.RNN; maso_rnn.adapters.torch_cell makes a step of it")
    name = activation if activation is not None else found
    if name is None:
        raise ValueError("activation must be given with a state dict, which does not show it; nn.RNN's own is 'tanh'")
    rnn = RNN(
        layers=tuple(
            Layer(jnp.asarray(W.T), jnp.asarray(U.T), None if b is None else jnp.asarray(b + c))
            for W, U, b, c in layers
        ),
        readout=_torch_readout(weights, prefix, layers[-1][1].shape[1], readout),
        activation=activation_of(name),
    )
    check_network(rnn)
    return rnn


def to_torch(rnn: RNN, *, layers: str = "rnn", readout: str = "readout") -> dict[str, np.ndarray]:
    """The network as the state dict of a PyTorch `nn.RNN` and `nn.Linear`, in NumPy.

    Args:
        rnn: the network; a learned initial state is refused.
        layers: the `nn.RNN`'s name in the module.
        readout: the `nn.Linear`'s name in the module.

    Returns:
        Arrays by PyTorch's names; the second bias is zero. `load_state_dict` takes them as tensors, by
        `{name: torch.from_numpy(array) for name, array in ….items()}`.

    Raises:
        ValueError: if the network has a learned initial state, or only some of its layers have biases.

    Example:
        >>> from maso_rnn import init
        >>> sorted(to_torch(init(jax.random.key(0), 1, [8], 3, bias_init=None)))
        ['readout.weight', 'rnn.weight_hh_l0', 'rnn.weight_ih_l0']

    Source:
        torch.nn.RNN.
    """
    check_network(rnn)
    _refuse_learned_state(rnn, "torch.nn.RNN")
    if len({layer.bias is None for layer in rnn.layers}) > 1:
        raise ValueError("rnn must have a bias in every layer or in none, as torch.nn.RNN has")
    state: dict[str, Any] = {}
    for l, layer in enumerate(rnn.layers):
        state[f"{layers}.weight_ih_l{l}"] = layer.input_kernel.T
        state[f"{layers}.weight_hh_l{l}"] = layer.recurrent_kernel.T
        if layer.bias is not None:
            state[f"{layers}.bias_ih_l{l}"] = layer.bias
            state[f"{layers}.bias_hh_l{l}"] = jnp.zeros_like(layer.bias)
    state[f"{readout}.weight"] = rnn.readout.kernel.T
    if rnn.readout.bias is not None:
        state[f"{readout}.bias"] = rnn.readout.bias
    return {name: np.array(leaf) for name, leaf in state.items()}


def torch_cell(model: Any, *, readout: str | None = None) -> Cell:
    """A PyTorch GRU or LSTM as a step function, for `maso_rnn.linearize`.

    Equation: GRU, gates r, z, n: h' = (1 − z) n + z h with n = tanh(W_n x + b_n + r (U_n h + c_n));
    LSTM, gates i, f, g, o: c' = f c + i g, h' = o tanh(c').

    Args:
        model: the module that holds the `nn.GRU` or `nn.LSTM` and its linear readout, or its `state_dict()`.
        readout: the readout's name, as in `from_torch`.

    Returns:
        `Cell(step, readout, carry)`: `linearize(cell.step, cell.readout, cell.carry, xs)`.

    Raises:
        ValueError: if it is bidirectional, has projections, is an nn.RNN (see `from_torch`), or the readout cannot
            be told.

    Example:
        >>> weights = {"weight_ih_l0": np.ones((24, 1)), "weight_hh_l0": np.ones((24, 8))}
        >>> cell = torch_cell(weights | {"head.weight": np.ones((3, 8))})
        >>> cell.readout(cell.step(cell.carry, jnp.ones(1))).shape
        (3,)

    Source:
        torch.nn.GRU, torch.nn.LSTM.
    """
    weights, _ = _torch_weights(model)
    layers, gates, prefix = _torch_layers(weights)
    if gates not in (3, 4):
        raise ValueError("model is an nn.RNN, not a GRU or LSTM; use maso_rnn.adapters.from_torch")
    width = layers[-1][1].shape[1]
    head = _torch_readout(weights, prefix, width, readout)
    zeros = tuple(jnp.zeros(U.shape[1], U.dtype) for _, U, _, _ in layers)
    one: Callable[..., Any] = _gru_step if gates == 3 else _lstm_step
    parameters = [tuple(None if a is None else jnp.asarray(a) for a in layer) for layer in layers]

    def step(carry: Any, x: Array) -> Any:
        after = []
        for layer, state in zip(parameters, carry, strict=True):
            state = one(layer, state, x)
            x = state if gates == 3 else state[0]
            after.append(state)
        return tuple(after)

    def read(carry: Any) -> Array:
        h = carry[-1] if gates == 3 else carry[-1][0]
        z = h @ head.kernel
        return z if head.bias is None else z + head.bias

    return Cell(step, read, zeros if gates == 3 else tuple((h, h) for h in zeros))


def _gru_step(layer: tuple[Any, ...], h: Array, x: Array) -> Array:
    W, U, b, c = layer
    from_x, from_h = W @ x, U @ h
    if b is not None:
        from_x, from_h = from_x + b, from_h + c
    (xr, xz, xn), (hr, hz, hn) = jnp.split(from_x, 3), jnp.split(from_h, 3)
    r, z = jax.nn.sigmoid(xr + hr), jax.nn.sigmoid(xz + hz)
    return (1 - z) * jnp.tanh(xn + r * hn) + z * h


def _lstm_step(layer: tuple[Any, ...], state: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
    (W, U, b, c), (h, memory) = layer, state
    total = W @ x + U @ h
    if b is not None:
        total = total + b + c
    i, f, g, o = jnp.split(total, 4)
    memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(memory), memory


_LAYER = re.compile(r"(?P<prefix>.*?)(?P<part>weight_ih|weight_hh|bias_ih|bias_hh)_l(?P<layer>\d+)")


def _torch_weights(model: Any) -> tuple[dict[str, np.ndarray], str | None]:
    """The state dict as NumPy arrays, and the nonlinearity where a module shows it."""
    nonlinearity = None
    if hasattr(model, "named_modules"):
        for name, module in model.named_modules():
            if getattr(module, "dropout", 0) and getattr(module, "training", False):
                raise ValueError(f"{name or 'model'} has dropout switched on; call model.eval() first")
            nonlinearity = getattr(module, "nonlinearity", nonlinearity)
        model = model.state_dict()
    if not isinstance(model, Mapping):
        raise TypeError(f"model must be a torch module or its state dict, got {type(model).__name__}")
    weights = {}
    for name, value in model.items():
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        weights[name] = array.astype(jax.dtypes.canonicalize_dtype(array.dtype))
    for name in weights:
        if name.endswith("_reverse"):
            raise ValueError(f"model is bidirectional ({name}), which an RNN does not hold")
        if "weight_hr_l" in name:
            raise ValueError(f"model has projections ({name}), which an RNN does not hold")
    return weights, nonlinearity


def _torch_layers(weights: Mapping[str, np.ndarray]) -> tuple[list[tuple[Any, ...]], int, str]:
    """(weight_ih, weight_hh, bias_ih, bias_hh) for each layer, the number of gates, and the RNN's name."""
    parts: dict[int, dict[str, np.ndarray]] = {}
    prefixes = set()
    for name, array in weights.items():
        if match := _LAYER.fullmatch(name):
            parts.setdefault(int(match["layer"]), {})[match["part"]] = array
            prefixes.add(match["prefix"])
    if len(prefixes) != 1:
        raise ValueError(f"model must hold one nn.RNN, GRU or LSTM, got {len(prefixes)} among {sorted(weights)}")
    layers = []
    for l in range(len(parts)):
        if l not in parts or not {"weight_ih", "weight_hh"} <= set(parts[l]):
            raise ValueError(f"model lacks weight_ih_l{l} or weight_hh_l{l}")
        part = parts[l]
        layers.append((part["weight_ih"], part["weight_hh"], part.get("bias_ih"), part.get("bias_hh")))
    rows, columns = layers[0][1].shape
    if rows % columns:
        raise ValueError(f"weight_hh_l0 must be (gates x hidden, hidden), got {(rows, columns)}")
    return layers, rows // columns, prefixes.pop()


def _torch_readout(weights: Mapping[str, np.ndarray], prefix: str, width: int, name: str | None) -> Readout:
    """The linear layer from `width` units: the one named, or the only one that there is."""
    others = {k: v for k, v in weights.items() if not _LAYER.fullmatch(k)}
    if name is None:
        fitting = [k for k, v in others.items() if k.endswith("weight") and v.ndim == 2 and v.shape[1] == width]
        if len(fitting) != 1:
            raise ValueError(f"readout must be named: {len(fitting)} matrices fit {width} units, {fitting}")
        key = fitting[0]
    else:
        key = f"{name}.weight"
        if key not in others:
            raise ValueError(f"readout {name!r} is not in the model; it has {sorted(others)}")
    bias = others.get(key.removesuffix("weight") + "bias")
    return Readout(jnp.asarray(others[key].T), None if bias is None else jnp.asarray(bias))


def _known_activation(function: Any) -> Activation:
    known: dict[Any, Activation] = {
        jax.nn.relu: relu,
        jnp.abs: abs,
        jax.nn.leaky_relu: leaky_relu(),
        jax.nn.hard_tanh: activation_of("hard_tanh"),
        jax.nn.relu6: PiecewiseAffine((0, 6), (0, 1, 0), (0, 0, 6)),
        jnp.tanh: activation_of("tanh"),
        jax.nn.tanh: activation_of("tanh"),
    }
    if isinstance(function, PiecewiseAffine):
        return function
    if function not in known:
        raise TypeError(
            f"activation {getattr(function, '__name__', function)} is not known; give the cell a PiecewiseAffine one"
        )
    return known[function]


def _refuse_learned_state(rnn: RNN, holder: str) -> None:
    if rnn.initial is not None:
        raise ValueError(f"rnn has a learned initial state, for which {holder} has no place; pass it as h0 instead")


def _names(tree: Any) -> Any:
    return {name: _names(value) for name, value in tree.items()} if isinstance(tree, Mapping) else "array"
