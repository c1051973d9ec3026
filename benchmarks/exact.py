"""What the papers say exactly, computed exactly: on random networks in float64, nothing trained.

The claims that it answers: that an RNN is an affine spline operator (`identity`, `pieces`, `piece`), that noise on the
initial state is a penalty (`penalty`), that a rescaling changes the weights and not the function (`moved`,
`function`, `paths`), that path values represent the network (`represented`) whatever the number of steps (`ranks`),
that basis paths span them (`rank`, `expected`) and are found fast (`operations`), and what Path-SGD's first term leaves
out (`second_order`).
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
from matplotlib.figure import Figure

import maso_rnn
import path_opt
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows
from maso_rnn import RNN
from maso_rnn.report import Picture, Section

REMEMBERED = 5  # steps after which a network has not forgotten the noise that it began with
WALKS = (3, 24)  # steps of the sequences whose paths are drawn


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A random network.

    Attributes:
        hidden: units of each layer.
        activation: convex, piecewise affine and positively homogeneous.
        recurrent: the initializer of the recurrent kernels, "orthogonal" or "identity".
        biases: whether there are biases and a learned initial state, all of them normal.
        seed: of weights, inputs, noise and paths.
        inputs: channels.
        outputs: of the readout.
        steps: of the sequence.
        sigma: of the noise on the initial state.
        samples: of that noise, each with its opposite.
    """

    hidden: tuple[int, ...]
    activation: str = "relu"
    recurrent: str = "orthogonal"
    biases: bool = True
    seed: int = 0
    inputs: int = 2
    outputs: int = 3
    steps: int = 20
    sigma: float = 1e-4
    samples: int = 4096


RECURRENT = {"orthogonal": jax.nn.initializers.orthogonal(), "identity": maso_rnn.initializers.identity()}


def network(one: Configuration, key: Array) -> RNN:
    """The network of a configuration."""
    weights_key, bias_key, initial_key = jax.random.split(key, 3)
    rnn = maso_rnn.init(
        weights_key,
        one.inputs,
        one.hidden,
        one.outputs,
        activation=one.activation,
        recurrent_init=RECURRENT[one.recurrent],
        bias_init=None,
        dtype=jnp.float64,
    )
    if not one.biases:
        return rnn
    layers = tuple(
        dataclasses.replace(layer, bias=0.3 * jax.random.normal(jax.random.fold_in(bias_key, l), (width,)))
        for l, (layer, width) in enumerate(zip(rnn.layers, one.hidden, strict=True))
    )
    initial = tuple(
        jax.random.normal(jax.random.fold_in(initial_key, l), (width,)) for l, width in enumerate(one.hidden)
    )
    bias = 0.3 * jax.random.normal(jax.random.fold_in(bias_key, len(one.hidden)), (one.outputs,))
    readout = dataclasses.replace(rnn.readout, bias=bias)
    return dataclasses.replace(rnn, layers=layers, readout=readout, initial=initial)


def measure(group: Sequence[Configuration], advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Every identity on networks that differ in their seeds; errors are relative to the largest entry."""
    shape = dataclasses.replace(group[0], seed=0)
    found = []
    with jax.enable_x64(True):
        numbers = jax.jit(functools.partial(_numbers, shape))
        spread = jax.jit(jax.vmap(maso_rnn.forward, (None, 0)))
        for one in group:
            key = jax.random.key(one.seed)
            rnn, ends, measured = numbers(key)
            graph = path_opt.reduction_graph(rnn, skeleton="modulo")
            result = {name: _short(value) for name, value in measured.items()}
            found.append(result | _pieces(rnn, ends, spread) | _paths(rnn, graph, one.seed))
            advanced(1)
    return found


def _numbers(one: Configuration, key: Array) -> tuple[RNN, Array, dict[str, Array]]:
    """The network, two sequences, and all that needs no host."""
    network_key, input_key, scale_key, noise_key = jax.random.split(key, 4)
    rnn = network(one, network_key)
    ends = jax.random.normal(input_key, (2, one.steps, one.inputs))
    graph = path_opt.reduction_graph(rnn, skeleton="modulo")
    scales = [jax.random.normal(jax.random.fold_in(scale_key, l), (width,)) for l, width in enumerate(one.hidden)]
    return (
        rnn,
        ends,
        {
            "identity": _identity(rnn, ends[0]),
            "penalty": _penalty(rnn, ends[0, :REMEMBERED], noise_key, one.sigma, one.samples),
            **_rescaling(rnn, graph, scales, ends[0]),
            "second_order": _second_order(rnn, graph, one.steps),
        },
    )


def _identity(rnn: RNN, xs: Array) -> Array:
    """The map of the piece against the network."""
    affine = maso_rnn.affine_map(rnn, xs)
    rebuilt = maso_rnn.match(affine, xs) + affine.offset
    for slope, h in zip(affine.initial_slope, maso_rnn.initial_state(rnn), strict=True):
        rebuilt += slope @ h
    return _off(rebuilt, maso_rnn.forward(rnn, xs)[-1])


def _pieces(rnn: RNN, between: Array, forward: Callable[[RNN, Array], Array]) -> dict[str, Any]:
    """The pieces from one sequence to another, and how far the network is from straight on them."""
    xs, other = between
    walk = maso_rnn.walk_line(rnn, xs, other, max_regions=20_000)
    ends = np.concatenate([[0.0], walk.breakpoints, [1.0]])
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(ends) - 1, size=64)  # one number of pieces for all, and so one program
    middles = (ends[chosen + 1] + ends[chosen]) / 2
    said = forward(rnn, xs + jnp.asarray(middles)[:, None, None] * (other - xs))[:, -1]
    straight = (walk.outputs[chosen + 1] + walk.outputs[chosen]) / 2
    return {"pieces": int(walk.pieces), "piece": _short(_off(said, straight))}


def _penalty(rnn: RNN, xs: Array, key: Array, sigma: float, samples: int) -> Array:
    """What noise adds to half the squared output, over the penalty that it is said to be."""
    h0 = maso_rnn.initial_state(rnn)

    def loss(z: Array) -> Array:
        return 0.5 * (z**2).sum()

    def added(key: Array) -> Array:
        noises = maso_rnn.random_initial_state(key, jax.tree.map(jnp.zeros_like, h0), sigma)

        def at(sign: Array) -> Array:
            state = jax.tree.map(lambda h, noise: h + sign * noise, h0, noises)
            return loss(maso_rnn.forward(rnn, xs, state)[-1])

        plus, none, minus = jax.vmap(at)(jnp.array([1.0, 0.0, -1.0]))
        return (plus + minus) / 2 - none

    found = jax.lax.map(added, jax.random.split(key, samples), batch_size=256).mean()
    return found / maso_rnn.noise_penalty(rnn, xs, scale=sigma, loss=loss)


def _rescaling(rnn: RNN, graph: path_opt.ReductionGraph, scales: Sequence[Array], xs: Array) -> dict[str, Array]:
    """How far weights, function and path values move under a rescaling, and what path values alone give back."""
    other = path_opt.rescale(rnn, graph, scales)
    weights, moved = (jax.flatten_util.ravel_pytree(net)[0] for net in (rnn, other))
    before, after = path_opt.path_values(rnn, graph), path_opt.path_values(other, graph)
    # the frozen weights keep their signs and lose their sizes, which a rescaling would change
    bare = path_opt.from_path_values(before._replace(frozen=tuple(map(jnp.sign, before.frozen))), graph)
    said, rescaled, represented = (maso_rnn.forward(net, xs) for net in (rnn, other, bare))
    values, again = (jax.flatten_util.ravel_pytree(paths.values)[0] for paths in (before, after))
    return {
        "moved": jnp.linalg.norm(moved - weights) / jnp.linalg.norm(weights),
        "function": _off(rescaled, said),
        "paths": _off(again, values),
        "represented": _off(represented, said),
    }


def _paths(rnn: RNN, graph: path_opt.ReductionGraph, seed: int) -> dict[str, Any]:
    """Ranks of the basis paths, of paths drawn from sequences of several lengths, and of both."""
    flat, unravel = jax.flatten_util.ravel_pytree(rnn)

    def logarithms(logs: Array) -> Array:
        values = path_opt.path_values(unravel(jnp.exp(logs)), graph).values
        return jnp.log(jax.flatten_util.ravel_pytree(values)[0])

    # of a product of powers the exponents are the derivatives of logarithms, anywhere: here, where all weights are 1
    basis = np.rint(jax.jit(jax.jacobian(logarithms))(jnp.zeros_like(flat)))
    rng = np.random.default_rng(seed)
    drawn = [_walks(rnn, steps, 6 * len(flat), rng) for steps in WALKS]
    program = jax.jit(functools.partial(path_opt.path_values, graph=graph)).lower(rnn).compile()
    analysis: Any = program.cost_analysis()
    return {
        "edges": graph.edges,
        "units": graph.units,
        "expected": graph.basis_paths,
        "rank": _rank(basis),
        "ranks": [_rank(paths) for paths in drawn],
        "together": _rank(np.concatenate([basis, *drawn])),
        "operations": _short(float(analysis["flops"]) / graph.edges),
    }


def _walks(rnn: RNN, steps: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """How often each weight is in each of so many paths of the unrolled network, (path, weight).

    Drawn from a source, of each kind as often, at a random step to an output after the last one, in any order of moves
    to the next step and to the next layer.
    """
    leaves, structure = jax.tree.flatten(rnn)
    starts = np.cumsum([0, *(leaf.size for leaf in leaves)])[:-1]
    numbers = [start + np.arange(leaf.size).reshape(leaf.shape) for start, leaf in zip(starts, leaves, strict=True)]
    at = jax.tree.unflatten(structure, numbers)
    sources = [(0, at.layers[0].input_kernel)]
    sources += [(layer, one.bias) for layer, one in enumerate(at.layers) if one.bias is not None]
    sources += list(enumerate(at.initial or ()))
    first_initial = len(sources) - len(at.initial or ())
    paths = np.zeros((count, sum(leaf.size for leaf in leaves)))
    for number, path in enumerate(paths):
        chosen = number % (len(sources) + (at.readout.bias is not None))
        if chosen == len(sources):
            path[rng.choice(at.readout.bias)] += 1
            continue
        layer, edges = sources[chosen]
        unit = rng.integers(edges.shape[-1])
        path[rng.choice(edges.reshape(-1, edges.shape[-1])[:, unit])] += 1
        is_initial = chosen >= first_initial
        onward = steps if is_initial else rng.integers(steps)
        moves = rng.permutation([True] * (onward - is_initial) + [False] * (len(at.layers) - 1 - layer))
        for is_step in [True] * is_initial + list(moves):  # an initial state is passed to the next step first
            layer += not is_step
            kernel = at.layers[layer].recurrent_kernel if is_step else at.layers[layer].input_kernel
            after = rng.integers(kernel.shape[1])
            path[kernel[unit, after]] += 1
            unit = after
        path[rng.choice(at.readout.kernel[unit])] += 1
    return paths


def _second_order(rnn: RNN, graph: path_opt.ReductionGraph, steps: int) -> Array:
    """‖κ²‖ / ‖κ¹‖ over all weights."""
    ones = jax.tree.map(jnp.ones_like, rnn)

    def metric(second_order: bool) -> Array:
        transform = path_opt.scale_by_path_norm(graph, steps, second_order=second_order, normalize=False)
        inverse, _ = transform.update(ones, transform.init(rnn), rnn)
        return 1 / jax.flatten_util.ravel_pytree(inverse)[0]

    first = metric(False)
    return jnp.linalg.norm(metric(True) - first) / jnp.linalg.norm(first)


def _rank(rows: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(rows))


def _off(found: Any, wanted: Any) -> Any:
    return abs(found - wanted).max() / abs(wanted).max()


def _short(value: Any) -> float:
    """A number to three digits: of rounding, more are another machine's."""
    return float(f"{float(value):.3g}")


def train(group: Sequence[Configuration], state: Path, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Measure the networks of a group; nothing is trained."""
    del state
    return measure(group, advanced)


def sections(rows: Rows[Configuration]) -> list[Section]:
    """Every error of every network."""
    names = ("identity", "piece", "function", "paths", "represented")
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for i, name in enumerate(names):
        errors = [max(row.result[name], 1e-18) for row in rows.fixed]
        axes.plot(np.full(len(errors), i), errors, "o", color="#0072B2", alpha=0.4)
    axes.set_yscale("log")
    axes.axhline(np.finfo(float).eps, color="#444444", linestyle="--", linewidth=1)
    axes.text(len(names) - 0.5, np.finfo(float).eps, "precision of float64", ha="right", va="bottom")
    axes.set_xticks(
        range(len(names)),
        ["affine map\nagainst network", "straight on\neach piece", "function,\nrescaled", "path values,\nrescaled",
         "function from\npath values"],
    )  # fmt: skip
    axes.set_ylabel("relative error")
    worst = max(row.result[name] for row in rows.fixed for name in names)
    off = sum(row.result["rank"] != row.result["expected"] for row in rows.fixed)
    picture = Picture(
        "exact-errors",
        "Are the identities exact?",
        figure,
        f"The largest error is {worst:.1e}; of {len(rows.fixed)} networks {off} have another rank than edges less "
        "units.",
    )
    values = {
        f"{number}": dataclasses.asdict(row.configuration) | dict(row.result) for number, row in enumerate(rows.fixed)
    }
    return [Section("exact", "Identities", "Random networks, float64.", [picture], values)]


SHAPES = (
    Configuration((6,), biases=False),
    Configuration((6,), recurrent="identity"),
    Configuration((5, 4)),
    Configuration((4, 5, 3), activation="leaky_relu"),
    Configuration((5, 4), activation="abs"),
    Configuration((12, 12)),
)


def _sized(shapes: Sequence[Configuration], seeds: int) -> Size[Configuration]:
    return Size(fixed=[dataclasses.replace(one, seed=seed) for one in shapes for seed in range(seeds)])


EXPERIMENT = Experiment(
    name="exact",
    question="Are the papers' identities exact?",
    introduction=lambda size, rows: f"{len(rows.fixed)} random networks.",
    sizes={
        "smoke": lambda: _sized([Configuration((3,), samples=256)], 2),
        "small": lambda: _sized(SHAPES, 8),
        "paper": lambda: _sized(SHAPES, 20),
    },
    train=train,
    sections=sections,
    together=lambda one: dataclasses.replace(one, seed=0),
)
