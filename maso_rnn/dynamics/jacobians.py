"""The spectra of the product of Jacobians along a trajectory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PyTree

from maso_rnn.cells import Step, flat_cell
from maso_rnn.dynamics.eigensystem import eigenvalues_and_departure, wide
from maso_rnn.functions import Traced


class JacobianSpectra(NamedTuple):
    """The spectra of the product J_t ⋯ J_1 = ∂h_t/∂h_0 along a trajectory, as logarithms.

    Attributes:
        log_singular_values: (time, hidden), natural logarithms, largest first; minus infinity for 0.
        log_eigenvalues: (time, hidden), ln|λ| + i arg λ, largest modulus first.
    """

    log_singular_values: Float[Array, "time hidden"]
    log_eigenvalues: Complex[Array, "time hidden"]


def jacobian_spectra(
    step: Step, state: PyTree[Float[Array, "..."]], inputs: Float[Array, "time input"]
) -> JacobianSpectra:
    """How far a change of the first state reaches: the spectra of ∂h_t/∂h_0 after every step.

    Equation: J_t = ∂step/∂h (h_{t-1}, x_t); the singular values and eigenvalues of P_t = J_t ⋯ J_1.

    P is kept at unit size and its scale apart, so that nothing over- or underflows. What it cannot hold are singular
    values smaller than the largest by more than the dtype's precision: `lyapunov_exponents` has those.

    Args:
        step: a `Cell`, or `(carry, x) -> carry`; a function is compiled once for what it does.
        state: the carry before the first step.
        inputs: (time, input); (time, 0) for a cell without input. Of any floating dtype that the cell takes.

    Returns:
        `JacobianSpectra(log_singular_values, log_eigenvalues)`, of the carry's size flattened.

    Raises:
        ValueError: if `inputs` is not (time, input) with at least one step, or concrete values are not finite.
        TypeError: if `inputs` or the carry is not floating, or `step` does not return a carry like `state`.

    Example:
        >>> found = jacobian_spectra(lambda h, x: 0.5 * h, jnp.ones(2), jnp.zeros((3, 0)))
        >>> (found.log_singular_values / jnp.log(0.5)).round().tolist()
        [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]

    Source:
        Pennington, Schoenholz, Ganguli, *Resurrecting the sigmoid in deep learning through dynamical isometry* (2017),
        for the question; Engelken, Wolf, Abbott, *Lyapunov spectra of chaotic recurrent neural networks* (2023).
    """
    return _spectra(*flat_cell(step, state, inputs))


@jax.jit
def _spectra(flat: Traced, h: Array, inputs: Array) -> JacobianSpectra:
    def body(carry: tuple[Array, Array, Array], x: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        h, product, log_scale = carry
        after, push = jax.linearize(lambda h: flat(h, x), h)
        product = pushed(push, product, h.dtype)
        size = jnp.abs(product).max()
        size = jnp.where(size > 0, size, 1)
        product, log_scale = product / size, log_scale + jnp.log(size)
        return (after, product, log_scale), (product, log_scale)

    start = (h, jnp.eye(h.size, dtype=wide(h).dtype), jnp.zeros((), wide(h).dtype))
    _, (products, log_scales) = jax.lax.scan(body, start, inputs)
    singular_values = jnp.linalg.svd(products, compute_uv=False)
    eigenvalues = jax.vmap(lambda product: eigenvalues_and_departure(product)[0])(products)
    scale = log_scales[:, None]
    return JacobianSpectra(jnp.log(singular_values) + scale, jnp.log(eigenvalues) + scale)


def pushed(push: Callable[[Array], Array], columns: Array, dtype: Any) -> Array:
    """The Jacobian times each column: the carry's dtype in, the columns' out."""
    return jax.vmap(push, 1, 1)(columns.astype(dtype)).astype(columns.dtype)
