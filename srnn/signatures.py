"""The signature of a path: all its iterated integrals up to a depth.

The signature of a straight piece with increment x is the tensor exponential, (x, x⊗x/2!, …), and pieces are joined by
the tensor product (Chen). Horner's rule multiplies by an exponential without forming it: the new level k is

    S_k + (… ((x/k + S_1) ⊗ x/(k−1) + S_2) ⊗ … + S_{k−1}) ⊗ x.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from srnn import checks

LARGEST_SIGNATURE = 2**26  # numbers
LARGEST_DEPTH = 64  # of one channel, where numbers do not limit it


def signature(path: Float[Array, "time channel"], depth: int) -> Float[Array, " features"]:
    """The signature of the piecewise linear path through the given points.

    Equation: level k is ∫_{s_1 < … < s_k} dX_{s_1} ⊗ … ⊗ dX_{s_k}, the earliest channel first.

    Args:
        path: (time, channel), at least two points, in any floating dtype, which the signature has too.
        depth: the highest level, at least 1.

    Returns:
        (features,), levels 1 to depth in turn, each flat in row-major order: channel + channel² + … numbers.

    Raises:
        ValueError: if the path has fewer than two points or is not finite, or the signature is too large or too deep.
        TypeError: if the path is not a floating array, or `depth` is not an integer.

    Example:
        >>> signature(jnp.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]), 2).tolist()
        [1.0, 1.0, 0.5, 1.0, 0.0, 0.5]

    Source:
        Lim (2021), definition 4.1; Kidger, Lyons (2021), section 3, for Horner's rule.
    """
    depth = checks.size("depth", depth)
    path = checks.array("path", path, axes="(time, channel)", shape=(None, None))
    if path.shape[0] < 2 or not path.shape[1]:
        raise ValueError(f"path must have at least two points and one channel, got shape {path.shape}")
    checked_size("depth", path.shape[1], depth)
    checks.finite("path", path)
    return _signature(path, depth)


def checked_size(name: str, channels: int, depth: int) -> int:
    """How many numbers a signature has, if not too many."""
    if depth > LARGEST_DEPTH:
        raise ValueError(f"{name} = {depth}: levels above {LARGEST_DEPTH} are not made; they fall as 1/{name}!")
    count = sum(channels**k for k in range(1, depth + 1))
    if count > LARGEST_SIGNATURE:
        raise ValueError(
            f"{name} = {depth}: the signature of {channels} channels to depth {depth} has {count} numbers, more than "
            f"{LARGEST_SIGNATURE}; take a lower depth or fewer channels"
        )
    return count


@functools.partial(jax.jit, static_argnames="depth")
def _signature(path: Array, depth: int) -> Array:
    channels = path.shape[1]
    levels = tuple(jnp.zeros((channels,) * k, path.dtype) for k in range(1, depth + 1))

    def join(levels: tuple[Array, ...], x: Array) -> tuple[tuple[Array, ...], None]:
        joined = []
        for k in range(1, depth + 1):
            horner = x / k
            for j in range(1, k):
                horner = (horner + levels[j - 1])[..., None] * (x / (k - j))
            joined.append(levels[k - 1] + horner)
        return tuple(joined), None

    # two steps at a time keep the levels in registers for longer: 0.6 of the time of one at a time
    levels, _ = jax.lax.scan(join, levels, jnp.diff(path, axis=0), unroll=2)
    return jnp.concatenate([level.ravel() for level in levels])
