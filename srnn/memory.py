"""How long a model remembers: the time-scales of its response kernel."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from srnn import checks
from srnn.response import Kernel, checked_kernel

_MOST_STEPS = 500  # of Levenberg and Marquardt's


class Timescales(NamedTuple):
    """A kernel as a sum of exponentials in the lag.

    Attributes:
        timescales: (component,), ascending, in units of time.
        amplitudes: (component, input), at lag zero.
        residual: the root mean square of (kernel − fit) / standard error, about 1 where the fit is as good as the
            kernel; where some standard error is zero, of kernel − fit alone.
        converged: whether the least-squares solver came to rest; never for a kernel that is zero or not finite, whose
            timescales and amplitudes are NaN.
    """

    timescales: Float[Array, " component"]
    amplitudes: Float[Array, "component input"]
    residual: Float[Array, ""]
    converged: Bool[Array, ""]


def memory_timescales(kernel: Kernel, *, components: int) -> Timescales:
    """The time-scales on which a first-order kernel forgets, by fitting a few decaying exponentials.

    Equation: R(lag) ≈ Σ_c amplitudes_c exp(−lag/τ_c), weighted by standard errors. Amplitudes are solved for inside
    (variable projection); log τ by Levenberg–Marquardt, started evenly over the lags on a log scale.

    Args:
        kernel: of order 1, at more steps than twice `components`. Its values, lags and standard errors alone are read.
        components: how many exponentials, at least 1. A kernel that oscillates is no sum of these: see `residual`.

    Returns:
        `Timescales(timescales, amplitudes, residual, converged)`.

    Raises:
        ValueError: if the kernel is not of order 1, has too few steps, or its arrays do not fit each other.
        TypeError: if `kernel` is not a `Kernel` of floating arrays of one dtype.

    Example:
        >>> from srnn import init, response_kernel
        >>> model = init(jax.random.key(0), 1, 4, radius=0.0, decay_time=0.5, activation="identity")
        >>> kernel = response_kernel(model, lambda h: h[0], t1=1.0, dt=0.01, key=jax.random.key(1), paths=2)
        >>> [round(float(tau), 1) for tau in memory_timescales(kernel, components=1).timescales]
        [0.5]

    Source:
        Golub, Pereyra (1973) for variable projection.
    """
    components = checks.size("components", components)
    kernel = checked_kernel("kernel", kernel, "lags", "stderr")
    if kernel.values.ndim != 2:
        raise ValueError(f"kernel must be of order 1, with values (step, input), got {kernel.values.shape}")
    if len(kernel.lags) <= 2 * components:
        raise ValueError(
            f"components: {components} exponentials need more than {2 * components} steps, got {len(kernel.lags)}"
        )
    return _fit(kernel, components)


@functools.partial(jax.jit, static_argnames="components")
def _fit(kernel: Kernel, components: int) -> Timescales:
    usable = (kernel.stderr > 0).all()
    weights = jnp.where(usable, 1 / jnp.where(usable, kernel.stderr, 1), 1).astype(kernel.values.dtype)
    dtype = weights.dtype
    shortest, longest = kernel.lags.min(), kernel.lags.max()
    spread = (jnp.arange(components, dtype=dtype) + 1) / (components + 1)
    start = jnp.log(shortest) + spread * jnp.log(longest / shortest)

    def fit(log_tau: Array) -> tuple[Array, Array]:
        basis = jnp.exp(-kernel.lags[:, None] / jnp.exp(log_tau))

        def channel(values: Array, weight: Array) -> tuple[Array, Array]:
            weighted = basis * weight[:, None]
            # normal equations with a trace of ridge: two equal time-scales must not make this singular
            gram = weighted.T @ weighted
            ridge = 1e2 * jnp.finfo(dtype).eps * jnp.trace(gram) * jnp.eye(components, dtype=dtype)
            amplitude = jnp.linalg.solve(gram + ridge, weighted.T @ (values * weight))
            return weighted @ amplitude - values * weight, amplitude

        return jax.vmap(channel, in_axes=1)(kernel.values, weights)

    def residuals(log_tau: Array) -> Array:
        return fit(log_tau)[0].ravel()

    def unfinished(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, _, move, count = carry
        return (move > jnp.finfo(dtype).eps ** 0.5) & (count < _MOST_STEPS)

    def step(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        log_tau, damping, _, count = carry
        error, slope = residuals(log_tau), jax.jacfwd(residuals)(log_tau)
        gram = slope.T @ slope
        # a time-scale without influence on the fit must not divide by zero
        damped = gram + damping * jnp.diag(jnp.diag(gram)) + jnp.finfo(dtype).tiny * jnp.eye(components, dtype=dtype)
        move = jnp.clip(jnp.linalg.solve(damped, slope.T @ error), -1, 1)
        better = (residuals(log_tau - move) ** 2).sum() < (error**2).sum()
        after = jnp.where(better, log_tau - move, log_tau)
        return after, jnp.where(better, damping / 3, damping * 4), jnp.abs(move).max(), count + 1

    begin = (start, jnp.asarray(1e-2, dtype), jnp.asarray(jnp.inf, dtype), jnp.asarray(0))
    log_tau, _, _, count = jax.lax.while_loop(unfinished, step, begin)
    residual, amplitudes = fit(log_tau)
    order = jnp.argsort(log_tau)
    # nothing, and nothing finite, has no time-scale
    are_finite = [jnp.isfinite(x).all() for x in (kernel.values, kernel.stderr, residual)]
    known = jnp.stack(are_finite).all() & (kernel.values != 0).any()
    taus, heights = (jnp.where(known, x, jnp.nan) for x in (jnp.exp(log_tau)[order], amplitudes.T[order]))
    return Timescales(taus, heights, jnp.sqrt((residual**2).mean()), known & (count < _MOST_STEPS))
