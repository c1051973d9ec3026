"""Supervised training of many networks at once, each with its own start, hyperparameters and order of the data.

Runs whose shapes and optimiser are the same are one program, by `vmap`. It is run in stretches between points at which
the loss on the validation set and whatever else is asked for are taken; there a long run saves its state, and goes on
from it to the same bits.

Targets say what is learned: classes (example,) are read out after a sequence's last step, numbers (example, output)
likewise, and classes (example, time) at every step, as the next character. Inputs that are whole numbers are fed as
one-hot vectors, or embedded by a network that learns to.
"""

from __future__ import annotations

import functools
import io
import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jaxtyping import Array

import maso_rnn
from benchmarks import results
from benchmarks.data.dataset import Dataset, Split

SAVE_EVERY = 60.0  # seconds of training between two states on the disk
BLOCK = 250  # examples evaluated at once

Params = Any
Hyper = Mapping[str, Any]
Optimizer = Callable[[Hyper], optax.GradientTransformation]


class Network(NamedTuple):
    """How a network is run on one sequence.

    Attributes:
        initial: parameters → the state before the first step, any pytree.
        states: parameters, sequence (time, input), initial state → what is read out after each step (time, hidden).
        read_out: parameters, (hidden,) → (output,).
        embeds: whether its sequences are whole numbers.
    """

    initial: Callable[[Params], Any]
    states: Callable[[Params, Array, Any], Array]
    read_out: Callable[[Params, Array], Array]
    embeds: bool = False


class Run(NamedTuple):
    """One network to train.

    Attributes:
        start: its parameters.
        seed: of the order of the data and of the noise.
        hyper: numbers or trees of arrays by name, of the same names and shapes in all runs trained together: what the
            optimiser is made from, and `sigma`, where there is to be noise on the initial state, its standard
            deviation.
    """

    start: Params
    seed: int
    hyper: Mapping[str, Any]


class Trained(NamedTuple):
    """What training left.

    Attributes:
        params: the trained parameters.
        result: `steps`, the points; `train_loss`, the mean since the point before; `validation_loss` and, of classes,
            `validation_accuracy` at each point; at the end `test_loss` and `test_accuracy`, and of as many training
            sequences `fit_loss` and `fit_accuracy`, without noise or penalty; and what was measured, by its name, at
            each point. Losses are cross-entropies in nats (a step, where each step has a target) or mean squared
            errors.
    """

    params: Params
    result: dict[str, Any]


def layered() -> Network:
    """The network of `maso_rnn`."""
    return _LAYERED


@functools.cache
def celled(cell: linen.RNNCellBase) -> Network:
    """A linen cell with an affine readout: parameters `{"cell": ..., "readout": {"kernel": ..., "bias": ...}}`.

    The state read out is the cell's output; an initial state is of zeros.
    """

    def initial(params: Params) -> Any:
        del params
        return cell.initialize_carry(jax.random.key(0), (1,))  # zeros

    def states(params: Params, xs: Array, carry: Any) -> Array:
        return jax.lax.scan(lambda carry, x: _pair(cell.apply({"params": params["cell"]}, carry, x)), carry, xs)[1]

    def read_out(params: Params, h: Array) -> Array:
        return h @ params["readout"]["kernel"] + params["readout"]["bias"]

    return Network(initial, states, read_out)


@functools.cache
def embedding(network: Network) -> Network:
    """A network behind a table of what words stand for: parameters `{"words": (word, input), "network": ...}`."""

    def states(params: Params, xs: Array, h0: Any) -> Array:
        return network.states(params["network"], params["words"][xs[:, 0]], h0)

    return Network(
        lambda params: network.initial(params["network"]),
        states,
        lambda params, h: network.read_out(params["network"], h),
        embeds=True,
    )


def outputs_of(data: Dataset) -> int:
    """How many outputs a network for the data has: one for each class, or for each number."""
    targets = data.train.targets
    return int(targets.max()) + 1 if np.issubdtype(targets.dtype, np.integer) else targets.shape[1]


def inputs_of(data: Dataset) -> int:
    """How many inputs a network for the data has."""
    inputs = data.train.inputs
    return outputs_of(data) if np.issubdtype(inputs.dtype, np.integer) else inputs.shape[-1]


def train(
    network: Network,
    data: Dataset,
    runs: Sequence[Run],
    optimizer: Optimizer,
    *,
    steps: int,
    batch: int,
    points: int = 10,
    penalty: Callable[[Params, Array, Array, Hyper], Array] | None = None,
    measure: Callable[[Params], Mapping[str, Array]] | None = None,
    state: Path | None = None,
    advanced: Callable[[int], None] = lambda steps: None,
) -> list[Trained]:
    """Train every run, all in one program, on sequences drawn with replacement.

    Args:
        network: how they are run.
        data: what on; validation at the points, test at the end.
        runs: what differs between them.
        optimizer: hyperparameters → the transform; may call for parameters in its `update`.
        steps: of the optimiser.
        batch: sequences in a step.
        points: at how many evenly spaced steps, besides the start, things are measured; it divides `steps`.
        penalty: parameters, sequence (time, input), target, hyperparameters → what is added to the loss in training.
        measure: parameters → arrays by name, taken at every point.
        state: a file for the state of training, written at a point when the last one is `SAVE_EVERY` seconds old, or
            when `advanced` raises; if it is there, training goes on from it.
        advanced: called with the number of steps done since its last call, over all runs.

    Returns:
        For each run its parameters and result.

    Raises:
        ValueError: if `points` does not divide `steps`, or the state is not one of these runs.
    """
    if not runs or steps % points:
        raise ValueError(f"there must be runs, and points must divide steps, got {len(runs)}, {points} and {steps}")
    params, hyper, seeds = _stacked(runs)
    network = _fed(network, data)
    fit: Split = jax.tree.map(jnp.asarray, data.train)

    def taken(params: Params) -> dict[str, np.ndarray]:
        found = _evaluate(network, params, data.validation, "validation")
        return found | {name: np.asarray(value) for name, value in _measured(params, measure=measure).items()}

    memory = _memory(params, hyper, optimizer=optimizer)
    history: list[dict[str, np.ndarray]] = [taken(params)]
    if state is not None and state.exists():
        (params, memory), history[1:] = _load(state, (params, memory), history[0] | {"train_loss": seeds})
        advanced(len(runs) * steps // points * (len(history) - 1))
    saved = time.monotonic()
    for point in range(len(history) - 1, points):
        (params, memory), losses = _advance(
            (params, memory),
            np.uint32(point * steps // points),
            seeds,
            hyper,
            fit,
            network=network,
            optimizer=optimizer,
            penalty=penalty,
            steps=steps // points,
            batch=batch,
        )
        history.append(taken(params) | {"train_loss": np.asarray(losses)})
        try:
            advanced(len(runs) * steps // points)
        except BaseException:
            if state is not None:
                _save(state, (params, memory), history[1:])
            raise
        if state is not None and time.monotonic() - saved > SAVE_EVERY:
            _save(state, (params, memory), history[1:])
            saved = time.monotonic()
    final = _evaluate(network, params, data.test, "test")
    final |= _evaluate(network, params, data.train.first(len(data.test.inputs)), "fit")
    on_host = jax.device_get(params)
    trained = []
    for i in range(len(runs)):
        result: dict[str, Any] = {"steps": [point * steps // points for point in range(points + 1)]}
        result["train_loss"] = [_short(then["train_loss"][i]) for then in history[1:]]
        result |= {name: [_short(then[name][i]) for then in history] for name in history[0]}
        result |= {name: _short(value[i]) for name, value in final.items()}
        trained.append(Trained(jax.tree.map(functools.partial(_row, i), on_host), result))
    return trained


def step_seconds(network: Network, data: Dataset, runs: Sequence[Run], optimizer: Optimizer, *, batch: int) -> float:
    """The time (s) of one step of all the runs together, measured once it is compiled."""
    params, hyper, seeds = _stacked(runs)
    arguments = ((params, _memory(params, hyper, optimizer=optimizer)), np.uint32(0), seeds, hyper)
    fit = jax.tree.map(jnp.asarray, data.train)
    settings = {"network": _fed(network, data), "optimizer": optimizer, "penalty": None, "steps": 1, "batch": batch}
    times = []
    for _ in range(4):
        began = time.perf_counter()
        jax.block_until_ready(_advance(*arguments, fit, **settings))
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _stacked(runs: Sequence[Run]) -> tuple[Params, dict[str, Any], np.ndarray]:
    """Parameters, hyperparameters and seeds of all runs."""
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *(run.start for run in runs))
    hyper = jax.tree.map(lambda *leaves: np.stack(leaves).astype(np.float32), *(dict(run.hyper) for run in runs))
    return params, hyper, np.asarray([run.seed for run in runs], np.uint32)


def _fed(network: Network, data: Dataset) -> Network:
    """The network, fed with one-hot vectors where the data are whole numbers and it does not embed them."""
    is_coded = np.issubdtype(data.train.inputs.dtype, np.integer) and not network.embeds
    return _one_hot(network, inputs_of(data)) if is_coded else network


@functools.cache
def _one_hot(network: Network, inputs: int) -> Network:
    def states(params: Params, xs: Array, h0: Any) -> Array:
        return network.states(params, jax.nn.one_hot(xs[:, 0], inputs, dtype=jnp.float32), h0)

    return network._replace(states=states)


def _states(rnn: maso_rnn.RNN, xs: Array, h0: Any) -> Array:
    def body(state: Any, x: Array) -> tuple[Any, Array]:
        state, _ = maso_rnn.network.step(rnn, state, x)
        return state, state[-1]

    return jax.lax.scan(body, h0, xs)[1]


_LAYERED = Network(maso_rnn.initial_state, _states, maso_rnn.network.read_out)


def _pair(stepped: Any) -> tuple[Any, Array]:
    """The state after a linen cell's step, and its output."""
    carry, output = stepped
    return carry, output


def _example_loss(network: Network, params: Params, example: Split, h0: Any) -> tuple[Array, Array]:
    """The loss of one sequence, and the share of its targets that are said right (0 of numbers)."""
    xs, target, length = (jnp.asarray(part) for part in example)
    states = network.states(params, xs, h0)
    if not jnp.issubdtype(target.dtype, jnp.integer):
        return ((network.read_out(params, states[length - 1]) - target) ** 2).mean(), jnp.zeros(())
    if target.ndim == 0:
        output = network.read_out(params, states[length - 1])
        loss = optax.softmax_cross_entropy_with_integer_labels(output, target)
        return loss, (output.argmax() == target).astype(loss.dtype)
    outputs = jax.vmap(functools.partial(network.read_out, params))(states)
    is_real = jnp.arange(len(xs)) < length
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, target)
    right = outputs.argmax(axis=-1) == target
    return jnp.where(is_real, losses, 0).sum() / length, (right & is_real).sum() / length


def _compiled(function: Callable[..., Any], static: tuple[str, ...]) -> Callable[..., Any]:
    """`jax.jit` that compiles quickly on a CPU: most of a short run is compiling, and the programs are as fast."""

    @functools.cache
    def program(is_quick: bool) -> Callable[..., Any]:
        options = {"xla_backend_optimization_level": 1} if is_quick else None
        return jax.jit(function, static_argnames=static, compiler_options=options)

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        is_told = "xla_backend_optimization_level" in os.environ.get("XLA_FLAGS", "")
        return program(jax.default_backend() == "cpu" and not is_told)(*arguments, **options)

    return call


@functools.partial(_compiled, static=("optimizer",))
def _memory(params: Params, hyper: Hyper, *, optimizer: Optimizer) -> Any:
    return jax.vmap(lambda params, hyper: optimizer(hyper).init(params))(params, hyper)


@functools.partial(_compiled, static=("measure",))
def _measured(params: Params, *, measure: Callable[[Params], Mapping[str, Array]] | None) -> dict[str, Array]:
    return {} if measure is None else dict(jax.vmap(measure)(params))


@functools.partial(_compiled, static=("network", "optimizer", "penalty", "steps", "batch"))
def _advance(
    carry: tuple[Params, Any],
    first: Array,
    seeds: Array,
    hyper: Hyper,
    data: Split,
    *,
    network: Network,
    optimizer: Optimizer,
    penalty: Callable[..., Array] | None,
    steps: int,
    batch: int,
) -> tuple[tuple[Params, Any], Array]:
    """So many steps from the one numbered `first`; parameters and memory after them, and the mean loss."""

    def one(carry: tuple[Params, Any], seed: Array, hyper: Hyper) -> tuple[tuple[Params, Any], Array]:
        transform = optax.with_extra_args_support(optimizer(hyper))

        def step(carry: tuple[Params, Any], number: Array) -> tuple[tuple[Params, Any], Array]:
            params, memory = carry
            order_key, noise_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
            chosen = jax.random.randint(order_key, (batch,), 0, len(data.inputs))
            loss, gradient = jax.value_and_grad(mean_loss)(params, noise_key, jax.tree.map(lambda x: x[chosen], data))
            updates, memory = transform.update(gradient, memory, params)
            return (optax.apply_updates(params, updates), memory), loss

        def mean_loss(params: Params, key: Array, examples: Split) -> Array:
            h0 = jax.tree.map(lambda h: jnp.broadcast_to(h, (batch, *h.shape)), network.initial(params))
            if "sigma" in hyper:
                h0 = maso_rnn.random_initial_state(key, h0, hyper["sigma"])
            losses, _ = jax.vmap(functools.partial(_example_loss, network, params))(examples, h0)
            if penalty is not None:
                added = jax.vmap(lambda xs, target: penalty(params, xs, target, hyper))
                losses = losses + added(examples.inputs, examples.targets)
            return losses.mean()

        carry, losses = jax.lax.scan(step, carry, first + jnp.arange(steps, dtype=jnp.uint32))
        return carry, losses.mean()

    return jax.vmap(one)(carry, seeds, hyper)


@functools.partial(_compiled, static=("network",))
def _sums(params: Params, block: Split, is_real: Array, *, network: Network) -> tuple[Array, Array]:
    """Sums over the real examples of a block: losses, and shares said right."""

    def one(params: Params) -> tuple[Array, Array]:
        h0 = network.initial(params)
        found = jax.vmap(functools.partial(_example_loss, network, params), (0, None))(block, h0)
        losses, right = (jnp.where(is_real, values, 0).sum() for values in found)
        return losses, right

    return jax.vmap(one)(params)


def _evaluate(network: Network, params: Params, split: Split, name: str) -> dict[str, np.ndarray]:
    """The mean loss and, of classes, the accuracy of every run on a part of the data."""
    count = len(split.inputs)
    sums = np.zeros((2, len(jax.tree.leaves(params)[0])))
    for first in range(0, count, BLOCK):
        # every block is of one size, so that one program does all; the last is filled up with the first example
        rows = np.arange(first, first + BLOCK)
        block = Split(*(part[np.where(rows < count, rows, 0)] for part in split))
        sums += np.asarray(_sums(params, block, rows < count, network=network), np.float64)
    loss, right = sums / count
    is_classes = np.issubdtype(split.targets.dtype, np.integer)
    return {f"{name}_loss": loss} | ({f"{name}_accuracy": right} if is_classes else {})


def _save(file: Path, carry: tuple[Params, Any], history: Sequence[dict[str, np.ndarray]]) -> None:
    buffer = io.BytesIO()
    leaves = jax.tree.leaves((*carry, list(history)))
    named: dict[str, Any] = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
    np.savez(buffer, **named)
    results.replace(file, buffer.getvalue())


def _load(file: Path, carry: tuple[Params, Any], then: Mapping[str, Any]) -> tuple[Any, list[dict[str, np.ndarray]]]:
    """Parameters and memory, and what was taken at the points done: like these, from a file that `_save` wrote."""
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as arrays:
            leaves = [arrays[str(i)] for i in range(len(arrays.files))]
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is not a state of training ({error}); remove it, and training starts again") from None
    models, structure = jax.tree.flatten(carry)
    points, rest = divmod(len(leaves) - len(models), len(then))
    fits = all(a.shape == np.shape(b) and a.dtype == b.dtype for a, b in zip(leaves, models, strict=False))
    if points < 1 or rest or not fits:
        raise ValueError(f"{file} is the state of other runs; remove it, and training starts again")
    taken, of_each = leaves[len(models) :], jax.tree.structure(dict(then))
    history = [jax.tree.unflatten(of_each, taken[p * len(then) : (p + 1) * len(then)]) for p in range(points)]
    return jax.tree.unflatten(structure, leaves[: len(models)]), history


def _short(value: Any) -> Any:
    """Numbers to six digits, which is what float32 holds."""
    if np.ndim(value):
        return [_short(one) for one in value]
    return float(f"{float(value):.6g}")


def _row(i: int, leaf: np.ndarray) -> np.ndarray:
    return leaf[i]
