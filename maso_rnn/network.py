"""The recurrent network: a pytree of kernels, and its forward pass as a scan.

For layers l = 1…L and steps t = 1…T, with kernels (in, out) as everywhere in this library,

    p^l_t = h^{l-1}_t @ input_kernel + h^l_{t-1} @ recurrent_kernel + bias,    h^l_t = act(p^l_t),
    z_t = h^L_t @ readout.kernel + readout.bias,

where h^0_t = x_t. Functions take one sequence, (time, input); `jax.vmap` makes batches of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, PyTree, Shaped

from maso_rnn import checks
from maso_rnn.activations import (
    Activation,
    relu,
    require_pieces,
)
from maso_rnn.activations import (
    activation as activation_of,
)

# A field holds an array, or whatever optax's masks and `jax.eval_shape` put in its place: no type is enforced.
Leaf: TypeAlias = Any

if TYPE_CHECKING:
    States: TypeAlias = tuple[Array, ...]
else:
    # one (hidden,) for each layer; the layers' widths may differ
    States = PyTree[Float[Array, "?hidden"], "layers"]


@struct.dataclass
class Layer:
    """One recurrent layer: `act(x @ input_kernel + h @ recurrent_kernel + bias)`.

    Attributes:
        input_kernel: (input, hidden).
        recurrent_kernel: (hidden, hidden).
        bias: (hidden,), or None for no bias.
    """

    input_kernel: Leaf
    recurrent_kernel: Leaf
    bias: Leaf = None


@struct.dataclass
class Readout:
    """The affine map from the last layer's state to the output: `h @ kernel + bias`.

    Attributes:
        kernel: (hidden, output).
        bias: (output,), or None for no bias.
    """

    kernel: Leaf
    bias: Leaf = None


@struct.dataclass
class RNN:
    """A stack of recurrent layers with a readout: a pytree that optax, jit and vmap take whole.

    Attributes:
        layers: the layers, first to last.
        readout: the readout from the last layer.
        initial: the learned initial state, one (hidden,) for each layer, or None for zeros.
        activation: the activation of every layer, static.
    """

    layers: tuple[Layer, ...]
    readout: Readout
    initial: Leaf = None
    activation: Activation = struct.field(pytree_node=False, default=relu)


class Trajectory(NamedTuple):
    """A forward pass, step by step.

    Attributes:
        outputs: (time, output), the readout of every step.
        states: for each layer (time, hidden), the state after each step.
        codes: for each layer (time, hidden), the piece of the activation that each unit used.
    """

    outputs: Float[Array, "time output"]
    states: tuple[Float[Array, "time hidden"], ...]
    codes: tuple[Shaped[Array, "time hidden"], ...]


def init(
    key: Array,
    input_size: int,
    hidden_sizes: Sequence[int],
    output_size: int,
    *,
    activation: str | Activation = "relu",
    input_init: jax.nn.initializers.Initializer = jax.nn.initializers.lecun_normal(),
    recurrent_init: jax.nn.initializers.Initializer = jax.nn.initializers.orthogonal(),
    bias_init: jax.nn.initializers.Initializer | None = jax.nn.initializers.zeros,
    readout_init: jax.nn.initializers.Initializer = jax.nn.initializers.lecun_normal(),
    dtype: Any = None,
) -> RNN:
    """A freshly drawn network.

    Args:
        key: a random key, as from `jax.random.key`, or of the old kind, as from `jax.random.PRNGKey`.
        input_size: channels of the input, at least 1.
        hidden_sizes: the width of each layer, first to last.
        output_size: width of the readout, at least 1.
        activation: a name (see `maso_rnn.activation`) or an object.
        input_init: initializer of each (input, hidden) kernel.
        recurrent_init: initializer of each (hidden, hidden) kernel.
        bias_init: initializer of the biases of layers and readout, or None for no biases at all.
        readout_init: initializer of the (hidden, output) kernel.
        dtype: a floating dtype; by default JAX's own default.

    Returns:
        The network, without a learned initial state (`rnn.replace(initial=...)` gives it one).

    Raises:
        ValueError: if a size is below 1, there is no layer, or the activation's name is not known.
        TypeError: if a size is not an integer, `key` no key, an initializer no function, or `dtype` is not floating.

    Example:
        >>> rnn = init(jax.random.key(0), 1, [8, 4], 3)
        >>> [layer.recurrent_kernel.shape for layer in rnn.layers]
        [(8, 8), (4, 4)]

    Source:
        Wang, Balestriero, Baraniuk (2019), equation 1, for the network.
    """
    input_size = checks.size("input_size", input_size)
    output_size = checks.size("output_size", output_size)
    if not isinstance(hidden_sizes, Sequence):
        raise TypeError(f"hidden_sizes must be one width for each layer, as [{hidden_sizes}], got {hidden_sizes!r}")
    widths = [checks.size(f"hidden_sizes[{l}]", width) for l, width in enumerate(hidden_sizes)]
    if not widths:
        raise ValueError("hidden_sizes must name at least one layer, got an empty sequence")
    key = checks.random_key("key", key)
    initializers = {"input_init": input_init, "recurrent_init": recurrent_init, "readout_init": readout_init}
    for name, initializer in (initializers | ({} if bias_init is None else {"bias_init": bias_init})).items():
        checks.function(name, initializer)
    dtype = _floating(dtype)

    def draw(initializer: jax.nn.initializers.Initializer, key: Array, *shape: int) -> Array:
        # in float32 at least: an orthogonal kernel cannot be had in bfloat16
        return initializer(key, shape, jnp.promote_types(dtype, jnp.float32)).astype(dtype)

    *layer_keys, readout_key = jax.random.split(key, len(widths) + 1)
    layers = []
    for layer_key, fan_in, width in zip(layer_keys, [input_size, *widths], widths, strict=False):
        input_key, recurrent_key, bias_key = jax.random.split(layer_key, 3)
        layers.append(
            Layer(
                input_kernel=draw(input_init, input_key, fan_in, width),
                recurrent_kernel=draw(recurrent_init, recurrent_key, width, width),
                bias=None if bias_init is None else draw(bias_init, bias_key, width),
            )
        )
    kernel_key, bias_key = jax.random.split(readout_key)
    readout = Readout(
        kernel=draw(readout_init, kernel_key, widths[-1], output_size),
        bias=None if bias_init is None else draw(bias_init, bias_key, output_size),
    )
    return RNN(layers=tuple(layers), readout=readout, activation=activation_of(activation))


def _floating(dtype: Any) -> Any:
    """The floating dtype asked for, by default JAX's own; one that JAX is not set to hold is refused."""
    default = jax.dtypes.canonicalize_dtype(float)
    if dtype is None:
        return default
    try:
        wanted = jnp.dtype(dtype)
    except TypeError:
        raise TypeError(f"dtype must be a floating dtype, got {dtype!r}") from None
    if not jnp.issubdtype(wanted, jnp.floating):
        raise TypeError(f"dtype must be floating, got {wanted}")
    if jax.dtypes.canonicalize_dtype(wanted) != wanted:
        raise ValueError(f"dtype {wanted} needs jax.config.update('jax_enable_x64', True) first")
    return wanted


def initial_state(rnn: RNN, h0: States | None = None) -> States:
    """The state before the first step: `h0` if given, else the learned one, else zeros.

    Args:
        rnn: the network.
        h0: one (hidden,) for each layer, as a tuple, or None.

    Returns:
        One (hidden,) for each layer, as a tuple.

    Raises:
        ValueError: if `h0` does not have one (hidden,) for each layer.
        TypeError: if its dtype is not the network's.

    Example:
        >>> [h.shape for h in initial_state(init(jax.random.key(0), 1, [8, 4], 3))]
        [(8,), (4,)]

    Source:
        Wang, Balestriero, Baraniuk (2019), equation 1.
    """
    check_network(rnn)
    return _state_before(rnn, h0)


def _state_before(rnn: RNN, h0: Any) -> States:
    if h0 is not None:
        return _checked_state(rnn, h0)
    if rnn.initial is not None:
        return rnn.initial
    kernels = [layer.recurrent_kernel for layer in rnn.layers]
    return tuple(jnp.zeros_like(kernel, shape=kernel.shape[:1]) for kernel in kernels)


def step(rnn: RNN, state: States, x: Float[Array, " input"]) -> tuple[States, States]:
    """One step of every layer: the state after it, and the pre-activations that it comes from."""
    states, pre_activations = [], []
    for layer, h in zip(rnn.layers, state, strict=True):
        p = x @ layer.input_kernel + h @ layer.recurrent_kernel
        if layer.bias is not None:
            p = p + layer.bias
        x = rnn.activation(p)
        states.append(x)
        pre_activations.append(p)
    return tuple(states), tuple(pre_activations)


def read_out(rnn: RNN, h: Float[Array, "*batch hidden"]) -> Float[Array, "*batch output"]:
    """The output that the readout makes of the last layer's state."""
    z = h @ rnn.readout.kernel
    return z if rnn.readout.bias is None else z + rnn.readout.bias


def forward(rnn: RNN, xs: Float[Array, "time input"], h0: States | None = None) -> Float[Array, "time output"]:
    """The output of every step; where only the last one is wanted, `last_output` is cheaper.

    Equation: h_t = act(x_t W + h_{t-1} U + b), z_t = h_t V + c, layer upon layer.

    Args:
        rnn: the network, of any activation.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.

    Returns:
        (time, output).

    Raises:
        ValueError: if shapes do not fit, the sequence is empty, or concrete values are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> forward(rnn, jnp.ones((5, 1))).shape
        (5, 3)

    Source:
        Wang, Balestriero, Baraniuk (2019), equations 1 and 2.
    """
    return _forward(rnn, *checked_arguments(rnn, xs, h0))


@jax.jit  # so that a call outside of jit compiles once, not at every call
def _forward(rnn: RNN, xs: Array, state: States) -> Array:
    def body(state: States, x: Array) -> tuple[States, Array]:
        state, _ = step(rnn, state, x)
        return state, state[-1]

    _, states = jax.lax.scan(body, state, xs)
    return read_out(rnn, states)


def last_output(rnn: RNN, xs: Float[Array, "time input"], h0: States | None = None) -> Float[Array, " output"]:
    """The output of the last step: the many-to-one network.

    Equation: that of `forward`, z_T alone. It reads no other state out and stores none for it, so that a training step
    costs about two thirds of one through `forward(...)[-1]`.

    Args:
        rnn: the network, of any activation.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.

    Returns:
        (output,).

    Raises:
        ValueError: if shapes do not fit, the sequence is empty, or concrete values are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> last_output(rnn, jnp.ones((5, 1))).shape
        (3,)

    Source:
        Wang, Balestriero, Baraniuk (2019), equations 1 and 2.
    """
    return _last_output(rnn, *checked_arguments(rnn, xs, h0))


@jax.jit
def _last_output(rnn: RNN, xs: Array, state: States) -> Array:
    state, _ = jax.lax.scan(lambda state, x: (step(rnn, state, x)[0], None), state, xs)
    return read_out(rnn, state[-1])


def trajectory(rnn: RNN, xs: Float[Array, "time input"], h0: States | None = None) -> Trajectory:
    """The outputs, states and codes of every step, all from one pass.

    Equation: code = number of the activation's breakpoints strictly below p_t.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.

    Returns:
        `Trajectory(outputs, states, codes)`.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, or concrete values
            are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> run = trajectory(rnn, jnp.ones((5, 1)))
        >>> run.codes[0].shape, run.codes[0].dtype
        ((5, 8), dtype('bool'))

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3.
    """
    xs, state = checked_arguments(rnn, xs, h0)
    require_pieces(rnn.activation)
    return _trajectory(rnn, xs, state)


@jax.jit
def _trajectory(rnn: RNN, xs: Array, state: States) -> Trajectory:
    act = require_pieces(rnn.activation)

    def body(state: States, x: Array) -> tuple[States, tuple[States, Any]]:
        state, pre_activations = step(rnn, state, x)
        return state, (state, tuple(act.code(p) for p in pre_activations))

    _, (states, codes) = jax.lax.scan(body, state, xs)
    return Trajectory(read_out(rnn, states[-1]), states, codes)


def checked_arguments(rnn: RNN, xs: Any, h0: Any) -> tuple[Array, States]:
    """The sequence and the state before it, once all three have been checked."""
    check_network(rnn)
    return _checked_sequence(rnn, xs), _state_before(rnn, h0)


def check_network(rnn: RNN) -> None:
    """A network whose shapes fit together, of one floating dtype, with finite numbers."""
    if not isinstance(rnn, RNN):
        raise TypeError(f"rnn must be a maso_rnn.RNN, got {type(rnn).__name__}; maso_rnn.init makes one")
    if not isinstance(rnn.layers, tuple) or not rnn.layers:
        raise ValueError("rnn.layers must be a tuple of at least one Layer")
    if not callable(rnn.activation):
        raise TypeError(f"rnn.activation must be an object, as maso_rnn.activation('relu'), got {rnn.activation!r}")
    activation_of(rnn.activation)
    if not isinstance(rnn.readout, Readout):
        raise TypeError(f"rnn.readout must be a maso_rnn.Readout, got {type(rnn.readout).__name__}")
    output_kernel = checks.array("rnn.readout.kernel", rnn.readout.kernel, rank=2, axes="(hidden, output)")
    dtype = output_kernel.dtype
    width: int | None = None  # of the layer below
    for l, layer in enumerate(rnn.layers):
        name = f"rnn.layers[{l}]"
        if not isinstance(layer, Layer):
            raise TypeError(f"{name} must be a maso_rnn.Layer, got {type(layer).__name__}")
        recurrent = checks.array(
            f"{name}.recurrent_kernel",
            layer.recurrent_kernel,
            rank=2,
            axes="(hidden, hidden)",
            dtype=dtype,
        )
        hidden = recurrent.shape[1]
        if recurrent.shape[0] != hidden:
            raise ValueError(f"{name}.recurrent_kernel must be square, (hidden, hidden), got {recurrent.shape}")
        kernel = checks.array(f"{name}.input_kernel", layer.input_kernel, rank=2, axes="(input, hidden)", dtype=dtype)
        if kernel.shape[1] != hidden or (width is not None and kernel.shape[0] != width):
            below = "input" if width is None else width
            raise ValueError(f"{name}.input_kernel must be ({below}, {hidden}), got {kernel.shape}")
        if not kernel.size:
            raise ValueError(f"{name} must have at least one input and one hidden unit, got {kernel.shape}")
        _check_bias(f"{name}.bias", layer.bias, hidden, dtype)
        width = hidden
    if output_kernel.shape[0] != width or not output_kernel.size:
        raise ValueError(f"rnn.readout.kernel must be ({width}, output), got {output_kernel.shape}")
    _check_bias("rnn.readout.bias", rnn.readout.bias, output_kernel.shape[1], dtype)
    if rnn.initial is not None:
        _checked_state(rnn, rnn.initial, name="rnn.initial")
    checks.finite("rnn", rnn)


def _check_bias(name: str, value: Any, width: int, dtype: Any) -> None:
    if value is None:
        return
    if checks.array(name, value, rank=1, axes=f"({width},)", dtype=dtype).shape != (width,):
        raise ValueError(f"{name} must be ({width},), got {value.shape}")


def _checked_state(rnn: RNN, h0: Any, *, name: str = "h0") -> States:
    """One (hidden,) for each layer of the network."""
    widths = [layer.recurrent_kernel.shape[0] for layer in rnn.layers]
    if not isinstance(h0, tuple):
        raise TypeError(f"{name} must be a tuple of one (hidden,) for each layer, got {type(h0).__name__}")
    if len(h0) != len(widths):
        raise ValueError(f"{name} must have one (hidden,) for each of {len(widths)} layers, got {len(h0)}")
    dtype = rnn.readout.kernel.dtype
    arrays = tuple(checks.array(f"{name}[{l}]", h, rank=1, axes="(hidden,)", dtype=dtype) for l, h in enumerate(h0))
    for l, (h, width) in enumerate(zip(arrays, widths, strict=True)):
        if h.shape != (width,):
            raise ValueError(f"{name}[{l}] must be ({width},), got {h.shape}")
    checks.finite(name, arrays)
    return arrays


def _checked_sequence(rnn: RNN, xs: Any, *, name: str = "xs") -> Array:
    """A non-empty sequence (time, input) that the network can read."""
    checked = checks.array(name, xs, rank=2, axes="(time, input)", dtype=rnn.readout.kernel.dtype)
    channels = rnn.layers[0].input_kernel.shape[0]
    if checked.shape[1] != channels:
        raise ValueError(f"{name} must be (time, {channels}), got {checked.shape}")
    if not checked.shape[0]:
        raise ValueError(f"{name} must have at least one step, got shape {checked.shape}")
    checks.finite(name, checked)
    return checked
