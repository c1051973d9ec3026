"""Initializers that set the eigenvalues of a recurrent kernel.

Every function here makes an initializer of JAX's protocol, `init(key, shape, dtype=None, out_sharding=None)`, for the
recurrent kernel of a flax cell or of `maso_rnn.init`:

    nnx.SimpleCell(1, 64, recurrent_kernel_init=eigen(), rngs=rngs)
    nnx.GRUCell(1, 64, recurrent_kernel_init=per_gate(eigen(), 3, axis=-1), rngs=rngs)             # (64, 192)
    nnx.OptimizedLSTMCell(1, 64, recurrent_kernel_init=per_gate(eigen(), 4, axis=-1), rngs=rngs)   # (64, 256)
    linen.GRUCell(64, recurrent_kernel_init=eigen())                                               # gate by gate
    linen.OptimizedLSTMCell(64, recurrent_kernel_init=eigen())                                     # gate by gate

An equinox cell holds its kernel as (gates · hidden, hidden), so its axis is 0, and `tree_at` replaces it:

    cell = equinox.nn.GRUCell(1, 64, key=cell_key)
    kernel = per_gate(eigen(), 3, axis=0)(kernel_key, cell.weight_hh.shape)
    cell = equinox.tree_at(lambda cell: cell.weight_hh, cell, kernel)

(that kernel multiplies columns; a transpose has the same eigenvalues.)

The linear algebra runs on the host, in NumPy and float64, and is cast at the end: accelerators need no non-symmetric
eigensolver for it, and low precision costs one rounding only. What cannot be drawn raises where the key is concrete;
where it is traced, by `jax.jit` or `jax.vmap`, values cannot raise, and such a draw is NaN throughout.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer
from jaxtyping import Array

from maso_rnn import checks
from maso_rnn.numpy_linalg import Eigenbasis, eigenbasis, in_numpy, rounding

GLOROT = jax.nn.initializers.glorot_normal()
_OTHER_BASE = "use a random base of full rank, such as jax.nn.initializers.glorot_normal(), or basis='orthogonal'"
_MODULI = 1e-5  # how far eigenvalues may miss the radius, relative to it


def eigen(
    radius: float = 1.0,
    *,
    basis: Literal["schur", "orthogonal", "eigenvectors"] = "schur",
    max_phase: float = math.pi,
    base: Initializer = GLOROT,
) -> Initializer:
    """Every eigenvalue at modulus `radius`: no direction of the state is forgotten faster than another.

    Equation: the base draw has eigenvalues |λ_j| exp(iφ_j), and the kernel has λ'_j = radius · exp(iφ_j), put together
    again by one of three bases:

    - `"schur"`: W = Q B Qᵀ, where Q is the orthogonal basis of the base draw's real Schur form and B holds ±radius and
      2 × 2 rotations by φ_j. W / radius is orthogonal; what made the base draw non-normal is dropped.
    - `"orthogonal"`: W = Q B Qᵀ with Q Haar-distributed and fresh angles φ_j, uniform in (0, max_phase]; an odd size
      has one eigenvalue +radius. W / radius is orthogonal; there is no base draw.
    - `"eigenvectors"`: W = Re(V Λ' V⁻¹), V the base draw's eigenvectors. Far from normal: ‖W^k‖ grows to tens of times
      radius^k before it settles, and networks started so may diverge. For study, not for training.

    This is a reconstruction: only the abstract of the source could be had. It says that the initializer is built from
    an eigen-decomposition of the weight matrix and meant for RNN, LSTM and GRU. That phases are kept, that moduli
    become equal, and all three bases are this library's reading of it.

    Args:
        radius: the modulus of every eigenvalue, positive; 1 keeps information for ever in the linear network.
        basis: `"schur"`, `"orthogonal"` or `"eigenvectors"`.
        max_phase: the largest angle that `"orthogonal"` draws, in (0, π] radians: a smaller one means slower
            oscillations, with periods of at least 2π / max_phase steps.
        base: the initializer whose phases are kept; for `"schur"` and `"eigenvectors"`.

    Returns:
        An initializer of square kernels; for kernels of several gates, see `per_gate`.

    Raises:
        ValueError: if `radius` is not positive and finite, `max_phase` is outside (0, π], `basis` is not known or
            has no use for `max_phase` or `base`. By the initializer: if the shape is not (hidden, hidden), `radius`
            is out of the dtype's range, or the base draw has, up to the rounding of its dtype, an eigenvalue 0 (no
            phase) or no basis of eigenvectors.
        TypeError: if `radius` or `max_phase` is traced or no number, or `base` not a function. By the initializer: if
            the dtype is not floating.

    Example:
        >>> kernel = eigen(0.9)(jax.random.key(0), (5, 5))
        >>> abs(np.linalg.eigvals(kernel)).round(4).tolist()
        [0.9, 0.9, 0.9, 0.9, 0.9]

    Source:
        Dou, Principe (2023), the abstract; the basis of the Schur form: Golub, Van Loan, *Matrix computations*, 7.4.
    """
    radius = checks.number("radius", radius, above=0)
    max_phase = checks.number("max_phase", max_phase, above=0, most=math.pi)
    checks.function("base", base)
    checks.choice("basis", basis, ("schur", "orthogonal", "eigenvectors"))
    if (base is not GLOROT) if basis == "orthogonal" else (max_phase != math.pi):
        raise ValueError(f"basis={basis!r} has no use for {'base' if basis == 'orthogonal' else 'max_phase'}")

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        if basis == "orthogonal":
            basis_key, angle_key = jax.random.split(key)
            gaussian = jax.random.normal(basis_key, shape, dtype)
            uniform = jax.random.uniform(angle_key, (shape[0] // 2,), dtype)  # in [0, 1)
            return in_numpy(
                lambda gaussian, uniform: radius * _rotations_in_haar_basis(gaussian, max_phase * (1 - uniform)),
                (gaussian, uniform),
                jax.ShapeDtypeStruct(shape, dtype),
            )
        drawn = _draw(base, key, shape, dtype)
        precision = float(jnp.finfo(drawn.dtype).eps)
        put = functools.partial(_in_eigenvectors, dtype=dtype) if basis == "eigenvectors" else _in_schur_basis
        return in_numpy(lambda base: radius * put(base, precision), (drawn,), jax.ShapeDtypeStruct(shape, dtype))

    return _initializer(draw, "radius", radius)


def identity(scale: float = 1.0) -> Initializer:
    """The scaled identity, for ReLU networks (IRNN): every eigenvalue is `scale`, none of them turns.

    Equation: W = scale · I.

    Args:
        scale: positive; 1 for long memory, less for tasks that do not need it.

    Returns:
        An initializer of square kernels; it does not use its key.

    Raises:
        ValueError: if `scale` is not positive and finite. By the initializer: if the shape is not (hidden, hidden), or
            `scale` is out of the dtype's range.
        TypeError: if `scale` is traced or no number. By the initializer: if the dtype is not floating.

    Example:
        >>> identity(0.5)(jax.random.key(0), (2, 2)).tolist()
        [[0.5, 0.0], [0.0, 0.5]]

    Source:
        Le, Jaitly, Hinton, *A simple way to initialize recurrent networks of rectified linear units* (2015).
    """
    scale = checks.number("scale", scale, above=0)

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        del key  # nothing is random
        return scale * jnp.eye(shape[0], dtype=dtype)

    return _initializer(draw, "scale", scale)


def np_rnn() -> Initializer:
    """A normalised-positive kernel for ReLU networks (np-RNN): symmetric, positive, its largest eigenvalue 1.

    Equation: A = RᵀR / n with R standard normal (n, n); W = (A + I) / λ_max(A + I).

    Returns:
        An initializer of square kernels.

    Raises:
        ValueError: by the initializer: if the shape is not (hidden, hidden).
        TypeError: by the initializer: if the dtype is not floating.

    Example:
        >>> kernel = np_rnn()(jax.random.key(0), (5, 5))
        >>> float(np.linalg.eigvalsh(kernel).max().round(5))
        1.0

    Source:
        Talathi, Vartak, *Improving performance of recurrent neural network with ReLU nonlinearity* (2015), section 3.
    """

    def normalised(gaussian: np.ndarray) -> np.ndarray:
        size = len(gaussian)
        shifted = gaussian.T @ gaussian / size + np.eye(size)
        return shifted / np.linalg.eigvalsh(shifted)[-1]

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        return in_numpy(normalised, (jax.random.normal(key, shape, dtype),), jax.ShapeDtypeStruct(shape, dtype))

    return _initializer(draw, "radius", 1.0)


def spectral_radius(base: Initializer = GLOROT, radius: float = 1.0) -> Initializer:
    """The base draw, scaled so that its largest eigenvalue has modulus `radius`.

    Equation: W = radius · A / max_j |λ_j(A)|, A the base draw.

    Args:
        base: the initializer to scale.
        radius: the spectral radius, positive.

    Returns:
        An initializer of square kernels.

    Raises:
        ValueError: if `radius` is not positive and finite. By the initializer: if the shape is not (hidden, hidden),
            `radius` is out of the dtype's range, or the base draw has, up to the rounding of its dtype, no eigenvalue
            but 0.
        TypeError: if `radius` is traced or no number, or `base` not a function. By the initializer: if the dtype is
            not floating.

    Example:
        >>> kernel = spectral_radius(radius=0.9)(jax.random.key(0), (5, 5))
        >>> float(abs(np.linalg.eigvals(kernel)).max().round(4))
        0.9

    Source:
        Jaeger, *The "echo state" approach to analysing and training recurrent neural networks* (2001), section 3.
    """
    checks.function("base", base)
    radius = checks.number("radius", radius, above=0)

    def scaled(base: np.ndarray, precision: float) -> np.ndarray:
        drawn = np.abs(np.linalg.eigvals(base)).max()
        if _is_nilpotent(base, precision):
            raise ValueError("base drew a kernel whose eigenvalues are all 0, which cannot be scaled; use another base")
        return base * (radius / drawn)

    def draw(key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        drawn = _draw(base, key, shape, dtype)
        precision = float(jnp.finfo(drawn.dtype).eps)
        return in_numpy(lambda base: scaled(base, precision), (drawn,), jax.ShapeDtypeStruct(shape, dtype))

    return _initializer(draw, "radius", radius)


def per_gate(init: Initializer, gates: int, axis: int = -1) -> Initializer:
    """A fresh draw of `init` for each gate of a concatenated kernel.

    Cells with gates keep the recurrent kernels of all gates in one array, (hidden, gates · hidden). An initializer
    that sees the whole array sets the singular values of *it*, not the eigenvalues of any gate: a semi-orthogonal
    (hidden, 4 · hidden) kernel leaves each gate a spectral radius near 0.5.

    Equation: W = [W_1, …, W_gates] along `axis`, each W_g its own draw.

    Args:
        init: the initializer of one gate, (hidden, hidden).
        gates: how many gates the kernel holds: 3 for a GRU, 4 for an LSTM.
        axis: the axis that they are concatenated along: -1 in flax, 0 in equinox and torch.

    Returns:
        An initializer of concatenated kernels.

    Raises:
        TypeError: if `gates` or `axis` is not an integer, or `init` not a function.
        ValueError: if `gates` is below 1. By the initializer: if `axis` is out of range, its length cannot be divided
            by `gates`, or the kernel of one gate would not be (hidden, hidden); and as `init` does.

    Example:
        >>> per_gate(eigen(), 3)(jax.random.key(0), (4, 12)).shape
        (4, 12)

    Source:
        Dou, Principe (2023), the abstract, for the eigenvalues of LSTM and GRU; the layout is that of flax.
    """
    checks.function("init", init)
    gates = checks.size("gates", gates)
    axis = checks.size("axis", axis, least=-2)

    def init_gates(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        one = list(_rank_2(shape))
        one[axis % 2] //= gates
        if one[axis % 2] * gates != shape[axis % 2] or axis > 1 or (one[0] != one[1] and 0 not in one):
            raise ValueError(f"shape must be {gates} gates of (hidden, hidden) along axis {axis}, got {shape}")
        with _at_once(key):
            draws = [init(gate_key, tuple(one), dtype) for gate_key in jax.random.split(key, gates)]
            kernel = jnp.concatenate(draws, axis=axis)
        return _placed(kernel, out_sharding)

    return init_gates


def _initializer(draw: Callable[[Array, tuple[int, ...], Any], Array], name: str, size: float) -> Initializer:
    """The initializer that draws square kernels of that size, `name`, in float32 or more, and rounds them once."""

    def init(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        shape, dtype = _rank_2(shape), checks.floating("dtype", dtype)
        if 0 in shape:
            return _placed(jnp.zeros(shape, dtype), out_sharding)
        if shape[0] != shape[1]:
            raise ValueError(f"shape must be square, got {shape}; maso_rnn.per_gate(init, gates, axis) draws all gates")
        limits = jnp.finfo(dtype)
        least, most = float(limits.smallest_normal), float(limits.max)
        if not least <= size <= most:
            raise ValueError(f"{name} = {size} is out of the range of {dtype}, {least} to {most}; use a wider dtype")
        with _at_once(key):
            kernel = draw(key, shape, jnp.float32 if limits.bits <= 32 else dtype).astype(dtype)
            if checks.is_concrete(kernel) and not np.isfinite(kernel).all():
                raise ValueError(f"{name} = {size} puts entries out of the range of {dtype}; use a wider dtype")
        return _placed(kernel, out_sharding)

    return init


def _at_once(key: Array) -> contextlib.AbstractContextManager[Any]:
    """A concrete key draws a concrete kernel, while something else is traced too, so that bad draws can raise."""
    return jax.ensure_compile_time_eval() if checks.is_concrete(key) else contextlib.nullcontext()


def _rank_2(shape: Any) -> tuple[int, ...]:
    if np.ndim(shape) != 1 or len(shape) != 2:
        raise ValueError(f"shape must be of rank 2, got {shape}")
    return tuple(shape)


def _draw(base: Initializer, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    return checks.array("what base draws", base(key, shape, dtype), "row column", {"row": shape[0], "column": shape[1]})


def _placed(kernel: Array, out_sharding: Any) -> Array:
    return kernel if out_sharding is None else jax.sharding.reshard(kernel, out_sharding)


def _is_nilpotent(base: np.ndarray, precision: float) -> bool:
    """Whether all eigenvalues are 0, up to the rounding of the base draw.

    They are if no power has a trace, tr A^k = Σ λ^k, and a change E of A moves tr A^k by k tr(A^{k-1} E). The
    eigenvalues themselves cannot tell: rounding moves those of a nilpotent matrix as far as its n-th root.
    """
    largest = np.linalg.norm(base, 2)
    base = base / (largest or 1.0)
    change = rounding(precision) * np.linalg.norm(base)
    power = np.eye(len(base))
    for k in range(1, len(base) + 1):
        size = np.linalg.norm(power)
        if size <= k * change:  # the power itself is 0 up to rounding
            return True
        power = power @ base
        if abs(np.trace(power)) > k * change * size:
            return False
    return True


def _phased(base: np.ndarray, precision: float) -> Eigenbasis:
    """The eigenbasis of a base draw, refused where phases or basis are not there."""
    found = eigenbasis(base, precision)
    if found.defective:
        raise ValueError(f"base drew a defective kernel, whose eigenvectors are no basis; {_OTHER_BASE}")
    if (np.abs(found.values) <= precision * np.linalg.norm(base, 2) * found.conditions).any():
        raise ValueError(f"base drew a kernel with an eigenvalue 0, up to rounding, which has no phase; {_OTHER_BASE}")
    return found


def _in_eigenvectors(base: np.ndarray, precision: float, dtype: Any) -> np.ndarray:
    found = _phased(base, precision)
    kernel: np.ndarray = ((found.vectors * (found.values / np.abs(found.values))) @ found.inverse).real
    # rounding the kernel moves its eigenvalues too, and nearly parallel eigenvectors magnify that
    if np.abs(np.abs(np.linalg.eigvals(kernel.astype(dtype).astype(float))) - 1).max() > _MODULI:
        raise ValueError(f"base drew a kernel too close to a defective one for {np.dtype(dtype)}; {_OTHER_BASE}")
    return kernel


def _in_schur_basis(base: np.ndarray, precision: float) -> np.ndarray:
    """Re and Im of the eigenvectors, made orthogonal in their order, are the basis of the real Schur form."""
    values, vectors, *_ = _phased(base, precision)
    real = np.flatnonzero(values.imag == 0)
    pair = np.flatnonzero(values.imag > 0)  # LAPACK puts the conjugate next
    columns = vectors.real.copy()
    columns[:, pair + 1] = vectors[:, pair].imag
    basis, upper = np.linalg.qr(columns)
    diagonal = np.diagonal(upper)
    # making [Re, Im] orthogonal may turn the plane over, and the rotation in it with it
    turn = np.sign(diagonal[pair] * diagonal[pair + 1])
    phase = np.angle(values[pair])
    blocks = np.zeros_like(base)
    blocks[real, real] = np.sign(values[real].real)
    blocks[pair, pair] = blocks[pair + 1, pair + 1] = np.cos(phase)
    blocks[pair, pair + 1] = turn * np.sin(phase)
    blocks[pair + 1, pair] = -blocks[pair, pair + 1]
    return basis @ blocks @ basis.T


def _rotations_in_haar_basis(gaussian: np.ndarray, phase: np.ndarray) -> np.ndarray:
    basis, upper = np.linalg.qr(gaussian)
    basis = basis * np.sign(np.diagonal(upper))  # Haar, which the signs of QR would spoil
    blocks = np.eye(len(basis))  # an odd size keeps its last 1
    first = 2 * np.arange(len(phase))
    blocks[first, first] = blocks[first + 1, first + 1] = np.cos(phase)
    blocks[first, first + 1] = np.sin(phase)
    blocks[first + 1, first] = -np.sin(phase)
    return basis @ blocks @ basis.T
