"""Rows of `maso_rnn.network`, and the network and data that other rows share."""

import jax
import jax.numpy as jnp

import maso_rnn
from tests.contracts.table import Row

SIZES = (2, (5, 4), 3)  # input, hidden of two layers, output
TIME = 6


def network(key, dtype, *, activation=maso_rnn.leaky_relu(0.3)):
    """A two-layer network with biases and a learned initial state, none of whose units is ever dead."""
    init_key, state_key = jax.random.split(key)
    rnn = maso_rnn.init(
        init_key,
        SIZES[0],
        SIZES[1],
        SIZES[2],
        bias_init=jax.nn.initializers.normal(0.3),
        activation=activation,
        dtype=dtype,
    )
    states = [
        jax.random.normal(k, (width,), dtype) for k, width in zip(jax.random.split(state_key), SIZES[1], strict=True)
    ]
    return rnn.replace(initial=tuple(states))


def sequence(key, dtype):
    return jax.random.normal(key, (TIME, SIZES[0]), dtype)


def network_and_sequence(key, dtype):
    """The same network for every key, so that only the sequence is batched."""
    return network(jax.random.key(1), dtype), sequence(key, dtype)


ROWS = (
    Row(maso_rnn.forward, network_and_sequence),
    Row(maso_rnn.last_output, network_and_sequence),
    Row(maso_rnn.trajectory, network_and_sequence),
    Row(maso_rnn.initial_state, lambda key, dtype: (network(key, dtype),)),
    Row(
        maso_rnn.init,
        lambda key, dtype: (key, jnp.zeros((), dtype)),
        call=lambda key, like: maso_rnn.init(key, *SIZES, dtype=like.dtype),
        batched=(0,),
        gradient=None,
        why="a random draw has no gradient",
    ),
)

HOST = {
    "maso_rnn.activation": "looks a name up",
    "maso_rnn.leaky_relu": "makes a static activation from a number",
}
