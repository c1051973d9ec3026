"""Response features: a basis in which the response of every SRNN is linear.

With ψ an orthonormal basis over time, X_t = ∫_0^t u_s ⊗ ψ(s) ds is a path whose signature holds the integrals of u
against all products of basis functions over the ordered simplex: what a Volterra series is made of. (The printed
u ⊗ ψ in place of its integral sees end points only; and monomials in place of orthogonal polynomials lose ten digits.)
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from maso_rnn import checks
from srnn.response import Kernel
from srnn.signatures import count_features, of_increments
from srnn.volterra_series import checked_kernels, kernel_edges, same_times

LARGEST_GRAM = 2**28  # numbers in the Gram matrix


def response_feature(
    control: Float[Array, "step input"], times: Float[Array | np.ndarray, " time"], *, order: int, depth: int
) -> Float[Array, " features"]:
    """A control as numbers on which the response of any SRNN is linear, in the limit of order and depth.

    Equation: S(X) with X_t = ∫_0^t u_s ⊗ ψ(s) ds and ψ the Legendre polynomials, orthonormal over the time span.

    Args:
        control: u, (step, input), constant over each step.
        times: (step + 1,), where steps begin and the last one ends, ascending; or (step,), where they begin, as in
            `Kernel.times`: then the last is as long as the one before it. In any floating dtype; known times are
            worked with in float64.
        order: the highest degree of the polynomials, at least 0; resolves the kernels' time dependence.
        depth: the depth of the signature, at least 1: the highest order of the Volterra series.

    Returns:
        (features,), in the control's dtype, with channels input · (order + 1), the basis function running fastest. NaN
        where traced times do not ascend.

    Raises:
        ValueError: if times do not ascend or do not fit the control, or the feature is too large.
        TypeError: if an array is not floating, or a size is not an integer.

    Example:
        >>> u, times = jnp.ones((8, 1)), jnp.linspace(0.0, 1.0, 9)
        >>> [round(abs(float(x)), 6) for x in response_feature(u, times, order=1, depth=1)]
        [1.0, 0.0]

    Source:
        Lim (2021), definition 4.2, with the time integral of u ⊗ ψ in place of u ⊗ ψ.
    """
    order, depth = checks.size("order", order, least=0), checks.size("depth", depth)
    control = checks.array("control", control, "step input")
    edges = _edges(times, len(control))
    count_features("depth", control.shape[1] * (order + 1), depth)
    checks.finite(control=control)
    return _feature(control, _cast(basis_integrals(edges, order), control), depth)


@functools.partial(jax.jit, static_argnames="depth")
def _feature(control: Array, basis: Array, depth: int) -> Array:
    pieces = jnp.einsum("ki,km->kim", control, basis)
    return of_increments(pieces.reshape(len(pieces), -1), depth)


def _edges(times: Any, steps: int) -> np.ndarray | Array:
    """The edges of so many steps, (step + 1,), in float64 where known; traced ones are NaN if not ascending."""
    starts_only = len(checks.array("times", times, "edge")) == steps > 1
    if len(times) != steps + (not starts_only):
        raise ValueError(
            f"times must be ({steps + 1},), the edges of the steps, or ({steps},), where they begin, got "
            f"shape {times.shape}"
        )
    if checks.is_concrete(times):
        times = np.asarray(times, np.float64)
        if not (np.isfinite(times).all() and (np.diff(times) > 0).all()):
            raise ValueError(f"times must be finite and ascend, got {times}")
    else:
        times = jnp.where((jnp.diff(times) > 0).all(), times, jnp.nan)
    return _numpy(times).append(times, 2 * times[-1] - times[-2]) if starts_only else times


def _numpy(array: np.ndarray | Array) -> Any:
    """NumPy for what is known, JAX's for what is traced."""
    return np if isinstance(array, np.ndarray) else jnp


def _cast(array: np.ndarray | Array, like: Array) -> Array:
    return checks.concretely(lambda known: jnp.asarray(known, like.dtype), array)


def basis_integrals(edges: np.ndarray | Array, order: int) -> Any:
    """∫ of each orthonormal Legendre polynomial over each step, (step, order + 1), exactly."""
    numpy, span = _numpy(edges), edges[-1] - edges[0]
    x = 2 * (edges - edges[0]) / span - 1
    polynomials = [numpy.ones_like(x), x]
    for m in range(1, order + 1):
        polynomials.append(((2 * m + 1) * x * polynomials[m] - m * polynomials[m - 1]) / (m + 1))
    # (2m + 1) ∫P_m = P_{m+1} − P_{m−1}, with P_{−1} = −1 standing in at m = 0, where a constant does not matter
    before = [numpy.zeros_like(x), *polynomials]
    primitives = [(polynomials[m + 1] - before[m]) / (2 * m + 1) for m in range(order + 1)]
    scales = numpy.sqrt((2 * numpy.arange(order + 1, dtype=x.dtype) + 1) / span)
    return numpy.diff(numpy.stack(primitives, axis=-1), axis=0) * scales * span / 2


def response_coefficients(
    kernels: Kernel | Sequence[Kernel], times: Float[Array | np.ndarray, " time"], *, order: int
) -> Float[Array, " features"]:
    """The weights that turn a response feature into the predicted response: from kernels, without training.

    Equation: R_k ≈ Σ_m c_m ψ̄_m(k) and R_kl ≈ Σ_mn c_nm ψ̄_m(k) ψ̄_n(l) for k > l, least squares with ψ̄ the means over
    steps; then response ≈ c · response_feature(control, times, order=order, depth=number of kernels).

    Args:
        kernels: of orders 1, 2 in turn, on all steps; or one of order 1. Their times, lags and values alone are read.
        times: (step + 1,), as for `response_feature`.
        order: as for `response_feature`; below the number of steps.

    Returns:
        (features,), matching a feature of depth 1 or 2: as many levels as kernels.

    Raises:
        ValueError: if the kernels are not of orders 1, 2 in turn or not finite, times do not fit or are not the
            kernels', or `order` is too high.
        TypeError: if `kernels` holds something else.

    Example:
        >>> import jax
        >>> from srnn import init, response_kernel, volterra
        >>> model, u = init(jax.random.key(0), 1, 4), jnp.ones((8, 1))
        >>> kernel = response_kernel(model, lambda h: h[0], t1=1.0, dt=0.125, key=jax.random.key(1), paths=16)
        >>> times = jnp.linspace(0.0, 1.0, 9)
        >>> predicted = response_coefficients(kernel, times, order=3) @ response_feature(u, times, order=3, depth=1)
        >>> bool(abs(predicted - volterra(kernel, u, 0.125)[0]) < 1e-3)
        True

    Source:
        Lim (2021), theorem 4.1.
    """
    kernels = checked_kernels(kernels)
    order = checks.size("order", order, least=0)
    steps, channels = kernels[0].values.shape
    edges = _edges(times, steps)
    wanted = kernel_edges(kernels[0])
    if checks.is_concrete(edges, wanted) and not same_times(wanted - wanted[0], edges - edges[0], np.diff(edges).min()):
        raise ValueError(
            f"times must be those of the kernels, which are on all steps: got steps of {np.diff(edges)} where the "
            f"kernels have {np.diff(np.asarray(wanted))}"
        )
    if order >= steps:
        raise ValueError(f"order must be below the number of steps {steps}, got {order}")
    count_features("order", channels * (order + 1), len(kernels))
    means = basis_integrals(edges, order) / _numpy(edges).diff(edges)[:, None]
    return _coefficients([kernel.values for kernel in kernels], _cast(means, kernels[0].values))


@jax.jit
def _coefficients(kernels: list[Array], means: Array) -> Array:
    first, (steps, channels), size = kernels[0], kernels[0].shape, means.shape[1]
    are_known = jnp.isfinite(means).all()
    means = jnp.where(are_known, means, 1)
    levels = [(jnp.linalg.pinv(means) @ first).T.ravel()]
    if len(kernels) == 2:
        later, earlier = jnp.tril_indices(steps)
        design = (means[earlier][:, :, None] * means[later][:, None, :]).reshape(len(later), -1)
        wanted = kernels[1][later, earlier]  # (pair, input of the later, input of the earlier)
        fitted, *_ = jnp.linalg.lstsq(design, wanted.reshape(len(later), -1))
        fitted = fitted.reshape(size, size, channels, channels)  # earlier, later, later's, earlier's input
        levels.append(fitted.transpose(3, 0, 2, 1).ravel())
    return jnp.where(are_known, jnp.concatenate(levels), jnp.nan)


def response_gram(
    controls_a: Float[Array, "a step input"],
    controls_b: Float[Array, "b step input"],
    times: Float[Array | np.ndarray, " time"],
    *,
    normalize: bool = False,
) -> Float[Array, "a b"]:
    """How alike two sets of controls are in what they can make an SRNN do: the Gram matrix of the response kernel.

    Equation: K(u, v) = ∏_l exp⟨ΔX_l, ΔY_l⟩ = exp Σ_l u_l · v_l Δt_l, with ψ the indicators of the steps, each
    divided by √Δt_l: the basis that the grid resolves, so that K does not depend on how fine the grid is. Divided, on
    request, by √(K(u, u) K(v, v)): then it is exp(−½ ∫|u − v|² dt), and cannot overflow.

    Args:
        controls_a: (a, step, input).
        controls_b: (b, step, input).
        times: (step + 1,), as for `response_feature`.
        normalize: whether to divide by the norms of both features.

    Returns:
        (a, b), positive semidefinite for `controls_a` = `controls_b`. Infinite where the exponential is beyond the
        dtype, which it cannot be with `normalize`; NaN where traced times do not ascend.

    Raises:
        ValueError: if shapes do not fit, there is nothing to compare, values are not finite, or the matrix is too
            large.
        TypeError: if an array is not floating, or `normalize` not a bool.

    Example:
        >>> import jax
        >>> from sklearn.kernel_ridge import KernelRidge
        >>> u, times = jax.random.normal(jax.random.key(0), (20, 8, 1)), jnp.linspace(0.0, 1.0, 9)
        >>> targets = u.mean(axis=(1, 2))
        >>> ridge = KernelRidge(kernel="precomputed", alpha=1e-3)
        >>> fitted = ridge.fit(response_gram(u, u, times, normalize=True), targets)
        >>> fitted.predict(response_gram(u[:3], u, times, normalize=True)).shape
        (3,)

    Source:
        Lim (2021), theorem 4.2 and its corollary.
    """
    sizes: dict[str, int] = {}
    a = checks.array("controls_a", controls_a, "a step input", sizes)
    b = checks.array("controls_b", controls_b, "b step input", sizes, controls_a.dtype)
    edges, normalize = _edges(times, sizes["step"]), checks.flag("normalize", normalize)
    if len(a) * len(b) > LARGEST_GRAM:
        raise ValueError(
            f"controls_a, controls_b: a Gram matrix of {len(a)} × {len(b)} has {len(a) * len(b)} numbers, more than "
            f"{LARGEST_GRAM}; call it on parts"
        )
    checks.finite(controls_a=a, controls_b=b)
    return _gram(a, b, _cast(_numpy(edges).diff(edges), a), normalize)


@functools.partial(jax.jit, static_argnames="normalize")
def _gram(a: Array, b: Array, widths: Array, normalize: bool) -> Array:
    rows, columns = ((controls * jnp.sqrt(widths)[:, None]).reshape(len(controls), -1) for controls in (a, b))
    if not normalize:
        return jnp.exp(jnp.matmul(rows, columns.T, precision="highest"))
    # half the squared distance itself: as a difference of products it would lose its digits, and pass 1
    return jnp.exp(-0.5 * jax.lax.map(lambda row: ((row - columns) ** 2).sum(axis=1), rows))
