"""Recurrent networks as kernel machines: what their expansion in the signature misses, and what its norm is good for.

Random residual networks are held against their differential equation, which the expansion is of, and which they come
near as steps shrink. Then networks are trained with and without the norm as a penalty, and attacked: inputs are moved
by at most so much at every step, up the gradient of the loss.
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
import optax
from jax.tree_util import Partial

import srnn
from benchmarks import training
from benchmarks.data.dataset import Dataset, Split
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows, distinct, having
from benchmarks.tasks import TASKS
from maso_rnn import plots
from maso_rnn.report import Picture, Section
from maso_rnn.style import MARKERS

ORDERS = (1, 2, 3, 4)
ATTACKS = (0.0, 0.1, 0.25, 0.5, 1.0)  # standard deviations of the inputs
CLIMBS = 10  # steps of an attack
PENALTY_ORDER = 3


@dataclasses.dataclass(frozen=True)
class Expansion:
    """A random network of tanh units whose expansion is measured.

    Attributes:
        scale: of its weights, normal.
        seed: of weights and path.
        units: hidden units.
    """

    scale: float
    seed: int
    units: int = 4


@dataclasses.dataclass(frozen=True)
class Robust:
    """A residual network that is trained, and attacked.

    Attributes:
        task: "spirals", or one of `TASKS`.
        strength: of the penalty, times the squared norm.
        seed: of the start and the order of the data.
        units: hidden units.
        steps: of Adam.
        rate: of Adam.
        batch: sequences in a step.
    """

    task: str
    strength: float
    seed: int
    units: int = 16
    steps: int = 800
    rate: float = 1e-2
    batch: int = 32


def _field(weights: Any, h: jax.Array, x: jax.Array) -> jax.Array:
    recurrent, inputs, bias = weights
    return jnp.tanh(h @ recurrent + x @ inputs + bias)


def expand(one: Expansion) -> dict[str, Any]:
    """What orders miss, as a share of the bound and at half the size; and the gap between network and equation."""
    with jax.enable_x64(True):
        rng = np.random.default_rng([one.seed, round(1000 * one.scale)])
        shapes = ((one.units, one.units), (2, one.units), (one.units,))
        weights = tuple(jnp.asarray(one.scale * rng.standard_normal(shape)) for shape in shapes)
        field, h0, x0 = Partial(_field, weights), jnp.zeros(one.units), jnp.zeros(2)
        turns = rng.uniform(-0.5, 0.5, (3, 2))
        pieces = jnp.asarray(np.concatenate([np.full((3, 1), 1 / 3), turns], axis=1))
        found = srnn.signature_coefficients(field, _state, h0, x0, order=ORDERS[-1])
        ends = np.cumsum([3**order for order in ORDERS])
        errors = np.zeros((2, len(ORDERS)))
        for i, size in enumerate((1.0, 0.5)):
            path = jnp.concatenate([jnp.zeros((1, 3)), jnp.cumsum(size * pieces, axis=0)])
            wanted = _flow(weights, size * pieces, steps=200)
            signature = srnn.signature(path, ORDERS[-1])
            for j, end in enumerate(ends):
                predicted = found.constant + signature[:end] @ found.values[:end]
                errors[i, j] = jnp.abs(wanted - predicted).max()
        path = jnp.concatenate([jnp.zeros((1, 3)), jnp.cumsum(pieces, axis=0)])
        bounds = [float(srnn.expansion_bound(weights[0], weights[1], path, order=order)) for order in ORDERS]
        wanted = _flow(weights, pieces, steps=200)
        gaps = [float(jnp.abs(_flow(weights, pieces, steps=steps, euler=True) - wanted).max()) for steps in (20, 40)]
    return {
        "errors": [_short(value) for value in errors[0]],
        "shares": [_short(error / bound) for error, bound in zip(errors[0], bounds, strict=True)],
        "slopes": [_short(value) for value in np.log2(errors[0] / errors[1])],
        "inside": bool(bounds[-1] < bounds[0]),
        "gaps": [_short(value) for value in gaps],
    }


def _state(h: jax.Array) -> jax.Array:
    return h


@functools.partial(jax.jit, static_argnames=("steps", "euler"))
def _flow(weights: Any, pieces: jax.Array, *, steps: int, euler: bool = False) -> jax.Array:
    """The state at the end of a path of straight pieces, from 0: by the network's own steps, or to fourth order."""

    def along(carry: Any, piece: jax.Array) -> tuple[Any, None]:
        dt, dx = piece[0] / steps, piece[1:] / steps

        def step(carry: Any, _: None) -> tuple[Any, None]:
            h, x = carry
            if euler:
                return (h + dt * _field(weights, h, x + dx), x + dx), None
            first = _field(weights, h, x)
            second = _field(weights, h + dt / 2 * first, x + dx / 2)
            third = _field(weights, h + dt / 2 * second, x + dx / 2)
            fourth = _field(weights, h + dt * third, x + dx)
            return (h + dt / 6 * (first + 2 * second + 2 * third + fourth), x + dx), None

        return jax.lax.scan(step, carry, None, steps)[0], None

    return jax.lax.scan(along, (jnp.zeros_like(weights[2]), jnp.zeros(2)), pieces)[0][0]


def spirals(seed: int = 0, examples: int = 512, length: int = 30) -> Dataset:
    """Noisy spirals in the plane that turn one way or the other."""
    rng = np.random.default_rng(seed)

    def split(count: int) -> Split:
        targets = np.arange(count, dtype=np.int32) % 2
        times = np.linspace(0, 1, length)
        angles = rng.uniform(0, 2 * np.pi, (count, 1)) + np.where(targets, 1, -1)[:, None] * 2 * np.pi * times
        radii = rng.uniform(0.3, 0.6, (count, 1)) * (0.3 + times)
        points = np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=2)
        inputs = (points + 0.02 * rng.standard_normal(points.shape)).astype(np.float32)
        return Split(inputs, targets, np.full(count, length))

    return Dataset(
        split(examples),
        split(256),
        split(256),
        name="spirals",
        source="generated; after A. Fermanian et al., Framing RNN as a kernel method (2021)",
        licence="none needed",
    )


def _data(task: str) -> Dataset:
    return spirals() if task == "spirals" else TASKS[task]()


def _initial(params: Any) -> jax.Array:
    return jnp.zeros_like(params["weights"][2])


def _states(params: Any, xs: jax.Array, h: jax.Array) -> jax.Array:
    def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = h + _field(params["weights"], h, x) / len(xs)
        return h, h

    return jax.lax.scan(step, h, xs)[1]


def _read(readout: Any, h: jax.Array) -> jax.Array:
    return h @ readout


def _read_out(params: Any, h: jax.Array) -> jax.Array:
    return _read(params["readout"], h)


NETWORK = training.Network(_initial, _states, _read_out)


def _norm(params: Any, inputs: int, dtype: Any = jnp.float32) -> jax.Array:
    field, readout = Partial(_field, params["weights"]), Partial(_read, params["readout"])
    start = _initial(params), jnp.zeros(inputs, dtype)
    return srnn.kernel_norm(field, readout, *start, order=PENALTY_ORDER)


def _penalty(params: Any, xs: jax.Array, target: jax.Array, hyper: training.Hyper) -> jax.Array:
    del target
    return hyper["strength"] * _norm(params, xs.shape[1]) ** 2


def _optimizer(hyper: training.Hyper) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(hyper["rate"]))


def _start(one: Robust, data: Dataset) -> Any:
    inputs, outputs = training.inputs_of(data), training.outputs_of(data)
    keys = jax.random.split(jax.random.key(one.seed), 3)
    shapes = ((one.units, one.units), (inputs, one.units), (one.units, outputs))
    kernels = [
        jax.random.normal(key, shape, jnp.float32) / shape[0] ** 0.5 for key, shape in zip(keys, shapes, strict=True)
    ]
    return jax.device_get({"weights": (*kernels[:2], jnp.zeros(one.units, jnp.float32)), "readout": kernels[2]})


@jax.jit
def attacked(params: Any, split: Split, size: jax.Array | float) -> jax.Array:
    """The accuracy on inputs that an attack has moved, by at most `size` a number, up the gradient of the loss."""

    def loss(xs: jax.Array, target: jax.Array, length: jax.Array) -> jax.Array:
        logits = _read_out(params, _states(params, xs, _initial(params))[length - 1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, target)

    def one(xs: jax.Array, target: jax.Array, length: jax.Array) -> jax.Array:
        def climb(moved: jax.Array, _: None) -> tuple[jax.Array, None]:
            gradient = jax.grad(loss)(moved, target, length)
            return jnp.clip(moved + size / 4 * jnp.sign(gradient), xs - size, xs + size), None

        moved, _ = jax.lax.scan(climb, xs, None, CLIMBS)
        return _read_out(params, _states(params, moved, _initial(params))[length - 1]).argmax() == target

    return jax.vmap(one)(*map(jnp.asarray, split)).mean()


def train(group: Sequence[Any], state: Path | None, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Measure expansions, or train networks and attack them."""
    if isinstance(group[0], Expansion):
        found = []
        for one in group:
            found.append(expand(one))
            advanced(1)
        return found
    first, data = group[0], _data(group[0].task)
    runs = [training.Run(_start(one, data), one.seed, {"rate": one.rate, "strength": one.strength}) for one in group]
    trained = training.train(
        NETWORK, data, runs, _optimizer,
        steps=first.steps, batch=first.batch, points=2, penalty=_penalty, state=state, advanced=advanced,
    )  # fmt: skip
    parts = {"attacked": data.test.first(256), "attacked_validation": data.validation.first(256)}
    spread = float(np.std(data.train.inputs))
    return [
        each.result
        | {"norm": _short(_norm(each.params, training.inputs_of(data)))}
        | {
            name: [_short(attacked(each.params, jax.tree.map(jnp.asarray, part), spread * size)) for size in ATTACKS]
            for name, part in parts.items()
        }
        for each in trained
    ]


def _short(number: Any) -> float:
    return float(f"{float(number):.4g}")


def of(rows: Rows[Any], kind: type) -> list[Any]:
    """The rows of one kind of configuration."""
    return [row for row in rows.fixed if isinstance(row.configuration, kind)]


def sections(rows: Rows[Any]) -> list[Section]:
    """What expansions miss by order, and accuracy under attack by strength."""
    expansions, trained = of(rows, Expansion), of(rows, Robust)
    figure = plots.new_figure(5 * (1 + len(distinct(trained, "task"))), 3.5)
    first, *others = figure.subplots(1, 1 + len(distinct(trained, "task")))
    for i, scale in enumerate(distinct(expansions, "scale")):
        for row in having(expansions, scale=scale):
            first.semilogy(ORDERS, row.result["errors"], MARKERS[i] + "-", color=plots.COLOURS[i], markersize=3)
        first.plot([], [], color=plots.COLOURS[i], label=f"weights of {scale:g}")
    first.set(xlabel="order", ylabel="what the expansion misses", xticks=ORDERS)
    first.legend()
    for axes, task in zip(others, distinct(trained, "task"), strict=True):
        for i, strength in enumerate(distinct(trained, "strength")):
            means = np.mean([row.result["attacked"] for row in having(trained, task=task, strength=strength)], axis=0)
            axes.plot(ATTACKS, means, MARKERS[i] + "-", label=f"penalty {strength:g}")
        axes.set(xlabel="attack (standard deviations of the input)", ylabel="test accuracy", title=task)
        axes.legend()
    picture = Picture("kernel-machine", "Does the norm make networks robust?", figure, "Means over seeds on the right.")
    values = {"rows": [dict(row.result) for row in rows.fixed]}
    return [Section("kernel-machine", "Expansions and attacks", "", [picture], values)]


def _size(seeds: int, tasks: Sequence[str], strengths: Sequence[float], **settings: int) -> Size[Any]:
    expansions = [Expansion(scale, seed) for scale in (0.05, 0.3, 1.0) for seed in range(seeds)]
    robust = [
        Robust(task, strength, seed, **settings) for task in tasks for strength in strengths for seed in range(seeds)
    ]
    return Size(fixed=[*expansions, *robust])


IDLE = 1e-9  # a strength too small to do anything
STRENGTHS = (0.0, IDLE, 1e-5, 1e-4, 1e-3)

EXPERIMENT = Experiment(
    name="kernel-machine",
    question="Is a recurrent network a kernel machine, and does its norm make it robust?",
    introduction=lambda size, rows: (
        f"{len(of(rows, Expansion))} random networks, {len(of(rows, Robust))} trained ones."
    ),
    sizes={
        "smoke": lambda: _size(1, ["spirals"], (0.0, 1e-2), units=4, steps=20),
        "small": lambda: _size(5, ["spirals", "digits-by-row"], STRENGTHS),
        "paper": lambda: _size(5, ["spirals", "digits-by-row"], STRENGTHS, units=32, steps=20_000),
    },
    train=train,
    sections=sections,
    together=lambda one: dataclasses.replace(one, seed=0, **({"strength": 0.0} if isinstance(one, Robust) else {})),
    steps=lambda one: getattr(one, "steps", 1),
)
