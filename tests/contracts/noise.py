"""Rows of `maso_rnn.noise`."""

import jax.numpy as jnp
import optax

import maso_rnn
from tests.contracts.network import network_and_sequence
from tests.contracts.table import Row


def _penalty(rnn, xs, scale):
    def loss(z):
        return optax.softmax_cross_entropy_with_integer_labels(z, 2)

    return maso_rnn.noise_penalty(rnn, xs, scale=scale, loss=loss)


def _penalised(key, dtype):
    return (*network_and_sequence(key, dtype), jnp.asarray(0.5, dtype))


ROWS = (
    Row(
        maso_rnn.random_initial_state,
        lambda key, dtype: (key, (jnp.ones(3, dtype), jnp.zeros((2, 2), dtype)), jnp.asarray(0.1, dtype)),
        batched=(0,),
        gradient=2,
    ),
    Row(maso_rnn.noise_penalty, _penalised, call=_penalty, batched=(1, 2)),
    Row(maso_rnn.noise_penalty, _penalised, call=_penalty, batched=(1, 2), gradient=2, case="in the scale"),
)
