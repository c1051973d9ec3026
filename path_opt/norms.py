"""Path norms of a recurrent network with shared weights, and Path-SGD: gradient descent in their geometry.

Unrolled over T steps, the network has paths from every input, bias and initial state to the outputs, and γ² is the sum
of the squares of their values. With u = w² for every weight,

    κ¹ = ∂γ²/∂u,    κ² = w² · 2 Σ_{t1 < t2} s_{t1 - 1}[i] (M^{t2 - t1 - 1})[j, i] a_{t2}[j],    M = U²,

where s_t is the state that the squared network has after step t on inputs of all ones, and a_t = ∂γ²/∂s_t. κ² is
there for recurrent weights alone, the only ones that a path can use twice; κ¹ + κ² is the diagonal of JᵀJ, J being the
derivative of all path values in the weights. Both come from one pass forward and one back, whatever the batch.

Numbers grow like the square of the spectral radius to the power T, past the range of float32 near T = 125 under He
initialisation, and weights may be rescaled to the edge of their dtype. So all is computed in the gauge `centred`, where
the largest path without time is about 1; states are carried as `mantissa · 2^exponent`, adjoints in the inverse units
divided by γ²: every product of the two is a share of γ², at most 1. Powers of two make no rounding error.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from maso_rnn import checks, powers
from maso_rnn.network import RNN, Layer, Readout
from path_opt.graph import FREEZE, ReductionGraph, View, at_sources, at_targets
from path_opt.guard import Steps, checked_rate, clipped, guarded
from path_opt.rescaling import Gauge, centred, checked_view, like, shifted, wide

_START = "start from another, as maso_rnn.init draws by default, or train with path_opt.equivariant_adam"
_CHUNK = 16  # time steps that κ² takes at once


class PathNormState(NamedTuple):
    """The state of `scale_by_path_norm` and `path_sgd`, within its `GuardedState`.

    Attributes:
        inner: the state of what follows the metric: nothing, or the learning rate.
        root_kappa: a pytree like the parameters: the square root of what gradients are divided by, whose range is that
            of the parameters' inverses.
        step: steps taken, which says when `root_kappa` is due again.
    """

    inner: PyTree
    root_kappa: PyTree[Float[Array, "..."]]
    step: Int[Array, ""]


class _Run(NamedTuple):
    """The squared network on inputs of all ones: the state after each step is `mantissa · 2^exponent`.

    Attributes:
        mantissas: for each layer (time + 1, hidden), from the state before the first step on.
        exponents: for each layer (time + 1,), never falling.
    """

    mantissas: list[Array]
    exponents: list[Array]


def path_norm(
    params: PyTree,
    graph: ReductionGraph,
    num_steps: int,
    *,
    log: bool = False,
    readout: str = "last",
) -> Float[Array, ""]:
    """γ², the sum of the squared values of all paths of the network unrolled over `num_steps`.

    Equation: γ² = Σ_paths Π w², which is the output of the squared network on inputs of all ones.

    Paths begin at inputs, biases and the learned initial state, the readout's bias being one as well.

    Args:
        params: the parameters.
        graph: their reduction graph.
        num_steps: T, at least 1.
        log: whether to return ln γ², which stays finite where γ² does not.
        readout: `"last"`: the outputs of the last step; `"every"`: those of every step.

    Returns:
        γ² or ln γ²; no rescaling changes it.

    Raises:
        ValueError: if `num_steps` is below 1, `readout` is neither, `params` does not fit the graph, or a concrete one
            is not finite.
        TypeError: if `num_steps` is not an integer, `log` not a bool, a leaf is not a floating array, or `graph` is
            not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> graph = path_opt.reduction_graph(rnn)
        >>> small, large = path_norm(rnn, graph, 2), path_norm(rnn, graph, 20)
        >>> bool(0 < small < large)
        True

    Source:
        Neyshabur, Wu, Salakhutdinov, Srebro (2016), equation 5.
    """
    view = checked_view(params, graph)
    check_recurrence(view.weights, graph)
    num_steps, readout = checks.size("num_steps", num_steps), checks.choice("readout", readout, ("last", "every"))
    return _path_norm(view.weights, num_steps, checks.flag("log", log), readout)


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _path_norm(weights: RNN, num_steps: int, log: bool, readout: str) -> Array:
    near, _, range_ = _centred(weights)
    squared = _squared(near)
    value, exponent = _norm(squared, _forward(squared, num_steps), readout)
    exponent += 2 * range_
    result = jnp.log(value) + exponent * math.log(2) if log else powers.scaled(value, exponent)
    return result.astype(weights.readout.kernel.dtype)


def scale_by_path_norm(
    graph: ReductionGraph,
    num_steps: int,
    *,
    second_order: bool = False,
    normalize: bool = True,
    readout: str = "last",
    refresh_every: int = 1,
) -> optax.GradientTransformationExtraArgs:
    """Gradients divided by the diagonal metric of path values: the direction of Path-SGD.

    Equation: g ↦ g · γ² / κ where κ > 0, else 0; with κ = κ¹, or κ¹ + κ².

    A rescaling multiplies g_e by c_s / c_t and κ_e by its square, so that the direction follows the weights. Adding a
    small number to κ would break that, hence the zero.

    Nothing bounds a step where κ is small but not zero. In a network that contracts, the learned initial state has by
    the last of many steps next to no share of γ², and under `readout="last"` its steps are larger by the inverse of
    that share: they are finite, and so are taken and not counted as skipped. Such a network does better without a
    learned initial state, or with `equivariant_adam`.

    Of biases and initial states that are masked, as `optax.partition` does, the paths that begin there are left out of
    γ². A recurrent kernel that is masked is refused: freeze it by taking its steps out afterwards.

    κ¹ costs one pass of a single sequence, κ² a product of two (hidden, hidden) matrices at each step; neither depends
    on the batch. Clipping or decay of weights before it in a chain is not invariant.

    Args:
        graph: the reduction graph of the parameters.
        num_steps: T, the length of the sequences trained on.
        second_order: whether κ² is added; it matters where recurrent weights are near the identity.
        normalize: whether κ is divided by γ², which keeps steps of the gradient's own order; False is the paper's
            rule, whose steps vanish where γ² is large, and are zero where it overflows: it is for few time steps, or
            float64.
        readout: `"last"` if the loss reads the last step's output, `"every"` if every one's.
        refresh_every: how many steps one κ serves; invariance is exact for 1 and, since all starts see κ at the same
            steps, for any other.

    Returns:
        A transform with the state `GuardedState(inner=PathNormState(...), ...)`. Its `init` and `update` refuse
        parameters that do not fit the graph, or with a masked recurrent kernel; and its `init` a readout that is all
        zeros.

    Raises:
        ValueError: if `num_steps` or `refresh_every` is below 1, or `readout` is neither.
        TypeError: if they are not integers, `second_order` or `normalize` is not a bool, or `graph` is not a reduction
            graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> transform = scale_by_path_norm(path_opt.reduction_graph(rnn), 5)
        >>> loss = lambda rnn: (maso_rnn.forward(rnn, jnp.ones((5, 1)))[-1] ** 2).sum()
        >>> scaled, state = transform.update(jax.grad(loss)(rnn), transform.init(rnn), rnn)
        >>> int(state.skipped)
        0

    Source:
        Neyshabur, Wu, Salakhutdinov, Srebro (2016), equations 8 to 10 and theorem 1.
    """
    options = _metric(num_steps, second_order, normalize, readout, refresh_every)
    return _by_path_norm(optax.identity(), graph, options, "scale_by_path_norm")


def path_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    graph: ReductionGraph,
    num_steps: int,
    second_order: bool = False,
    normalize: bool = True,
    readout: str = "last",
    refresh_every: int = 1,
    clip: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Path-SGD for recurrent networks: steepest descent in the geometry of path values.

    Equation: w ← w − η g · γ² / κ.

    Args:
        learning_rate: a positive number, or a schedule of the step.
        graph: the reduction graph of the parameters.
        num_steps: T, the length of the sequences trained on.
        second_order: as in `scale_by_path_norm`.
        normalize: as in `scale_by_path_norm`.
        readout: as in `scale_by_path_norm`.
        refresh_every: as in `scale_by_path_norm`.
        clip: the largest norm that g · (γ² / κ)^(1/2) may have, which no rescaling changes; None for no bound.

    Returns:
        `scale_by_path_norm` followed by the learning rate.

    Raises:
        ValueError: if a concrete `learning_rate` is not positive and finite, or as `scale_by_path_norm`.
        TypeError: as `scale_by_path_norm`.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> transform = path_sgd(0.1, graph=path_opt.reduction_graph(rnn), num_steps=5)
        >>> int(transform.init(rnn).skipped)
        0

    Source:
        Neyshabur, Wu, Salakhutdinov, Srebro (2016), equation 6.
    """
    options = _metric(num_steps, second_order, normalize, readout, refresh_every)
    rate = clipped(clip, optax.scale_by_learning_rate(checked_rate(learning_rate)))
    return _by_path_norm(rate, graph, options, "path_sgd")


class _Metric(NamedTuple):
    """By what gradients are divided."""

    num_steps: int
    second_order: bool
    normalize: bool
    readout: str
    refresh_every: int


def _metric(num_steps: Any, second_order: Any, normalize: Any, readout: Any, refresh_every: Any) -> _Metric:
    return _Metric(
        checks.size("num_steps", num_steps),
        checks.flag("second_order", second_order),
        checks.flag("normalize", normalize),
        checks.choice("readout", readout, ("last", "every")),
        checks.size("refresh_every", refresh_every),
    )


def _by_path_norm(
    inner: optax.GradientTransformation, graph: ReductionGraph, options: _Metric, name: str
) -> optax.GradientTransformationExtraArgs:
    """`inner` between two divisions by the root of κ: in units in which no rescaling changes anything."""
    inner = optax.with_extra_args_support(inner)

    def init(params: PyTree, weights: RNN | None) -> PathNormState:
        if weights is not None:
            check_recurrence(weights, graph)
            _check_readout(weights, graph)
        return PathNormState(inner.init(params), jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32))

    def update(view: View, gradient: RNN, state: PathNormState, extra: Mapping[str, Any]) -> tuple[RNN, PathNormState]:
        check_recurrence(view.weights, graph)
        roots = view.read(state.root_kappa, "state.root_kappa")
        seen, roots, step = _enter(view.weights, gradient, roots, state.step, options)
        steps, inner_state = inner.update(view.write(seen), state.inner, **extra)
        moves = _divided(view.read(steps, "steps"), roots)
        return moves, PathNormState(inner_state, view.write(roots), step)

    return guarded(Steps(init, update), graph, name)


@functools.partial(jax.jit, static_argnums=4)
def _enter(weights: RNN, gradient: RNN, roots: RNN, step: Array, options: _Metric) -> tuple[RNN, RNN, Array]:
    if options.refresh_every == 1:
        roots = _root_kappa(weights, options)
    else:
        due = step % options.refresh_every == 0
        roots = jax.lax.cond(due, lambda weights: _root_kappa(weights, options), lambda _: roots, weights)
    return _divided(like(gradient, roots), roots), roots, step + 1


@jax.jit
def _divided(gradient: RNN, roots: RNN) -> RNN:
    # written so that a NaN in κ is not taken for a zero
    return jax.tree.map(lambda g, k: jnp.where(k <= 0, 0, g / jnp.where(k <= 0, 1, k)), gradient, roots)


def _check_readout(weights: RNN, graph: ReductionGraph) -> None:
    """A readout that is not all zeros, where it is concrete: without it γ² is 0, and every step 0 / 0."""
    if checks.is_concrete(weights.readout) and not any(np.any(leaf) for leaf in jax.tree.leaves(weights.readout)):
        raise ValueError(
            f"leaf {graph.names.readout.kernel!r}: the readout is all zeros, and the path norm 0; {_START}"
        )


def check_recurrence(weights: RNN, graph: ReductionGraph) -> None:
    """Every recurrent kernel that the graph names: without its numbers the paths through it are not known."""
    pairs = zip((layer.recurrent_kernel for layer in graph.names.layers), weights.layers, strict=True)
    if masked := [name for name, layer in pairs if name is not None and layer.recurrent_kernel is None]:
        raise ValueError(f"params: the kernel {masked[0]} is masked, and the metric of paths needs it; {FREEZE}")


class _Squared(NamedTuple):
    """The network of squared weights.

    Attributes:
        weights: the squares; recurrent ones of each layer are these times 2^growth, none where a layer has none.
        growth: for each layer an integer.
    """

    weights: RNN
    growth: list[Array]


def _centred(weights: RNN) -> tuple[RNN, Gauge, Array]:
    """The weights in the gauge `centred`, the gauge, and the exponent by which every path is larger than there."""
    by = centred(wide(weights))
    return shifted(wide(weights), by), by, by.output - by.source


def _squared(weights: RNN) -> _Squared:
    layers, growth = [], []
    for layer in weights.layers:
        width = layer.input_kernel.shape[1]
        recurrent = layer.recurrent_kernel
        if recurrent is None:
            recurrent = jnp.zeros((width, width), layer.input_kernel.dtype)
        up = jnp.maximum(powers.exponent(abs(recurrent).max()), 0)
        layers.append(dataclasses.replace(layer, recurrent_kernel=powers.scaled(recurrent, -up)))
        growth.append(2 * up)
    return _Squared(jax.tree.map(jnp.square, dataclasses.replace(weights, layers=tuple(layers))), growth)


def log_kappa(weights: RNN, num_steps: int, readout: str) -> RNN:
    """The logarithm of (κ¹ + κ²) / γ² of every weight, which stays in range; -inf where no path uses it."""
    near, by, _ = _centred(weights)
    kappa, _, _ = _kappa(near, _Metric(num_steps, True, True, readout, 1))
    # a number of each edge that is multiplied by 2^(source - target) adds twice that here
    sources, targets = at_sources(by.units, near, by.source), at_targets(by.units, near, by.output)
    return jax.tree.map(lambda k, s, t: jnp.log(k) + 2 * math.log(2) * (s - t), kappa, sources, targets)


def _root_kappa(weights: RNN, options: _Metric) -> RNN:
    """The root of κ¹, or of κ¹ + κ², divided by γ² if `normalize`."""
    near, by, range_ = _centred(weights)
    kappa, value, exponent = _kappa(near, options)
    roots = jax.tree.map(jnp.sqrt, kappa)
    if not options.normalize:
        gamma = jnp.sqrt(value * jnp.where(exponent % 2 == 1, 2.0, 1.0))
        roots = jax.tree.map(lambda root: powers.scaled(root * gamma, exponent // 2 + range_), roots)
        # a weight that no path uses has none of an infinite norm either
        roots = jax.tree.map(lambda root, share: jnp.where(share == 0, 0, root), roots, kappa)
    return shifted(roots, by)


def _kappa(weights: RNN, options: _Metric) -> tuple[RNN, Array, Array]:
    """κ / γ² of every weight, and γ² as `value · 2^exponent`."""
    squared = _squared(weights)
    run = _forward(squared, options.num_steps)
    value, exponent = _norm(squared, run, options.readout)
    adjoints = _backward(squared, run, value, options.readout)
    kappa = _first_order(squared, run, adjoints, value, options.readout)
    layers = []
    for l, layer in enumerate(kappa.layers):
        recurrent = layer.recurrent_kernel
        if weights.layers[l].recurrent_kernel is None:
            recurrent = None
        elif options.second_order:
            own = squared.weights.layers[l].recurrent_kernel
            twice = _twice_used(own, squared.growth[l], run.mantissas[l], run.exponents[l], adjoints[l])
            recurrent = recurrent + jnp.where(own == 0, 0, powers.scaled(own * twice, squared.growth[l]))
        layers.append(dataclasses.replace(layer, recurrent_kernel=recurrent))
    return dataclasses.replace(kappa, layers=tuple(layers)), value, exponent


def _forward(squared_network: _Squared, num_steps: int) -> _Run:
    """The states of the squared network, layer by layer."""
    squared = squared_network.weights
    dtype = squared.readout.kernel.dtype
    below = jnp.ones((num_steps, squared.layers[0].input_kernel.shape[0]), dtype)
    units = jnp.zeros(num_steps, jnp.int32)  # the exponents of `below`
    run = _Run([], [])
    for l, layer in enumerate(squared.layers):
        drive = below @ layer.input_kernel
        if layer.bias is not None:
            drive = drive + layer.bias * powers.power(-units, dtype)[:, None]

        growth = squared_network.growth[l]

        def body(
            carry: tuple[Array, Array], now: tuple[Array, Array], layer: Layer = layer, growth: Array = growth
        ) -> tuple[Any, Any]:
            (mantissa, exponent), (drive, unit) = carry, now
            common = jnp.maximum(exponent + growth, unit)
            total = (mantissa * powers.power(exponent + growth - common, dtype)) @ layer.recurrent_kernel
            total = total + drive * powers.power(unit - common, dtype)
            # down to the exponents of the state before and of the layer below, and not further
            up = jnp.maximum(powers.exponent(total.max()), jnp.maximum(exponent, unit) - common)
            new = (total * powers.power(-up, dtype), common + up)
            return new, new

        start = jnp.zeros_like(drive[0])
        if squared.initial is not None and squared.initial[l] is not None:
            start = squared.initial[l]
        first = (start, jnp.zeros((), jnp.int32))
        _, (mantissas, exponents) = jax.lax.scan(body, first, (drive, units))
        run.mantissas.append(jnp.concatenate([start[None], mantissas]))
        run.exponents.append(jnp.concatenate([first[1][None], exponents]))
        below, units = mantissas, exponents
    return run


def _norm(squared_network: _Squared, run: _Run, readout: str) -> tuple[Array, Array]:
    """γ² as `value · 2^exponent`, the exponent being that of the last layer's last state."""
    squared = squared_network.weights
    dtype, exponent = squared.readout.kernel.dtype, run.exponents[-1][-1]
    weights = _read_at(run, dtype, readout)
    value = (weights @ run.mantissas[-1][1:] @ squared.readout.kernel).sum()
    if squared.readout.bias is not None:
        reads = 1 if readout == "last" else len(weights)
        value = value + reads * squared.readout.bias.sum() * powers.power(-exponent, dtype)
    return value, exponent


def _read_at(run: _Run, dtype: Any, readout: str) -> Array:
    """(time,): with which weight each step's last state is read, in units of the last one's."""
    exponents = run.exponents[-1][1:]
    if readout == "last":
        return jnp.zeros(len(exponents), dtype).at[-1].set(1)
    return powers.power(exponents - exponents[-1], dtype)


def _backward(squared_network: _Squared, run: _Run, value: Array, readout: str) -> list[Array]:
    """For each layer (time, hidden): ∂ ln γ² / ∂ s_t · 2^exponent_t."""
    squared = squared_network.weights
    dtype = value.dtype
    onto = _read_at(run, dtype, readout)[:, None] * (squared.readout.kernel.sum(axis=1) / value)
    adjoints: list[Array] = []
    for l in reversed(range(len(squared.layers))):
        layer, exponents = squared.layers[l], run.exponents[l]
        # how the unit of each step compares with that of the next; after the last comes nothing
        growth = squared_network.growth[l]
        ratios = powers.power(growth + exponents[1:] - jnp.append(exponents[2:], exponents[-1] + growth), dtype)

        def body(later: Array, now: tuple[Array, Array], layer: Layer = layer) -> tuple[Array, Array]:
            onto, ratio = now
            adjoint = onto + layer.recurrent_kernel @ (later * ratio)
            return adjoint, adjoint

        _, adjoint = jax.lax.scan(body, jnp.zeros_like(onto[0]), (onto, ratios), reverse=True)
        adjoints.append(adjoint)
        if l:
            shift = powers.power(run.exponents[l - 1][1:] - exponents[1:], dtype)[:, None]
            onto = (adjoint * shift) @ layer.input_kernel.T
    return adjoints[::-1]


def _first_order(squared_network: _Squared, run: _Run, adjoints: list[Array], value: Array, readout: str) -> RNN:
    """κ¹ / γ² for every weight."""
    squared = squared_network.weights
    dtype, layers, initial = value.dtype, [], []
    for l, (layer, adjoint) in enumerate(zip(squared.layers, adjoints, strict=True)):
        mantissas, exponents, growth = run.mantissas[l], run.exponents[l], squared_network.growth[l]
        before = mantissas[:-1] * powers.power(exponents[:-1] - exponents[1:], dtype)[:, None]
        constant = powers.power(-exponents[1:], dtype) @ adjoint
        if l:
            shift = powers.power(run.exponents[l - 1][1:] - exponents[1:], dtype)[:, None]
            below = (run.mantissas[l - 1][1:] * shift).T @ adjoint
        else:
            below = jnp.broadcast_to(constant, layer.input_kernel.shape)
        layers.append(Layer(below, before.T @ adjoint, None if layer.bias is None else constant))
        initial.append(layer.recurrent_kernel @ adjoint[0] * powers.power(growth - exponents[1], dtype))
    read = _read_at(run, dtype, readout)
    kernel = jnp.broadcast_to((read @ run.mantissas[-1][1:] / value)[:, None], squared.readout.kernel.shape)
    bias = None
    if squared.readout.bias is not None:
        reads = 1 if readout == "last" else len(read)
        share = reads * powers.power(-run.exponents[-1][-1], dtype) / value
        bias = jnp.broadcast_to(share, squared.readout.bias.shape)
    states = squared.initial and tuple(
        None if h is None else kappa for h, kappa in zip(squared.initial, initial, strict=True)
    )
    return dataclasses.replace(squared, layers=tuple(layers), readout=Readout(kernel, bias), initial=states)


def _twice_used(squared: Array, growth: Array, mantissas: Array, exponents: Array, adjoint: Array) -> Array:
    """2 Σ_{t1 < t2} s_{t1 - 1}[i] (M^{t2 - t1 - 1})[j, i] a_{t2}[j] / γ², (hidden, hidden); M = squared · 2^growth.

    `_CHUNK` steps at a time. With P_d = M^d, s_k and a_k the states before and the adjoints after step k of a chunk,
    and B the sum over all pairs before it, carried on to its first step,

        Σ_k diag(a_k) (P_k B + Σ_{j < k} P_{k - 1 - j} diag(s_j)),    B ← P_chunk B + Σ_k P_{chunk - 1 - k} diag(s_k):

    two products of matrices for a chunk. Powers, states and adjoints have one exponent each.
    """
    dtype, size = squared.dtype, _CHUNK
    # a unit that nothing enters, or that leads nowhere, has no pairs, and its powers could leave the range
    alive = (mantissas.max(axis=0) > 0) & (adjoint.max(axis=0) > 0)
    squared = jnp.where(alive[:, None] & alive, squared, 0)
    power, powers_of, found = jnp.eye(len(squared), dtype=dtype), [], []
    shift = jnp.zeros((), jnp.int32)
    for _ in range(size + 1):
        powers_of.append(power)
        found.append(shift)
        power = squared @ power
        up = powers.exponent(power.max())
        up = jnp.where(power.max() > 0, up, 0)
        power, shift = powers.scaled(power, -up), shift + up + growth

    count = -(-len(adjoint) // size)
    rest = count * size - len(adjoint)
    # steps after the last have no adjoint, and so no part in the sum
    adjoints = jnp.pad(adjoint, ((0, rest), (0, 0))).reshape(count, size, -1)
    befores = jnp.pad(mantissas[:-1], ((0, rest), (0, 0))).reshape(count, size, -1)
    last = jnp.full(rest, exponents[-1])
    before_exponents = jnp.append(exponents[:-1], last).reshape(count, size)
    after_exponents = jnp.append(exponents[1:], last).reshape(count, size)
    next_exponents = jnp.append(before_exponents[1:, 0], exponents[-1])

    shifts = jnp.stack(found)
    starts = before_exponents[:, :1]
    onto_scale = powers.power(shifts[:-1] + starts - after_exponents, dtype)
    from_scale = powers.power(shifts[-2::-1] + before_exponents - next_exponents[:, None], dtype)
    carry_scale = powers.power(shifts[-1] + starts[:, 0] - next_exponents, dtype)

    def body(carry: tuple[Array, Array], now: tuple[Array, ...]) -> tuple[tuple[Array, Array], None]:
        (between, total), (after, before, scale) = carry, now
        onto = sum(a[:, None] * power for a, power in zip(after, powers_of[:-1], strict=True))
        total += onto @ between
        between = (powers_of[-1] @ between) * scale
        between += sum(power * b for power, b in zip(powers_of[-2::-1], before, strict=True))
        return (between, total), None

    pairs = jnp.zeros_like(squared)  # within chunks, of all chunks at once
    for d in range(size - 1):
        scale = powers.power(shifts[d] + before_exponents[:, : size - 1 - d] - after_exponents[:, d + 1 :], dtype)
        pairs += powers_of[d] * jnp.einsum(
            "nkj,nki->ji", adjoints[:, d + 1 :] * scale[..., None], befores[:, : size - 1 - d]
        )
    steps = (adjoints * onto_scale[..., None], befores * from_scale[..., None], carry_scale)
    (_, total), _ = jax.lax.scan(body, (jnp.zeros_like(squared), pairs), steps)
    return 2 * total.T
