"""Rows of `maso_rnn.regions`."""

import jax
import jax.numpy as jnp

import maso_rnn
from tests.contracts.network import network_and_sequence
from tests.contracts.table import Row

NO_SLOPE = "codes are whole numbers"


def _codes(rnn, xs):
    return maso_rnn.trajectory(rnn, xs).codes


def _codes_of_three(rnn, xs):
    return jax.vmap(_codes, (None, 0))(rnn, jnp.stack([xs, -xs, xs]))


ROWS = (
    Row(
        maso_rnn.hamming,
        network_and_sequence,
        # codes have no dtype to hand on
        call=lambda rnn, xs: maso_rnn.hamming(_codes(rnn, xs), _codes(rnn, -xs)).astype(xs.dtype),
        gradient=None,
        why=NO_SLOPE,
    ),
    Row(
        maso_rnn.pack,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.pack(_codes(rnn, xs)),
        gradient=None,
        why=NO_SLOPE,
    ),
    Row(
        maso_rnn.unpack,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.unpack(maso_rnn.pack(_codes(rnn, xs)), rnn),
        gradient=None,
        why=NO_SLOPE,
    ),
    Row(
        maso_rnn.count_regions,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.count_regions(_codes_of_three(rnn, xs)),
        gradient=None,
        why=NO_SLOPE,
    ),
    Row(maso_rnn.doubtful_codes, network_and_sequence, gradient=None, why="a count"),
    Row(maso_rnn.boundary_distance, network_and_sequence),
    Row(maso_rnn.boundary_distance, network_and_sequence, gradient=1, case="in the input"),
)
