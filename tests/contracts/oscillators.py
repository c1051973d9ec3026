"""Rows of `maso_rnn.oscillators`."""

import jax.numpy as jnp

import maso_rnn
from tests.contracts.table import Row


def _made(key, dtype):
    return maso_rnn.cornn(key, 2, 3, 1, dt=0.1, gamma=1.0, epsilon=0.5, dtype=dtype)


ROWS = (
    Row(
        maso_rnn.cornn,
        lambda key, dtype: (key, jnp.zeros((), dtype)),
        call=lambda key, like: _made(key, like.dtype).params,
        batched=(0,),
        gradient=None,
        why="a random draw has no gradient",
    ),
    Row(
        maso_rnn.cornn_bounds,
        lambda key, dtype: (_made(key, dtype),),
        call=lambda cell: maso_rnn.cornn_bounds(cell, 5),
    ),
)
