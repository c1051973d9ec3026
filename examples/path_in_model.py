"""Path space in flax: a stack of cells trained as it is, and cells inside a larger model.

First an nnx stack of ReLU cells with a linear readout under `nnx.Optimizer`: its graph needs no names. It is trained
from a start that a rescaling has moved far away, which computes the same function, and from the one drawn. Then the
same cells between an embedding and a head with layer norm: `optax.partition` gives the transform its own leaves,
and the rest to Adam. `path_opt.summary` says what was skipped or crossed.

Run it with `python examples/path_in_model.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

import path_opt
from maso_rnn import Layer, Readout

TOKENS, WIDTH, HIDDEN, FEATURES, TIME = 5, 4, (8, 6), 6, 12


class NnxStack(nnx.Module):
    """ReLU cells and a linear readout: logits (batch, 2) of one-hot tokens (batch, time, token)."""

    def __init__(self, rngs: nnx.Rngs):
        sizes = zip((TOKENS, *HIDDEN), HIDDEN, strict=False)
        self.cells = nnx.List([nnx.SimpleCell(a, b, activation_fn=nnx.relu, rngs=rngs) for a, b in sizes])
        self.readout = nnx.Linear(HIDDEN[-1], 2, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """The logits (batch, 2) of tokens (batch, time)."""
        xs = jax.nn.one_hot(tokens, TOKENS)
        for cell in self.cells:
            xs = nnx.RNN(cell)(xs)
        return self.readout(xs[:, -1])


class NnxModel(nnx.Module):
    """Embedding, two ReLU cells, and a head: a dense readout, layer norm, logits."""

    def __init__(self, rngs: nnx.Rngs):
        self.embed = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
        sizes = zip((WIDTH, *HIDDEN), HIDDEN, strict=False)
        self.cells = nnx.List([nnx.SimpleCell(a, b, activation_fn=nnx.relu, rngs=rngs) for a, b in sizes])
        self.readout = nnx.Linear(HIDDEN[-1], FEATURES, rngs=rngs)
        self.norm = nnx.LayerNorm(FEATURES, rngs=rngs)
        self.logits = nnx.Linear(FEATURES, 2, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """The logits (batch, 2) of tokens (batch, time)."""
        xs = self.embed(tokens)
        for cell in self.cells:
            xs = nnx.RNN(cell)(xs)
        return self.logits(nnx.relu(self.norm(self.readout(xs[:, -1]))))


class LinenModel(nn.Module):
    """The same in linen."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """The logits (batch, 2) of tokens (batch, time)."""
        xs = nn.Embed(TOKENS, WIDTH, name="embed")(tokens)
        for l, hidden in enumerate(HIDDEN):
            xs = nn.RNN(nn.SimpleCell(hidden, activation_fn=nn.relu, name=f"cell{l}"))(xs)
        xs = nn.Dense(FEATURES, name="readout")(xs[:, -1])
        return nn.Dense(2, name="logits")(nn.relu(nn.LayerNorm(name="norm")(xs)))


def nnx_model() -> tuple[Any, Callable[..., jax.Array], path_opt.ReductionGraph]:
    """Parameters, `(params, tokens) -> logits`, and the graph of the part that is trained in path space."""
    definition, params = nnx.split(NnxModel(nnx.Rngs(0)), nnx.Param)
    name = "cells/{}/dense_{}/{}".format
    layers = [Layer(name(l, "i", "kernel"), name(l, "h", "kernel"), name(l, "i", "bias")) for l in range(len(HIDDEN))]
    readout = Readout("readout/kernel", "readout/bias")
    graph = path_opt.reduction_graph_from_paths(params, layers, readout, activation=nnx.relu)
    return params, lambda params, tokens: nnx.merge(definition, params)(tokens), graph


def linen_model() -> tuple[Any, Callable[..., jax.Array], path_opt.ReductionGraph]:
    """The same in linen."""
    model = LinenModel()
    params = model.init(jax.random.key(0), jnp.zeros((1, TIME), int))["params"]
    layers = [Layer(f"cell{l}/i/kernel", f"cell{l}/h/kernel", f"cell{l}/i/bias") for l in range(len(HIDDEN))]
    graph = path_opt.reduction_graph_from_paths(
        params, layers, Readout("readout/kernel", "readout/bias"), activation=nn.relu
    )
    return params, lambda params, tokens: model.apply({"params": params}, tokens), graph


def transforms(graph: path_opt.ReductionGraph) -> dict[str, optax.GradientTransformation]:
    """Every transform of `path_opt`, for the leaves of `graph`."""
    return {
        "in_path_space": path_opt.in_path_space(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(3e-3)), graph),
        "path_space_sgd": path_opt.path_space_sgd(3e-3, graph=graph, clip=1.0),
        "path_space_adam": path_opt.path_space_adam(3e-3, graph=graph),
        "scale_by_path_norm": optax.chain(path_opt.scale_by_path_norm(graph, TIME), optax.scale(-1e-4)),
        "path_sgd": path_opt.path_sgd(1e-4, graph=graph, num_steps=TIME),
        "equivariant_adam": path_opt.equivariant_adam(1e-2, graph=graph),
    }


def partitioned(
    params: Any, graph: path_opt.ReductionGraph, transform: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`transform` for the leaves that the graph names, Adam for the rest of the model."""

    def label(path: tuple[Any, ...], _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        return "rnn" if name in graph.shapes else "rest"

    labels = jax.tree_util.tree_map_with_path(label, params)
    return optax.partition({"rnn": transform, "rest": optax.adam(1e-2)}, labels)


def data() -> tuple[jax.Array, jax.Array]:
    """Tokens (sequence, time), and which of two of them each sequence has more of."""
    tokens = jax.random.randint(jax.random.key(1), (64, TIME), 0, TOKENS)
    return tokens, ((tokens == 0).sum(axis=1) > (tokens == 1).sum(axis=1)).astype(int)


def train(
    params: Any, apply: Callable[..., jax.Array], optimizer: optax.GradientTransformation, *, steps: int = 60
) -> tuple[Any, jax.Array, Any]:
    """The trained parameters, the loss of every step, and the optimizer's state."""
    tokens, labels = data()

    def loss(params: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, tokens), labels).mean()

    def step(carry: tuple[Any, Any], _: None) -> tuple[Any, jax.Array]:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    start = (params, optimizer.init(params))
    (params, state), losses = jax.jit(lambda start: jax.lax.scan(step, start, length=steps))(start)
    return params, losses, state


def train_stack(
    make: Callable[[path_opt.ReductionGraph], Any], log_scale: float, *, steps: int = 60
) -> tuple[Any, ...]:
    """The losses of an nnx stack under `nnx.Optimizer`, rescaled at the start, and what the transform says of them."""
    model = NnxStack(nnx.Rngs(0))
    graph = path_opt.reduction_graph(model)
    scales = [log_scale * jnp.linspace(-1, 1, width) for width in HIDDEN]
    nnx.update(model, path_opt.rescale(nnx.state(model, nnx.Param), graph, scales))
    optimizer = nnx.Optimizer(model, make(graph), wrt=nnx.Param)
    tokens, labels = data()

    @nnx.jit
    def step(model: NnxStack, optimizer: Any) -> jax.Array:
        def loss(model: NnxStack) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(tokens), labels).mean()

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    losses = [float(step(model, optimizer)) for _ in range(steps)]
    return losses, path_opt.summary(optimizer.opt_state)


def main() -> None:
    """Train the stack from two starts, then the model in each library; print what became of them."""
    for name, make, start, log_scale in (
        ("equivariant_adam", lambda graph: path_opt.equivariant_adam(1e-2, graph=graph), "rescaled", 3.0),
        ("path_space_adam", lambda graph: path_opt.path_space_adam(3e-3, graph=graph, clip=1.0), "as drawn", 0.0),
    ):
        losses, said = train_stack(make, log_scale)
        print(f"stack, {start}, {name}: loss {losses[0]:.3f} -> {losses[-1]:.3f}\n{said}")
    params, apply, graph = nnx_model()
    optimizer = partitioned(params, graph, transforms(graph)["path_space_sgd"])
    _, trained, state = train(params, apply, optimizer)
    print(f"part of a model, path_space_sgd: loss {trained[0]:.3f} -> {trained[-1]:.3f}\n{path_opt.summary(state)}")


if __name__ == "__main__":
    main()
