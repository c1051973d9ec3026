"""What is refused, and in which words: shapes and dtypes always, values where they are concrete."""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(*values: Any) -> bool:
    """Whether no leaf of `values` is traced, so that its numbers can be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def concretely(*values: Any) -> AbstractContextManager[None]:
    """Where no leaf of `values` is traced, what is made of them is not traced either, whatever is being traced."""
    return jax.ensure_compile_time_eval() if is_concrete(*values) else contextlib.nullcontext()


def size(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number, at least `least`."""
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be an integer, got {value}")
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def positive(name: str, value: Any, *, zero: bool = False) -> float:
    """A finite real number above zero (or from zero on)."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} must be a number known when the function is traced, got a traced value")
    if isinstance(value, str):
        raise TypeError(f"{name} must be a number, got str")
    try:
        value = float(value)
    except TypeError:
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be finite and {'not negative' if zero else 'positive'}, got {value}")
    return value


def flag(name: str, value: Any) -> None:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")


def nan_unless_finite(matrix: jax.Array) -> jax.Array:
    """The matrix, or NaN all over where an entry is not finite: from infinities LAPACK's SVD does not return."""
    return jnp.where(jnp.isfinite(matrix).all(), matrix, jnp.nan)


def array(name: str, value: Any, *, axes: str, shape: Sequence[int | None], dtype: Any = None) -> jax.Array:
    """A floating array of that shape, where None is any length, and of that dtype, where one is asked for."""
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(f"{name} must be an array {axes}, got {type(value).__name__}; wrap it in jax.numpy.asarray")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {value.dtype}; convert it, as by {name}.astype(float)")
    with concretely(value):  # else a trace would make a tracer of it, of which no value can be checked
        value = jnp.asarray(value)
    fits = value.ndim == len(shape) and all(
        want is None or want == got for want, got in zip(shape, value.shape, strict=False)
    )
    if not fits:
        wanted = tuple("any" if want is None else want for want in shape)
        raise ValueError(f"{name} must be {axes}, of shape {wanted}, got {value.shape}")
    if dtype is not None and value.dtype != jax.dtypes.canonicalize_dtype(dtype):
        raise TypeError(f"{name} must have the dtype {dtype}, as the rest, got {value.dtype}; convert one of them")
    return value


def finite(name: str, value: Any) -> None:
    """All numbers finite, where they are concrete."""
    if is_concrete(value) and not all(bool(np.isfinite(np.asarray(leaf)).all()) for leaf in jax.tree.leaves(value)):
        raise ValueError(f"{name} must be finite, got NaN or infinity in it")


def whole_steps(t1: Any, dt: Any, *, name: str = "t1") -> int:
    """How many steps of `dt` make `t1`; they must make it exactly, up to rounding."""
    t1, dt = positive(name, t1, zero=name != "t1"), positive("dt", dt)
    count = round(t1 / dt)
    if abs(t1 / dt - count) > min(1e-6 * max(count, 1), 1e-2) or (count == 0 and t1 > 0):
        near = t1 / max(count, 1)
        raise ValueError(
            f"{name} must be a whole number of steps: {name} = {t1} is {t1 / dt:.6g} steps of dt = {dt}; "
            f"dt = {near:.6g} would do"
        )
    return count


def step_indices(name: str, steps: Any, *, least: int, most: int) -> tuple[int, ...]:
    """Strictly ascending whole numbers in [least, most]."""
    if isinstance(steps, jax.core.Tracer):
        raise TypeError(f"{name} must be known when the function is traced, got a traced array; give a tuple")
    try:
        checked = tuple(operator.index(step) for step in steps)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of integers, got {steps!r}") from None
    if not checked:
        raise ValueError(f"{name} must name at least one step, got none")
    if min(checked) < least or max(checked) > most:
        raise ValueError(f"{name} must lie in [{least}, {most}], got {min(checked)} to {max(checked)}")
    if any(a >= b for a, b in itertools.pairwise(checked)):
        raise ValueError(f"{name} must ascend without repeats, got {checked}")
    return checked


def random_key(key: Any) -> jax.Array:
    """One typed random key."""
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.shape == ()):
        raise TypeError(
            f"key must be one typed random key, as from jax.random.key(0), got {type(key).__name__} "
            f"{getattr(key, 'dtype', '')} {getattr(key, 'shape', '')}".rstrip()
        )
    return key
