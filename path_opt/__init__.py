"""Training ReLU RNNs in parameters that positive rescaling leaves alone, as optax transforms.

Which weights are edges between which units, and which rescalings leave the function alone?
    `reduction_graph`, `reduction_graph_from_paths`, `ReductionGraph`, `Skeleton`; `rescale`.
From which rescaling should training start?
    `balance`, `condition`.
What are the coordinates that no rescaling changes, and how is a network trained in them?
    `path_values`, `from_path_values`, `PathValues`, `set_skeleton`;
    `in_path_space`, `path_space_sgd`, `path_space_adam`, `PathSpaceState`.
How large are the network's paths, and how is it trained in their geometry?
    `path_norm`, `scale_by_path_norm`, `path_sgd`, `PathNormState`.
How does Adam become indifferent to rescaling?
    `equivariant_adam`.
What went wrong in training?
    `summary`; `GuardedState`, the state of every transform here.

Parameters are a pytree of any form that has the leaves named by the graph; an activation it may hold is not looked at.
Arrays and numbers may be NumPy's as well as JAX's. Shapes and dtypes that do not fit are refused always, values that
are not finite or out of range where they are known; traced ones show in the result, as NaN, infinity or a flag,
wherever it depends on them.

Drawings of small graphs (`path_opt.plots`) need the `report` extra and are imported by name.
"""

from path_opt.conditioning import condition
from path_opt.coordinates import (
    PathSpaceState,
    PathValues,
    from_path_values,
    in_path_space,
    path_space_adam,
    path_space_sgd,
    path_values,
    set_skeleton,
)
from path_opt.equivariant import equivariant_adam
from path_opt.graph import ReductionGraph, Skeleton, reduction_graph, reduction_graph_from_paths
from path_opt.guard import GuardedState
from path_opt.norms import PathNormState, path_norm, path_sgd, scale_by_path_norm
from path_opt.progress import summary
from path_opt.rescaling import balance, rescale

__all__ = [
    "GuardedState",
    "PathNormState",
    "PathSpaceState",
    "PathValues",
    "ReductionGraph",
    "Skeleton",
    "balance",
    "condition",
    "equivariant_adam",
    "from_path_values",
    "in_path_space",
    "path_norm",
    "path_sgd",
    "path_space_adam",
    "path_space_sgd",
    "path_values",
    "reduction_graph",
    "reduction_graph_from_paths",
    "rescale",
    "scale_by_path_norm",
    "set_skeleton",
    "summary",
]
