"""What is refused, and in which words: shapes and dtypes always, values where they are concrete."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_concrete(*values: Any) -> bool:
    """Whether no leaf of `values` is traced, so that its numbers can be looked at."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def integer(name: str, value: Any) -> int:
    """A whole number, of any integer type but bool."""
    if not isinstance(value, bool | np.bool_):
        try:
            return operator.index(value)
        except TypeError:
            pass
    raise TypeError(f"{name} must be an integer, got {value!r}")


def size(name: str, value: Any, *, least: int = 1) -> int:
    """A whole number, at least `least`."""
    value = integer(name, value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return value


def number(name: str, value: Any) -> float:
    """A number that is known while something else is traced."""
    if not is_concrete(value):
        raise TypeError(
            f"{name} must be a number, got a traced value; close over it, rather than passing it through jax.jit or "
            "jax.vmap"
        )
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be within the range of floats, got a number beyond it") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {value!r}") from None


def positive(name: str, value: Any) -> float:
    """A number above 0 and finite."""
    value = number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value


def array(name: str, value: Any, *, rank: int, axes: str, dtype: Any = None) -> jax.Array:
    """A floating array of that rank (and dtype, where one is asked for)."""
    if not isinstance(value, jax.Array | np.ndarray):
        raise TypeError(f"{name} must be an array {axes}, got {type(value).__name__}; wrap it in jax.numpy.asarray")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} must be floating, got {value.dtype}; convert it, as by {name}.astype(float)")
    if value.ndim != rank:
        hint = "; use jax.vmap for a batch" if value.ndim == rank + 1 else ""
        raise ValueError(f"{name} must be {axes}, of rank {rank}, got shape {value.shape}{hint}")
    if dtype is not None and value.dtype != dtype:
        raise TypeError(f"{name} must have the network's dtype {dtype}, got {value.dtype}; convert one of them")
    with jax.ensure_compile_time_eval():  # what is concrete stays so while something else is traced
        return jnp.asarray(value)


def finite(name: str, value: Any) -> None:
    """All numbers finite, where they are concrete."""
    if not is_concrete(value):
        return
    with jax.ensure_compile_time_eval():  # concrete values are looked at even while something else is traced
        if not bool(_all_finite(value)):
            raise ValueError(f"{name} must be finite, got NaN or infinity in it")


@jax.jit
def _all_finite(value: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(value)]).all()


def random_key(name: str, value: Any) -> jax.Array:
    """One random key, typed or of the old kind."""
    if isinstance(value, jax.Array):
        is_typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        if (is_typed and value.ndim == 0) or (value.dtype == jnp.uint32 and value.ndim == 1):
            return value
    got = f"shape {value.shape} of {value.dtype}" if hasattr(value, "dtype") else repr(value)
    raise TypeError(f"{name} must be a random key, as jax.random.key(0), got {got}")


def function(name: str, value: Any) -> None:
    """Something that can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}")


@contextlib.contextmanager
def calling(names: str, arguments: str) -> Iterator[None]:
    """While a function of the caller's runs: what it raises is passed on, with a note of what it was called with."""
    try:
        yield
    except Exception as error:
        error.add_note(f"raised by {names}, called with {arguments}")
        raise


def index(name: str, value: Any, start: int, stop: int) -> tuple[jax.Array, jax.Array]:
    """One integer, and whether it is in [start, stop): refused where it is concrete and is not."""
    if not isinstance(value, jax.Array):
        value = integer(name, value)
    elif value.shape != () or not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"{name} must be one integer, got shape {value.shape} of {value.dtype}")
    if is_concrete(value) and not start <= int(value) < stop:
        raise ValueError(f"{name} must be in [{start}, {stop}), got {int(value)}")
    wide = jnp.asarray(value).astype(int)  # a narrow integer could wrap in what follows
    return wide, (wide >= start) & (wide < stop)
