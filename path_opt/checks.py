"""What is refused, and in which words: shapes and dtypes always, values where they are concrete."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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


def finite(name: str, value: Any) -> None:
    """All numbers finite, where they are concrete."""
    if is_concrete(value) and not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(value)):
        raise ValueError(f"{name} must be finite, got NaN or infinity in it")


def flag(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")


def real(name: str, value: Any) -> None:
    """One real number, traced or not."""
    is_number = isinstance(value, int | float) or (hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.number))
    if isinstance(value, bool) or not is_number or jnp.iscomplexobj(value):
        raise TypeError(f"{name} must be one real number, got {type(value).__name__}")
    if jnp.ndim(value):
        raise TypeError(f"{name} must be one real number, got shape {jnp.shape(value)}")


def learning_rate(value: optax.ScalarOrSchedule) -> None:
    """One real number or a schedule; positive and finite where it is a concrete number.

    A zero in a `jax.Array` passes too: `optax.inject_hyperparams` makes the transform anew from the value that a
    schedule has at each step, which may start from 0 or end there.
    """
    if callable(value):
        return
    real("learning_rate", value)
    if not is_concrete(value):
        return
    is_scheduled_zero = isinstance(value, jax.Array) and float(value) == 0
    if not is_scheduled_zero and not (float(value) > 0 and math.isfinite(float(value))):
        raise ValueError(f"learning_rate must be positive and finite, got {value}; the sign of descent is built in")


def momentum(value: Any) -> None:
    """In [0, 1), where it is a concrete number, or None."""
    if value is None:
        return
    real("momentum", value)
    if is_concrete(value) and not 0 <= float(value) < 1:
        raise ValueError(f"momentum must be in [0, 1), got {value}")


def positive_integer(name: str, value: Any) -> None:
    """A Python integer of at least 1: it fixes shapes or the length of a loop, so it cannot be traced."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(
            f"{name} must be an integer, got {type(value).__name__}; under optax.inject_hyperparams name it in "
            f'static_args=("{name}",)'
        )
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
