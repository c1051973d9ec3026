"""What is refused, and in which words; and what every transform here does with numbers that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int, PyTree


class StepCounts(NamedTuple):
    """What went wrong in training so far.

    Attributes:
        nonfinite_gradients: steps that had NaN or infinity in the gradient.
        skipped: steps that would have made parameters non-finite and were left out.
    """

    nonfinite_gradients: Int[Array, ""]
    skipped: Int[Array, ""]


def is_concrete(*values: Any) -> bool:
    """Whether no leaf of `values` is traced, so that its numbers can be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def floating(name: str, value: Any) -> None:
    """A floating array."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{name} must be an array, got {type(value).__name__}; wrap it in jax.numpy.asarray")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {value.dtype}; convert it, as by .astype(float)")


def learning_rate(value: optax.ScalarOrSchedule) -> None:
    """Positive and not NaN, where it is a concrete number; schedules and traced numbers pass."""
    if callable(value) or not is_concrete(value):
        return
    if isinstance(value, bool) or jnp.ndim(value):
        raise TypeError(f"learning_rate must be one number or a schedule, got {value}")
    if not (float(value) > 0 and math.isfinite(float(value))):
        raise ValueError(f"learning_rate must be positive and finite, got {value}; the sign of descent is built in")


def positive_integer(name: str, value: Any) -> None:
    """A Python integer of at least 1: it fixes shapes or the length of a loop, so it cannot be traced."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{name} must be an integer, got {type(value).__name__}; under optax.inject_hyperparams name it in "
            f'static_args=("{name}",)'
        )
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def require_params(transform: str, params: PyTree | None) -> None:
    """The parameters, without which there is no update."""
    if params is None:
        raise ValueError(f"{transform} needs the parameters: call update(gradients, state, params), not params=None")


def is_finite(*trees: PyTree) -> Bool[Array, ""]:
    """Whether every number of every leaf is finite."""
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(trees)]
    return jnp.stack(leaves).all()


def no_counts() -> StepCounts:
    """Before the first step."""
    zero = jnp.zeros((), jnp.int32)
    return StepCounts(zero, zero)


def finite_step(
    counts: StepCounts, gradients: PyTree, params: PyTree, updates: PyTree, kept: PyTree, new: PyTree
) -> tuple[PyTree, PyTree, StepCounts]:
    """The step, if the parameters after it are finite: else no update, and the state as it was.

    Args:
        counts: before this step.
        gradients: of this step.
        params: before this step.
        updates: what is to be added to `params`.
        kept: the state before this step.
        new: the state after it.

    Returns:
        The updates, the state and the counts after this step.
    """
    finite = is_finite(jax.tree.map(jnp.add, params, updates))
    choose: Callable[[Array, Array], Array] = lambda taken, left: jnp.where(finite, taken, left)  # noqa: E731 typed
    updates = jax.tree.map(lambda u: jnp.where(finite, u, 0), updates)
    counted = StepCounts(
        counts.nonfinite_gradients + ~is_finite(gradients),
        counts.skipped + ~finite,
    )
    return updates, jax.tree.map(choose, new, kept), counted
