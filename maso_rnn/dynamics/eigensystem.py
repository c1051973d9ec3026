"""The eigensystem of a kernel, from the host: with derivatives, or refused where there is none."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import checks
from maso_rnn.numpy_linalg import eigenbasis, in_numpy


def square(name: str, kernel: Any) -> Array:
    """A kernel that has eigenvalues."""
    kernel = checks.array(name, kernel, "input hidden")
    if kernel.shape[0] != kernel.shape[1]:
        raise ValueError(f"{name} must be square, got {kernel.shape}; of a cell with gates, use maso_rnn.spectra(cell)")
    checks.finite(**{name: kernel})
    return kernel


def wide(array: Array) -> Array:
    """In float32 at least, which linear algebra needs."""
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


class Eigensystem(NamedTuple):
    """W = V Λ V⁻¹: of the same names as in `Spectrum`, with V (columns of unit length) and its inverse."""

    eigenvalues: Any
    vectors: Any
    inverse: Any
    condition: Any
    departure: Any
    defective: Any


def eigensystem(kernel: Array) -> Eigensystem:
    """The eigensystem, in float32 at least; defective up to the rounding of the kernel's dtype."""
    n, real = kernel.shape[0], jnp.promote_types(kernel.dtype, jnp.float32)
    pair = jnp.result_type(real, jnp.complex64)
    number, matrix = jax.ShapeDtypeStruct((), real), jax.ShapeDtypeStruct((n, n), pair)
    result = Eigensystem(
        jax.ShapeDtypeStruct((n,), pair), matrix, matrix, number, number, jax.ShapeDtypeStruct((), jnp.bool_)
    )
    precision = float(jnp.finfo(kernel.dtype).eps)
    return in_numpy(functools.partial(_numpy_eigensystem, precision=precision), (kernel,), result)


def _numpy_eigensystem(kernel: np.ndarray, precision: float) -> Any:
    n = len(kernel)
    if not np.isfinite(kernel).all():
        nothing = np.full((n, n), np.nan)
        return Eigensystem(nothing[0], nothing, nothing, np.nan, np.nan, True)
    values, vectors, inverse, _, defective = eigenbasis(kernel, precision)
    order = np.argsort(-np.abs(values), kind="stable")  # conjugates have equal moduli and stay together
    values, vectors, inverse = values[order], vectors[:, order], inverse[order]
    if defective:
        departure = np.sqrt(max((np.abs(kernel) ** 2).sum() - (np.abs(values) ** 2).sum(), 0.0))
    else:  # the same without cancellation: above the diagonal of the Schur form, in the eigenvectors made orthogonal
        basis, _ = np.linalg.qr(vectors)
        departure = np.linalg.norm(np.triu(basis.conj().T @ kernel @ basis, 1))
    return Eigensystem(values, vectors, inverse, np.linalg.cond(vectors), departure, defective)


@jax.custom_jvp
def eigenvalues_and_departure(kernel: Array) -> tuple[Array, Array]:
    """Eigenvalues and Henrici departure, with first derivatives."""
    system = eigensystem(kernel)
    return system.eigenvalues, system.departure


@eigenvalues_and_departure.defjvp
def _eigenvalues_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    (kernel,), (change,) = primals, tangents
    system = eigensystem(kernel)
    values, departure = system.eigenvalues, system.departure
    moved = jnp.einsum("ij,jk,ki->i", system.inverse, change.astype(values.dtype), system.vectors)
    squares = jnp.vdot(kernel, change) - (values.conj() * moved).real.sum()
    normal = departure == 0
    return (values, departure), (moved, jnp.where(normal, 0, squares / jnp.where(normal, 1, departure)))


def with_eigenbasis(kernel: Array) -> Eigensystem:
    """The eigensystem, if there is one: else refused, or NaN for a traced kernel."""
    if checks.is_concrete(kernel):
        system = eigensystem(kernel)
        if bool(system.defective):
            raise ValueError(
                f"kernel is defective, up to the rounding of {kernel.dtype}; maso_rnn.jacobian_spectra takes it"
            )
        return system
    system = eigensystem(jax.lax.stop_gradient(kernel))
    lost = system.defective
    return system._replace(
        vectors=jnp.where(lost, jnp.nan, system.vectors), inverse=jnp.where(lost, jnp.nan, system.inverse)
    )


def horizon(rate: Array) -> Array:
    """−1 / rate: infinite where nothing decays, 0 where all is gone at once."""
    return jnp.where(rate == 0, jnp.inf, -1 / jnp.where(rate == 0, 1, rate))


def eigensystems(matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, largest modulus first, and eigenvectors of (point, n, n), in float64."""
    values, vectors = np.linalg.eig(matrices.astype(np.float64))
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(vectors, order[:, None], axis=2)
