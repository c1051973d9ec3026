"""Fluctuation and dissipation: whether a stationary model is in equilibrium.

Where the drift is −D∇V with D = σᵀσ/2 the half noise covariance, the stationary density is exp(−V), and the response
to a push is a correlation of the unperturbed process,

    R(t, s) = E[f(h_t) (C · ∇V)(h_s)],    ∇V = −D⁻¹ drift.

The identity holds in equilibrium and fails out of it, so the difference of its two sides tells how far the model is
from detailed balance. Both sides need only drift and noise, not the density.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from srnn import checks
from srnn.model import SRNN, drift_of, noise_matrix, require_smooth
from srnn.response import after_burn_in, checked_scalar, ends, pull_back
from srnn.simulation import Grid, Readout, checked_grid, checked_initial, checked_paths
from srnn.statistics import Chunks, Moments, centred, chunks_of, lost, moments, pool


class FluctuationDissipation(NamedTuple):
    """Both sides of the relation, from the same paths.

    Attributes:
        times: (step,), in units of time after the burn-in.
        response: (step, input), the response kernel by the adjoint.
        correlation: (step, input), what it would be in equilibrium; biased by O(dt) as the kernel is.
        difference: (step, input), response minus correlation.
        stderr: (step, input), of the difference, path by path.
        drift: (2,), z-scores of the change of E f and E f² over the run, as in `Kernel`.
        diverged: the number of paths whose last state is not finite.
    """

    times: Float[Array, " step"]
    response: Float[Array, "step input"]
    correlation: Float[Array, "step input"]
    difference: Float[Array, "step input"]
    stderr: Float[Array, "step input"]
    drift: Float[Array, " 2"]
    diverged: Int[Array, ""]


def fluctuation_dissipation(
    model: SRNN,
    readout: Readout,
    *,
    t1: float,
    dt: float,
    key: Array,
    paths: int,
    burn_in: float,
    steps: Sequence[int] | None = None,
    initial: Float[Array, "*path hidden"] | None = None,
) -> FluctuationDissipation:
    """The response of a stationary model beside the correlation that it would equal in equilibrium.

    Equation: response_k = E[∇f(h_t1) J C]; correlation_k = −E[f(h_t1) drift(h_k)] D⁻¹ Cᵀ with D = σᵀσ/2.

    Args:
        model: the model; its noise must reach every direction.
        readout: f, a function of (hidden,) to a scalar without jumps.
        t1: the longest lag, in units of time.
        dt: the step; t1/dt must be whole. The solver is Euler's.
        key: a random key.
        paths: how many, at least 2.
        burn_in: time to run before, towards stationarity, 0 for none; see `drift` in the result.
        steps: indices in [0, t1/dt), ascending; all by default.
        initial: (hidden,), or (path, hidden), or None for zeros.

    Returns:
        `FluctuationDissipation(times, response, correlation, difference, stderr, drift, diverged)`; where traced noise
        does not reach every direction, the correlation is NaN.

    Raises:
        ValueError: as `simulate`; or if the noise does not reach every direction, or activation or readout jump.
        TypeError: as `simulate`; or if `readout` does not give a floating scalar.

    Example:
        >>> from srnn import init
        >>> model = init(jax.random.key(0), 1, 2, radius=0.0)
        >>> check = fluctuation_dissipation(
        ...     model, lambda h: h[0], t1=0.5, dt=0.125, key=jax.random.key(1), paths=64, burn_in=4.0
        ... )
        >>> check.difference.shape
        (4, 1)

    Source:
        Lim (2021), section 3.1; Marini Bettolo Marconi, Puglisi, Rondoni, Vulpiani (2008), equation 3.20.
    """
    before = checks.whole_steps(burn_in, dt, name="burn_in")
    grid = checked_grid(model, t1=t1, dt=dt, solver=diffrax.Euler(), increments="gaussian", first=before)
    checked_scalar(model, readout)
    require_smooth(model, readout, 1, "a response by the adjoint")
    sigma, hidden = noise_matrix(model), model.recurrent_kernel.shape[0]
    rank = np.linalg.matrix_rank(np.asarray(sigma)) if checks.is_concrete(sigma) else sigma.shape[0]
    if rank < hidden:
        raise ValueError(
            f"model.noise_kernel must reach all {hidden} directions for an equilibrium to be defined, but has rank "
            f"{rank}"
        )
    key, paths = checks.random_key(key), checked_paths(paths)
    chosen = tuple(range(grid.steps)) if steps is None else steps
    chosen = checks.step_indices("steps", chosen, least=0, most=grid.steps - 1)
    chunks = chunks_of(paths, (grid.steps + 8) * hidden * model.recurrent_kernel.dtype.itemsize)
    return _both_sides(
        model, checked_initial(model, initial, paths), key, grid=grid, chosen=chosen, readout=readout, chunks=chunks
    )


@functools.partial(jax.jit, static_argnames=("grid", "chosen", "readout", "chunks"))
def _both_sides(
    model: SRNN,
    initial: Array,
    key: Array,
    *,
    grid: Grid,
    chosen: tuple[int, ...],
    readout: Readout,
    chunks: Chunks,
) -> FluctuationDissipation:
    dtype = model.recurrent_kernel.dtype
    control = jnp.zeros((grid.steps, model.input_kernel.shape[0]), dtype)
    sigma = checks.nan_unless_finite(noise_matrix(model))
    # D⁻¹ Cᵀ, (hidden, input), without forming σᵀσ, whose condition number is the square of σ's
    inverse = jnp.linalg.pinv(sigma, rtol=max(sigma.shape) * jnp.finfo(dtype).eps)
    conjugate = 2 * inverse @ (inverse.T @ model.input_kernel.T)
    # without noise in every direction there is no equilibrium to compare with
    conjugate = jnp.where(jnp.linalg.matrix_rank(sigma) == sigma.shape[1], conjugate, jnp.nan)

    def one(chunk: tuple[Array, Array, Array]) -> tuple[Moments, Moments, Array]:
        start, chunk_key, counted = chunk
        start = after_burn_in(model, start, chunk_key, grid)

        def sides(push: Array, state: Array, last: Array) -> Moments:
            values = centred(lost(jax.vmap(readout)(last), last), counted)
            correlation = -values[:, None] * (drift_of(model, state) @ conjugate)
            both = lost(jnp.stack([push, correlation, push - correlation]), last, axis=1)
            return moments(both, counted, axis=1)

        found, last, _ = pull_back(model, control, start, chunk_key, grid, readout, sides)
        return found, *ends(readout, start, last, counted)

    found, changes, diverged = jax.lax.map(one, (chunks.cut(initial), chunks.keys(key), chunks.counted(dtype)))
    mean, stderr = pool(Moments(found.weight[:, 0], found.mean, found.squares))
    change, spread = pool(changes)
    at = np.asarray(chosen)
    response, correlation, difference = (mean[at, i] for i in range(3))
    times = jnp.asarray(chosen, dtype) * grid.dt
    return FluctuationDissipation(
        times, response, correlation, difference, stderr[at, 2], change / spread, diverged.sum()
    )
