"""The random numbers of a run: those of step k are a function of the key and k, so that none of them is stored."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

Increments: TypeAlias = Literal["gaussian", "two_point"]

# on [−π/4, π/4], to the last bit: sin x = x + x³ S(x²) and cos x = 1 − x²/2 + x⁴ C(x²), highest power first
_SINE = {
    "float32": (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1),
    "float64": (
        1.58962301576546568060e-10,
        -2.50507477628578072866e-8,
        2.75573136213857245213e-6,
        -1.98412698295895385996e-4,
        8.33333333332211858878e-3,
        -1.66666666666666307295e-1,
    ),
}
_COSINE = {
    "float32": (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2),
    "float64": (
        -1.13585365213876817300e-11,
        2.08757008419747316778e-9,
        -2.75573141792967388112e-7,
        2.48015872888517045348e-5,
        -1.38888888888730564116e-3,
        4.16666666666665929218e-2,
    ),
}


class Increment(NamedTuple):
    """Brownian motion over one step.

    Attributes:
        rise: (path, noise), its increment ΔB.
        area: (path, noise), its space-time Lévy area, independent of the rise; None where no solver asks for it.
    """

    rise: Float[Array, "path noise"]
    area: Any


def increment(
    key: Array, k: Int[Array, ""], shape: tuple[int, int], dt: float, dtype: Any, kind: Increments, *, area: bool
) -> Increment:
    """The noise of step k, (path, noise), from `fold_in(key, k)`; its area from that with 1 folded in."""
    key = jax.random.fold_in(key, k)
    if kind == "two_point":
        return Increment(_signs(key, shape, dtype, dt**0.5), None)
    rise = dt**0.5 * normal(key, shape, dtype, k >= 0)
    return Increment(
        rise, (dt / 12) ** 0.5 * normal(jax.random.fold_in(key, 1), shape, dtype, k >= 0) if area else None
    )


def halves(key: Array, k: Int[Array, ""], whole: Increment, dt: float) -> tuple[Increment, Increment]:
    """The noise of both halves of step k on the same Brownian path, whose noise over all of the step is known.

    Source:
        Foster, Lyons, Oberhauser (2020), theorem 3.7, for the halves of an area.
    """
    key = jax.random.fold_in(jax.random.fold_in(key, k), 2)
    paths, channels = whole.rise.shape
    shape, dtype = (paths, channels), whole.rise.dtype
    middle = normal(key, shape, dtype, k >= 0)
    if whole.area is None:
        apart = 0.5 * dt**0.5 * middle
        return Increment(0.5 * whole.rise + apart, None), Increment(0.5 * whole.rise - apart, None)
    middle = 0.25 * dt**0.5 * middle
    apart = (dt / 48) ** 0.5 * normal(jax.random.fold_in(key, 1), shape, dtype, k >= 0)
    rise, area = 1.5 * whole.area + middle, 0.25 * whole.area - 0.5 * middle
    return Increment(0.5 * whole.rise + rise, area + apart), Increment(0.5 * whole.rise - rise, area - apart)


def normal(key: Array, shape: tuple[int, int], dtype: Any, true: Array) -> Float[Array, "path noise"]:
    """Standard normal numbers by Box and Muller: two from every two words of random bits.

    `true` holds, which the compiler must not know. Compilers for CPUs fuse by computing again: each half of the result
    would draw every word anew. What a branch returns is computed once, and a complex array holds both halves.
    """
    rows, columns = shape
    half = (rows, -(-columns // 2))
    dtype = jnp.dtype(dtype)

    def pairs(key: Array) -> Array:
        return jax.lax.complex(*_box_muller(key, half, dtype))

    def nothing(key: Array) -> Array:
        return jax.tree.map(lambda like: jnp.zeros_like(like), jax.eval_shape(pairs, key))

    both = jax.lax.cond(true, pairs, nothing, key)
    return jnp.concatenate([both.real, both.imag], axis=1)[:, :columns]


def _box_muller(key: Array, shape: tuple[int, int], dtype: Any) -> tuple[Array, Array]:
    """Two independent normal arrays: a radius from some words, and an angle from others.

    The angle is uniform in [−π/4, π/4] from the low bits; the two highest bits choose the sign of the cosine, and
    whether sine and cosine change places.
    """
    if dtype == jnp.float32:
        for_radius, for_angle = _words(key, shape, 1)[0]
        uniform = for_radius.astype(dtype) * np.float32(2**-32) + np.float32(2**-33)
        angle = _signed(for_angle << 2, dtype)
    else:
        (for_radius, low), (for_angle, low_of_angle) = _words(key, shape, 2)
        uniform = for_radius.astype(dtype) * 2**-32 + low.astype(dtype) * 2**-64 + 2**-65
        angle = _signed(for_angle << 2, dtype) + low_of_angle.astype(dtype) * 2**-30
    radius = jnp.sqrt(-2 * jnp.log(uniform))
    angle = angle * np.asarray(math.pi / 4 * 2**-31, dtype)
    square = angle * angle
    sine = radius * (_polynomial(_SINE[dtype.name], square) * square * angle + angle)
    cosine = radius * ((_polynomial(_COSINE[dtype.name], square) * square - 0.5) * square + 1)
    cosine = jnp.where(for_angle >> 31 == 0, cosine, -cosine)
    swapped = (for_angle >> 30) & 1 == 1
    return jnp.where(swapped, sine, cosine), jnp.where(swapped, cosine, sine)


def _signed(words: UInt32[Array, "path noise"], dtype: Any) -> Array:
    return jax.lax.bitcast_convert_type(words, jnp.int32).astype(dtype)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + np.asarray(coefficient, x.dtype)
    return value


_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _words(key: Array, shape: tuple[int, int], count: int) -> list[tuple[Array, Array]]:
    """Pairs of arrays of random words: both words of each block of the key's generator."""
    if str(jax.random.key_impl(key)) != "threefry2x32":
        bits = jax.random.bits(key, (2 * count, *shape), jnp.uint32)
        return [(bits[2 * i], bits[2 * i + 1]) for i in range(count)]
    first, second = jax.random.key_data(key)
    size = shape[0] * shape[1]
    counters = jax.lax.iota(jnp.uint32, size).reshape(shape)
    return [_threefry(first, second, counters + np.uint32(i * size)) for i in range(count)]


def _threefry(first: Array, second: Array, counters: UInt32[Array, "path noise"]) -> tuple[Array, Array]:
    """Both words of the blocks of those numbers: Threefry-2x32 of 20 rounds, unrolled.

    Source:
        Salmon, Moraes, Dror, Shaw (2011), section 3.3.
    """
    keys = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    x, y = jnp.zeros_like(counters) + keys[0], counters + keys[1]
    for i in range(5):
        for turn in _ROTATIONS[i % 2]:
            x = x + y
            y = ((y << turn) | (y >> (32 - turn))) ^ x
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def _signs(key: Array, shape: tuple[int, int], dtype: Any, size: float) -> Float[Array, "path noise"]:
    """±size with equal odds, 32 of them from each random word."""
    paths, channels = shape
    words = -(-paths // 32)
    bits = jax.random.bits(key, (words, 1, channels), jnp.uint32)
    shifts = jnp.arange(32, dtype=jnp.uint32)[:, None]
    chosen = ((bits >> shifts) & 1).reshape(words * 32, channels)[:paths]
    return jnp.where(chosen == 1, jnp.asarray(size, dtype), jnp.asarray(-size, dtype))
