"""What every transform here does with numbers that are not finite: the step is left out, and counted."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PyTree


class GuardedState(NamedTuple):
    """The state of every transform of this package.

    Attributes:
        inner: the transform's own state; a step left out does not touch it.
        nonfinite_gradients: how many steps had NaN or infinity in the gradient.
        skipped: how many steps were left out because parameters would have become non-finite.
    """

    inner: PyTree
    nonfinite_gradients: Int[Array, ""]
    skipped: Int[Array, ""]


def guarded(transform: optax.GradientTransformation, name: str) -> optax.GradientTransformationExtraArgs:
    """`transform`, except that it needs the parameters and leaves out steps that would make them non-finite.

    Args:
        transform: what makes the steps.
        name: how messages call it.

    Returns:
        A transform with the state `GuardedState`. Its `update` raises `ValueError` without parameters.
    """
    transform = optax.with_extra_args_support(transform)

    def init(params: PyTree) -> GuardedState:
        zero = jnp.zeros((), jnp.int32)
        return GuardedState(transform.init(params), zero, zero)

    def update(
        updates: PyTree, state: GuardedState, params: PyTree | None = None, **extra: Any
    ) -> tuple[PyTree, GuardedState]:
        if params is None:
            raise ValueError(f"{name} needs the parameters: call update(updates, state, params), not params=None")
        steps, inner = transform.update(updates, state.inner, params, **extra)
        # a learning rate of a wider dtype would widen both
        steps, inner = like(steps, params), like(inner, state.inner)
        finite = _is_finite(jax.tree.map(jnp.add, params, steps))
        steps = jax.tree.map(lambda step: jnp.where(finite, step, 0), steps)
        inner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), inner, state.inner)
        return steps, GuardedState(
            inner,
            state.nonfinite_gradients + ~_is_finite(updates),
            state.skipped + ~finite,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def like(tree: PyTree, other: PyTree) -> PyTree:
    """The leaves of `tree` in the dtypes of those of `other`."""
    return jax.tree.map(lambda leaf, model: jnp.asarray(leaf).astype(jnp.asarray(model).dtype), tree, other)


def _is_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
