"""What every transform here does around its steps: reads the parameters once, and leaves out steps that are not finite.

A transform is written as a `Steps`: how its state begins, and how it makes the steps of weights from their gradient,
both as one `RNN` of arrays. `guarded` makes an optax transform of it. What each part computes is compiled, and kept
across calls and transforms, so that an update outside of `jax.jit` compiles once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PyTree

from maso_rnn import checks
from maso_rnn.network import RNN
from path_opt.graph import ReductionGraph, View
from path_opt.rescaling import like, wide


class GuardedState(NamedTuple):
    """The state of every transform of this package; `path_opt.summary` says in words what is in it.

    Attributes:
        inner: the transform's own state; a step left out does not touch it.
        nonfinite_gradients: how many steps had NaN or infinity in the gradient.
        skipped: how many steps were left out because parameters would have become non-finite.
    """

    inner: PyTree
    nonfinite_gradients: Int[Array, ""]
    skipped: Int[Array, ""]


class Steps(NamedTuple):
    """A transform of weights.

    Attributes:
        init: `(params, weights) -> state`, the second being the first as an RNN of arrays, or None where the first has
            no leaves, and stands for the places of all parameters in the state.
        update: `(view, gradient, state, extra) -> (steps, state)`, gradient and steps as RNNs of arrays.
    """

    init: Callable[[PyTree, RNN | None], PyTree]
    update: Callable[[View, RNN, PyTree, Mapping[str, Any]], tuple[RNN, PyTree]]


def guarded(steps: Steps, graph: ReductionGraph, name: str) -> optax.GradientTransformationExtraArgs:
    """An optax transform that needs the parameters and leaves out steps that would make them non-finite.

    Args:
        steps: what makes the steps.
        graph: of the parameters.
        name: how messages call it.

    Returns:
        A transform with the state `GuardedState`. Its `update` raises `ValueError` without parameters, or with a state
        that does not fit them.
    """
    checks.instance("graph", graph, ReductionGraph, "path_opt.reduction_graph(params)")
    shapes_of: dict[Any, list[tuple[int, ...]]] = {}  # of the state, by the structure of the parameters

    def init(params: PyTree) -> GuardedState:
        if jax.tree.leaves(params):
            view = graph.view(params)
            weights = wide(view.weights)
            inner = steps.init(view.write(weights), weights)
        else:  # so optax.tree_map_params asks where parameters are in the state
            inner = steps.init(params, None)
        return GuardedState(inner, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def update(
        updates: PyTree, state: GuardedState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, GuardedState]:
        if params is None:
            raise ValueError(f"{name} needs the parameters: call update(updates, state, params), not params=None")
        view = graph.view(params)
        gradient = view.read(updates, "updates")
        if view.structure not in shapes_of:
            shapes_of[view.structure] = [leaf.shape for leaf in jax.tree.leaves(jax.eval_shape(init, params))]
        _check_state(name, state, shapes_of[view.structure])
        moves, inner = steps.update(view, gradient, state.inner, extra)
        moves, state = _guard(view.weights, gradient, moves, inner, state)
        return view.write(moves), state

    return optax.GradientTransformationExtraArgs(init, update)


@jax.jit
def _guard(weights: RNN, gradient: RNN, moves: RNN, inner: PyTree, state: GuardedState) -> tuple[RNN, GuardedState]:
    moves = like(moves, weights)
    finite = _is_finite(jax.tree.map(jnp.add, weights, moves))
    # a learning rate of a wider dtype would widen the inner state; what is no number, as a typed key, stays as it is
    inner = jax.tree.map(lambda new, old: jnp.where(finite, _cast(new, old), old), inner, state.inner)
    state = GuardedState(inner, state.nonfinite_gradients + ~_is_finite(gradient), state.skipped + ~finite)
    return jax.tree.map(lambda move: jnp.where(finite, move, 0), moves), state


def _cast(new: Any, old: Any) -> Array:
    dtype = jnp.asarray(old).dtype
    return new if jnp.issubdtype(dtype, jax.dtypes.extended) else jnp.asarray(new).astype(dtype)


def _is_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _check_state(name: str, state: Any, shapes: list[tuple[int, ...]]) -> None:
    """A state made by `init` for parameters of these shapes, and not donated since."""
    checks.instance("state", state, GuardedState, f"{name}(...).init(params)")
    leaves = jax.tree.leaves(state)
    if [jnp.shape(leaf) for leaf in leaves] != shapes:
        raise ValueError(f"state is of another graph or transform: {name}(...).init(params) makes the one that fits")
    if any(isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer) and x.is_deleted() for x in leaves):
        raise ValueError("state has been deleted, as donated arrays are; go on with the state that update returned")


def checked_rate(value: optax.ScalarOrSchedule) -> optax.ScalarOrSchedule:
    """A learning rate: one real number or a schedule; positive and finite where it is a concrete number.

    A zero in a `jax.Array` passes too: `optax.inject_hyperparams` makes the transform anew from the value that a
    schedule has at each step, which may start from 0 or end there.
    """
    if callable(value) or not checks.is_concrete(checks.real_number("learning_rate", value)):
        return value
    is_scheduled_zero = isinstance(value, jax.Array) and float(value) == 0
    if not is_scheduled_zero and not (float(value) > 0 and math.isfinite(float(value))):
        raise ValueError(f"learning_rate must be positive and finite, got {value}; the sign of descent is built in")
    return value


def clipped(clip: Any, transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """`transform` of gradients whose norm is at most `clip`; as they come where it is None."""
    if clip is None:
        return transform
    if checks.is_concrete(clip):
        checks.number("clip", clip, above=0)
    return optax.chain(optax.clip_by_global_norm(clip), transform)
