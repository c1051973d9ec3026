"""What the state of a transform says about the training so far, in words."""

from __future__ import annotations

import jax
import numpy as np
from jaxtyping import PyTree

from maso_rnn import checks
from path_opt.coordinates import PathSpaceState
from path_opt.guard import GuardedState
from path_opt.norms import PathNormState


def summary(state: PyTree) -> str:
    """What was skipped, crossed or not finite in training so far: one line for each, to be printed.

    Args:
        state: of a transform of this package, or of anything that holds one: a chain, `optax.partition`,
            `optax.MultiSteps`, a `TrainState`, the `opt_state` of an `nnx.Optimizer`. Of one that `jax.vmap` made,
            steps are counted over all its members.

    Returns:
        The lines, of every such state in it.

    Raises:
        ValueError: if there is none in it.
        TypeError: if it is traced.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> transform = path_opt.equivariant_adam(1e-3, graph=path_opt.reduction_graph(rnn))
        >>> print(summary(transform.init(rnn)))
        no step was skipped, and every gradient was finite
    """
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, GuardedState))
    found = [node for node in nodes if isinstance(node, GuardedState)]
    if not found:
        raise ValueError(f"state must hold one of a path_opt transform, got {type(state).__name__}")
    checks.known("call summary outside of jax.jit", state=found)
    return "\n".join(line for node in found for line in _lines(node))


def _lines(state: GuardedState) -> list[str]:
    skipped, nonfinite = _count(state.skipped), _count(state.nonfinite_gradients)
    lines = [
        f"{skipped:g} steps were skipped, since weights would have become infinite or NaN" * (skipped > 0),
        f"{nonfinite:g} gradients held infinity or NaN" * (nonfinite > 0),
    ]
    if not skipped and not nonfinite:
        lines = ["no step was skipped, and every gradient was finite"]
    if isinstance(state.inner, PathSpaceState):
        smallest = _numbers(state.inner.smallest_skeleton).min()
        lines += [
            f"{_count(state.inner.crossings):g} path values of skeleton edges crossed zero, and flipped their unit",
            f"the smallest skeleton weight so far is {smallest:.3g}; steps grow as its inverse",
        ]
    if isinstance(state.inner, PathNormState):
        lines.append(f"{_count(state.inner.step):g} steps were divided by the path metric")
    return [line for line in lines if line]


def _count(counter: PyTree) -> int:
    return int(_numbers(counter).sum())


def _numbers(field: PyTree) -> np.ndarray:
    """A field's value, or those of all members; nnx keeps it in a variable."""
    (value,) = jax.tree.leaves(field)
    return np.asarray(value)
