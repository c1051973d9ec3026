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

All of it is computed in the gauge in which every frozen weight is between 1/2 and 1 in magnitude (up to a power of two,
so without rounding): products along the skeleton are then in the range of the dtype wherever path values are.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from maso_rnn import checks, powers
from maso_rnn.network import RNN
from path_opt.graph import ReductionGraph, View, at_sources, at_targets
from path_opt.guard import Steps, checked_rate, clipped, guarded
from path_opt.rescaling import Gauge, checked_units, checked_view, gauge, like, moved, shifted, wide

_START = 'start from weights that are not zero, or call path_opt.set_skeleton(params, graph, how="overwrite")'
_TRANSLATED = "of functions and trees like the parameters, value_fn, obj_fn, grad_fn and grad can"
_STEEP = 1e6  # how much larger a path-space step may be than one of balanced weights before `in_path_space` warns


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
    view = checked_view(params, graph)
    _check_skeleton(view.weights, graph)
    values, frozen = _path_values(view.weights, graph)
    return PathValues(view.write(values), frozen)


@jax.jit
def _path_values(weights: RNN, graph: ReductionGraph) -> tuple[RNN, tuple[Array, ...]]:
    there = _encode(wide(weights), graph)
    return like(there.values, weights), _frozen(weights, graph)


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
    checks.instance("path_values", path_values, PathValues, "path_opt.path_values")
    view = checked_view(path_values.values, graph, "path_values.values")
    frozen = checked_units("path_values.frozen", path_values.frozen, graph)
    checks.finite(**{"path_values.frozen": frozen})
    dtype = view.weights.readout.kernel.dtype
    if any(weights.dtype != dtype for weights in frozen):
        raise TypeError(f"path_values.frozen must be of the dtype of the values, {dtype}; convert one of them")
    return view.write(_from_path_values(view.weights, frozen, graph))


@jax.jit
def _from_path_values(values: RNN, frozen: tuple[Array, ...], graph: ReductionGraph) -> RNN:
    by, frozen = _in_gauge(wide(frozen), graph)
    there = _Place(wide(values), frozen, by)
    return like(_weights(there.values, there, graph), values)


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
    view = checked_view(params, graph)
    if checks.choice("how", how, ("rescale", "overwrite")) == "rescale":
        _check_skeleton(view.weights, graph)
        return view.write(_rescaled_skeleton(view.weights, graph))
    return view.write(_overwritten_skeleton(view.weights, graph))


@jax.jit
def _rescaled_skeleton(weights: RNN, graph: ReductionGraph) -> RNN:
    by, frozen = _in_gauge(wide(_frozen(weights, graph)), graph)
    near = shifted(wide(weights), by)  # frozen weights are nearly 1 in it
    products = [abs(product) for product in _products_out(frozen, graph)]
    sources, targets = at_sources(products, near), at_targets(products, near)
    return like(jax.tree.map(lambda w, s, t: w * (t / s), near, sources, targets), weights)


@jax.jit
def _overwritten_skeleton(weights: RNN, graph: ReductionGraph) -> RNN:
    kernels = [layer.input_kernel for layer in weights.layers] + [weights.readout.kernel]
    kernels[:-1] = [jnp.where(mask, 1, kernel) for kernel, mask in zip(kernels, graph.incoming, strict=False)]
    kernels[1:] = [jnp.where(mask, 1, kernel) for kernel, mask in zip(kernels[1:], graph.outgoing, strict=True)]
    return _with_kernels(weights, kernels)


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
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree, weights: RNN | None) -> PathSpaceState:
        crossings = jnp.zeros((), jnp.int32)
        if weights is None:
            return PathSpaceState(inner.init(params), crossings, jnp.zeros(()))
        _check_skeleton(weights, graph)
        _warn_if_steep(weights, graph)
        view = graph.view(params)
        there, smallest = _begin(weights, graph)
        return PathSpaceState(inner.init(view.write(there)), crossings, smallest)

    def update(
        view: View, gradient: RNN, state: PathSpaceState, extra: Mapping[str, Any]
    ) -> tuple[RNN, PathSpaceState]:
        there, slopes = _enter(view.weights, gradient, graph)
        extra = {name: _translated(name, value, view, there, graph) for name, value in extra.items()}
        seen = view.write(slopes), state.inner, view.write(there.values)
        with checks.calling("inner", f"the extra arguments {sorted(extra)}; a line search needs value, grad, value_fn"):
            steps, inner_state = inner.update(*seen, **extra)
        steps = view.read(steps, "the inner transform's updates")
        moves, after, crossings, smallest = _leave(steps, there, graph, state)
        if "value_fn" in extra:
            inner_state = _with_grad_of_weights(inner_state, view, after, there, graph)
        return moves, PathSpaceState(inner_state, crossings, smallest)

    return guarded(Steps(init, update), graph, "in_path_space")


def _translated(name: str, value: Any, view: View, there: _Place, graph: ReductionGraph) -> Any:
    """What a caller gives for weights, as the inner transform needs it: for path values."""

    def weights_of(values: RNN) -> PyTree:
        return view.write(like(_weights(values, there, graph), view.weights))

    if name == "grad":
        return view.write(_slopes(view.read(value, "grad"), there.values, there, graph))
    if name in ("value_fn", "obj_fn", "grad_fn"):
        checks.function(name, value)
    if name in ("value_fn", "obj_fn"):

        @functools.wraps(value)  # optax reads the names of its arguments
        def at_path_values(values: PyTree, *rest: Any, **options: Any) -> Any:
            return value(weights_of(view.read(values, "path values")), *rest, **options)

        return at_path_values
    if name == "grad_fn":

        def slopes_at(values: PyTree, *rest: Any) -> PyTree:
            at = view.read(values, "path values")
            gradient = value(weights_of(at), *rest)
            return view.write(_slopes(view.read(gradient, "grad_fn(...)"), at, there, graph))

        return slopes_at
    if callable(value) or jax.tree.structure(value) == view.structure:
        raise TypeError(f"{name} cannot be translated into path values: {_TRANSLATED}; use its transform outside")
    return value


def _with_grad_of_weights(state: PyTree, view: View, values: RNN, there: _Place, graph: ReductionGraph) -> PyTree:
    """The state of a line search with the gradient that it keeps as one of weights: its reader is the caller."""
    kept = optax.tree_utils.tree_get(state, "grad")
    if kept is None or jax.tree.structure(kept) != view.structure:
        return state
    weights = _weights(values, there, graph)
    gradient = _weight_gradient(view.read(kept, "grad"), weights, graph)
    return optax.tree_utils.tree_set(state, grad=view.write(gradient))


def _warn_if_steep(weights: RNN, graph: ReductionGraph) -> None:
    """Say so where steps in path space would be far larger than in weight space."""
    if checks.is_concrete(weights) and (steepness := float(_steepness(weights, graph))) > _STEEP:
        warnings.warn(
            f"path-space steps of this start are up to {steepness:.1g} times as large as weight space's at the same "
            "learning rate. Take one that much smaller, bound steps by clip=, or start from "
            'set_skeleton(params, graph, how="overwrite") with graph = reduction_graph(params, skeleton="modulo")',
            stacklevel=4,
        )


def path_space_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    graph: ReductionGraph,
    momentum: float | Float[Array, ""] | None = None,
    clip: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Gradient descent on the values of basis paths.

    Equation: v ← v − η ∂loss/∂v, with momentum on path values where asked for.

    Args:
        learning_rate: a positive number, or a schedule of the step.
        graph: the reduction graph of the parameters.
        momentum: its decay, in [0, 1), or None.
        clip: the largest norm that the gradient in path values may have; None for no bound.

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
    if momentum is not None and checks.is_concrete(checks.real_number("momentum", momentum)) and not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    return in_path_space(clipped(clip, optax.sgd(checked_rate(learning_rate), momentum)), graph)


def path_space_adam(
    learning_rate: optax.ScalarOrSchedule, *, graph: ReductionGraph, clip: float | None = None
) -> optax.GradientTransformationExtraArgs:
    """Adam on the values of basis paths.

    Equation: v ← v + Adam(∂loss/∂v).

    Args:
        learning_rate: a positive number, or a schedule of the step.
        graph: the reduction graph of the parameters.
        clip: the largest norm that the gradient in path values may have; None for no bound.

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
    return in_path_space(clipped(clip, optax.adam(checked_rate(learning_rate))), graph)


class _Place(NamedTuple):
    """A network in path space, in the gauge of its frozen weights."""

    values: RNN
    frozen: tuple[Array, ...]
    gauge: Gauge


@jax.jit
def _begin(weights: RNN, graph: ReductionGraph) -> tuple[RNN, Array]:
    return _encode(weights, graph).values, _smallest_skeleton(weights, graph)


@jax.jit
def _enter(weights: RNN, gradient: RNN, graph: ReductionGraph) -> tuple[_Place, RNN]:
    there = _encode(wide(weights), graph)
    return there, _slopes(wide(gradient), there.values, there, graph)


@jax.jit
def _slopes(gradient: RNN, values: RNN, there: _Place, graph: ReductionGraph) -> RNN:
    """The gradient in path values of a gradient in weights."""
    _, pull_back = jax.vjp(lambda values: _decode(values, there.frozen, graph), values)
    # a weight is one of the gauge times a power of two, and so is its gradient's inverse
    (slopes,) = pull_back(shifted(like(gradient, values), there.gauge, -1))
    return slopes


@jax.jit
def _weight_gradient(slopes: RNN, weights: RNN, graph: ReductionGraph) -> RNN:
    """The gradient in weights of a gradient in path values, of a function that no rescaling changes."""
    _, pull_back = jax.vjp(lambda weights: _encode(weights, graph).values, weights)
    return pull_back(slopes)[0]


@jax.jit
def _weights(values: RNN, there: _Place, graph: ReductionGraph) -> RNN:
    """The weights of other path values, from the frozen weights of that place."""
    return shifted(_decode(values, there.frozen, graph), there.gauge, -1)


@jax.jit
def _leave(steps: RNN, there: _Place, graph: ReductionGraph, state: PathSpaceState) -> tuple[RNN, RNN, Array, Array]:
    """The steps of weights that steps of path values are, the new values, crossings and the smallest skeleton."""
    values = jax.tree.map(jnp.add, there.values, like(steps, there.values))
    before, after = (_decode(of, there.frozen, graph) for of in (there.values, values))
    moves = shifted(jax.tree.map(jnp.subtract, after, before), there.gauge, -1)
    smallest = _smallest_skeleton(shifted(after, there.gauge, -1), graph)
    crossings = state.crossings + _crossings(there.values, values, graph)
    return moves, values, crossings, jnp.minimum(state.smallest_skeleton, smallest)


@jax.jit
def _steepness(weights: RNN, graph: ReductionGraph) -> Array:
    """The largest ratio of a path-space step to one of the balanced weights at one learning rate: 1 / (B · F)²."""
    balanced = moved(wide(weights), gauge(wide(weights)), -1)
    into, out = _products(balanced, _frozen(balanced, graph), graph)
    products = jax.tree.map(jnp.multiply, at_sources(into, balanced), at_targets(out, balanced))
    return 1 / jnp.square(jnp.stack([abs(product).min() for product in jax.tree.leaves(products)]).min())


def _in_gauge(frozen: Sequence[Array], graph: ReductionGraph) -> tuple[Gauge, tuple[Array, ...]]:
    """The gauge in which frozen weights are between 1/2 and 1, and what they are in it."""
    zero = jnp.zeros((), jnp.int32)
    units, above = [], jnp.broadcast_to(zero, (graph.outputs,))
    for weights, mask in zip(frozen[::-1], graph.outgoing[::-1], strict=True):
        above = jnp.where(mask, above, 0).sum(axis=1) - powers.exponent(weights)
        units.append(above)
    near = tuple(powers.scaled(weights, -powers.exponent(weights)) for weights in frozen)
    return Gauge(tuple(units[::-1]), zero, zero), near


def _encode(weights: RNN, graph: ReductionGraph) -> _Place:
    by, frozen = _in_gauge(_frozen(weights, graph), graph)
    near = shifted(weights, by)
    into, out = _products(near, frozen, graph)
    values = jax.tree.map(lambda b, w, f: b * w * f, at_sources(into, near), near, at_targets(out, near))
    return _Place(values, frozen, by)


def _products(weights: RNN, frozen: Sequence[Array], graph: ReductionGraph) -> tuple[list[Array], list[Array]]:
    """B and F: for each layer (hidden,), the products along the skeleton from an input and to an output."""
    into = [jnp.ones(graph.inputs, weights.readout.kernel.dtype)]
    for layer, mask in zip(weights.layers, graph.incoming, strict=True):
        into.append(jnp.where(mask, into[-1][:, None] * layer.input_kernel, 0).sum(axis=0))
    return into[1:], _products_out(frozen, graph)


def _products_out(frozen: Sequence[Array], graph: ReductionGraph) -> list[Array]:
    products = [jnp.ones(graph.outputs, frozen[-1].dtype)]
    for weights, mask in zip(frozen[::-1], graph.outgoing[::-1], strict=True):
        products.append(weights * jnp.where(mask, products[-1], 0).sum(axis=1))
    return products[:0:-1]


def _decode(values: RNN, frozen: Sequence[Array], graph: ReductionGraph) -> RNN:
    out, into = _products_out(frozen, graph), [jnp.ones(graph.inputs, values.readout.kernel.dtype)]
    incoming = zip(_incoming(values, graph), graph.incoming, _shared(graph), strict=True)
    for l, (through, mask, shared) in enumerate(incoming):
        free = through / out[l]
        if shared.any():
            # the edge in is frozen: what leads out of the unit below it
            below = jnp.where(mask, (into[-1] * frozen[l - 1])[:, None], 0).sum(axis=0)
            free = jnp.where(shared, below, free)
        into.append(free)
    weights = jax.tree.map(lambda v, b, f: v / (b * f), values, at_sources(into[1:], values), at_targets(out, values))
    kernels = [layer.input_kernel for layer in weights.layers] + [weights.readout.kernel]
    kernels[1:] = [
        jnp.where(mask, fixed[:, None], kernel)
        for kernel, mask, fixed in zip(kernels[1:], graph.outgoing, frozen, strict=True)
    ]
    return _with_kernels(weights, kernels)


def _incoming(weights: RNN, graph: ReductionGraph) -> list[Array]:
    """For each layer (hidden,), what stands at the skeleton edge into each unit."""
    return [
        jnp.where(mask, layer.input_kernel, 0).sum(axis=0)
        for layer, mask in zip(weights.layers, graph.incoming, strict=True)
    ]


def _frozen(weights: RNN, graph: ReductionGraph) -> tuple[Array, ...]:
    """For each layer (hidden,), the skeleton weight out of each unit."""
    kernels = [layer.input_kernel for layer in weights.layers[1:]] + [weights.readout.kernel]
    return tuple(jnp.where(mask, kernel, 0).sum(axis=1) for kernel, mask in zip(kernels, graph.outgoing, strict=True))


def _shared(graph: ReductionGraph) -> list[np.ndarray]:
    """For each layer (hidden,), whether the skeleton edge into the unit is also the one out of the unit below."""
    both = [into & out for into, out in zip(graph.incoming[1:], graph.outgoing, strict=False)]
    return [np.zeros(graph.widths[0], bool), *(mask.any(axis=0) for mask in both)]


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


def _check_skeleton(weights: RNN, graph: ReductionGraph) -> None:
    """No skeleton weight that is zero or not finite, where the weights are concrete."""
    if checks.is_concrete(weights) and (useless := _useless_edge(weights, graph)):
        raise ValueError(f"{useless}, and path values divide by it; {_START}")


def _useless_edge(weights: RNN, graph: ReductionGraph) -> str:
    """The first skeleton weight that is zero or not finite, in words; empty where there is none."""
    names = [layer.input_kernel for layer in graph.names.layers]
    ins = zip(names, _incoming(weights, graph), strict=True)
    outs = zip([*names[1:], graph.names.readout.kernel], _frozen(weights, graph), strict=True)
    for way, pairs in (("into", ins), ("out of", outs)):
        for l, (name, edges) in enumerate(pairs):
            bad = np.flatnonzero(~np.isfinite(edges) | (np.asarray(edges) == 0))
            if bad.size:
                return f"leaf {name!r}: the skeleton weight {way} unit {bad[0]} of layer {l} is {edges[bad[0]]}"
    return ""
