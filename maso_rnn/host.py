"""Linear algebra that accelerators do not have, in NumPy and float64, from inside compiled functions too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from maso_rnn import checks


def on_host(compute: Callable[..., Any], arguments: tuple[jax.Array, ...], result: Any) -> Any:
    """`compute` of the arguments, as NumPy arrays of float64 (or complex128): at once if they are concrete.

    Traced arguments go through a callback, batch by batch under `jax.vmap`. What `compute` refuses, by a `ValueError`
    or a `LinAlgError`, is raised for concrete arguments; for traced ones the result is NaN (a bool is True).

    Args:
        compute: from NumPy arrays to NumPy arrays, a pytree like `result`.
        arguments: arrays.
        result: a pytree of `jax.ShapeDtypeStruct`, to which the results are cast.

    Returns:
        Arrays like `result`.
    """
    if checks.is_concrete(arguments):
        computed = compute(*map(_wide, arguments))
        return jax.tree.map(lambda like, value: jnp.asarray(np.asarray(value, like.dtype)), result, computed)
    rank = arguments[0].ndim

    def callback(*batched: Any) -> Any:
        arrays = [_wide(array) for array in batched]
        batch = arrays[0].shape[: arrays[0].ndim - rank]
        filled = jax.tree.map(lambda like: np.full((*batch, *like.shape), np.nan, like.dtype), result)
        for i in np.ndindex(batch):
            with contextlib.suppress(ValueError, np.linalg.LinAlgError):
                computed = compute(*(array[i] for array in arrays))
                jax.tree.map(lambda into, value, i=i: into.__setitem__(i, value), filled, computed)
        return filled

    return jax.pure_callback(callback, result, *arguments, vmap_method="broadcast_all")


def _wide(array: Any) -> np.ndarray:
    return np.asarray(array, np.complex128 if jnp.issubdtype(array.dtype, jnp.complexfloating) else np.float64)
