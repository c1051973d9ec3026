"""Everything batched, on as many devices as the process has: `python -m tests.sharded` prints what it found as JSON.

For each computation which collectives its compiled program has, and by how much its values differ from those of one
device: where that one is given the share of each, sums are taken in the same order, and are equal bit for bit.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import maso_rnn
import path_opt
import srnn
from tests.contracts import table

MOVES = ("all-gather", "all-to-all", "collective-permute", "reduce-scatter")
BATCH = PATHS = 64
HIDDEN, OUTPUTS, TIME = 4, 3, 5


def collectives(program: jax.stages.Compiled) -> dict[str, int]:
    """How many of each collective, and how many arrays are reduced in all by the all-reduces."""
    text = program.as_text()
    found = {kind: len(re.findall(rf" {kind}(?:-start)?\(", text)) for kind in MOVES}
    reduced = [operands.count("%") for operands in re.findall(r" all-reduce(?:-start)?\(([^)]*)\)", text)]
    return {kind: count for kind, count in found.items() if count} | ({"reduced": sum(reduced)} if reduced else {})


def difference(got: Any, wanted: Any) -> float:
    """The largest difference of two results, relative to the largest number of each array; infinite if not alike."""
    pairs = list(zip(map(numbers, jax.tree.leaves(got)), map(numbers, jax.tree.leaves(wanted)), strict=True))
    return max((_difference(a, b) for a, b in pairs), default=0.0)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf
    if not np.issubdtype(a.dtype, np.inexact):
        return 0.0 if np.array_equal(a, b) else np.inf
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    scale = np.abs(b[finite]).max(initial=0.0)
    return float(np.abs(a[finite] - b[finite]).max(initial=0.0) / (scale or 1.0))


def numbers(leaf: Any) -> np.ndarray:
    """As NumPy has it, of a random key the data."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def row(row: table.Row, sharding: NamedSharding) -> dict[str, Any]:
    """A public function under `jax.vmap`, with the same two examples on every device, against one device with two."""
    devices = len(sharding.device_set)
    arguments = row.batch(jax.random.key(20190501), jnp.float64)
    placed = [
        jax.device_put(repeated(argument, devices), sharding) if axis == 0 else argument
        for argument, axis in zip(arguments, row.axes(arguments), strict=True)
    ]
    program = row.compiled_batch.lower(*placed).compile()
    alone = row.compiled_batch(*arguments)
    return {
        "collectives": collectives(program),
        "difference": difference(program(*placed), repeated(alone, devices)),
        "tolerance": row.tolerance,
    }


def repeated(tree: Any, times: int) -> Any:
    """Each array as often one after the other."""
    return jax.tree.map(lambda leaf: jnp.concatenate([leaf] * times), tree)


def batch_of(function: Callable, arguments: Sequence[Any], placed: Sequence[Any]) -> dict[str, Any]:
    """A function of whole batches, of arguments on one device and on all."""
    compiled = jax.jit(function)
    program = compiled.lower(*placed).compile()
    return {
        "collectives": collectives(program),
        "difference": difference(program(*placed), compiled(*arguments)),
        "tolerance": 1e-11,  # float64: sums over 64 examples or paths, ordered otherwise
    }


def means(sharding: NamedSharding) -> dict[str, dict[str, Any]]:
    """Means over examples: of numbers, and of gradients in a step of training."""
    rnn = maso_rnn.init(jax.random.key(0), 2, [HIDDEN], OUTPUTS)
    rnn = rnn.replace(layers=(rnn.layers[0].replace(bias=jnp.full(HIDDEN, 0.1)),))
    xs = jax.random.normal(jax.random.key(1), (BATCH, TIME, 2))
    labels = jnp.arange(BATCH) % OUTPUTS
    on_devices = jax.device_put((xs, labels), sharding)
    graph = path_opt.reduction_graph(rnn)

    def cross_entropy(z: jax.Array, label: jax.Array) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(z, label)

    def loss(rnn: maso_rnn.RNN, xs: jax.Array, labels: jax.Array) -> jax.Array:
        return cross_entropy(jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs), labels).mean()

    def train(optimiser: Any) -> Callable:
        def step(state: Any, rnn: maso_rnn.RNN, xs: jax.Array, labels: jax.Array) -> Any:
            value, gradient = jax.value_and_grad(loss)(rnn, xs, labels)
            updates, _ = optimiser.update(gradient, state, rnn)
            return value, optax.apply_updates(rnn, updates)

        return functools.partial(step, optimiser.init(rnn), rnn)

    def mean_penalty(xs: jax.Array, labels: jax.Array) -> jax.Array:
        def penalty(x: jax.Array, label: jax.Array) -> jax.Array:
            return maso_rnn.noise_penalty(rnn, x, scale=0.1, loss=lambda z: cross_entropy(z, label))

        return jax.vmap(penalty)(xs, labels).mean()

    computed = {
        "mean distance": lambda xs, _: jax.vmap(lambda x: maso_rnn.boundary_distance(rnn, x))(xs).mean(),
        "mean template": lambda xs, _: jax.vmap(lambda x: maso_rnn.affine_map(rnn, x).slope)(xs).mean(axis=0),
        "mean penalty": mean_penalty,
        "step of SGD": train(optax.sgd(0.1)),
        "step of Path-SGD": train(path_opt.path_sgd(0.1, graph=graph, num_steps=TIME)),
        "step in path space": train(path_opt.path_space_adam(0.01, graph=graph)),
        "step of equivariant Adam": train(path_opt.equivariant_adam(0.01, graph=graph)),
    }
    return {name: batch_of(function, (xs, labels), on_devices) for name, function in computed.items()}


def paths(sharding: NamedSharding) -> dict[str, dict[str, Any]]:
    """Paths of a stochastic RNN, sharded by `sharding=` and by their initial states, in one chunk and in several."""
    model = srnn.init(jax.random.key(0), 2, HIDDEN, noise_size=HIDDEN, noise=0.5)
    control = jax.random.normal(jax.random.key(1), (8, 2))
    options = {"key": jax.random.key(2), "paths": PATHS, "t1": 1.0, "dt": 0.125}
    start = 0.1 * jax.random.normal(jax.random.key(3), (PATHS, HIDDEN))
    placed = jax.device_put(start, sharding)

    def ensemble(increments: str, sharding: NamedSharding | None = None) -> Callable:
        return lambda start: srnn.simulate(
            model, control, initial=start, increments=increments, sharding=sharding, **options
        )

    def kernel(method: str, order: int = 1) -> Callable:
        # without the mismatch: a difference of nearly equal responses, which magnifies roundings
        return lambda start: srnn.response_kernel(
            model, lambda h: h[0] ** 2, method=method, order=order, initial=start, compare=False, **options
        )

    computed = {
        "ensemble, Gaussian": ensemble("gaussian"),
        "ensemble, two-point": ensemble("two_point"),
        "paths alone": lambda start: ensemble("gaussian")(start).values,
        "adjoint kernel": kernel("adjoint"),
        "tangent kernel": kernel("tangent"),
        "Malliavin kernel": kernel("malliavin"),
        "second-order kernel": kernel("adjoint", 2),
        "Volterra terms": lambda start: srnn.volterra_terms(
            model, lambda h: h[0] ** 2, control, max_order=2, initial=start, compare=False, **options
        ),
        "fluctuation and dissipation": lambda start: srnn.fluctuation_dissipation(
            model, lambda h: h[0] ** 2, burn_in=0.25, initial=start, compare=False, **options
        ),
    }
    found = {name: batch_of(function, (start,), (placed,)) for name, function in computed.items()}
    program = jax.jit(ensemble("gaussian", sharding)).lower(start).compile()
    found["ensemble, by sharding="] = {
        "collectives": collectives(program),
        "difference": difference(program(start), jax.jit(computed["ensemble, Gaussian"])(start)),
        "tolerance": 1e-11,
    }

    # in chunks of a quarter of the paths
    modules = (srnn.response, srnn.volterra_series, srnn.fluctuations)
    whole = srnn.response.chunks_of
    for module in modules:
        module.chunks_of = lambda paths, size: whole(paths, size, budget=PATHS // 4 * size)
    jax.clear_caches()
    for name in ("adjoint kernel", "tangent kernel", "Malliavin kernel", "Volterra terms"):
        found[f"{name}, in chunks"] = batch_of(computed[name], (start,), (placed,))
    return found


def starts(sharding: NamedSharding) -> dict[str, dict[str, Any]]:
    """A host function that takes all its starts at once."""
    begin = jnp.linspace(-2.0, 2.0, 16)[:, None]

    def cell(h: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(2.0 * h)

    on_one, on_all = (maso_rnn.fixed_points(cell, at) for at in (begin, jax.device_put(begin, sharding)))
    states = difference(np.sort(on_all.states, axis=0), np.sort(on_one.states, axis=0))
    return {"fixed points": {"collectives": {}, "difference": states, "tolerance": 1e-9}}


def main() -> None:
    """Everything, on every device there is."""
    jax.config.update("jax_enable_x64", True)
    sharding = NamedSharding(Mesh(jax.devices(), ("shared",)), PartitionSpec("shared"))
    found = {each.name: row(each, sharding) for each in table.rows() if each.batched}
    print(json.dumps(found | means(sharding) | starts(sharding) | paths(sharding)))


if __name__ == "__main__":
    main()
