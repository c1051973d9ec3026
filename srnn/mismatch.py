"""Whether derivatives along paths tell what an input does: the response that they predict beside a finite one.

A mean over noise is smooth where a readout or an activation jumps, but the derivative of a jump is zero on almost every
path, and the mean of those derivatives is then no derivative of the mean. So derivatives of the order asked, along one
input, are set beside central differences of the same paths, by Richardson's extrapolation of two amplitudes, the larger
of which moves the state by `_MOVED` of its standard deviation.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from srnn.simulation import Grid, Run, last_states
from srnn.statistics import Moments, lost, moments, pool

_MOVED = 0.3


class Comparison(NamedTuple):
    """Of one chunk of paths.

    Attributes:
        predicted: the derivative along the input, (output,).
        finite: the difference, (output,).
        rounding: how far rounding alone may set them apart, (output,).
        vanished: whether every path's derivative is zero, (output,).
        differs: whether the order below differs between paths, (output,).
    """

    predicted: Moments
    finite: Moments
    rounding: Float[Array, " output"]
    vanished: Bool[Array, " output"]
    differs: Bool[Array, " output"]


def compared(run: Run, grid: Grid, start: Array, chosen: tuple[int, ...], order: int, counted: Array) -> Comparison:
    """Derivatives and differences of the readout along a constant input in the chosen steps, on the same paths."""
    along = jnp.zeros_like(run.control).at[jnp.asarray(chosen)].set(1.0)

    def final(amplitude: Array) -> tuple[Array, Array]:
        last, _ = last_states(run._replace(control=run.control + amplitude * along), grid, start)
        return lost(jnp.atleast_2d(jax.vmap(run.readout)(last).T), last, axis=1), last  # (output, path)

    def derivative(amplitude: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        (value, last), (slope, moved) = jax.jvp(final, (amplitude,), (jnp.ones_like(amplitude),))
        return slope, (value, last, moved)

    zero = jnp.zeros((), start.dtype)
    if order == 1:
        found, (below, last, moved) = derivative(zero)
    else:
        below, found, (_, last, moved) = jax.jvp(derivative, (zero,), (jnp.ones_like(zero),), has_aux=True)
    info = jnp.finfo(start.dtype)
    size = jnp.sqrt((moved**2).mean(axis=0).sum())
    # states that noise does not spread are moved a little of their own size
    spread = jnp.sqrt(last.var(axis=0).sum()) + info.eps**0.25 * (1 + jnp.abs(last).max())
    step = jnp.where(size > 0, _MOVED * spread / jnp.where(size > 0, size, 1), 1)
    shifts = jnp.array([1.0, -1.0, 0.5, -0.5], start.dtype)
    up, down, half_up, half_down = jax.vmap(lambda s: final(s * step)[0])(shifts)
    if order == 1:
        wide, narrow = (up - down) / (2 * step), (half_up - half_down) / step
    else:
        middle = final(zero)[0]
        wide, narrow = ((a + b - 2 * middle) / h**2 for a, b, h in ((up, down, step), (half_up, half_down, step / 2)))
    reached = size > 0
    largest = jnp.where(counted == 1, jnp.abs(up), 0).max(axis=1)
    # what is lost by taking the difference, and by adding up over steps what is nearly equal
    rounding = 64 * info.eps * largest / step**order + info.eps**0.5 * jnp.abs(found).mean(axis=1)
    gaps = jnp.where(counted == 1, jnp.abs(below - below[:, :1]), 0).max(axis=1)
    differs = reached & (gaps > 1e3 * info.eps * jnp.abs(below).max(axis=1))
    vanished = jnp.where(counted == 1, found == 0, True).all(axis=1)
    moment = [moments(x, counted, axis=1) for x in (found, (4 * narrow - wide) / 3)]
    return Comparison(moment[0], moment[1], rounding, vanished, differs)


def mismatch(chunks: Comparison) -> Float[Array, ""]:
    """The largest over outputs of how many standard errors lie between both; infinite where it is certain.

    It is certain where every derivative is zero though the order below differs between paths: an indicator, a step, and
    at second order a relu.
    """
    predicted, by = pool(chunks.predicted)
    finite, spread = pool(chunks.finite)
    error = jnp.sqrt(by**2 + spread**2 + chunks.rounding.max(axis=0) ** 2)
    apart = jnp.abs(predicted - finite) / jnp.where(error > 0, error, 1)
    certain = chunks.vanished.all(axis=0) & chunks.differs.any(axis=0)
    return jnp.where(certain, jnp.inf, apart).max()
