"""One configuration: a flax cell, started one way, trained on one task, with the eigenvalues before and after."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax.nn.initializers import Initializer
from jaxtyping import Array

from benchmarks.data.dataset import Dataset, Split
from maso_rnn import dynamics, initializers

INITIALIZERS: dict[str, Initializer] = {
    "eigen-schur": initializers.eigen(),
    "eigen-orthogonal": initializers.eigen(basis="orthogonal"),
    "eigen-eigenvectors": initializers.eigen(basis="eigenvectors"),
    "glorot": jax.nn.initializers.glorot_normal(),
    "he": jax.nn.initializers.he_normal(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "identity": initializers.identity(),
    "np-rnn": initializers.np_rnn(),
    "spectral-radius": initializers.spectral_radius(),
}

# linen draws the kernel of each gate by itself
CELLS: dict[str, Callable[[int, Initializer], linen.RNNCellBase]] = {
    "tanh-rnn": lambda hidden, init: linen.SimpleCell(hidden, recurrent_kernel_init=init),
    "relu-rnn": lambda hidden, init: linen.SimpleCell(hidden, recurrent_kernel_init=init, activation_fn=linen.relu),
    "gru": lambda hidden, init: linen.GRUCell(hidden, recurrent_kernel_init=init),
    "lstm": lambda hidden, init: linen.OptimizedLSTMCell(hidden, recurrent_kernel_init=init),
}


@dataclasses.dataclass(frozen=True)
class Training:
    """How every configuration is trained.

    Attributes:
        hidden: hidden units.
        steps: of Adam.
        batch: sequences in a step.
        learning_rate: of Adam.
        clip: the largest norm of a gradient.
    """

    hidden: int
    steps: int
    batch: int
    learning_rate: float = 3e-3
    clip: float = 1.0


def train(data: Dataset, cell: str, initializer: str, seed: int, training: Training) -> dict[str, Any]:
    """Train one configuration; what came of it, as numbers.

    Classes are read from a linear readout of the state after a sequence's last step, by their cross-entropy; numbers
    by the squared error. The data order is the same for every cell and initializer with the same seed.
    """
    classes = np.issubdtype(data.train.targets.dtype, np.integer)
    outputs = int(data.train.targets.max()) + 1 if classes else data.train.targets.shape[1]
    start_key, order_key = jax.random.split(jax.random.key(seed))
    start = _start(CELLS[cell](training.hidden, INITIALIZERS[initializer]), start_key, data.train.inputs[0, 0], outputs)
    trained, losses, (loss, metric) = _train(
        start, _arrays(data.train), _arrays(data.test), order_key, cell=cell, training=training
    )
    return {
        "metric": "accuracy" if classes else "mean squared error",
        "test": float(metric),
        "test_loss": float(loss),
        "train_loss": np.asarray(losses, np.float64).reshape(10, -1).mean(axis=1).tolist(),
        "eigenvalues_before": _eigenvalues(start["cell"]),
        "eigenvalues_after": _eigenvalues(trained["cell"]),
    }


def _start(cell: linen.RNNCellBase, key: Array, x: np.ndarray, outputs: int) -> dict[str, Any]:
    cell_key, readout_key = jax.random.split(key)
    carry = cell.initialize_carry(cell_key, x.shape)  # zeros
    params = cell.init(cell_key, carry, jnp.asarray(x))["params"]
    kernel = jax.nn.initializers.lecun_normal()(readout_key, (_width(carry), outputs))
    return {"cell": params, "readout": {"kernel": kernel, "bias": jnp.zeros(outputs)}}


def _width(carry: Any) -> int:
    return int(jax.tree.leaves(carry)[0].shape[-1])


def _arrays(split: Split) -> Split:
    return jax.tree.map(jnp.asarray, split)


def _outputs(params: Any, split: Split, cell: str, hidden: int) -> Array:
    module = CELLS[cell](hidden, jax.nn.initializers.zeros)  # the initializer is not used to apply it
    carry = module.initialize_carry(jax.random.key(0), split.inputs[:, 0].shape)  # zeros

    def body(carry: Any, x: Array) -> tuple[Any, Array]:
        stepped: Any = module.apply({"params": params["cell"]}, carry, x)
        return stepped

    _, states = jax.lax.scan(body, carry, jnp.swapaxes(split.inputs, 0, 1))
    last = states[split.lengths - 1, jnp.arange(len(split.lengths))]
    return last @ params["readout"]["kernel"] + params["readout"]["bias"]


def _loss(params: Any, split: Split, cell: str, hidden: int) -> tuple[Array, Array]:
    """The mean loss, and the metric: accuracy of classes, mean squared error of numbers."""
    outputs, targets = _outputs(params, split, cell, hidden), jnp.asarray(split.targets)
    if jnp.issubdtype(targets.dtype, jnp.integer):
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
        return loss, (outputs.argmax(axis=1) == targets).mean()
    error = ((outputs - targets) ** 2).mean()
    return error, error


# compiling is most of a small run, and at this level takes two thirds of the time for a program as fast
@functools.partial(
    jax.jit, static_argnames=("cell", "training"), compiler_options={"xla_backend_optimization_level": 1}
)
def _train(
    params: Any, split: Split, test: Split, key: Array, *, cell: str, training: Training
) -> tuple[Any, Array, tuple[Array, Array]]:
    """The trained parameters, the loss of every step, and loss and metric on the test sequences."""
    optimizer = optax.chain(optax.clip_by_global_norm(training.clip), optax.adam(training.learning_rate))

    def body(carry: Any, key: Array) -> tuple[Any, Array]:
        params, memory = carry
        chosen = jax.random.randint(key, (training.batch,), 0, len(split.lengths))
        batch = jax.tree.map(lambda leaf: leaf[chosen], split)
        (loss, _), gradient = jax.value_and_grad(_loss, has_aux=True)(params, batch, cell, training.hidden)
        update, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(params, update), memory), loss

    (params, _), losses = jax.lax.scan(body, (params, optimizer.init(params)), jax.random.split(key, training.steps))
    return params, losses, _loss(params, test, cell, training.hidden)


def _eigenvalues(params: Any) -> dict[str, list[list[float]]]:
    """The eigenvalues of every gate's recurrent kernel, real and imaginary parts; empty for one that diverged."""
    found = {}
    for gate, kernel in dynamics.recurrent_kernels(params).items():
        finite = bool(np.isfinite(kernel).all())
        values = np.linalg.eigvals(np.asarray(kernel, np.float64)) if finite else np.zeros(0)
        found[gate] = np.stack([values.real, values.imag], axis=-1).tolist()
    return found
