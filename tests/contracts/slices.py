"""Rows of `maso_rnn.slices`."""

import maso_rnn
from tests.contracts.network import network_and_sequence
from tests.contracts.table import Row

ROWS = (
    Row(
        maso_rnn.walk_line_on_device,
        network_and_sequence,
        call=lambda rnn, xs: maso_rnn.walk_line_on_device(rnn, xs, -xs, max_regions=40),
        gradient=None,
        why="a while_loop of unknown length has no reverse mode",
    ),
)

HOST = {
    "maso_rnn.walk_line": "a host walk in float64; walk_line_on_device is its traced form",
    "maso_rnn.partition_plane": "a host walk in float64",
    "maso_rnn.decisions": "reads a whole walk in NumPy",
    "maso_rnn.decision_boundary": "reads a plane's polygons, of which there is no traced form",
    "maso_rnn.affine_maps_along": "updates along a host walk; jax.vmap of affine_map is its traced form",
}
