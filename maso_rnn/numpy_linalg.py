"""Linear algebra that accelerators do not have, in NumPy and float64, from inside compiled functions too."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maso_rnn import checks


def in_numpy(compute: Callable[..., Any], arguments: tuple[jax.Array, ...], result: Any) -> Any:
    """`compute` of the arguments, as NumPy arrays of float64 (or complex128): at once if they are concrete.

    Traced arguments go through a callback, batch by batch under `jax.vmap`. What `compute` refuses, by a `ValueError`
    or a `LinAlgError`, is raised for concrete arguments, while something else is traced too; for traced ones the result
    is NaN (a bool is True). Numbers beyond the range of a result's dtype are infinite.

    Args:
        compute: from NumPy arrays to NumPy arrays, a pytree like `result`.
        arguments: arrays.
        result: a pytree of `jax.ShapeDtypeStruct`, to which the results are cast.

    Returns:
        Arrays like `result`.
    """
    if checks.is_concrete(arguments):
        computed = compute(*map(_wide, arguments))
        with np.errstate(over="ignore"), jax.ensure_compile_time_eval():
            return jax.tree.map(lambda like, value: jnp.asarray(np.asarray(value, like.dtype)), result, computed)
    rank = arguments[0].ndim

    def callback(*batched: Any) -> Any:
        arrays = [_wide(array) for array in batched]
        batch = arrays[0].shape[: arrays[0].ndim - rank]
        filled = jax.tree.map(lambda like: np.full((*batch, *like.shape), np.nan, like.dtype), result)
        for i in np.ndindex(batch):
            with contextlib.suppress(ValueError, np.linalg.LinAlgError), np.errstate(over="ignore"):
                computed = compute(*(array[i] for array in arrays))
                jax.tree.map(lambda into, value, i=i: into.__setitem__(i, value), filled, computed)
        return filled

    return jax.pure_callback(callback, result, *arguments, vmap_method="broadcast_all")


def rounding(precision: float) -> float:
    """The relative change of a matrix by rounding: once to its dtype, or ten times by what computed it.

    Args:
        precision: the spacing at 1 of the matrix's dtype. Narrow ones are computed in float32 and rounded once.
    """
    return max(precision, 10 * min(precision, float(np.finfo(np.float32).eps)))


class Eigenbasis(NamedTuple):
    """A = V Λ V⁻¹, in float64.

    Attributes:
        values: (n,), in LAPACK's order.
        vectors: (n, n), columns of unit length.
        inverse: (n, n), infinite where there is none.
        conditions: (n,), by how much each eigenvalue moves per unit of change of A: the lengths of the rows of V⁻¹.
        defective: whether, up to rounding, two eigenvalues share one eigenvector.
    """

    values: np.ndarray
    vectors: np.ndarray
    inverse: np.ndarray
    conditions: np.ndarray
    defective: bool


def eigenbasis(matrix: np.ndarray, precision: float) -> Eigenbasis:
    """The eigenvalues and eigenvectors of a matrix, and whether they are a basis.

    Where two eigenvalues agree in all digits LAPACK may return one eigenvector for both, though there are two, as of
    `numpy.ones((4, 4))`. So what looks defective is looked at once more with a random change in its last digit, which
    parts such eigenvalues, and cannot part those of a defective matrix by more than rounding would.

    Args:
        matrix: (n, n), finite.
        precision: the spacing at 1 of the dtype that the matrix has come in.

    Returns:
        `Eigenbasis(values, vectors, inverse, conditions, defective)`.
    """
    found = _decomposed(matrix, precision)
    if not found.defective:
        return found
    noise = np.random.default_rng(0).standard_normal(matrix.shape) / math.sqrt(len(matrix))
    parted = _decomposed(matrix + np.finfo(np.float64).eps * np.linalg.norm(matrix, 2) * noise, precision)
    return found if parted.defective else parted


def _decomposed(matrix: np.ndarray, precision: float) -> Eigenbasis:
    values, vectors = np.linalg.eig(matrix)
    try:
        inverse = np.linalg.inv(vectors)
    except np.linalg.LinAlgError:  # exactly singular
        inverse = np.full_like(vectors, np.inf)
    with np.errstate(over="ignore"):  # an infinite condition is what a defective matrix has
        conditions = np.sqrt((np.abs(inverse) ** 2).sum(axis=1))
    return Eigenbasis(values, vectors, inverse, conditions, _is_defective(matrix, values, conditions, precision))


def _is_defective(matrix: np.ndarray, values: np.ndarray, conditions: np.ndarray, precision: float) -> bool:
    """Whether rounding the matrix could have made two nearly parallel eigenvectors, and their eigenvalues, out of one.

    By a change δ an eigenvalue moves by κδ, κ its condition; near a double eigenvalue κ is one over the gap, hence the
    least κ that counts.
    """
    if len(values) < 2:
        return False
    change = rounding(precision) * np.linalg.norm(matrix, 2)
    gaps = np.abs(values[:, None] - values)
    np.fill_diagonal(gaps, np.inf)
    together = gaps <= change * (conditions[:, None] + conditions)
    steep = conditions >= 1 / math.sqrt(2 * rounding(precision))
    return bool((together & steep[:, None] & steep).any())


def _wide(array: Any) -> np.ndarray:
    return np.asarray(array, np.complex128 if jnp.issubdtype(array.dtype, jnp.complexfloating) else np.float64)
