"""Path space inside a larger model: an RNN between an embedding and a head with layer norm, in flax nnx and linen.

The model reads a sequence of tokens and says which of two it saw more often. Its ReLU cells and the dense layer that
reads their last state are trained by a transform of `path_opt`, everything else by Adam: `optax.partition` gives each
its own leaves and masks the others.

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
    layers = [
        Layer(f"cells/{l}/dense_i/kernel/value", f"cells/{l}/dense_h/kernel/value", f"cells/{l}/dense_i/bias/value")
        for l in range(len(HIDDEN))
    ]
    readout = Readout("readout/kernel/value", "readout/bias/value")
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
        "path_space_sgd": path_opt.path_space_sgd(3e-3, graph=graph),
        "path_space_adam": path_opt.path_space_adam(3e-3, graph=graph),
        "scale_by_path_norm": optax.chain(path_opt.scale_by_path_norm(graph, TIME), optax.scale(-1e-4)),
        "path_sgd": path_opt.path_sgd(1e-4, graph=graph, num_steps=TIME),
        "equivariant_adam": path_opt.equivariant_adam(1e-2, graph=graph),
    }


def partitioned(
    params: Any, graph: path_opt.ReductionGraph, transform: optax.GradientTransformation
) -> optax.GradientTransformation:
    """`transform` for the leaves that the graph names, Adam for the rest of the model."""
    named = set(jax.tree.leaves(graph.names))
    labels = jax.tree_util.tree_map_with_path(
        lambda path, _: "rnn" if jax.tree_util.keystr(path, simple=True, separator="/") in named else "rest", params
    )
    return optax.partition({"rnn": transform, "rest": optax.adam(1e-2)}, labels)


def train(
    params: Any, apply: Callable[..., jax.Array], optimizer: optax.GradientTransformation, *, steps: int = 60
) -> tuple[Any, jax.Array]:
    """The trained parameters, and the loss of every step."""
    tokens = jax.random.randint(jax.random.key(1), (64, TIME), 0, TOKENS)
    labels = ((tokens == 0).sum(axis=1) > (tokens == 1).sum(axis=1)).astype(int)

    def loss(params: Any) -> jax.Array:
        return optax.softmax_cross_entropy_with_integer_labels(apply(params, tokens), labels).mean()

    def step(carry: tuple[Any, Any], _: None) -> tuple[Any, jax.Array]:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    start = (params, optimizer.init(params))
    (params, _), losses = jax.jit(lambda start: jax.lax.scan(step, start, length=steps))(start)
    return params, losses


def main() -> None:
    """Train the model in each library with each transform, and print what becomes of the loss."""
    for library, make in (("nnx", nnx_model), ("linen", linen_model)):
        params, apply, graph = make()
        for name, transform in transforms(graph).items():
            _, losses = train(params, apply, partitioned(params, graph, transform))
            print(f"{library:6} {name:20} loss {losses[0]:.3f} -> {losses[-1]:.3f}")


if __name__ == "__main__":
    main()
