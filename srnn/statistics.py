"""Means over paths with their standard errors, gathered chunk by chunk."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

GROUPS = 32  # of paths, whose means tell how errors at different steps go together


class Moments(NamedTuple):
    """Count, mean and sum of squared deviations, over paths that are no longer there.

    Attributes:
        weight: how many paths.
        mean: their mean.
        squares: Σ (x − mean)².
    """

    weight: Float[Array, "*chunk"]
    mean: Float[Array, "*value"]
    squares: Float[Array, "*value"]


def moments(values: Array, counted: Array, axis: int = 0) -> Moments:
    """Of the values along the path axis, where `counted` (path,) is 1, and not where it is 0."""
    values = jnp.moveaxis(values, axis, -1)
    count = counted.sum()
    mean = jnp.where(counted == 1, values, 0).sum(-1) / count
    squares = (jnp.where(counted == 1, values - mean[..., None], 0) ** 2).sum(-1)
    return Moments(count, mean, squares)


def centred(values: Array, counted: Array) -> Array:
    """Minus the mean of the *other* paths: less variance, and no bias, as that mean knows nothing of this path.

    Values are (path, ...).
    """
    count = counted.sum()
    mean = jnp.where(_along(counted, values) == 1, values, 0).sum(axis=0) / count
    return (values - mean) * (count / (count - 1))


def _along(rows: Array, values: Array) -> Array:
    return rows.reshape(-1, *(1,) * (values.ndim - 1))


def lost(values: Array, states: Array, axis: int = 0) -> Array:
    """The values, with NaN along the path axis where states (path, hidden) are not finite.

    A readout that saturates gives a number for a state that is none; no mean may be taken over it.
    """
    finite = jnp.isfinite(states).all(axis=-1)
    return jnp.where(jnp.expand_dims(finite, [i for i in range(values.ndim) if i != axis]), values, jnp.nan)


def pool(chunks: Moments) -> tuple[Array, Array]:
    """The mean and its standard error over all chunks, which are stacked along the first axis."""
    count = chunks.weight.reshape(chunks.weight.shape + (1,) * (chunks.mean.ndim - 1))
    total = count.sum()
    mean = (count * chunks.mean).sum(axis=0) / total
    squares = chunks.squares.sum(axis=0) + (count * (chunks.mean - mean) ** 2).sum(axis=0)
    return mean, jnp.sqrt(squares / (total - 1) / total)


def z_score(mean: Array, stderr: Array) -> Array:
    """The mean in standard errors; zero where it is zero, as of what is the same for all paths."""
    return mean / jnp.where(mean == 0, 1, stderr)


class Chunks(NamedTuple):
    """How paths are cut, static: every chunk has `size` paths, in some of them all but the last counted.

    Chunk i has every path i, i + number, i + 2 number, …: where paths are sharded, so is each chunk.

    Attributes:
        paths: how many count.
        number: of chunks.
        size: of each.
    """

    paths: int
    number: int
    size: int

    def _index(self) -> Int[np.ndarray, "chunk path"]:
        return np.arange(self.number * self.size).reshape(self.size, self.number).T

    def counted(self, dtype: Any) -> Float[Array, "chunk path"]:
        """1 for the paths that count, 0 for those that fill chunks up."""
        return jnp.asarray(self._index() < self.paths, dtype)

    @property
    def groups(self) -> int:
        """How many groups of paths there are."""
        return min(GROUPS, self.paths)

    def group(self) -> Int[Array, "chunk path"]:
        """The group of each path."""
        return jnp.asarray(self._index() % self.groups)

    def group_sizes(self) -> np.ndarray:
        """How many paths count in each group."""
        return np.bincount(np.arange(self.paths) % self.groups)

    def cut(self, rows: Float[Array, "*path hidden"]) -> Float[Array, "chunk path hidden"]:
        """Initial states, (hidden,) or (path, hidden), for each chunk."""
        rows = jnp.broadcast_to(rows, (self.paths, rows.shape[-1]))
        filled = jnp.pad(rows, ((0, self.number * self.size - self.paths), (0, 0)), mode="edge")
        return filled.reshape(self.size, self.number, -1).swapaxes(0, 1)

    def keys(self, key: Array) -> Array:
        """A key for each chunk; a single chunk has the key itself, and so the noise of `simulate`."""
        if self.number == 1:
            return key[None]
        return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(self.number))


def chunks_of(paths: int, bytes_per_path: float, budget: float = 24 * 2**20) -> Chunks:
    """Chunks of equal size that fit the budget, of at least two paths each.

    As many as a power of two: 2ⁿ paths fill them, and nothing need be moved between devices to fill them up.
    """
    most = max(2, int(budget // bytes_per_path))
    least = -(-paths // most)
    number = min(1 << (least - 1).bit_length(), paths // 2)  # a chunk of one path has no variance of its own
    return Chunks(paths, number, -(-paths // number))
