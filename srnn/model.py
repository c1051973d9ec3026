"""The stochastic RNN: a pytree of kernels, its drift, and what makes it stable.

For a state h of rows, an input u and Brownian noise B, with kernels (in, out),

    dh = (−h @ decay + act(h @ recurrent_kernel + bias) + u @ input_kernel) dt + dB @ noise_kernel,

which is, transposed, the paper's dh = (−Γh + a(Wh + b) + Cu) dt + σ dB. The noise does not depend on the state, so Itô
and Stratonovich integrals agree.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

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
            the activation's name is not known, or `dtype` is float64 and JAX is not set to hold that.
        TypeError: if a size is not an integer, `dtype` is not float32 or float64, or the activation is neither name
            nor function.

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
    try:
        dtype = jnp.dtype(jax.dtypes.canonicalize_dtype(float) if dtype is None else dtype)
    except TypeError:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}") from None
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype must be floating, got {dtype}")
    _check_precision("dtype", dtype)
    if jax.dtypes.canonicalize_dtype(dtype) != dtype:
        raise ValueError(f"dtype {dtype} needs jax.config.update('jax_enable_x64', True) first")
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
        state: (..., hidden), rows of states, none or many.

    Returns:
        (..., hidden), per unit of time; NaN for a traced model that is not finite.

    Raises:
        ValueError: if the activation's name is not known, shapes do not fit, or concrete values are not finite.
        TypeError: if `model` is none, or an array is not floating or not of the model's dtype.

    Example:
        >>> model = init(jax.random.key(0), 1, 3)
        >>> drift(model, jnp.zeros(3)).tolist()
        [0.0, 0.0, 0.0]

    Source:
        Lim (2021), equation 1.
    """
    hidden, dtype = check_form(model)
    rank = max(getattr(state, "ndim", 1), 1)
    axes = "(..., hidden), rows of states"
    state = checks.array("state", state, axes=axes, shape=(*(None,) * (rank - 1), hidden), dtype=dtype)
    checks.finite("state", state)
    return jnp.where(is_finite(model), drift_of(model, state), jnp.nan)


def drift_of(model: SRNN, state: Array) -> Array:
    """`drift`, once model and state have been checked."""
    act = activation_of(model.activation)
    return act(state @ model.recurrent_kernel + model.bias) - _times(state, model.decay)


def is_finite(model: SRNN) -> Array:
    """Whether all numbers of a model are finite: of one that is traced, a saturating activation would not show it."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(model)]).all()


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


class _Probe(NamedTuple):
    """What a function of one number looks like on a grid, or along lines.

    Attributes:
        jump: where its derivative of the probed order jumps, or None.
        is_affine: whether its slope is the same everywhere.
    """

    jump: float | None
    is_affine: bool


_BISECTIONS = 26  # of the widest cell, 24, down to 4e-7
_near = np.linspace(-8.0005, 8.0005, 16_003)  # spacing 1e-3; kinks at whole numbers fall between two points
_far = np.geomspace(8.001, 1e3, 200)
_ACTIVATION_GRID = np.concatenate([-_far[::-1], _near, _far])
_LINE_GRID = np.linspace(-8.0005, 8.0005, 515)
_LINES = 3  # random ones, on which a readout is looked at


def _probe(act: Callable[[Array], Array], order: int, grid: np.ndarray, dtype: Any) -> _Probe | None:
    """Whether derivative `order` of a function, which may have many outputs, jumps; None where it is traced.

    A smooth derivative changes from one point to the next by its own slope, up to what shrinks with the distance. Where
    something is left, the cell is halved, and the worse half taken, until only a jump can be left.
    """
    for _ in range(order):
        act = _slope(act)

    @jax.jit
    @jax.vmap
    def derivatives(p: Array) -> tuple[Array, Array]:
        return jax.jvp(act, (p,), (jnp.ones_like(p),))

    def at(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = (np.asarray(x, np.float64).reshape(len(points), -1) for x in derivatives(points))
        return value, slope

    with jax.ensure_compile_time_eval(), np.errstate(all="ignore"):
        grid = np.asarray(grid, dtype)
        if not checks.is_concrete(derivatives(jnp.asarray(grid))):
            return None
        value, slope = at(grid)
        size = min(1.0, float(np.nanmax(np.abs(np.where(np.isfinite(value), value, 0)))))

        near = np.where(np.isfinite(value), np.abs(value), 0)[np.abs(grid) < _near[-1] + 1]
        peak = near.max(axis=0)  # sums of many large terms are rounded as the terms are

        def excess(x: np.ndarray, f: np.ndarray, g: np.ndarray) -> np.ndarray:
            """What is left of the change between the ends of each cell, (2, cell, output), over what may be left."""
            change = np.diff(f, axis=0)[0] - np.diff(x, axis=0)[0][:, None] * g.mean(axis=0)
            # rounding: of the values, and of the argument at which they are taken
            argument = (1 + np.abs(x).max(axis=0))[:, None]
            allowed = 1e-3 * size + 3e-6 * peak + 1e-5 * np.abs(f).sum(axis=0) + 4e-7 * argument * np.abs(g).sum(axis=0)
            ratio = np.abs(change) / allowed
            # NaN is no pass, but where the values themselves overflow or are not defined
            ratio = np.where(np.isnan(ratio), np.where(change == 0, 0, np.inf), ratio)
            return np.where(np.isfinite(f).all(axis=0), ratio, 0).max(axis=1)

        x = np.stack([grid[:-1], grid[1:]])
        f, g = np.stack([value[:-1], value[1:]]), np.stack([slope[:-1], slope[1:]])
        left = excess(x, f, g)
        for _ in range(_BISECTIONS if (left > 1).any() else 0):
            middle = (0.5 * x.sum(axis=0)).astype(dtype)
            value, now = at(middle)
            halves = []
            for side in (0, 1):
                ends = [x[side], middle], [f[side], value], [g[side], now]
                halves.append([np.stack(pair[:: 1 - 2 * side]) for pair in ends])
            first, second = (excess(*half) for half in halves)
            later = second > first
            x, f, g = (np.where(later.reshape(1, -1, *(1,) * (a.ndim - 2)), b, a) for a, b in zip(*halves, strict=True))
            left = np.maximum(first, second)
        worst = int(left.argmax())
        return _Probe(float(x[:, worst].mean()) if left[worst] > 1 else None, bool(np.ptp(slope) == 0))


def _slope(act: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return lambda p: jax.jvp(act, (p,), (jnp.ones_like(p),))[1]


@functools.lru_cache(maxsize=128)
def _activation_probe(act: Callable[[Array], Array], order: int) -> _Probe:
    return _probe(act, order, _ACTIVATION_GRID, np.float32) or _Probe(None, False)


@functools.lru_cache(maxsize=128)
def _readout_probe(readout: Callable[[Array], Array], order: int, hidden: int, dtype: Any) -> _Probe | None:
    rng = np.random.default_rng(0)
    through, along = rng.normal(size=(2, _LINES, hidden)).astype(dtype)

    def on_lines(s: Array) -> Array:
        return jax.vmap(readout)(through + s * along)

    return _probe(on_lines, order, _LINE_GRID, dtype)


def _is_affine(model: SRNN) -> bool:
    return _activation_probe(activation_of(model.activation), 0).is_affine


_KINDS = ("jump", "kink", "jump in its second derivative")


def _kind(order: int) -> str:
    return _KINDS[order] if order < len(_KINDS) else f"jump in its derivative of order {order}"


def require_smooth(model: SRNN, readout: Callable[[Array], Array], order: int, purpose: str) -> None:
    """Refuse an activation or a readout of which a derivative below `order` jumps.

    The derivative of a jump is zero almost everywhere: along paths nothing is seen of what it does to the mean.
    """
    for below in range(order):
        jump = _activation_probe(activation_of(model.activation), below).jump
        if jump is not None:
            raise ValueError(
                f"activation {_name(model)} has a {_kind(below)} near {jump:.3g}, which derivatives along paths miss: "
                f"{purpose} would be wrong, not just noisy; use a smooth activation (tanh, softplus, gelu), or "
                "srnn.response_kernel(..., method='malliavin')"
            )
    for below in range(order):
        probe = _readout_probe(readout, below, model.recurrent_kernel.shape[0], np.dtype(model.recurrent_kernel.dtype))
        if probe is not None and probe.jump is not None:
            raise ValueError(
                f"readout has a {_kind(below)}, which derivatives along paths miss: {purpose} would be wrong, not just "
                "noisy; use srnn.response_kernel(..., method='malliavin'), or a smooth readout"
            )


def _name(model: SRNN) -> str:
    return model.activation if isinstance(model.activation, str) else getattr(model.activation, "__name__", "given")


def check_form(model: SRNN) -> tuple[int, Any]:
    """A model whose shapes fit together, of one floating dtype and finite: its width and that dtype."""
    if not isinstance(model, SRNN):
        raise TypeError(f"model must be an srnn.SRNN, got {type(model).__name__}; srnn.init makes one")
    activation_of(model.activation)
    recurrent = checks.array(
        "model.recurrent_kernel", model.recurrent_kernel, axes="(hidden, hidden)", shape=(None, None)
    )
    hidden, dtype = recurrent.shape[1], recurrent.dtype
    _check_precision("model.recurrent_kernel", dtype)
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
    return hidden, dtype


def check_model(model: SRNN) -> None:
    """A model whose shapes fit together, of one floating dtype, finite and stable."""
    check_form(model)
    if not checks.is_concrete(model.decay, model.recurrent_kernel, model.bias):
        return
    rates = np.linalg.eigvals(_dense(model.decay))
    if rates.real.min() <= 0:
        raise ValueError(
            f"model.decay must be positive stable (all eigenvalues with positive real part), got one at "
            f"{rates[rates.real.argmin()]:.4g}"
        )
    if _is_affine(model):
        rates = np.linalg.eigvals(_linear_drifts(model)[-1])
        if rates.real.max() >= 0:
            raise ValueError(
                f"model: with the affine activation {_name(model)} the drift −decay + recurrent_kernel must have only "
                f"eigenvalues of negative real part, got one at {rates[rates.real.argmax()]:.4g}; scale "
                "recurrent_kernel down"
            )


def _check_precision(name: str, dtype: Any) -> None:
    """Step indices pass through the solver in the model's dtype: half precision would round them."""
    if dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{name} must be float32 or float64, got {dtype}, in which step numbers are not exact; convert the model"
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

    Looked at are the drift where the activation is flat (if it can be: not where it is affine), and at zero state;
    there only at directions that decay.
    """
    if not checks.is_concrete(model.decay, model.recurrent_kernel, model.bias):
        return
    flat, at_zero = (np.linalg.eigvals(drift) for drift in _linear_drifts(model))
    rates = at_zero if _is_affine(model) else np.concatenate([flat, at_zero])
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
