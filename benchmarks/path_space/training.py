"""The methods, and how a configuration's networks start and are trained."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

import maso_rnn
import path_opt
from benchmarks import training
from benchmarks.data.dataset import Dataset
from benchmarks.tasks import TASKS
from maso_rnn import RNN

Factory = Callable[[training.Hyper, path_opt.ReductionGraph, int], optax.GradientTransformation]

SKELETON_ONE = "skeleton 1"
STARTS = ("balanced", "rescaled", SKELETON_ONE)


class Method(NamedTuple):
    """One way to train.

    Attributes:
        make: `({"rate": learning rate, "clip": the largest norm of a gradient, "trained": 0 where path space freezes a
            weight, else 1}, graph, steps of a sequence) -> transform`.
        rates: the learning rates tried.
        deep_rates: those tried with several layers whose skeleton is not 1, where they are others: steps in path space
            grow as the inverse of products of weights.
        uses_skeleton: whether it is made with the skeleton of the start, and so is another program for each seed.
        invariant: whether no rescaling of the start changes what it trains, unless gradients are clipped outside of
            path space.
    """

    make: Factory
    rates: tuple[float, ...]
    deep_rates: tuple[float, ...] = ()
    uses_skeleton: bool = False
    invariant: bool = False


@dataclasses.dataclass(frozen=True)
class Configuration:
    """Everything that a run hangs on.

    Attributes:
        task: one of `TASKS`.
        method: one of `METHODS`.
        start: "balanced"; "rescaled", the same function; or "skeleton 1", as in the papers: as drawn, with the weights
            of the skeleton, unit by unit modulo the width, set to 1.
        rate: the learning rate.
        seed: of the start and of the order of the data.
        hidden: hidden units of each layer.
        biases: whether layers and readout have them.
        steps: of the optimiser.
        batch: sequences in a step.
        points: at how many evenly spaced steps the validation loss is taken.
        spread: standard deviation of the logarithms of a rescaled start's scales.
        clip: the largest norm of a gradient; in path space of that in path space.
    """

    task: str
    method: str
    start: str
    rate: float = 0.0
    seed: int = 0
    hidden: tuple[int, ...] = (16,)
    biases: bool = True
    steps: int = 200
    batch: int = 32
    points: int = 10
    spread: float = 1.5
    clip: float = math.inf


PLAIN = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
ADAPTIVE = METRIC = IN_PATHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
DEEP = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6)
CLIPS = (math.inf, 1.0)


def _clipped(make: Callable[[float], optax.GradientTransformation]) -> Factory:
    """The transform of a learning rate, after clipping."""

    def factory(hyper: training.Hyper, graph: path_opt.ReductionGraph, time: int) -> optax.GradientTransformation:
        del graph, time
        return optax.chain(optax.clip_by_global_norm(hyper["clip"]), make(hyper["rate"]))

    return factory


def _in_path_space(inner: Factory) -> Factory:
    return lambda hyper, graph, time: path_opt.in_path_space(inner(hyper, graph, time), graph)


def _frozen(inner: Factory) -> Factory:
    """Steps of the weights alone that path space trains."""

    def factory(hyper: training.Hyper, graph: path_opt.ReductionGraph, time: int) -> optax.GradientTransformation:
        trained = optax.stateless(lambda updates, params: jax.tree.map(jnp.multiply, updates, hyper["trained"]))
        return optax.chain(inner(hyper, graph, time), trained)

    return factory


def _after_clipping(make: Factory) -> Factory:
    return lambda hyper, graph, time: optax.chain(optax.clip_by_global_norm(hyper["clip"]), make(hyper, graph, time))


_SGD, _ADAM = _clipped(optax.sgd), _clipped(optax.adam)
_MOMENTUM = _clipped(lambda rate: optax.sgd(rate, 0.9))

METHODS: dict[str, Method] = {
    "SGD": Method(_SGD, PLAIN),
    "momentum": Method(_MOMENTUM, PLAIN),
    "Adam": Method(_ADAM, ADAPTIVE),
    "Path-SGD": Method(
        _after_clipping(lambda hyper, graph, time: path_opt.path_sgd(hyper["rate"], graph=graph, num_steps=time)),
        METRIC,
        invariant=True,
    ),
    "equivariant Adam": Method(
        _after_clipping(lambda hyper, graph, time: path_opt.equivariant_adam(hyper["rate"], graph=graph)),
        ADAPTIVE,
        invariant=True,
    ),
    "path-space SGD": Method(_in_path_space(_SGD), IN_PATHS, DEEP, uses_skeleton=True, invariant=True),
    "path-space momentum": Method(_in_path_space(_MOMENTUM), IN_PATHS, DEEP, uses_skeleton=True, invariant=True),
    "path-space Adam": Method(
        _in_path_space(_ADAM),
        IN_PATHS,
        (1e-9, 1e-8, 1e-7, 1e-6, 1e-5),
        uses_skeleton=True,
        invariant=True,
    ),
    "SGD, frozen skeleton": Method(_frozen(_SGD), PLAIN),
    "Adam, frozen skeleton": Method(_frozen(_ADAM), ADAPTIVE),
}


def rates_of(one: Configuration) -> tuple[float, ...]:
    """The learning rates that a contender is tried with."""
    method = METHODS[one.method]
    is_deep = len(one.hidden) > 1 and one.start != SKELETON_ONE
    return method.deep_rates if is_deep and method.deep_rates else method.rates


def together(one: Configuration) -> Configuration:
    """What runs of one program share: the skeleton hangs on the seed, but for that of the papers' start."""
    if one.start == SKELETON_ONE:
        return dataclasses.replace(one, rate=0.0, seed=0, clip=0.0)
    seed = one.seed if METHODS[one.method].uses_skeleton else 0
    return dataclasses.replace(one, start="", rate=0.0, seed=seed, clip=0.0)


def shape(one: Configuration) -> str:
    """What the time of a step hangs on most."""
    return f"{one.task}, {'+'.join(map(str, one.hidden))} hidden"


def starts(data: Dataset, one: Configuration) -> dict[str, RNN]:
    """A balanced network, a rescaling of it, which is the same function, and the papers' start."""
    inputs, outputs = training.inputs_of(data), training.outputs_of(data)
    return _starts(jax.random.key(one.seed), inputs, outputs, one.hidden, one.biases, one.spread)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _starts(
    key: Array, inputs: int, outputs: int, hidden: tuple[int, ...], biases: bool, spread: float
) -> dict[str, RNN]:
    init_key, scale_key = jax.random.split(key)
    bias_init = jax.nn.initializers.zeros if biases else None
    rnn = maso_rnn.init(init_key, inputs, hidden, outputs, bias_init=bias_init, dtype=jnp.float32)
    graph = path_opt.reduction_graph(rnn, skeleton="modulo")  # balance and rescale do not hang on the skeleton
    balanced = path_opt.balance(rnn, graph)
    scales = tuple(
        spread * jax.random.normal(key, (width,), jnp.float32)
        for key, width in zip(jax.random.split(scale_key, len(hidden)), hidden, strict=True)
    )
    overwritten = path_opt.set_skeleton(rnn, graph, how="overwrite")
    return {"balanced": balanced, "rescaled": path_opt.rescale(balanced, graph, scales), SKELETON_ONE: overwritten}


def train(
    group: Sequence[Configuration],
    state: Path | None = None,
    advanced: Callable[[int], None] = lambda steps: None,
    *,
    data: Dataset | None = None,
) -> list[dict[str, Any]]:
    """Train configurations that `together` does not tell apart, on their task or on the data given."""
    data = data or TASKS[group[0].task]()
    runs, optimizer = _runs(group, data)
    one = group[0]
    found = training.train(
        training.layered(),
        data,
        runs,
        optimizer,
        steps=one.steps,
        batch=one.batch,
        points=one.points,
        state=state,
        advanced=advanced,
    )
    return [trained.result for trained in found]


def step_seconds(group: Sequence[Configuration]) -> float:
    """The time (s) of one step of a group."""
    data = TASKS[group[0].task]()
    runs, optimizer = _runs(group, data)
    return training.step_seconds(training.layered(), data, runs, optimizer, batch=group[0].batch)


def _runs(group: Sequence[Configuration], data: Dataset) -> tuple[list[training.Run], training.Optimizer]:
    networks = {one.seed: jax.device_get(starts(data, one)) for one in group}
    skeleton = "modulo" if group[0].start == SKELETON_ONE else "largest"  # which no rescaling changes
    graphs = {
        seed: path_opt.reduction_graph(of_seed["balanced"], skeleton=skeleton) for seed, of_seed in networks.items()
    }
    runs = [
        training.Run(
            networks[one.seed][one.start],
            one.seed,
            {
                "rate": one.rate,
                "clip": one.clip,
                "trained": _trained(networks[one.seed][one.start], graphs[one.seed]),
            },
        )
        for one in group
    ]
    graph = graphs[group[0].seed]
    if not METHODS[group[0].method].uses_skeleton:
        graph = path_opt.reduction_graph(runs[0].start, skeleton="modulo")
    return runs, _optimizer(group[0].method, graph, data.train.inputs.shape[1])


@functools.cache  # so that groups of one program are compiled once
def _optimizer(method: str, graph: path_opt.ReductionGraph, time: int) -> training.Optimizer:
    return lambda hyper: METHODS[method].make(hyper, graph, time)


def _trained(rnn: RNN, graph: path_opt.ReductionGraph) -> RNN:
    """0 at the weights that path space freezes, the skeleton edges out of the hidden units; 1 at the others."""
    ones = jax.tree.map(np.ones_like, rnn)
    kernels = [layer.input_kernel for layer in ones.layers[1:]] + [ones.readout.kernel]
    for kernel, targets in zip(kernels, graph.skeleton.outgoing, strict=True):
        kernel[np.arange(len(targets)), targets] = 0
    return ones
