"""The spline view of recurrent networks: which affine pieces an RNN is made of.

The network and its pieces:
    `init`, `RNN`, `Layer`, `Readout`, `forward`, `trajectory`, `initial_state`;
    `PiecewiseAffine`, `activation`, `relu`, `leaky_relu`, `abs`, `hard_tanh`, `identity`.
Which affine map is it around this input, and does its template match?
    `affine_map`, `affine_maps`, `match`, `template_margin`; any other cell: `linearize`, `linearization_error`.

Which region is this, how far is its wall, and how many are there?
    `hamming`, `pack`, `unpack`, `count_regions`, `boundary_distance`.

The pictures (`maso_rnn.plots`) and the report (`maso_rnn.report`) need the `report` extra and are imported by name.
"""

from maso_rnn.activations import (
    PiecewiseAffine,
    abs,
    activation,
    hard_tanh,
    identity,
    leaky_relu,
    relu,
)
from maso_rnn.affine import (
    AffineMap,
    Linearization,
    affine_map,
    affine_maps,
    linearization_error,
    linearize,
    match,
    template_margin,
)
from maso_rnn.network import (
    RNN,
    Layer,
    Readout,
    Trajectory,
    forward,
    init,
    initial_state,
    trajectory,
)
from maso_rnn.regions import (
    RegionCounts,
    boundary_distance,
    count_regions,
    hamming,
    pack,
    unpack,
)

__all__ = [
    "RNN",
    "AffineMap",
    "Layer",
    "Linearization",
    "PiecewiseAffine",
    "Readout",
    "RegionCounts",
    "Trajectory",
    "abs",
    "activation",
    "affine_map",
    "affine_maps",
    "boundary_distance",
    "count_regions",
    "forward",
    "hamming",
    "hard_tanh",
    "identity",
    "init",
    "initial_state",
    "leaky_relu",
    "linearization_error",
    "linearize",
    "match",
    "pack",
    "relu",
    "template_margin",
    "trajectory",
    "unpack",
]
