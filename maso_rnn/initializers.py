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
under `jax.jit` and `jax.vmap`, where values cannot raise, such a draw is NaN throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer
from jaxtyping import Array

from maso_rnn import checks
from maso_rnn.host import on_host

_GLOROT = jax.nn.initializers.glorot_normal()


def eigen(
    radius: float = 1.0,
    *,
    basis: Literal["schur", "orthogonal", "eigenvectors"] = "schur",
    max_phase: float = math.pi,
    base: Initializer = _GLOROT,
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
            has no use for `max_phase` or `base`. By the initializer: if the shape is not (hidden, hidden), or the base
            draw has an eigenvalue 0 (no phase) or no basis of eigenvectors.
        TypeError: by the initializer: if the dtype is not floating.

    Example:
        >>> kernel = eigen(0.9)(jax.random.key(0), (5, 5))
        >>> abs(np.linalg.eigvals(kernel)).round(4).tolist()
        [0.9, 0.9, 0.9, 0.9, 0.9]

    Source:
        Dou, Principe (2023), the abstract; the basis of the Schur form: Golub, Van Loan, *Matrix computations*, 7.4.
    """
    radius = _positive("radius", radius)
    if basis not in ("schur", "orthogonal", "eigenvectors"):
        raise ValueError(f"basis must be 'schur', 'orthogonal' or 'eigenvectors', got {basis!r}")
    max_phase = float(max_phase)
    if not 0 < max_phase <= math.pi:
        raise ValueError(f"max_phase must be in (0, π] radians, got {max_phase}; eigenvalues come in conjugate pairs")
    if basis != "orthogonal" and max_phase != math.pi:
        raise ValueError(f"max_phase belongs to basis='orthogonal'; basis={basis!r} keeps the phases of the base draw")
    if basis == "orthogonal" and base is not _GLOROT:
        raise ValueError(
            "base is not used by basis='orthogonal', which draws its own; use basis='schur' to keep phases"
        )

    def init(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        shape, dtype, drawn = _checked(shape, dtype)
        if 0 in shape:
            return _placed(jnp.zeros(shape, dtype), out_sharding)
        if basis == "orthogonal":
            basis_key, angle_key = jax.random.split(key)
            gaussian = jax.random.normal(basis_key, shape, drawn)
            uniform = jax.random.uniform(angle_key, (shape[0] // 2,), drawn)  # in [0, 1)
            kernel = on_host(
                lambda gaussian, uniform: radius * _rotations_in_haar_basis(gaussian, max_phase * (1 - uniform)),
                (gaussian, uniform),
                jax.ShapeDtypeStruct(shape, drawn),
            )
        else:
            put = _in_schur_basis if basis == "schur" else _in_eigenvectors
            draw = _draw(base, key, shape, drawn)
            kernel = on_host(lambda draw: radius * put(draw), (draw,), jax.ShapeDtypeStruct(shape, drawn))
        return _placed(kernel.astype(dtype), out_sharding)

    return init


def identity(scale: float = 1.0) -> Initializer:
    """The scaled identity, for ReLU networks (IRNN): every eigenvalue is `scale`, none of them turns.

    Equation: W = scale · I.

    Args:
        scale: positive; 1 for long memory, less for tasks that do not need it.

    Returns:
        An initializer of square kernels; it does not use its key.

    Raises:
        ValueError: if `scale` is not positive and finite. By the initializer: if the shape is not (hidden, hidden).
        TypeError: by the initializer: if the dtype is not floating.

    Example:
        >>> identity(0.5)(jax.random.key(0), (2, 2)).tolist()
        [[0.5, 0.0], [0.0, 0.5]]

    Source:
        Le, Jaitly, Hinton, *A simple way to initialize recurrent networks of rectified linear units* (2015).
    """
    scale = _positive("scale", scale)

    def init(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        del key  # nothing is random
        shape, dtype, _ = _checked(shape, dtype)
        return _placed(scale * jnp.eye(shape[0], shape[1], dtype=dtype), out_sharding)

    return init


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

    def init(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        shape, dtype, drawn = _checked(shape, dtype)
        if 0 in shape:
            return _placed(jnp.zeros(shape, dtype), out_sharding)
        gaussian = jax.random.normal(key, shape, drawn)
        kernel = on_host(normalised, (gaussian,), jax.ShapeDtypeStruct(shape, drawn))
        return _placed(kernel.astype(dtype), out_sharding)

    return init


def spectral_radius(base: Initializer = _GLOROT, radius: float = 1.0) -> Initializer:
    """The base draw, scaled so that its largest eigenvalue has modulus `radius`.

    Equation: W = radius · A / max_j |λ_j(A)|, A the base draw.

    Args:
        base: the initializer to scale.
        radius: the spectral radius, positive.

    Returns:
        An initializer of square kernels.

    Raises:
        ValueError: if `radius` is not positive and finite. By the initializer: if the shape is not (hidden, hidden),
            or the base draw has no eigenvalue but 0.
        TypeError: by the initializer: if the dtype is not floating.

    Example:
        >>> kernel = spectral_radius(radius=0.9)(jax.random.key(0), (5, 5))
        >>> float(abs(np.linalg.eigvals(kernel)).max().round(4))
        0.9

    Source:
        Jaeger, *The "echo state" approach to analysing and training recurrent neural networks* (2001), section 3.
    """
    radius = _positive("radius", radius)

    def scaled(base: np.ndarray) -> np.ndarray:
        largest = np.abs(np.linalg.eigvals(base)).max()
        if not largest > _rounding(base):
            raise ValueError("base drew a kernel whose eigenvalues are all 0, which cannot be scaled; use another base")
        return base * (radius / largest)

    def init(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        shape, dtype, drawn = _checked(shape, dtype)
        if 0 in shape:
            return _placed(jnp.zeros(shape, dtype), out_sharding)
        kernel = on_host(scaled, (_draw(base, key, shape, drawn),), jax.ShapeDtypeStruct(shape, drawn))
        return _placed(kernel.astype(dtype), out_sharding)

    return init


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
        ValueError: if `gates` is below 1. By the initializer: if `axis` is out of range, or its length cannot be
            divided by `gates`; and as `init` does.

    Example:
        >>> per_gate(eigen(), 3)(jax.random.key(0), (4, 12)).shape
        (4, 12)

    Source:
        Dou, Principe (2023), the abstract, for the eigenvalues of LSTM and GRU; the layout is that of flax.
    """
    if not callable(init):
        raise TypeError(f"init must be an initializer, got {type(init).__name__}; call per_gate(eigen(), {gates})")
    gates = checks.size("gates", gates)
    axis = checks.size("axis", axis, least=-100)

    def init_gates(key: Array, shape: Sequence[int], dtype: Any = None, out_sharding: Any = None) -> Array:
        shape = tuple(shape)
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"axis {axis} is out of range for shape {shape}")
        if shape[axis] % gates:
            raise ValueError(
                f"gates = {gates} does not divide axis {axis} of shape {shape}: a kernel of {gates} gates is "
                f"(hidden, {gates} * hidden) with axis=-1; a GRU has 3, an LSTM 4"
            )
        one = list(shape)
        one[axis] //= gates
        draws = [init(gate_key, tuple(one), dtype) for gate_key in jax.random.split(key, gates)]
        return _placed(jnp.concatenate(draws, axis=axis), out_sharding)

    return init_gates


def _positive(name: str, value: Any) -> float:
    value = float(value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}; 1 keeps the size of the state")
    return value


def _checked(shape: Sequence[int], dtype: Any) -> tuple[tuple[int, ...], Any, Any]:
    """The shape of a square (or empty) kernel, its dtype, and the dtype to draw in: at least float32."""
    shape = tuple(shape)
    dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {dtype}; use float32, or bfloat16")
    if len(shape) != 2:
        raise ValueError(f"shape must be (hidden, hidden), of rank 2, got {shape}")
    if shape[0] != shape[1] and 0 not in shape:
        raise ValueError(
            f"shape must be (hidden, hidden), got {shape}: only a square kernel has eigenvalues; "
            "for the kernel of several gates, wrap the initializer in maso_rnn.per_gate(init, gates, axis)"
        )
    return shape, dtype, jnp.promote_types(dtype, jnp.float32)


def _draw(base: Initializer, key: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    draw = base(key, shape, dtype)
    if draw.shape != shape or not jnp.issubdtype(draw.dtype, jnp.floating):
        raise ValueError(f"base must draw a floating array of shape {shape}, got {draw.dtype} of {draw.shape}")
    return draw


def _placed(kernel: Array, out_sharding: Any) -> Array:
    return kernel if out_sharding is None else jax.sharding.reshard(kernel, out_sharding)


def _rounding(base: np.ndarray) -> float:
    """What is zero up to rounding, in an eigenvalue of `base`."""
    return float(len(base) * np.finfo(np.float64).eps * np.linalg.norm(base))


def _eigenbasis(base: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of a base draw, refused where phases or basis are not there."""
    if not np.isfinite(base).all():
        raise ValueError("base drew NaN or infinity; use another base")
    values, vectors = np.linalg.eig(base)
    if np.abs(values).min() <= _rounding(base):
        raise ValueError(
            "base drew a kernel with an eigenvalue 0, which has no phase to keep; use a base of full rank, such as "
            "jax.nn.initializers.glorot_normal(), or basis='orthogonal', which needs none"
        )
    # beyond this half of float64's digits are lost, as with a double eigenvalue of a defective kernel
    if not np.linalg.cond(vectors) < np.finfo(np.float64).eps ** -0.5:
        raise ValueError(
            "base drew a defective kernel, whose eigenvectors are no basis; use a random base, such as "
            "jax.nn.initializers.glorot_normal(), or basis='orthogonal', which needs none"
        )
    return values, vectors


def _in_eigenvectors(base: np.ndarray) -> np.ndarray:
    values, vectors = _eigenbasis(base)
    return np.linalg.solve(vectors.T, (vectors * (values / np.abs(values))).T).T.real


def _in_schur_basis(base: np.ndarray) -> np.ndarray:
    """Re and Im of the eigenvectors, made orthogonal in their order, are the basis of the real Schur form."""
    values, vectors = _eigenbasis(base)
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
