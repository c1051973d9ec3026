"""Rescaling: the group under which a ReLU RNN's function stays as it is, and one representative of each orbit.

For c > 0, one number for each hidden unit, incoming weights × c_i, outgoing ÷ c_i and recurrent
U_ij × c_j / c_i (in, out) leave every output unchanged, since act(c · p) = c · act(p). Biases and the learned initial
state are incoming. An edge e from s to t thus becomes w_e · c_t / c_s, with c = 1 at inputs, constants and outputs.

Weights may be rescaled to the edge of their dtype, where products of two leave its range. So numbers that belong to
units are carried as mantissa · 2^exponent with an exponent for each (`Scaled`), and the other modules of this package
first move to a gauge, by powers of two and so without rounding, in which products are in range. float16 and bfloat16
are computed with in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from maso_rnn import checks, powers
from maso_rnn.network import RNN
from path_opt.graph import ReductionGraph, View, at_sources, at_targets

_STEPS = 4  # time steps of the paths that `gauge` measures
_NOTHING = -(2**20)  # the exponent of zero, below that of every number


class Scaled(NamedTuple):
    """Numbers of units, (hidden,): mantissa · 2^exponent."""

    mantissa: Array
    exponent: Array


class Gauge(NamedTuple):
    """Powers of two for every unit, the sources and the outputs: w · 2^(source − target) is in it.

    Attributes:
        units: for each layer (hidden,), integers.
        source: of the inputs and constants.
        output: of the outputs.
    """

    units: tuple[Array, ...]
    source: Array
    output: Array


def rescale(params: PyTree, graph: ReductionGraph, log_scales: Sequence[Float[Array, " _"]]) -> PyTree:
    """The parameters after multiplying each hidden unit by c = exp(log_scales): the same function.

    Equation: w_e → w_e · c_target / c_source, with c = 1 at inputs, constants and outputs.

    Args:
        params: the parameters.
        graph: their reduction graph.
        log_scales: a list or tuple of (hidden,) for each layer, ln c, in any floating dtype.

    Returns:
        A pytree like `params`.

    Raises:
        ValueError: if `log_scales` does not have one (hidden,) for each layer, `params` does not fit the graph, or
            concrete values are not finite.
        TypeError: if a leaf is not a floating array, or `graph` is not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> other = rescale(rnn, path_opt.reduction_graph(rnn), [jnp.ones(4)])
        >>> xs = jnp.ones((5, 1))
        >>> bool(jnp.allclose(maso_rnn.forward(rnn, xs), maso_rnn.forward(other, xs), atol=1e-5))
        True

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019), positive scale invariance; Neyshabur et al. (2016), section 3.
    """
    checks.instance("graph", graph, ReductionGraph, "path_opt.reduction_graph(params)")
    view = graph.view(params)
    log_scales = checked_units("log_scales", log_scales, graph)
    checks.finite(params=view.weights, log_scales=log_scales)
    return view.write(_rescale(view.weights, log_scales))


@jax.jit
def _rescale(weights: RNN, log_scales: tuple[Array, ...]) -> RNN:
    units = [exponential(scale.astype(wide(weights).readout.kernel.dtype)) for scale in log_scales]
    return like(moved(wide(weights), units), weights)


def balance(params: PyTree, graph: ReductionGraph) -> PyTree:
    """The one rescaling of the parameters in which every unit is as far from the inputs as from the outputs.

    Equation: c_i = (q_i / r_i)^(1/2), with r_i² the sum of the squared values of all paths of up to 4 recurrent steps
    from inputs and biases into unit i, and q_i² the same from unit i to the outputs; then r_i = q_i.

    A rescaling multiplies r_i by c_i and divides q_i by it, so that all rescalings of a network have the same
    balanced one. A unit that paths only enter, as under a readout of zeros, gets r_i = 1, one that they only leave
    q_i = 1, and a unit that a path neither enters nor leaves keeps its scale.

    Args:
        params: the parameters.
        graph: their reduction graph.

    Returns:
        A pytree like `params`, of the same function.

    Raises:
        ValueError: if `params` does not fit the graph, or a concrete one is not finite.
        TypeError: if a leaf is not a floating array, or `graph` is not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> graph = path_opt.reduction_graph(rnn)
        >>> twice = path_opt.rescale(rnn, graph, [jnp.arange(4.0)])
        >>> a, b = balance(rnn, graph), balance(twice, graph)
        >>> bool(jnp.allclose(a.readout.kernel, b.readout.kernel, rtol=1e-4))
        True

    Source:
        The path norm of Neyshabur et al. (2016), taken from both ends.
    """
    view = checked_view(params, graph)
    return view.write(_balance(view.weights))


@jax.jit
def _balance(weights: RNN) -> RNN:
    return like(moved(wide(weights), gauge(wide(weights)), -1), weights)


def checked_view(params: PyTree, graph: Any, what: str = "params") -> View:
    """Parameters seen through their graph, finite where they are concrete."""
    checks.instance("graph", graph, ReductionGraph, "path_opt.reduction_graph(params)")
    view = graph.view(params, what)
    checks.finite(**{what.replace(".", "_"): view.weights})
    return view


def checked_units(name: str, values: Any, graph: ReductionGraph) -> tuple[Array, ...]:
    """One floating (hidden,) for each layer."""
    if not isinstance(values, tuple | list) or len(values) != len(graph.widths):
        raise ValueError(f"{name} must be a sequence of one (hidden,) for each of {len(graph.widths)} layers")
    sizes = zip(values, graph.widths, strict=True)
    return tuple(checks.array(f"{name}[{l}]", value, "hidden", {"hidden": h}) for l, (value, h) in enumerate(sizes))


def wide(tree: PyTree) -> PyTree:
    """Arrays in the dtype that is computed with: float32 at least."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), tree)


def like(tree: PyTree, other: PyTree) -> PyTree:
    """The leaves of `tree` in the dtypes of those of `other`."""
    return jax.tree.map(lambda leaf, model: jnp.asarray(leaf).astype(jnp.asarray(model).dtype), tree, other)


def exponential(logs: Array) -> Scaled:
    """e^logs."""
    exponent = jnp.round(jax.lax.stop_gradient(logs) / math.log(2))
    return Scaled(jnp.exp(logs - exponent * math.log(2)), exponent.astype(jnp.int32))


def moved(tree: RNN, units: Sequence[Scaled], way: int = 1) -> RNN:
    """`x_e · (unit_target / unit_source)^way` for every edge; inputs, constants and outputs have the unit 1."""
    mantissas = [unit.mantissa**way for unit in units]
    tree = jax.tree.map(lambda x, s, t: x * (t / s), tree, at_sources(mantissas, tree), at_targets(mantissas, tree))
    exponents = tuple(way * unit.exponent for unit in units)
    zero = jnp.zeros((), jnp.int32)
    return shifted(tree, Gauge(exponents, zero, zero), -1)


def shifted(tree: RNN, by: Gauge, way: int = 1) -> RNN:
    """`x_e · 2^(source − target)` for every edge, or with `way` −1 back again; exact."""
    sources, targets = at_sources(by.units, tree, by.source), at_targets(by.units, tree, by.output)
    return jax.tree.map(lambda x, s, t: powers.scaled(x, way * (s - t)), tree, sources, targets)


def gauge(weights: RNN) -> list[Scaled]:
    """For each unit (r_i / q_i)^(1/2): what a rescaling by c multiplies by c, and 1 where the network is balanced.

    Where no path leaves a unit it is r_i, where none enters one 1 / q_i, and 1 where neither does. r² starts from ones
    at inputs and at the constant of the biases, q² from ones at the outputs, and each follows the squared weights for 4
    recurrent steps.
    """
    units, _ = _middles(weights)
    return units


def centred(weights: RNN) -> Gauge:
    """The gauge in which weights on a path are at most about 1, and the largest path is."""
    middles, outputs = _middles(weights)
    largest = _normal(*outputs).exponent.max()
    largest = jnp.where(largest == _NOTHING, 0, largest)
    units = tuple(unit.exponent + powers.exponent(unit.mantissa) for unit in middles)
    return Gauge(units, -(largest // 2), largest - largest // 2)


class _Sums(NamedTuple):
    """Sums of squared paths: plain numbers, or `Scaled` with exponents of r and q, r² = mantissa · 4^exponent.

    Attributes:
        into: for each layer r², and last that of the outputs.
        out_of: for each layer q².
        drives: the same without recurrent steps, which are the smallest sums on the way.
    """

    into: list[Any]
    out_of: list[Any]
    drives: list[Any]


class _Arithmetic(NamedTuple):
    """How numbers of units are made, led along an axis of a kernel, and added."""

    ones: Callable[[int], Any]
    through: Callable[[Array, Any, int], Any]
    add: Callable[[Any, Any], Any]


def _middles(weights: RNN) -> tuple[list[Scaled], Scaled]:
    """For each unit (r / q)^(1/2), and r² of the outputs with exponents of r.

    Plain sums are tried first. All terms are positive, and those that the dtype loses make no difference as long as
    every sum is within the cube root of its range.
    """
    dtype = weights.readout.kernel.dtype
    exact = _Arithmetic(lambda n: _unscaled(jnp.ones(n, dtype)), _through, _sum)
    plain = _Arithmetic(lambda n: jnp.ones(n, dtype), lambda k, v, axis: jnp.tensordot(v, k, (0, axis)), jnp.add)
    sums = _sums(jax.tree.map(jnp.square, weights), plain)
    sizes = jnp.concatenate([*sums.into, *sums.out_of, *(1 / drive for drive in sums.drives)])
    # each by itself: the maximum of several devices may lose a NaN
    within = (sizes < 2.0 ** (jnp.finfo(dtype).maxexp // 3)).all()

    def of(sums: _Sums) -> tuple[list[Scaled], Scaled]:
        return [_middle(r, q) for r, q in zip(sums.into, sums.out_of, strict=False)], sums.into[-1]

    return jax.lax.cond(within, lambda: of(jax.tree.map(_unscaled, sums)), lambda: of(_sums(weights, exact)))


def _unscaled(values: Array) -> Scaled:
    return Scaled(values, jnp.zeros(values.shape, jnp.int32))


def _sums(weights: RNN, arithmetic: _Arithmetic) -> _Sums:
    ones, through, add = arithmetic
    into, out_of, drives = [], [], []
    below = ones(weights.layers[0].input_kernel.shape[0])
    for layer in weights.layers:
        drive = through(layer.input_kernel, below, 0)
        if layer.bias is not None:
            drive = add(drive, through(layer.bias[None], ones(1), 0))
        below = drive
        for _ in range(_STEPS if layer.recurrent_kernel is not None else 0):
            below = add(drive, through(layer.recurrent_kernel, below, 0))
        drives.append(drive)
        into.append(below)
    outputs = through(weights.readout.kernel, below, 0)
    if weights.readout.bias is not None:
        outputs = add(outputs, through(weights.readout.bias[None], ones(1), 0))
    above = through(weights.readout.kernel, ones(weights.readout.kernel.shape[1]), 1)
    for layer in weights.layers[::-1]:
        drive = above
        for _ in range(_STEPS if layer.recurrent_kernel is not None else 0):
            above = add(drive, through(layer.recurrent_kernel, above, 1))
        drives.append(drive)
        out_of.append(above)
        above = through(layer.input_kernel, above, 1)
    return _Sums([*into, outputs], out_of[::-1], [*drives, outputs])


def _through(kernel: Array, values: Scaled, axis: int) -> Scaled:
    """Σ_s kernel_st² · value_s for each t, of values mantissa · 4^exponent."""
    kernel = kernel if axis == 0 else kernel.T
    onto = jnp.where(kernel == 0, _NOTHING, powers.exponent(kernel)) + values.exponent[:, None]
    top = onto.max(axis=0)
    terms = powers.scaled(kernel, values.exponent[:, None] - top)  # at most 1
    return _normal(values.mantissa @ jnp.square(terms), top)


def _sum(a: Scaled, b: Scaled) -> Scaled:
    top = jnp.maximum(a.exponent, b.exponent)
    mantissas = [powers.scaled(x.mantissa, 2 * (x.exponent - top)) for x in (a, b)]
    return _normal(mantissas[0] + mantissas[1], top)


def _normal(mantissa: Array, exponent: Array) -> Scaled:
    """The same numbers with mantissas of about 1, and zeros below all."""
    up = powers.exponent(mantissa) // 2
    exponent = jnp.where(mantissa == 0, _NOTHING, exponent + up)
    return Scaled(powers.scaled(mantissa, -2 * up), exponent)


def _middle(r: Scaled, q: Scaled) -> Scaled:
    """(r / q)^(1/2) of r² and q²; r or 1 / q where the other is 0, and 1 where both are."""
    enters, leaves = r.mantissa != 0, q.mantissa != 0
    squares = jnp.where(enters, r.mantissa, 1), jnp.where(leaves, q.mantissa, 1)
    exponents = jnp.where(enters, r.exponent, 0) - jnp.where(leaves, q.exponent, 0)
    both = enters & leaves
    odd = jnp.where(both, exponents % 2, 0)
    square = squares[0] / squares[1] * jnp.where(odd == 1, 4.0, 1.0)  # r² / q² without its even power of 4
    mantissa = jnp.sqrt(jnp.where(both, jnp.sqrt(square), square))
    return Scaled(mantissa, jnp.where(both, exponents // 2, exponents))
