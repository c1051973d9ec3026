"""The networks that the tests of `path_opt` share, so that few shapes are compiled."""

import jax
import jax.numpy as jnp

import maso_rnn
import path_opt

# input, hidden, output sizes; biases; learned initial state: unequal widths, 1 to 4 layers, d = 1, K = 1
ARCHITECTURES = {
    "one-layer": (2, (4,), 3, True, True),
    "one-input-one-output": (1, (3,), 1, False, False),
    "narrowing": (3, (5, 2), 2, True, False),
    "widening": (1, (2, 4), 1, True, True),
    "three-layers": (2, (3, 4, 2), 3, False, True),
    "four-layers": (2, (3, 2, 4, 3), 2, True, True),
}


def network(name, key=None, dtype=jnp.float64, activation="relu"):
    inputs, hidden, outputs, biases, learned = ARCHITECTURES[name]
    init_key, state_key = jax.random.split(jax.random.key(7) if key is None else key)
    rnn = maso_rnn.init(
        init_key,
        inputs,
        hidden,
        outputs,
        activation=activation,
        bias_init=jax.nn.initializers.normal(0.3) if biases else None,
        dtype=dtype,
    )
    if learned:
        keys = jax.random.split(state_key, len(hidden))
        rnn = rnn.replace(
            initial=tuple(jax.random.normal(k, (width,), dtype) for k, width in zip(keys, hidden, strict=True))
        )
    return rnn


def log_normal(graph, key, sd=1.5):
    """Logarithms of a rescaling: normal with that standard deviation."""
    keys = jax.random.split(key, len(graph.widths))
    return tuple(sd * jax.random.normal(k, (width,)) for k, width in zip(keys, graph.widths, strict=True))


def flat(tree):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


def sequence(inputs, time=12, seed=3):
    return jax.random.normal(jax.random.key(seed), (time, inputs))


def graph_of(rnn, skeleton="largest"):
    return path_opt.reduction_graph(rnn, skeleton=skeleton)
