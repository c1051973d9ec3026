"""The reduction graph of a ReLU RNN: its weights as edges between units, with time taken out.

Sources are the inputs, a constant for the biases and one for the learned initial state; then come the hidden units of
each layer, joined to themselves by the recurrent kernel, and last the outputs. Each weight is one edge, and each hidden
unit has one *skeleton* edge in and one out, so that a path along the skeleton leads from an input to every unit and on
from it to an output.

`ReductionGraph` is a lens: it holds, as a `maso_rnn.RNN` of strings, which leaf of a pytree plays which part, and so
reads the weights out of any pytree (an RNN, a flax model, one masked by `optax.partition`) as one `maso_rnn.RNN` of
arrays, and puts one back. Everything else in this package is written on that one form.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from maso_rnn.activations import Activation, PiecewiseAffine
from maso_rnn.activations import activation as activation_of
from maso_rnn.network import RNN, Layer, Readout
from path_opt import checks

_LISTED = 12  # how many names or units a message or a summary lists before it says how many more there are


class Skeleton(NamedTuple):
    """One edge in and one edge out for every hidden unit.

    Attributes:
        incoming: for each layer and unit, the unit of the layer below (or the input) that its skeleton edge is from.
        outgoing: for each layer and unit, the unit of the layer above (or the output) that its skeleton edge goes to.
    """

    incoming: tuple[tuple[int, ...], ...]
    outgoing: tuple[tuple[int, ...], ...]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ReductionGraph:
    """Which leaf of a pytree is which part of an RNN, and where its skeleton is.

    Static and hashable: `jax.jit` takes it as an argument like any other. Made by `reduction_graph` or
    `reduction_graph_from_paths`; `print` shows a summary.

    Attributes:
        names: the network with the name of a leaf, its key path joined by "/", in place of each array.
        inputs: the number of inputs.
        widths: the number of hidden units of each layer.
        outputs: the number of outputs.
        skeleton: the skeleton edges.
    """

    names: RNN
    inputs: int
    widths: tuple[int, ...]
    outputs: int
    skeleton: Skeleton

    @property
    def units(self) -> int:
        """The number of hidden units, which is the dimension of the rescaling group."""
        return sum(self.widths)

    @property
    def edges(self) -> int:
        """The number of edges: every weight is one."""
        return sum(math.prod(shape) for shape in _shapes(self).values())

    @property
    def basis_paths(self) -> int:
        """The number of basis paths: edges less hidden units."""
        return self.edges - self.units

    def read(self, tree: PyTree, what: str = "params") -> RNN:
        """The weights in `tree` as one `RNN` of arrays.

        Args:
            tree: a pytree that has every leaf that the graph names, and no other; masked ones do not count.
            what: how messages call it.

        Returns:
            An RNN with the leaves of `tree`.

        Raises:
            ValueError: if a leaf is missing, not known or of another shape.
            TypeError: if a leaf is not a floating array, or their dtypes differ.

        Example:
            >>> import maso_rnn
            >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
            >>> reduction_graph({"rnn": rnn}).read({"rnn": rnn}).readout.kernel.shape
            (4, 2)
        """
        leaves = _named_leaves(tree)
        shapes = _shapes(self)
        unknown = [name for name in leaves if name not in shapes]
        if unknown:
            raise ValueError(
                f"{what} has a leaf that the graph does not know: {_list(unknown)}. Give it the graph's leaves alone, "
                'as optax.partition({"rnn": transform, ...}, labels) does, or make the graph of this tree'
            )
        missing = [name for name in shapes if name not in leaves]
        if missing:
            raise ValueError(
                f"{what} lacks a leaf that the graph names: {_list(missing)}; it has {_list(leaves) or 'none'}. Make "
                "the graph of the tree that the transform will see"
            )
        dtypes = {}
        for name, shape in shapes.items():
            leaf = leaves[name]
            checks.floating(f"{what}: leaf {name!r}", leaf)
            if leaf.shape != shape:
                raise ValueError(f"{what}: leaf {name!r} must be {shape}, as in the graph, got {leaf.shape}")
            dtypes[name] = leaf.dtype
        if len(set(dtypes.values())) > 1:
            raise TypeError(f"{what}: the leaves must be of one dtype, got {dtypes}; convert them to one")
        return jax.tree.map(leaves.__getitem__, self.names)

    def write(self, weights: RNN, tree: PyTree) -> PyTree:
        """`tree` with the arrays of `weights` in place of its own: the inverse of `read`."""
        names, structure = _names(tree)
        values = dict(zip(jax.tree.leaves(self.names), jax.tree.leaves(weights), strict=True))
        return structure.unflatten([values[name] for name in names])

    def __str__(self) -> str:
        parts = _shapes(self)
        width = max(map(len, parts))
        lines = [
            f"reduction graph: {self.inputs} inputs, {' + '.join(map(str, self.widths))} hidden units in "
            f"{len(self.widths)} layer{'s' if len(self.widths) > 1 else ''}, {self.outputs} outputs",
            f"  edges {self.edges}, basis paths {self.basis_paths} (edges less hidden units), frozen {self.units}",
            "  leaves:",
        ]
        roles = _roles(self.names)
        lines += [
            f"    {name:<{width}}  {'x'.join(map(str, shape)):>9}  {roles[name]}" for name, shape in parts.items()
        ]
        lines.append("  skeleton, unit: from the layer below -> to the layer above")
        for l, (sources, targets) in enumerate(zip(self.skeleton.incoming, self.skeleton.outgoing, strict=True)):
            shown = [f"{i}: {j}->{k}" for i, (j, k) in enumerate(zip(sources, targets, strict=True))]
            lines.append(f"    layer {l}  {_list(shown)}")
        return "\n".join(lines)


def reduction_graph(rnn: PyTree, *, skeleton: str = "largest") -> ReductionGraph:
    """The reduction graph of a network of this library, or of a pytree with exactly one in it.

    Args:
        rnn: a `maso_rnn.RNN`, or a pytree (of a whole model's parameters) that holds exactly one; the leaves' names
            then begin with its key path.
        skeleton: how the skeleton edges are chosen. `"largest"`, from the weights as they are now: into unit i of
            largest |w_ji| · B_j, out of it of largest |w_ik| · F_k, where B and F are the products along the skeleton
            so far, which no rescaling changes. `"modulo"`: from unit `i % width` of the layer below to unit
            `i % width` of the layer above, as the papers have it, whatever the numbers are.

    Returns:
        The graph: static, hashable.

    Raises:
        ValueError: if the activation is not positively homogeneous, shapes do not fit, there is not exactly one
            network, or the skeleton is to be the largest of weights that are not all finite.
        TypeError: if a leaf is not a floating array, or is traced where the skeleton is to be the largest.

    Example:
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [3], 2)
        >>> graph = reduction_graph(rnn)
        >>> graph.edges, graph.units, graph.basis_paths
        (23, 3, 20)

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019), the reduction graph; Meng et al. (2019), the skeleton method.
    """
    found = [
        (path, leaf)
        for path, leaf in jax.tree.leaves_with_path(rnn, is_leaf=lambda node: isinstance(node, RNN))
        if isinstance(leaf, RNN)
    ]
    if len(found) != 1:
        raise ValueError(
            f"rnn must be a maso_rnn.RNN, or a pytree with exactly one, got {len(found)} in {type(rnn).__name__}; "
            "for any other pytree name the leaves: path_opt.reduction_graph_from_paths(params, layers, readout, "
            'activation="relu")'
        )
    ((prefix, network),) = found
    _require_form(network)
    if not callable(network.activation):
        raise TypeError(f"rnn.activation must be an object, as maso_rnn.activation('relu'), got {network.activation!r}")
    names = jax.tree_util.tree_map_with_path(lambda path, _: _name((*prefix, *path)), network)
    return _graph(rnn, names, network.activation, skeleton, "rnn")


def reduction_graph_from_paths(
    params: PyTree,
    layers: Sequence[Layer],
    readout: Readout,
    *,
    activation: str | Activation,
    initial: Sequence[str | None] | None = None,
    tied: Collection[str] = (),
    skeleton: str = "largest",
) -> ReductionGraph:
    """The reduction graph of an RNN whose weights lie in any pytree, told by the names of the leaves.

    A name is the key path joined by "/": `jax.tree_util.keystr(path, simple=True, separator="/")`. Kernels are
    (in, out), as in flax.

    Args:
        params: the pytree; it may hold more than the graph names.
        layers: one `maso_rnn.Layer` for each layer, first to last, with names in place of arrays.
        readout: a `maso_rnn.Readout` with names in place of arrays.
        activation: the activation of every layer, a name or the function: the tree cannot show it.
        initial: for each layer the name of its learned initial state, or None.
        tied: the names of leaves (or the name of one) whose array is used elsewhere too, as a readout shared with an
            embedding: the tree cannot show it.
        skeleton: as for `reduction_graph`.

    Returns:
        The graph: static, hashable.

    Raises:
        ValueError: if the activation is not positively homogeneous, the tree lacks a leaf or has two of one name,
            shapes do not fit, a leaf is tied, or the skeleton is to be the largest of weights that are not all finite.
        TypeError: if a name is not a string, a leaf is not a floating array, or is traced where the skeleton is to be
            the largest.

    Example:
        >>> import maso_rnn
        >>> from flax import linen as nn
        >>> params = {
        ...     "cell": {"i": {"kernel": jnp.ones((1, 3)), "bias": jnp.ones(3)}, "h": {"kernel": jnp.eye(3)}},
        ...     "head": {"kernel": jnp.ones((3, 2))},
        ... }
        >>> layer = maso_rnn.Layer("cell/i/kernel", "cell/h/kernel", "cell/i/bias")
        >>> readout = maso_rnn.Readout("head/kernel")
        >>> reduction_graph_from_paths(params, [layer], readout, activation=nn.relu).basis_paths
        18

    Source:
        Wang, Meng, Chen, Liu, Ma, Liu (2019), the reduction graph; Meng et al. (2019), the skeleton method.
    """
    for name, value in (("layers", layers), ("initial", () if initial is None else initial)):
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} must be a list or tuple, one entry for each layer, got {type(value).__name__}")
    for l, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            raise TypeError(
                f"layers[{l}] must be a maso_rnn.Layer of names, got {type(layer).__name__}; call maso_rnn.Layer("
                '"cell/i/kernel", "cell/h/kernel", "cell/i/bias")'
            )
    if not isinstance(readout, Readout):
        raise TypeError(
            f"readout must be a maso_rnn.Readout of names, got {type(readout).__name__}; call "
            'maso_rnn.Readout("head/kernel", "head/bias")'
        )
    names = RNN(tuple(layers), readout, None if initial is None else tuple(initial))
    for role in jax.tree.leaves(names):
        if not isinstance(role, str):
            raise TypeError(f"layers, readout and initial must hold names of leaves, as strings, got {role!r}")
    if any(kernel is None for layer in layers for kernel in (layer.input_kernel, layer.recurrent_kernel)):
        raise ValueError("layers must name an input_kernel and a recurrent_kernel each; only a bias may be None")
    if readout.kernel is None:
        raise ValueError("readout must name a kernel; only its bias may be None")
    if not isinstance(tied, str | list | tuple | set | frozenset):
        raise TypeError(f"tied must be names of leaves, got {type(tied).__name__}")
    tied = (tied,) if isinstance(tied, str) else tuple(tied)
    leaves = _named_leaves(params)
    unknown = [name for name in tied if name not in leaves]
    if unknown:
        raise ValueError(f"tied names a leaf that params lacks: {_list(unknown)}; it has {_list(leaves) or 'none'}")
    shared = [name for name, count in Counter(jax.tree.leaves(names)).items() if count > 1 or name in tied]
    if shared:
        raise ValueError(
            f"leaf {_list(shared)} is tied: used in more than one place, so that it cannot be rescaled on its own. "
            "Untie it (give the other place its own copy), or train it in weight space"
        )
    return _graph(params, names, activation, skeleton, "params")


def _require_form(rnn: RNN) -> None:
    """A tuple of layers and a readout, each field of which is one leaf, or None where there need not be one."""
    if not isinstance(rnn.layers, tuple) or not all(isinstance(layer, Layer) for layer in rnn.layers):
        raise TypeError("rnn.layers must be a tuple of maso_rnn.Layer, as maso_rnn.init makes it")
    if not isinstance(rnn.readout, Readout):
        raise TypeError(f"rnn.readout must be a maso_rnn.Readout, got {type(rnn.readout).__name__}")
    parts = {
        f"rnn.layers[{l}].{name}": leaf for l, layer in enumerate(rnn.layers) for name, leaf in vars(layer).items()
    }
    parts |= {f"rnn.readout.{name}": leaf for name, leaf in vars(rnn.readout).items()}
    parts |= {f"rnn.initial[{l}]": leaf for l, leaf in enumerate(rnn.initial or ())}
    for name, leaf in parts.items():
        if leaf is not None or name.endswith("kernel"):
            checks.floating(name, leaf)


def _graph(params: PyTree, names: RNN, activation: str | Activation, skeleton: str, what: str) -> ReductionGraph:
    activation = activation_of(activation)
    _require_homogeneous(activation)
    if not names.layers:
        raise ValueError(f"{what}: layers must hold at least one layer, got none")
    if names.initial is not None and len(names.initial) != len(names.layers):
        raise ValueError(
            f"{what}: initial must have one leaf for each of {len(names.layers)} layers, got {names.initial}"
        )
    leaves = _named_leaves(params)
    missing = [name for name in jax.tree.leaves(names) if name not in leaves]
    if missing:
        raise ValueError(f"{what} lacks the leaf {_list(missing)}; it has {_list(leaves) or 'none'}")

    def sizes(name: str) -> tuple[int, int]:
        checks.floating(f"{what}: leaf {name!r}", leaves[name])
        if leaves[name].ndim != 2 or not leaves[name].size:
            raise ValueError(f"{what}: leaf {name!r} must be a kernel (in, out), got shape {leaves[name].shape}")
        return leaves[name].shape

    inputs = sizes(names.layers[0].input_kernel)[0]
    widths = tuple(sizes(layer.recurrent_kernel)[0] for layer in names.layers)
    outputs = sizes(names.readout.kernel)[1]
    names = dataclasses.replace(names, activation=activation)
    modulo = Skeleton(
        tuple(tuple(i % below for i in range(width)) for below, width in zip((inputs, *widths), widths, strict=False)),
        tuple(
            tuple(i % above for i in range(width)) for width, above in zip(widths, (*widths, outputs)[1:], strict=True)
        ),
    )
    graph = ReductionGraph(names, inputs, widths, outputs, modulo)
    named = set(jax.tree.leaves(names))
    weights = graph.read({name: leaf for name, leaf in leaves.items() if name in named}, what)
    if skeleton == "modulo":
        return graph
    if skeleton != "largest":
        raise ValueError(f'skeleton must be "largest" or "modulo", got {skeleton!r}')
    if not checks.is_concrete(weights):
        raise TypeError(
            f'{what} is traced, and skeleton="largest" looks at the numbers: make the graph outside of jax.jit, or '
            'call with skeleton="modulo"'
        )
    checks.finite(what, weights)
    return dataclasses.replace(graph, skeleton=_largest(weights))


def _largest(weights: RNN) -> Skeleton:
    """The edges of largest magnitude times skeleton product; of equal ones (up to rounding) the first."""

    def first_largest(magnitudes: np.ndarray) -> np.ndarray:
        # 1e-6: ties, as of constant kernels, must not be broken by the rounding of a rescaling
        return np.argmax(magnitudes >= magnitudes.max(axis=0) * (1 - 1e-6), axis=0)

    kernels = [np.abs(np.asarray(layer.input_kernel, np.float64)) for layer in weights.layers]
    kernels.append(np.abs(np.asarray(weights.readout.kernel, np.float64)))
    incoming, outgoing = [], []
    product = np.ones(kernels[0].shape[0])
    for kernel in kernels[:-1]:
        onto = product[:, None] * kernel
        chosen = first_largest(onto)
        product = np.take_along_axis(onto, chosen[None], axis=0)[0]
        incoming.append(tuple(chosen.tolist()))
    product = np.ones(kernels[-1].shape[1])
    for kernel in kernels[:0:-1]:
        onto = (kernel * product).T
        chosen = first_largest(onto)
        product = np.take_along_axis(onto, chosen[None], axis=0)[0]
        outgoing.append(tuple(chosen.tolist()))
    return Skeleton(tuple(incoming), tuple(outgoing[::-1]))


def _require_homogeneous(activation: Activation) -> None:
    if isinstance(activation, PiecewiseAffine):
        homogeneous = activation.is_positively_homogeneous
    else:
        # such a function is |p| times its value at the sign of p; the numbers are needed within jax.jit as well
        with jax.ensure_compile_time_eval():
            probes = jnp.exp2(jnp.arange(-8.0, 9.0))
            homogeneous = all(
                bool(jnp.allclose(activation(side * probes), probes * activation(jnp.asarray(side)), rtol=1e-5, atol=0))
                for side in (-1.0, 1.0)
            )
    if not homogeneous:
        name = getattr(activation, "__name__", repr(activation))
        raise ValueError(
            f"activation {name} is not positively homogeneous (act(c · p) = c · act(p) for c > 0), so that rescaling "
            'changes the function; use "relu", "abs", "identity" or maso_rnn.leaky_relu(slope)'
        )


def at_sources(values: Sequence[Array], weights: RNN) -> RNN:
    """For every edge the value of the unit that it leaves, broadcastable to the edge's leaf.

    Inputs, and the constants behind biases and initial states, have the value 1.
    """
    one = jnp.ones((), weights.readout.kernel.dtype)
    columns = [value[:, None] for value in values]
    layers = tuple(
        Layer(below, own, None if layer.bias is None else one)
        for below, own, layer in zip([one, *columns], columns, weights.layers, strict=False)
    )
    readout = Readout(columns[-1], None if weights.readout.bias is None else one)
    initial = weights.initial and tuple(None if h is None else one for h in weights.initial)
    return dataclasses.replace(weights, layers=layers, readout=readout, initial=initial)


def at_targets(values: Sequence[Array], weights: RNN) -> RNN:
    """For every edge the value of the unit that it enters, broadcastable to the edge's leaf; outputs have 1."""
    one = jnp.ones((), weights.readout.kernel.dtype)
    layers = tuple(
        Layer(own, own, None if layer.bias is None else own) for own, layer in zip(values, weights.layers, strict=True)
    )
    readout = Readout(one, None if weights.readout.bias is None else one)
    initial = weights.initial and tuple(
        None if h is None else own for h, own in zip(weights.initial, values, strict=True)
    )
    return dataclasses.replace(weights, layers=layers, readout=readout, initial=initial)


def read_finite(params: PyTree, graph: Any, what: str = "params") -> RNN:
    """The weights in a pytree by its graph, finite where they are concrete."""
    require_graph(graph)
    weights = graph.read(params, what)
    checks.finite(what, weights)
    return weights


def require_graph(value: Any) -> None:
    """A reduction graph."""
    if not isinstance(value, ReductionGraph):
        raise TypeError(
            f"graph must be a ReductionGraph, got {type(value).__name__}; path_opt.reduction_graph(params) makes one"
        )


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _names(tree: PyTree) -> tuple[list[str], Any]:
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    return [_name(path) for path, _ in leaves], structure


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree.leaves_with_path(tree)
    named = {_name(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        twice = [name for name, count in Counter(_name(path) for path, _ in leaves).items() if count > 1]
        raise ValueError(
            f"two leaves have the name {_list(twice)}, the key path joined by '/': rename a key, so that every leaf "
            "has a name of its own"
        )
    return named


def _shapes(graph: ReductionGraph) -> dict[str, tuple[int, ...]]:
    """The shape of each leaf, by name, in the order of the network."""
    names = graph.names
    shapes: dict[Any, tuple[int, ...]] = {}
    for layer, below, width in zip(names.layers, (graph.inputs, *graph.widths), graph.widths, strict=False):
        shapes[layer.input_kernel] = (below, width)
        shapes[layer.recurrent_kernel] = (width, width)
        shapes[layer.bias] = (width,)
    shapes[names.readout.kernel] = (graph.widths[-1], graph.outputs)
    shapes[names.readout.bias] = (graph.outputs,)
    for name, width in zip(names.initial or (), graph.widths, strict=False):
        shapes[name] = (width,)
    shapes.pop(None, None)  # a bias or state that the network does without
    return shapes


def _roles(names: RNN) -> dict[str, str]:
    """What each leaf is, by name."""
    return {
        name: jax.tree_util.keystr(path, simple=True, separator=" ").replace("_", " ")
        for path, name in jax.tree.leaves_with_path(names)
    }


def _list(items: Collection[str]) -> str:
    shown = ", ".join(list(items)[:_LISTED])
    return shown if len(items) <= _LISTED else f"{shown}, … and {len(items) - _LISTED} more"
