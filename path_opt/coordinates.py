"""Path space: the values of basis paths as coordinates, and any optax transform run in them.

Along the skeleton let B_i be the product of the weights from an input to unit i, and F_i that from unit i to an output
(1 at inputs, constants and outputs). The basis path through an edge e goes along the skeleton to e and on from it:

    v_e = B_source · w_e · F_target.

A rescaling multiplies B_i by c_i and divides F_i by it, so v stays as it is. The edges that lead out of the hidden
units along the skeleton would count the path through their unit a second time: those are frozen, and the other
m − H values together with them give the weights back, layer by layer:

    F_i = w_out · F_target from the frozen weights, from the last layer to the first;
    B_i = v_in / F_i, or B_source · w where the edge into i is itself frozen, from the first layer to the last;
    w_e = v_e / (B_source · F_target).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from maso_rnn.network import RNN
from path_opt import checks
from path_opt.graph import ReductionGraph, at_sources, at_targets, read_finite, require_graph
from path_opt.guard import guarded, like
from path_opt.rescaling import hidden_arrays, rescaled


class PathValues(NamedTuple):
    """A network in path space.

    Attributes:
        values: a pytree like the parameters: at each edge the value of the basis path through it. At a frozen edge
            that is the value of the path through its unit, which stands at the unit's incoming skeleton edge as well;
            `from_path_values` does not read it there.
        frozen: for each layer (hidden,), the weights of the skeleton edges out of its units, signs and all.
    """

    values: PyTree[Float[Array, "..."]]
    frozen: tuple[Float[Array, " _"], ...]


class PathSpaceState(NamedTuple):
    """The state of `in_path_space`, within its `GuardedState`.

    Attributes:
        inner: the state of the inner transform, on path values.
        crossings: how many times a step took the path value at the skeleton edge into a unit to zero or across it:
            the skeleton weight into the unit changes sign, and with it the other weights of the unit and the skeleton
            weights above it whose path values kept theirs. An edge that is frozen as the one out of the unit below
            has no value of its own to cross.
        smallest_skeleton: the smallest magnitude of a skeleton weight so far; steps grow as its inverse.
    """

    inner: PyTree
    crossings: Int[Array, ""]
    smallest_skeleton: Float[Array, ""]


def path_values(params: PyTree, graph: ReductionGraph) -> PathValues:
    """The values of the basis paths, and the frozen weights.

    Equation: v_e = B_source · w_e · F_target.

    Args:
        params: the parameters.
        graph: their reduction graph.

    Returns:
        `PathValues(values, frozen)`; rescaling the parameters changes `frozen` alone.

    Raises:
        ValueError: if `params` does not fit the graph, a concrete one is not finite, or a concrete skeleton weight is
            zero.
        TypeError: if a leaf is not a floating array, or `graph` is not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> graph = path_opt.reduction_graph(rnn)
        >>> twice = path_opt.rescale(rnn, graph, [jnp.full(4, jnp.log(2.0))])
        >>> a, b = path_values(rnn, graph), path_values(twice, graph)
        >>> bool(jnp.allclose(a.values.readout.kernel, b.values.readout.kernel))
        True
        >>> bool(jnp.allclose(a.frozen[0], 2 * b.frozen[0]))
        True

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019); Meng et al. (2019), section 3, for the skeleton method.
    """
    weights = read_finite(params, graph)
    _require_skeleton(weights, graph)
    values, frozen = _encode(weights, graph)
    return PathValues(graph.write(values, params), frozen)


def from_path_values(path_values: PathValues, graph: ReductionGraph) -> PyTree:
    """The parameters of given path values and frozen weights: the inverse of `path_values`.

    Equation: F from the frozen weights, B_i = v_in / F_i, w_e = v_e / (B_source · F_target).

    Args:
        path_values: from `path_values`, or made of numbers of one's own, all of one dtype.
        graph: the reduction graph.

    Returns:
        The parameters, a pytree like `path_values.values`. Where a product of skeleton weights is zero they are not
        finite.

    Raises:
        ValueError: if the values or the frozen weights do not fit the graph, or concrete ones are not finite.
        TypeError: if a leaf is not a floating array, or `path_values` are none.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> graph = path_opt.reduction_graph(rnn)
        >>> again = from_path_values(path_opt.path_values(rnn, graph), graph)
        >>> bool(jnp.allclose(again.layers[0].recurrent_kernel, rnn.layers[0].recurrent_kernel, rtol=1e-4))
        True

    Source:
        Meng et al. (2019), weight allocation; here for recurrent networks of unequal widths with biases.
    """
    require_graph(graph)
    if not isinstance(path_values, PathValues):
        raise TypeError(
            f"path_values must be a PathValues, got {type(path_values).__name__}; path_opt.path_values makes one"
        )
    values = read_finite(path_values.values, graph, "path_values.values")
    frozen = hidden_arrays("path_values.frozen", path_values.frozen, graph)
    dtype = values.readout.kernel.dtype
    if any(weights.dtype != dtype for weights in frozen):
        raise TypeError(f"path_values.frozen must be of the dtype of the values, {dtype}; convert one of them")
    return graph.write(_decode(values, frozen, graph), path_values.values)


def set_skeleton(params: PyTree, graph: ReductionGraph, how: str = "rescale") -> PyTree:
    """The parameters with skeleton weights of magnitude 1.

    Equation: `"rescale"`: w_e · |F_target| / |F_source|, which gives every frozen weight the magnitude 1 and keeps its
    sign; `"overwrite"`: every skeleton weight, in and out, becomes 1.

    Rescaling keeps the function and the path values, so it cannot make a step in path space any safer. Overwriting, as
    the papers do at the start, is another network.

    Args:
        params: the parameters.
        graph: their reduction graph.
        how: `"rescale"` (the same function) or `"overwrite"` (another one).

    Returns:
        A pytree like `params`.

    Raises:
        ValueError: if `how` is neither, `params` does not fit the graph, a concrete one is not finite, or, to rescale,
            a concrete skeleton weight is zero.
        TypeError: if a leaf is not a floating array, or `graph` is not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> graph = path_opt.reduction_graph(rnn)
        >>> frozen = path_opt.path_values(set_skeleton(rnn, graph), graph).frozen[0]
        >>> bool(jnp.allclose(abs(frozen), 1))
        True

    Source:
        Meng et al. (2019), section 3: skeleton weights are set to 1.
    """
    weights = read_finite(params, graph)
    if how == "rescale":
        _require_skeleton(weights, graph)
        scales = [abs(product) for product in _products_out(_frozen(weights, graph), graph)]
        return graph.write(rescaled(weights, scales), params)
    if how != "overwrite":
        raise ValueError(f'how must be "rescale" (same function) or "overwrite" (another one), got {how!r}')
    kernels = [layer.input_kernel for layer in weights.layers] + [weights.readout.kernel]
    incoming, outgoing = graph.skeleton
    ones = [
        kernel.at[np.asarray(sources), np.arange(len(sources))].set(1)
        for kernel, sources in zip(kernels[:-1], incoming, strict=True)
    ] + [kernels[-1]]
    ones[1:] = [
        kernel.at[np.arange(len(targets)), np.asarray(targets)].set(1)
        for kernel, targets in zip(ones[1:], outgoing, strict=True)
    ]
    return graph.write(_with_kernels(weights, ones), params)


def in_path_space(inner: optax.GradientTransformation, graph: ReductionGraph) -> optax.GradientTransformationExtraArgs:
    """Any optax transform, run on the values of basis paths instead of weights: rescaling does not change it.

    Equation: v = encode(w); g_v = (∂decode/∂v)ᵀ g; u = inner(g_v, v); Δw = decode(v + u) − decode(v).

    The frozen weights do not move. Costs a few operations for each parameter, whatever the batch and the time. Put it
    last in a chain: clipping or decay of weights before it is not invariant, inside `inner` it is. Whatever leaf the
    graph does not know must be masked, as `optax.partition` does.

    Args:
        inner: what sees gradients and values of paths in place of gradients and parameters.
        graph: the reduction graph of the parameters.

    Returns:
        A transform with the state `GuardedState(inner=PathSpaceState(...), ...)`. Its `init` and `update` refuse
        parameters that do not fit the graph, and its `init` skeleton weights that are zero.

    Raises:
        TypeError: if `inner` is not an optax transform or `graph` not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> transform = in_path_space(optax.chain(optax.clip(1.0), optax.sgd(0.1)), path_opt.reduction_graph(rnn))
        >>> loss = lambda rnn: (maso_rnn.forward(rnn, jnp.ones((5, 1)))[-1] ** 2).sum()
        >>> updates, state = transform.update(jax.grad(loss)(rnn), transform.init(rnn), rnn)
        >>> bool(loss(optax.apply_updates(rnn, updates)) < loss(rnn)), int(state.inner.crossings)
        (True, 0)

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019), and Meng et al. (2019), for gradient descent in path space.
    """
    if not isinstance(inner, optax.GradientTransformation):
        raise TypeError(f"inner must be an optax transform, as optax.adam(1e-3), got {type(inner).__name__}")
    require_graph(graph)
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree) -> PathSpaceState:
        weights = graph.read(params)
        _require_skeleton(weights, graph)
        values, _ = _encode(weights, graph)
        smallest = _smallest_skeleton(weights, graph)
        return PathSpaceState(inner.init(graph.write(values, params)), jnp.zeros((), jnp.int32), smallest)

    def update(updates: PyTree, state: PathSpaceState, params: PyTree, **extra: Any) -> tuple[PyTree, PathSpaceState]:
        weights = graph.read(params)
        gradients = like(graph.read(updates, "updates"), weights)
        values, frozen = _encode(weights, graph)
        before, pull_back = jax.vjp(lambda values: _decode(values, frozen, graph), values)
        (slopes,) = pull_back(gradients)
        steps, inner_state = inner.update(
            graph.write(slopes, updates), state.inner, graph.write(values, params), **extra
        )
        steps = like(graph.read(steps, "the inner transform's updates"), values)
        stepped = jax.tree.map(jnp.add, values, steps)
        after = _decode(stepped, frozen, graph)
        smallest = jnp.minimum(state.smallest_skeleton, _smallest_skeleton(after, graph))
        new = PathSpaceState(inner_state, state.crossings + _crossings(values, stepped, graph), smallest)
        return graph.write(jax.tree.map(jnp.subtract, after, before), updates), new

    return guarded(optax.GradientTransformationExtraArgs(init, update), "in_path_space")


def path_space_sgd(
    learning_rate: optax.ScalarOrSchedule, *, graph: ReductionGraph, momentum: float | Float[Array, ""] | None = None
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent on the values of basis paths.

    Equation: v ← v − η ∂loss/∂v, with momentum on path values where asked for.

    Args:
        learning_rate: a positive number, or a schedule of the step.
        graph: the reduction graph of the parameters.
        momentum: its decay, in [0, 1), or None.

    Returns:
        `in_path_space(optax.sgd(learning_rate, momentum), graph)`.

    Raises:
        ValueError: if a concrete `learning_rate` is not positive and finite, or a concrete `momentum` not in [0, 1).
        TypeError: if either is not one real number (nor a schedule), or `graph` is not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> state = path_space_sgd(0.1, graph=path_opt.reduction_graph(rnn)).init(rnn)
        >>> int(state.skipped)
        0

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019).
    """
    checks.learning_rate(learning_rate)
    checks.momentum(momentum)
    return in_path_space(optax.sgd(learning_rate, momentum), graph)


def path_space_adam(
    learning_rate: optax.ScalarOrSchedule, *, graph: ReductionGraph
) -> optax.GradientTransformationExtraArgs:
    """Adam on the values of basis paths.

    Equation: v ← v + Adam(∂loss/∂v).

    Args:
        learning_rate: a positive number, or a schedule of the step.
        graph: the reduction graph of the parameters.

    Returns:
        `in_path_space(optax.adam(learning_rate), graph)`.

    Raises:
        ValueError: if a concrete `learning_rate` is not positive and finite.
        TypeError: if `graph` is not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> state = path_space_adam(1e-3, graph=path_opt.reduction_graph(rnn)).init(rnn)
        >>> int(state.skipped)
        0

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019), with the Adam of Kingma and Ba (2015).
    """
    checks.learning_rate(learning_rate)
    return in_path_space(optax.adam(learning_rate), graph)


def _encode(weights: RNN, graph: ReductionGraph) -> tuple[RNN, tuple[Array, ...]]:
    frozen = _frozen(weights, graph)
    out, into = _products_out(frozen, graph), [jnp.ones(graph.inputs, weights.readout.kernel.dtype)]
    for skeleton, sources in zip(_incoming(weights, graph), graph.skeleton.incoming, strict=True):
        into.append(into[-1][np.asarray(sources)] * skeleton)
    values = jax.tree.map(lambda b, w, f: b * w * f, at_sources(into[1:], weights), weights, at_targets(out, weights))
    return values, frozen


def _decode(values: RNN, frozen: Sequence[Array], graph: ReductionGraph) -> RNN:
    out, into = _products_out(frozen, graph), [jnp.ones(graph.inputs, values.readout.kernel.dtype)]
    shared = _shared(graph)
    for l, (through, sources) in enumerate(zip(_incoming(values, graph), graph.skeleton.incoming, strict=True)):
        free = through / out[l]
        if shared[l].any():
            # the edge in is frozen: what leads out of the unit below it
            sources_at = np.asarray(sources)
            free = jnp.where(shared[l], into[-1][sources_at] * frozen[l - 1][sources_at], free)
        into.append(free)
    weights = jax.tree.map(lambda v, b, f: v / (b * f), values, at_sources(into[1:], values), at_targets(out, values))
    kernels = [layer.input_kernel for layer in weights.layers] + [weights.readout.kernel]
    kernels[1:] = [
        kernel.at[np.arange(len(targets)), np.asarray(targets)].set(fixed)
        for kernel, targets, fixed in zip(kernels[1:], graph.skeleton.outgoing, frozen, strict=True)
    ]
    return _with_kernels(weights, kernels)


def _products_out(frozen: Sequence[Array], graph: ReductionGraph) -> list[Array]:
    """F: for each layer (hidden,), the product along the skeleton from each unit to an output."""
    products = [jnp.ones(graph.outputs, frozen[-1].dtype)]
    for weights, targets in zip(frozen[::-1], graph.skeleton.outgoing[::-1], strict=True):
        products.append(weights * products[-1][np.asarray(targets)])
    return products[:0:-1]


def _incoming(weights: RNN, graph: ReductionGraph) -> list[Array]:
    """For each layer (hidden,), what stands at the skeleton edge into each unit."""
    return [
        layer.input_kernel[np.asarray(sources), np.arange(len(sources))]
        for layer, sources in zip(weights.layers, graph.skeleton.incoming, strict=True)
    ]


def _frozen(weights: RNN, graph: ReductionGraph) -> tuple[Array, ...]:
    """For each layer (hidden,), the skeleton weight out of each unit."""
    kernels = [layer.input_kernel for layer in weights.layers[1:]] + [weights.readout.kernel]
    return tuple(
        kernel[np.arange(len(targets)), np.asarray(targets)]
        for kernel, targets in zip(kernels, graph.skeleton.outgoing, strict=True)
    )


def _shared(graph: ReductionGraph) -> list[np.ndarray]:
    """For each layer (hidden,), whether the skeleton edge into the unit is also the one out of the unit below."""
    incoming, outgoing = graph.skeleton
    shared = [np.zeros(graph.widths[0], bool)]
    for sources, below in zip(incoming[1:], outgoing, strict=False):
        shared.append(np.asarray(below)[np.asarray(sources)] == np.arange(len(sources)))
    return shared


def _with_kernels(weights: RNN, kernels: Sequence[Array]) -> RNN:
    """The weights with other input kernels and, last of `kernels`, another readout kernel."""
    layers = tuple(
        dataclasses.replace(layer, input_kernel=kernel) for layer, kernel in zip(weights.layers, kernels, strict=False)
    )
    return dataclasses.replace(weights, layers=layers, readout=dataclasses.replace(weights.readout, kernel=kernels[-1]))


def _smallest_skeleton(weights: RNN, graph: ReductionGraph) -> Array:
    edges = (*_incoming(weights, graph), *_frozen(weights, graph))
    return jnp.stack([abs(edge).min() for edge in edges]).min()


def _crossings(before: RNN, after: RNN, graph: ReductionGraph) -> Array:
    """How many units have a skeleton edge into them, not a frozen one, whose path value reached or crossed zero."""
    count = jnp.zeros((), jnp.int32)
    for old, new, shared in zip(_incoming(before, graph), _incoming(after, graph), _shared(graph), strict=True):
        # signs, since products of small numbers are 0
        count += ((jnp.sign(old) * jnp.sign(new) <= 0) & ~shared).sum(dtype=jnp.int32)
    return count


def _require_skeleton(weights: RNN, graph: ReductionGraph) -> None:
    """No skeleton weight that is zero or not finite, where the weights are concrete."""
    if not checks.is_concrete(weights):
        return
    names = [layer.input_kernel for layer in graph.names.layers]
    ins = zip(names, _incoming(weights, graph), strict=True)
    outs = zip([*names[1:], graph.names.readout.kernel], _frozen(weights, graph), strict=True)
    for way, pairs in (("into", ins), ("out of", outs)):
        for l, (name, edges) in enumerate(pairs):
            bad = np.flatnonzero(~np.isfinite(edges) | (np.asarray(edges) == 0))
            if bad.size:
                raise ValueError(
                    f"leaf {name!r}: the skeleton weight {way} unit {bad[0]} of layer {l} is {edges[bad[0]]}, and path "
                    "values divide by it; start from weights that are not zero, or call path_opt.set_skeleton(params, "
                    'graph, how="overwrite")'
                )
