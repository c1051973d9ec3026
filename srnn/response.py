"""Response kernels: what a small input at one time does to a later expectation.

For a readout f and the control u, all expectations over noise paths,

    R_k = ∂ E f(h_t1) / ∂(u_k dt) = E[∇f(h_t1) J_{t1,k} C],    R_{kl} = ∂² E f(h_t1) / ∂(u_k dt) ∂(u_l dt),

with J the Jacobian of the flow along a path and C the input kernel (where the input enters inside the drift, its
derivative there). Three ways to estimate them: `adjoint` carries
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

from maso_rnn import checks
from srnn.mismatch import compared, mismatch
from srnn.model import SRNN, Model, additive_input, dtype_of, hidden_size, named, noise_matrix
from srnn.noise import Increments
from srnn.simulation import (
    Control,
    Grid,
    Readout,
    Run,
    after_burn_in,
    increment,
    last_states,
    like,
    read_run,
    step,
    step_indices,
)
from srnn.statistics import Chunks, Moments, centred, chunks_of, lost, moments, pool, z_score

Method: TypeAlias = Literal["adjoint", "tangent", "malliavin"]
LARGEST_KERNEL = 2**26  # numbers in a kernel


class Kernel(NamedTuple):
    """A response kernel at the chosen steps.

    Attributes:
        times: (step,), when each step begins, in units of time after the burn-in.
        values: (step, input), or for order 2 (step, step, input, input), symmetric under exchange of both pairs; per
            unit of input and of time, for each order. A readout of many outputs adds an axis (output,) at the end.
        stderr: like `values`, the standard errors.
        lags: (step,), from the beginning of each step to t1.
        growth: the largest root-mean-square factor by which the flow stretched what the method carried (1 or below
            where perturbations die out); None for "malliavin", which carries nothing.
        diverged: the number of paths whose last state is not finite.
        trend: (2,) or (2, output), z-scores of the change of E f and of E f² from the beginning (after burn-in) to t1;
            beyond ±3 the process was not stationary.
        mismatch: standard errors between a response that derivatives along paths predict and a finite one on the same
            paths; beyond 3 do not believe the kernel. Infinite where it is certain that something jumps; None where
            it was not looked at.
        groups: (group, step, input), means over each of 32 groups of paths (or fewer, where paths are fewer): errors at
            neighbouring steps go together, and these show how. None for order 2, or where a kernel was not measured.
    """

    times: Float[Array, " step"]
    values: Float[Array, "step *axes"]
    stderr: Float[Array, "step *axes"]
    lags: Float[Array, " step"]
    growth: Float[Array, ""] | None
    diverged: Int[Array, ""]
    trend: Float[Array, "2 *output"]
    mismatch: Float[Array, ""] | None = None
    groups: Float[Array, "group step *axes"] | None = None


def response_kernel(
    model: Model,
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
    compare: bool = True,
) -> Kernel:
    """What a small input in each step does to a later mean, E readout(h_t1), with standard errors.

    Equation: values_k = ∂E f(h_t1)/∂u_k / dt, so that Σ_k values_k · u_k dt is the first-order response; for order 2
    values_kl = ∂²E f(h_t1)/∂u_k∂u_l / dt², and the response is that sum over k > l plus half of it over k = l.

    Args:
        model: an `SRNN` or a `System`.
        readout: f, a function of (hidden,) to a scalar or to (output,); "adjoint" and "tangent" differentiate it
            `order` times along paths, and up to there nothing of it may jump: see `Kernel.mismatch`.
        t1: the end, in units of time after the burn-in.
        dt: the step; t1/dt must be whole.
        key: a random key.
        paths: how many, at least 2; they run in chunks that keep memory small.
        order: 1 or 2; `volterra_terms` has every order.
        steps: indices in [0, t1/dt) of the steps in which to apply the impulse, ascending; all by default.
        method: "adjoint" (all steps in one backward pass for each output), "tangent" (one forward pass for each step
            and channel, or pair of them), or "malliavin" (no derivatives, but more variance, growing with the number of
            steps; the input must be additive, and noise must reach where it pushes).
        initial: (hidden,), or (path, hidden), or None for zeros; where it is sharded over paths, so is the work.
        control: the input about which to perturb, (step, input) or a function of time; None for zeros.
        burn_in: time to run without input before the first step, 0 for none, towards stationarity; see `Kernel.trend`.
        solver: as for `simulate`.
        increments: as for `simulate`; "malliavin" needs "gaussian".
        compare: whether to compare with a finite response, by four more forward runs and a forward derivative (which
            functions with a rule for the reverse alone do not have): see `Kernel.mismatch`.

    Returns:
        `Kernel(times, values, stderr, lags, growth, diverged, trend, mismatch, groups)`.

    Raises:
        ValueError: as `simulate`; if `order` is not 1 or 2; by "adjoint" or "tangent" if a named activation has a kink
            that the order meets; for "malliavin" if an input pushes in a direction that no noise reaches, or enters
            inside the drift; or if the kernel is too large.
        TypeError: as `simulate`; or if `readout` does not give a floating scalar or (output,).

    Example:
        >>> from srnn import init
        >>> model = init(jax.random.key(0), 1, 4)
        >>> kernel = response_kernel(model, lambda h: h[0], t1=1.0, dt=0.125, key=jax.random.key(1), paths=16)
        >>> kernel.values.shape, kernel.stderr.shape, bool(kernel.mismatch < 3)
        ((8, 1), (8, 1), True)

    Source:
        Lim (2021), proposition 3.1 and section 4, with the correlation at two times in place of the printed equal
        times.
    """
    order = checks.size("order", order)
    if order > 2:
        raise ValueError(f"order must be 1 or 2, got {order}; srnn.volterra_terms gives the terms of any order")
    checks.choice("method", method, ("adjoint", "tangent", "malliavin"))
    checks.flag("compare", compare)
    checks.function("readout", readout)
    run, grid = read_run(
        model, control, key=key, paths=paths, t1=t1, dt=dt, solver=solver, increments=increments, initial=initial,
        burn_in=burn_in, readout=readout,
    )  # fmt: skip
    outputs = output_size(run)
    if method == "malliavin":
        if increments != "gaussian":
            raise ValueError('increments: "malliavin" weighs with Gaussian noise; use increments="gaussian"')
        noise_shift(run.model, additive_input(run.model), name="model.input_kernel")
    else:
        require_smooth(run.model, order)
    chosen = step_indices("steps", range(grid.steps) if steps is None else steps, least=0, most=grid.steps - 1)
    channels = run.control.shape[1]
    count = (len(chosen) * channels) ** order * outputs
    if count > LARGEST_KERNEL:
        raise ValueError(
            f"steps: an order-{order} kernel at {len(chosen)} steps, {channels} inputs and {outputs} outputs has "
            f"{count} numbers, more than {LARGEST_KERNEL}; choose fewer steps"
        )
    chunks = chunks_of(grid.paths, _bytes_per_path(run, grid, len(chosen), order, method))
    return _kernel(
        run, grid=grid, chosen=chosen, order=order, method=method, chunks=chunks,
        compare=bool(compare) and method != "malliavin",
    )  # fmt: skip


def output_size(run: Run) -> int:
    """How many outputs a readout has: it must give a scalar or (output,)."""
    shape = run.readout.out.shape
    if len(shape) > 1 or 0 in shape:
        raise TypeError(f"readout must give a scalar or (output,) for a state (hidden,), got shape {shape}")
    return shape[0] if shape else 1


def require_smooth(model: Model, order: int) -> None:
    """Refuse a named activation of which a derivative below `order` jumps.

    The derivative of a jump is zero almost everywhere: along paths nothing is seen of what it does to the mean.
    """
    if isinstance(model, SRNN) and order > named(model.activation).derivatives:
        raise ValueError(
            f"activation {model.activation} has a kink, which derivatives along paths miss at order {order}: use a "
            "smooth one (tanh, softplus, gelu), or srnn.response_kernel(..., method='malliavin')"
        )


def _bytes_per_path(run: Run, grid: Grid, chosen: int, order: int, method: Method) -> float:
    """What one path needs, as numbers that live at once."""
    channels, hidden, outputs = run.control.shape[1], hidden_size(run.model), output_size(run)
    directions = chosen * channels
    if method == "adjoint":
        numbers = grid.steps * (hidden + (channels * outputs if order == 2 else 0))
        numbers += 8 * hidden * outputs
        if order == 2:
            numbers *= 1 + directions
    elif method == "tangent":
        numbers = 8 * hidden * (directions if order == 1 else directions * (directions + 1))
    else:
        numbers = 8 * hidden + 4 * directions + directions**order * outputs
    return numbers * dtype_of(run.model).itemsize


@functools.partial(jax.jit, static_argnames=("grid", "chosen", "order", "method", "chunks", "compare"))
def _kernel(
    run: Run, *, grid: Grid, chosen: tuple[int, ...], order: int, method: Method, chunks: Chunks, compare: bool
) -> Kernel:
    estimate = _ESTIMATORS[method, order]
    dtype = dtype_of(run.model)
    grid = grid._replace(paths=chunks.size)
    along = constant_input(run, chosen)

    def one(sums: Array, chunk: tuple[Array, Array, Array, Array]) -> tuple[Array, tuple]:
        initial, key, counted, group = chunk
        own = run._replace(initial=initial, key=key)
        start = after_burn_in(own, grid)
        member = jax.nn.one_hot(group, chunks.groups, dtype=dtype) * counted[:, None]
        collect = Collect(counted, member if order == 1 else None)
        found, last, growth = estimate(own, grid, start, chosen, collect)
        change, bad = ends(run, start, last, counted)
        beside = compared(own, grid, start, along, order, counted) if compare else None
        return sums if found.groups is None else sums + found.groups, (found.moments, change, growth, bad, beside)

    shape = (chunks.groups, len(chosen), run.control.shape[1], output_size(run)) if order == 1 else ()
    parts = (chunks.cut(run.initial), chunks.keys(run.key), chunks.counted(dtype), chunks.group())
    sums, (kernels, changes, growth, diverged, beside) = scan_chunks(one, run, jnp.zeros(shape, dtype), parts)
    values, stderr = pool(kernels)
    change, spread = pool(changes)
    groups = sums / chunks.group_sizes().reshape(-1, 1, 1, 1) if order == 1 else None
    if not run.readout.out.shape:
        values, stderr, change, spread, groups = jax.tree.map(
            lambda x: x[..., 0], (values, stderr, change, spread, groups)
        )
    times = jnp.asarray(np.asarray(chosen) * grid.dt, dtype)
    lags = jnp.asarray((grid.steps - np.asarray(chosen)) * grid.dt, dtype)
    apart = None if beside is None else mismatch(beside)
    carried = None if method == "malliavin" else growth.max()
    return Kernel(times, values, stderr, lags, carried, diverged.sum(), z_score(change, spread), apart, groups)


def scan_chunks(one: Callable, run: Run, carry: Array, parts: tuple[Array, ...]) -> tuple[Any, Any]:
    """`one` on chunk after chunk."""
    return jax.lax.scan(one, like(carry, run, jax.random.key_data(run.key)), parts)


class Collected(NamedTuple):
    """What is kept of values that paths have.

    Attributes:
        moments: over paths.
        groups: (group, ...), sums over groups of paths, or None.
    """

    moments: Moments
    groups: Array | None


class Collect(NamedTuple):
    """What counts of a chunk of paths.

    Attributes:
        counted: (path,), 0 for those that only fill the chunk up.
        member: (path, group), 1 for those that count and are of the group; None where no groups are kept.
    """

    counted: Array
    member: Array | None

    def __call__(self, values: Array, axis: int = 0) -> Collected:
        """Of values with a path axis."""
        if self.member is None:
            return Collected(moments(values, self.counted, axis), None)
        return Collected(moments(values, self.counted, axis), jnp.tensordot(self.member, values, ((0,), (axis,))))


def constant_input(run: Run, chosen: tuple[int, ...]) -> Float[Array, "step input"]:
    """One in the chosen steps, zero in the others."""
    return jnp.zeros_like(run.control).at[jnp.asarray(chosen)].set(1.0)


def ends(run: Run, start: Array, last: Array, counted: Array) -> tuple[Moments, Array]:
    """The change of f and of f² from the first states to the last, (2, output), and how many are not finite."""
    before, after = (lost(outputs_of(run, states), states) for states in (start, last))
    change = moments(jnp.stack([after - before, after**2 - before**2]), counted, axis=1)
    return change, ((~jnp.isfinite(last).all(axis=-1)) & (counted == 1)).sum()


def outputs_of(run: Run, states: Array) -> Float[Array, "path output"]:
    """The readout of each state, with an output axis also where it is a scalar."""
    return jax.vmap(lambda h: jnp.atleast_1d(run.readout(h)))(states)


def pull_back(run: Run, grid: Grid, start: Array, reduce: Callable) -> tuple:
    """One pass forward and one back: what `reduce` makes of each step's push ∂f/∂(u_k dt), (output, path, input).

    `reduce` also gets the states before the step and the last states. Returns what it made, stacked over steps, the
    last states, and the growth.
    """
    last, states = last_states(run, grid, start)
    seed = jnp.moveaxis(jax.vmap(jax.jacrev(lambda h: jnp.atleast_1d(run.readout(h))))(last), 1, 0)
    still = _no_nudge(run, grid, start)

    def size(onto: Array) -> Array:
        return jnp.sqrt((onto**2).mean(axis=(1, 2)))

    def body(onto: Array, now: tuple[Array, Array]) -> tuple[Array, tuple]:
        k, state = now
        _, pull = jax.vjp(functools.partial(step, run, grid, k), state, still)
        before, push = jax.vmap(pull)(onto)
        return before, (reduce(push / grid.dt, state, last), size(before))

    _, (reduced, sizes) = jax.lax.scan(body, seed, (jnp.arange(grid.steps), states), reverse=True)
    norm = size(seed)
    return reduced, last, jnp.where(norm == 0, 0, sizes.max(axis=0) / norm).max()


def _no_nudge(run: Run, grid: Grid, start: Array) -> Float[Array, "path input"]:
    """Zeros that vary over devices as the states do: the derivative in them is each device's own, and no sum of all."""
    return like(jnp.zeros((grid.paths, run.control.shape[1]), start.dtype), start)


Estimate: TypeAlias = tuple[Collected, Array, Array]  # the kernel, the last states, and the growth


def _adjoint(run: Run, grid: Grid, start: Array, chosen: tuple[int, ...], collect: Collect) -> Estimate:
    reduced, last, growth = pull_back(
        run, grid, start, lambda push, state, last: collect(lost(jnp.moveaxis(push, 0, -1), last))
    )
    found = jax.tree.map(lambda x: x if x.ndim == 1 else x[np.asarray(chosen)], reduced)
    groups = None if found.groups is None else found.groups.swapaxes(0, 1)
    return Collected(found.moments._replace(weight=found.moments.weight[0]), groups), last, growth


def _adjoint_twice(run: Run, grid: Grid, start: Array, chosen: tuple[int, ...], collect: Collect) -> Estimate:
    """Forward over reverse: the first-order gradients of all steps, differentiated along each chosen step."""

    def gradients(control: Array) -> tuple[Array, tuple[Array, Array]]:
        moved = run._replace(control=control)
        pushes, last, growth = pull_back(moved, grid, start, lambda push, state, last: jnp.moveaxis(push, 0, -1))
        return pushes[np.asarray(chosen)], (last, growth)

    def along(direction: Array) -> tuple[Collected, tuple[Array, Array]]:
        _, change, aside = jax.jvp(gradients, (run.control,), (direction,), has_aux=True)
        return collect(lost(change / grid.dt, aside[0], axis=1), axis=1), aside

    found, (last, growth) = jax.vmap(along, out_axes=(0, None))(_impulses(run.control, chosen))
    shape = (len(chosen), run.control.shape[1]) * 2  # earlier step, its input, later step, its input

    def order(values: Array) -> Array:
        return values.reshape(*shape, -1).transpose(2, 0, 3, 1, 4)

    return _ordered(found, order), last, growth


def _ordered(found: Collected, order: Callable[[Array], Array]) -> Collected:
    weight, mean, squares = found.moments
    return Collected(Moments(weight[0], order(mean), order(squares)), None)


def _impulses(control: Array, chosen: tuple[int, ...]) -> Array:
    """Unit controls, (direction, step, input): one for each chosen step and each channel."""
    steps, channels = control.shape
    index = (np.asarray(chosen)[:, None] * channels + np.arange(channels)).ravel()
    return jax.nn.one_hot(index, steps * channels, dtype=control.dtype).reshape(-1, steps, channels)


def _carried(run: Run, grid: Grid, start: Array, direction: Array) -> tuple[Array, Array, Array]:
    """The last states, how a unit control moves them, and by how much that is more than it pushed in its step."""
    still = _no_nudge(run, grid, start)

    def body(carry: tuple[Array, Array, Array], k: Array) -> tuple[tuple[Array, Array, Array], None]:
        state, moved, pushed = carry
        row = jax.lax.dynamic_index_in_dim(direction, k, keepdims=False) / grid.dt
        through = functools.partial(step, run, grid, k)
        state, moved = jax.jvp(through, (state, still), (moved, jnp.broadcast_to(row, still.shape)))
        return (state, moved, jnp.where(row.any(), _square(moved), pushed)), None

    first = (start, like(jnp.zeros_like(start), start), like(jnp.zeros((), start.dtype), start))
    (last, moved, pushed), _ = jax.lax.scan(body, first, jnp.arange(grid.steps))
    return last, moved, jnp.sqrt(jax.lax.stop_gradient(_square(moved) / jnp.where(pushed > 0, pushed, 1)))


def _square(moved: Array) -> Array:
    return (jax.lax.stop_gradient(moved) ** 2).sum(axis=-1).mean()


def _tangent(run: Run, grid: Grid, start: Array, chosen: tuple[int, ...], collect: Collect) -> Estimate:
    def along(direction: Array) -> tuple[Collected, Array, Array]:
        last, moved, growth = _carried(run, grid, start, direction)
        _, change = jax.jvp(functools.partial(outputs_of, run), (last,), (moved,))
        return collect(lost(change, last)), last, growth

    found, last, growth = jax.vmap(along, out_axes=(0, None, 0))(_impulses(run.control, chosen))
    shape = (len(chosen), run.control.shape[1], output_size(run))
    weight, mean, squares = found.moments
    groups = None if found.groups is None else found.groups.swapaxes(0, 1).reshape(-1, *shape)
    return Collected(Moments(weight[0], mean.reshape(shape), squares.reshape(shape)), groups), last, growth.max()


def _tangent_twice(run: Run, grid: Grid, start: Array, chosen: tuple[int, ...], collect: Collect) -> Estimate:
    """Second derivatives along every pair of chosen steps and channels, each pair once."""
    impulses = _impulses(run.control, chosen)
    a, b = np.tril_indices(len(impulses))

    def along(one: Array, other: Array) -> tuple[Collected, Array, Array]:
        def first(control: Array) -> tuple[Array, tuple[Array, Array]]:
            last, moved, growth = _carried(run._replace(control=control), grid, start, one)
            _, change = jax.jvp(functools.partial(outputs_of, run), (last,), (moved,))
            return change, (last, growth)

        _, second, (last, growth) = jax.jvp(first, (run.control,), (other / grid.dt,), has_aux=True)
        return collect(lost(second, last)), last, growth

    found, last, growth = jax.vmap(along, out_axes=(0, None, 0))(impulses[a], impulses[b])
    size, channels = len(impulses), run.control.shape[1]

    def order(values: Array) -> Array:
        square = jnp.zeros((size, size, values.shape[-1]), values.dtype).at[a, b].set(values).at[b, a].set(values)
        return square.reshape(len(chosen), channels, len(chosen), channels, -1).transpose(0, 2, 1, 3, 4)

    return _ordered(found, order), last, growth.max()


def _malliavin(run: Run, grid: Grid, start: Array, chosen: tuple[int, ...], collect: Collect) -> Estimate:
    """Covariance of f with θᵀΔB_k/dt; each step's noise is drawn again, not stored."""
    last, _ = last_states(run, grid, start)
    values = centred(lost(outputs_of(run, last), last), collect.counted)[:, None, :]
    shift, _ = _shift(run.model, run.model.input_kernel)
    found = jax.lax.map(
        lambda k: collect(values * _weight(run, grid, shift, k)[:, :, None]), jnp.asarray(np.asarray(chosen))
    )
    groups = None if found.groups is None else found.groups.swapaxes(0, 1)
    return Collected(found.moments._replace(weight=found.moments.weight[0]), groups), last, jnp.zeros((), last.dtype)


def _malliavin_twice(run: Run, grid: Grid, start: Array, chosen: tuple[int, ...], collect: Collect) -> Estimate:
    """Covariance of f with the second Hermite weight, w_k w_l − 1[k = l] θᵀθ/dt."""
    last, _ = last_states(run, grid, start)
    values = centred(lost(outputs_of(run, last), last), collect.counted)[:, None, None, :]
    shift, _ = _shift(run.model, run.model.input_kernel)
    norm = shift @ shift.T / grid.dt
    weights = jax.lax.map(functools.partial(_weight, run, grid, shift), jnp.asarray(np.asarray(chosen)))

    def row(now: tuple[Array, Array]) -> Collected:
        index, later = now
        same = (jnp.arange(len(chosen)) == index).astype(later.dtype)
        product = later[None, :, :, None] * weights[:, :, None, :] - same[:, None, None, None] * norm
        return collect(values * product[..., None], axis=1)

    found = jax.lax.map(row, (jnp.arange(len(chosen)), weights))
    return Collected(found.moments._replace(weight=found.moments.weight[0]), None), last, jnp.zeros((), last.dtype)


def _weight(run: Run, grid: Grid, shift: Array, k: Array) -> Float[Array, "path input"]:
    return increment(run, grid, k).rise @ shift.T / grid.dt


_ESTIMATORS: dict[tuple[str, int], Callable[..., Estimate]] = {
    ("adjoint", 1): _adjoint,
    ("adjoint", 2): _adjoint_twice,
    ("tangent", 1): _tangent,
    ("tangent", 2): _tangent_twice,
    ("malliavin", 1): _malliavin,
    ("malliavin", 2): _malliavin_twice,
}


def scaled_noise(model: Model) -> tuple[Array, Array, Array]:
    """The noise kernel with each unit in units of its own noise, those units, and its inverse, or pseudo-inverse."""
    sigma = noise_matrix(model)
    # from infinities LAPACK's SVD does not return
    sigma = jnp.where(jnp.isfinite(sigma).all(), sigma, jnp.nan)
    largest = jnp.abs(sigma).max(axis=0)
    unit = jnp.where(largest > 0, largest, 1)
    sigma = sigma / unit
    if model.noise_kernel.ndim == 1:
        return sigma, unit, sigma
    return sigma, unit, jnp.linalg.pinv(sigma, rtol=max(sigma.shape) * jnp.finfo(sigma.dtype).eps)


@jax.jit
def _shift(model: Model, pushes: Array) -> tuple[Array, Array]:
    """The noise θ, (row, noise), with θ @ noise_kernel = pushes, and which units of each push noise reaches.

    Each unit is measured by its own noise: a strong push must not cover for a weak one elsewhere. What noise does not
    make is NaN.
    """
    sigma, unit, inverse = scaled_noise(model)
    wanted = pushes / unit
    shift = wanted @ inverse
    shift = shift + (wanted - shift @ sigma) @ inverse
    rounding = 8 * len(sigma) * jnp.finfo(pushes.dtype).eps * (jnp.abs(shift) @ jnp.abs(sigma) + jnp.abs(wanted))
    reached = jnp.where(sigma.any(axis=0), jnp.abs(shift @ sigma - wanted) <= rounding, pushes == 0)
    return jnp.where(reached.all(axis=1, keepdims=True), shift, jnp.nan), reached


def noise_shift(model: Model, pushes: Array, *, name: str) -> Array:
    """The noise θ, (row, noise), that moves the state as `pushes` (row, hidden) do: θ @ noise_kernel = pushes.

    Pushes that no noise makes are refused where they are concrete, and give NaN where they are traced.
    """
    shift, reached = checks.concretely(_shift, model, pushes)
    if checks.is_concrete(reached) and not np.asarray(reached).all():
        row, unit = np.argwhere(~np.asarray(reached))[0]
        raise ValueError(
            f"{name} pushes the state where no noise reaches (row {row}, unit {unit}): it must lie in the range of "
            "model.noise_kernel; give that full rank, or use srnn.response_kernel(method='adjoint')"
        )
    return shift


def read_kernel(name: str, kernel: Any, *fields: str) -> Kernel:
    """A kernel of order 1 or 2 whose values, and those of its other arrays that are read, fit each other."""
    checks.instance(name, kernel, Kernel, "srnn.response_kernel")
    axes = "step step input input" if np.ndim(kernel.values) == 4 else "step input"
    sizes: dict[str, int] = {}
    values = checks.array(f"{name}.values", kernel.values, axes, sizes)
    wanted = (sizes["step"],) * (len(axes.split()) // 2) + (sizes["input"],) * (len(axes.split()) // 2)
    if values.shape != wanted:
        raise ValueError(f"{name}.values must be ({axes.replace(' ', ', ')}), got shape {values.shape}")
    found = {
        field: checks.array(f"{name}.{field}", getattr(kernel, field), of, sizes, values.dtype)
        for field, of in ((field, axes if field == "stderr" else "step") for field in fields)
    }
    return kernel._replace(values=values, **found)
