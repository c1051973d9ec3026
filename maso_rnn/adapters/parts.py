"""What networks are made of, as pytrees whose weights are leaves, and what a chain of such parts is.

Every reader of another library turns its modules into these parts, in the order in which data pass through them. A
chain of parts is an `RNN`, where all its layers are `act(x W + h U + b)` with one activation, and a `Cell`, whatever it
is. Kernels are (in, out), gates side by side: reset, update, new of a GRU; input, forget, cell, output of an LSTM.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, PyTree

from maso_rnn import checks
from maso_rnn.activations import Activation, PiecewiseAffine, abs, hard_tanh, identity, leaky_relu, name, relu
from maso_rnn.cells import Cell
from maso_rnn.network import RNN, Layer, Leaf, Readout, check_network


def gelu_by_erf(p: Array) -> Array:
    """The GELU by the error function, as PyTorch and Keras have it; flax and JAX approximate it by tanh."""
    return jax.nn.gelu(p, approximate=False)


relu6 = PiecewiseAffine((0, 6), (0, 1, 0), (0, 0, 6))

FUNCTIONS: dict[str, Activation] = {
    "identity": identity,
    "relu": relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "leaky_relu": leaky_relu(),
    "hard_tanh": hard_tanh,
    "relu6": relu6,
    "abs": abs,
    "gelu": gelu_by_erf,
    "gelu_by_tanh": jax.nn.gelu,
    "silu": jax.nn.silu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "softplus": jax.nn.softplus,
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
}
"""Functions without weights, by the names that `order` takes."""

ACROSS_UNITS = (jax.nn.softmax, jax.nn.log_softmax)


class NoCell(ValueError):
    """A recurrent layer that is none of the parts here."""


@struct.dataclass
class Affine:
    """`x @ kernel + bias`: a linear layer, or batch norm at evaluation."""

    kernel: Leaf
    bias: Leaf = None

    def __call__(self, x: Array) -> Array:
        """Of one vector."""
        z = x @ self.kernel
        return z if self.bias is None else z + self.bias


@struct.dataclass
class Pointwise:
    """A function without weights."""

    function: Any = struct.field(pytree_node=False)

    def __call__(self, x: Array) -> Array:
        """Of one vector."""
        return self.function(x)


@struct.dataclass
class LayerNorm:
    """`(x − mean) / sqrt(variance + epsilon) * scale + bias` over the units; without the mean where not `centred`."""

    scale: Leaf
    bias: Leaf
    epsilon: float = struct.field(pytree_node=False)
    centred: bool = struct.field(pytree_node=False, default=True)

    def __call__(self, x: Array) -> Array:
        """Of one vector."""
        x = x - x.mean() if self.centred else x
        x = x * jax.lax.rsqrt(jnp.square(x).mean() + self.epsilon)
        x = x if self.scale is None else x * self.scale
        return x if self.bias is None else x + self.bias


@struct.dataclass
class Embedding:
    """`table[token]`, in front of everything else."""

    table: Leaf  # (token, input)


@struct.dataclass
class Simple:
    """`h' = act(x @ input_kernel + h @ recurrent_kernel + bias)`."""

    input_kernel: Leaf
    recurrent_kernel: Leaf
    bias: Leaf
    activation: Any = struct.field(pytree_node=False)
    initial: Leaf = None

    gates = "h"

    def step(self, h: Array, x: Array) -> Array:
        """The state after one step."""
        return self.activation(_driven(self, x) + h @ self.recurrent_kernel)

    def output(self, h: Array) -> Array:
        """What the layers above are given of a state."""
        return h


@struct.dataclass
class GRU:
    """`h' = (1 − z) n + z h` with gates r, z, and n = act(x W_n + b_n + r (h U_n + c_n)), or `+ (r h) U_n + c_n`."""

    input_kernel: Leaf  # (input, 3 hidden)
    recurrent_kernel: Leaf  # (hidden, 3 hidden)
    bias: Leaf
    recurrent_bias: Leaf = None
    gate: Any = struct.field(pytree_node=False, default=jax.nn.sigmoid)
    activation: Any = struct.field(pytree_node=False, default=jnp.tanh)
    resets_product: bool = struct.field(pytree_node=False, default=True)
    initial: Leaf = None

    gates = "rzn"

    def step(self, h: Array, x: Array) -> Array:
        """The state after one step."""
        from_x, kernels = jnp.split(_driven(self, x), 3), jnp.split(self.recurrent_kernel, 3, axis=1)
        none = jnp.zeros_like(h)
        biases = [none, none, none] if self.recurrent_bias is None else jnp.split(self.recurrent_bias, 3)
        r, z = (self.gate(from_x[g] + h @ kernels[g] + biases[g]) for g in (0, 1))
        recurrent = r * (h @ kernels[2] + biases[2]) if self.resets_product else (r * h) @ kernels[2] + biases[2]
        return (1 - z) * self.activation(from_x[2] + recurrent) + z * h

    def output(self, h: Array) -> Array:
        """What the layers above are given of a state."""
        return h


@struct.dataclass
class LSTM:
    """`c' = f c + i g`, `h' = o act(c')` with gates i, f, o, and g = act(…); the carry is (h, c)."""

    input_kernel: Leaf  # (input, 4 hidden)
    recurrent_kernel: Leaf  # (hidden, 4 hidden)
    bias: Leaf
    gate: Any = struct.field(pytree_node=False, default=jax.nn.sigmoid)
    activation: Any = struct.field(pytree_node=False, default=jnp.tanh)
    initial: Leaf = None

    gates = "ifgo"

    def step(self, carry: tuple[Array, Array], x: Array) -> tuple[Array, Array]:
        """The carry after one step."""
        h, memory = carry
        i, f, g, o = jnp.split(_driven(self, x) + h @ self.recurrent_kernel, 4)
        memory = self.gate(f) * memory + self.gate(i) * self.activation(g)
        return self.gate(o) * self.activation(memory), memory

    def output(self, carry: tuple[Array, Array]) -> Array:
        """What the layers above are given of a carry."""
        return carry[0]


Recurrent = Simple | GRU | LSTM
Part: TypeAlias = Any
"""One of the above: mypy does not know what flax's dataclasses can do."""
Named: TypeAlias = tuple[str, Part]
"""A part, and the name under which the network that it comes from knows it."""


def _driven(part: Part, x: Array) -> Array:
    p = x @ part.input_kernel
    return p if part.bias is None else p + part.bias


def weight(where: str, value: Any) -> Array:
    """A weight as JAX holds it: the same numbers, in the same dtype and in native byte order, or refused by name."""
    if isinstance(value, jax.Array):
        return value
    value = np.asarray(value)
    value = value.astype(value.dtype.newbyteorder("="))
    if not jnp.issubdtype(value.dtype, jnp.floating) or value.dtype.itemsize < 2:
        raise TypeError(f"{where} must be float16, bfloat16, float32 or float64, got {value.dtype}; convert it first")
    checks.floating(f"{where}:", value.dtype)
    if not np.isfinite(value.astype(np.float64)).all():
        raise ValueError(f"{where} must be finite, got NaN or infinity in it")
    return jnp.asarray(value)


def reader_of(name: str, module: Any, library: str, readers: dict[str, Any]) -> Any:
    """The reader of a module of that library."""
    kind = type(module)
    if kind.__name__ not in readers or not kind.__module__.startswith(library):
        raise TypeError(unknown(name, kind.__name__))
    return readers[kind.__name__]


def unknown(name: str, kind: str) -> str:
    """The refusal of a module that is not known."""
    return (
        f"{name} ({kind}) is not known, so what it does cannot be composed; leave it out by `order` if it is not part "
        "of the network, or write the whole as maso_rnn.Cell(params, step, readout, initial)"
    )


def kind_of(value: Any) -> str:
    """What was given in the place of a network."""
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__


def diagonal(scale: Any, shift: Any) -> Affine:
    """A scale and a shift of every unit: what batch norm is at evaluation."""
    return Affine(jnp.diag(jnp.asarray(scale)), None if shift is None else jnp.asarray(shift))


def batch_norm(scale_bias_mean_variance: Iterable[Any], epsilon: float) -> Affine:
    """Batch norm at evaluation, `(x − mean) / sqrt(variance + epsilon) * scale + bias`, as one affine map."""
    scale, bias, mean, variance = scale_bias_mean_variance
    by = np.asarray(1 / np.sqrt(np.asarray(variance, np.float64) + epsilon))
    by = by if scale is None else by * np.asarray(scale, np.float64)
    shift = -np.asarray(mean, np.float64) * by + (0 if bias is None else np.asarray(bias, np.float64))
    dtype = mean.dtype
    return diagonal(by.astype(dtype), shift.astype(dtype))


def activation_of(where: str, function: Any) -> Any:
    """The activation that a library's function is; one that is not known is taken as it is."""
    known: dict[Any, Activation] = {
        jax.nn.relu: relu,
        jnp.abs: abs,
        jax.nn.leaky_relu: leaky_relu(),
        jax.nn.hard_tanh: hard_tanh,
        jax.nn.relu6: relu6,
        jax.nn.tanh: jnp.tanh,
        jax.nn.identity: identity,
    }
    if isinstance(function, str):
        return FUNCTIONS[checks.choice(where, function, FUNCTIONS)]
    checks.function(where, function)
    holds_weights = any(leaf is not function for leaf in jax.tree.leaves(function))
    if holds_weights or hasattr(function, "variables") or hasattr(function, "named_parameters"):
        what = f"{where} ({type(function).__name__}) has weights of its own and is of another library"
        raise TypeError(f"{what}; give modules of one library, of flax linen as one bound module")
    try:
        return known.get(function, function)
    except TypeError:
        raise TypeError(f"{where} must be a function that can be hashed, got {type(function).__name__}") from None


def recurrent(parts: Sequence[Part]) -> Iterator[Part]:
    """Those that carry a state."""
    return (part for part in parts if isinstance(part, Recurrent))


def parts_of(rnn: RNN) -> list[Named]:
    """The parts of one of our own networks."""
    named: list[Named] = [] if rnn.embedding is None else [("embedding", Embedding(rnn.embedding))]
    for l, layer in enumerate(rnn.layers):
        if layer.recurrent_kernel is None:
            named.append((f"layer {l}", Affine(layer.input_kernel, layer.bias)))
            named.append((f"layer {l}'s activation", Pointwise(rnn.activation)))
        else:
            initial = None if rnn.initial is None else rnn.initial[l]
            part = Simple(layer.input_kernel, layer.recurrent_kernel, layer.bias, rnn.activation, initial=initial)
            named.append((f"layer {l}", part))
    return [*named, ("readout", Affine(rnn.readout.kernel, rnn.readout.bias))]


def require_chain(named: Sequence[Named]) -> None:
    """Parts that fit each other, of one dtype; the entries that do not are named."""
    dtypes: dict[str, str] = {}
    before, width = "", None
    for where, part in named:
        leaves = jax.tree.leaves(part)
        dtypes |= {str(leaf.dtype): where for leaf in leaves if str(leaf.dtype) not in dtypes}
        if isinstance(part, Pointwise) and width is not None:
            _require_of_units(where, part.function, width, next(iter(dtypes)))
        kernel = part.input_kernel if isinstance(part, Recurrent) else getattr(part, "kernel", None)
        takes = len(leaves[0]) if isinstance(part, LayerNorm) and leaves else None if kernel is None else len(kernel)
        if width is not None and takes is not None and takes != width:
            raise ValueError(
                f"{where} takes {takes} numbers, and {before} gives {width}: they do not follow each other"
            )
        if isinstance(part, Embedding):
            takes, width = None, part.table.shape[1]
        elif isinstance(part, Recurrent):
            width = len(part.recurrent_kernel)
        elif kernel is not None:
            width = kernel.shape[1]
        before = where if takes is not None or isinstance(part, Embedding) else before
    if len(dtypes) > 1:
        told = ", ".join(f"{dtype} in {where}" for dtype, where in dtypes.items())
        raise TypeError(f"network must be of one dtype, got {told}; convert it first, as model.float() does")


def _require_of_units(where: str, function: Any, width: int, dtype: str) -> None:
    """A function of a vector of units to another: it is given one step of one sequence."""
    try:
        made = jax.eval_shape(function, jax.ShapeDtypeStruct((width,), dtype)).shape
    except Exception as error:  # whatever a function of the caller's does with what is not for it
        made = f"{type(error).__name__}"
    if made != (width,):
        raise TypeError(
            f"{where} ({name(function)}) must make ({width},) units of ({width},), of one step at a time, got {made}; "
            "leave out what chooses a step: the last one is read anyway"
        )


def as_cell(named: Sequence[Named]) -> Cell:
    """The chain as a cell; its carry is one state for each recurrent part."""
    require_chain(named)
    embedding, named = _split_embedding(named)
    parts = tuple(part for _, part in named)
    initial = tuple(_initial(part) for part in recurrent(parts))
    params = tuple(dataclasses.replace(part, initial=None) if isinstance(part, Recurrent) else part for part in parts)
    return Cell(params, step, read, initial, embedding)


def _initial(part: Part) -> PyTree:
    if part.initial is not None:
        return part.initial
    zeros = jnp.zeros_like(part.recurrent_kernel, shape=part.recurrent_kernel.shape[:1])
    return (zeros, zeros) if isinstance(part, LSTM) else zeros


def step(parts: tuple[Part, ...], carry: tuple[PyTree, ...], x: Array) -> tuple[PyTree, ...]:
    """One step of a chain of parts, up to its last recurrent one."""
    after: list[PyTree] = []
    for part in parts:
        if len(after) == len(carry):
            break
        if isinstance(part, Recurrent):
            after.append(part.step(carry[len(after)], x))
            x = part.output(after[-1])
        else:
            x = part(x)
    return tuple(after)


def read(parts: tuple[Part, ...], carry: tuple[PyTree, ...]) -> Array:
    """What the parts behind the last recurrent one make of its state."""
    last = max(place for place, part in enumerate(parts) if isinstance(part, Recurrent))
    x = parts[last].output(carry[-1])
    for part in parts[last + 1 :]:
        x = part(x)
    return x


def as_rnn(named: Sequence[Named]) -> RNN:
    """The chain as an `RNN`: affine maps folded into what comes next, the rest refused by name."""
    require_chain(named)
    embedding, named = _split_embedding(named)
    layers: list[Layer] = []
    initial: list[Array | None] = []
    acts: dict[str, Activation] = {}
    pending: Affine | None = None  # what is to be folded
    for where, part in named:
        if isinstance(part, Affine):
            pending = part if pending is None else _folded(pending, part.kernel, part.bias)
        elif isinstance(part, Simple):
            part_affine = Affine(part.input_kernel, part.bias)
            affine = part_affine if pending is None else _folded(pending, part.input_kernel, part.bias)
            layers.append(Layer(affine.kernel, part.recurrent_kernel, affine.bias))
            initial.append(part.initial)
            acts[where], pending = part.activation, None
        elif isinstance(part, Pointwise) and part.function == identity:
            pass
        elif isinstance(part, Pointwise) and part.function not in ACROSS_UNITS:
            pending = pending or Affine(_eye(layers, where))
            layers.append(Layer(pending.kernel, None, pending.bias))
            initial.append(None)
            acts[where], pending = part.function, None
        else:
            is_known = isinstance(part, Pointwise)
            what = name(part.function) if is_known else type(part).__name__
            hint = "give the network without it, by `order`, or " if is_known else ""
            raise ValueError(f"{where} ({what}) is not piecewise affine; {hint}maso_rnn.cell takes it to first order")
    if len(set(acts.values())) > 1:
        told = ", ".join(f"{name(act)} in {where}" for where, act in acts.items())
        raise ValueError(f"network must have one activation in every layer, got {told}; maso_rnn.cell takes several")
    readout = pending or Affine(_eye(layers, "readout"))
    if all(state is None for state in initial):
        states = None
    else:
        states = tuple(
            jnp.zeros_like(layer.input_kernel, shape=layer.input_kernel.shape[1:]) if state is None else state
            for layer, state in zip(layers, initial, strict=True)
        )
    rnn = RNN(
        layers=tuple(layers),
        readout=Readout(readout.kernel, readout.bias),
        initial=states,
        activation=next(iter(acts.values())),
        embedding=embedding,
    )
    check_network(rnn)
    return rnn


def _split_embedding(named: Sequence[Named]) -> tuple[Any, Sequence[Named]]:
    """The table in front, where there is one, and the chain behind it, which must carry a state."""
    if not any(isinstance(part, Recurrent) for _, part in named):
        raise ValueError(f"network must have a recurrent layer, got only {[where for where, _ in named]}")
    for where, part in named[1:]:
        if isinstance(part, Embedding):
            raise ValueError(f"{where} is an embedding behind {named[0][0]}; it can only stand in front")
    if named and isinstance(named[0][1], Embedding):
        return named[0][1].table, named[1:]
    return None, named


def _folded(first: Affine, kernel: Array, bias: Array | None) -> Affine:
    """`first`, then another affine map, as one: multiplied in float64."""
    onto = np.asarray(kernel, np.float64)
    product = jnp.asarray(np.asarray(first.kernel, np.float64) @ onto, kernel.dtype)
    if first.bias is None:
        return Affine(product, bias)
    total = np.asarray(first.bias, np.float64) @ onto + (0 if bias is None else np.asarray(bias, np.float64))
    return Affine(product, jnp.asarray(total, kernel.dtype))


def _eye(layers: Sequence[Layer], where: str) -> Array:
    """The identity on what the last layer returns."""
    if not layers:
        raise ValueError(f"{where} acts on the input itself; apply it to the data instead")
    kernel = layers[-1].input_kernel
    return jnp.eye(kernel.shape[1], dtype=kernel.dtype)


def kernels_of(part: Part) -> dict[str, Array]:
    """The recurrent kernel of each gate, (hidden, hidden) each, by the gate's letter."""
    return dict(zip(part.gates, jnp.split(part.recurrent_kernel, len(part.gates), axis=1), strict=True))
