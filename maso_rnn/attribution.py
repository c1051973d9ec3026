"""How much each number of the input adds to the output, on the way from a baseline to the input.

Integrated gradients are (x − b) · ∫₀¹ ∂z/∂x (b + s (x − b)) ds. On a piece of the way the gradient of a
piecewise-affine network is constant, so that the integral is a sum over pieces, and exact:

    values = (x − b) · Σ_k (s_{k+1} − s_k) slope_k.

They add up to what the output changes by from the baseline to the input: completeness, which every result here checks.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from maso_rnn import checks, functions
from maso_rnn.affine import map_at
from maso_rnn.cells import Cell, linearize, traced_step
from maso_rnn.network import RNN, States, checked_sequences
from maso_rnn.slices.line import begin, walked
from maso_rnn.slices.line_on_device import walk_between
from maso_rnn.slices.maps import changes
from maso_rnn.slices.stages import Slice, exploring, from_bytes


class Attribution(NamedTuple):
    """What each number of the input adds to each output.

    Attributes:
        values: (output, time, input), in the units of the output.
        pieces: how many affine pieces the way crosses; of a quadrature, how many intervals it was cut into.
        change: (output,), what the output changes by from the baseline to the input, by its two forward passes.
        error: (output,), how far off the values of each output may be in sum: |Σ values − change|, and at least the
            rounding of so many pieces; of a quadrature, what its rule estimates, and at least the tolerance.
        overflow: whether there are more pieces, or intervals, than the cap; `values` is then NaN, or as good as `error`
            says.
    """

    values: Float[Array | np.ndarray, "output time input"]
    pieces: int | Int[Array, ""]
    change: Float[Array | np.ndarray, " output"]
    error: Float[Array | np.ndarray, " output"]
    overflow: bool | Bool[Array, ""]


def integrated_gradients(
    rnn: RNN,
    xs: Float[Array | np.ndarray, "time input"],
    baseline: Float[Array | np.ndarray, "time input"],
    h0: States | None = None,
    *,
    max_regions: int = 100_000,
    length: int | Int[Array, ""] | None = None,
) -> Attribution:
    """What each number of the input adds to each output of the last step: integrated gradients, without sampling.

    Equation: values = (xs − baseline) · Σ_k (s_{k+1} − s_k) slope_k over the pieces of the segment between the two;
    Σ values = z(xs) − z(baseline).

    A host function: NumPy in float64. One vector is pulled back for each breakpoint, and what is kept does not grow
    with the number of pieces. `integrated_gradients_on_device` may be traced; `integrated_gradients_by_quadrature`
    takes any cell.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in any floating dtype, as all is done in float64.
        baseline: (time, input), where the way begins: an input that says nothing, as zeros or a mean.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. The same all along.
        max_regions: the most pieces to go through.
        length: how many steps of both count; the rest is padding, and its values are zero.

    Returns:
        `Attribution(values, pieces, change, error, overflow)`, NumPy arrays.

    Raises:
        ValueError: if the two differ in shape or do not fit the network, are not finite, the activation has no pieces,
            or there are more than `max_regions` of them.
        TypeError: if an argument is traced, or one of the two is not a floating array.

    Example:
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> xs = jax.random.normal(jax.random.key(1), (5, 1))
        >>> found = integrated_gradients(rnn, xs, jnp.ones((5, 1)))
        >>> bool(np.allclose(found.values.sum(axis=(1, 2)), found.change))
        True

    Source:
        Sundararajan, Taly, Yan (2017), *Axiomatic attribution for deep networks*; exact along a line for networks
        without recurrence: Sotoudeh, Thakur (2019), *Computing linear restrictions of neural networks*.
    """
    host, state, (stop, start) = exploring(
        rnn, h0, length, "use integrated_gradients_on_device", xs=xs, baseline=baseline
    )
    max_regions = checks.size("max_regions", max_regions)
    steps, inputs = start.shape
    mean = np.zeros((host.readout.shape[1], steps * inputs))
    pieces, last, ends = 0, np.empty((0, 0), np.uint8), np.empty((0, 0))
    for rows, packed in walked(Slice(host, state, np.stack([start, stop - start])), max_regions):
        found = changes(from_bytes(packed, host), host, len(packed), slopes_only=True)
        mean += found.weighted_sum(np.diff(rows[:, 1]))
        pieces, last = pieces + int(begin(packed, last).sum()), packed[-1:]
        ends = np.stack([ends[0] if len(ends) else rows[0], rows[-1]])
    reached = ends[-1, 1]
    if reached < 1:
        raise ValueError(f"max_regions must be more than {max_regions}: so many reach {reached:.3g} of the way to xs")
    at_baseline, at_input = host.outputs(ends)
    values = np.zeros((len(mean), *xs.shape))
    values[:, :steps] = mean.reshape(-1, steps, inputs) * (stop - start)
    change = at_input - at_baseline
    rounding = np.finfo(np.float64).eps / 2 * (pieces + mean.shape[1]) * np.abs(values).sum(axis=(1, 2))
    return Attribution(values, pieces, change, np.maximum(np.abs(values.sum(axis=(1, 2)) - change), rounding), False)


def integrated_gradients_on_device(
    rnn: RNN,
    xs: Float[Array, "time input"],
    baseline: Float[Array, "time input"],
    h0: States | None = None,
    *,
    max_regions: int,
    length: int | Int[Array, ""] | None = None,
) -> Attribution:
    """The integral of `integrated_gradients` inside JAX: in the network's dtype, under jit and vmap, up to a cap.

    Equation: that of `integrated_gradients`, along the pieces of `walk_line_on_device`, with one forward and one
    backward pass for each.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        baseline: (time, input), where the way begins, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. The same all along.
        max_regions: the most pieces to go through, static.
        length: how many steps of both count; the rest is padding, and its values are zero. May be traced.

    Returns:
        `Attribution(values, pieces, change, error, overflow)`; NaN values after an overflow, and where traced numbers
        are not finite. A traced way of length zero has zero values.

    Raises:
        ValueError: if the two differ in shape or do not fit the network, the activation has no pieces, or concrete
            values are not finite.
        TypeError: if one of the two is not a floating array of the network's dtype.

    Example:
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> xs = jax.random.normal(jax.random.key(1), (5, 1))
        >>> found = integrated_gradients_on_device(rnn, xs, jnp.ones((5, 1)), max_regions=100)
        >>> found.values.shape, bool(found.overflow)
        ((3, 5, 1), False)

    Source:
        Sundararajan, Taly, Yan (2017), *Axiomatic attribution for deep networks*.
    """
    rnn, (xs, baseline), state, length = checked_sequences(rnn, h0, length, xs=xs, baseline=baseline)
    return _by_pieces(rnn, xs, baseline, state, length, checks.size("max_regions", max_regions))


@functools.partial(jax.jit, static_argnames="max_regions")
def _by_pieces(
    rnn: RNN, xs: Array, baseline: Array, state: States, length: Array | None, max_regions: int
) -> Attribution:
    walk, along = walk_between(rnn, baseline, xs, state, length, max_regions), xs - baseline
    places = jnp.concatenate([jnp.zeros(1, xs.dtype), walk.breakpoints, walk.reached[None]])
    last, inside = jnp.asarray(-1), jnp.asarray(True)

    def slope_at(s: Array) -> Array:
        return map_at(rnn, baseline + s * along, state, last, inside, length).slope

    def body(block: Array, mean: Array) -> Array:  # beyond the last piece lie pieces of length zero
        here = jnp.minimum(block * BLOCK + jnp.arange(BLOCK + 1), max_regions)
        start, stop = places[here][:-1], places[here][1:]
        return mean + jnp.tensordot(stop - start, jax.vmap(slope_at)((start + stop) / 2), axes=1)

    start = jnp.zeros((walk.outputs.shape[1], *xs.shape), xs.dtype)
    mean = jax.lax.fori_loop(0, -(-walk.pieces // BLOCK), body, start)
    values = jnp.where(walk.overflow, jnp.nan, mean * along)
    change = walk.outputs[-1] - walk.outputs[0]
    rounding = jnp.finfo(xs.dtype).eps / 2 * (walk.pieces + xs.size) * jnp.abs(values).sum(axis=(1, 2))
    error = jnp.maximum(jnp.abs(values.sum(axis=(1, 2)) - change), rounding)
    return Attribution(values, walk.pieces, change, error, walk.overflow)


BLOCK = 16  # pieces that are pulled back together


def integrated_gradients_by_quadrature(
    cell: Cell,
    xs: Float[Array, "time input"],
    baseline: Float[Array, "time input"],
    h0: PyTree[Float[Array, "..."]] = None,
    *,
    tolerance: float = 1e-6,
    max_intervals: int = 1_000,
    length: int | Int[Array, ""] | None = None,
) -> Attribution:
    """Integrated gradients of any cell (LSTM, GRU, tanh), by adaptive quadrature: an approximation that says its error.

    Equation: (xs − baseline) · ∫₀¹ ∂z/∂x (baseline + s (xs − baseline)) ds, each interval by Gauss–Kronrod with 15
    gradients, halved until it differs from Gauss's rule with 7 of them by no more than its share of the tolerance.

    Args:
        cell: a `Cell`, as `maso_rnn.cell` makes them.
        xs: (time, input), one sequence, in any floating dtype that the cell takes.
        baseline: (time, input), where the way begins.
        h0: the initial carry; by default the cell's own. The same all along.
        tolerance: how far off the values of an output may be in sum, as a share of the sum of their sizes; at least 64
            roundings are granted.
        max_intervals: the most intervals to look at.
        length: how many steps of both count; the rest is padding, and its values are zero. May be traced.

    Returns:
        `Attribution(values, pieces, change, error, overflow)`: pieces are intervals; after an overflow some are as good
        as 15 gradients make them, and `error` says how good.

    Raises:
        ValueError: if the two differ in shape, are empty, or concrete values are not finite; or `tolerance` is not
            positive.
        TypeError: if `cell` is no `Cell`, or one of the two is not a floating array.

    Example:
        >>> cell = Cell(jnp.full(2, 0.5), lambda w, h, x: jnp.tanh(w * h + x), lambda w, h: h, jnp.zeros(2))
        >>> found = integrated_gradients_by_quadrature(cell, jnp.ones((3, 2)), jnp.zeros((3, 2)))
        >>> bool((found.error < 1e-5).all())
        True

    Source:
        Sundararajan, Taly, Yan (2017), *Axiomatic attribution for deep networks*; Piessens et al., *QUADPACK* (1983),
        for the rule.
    """
    checks.instance("cell", cell, Cell, "maso_rnn.cell")
    sizes: dict[str, int] = {}
    xs = checks.array("xs", xs, "time input", sizes)
    baseline = checks.array("baseline", baseline, "time input", sizes, xs.dtype)
    h0 = checks.carry("h0", cell.initial if h0 is None else h0)
    max_intervals = checks.size("max_intervals", max_intervals)
    tolerance = checks.number("tolerance", tolerance, above=0)
    if length is not None:
        length, _ = checks.index("length", length, 1, len(xs) + 1)
    checks.finite(xs=xs, baseline=baseline, h0=h0)
    step, readout = traced_step(cell, "h0", h0, xs[0]), functions.traced("readout", cell.read, h0)
    return _by_quadrature(step, readout, xs, baseline, h0, length, jnp.asarray(tolerance, xs.dtype), max_intervals)


class _Waiting(NamedTuple):
    """Intervals that are to be integrated, and what the others have come to."""

    starts: Array
    sizes: Array
    waiting: Array
    seen: Array
    kept: Array
    mean: Array
    error: Array


@functools.partial(jax.jit, static_argnames="max_intervals")
def _by_quadrature(
    step: Any,
    readout: Any,
    xs: Array,
    baseline: Array,
    h0: Any,
    length: Array | None,
    tolerance: Array,
    max_intervals: int,
) -> Attribution:
    along, eps = xs - baseline, float(jnp.finfo(xs.dtype).eps)
    nodes, kronrod, gauss = (jnp.asarray(numbers, xs.dtype) for numbers in _rule())
    tolerance = jnp.maximum(tolerance, 64 * eps)

    def at(s: Array) -> Any:
        return linearize(step, readout, h0, baseline + s * along, length=length)

    def integral(start: Array, size: Array) -> tuple[Array, Array]:
        """The mean gradient over an interval times its size, and how far off its values may be in sum, (output,)."""
        slopes = jax.lax.map(lambda node: at(start + size * node).slope, nodes)
        fine, coarse = (size * jnp.tensordot(weights, slopes, axes=1) for weights in (kronrod, gauss))
        return fine, jnp.abs((fine - coarse) * along).sum(axis=(1, 2))

    def body(now: _Waiting) -> _Waiting:
        top = now.waiting - 1
        start, size = now.starts[top], now.sizes[top]
        fine, error = integral(start, size)
        scale = jnp.abs((now.mean + fine) * along).sum(axis=(1, 2)).max()
        # halves that no cap allows for are not made
        enough = (error.max() <= tolerance * size * scale) | (now.seen + now.waiting + 2 > max_intervals) | (size < eps)
        return _Waiting(
            starts=now.starts.at[top].set(start + size / 2).at[top + 1].set(start),
            sizes=now.sizes.at[top].set(size / 2).at[top + 1].set(size / 2),
            waiting=jnp.where(enough, top, now.waiting + 1),
            seen=now.seen + 1,
            kept=now.kept + enough,
            mean=now.mean + jnp.where(enough, fine, 0),
            error=now.error + jnp.where(enough, error, 0),
        )

    ends = jax.vmap(lambda s: at(s).output)(jnp.array([0, 1], xs.dtype))
    depth = 2 + int(-np.log2(eps))
    nothing = jnp.zeros((), jnp.int32)
    start = _Waiting(
        starts=jnp.zeros(depth, xs.dtype),
        sizes=jnp.zeros(depth, xs.dtype).at[0].set(1),
        waiting=nothing + 1,
        seen=nothing,
        kept=nothing,
        mean=jnp.zeros((ends.shape[1], *xs.shape), xs.dtype),
        error=jnp.zeros(ends.shape[1], xs.dtype),
    )
    done = jax.lax.while_loop(lambda now: now.waiting > 0, body, start)
    values, change = done.mean * along, ends[1] - ends[0]
    allowed = tolerance * jnp.abs(values).sum(axis=(1, 2)).max()
    # where a gradient jumps both rules may agree by chance: no more is claimed than was asked for
    error = jnp.maximum(jnp.maximum(done.error, allowed), jnp.abs(values.sum(axis=(1, 2)) - change))
    return Attribution(values, done.kept, change, error, (done.error > allowed).any())


def _rule() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes on [0, 1], and the weights of Kronrod's rule with 15 of them and Gauss's with every second one."""
    half = np.array(_NODES)
    nodes = np.concatenate([-half[:-1], half[::-1]])
    kronrod = np.concatenate([_KRONROD[:-1], _KRONROD[::-1]])
    gauss = np.zeros(15)
    gauss[1::2] = np.polynomial.legendre.leggauss(7)[1]
    return (nodes + 1) / 2, kronrod / 2, gauss / 2


# Piessens et al., QUADPACK (1983), routine QK15
_NODES = (
    0.991455371120812639206854697526329,
    0.949107912342758524526189684047851,
    0.864864423359769072789712788640926,
    0.741531185599394439863864773280788,
    0.586087235467691130294144691693,
    0.405845151377397166906606412076961,
    0.207784955007898467600689403773245,
    0.0,
)
_KRONROD = (
    0.022935322010529224963732008058970,
    0.063092092629978553290700663189204,
    0.104790010322250183839876322541518,
    0.140653259715525918745189590510238,
    0.169004726639267902826583426598550,
    0.190350578064785409913256402421014,
    0.204432940075298892414161999234649,
    0.209482141084727828012999174891714,
)
