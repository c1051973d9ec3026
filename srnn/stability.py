"""How long a step may be: one that blows up or stands still is refused, one that is coarse is warned of.

An explicit Runge–Kutta method multiplies a mode of rate λ by R(dt λ) in every step, and blows up where |R| > 1 though
the mode decays. Looked at are the drift's Jacobians where they are known without running: with all units flat, on or
off; of a `System`, those at the start and at states of a short pilot run. What is traced is not looked at.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import checks
from srnn.model import SRNN, Model, System, hidden_size, named, noise_size, put_noise, rate

COARSE = {1: 0.2, 2: 0.5}  # dt times the fastest rate, by the method's order, from which variances are 10% off
LARGEST_JACOBIAN = 256  # units of a `System` whose Jacobians are looked at
_PILOT_STEPS, _PILOT_PATHS = 64, 2
_ROUNDING = 1e-2  # relative error of a state from which the rounding of its steps is refused


def refuse_bad_step(model: Model, dt: float, order: int, steps: int, start: Array, row: Array) -> None:
    """Refuse a step at which a method of that order (1 or 2) blows up or stands still; warn of one that is coarse."""
    if not checks.is_concrete(model, start, row):
        return
    modes = _srnn_modes(model) if isinstance(model, SRNN) else _system_modes(model, dt, steps, start, row)
    limits = [largest_step(rates, order) for rates in modes.certain]
    limit = min(limits, default=np.inf)
    if dt >= limit * (1 - 1e-9):
        raise ValueError(
            f"dt = {dt} is past the stability limit {limit:.4g} of the drift's Jacobian; "
            f"dt = {0.1 * limit:.2g} would do"
        )
    possible = min((largest_step(rates, order) for rates in modes.possible), default=np.inf)
    every = np.concatenate([np.zeros(1), *modes.certain])
    fastest = float(np.abs(every).max())
    if dt >= possible:
        warnings.warn(f"dt = {dt} is past the stability limit {possible:.4g} of states it may reach", stacklevel=4)
    elif dt * fastest >= COARSE[order] * (1 - 1e-9):
        warnings.warn(
            f"dt = {dt} is coarse: the fastest rate is {fastest:.4g}, and variances err by about dt · rate / 2; "
            f"dt = {0.5 * COARSE[order] / fastest:.2g} would do; simulate(..., check_step=True) measures the error",
            stacklevel=4,
        )
    decaying = -every.real[every.real < 0]
    remembered = min(float(steps), 1 / (dt * decaying.min())) if decaying.size else float(steps)
    eps = float(jnp.finfo(start.dtype).eps)
    if remembered * eps / 2 > _ROUNDING:
        raise ValueError(
            f"dt = {dt} is so short that {start.dtype} rounds the steps away: {remembered:.3g} of them are remembered; "
            "take a longer step or a float64 model"
        )


def largest_step(rates: np.ndarray, order: int) -> float:
    """The first dt > 0 at which |R(dt · rate)| = 1 for a rate that decays, with R(z) = 1 + z (+ z²/2)."""
    return min((_largest_step(complex(rate), order) for rate in rates if rate.real < 0), default=np.inf)


def _largest_step(rate: complex, order: int) -> float:
    if order == 1:
        return float(-2 * rate.real / abs(rate) ** 2)
    square = rate * rate / 2
    real, imaginary = np.array([square.real, rate.real, 1]), np.array([square.imag, rate.imag, 0])
    excess = np.polymul(real, real) + np.polymul(imaginary, imaginary)  # |R|², highest power first
    roots = np.roots(excess[:-1])  # |R|² − 1 has no constant term
    return float(min(root.real for root in roots if abs(root.imag) < 1e-9 * abs(root) and root.real > 0))


class _Modes(NamedTuple):
    """Rates of the drift's Jacobians: those that states meet for certain, and those that they may meet."""

    certain: list[np.ndarray]
    possible: list[np.ndarray]


def _srnn_modes(model: SRNN) -> _Modes:
    decays = _rates(-_dense(model.decay))
    if decays.real.max() >= 0:
        raise ValueError(
            f"model.decay must be positive stable (all eigenvalues with positive real part), got one at "
            f"{-decays[decays.real.argmax()]:.4g}"
        )
    slopes = _slopes(model.activation, model.bias.dtype.name)
    far = sorted({slope for slope in slopes.far if np.isfinite(slope) and slope != 0})
    kernel = np.asarray(model.recurrent_kernel, np.float64)
    jacobians = [_rates(slope * kernel - _dense(model.decay)) for slope in far]
    if not slopes.affine:
        # an estimate of the fastest mode where a bounded activation is steepest, without eigenvalues
        steep = [-np.array([np.abs(decays).max() + slopes.steepest * _norm(kernel)])] if slopes.bounded else []
        return _Modes([decays, *jacobians], steep)
    (rates,) = jacobians or [decays]
    if rates.real.max() >= 0:
        raise ValueError(
            f"model: with an affine activation the drift −decay + recurrent_kernel must have only eigenvalues of "
            f"negative real part, got one at {rates[rates.real.argmax()]:.4g}; scale recurrent_kernel down"
        )
    return _Modes([rates], [])


def _system_modes(model: System, dt: float, steps: int, start: Array, row: Array) -> _Modes:
    starts = checks.concretely(jnp.atleast_2d, start)
    at_start = np.asarray(checks.concretely(_drifts, model, starts, row))
    if not np.isfinite(at_start).all():
        path, unit = np.argwhere(~np.isfinite(at_start))[0]
        raise ValueError(f"drift must be finite at the start, got {at_start[path, unit]} (path {path}, unit {unit})")
    if hidden_size(model) > LARGEST_JACOBIAN:
        return _Modes([], [])
    pilot = functools.partial(_pilot, steps=min(steps, _PILOT_STEPS))
    try:
        jacobians = np.asarray(checks.concretely(pilot, model, starts, row, dt), np.float64)
    except (TypeError, ValueError):  # a drift without forward derivatives, which can be run nevertheless
        return _Modes([], [])
    rates = [_rates(jacobian) for jacobian in jacobians if np.isfinite(jacobian).all()]
    limits = [largest_step(r, 1) for r in rates]
    return _Modes([rates[int(np.argmax(limits))]] if rates else [], rates)


@jax.jit
def _drifts(model: System, starts: Array, row: Array) -> Array:
    return rate(model, starts, row)


@functools.partial(jax.jit, static_argnames="steps")
def _pilot(model: System, starts: Array, row: Array, dt: Array, *, steps: int) -> Array:
    """The drift's Jacobians at the first start, and where a few paths from there are after some steps."""
    start = starts[0]
    states = jnp.broadcast_to(start, (_PILOT_PATHS, *start.shape))
    key = jax.random.key(0)

    def step(states: Array, k: Array) -> tuple[Array, None]:
        noise = jax.random.normal(jax.random.fold_in(key, k), (_PILOT_PATHS, noise_size(model)), states.dtype)
        return states + dt * rate(model, states, row) + dt**0.5 * put_noise(model, noise), None

    last, _ = jax.lax.scan(step, states, jnp.arange(steps))
    looked_at = jnp.concatenate([start[None], last])
    return jax.vmap(jax.jacfwd(lambda h: rate(model, h[None], row)[0]))(looked_at)


class _Slopes(NamedTuple):
    """How steep an activation is.

    Attributes:
        far: its slopes at −∞ and ∞; NaN where they have no limit.
        steepest: the largest slope at the points looked at.
        affine: whether all slopes are equal.
        bounded: whether it is not larger far out than near zero.
    """

    far: tuple[float, float]
    steepest: float
    affine: bool
    bounded: bool


# the two outermost on either side are far out
_POINTS = (-1e4, -1e3, -30.0, -3.0, -1.0, -0.3, 0.0, 0.3, 1.0, 3.0, 30.0, 1e3, 1e4)


@functools.lru_cache(maxsize=64)
def _slopes(activation: str | Callable[[Array], Array], dtype: str) -> _Slopes:
    """Of an activation by name or by value, never of a function that may change."""
    both: Any = jax.vmap(jax.value_and_grad(named(activation).function))
    found = checks.concretely(both, jnp.asarray(_POINTS, dtype))
    values, slopes = (np.where(np.isfinite(x), x, np.nan) for x in (np.asarray(x, np.float64) for x in found))
    far = [
        outer if abs(outer - inner) <= 1e-3 * abs(inner) else np.nan for outer, inner in (slopes[:2], slopes[:-3:-1])
    ]
    affine = bool((slopes == slopes[0]).all())
    bounded = bool(np.abs(values).max() <= 2 * np.abs(values[2:-2]).max())
    return _Slopes((float(far[0]), float(far[1])), float(np.nanmax(np.abs(slopes))), affine, bounded)


def _norm(kernel: np.ndarray) -> float:
    """The 2-norm, from below, by a few steps of the power method."""
    vector = np.random.default_rng(0).normal(size=len(kernel))
    for _ in range(8):
        vector = kernel @ (vector @ kernel)
        vector /= max(np.linalg.norm(vector), np.finfo(float).tiny)
    return float(np.linalg.norm(vector @ kernel))


def _dense(kernel: Any) -> np.ndarray:
    kernel = np.asarray(kernel, np.float64)
    return np.diag(kernel) if kernel.ndim == 1 else kernel


def _rates(jacobian: np.ndarray) -> np.ndarray:
    """Eigenvalues, taken once for each matrix; those of a diagonal one stand in it."""
    diagonal = np.diag(jacobian)
    if np.count_nonzero(jacobian) == np.count_nonzero(diagonal):
        return diagonal.astype(complex)
    return _eigenvalues(jacobian.tobytes())


@functools.lru_cache(maxsize=32)
def _eigenvalues(numbers: bytes) -> np.ndarray:
    square = np.frombuffer(numbers)
    size = round(len(square) ** 0.5)
    return np.linalg.eigvals(square.reshape(size, size))
