"""The stochastic RNN: a pytree of kernels, its drift, and what makes it stable.

For a state h of rows, an input u and Brownian noise B, with kernels (in, out),

    dh = (−h @ decay + act(h @ recurrent_kernel + bias) + u @ input_kernel) dt + dB @ noise_kernel,

which is, transposed, the paper's dh = (−Γh + a(Wh + b) + Cu) dt + σ dB. The noise does not depend on the state, so Itô
and Stratonovich integrals agree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from srnn import checks

# A field holds an array, or whatever optax's masks and `jax.eval_shape` put in its place: no type is enforced.
Leaf: TypeAlias = Any

_BY_NAME: dict[str, Callable[[Array], Array]] = {
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "hard_tanh": jax.nn.hard_tanh,
    "abs": jnp.abs,
    "sin": jnp.sin,
    "identity": lambda p: p,
}


@struct.dataclass
class SRNN:
    """A stochastic RNN in continuous time.

    Attributes:
        decay: (hidden, hidden), or its diagonal (hidden,); per unit of time, with eigenvalues of positive real part.
        recurrent_kernel: (hidden, hidden), inside the activation.
        bias: (hidden,), inside the activation.
        input_kernel: (input, hidden), outside the activation.
        noise_kernel: (noise, hidden), or a diagonal (hidden,); per square root of time.
        activation: a name ("tanh", "relu", "identity", …) or an elementwise function, static.
    """

    decay: Leaf
    recurrent_kernel: Leaf
    bias: Leaf
    input_kernel: Leaf
    noise_kernel: Leaf
    activation: str | Callable[[Array], Array] = struct.field(pytree_node=False, default="tanh")


def init(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    noise_size: int | None = None,
    radius: float = 0.9,
    decay_time: float = 1.0,
    noise: float = 0.1,
    activation: str | Callable[[Array], Array] = "tanh",
    dtype: Any = None,
) -> SRNN:
    """A freshly drawn model, stable by construction.

    Equation: decay = 1/τ, recurrent_kernel = (radius/τ) Q with Q a Haar-distributed rotation, input_kernel normal with
    variance 1/input, noise_kernel = noise · I (or normal with variance noise²/noise_size). The 2-norm of the recurrent
    kernel is radius/τ < 1/τ, so for every activation of slope at most 1 two solutions with the same noise approach each
    other like exp(−(1 − radius) t/τ).

    Args:
        key: a random key, as from `jax.random.key`.
        input_size: channels of the input, at least 1.
        hidden_size: units, at least 1.
        noise_size: channels of the noise, or None for one of its own for each unit (a diagonal).
        radius: spectral radius of the recurrent kernel in units of the decay rate, in [0, 1).
        decay_time: τ, in units of time.
        noise: standard deviation of the noise put on a unit in one unit of time.
        activation: a name or an elementwise function.
        dtype: a floating dtype; by default JAX's own default.

    Returns:
        The model, with a diagonal decay and zero bias.

    Raises:
        ValueError: if a size is below 1, `radius` is not in [0, 1), `decay_time` is not positive, `noise` is negative,
            or the activation's name is not known.
        TypeError: if a size is not an integer, `dtype` is not floating, or the activation is neither name nor function.

    Example:
        >>> model = init(jax.random.key(0), 2, 8, radius=0.5)
        >>> model.input_kernel.shape, model.noise_kernel.shape
        ((2, 8), (8,))

    Source:
        Lim (2021), equation 1, for the model.
    """
    key = checks.random_key(key)
    input_size = checks.size("input_size", input_size)
    hidden_size = checks.size("hidden_size", hidden_size)
    radius = checks.positive("radius", radius, zero=True)
    if radius >= 1:
        raise ValueError(f"radius must be below 1, in units of the decay rate, for a stable model, got {radius}")
    rate = 1 / checks.positive("decay_time", decay_time)
    noise = checks.positive("noise", noise, zero=True)
    activation_of(activation)
    dtype = jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {dtype}")
    recurrent_key, input_key, noise_key = jax.random.split(key, 3)
    if noise_size is None:
        noise_kernel = jnp.full(hidden_size, noise, dtype)
    else:
        shape = (checks.size("noise_size", noise_size), hidden_size)
        noise_kernel = noise * shape[0] ** -0.5 * jax.random.normal(noise_key, shape, dtype)
    return SRNN(
        decay=jnp.full(hidden_size, rate, dtype),
        recurrent_kernel=radius * rate * jax.random.orthogonal(recurrent_key, hidden_size, dtype=dtype),
        bias=jnp.zeros(hidden_size, dtype),
        input_kernel=input_size**-0.5 * jax.random.normal(input_key, (input_size, hidden_size), dtype),
        noise_kernel=noise_kernel,
        activation=activation,
    )


def drift(model: SRNN, state: Float[Array, "*path hidden"]) -> Float[Array, "*path hidden"]:
    """How fast the undriven, noiseless state moves.

    Equation: −h @ decay + act(h @ recurrent_kernel + bias).

    Args:
        model: the model.
        state: (..., hidden), rows of states.

    Returns:
        (..., hidden), per unit of time.

    Raises:
        ValueError: if the activation's name is not known.

    Example:
        >>> model = init(jax.random.key(0), 1, 3)
        >>> drift(model, jnp.zeros(3)).tolist()
        [0.0, 0.0, 0.0]

    Source:
        Lim (2021), equation 1.
    """
    act = activation_of(model.activation)
    return act(state @ model.recurrent_kernel + model.bias) - _times(state, model.decay)


def noise_size(model: SRNN) -> int:
    """Channels of the model's noise."""
    return int(model.noise_kernel.shape[0])


def put_noise(model: SRNN, increment: Array) -> Array:
    """Noise increments (..., noise) as they reach the state, (..., hidden)."""
    return _times(increment, model.noise_kernel)


def _times(rows: Array, kernel: Array) -> Array:
    """`rows @ kernel`, where a kernel of rank 1 is a diagonal."""
    return rows * kernel if kernel.ndim == 1 else rows @ kernel


def noise_matrix(model: SRNN) -> Array:
    """The noise kernel as (noise, hidden), also where it is stored as a diagonal."""
    return jnp.diag(model.noise_kernel) if model.noise_kernel.ndim == 1 else model.noise_kernel


def activation_of(name_or_function: str | Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The elementwise function of that name, or the function itself."""
    if isinstance(name_or_function, str):
        if name_or_function not in _BY_NAME:
            raise ValueError(f"activation must be one of {sorted(_BY_NAME)} or a function, got {name_or_function!r}")
        return _BY_NAME[name_or_function]
    if not callable(name_or_function):
        raise TypeError(f"activation must be a name or a function, got {type(name_or_function).__name__}")
    return name_or_function


class _Shape:
    """What an activation looks like on a fine grid: its slopes, and whether they jump."""

    def __init__(self, act: Callable[[Array], Array]) -> None:
        grid = np.linspace(-8.0005, 8.0005, 16_003)  # spacing 1e-3; kinks at whole numbers fall between two points
        with jax.ensure_compile_time_eval():
            points = jnp.asarray(grid, jnp.float32)
            slopes = np.asarray(jax.vmap(jax.grad(act))(points), np.float64)
            curvature = np.asarray(jax.vmap(jax.grad(jax.grad(act)))(points), np.float64)
        # a smooth slope changes by its curvature; what is left is a jump
        change = np.diff(slopes) - np.diff(grid) * (curvature[1:] + curvature[:-1]) / 2
        self.kinks: np.ndarray = grid[:-1][np.abs(change) > 1e-3]
        self.is_affine = bool(np.ptp(slopes) == 0)


@functools.lru_cache(maxsize=128)
def _shape_of(act: Callable[[Array], Array]) -> _Shape:
    return _Shape(act)


def require_smooth(model: SRNN, purpose: str) -> None:
    """Refuse an activation whose slope jumps: its Hessian is zero almost everywhere and misses what the jump does."""
    kinks = _shape_of(activation_of(model.activation)).kinks
    if kinks.size:
        raise ValueError(
            f"activation {_name(model)} has a kink near {kinks[0]:.3g}, which its second derivative misses: "
            f"{purpose} by pathwise derivatives would be wrong, not just noisy; use a smooth activation (tanh, "
            "softplus, gelu), or srnn.response_kernel(..., method='malliavin')"
        )


def _name(model: SRNN) -> str:
    return model.activation if isinstance(model.activation, str) else getattr(model.activation, "__name__", "given")


def check_model(model: SRNN) -> None:
    """A model whose shapes fit together, of one floating dtype, finite and stable."""
    if not isinstance(model, SRNN):
        raise TypeError(f"model must be an srnn.SRNN, got {type(model).__name__}; srnn.init makes one")
    act = activation_of(model.activation)
    recurrent = checks.array(
        "model.recurrent_kernel", model.recurrent_kernel, axes="(hidden, hidden)", shape=(None, None)
    )
    hidden, dtype = recurrent.shape[1], recurrent.dtype
    if recurrent.shape[0] != hidden or not hidden:
        raise ValueError(f"model.recurrent_kernel must be square, (hidden, hidden), got {recurrent.shape}")
    _check_kernel("decay", model.decay, (hidden, hidden), dtype)
    checks.array("model.bias", model.bias, axes="(hidden,)", shape=(hidden,), dtype=dtype)
    kernel = checks.array(
        "model.input_kernel", model.input_kernel, axes="(input, hidden)", shape=(None, hidden), dtype=dtype
    )
    _check_kernel("noise_kernel", model.noise_kernel, (None, hidden), dtype)
    if not kernel.size or not np.size(model.noise_kernel):
        raise ValueError("model must have at least one input and one noise channel")
    checks.finite("model", model)
    if not checks.is_concrete(model.decay, model.recurrent_kernel, model.bias):
        return
    rates = np.linalg.eigvals(_dense(model.decay))
    if rates.real.min() <= 0:
        raise ValueError(
            f"model.decay must be positive stable (all eigenvalues with positive real part), got one at "
            f"{rates[rates.real.argmin()]:.4g}"
        )
    if _shape_of(act).is_affine:
        rates = np.linalg.eigvals(_linear_drifts(model)[-1])
        if rates.real.max() >= 0:
            raise ValueError(
                f"model: with the affine activation {_name(model)} the drift −decay + recurrent_kernel must have only "
                f"eigenvalues of negative real part, got one at {rates[rates.real.argmax()]:.4g}; scale "
                "recurrent_kernel down"
            )


def _check_kernel(name: str, value: Any, shape: tuple[int | None, int], dtype: Any) -> None:
    """A matrix of that shape, or a diagonal."""
    if getattr(value, "ndim", None) == 1:
        shape_wanted: tuple[int | None, ...] = (shape[1],)
    else:
        shape_wanted = shape
    axes = f"({'noise' if name == 'noise_kernel' else 'hidden'}, hidden) or a diagonal (hidden,)"
    checks.array(f"model.{name}", value, axes=axes, shape=shape_wanted, dtype=dtype)


def _dense(kernel: Any) -> np.ndarray:
    kernel = np.asarray(kernel, np.float64)
    return np.diag(kernel) if kernel.ndim == 1 else kernel


def _linear_drifts(model: SRNN) -> tuple[np.ndarray, np.ndarray]:
    """The drift's Jacobian where the activation is flat, and where its input is the bias."""
    decay, recurrent = _dense(model.decay), np.asarray(model.recurrent_kernel, np.float64)
    with jax.ensure_compile_time_eval():
        slopes = np.asarray(jax.vmap(jax.grad(activation_of(model.activation)))(jnp.asarray(model.bias)), np.float64)
    return -decay, recurrent * slopes - decay


def check_step(model: SRNN, dt: float, order: int) -> None:
    """Refuse a step at which an explicit Runge–Kutta method of that order (1 or 2) blows up on the linearised drift.

    Looked at are the drift where the activation is flat, and at zero state; there only at directions that decay.
    """
    if not checks.is_concrete(model.decay, model.recurrent_kernel, model.bias):
        return
    flat, at_zero = (np.linalg.eigvals(drift) for drift in _linear_drifts(model))
    rates = np.concatenate([flat, at_zero])
    limit = min((_largest_step(rate, order) for rate in rates if rate.real < 0), default=np.inf)
    if dt > limit * (1 + 1e-9):
        raise ValueError(
            f"dt = {dt} is past the stability limit {limit:.4g} of the linearised drift; "
            f"dt = {0.5 * limit:.2g} would do"
        )


def _largest_step(rate: complex, order: int) -> float:
    """The first dt > 0 at which |R(dt · rate)| = 1, for R(z) = 1 + z (+ z²/2)."""
    if order == 1:
        return float(-2 * rate.real / abs(rate) ** 2)
    square = rate * rate / 2
    real, imaginary = np.array([square.real, rate.real, 1]), np.array([square.imag, rate.imag, 0])
    excess = np.polymul(real, real) + np.polymul(imaginary, imaginary)  # |R|², highest power first
    roots = np.roots(excess[:-1])  # |R|² − 1 has no constant term
    return float(min(root.real for root in roots if abs(root.imag) < 1e-9 * abs(root) and root.real > 0))
