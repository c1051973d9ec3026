"""Every affine piece on a line or a plane through input space, found exactly.

Along a line x(s) = start + s (stop - start) a piecewise-affine network is itself piecewise affine in s. The walk
carries the state at both ends and at every breakpoint found so far through time. Between neighbouring points all
pre-activations are affine, so a unit whose pre-activation lies on different sides of a kink at the two crosses it once,
at a place that the two values give; the crossing becomes a new point. After the last step of the last layer the points
are all the breakpoints there are. A plane is cut the same way, into convex polygons that carry the state at their
corners and are split along the line on which a unit is on its kink.

These are host functions, NumPy in float64 whatever the network's dtype. A pre-activation counts as on its kink where
it is nearer than the rounding of the sum that it is, by the size of each term, so that the scale of inputs and units is
all the same; crossings that coincide are one breakpoint, and a unit that rests on its kink makes none and has the lower
code, as everywhere in this package. `walk_line_on_device` goes from piece to piece instead, in JAX: solve for the
nearest crossing of the present piece, step onto it, change the code.

`decisions` and `decision_boundary` read off a walk and a plane where the largest output changes.
"""

from maso_rnn.slices.decisions import Boundary, Decisions, decision_boundary, decisions
from maso_rnn.slices.line import LineWalk, walk_line
from maso_rnn.slices.line_on_device import walk_line_on_device
from maso_rnn.slices.maps import PieceMaps, affine_maps_along
from maso_rnn.slices.plane import PlanePartition, partition_plane

__all__ = [
    "Boundary",
    "Decisions",
    "LineWalk",
    "PieceMaps",
    "PlanePartition",
    "affine_maps_along",
    "decision_boundary",
    "decisions",
    "partition_plane",
    "walk_line",
    "walk_line_on_device",
]
