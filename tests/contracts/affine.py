"""Rows of `maso_rnn.affine`."""

import jax
import jax.numpy as jnp

import maso_rnn
from tests.contracts.network import network_and_sequence, sequence
from tests.contracts.table import Row


def _map_and_sequence(key, dtype):
    rnn, xs = network_and_sequence(key, dtype)
    return maso_rnn.affine_map(rnn, xs), xs


def _cell(h, x):
    return jnp.tanh(0.5 * h + x.sum())


def _carry_and_sequence(key, dtype):
    return jnp.full(3, 0.1, dtype), sequence(key, dtype)


def _linearize(h0, xs):
    return maso_rnn.linearize(_cell, lambda h: h[:2], h0, xs)


def _linearization_error(h0, xs):
    return maso_rnn.linearization_error(_linearize(h0, 0.5 * xs), _cell, lambda h: h[:2], h0, xs)


ROWS = (
    Row(maso_rnn.affine_map, network_and_sequence),
    Row(
        maso_rnn.affine_map,
        lambda key, dtype: (*network_and_sequence(key, dtype), jax.random.randint(key, (), 0, 6)),
        call=lambda rnn, xs, step: maso_rnn.affine_map(rnn, xs, step=step),
        batched=(1, 2),
        case="traced step",
    ),
    Row(maso_rnn.affine_maps, network_and_sequence),
    Row(maso_rnn.match, _map_and_sequence, batched=(0, 1), gradient=1),
    Row(
        maso_rnn.template_margin,
        lambda key, dtype: (*_map_and_sequence(key, dtype), jnp.asarray(1)),
        batched=(0, 1),
        gradient=1,
    ),
    Row(maso_rnn.linearize, _carry_and_sequence, call=_linearize, gradient=1),
    Row(maso_rnn.linearization_error, _carry_and_sequence, call=_linearization_error, gradient=1),
)
