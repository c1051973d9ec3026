"""What is refused, and in which words: shapes and dtypes always, values where they are concrete."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax


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
    """Positive and finite, where it is a concrete number; schedules and traced numbers pass.

    A zero in a `jax.Array` passes too: `optax.inject_hyperparams` makes the transform anew from the value that a
    schedule has at each step, which may start from 0 or end there.
    """
    if callable(value) or not is_concrete(value):
        return
    if isinstance(value, bool) or jnp.ndim(value):
        raise TypeError(f"learning_rate must be one number or a schedule, got {value}")
    is_scheduled_zero = isinstance(value, jax.Array) and float(value) == 0
    if not is_scheduled_zero and not (float(value) > 0 and math.isfinite(float(value))):
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
