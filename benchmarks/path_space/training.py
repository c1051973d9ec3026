"""One method on one task: many runs of it at once, each with its own start, learning rate and order of the data."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

import maso_rnn
import path_opt
from benchmarks.data.dataset import Dataset, Split
from maso_rnn import RNN

Factory = Callable[[Any, path_opt.ReductionGraph, int], optax.GradientTransformation]


class Method(NamedTuple):
    """One way to train.

    Attributes:
        make: `(learning rate, graph, steps of a sequence) -> transform`.
        rates: the learning rates tried.
        uses_skeleton: whether the graph's skeleton matters to it.
        invariant: whether no rescaling of the start changes what it trains.
    """

    make: Factory
    rates: tuple[float, ...]
    uses_skeleton: bool = False
    invariant: bool = False


@dataclasses.dataclass(frozen=True)
class Training:
    """How every run is trained.

    Attributes:
        hidden: hidden units of each layer.
        steps: of the optimiser.
        batch: sequences in a step.
        points: at how many evenly spaced steps the validation loss is taken.
        spread: standard deviation of the logarithms of a rescaled start's scales.
    """

    hidden: tuple[int, ...] = (16,)
    steps: int = 200
    batch: int = 32
    points: int = 10
    spread: float = 1.5


class Curves(NamedTuple):
    """What runs came to.

    Attributes:
        train: (run, point), mean training loss since the point before.
        validation: (run, point).
    """

    train: Float[np.ndarray, "run point"]
    validation: Float[np.ndarray, "run point"]


def _freeze(graph: path_opt.ReductionGraph) -> optax.GradientTransformation:
    """No step for the weights that path space freezes: the skeleton edges out of the hidden units."""

    def update(updates: RNN, params: Any) -> RNN:
        del params
        kernels = [layer.input_kernel for layer in updates.layers[1:]] + [updates.readout.kernel]
        kept = [
            kernel.at[np.arange(len(targets)), np.asarray(targets)].set(0)
            for kernel, targets in zip(kernels, graph.skeleton.outgoing, strict=True)
        ]
        layers = tuple(
            dataclasses.replace(layer, input_kernel=kernel)
            for layer, kernel in zip(updates.layers, [updates.layers[0].input_kernel, *kept], strict=False)
        )
        readout = dataclasses.replace(updates.readout, kernel=kept[-1])
        return dataclasses.replace(updates, layers=layers, readout=readout)

    return optax.stateless(update)


PLAIN, ADAPTIVE, METRIC = (0.01, 0.03, 0.1), (0.003, 0.01, 0.03), (0.001, 0.003, 0.006)

METHODS: dict[str, Method] = {
    "SGD": Method(lambda rate, graph, time: optax.sgd(rate), PLAIN),
    "momentum": Method(lambda rate, graph, time: optax.sgd(rate, 0.9), PLAIN),
    "Adam": Method(lambda rate, graph, time: optax.adam(rate), ADAPTIVE),
    "Path-SGD": Method(
        lambda rate, graph, time: path_opt.path_sgd(rate, graph=graph, num_steps=time), METRIC, invariant=True
    ),
    "equivariant Adam": Method(
        lambda rate, graph, time: path_opt.equivariant_adam(rate, graph=graph), ADAPTIVE, invariant=True
    ),
    "path-space SGD": Method(
        lambda rate, graph, time: path_opt.path_space_sgd(rate, graph=graph), METRIC, uses_skeleton=True, invariant=True
    ),
    "path-space Adam": Method(
        lambda rate, graph, time: path_opt.path_space_adam(rate, graph=graph),
        ADAPTIVE,
        uses_skeleton=True,
        invariant=True,
    ),
    "SGD, frozen skeleton": Method(
        lambda rate, graph, time: optax.chain(optax.sgd(rate), _freeze(graph)), PLAIN, uses_skeleton=True
    ),
    "Adam, frozen skeleton": Method(
        lambda rate, graph, time: optax.chain(optax.adam(rate), _freeze(graph)), ADAPTIVE, uses_skeleton=True
    ),
}


def starts(data: Dataset, seed: int, training: Training) -> dict[str, RNN]:
    """A balanced network, and a rescaling of it: the same function."""
    classes = np.issubdtype(data.train.targets.dtype, np.integer)
    outputs = int(data.train.targets.max()) + 1 if classes else data.train.targets.shape[1]
    return _starts(jax.random.key(seed), data.train.inputs.shape[-1], outputs, training)


@functools.partial(jax.jit, static_argnames=("inputs", "outputs", "training"))
def _starts(key: Array, inputs: int, outputs: int, training: Training) -> dict[str, RNN]:
    init_key, scale_key = jax.random.split(key)
    rnn = maso_rnn.init(init_key, inputs, training.hidden, outputs, dtype=jnp.float32)
    graph = path_opt.reduction_graph(rnn, skeleton="modulo")  # neither map hangs on the skeleton
    balanced = path_opt.balance(rnn, graph)
    scales = tuple(
        training.spread * jax.random.normal(key, (width,), jnp.float32)
        for key, width in zip(jax.random.split(scale_key, len(training.hidden)), training.hidden, strict=True)
    )
    return {"balanced": balanced, "rescaled": path_opt.rescale(balanced, graph, scales)}


def train(
    data: Dataset,
    method: Method,
    networks: Sequence[RNN],
    rates: Sequence[float],
    seeds: Sequence[int],
    training: Training,
) -> Curves:
    """Train every network with the rate and the data order beside it, all in one program."""
    # of one seed's starts the skeleton is the same; methods that do not use it share any one of the graphs
    graph = path_opt.reduction_graph(networks[0])
    time = data.train.inputs.shape[1]
    parts = [_arrays(part) for part in (data.train, data.validation)]

    def one(rnn: RNN, rate: Array, order: Array) -> tuple[Array, Array]:
        transform = method.make(rate, graph, time)
        inputs, targets = parts[0]

        def step(carry: tuple[RNN, Any], chosen: Array) -> tuple[Any, Array]:
            rnn, state = carry
            loss, gradient = jax.value_and_grad(_loss)(rnn, inputs[chosen], targets[chosen])
            updates, state = transform.update(gradient, state, rnn)
            return (optax.apply_updates(rnn, updates), state), loss

        def until_point(carry: tuple[RNN, Any], order: Array) -> tuple[Any, tuple[Array, Array]]:
            carry, losses = jax.lax.scan(step, carry, order)
            return carry, (losses.mean(), _loss(carry[0], *parts[1]))

        _, curves = jax.lax.scan(until_point, (rnn, transform.init(rnn)), order)
        return curves

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *networks)
    shape = (training.points, training.steps // training.points, training.batch)
    orders = np.stack([np.random.default_rng(seed).integers(0, len(parts[0][0]), shape) for seed in seeds])
    losses = jax.jit(jax.vmap(one))(stacked, np.asarray(rates, np.float32), orders.astype(np.int32))
    return Curves(*(np.asarray(values, np.float64) for values in losses))


def _loss(rnn: RNN, inputs: Array, targets: Array) -> Array:
    """Mean cross-entropy of classes (nats), or mean squared error, of the last step's output."""
    outputs = jax.vmap(lambda xs: maso_rnn.forward(rnn, xs)[-1])(inputs)
    if jnp.issubdtype(targets.dtype, jnp.integer):
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
    return ((outputs - targets) ** 2).mean()


def _arrays(part: Split) -> tuple[Array, Array]:
    return jnp.asarray(part.inputs), jnp.asarray(part.targets)
