"""Rows of `path_opt`; its transforms have a battery of their own, `tests/test_optax_battery.py`."""

import jax
import jax.numpy as jnp

import path_opt
from tests.contracts.network import network
from tests.contracts.table import Row

# the skeleton by index: it needs no numbers, and so fits every draw
GRAPH = path_opt.reduction_graph(network(jax.random.key(1), jnp.float32), skeleton="modulo")
STEPS = 6


def _params(key, dtype):
    return (network(key, dtype),)


def _params_and_scales(key, dtype):
    keys = jax.random.split(key, len(GRAPH.widths))
    scales = tuple(jax.random.normal(k, (width,), dtype) for k, width in zip(keys, GRAPH.widths, strict=True))
    return network(jax.random.key(1), dtype), scales


def _path_values(key, dtype):
    return (path_opt.path_values(network(key, dtype), GRAPH),)


ROWS = (
    Row(
        path_opt.rescale,
        _params_and_scales,
        call=lambda params, scales: path_opt.rescale(params, GRAPH, scales),
        batched=(1,),
        gradient=1,
    ),
    Row(path_opt.balance, _params, call=lambda params: path_opt.balance(params, GRAPH)),
    # differences of nearly equal numbers: a small skeleton weight in the denominator magnifies rounding
    Row(path_opt.path_values, _params, call=lambda params: path_opt.path_values(params, GRAPH), tolerance=1e-11),
    Row(path_opt.from_path_values, _path_values, call=lambda v: path_opt.from_path_values(v, GRAPH), tolerance=1e-11),
    Row(path_opt.set_skeleton, _params, call=lambda params: path_opt.set_skeleton(params, GRAPH), case="rescale"),
    Row(
        path_opt.set_skeleton,
        _params,
        call=lambda params: path_opt.set_skeleton(params, GRAPH, how="overwrite"),
        case="overwrite",
    ),
    Row(
        path_opt.condition,
        _params,
        call=lambda params: path_opt.condition(params, GRAPH, STEPS),
        gradient=None,
        tolerance=1e-6,
        why="the minimum of a loop that ends within the root of rounding, and has no reverse mode",
    ),
    Row(path_opt.path_norm, _params, call=lambda params: path_opt.path_norm(params, GRAPH, STEPS)),
    Row(
        path_opt.path_norm, _params, call=lambda params: path_opt.path_norm(params, GRAPH, STEPS, log=True), case="log"
    ),
)

HOST = {
    "path_opt.summary": "makes text",
    "path_opt.reduction_graph": "makes a static graph, the skeleton from concrete weights",
    "path_opt.reduction_graph_from_paths": "makes a static graph, the skeleton from concrete weights",
}

TRANSFORMS = dict.fromkeys(
    (
        "path_opt.in_path_space",
        "path_opt.path_space_sgd",
        "path_opt.path_space_adam",
        "path_opt.scale_by_path_norm",
        "path_opt.path_sgd",
        "path_opt.equivariant_adam",
    ),
    "makes an optax transform, tested in tests/test_optax_battery.py",
)
