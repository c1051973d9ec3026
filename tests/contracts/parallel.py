"""Rows of `maso_rnn.parallel`."""

import maso_rnn
from tests.contracts.network import network_and_sequence
from tests.contracts.table import Row

ROWS = (Row(maso_rnn.parallel_forward, network_and_sequence),)
