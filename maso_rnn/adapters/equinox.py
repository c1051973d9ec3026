"""Equinox: cells and layers in the order of the data, and modules that run on one sequence."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, cast

import jax.numpy as jnp
import numpy as np

from maso_rnn.adapters.flax_nnx import arrays_of
from maso_rnn.adapters.parts import (
    GRU,
    LSTM,
    Affine,
    Embedding,
    LayerNorm,
    Part,
    Pointwise,
    activation_of,
    reader_of,
    weight,
)
from maso_rnn.adapters.wiring import Run, Source


def source(model: Any) -> Source:
    """A module or a list of them, as the readers look at it."""
    import equinox

    if isinstance(model, equinox.nn.Sequential):
        model = list(model.layers)
    if not isinstance(model, equinox.Module):
        return Source({f"[{place}]": entry for place, entry in enumerate(model)}, _parts, None, is_chain=True)
    if _is_layer(model):
        return Source({type(model).__name__: model}, _parts, None)
    modules, call = dict(_leaves(model, "")), cast(Any, model)

    def run(batch: np.ndarray) -> Run:
        return Run([], arrays_of(call(jnp.asarray(batch))))

    return Source(modules, _parts, run)


def _is_layer(module: Any) -> bool:
    """One of equinox's own, known or not: what it is made of is not looked at."""
    import equinox

    return type(module).__module__.startswith("equinox.") and not isinstance(module, equinox.nn.Sequential)


def _leaves(module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The modules that compute something, in the order of their fields."""
    import equinox

    if _is_layer(module) or not isinstance(module, equinox.Module | list | tuple):
        yield name, module
        return
    children = enumerate(module) if isinstance(module, list | tuple) else vars(module).items()
    held = [(key, child) for key, child in children if isinstance(child, equinox.Module | list | tuple)]
    if not held:
        yield name, module
    for key, child in held:
        yield from _leaves(child, f"{name}.{key}".lstrip("."))


def _parts(name: str, module: Any) -> list[Part]:
    """What a module is made of."""
    import equinox

    if isinstance(module, equinox.Module):
        return reader_of(name, module, "equinox", _KNOWN)(name, module)
    return [Pointwise(activation_of(f"the function {name}", module))]


def _array(where: str, value: Any) -> Any:
    return None if value is None else weight(where, value)


def _gru(name: str, cell: Any) -> list[Part]:
    W, U, b, c = (_array(f"{name}.{f}", getattr(cell, f)) for f in ("weight_ih", "weight_hh", "bias", "bias_n"))
    return [GRU(W.T, U.T, b, None if c is None else jnp.concatenate([jnp.zeros(2 * len(c), c.dtype), c]))]


def _lstm(name: str, cell: Any) -> list[Part]:
    W, U, b = (_array(f"{name}.{field}", getattr(cell, field)) for field in ("weight_ih", "weight_hh", "bias"))
    return [LSTM(W.T, U.T, b)]


def _linear(name: str, module: Any) -> list[Part]:
    if "scalar" in (module.in_features, module.out_features):
        raise ValueError(f"{name} (Linear) takes or gives a scalar; give it width 1")
    return [Affine(_array(f"{name}.weight", module.weight).T, _array(f"{name}.bias", module.bias))]


def _perceptron(name: str, module: Any) -> list[Part]:
    parts: list[Part] = []
    for l, layer in enumerate(module.layers):
        is_last = l + 1 == len(module.layers)
        function = module.final_activation if is_last else module.activation
        parts += _linear(f"{name}.layers.{l}", layer)
        if function is not _nothing_at_the_end():
            parts.append(Pointwise(activation_of(f"the activation of {name}", function)))
    return parts


def _nothing_at_the_end() -> Any:
    """The function that an MLP ends with by default."""
    import equinox

    return inspect.signature(equinox.nn.MLP.__init__).parameters["final_activation"].default


def _layer_norm(name: str, module: Any) -> list[Part]:
    scale, bias = (_array(f"{name}.{field}", getattr(module, field)) for field in ("weight", "bias"))
    return [LayerNorm(scale, bias, float(module.eps), type(module).__name__ == "LayerNorm")]


def _function(name: str, module: Any) -> list[Part]:
    return [Pointwise(activation_of(f"the function {name}", module.fn))]


_KNOWN: dict[str, Any] = {
    "GRUCell": _gru,
    "LSTMCell": _lstm,
    "Linear": _linear,
    "MLP": _perceptron,
    "LayerNorm": _layer_norm,
    "RMSNorm": _layer_norm,
    **dict.fromkeys(("Dropout", "Identity"), lambda name, module: []),
    "Embedding": lambda name, module: [Embedding(_array(f"{name}.weight", module.weight))],
    "Lambda": _function,
}
