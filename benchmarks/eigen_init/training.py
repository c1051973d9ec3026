"""A flax cell, started one way, trained on one task, with the eigenvalues before and after."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax.nn.initializers import Initializer

from benchmarks import training
from benchmarks.data.dataset import Dataset
from benchmarks.experiment import SEARCH_SEEDS
from benchmarks.tasks import TASKS
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

RATES = (1e-3, 3e-3, 1e-2)


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Everything that a run hangs on.

    Attributes:
        task: one of `TASKS`.
        cell: one of `CELLS`.
        initializer: of the recurrent kernel, of each gate by itself; one of `INITIALIZERS`.
        rate: the learning rate of Adam.
        seed: of the start and of the order of the data; both are the same for every initializer.
        hidden: hidden units.
        steps: of Adam.
        batch: sequences in a step.
        points: at how many evenly spaced steps the validation set is looked at.
        clip: the largest norm of a gradient.
        cloud: whether all eigenvalues are kept, of the first seed trained at the rate chosen.
    """

    task: str
    cell: str
    initializer: str
    rate: float = 0.0
    seed: int = 0
    hidden: int = 32
    steps: int = 300
    batch: int = 32
    points: int = 2
    clip: float = 1.0
    cloud: bool = False


def together(one: Configuration) -> Configuration:
    """What runs of one program share."""
    return dataclasses.replace(one, initializer="", rate=0.0, seed=0, cloud=False)


def shape(one: Configuration) -> str:
    """What the time of a step hangs on most."""
    return f"{one.task.rstrip('1234567') if one.task.startswith('tomita') else one.task}, {one.cell}"


def train(
    group: Sequence[Configuration],
    state: Path | None = None,
    advanced: Callable[[int], None] = lambda steps: None,
) -> list[dict[str, Any]]:
    """Train configurations that `together` does not tell apart."""
    one, data = group[0], TASKS[group[0].task]()
    runs = [_run(one, data) for one in group]
    found = training.train(
        _network(one.cell, one.hidden),
        data,
        runs,
        _optimizer,
        steps=one.steps,
        batch=one.batch,
        points=one.points,
        state=state,
        advanced=advanced,
    )
    return [
        trained.result
        | _eigenvalues(run.start["cell"], trained.params["cell"], whole=one.cloud and one.seed == SEARCH_SEEDS)
        for one, run, trained in zip(group, runs, found, strict=True)
    ]


def step_seconds(group: Sequence[Configuration]) -> float:
    """The time (s) of one step of a group."""
    one, data = group[0], TASKS[group[0].task]()
    runs = [_run(one, data) for one in group]
    return training.step_seconds(_network(one.cell, one.hidden), data, runs, _optimizer, batch=one.batch)


def score(result: Mapping[str, Any]) -> float:
    """What a rate is chosen by: the share of the validation set that is said wrong, or the squared error."""
    if "validation_accuracy" in result:
        return 1 - float(result["validation_accuracy"][-1])
    return float(result["validation_loss"][-1])


def _optimizer(hyper: training.Hyper) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(hyper["clip"]), optax.adam(hyper["rate"]))


@functools.cache
def _network(cell: str, hidden: int) -> training.Network:
    return training.celled(CELLS[cell](hidden, jax.nn.initializers.zeros))  # the initializer is not used to apply it


def _run(one: Configuration, data: Dataset) -> training.Run:
    start = _start(one.cell, one.initializer, one.seed, one.hidden, training.inputs_of(data), training.outputs_of(data))
    return training.Run(start, one.seed, {"rate": one.rate, "clip": one.clip})


@functools.cache
def _start(cell: str, initializer: str, seed: int, hidden: int, inputs: int, outputs: int) -> dict[str, Any]:
    cell_key, readout_key = jax.random.split(jax.random.key(seed))
    module = CELLS[cell](hidden, INITIALIZERS[initializer])
    x = jnp.zeros(inputs, jnp.float32)
    params = module.init(cell_key, module.initialize_carry(cell_key, x.shape), x)["params"]
    kernel = jax.nn.initializers.lecun_normal()(readout_key, (hidden, outputs), jnp.float32)
    start: dict[str, Any] = jax.device_get(
        {"cell": params, "readout": {"kernel": kernel, "bias": jnp.zeros(outputs, jnp.float32)}}
    )
    return start


def _eigenvalues(before: Any, after: Any, *, whole: bool) -> dict[str, Any]:
    """Of all gates together: the largest and the median modulus before and after; whole, also the eigenvalues."""
    values = {"before": _of_gates(before), "after": _of_gates(after)}
    found: dict[str, Any] = {
        "radius": [_rounded(np.abs(one).max()) if one.size else "nan" for one in values.values()],
        "median_modulus": [_rounded(np.median(np.abs(one))) if one.size else "nan" for one in values.values()],
    }
    if whole:
        pairs = {when: np.stack([one.real, one.imag], axis=-1).round(3) + 0.0 for when, one in values.items()}
        found["eigenvalues"] = {when: pair.tolist() for when, pair in pairs.items()}
    return found


def _rounded(value: float) -> float:
    return round(float(value), 4)


def _of_gates(cell: Any) -> np.ndarray:
    """The eigenvalues of every gate's recurrent kernel; none of one that diverged."""
    kernels = [np.asarray(kernel, np.float64) for kernel in dynamics.recurrent_kernels(cell).values()]
    if not all(np.isfinite(kernel).all() for kernel in kernels):
        return np.zeros(0, complex)
    return np.concatenate([np.linalg.eigvals(kernel) for kernel in kernels])
