"""How long recurrent networks remember, mode by mode, against what their eigenvalues predict; nothing is trained.

The claims of Dou and Principe (2023) that it answers: that eigenvalues explain how information decays (`error` of
linear networks, `rank` of the others), and what activations do to that (`ratio`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import maso_rnn
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows
from maso_rnn import plots
from maso_rnn.report import Picture, Section

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda p: p,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
}


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A random network that is driven by noise and given a pulse along each of its modes.

    Attributes:
        activation: one of `ACTIVATIONS`.
        seed: of kernel and input.
        radius: the spectral radius of the kernel, a Glorot draw.
        loudness: the standard deviation of what the input adds to a unit.
        hidden: units.
        steps: that the pulse is followed for.
        warm_up: steps before it.
        amplitude: of the pulse.
    """

    activation: str
    seed: int = 0
    radius: float = 0.95
    loudness: float = 1.0
    hidden: int = 32
    steps: int = 100
    warm_up: int = 50
    amplitude: float = 1e-4


def measure(one: Configuration) -> dict[str, Any]:
    """Horizons of every mode, predicted and measured: after how many steps 1/e of a pulse is left; how they compare.

    `error` is the largest relative difference, `rank` Spearman's correlation, `ratio` the median of measured over
    predicted.
    """
    with jax.enable_x64(True):
        kernel_key, input_key = jax.random.split(jax.random.key(one.seed))
        init = maso_rnn.spectral_radius(jax.nn.initializers.glorot_normal(), one.radius)
        kernel = init(kernel_key, (one.hidden, one.hidden), jnp.float64)
        shape = (one.warm_up + one.steps, one.hidden)
        inputs = one.loudness * jax.random.normal(input_key, shape, jnp.float64)
        step = functools.partial(_step, ACTIVATIONS[one.activation], kernel)
        state = jax.lax.scan(lambda h, x: (step(h, x), None), jnp.zeros(one.hidden), inputs[: one.warm_up])[0]
        found = maso_rnn.pulse_decay(step, kernel, state, inputs[one.warm_up :], amplitude=one.amplitude)
        predicted, measured = np.asarray(found.predicted), _fallen(np.asarray(found.amplitudes))
    seen = np.isfinite(measured)
    predicted, measured = predicted[seen], measured[seen]
    return {
        "predicted": [_short(value) for value in predicted],
        "measured": [_short(value) for value in measured],
        "error": _short(np.abs(measured / predicted - 1).max()),
        "rank": _short(np.corrcoef(_ranks(predicted), _ranks(measured))[0, 1]),
        "ratio": _short(np.median(measured / predicted)),
    }


def _fallen(amplitudes: np.ndarray) -> np.ndarray:
    """(mode,), after how many steps 1/e of the pulse is left, between steps along an exponential; NaN if more stays."""
    logs = np.log(np.maximum(amplitudes, 1e-300))
    is_below = logs <= -1
    after = np.argmax(is_below, axis=1)
    modes = np.arange(len(logs))
    above, below = logs[modes, after - 1], logs[modes, after]
    times = after - 1 + (above + 1) / (above - below)
    return np.where(is_below.any(axis=1), times, np.nan)


def _step(act: Callable[[Array], Array], kernel: Array, h: Array, x: Array) -> Array:
    return act(h @ kernel + x)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places in ascending order, equal ones (a pair of conjugate modes) sharing theirs."""
    _, place = np.unique(np.round(values, 9), return_inverse=True)
    return np.asarray(place, float)


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")


def train(group: Sequence[Configuration], state: Path, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Measure the networks of a group; nothing is trained."""
    del state
    found = []
    for one in group:
        found.append(measure(one))
        advanced(1)
    return found


def sections(rows: Rows[Configuration]) -> list[Section]:
    """Measured against predicted horizons, by activation."""
    figure = plots.new_figure(11, 3.8)
    said, values = [], {}
    kinds = list(dict.fromkeys((row.configuration.activation, row.configuration.loudness) for row in rows.fixed))
    for axes, (activation, loudness) in zip(figure.subplots(1, len(kinds), sharey=True), kinds, strict=True):
        name = f"{activation}, input of {loudness:g}"
        found = [
            row.result
            for row in rows.fixed
            if (row.configuration.activation, row.configuration.loudness) == (activation, loudness)
        ]
        for result in found:
            axes.loglog(result["predicted"], result["measured"], ".", color=plots.COLOURS[0], alpha=0.4, markersize=4)
        ends = [min(min(result["predicted"]) for result in found), max(max(result["predicted"]) for result in found)]
        axes.loglog(ends, ends, "--", color="#444444", linewidth=1)
        axes.set(title=name, xlabel="predicted, −1 / ln|λ| (steps)")
        ratio, rank = (float(np.mean([result[quantity] for result in found])) for quantity in ("ratio", "rank"))
        said.append(f"{name} {ratio:.2g} times (rank correlation {rank:.2g})")
        values[name] = found
    figure.axes[0].set_ylabel("measured (steps)")
    picture = Picture(
        "memory-horizons",
        "Is a mode remembered for as long as its eigenvalue predicts, and what do activations change?",
        figure,
        f"Measured over predicted, median: {', '.join(said)}.",
    )
    text = "Each point is one mode of a random network driven by noise; on the dashed line the prediction is right."
    return [Section("memory", "Horizons of memory", text, [picture], values)]


# a quiet tanh is almost linear; a ReLU without biases is as it is at every loudness
DRIVEN = (("identity", 1.0), ("tanh", 0.1), ("tanh", 1.0), ("relu", 1.0))


def _sized(seeds: int, **settings: int) -> Size[Configuration]:
    return Size(
        fixed=[
            Configuration(name, seed, loudness=loudness, **settings)
            for name, loudness in DRIVEN
            for seed in range(seeds)
        ]
    )


EXPERIMENT = Experiment(
    name="memory",
    question="How long does a recurrent network remember?",
    introduction=lambda size, rows: f"{len(rows.fixed)} random networks.",
    sizes={
        "smoke": lambda: _sized(1, hidden=6, steps=20, warm_up=10),
        "small": lambda: _sized(8),
        "paper": lambda: _sized(20, hidden=128, steps=400),
    },
    train=train,
    sections=sections,
    together=lambda one: dataclasses.replace(one, seed=0),
)
