"""Stacks of flax `SimpleCell`s that a linear layer reads: which leaf plays which part.

The order of the cells is not in the parameters. It is taken from the numbers in their names, and sizes must fit; where
neither can be told, the caller is asked to name the leaves.
"""

from __future__ import annotations

import re
from typing import Any

import jax
from jaxtyping import PyTree

from maso_rnn.activations import activation as activation_of
from maso_rnn.network import RNN, Layer, Readout

_ELSE = "name the leaves: path_opt.reduction_graph_from_paths(params, layers, readout, activation='relu')"
_CELL = {"nnx": ("dense_i", "dense_h"), "linen": ("i", "h")}


def named(model: Any, activation: Any) -> tuple[PyTree, RNN]:
    """The parameters of a flax stack, and the network with the names of their leaves in place of arrays."""
    from flax import nnx

    if isinstance(model, nnx.Module):
        cells = [cell for _, cell in nnx.iter_modules(model) if isinstance(cell, nnx.SimpleCell)]
        if not cells:
            raise ValueError(f"rnn must hold nnx.SimpleCells, got {type(model).__name__} without one; {_ELSE}")
        shared = nnx.find_duplicates(model, only=lambda _, node: isinstance(node, nnx.Module | nnx.Param))
        if shared:
            places = [".".join(map(str, place)) for place in shared[0]]
            raise ValueError(f"rnn has the same weights in several places, {places}; tied, they cannot be rescaled")
        kinds = [cell.activation_fn for cell in cells] + [activation] * (activation is not None)
        if len(set(kinds)) > 1 or any(cell.residual for cell in cells):
            raise ValueError("rnn must have cells of one activation, none of them residual")
        params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        return params, _stack(params, kinds[0] if kinds else None, *_CELL["nnx"])
    if not isinstance(model, dict):
        raise ValueError(
            f"rnn must hold exactly one maso_rnn.RNN or be a flax stack, got {type(model).__name__}; {_ELSE}"
        )
    return model, _stack(model, activation, *_CELL["linen"])


def _stack(params: PyTree, activation: Any, into: str, own: str) -> RNN:
    """The names of all leaves, cells by number and last the readout."""
    parts: dict[str, set[str]] = {}  # the leaves of each cell or linear layer
    for path, _ in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        part = re.match(rf"(.*?)(?:/?(?:{into}|{own}))?/[^/]*$", f"/{name}")
        parts.setdefault(part[1] if part else "", set()).add(name)
    cells = sorted((part for part in parts if any(f"/{own}/" in f"/{name}" for name in parts[part])), key=_number)
    linear = [part for part in parts if part not in cells]
    if not cells or len(linear) != 1:
        raise ValueError(f"rnn must hold SimpleCells {cells} and one linear layer after them, got {linear}; {_ELSE}")
    if len({re.sub(r"\d+", "0", cell) for cell in cells}) > 1:
        raise ValueError(f"rnn: the order of the cells {[cell.lstrip('/') for cell in cells]} is not told; {_ELSE}")
    if activation is None:
        raise ValueError('activation must be given, as activation="relu": linen parameters do not show it')

    def leaf(part: str, *rest: str) -> str | None:
        name = "/".join([part, *rest]).lstrip("/")
        return name if name in parts[part] else None

    layers = [Layer(leaf(c, into, "kernel"), leaf(c, own, "kernel"), leaf(c, into, "bias")) for c in cells]
    readout = Readout(leaf(linear[0], "kernel"), leaf(linear[0], "bias"))
    names = RNN(tuple(layers), readout, None, activation_of(activation))
    unknown = set().union(*parts.values()) - set(jax.tree.leaves(names))
    if unknown or readout.kernel is None:
        raise ValueError(f"rnn has leaves of neither a SimpleCell nor a linear layer: {sorted(unknown)}; {_ELSE}")
    return names


def _number(part: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", part)]
