"""Codes: which affine piece every unit uses at every step, so that two inputs share a region where they are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped, UInt8

from maso_rnn import checks
from maso_rnn.activations import require_pieces
from maso_rnn.network import RNN, Inputs, States, check_form, checked_arguments, until, where_read
from maso_rnn.network import step as network_step

if TYPE_CHECKING:
    Codes: TypeAlias = tuple[Array, ...]
    BatchedCodes: TypeAlias = tuple[Array, ...]
else:
    # one (time, hidden) for each layer; the layers' widths may differ
    Codes = PyTree[Shaped[Array | np.ndarray, "time ?hidden"], "layers"]
    BatchedCodes = PyTree[Shaped[Array | np.ndarray, "*batch time ?hidden"], "layers"]

_KINDS = (np.bool_, np.uint8)


class RegionCounts(NamedTuple):
    """How many regions a set of sequences falls into, for each prefix of time.

    Attributes:
        counts: (time,), the number of distinct codes of the first 1, 2, … steps; never decreases.
        saturated: (time,), whether all sequences are told apart, so that the count is only a lower bound on what
            more sequences would show.
    """

    counts: Int[Array, " time"]
    saturated: Bool[Array, " time"]


def hamming(codes_a: Codes, codes_b: Codes) -> Float[Array, ""]:
    """The share of units whose pieces differ, over all layers, steps and hidden units.

    Equation: d(a, b) = #{(l, t, i): a[l][t, i] ≠ b[l][t, i]} / Σ_l time · hidden_l.

    Args:
        codes_a: for each layer (time, hidden), as `Trajectory.codes`.
        codes_b: the codes of another sequence of that length, from a network of those widths and that activation.

    Returns:
        A scalar in [0, 1], in JAX's default float dtype: 0 for the same region.

    Raises:
        ValueError: if the two differ in layers, length or widths, or are empty.
        TypeError: if either is not a tuple of bool or uint8 arrays, or they differ in dtype.

    Example:
        >>> from maso_rnn import init, trajectory
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> up, down = (trajectory(rnn, jnp.full((5, 1), x)).codes for x in (1.0, -1.0))
        >>> float(hamming(up, up)), float(hamming(up, down)) > 0
        (0.0, True)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3: the distance between partition codes.
    """
    sizes: dict[str, Any] = {}
    codes_a = checks.layers("codes_a", codes_a, "time hidden", sizes, kinds=_KINDS)
    codes_b = checks.layers("codes_b", codes_b, "time hidden", sizes, codes_a[0].dtype, kinds=_KINDS)
    return _hamming(codes_a, codes_b)


@jax.jit
def _hamming(codes_a: tuple[Array, ...], codes_b: tuple[Array, ...]) -> Array:
    differ = sum((a != b).sum() for a, b in zip(codes_a, codes_b, strict=True))
    return jnp.asarray(differ, float) / sum(code.size for code in codes_a)


def pack(codes: BatchedCodes) -> UInt8[Array, "*batch packed"]:
    """Codes as bytes, to store, compare and hash: equal bytes, equal region.

    Bool codes go eight to a byte, the first unit in the highest bit, each layer of each step filled up to whole bytes;
    uint8 codes go as they are. Steps follow each other, so the bytes of a prefix of time are a prefix of the bytes.

    Args:
        codes: for each layer (time, hidden), as `Trajectory.codes`; leading batch axes are kept.

    Returns:
        (packed,) bytes; (*batch, packed) for batched codes.

    Raises:
        ValueError: if the layers differ in time or batch, or are empty.
        TypeError: if the codes are not a tuple of bool or uint8 arrays.

    Example:
        >>> pack((jnp.array([[True, False, True], [False, False, False]]),)).tolist()
        [160, 0]

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the codes.
    """
    return _pack(checks.layers("codes", codes, "*batch time hidden", {}, kinds=_KINDS))


@jax.jit
def _pack(codes: tuple[Array, ...]) -> Array:
    steps = jnp.concatenate([_bytes(code) for code in codes], axis=-1)
    return steps.reshape(*steps.shape[:-2], -1)


def unpack(packed: UInt8[Array | np.ndarray, "*batch packed"], rnn: RNN) -> BatchedCodes:
    """The codes that `pack` made bytes of, as after a walk.

    Args:
        packed: (*batch, packed), from `pack`, `walk_line` or `partition_plane`.
        rnn: the network that the codes are of, for its widths and its activation.

    Returns:
        For each layer (*batch, time, hidden), bool or uint8, as `Trajectory.codes`.

    Raises:
        ValueError: if the bytes are not whole steps of that network, concrete codes are none that it can have, or its
            activation has no pieces.
        TypeError: if `packed` is not a uint8 array.

    Example:
        >>> from maso_rnn import init, trajectory
        >>> rnn = init(jax.random.key(0), 1, [8, 4], 3)
        >>> codes = trajectory(rnn, jnp.ones((5, 1))).codes
        >>> [bool((a == b).all()) for a, b in zip(unpack(pack(codes), rnn), codes)]
        [True, True]

    Source:
        The inverse of `pack`.
    """
    check_form(rnn, pieces=True)
    act = require_pieces(rnn.activation)
    packed = checks.array("packed", packed, "*batch packed", kinds=(np.uint8,))
    widths = [layer.input_kernel.shape[1] for layer in rnn.layers]
    whole_bytes = len(act.slopes) > 2
    lengths = [width if whole_bytes else -(-width // 8) for width in widths]
    if packed.shape[-1] % sum(lengths):
        raise ValueError(f"packed must have {sum(lengths)} bytes for each step of rnn, got shape {packed.shape}")
    steps = packed.reshape(*packed.shape[:-1], -1, sum(lengths))
    parts = jnp.split(steps, np.cumsum(lengths)[:-1].tolist(), axis=-1)
    if whole_bytes:
        codes = tuple(parts)
        fits = packed < len(act.slopes)
    else:
        codes = tuple(
            jnp.unpackbits(part, axis=-1, count=width).astype(bool) for part, width in zip(parts, widths, strict=True)
        )
        fits = _pack(codes) == packed  # the bits that fill up a byte are zero
    if checks.is_concrete(fits) and not fits.all():
        raise ValueError("packed holds codes that rnn cannot have: they are of a network of another form")
    return codes


def count_regions(codes: BatchedCodes, lengths: Int[Array | np.ndarray, " batch"] | None = None) -> RegionCounts:
    """How many regions a batch of sequences falls into as time goes on: distinct codes of every prefix.

    Exact, by sorting, without hashes: each 32 bits more of the code split the groups found so far.

    Args:
        codes: for each layer (batch, time, hidden), as from `jax.vmap(trajectory, (None, 0))`.
        lengths: how many steps of each sequence count, by default all; the rest is padding. Sequences that end at
            different steps are told apart from there on.

    Returns:
        `RegionCounts(counts, saturated)`; where saturated, every sequence has a code of its own.

    Raises:
        ValueError: if the codes are not (batch, time, hidden), are a list of sequences that are not padded, the layers
            differ in batch or time, or are empty.
        TypeError: if the codes are not a tuple of bool or uint8 arrays.

    Example:
        >>> codes = (jnp.array([[[False], [True]], [[False], [False]]]),)
        >>> count_regions(codes).counts.tolist(), count_regions(codes).saturated.tolist()
        ([1, 2], [False, True])

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3: the partition is built up through time.
    """
    sizes: dict[str, Any] = {}
    checks.equally_long("codes", codes)
    codes = checks.layers("codes", codes, "batch time hidden", sizes, kinds=_KINDS)
    if lengths is not None:
        lengths = checks.integers("lengths", lengths, "batch", sizes, 1, sizes["time"] + 1)
    return _count_regions(codes, lengths)


@jax.jit
def _count_regions(codes: tuple[Array, ...], lengths: Array | None) -> RegionCounts:
    steps = jnp.concatenate([_bytes(code) for code in codes], axis=-1)
    if lengths is not None:  # one byte more says whether the sequence is still there
        there = jnp.arange(steps.shape[1]) < lengths[:, None]
        steps = jnp.concatenate([jnp.where(there[..., None], steps, 0), there[..., None].astype(steps.dtype)], axis=-1)
    batch, time, length = steps.shape
    # whole 32-bit words, one after another: (time * words, batch)
    steps = jnp.pad(steps, ((0, 0), (0, 0), (0, -length % 4))).reshape(batch, time, -1, 4)
    weights = jnp.asarray([1 << 24, 1 << 16, 1 << 8, 1], jnp.uint32)
    words = (steps.astype(jnp.uint32) * weights).sum(axis=-1, dtype=jnp.uint32)

    def split(group: Array, word: Array) -> tuple[Array, Array]:
        group, word, member = jax.lax.sort((group, word, jnp.arange(batch)), num_keys=2)
        new = (jnp.diff(group) != 0) | (word[1:] != word[:-1])
        ranks = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new, dtype=jnp.int32)])
        return jnp.zeros_like(ranks).at[member].set(ranks), ranks[-1] + 1

    _, counts = jax.lax.scan(split, jnp.zeros(batch, jnp.int32), words.reshape(batch, -1).T)
    counts = counts.reshape(time, -1)[:, -1]
    return RegionCounts(counts, counts == batch)


def doubtful_codes(
    rnn: RNN, xs: Inputs, h0: States | None = None, *, length: int | Int[Array, ""] | None = None
) -> Int[Array, ""]:
    """How many codes of a trajectory hang on rounding: units closer to a kink than their sum can be told from it.

    Equation: #{(l, t, i): |p^l_t[i] − breakpoint_r| < n ε/2 (|x_t| |W| + |h_{t−1}| |U| + |b|)_i + ε/2 |breakpoint_r|},
    n the number of terms in the sum and ε the spacing at 1 of the network's dtype: the bound on the rounding of a sum
    in any order, from states taken as they are. Where it is 0, one step's rounding has decided no code; where it is
    not, another order of summation, device or dtype may give other codes.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        length: how many steps of `xs` count; the rest is padding. May be traced.

    Returns:
        The count, over layers, steps and units; where traced numbers are not finite, these units count.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, or concrete values
            are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> from maso_rnn import init
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> int(doubtful_codes(rnn, jnp.ones((5, 1)))), int(doubtful_codes(rnn, jnp.full((5, 1), 1e-30)))
        (0, 0)

    Source:
        Higham, *Accuracy and stability of numerical algorithms* (2002), section 3.1.
    """
    return _doubtful_codes(*checked_arguments(rnn, xs, h0, length))


@jax.jit
def _doubtful_codes(rnn: RNN, xs: Array, state: States, length: Array | None) -> Array:
    act = require_pieces(rnn.activation)
    half = jnp.finfo(xs.dtype).eps / 2
    magnitudes = jax.tree.map(jnp.abs, rnn.layers)

    def body(state: States, x: Array) -> tuple[States, tuple[Array, ...]]:
        before, counts = state, []
        state, pre_activations = network_step(rnn, state, x)
        for below, h, layer, p in zip((x, *state[:-1]), before, magnitudes, pre_activations, strict=True):
            terms, size = len(below) + 1, jnp.abs(below) @ layer.input_kernel
            if layer.recurrent_kernel is not None:
                terms, size = terms + len(h), size + jnp.abs(h) @ layer.recurrent_kernel
            size = size if layer.bias is None else size + layer.bias
            rounding = terms * half * size
            clear = [jnp.abs(p - kink) >= rounding + half * abs(kink) for kink in act.breakpoints]
            counts.append(sum(((~far).sum(keepdims=True) for far in clear), start=jnp.zeros(1, int)))
        return state, tuple(counts)

    counts = where_read(rnn, jax.lax.scan(body, state, xs)[1], (len(xs) if length is None else length) - 1)
    return sum(count.sum() for count in until(length, counts)).astype(jnp.int32)


def _bytes(code: Array) -> Array:
    """(..., hidden) codes as (..., bytes)."""
    return jnp.packbits(code, axis=-1) if code.dtype == bool else code
