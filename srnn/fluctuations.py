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

from maso_rnn import checks
from srnn.mismatch import compared, mismatch
from srnn.model import Model, additive_input, dtype_of, hidden_size, rate
from srnn.response import constant_input, ends, output_size, outputs_of, pull_back, require_smooth, scaled_noise
from srnn.simulation import Grid, Readout, Run, after_burn_in, read_run, step_indices
from srnn.statistics import Chunks, Moments, centred, chunks_of, lost, moments, pool, z_score


class FluctuationDissipation(NamedTuple):
    """Both sides of the relation, from the same paths.

    Attributes:
        times: (step,), in units of time after the burn-in.
        response: (step, input), the response kernel by the adjoint; with an axis (output,) more if the readout has one.
        correlation: (step, input), what it would be in equilibrium; biased by O(dt) as the kernel is.
        difference: (step, input), response minus correlation.
        stderr: (step, input), of the difference, path by path.
        trend: (2,), z-scores of the change of E f and E f² over the run, as in `Kernel`.
        diverged: the number of paths whose last state is not finite.
        mismatch: of the response, as in `Kernel`: beyond 3 its difference from the correlation means nothing.
    """

    times: Float[Array, " step"]
    response: Float[Array, "step input *output"]
    correlation: Float[Array, "step input *output"]
    difference: Float[Array, "step input *output"]
    stderr: Float[Array, "step input *output"]
    trend: Float[Array, "2 *output"]
    diverged: Int[Array, ""]
    mismatch: Float[Array, ""] | None = None


def fluctuation_dissipation(
    model: Model,
    readout: Readout,
    *,
    t1: float,
    dt: float,
    key: Array,
    paths: int,
    burn_in: float,
    steps: Sequence[int] | None = None,
    initial: Float[Array, "*path hidden"] | None = None,
    compare: bool = True,
) -> FluctuationDissipation:
    """The response of a stationary model beside the correlation that it would equal in equilibrium.

    Equation: response_k = E[∇f(h_t1) J C]; correlation_k = −E[f(h_t1) drift(h_k)] D⁻¹ Cᵀ with D = σᵀσ/2.

    Args:
        model: an `SRNN`, or a `System` whose input is additive; its noise must reach every direction.
        readout: f, a function of (hidden,) to a scalar or (output,), without jumps: see `Kernel.mismatch`.
        t1: the longest lag, in units of time.
        dt: the step; t1/dt must be whole. The solver is Euler's.
        key: a random key.
        paths: how many, at least 2.
        burn_in: time to run before, towards stationarity, 0 for none; see `trend` in the result.
        steps: indices in [0, t1/dt), ascending; all by default.
        initial: (hidden,), or (path, hidden), or None for zeros.
        compare: whether to compare the response with a finite one, by four more forward runs.

    Returns:
        `FluctuationDissipation(times, response, correlation, difference, stderr, trend, diverged, mismatch)`; where
        traced noise does not reach every direction, the correlation is NaN.

    Raises:
        ValueError: as `simulate`; or if the noise does not reach every direction, or the input enters inside the drift.
        TypeError: as `simulate`; or if `readout` does not give a floating scalar or (output,).

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
    checks.flag("compare", compare)
    checks.function("readout", readout)
    run, grid = read_run(
        model, None, key=key, paths=paths, t1=t1, dt=dt, solver=diffrax.Euler(), increments="gaussian", initial=initial,
        burn_in=burn_in, readout=readout,
    )  # fmt: skip
    outputs, hidden = output_size(run), hidden_size(run.model)
    require_smooth(run.model, 1)
    additive_input(run.model)
    rank = checks.concretely(_rank, run.model)
    if checks.is_concrete(rank) and int(rank) < hidden:
        raise ValueError(
            f"model.noise_kernel must reach all {hidden} directions for an equilibrium to be defined, but has rank "
            f"{rank}"
        )
    chosen = step_indices("steps", range(grid.steps) if steps is None else steps, least=0, most=grid.steps - 1)
    chunks = chunks_of(grid.paths, (grid.steps + 8 * outputs) * hidden * dtype_of(run.model).itemsize)
    return _both_sides(run, grid=grid, chosen=chosen, chunks=chunks, compare=bool(compare))


@jax.jit
def _rank(model: Model) -> Array:
    return jnp.linalg.matrix_rank(scaled_noise(model)[0])


@functools.partial(jax.jit, static_argnames=("grid", "chosen", "chunks", "compare"))
def _both_sides(
    run: Run, *, grid: Grid, chosen: tuple[int, ...], chunks: Chunks, compare: bool
) -> FluctuationDissipation:
    model, dtype, still = run.model, dtype_of(run.model), run.control[0]
    grid = grid._replace(paths=chunks.size)
    # D⁻¹ Cᵀ, (hidden, input), without forming σᵀσ, whose condition number is the square of σ's
    _, unit, inverse = scaled_noise(model)
    conjugate = 2 / unit[:, None] * (inverse @ (inverse.T @ (additive_input(model) / unit).T))
    # without noise in every direction there is no equilibrium to compare with
    conjugate = jnp.where(_rank(model) == len(unit), conjugate, jnp.nan)
    along = constant_input(run, chosen)

    def one(chunk: tuple[Array, Array, Array]) -> tuple:
        initial, key, counted = chunk
        own = run._replace(initial=initial, key=key)
        start = after_burn_in(own, grid)

        def sides(push: Array, state: Array, last: Array) -> Moments:
            values = centred(lost(outputs_of(own, last), last), counted)
            response = jnp.moveaxis(push, 0, -1)  # (path, input, output)
            correlation = -(rate(model, state, still) @ conjugate)[:, :, None] * values[:, None, :]
            both = lost(jnp.stack([response, correlation, response - correlation]), last, axis=1)
            return moments(both, counted, axis=1)

        found, last, _ = pull_back(own, grid, start, sides)
        beside = compared(own, grid, start, along, 1, counted) if compare else None
        return found, *ends(own, start, last, counted), beside

    parts = (chunks.cut(run.initial), chunks.keys(run.key), chunks.counted(dtype))
    found, changes, diverged, beside = jax.lax.map(one, parts)
    mean, stderr = pool(Moments(found.weight[:, 0], found.mean, found.squares))
    change, spread = pool(changes)
    if not run.readout.out.shape:
        mean, stderr, change, spread = (x[..., 0] for x in (mean, stderr, change, spread))
    at = np.asarray(chosen)
    response, correlation, difference = (mean[at, i] for i in range(3))
    times = jnp.asarray(at * grid.dt, dtype)
    trend, apart = z_score(change, spread), None if beside is None else mismatch(beside)
    return FluctuationDissipation(times, response, correlation, difference, stderr[at, 2], trend, diverged.sum(), apart)
