"""Training for the spline paper's questions: what a configuration is, and what is measured while it is trained.

ReLU networks start with identity recurrent kernels, as in the paper; noise on the initial state is drawn in training
only. The explicit penalty is taken on the piece of h0 = 0 or, since units may stand on their kinks there, on the piece
of an initial state with noise.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jaxtyping import Array

import maso_rnn
from benchmarks import training
from benchmarks.data.dataset import Dataset, Split
from benchmarks.spline import partition
from benchmarks.tasks import TASKS
from maso_rnn import RNN, initializers

REFERENCE = 0.1  # the noise that slopes of all networks are taken at, whatever they were trained with
MEASURED = 64  # training examples that slopes and gradients are means over

LAYERS = {"rnn": 1, "rnn, 2 layers": 2}
CELLS: dict[str, Callable[[int], linen.RNNCellBase]] = {"gru": linen.GRUCell, "lstm": linen.OptimizedLSTMCell}


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One network and how it is trained.

    Attributes:
        part: what it is for: "table", "grid", "penalty" or "partition"; in all but the first slopes and gradients are
            measured while it is trained, in the last the trained network is opened up.
        task: what it learns.
        model: one of `LAYERS` or `CELLS`.
        regulariser: "none", "noise", or the explicit penalty: "penalty at rest" on the piece of h0 = 0, "penalty near
            rest" on the piece of a state drawn with the noise.
        sigma: the standard deviation of the noise, drawn or in the penalty.
        optimizer: "rmsprop", or "rmsprop to 0" or "sgd"; "to 0" along a cosine, else the rate stays.
        rate: the learning rate.
        seed: of the start, the order of the data and the noise.
        hidden: units of each layer.
        steps: of the optimiser.
        batch: sequences in a step.
        points: at how many steps things are measured.
        clip: the largest norm of a gradient.
    """

    part: str
    task: str
    model: str
    regulariser: str
    sigma: float = 0.0
    optimizer: str = "rmsprop to 0"
    rate: float = 0.0
    seed: int = 0
    hidden: int = 64
    steps: int = 500
    batch: int = 64
    points: int = 5
    clip: float = math.inf


def together(one: Configuration) -> Configuration:
    """What runs of one program share."""
    return dataclasses.replace(one, rate=0.0, seed=0, sigma=0.0 if one.part == "table" else one.sigma)


def shape(one: Configuration) -> str:
    """What the time of a step hangs on most."""
    return f"{one.model}, {one.hidden} hidden, {TASKS[one.task]().train.inputs.shape[1]} steps of input"


def train(group: Sequence[Configuration], state: Path, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Train configurations that `together` does not tell apart."""
    one, data = group[0], TASKS[group[0].task]()
    network, runs = _runs(group, data)
    found = training.train(
        network,
        data,
        runs,
        _optimizer(one.optimizer, one.steps),
        steps=one.steps,
        batch=one.batch,
        points=one.points,
        penalty=PENALTIES.get(one.regulariser),
        measure=None if one.part == "table" else _measure(one.task, one.sigma),
        state=state,
        advanced=advanced,
    )
    if one.part != "partition":
        return [trained.result for trained in found]
    return [
        trained.result
        | {
            # every seed has one start, so that one of its networks draws it
            "before": partition.opened(
                run.start, data.test, is_drawn=configuration.seed == 0 and configuration.regulariser == "none"
            ),
            "after": partition.opened(trained.params, data.test, is_drawn=configuration.seed == 0),
        }
        for configuration, run, trained in zip(group, runs, found, strict=True)
    ]


def step_seconds(group: Sequence[Configuration]) -> float:
    """The time (s) of one step of a group, the explicit penalty not counted."""
    one, data = group[0], TASKS[group[0].task]()
    network, runs = _runs(group, data)
    return training.step_seconds(network, data, runs, optimizer=_optimizer(one.optimizer, one.steps), batch=one.batch)


def start(one: Configuration, data: Dataset) -> Any:
    """The parameters that a configuration starts from; a word stands for as many numbers as there are hidden units."""
    if reads_words(data):
        words = int(data.train.inputs.max()) + 1
        table = np.random.default_rng(one.seed).normal(size=(words, one.hidden)) / np.sqrt(one.hidden)
        return {"words": table.astype(np.float32), "network": _start(one, one.hidden, training.outputs_of(data))}
    return _start(one, data.train.inputs.shape[-1], training.outputs_of(data))


def reads_words(data: Dataset) -> bool:
    """Whether the inputs are words, each a whole number."""
    return np.issubdtype(data.train.inputs.dtype, np.integer)


def _start(one: Configuration, inputs: int, outputs: int) -> Any:
    key = jax.random.key(one.seed)
    if one.model in LAYERS:
        widths = (one.hidden,) * LAYERS[one.model]
        return jax.device_get(_irnn(key, inputs, widths, outputs))
    return jax.device_get(_cell_start(key, CELLS[one.model](one.hidden), inputs, outputs))


def _runs(group: Sequence[Configuration], data: Dataset) -> tuple[training.Network, list[training.Run]]:
    one = group[0]
    is_layered = one.model in LAYERS
    network = training.layered() if is_layered else training.celled(CELLS[one.model](one.hidden))
    network = training.embedding(network) if reads_words(data) else network
    noise = "strength" if one.regulariser in PENALTIES else "sigma"  # the trainer draws noise of "sigma"
    runs = [
        training.Run(
            start(each, data),
            each.seed,
            {"rate": each.rate, "clip": each.clip} | ({noise: each.sigma} if is_layered else {}),
        )
        for each in group
    ]
    return network, runs


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _irnn(key: Array, inputs: int, widths: tuple[int, ...], outputs: int) -> RNN:
    return maso_rnn.init(key, inputs, widths, outputs, recurrent_init=initializers.identity(), dtype=jnp.float32)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _cell_start(key: Array, cell: linen.RNNCellBase, inputs: int, outputs: int) -> dict[str, Any]:
    cell_key, readout_key = jax.random.split(key)
    carry = cell.initialize_carry(cell_key, (inputs,))  # zeros
    width = jax.tree.leaves(carry)[0].shape[-1]
    kernel = jax.nn.initializers.lecun_normal()(readout_key, (width, outputs), jnp.float32)
    params = cell.init(cell_key, carry, jnp.zeros(inputs))["params"]
    return {"cell": params, "readout": {"kernel": kernel, "bias": jnp.zeros(outputs)}}


@functools.cache  # so that groups of one program are compiled once
def _optimizer(name: str, steps: int) -> Callable[[training.Hyper], optax.GradientTransformation]:
    make = {
        "sgd": optax.sgd,
        "rmsprop": optax.rmsprop,
        "rmsprop to 0": lambda rate: optax.rmsprop(optax.cosine_decay_schedule(rate, steps)),
    }[name]
    return lambda hyper: optax.chain(optax.clip_by_global_norm(hyper["clip"]), make(hyper["rate"]))


def _cross_entropy(target: Array) -> Callable[[Array], Array]:
    def loss(output: Array) -> Array:
        found: Array = optax.softmax_cross_entropy_with_integer_labels(output, target)
        return found

    return loss


def penalty_at_rest(rnn: RNN, xs: Array, target: Array, hyper: training.Hyper) -> Array:
    """The penalty on the piece of h0 = 0."""
    return maso_rnn.noise_penalty(rnn, xs, scale=hyper["strength"], loss=_cross_entropy(target))


def penalty_near_rest(rnn: RNN, xs: Array, target: Array, hyper: training.Hyper) -> Array:
    """The penalty on the piece of an initial state with noise, the same one each time that a sequence is drawn."""
    weighted = (xs * jnp.arange(1.0, len(xs) + 1)[:, None]).sum().astype(jnp.float32)
    key = jax.random.fold_in(jax.random.key(0), jax.lax.bitcast_convert_type(weighted, jnp.uint32))
    h0 = maso_rnn.random_initial_state(key, maso_rnn.initial_state(rnn), hyper["strength"])
    return maso_rnn.noise_penalty(rnn, xs, h0, scale=hyper["strength"], loss=_cross_entropy(target))


PENALTIES = {"penalty at rest": penalty_at_rest, "penalty near rest": penalty_near_rest}


@functools.cache
def _measure(task: str, sigma: float) -> Callable[[RNN], Mapping[str, Array]]:
    """Slopes and gradients on the first training sequences, from h0 = 0 and with noise that is always the same."""
    examples = jax.tree.map(jnp.asarray, TASKS[task]().train.first(MEASURED))

    def measure(rnn: RNN) -> dict[str, Array]:
        zeros = jax.tree.map(lambda h: jnp.zeros((MEASURED, *h.shape), h.dtype), maso_rnn.initial_state(rnn))
        key = jax.random.key(0)
        near, trained = (maso_rnn.random_initial_state(key, zeros, scale) for scale in (REFERENCE, sigma))
        return {
            "initial_slope_norm_at_rest": slope_norm(rnn, examples, zeros),
            "initial_slope_norm": slope_norm(rnn, examples, near),
            "recurrent_gradient_norm_at_rest": gradient_norm(rnn, examples, zeros),
            "recurrent_gradient_norm": gradient_norm(rnn, examples, trained),
        }

    return measure


def slope_norm(rnn: RNN, examples: Split, h0: Any) -> Array:
    """The mean of ‖A_h‖, the Frobenius norm of the output's slope in the initial state of all layers."""
    slopes = jax.vmap(lambda xs, h: maso_rnn.affine_map(rnn, xs, h).initial_slope)(examples.inputs, h0)
    return jnp.sqrt(sum((slope**2).sum(axis=(1, 2)) for slope in slopes)).mean()


def gradient_norm(rnn: RNN, examples: Split, h0: Any) -> Array:
    """‖∂L/∂W_r‖ of the mean loss L, W_r the recurrent kernels of all layers."""

    def loss(rnn: RNN) -> Array:
        outputs = jax.vmap(lambda xs, h: maso_rnn.forward(rnn, xs, h)[-1])(examples.inputs, h0)
        found: Array = optax.softmax_cross_entropy_with_integer_labels(outputs, examples.targets).mean()
        return found

    gradient = jax.grad(loss)(rnn)
    return jnp.sqrt(sum((layer.recurrent_kernel**2).sum() for layer in gradient.layers))
