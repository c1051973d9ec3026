"""Flax nnx: modules, whose wiring a run shows, or lists of modules and functions in the order of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maso_rnn.adapters.parts import (
    GRU,
    LSTM,
    Affine,
    Embedding,
    LayerNorm,
    NoCell,
    Part,
    Pointwise,
    Simple,
    activation_of,
    as_rnn,
    batch_norm,
    kind_of,
    reader_of,
    weight,
)
from maso_rnn.adapters.pytorch import require_plain
from maso_rnn.adapters.wiring import Call, Run, Source, assembled
from maso_rnn.network import RNN


def from_nnx(model: Any, *, order: Sequence[str] | None = None) -> RNN:
    """The `RNN` that a flax nnx network is: exactly, or refused with the name of what is in the way.

    What is composed is said at `from_torch`. A module is run on a random batch to see its wiring, and held against the
    result; it must be in evaluation mode. `maso_rnn.cell` takes what has no pieces.

    Args:
        model: a module, or a list of modules and functions in the order of the data: `nnx.RNN`s of `nnx.SimpleCell`s
            or the cells themselves, `nnx.Linear`, `nnx.BatchNorm`, `nnx.Dropout`, `nnx.Embed`, `nnx.relu`.
        order: the names of the modules, first to last, and of functions between them, where a run does not show it.

    Returns:
        The network, with the cells' own activation. A residual cell adds the identity to its recurrent kernel.

    Raises:
        ValueError: if a module is not piecewise affine, runs in reverse, is in training mode, or outputs differ.
        TypeError: if a module is not known.

    Example:
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> cell = nnx.SimpleCell(1, 8, activation_fn=nnx.relu, rngs=rngs)
        >>> from_nnx([cell, nnx.Linear(8, 3, rngs=rngs)]).readout.kernel.shape
        (8, 3)

    Source:
        flax.nnx.SimpleCell.
    """
    return assembled(source(model), order, as_rnn)


def to_nnx(rnn: RNN) -> tuple[list[Any], Any]:
    """The network as flax nnx modules, which train and serialise as any others.

    Args:
        rnn: the network; one with a learned initial state, an embedding or layers without recurrence is refused.

    Returns:
        One `nnx.RNN` of a `SimpleCell` for each layer, and an `nnx.Linear`.

    Raises:
        ValueError: if a `SimpleCell` has no place for a part of the network.

    Example:
        >>> from maso_rnn import init
        >>> layers, readout = to_nnx(init(jax.random.key(0), 1, [8], 3))
        >>> readout(layers[0](jnp.ones((1, 5, 1)))).shape
        (1, 5, 3)

    Source:
        flax.nnx.SimpleCell.
    """
    from flax import nnx

    require_plain(rnn, "an nnx.SimpleCell")
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


def source(model: Any) -> Source:
    """A module or a list of them, as the readers look at it."""
    from flax import nnx

    if isinstance(model, nnx.Sequential):
        model = list(model.layers)
    if not isinstance(model, nnx.Module | list | tuple):
        raise TypeError(f"model must be an nnx module or a list of modules, got {kind_of(model)}")
    if isinstance(model, list | tuple | nnx.List):
        return Source(dict(_listed(model, "")), _parts, None, is_chain=True)
    if type(model).__name__.endswith("Cell"):
        return Source({type(model).__name__: model}, _parts, None)
    paths = dict(_leaves(model, ()))
    modules = {".".join(map(str, path)) or type(model).__name__: module for path, module in paths.items()}
    return Source(modules, _parts, lambda batch: _run(model, paths, batch))


def _listed(modules: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    from flax import nnx

    for place, entry in enumerate(modules):
        name = f"{prefix}[{place}]"
        if isinstance(entry, nnx.Sequential):
            yield from _listed(entry.layers, name)
        else:
            yield name, entry


def _leaves(module: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The modules that compute something, in the order in which they were made, by where they are."""
    from flax import nnx

    if type(module).__name__ in _known():
        yield path, module
        return
    children = enumerate(module) if isinstance(module, list | tuple | nnx.List) else _attributes(module)
    held = [
        (key, child)
        for key, child in children
        if isinstance(child, nnx.Module | list | tuple | dict) and not str(key).startswith("_")
    ]
    below = [leaf for key, child in held for leaf in _leaves(child, (*path, key))]
    yield from below if below or not isinstance(module, nnx.Module) or not path else [(path, module)]


def _attributes(module: Any) -> Any:
    return module.items() if isinstance(module, Mapping) else vars(module).items()


def _run(model: Any, paths: dict[tuple[Any, ...], Any], batch: np.ndarray) -> Run:
    """The leaves at work in a copy of the model, and every array that it returns."""
    from flax import nnx

    calls: list[Call] = []

    class Listener(nnx.Module):
        """A leaf that says what it was given and what it returned."""

        def __init__(self, name: str, module: Any):
            self.name, self.module = name, module

        def __call__(self, *given: Any, **options: Any) -> Any:
            returned = self.module(*given, **options)
            calls.append(call_of(self.name, type(self.module).__name__, given, options, returned))
            return returned

        def __getattr__(self, field: str) -> Any:
            return getattr(vars(self)["module"], field)

    copy = nnx.clone(model)
    for path, module in paths.items():
        listener = Listener(".".join(map(str, path)) or type(model).__name__, module)
        if not path:
            copy = listener
            continue
        holder = copy
        for key in path[:-1]:
            holder = _child(holder, key)
        if isinstance(holder, tuple):
            raise TypeError(f"{path} is in a tuple; make it an nnx.List")
        if isinstance(path[-1], int) or isinstance(holder, Mapping):
            holder[path[-1]] = listener
        else:
            setattr(holder, path[-1], listener)
    with jax.disable_jit():
        returned = copy(jnp.asarray(batch))
    return Run(calls, arrays_of(returned))


def _child(holder: Any, key: Any) -> Any:
    return holder[key] if isinstance(key, int) or isinstance(holder, Mapping) else getattr(holder, key)


def call_of(name: str, kind: str, given: tuple[Any, ...], options: Mapping[str, Any], returned: Any) -> Call:
    """What a flax module did, nnx or linen: a cell takes its carry and x, and returns the carry and what it says."""
    state, xs = options.get("initial_carry"), given[0]
    if kind.endswith("Cell"):
        (state, xs), returned = given, returned[1]
    elif isinstance(returned, tuple):
        returned = returned[1]
    if state is not None:
        carry = tuple(np.asarray(leaf).reshape(-1, leaf.shape[-1])[None] for leaf in jax.tree.leaves(state))
        state = carry[::-1] if len(carry) == 2 else carry[0]  # flax has (c, h)
    return Call(name, np.asarray(xs), np.asarray(returned), state)


def arrays_of(value: Any) -> list[np.ndarray]:
    """Every floating array in what a network returned."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(value) if hasattr(leaf, "dtype")]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _parts(name: str, module: Any) -> list[Part]:
    """What a module is made of."""
    from flax import nnx

    if isinstance(module, nnx.Module):
        return reader_of(name, module, "flax", _known())(name, module)
    return [Pointwise(activation_of(f"the function {name}", module))]


BIDIRECTIONAL = (
    "{name} (Bidirectional) runs both ways: each of its states has read the whole sequence, so it is no cell and its "
    "layers mix the two directions. Analyse one direction: its forward RNN alone, with a readout of it"
)


def _known() -> dict[str, Callable[[str, Any], list[Part]]]:
    return {
        "RNN": _rnn,
        "SimpleCell": _simple,
        "GRUCell": _gru,
        "LSTMCell": _lstm,
        "OptimizedLSTMCell": _optimized_lstm,
        "Bidirectional": _bidirectional,
        "Linear": _linear,
        "Embed": lambda name, module: [Embedding(_array(f"{name}.embedding", module.embedding))],
        "BatchNorm": _batch_norm,
        "LayerNorm": _layer_norm,
        "RMSNorm": _layer_norm,
        "Dropout": lambda name, module: [],
    }


def _array(where: str, variable: Any) -> Any:
    return None if variable is None else weight(where, jnp.asarray(variable[...]))


def _rnn(name: str, module: Any) -> list[Part]:
    if module.reverse:
        raise NoCell(f"{name} runs in reverse, which a network here does not; reverse the data instead")
    return _parts(name, module.cell)


def _simple(name: str, cell: Any) -> list[Part]:
    U = _array(f"{name}.dense_h.kernel", cell.dense_h.kernel)
    act = activation_of(f"{name}.activation_fn", cell.activation_fn)
    U = U + jnp.eye(len(U), dtype=U.dtype) if cell.residual else U  # h is added before the activation
    return [Simple(_array(f"{name}.dense_i.kernel", cell.dense_i.kernel), U, _array(name, cell.dense_i.bias), act)]


def _gated(name: str, cell: Any) -> dict[str, Any]:
    return {
        "gate": activation_of(f"{name}.gate_fn", cell.gate_fn),
        "activation": activation_of(f"{name}.activation_fn", cell.activation_fn),
    }


def _gru(name: str, cell: Any) -> list[Part]:
    dense = [_array(name, v) for v in (cell.dense_i.kernel, cell.dense_h.kernel, cell.dense_i.bias, cell.dense_h.bias)]
    return [GRU(*dense, **_gated(name, cell))]


def _optimized_lstm(name: str, cell: Any) -> list[Part]:
    W, U = _array(name, cell.dense_i.kernel), _array(name, cell.dense_h.kernel)
    biases = [_array(name, bias) for bias in (cell.dense_i.bias, cell.dense_h.bias) if bias is not None]
    return [LSTM(W, U, sum(biases) if biases else None, **_gated(name, cell))]


def _lstm(name: str, cell: Any) -> list[Part]:
    inputs, states = [cell.ii, cell.if_, cell.ig, cell.io], [cell.hi, cell.hf, cell.hg, cell.ho]

    def joined(parts: list[Any], field: str) -> Any:
        found = [_array(name, getattr(part, field)) for part in parts]
        return None if found[0] is None else jnp.concatenate(found, axis=-1)

    biases = [bias for bias in (joined(inputs, "bias"), joined(states, "bias")) if bias is not None]
    total = sum(biases) if biases else None
    return [LSTM(joined(inputs, "kernel"), joined(states, "kernel"), total, **_gated(name, cell))]


def _bidirectional(name: str, module: Any) -> list[Part]:
    raise NoCell(BIDIRECTIONAL.format(name=name))


def _linear(name: str, module: Any) -> list[Part]:
    return [Affine(_array(f"{name}.kernel", module.kernel), _array(f"{name}.bias", module.bias))]


def _batch_norm(name: str, module: Any) -> list[Part]:
    fields = [_array(f"{name}.{f}", getattr(module, f)) for f in ("scale", "bias", "mean", "var")]
    return [batch_norm(fields, module.epsilon)]


def _layer_norm(name: str, module: Any) -> list[Part]:
    is_centred = type(module).__name__ == "LayerNorm"
    bias = _array(f"{name}.bias", module.bias) if is_centred else None
    return [LayerNorm(_array(f"{name}.scale", module.scale), bias, module.epsilon, is_centred)]
