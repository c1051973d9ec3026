"""How changes of the state grow along a trajectory: spectra of the product of Jacobians, Lyapunov exponents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, Int, PyTree

from maso_rnn import checks
from maso_rnn.cells import Step, flat_cell
from maso_rnn.dynamics.eigensystem import eigenvalues_and_departure, wide


class JacobianSpectra(NamedTuple):
    """The spectra of the product J_t ⋯ J_1 = ∂h_t/∂h_0 along a trajectory, as logarithms.

    Attributes:
        log_singular_values: (time, hidden), natural logarithms, largest first; minus infinity for 0.
        log_eigenvalues: (time, hidden), ln|λ| + i arg λ, largest modulus first.
    """

    log_singular_values: Float[Array, "time hidden"]
    log_eigenvalues: Complex[Array, "time hidden"]


class Lyapunov(NamedTuple):
    """Lyapunov exponents.

    Attributes:
        exponents: (hidden,), natural logarithm per unit of time, largest first.
        growth: (time, hidden), the rate of every step, warm-up included, in the order of `exponents`, their means.
        warmup: how many of the first steps were left out of the means.
    """

    exponents: Float[Array, " hidden"]
    growth: Float[Array, "time hidden"]
    warmup: Int[Array, ""]


def jacobian_spectra(
    step: Step, state: PyTree[Float[Array, "..."]], inputs: Float[Array, "time input"]
) -> JacobianSpectra:
    """How far a change of the first state reaches: the spectra of ∂h_t/∂h_0 after every step.

    Equation: J_t = ∂step/∂h (h_{t-1}, x_t); the singular values and eigenvalues of P_t = J_t ⋯ J_1.

    P is kept at unit size and its scale apart, so that nothing over- or underflows. What it cannot hold are singular
    values smaller than the largest by more than the dtype's precision: `lyapunov_exponents` has those.

    Args:
        step: the cell, `(carry, x) -> carry`.
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
    flat, h, inputs = flat_cell(step, state, inputs)

    def body(carry: tuple[Array, Array, Array], x: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        h, product, log_scale = carry
        after, push = jax.linearize(lambda h: flat(h, x), h)
        product = _pushed(push, product, h.dtype)
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


def lyapunov_exponents(
    step: Step,
    state: PyTree[Float[Array, "..."]],
    inputs: Float[Array, "time input"],
    *,
    warmup: int | None = None,
    dt: float = 1.0,
) -> Lyapunov:
    """The mean rates at which neighbouring states part, one for each dimension of the carry.

    Equation: Q_t R_t = J_t Q_{t-1}, Q_0 = I; exponent_i = mean over t > warmup of ln|R_t[i, i]| / dt.

    Args:
        step: the cell, `(carry, x) -> carry`; for a flow, its map over `dt`.
        state: the carry before the first step.
        inputs: (time, input); (time, 0) for a system without input. Of any floating dtype that the cell takes.
        warmup: how many first steps turn Q and the state into place without being counted; 0 for none, by default a
            tenth.
        dt: the time that one step takes, positive.

    Returns:
        `Lyapunov(exponents, growth, warmup)`, natural logarithm per unit of time; minus infinity where a direction is
        lost for good, to 0 or in the rounding of one step, NaN where the trajectory diverged.

    Raises:
        ValueError: if `inputs` is not (time, input), `warmup` leaves no step to count, `dt` is not positive, or
            concrete values are not finite.
        TypeError: if `inputs` or the carry is not floating, or `step` does not return a carry like `state`.

    Example:
        >>> found = lyapunov_exponents(lambda h, x: h * jnp.array([0.5, 2.0]), jnp.zeros(2), jnp.zeros((50, 0)))
        >>> [round(float(exponent / jnp.log(2.0)), 4) for exponent in found.exponents], int(found.warmup)
        ([1.0, -1.0], 5)

    Source:
        Benettin, Galgani, Giorgilli, Strelcyn, *Lyapunov characteristic exponents for smooth dynamical systems*
        (1980); Engelken, Wolf, Abbott, *Lyapunov spectra of chaotic recurrent neural networks* (2023).
    """
    flat, h, inputs = flat_cell(step, state, inputs)
    time = inputs.shape[0]
    warmup = time // 10 if warmup is None else checks.size("warmup", warmup, least=0)
    if warmup >= time:
        raise ValueError(f"warmup must be below the {time} steps of inputs, got {warmup}; give more inputs")
    dt = checks.number("dt", dt, above=0)

    precision = float(jnp.finfo(h.dtype).eps)

    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, basis = carry
        after, push = jax.linearize(lambda h: flat(h, x), h)
        pushed = _pushed(push, basis, h.dtype)
        basis, upper = jnp.linalg.qr(pushed)
        size = jnp.abs(jnp.diagonal(upper))
        # rounding leaves so much in a column by QR, and so much of each entry's row by the product with the Jacobian
        rows = jnp.linalg.norm(pushed, axis=1) @ jnp.abs(basis)
        lost = size <= 10 * precision * jnp.maximum(jnp.linalg.norm(pushed, axis=0), rows)
        return (after, basis), jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, 1, size)) / dt)

    _, growth = jax.lax.scan(body, (h, jnp.eye(h.size, dtype=wide(h).dtype)), inputs)
    exponents = growth[warmup:].mean(axis=0)
    order = jnp.argsort(exponents, descending=True)
    return Lyapunov(exponents[order], growth[:, order], jnp.asarray(warmup))


def _pushed(push: Callable[[Array], Array], columns: Array, dtype: Any) -> Array:
    """The Jacobian times each column: the carry's dtype in, the columns' out."""
    return jax.vmap(push, 1, 1)(columns.astype(dtype)).astype(columns.dtype)
