"""PyTorch: modules, whose wiring a run shows, and state dicts, whose order is said where there is more than one."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from maso_rnn.activations import Activation, PiecewiseAffine, leaky_relu
from maso_rnn.adapters.parts import (
    FUNCTIONS,
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
    unknown,
    weight,
)
from maso_rnn.adapters.wiring import Call, Run, Source, assembled
from maso_rnn.network import RNN, check_network


def from_torch(model: Any, *, order: Sequence[str] | None = None, activation: str | Activation | None = None) -> RNN:
    """The `RNN` that a PyTorch network is: exactly, or refused with the name of what is in the way.

    Linear layers and batch norm are folded into what follows them, Linear–ReLU pairs become layers without recurrence,
    dropout at evaluation is nothing, an embedding stays in front. A module is run on a random batch to see its wiring,
    and held against the result; it must be in evaluation mode. `maso_rnn.cell` takes what has no pieces.

    Args:
        model: a module, a list of modules and of functions (by name, as "relu") in the order of the data, or a
            `state_dict()`, whose arrays may be NumPy's, as read from a safetensors file.
        order: the names of the modules, first to last, and of functions between them; needed for a state dict of more
            than an RNN and its linear readout, and for a module whose run does not show it.
        activation: the RNN's nonlinearity; needed for a state dict, which does not show it.

    Returns:
        The network, in the weights' dtype. float64 needs `jax_enable_x64`. Batch norm of a state dict, which does not
        show it, is taken to have PyTorch's ε of 1e-5.

    Raises:
        ValueError: if a module is not piecewise affine, is bidirectional or in training mode, weights are left over,
            the wiring is not known, or outputs differ.
        TypeError: if a module or a dtype is not known.

    Example:
        >>> weights = {"rnn.weight_ih_l0": np.ones((8, 1)), "rnn.weight_hh_l0": np.eye(8)}
        >>> rnn = from_torch(weights | {"head.weight": np.ones((3, 8))}, activation="relu")
        >>> rnn.readout.kernel.shape
        (8, 3)

    Source:
        torch.nn.RNN.
    """
    return assembled(source(model, activation), order, as_rnn)


def to_torch(rnn: RNN, *, layers: str = "rnn", readout: str = "readout") -> dict[str, np.ndarray]:
    """The network as the state dict of a PyTorch `nn.RNN` and `nn.Linear`, in NumPy.

    Args:
        rnn: the network; one with a learned initial state, an embedding or layers without recurrence is refused.
        layers: the `nn.RNN`'s name in the module.
        readout: the `nn.Linear`'s name in the module.

    Returns:
        Arrays by PyTorch's names, in C order; the second bias is zero. `load_state_dict` takes them as tensors, by
        `{name: torch.from_numpy(array) for name, array in ….items()}`.

    Raises:
        ValueError: if `torch.nn.RNN` has no place for a part of it, or only some of its layers have biases.

    Example:
        >>> import jax
        >>> from maso_rnn import init
        >>> sorted(to_torch(init(jax.random.key(0), 1, [8], 3, bias_init=None)))
        ['readout.weight', 'rnn.weight_hh_l0', 'rnn.weight_ih_l0']

    Source:
        torch.nn.RNN.
    """
    require_plain(rnn, "torch.nn.RNN")
    if len({layer.bias is None for layer in rnn.layers}) > 1:
        raise ValueError("rnn must have a bias in every layer or in none, as torch.nn.RNN has")
    state: dict[str, Any] = {}
    for l, layer in enumerate(rnn.layers):
        state[f"{layers}.weight_ih_l{l}"] = np.transpose(layer.input_kernel)
        state[f"{layers}.weight_hh_l{l}"] = np.transpose(layer.recurrent_kernel)
        if layer.bias is not None:
            state[f"{layers}.bias_ih_l{l}"] = layer.bias
            state[f"{layers}.bias_hh_l{l}"] = np.zeros_like(layer.bias)
    state[f"{readout}.weight"] = np.transpose(rnn.readout.kernel)
    if rnn.readout.bias is not None:
        state[f"{readout}.bias"] = rnn.readout.bias
    return {name: np.array(leaf, order="C") for name, leaf in state.items()}


def require_plain(rnn: RNN, holder: str) -> None:
    """A network that other libraries' layers have a place for."""
    check_network(rnn)
    recurrent = all(layer.recurrent_kernel is not None for layer in rnn.layers)
    has = {"a learned initial state": rnn.initial is not None, "an embedding": rnn.embedding is not None}
    for what, is_there in (has | {"a layer with no recurrent kernel": not recurrent}).items():
        if is_there:
            raise ValueError(f"rnn has {what}, for which {holder} has no place")


def source(model: Any, activation: Any = None) -> Source:
    """A module, a list of them, or a state dict, as the readers look at it."""
    if isinstance(model, Mapping):
        return _of_weights(model, activation)
    if activation is not None:
        raise ValueError("activation is what the modules say; it is given for a state dict only")
    torch: Any = sys.modules.get("torch")  # where nobody imported it, nothing is a module
    if torch is not None and isinstance(model, torch.nn.Sequential):
        model = list(model)
    if isinstance(model, list | tuple):
        return _of_list(model)
    if torch is None or not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"model must be a module, a list of modules or a state dict, got {kind_of(model)}; "
            "torch.load(path, weights_only=True) reads a state dict"
        )
    modules = {name or type(model).__name__: module for name, module in _leaves("", model)}
    if isinstance(model, torch.nn.ModuleDict | torch.nn.ModuleList | torch.nn.RNNCellBase):
        return Source(modules, _parts, None)
    held = {id(leaf) for module in modules.values() for leaf in (*module.parameters(), *module.buffers())}
    named = (*model.named_parameters(), *model.named_buffers())
    loose = [name for name, leaf in named if id(leaf) not in held]
    return Source(modules, _parts, lambda batch: _run(model, modules, batch), loose=loose)


def _of_list(modules: Any) -> Source:
    """Modules in the order of the data, and functions by name."""
    import torch

    found: dict[str, Any] = {}
    for place, entry in enumerate(modules):
        if isinstance(entry, torch.nn.Sequential):
            found |= {f"[{place}].{name}": module for name, module in _of_list(entry).modules.items()}
        else:
            found[f"[{place}]"] = entry
    return Source(found, _parts, None, is_chain=True)


def _leaves(name: str, module: Any) -> list[tuple[str, Any]]:
    """The modules that compute something: those that are known, and those that hold no others."""
    children = list(module.named_children())
    if _kind(module) or _is_quantised(module) or not [child for child in children if child[0] != "parametrizations"]:
        return [(name, module)]
    return [leaf for own, child in children for leaf in _leaves(f"{name}.{own}".lstrip("."), child)]


def _run(model: Any, modules: Mapping[str, Any], batch: np.ndarray) -> Run:
    """The leaves at work, in the order of calls, and every array that the model returns."""
    import torch

    calls: list[Call] = []
    handles = []

    def listen(name: str, module: Any) -> Any:
        def hook(module: Any, given: tuple[Any, ...], named: dict[str, Any], returned: Any) -> None:
            values = [*given, *named.values()]
            states = (
                values[1] if len(values) > 1 and isinstance(module, torch.nn.RNNBase | torch.nn.RNNCellBase) else None
            )
            if values and isinstance(values[0], torch.Tensor):
                first = returned[0] if isinstance(returned, tuple) else returned
                calls.append(Call(name, _numbers(values[0]), _numbers(first), _states(states, module)))
            else:
                raise TypeError(f"{name} was given {type(values[0] if values else None).__name__}, not a tensor")

        return module.register_forward_hook(hook, with_kwargs=True)

    first = next((p for p in model.parameters()), torch.zeros(()))
    given = torch.from_numpy(np.ascontiguousarray(batch.astype(np.float32) if batch.dtype == jnp.bfloat16 else batch))
    given = given.to(first.device, first.dtype if given.is_floating_point() else given.dtype)
    try:
        handles = [listen(name, module) for name, module in modules.items()]
        with torch.no_grad():
            returned = model(given)
    finally:
        for handle in handles:
            handle.remove()
    return Run(calls, [_numbers(tensor) for tensor in _tensors(returned) if tensor.is_floating_point()])


def _states(given: Any, module: Any) -> Any:
    """What a module begins with, as (layer, example, hidden)."""
    if given is None:
        return None
    arrays = tuple(_numbers(tensor) for tensor in (given if isinstance(given, tuple) else (given,)))
    rank = 2 if hasattr(module, "num_layers") else 1
    arrays = tuple(array[..., None, :] if array.ndim == rank else array for array in arrays)  # one without a batch
    arrays = tuple(array if array.ndim == 3 else array[None] for array in arrays)
    return arrays if isinstance(given, tuple) else arrays[0]


def _tensors(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors(part)]
    if isinstance(value, Mapping):
        return _tensors(list(value.values()))
    return [value] if hasattr(value, "is_floating_point") else []


def _numbers(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy()


def array(where: str, value: Any) -> Any:
    """A weight, of PyTorch or NumPy, as JAX holds it."""
    if value is None:
        return None
    if getattr(value, "is_meta", False):
        raise ValueError(f"{where} is on the meta device, where weights have no numbers; load them first")
    if hasattr(value, "detach"):
        value, dtype = value.detach().cpu(), str(value.dtype).removeprefix("torch.")
        value = value.float().numpy().astype(jnp.bfloat16) if dtype == "bfloat16" else value.numpy()
    return weight(where, value)


def _parts(name: str, module: Any) -> list[Part]:
    """What a module is made of."""
    if isinstance(module, str) or not hasattr(module, "named_parameters"):
        own, library = getattr(module, "__name__", ""), str(getattr(module, "__module__", ""))
        known = own in FUNCTIONS and library.split(".")[0] == "torch"  # that of PyTorch is the one of that name
        return [Pointwise(activation_of(f"the function {name}", own if known else module))]
    kind = _kind(module)
    if _is_quantised(module):
        raise TypeError(
            f"{name} ({type(module).__name__}) is quantised: it computes with whole numbers; give the network as it "
            "was before"
        )
    if kind is None:
        raise TypeError(unknown(name, type(module).__name__))
    return _KNOWN[kind](name, module)


def _kind(module: Any) -> str | None:
    """Which of PyTorch's own modules it is, under its parametrizations and the caller's subclasses."""
    classes = type(module).__mro__
    return next((c.__name__ for c in classes if c.__module__.startswith("torch.nn.") and c.__name__ in _KNOWN), None)


def _is_quantised(module: Any) -> bool:
    return type(module).__module__.startswith("torch.ao.")


def _layers(name: str, module: Any) -> list[Part]:
    if module.bidirectional:
        raise NoCell(_BIDIRECTIONAL.format(name=f"{name} ({_kind(module)})"))
    fields = {field: getattr(module, field) for names in module._all_weights for field in names}
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[str(_kind(module))]
    return _recurrent(name, fields, module.num_layers, gates, getattr(module, "nonlinearity", None))


_BIDIRECTIONAL = (
    "{name} is bidirectional: each of its states has read the whole sequence, so it is no cell and its layers mix the "
    "two directions. Analyse one direction: a network of one direction with the weights that do not end in _reverse"
)


def _recurrent(name: str, fields: Mapping[str, Any], count: int, gates: int, nonlinearity: Any) -> list[Part]:
    """The layers of an nn.RNN, GRU or LSTM, or a cell, whose names end in no number."""
    left, parts = dict(fields), list[Part]()
    for l in range(count):
        tail = f"_l{l}" if f"weight_hh_l{l}" in fields else ""
        arrays = {}
        for field in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            if f"{field}{tail}" in left:
                arrays[field] = array(f"{name}.{field}{tail}", left.pop(f"{field}{tail}"))
        missing = {"weight_ih", "weight_hh"} - set(arrays)
        if missing or ("bias_ih" in arrays) != ("bias_hh" in arrays):
            lacks = sorted(missing or {"bias_ih", "bias_hh"} - set(arrays))
            raise ValueError(f"{name} lacks {lacks} of layer {l}: PyTorch has both biases or none; one may be zeros")
        W, U = arrays["weight_ih"].T, arrays["weight_hh"].T
        b, c = arrays.get("bias_ih"), arrays.get("bias_hh")
        if gates == 3:
            parts.append(GRU(W, U, b, c))
        else:
            total = None if b is None else b + c
            parts.append(LSTM(W, U, total) if gates == 4 else Simple(W, U, total, FUNCTIONS[nonlinearity]))
    if left:
        if any("weight_hr" in field for field in left):
            raise NoCell(_PROJECTED.format(name=name))
        raise NoCell(f"{name} has {sorted(left)}, which no part here holds; maso_rnn.Cell takes its own step")
    return parts


_PROJECTED = "{name} has projections, which no part here holds; maso_rnn.Cell takes its step as you write it"


def _cell(name: str, module: Any) -> list[Part]:
    fields = {field: getattr(module, field) for field in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    fields = {field: value for field, value in fields.items() if value is not None}
    gates = {"RNNCell": 1, "GRUCell": 3, "LSTMCell": 4}[str(_kind(module))]
    return _recurrent(name, fields, 1, gates, getattr(module, "nonlinearity", None))


def _linear(name: str, module: Any) -> list[Part]:
    return [Affine(array(f"{name}.weight", module.weight).T, array(f"{name}.bias", module.bias))]


def _batch_norm(name: str, module: Any) -> list[Part]:
    if module.running_mean is None:
        raise ValueError(f"{name} (BatchNorm1d) keeps no running statistics, so that outputs depend on the batch")
    fields = [array(f"{name}.{f}", getattr(module, f)) for f in _STATISTICS]
    return [batch_norm(fields, module.eps)]


def _layer_norm(name: str, module: Any) -> list[Part]:
    if len(module.normalized_shape) != 1:
        raise ValueError(f"{name} normalises over {tuple(module.normalized_shape)}, not the units")
    scale, bias = (array(f"{name}.{field}", getattr(module, field, None)) for field in ("weight", "bias"))
    centred = _kind(module) == "LayerNorm"
    own = float(jnp.finfo(jnp.float32 if scale is None else scale.dtype).eps)
    return [LayerNorm(scale, bias, own if module.eps is None else module.eps, centred)]


def _embedding(name: str, module: Any) -> list[Part]:
    if module.max_norm is not None:
        raise ValueError(f"{name} (Embedding) changes its weights as it is used, by max_norm; make it None first")
    return [Embedding(array(f"{name}.weight", module.weight))]


def _hardtanh(name: str, module: Any) -> list[Part]:
    low, high = float(module.min_val), float(module.max_val)
    return [Pointwise(PiecewiseAffine((low, high), (0, 1, 0), (low, 0, high)))]


def _prelu(name: str, module: Any) -> list[Part]:
    if module.weight.numel() != 1:
        raise ValueError(f"{name} (PReLU) has a slope for each unit; a network here has one activation")
    return [Pointwise(leaky_relu(float(module.weight)))]


def _softmax(name: str, module: Any) -> list[Part]:
    return [Pointwise(FUNCTIONS["softmax" if _kind(module) == "Softmax" else "log_softmax"])]


def _plain(function: str) -> Any:
    return lambda name, module: [Pointwise(FUNCTIONS[function])]


_KNOWN: dict[str, Any] = {
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _layers),
    **dict.fromkeys(("RNNCell", "GRUCell", "LSTMCell"), _cell),
    **dict.fromkeys(("Linear", "NonDynamicallyQuantizableLinear"), _linear),
    "BatchNorm1d": _batch_norm,
    **dict.fromkeys(("LayerNorm", "RMSNorm"), _layer_norm),
    "Embedding": _embedding,
    **dict.fromkeys(("Identity", "Dropout", "Dropout1d", "AlphaDropout", "Flatten"), lambda name, module: []),
    "ReLU": _plain("relu"),
    "LeakyReLU": lambda name, module: [Pointwise(leaky_relu(module.negative_slope))],
    "PReLU": _prelu,
    "ReLU6": _plain("relu6"),
    "Hardtanh": _hardtanh,
    "Tanh": _plain("tanh"),
    "Sigmoid": _plain("sigmoid"),
    "SiLU": _plain("silu"),
    "SELU": _plain("selu"),
    "GELU": lambda name, m: [Pointwise(FUNCTIONS["gelu" if m.approximate == "none" else "gelu_by_tanh"])],
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
}


_RECURRENT = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(_l(\d+))?(_reverse)?")
_STATISTICS = ("weight", "bias", "running_mean", "running_var")  # what a batch norm holds


def _of_weights(weights: Mapping[str, Any], activation: Any) -> Source:
    """A state dict, module by module."""
    modules: dict[str, dict[str, Any]] = {}
    for name, value in weights.items():
        module, _, field = str(name).rpartition(".")
        if not hasattr(value, "shape"):
            hint = "; give what is in it" if isinstance(value, Mapping) else ""
            raise TypeError(f"network must hold arrays of weights, got {type(value).__name__} as {name}{hint}")
        reshaped = re.search(r"(^|\.)(parametrizations\.|.*(_orig|_mask|_g|_v)$)", str(name))
        if reshaped:
            plain = "prune.remove, parametrize.remove_parametrizations or remove_weight_norm"
            raise ValueError(f"weights hold {name}, of which others are made; make them plain first, by {plain}")
        alone = "model" if _RECURRENT.fullmatch(field) or field in _STATISTICS else field
        modules.setdefault(module or alone, {})[field] = value
    if not modules:
        raise ValueError("model must hold weights, got an empty state dict")
    recurrent = [name for name, fields in modules.items() if any(map(_RECURRENT.fullmatch, fields))]
    is_taken = activation is None or any(_is_simple(modules[name]) for name in recurrent)

    def parts(name: str, fields: dict[str, Any]) -> list[Part]:
        return _parts_of_weights(name, fields, modules, activation)

    return Source(modules, parts, None, gated=() if is_taken else recurrent)


def _is_simple(fields: Mapping[str, Any]) -> bool:
    """Whether the weights may be those of an nn.RNN, without gates."""
    shapes = [value.shape for field, value in fields.items() if field.startswith("weight_hh")]
    return not shapes or not all(len(shape) == 2 and shape[0] in (3 * shape[1], 4 * shape[1]) for shape in shapes)


def _parts_of_weights(name: str, fields: dict[str, Any], modules: Any, activation: Any) -> list[Part]:
    found = [_RECURRENT.fullmatch(field) for field in fields]
    if any(found):
        if any(match and match[4] for match in found):
            raise NoCell(_BIDIRECTIONAL.format(name=name))
        if any(match and match[1] == "weight_hr" for match in found):
            raise NoCell(_PROJECTED.format(name=name))
        count = len({match[3] for match in found if match})
        hidden = [value for field, value in fields.items() if field.startswith("weight_hh")]
        if not hidden:
            raise ValueError(f"{name} lacks weight_hh: it holds {sorted(fields)}")
        shape = tuple(hidden[0].shape)
        if len(shape) != 2 or shape[0] not in [n * shape[1] for n in (1, 3, 4)]:
            raise ValueError(f"{name}.weight_hh must be (gates x hidden, hidden), got {shape}")
        gates = shape[0] // shape[1]
        if gates == 1 and activation is None:
            raise ValueError("activation must be given: a state dict does not show it; torch.nn.RNN's own is 'tanh'")
        parts = _recurrent(name, fields, count, gates, "tanh")
        act = None if activation is None else activation_of("activation", activation)
        return [dataclasses.replace(part, activation=act) if isinstance(part, Simple) else part for part in parts]
    arrays = {field: value for field, value in fields.items() if field != "num_batches_tracked"}
    rank = len(getattr(fields.get("weight"), "shape", ()))
    if set(arrays) == set(_STATISTICS):
        return [batch_norm((array(f"{name}.{field}", arrays[field]) for field in _STATISTICS), epsilon=1e-5)]
    if set(arrays) <= {"weight", "bias"} and rank == 2:
        table, bias = array(f"{name}.weight", arrays["weight"]), array(f"{name}.bias", arrays.get("bias"))
        return [Embedding(table)] if _is_embedding(name, arrays, modules) else [Affine(table.T, bias)]
    shapes = ", ".join(f"{field} {tuple(value.shape)}" for field, value in fields.items())
    raise ValueError(
        f"{name} holds {shapes}: weights alone do not show which layer that is; give the module itself (to "
        "maso_rnn.cell, if it is a layer norm)"
    )


def _is_embedding(name: str, arrays: dict[str, Any], modules: dict[str, dict[str, Any]]) -> bool:
    """Whether one matrix in front is (token, input) rather than (out, in), by the widths of what else there is."""
    rows, columns = arrays["weight"].shape
    if "bias" in arrays or name != next(iter(modules)):
        return False
    reads = {
        value.shape[1]
        for other, fields in modules.items()
        for field, value in fields.items()
        if other != name and field in ("weight", "weight_ih", "weight_ih_l0") and len(value.shape) == 2
    }
    if rows in reads and columns in reads:
        raise ValueError(f"{name}.weight {(rows, columns)} could be a linear layer or an embedding; give the module")
    return columns in reads and rows not in reads
