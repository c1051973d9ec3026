"""Rows of `maso_rnn.attribution`."""

import jax
import jax.numpy as jnp

import maso_rnn
from tests.contracts.network import network_and_sequence, sequence
from tests.contracts.table import Row


def _step(weights, h, x):
    return jnp.tanh(h @ weights + x.sum())


def _read(weights, h):
    return h[:2]


def _cell_and_sequence(key, dtype):
    weights = jax.random.normal(jax.random.key(1), (3, 3), dtype)
    return maso_rnn.Cell(weights, _step, _read, jnp.zeros(3, dtype)), sequence(key, dtype)


ROWS = (
    Row(
        maso_rnn.integrated_gradients_on_device,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.integrated_gradients_on_device(rnn, xs, -xs, max_regions=40),
        gradient=None,
        why="a while_loop of unknown length has no reverse mode",
    ),
    Row(
        maso_rnn.integrated_gradients_by_quadrature,
        _cell_and_sequence,
        call=lambda cell, xs: maso_rnn.integrated_gradients_by_quadrature(cell, xs, -xs),
        gradient=None,
        why="a while_loop of unknown length has no reverse mode",
    ),
)

HOST = {
    "maso_rnn.integrated_gradients": "along a host walk in float64; integrated_gradients_on_device is its traced form",
}
