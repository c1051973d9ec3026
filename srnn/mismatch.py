"""Whether derivatives along paths tell what an input does: the response that they predict beside a finite one.

A mean over noise is smooth where a readout or an activation jumps, but the derivative of a jump is zero on almost every
path, and the mean of those derivatives is then no derivative of the mean. So derivatives up to the order asked, along
one input, are set beside central differences of the same paths, by Richardson's extrapolation of two amplitudes, the
larger of which moves the state by `_MOVED` of its standard deviation.
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
    """Of one chunk of paths, by order and output.

    Attributes:
        predicted: the derivatives along the input.
        finite: the differences.
        rounding: how far rounding alone may set them apart.
        vanished: whether every path's derivative is zero.
        differs: whether the order below differs between paths.
        moves: whether the difference of some path is not zero.
    """

    predicted: Moments
    finite: Moments
    rounding: Float[Array, "order output"]
    vanished: Bool[Array, "order output"]
    differs: Bool[Array, "order output"]
    moves: Bool[Array, "order output"]


def compared(
    run: Run, grid: Grid, start: Array, along: Float[Array, "step input"], order: int, counted: Array
) -> Comparison:
    """Derivatives and differences of the readout along an input, of orders 1 to `order` (1 or 2), on the same paths."""

    def final(amplitude: Array) -> tuple[Array, Array]:
        last, _ = last_states(run._replace(control=run.control + amplitude * along), grid, start)
        values = jax.vmap(run.readout)(last).reshape(len(last), -1).T
        return lost(values, last, axis=1), last  # (output, path)

    def slope(amplitude: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        (value, last), (change, moved) = jax.jvp(final, (amplitude,), (jnp.ones_like(amplitude),))
        return change, (value, last, moved)

    zero = jnp.zeros((), start.dtype)
    if order == 1:
        first, (value, last, moved) = slope(zero)
        found = first[None]
    else:
        first, second, (value, last, moved) = jax.jvp(slope, (zero,), (jnp.ones_like(zero),), has_aux=True)
        found = jnp.stack([first, second])  # (order, output, path)
    info = jnp.finfo(start.dtype)
    size = jnp.sqrt((moved**2).mean(axis=0).sum())
    # states that noise does not spread are moved a little of their own size
    spread = jnp.sqrt(last.var(axis=0).sum()) + info.eps**0.25 * (1 + jnp.abs(last).max())
    step = jnp.where(size > 0, _MOVED * spread / jnp.where(size > 0, size, 1), 1)
    shifts = jnp.array([1.0, -1.0, 0.5, -0.5], start.dtype)
    up, down, half_up, half_down = jax.vmap(lambda s: final(s * step)[0])(shifts)
    wide = jnp.stack([up - down, up + down - 2 * value])[:order]
    narrow = jnp.stack([half_up - half_down, half_up + half_down - 2 * value])[:order]
    widths = jnp.stack([2 * step, step**2])[:order, None, None]
    finite = (4 * narrow / (widths * jnp.array([0.5, 0.25], step.dtype)[:order, None, None]) - wide / widths) / 3

    def most(values: Array) -> Array:
        return jnp.where(counted == 1, jnp.abs(values), 0).max(axis=-1)

    # what is lost by taking the difference, and by adding up over steps what is nearly equal
    rounding = 64 * info.eps * most(up) / step ** jnp.arange(1, order + 1)[:, None]
    rounding = rounding + info.eps**0.5 * jnp.abs(found).mean(axis=-1)
    below = jnp.stack([value, first])[:order]
    return Comparison(
        moments(found, counted, axis=2),
        moments(finite, counted, axis=2),
        rounding,
        jnp.where(counted == 1, found == 0, True).all(axis=-1),
        (size > 0) & (most(below - below[..., :1]) > 1e3 * info.eps * most(below)),
        jnp.maximum(most(wide), most(narrow)) > 1e3 * info.eps * most(up),
    )


def mismatch(chunks: Comparison) -> Float[Array, ""]:
    """The largest over orders and outputs of how many standard errors lie between both; infinite where it is certain.

    It is certain where every derivative is zero, though the order below differs between paths and a finite input moves
    some of them: an indicator, a step, and at second order a relu.
    """
    predicted, by = pool(chunks.predicted)
    finite, spread = pool(chunks.finite)
    error = jnp.sqrt(by**2 + spread**2 + chunks.rounding.max(axis=0) ** 2)
    apart = jnp.abs(predicted - finite) / jnp.where(error > 0, error, 1)
    certain = chunks.vanished.all(axis=0) & chunks.differs.any(axis=0) & chunks.moves.any(axis=0)
    return jnp.where(certain, jnp.inf, apart).max()
