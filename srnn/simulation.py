"""Paths of a stochastic RNN, by diffrax, on a batch of states.

Time runs in units of steps inside the solver, so that a step's index is exact in float32. What drives the state, the
input and the noise, is one path X with increments

    ΔX_k = u_k dt @ input_kernel + ΔB_k @ noise_kernel

over step k, from k·dt to (k+1)·dt; the noise of step k is drawn from `fold_in(key, k)`. So a run is a function of its
key, runs with one key have common random numbers, and nothing of the noise is stored for the backward pass.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from srnn import checks
from srnn.model import SRNN, check_model, check_step, drift_of, is_finite, noise_size, put_noise
from srnn.statistics import lost

Control: TypeAlias = Float[Array, "step input"] | Callable[[Array], Array]
Increments: TypeAlias = Literal["gaussian", "two_point"]
Readout: TypeAlias = Callable[[Array], Array]

# by type: the solver with its stages in a loop that has derivatives of every order, and the order of the
# deterministic method, which its stability limit follows from
_SOLVERS: dict[type, tuple[diffrax.AbstractSolver, int]] = {
    diffrax.Euler: (diffrax.Euler(), 1),
    diffrax.Heun: (diffrax.Heun(scan_kind="bounded"), 2),
    diffrax.ShARK: (diffrax.ShARK(scan_kind="lax"), 2),
}


class Ensemble(NamedTuple):
    """Simulated paths at the saved steps.

    Attributes:
        times: (time,), saved step indices times dt.
        values: (path, time, ...), states or readouts.
        mean: (time, ...), over all paths: not finite where a path diverged.
        stderr: (time, ...), standard error of the mean.
        diverged: the number of paths whose saved states or values are not all finite; a readout of a state that is not
            finite is NaN, whatever the function makes of it.
    """

    times: Float[Array, " time"]
    values: Float[Array, "path time *readout"]
    mean: Float[Array, "time *readout"]
    stderr: Float[Array, "time *readout"]
    diverged: Int[Array, ""]


class Grid(NamedTuple):
    """What a run is made of besides the model, all static.

    Attributes:
        steps: how many.
        dt: length of a step, in units of time.
        solver: Euler, Heun or ShARK.
        increments: kind of the noise.
        first: index of the first step, for the random numbers.
    """

    steps: int
    dt: float
    solver: diffrax.AbstractSolver
    increments: Increments
    first: int = 0


def simulate(
    model: SRNN,
    control: Control | None = None,
    *,
    key: Array,
    paths: int,
    t1: float,
    dt: float,
    solver: diffrax.AbstractSolver = diffrax.Euler(),
    increments: Increments = "gaussian",
    initial: Float[Array, "*path hidden"] | None = None,
    save_steps: Sequence[int] | None = None,
    readout: Readout | None = None,
    sharding: jax.sharding.Sharding | None = None,
) -> Ensemble:
    """Paths of the model under a control, with their mean and its standard error.

    Equation: dh = (−h @ decay + act(h @ recurrent_kernel + bias) + u_t @ input_kernel) dt + dB @ noise_kernel.

    Args:
        model: the model.
        control: (step, input), constant over each step; or a function of time, taken at the middle of each step; or
            None for zeros.
        key: a random key; one key is one set of noise paths.
        paths: how many, at least 2.
        t1: the end, in units of time.
        dt: the step, in units of time; t1/dt must be whole.
        solver: `diffrax.Euler()` (strong order 1 here, as the noise is additive), `diffrax.Heun()` or
            `diffrax.ShARK()` (strong order 1.5).
        increments: "gaussian", or "two_point": ±√dt, right for means (weak order 1) at a thirtieth of the random bits.
        initial: (hidden,), or (path, hidden), or None for zeros.
        save_steps: indices in [0, t1/dt] of the steps after which to save, ascending: index k is time k·dt, and 0 the
            initial state; by default the last only.
        readout: what to save of a state, a function of (hidden,); by default the state itself.
        sharding: of the paths, as `NamedSharding(mesh, PartitionSpec("paths"))`; it must divide them evenly. An
            `initial` of (path, hidden) that is sharded does the same here and wherever paths are run.

    Returns:
        `Ensemble(times, values, mean, stderr, diverged)`.

    Raises:
        ValueError: if the model is unstable or its shapes do not fit, `dt` does not divide `t1` or is past the
            stability limit, there are fewer than two paths, `sharding` does not divide them, the control is not finite
            or of a wrong shape, or the solver needs Gaussian noise.
        TypeError: if `key` is not a typed key, an array is not floating, `sharding` is none, or `readout` does not give
            one floating array.

    Example:
        >>> from srnn import init
        >>> model = init(jax.random.key(0), 1, 4)
        >>> run = simulate(model, key=jax.random.key(1), paths=8, t1=1.0, dt=0.125, save_steps=[4, 8])
        >>> run.values.shape, run.times.tolist()
        ((8, 2, 4), [0.5, 1.0])

    Source:
        Lim (2021), equation 1; Foster, dos Reis, Strange (2023) for ShARK.
    """
    grid = checked_grid(model, t1=t1, dt=dt, solver=solver, increments=increments)
    key, paths = checks.random_key(key), checked_paths(paths)
    if sharding is not None:
        _check_sharding(sharding, paths, model.bias.shape[0])
    chosen = (grid.steps,) if save_steps is None else save_steps
    saved = checks.step_indices("save_steps", chosen, least=0, most=grid.steps)
    if readout is not None:
        checked_readout(model, readout)
    values = _paths(
        model,
        checked_control(model, control, grid),
        checked_initial(model, initial, paths),
        key,
        grid=grid,
        paths=paths,
        saved=saved,
        readout=readout,
        sharding=sharding,
    )
    times = jnp.asarray(saved, model.recurrent_kernel.dtype) * grid.dt
    finite = jnp.isfinite(values).reshape(paths, -1).all(axis=1)
    mean = values.mean(axis=0)
    return Ensemble(times, values, mean, values.std(axis=0, ddof=1) * paths**-0.5, (~finite).sum())


@functools.partial(jax.jit, static_argnames=("grid", "paths", "saved", "readout", "sharding"))
def _paths(
    model: SRNN,
    control: Array,
    initial: Array,
    key: Array,
    *,
    grid: Grid,
    paths: int,
    saved: tuple[int, ...],
    readout: Readout | None,
    sharding: jax.sharding.Sharding | None,
) -> Array:
    """Saved values, (path, time, ...)."""
    states = jnp.broadcast_to(initial, (paths, initial.shape[-1]))
    if sharding is not None:
        states = jax.lax.with_sharding_constraint(states, sharding)

    def save(t: Any, y: Array, args: Any) -> Array:
        del t, args
        return y if readout is None else lost(jax.vmap(readout)(y), y)

    parts = []
    if saved[0] == 0:
        parts.append(save(0, states, None)[None])
        saved = saved[1:]
    if saved:
        if saved == (grid.steps,):
            saveat = diffrax.SaveAt(t1=True, fn=save)
        elif saved == tuple(range(1, grid.steps + 1)):
            saveat = diffrax.SaveAt(steps=True, fn=save)
        else:
            saveat = diffrax.SaveAt(ts=jnp.asarray(saved, states.dtype), fn=save)
        solution = diffrax.diffeqsolve(
            terms(model, control, key, grid, paths),
            grid.solver,
            t0=0.0,
            t1=float(grid.steps),
            dt0=1.0,
            y0=states,
            saveat=saveat,
            adjoint=diffrax.RecursiveCheckpointAdjoint(checkpoints=grid.steps + 1),
            max_steps=grid.steps,
            throw=False,  # nothing is left to fail, and its error check would gather all paths on one device
        )
        parts.append(solution.ys)
    return jnp.moveaxis(jnp.concatenate(parts), 0, 1)


def run(model: SRNN, control: Array, states: Array, key: Array, grid: Grid) -> tuple[Array, Array]:
    """The last states, and the states before every step (step, path, hidden): `simulate`'s steps in a plain scan.

    diffrax's solve has derivatives of one kind at a time; the response wants forward over forward over reverse.
    """

    def body(state: Array, k: Array) -> tuple[Array, Array]:
        return step(model, control, key, grid, k, state), state

    return jax.lax.scan(body, states, jnp.arange(grid.steps))


def step(
    model: SRNN, control: Array, key: Array, grid: Grid, k: Array, state: Array, nudge: Array | float = 0.0
) -> Array:
    """The states after step k, (path, hidden), where `nudge` is added to what drives them in that step."""
    t = jnp.asarray(k, state.dtype)
    after, *_ = grid.solver.step(
        terms(model, control, key, grid, state.shape[0], nudge), t, t + 1, state, None, None, False
    )
    return after


def terms(
    model: SRNN, control: Array, key: Array, grid: Grid, paths: int, nudge: Array | float = 0.0
) -> diffrax.MultiTerm:
    """Drift and drive as diffrax terms, in units of steps."""
    drive = _Drive(model, control, jax.random.key_data(key), nudge, jax.random.key_impl(key), grid, paths)
    return diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, args: grid.dt * drift_of(model, y)), drive)


def increments_of(model: SRNN, key: Array, grid: Grid, k: Array, paths: int) -> Array:
    """The noise increments ΔB of step k, (path, noise)."""
    dtype, shape = model.recurrent_kernel.dtype, (paths, noise_size(model))
    key = jax.random.fold_in(key, k + grid.first)
    if grid.increments == "gaussian":
        return grid.dt**0.5 * jax.random.normal(key, shape, dtype)
    return _signs(key, shape, dtype, grid.dt**0.5)


def _signs(key: Array, shape: tuple[int, int], dtype: Any, size: float) -> Array:
    """±size with equal odds, 32 of them from each random word."""
    paths, channels = shape
    words = -(-paths // 32)
    bits = jax.random.bits(key, (words, 1, channels), jnp.uint32)
    shifts = jnp.arange(32, dtype=jnp.uint32)[:, None]
    chosen = ((bits >> shifts) & 1).reshape(words * 32, channels)[:paths]
    return jnp.where(chosen == 1, jnp.asarray(size, dtype), jnp.asarray(-size, dtype))


class _Drive(diffrax.AbstractTerm):
    """What drives the state, input and noise, as increments of each step that are added to the state as they are."""

    model: SRNN
    control: Array
    # not a typed key: the key-reuse checker takes the checkpointed adjoint's second pass for a reuse
    key_data: Array
    nudge: Array | float
    implementation: Any = eqx.field(static=True)
    grid: Grid = eqx.field(static=True)
    paths: int = eqx.field(static=True)

    def contr(self, t0: Any, t1: Any, use_levy: bool = False, **kwargs: Any) -> Any:
        """The increment (path, hidden) of the step from t0, with its space-time Lévy area where `use_levy`."""
        del t1, kwargs
        k = jnp.asarray(t0).astype(jnp.int32)
        key = jax.random.wrap_key_data(self.key_data, impl=self.implementation)
        noise = increments_of(self.model, key, self.grid, k, self.paths)
        row = jax.lax.dynamic_index_in_dim(self.control, k, keepdims=False)
        increment = put_noise(self.model, noise) + (self.grid.dt * (row @ self.model.input_kernel) + self.nudge)
        if not use_levy:
            return increment
        # the area H is independent of ΔB, normal with variance dt/12: one more word folded in keeps their bits apart
        key = jax.random.fold_in(jax.random.fold_in(key, k + self.grid.first), 1)
        area = (self.grid.dt / 12) ** 0.5 * jax.random.normal(key, noise.shape, noise.dtype)
        return diffrax.SpaceTimeLevyArea(dt=jnp.ones((), noise.dtype), W=increment, H=put_noise(self.model, area))

    def vf(self, t: Any, y: Any, args: Any) -> Array:
        """One, whatever the state."""
        del t, y, args
        return jnp.ones((), self.control.dtype)

    def prod(self, vf: Array, control: Any) -> Any:
        """Their product."""
        return vf * control


def checked_grid(model: SRNN, *, t1: Any, dt: Any, solver: Any, increments: Any, first: int = 0) -> Grid:
    """The grid of a run of a model that has been checked, with a step that is stable for it."""
    check_model(model)
    if type(solver) not in _SOLVERS:
        raise ValueError(
            f"solver must be diffrax.Euler(), diffrax.Heun() or diffrax.ShARK(), got {type(solver).__name__}"
        )
    if increments not in ("gaussian", "two_point"):
        raise ValueError(f'increments must be "gaussian" or "two_point", got {increments!r}')
    if increments == "two_point" and isinstance(solver, diffrax.ShARK):
        raise ValueError(
            'solver: diffrax.ShARK needs Gaussian noise with its Lévy area; use increments="gaussian", or '
            "diffrax.Euler() with two-point increments"
        )
    steps = checks.whole_steps(t1, dt)
    most = 2**24
    if steps + first >= most and model.recurrent_kernel.dtype == jnp.float32:
        raise ValueError(
            f"t1: {steps + first} steps cannot be told apart in float32, which counts to {most}; use a float64 model"
        )
    solver, order = _SOLVERS[type(solver)]
    check_step(model, float(dt), order)
    return Grid(steps, float(dt), solver, increments, first)


def checked_paths(paths: Any) -> int:
    """At least two paths, so that there is a standard error."""
    paths = checks.size("paths", paths)
    if paths < 2:
        raise ValueError("paths must be at least 2: one path has no standard error")
    return paths


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


def checked_control(model: SRNN, control: Any, grid: Grid, *, name: str = "control") -> Array:
    """(step, input), one row for each step of the grid."""
    channels, dtype = model.input_kernel.shape[0], model.recurrent_kernel.dtype
    if control is None:
        return jnp.zeros((grid.steps, channels), dtype)
    if callable(control):
        middles = (jnp.arange(grid.steps, dtype=dtype) + 0.5) * grid.dt
        control = jax.vmap(control)(middles)
        if control.shape != (grid.steps, channels):
            raise ValueError(f"{name} must return ({channels},) at every time, got {control.shape[1:]}")
        control = control.astype(dtype)
    axes = f"(step, input), one row for each of the {grid.steps} steps"
    checked = checks.array(name, control, axes=axes, shape=(grid.steps, channels), dtype=dtype)
    checks.finite(name, checked)
    return checked


def checked_readout(model: SRNN, readout: Any, *, name: str = "array") -> jax.ShapeDtypeStruct:
    """A function of one state to one floating array: its shape and dtype."""
    if not callable(readout):
        raise TypeError(f"readout must be a function of (hidden,), got {type(readout).__name__}")
    out = jax.eval_shape(readout, jax.ShapeDtypeStruct(model.bias.shape, model.recurrent_kernel.dtype))
    if not isinstance(out, jax.ShapeDtypeStruct) or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(
            f"readout must give one floating {name} for a state (hidden,), got {out}; convert it, as by .astype(float)"
        )
    return out


def checked_initial(model: SRNN, initial: Any, paths: int) -> Array:
    """(hidden,) or (path, hidden); NaN for a traced model that is not finite, which thus has no finite path."""
    hidden, dtype = model.recurrent_kernel.shape[0], model.recurrent_kernel.dtype
    if initial is None:
        initial = jnp.zeros(hidden, dtype)
    shape = (hidden,) if getattr(initial, "ndim", 1) == 1 else (paths, hidden)
    checked = checks.array("initial", initial, axes="(hidden,) or (path, hidden)", shape=shape, dtype=dtype)
    checks.finite("initial", checked)
    return checked if checks.is_concrete(model) else jnp.where(is_finite(model), checked, jnp.nan)
