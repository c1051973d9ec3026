"""The output of a driven SRNN as a Volterra series in its input: terms, sums, and what truncation leaves out.

    E f(h^u_t1) = E f(h^0_t1) + Σ_n ∫_{t1 > s_1 > … > s_n} R_n(s_1, …, s_n) u(s_1) … u(s_n) ds,

over the *ordered* simplex (over the whole cube every term would need 1/n!, which the printed series lacks). With steps
in place of time, the n-th term is the n-th Taylor coefficient of E f at ε = 0 under the control ε u.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from maso_rnn import checks
from srnn.mismatch import compared, mismatch
from srnn.model import Model, additive_input, dtype_of, hidden_size, input_size, read
from srnn.noise import Increments
from srnn.response import Kernel, noise_shift, read_kernel, require_smooth
from srnn.simulation import Control, Grid, Readout, Run, after_burn_in, last_states, like, read_run
from srnn.statistics import Chunks, chunks_of, lost, moments, pool

MOST_ORDERS = 10  # of a series
_SLOW_ORDER = 7  # whose derivatives take minutes to compile
_TAIL_TERMS = 1024  # of the bound's tail: enough up to where it overflows float64, ‖θ‖² = 709


class VolterraTerms(NamedTuple):
    """Terms of the Volterra series at one control, by order.

    Attributes:
        mean: (order, ...), the terms of orders 1 to `max_order`, each of the readout's shape.
        stderr: (order, ...), their standard errors.
        unperturbed: E f without the control: the term of order 0.
        diverged: the number of paths whose terms are not all finite.
        shrinking: whether the last term is no larger than the larger of the two before it, two standard errors added to
            each, for every output: a term that is mostly noise, but a larger noise than the terms before it, is not.
        mismatch: of orders 1 and 2 along the control, as in `Kernel`: beyond 3 do not believe the terms.
    """

    mean: Float[Array, "order *readout"]
    stderr: Float[Array, "order *readout"]
    unperturbed: Float[Array, "*readout"]
    diverged: Int[Array, ""]
    shrinking: Bool[Array, ""]
    mismatch: Float[Array, ""] | None = None


def volterra_terms(
    model: Model,
    readout: Readout,
    control: Control,
    *,
    max_order: int,
    t1: float,
    dt: float,
    key: Array,
    paths: int,
    initial: Float[Array, "*path hidden"] | None = None,
    burn_in: float = 0.0,
    solver: diffrax.AbstractSolver = diffrax.Euler(),
    increments: Increments = "gaussian",
    compare: bool = True,
) -> VolterraTerms:
    """The terms of the Volterra series at a control, to any order, without the kernels.

    Equation: term_n = (1/n!) dⁿ/dεⁿ E f(h^{εu}_t1) at ε = 0, by n nested forward derivatives along each path.

    Args:
        model: an `SRNN` or a `System`; what it is made of must have N − 1 derivatives that do not jump. Names of
            activations are known for that; of functions of yours, `VolterraTerms.mismatch` tells.
        readout: f, a function of (hidden,) to one floating array, of which the same holds.
        control: u, (step, input) or a function of time.
        max_order: N, from 1 to 10; time and memory grow as 2^N, those of the compiler too.
        t1: the end, in units of time after the burn-in.
        dt: the step; t1/dt must be whole.
        key: a random key.
        paths: how many, at least 2; they run in chunks that keep memory small.
        initial: (hidden,), or (path, hidden), or None for zeros.
        burn_in: time to run without input before the first step, 0 for none.
        solver: as for `simulate`.
        increments: as for `simulate`.
        compare: whether to compare with finite responses, by four more forward runs: see `VolterraTerms.mismatch`.

    Returns:
        `VolterraTerms(mean, stderr, unperturbed, diverged, shrinking, mismatch)`.

    Raises:
        ValueError: as `simulate`; if a named activation has a kink that an order meets; or if `max_order` is above 10.
        TypeError: as `simulate`; or if there is no control.

    Warns:
        UserWarning: as `simulate`; or if `max_order` is 7 or more, of the time and the memory that it takes.

    Example:
        >>> from srnn import init
        >>> model, u = init(jax.random.key(0), 1, 4), jnp.ones((8, 1))
        >>> terms = volterra_terms(
        ...     model, lambda h: h[0], u, max_order=3, t1=1.0, dt=0.125, key=jax.random.key(1), paths=16
        ... )
        >>> terms.mean.shape
        (3,)

    Source:
        Lim (2021), theorem 3.1 and equation 11, over the ordered simplex.
    """
    max_order = checks.size("max_order", max_order)
    if control is None:
        raise TypeError("control must be (step, input) or a function of time, got None: every term would be zero")
    checks.flag("compare", compare)
    checks.function("readout", readout)
    run, grid = read_run(
        model, control, key=key, paths=paths, t1=t1, dt=dt, solver=solver, increments=increments, initial=initial,
        burn_in=burn_in, readout=readout,
    )  # fmt: skip
    require_smooth(run.model, max_order)
    size = 8 * hidden_size(run.model) * 2**max_order * dtype_of(run.model).itemsize
    if max_order > MOST_ORDERS:
        raise ValueError(
            f"max_order must be at most {MOST_ORDERS}: its derivatives grow as 2^max_order, got {max_order}"
        )
    if max_order >= _SLOW_ORDER:
        warnings.warn(
            f"max_order = {max_order} takes minutes and gigabytes to compile, and {size / 2**20:.3g} MiB a path",
            stacklevel=2,
        )
    return _terms(
        run, grid=grid, max_order=max_order, chunks=chunks_of(grid.paths, size), compare=bool(compare)
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("grid", "max_order", "chunks", "compare"))
def _terms(run: Run, *, grid: Grid, max_order: int, chunks: Chunks, compare: bool) -> VolterraTerms:
    dtype = dtype_of(run.model)
    grid = grid._replace(paths=chunks.size)

    def one(chunk: tuple[Array, Array, Array]) -> tuple:
        initial, key, counted = chunk
        own = run._replace(initial=initial, key=key)
        start = after_burn_in(own, grid)
        still = own._replace(control=jnp.zeros_like(run.control))
        beside = compared(still, grid, start, run.control, min(max_order, 2), counted) if compare else None

        def scaled(amplitude: Array) -> list[Array]:
            last, _ = last_states(own._replace(control=amplitude * run.control), grid, start)
            return [lost(jax.vmap(run.readout)(last), last)]

        derivatives = scaled
        for _ in range(max_order):
            derivatives = functools.partial(_differentiated, derivatives)
        zero = like(jnp.zeros((), dtype), start)
        terms = jnp.stack([value / math.factorial(n) for n, value in enumerate(derivatives(zero))])
        finite = jnp.isfinite(terms).all(axis=(0, *range(2, terms.ndim)))
        bad = (~finite & (counted == 1)).sum()
        return moments(lost(terms, jnp.where(finite, 0, jnp.nan)[:, None], axis=1), counted, axis=1), bad, beside

    parts = (chunks.cut(run.initial), chunks.keys(run.key), chunks.counted(dtype))
    gathered, diverged, beside = jax.lax.map(one, parts)
    mean, stderr = pool(gathered)
    size = jnp.abs(mean) + 2 * stderr
    shrinking = (size[-1] <= size[1:-1][-2:].max(axis=0)).all() if max_order > 1 else jnp.asarray(True)
    apart = None if beside is None else mismatch(beside)
    return VolterraTerms(mean[1:], stderr[1:], mean[0], diverged.sum(), shrinking, apart)


def _differentiated(derivatives: Callable[[Array], list[Array]], amplitude: Array) -> list[Array]:
    """Derivatives of one order more: those there are, and the derivative of the last."""
    values, changes = jax.jvp(derivatives, (amplitude,), (jnp.ones_like(amplitude),))
    return [*values, changes[-1]]


def volterra(
    kernels: Kernel | Sequence[Kernel], control: Float[Array, "step input"], dt: float
) -> Float[Array, " order"]:
    """What each order of the series contributes at a control, from kernels.

    Equation: Σ_k R_k · u_k dt for order 1; Σ_{k>l} u_k · R_kl u_l dt² + ½ Σ_k u_k · R_kk u_k dt² for order 2: the
    ordered simplex, with its diagonal cells cut in half.

    Args:
        kernels: of orders 1, 2 in turn, of a scalar readout, from `response_kernel` on all steps; or one of order 1.
            Their times, lags and values alone are read.
        control: u, (step, input), on the same steps.
        dt: the step, in units of time.

    Returns:
        (order,), in units of the readout; their sum is the predicted change of E f.

    Raises:
        ValueError: if the kernels are not of orders 1, 2 in turn, not finite, lack some of the control's steps, or are
            at another `dt`.
        TypeError: if `kernels` holds something else.

    Example:
        >>> from srnn import init, response_kernel
        >>> model = init(jax.random.key(0), 1, 4)
        >>> kernel = response_kernel(model, lambda h: h[0], t1=1.0, dt=0.125, key=jax.random.key(1), paths=16)
        >>> volterra(kernel, jnp.ones((8, 1)), 0.125).shape
        (1,)

    Source:
        Lim (2021), equation 11, over the ordered simplex.
    """
    kernels = checked_kernels(kernels)
    dt = checks.number("dt", dt, above=0)
    first = kernels[0].values
    sizes = dict(zip(("step", "input"), first.shape, strict=True))
    control = checks.array("control", control, "step input", sizes, first.dtype)
    checks.finite(control=control)
    edges = kernel_edges(kernels[0])
    if checks.is_concrete(edges) and not same_times(edges, np.arange(len(edges)) * dt, dt):
        raise ValueError("kernels must be on all steps from 0 at this dt; leave steps=None in srnn.response_kernel")
    return _contributions([kernel.values for kernel in kernels], control, dt)


@jax.jit
def _contributions(kernels: list[Array], control: Array, dt: Array) -> Array:
    push = control * dt
    terms = [jnp.einsum("ki,ki->", kernels[0], push)]
    for second in kernels[1:]:
        earlier = jnp.tril(jnp.ones(second.shape[:2], second.dtype), -1)
        ordered = earlier + 0.5 * jnp.eye(len(second), dtype=second.dtype)
        terms.append(jnp.einsum("kl,klij,ki,lj->", ordered, second, push, push))
    return jnp.stack(terms)


def checked_kernels(kernels: Kernel | Sequence[Kernel]) -> tuple[Kernel, ...]:
    """Kernels of orders 1 and, where there is a second, 2, on the same steps."""
    given = (kernels,) if isinstance(kernels, Kernel) else kernels
    if not isinstance(given, tuple | list) or not given:
        raise TypeError("kernels must be one srnn.Kernel or a sequence of them, of orders 1 and 2")
    found = tuple(read_kernel(f"kernels[{i}]", kernel, "times", "lags") for i, kernel in enumerate(given))
    shape = found[0].values.shape
    wanted = [shape, (shape[0], shape[0], shape[-1], shape[-1])][: len(found)]
    if len(found) > 2 or len(shape) != 2 or [kernel.values.shape for kernel in found] != wanted:
        raise ValueError(
            f"kernels must be of order 1, then 2, on the same steps; got shapes {[k.values.shape for k in found]}"
        )
    checks.finite(kernels=[(kernel.values, kernel.times, kernel.lags) for kernel in found])
    edges = [kernel_edges(kernel) for kernel in found]
    if checks.is_concrete(edges) and not same_times(edges[0], edges[-1], float(np.diff(edges[0]).min())):
        raise ValueError("kernels must be of order 1, then 2, on the same steps; got other times and lags in each")
    return found


def kernel_edges(kernel: Kernel) -> Array:
    """Where each step of a kernel begins, and where the last one ends, if the kernel is on all steps up to its end."""
    return checks.concretely(lambda times, lags: jnp.append(times, times[-1] + lags[-1]), kernel.times, kernel.lags)


def same_times(times: Array, wanted: Array | np.ndarray, width: float) -> bool:
    """Whether concrete times agree, to a thousandth of a step and rounding."""
    found = np.asarray(times, np.float64)
    rounding = 4 * float(jnp.finfo(times.dtype).eps) * float(np.abs(found).max())
    return bool((np.abs(found - np.asarray(wanted, np.float64)) <= 1e-3 * float(width) + rounding).all())


def truncation_bound(
    model: Model,
    control: Float[Array, "step input"],
    *,
    dt: float,
    order: int,
    readout_sd: float | Float[Array, ""],
) -> Float[Array, ""]:
    """A bound on what the Volterra series leaves out after its terms up to `order`.

    Equation: |F − F_N| ≤ sd(f) (Σ_{n>N} ‖θ‖^{2n}/n!)^{1/2}, with θ_t = u_t C σ⁻¹ and ‖θ‖² = Σ_k |θ_k|² dt.

    By Girsanov, F is E of f times the exponential martingale of θ; its chaos of order n has variance ‖θ‖^{2n}/n!, and
    the Cauchy–Schwarz inequality does the rest.

    Args:
        model: an `SRNN`, or a `System` whose input is additive.
        control: u, (step, input).
        dt: the step, in units of time.
        order: N, the last order kept; 0 bounds the entire response.
        readout_sd: the standard deviation of f without the control, at least 0; give an upper confidence limit. It may
            be traced.

    Returns:
        The bound, in units of f; infinite where ‖θ‖² overflows, or where a traced push is out of the noise's range;
        NaN for a traced `readout_sd` that is negative.

    Raises:
        ValueError: if u C is out of the range of σ (no noise reaches some unit that it pushes), the input enters inside
            the drift, `order` is negative, or the control is not finite or of a wrong shape.

    Example:
        >>> from srnn import init
        >>> model = init(jax.random.key(0), 1, 4, noise=0.5)
        >>> bounds = [truncation_bound(model, jnp.ones((8, 1)), dt=0.01, order=n, readout_sd=1.0) for n in (1, 2)]
        >>> bool(bounds[1] < bounds[0])
        True

    Source:
        Lim (2021), section 3, by the Wiener chaos of the Girsanov density.
    """
    model = read(model)
    dt, order = checks.number("dt", dt, above=0), checks.size("order", order, least=0)
    control = checks.array("control", control, "step input", {"input": input_size(model)}, dtype_of(model))
    sd = checks.scale("readout_sd", readout_sd)
    checks.finite(model=model, control=control)
    pushes = checks.concretely(jnp.matmul, control, additive_input(model))
    theta = noise_shift(model, pushes, name="control @ model.input_kernel")
    return _bound(theta, sd.astype(dtype_of(model)), dt, order=order)


@functools.partial(jax.jit, static_argnames="order")
def _bound(theta: Array, readout_sd: Array, dt: Array, *, order: int) -> Array:
    square = (theta**2).sum() * dt
    # Σ_{n>N} x^n/n! = x^{N+1}/(N+1)! · (1 + x/(N+2) + x²/(N+2)(N+3) + …)
    # in logarithms: 1/(N+1)! alone underflows long before the bound does
    some = jnp.where(square == 0, 1, square)
    ratios = some / (order + 1 + jnp.arange(1, _TAIL_TERMS, dtype=theta.dtype))
    lead = (order + 1) * jnp.log(some) - jax.lax.lgamma(jnp.asarray(order + 2, theta.dtype))
    bound = readout_sd * jnp.exp(0.5 * (lead + jnp.log1p(jnp.cumprod(ratios).sum())))
    bound = jnp.where(square == 0, 0, jnp.where(jnp.isfinite(bound), bound, jnp.inf))
    return jnp.where(readout_sd >= 0, bound, jnp.nan)
