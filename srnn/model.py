"""Stochastic systems in continuous time: the stochastic RNN, and any drift with additive noise.

For a state h of rows, an input u and Brownian noise B, with kernels (in, out), an `SRNN` is

    dh = (−h @ decay + act(h @ recurrent_kernel + bias) + u @ input_kernel) dt + dB @ noise_kernel,

which is, transposed, the paper's dh = (−Γh + a(Wh + b) + Cu) dt + σ dB; a `System` is

    dh = (drift(params, h, u) + u @ input_kernel) dt + dB @ noise_kernel.

The noise does not depend on the state, so Itô and Stratonovich integrals agree.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.interpreters import partial_eval
from jaxtyping import Array, Float

from maso_rnn import checks, functions

# A field holds an array, or whatever optax's masks and `jax.eval_shape` put in its place: no type is enforced.
Leaf: TypeAlias = Any
_NUMBER = (bool, int, float, np.generic, np.ndarray, jax.Array)


class Named(NamedTuple):
    """An activation that has a name.

    Attributes:
        function: itself.
        derivatives: the order up to which derivatives along a path are right: none below it jumps.
    """

    function: Callable[[Array], Array]
    derivatives: float = math.inf


_BY_NAME: dict[str, Named] = {
    "tanh": Named(jnp.tanh),
    "relu": Named(jax.nn.relu, 1),
    "leaky_relu": Named(jax.nn.leaky_relu, 1),
    "sigmoid": Named(jax.nn.sigmoid),
    "softplus": Named(jax.nn.softplus),
    "gelu": Named(jax.nn.gelu),
    "silu": Named(jax.nn.silu),
    "elu": Named(jax.nn.elu, 2),
    "hard_tanh": Named(jax.nn.hard_tanh, 1),
    "abs": Named(jnp.abs, 1),
    "sin": Named(jnp.sin),
    "identity": Named(lambda p: p),
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


@struct.dataclass
class System:
    """Any system with additive noise: a double well, a rate network with its input inside, a trained network.

    Attributes:
        params: a pytree of arrays, the first argument of the drift.
        drift: a function of (params, h, u) with h (hidden,) and u (input,) to (hidden,), per unit of time; static.
        noise_kernel: (noise, hidden), or a diagonal (hidden,); per square root of time. A function of the state is
            refused: all that is computed here rests on additive noise.
        input_kernel: (input, hidden), of an input that is added to the drift, or None where there is none. "malliavin",
            `truncation_bound` and `fluctuation_dissipation` need one, and a drift that leaves u alone.
        input_size: channels of the input; by default the rows of the input kernel, or 1 where there is none.

    Example:
        >>> well = System((), lambda params, h, u: h - h**3 + u, jnp.array([0.5]))
        >>> drift(well, jnp.array([[0.5], [1.0]])).tolist()
        [[0.375], [0.0]]
    """

    params: Any
    drift: Callable[..., Any] = struct.field(pytree_node=False)
    noise_kernel: Leaf
    input_kernel: Leaf | None = None
    input_size: int | None = struct.field(pytree_node=False, default=None)

    def __post_init__(self) -> None:
        """Noise that depends on the state is refused as soon as it is given."""
        if callable(self.noise_kernel):
            raise TypeError(
                "noise_kernel must be an array, got a function: noise that depends on the state is not taken"
            )


Model: TypeAlias = SRNN | System


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
    """A stochastic RNN with random kernels that forgets its past.

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
        dtype: float32 or float64; by default JAX's own default.

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
    key = checks.random_key("key", key)
    inputs, hidden = checks.size("input_size", input_size), checks.size("hidden_size", hidden_size)
    radius = checks.number("radius", radius, least=0)
    if radius >= 1:
        raise ValueError(f"radius must be below 1, in units of the decay rate, for a stable model, got {radius}")
    rate = 1 / checks.number("decay_time", decay_time, above=0)
    noise = checks.number("noise", noise, least=0)
    named(activation)
    dtype = _precise("dtype", checks.floating("dtype", dtype))
    recurrent_key, input_key, noise_key = jax.random.split(key, 3)
    if noise_size is None:
        noise_kernel = jnp.full(hidden, noise, dtype)
    else:
        shape = (checks.size("noise_size", noise_size), hidden)
        noise_kernel = noise * shape[0] ** -0.5 * jax.random.normal(noise_key, shape, dtype)
    return SRNN(
        decay=jnp.full(hidden, rate, dtype),
        recurrent_kernel=radius * rate * jax.random.orthogonal(recurrent_key, hidden, dtype=dtype),
        bias=jnp.zeros(hidden, dtype),
        input_kernel=inputs**-0.5 * jax.random.normal(input_key, (inputs, hidden), dtype),
        noise_kernel=noise_kernel,
        activation=activation,
    )


def from_rate_network(
    recurrent_kernel: Float[Array, "hidden hidden"],
    input_kernel: Float[Array, "input hidden"],
    bias: Float[Array, " hidden"],
    *,
    time_constant: float | Float[Array, "*hidden"] = 1.0,
    noise: float | Float[Array, "*noise_hidden"],
    activation: str | Callable[[Array], Array] = "tanh",
) -> System:
    """A rate network as neuroscientists write and train it, with its input inside the activation.

    Equation: τ dh = (−h + act(h @ recurrent_kernel + u @ input_kernel + bias)) dt + τ dB @ noise.

    Args:
        recurrent_kernel: (hidden, hidden), W as (from, to).
        input_kernel: (input, hidden), B as (from, to).
        bias: (hidden,).
        time_constant: τ, one for all units or (hidden,), in units of time.
        noise: (noise, hidden), a diagonal (hidden,), or one number for all units; per square root of time.
        activation: a name or an elementwise function, which may read arrays.

    Returns:
        The system; its params are (recurrent_kernel, input_kernel, bias, time_constant).

    Raises:
        ValueError: if shapes do not fit, or a concrete time constant is not positive.
        TypeError: if an array is not floating, or the activation is neither name nor function.

    Example:
        >>> system = from_rate_network(0.5 * jnp.eye(3), jnp.ones((1, 3)), jnp.zeros(3), time_constant=0.1, noise=0.2)
        >>> drift(system, jnp.zeros(3)).tolist()
        [0.0, 0.0, 0.0]

    Source:
        Sussillo, Barak (2013), equation 2.1, for the network.
    """
    sizes = {"hidden": np.shape(recurrent_kernel)[-1] if np.ndim(recurrent_kernel) else 0}
    recurrent = checks.array("recurrent_kernel", recurrent_kernel, "hidden hidden", sizes)
    arrays = [
        checks.array(name, value, axes, sizes, recurrent_kernel.dtype)
        for name, value, axes in (("input_kernel", input_kernel, "input hidden"), ("bias", bias, "hidden"))
    ]
    hidden = sizes["hidden"]
    one = (int, float, np.generic)
    tau, kernel = (
        jnp.asarray(value if isinstance(value, one) else checks.array(name, value, "*shape"), recurrent.dtype)
        for name, value in (("time_constant", time_constant), ("noise", noise))
    )
    if tau.shape not in ((), (hidden,)) or (checks.is_concrete(tau) and not bool((tau > 0).all())):
        raise ValueError(f"time_constant must be positive, one number or ({hidden},), got {time_constant}")
    if kernel.ndim:
        checks.array("noise", kernel, "hidden" if kernel.ndim == 1 else "noise hidden", sizes)
    kernel = jnp.broadcast_to(kernel, (hidden,)) if kernel.ndim == 0 else kernel
    act = named(activation).function

    def rate(params: Any, h: Array, u: Array) -> Array:
        weights, inputs, offset, tau = params
        return (act(h @ weights + u @ inputs + offset) - h) / tau

    return System((recurrent, *arrays, tau), rate, kernel, input_size=sizes["input"])


def drift(model: Model, state: Float[Array, "*path hidden"]) -> Float[Array, "*path hidden"]:
    """How fast the undriven, noiseless state moves.

    Equation: −h @ decay + act(h @ recurrent_kernel + bias), or drift(params, h, 0).

    Args:
        model: an `SRNN` or a `System`.
        state: (..., hidden), rows of states, none or many.

    Returns:
        (..., hidden), per unit of time; NaN for a traced model that is not finite.

    Raises:
        ValueError: if the activation's name is not known, shapes do not fit, or concrete values are not finite.
        TypeError: if `model` is not an `SRNN` or a `System`, or an array is not floating or not of the model's dtype.

    Example:
        >>> model = init(jax.random.key(0), 1, 3)
        >>> drift(model, jnp.zeros(3)).tolist()
        [0.0, 0.0, 0.0]

    Source:
        Lim (2021), equation 1.
    """
    model = read(model)
    state = _rows(model, state)
    checks.finite(model=model, state=state)
    return _undriven(model, state)


def _rows(model: Model, state: Any) -> Array:
    if getattr(state, "ndim", 1) == 1:
        return checks.array("state", state, "hidden", {"hidden": hidden_size(model)}, dtype_of(model))
    axes = " ".join(f"path{i}?" for i in range(np.ndim(state) - 1)) + " hidden"
    return checks.array("state", state, axes, {"hidden": hidden_size(model)}, dtype_of(model))


@jax.jit
def _undriven(model: Model, state: Array) -> Array:
    rows = state.reshape(-1, state.shape[-1])
    none = jnp.zeros(input_size(model), state.dtype)
    return jnp.where(is_finite(model), rate(model, rows, none).reshape(state.shape), jnp.nan)


def rate(model: Model, states: Float[Array, "path hidden"], row: Float[Array, "*path input"]) -> Array:
    """How fast states move under an input, one row of it for all of them or one for each."""
    if isinstance(model, System):
        moved = jax.vmap(model.drift, (None, 0, 0 if row.ndim == 2 else None))(model.params, states, row)
        return moved if model.input_kernel is None else moved + row @ model.input_kernel
    act = named(model.activation).function
    pushed = act(states @ model.recurrent_kernel + model.bias) - _times(states, model.decay)
    return pushed + row @ model.input_kernel


def put_noise(model: Model, increment: Float[Array, "path noise"]) -> Float[Array, "path hidden"]:
    """Noise increments as they reach the state."""
    return _times(increment, model.noise_kernel)


def _times(rows: Array, kernel: Array) -> Array:
    """`rows @ kernel`, where a kernel of rank 1 is a diagonal."""
    return rows * kernel if kernel.ndim == 1 else rows @ kernel


def noise_matrix(model: Model) -> Float[Array, "noise hidden"]:
    """The noise kernel as a matrix, also where it is stored as a diagonal."""
    return jnp.diag(model.noise_kernel) if model.noise_kernel.ndim == 1 else model.noise_kernel


def hidden_size(model: Model) -> int:
    """Numbers in a state."""
    return int(model.noise_kernel.shape[-1])


def noise_size(model: Model) -> int:
    """Channels of the noise."""
    return int(model.noise_kernel.shape[0])


def input_size(model: Model) -> int:
    """Channels of the input."""
    if model.input_kernel is not None:
        return int(model.input_kernel.shape[0])
    return getattr(model, "input_size", None) or 1


def dtype_of(model: Model) -> Any:
    """The dtype of the states."""
    return model.noise_kernel.dtype


def is_finite(model: Model) -> Array:
    """Whether all numbers of a model are finite: of one that is traced, a saturating activation would not show it."""
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(model)]).all()


def named(activation: str | Callable[[Array], Array]) -> Named:
    """An activation by its name, or a function with all derivatives that its caller vouches for."""
    if isinstance(activation, str):
        checks.choice("activation", activation, tuple(_BY_NAME))
        return _BY_NAME[activation]
    checks.function("activation", activation)
    return Named(activation)


def read(model: Any) -> Model:
    """A model whose shapes fit together, its function traced now: a static program beside what it reads."""
    if isinstance(model, System):
        return _read_system(model)
    checks.instance("model", model, SRNN, "srnn.init")
    dtype = _precise("model.recurrent_kernel", getattr(model.recurrent_kernel, "dtype", np.float32))
    sizes = {"hidden": np.shape(model.recurrent_kernel)[-1] if np.ndim(model.recurrent_kernel) else 0}
    axes = {
        "recurrent_kernel": "hidden hidden",
        "decay": "hidden" if np.ndim(model.decay) == 1 else "hidden hidden",
        "bias": "hidden",
        "input_kernel": "input hidden",
        "noise_kernel": "hidden" if np.ndim(model.noise_kernel) == 1 else "noise hidden",
    }
    arrays = {name: checks.array(f"model.{name}", getattr(model, name), axes[name], sizes, dtype) for name in axes}
    act = model.activation
    if not isinstance(act, str):
        act = functions.elementwise("activation", named(act).function, dtype)
    named(act)
    return model.replace(**arrays, activation=act)


def _read_system(model: System) -> System:
    sizes: dict[str, int] = {}
    if model.input_size is not None:
        sizes["input"] = checks.size("model.input_size", model.input_size)
    kernel = model.noise_kernel
    kernel = checks.array("model.noise_kernel", kernel, "hidden" if np.ndim(kernel) == 1 else "noise hidden", sizes)
    dtype, hidden = _precise("model.noise_kernel", kernel.dtype), sizes["hidden"]
    inputs = model.input_kernel
    if inputs is not None:
        inputs = checks.array("model.input_kernel", inputs, "input hidden", sizes, model.noise_kernel.dtype)
    channels = sizes.get("input", 1)
    leaves, structure = jax.tree.flatten(model.params)
    is_number = [isinstance(leaf, _NUMBER) for leaf in leaves]
    params = [checks.concretely(jnp.asarray, leaf) for leaf, one in zip(leaves, is_number, strict=True) if one]
    drift: Any = model.drift
    if isinstance(drift, _Program):  # of a system that has been read before
        return dataclasses.replace(
            model,
            params=jax.tree.unflatten(structure, params),
            noise_kernel=kernel,
            input_kernel=inputs,
            input_size=channels,
        )

    # what is no number, such as the functions of an equinox module, stays where it is
    def whole(params: list[Array], h: Array, u: Array) -> Any:
        own = iter(params)
        filled = [next(own) if one else leaf for leaf, one in zip(leaves, is_number, strict=True)]
        return drift(jax.tree.unflatten(structure, filled), h, u)

    checks.function("drift", drift)
    row, state = (jax.ShapeDtypeStruct((size,), dtype) for size in (channels, hidden))
    found = functions.traced("drift", whole, params, state, row)
    if not isinstance(found.out, jax.ShapeDtypeStruct) or (found.out.shape, found.out.dtype) != ((hidden,), dtype):
        raise ValueError(f"drift must return ({hidden},) of {dtype} for a state of that shape, got {found.out}")
    constants, structure = jax.tree.flatten(found)
    used = partial_eval.dce_jaxpr(jax.make_jaxpr(found)(params, state, row).jaxpr, [True])[1]
    program: Any = _Program(structure, used[-1])
    return System((constants, params), program, kernel, inputs, channels)


class _Program(NamedTuple):
    """A drift as a static value: what it does; the arrays that it reads come first in its params.

    Attributes:
        structure: of the traced function.
        reads_input: whether the input enters inside.
    """

    structure: Any
    reads_input: bool

    def __call__(self, params: Any, h: Array, u: Array) -> Array:
        constants, own = params
        return self.structure.unflatten(constants)(own, h, u)


def additive_input(model: Model) -> Float[Array, "input hidden"]:
    """The kernel of an input that is only added; refused where the input enters inside the drift."""
    inside = isinstance(model, System) and getattr(model.drift, "reads_input", True)
    if inside or model.input_kernel is None:
        raise ValueError(
            "model must add its input, by System(..., input_kernel=...), with a drift that does not read u: only then "
            "is a push a shift of the noise; srnn.response_kernel(method='adjoint') takes any system"
        )
    return model.input_kernel


def _precise(name: str, dtype: Any) -> Any:
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"{name} must be float32 or float64, got {dtype}; convert the model")
    return dtype
