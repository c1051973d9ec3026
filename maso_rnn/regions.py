"""The regions that a network cuts its input space into: their codes, how many, how far apart, how near their walls.

A code names the affine piece of every unit at every step, so two inputs share a region exactly where their codes are
equal. `boundary_distance` measures how far a region's nearest wall is. A pre-activation is affine within the region, so
the wall where it meets a kink is a hyperplane at distance |p - kink| / ‖∇p‖. Where the sequence has more numbers than
about twice the hidden units, gradients are never formed, only their Gram matrix, which obeys its own recursion, for
column vectors

    S_t = Uᵀ D S_{t-1} D U + WᵀW,    ‖∇p_i‖² = S_t[i, i],

with U, W and D those of all layers jointly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped, UInt8

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, States, check_network, checked_arguments
from maso_rnn.network import step as network_step

if TYPE_CHECKING:
    Codes: TypeAlias = tuple[Array, ...]
    BatchedCodes: TypeAlias = tuple[Array, ...]
else:
    # one (time, hidden) for each layer; the layers' widths may differ
    Codes = PyTree[Shaped[Array | np.ndarray, "time ?hidden"], "layers"]
    BatchedCodes = PyTree[Shaped[Array | np.ndarray, "*batch time ?hidden"], "layers"]


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
        ValueError: if the two differ in layers, length, widths or dtype, or are empty.
        TypeError: if either is not a tuple of bool or uint8 arrays.

    Example:
        >>> from maso_rnn import init, trajectory
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> up, down = (trajectory(rnn, jnp.full((5, 1), x)).codes for x in (1.0, -1.0))
        >>> float(hamming(up, up)), float(hamming(up, down)) > 0
        (0.0, True)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3: the distance between partition codes.
    """
    codes_a, codes_b = _checked_codes("codes_a", codes_a, rank=2), _checked_codes("codes_b", codes_b, rank=2)
    (form_a, form_b) = ([(code.shape, code.dtype.name) for code in codes] for codes in (codes_a, codes_b))
    if form_a != form_b:
        raise ValueError(
            f"codes_b must come from sequences and networks of the same form as codes_a, {form_a}, got {form_b}"
        )
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
    codes = _checked_codes("codes", codes)
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
    check_network(rnn)
    act = require_pieces(rnn.activation)
    if not isinstance(packed, jax.Array | np.ndarray) or packed.dtype != np.uint8:
        raise TypeError(f"packed must be a uint8 array, got {getattr(packed, 'dtype', type(packed).__name__)}")
    packed = jnp.asarray(packed)
    widths = [layer.recurrent_kernel.shape[0] for layer in rnn.layers]
    whole_bytes = len(act.slopes) > 2
    lengths = [width if whole_bytes else -(-width // 8) for width in widths]
    if not packed.ndim or not packed.shape[-1] or packed.shape[-1] % sum(lengths):
        raise ValueError(
            f"packed must be (*batch, packed) with {sum(lengths)} bytes for each step of this network, "
            f"got shape {packed.shape}"
        )
    steps = packed.reshape(*packed.shape[:-1], -1, sum(lengths))
    parts = jnp.split(steps, np.cumsum(lengths)[:-1].tolist(), axis=-1)
    if whole_bytes:
        codes = tuple(parts)
        fits = packed < len(act.slopes)
    else:
        codes = tuple(
            jnp.unpackbits(part, axis=-1, count=width).astype(bool) for part, width in zip(parts, widths, strict=True)
        )
        fits = pack(codes) == packed  # the bits that fill up a byte are zero
    if checks.is_concrete(fits) and not fits.all():
        raise ValueError("packed holds codes that this network cannot have; it comes from a network of another form")
    return codes


def count_regions(codes: BatchedCodes) -> RegionCounts:
    """How many regions a batch of sequences falls into as time goes on: distinct codes of every prefix.

    Exact, by sorting, without hashes: each 32 bits more of the code split the groups found so far.

    Args:
        codes: for each layer (batch, time, hidden), as from `jax.vmap(trajectory, (None, 0))`.

    Returns:
        `RegionCounts(counts, saturated)`; where saturated, every sequence has a code of its own.

    Raises:
        ValueError: if the codes are not (batch, time, hidden), the layers differ in batch or time, or are empty.
        TypeError: if the codes are not a tuple of bool or uint8 arrays.

    Example:
        >>> codes = (jnp.array([[[False], [True]], [[False], [False]]]),)
        >>> count_regions(codes).counts.tolist(), count_regions(codes).saturated.tolist()
        ([1, 2], [False, True])

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3: the partition is built up through time.
    """
    codes = _checked_codes("codes", codes, rank=3)
    steps = jnp.concatenate([_bytes(code) for code in codes], axis=-1)
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


def boundary_distance(rnn: RNN, xs: Float[Array, "time input"], h0: States | None = None) -> Float[Array, ""]:
    """How far the input may move, in any direction, before some unit at some step changes its piece.

    Equation: min_{l,t,i,r} |p^l_t[i] − breakpoint_r| / ‖∂p^l_t[i]/∂xs‖₂, the gradients carried forward through
    time, or their Gram matrix, whichever takes fewer multiplications; in float16 always the gradients.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. It is held fixed.

    Returns:
        A scalar, the l2 distance over all steps and channels of `xs`, in the units of the input: 0 on a wall, infinite
        where no pre-activation depends on the input or the activation has no kink. NaN where traced numbers are not
        finite, or where traced units that may be the nearest read states that cancel, so that the Gram matrix has lost
        their gradients; outside of `jax.jit` these are carried then, at more cost.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, or concrete values
            are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> from maso_rnn import init
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> distance = boundary_distance(rnn, jnp.ones((5, 1)))
        >>> bool(0 < distance < jnp.inf)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3, for the partition; the recursion is the chain rule.
    """
    xs, state = checked_arguments(rnn, xs, h0)
    act = require_pieces(rnn.activation)
    if not act.breakpoints:
        return jnp.asarray(jnp.inf, xs.dtype)
    products = sum(layer.recurrent_kernel.size for layer in rnn.layers)
    products += sum(layer.input_kernel.size for layer in rnn.layers[1:])
    units = sum(h.shape[0] for h in state)
    info = jnp.finfo(xs.dtype)
    has_squares = LOST * info.tiny < info.eps  # float16 has not: it would lose them all
    if not has_squares or xs.size * products < 2 * units**3:
        distance = _by_gradients(rnn, act, xs, state)
    else:
        distance, is_known = _by_gram_matrix(rnn, act, xs, state)
        if not checks.is_concrete(is_known):
            distance = jnp.where(is_known, distance, jnp.nan)
        elif not is_known:
            distance = _by_gradients(rnn, act, xs, state)
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves((rnn, xs, state))]).all()
    return jnp.where(finite, distance, jnp.nan)


def _by_gradients(rnn: RNN, act: PiecewiseAffine, xs: Array, state: States) -> Array:
    """The distance with the gradients themselves carried, a row for each number of the sequence."""
    dtype = xs.dtype
    inputs = xs.shape[1]

    def body(carry: tuple[Any, ...], now: tuple[Array, Array]) -> tuple[tuple[Any, ...], None]:
        (state, before, nearest), (t, x) = carry, now
        state, pre_activations = network_step(rnn, state, x)
        gradients: list[Array] = []
        for l, (layer, p) in enumerate(zip(rnn.layers, pre_activations, strict=True)):
            rows = before[l] @ layer.recurrent_kernel
            if l:
                rows = rows + gradients[-1] @ layer.input_kernel
            else:
                rows = jax.lax.dynamic_update_slice_in_dim(rows, layer.input_kernel, t * inputs, axis=0)
            largest = jax.lax.stop_gradient(jnp.abs(rows).max(axis=0))  # squares leave the range of floats first
            unit = jnp.where(largest == 0, 1, largest)
            nearest = jnp.minimum(nearest, _nearest(_to_kink(act, p) / unit, jnp.square(rows / unit).sum(axis=0)))
            gradients.append(rows * act.slope(act.code(p), dtype))
        return (state, tuple(gradients), nearest), None

    zeros = tuple(jnp.zeros((xs.size, h.shape[0]), dtype) for h in state)
    start = (state, zeros, jnp.asarray(jnp.inf, dtype))
    return jax.lax.scan(body, start, (jnp.arange(len(xs)), xs))[0][-1]


def _by_gram_matrix(rnn: RNN, act: PiecewiseAffine, xs: Array, state: States) -> tuple[Array, Array]:
    """The distance with the Gram matrix of the gradients carried, of the joint state of all layers.

    With it whether it is known: where a unit reads differences of states that nearly cancel, their squares lose the
    digits of its gradient, and it may be nearer than any other.
    """
    dtype = xs.dtype
    info = jnp.finfo(dtype)
    widths = [h.shape[0] for h in state]
    # each layer's part of the joint state, from the one before (square, joint) and from the input
    from_state = [jnp.zeros((sum(widths), width), dtype) for width in widths]
    for l, layer in enumerate(rnn.layers):
        first = sum(widths[:l])
        from_state[l] = from_state[l].at[first : first + widths[l]].set(layer.recurrent_kernel)

    def body(carry: tuple[Any, ...], x: Array) -> tuple[tuple[Any, ...], None]:
        # the Gram matrix of the states' gradients, each in units of 2 ** exponent, since their squares leave the
        # range of floats long before the gradients do; how wrong rounding may have made its diagonal; and which
        # states depend on the input at all
        state, gram, wrong, reached, exponent, nearest, unknown = carry
        state, pre_activations = network_step(rnn, state, x)
        slopes = [act.slope(act.code(p), dtype) for p in pre_activations]
        by_state, by_input = [from_state[0]], [rnn.layers[0].input_kernel]
        for l, layer in enumerate(rnn.layers[1:], start=1):
            below = slopes[l - 1][:, None] * layer.input_kernel
            by_state.append(from_state[l] + by_state[-1] @ below)
            by_input.append(by_input[-1] @ below)
        through, onto = jnp.concatenate(by_state, axis=1), jnp.concatenate(by_input, axis=1)
        reached = (reached @ jnp.abs(through) + jnp.abs(onto).sum(axis=0) > 0).astype(dtype)
        unit = least if len(rnn.layers) == 1 else exponent  # the same at every step: XLA multiplies it once
        onto = _times_power_of_two(onto, -unit)
        new = _times_power_of_two(onto.T @ onto, 2 * (unit - exponent))
        wrong = (wrong + info.eps * jnp.diagonal(gram)) @ through**2 + info.eps * jnp.diagonal(new)
        wrong = wrong + info.tiny / info.eps * reached
        gram = through.T @ gram @ through + new
        squares = jnp.diagonal(gram)
        p, slope = jnp.concatenate(pre_activations), jnp.concatenate(slopes)
        to_kink, is_lost = _to_kink(act, p), jax.lax.stop_gradient(squares < LOST * wrong)
        here = _nearest(to_kink, jnp.stack([jnp.where(is_lost, 0, squares), is_lost * 2 * LOST * wrong]))
        nearest, unknown = jnp.minimum(jnp.stack([nearest, unknown]), jnp.ldexp(here, -exponent))
        grown = jnp.maximum(_exponent(squares) // 2, least - exponent)
        slope = _times_power_of_two(slope, -grown)
        gram = slope[:, None] * gram * slope
        carry = (state, gram, wrong * slope**2, reached * (slope != 0), exponent + grown, nearest, unknown)
        return carry, None

    least = _exponent(rnn.layers[0].input_kernel)  # inputs come in anew at every step
    nothing, never = jnp.zeros(sum(widths), dtype), jnp.asarray(jnp.inf, dtype)
    start = (state, jnp.zeros((sum(widths), sum(widths)), dtype), nothing, nothing, least, never, never)
    *_, nearest, unknown = jax.lax.scan(body, start, xs)[0]
    return nearest, jax.lax.stop_gradient(unknown >= nearest)


def doubtful_codes(rnn: RNN, xs: Float[Array, "time input"], h0: States | None = None) -> Int[Array, ""]:
    """How many codes of a trajectory hang on rounding: units closer to a kink than their sum can be told from it.

    Equation: #{(l, t, i): |p^l_t[i] − breakpoint_r| < n ε/2 (|x_t| |W| + |h_{t−1}| |U| + |b|)_i + ε/2 |breakpoint_r|},
    n the number of terms in the sum and ε the spacing at 1 of the network's dtype: the bound on the rounding of a sum
    in any order, from states taken as they are. Where it is 0, one step's rounding has decided no code; where it is
    not, another order of summation, device or dtype may give other codes.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.

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
    xs, state = checked_arguments(rnn, xs, h0)
    act = require_pieces(rnn.activation)
    half = jnp.finfo(xs.dtype).eps / 2
    magnitudes = jax.tree.map(jnp.abs, rnn.layers)

    def body(state: States, x: Array) -> tuple[States, Array]:
        before = state
        state, pre_activations = network_step(rnn, state, x)
        count = jnp.zeros((), jnp.int32)
        for below, h, layer, p in zip((x, *state[:-1]), before, magnitudes, pre_activations, strict=True):
            size = jnp.abs(below) @ layer.input_kernel + jnp.abs(h) @ layer.recurrent_kernel
            size = size if layer.bias is None else size + layer.bias
            rounding = (len(below) + len(h) + 1) * half * size
            clear = [jnp.abs(p - kink) >= rounding + half * abs(kink) for kink in act.breakpoints]
            count += sum(((~far).sum(dtype=jnp.int32) for far in clear), start=jnp.zeros((), jnp.int32))
        return state, count

    return jax.lax.scan(body, state, xs)[1].sum()


def _exponent(values: Array) -> Array:
    """The power of two just above the largest magnitude; 0 where all are zero."""
    return jnp.frexp(jax.lax.stop_gradient(jnp.abs(values).max()))[1].astype(jnp.int32)


LOST = 64  # a square that is less than so many of its rounding errors is lost


def _times_power_of_two(values: Array, exponent: Array) -> Array:
    """`jnp.ldexp` by one exponent for all: two powers, since one alone may leave the range of floats."""
    half, one = exponent // 2, jnp.ones((), values.dtype)
    return values * jnp.ldexp(one, half) * jnp.ldexp(one, exponent - half)


def _to_kink(act: PiecewiseAffine, p: Array) -> Array:
    """How far each pre-activation is from the nearest kink."""
    return jnp.min(jnp.stack([jnp.abs(p - kink) for kink in act.breakpoints]), axis=0)


def _nearest(to_kink: Array, squared_norms: Array) -> Array:
    """The least distance / norm over units; units that depend on nothing are infinitely far."""
    depends = (squared_norms != 0) | jnp.isnan(to_kink)  # NaN is no distance, and is not passed over
    norms = jnp.sqrt(jnp.where(depends, squared_norms, 1))  # the gradient of sqrt at 0 is not finite
    return jnp.min(jnp.where(depends, to_kink / norms, jnp.inf), axis=-1)


def _bytes(code: Array) -> Array:
    """(..., hidden) codes as (..., bytes)."""
    return jnp.packbits(code, axis=-1) if code.dtype == bool else code


def _checked_codes(name: str, codes: Any, *, rank: int | None = None) -> tuple[Array, ...]:
    """A tuple of bool or uint8 arrays (..., time, hidden) that agree in all axes but the last."""
    if not isinstance(codes, tuple) or not codes:
        raise TypeError(f"{name} must be a tuple of one array for each layer, got {type(codes).__name__}")
    for l, code in enumerate(codes):
        if not isinstance(code, jax.Array | np.ndarray) or code.dtype not in (bool, np.uint8):
            got = getattr(code, "dtype", type(code).__name__)
            raise TypeError(f"{name}[{l}] must be a bool or uint8 array, as Trajectory.codes, got {got}")
        axes = {2: "(time, hidden)", 3: "(batch, time, hidden)", None: "(*batch, time, hidden)"}[rank]
        if (rank is not None and code.ndim != rank) or code.ndim < 2 or not code.size:
            raise ValueError(f"{name}[{l}] must be {axes} and not empty, got shape {code.shape}")
        if code.shape[:-1] != codes[0].shape[:-1] or code.dtype != codes[0].dtype:
            raise ValueError(
                f"{name}[{l}] must agree with {name}[0] in all but width, {codes[0].shape[:-1]} of {codes[0].dtype}, "
                f"got {code.shape[:-1]} of {code.dtype}"
            )
    return tuple(jnp.asarray(code) for code in codes)
