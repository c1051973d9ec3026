"""Rows of `maso_rnn.bounds`."""

import maso_rnn
from tests.contracts.network import network_and_sequence
from tests.contracts.table import Row

_FORWARD_ONLY = "bounds run in loops of as many steps as there are to go back, which have no reverse mode"

ROWS = (
    Row(
        maso_rnn.output_bounds,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.output_bounds(rnn, xs, 0.1),
        gradient=None,
        why=_FORWARD_ONLY,
    ),
    Row(
        maso_rnn.certified_radius,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.certified_radius(rnn, xs, 1, norm="linf", tries=3),
        gradient=None,
        why=_FORWARD_ONLY,
        tolerance=1e-6,  # bisection compares numbers that roundings may part
    ),
)
