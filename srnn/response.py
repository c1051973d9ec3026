"""Response kernels: what a small input at one time does to a later expectation.

For a readout f and the control u, all expectations over noise paths,

    R_k = ∂ E f(h_t1) / ∂(u_k dt) = E[∇f(h_t1) J_{t1,k} C],    R_{kl} = ∂² E f(h_t1) / ∂(u_k dt) ∂(u_l dt),

with J the Jacobian of the flow along a path and C the input kernel. Three ways to estimate them: `adjoint` carries
∇f J backward, `tangent` carries J C forward, `malliavin` weighs f with the noise and needs no derivative at all:
E[f θᵀΔB_k]/dt with θ = σ⁻¹C, since a push C u dt of the state is a shift of the noise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from srnn import checks
from srnn.model import SRNN, noise_matrix, require_smooth
from srnn.simulation import (
    Control,
    Grid,
    Increments,
    Readout,
    checked_control,
    checked_grid,
    checked_initial,
    checked_paths,
    checked_readout,
    increments_of,
    run,
    step,
)
from srnn.statistics import Chunks, Moments, centred, chunks_of, lost, moments, pool

Method: TypeAlias = Literal["adjoint", "tangent", "malliavin"]
LARGEST_KERNEL = 2**26  # numbers in a second-order kernel


class Kernel(NamedTuple):
    """A response kernel at the chosen steps.

    Attributes:
        times: (step,), when each step begins, in units of time after the burn-in.
        values: (step, input), or for order 2 (step, step, input, input), symmetric under exchange of both pairs; per
            unit of input and of time, for each order.
        stderr: like `values`, the standard errors.
        lags: (step,), from the beginning of each step to t1.
        growth: the largest root-mean-square factor by which the flow stretched what the method carried (1 or below
            where perturbations die out); NaN for "malliavin", which carries nothing.
        diverged: the number of paths whose last state is not finite.
        drift: (2,), z-scores of the change of E f and of E f² from the beginning (after burn-in) to t1; beyond ±3 the
            process was not stationary.
    """

    times: Float[Array, " step"]
    values: Float[Array, "step *step_input"]
    stderr: Float[Array, "step *step_input"]
    lags: Float[Array, " step"]
    growth: Float[Array, ""]
    diverged: Int[Array, ""]
    drift: Float[Array, " 2"]


def response_kernel(
    model: SRNN,
    readout: Readout,
    *,
    t1: float,
    dt: float,
    key: Array,
    paths: int,
    order: int = 1,
    steps: Sequence[int] | None = None,
    method: Method = "adjoint",
    initial: Float[Array, "*path hidden"] | None = None,
    control: Control | None = None,
    burn_in: float = 0.0,
    solver: diffrax.AbstractSolver = diffrax.Euler(),
    increments: Increments = "gaussian",
) -> Kernel:
    """The response of E readout(h_t1) to an impulse of the input in each step, with standard errors.

    Equation: values_k = ∂E f(h_t1)/∂u_k / dt, so that Σ_k values_k · u_k dt is the first-order response; for order 2
    values_kl = ∂²E f(h_t1)/∂u_k∂u_l / dt², and the response is that sum over k > l plus half of it over k = l.

    Args:
        model: the model.
        readout: f, a function of (hidden,) to a scalar; "adjoint" and "tangent" differentiate it `order` times along
            paths, so that up to there nothing of it may jump: an indicator has "malliavin" only.
        t1: the end, in units of time after the burn-in.
        dt: the step; t1/dt must be whole.
        key: a random key.
        paths: how many, at least 2; they run in chunks that keep memory small.
        order: 1 or 2; `volterra_terms` has every order.
        steps: indices in [0, t1/dt) of the steps in which to apply the impulse, ascending; all by default.
        method: "adjoint" (all steps in one backward pass), "tangent" (one forward pass for each step and channel, or
            pair of them), or "malliavin" (any activation, but more variance, growing with the number of steps).
        initial: (hidden,), or (path, hidden), or None for zeros; where it is sharded over paths, so is the work.
        control: the input about which to perturb, (step, input) or a function of time; None for zeros.
        burn_in: time to run without input before the first step, 0 for none, towards stationarity; see `Kernel.drift`.
        solver: as for `simulate`.
        increments: as for `simulate`; "malliavin" needs "gaussian".

    Returns:
        `Kernel(times, values, stderr, lags, growth, diverged, drift)`.

    Raises:
        ValueError: as `simulate`; if `order` is not 1 or 2; by "adjoint" or "tangent" if the activation or the readout
            jumps, or for order 2 has a kink (the readout is looked at along random lines); for "malliavin" if an input
            pushes in a direction that no noise reaches; or if the kernel is too large.
        TypeError: as `simulate`; or if `readout` does not give a floating scalar.

    Example:
        >>> from srnn import init
        >>> model = init(jax.random.key(0), 1, 4)
        >>> kernel = response_kernel(model, lambda h: h[0], t1=1.0, dt=0.125, key=jax.random.key(1), paths=16)
        >>> kernel.values.shape, kernel.stderr.shape
        ((8, 1), (8, 1))

    Source:
        Lim (2021), proposition 3.1 and section 4, with the correlation at two times in place of the printed equal
        times.
    """
    order = checks.size("order", order)
    if order > 2:
        raise ValueError(f"order must be 1 or 2, got {order}; srnn.volterra_terms gives the terms of any order")
    if method not in ("adjoint", "tangent", "malliavin"):
        raise ValueError(f'method must be "adjoint", "tangent" or "malliavin", got {method!r}')
    before = checks.whole_steps(burn_in, dt, name="burn_in")
    grid = checked_grid(model, t1=t1, dt=dt, solver=solver, increments=increments, first=before)
    checked_scalar(model, readout)
    if method == "malliavin":
        if increments != "gaussian":
            raise ValueError('increments: "malliavin" weighs with Gaussian noise; use increments="gaussian"')
        noise_shift(model, model.input_kernel, name="model.input_kernel")
    else:
        require_smooth(model, readout, order, f"a kernel of order {order}")
    key, paths = checks.random_key(key), checked_paths(paths)
    chosen = tuple(range(grid.steps)) if steps is None else steps
    chosen = checks.step_indices("steps", chosen, least=0, most=grid.steps - 1)
    channels = model.input_kernel.shape[0]
    count = (len(chosen) * channels) ** order
    if count > LARGEST_KERNEL:
        raise ValueError(
            f"steps: an order-{order} kernel at {len(chosen)} steps and {channels} inputs has {count} numbers, more "
            f"than {LARGEST_KERNEL}; choose fewer steps"
        )
    checked = checked_initial(model, initial, paths), checked_control(model, control, grid)
    chunks = chunks_of(paths, _bytes_per_path(model, grid, len(chosen), order, method))
    return _kernel(
        model, *checked, key, grid=grid, chosen=chosen, readout=readout, order=order, method=method, chunks=chunks
    )


def _bytes_per_path(model: SRNN, grid: Grid, chosen: int, order: int, method: Method) -> float:
    """What one path needs, as numbers that live at once."""
    channels, hidden = model.input_kernel.shape
    directions = chosen * channels
    if method == "adjoint":
        numbers = grid.steps * (hidden + (channels if order == 2 else 0))
        numbers += 8 * hidden
        if order == 2:
            numbers *= 1 + directions
    elif method == "tangent":
        numbers = 8 * hidden * (directions if order == 1 else directions * (directions + 1))
    else:
        numbers = 16 * hidden + 4 * directions**order
    return numbers * model.recurrent_kernel.dtype.itemsize


@functools.partial(jax.jit, static_argnames=("grid", "chosen", "readout", "order", "method", "chunks"))
def _kernel(
    model: SRNN,
    initial: Array,
    control: Array,
    key: Array,
    *,
    grid: Grid,
    chosen: tuple[int, ...],
    readout: Readout,
    order: int,
    method: Method,
    chunks: Chunks,
) -> Kernel:
    estimate = _ESTIMATORS[method, order]
    dtype = model.recurrent_kernel.dtype

    def one(chunk: tuple[Array, Array, Array]) -> tuple[Moments, Moments, Array, Array]:
        start, chunk_key, counted = chunk
        start = after_burn_in(model, start, chunk_key, grid)
        kernel, last, growth = estimate(_Chunk(model, control, start, chunk_key, grid, chosen, readout, counted))
        change, bad = ends(readout, start, last, counted)
        return kernel, change, growth, bad

    gathered = jax.lax.map(one, (chunks.cut(initial), chunks.keys(key), chunks.counted(dtype)))
    kernels, changes, growth, diverged = gathered
    values, stderr = pool(kernels)
    change, spread = pool(changes)
    times = jnp.asarray(chosen, dtype) * grid.dt
    return Kernel(times, values, stderr, grid.steps * grid.dt - times, growth.max(), diverged.sum(), change / spread)


def after_burn_in(model: SRNN, states: Array, key: Array, grid: Grid) -> Array:
    """The states after `grid.first` steps without input."""
    if not grid.first:
        return states
    before = grid._replace(steps=grid.first, first=0)
    control = jnp.zeros((grid.first, model.input_kernel.shape[0]), states.dtype)
    return run(model, control, states, key, before)[0]


def ends(readout: Readout, start: Array, last: Array, counted: Array) -> tuple[Moments, Array]:
    """The change of f and of f² from the first states to the last, (2,), and how many of the last are not finite."""
    before, after = (lost(jax.vmap(readout)(states), states) for states in (start, last))
    change = moments(jnp.stack([after - before, after**2 - before**2]), counted, axis=1)
    return change, ((~jnp.isfinite(last).all(axis=-1)) & (counted == 1)).sum()


def pull_back(
    model: SRNN, control: Array, start: Array, key: Array, grid: Grid, readout: Readout, reduce: Callable
) -> tuple:
    """One pass forward and one back: what `reduce` makes of each step's push ∂f/∂(u_k dt), (path, input).

    `reduce` also gets the states before the step and the last states. Returns what it made, stacked over steps, the
    last states, and the growth.
    """
    last, states = run(model, control, start, key, grid)
    seed = jax.vmap(jax.grad(readout))(last)
    norm = jnp.sqrt((seed**2).mean())

    def body(onto: Array, now: tuple[Array, Array]) -> tuple[Array, tuple]:
        k, state = now
        through = functools.partial(step, model, control, key, grid, k)
        _, pull = jax.vjp(through, state, jnp.zeros_like(state))
        before, push = pull(onto)
        return before, (reduce(push @ model.input_kernel.T, state, last), jnp.sqrt((before**2).mean()))

    _, (reduced, norms) = jax.lax.scan(body, seed, (jnp.arange(grid.steps), states), reverse=True)
    return reduced, last, jnp.where(norm == 0, 0, norms.max() / norm)


class _Chunk(NamedTuple):
    """Paths that are simulated together, and what is asked of them."""

    model: SRNN
    control: Array
    start: Array  # (path, hidden)
    key: Array
    grid: Grid
    chosen: tuple[int, ...]
    readout: Readout
    counted: Array  # (path,), 0 for those that only fill the chunk up


def _adjoint(of: _Chunk) -> tuple[Moments, Array, Array]:
    reduced, last, growth = pull_back(
        of.model,
        of.control,
        of.start,
        of.key,
        of.grid,
        of.readout,
        lambda push, state, last: moments(lost(push, last), of.counted),
    )
    at = np.asarray(of.chosen)
    return Moments(reduced.weight[0], reduced.mean[at], reduced.squares[at]), last, growth


def _adjoint_twice(of: _Chunk) -> tuple[Moments, Array, Array]:
    """Forward over reverse: the first-order gradients of all steps, differentiated along each chosen step."""

    def gradients(control: Array) -> tuple[Array, tuple[Array, Array]]:
        pushes, last, growth = pull_back(
            of.model, control, of.start, of.key, of.grid, of.readout, lambda push, state, last: push
        )
        return pushes[np.asarray(of.chosen)], (last, growth)

    def along(direction: Array) -> tuple[Moments, tuple[Array, Array]]:
        _, change, aside = jax.jvp(gradients, (of.control,), (direction,), has_aux=True)
        return moments(lost(change / of.grid.dt, aside[0], axis=1), of.counted, axis=1), aside

    found, (last, growth) = jax.vmap(along, out_axes=(0, None))(_impulses(of.control, of.chosen))
    shape = (len(of.chosen), of.control.shape[1]) * 2  # earlier step, its input, later step, its input

    def order(values: Array) -> Array:
        return values.reshape(shape).transpose(2, 0, 3, 1)

    return Moments(found.weight[0], order(found.mean), order(found.squares)), last, growth


def _impulses(control: Array, chosen: tuple[int, ...]) -> Array:
    """Unit controls, (direction, step, input): one for each chosen step and each channel."""
    steps, channels = control.shape
    index = (np.asarray(chosen)[:, None] * channels + np.arange(channels)).ravel()
    return jax.nn.one_hot(index, steps * channels, dtype=control.dtype).reshape(-1, steps, channels)


def _tangent(of: _Chunk) -> tuple[Moments, Array, Array]:
    def along(direction: Array) -> tuple[Moments, Array, Array]:
        last, moved = jax.jvp(
            lambda u: run(of.model, u, of.start, of.key, of.grid)[0], (of.control,), (direction / of.grid.dt,)
        )
        _, change = jax.jvp(jax.vmap(of.readout), (last,), (moved,))
        pushed = (direction.sum(axis=0) @ of.model.input_kernel) ** 2
        stretched = (moved**2).sum(axis=-1).mean()
        return moments(lost(change, last), of.counted), last, jnp.sqrt(stretched / jnp.maximum(pushed.sum(), 1e-30))

    found, last, growth = jax.vmap(along, out_axes=(0, None, 0))(_impulses(of.control, of.chosen))
    shape = (len(of.chosen), of.control.shape[1])
    return Moments(found.weight[0], found.mean.reshape(shape), found.squares.reshape(shape)), last, growth.max()


def _tangent_twice(of: _Chunk) -> tuple[Moments, Array, Array]:
    """Second derivatives along every pair of chosen steps and channels, each pair once."""
    impulses = _impulses(of.control, of.chosen) / of.grid.dt
    a, b = np.tril_indices(len(impulses))

    def final(u: Array) -> tuple[Array, Array]:
        last, _ = run(of.model, u, of.start, of.key, of.grid)
        return jax.vmap(of.readout)(last), last

    def along(one: Array, other: Array) -> tuple[Moments, Array, Array]:
        def first(u: Array) -> tuple[Array, tuple[Array, Array]]:
            (_, last), (change, moved) = jax.jvp(final, (u,), (one,))
            return change, (last, moved)

        _, second, (last, moved) = jax.jvp(first, (of.control,), (other,), has_aux=True)
        pushed = ((one.sum(axis=0) * of.grid.dt) @ of.model.input_kernel) ** 2
        stretched = (moved**2).sum(axis=-1).mean()
        return moments(lost(second, last), of.counted), last, jnp.sqrt(stretched / jnp.maximum(pushed.sum(), 1e-30))

    found, last, growth = jax.vmap(along, out_axes=(0, None, 0))(impulses[a], impulses[b])
    size, channels = len(impulses), of.control.shape[1]

    def order(values: Array) -> Array:
        square = jnp.zeros((size, size), values.dtype).at[a, b].set(values).at[b, a].set(values)
        return square.reshape(len(of.chosen), channels, len(of.chosen), channels).transpose(0, 2, 1, 3)

    return Moments(found.weight[0], order(found.mean), order(found.squares)), last, growth.max()


def _malliavin(of: _Chunk) -> tuple[Moments, Array, Array]:
    """Covariance of f with θᵀΔB_k/dt; the last step's noise is drawn again, not stored."""
    last, _ = run(of.model, of.control, of.start, of.key, of.grid)
    values = centred(lost(jax.vmap(of.readout)(last), last), of.counted)
    shift = noise_shift(of.model, of.model.input_kernel, name="model.input_kernel")

    def at(k: Array) -> Moments:
        weight = increments_of(of.model, of.key, of.grid, k, of.start.shape[0]) @ shift.T / of.grid.dt
        return moments(values[:, None] * weight, of.counted)

    found = jax.lax.map(at, jnp.asarray(of.chosen))
    return Moments(found.weight[0], found.mean, found.squares), last, jnp.asarray(jnp.nan, last.dtype)


def _malliavin_twice(of: _Chunk) -> tuple[Moments, Array, Array]:
    """Covariance of f with the second Hermite weight, w_k w_l − 1[k = l] θᵀθ/dt."""
    last, _ = run(of.model, of.control, of.start, of.key, of.grid)
    values = centred(lost(jax.vmap(of.readout)(last), last), of.counted)
    shift = noise_shift(of.model, of.model.input_kernel, name="model.input_kernel")
    norm = shift @ shift.T / of.grid.dt

    def weight(k: Array) -> Array:
        return increments_of(of.model, of.key, of.grid, k, of.start.shape[0]) @ shift.T / of.grid.dt

    weights = jax.lax.map(weight, jnp.asarray(of.chosen))  # (step, path, input)

    def row(now: tuple[Array, Array]) -> Moments:
        index, later = now
        same = (jnp.arange(len(of.chosen)) == index).astype(later.dtype)
        product = later[None, :, :, None] * weights[:, :, None, :] - same[:, None, None, None] * norm
        return moments(values[:, None, None] * product, of.counted, axis=1)

    found = jax.lax.map(row, (jnp.arange(len(of.chosen)), weights))
    return Moments(found.weight[0], found.mean, found.squares), last, jnp.asarray(jnp.nan, last.dtype)


_ESTIMATORS: dict[tuple[str, int], Callable] = {
    ("adjoint", 1): _adjoint,
    ("adjoint", 2): _adjoint_twice,
    ("tangent", 1): _tangent,
    ("tangent", 2): _tangent_twice,
    ("malliavin", 1): _malliavin,
    ("malliavin", 2): _malliavin_twice,
}


def noise_shift(model: SRNN, pushes: Array, *, name: str) -> Array:
    """The noise θ, (row, noise), that moves the state as `pushes` (row, hidden) do: θ @ noise_kernel = pushes.

    Pushes that no noise makes are refused where they are concrete, and give NaN where they are traced.
    """
    with checks.concretely(model.noise_kernel, pushes):
        sigma = checks.nan_unless_finite(noise_matrix(model))
        shift = pushes @ jnp.linalg.pinv(sigma)
        # row by row: a strong input must not cover for a weak one
        missed = jnp.abs(shift @ sigma - pushes).max(axis=-1, keepdims=True)
        scale = jnp.abs(pushes).max(axis=-1, keepdims=True)
        reached = missed <= 1e3 * jnp.finfo(pushes.dtype).eps * scale
    if checks.is_concrete(reached) and not np.asarray(reached).all():
        row = int(np.asarray(reached).argmin())
        by, of = (float(np.asarray(x).ravel()[row]) for x in (missed, scale))
        raise ValueError(
            f"{name} pushes the state where no noise reaches (row {row}, by {by:.3g} of {of:.3g}): it must "
            "lie in the range of model.noise_kernel; give that full rank, or use srnn.response_kernel(method='adjoint')"
        )
    return jnp.where(reached, shift, jnp.nan)


def checked_kernel(name: str, kernel: Any, *read: str) -> Kernel:
    """A kernel of order 1 or 2 whose values, and those of its other arrays that are read, fit each other."""
    if not isinstance(kernel, Kernel):
        raise TypeError(f"{name} must be an srnn.Kernel, from srnn.response_kernel, got {type(kernel).__name__}")
    rank = 4 if getattr(kernel.values, "ndim", 2) == 4 else 2
    axes = "(step, input)" if rank == 2 else "(step, step, input, input)"
    values = checks.array(f"{name}.values", kernel.values, axes=axes, shape=(None,) * rank)
    steps, channels = values.shape[0], values.shape[-1]
    shape = (steps,) * (rank // 2) + (channels,) * (rank // 2)
    if values.shape != shape or not values.size:
        raise ValueError(f"{name}.values must be {axes} and not empty, got shape {values.shape}")
    fields = {"values": values}
    for field in read:
        of, wanted = (axes, shape) if field == "stderr" else ("(step,)", (steps,))
        fields[field] = checks.array(
            f"{name}.{field}", getattr(kernel, field), axes=of, shape=wanted, dtype=values.dtype
        )
        if field != "stderr":
            checks.finite(f"{name}.{field}", fields[field])
    return kernel._replace(**fields)


def checked_scalar(model: SRNN, readout: Readout) -> None:
    """A function of one state to a floating scalar."""
    out = checked_readout(model, readout, name="scalar")
    if out.shape != ():
        raise TypeError(f"readout must give one floating scalar for a state (hidden,), got shape {out.shape}")
