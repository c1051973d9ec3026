"""Networks trained elsewhere: PyTorch, flax nnx and linen, equinox and Keras, as an `RNN` or a `Cell`, and back out.

`from_torch`, `from_nnx` and `from_linen` give the `RNN` that a network is, exactly: its pieces. `cell` gives the `Cell`
that any of them is, with gates, layer norms and smooth activations. Every weight is used, or named in a refusal that
says what to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Array

from maso_rnn.activations import Activation
from maso_rnn.adapters import equinox, flax_linen, flax_nnx, keras, pytorch
from maso_rnn.adapters.flax_linen import from_linen, to_linen
from maso_rnn.adapters.flax_nnx import from_nnx, to_nnx
from maso_rnn.adapters.parts import NoCell, Part, Recurrent, as_cell, kernels_of, parts_of
from maso_rnn.adapters.pytorch import from_torch, to_torch
from maso_rnn.adapters.wiring import Source, assembled
from maso_rnn.cells import Cell
from maso_rnn.network import RNN, check_form

__all__ = ["cell", "from_linen", "from_nnx", "from_torch", "to_linen", "to_nnx", "to_torch"]


def cell(network: Any, *, order: Sequence[str] | None = None, activation: str | Activation | None = None) -> Cell:
    """Any recurrent network as a `Cell`: a step, a readout and an initial carry, whose weights are leaves.

    Everything that takes a step takes it: `linearize(cell, xs)`, `fixed_points`, `lyapunov_exponents` and the others.
    Another cell of the same form with other weights is not compiled again. A module is run on a random batch to see its
    wiring, and held against the result; it must be in evaluation mode.

    Args:
        network: an `RNN` of any activation; a PyTorch module, `nn.RNN`, `nn.GRU` and `nn.LSTM` of any depth and their
            cells included, or a state dict; a flax nnx module; a flax linen module bound to its variables,
            `module.bind(variables)`, or variables alone; an equinox cell or a module that runs on one sequence; a Keras
            layer or model; or a list of modules of one of them and of functions, in the order of the data.
        order: the names of the modules, first to last, and of functions between them, as ("encoder", "relu", "rnn",
            "head"); needed for weights alone, unless they are a recurrent layer and a readout.
        activation: the activation of simple recurrent layers; needed for weights alone, which do not show it.

    Returns:
        `Cell(params, step, readout, initial, embedding)`; the carry is a tuple of one h for each recurrent layer,
        (h, c) for an LSTM's.

    Raises:
        ValueError: if a layer is bidirectional, runs in reverse or is in training mode, weights are left over, the
            wiring is not known, or outputs differ by more than rounding.
        TypeError: if the network, one of its layers, or a dtype is not known.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from maso_rnn import cell, linearize
        >>> rngs = nnx.Rngs(0)
        >>> gru = cell([nnx.GRUCell(2, 8, rngs=rngs), nnx.LayerNorm(8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)])
        >>> linearize(gru, jnp.ones((5, 2), "float32")).slope.shape
        (3, 5, 2)

    Source:
        The equations and layouts of torch.nn, flax 0.12, equinox 0.13 and Keras 3.
    """
    if isinstance(network, Cell):
        return network
    if isinstance(network, RNN):
        check_form(network)
        return as_cell(parts_of(network))
    return assembled(_source(network, activation), order, as_cell)


def _source(network: Any, activation: Any = None) -> Source:
    """The network as its library's reader looks at it."""
    readers = {"torch": pytorch, "flax": flax_nnx, "equinox": equinox, "keras": keras}
    if isinstance(network, Mapping):
        is_nested = any(isinstance(value, Mapping) for value in network.values())
        return (flax_linen if is_nested else pytorch).source(network, activation)
    found = next((found for entry in _entries(network) if (found := _library(entry)) in readers), None)
    if found is None:
        wanted = "a module of PyTorch, flax, equinox or Keras, their weights, or a list of modules"
        raise TypeError(f"network must be an RNN, {wanted}, got {type(network).__name__}; maso_rnn.Cell takes any step")
    if found == "flax" and hasattr(network, "bind"):
        return flax_linen.source(network, activation)
    if found == "torch":
        return pytorch.source(network, activation)
    if activation is not None:
        raise ValueError("activation is what the modules say; it is given for weights alone only")
    return readers[found].source(network)


def _entries(network: Any) -> Sequence[Any]:
    return network if isinstance(network, list | tuple) else [network]


def _library(module: Any) -> str | None:
    """The library that a module's class comes from."""
    names = [parent.__module__.split(".")[0] for parent in type(module).__mro__]
    return next((name for name in names if name in ("torch", "flax", "equinox", "keras")), None)


def kernels_of_network(network: Any) -> dict[str, Array]:
    """The recurrent kernel of every layer and gate, by name; what else the network holds is not looked at."""
    if isinstance(network, RNN):
        check_form(network)
        kernels = {f"layer {l}": layer.recurrent_kernel for l, layer in enumerate(network.layers)}
        return {name: kernel for name, kernel in kernels.items() if kernel is not None}
    parts = network.params if isinstance(network, Cell) else _parts_anywhere(network)
    layers = [part for part in parts if isinstance(part, Recurrent)] if isinstance(parts, list | tuple) else []
    if not layers:
        raise TypeError(f"cell must be what maso_rnn.cell takes, with a recurrent layer, got {type(network).__name__}")
    if len(layers) == 1:
        return kernels_of(layers[0])
    return {
        f"layer {l} {gate}".removesuffix(" h"): kernel
        for l, layer in enumerate(layers)
        for gate, kernel in kernels_of(layer).items()
    }


def _parts_anywhere(network: Any) -> list[Part]:
    """Every part that can be told, in whatever order."""
    found: list[Part] = []
    with contextlib.suppress(TypeError):
        source = _source(network, "tanh" if isinstance(network, Mapping) else None)
        for name, module in source.modules.items():
            try:
                found += source.parts(name, module)
            except NoCell:
                raise
            except (TypeError, ValueError):  # no recurrent layer
                continue
    return found
