"""Rows of `maso_rnn.counterfactuals`."""

import maso_rnn
from tests.contracts.network import network_and_sequence
from tests.contracts.table import Row

ROWS = (
    Row(
        maso_rnn.nearest_change,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.nearest_change(rnn, xs, 0, max_projections=8),
        gradient=None,
        why="a while_loop of unknown length has no reverse mode",
    ),
)
