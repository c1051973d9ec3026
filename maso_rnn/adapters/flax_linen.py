"""Flax linen: a module bound to its variables, whose wiring a run shows, or the variables alone, with their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from maso_rnn.activations import Activation
from maso_rnn.adapters.flax_nnx import BIDIRECTIONAL, arrays_of, call_of
from maso_rnn.adapters.parts import (
    GRU,
    LSTM,
    Affine,
    Embedding,
    LayerNorm,
    NoCell,
    Part,
    Simple,
    activation_of,
    as_rnn,
    batch_norm,
    kind_of,
    unknown,
    weight,
)
from maso_rnn.adapters.pytorch import require_plain
from maso_rnn.adapters.wiring import Call, Run, Source, assembled
from maso_rnn.network import RNN


def from_linen(model: Any, *, order: Sequence[str] | None = None, activation: str | Activation | None = None) -> RNN:
    """The `RNN` that a flax linen network is: exactly, or refused with the name of what is in the way.

    What is composed is said at `from_torch`. A bound module is run on a random batch to see its wiring, and held
    against the result. `maso_rnn.cell` takes what has no pieces.

    Args:
        model: a module bound to its variables, `module.bind(variables)`, or the variables alone.
        order: the names of the parameters' groups, as "rnn.cell", first to last, and of functions between them; needed
            for variables of more than a cell and its readout.
        activation: the cells' activation, which variables do not show.

    Returns:
        The network, in the weights' dtype. Batch norm of variables alone is taken to have flax's ε of 1e-5.

    Raises:
        ValueError: if a module is not piecewise affine, runs in reverse, weights are left over, the wiring is not
            known, or outputs differ.
        TypeError: if a module is not known.

    Example:
        >>> cell = {"i": {"kernel": jnp.ones((1, 8)), "bias": jnp.ones(8)}, "h": {"kernel": jnp.eye(8)}}
        >>> from_linen({"rnn": cell, "head": {"kernel": jnp.ones((8, 3))}}, activation="relu").readout.kernel.shape
        (8, 3)

    Source:
        flax.linen.SimpleCell.
    """
    return assembled(source(model, activation), order, as_rnn)


def to_linen(rnn: RNN) -> dict[str, Any]:
    """The network as the parameters of flax linen `SimpleCell`s and a `Dense` readout.

    Args:
        rnn: the network; one with a learned initial state, an embedding or layers without recurrence is refused.

    Returns:
        Parameters by name: "layers_0", …, one for each `SimpleCell`, and "readout". A missing layer bias becomes zeros.

    Raises:
        ValueError: if a `SimpleCell` has no place for a part of the network.

    Example:
        >>> import jax
        >>> from maso_rnn import init
        >>> sorted(to_linen(init(jax.random.key(0), 1, [8, 4], 3)))
        ['layers_0', 'layers_1', 'readout']

    Source:
        flax.linen.SimpleCell.
    """
    require_plain(rnn, "a linen.SimpleCell")
    params: dict[str, Any] = {}
    for l, layer in enumerate(rnn.layers):
        bias = jnp.zeros_like(layer.recurrent_kernel[0]) if layer.bias is None else layer.bias
        params[f"layers_{l}"] = {
            "i": {"kernel": layer.input_kernel, "bias": bias},
            "h": {"kernel": layer.recurrent_kernel},
        }
    params["readout"] = {"kernel": rnn.readout.kernel}
    if rnn.readout.bias is not None:
        params["readout"]["bias"] = rnn.readout.bias
    return params


@dataclasses.dataclass
class _Group:
    """The variables of one module, and the module, once a run has met it."""

    variables: dict[str, Any]
    module: Any = None


def source(model: Any, activation: Any = None) -> Source:
    """A bound module, or variables, as the readers look at them."""
    if isinstance(model, Mapping):
        groups = dict(_groups(model))
        gated = [name for name, group in groups.items() if set(group.variables) in (_fields("rzn"), _fields("ifgo"))]
        is_taken = activation is None or any("h" in group.variables for group in groups.values())

        def parts(name: str, group: _Group) -> list[Part]:
            return _parts(name, group, activation)

        return Source(groups, parts, None, gated=() if is_taken else gated)
    if isinstance(model, type) or not hasattr(model, "bind"):
        raise TypeError(f"model must be a bound linen module or its variables, got {kind_of(model)}")
    if activation is not None:
        raise ValueError("activation is what the modules say; it is given for variables alone only")
    groups = dict(_groups(model.variables))
    loose = [name for name, group in groups.items() if set(group.variables) == {name.split(".")[-1]}]
    if type(model).__name__.endswith("Cell"):
        (group,) = groups.values()
        group.module = model
        return Source({type(model).__name__: group}, lambda name, group: _parts(name, group, None), None)
    return Source(groups, _met, lambda batch: _run(model, groups, batch), loose=loose)


def _met(name: str, group: _Group) -> list[Part]:
    """The parts of a module that a run has met, which says its activation."""
    return _parts(name, group, "tanh")


def _groups(variables: Mapping[str, Any]) -> Iterator[tuple[str, _Group]]:
    """The variables of each module that has its own, by the names that lead to it."""
    params = variables.get("params", variables)
    statistics = variables.get("batch_stats", {}) if "params" in variables else {}

    def walk(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, _Group]]:
        is_cell = any(f"h{gate}" in tree for gate in ("", "r", "i", "f", "g", "n"))
        if is_cell or not all(isinstance(value, Mapping) for value in tree.values()):
            here: Any = statistics
            for key in path:
                here = here.get(key, {}) if isinstance(here, Mapping) else {}
            own = tree if is_cell else {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
            if len(own) == len(tree):
                yield ".".join(path) or "model", _Group({**tree, **here})
                return
            for key, value in own.items():  # a weight beside modules
                yield ".".join((*path, key)), _Group({key: value})
        for key, value in tree.items():
            if isinstance(value, Mapping):
                yield from walk(value, (*path, key))

    return walk(params, ())


def _run(model: Any, groups: dict[str, _Group], batch: np.ndarray) -> Run:
    """The modules with variables at work, in the order of calls, and every array that the model returns."""
    from flax import linen

    calls: list[Call] = []
    inside: list[Any] = []  # of a module that is looked at as a whole

    def listen(proceed: Any, given: Any, options: Any, context: Any) -> Any:
        module: Any = context.module
        kind = type(module).__name__
        if context.method_name != "__call__" or inside or not isinstance(module, _known()):
            return proceed(*given, **options)
        inside.append(module)
        try:
            returned = proceed(*given, **options)
        finally:
            inside.pop()
        held: Any = getattr(module, "cell", module)
        name = ".".join(held.path) or "model"
        groups.setdefault(name, _Group({})).module = module
        calls.append(call_of(name, kind, given, options, returned))
        return returned

    with linen.intercept_methods(listen):
        returned = model(jnp.asarray(batch))
    return Run(calls, arrays_of(returned))


def _known() -> tuple[type, ...]:
    from flax import linen

    kinds: tuple[type, ...] = (linen.RNN, linen.RNNCellBase, linen.Bidirectional, linen.Dense, linen.Embed)
    return (*kinds, linen.LayerNorm, linen.RMSNorm, linen.BatchNorm, linen.GroupNorm, linen.Conv, linen.DenseGeneral)


def _parts(name: str, group: _Group, activation: Any) -> list[Part]:
    """What a module is made of, by the names of its variables, and by itself where a run has met it."""
    variables, module = group.variables, group.module
    if type(module).__name__ == "Bidirectional":
        raise NoCell(BIDIRECTIONAL.format(name=name))
    if getattr(module, "reverse", False):
        raise NoCell(f"{name} runs in reverse, which a network here does not; reverse the data instead")
    fields = set(variables)
    if fields >= {"h"} or any(f"h{gate}" in fields for gate in "rifgn"):
        return _cell(name, variables, getattr(module, "cell", module), activation)
    arrays = {field: weight(f"{name}.{field}", jnp.asarray(value)) for field, value in variables.items()}
    kind = None if module is None else type(module).__name__
    if fields <= {"kernel", "bias"} and "kernel" in fields and arrays["kernel"].ndim == 2 and kind in (None, "Dense"):
        return [Affine(arrays["kernel"], arrays.get("bias"))]
    if fields == {"embedding"}:
        return [Embedding(arrays["embedding"])]
    if {"mean", "var"} <= fields <= {"scale", "bias", "mean", "var"}:
        return [
            batch_norm(
                (arrays.get(field) for field in ("scale", "bias", "mean", "var")), getattr(module, "epsilon", 1e-5)
            )
        ]
    if kind in ("LayerNorm", "RMSNorm"):
        return [LayerNorm(arrays.get("scale"), arrays.get("bias"), module.epsilon, kind == "LayerNorm")]
    if module is not None:
        raise TypeError(unknown(name, str(kind)))
    shapes = ", ".join(f"{field} {array.shape}" for field, array in arrays.items())
    raise ValueError(
        f"{name} holds {shapes}: variables alone do not show which layer that is; give module.bind(variables) (to "
        "maso_rnn.cell, if it is a layer norm)"
    )


def _cell(name: str, variables: Mapping[str, Any], cell: Any, activation: Any) -> list[Part]:
    gates = next((gates for gates in ("", "rzn", "ifgo") if set(variables) == _fields(gates)), None)
    if gates is None:
        raise TypeError(unknown(name, f"a cell with {sorted(variables)}" if cell is None else type(cell).__name__))

    def joined(side: str, field: str) -> Any:
        found = [variables[f"{side}{gate}"].get(field) for gate in gates or ("",)]
        if all(value is None for value in found):
            return None
        width = next(jnp.shape(value)[-1] for value in found if value is not None)
        arrays = [jnp.zeros(width) if a is None else weight(f"{name}.{side}.{field}", jnp.asarray(a)) for a in found]
        return jnp.concatenate(arrays, axis=-1).astype(arrays[-1].dtype)

    W, U, b, c = joined("i", "kernel"), joined("h", "kernel"), joined("i", "bias"), joined("h", "bias")
    functions = {
        field: activation_of(f"{name}.{field}", getattr(cell, f"{field}_fn"))
        for field in ("gate", "activation")
        if hasattr(cell, f"{field}_fn")
    }
    if gates == "rzn":
        return [GRU(W, U, b, c, **functions)]
    biases = [bias for bias in (b, c) if bias is not None]
    total = sum(biases) if biases else None
    if gates == "ifgo":
        return [LSTM(W, U, total, **functions)]
    if cell is None and activation is None:
        raise ValueError(f"activation must be given: variables do not show it ({name}); SimpleCell's own is 'tanh'")
    act = functions.get("activation") or activation_of("activation", activation)
    if getattr(cell, "residual", False):  # added before the activation
        U = U + jnp.eye(len(U), dtype=U.dtype)
    return [Simple(W, U, total, act)]


def _fields(gates: str) -> set[str]:
    return {f"{side}{gate}" for side in "ih" for gate in gates or ("",)}
