"""The network that the report opens: a ReLU RNN on the digits, one pixel at a time, with and without noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from tqdm import tqdm

import maso_rnn
from benchmarks.data.dataset import Dataset, Split
from maso_rnn import RNN


@dataclasses.dataclass(frozen=True)
class Training:
    """How the networks are trained. The two differ in `sigma` alone.

    Attributes:
        hidden: hidden units.
        epochs: passes over the training digits.
        batch: digits in a step.
        learning_rate: of RMSprop, falling to zero along a cosine; chosen on the validation digits.
        clip: the largest norm of a gradient.
        sigma: standard deviation of the noise on the initial state, for the network that has it.
        seed: of the start, the batches and the noise.
    """

    hidden: int = 128
    epochs: int = 80
    batch: int = 64
    learning_rate: float = 1e-3
    clip: float = 1.0
    sigma: float = 0.1
    seed: int = 0


class Trained(NamedTuple):
    """What training left.

    Attributes:
        networks: by name, the trained networks.
        sigmas: by name, the noise that each was trained with.
        epochs: (snapshot,), the epochs after which the snapshots were taken; the first is the start.
        snapshots: by name, the networks at those epochs.
        losses: by name (epoch,), mean training loss.
        accuracies: by name (epoch,), on the validation digits.
    """

    networks: Mapping[str, RNN]
    sigmas: Mapping[str, float]
    epochs: np.ndarray
    snapshots: Mapping[str, list[RNN]]
    losses: Mapping[str, np.ndarray]
    accuracies: Mapping[str, np.ndarray]


def train(data: Dataset, training: Training) -> Trained:
    """Train both networks side by side, from the same start on the same batches."""
    sigmas = {"without noise": 0.0, f"with noise {training.sigma:g}": training.sigma}
    start_key, epoch_key = jax.random.split(jax.random.key(training.seed))
    start = jax.jit(partial(_start, data, training))(start_key)
    steps = len(data.train.inputs) // training.batch
    # one array of sigmas, so that every epoch is one call of one program
    scales = jnp.asarray(list(sigmas.values()), jnp.float32)
    optimizer = optax.chain(
        optax.clip_by_global_norm(training.clip),
        optax.rmsprop(optax.cosine_decay_schedule(training.learning_rate, training.epochs * steps)),
    )
    networks = jax.tree.map(lambda leaf: np.stack([leaf] * len(sigmas)), jax.device_get(start))
    states = jax.jit(jax.vmap(optimizer.init))(networks)
    train_data, validation = jax.tree.map(jnp.asarray, (data.train, data.validation))

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, 0, None))
    def epoch(rnn: RNN, state: Any, sigma: Array, key: Array) -> tuple[RNN, Any, Array, Array]:
        shuffle_key, noise_key = jax.random.split(key)
        order = jax.random.permutation(shuffle_key, len(train_data.inputs))[: steps * training.batch]

        def update(carry: tuple[RNN, Any], now: tuple[Array, Array]) -> tuple[tuple[RNN, Any], Array]:
            (rnn, state), (chosen, key) = carry, now
            loss, gradient = jax.value_and_grad(_loss)(
                rnn, train_data.inputs[chosen], train_data.targets[chosen], sigma, key
            )
            updates, state = optimizer.update(gradient, state, rnn)
            return (optax.apply_updates(rnn, updates), state), loss

        batches = (order.reshape(steps, training.batch), jax.random.split(noise_key, steps))
        (rnn, state), losses = jax.lax.scan(update, (rnn, state), batches)
        return rnn, state, losses.mean(), accuracy(rnn, validation)

    taken = sorted({0, training.epochs, *(e for e in (1, 2, 5, 10, 20, 40) if e < training.epochs)})
    snapshots, losses, accuracies = [networks], [], []
    for e in tqdm(range(training.epochs), desc="training", unit="epoch"):
        networks, states, loss, right = epoch(networks, states, scales, jax.random.fold_in(epoch_key, e))
        losses.append(np.asarray(loss))
        accuracies.append(np.asarray(right))
        if e + 1 in taken:
            snapshots.append(networks)

    def named(stacked: Any) -> dict[str, Any]:
        on_host = jax.device_get(stacked)
        return {name: jax.tree.map(partial(_row, i), on_host) for i, name in enumerate(sigmas)}

    by_snapshot = [named(snapshot) for snapshot in snapshots]
    return Trained(
        networks=named(networks),
        sigmas=sigmas,
        epochs=np.asarray(taken),
        snapshots={name: [snapshot[name] for snapshot in by_snapshot] for name in sigmas},
        losses=named(np.stack(losses, axis=1)),
        accuracies=named(np.stack(accuracies, axis=1)),
    )


def _row(i: int, leaf: np.ndarray) -> np.ndarray:
    return leaf[i]


def _start(data: Dataset, training: Training, key: Array) -> RNN:
    return maso_rnn.init(
        key,
        data.train.inputs.shape[-1],
        [training.hidden],
        int(data.train.targets.max()) + 1,
        input_init=jax.nn.initializers.normal(0.3),
        recurrent_init=lambda key, shape, dtype=None, out_sharding=None: jnp.eye(shape[0], dtype=dtype),
        dtype="float32",
    )


def _loss(rnn: RNN, inputs: Array, targets: Array, sigma: Array, key: Array) -> Array:
    zeros = jax.tree.map(lambda h: jnp.zeros((len(inputs), *h.shape), h.dtype), maso_rnn.initial_state(rnn))
    noise = maso_rnn.random_initial_state(key, zeros, sigma)
    logits = jax.vmap(lambda xs, h0: maso_rnn.last_output(rnn, xs, h0))(inputs, noise)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()


def accuracy(rnn: RNN, split: Split) -> Array:
    """The share of sequences whose class the last output gets right."""
    logits = jax.vmap(lambda xs: maso_rnn.last_output(rnn, xs))(split.inputs)
    return (logits.argmax(-1) == split.targets).mean()
