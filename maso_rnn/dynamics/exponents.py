"""Lyapunov exponents: the rates at which neighbouring states part, and what follows from them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from maso_rnn import checks
from maso_rnn.cells import Step, flat_cell
from maso_rnn.dynamics.eigensystem import wide
from maso_rnn.dynamics.jacobians import pushed
from maso_rnn.functions import Traced


class Lyapunov(NamedTuple):
    """Lyapunov exponents.

    Attributes:
        exponents: (count,), natural logarithm per unit of time, largest first.
        growth: (time, count), the rate of every step, warm-up included, in the order of `exponents`, their means.
        warmup: how many of the first steps were left out of the means.
    """

    exponents: Float[Array, " count"]
    growth: Float[Array, "time count"]
    warmup: Int[Array, ""]


def lyapunov_exponents(
    step: Step,
    state: PyTree[Float[Array, "..."]],
    inputs: Float[Array, "time input"],
    *,
    count: int | None = None,
    warmup: int | None = None,
    dt: float = 1.0,
) -> Lyapunov:
    """The mean rates at which neighbouring states part: positive ones are chaos, all negative ones forget the start.

    Equation: Q_t R_t = J_t Q_{t-1}, Q_0 orthonormal; exponent_i = mean over t > warmup of ln|R_t[i, i]| / dt.

    The first k exponents need k columns of Q only, at about k / hidden of the cost of all.

    Args:
        step: the cell, a `Cell` or `(carry, x) -> carry`; for a flow, its map over `dt`. A function is compiled once
            for what it does.
        state: the carry before the first step.
        inputs: (time, input); (time, 0) for a system without input. Of any floating dtype that the cell takes.
        count: how many exponents, the largest ones, static; by default all.
        warmup: how many first steps turn Q and the state into place without being counted; 0 for none, by default a
            tenth.
        dt: the time that one step takes, positive.

    Returns:
        `Lyapunov(exponents, growth, warmup)`, natural logarithm per unit of time; minus infinity where a direction is
        lost for good, to 0 or in the rounding of one step, NaN where the trajectory diverged.

    Raises:
        ValueError: if `inputs` is not (time, input), `warmup` leaves no step to count, `count` is above the carry's
            size, `dt` is not positive, or concrete values are not finite.
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
    count = h.size if count is None else checks.size("count", count)
    if count > h.size:
        raise ValueError(f"count must be at most the {h.size} numbers of state, got {count}")
    warmup = time // 10 if warmup is None else checks.size("warmup", warmup, least=0)
    if warmup >= time:
        raise ValueError(f"warmup must be below the {time} steps of inputs, got {warmup}; give more inputs")
    return _exponents(flat, h, inputs, warmup, checks.number("dt", dt, above=0), count=count)


@functools.partial(jax.jit, static_argnames="count")
def _exponents(
    flat: Traced, h: Array, inputs: Array, warmup: Array | int, dt: Array | float, *, count: int
) -> Lyapunov:
    precision = float(jnp.finfo(h.dtype).eps)

    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
        h, basis = carry
        after, push = jax.linearize(lambda h: flat(h, x), h)
        moved = pushed(push, basis, h.dtype)
        basis, upper = jnp.linalg.qr(moved)
        size = jnp.abs(jnp.diagonal(upper))
        # rounding leaves so much in a column by QR, and so much of each entry's row by the product with the Jacobian
        rows = jnp.linalg.norm(moved, axis=1) @ jnp.abs(basis)
        lost = size <= 10 * precision * jnp.maximum(jnp.linalg.norm(moved, axis=0), rows)
        rates = jnp.where(lost, -jnp.inf, jnp.log(jnp.where(lost, 1, size)))
        finite = jnp.isfinite(after).all() & jnp.isfinite(moved).all()
        return (after, basis), jnp.where(finite, rates, jnp.nan)

    _, growth = jax.lax.scan(body, (h, _first_basis(h.size, count, wide(h).dtype)), inputs)
    growth = growth / jnp.asarray(dt, growth.dtype)
    counted = jnp.arange(len(inputs))[:, None] >= warmup
    exponents = jnp.where(counted, growth, 0).sum(axis=0) / (len(inputs) - warmup)
    order = jnp.argsort(exponents, descending=True)
    return Lyapunov(exponents[order], growth[:, order], jnp.asarray(warmup))


def _first_basis(size: int, count: int, dtype: Any) -> Array:
    """Orthonormal columns (size, count): all units, or some random directions, which miss none of the largest."""
    if count == size:
        return jnp.eye(size, dtype=dtype)
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((size, count)))
    return jnp.asarray(basis, dtype)


def kaplan_yorke_dimension(exponents: Float[Array, " count"]) -> Float[Array, ""]:
    """The dimension of an attractor, by its Lyapunov exponents: how many directions do not shrink together.

    Equation: D = k + Σ_{i≤k} λ_i / |λ_{k+1}|, k the largest number whose sum is not negative.

    Args:
        exponents: (count,), in any order, with any unit of time; minus infinity for directions that are lost.

    Returns:
        The dimension: 0 where all are negative, and NaN where the sum of all given is not negative though they may not
        be all there are: give more of them.

    Raises:
        ValueError: if `exponents` is not (count,).
        TypeError: if it is not floating.

    Example:
        >>> round(float(kaplan_yorke_dimension(jnp.array([0.9056, 0.0, -14.572]))), 3)  # Lorenz
        2.062

    Source:
        Kaplan, Yorke, *Chaotic behavior of multidimensional difference equations* (1979).
    """
    return _kaplan_yorke(checks.array("exponents", exponents, "count"))


@jax.jit
def _kaplan_yorke(exponents: Array) -> Array:
    exponents = jnp.sort(exponents, descending=True)
    sums = jnp.cumsum(exponents)
    k = (sums >= 0).sum()  # the sums rise, then fall: those that are not negative come first
    whole = jnp.where(k > 0, sums[jnp.maximum(k - 1, 0)], 0)
    part = whole / -exponents[jnp.minimum(k, len(exponents) - 1)]
    return jnp.where(k == len(exponents), jnp.nan, k + part) + jnp.where(jnp.isnan(exponents).any(), jnp.nan, 0)


def entropy_bound(exponents: Float[Array, " count"]) -> Float[Array, ""]:
    """At most how much information a system makes: the sum of its positive Lyapunov exponents.

    Equation: h ≤ Σ_i max(λ_i, 0), in nats per unit of time; equality for systems with a smooth measure.

    Args:
        exponents: (count,), in any order; all the positive ones must be among them.

    Returns:
        The bound on the metric entropy, in the units of the exponents.

    Raises:
        ValueError: if `exponents` is not (count,).
        TypeError: if it is not floating.

    Example:
        >>> float(entropy_bound(jnp.array([0.5, 0.25, -1.0])))
        0.75

    Source:
        Ruelle, *An inequality for the entropy of differentiable maps* (1978); Pesin (1977) for equality.
    """
    return jnp.maximum(checks.array("exponents", exponents, "count"), 0).sum()
