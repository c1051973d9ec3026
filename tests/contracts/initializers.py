"""Rows of `maso_rnn.initializers`: what is tested is the initializer that each function makes."""

import jax.numpy as jnp

import maso_rnn
from tests.contracts.table import Row


def _row(function, init, shape=(5, 5), case="", tolerance=1e-12):
    return Row(
        function,
        lambda key, dtype: (key, jnp.zeros((), dtype)),
        call=lambda key, like: init(key, shape, like.dtype),
        batched=(0,),
        gradient=None,
        tolerance=tolerance,
        why="a random draw has no gradient",
        case=case,
    )


# a base draw that is fused differently is off by a rounding, which its eigenvectors magnify
FUSED = 1e-10

ROWS = (
    _row(maso_rnn.eigen, maso_rnn.eigen(0.9), tolerance=FUSED),
    _row(maso_rnn.eigen, maso_rnn.eigen(0.9, basis="orthogonal", max_phase=1.0), case="orthogonal"),
    _row(maso_rnn.eigen, maso_rnn.eigen(0.9, basis="eigenvectors"), case="eigenvectors", tolerance=FUSED),
    _row(maso_rnn.np_rnn, maso_rnn.np_rnn()),
    _row(maso_rnn.spectral_radius, maso_rnn.spectral_radius(), tolerance=FUSED),
    _row(maso_rnn.per_gate, maso_rnn.per_gate(maso_rnn.eigen(), 3), shape=(4, 12), tolerance=FUSED),
)
