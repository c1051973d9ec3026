"""Rows of `maso_rnn.adapters`."""

import maso_rnn
from tests.contracts.network import network_and_sequence
from tests.contracts.table import Row

ROWS = (
    Row(
        maso_rnn.cell,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.linearize(maso_rnn.cell(rnn), xs),
    ),
)
