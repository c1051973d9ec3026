"""The recurrent network: a pytree of kernels, and its forward pass as a scan.

For layers l = 1…L and steps t = 1…T, with kernels (in, out) as everywhere in this library,

    p^l_t = h^{l-1}_t @ input_kernel + h^l_{t-1} @ recurrent_kernel + bias,    h^l_t = act(p^l_t),
    z_t = h^L_t @ readout.kernel + readout.bias,

where h^0_t = x_t. Functions take one sequence, (time, input); `jax.vmap` makes batches of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, PyTree, Shaped

from maso_rnn import checks, functions
from maso_rnn.activations import Activation, PiecewiseAffine, relu, require_pieces
from maso_rnn.activations import activation as activation_of
from maso_rnn.activations import name as activation_name

# A field holds an array, or whatever optax's masks and `jax.eval_shape` put in its place: no type is enforced.
Leaf: TypeAlias = Any

if TYPE_CHECKING:
    States: TypeAlias = tuple[Array, ...]
else:
    # one (hidden,) for each layer; the layers' widths may differ
    States = PyTree[Float[Array | np.ndarray, "?hidden"], "layers"]


Inputs: TypeAlias = Float[Array, "time input"] | Int[Array, " time"]
"""One sequence: of vectors, or of tokens where the network embeds them."""


@struct.dataclass
class Layer:
    """One layer: `act(x @ input_kernel + h @ recurrent_kernel + bias)`.

    Attributes:
        input_kernel: (input, hidden).
        recurrent_kernel: (hidden, hidden), or None for a layer without recurrence, as of an encoder or a head.
        bias: (hidden,), or None for no bias.
    """

    input_kernel: Leaf
    recurrent_kernel: Leaf = None
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
        embedding: (token, input), what each token stands for, or None. Sequences of integers are embedded by it, and
            whatever is said of inputs (slopes, distances, lines) is said of the embedded ones.
        read_once: whether the layers behind the last recurrent one are a head that is read once, after the last step,
            static. Such a head has codes and walls at that step alone: elsewhere its codes are 0. Outputs stay what
            they are; the one of a step is what the network would say if the sequence ended there.
    """

    layers: tuple[Layer, ...]
    readout: Readout
    initial: Leaf = None
    activation: Activation = struct.field(pytree_node=False, default=relu)
    embedding: Leaf = None
    read_once: bool = struct.field(pytree_node=False, default=False)

    @property
    def every_step(self) -> int:
        """How many layers, from the first on, are read at every step: all but a head that is read once."""
        recurrent = [l for l, layer in enumerate(self.layers) if layer.recurrent_kernel is not None]
        return 1 + max(recurrent, default=-1) if self.read_once else len(self.layers)

    def __repr__(self) -> str:
        kernels = [*(layer.input_kernel for layer in self.layers), self.readout.kernel]
        shapes = [getattr(kernel, "shape", "?") for kernel in kernels]
        widths = " → ".join([str(shape[-2] if len(shape) > 1 else "?") for shape in shapes] + [str(shapes[-1][-1])])
        leaves = [leaf for leaf in jax.tree.leaves(self) if hasattr(leaf, "size")]
        dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        act = activation_name(self.activation)
        once = ", head read once" if self.every_step < len(self.layers) else ""
        return f"RNN({widths}, {act}{once}, {dtypes}, {sum(leaf.size for leaf in leaves):,} parameters)"


class Trajectory(NamedTuple):
    """A forward pass, step by step.

    Attributes:
        outputs: (time, output), the readout of every step.
        states: for each layer (time, hidden), the state after each step.
        codes: for each layer (time, hidden), the piece of the activation that each unit used; None where it has none.
            Those of a head that is read once are 0 but at the last step.
    """

    outputs: Float[Array, "time output"]
    states: tuple[Float[Array, "time hidden"], ...]
    codes: tuple[Shaped[Array, "time hidden"], ...] | None


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
    dtype = checks.floating("dtype", dtype)

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
    sizes: dict[str, Any] = {}
    dtype = check_form(rnn, sizes)
    state = _first_state(rnn) if h0 is None else checks.layers("h0", h0, "hidden", sizes, dtype)
    checks.finite(rnn=rnn, h0=h0)
    return jax.tree.map(lambda h: checks.concretely(jnp.asarray, h), state)


def step(rnn: RNN, state: States, x: Float[Array, " input"]) -> tuple[States, States]:
    """One step of every layer: the state after it, and the pre-activations that it comes from."""
    states, pre_activations = [], []
    for layer, h in zip(rnn.layers, state, strict=True):
        p = x @ layer.input_kernel
        if layer.recurrent_kernel is not None:
            p = p + h @ layer.recurrent_kernel
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


def forward(
    rnn: RNN, xs: Inputs, h0: States | None = None, *, length: int | Int[Array, ""] | None = None
) -> Float[Array, "time output"]:
    """The output of every step; where only the last one is wanted, `last_output` is cheaper.

    Equation: h_t = act(x_t W + h_{t-1} U + b), z_t = h_t V + c, layer upon layer.

    Args:
        rnn: the network, of any activation.
        xs: (time, input), one sequence, in the network's dtype; or (time,), tokens, where the network embeds them.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        length: how many steps of `xs` count; the rest is padding, and its rows are zero. May be traced.

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
    return _forward(*checked_arguments(rnn, xs, h0, length, pieces=False))


@jax.jit  # so that a call outside of jit compiles once, not at every call
def _forward(rnn: RNN, xs: Array, state: States, length: Array | None) -> Array:
    def body(state: States, x: Array) -> tuple[States, Array]:
        state, _ = step(rnn, state, x)
        return state, state[-1]

    _, states = jax.lax.scan(body, state, xs)
    return until(length, read_out(rnn, states))


def with_head_read_once(rnn: RNN) -> RNN:
    """The network with the layers behind its last recurrent one, where there are any, as a head that is read once."""
    kernels = [layer.recurrent_kernel for layer in rnn.layers]
    has_head = kernels[-1] is None and any(kernel is not None for kernel in kernels)
    return dataclasses.replace(rnn, read_once=True) if has_head else rnn


def until(length: Array | None, rows: PyTree) -> PyTree:
    """Rows (time, …) with zeros, or False, from `length` on."""
    if length is None:
        return rows

    def cut(leaf: Array) -> Array:
        there = jnp.arange(len(leaf)).reshape(-1, *(1,) * (leaf.ndim - 1)) < length
        return jnp.where(there, leaf, jnp.zeros_like(leaf))

    return jax.tree.map(cut, rows)


def last_output(
    rnn: RNN, xs: Inputs, h0: States | None = None, *, length: int | Int[Array, ""] | None = None
) -> Float[Array, " output"]:
    """The output of the last step: the many-to-one network.

    Equation: that of `forward`, z_T alone. It reads no other state out and stores none for it, so that a training step
    costs about two thirds of one through `forward(...)[-1]`.

    Args:
        rnn: the network, of any activation.
        xs: (time, input), one sequence, in the network's dtype; or (time,), tokens, where the network embeds them.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        length: how many steps of `xs` count; the rest is padding. May be traced.

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
    return _last_output(*checked_arguments(rnn, xs, h0, length, pieces=False))


@jax.jit
def _last_output(rnn: RNN, xs: Array, state: States, length: Array | None) -> Array:
    def body(state: States, now: tuple[Array, Array]) -> tuple[States, None]:
        t, x = now
        after, _ = step(rnn, state, x)
        if length is not None:  # padding leaves the state as it is
            after = jax.tree.map(lambda new, old: jnp.where(t < length, new, old), after, state)
        return after, None

    state, _ = jax.lax.scan(body, state, (jnp.arange(len(xs)), xs))
    return read_out(rnn, state[-1])


def trajectory(
    rnn: RNN, xs: Inputs, h0: States | None = None, *, length: int | Int[Array, ""] | None = None
) -> Trajectory:
    """The outputs, states and codes of every step, all from one pass.

    Equation: code = number of the activation's breakpoints strictly below p_t.

    Args:
        rnn: the network, of any activation.
        xs: (time, input), one sequence, in the network's dtype; or (time,), tokens, where the network embeds them.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        length: how many steps of `xs` count; the rest is padding, and its rows are zero. May be traced.

    Returns:
        `Trajectory(outputs, states, codes)`; codes are None where the activation has no pieces.

    Raises:
        ValueError: if shapes do not fit, the sequence is empty, or concrete values are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> run = trajectory(rnn, jnp.ones((5, 1)))
        >>> run.codes[0].shape, run.codes[0].dtype
        ((5, 8), dtype('bool'))

    Source:
        Wang, Balestriero, Baraniuk (2019), section 3.
    """
    return run_through(*checked_arguments(rnn, xs, h0, length, pieces=False))


@jax.jit
def run_through(rnn: RNN, xs: Array, state: States, length: Array | None) -> Trajectory:
    """`trajectory`, once all has been checked."""
    act = rnn.activation

    def body(state: States, x: Array) -> tuple[States, tuple[States, Any]]:
        state, pre_activations = step(rnn, state, x)
        codes = tuple(act.code(p) for p in pre_activations) if isinstance(act, PiecewiseAffine) else None
        return state, (state, codes)

    _, (states, codes) = jax.lax.scan(body, state, xs)
    codes = None if codes is None else where_read(rnn, codes, (len(xs) if length is None else length) - 1)
    return until(length, Trajectory(read_out(rnn, states[-1]), states, codes))


def where_read(rnn: RNN, codes: tuple[Array, ...], last: Array | int) -> tuple[Array, ...]:
    """Codes (time, hidden) of each layer, with those of a head that is read once at step `last` alone."""
    there = jnp.arange(len(codes[0]))[:, None] == last
    return tuple(
        code if l < rnn.every_step else jnp.where(there, code, jnp.zeros_like(code)) for l, code in enumerate(codes)
    )


def checked_arguments(
    rnn: RNN, xs: Any, h0: Any = None, length: Any = None, *, pieces: bool = True
) -> tuple[RNN, Array, States, Array | None]:
    """Network, sequence, the state before it and its length, checked once, with one look at all values.

    Steps from `length` on are set to zero: whatever stood there, it changes no number. With a traced length that is
    out of range all is NaN.
    """
    rnn, (xs,), state, length = checked_sequences(rnn, h0, length, pieces=pieces, xs=xs)
    return rnn, xs, state, length


def checked_sequences(
    rnn: RNN, h0: Any, length: Any, *, pieces: bool = True, same_dtype: bool = True, **sequences: Any
) -> tuple[RNN, list[Array], States, Array | None]:
    """As `checked_arguments`, for several sequences of one shape, by name, in the network's dtype or any floating."""
    arrays, known, _ = sequences_in_form(rnn, h0, length, pieces=pieces, same_dtype=same_dtype, **sequences)
    arrays, state, length = padded(arrays, _first_state(rnn) if known is None else known, length)
    checks.finite(rnn=rnn, h0=h0, **dict(zip(sequences, arrays, strict=True)))
    return _with_static_activation(rnn), arrays, state, length


def sequences_in_form(
    rnn: RNN, h0: Any, length: Any, *, pieces: bool, same_dtype: bool, **sequences: Any
) -> tuple[list[Array], States | None, int]:
    """Sequences of one shape, the state before them (None for zeros) and how many steps they have, values unseen."""
    sizes: dict[str, Any] = {}
    dtype = check_form(rnn, sizes, pieces=pieces)
    asked = dtype if same_dtype else None
    rows = {name: embedded(name, xs, rnn.embedding, length) for name, xs in sequences.items()}
    arrays = [checks.array(name, xs, "time input", sizes, asked) for name, xs in rows.items()]
    state = rnn.initial if h0 is None else checks.layers("h0", h0, "hidden", sizes, dtype)
    return arrays, state, sizes["time"]


def padded(arrays: list[Array], state: PyTree, length: Any) -> tuple[list[Array], PyTree, Array | None]:
    """The sequences with zeros from `length` on; all NaN where a traced length is not inside them."""
    if length is None:
        return arrays, state, None
    length, inside = checks.index("length", length, 1, len(arrays[0]) + 1)
    there = jnp.arange(len(arrays[0]))[:, None] < length
    arrays = [checks.concretely(lambda there, xs: jnp.where(there, xs, 0), there, xs) for xs in arrays]
    if not checks.is_concrete(inside):
        arrays, state = jax.tree.map(lambda leaf: jnp.where(inside, leaf, jnp.nan), (arrays, state))
    return arrays, state, length


def embedded(name: str, xs: Any, embedding: Any, length: Any = None) -> Any:
    """A sequence of tokens (time,) as rows (time, input) of the table; any other sequence as it is.

    A token beyond the table is refused where it is concrete; a traced one gives a row of NaN. From `length` on tokens
    are padding, and may be any.
    """
    if not isinstance(xs, jax.Array | np.ndarray) or not jnp.issubdtype(xs.dtype, jnp.integer):
        return xs
    if embedding is None:
        raise TypeError(f"{name} must be floating, got {xs.dtype}: rnn embeds no tokens; jax.nn.one_hot makes numbers")
    count = len(embedding)
    if length is not None and xs.ndim == 1:
        length, _ = checks.index("length", length, 1, len(xs) + 1)
        xs = checks.concretely(lambda xs, length: jnp.where(jnp.arange(len(xs)) < length, xs, 0), xs, length)
    tokens = checks.integers(name, xs, "time", {}, 0, count)
    tokens = jnp.where(tokens < 0, count, tokens.astype(int))  # negative ones would count from the end
    return checks.concretely(lambda table, tokens: jnp.take(table, tokens, 0, mode="fill"), embedding, tokens)


def check_network(rnn: Any) -> None:
    """A network whose shapes fit together, of one floating dtype, with finite numbers."""
    check_form(rnn)
    checks.finite(rnn=rnn)


def check_form(rnn: Any, sizes: dict[str, Any] | None = None, *, pieces: bool = False) -> Any:
    """A network whose shapes fit together, of one floating dtype, which is returned; its values are not looked at.

    To `sizes` are added the widths of what comes in, of every layer and of what goes out.
    """
    sizes = {} if sizes is None else sizes
    checks.instance("rnn", rnn, RNN, "maso_rnn.init")
    checks.instance("rnn.readout", rnn.readout, Readout, "maso_rnn.Readout")
    if not isinstance(rnn.layers, tuple) or not all(isinstance(layer, Layer) for layer in rnn.layers or [None]):
        raise ValueError(f"rnn.layers must be a tuple of at least one Layer, got {type(rnn.layers).__name__}")
    require_pieces(rnn.activation) if pieces else activation_of(rnn.activation)
    dtype = checks.array("rnn.readout.kernel", rnn.readout.kernel, "hidden output").dtype
    below, sizes["layer"] = "input", len(rnn.layers)
    for l, layer in enumerate(rnn.layers):
        axes = {"input_kernel": f"{below} hidden{l}", "recurrent_kernel": f"hidden{l} hidden{l} | None"}
        checks.fields(f"rnn.layers[{l}]", layer, sizes, dtype, **axes, bias=f"hidden{l} | None")
        below = f"hidden{l}"
    checks.fields("rnn.readout", rnn.readout, sizes, dtype, kernel=f"{below} output", bias="output | None")
    checks.fields("rnn", rnn, sizes, dtype, embedding="token input | None")
    if rnn.initial is not None:
        checks.layers("rnn.initial", rnn.initial, "hidden", sizes, dtype)
    if checks.flag("rnn.read_once", rnn.read_once) and not rnn.every_step:
        raise ValueError("rnn.read_once must be False for a network without a recurrent layer: it has no head")
    return dtype


def _first_state(rnn: RNN) -> Any:
    """The learned state, else zeros, of NumPy where they can be: to put them on a device costs as much as checks."""
    if rnn.initial is not None:
        return rnn.initial
    kernels = [layer.input_kernel for layer in rnn.layers]
    if checks.is_concrete(kernels):
        return tuple(np.zeros(kernel.shape[1:], kernel.dtype) for kernel in kernels)
    return tuple(jnp.zeros_like(kernel, shape=kernel.shape[1:]) for kernel in kernels)


def _with_static_activation(rnn: Any) -> RNN:
    """The network with an activation that programs can be kept by."""
    static = functions.elementwise("rnn.activation", rnn.activation, rnn.readout.kernel.dtype)
    return rnn if static is rnn.activation else rnn.replace(activation=static)
