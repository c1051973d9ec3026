"""Keras: layers and chains of them, by `get_weights` and `get_config`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maso_rnn.activations import Activation, leaky_relu
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
    batch_norm,
    reader_of,
    weight,
)
from maso_rnn.adapters.wiring import Run, Source


def source(model: Any) -> Source:
    """A layer, a model or a list of layers, as the readers look at it."""
    if isinstance(model, list | tuple):
        return Source({f"[{place}]": layer for place, layer in enumerate(model)}, _parts, None, is_chain=True)
    modules = dict(_leaves(model))
    if hasattr(model, "units") and type(model).__name__.endswith("Cell"):
        return Source(modules, _parts, None)

    def run(batch: np.ndarray) -> Run:
        from keras import ops

        returned = model(ops.convert_to_tensor(batch), training=False)
        returned = returned if isinstance(returned, list | tuple) else [returned]
        return Run([], [np.asarray(ops.convert_to_numpy(tensor)) for tensor in returned])

    return Source(modules, _parts, run)


def _leaves(model: Any) -> Iterator[tuple[str, Any]]:
    for layer in getattr(model, "layers", [model]):
        if layer is not model and hasattr(layer, "layers"):
            yield from _leaves(layer)
        else:
            yield layer.name, layer


def _parts(name: str, layer: Any) -> list[Part]:
    """What a layer is made of."""
    if not hasattr(layer, "get_config"):
        return [Pointwise(_activation(f"the function {name}", layer))]
    kind, config = type(layer).__name__, layer.get_config()
    if not layer.built:
        raise ValueError(f"{name} ({kind}) has no weights yet; call model.build((None, None, inputs)) first")
    if kind == "TimeDistributed":
        return _parts(name, layer.layer)
    if kind == "RNN" and not config["go_backwards"]:
        return [part for cell in getattr(layer.cell, "cells", [layer.cell]) for part in _parts(name, cell)]
    if config.get("go_backwards"):
        raise NoCell(f"{name} ({kind}) goes backwards, which a network here does not; reverse the data instead")
    if config.get("stateful"):
        raise ValueError(f"{name} ({kind}) keeps its state from batch to batch; make it with stateful=False")
    weights = [weight(f"{name}.weights[{place}]", array) for place, array in enumerate(layer.get_weights())]
    return reader_of(name, layer, "keras", _KNOWN)(name, config, weights)


_SAME = {"linear": "identity", "relu6": "relu6", "swish": "silu", "hard_tanh": "hard_tanh"}


def _activation(where: str, function: Any) -> Activation:
    """A Keras activation, by its name in a configuration."""
    if isinstance(function, Mapping):
        function = function.get("config", function)
    function = getattr(function, "__name__", function)
    function = _SAME.get(function, function)
    if function == "leaky_relu":
        return leaky_relu(0.2)  # Keras's own slope
    if function == "hard_sigmoid":
        return jax.nn.hard_sigmoid
    return activation_of(where, function)


def _act(name: str, config: Mapping[str, Any]) -> Activation:
    return _activation(f"{name}.activation", config["activation"])


def _simple(name: str, config: Any, weights: Any) -> list[Part]:
    return [Simple(weights[0], weights[1], weights[2] if config["use_bias"] else None, _act(name, config))]


def _gru(name: str, config: Any, weights: Any) -> list[Part]:
    def swapped(array: Any) -> Any:  # Keras has update, reset, new
        z, r, n = jnp.split(array, 3, axis=-1)
        return jnp.concatenate([r, z, n], axis=-1)

    kernel, recurrent, *bias = (swapped(array) for array in weights)
    after = config["reset_after"]
    b, c = (None, None) if not bias else (bias[0][0], bias[0][1]) if after else (bias[0], None)
    gate = _activation(f"{name}.recurrent_activation", config["recurrent_activation"])
    return [GRU(kernel, recurrent, b, c, gate, _act(name, config), after)]


def _lstm(name: str, config: Any, weights: Any) -> list[Part]:
    gate = _activation(f"{name}.recurrent_activation", config["recurrent_activation"])
    return [LSTM(weights[0], weights[1], weights[2] if config["use_bias"] else None, gate, _act(name, config))]


def _dense(name: str, config: Any, weights: Any) -> list[Part]:
    function = Pointwise(_act(name, config))
    return [Affine(*weights), *([] if function.function == FUNCTIONS["identity"] else [function])]


def _embedding(name: str, config: Any, weights: Any) -> list[Part]:
    if config["mask_zero"]:
        raise ValueError(f"{name} (Embedding) masks zeros; make it without mask_zero and pass `length` here")
    return [Embedding(*weights)]


def _batch_norm(name: str, config: Any, weights: Any) -> list[Part]:
    left: list[Any] = list(weights)
    scale = left.pop(0) if config["scale"] else None
    bias = left.pop(0) if config["center"] else None
    return [batch_norm([scale, bias, *left], config["epsilon"])]


def _layer_norm(name: str, config: Any, weights: Any) -> list[Part]:
    left: list[Any] = list(weights)
    scale = left.pop(0) if config["scale"] else None
    bias = left.pop(0) if config["center"] else None
    return [LayerNorm(scale, bias, config["epsilon"])]


def _relu(name: str, config: Any, weights: Any) -> list[Part]:
    if config["max_value"] is not None or config["threshold"]:
        raise ValueError(f"{name} (ReLU) has a maximum or a threshold; write it as a maso_rnn.PiecewiseAffine")
    return [Pointwise(leaky_relu(config["negative_slope"]) if config["negative_slope"] else FUNCTIONS["relu"])]


def _bidirectional(name: str, config: Any, weights: Any) -> list[Part]:
    raise NoCell(
        f"{name} (Bidirectional) runs both ways: each of its states has read the whole sequence, so it is no cell and "
        "its layers mix the two directions. Analyse one direction: its forward_layer alone, with a readout of it"
    )


_KNOWN: dict[str, Any] = {
    **dict.fromkeys(("SimpleRNN", "SimpleRNNCell"), _simple),
    **dict.fromkeys(("GRU", "GRUCell"), _gru),
    **dict.fromkeys(("LSTM", "LSTMCell"), _lstm),
    "Bidirectional": _bidirectional,
    "Dense": _dense,
    "Embedding": _embedding,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    **dict.fromkeys(("InputLayer", "Identity", "Flatten"), lambda name, config, weights: []),
    **dict.fromkeys(
        ("Dropout", "SpatialDropout1D", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
        lambda name, config, weights: [],
    ),
    "Activation": lambda name, config, weights: [Pointwise(_act(name, config))],
    "ReLU": _relu,
    "LeakyReLU": lambda name, config, weights: [Pointwise(leaky_relu(config["negative_slope"]))],
    "Softmax": lambda name, config, weights: [Pointwise(FUNCTIONS["softmax"])],
}
