"""Paths of a stochastic system, as a batch of states that takes one step after another.

The input is constant over step k, from k·dt to (k+1)·dt, and the noise of step k is drawn from `fold_in(key, k)`. So a
run is a function of its key, runs with one key have common random numbers, and nothing of the noise is stored for the
backward pass. Steps are counted in integers: no time is ever rounded.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from maso_rnn import checks, functions
from srnn import model as models
from srnn import noise
from srnn.model import Model
from srnn.noise import Increment, Increments
from srnn.stability import refuse_bad_step
from srnn.statistics import lost

Control: TypeAlias = Float[Array, "step input"] | Callable[[Array], Array]
Readout: TypeAlias = Callable[[Array], Array]
LARGEST_RESULT = 2**33  # bytes of saved values on one device


class Ensemble(NamedTuple):
    """Simulated paths at the saved steps.

    Attributes:
        times: (time,), saved step indices times dt.
        values: (path, time, ...), states or readouts.
        mean: (time, ...), over all paths: not finite where a path diverged.
        stderr: (time, ...), standard error of the mean.
        diverged: the number of paths whose saved states or values are not all finite; a readout of a state that is not
            finite is NaN, whatever the function makes of it.
        step_error: (time, ...), the root mean square over paths of how far values are from those at half the step on
            the same Brownian paths; None unless `check_step` is set.
    """

    times: Float[Array, " time"]
    values: Float[Array, "path time *readout"]
    mean: Float[Array, "time *readout"]
    stderr: Float[Array, "time *readout"]
    diverged: Int[Array, ""]
    step_error: Float[Array, "time *readout"] | None = None


# the order of the method for an equation without noise, which its stability limit follows from
_ORDERS: dict[type, int] = {diffrax.Euler: 1, diffrax.Heun: 2, diffrax.ShARK: 2}


class Grid(NamedTuple):
    """What is static of a run.

    Attributes:
        steps: how many.
        dt: length of a step, in units of time.
        solver: diffrax's, which makes the steps.
        increments: kind of the noise that is drawn.
        before: steps of the burn-in, which come first and have random numbers of their own.
        paths: how many.
    """

    steps: int
    dt: float
    solver: diffrax.AbstractSolver
    increments: Increments
    before: int
    paths: int


class Run(NamedTuple):
    """What is run, a pytree of arrays.

    Attributes:
        model: as `srnn.model.read` gives it.
        control: (step, input).
        initial: (hidden,) or (path, hidden).
        key: of the noise.
        readout: the function of one state, a `Traced`, or None.
        path: a Brownian path that was given in place of drawn noise, or None.
    """

    model: Model
    control: Array
    initial: Array
    key: Array
    readout: Any
    path: Any = None


def simulate(
    model: Model,
    control: Control | None = None,
    *,
    key: Array,
    paths: int,
    t1: float,
    dt: float,
    solver: diffrax.AbstractSolver = diffrax.Euler(),
    increments: Literal["gaussian", "two_point"]
    | Float[Array, "step path noise"]
    | diffrax.AbstractBrownianPath = "gaussian",
    initial: Float[Array, "*path hidden"] | None = None,
    save_steps: Sequence[int] | None = None,
    readout: Readout | None = None,
    sharding: jax.sharding.Sharding | None = None,
    check_step: bool = False,
) -> Ensemble:
    """Paths of a noisy system under a control, with their mean and its standard error.

    Equation: dh = (−h @ decay + act(h @ recurrent_kernel + bias) + u_t @ input_kernel) dt + dB @ noise_kernel.

    Args:
        model: an `SRNN` or a `System`.
        control: (step, input), constant over each step; or a function of time, taken at the middle of each step; or
            None for zeros.
        key: a random key; one key is one set of noise paths.
        paths: how many, at least 2.
        t1: the end, in units of time.
        dt: the step, in units of time; t1/dt must be whole.
        solver: `diffrax.Euler()` (strong order 1 here, as the noise is additive), `diffrax.Heun()` or
            `diffrax.ShARK()` (strong order 1.5).
        increments: "gaussian", or "two_point": ±√dt, right for means (weak order 1) at a thirtieth of the random bits.
            To test convergence, one Brownian path at any step size: its increments (step, path, noise), or a
            `diffrax.VirtualBrownianTree` of shape (path, noise), with Lévy areas for ShARK.
        initial: (hidden,), or (path, hidden), or None for zeros.
        save_steps: indices in [0, t1/dt] of the steps after which to save, ascending: index k is time k·dt, and 0 the
            initial state; by default the last only.
        readout: what to save of a state, a function of (hidden,); by default the state itself.
        sharding: of the paths, as `NamedSharding(mesh, PartitionSpec("paths"))`; it must divide them evenly. An
            `initial` of (path, hidden) that is sharded does the same here and wherever paths are run.
        check_step: whether to run at half the step too, on the same Brownian paths: see `Ensemble.step_error`.

    Returns:
        `Ensemble(times, values, mean, stderr, diverged, step_error)`.

    Raises:
        ValueError: if the model is unstable or its shapes do not fit, `dt` does not divide `t1`, is past the stability
            limit or too short for float32, there are fewer than two paths, `sharding` does not divide them, the control
            is not finite or of a wrong shape, the solver needs Lévy areas, or what is saved takes more than 8 GiB.
        TypeError: if `key` is not a random key, an array is not floating, `sharding` is not a Sharding, or `readout`
            does not give one floating array.

    Warns:
        UserWarning: if the step is coarse, or may be past the stability limit of states that are reached.

    Example:
        >>> from srnn import init
        >>> model = init(jax.random.key(0), 1, 4)
        >>> run = simulate(model, key=jax.random.key(1), paths=8, t1=1.0, dt=0.125, save_steps=[4, 8])
        >>> run.values.shape, run.times.tolist()
        ((8, 2, 4), [0.5, 1.0])

    Source:
        Lim (2021), equation 1; Foster, dos Reis, Strange (2023) for ShARK.
    """
    given = None if isinstance(increments, str) else increments
    kind = "gaussian" if given is not None else increments
    run, grid = read_run(
        model, control, key=key, paths=paths, t1=t1, dt=dt, solver=solver, increments=kind, initial=initial,
        readout=readout, path=given,
    )  # fmt: skip
    checks.flag("check_step", check_step)
    if check_step and given is not None:
        raise ValueError("check_step halves the steps of noise that is drawn; run the given path at two step sizes")
    saved = step_indices("save_steps", (grid.steps,) if save_steps is None else save_steps, least=0, most=grid.steps)
    if sharding is not None:
        _check_sharding(sharding, grid.paths, models.hidden_size(run.model))
    _check_size(run, grid, len(saved), 1 if sharding is None else sharding.num_devices)
    return _ensemble(run, grid=grid, saved=saved, sharding=sharding, halved=bool(check_step))


@functools.partial(jax.jit, static_argnames=("grid", "saved", "sharding", "halved"))
def _ensemble(
    run: Run, *, grid: Grid, saved: tuple[int, ...], sharding: jax.sharding.Sharding | None, halved: bool
) -> Ensemble:
    states = first_states(run, grid)
    if sharding is not None:
        states = jax.lax.with_sharding_constraint(states, sharding)
    values = _saved(run, grid, saved, states, step)
    times = jnp.asarray(np.asarray(saved) * grid.dt, states.dtype)
    finite = jnp.isfinite(values).reshape(grid.paths, -1).all(axis=1)
    mean = values.mean(axis=0)
    error = None
    if halved:
        finer = _saved(run, grid, saved, states, _two_half_steps)
        error = jnp.sqrt(((values - finer) ** 2).mean(axis=0))
    stderr = values.std(axis=0, ddof=1) * grid.paths**-0.5
    return Ensemble(times, values, mean, stderr, (~finite).sum(), error)


def _saved(run: Run, grid: Grid, saved: tuple[int, ...], states: Array, advance: Callable[..., Array]) -> Array:
    """Saved values, (path, time, ...)."""

    def save(states: Array) -> Array:
        return states if run.readout is None else lost(jax.vmap(run.readout)(states), states)

    first = [save(states)[None]] if saved[0] == 0 else []
    saved = saved[len(first) :]
    if not saved:
        return first[0].swapaxes(0, 1)
    stride = math.gcd(*saved)  # whatever is saved is saved after a multiple of this many steps
    blocks = saved[-1] // stride
    # each block writes where the next saved one belongs, which comes last and stays
    slots = np.searchsorted(np.asarray(saved), stride * (np.arange(blocks) + 1))
    # the backward pass takes steps again from the states before them, and stores nothing else
    checkpointed = jax.checkpoint(lambda states, k: advance(run, grid, k, states), prevent_cse=False)

    def block(carry: tuple[Array, Array], now: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        states, kept = carry
        start, slot = now
        states, _ = jax.lax.scan(lambda h, k: (checkpointed(h, k), None), states, start + jnp.arange(stride))
        return (states, jax.lax.dynamic_update_index_in_dim(kept, save(states), slot, 0)), None

    form = jax.eval_shape(save, states)
    empty = like(jnp.zeros((len(saved), *form.shape), form.dtype), states)
    starts = stride * jnp.arange(blocks)
    (_, kept), _ = jax.lax.scan(block, (states, empty), (starts, jnp.asarray(slots)))
    return jnp.moveaxis(jnp.concatenate([*first, kept]), 0, 1)


def first_states(run: Run, grid: Grid) -> Array:
    """(path, hidden); NaN for a model that is not finite, which thus has no finite path."""
    states = jnp.where(models.is_finite(run.model), run.initial, jnp.nan)
    states = jnp.broadcast_to(states, (grid.paths, states.shape[-1]))
    return like(states, run.model, run.control, jax.random.key_data(run.key), run.path)


def like(values: Array, *others: Any) -> Array:
    """The values, said to vary over every mesh axis of `jax.shard_map` over which any of the others varies."""
    axes = {axis for leaf in jax.tree.leaves(others) for axis in _varying(leaf)}
    new = tuple(sorted(axes - set(_varying(values))))
    return jax.lax.pcast(values, new, to="varying") if new else values


def _varying(leaf: Any) -> Collection[str]:
    kind = jax.typeof(leaf)
    # the second is what JAX before 0.10 calls it
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else getattr(kind, "vma", ())


def last_states(run: Run, grid: Grid, states: Array) -> tuple[Array, Array]:
    """The last states, and the states before every step (step, path, hidden)."""

    def body(states: Array, k: Array) -> tuple[Array, Array]:
        return step(run, grid, k, states), states

    return jax.lax.scan(body, states, jnp.arange(grid.steps))


def after_burn_in(run: Run, grid: Grid) -> Array:
    """The states after the burn-in, which has no input; its steps come before those of the run."""
    states = first_states(run, grid)
    if not grid.before:
        return states
    still = run._replace(control=jnp.zeros((grid.before, run.control.shape[1]), states.dtype))
    return last_states(still, grid._replace(steps=grid.before, before=0), states)[0]


def step(run: Run, grid: Grid, k: Array, states: Array, nudge: Array | None = None) -> Array:
    """The states after step k, (path, hidden), where `nudge` (path, input) is added to the input."""
    row = jax.lax.dynamic_index_in_dim(run.control, k, keepdims=False)
    row = row if nudge is None else row + nudge
    return _moved(run.model, grid.solver, states, row, increment(run, grid, k), grid.dt)


def _two_half_steps(run: Run, grid: Grid, k: Array, states: Array) -> Array:
    row = jax.lax.dynamic_index_in_dim(run.control, k, keepdims=False)
    for half in noise.halves(run.key, k, increment(run, grid, k), grid.dt):
        states = _moved(run.model, grid.solver, states, row, half, 0.5 * grid.dt)
    return states


class _Rise(diffrax.AbstractTerm):
    """The noise of one step, as it reaches the states."""

    rise: Array

    def contr(self, t0: Any, t1: Any, **kwargs: Any) -> Array:
        """The increment (path, hidden)."""
        del t0, t1, kwargs
        return self.rise

    def vf(self, t: Any, y: Any, args: Any) -> Array:
        """One, whatever the state."""
        del t, y, args
        return jnp.ones((), self.rise.dtype)

    def prod(self, vf: Array, control: Array) -> Array:
        """Their product."""
        return vf * control


def _moved(
    model: Model, solver: diffrax.AbstractSolver, states: Array, row: Array, noise: Increment, dt: float
) -> Array:
    """The states after a step of the solver, in units of steps: no time is rounded."""
    rise = models.put_noise(model, noise.rise)
    rate = functools.partial(_rate, model, row)
    if isinstance(solver, diffrax.Heun):
        return _heun(states, rate, rise, dt)
    if isinstance(solver, diffrax.ShARK):
        return _shark(states, rate, rise, models.put_noise(model, cast(Array, noise.area)), dt)
    terms: diffrax.MultiTerm = diffrax.MultiTerm(diffrax.ODETerm(lambda t, h, args: dt * rate(h)), _Rise(rise))
    start = jnp.zeros((), states.dtype)
    after, *_ = solver.step(terms, start, start + 1, states, None, None, made_jump=False)
    return after


def _rate(model: Model, row: Array, states: Array) -> Array:
    return models.rate(model, states, row)


# diffrax's loop over stages has derivatives of one kind at a time; kernels want forward over forward over reverse
def _heun(states: Array, rate: Callable[[Array], Array], rise: Array, dt: float) -> Array:
    first = dt * rate(states)
    return states + 0.5 * (first + dt * rate(states + first + rise)) + rise


def _shark(states: Array, rate: Callable[[Array], Array], rise: Array, area: Array, dt: float) -> Array:
    """Foster, dos Reis, Strange (2023), equation 6.1."""
    first = dt * rate(states + area)
    second = dt * rate(states + area + 5 / 6 * (first + rise))
    return states + 0.4 * first + 0.6 * second + rise


def increment(run: Run, grid: Grid, k: Array) -> Increment:
    """The noise of step k: drawn, or that of the Brownian path that was given."""
    dtype, shape = models.dtype_of(run.model), (grid.paths, models.noise_size(run.model))
    needs_area = isinstance(grid.solver, diffrax.ShARK)
    if run.path is None:
        return noise.increment(run.key, k + grid.before, shape, grid.dt, dtype, grid.increments, area=needs_area)
    if isinstance(run.path, diffrax.AbstractBrownianPath):
        found = run.path.evaluate(k * grid.dt, (k + 1) * grid.dt, use_levy=needs_area)
        return Increment(found.W, found.H) if needs_area else Increment(found, None)
    return Increment(jax.lax.dynamic_index_in_dim(run.path, k, keepdims=False), None)


def read_run(
    model: Any,
    control: Any,
    *,
    key: Any,
    paths: Any,
    t1: Any,
    dt: Any,
    solver: Any,
    increments: Any,
    initial: Any,
    burn_in: Any = 0.0,
    readout: Any = None,
    path: Any = None,
) -> tuple[Run, Grid]:
    """What every function of paths is given, looked at once."""
    model, key = models.read(model), checks.random_key("key", key)
    if type(solver) not in _ORDERS:
        raise ValueError(
            f"solver must be diffrax.Euler(), diffrax.Heun() or diffrax.ShARK(), got {type(solver).__name__}"
        )
    checks.choice("increments", increments, ("gaussian", "two_point"))
    if increments == "two_point" and isinstance(solver, diffrax.ShARK):
        raise ValueError('solver: diffrax.ShARK needs Gaussian noise with its Lévy area; use increments="gaussian"')
    hidden, dtype = models.hidden_size(model), models.dtype_of(model)
    steps, before = whole_steps("t1", t1, dt), whole_steps("burn_in", burn_in, dt, least=0)
    grid = Grid(steps, float(dt), solver, increments, before, checks.size("paths", paths, least=2))
    if initial is None:
        initial = jnp.zeros(hidden, dtype)
    axes = "hidden" if np.ndim(initial) == 1 else "path hidden"
    initial = checks.array("initial", initial, axes, {"hidden": hidden, "path": grid.paths}, dtype)
    control = _rows(model, control, grid)
    path = path if path is None else _given(path, model, grid)
    checks.finite(model=model, control=control, initial=initial, increments=path)
    refuse_bad_step(model, grid.dt, _ORDERS[type(solver)], grid.steps, initial, control[0])
    readout = None if readout is None else read_readout(readout, hidden, dtype)
    return Run(model, control, initial, key, readout, path), grid


def _rows(model: Model, control: Any, grid: Grid) -> Array:
    """The input of each step, (step, input)."""
    channels, dtype = models.input_size(model), models.dtype_of(model)
    if control is None:
        return jnp.zeros((grid.steps, channels), dtype)
    if callable(control):
        middles = jnp.asarray((np.arange(grid.steps) + 0.5) * grid.dt, dtype)
        control = _sampled(functions.traced("control", control, middles[0]), middles).astype(dtype)
    return checks.array("control", control, "step input", {"step": grid.steps, "input": channels}, dtype)


@jax.jit
def _sampled(control: functions.Traced, times: Array) -> Array:
    return jax.vmap(control)(times)


def _given(path: Any, model: Model, grid: Grid) -> Any:
    """A Brownian path of the caller's: its increments, or an object of diffrax's."""
    shape = (grid.paths, models.noise_size(model))
    if isinstance(path, diffrax.AbstractBrownianPath):
        found = jax.eval_shape(lambda: path.evaluate(0.0, grid.dt))
        if getattr(found, "shape", None) != shape:
            raise ValueError(f"increments must be a Brownian path of shape {shape}, (path, noise), got {found}")
        if isinstance(grid.solver, diffrax.ShARK) and not _has_area(path, grid.dt):
            raise ValueError("increments must have levy_area=diffrax.SpaceTimeLevyArea, which diffrax.ShARK needs")
        ends, end = (path.t0, path.t1), grid.steps * grid.dt
        if checks.is_concrete(ends) and not (float(ends[0]) <= 0 and float(ends[1]) >= end * (1 - 1e-6)):
            raise ValueError(f"increments must be a Brownian path from 0 to {end}, got one from {ends[0]} to {ends[1]}")
        return path
    if isinstance(grid.solver, diffrax.ShARK):
        raise ValueError("solver: diffrax.ShARK needs Lévy areas, which increments lack; give a VirtualBrownianTree")
    sizes = {"step": grid.steps, "path": shape[0], "noise": shape[1]}
    return checks.array("increments", path, "step path noise", sizes, models.dtype_of(model))


def _has_area(path: diffrax.AbstractBrownianPath, dt: float) -> bool:
    return hasattr(jax.eval_shape(lambda: path.evaluate(0.0, dt, use_levy=True)), "H")


def read_readout(readout: Any, hidden: int, dtype: Any) -> functions.Traced:
    """A function of one state to one floating array, traced now."""
    found = functions.traced("readout", readout, jax.ShapeDtypeStruct((hidden,), dtype))
    if not isinstance(found.out, jax.ShapeDtypeStruct) or not jnp.issubdtype(found.out.dtype, jnp.floating):
        raise TypeError(
            f"readout must give one floating array for a state (hidden,), got {found.out}; convert it, as by "
            ".astype(float)"
        )
    return found


def whole_steps(name: str, time: Any, dt: Any, *, least: int = 1) -> int:
    """How many steps of `dt` make that time; they must make it exactly, up to rounding."""
    time, dt = checks.number(name, time, least=0), checks.number("dt", dt, above=0)
    count = round(time / dt)
    if abs(time / dt - count) > min(1e-6 * max(count, 1), 1e-2) or count < least:
        raise ValueError(
            f"{name} must be a whole number of steps, at least {least}: {name} = {time} is {time / dt:.6g} steps of "
            f"dt = {dt}; dt = {time / max(count, 1) or 1:.6g} would do"
        )
    return count


def step_indices(name: str, steps: Any, *, least: int, most: int) -> tuple[int, ...]:
    """Strictly ascending whole numbers in [least, most]."""
    try:
        found = tuple(operator.index(step) for step in steps)
    except (TypeError, jax.errors.ConcretizationTypeError):
        raise TypeError(f"{name} must be integers known when the function is traced, got {steps!r}") from None
    ascend = all(a < b for a, b in itertools.pairwise(found))
    if not found or found[0] < least or found[-1] > most or not ascend:
        raise ValueError(f"{name} must be ascending integers in [{least}, {most}], at least one, got {found}")
    return found


def _check_size(run: Run, grid: Grid, saved: int, devices: int) -> None:
    """What is saved fits into memory."""
    numbers = models.hidden_size(run.model) if run.readout is None else math.prod(run.readout.out.shape)
    size = grid.paths * saved * numbers * models.dtype_of(run.model).itemsize / devices
    if size > LARGEST_RESULT:
        raise ValueError(
            f"paths, save_steps: {grid.paths} paths at {saved} steps take {size / 2**30:.3g} GiB, more than "
            f"{LARGEST_RESULT / 2**30:.3g}; save fewer steps or a readout, or run paths in parts"
        )


def _check_sharding(sharding: Any, paths: int, hidden: int) -> None:
    """A sharding that cuts (path, hidden) into equal parts."""
    if not isinstance(sharding, jax.sharding.Sharding):
        raise TypeError(
            "sharding must be a jax.sharding.Sharding, as NamedSharding(mesh, PartitionSpec('paths')), got "
            f"{type(sharding).__name__}"
        )
    devices = sharding.num_devices
    parts = [devices // size for size in sharding.shard_shape((devices, devices))]
    for name, size, count in zip(("paths", "hidden units"), (paths, hidden), parts, strict=True):
        if size % count:
            nearest = [multiple for multiple in (size - size % count, size + count - size % count) if multiple]
            raise ValueError(
                f"sharding must divide the {name} evenly: {size} {name} over {count} devices leave {size % count}; "
                f"take {' or '.join(map(str, nearest))} {name}"
            )
