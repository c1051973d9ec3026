"""The signature of a path: all its iterated integrals up to a depth.

The signature of a straight piece with increment x is the tensor exponential, (x, x⊗x/2!, …), and pieces are joined by
the tensor product (Chen). Horner's rule multiplies by an exponential without forming it: the new level k is

    S_k + (… ((x/k + S_1) ⊗ x/(k−1) + S_2) ⊗ … + S_{k−1}) ⊗ x.

A batch stands on the last axis, so that neighbours in memory do the same. `jax.vmap` would put it first, so the
signature is a primitive of its own, which knows what it is in a batch. Long paths, where they are few, are cut into
parts that are worked on side by side, and joined at the end.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from maso_rnn import checks

LARGEST_SIGNATURE = 2**26  # numbers
LARGEST_DEPTH = 64  # of one channel, where numbers do not limit it
_SIDE_BY_SIDE, _SHORTEST = 2**15, 125  # numbers of the highest level, at most; steps of a part, at least


def signature(path: Float[Array | np.ndarray, "time channel"], depth: int) -> Float[Array, " features"]:
    """What a path did and in which order, as numbers: its iterated integrals, the terms of its Taylor series.

    Equation: level k is ∫_{s_1 < … < s_k} dX_{s_1} ⊗ … ⊗ dX_{s_k}, the earliest channel first, of the piecewise linear
    path X through the given points.

    Args:
        path: (time, channel), at least two points, in any floating dtype, which the signature has too. A NumPy path is
            differenced before it is cast to a dtype that JAX is set to hold.
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
    depth, given = checks.size("depth", depth), path
    path = checks.array("path", path, "time channel")
    if len(path) < 2:
        raise ValueError(f"path must have at least two points, got shape {path.shape}")
    count_features("depth", path.shape[1], depth)
    if isinstance(given, np.ndarray):
        increments = checks.concretely(jnp.asarray, np.diff(given, axis=0))
        checks.finite(path=increments)
        return of_increments(increments, depth)
    checks.finite(path=path)
    return _of_points(path, depth)


def count_features(name: str, channels: int, depth: int) -> int:
    """How many numbers a signature has, if not too many; `name` is what messages call the depth."""
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
def of_increments(increments: Array, depth: int) -> Array:
    """The signature of the path with these increments, (step, channel)."""
    return _signature.bind(increments, depth=depth)


@functools.partial(jax.jit, static_argnames="depth")
def _of_points(path: Array, depth: int) -> Array:
    return _signature.bind(jnp.diff(path, axis=0), depth=depth)


def _joined(increments: Array, depth: int) -> Array:
    """The signatures (features, *batch) of increments (step, channel, *batch)."""
    steps, channels, *batch = increments.shape
    if channels == 1:  # then all that counts is where the path ends
        end = increments.sum(axis=0)
        return jnp.cumprod(end / jnp.arange(1, depth + 1, dtype=end.dtype).reshape(-1, *[1] * len(batch)), axis=0)
    lanes = math.prod(batch)
    parts = _parts(steps, lanes * channels**depth)
    if parts > 1:
        filled = jnp.pad(increments, ((0, -steps % parts), *((0, 0),) * (increments.ndim - 1)))
        increments = jnp.moveaxis(filled.reshape(parts, -1, channels, lanes), 0, -1)
    flat = increments.reshape(-1, channels, *[lanes * parts] * (bool(batch) or parts > 1))
    # each x/k has an array of its own: XLA vectorises no loop that reads two rows of one array at a traced index
    pieces = tuple(flat / k for k in range(1, depth + 1))
    nothing = jnp.zeros_like(flat[0])
    levels = tuple(jnp.zeros((channels,) * k + nothing.shape[1:], flat.dtype) + nothing for k in range(1, depth + 1))
    # the derivative keeps the levels before each step, and makes the products again
    join = jax.checkpoint(_join, prevent_cse=False)
    # of one path, two steps at a time keep the levels in registers for longer: 0.6 of the time of one at a time
    levels, _ = jax.lax.scan(join, levels, pieces, unroll=1 if flat.ndim > 2 else 2)
    for _ in range(parts.bit_length() - 1):  # neighbours on the last axis are joined
        pairs = [level.reshape(channels**k, -1, 2) for k, level in enumerate(levels, 1)]
        levels = _multiply([pair[..., 0] for pair in pairs], [pair[..., 1] for pair in pairs])
    return jnp.concatenate([level.reshape(-1, *batch) for level in levels])


def _parts(steps: int, size: int) -> int:
    """Into how many parts a path is cut that are worked on side by side, as a batch is; a power of two.

    The less is done in a step, the more it costs to begin one; but all of it, whose highest level has `size` numbers
    where nothing is cut, must stay near the processor, and short parts cost more to join.
    """
    most = min(_SIDE_BY_SIDE // max(size, 1), steps // _SHORTEST)
    return 1 << max(most.bit_length() - 1, 0)


def _multiply(levels: Sequence[Array], later: Sequence[Array]) -> tuple[Array, ...]:
    """The signature of two paths joined, by Chen's identity: each level (features, batch)."""
    joined = []
    for k, (level, other) in enumerate(zip(levels, later, strict=True), 1):
        products = [levels[j - 1][:, None] * later[k - j - 1] for j in range(1, k)]
        joined.append(level + other + sum(product.reshape(level.shape) for product in products))
    return tuple(joined)


def _join(levels: tuple[Array, ...], pieces: tuple[Array, ...]) -> tuple[tuple[Array, ...], None]:
    """One straight piece more, given as x, x/2, …, each (channel,) or (channel, batch)."""
    joined = []
    for k, level in enumerate(levels, 1):
        horner = pieces[k - 1]
        for j in range(1, k):
            horner = _outer(horner + levels[j - 1], pieces[k - j - 1])
        joined.append(level + horner)
    return tuple(joined), None


@jax.custom_jvp
def _outer(tensor: Array, x: Array) -> Array:
    """`tensor` ⊗ `x`, for each of a batch if `x` has one, on the last axis."""
    return jnp.expand_dims(tensor, -x.ndim) * x


@_outer.defjvp
def _outer_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (tensor, x), (change, push) = primals, tangents
    # by channels, since what a product over them is transposed to, a sum over a short axis, takes three times as long
    changed = jnp.stack([change * x[i] for i in range(len(x))], axis=-x.ndim)
    return _outer(tensor, x), changed + _outer(tensor, push)


_signature = Primitive("signature")
_signature.def_impl(jax.jit(_joined, static_argnames="depth"))


@_signature.def_abstract_eval
def _form(increments: Any, *, depth: int) -> Any:
    return jax.make_jaxpr(functools.partial(_joined, depth=depth))(increments).out_avals[0]


def _jvp(primals: tuple[Array], tangents: tuple[Any], *, depth: int) -> tuple[Array, Array]:
    return jax.jvp(functools.partial(_joined, depth=depth), primals, tuple(map(ad.instantiate_zeros, tangents)))


def _in_a_batch(arguments: tuple[Array], axes: tuple[int], *, depth: int) -> tuple[Array, int]:
    found = _signature.bind(jnp.moveaxis(arguments[0], axes[0], -1), depth=depth)
    return found, found.ndim - 1


ad.primitive_jvps[_signature] = _jvp
batching.primitive_batchers[_signature] = _in_a_batch
mlir.register_lowering(_signature, mlir.lower_fun(_joined, multiple_results=False))
