"""The reduction graph of a ReLU RNN: its weights as edges between units, with time taken out.

Sources are the inputs, a constant for the biases and one for the learned initial state; then come the hidden units of
each layer, joined to themselves by the recurrent kernel where the layer has one, and last the outputs. Each weight is
one edge, and each hidden unit has one *skeleton* edge in and one out, so that a path along the skeleton leads from an
input to every unit and on from it to an output.

`ReductionGraph` is a lens: it holds, as a `maso_rnn.RNN` of strings, which leaf of a pytree plays which part. `view`
checks a pytree once and shows its weights as one `maso_rnn.RNN` of arrays; everything else in this package is written
on that one form.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from maso_rnn import checks
from maso_rnn.activations import Activation, PiecewiseAffine
from maso_rnn.activations import activation as activation_of
from maso_rnn.network import RNN, Layer, Readout, check_form
from path_opt import flax_stacks

# what to do about a tree that does not fit
_OTHER_TREE = (
    'give it the graph\'s leaves alone, as optax.partition({"rnn": transform, ...}, labels) does, or make the graph of '
    "the tree that the transform will see"
)
FREEZE = "to freeze it, take its steps out afterwards: optax.chain(transform, optax.masked(optax.set_to_zero(), mask))"
_TRANSPOSE = "transpose kernels that are (out, in), as those of torch and equinox are"
_UNTIE = "untie it (give the other place its own copy), or train it in weight space"
_HOMOGENEOUS = 'rescaling would change the function; use "relu", "abs", "identity" or maso_rnn.leaky_relu(slope)'
_CONCRETE = 'make the graph outside of jax.jit, or call with skeleton="modulo"'
_LISTED = 12  # how many names or units a message or a summary lists before it says how many more there are


class Skeleton(NamedTuple):
    """One edge in and one edge out for every hidden unit.

    Attributes:
        incoming: for each layer and unit, the unit of the layer below (or the input) that its skeleton edge is from.
        outgoing: for each layer and unit, the unit of the layer above (or the output) that its skeleton edge goes to.
    """

    incoming: tuple[tuple[int, ...], ...]
    outgoing: tuple[tuple[int, ...], ...]


class View(NamedTuple):
    """A pytree seen through a graph.

    Attributes:
        weights: its leaves as one RNN; None where the graph has no leaf, or the pytree masks it.
        structure: of the pytree.
        places: for each leaf of `weights` its place among the leaves of the pytree.
    """

    weights: RNN
    structure: Any
    places: tuple[int, ...]

    def write(self, weights: RNN) -> PyTree:
        """A pytree of the same structure with the arrays of `weights` in place of its own."""
        leaves = dict(zip(self.places, jax.tree.leaves(weights), strict=True))
        return self.structure.unflatten([leaves[place] for place in range(len(leaves))])

    def read(self, tree: PyTree, what: str) -> RNN:
        """What stands in a pytree of the same structure and shapes where the weights stand in this one."""
        leaves, structure = jax.tree.flatten(tree)
        shapes = [leaf.shape for leaf in jax.tree.leaves(self.weights)]
        if structure != self.structure or [jnp.shape(leaves[place]) for place in self.places] != shapes:
            raise ValueError(f"{what} must be like params, {self.structure} of {shapes}, got {structure}")
        return jax.tree.unflatten(jax.tree.structure(self.weights), [leaves[place] for place in self.places])


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
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def basis_paths(self) -> int:
        """The number of basis paths: edges less hidden units."""
        return self.edges - self.units

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each leaf, by name, in the order of the network."""
        names = self.names
        shapes: dict[Any, tuple[int, ...]] = {}
        for layer, below, width in zip(names.layers, (self.inputs, *self.widths), self.widths, strict=False):
            shapes |= {layer.input_kernel: (below, width), layer.recurrent_kernel: (width, width), layer.bias: (width,)}
        shapes |= {names.readout.kernel: (self.widths[-1], self.outputs), names.readout.bias: (self.outputs,)}
        shapes |= {name: (width,) for name, width in zip(names.initial or (), self.widths, strict=False)}
        shapes.pop(None, None)  # what the network does without
        return shapes

    @functools.cached_property
    def incoming(self) -> tuple[np.ndarray, ...]:
        """For each layer (below, hidden), where the skeleton edges into its units are."""
        below = zip(self.skeleton.incoming, (self.inputs, *self.widths), strict=False)
        return tuple(np.arange(size)[:, None] == np.asarray(sources) for sources, size in below)

    @functools.cached_property
    def outgoing(self) -> tuple[np.ndarray, ...]:
        """For each layer (hidden, above), where the skeleton edges out of its units are; these are frozen."""
        above = zip(self.skeleton.outgoing, (*self.widths[1:], self.outputs), strict=True)
        return tuple(np.asarray(targets)[:, None] == np.arange(size) for targets, size in above)

    def view(self, tree: PyTree, what: str = "params") -> View:
        """The weights in `tree`, once their names, shapes and dtypes have been checked.

        Args:
            tree: a pytree that has every leaf that the graph names, and no other; masked ones do not count.
            what: how messages call it.

        Returns:
            `View(weights, structure, places)`.

        Raises:
            ValueError: if a leaf is missing, not known, of another shape, or deleted, as donated arrays are; or if a
                kernel that the skeleton needs is masked.
            TypeError: if a leaf is not a floating array, or their dtypes differ.
        """
        named = _named_leaves(tree)
        places: dict[str, int] = {}
        for name, leaf in named.items():
            if not isinstance(leaf, optax.MaskedNode):
                places[name] = len(places)
        _check_leaves(self, named, places, what)
        names = jax.tree.map(lambda name: name if name in places else None, self.names)
        dtype = getattr(named[names.readout.kernel], "dtype", None)
        weights = jax.tree.map(
            lambda name: _checked_leaf(f"{what}: leaf {name!r}", named[name], self.shapes[name], dtype), names
        )
        return View(weights, jax.tree.structure(tree), tuple(places[name] for name in jax.tree.leaves(names)))

    def read(self, tree: PyTree, what: str = "params") -> RNN:
        """The weights in `tree` as one `RNN` of arrays: those of its `view`.

        Example:
            >>> import maso_rnn
            >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
            >>> reduction_graph({"rnn": rnn}).read({"rnn": rnn}).readout.kernel.shape
            (4, 2)
        """
        return self.view(tree, what).weights

    def __str__(self) -> str:
        parts, roles = self.shapes, _roles(self.names)
        width = max(map(len, parts))
        lines = [
            f"reduction graph: {self.inputs} inputs, {' + '.join(map(str, self.widths))} hidden units in "
            f"{len(self.widths)} layer{'s' if len(self.widths) > 1 else ''}, {self.outputs} outputs",
            f"  edges {self.edges}, basis paths {self.basis_paths} (edges less hidden units), frozen {self.units}",
            "  leaves:",
        ]
        lines += [
            f"    {name:<{width}}  {'x'.join(map(str, shape)):>9}  {roles[name]}" for name, shape in parts.items()
        ]
        lines.append("  skeleton, unit: from the layer below -> to the layer above")
        for l, (sources, targets) in enumerate(zip(self.skeleton.incoming, self.skeleton.outgoing, strict=True)):
            shown = [f"{i}: {j}->{k}" for i, (j, k) in enumerate(zip(sources, targets, strict=True))]
            lines.append(f"    layer {l}  {_list(shown)}")
        return "\n".join(lines)


def reduction_graph(
    rnn: PyTree, *, activation: str | Activation | None = None, skeleton: str = "largest"
) -> ReductionGraph:
    """Which weights of a network are edges between which units: what every function and transform here is given.

    Args:
        rnn: a `maso_rnn.RNN`, or a pytree (of a whole model's parameters) that holds exactly one; a flax
            `nnx.Module` whose weights are those of stacked `nnx.SimpleCell`s and one `nnx.Linear` that reads the
            last; or the variables of such a linen model, of `nn.SimpleCell`s and one `nn.Dense`.
        activation: of linen cells, a name or the function, since variables do not show it; else leave it out.
        skeleton: how the skeleton edges are chosen. `"largest"`, from the weights as they are now: into unit i of
            largest |w_ji| · B_j, out of it of largest |w_ik| · F_k, where B and F are the products along the skeleton
            so far, which no rescaling changes. `"modulo"`: from unit `i % width` of the layer below to unit
            `i % width` of the layer above, as the papers have it, whatever the numbers are.

    Returns:
        The graph: static, hashable. Leaves are named by key path, of the parameters that optax sees.

    Raises:
        ValueError: if the activation is not positively homogeneous, shapes do not fit, there is not exactly one
            network, the order of flax cells cannot be told, or the skeleton is to be the largest of weights that are
            not all finite.
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
    nodes = jax.tree.leaves_with_path(rnn, is_leaf=lambda node: isinstance(node, RNN))
    found = [(path, node) for path, node in nodes if isinstance(node, RNN)]
    if not found:
        params, names = flax_stacks.named(rnn, activation)
        return _graph(params, names, skeleton, "rnn")
    if len(found) > 1:
        raise ValueError(f"rnn must be or hold exactly one maso_rnn.RNN, got {len(found)} in {type(rnn).__name__}")
    ((prefix, network),) = found
    check_form(network)
    names = jax.tree_util.tree_map_with_path(lambda path, _: _name((*prefix, *path)), network)
    return _graph(rnn, names, skeleton, "rnn")


def reduction_graph_from_paths(
    params: PyTree,
    layers: Sequence[Layer],
    readout: Readout,
    *,
    activation: str | Activation,
    initial: Sequence[str | None] | None = None,
    tied: Collection[str] = (),
    skeleton: str = "largest",
    layout: str | None = None,
) -> ReductionGraph:
    """The reduction graph of an RNN whose weights lie in any pytree, told by the names of the leaves.

    A name is the key path joined by "/": `jax.tree_util.keystr(path, simple=True, separator="/")`. The `/value` at the
    end of the names of flax nnx variables may be left out. Kernels are (in, out), as in flax.

    Args:
        params: the pytree; it may hold more than the graph names.
        layers: one `maso_rnn.Layer` for each layer, first to last, with names in place of arrays.
        readout: a `maso_rnn.Readout` with names in place of arrays.
        activation: the activation of every layer, a name or the function: the tree cannot show it.
        initial: for each layer the name of its learned initial state, or None.
        tied: the names of leaves (or the name of one) whose array is used elsewhere too, as a readout shared with an
            embedding: the tree cannot show it.
        skeleton: as for `reduction_graph`.
        layout: `"in, out"` says that the kernels are so; needed where all of them are square and not called
            `kernel`, so that nothing shows it.

    Returns:
        The graph: static, hashable.

    Raises:
        ValueError: if the activation is not positively homogeneous, the tree lacks a leaf or has two of one name,
            shapes do not fit, kernels are (out, in) or may be, a leaf is tied, or the skeleton is to be the largest of
            weights that are not all finite.
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
    _check_names(layers, readout, initial)
    if not isinstance(tied, str | Collection):
        raise TypeError(f"tied must hold names of leaves, got {type(tied).__name__}")
    leaves = _named_leaves(params)

    def known(name: str) -> str:
        return name if name in leaves else name.removesuffix("/value")

    names = RNN(tuple(layers), readout, None if initial is None else tuple(initial), activation_of(activation))
    names = jax.tree.map(known, names)
    tied = [known(name) for name in ((tied,) if isinstance(tied, str) else tied)]
    if unknown := [name for name in tied if name not in leaves]:
        raise ValueError(f"tied names a leaf that params lacks: {_list(unknown)}; it has {_list(leaves) or 'none'}")
    if shared := [name for name, count in Counter(jax.tree.leaves(names)).items() if count > 1 or name in tied]:
        raise ValueError(f"leaf {_list(shared)} is tied: it cannot be rescaled in one place alone; {_UNTIE}")
    graph = _graph(params, names, skeleton, "params")
    shown = any(len(set(graph.shapes[name])) > 1 or name.split("/")[-1] == "kernel" for name in _kernels(names))
    if layout != "in, out" and not (shown and layout is None):
        raise ValueError(f"layout must be 'in, out', got {layout!r}: no shape shows it of square kernels; {_TRANSPOSE}")
    return graph


def _check_leaves(graph: ReductionGraph, named: Collection[str], there: Collection[str], what: str) -> None:
    """A tree that has every leaf that the graph names, and no other; kernels are not masked."""
    if unknown := [name for name in there if name not in graph.shapes]:
        raise ValueError(f"{what} has a leaf that the graph does not know: {_list(unknown)}; {_OTHER_TREE}")
    if missing := [name for name in graph.shapes if name not in named]:
        raise ValueError(f"{what} lacks a leaf that the graph names: {_list(missing)}; {_OTHER_TREE}")
    if masked := [name for name in _kernels(graph.names) if name not in there]:
        raise ValueError(f"{what}: the kernel {_list(masked)} is masked, and paths lead through it; {FREEZE}")


def _checked_leaf(name: str, leaf: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """A floating array of that shape and dtype, which has not been donated."""
    leaf = checks.array(name, leaf, "*shape", None, dtype)
    if leaf.shape != shape:
        raise ValueError(f"{name} must be {shape}, as in the graph, got {leaf.shape}")
    if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.is_deleted():
        raise ValueError(f"{name} has been deleted, as donated arrays are; go on with those that the step returned")
    return leaf


def _check_names(layers: Any, readout: Any, initial: Any) -> None:
    """Layers, a readout and initial states of names."""
    checks.instance("readout", readout, Readout, 'maso_rnn.Readout("head/kernel", "head/bias")')
    if not isinstance(layers, list | tuple) or not layers or not all(isinstance(layer, Layer) for layer in layers):
        raise TypeError('layers must be a list of at least one maso_rnn.Layer("cell/i/kernel", "cell/h/kernel")')
    if initial is not None and (not isinstance(initial, list | tuple) or len(initial) != len(layers)):
        raise ValueError(f"initial must have one leaf or None for each of {len(layers)} layers, got {initial!r}")
    for name in [*_kernels(RNN(tuple(layers), readout)), *jax.tree.leaves((list(layers), readout, initial))]:
        if not isinstance(name, str):
            raise TypeError(f"layers, readout and initial must hold names of leaves, as strings, got {name!r}")


def _graph(params: PyTree, names: RNN, skeleton: str, what: str) -> ReductionGraph:
    if not _is_homogeneous(names.activation):
        name = getattr(names.activation, "__name__", repr(names.activation))
        raise ValueError(f"activation {name} is not positively homogeneous, act(c · p) = c · act(p): {_HOMOGENEOUS}")
    checks.choice("skeleton", skeleton, ("largest", "modulo"))
    leaves = _named_leaves(params)
    if missing := [name for name in jax.tree.leaves(names) if name not in leaves]:
        raise ValueError(f"{what} lacks the leaf {_list(missing)}; it has {_list(leaves) or 'none'}")
    kernels = [checks.array(f"{what}: leaf {name!r}", leaves[name], "in out") for name in _kernels(names)]
    inputs, outputs = kernels[0].shape[0], kernels[-1].shape[1]
    widths = tuple(
        leaves[layer.recurrent_kernel or above].shape[0]
        for layer, above in zip(names.layers, _kernels(names)[1:], strict=True)
    )
    sizes = (inputs, *widths, outputs)
    for name, kernel, below, above in zip(_kernels(names), kernels, sizes, sizes[1:], strict=False):
        if kernel.shape != (wanted := (below, above)):
            raise ValueError(f"{what}: leaf {name!r} must be (in, out) = {wanted}, got {kernel.shape}; {_TRANSPOSE}")
    modulo = Skeleton(
        tuple(tuple(i % below for i in range(width)) for below, width in zip(sizes, widths, strict=False)),
        tuple(tuple(i % above for i in range(width)) for width, above in zip(widths, sizes[2:], strict=True)),
    )
    graph = ReductionGraph(names, inputs, widths, outputs, modulo)
    weights = graph.view({name: leaves[name] for name in graph.shapes}, what).weights
    if skeleton == "modulo":
        return graph
    if not checks.is_concrete(weights):
        raise TypeError(f'{what} is traced, and skeleton="largest" looks at the numbers; {_CONCRETE}')
    checks.finite(**{what: weights})
    return dataclasses.replace(graph, skeleton=_largest(weights))


def _kernels(names: RNN) -> list[Any]:
    """The names of the kernels that the skeleton leads along, from the inputs to the outputs."""
    return [*(layer.input_kernel for layer in names.layers), names.readout.kernel]


def _largest(weights: RNN) -> Skeleton:
    """The edges of largest magnitude times skeleton product; of equal ones (up to rounding) the first."""

    def first_largest(logarithms: np.ndarray) -> np.ndarray:
        # 1e-6: ties, as of constant kernels, must not be broken by the rounding of a rescaling
        return np.argmax(logarithms >= logarithms.max(axis=0) - 1e-6, axis=0)

    with np.errstate(divide="ignore"):  # a weight of zero has the logarithm -inf
        kernels = [np.log(np.abs(np.asarray(layer.input_kernel, np.float64))) for layer in weights.layers]
        kernels.append(np.log(np.abs(np.asarray(weights.readout.kernel, np.float64))))
    incoming, outgoing = [], []
    product = np.zeros(kernels[0].shape[0])
    for kernel in kernels[:-1]:
        onto = product[:, None] + kernel
        incoming.append(tuple(first_largest(onto).tolist()))
        product = onto.max(axis=0)
    product = np.zeros(kernels[-1].shape[1])
    for kernel in kernels[:0:-1]:
        onto = (kernel + product).T
        outgoing.append(tuple(first_largest(onto).tolist()))
        product = onto.max(axis=0)
    return Skeleton(tuple(incoming), tuple(outgoing[::-1]))


def _is_homogeneous(activation: Activation) -> bool:
    if isinstance(activation, PiecewiseAffine):
        return activation.is_positively_homogeneous
    # such a function is |p| times its value at the sign of p; the numbers are needed within jax.jit as well
    with jax.ensure_compile_time_eval():
        probes = jnp.exp2(jnp.arange(-8.0, 9.0))
        return all(
            bool(jnp.allclose(activation(side * probes), probes * activation(jnp.asarray(side)), rtol=1e-5, atol=0))
            for side in (-1.0, 1.0)
        )


def at_sources(values: Sequence[Array], weights: RNN, source: Any = 1) -> RNN:
    """For every edge the value of the unit that it leaves, broadcastable to the edge's leaf.

    Inputs, and the constants behind biases and initial states, have the value `source`.
    """
    source = jnp.asarray(source, values[0].dtype)
    columns = [value[:, None] for value in values]
    layers = tuple(
        Layer(below, None if layer.recurrent_kernel is None else own, None if layer.bias is None else source)
        for below, own, layer in zip([source, *columns], columns, weights.layers, strict=False)
    )
    readout = Readout(columns[-1], None if weights.readout.bias is None else source)
    initial = weights.initial and tuple(None if h is None else source for h in weights.initial)
    return dataclasses.replace(weights, layers=layers, readout=readout, initial=initial)


def at_targets(values: Sequence[Array], weights: RNN, output: Any = 1) -> RNN:
    """For every edge the value of the unit that it enters, broadcastable to its leaf; outputs have `output`."""
    output = jnp.asarray(output, values[0].dtype)
    layers = tuple(
        Layer(own, None if layer.recurrent_kernel is None else own, None if layer.bias is None else own)
        for own, layer in zip(values, weights.layers, strict=True)
    )
    readout = Readout(output, None if weights.readout.bias is None else output)
    initial = weights.initial and tuple(
        None if h is None else own for h, own in zip(weights.initial, values, strict=True)
    )
    return dataclasses.replace(weights, layers=layers, readout=readout, initial=initial)


def _name(path: tuple[Any, ...]) -> str:
    """The key path joined by "/", without the attribute in which a variable of flax nnx holds its array."""
    if path and path[-1] == jax.tree_util.GetAttrKey("value"):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves, and nodes that stand for a masked one, by name."""
    nodes = jax.tree.leaves_with_path(tree, is_leaf=lambda node: isinstance(node, optax.MaskedNode))
    named = {_name(path): node for path, node in nodes}
    if len(named) < len(nodes):
        twice = [name for name, count in Counter(_name(path) for path, _ in nodes).items() if count > 1]
        raise ValueError(f"two leaves have the name {_list(twice)}, their key path joined by '/': rename a key")
    return named


def _roles(names: RNN) -> dict[str, str]:
    """What each leaf is, by name."""
    return {
        name: jax.tree_util.keystr(path, simple=True, separator=" ").replace("_", " ")
        for path, name in jax.tree.leaves_with_path(names)
    }


def _list(items: Collection[str]) -> str:
    shown = ", ".join(list(items)[:_LISTED])
    return shown if len(items) <= _LISTED else f"{shown}, … and {len(items) - _LISTED} more"
