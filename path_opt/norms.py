"""Path norms of a recurrent network with shared weights, and Path-SGD: gradient descent in their geometry.

Unrolled over T steps, the network has paths from every input, bias and initial state to the outputs, and γ² is the sum
of the squares of their values. With u = w² for every weight,

    κ¹ = ∂γ²/∂u,    κ² = w² · 2 Σ_{t1 < t2} s_{t1 - 1}[i] (M^{t2 - t1 - 1})[j, i] a_{t2}[j],    M = U²,

where s_t is the state that the squared network has after step t on inputs of all ones, and a_t = ∂γ²/∂s_t. κ² is
there for recurrent weights alone, the only ones that a path can use twice; κ¹ + κ² is the diagonal of JᵀJ, J being the
derivative of all path values in the weights. Both come from one pass forward and one back, whatever the batch.

Numbers grow like the square of the spectral radius to the power T, past the range of float32 near T = 125 under He
initialisation. So states are carried as `mantissa · 2^exponent`, adjoints in the inverse units divided by γ²: every
product of the two is a share of γ², at most 1. Powers of two make no rounding error.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from maso_rnn.network import RNN, Layer, Readout
from path_opt import checks
from path_opt.graph import ReductionGraph, read_finite, require_graph
from path_opt.guard import guarded, like


class PathNormState(NamedTuple):
    """The state of `scale_by_path_norm`, within its `GuardedState`.

    Attributes:
        kappa: a pytree like the parameters: what gradients are divided by.
        step: steps taken, which says when `kappa` is due again.
    """

    kappa: PyTree[Float[Array, "..."]]
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
    _check_options(num_steps, readout)
    checks.flag("log", log)
    squared = jax.tree.map(jnp.square, read_finite(params, graph))
    value, exponent = _norm(squared, _forward(squared, num_steps), readout)
    if log:
        return jnp.log(value) + exponent * math.log(2)
    return value * _power_of_two(exponent, value.dtype)


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
        parameters that do not fit the graph, and its `init` a readout that is all zeros.

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
    direction = _direction(graph, num_steps, second_order, normalize, readout, refresh_every)
    return guarded(direction, "scale_by_path_norm")


def path_sgd(
    learning_rate: optax.ScalarOrSchedule,
    *,
    graph: ReductionGraph,
    num_steps: int,
    second_order: bool = False,
    normalize: bool = True,
    readout: str = "last",
    refresh_every: int = 1,
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
    checks.learning_rate(learning_rate)
    direction = _direction(graph, num_steps, second_order, normalize, readout, refresh_every)
    return guarded(optax.chain(direction, optax.scale_by_learning_rate(learning_rate)), "path_sgd")


def _direction(
    graph: ReductionGraph, num_steps: int, second_order: bool, normalize: bool, readout: str, refresh_every: int
) -> optax.GradientTransformationExtraArgs:
    """`scale_by_path_norm` without its guard."""
    require_graph(graph)
    _check_options(num_steps, readout)
    checks.positive_integer("refresh_every", refresh_every)
    checks.flag("second_order", second_order)
    checks.flag("normalize", normalize)

    def kappa_of(weights: RNN) -> RNN:
        return _kappa(weights, num_steps, readout, second_order=second_order, normalize=normalize)

    def init(params: PyTree) -> PathNormState:
        weights = graph.read(params)
        _require_readout(weights, graph)
        zeros = jax.tree.map(jnp.zeros_like, weights)
        return PathNormState(graph.write(zeros, params), jnp.zeros((), jnp.int32))

    def update(updates: PyTree, state: PathNormState, params: PyTree, **extra: Any) -> tuple[PyTree, PathNormState]:
        del extra
        weights = graph.read(params)
        gradients = like(graph.read(updates, "updates"), weights)
        if refresh_every == 1:
            kappa = kappa_of(weights)
        else:
            due = state.step % refresh_every == 0
            kappa = jax.lax.cond(due, kappa_of, lambda _: graph.read(state.kappa, "state.kappa"), weights)
        # written so that a NaN in κ is not taken for a zero
        scaled = jax.tree.map(lambda g, k: jnp.where(k <= 0, 0, g / jnp.where(k <= 0, 1, k)), gradients, kappa)
        return graph.write(scaled, updates), PathNormState(graph.write(kappa, params), state.step + 1)

    return optax.GradientTransformationExtraArgs(init, update)


def _require_readout(weights: RNN, graph: ReductionGraph) -> None:
    """A readout that is not all zeros, where it is concrete: without it γ² is 0, and every step 0 / 0."""
    if checks.is_concrete(weights.readout) and not any(np.any(leaf) for leaf in jax.tree.leaves(weights.readout)):
        raise ValueError(
            f"leaf {graph.names.readout.kernel!r}: the readout is all zeros, so that no path reaches an output and "
            "the path norm is 0; start from a readout that is not zero, as maso_rnn.init draws by default, or train "
            "with path_opt.equivariant_adam"
        )


def _check_options(num_steps: Any, readout: Any) -> None:
    checks.positive_integer("num_steps", num_steps)
    if readout not in ("last", "every"):
        raise ValueError(f'readout must be "last" or "every", got {readout!r}')


def _kappa(weights: RNN, num_steps: int, readout: str, *, second_order: bool, normalize: bool) -> RNN:
    """κ¹, or κ¹ + κ², divided by γ² if `normalize`."""
    squared = jax.tree.map(jnp.square, weights)
    run = _forward(squared, num_steps)
    value, exponent = _norm(squared, run, readout)
    adjoints = _backward(squared, run, value, readout)
    kappa = _first_order(squared, run, adjoints, value, readout)
    if second_order:
        layers = tuple(
            dataclasses.replace(
                first,
                recurrent_kernel=first.recurrent_kernel
                + layer.recurrent_kernel * _twice_used(layer.recurrent_kernel, mantissas, exponents, adjoint),
            )
            for first, layer, mantissas, exponents, adjoint in zip(
                kappa.layers, squared.layers, run.mantissas, run.exponents, adjoints, strict=True
            )
        )
        kappa = dataclasses.replace(kappa, layers=layers)
    if normalize:
        return kappa
    norm = value * _power_of_two(exponent, value.dtype)
    # a weight that no path uses has none of an infinite norm either
    return jax.tree.map(lambda share: jnp.where(share == 0, 0, share * norm), kappa)


def _forward(squared: RNN, num_steps: int) -> _Run:
    """The states of the squared network, layer by layer."""
    dtype = squared.readout.kernel.dtype
    below = jnp.ones((num_steps, squared.layers[0].input_kernel.shape[0]), dtype)
    units = jnp.zeros(num_steps, jnp.int32)  # the exponents of `below`
    run = _Run([], [])
    for l, layer in enumerate(squared.layers):
        drive = below @ layer.input_kernel
        if layer.bias is not None:
            drive = drive + layer.bias * _power_of_two(-units, dtype)[:, None]

        def body(carry: tuple[Array, Array], now: tuple[Array, Array], layer: Layer = layer) -> tuple[Any, Any]:
            (mantissa, exponent), (drive, unit) = carry, now
            common = jnp.maximum(exponent, unit)
            total = (mantissa * _power_of_two(exponent - common, dtype)) @ layer.recurrent_kernel
            total = total + drive * _power_of_two(unit - common, dtype)
            up = jnp.maximum(_exponent(total.max()), 0)
            new = (total * _power_of_two(-up, dtype), common + up)
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


def _norm(squared: RNN, run: _Run, readout: str) -> tuple[Array, Array]:
    """γ² as `value · 2^exponent`, the exponent being that of the last layer's last state."""
    dtype, exponent = squared.readout.kernel.dtype, run.exponents[-1][-1]
    weights = _read_at(run, dtype, readout)
    value = (weights @ run.mantissas[-1][1:] @ squared.readout.kernel).sum()
    if squared.readout.bias is not None:
        reads = 1 if readout == "last" else len(weights)
        value = value + reads * squared.readout.bias.sum() * _power_of_two(-exponent, dtype)
    return value, exponent


def _read_at(run: _Run, dtype: Any, readout: str) -> Array:
    """(time,): with which weight each step's last state is read, in units of the last one's."""
    exponents = run.exponents[-1][1:]
    if readout == "last":
        return jnp.zeros(len(exponents), dtype).at[-1].set(1)
    return _power_of_two(exponents - exponents[-1], dtype)


def _backward(squared: RNN, run: _Run, value: Array, readout: str) -> list[Array]:
    """For each layer (time, hidden): ∂ ln γ² / ∂ s_t · 2^exponent_t."""
    dtype = value.dtype
    onto = _read_at(run, dtype, readout)[:, None] * (squared.readout.kernel.sum(axis=1) / value)
    adjoints: list[Array] = []
    for l in reversed(range(len(squared.layers))):
        layer, exponents = squared.layers[l], run.exponents[l]
        # how the unit of each step compares with that of the next; after the last comes nothing
        ratios = _power_of_two(exponents[1:] - jnp.append(exponents[2:], exponents[-1]), dtype)

        def body(later: Array, now: tuple[Array, Array], layer: Layer = layer) -> tuple[Array, Array]:
            onto, ratio = now
            adjoint = onto + layer.recurrent_kernel @ (later * ratio)
            return adjoint, adjoint

        _, adjoint = jax.lax.scan(body, jnp.zeros_like(onto[0]), (onto, ratios), reverse=True)
        adjoints.append(adjoint)
        if l:
            shift = _power_of_two(run.exponents[l - 1][1:] - exponents[1:], dtype)[:, None]
            onto = (adjoint * shift) @ layer.input_kernel.T
    return adjoints[::-1]


def _first_order(squared: RNN, run: _Run, adjoints: list[Array], value: Array, readout: str) -> RNN:
    """κ¹ / γ² for every weight."""
    dtype, layers, initial = value.dtype, [], []
    for l, (layer, adjoint) in enumerate(zip(squared.layers, adjoints, strict=True)):
        mantissas, exponents = run.mantissas[l], run.exponents[l]
        before = mantissas[:-1] * _power_of_two(exponents[:-1] - exponents[1:], dtype)[:, None]
        constant = _power_of_two(-exponents[1:], dtype) @ adjoint
        if l:
            shift = _power_of_two(run.exponents[l - 1][1:] - exponents[1:], dtype)[:, None]
            below = (run.mantissas[l - 1][1:] * shift).T @ adjoint
        else:
            below = jnp.broadcast_to(constant, layer.input_kernel.shape)
        layers.append(Layer(below, before.T @ adjoint, None if layer.bias is None else constant))
        initial.append(layer.recurrent_kernel @ adjoint[0] * _power_of_two(-exponents[1], dtype))
    read = _read_at(run, dtype, readout)
    kernel = jnp.broadcast_to((read @ run.mantissas[-1][1:] / value)[:, None], squared.readout.kernel.shape)
    bias = None
    if squared.readout.bias is not None:
        reads = 1 if readout == "last" else len(read)
        share = reads * _power_of_two(-run.exponents[-1][-1], dtype) / value
        bias = jnp.broadcast_to(share, squared.readout.bias.shape)
    states = squared.initial and tuple(
        None if h is None else kappa for h, kappa in zip(squared.initial, initial, strict=True)
    )
    return dataclasses.replace(squared, layers=tuple(layers), readout=Readout(kernel, bias), initial=states)


def _twice_used(squared: Array, mantissas: Array, exponents: Array, adjoint: Array) -> Array:
    """2 Σ_{t1 < t2} s_{t1 - 1}[i] (M^{t2 - t1 - 1})[j, i] a_{t2}[j] / γ², (hidden, hidden)."""
    dtype = squared.dtype
    # between[j, i] = Σ_{t1 < t} s_{t1 - 1}[i] (M^{t - t1 - 1})[j, i], in units of the step t's state
    later = jnp.append(exponents[2:], exponents[-1])
    ratios = _power_of_two(exponents[1:] - later, dtype)
    befores = mantissas[:-1] * _power_of_two(exponents[:-1] - later, dtype)[:, None]

    def body(carry: tuple[Array, Array], now: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        (between, total), (adjoint, before, ratio) = carry, now
        total = total + adjoint[:, None] * between
        between = (squared @ between) * ratio + jnp.diag(before)
        return (between, total), None

    zeros = jnp.zeros_like(squared)
    (_, total), _ = jax.lax.scan(body, (zeros, zeros), (adjoint, befores, ratios))
    return 2 * total.T


def _power_of_two(exponent: Array, dtype: Any) -> Array:
    """2^exponent, exactly, for integers; 0 below the normal range and infinity above it."""
    info = jnp.finfo(dtype)
    bias = 2 ** (info.nexp - 1) - 1
    integer = jnp.dtype(f"int{info.bits}")
    bits = jnp.clip(exponent + bias, 0, 2 * bias + 1).astype(integer) << info.nmant
    return jax.lax.bitcast_convert_type(bits, dtype)


def _exponent(value: Array) -> Array:
    """The integer e with 2^(e - 1) <= value < 2^e, for a positive normal number; negative for 0."""
    info = jnp.finfo(value.dtype)
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(value), jnp.dtype(f"int{info.bits}"))
    return (bits >> info.nmant).astype(jnp.int32) - (2 ** (info.nexp - 1) - 2)
