"""Rescaling: the group under which a ReLU RNN's function stays as it is, and one representative of each orbit.

For c > 0, one number for each hidden unit, incoming weights × c_i, outgoing ÷ c_i and recurrent
U_ij × c_j / c_i (in, out) leave every output unchanged, since act(c · p) = c · act(p). Biases and the learned initial
state are incoming. An edge e from s to t thus becomes w_e · c_t / c_s, with c = 1 at inputs, constants and outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from maso_rnn.network import RNN
from path_opt import checks
from path_opt.graph import ReductionGraph, at_sources, at_targets, read_finite

_STEPS = 4  # time steps of the paths that `gauge` measures


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
    weights = read_finite(params, graph)
    dtype = weights.readout.kernel.dtype
    scales = [jnp.exp(scale.astype(dtype)) for scale in hidden_arrays("log_scales", log_scales, graph)]
    return graph.write(rescaled(weights, scales), params)


def hidden_arrays(name: str, values: Any, graph: ReductionGraph) -> tuple[Array, ...]:
    """One floating (hidden,) for each layer, finite where they are concrete."""
    if not isinstance(values, tuple | list):
        raise TypeError(f"{name} must be a sequence of one (hidden,) for each layer, got {type(values).__name__}")
    for l, value in enumerate(values):
        checks.floating(f"{name}[{l}]", value)
    shapes, wanted = [value.shape for value in values], [(width,) for width in graph.widths]
    if shapes != wanted:
        raise ValueError(f"{name} must have one (hidden,) for each layer, of shapes {wanted}, got {shapes}")
    checks.finite(name, values)
    return tuple(jnp.asarray(value) for value in values)


def rescaled(weights: RNN, scales: Sequence[Array]) -> RNN:
    """`w_e · c_target / c_source` for every edge."""
    return jax.tree.map(
        lambda w, source, target: w * (target / source),
        weights,
        at_sources(scales, weights),
        at_targets(scales, weights),
    )


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
    weights = read_finite(params, graph)
    return graph.write(rescaled(weights, [1 / unit for unit in gauge(weights)]), params)


def gauge(weights: RNN) -> list[Array]:
    """For each unit (r_i / q_i)^(1/2): what a rescaling by c multiplies by c, and 1 where the network is balanced.

    Where no path leaves a unit it is r_i, where none enters one 1 / q_i, and 1 where neither does. r² starts from ones
    at inputs and at the constant of the biases, q² from ones at the outputs, and each follows the squared weights for 4
    recurrent steps.
    """
    squared = jax.tree.map(jnp.square, weights)
    dtype = weights.readout.kernel.dtype
    into, out_of = [], []
    below = jnp.ones(squared.layers[0].input_kernel.shape[0], dtype)
    for layer in squared.layers:
        drive = below @ layer.input_kernel
        if layer.bias is not None:
            drive = drive + layer.bias
        below = drive
        for _ in range(_STEPS):
            below = drive + below @ layer.recurrent_kernel
        into.append(below)
    above = squared.readout.kernel.sum(axis=1)
    for l in reversed(range(len(squared.layers))):
        layer, drive = squared.layers[l], above
        for _ in range(_STEPS):
            above = drive + layer.recurrent_kernel @ above
        out_of.append(above)
        above = layer.input_kernel @ above
    ratios = []
    for r, q in zip(into, out_of[::-1], strict=True):
        connected = (r > 0) & (q > 0)
        # r² / q² to the power 1/4
        both = (jnp.where(connected, r, 1) / jnp.where(connected, q, 1)) ** 0.25
        one = jnp.where(r > 0, r, 1 / jnp.where(q > 0, q, 1)) ** 0.5
        ratios.append(jnp.where(connected, both, one))
    return ratios
