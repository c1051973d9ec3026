"""One pass over the sequences: what every section of a report is made of, measured once.

Sequences are read in batches of a fixed shape, so that memory does not grow with their number. What costs more than
one pass (walls, walks, planes, fixed points) is measured on as much as a fixed amount of arithmetic allows, and each
section says on how much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine
from maso_rnn.adapters import cell as cell_of
from maso_rnn.affine import affine_map, match, template_margin
from maso_rnn.cells import Cell
from maso_rnn.codes import pack
from maso_rnn.network import RNN, initial_state

BATCH_BYTES = 2**26  # of codes and slopes at once
CODE_BYTES = 2**26  # of packed codes kept
WORK = 1e11  # multiply-adds of a section that cannot measure everything: ten seconds or so on two cores
KEPT = 2_000  # sequences whose codes are kept: they are compared all with all
PIECES = 4_000  # of a walk or a partition
NOISY = 100  # sequences that are run from random initial states too


class Pieces(NamedTuple):
    """What a pass found of the pieces of a network.

    Attributes:
        scores: (example, output), the match scores of the templates.
        margin: (example,), the score of the right class's template (of the class said, without labels) less the best
            other.
        identity_error: the largest relative error of slope · x + initial slope · h0 + offset.
        shares: the mean shares of slope, initial state and offset in the size of the output about its mean.
        kept: (kept,), the sequences whose codes were kept, evenly spread.
        packed: (kept, bytes), their packed codes.
    """

    scores: np.ndarray
    margin: np.ndarray
    identity_error: float
    shares: dict[str, float]
    kept: np.ndarray
    packed: np.ndarray


class Reading(NamedTuple):
    """A network, sequences, and what one pass over them found.

    Attributes:
        network: as it was given.
        cell: the same network as a cell.
        xs: (example, time, input), the sequences.
        labels: (example,), their classes, or None.
        lengths: (example,), how many steps of each count.
        image_shape: how a sequence folds into an image.
        noise_scale: standard deviation of the initial states at which shares are measured.
        outputs: (example, output), after the last step of each.
        pieces: what was found of the pieces; None where the network has none.
    """

    network: RNN | Cell
    cell: Cell
    xs: np.ndarray
    labels: np.ndarray | None
    lengths: np.ndarray
    image_shape: tuple[int, int] | None
    noise_scale: float
    outputs: np.ndarray
    pieces: Pieces | None

    @property
    def said(self) -> np.ndarray:
        """(example,), the class with the largest output."""
        return self.outputs.argmax(axis=1)

    @property
    def truth(self) -> np.ndarray:
        """(example,), the labels, or the class said where there are none."""
        return self.said if self.labels is None else self.labels

    @property
    def right(self) -> np.ndarray:
        """(example,), whether the class said is the true one."""
        return self.said == self.truth

    @property
    def groups(self) -> tuple[str, str]:
        """What sequences are called of which `right` is true, and false."""
        return ("all sequences", "none") if self.labels is None else ("predicted right", "predicted wrong")

    @property
    def units(self) -> int:
        """The size of the carry."""
        return sum(np.size(leaf) for leaf in jax.tree.leaves(self.cell.initial))

    @property
    def work(self) -> int:
        """Multiply-adds to read one sequence; what is done unit by unit takes as long as a hundred for each."""
        weights = sum(np.size(leaf) for leaf in jax.tree.leaves(self.cell.params))
        return self.xs.shape[1] * (weights + 100 * self.units)

    def affordable(self, work: float, most: int, least: int = 1) -> int:
        """How many things that take `work` multiply-adds each fit into a section."""
        return max(least, min(most, int(WORK / work)))

    def sequences(self, chosen: Any) -> Array:
        """The sequences chosen, in the network's dtype, with zeros for padding."""
        return jnp.asarray(np.asarray(without_padding(self.xs[chosen], self.lengths[chosen]), dtype_of(self.cell)))

    def sequence(self, i: Any) -> Array:
        """One sequence, without its padding."""
        return self.sequences(i)[: self.lengths[i]]

    @property
    def mean_input(self) -> np.ndarray:
        """(input,), the mean over the steps of the first thousand sequences."""
        there = np.arange(self.xs.shape[1]) < self.lengths[:1000, None]
        return np.asarray(self.xs[:1000])[there].mean(axis=0)

    def named(self, i: int) -> str:
        """What a sequence is called."""
        return f"sequence {i} (" + (f"says {self.said[i]})" if self.labels is None else f"class {self.labels[i]})")

    def of_different_classes(self, count: int) -> list[int]:
        """The first sequences of different classes predicted right, then any others; with codes, where codes are."""
        every = np.arange(len(self.xs)) if self.pieces is None else self.pieces.kept
        right = every[self.right[every]]
        _, firsts = np.unique(self.truth[right], return_index=True)
        chosen = right[firsts]
        return [int(i) for i in [*chosen, *np.setdiff1d(every, chosen)][:count]]


def dtype_of(cell: Cell) -> Any:
    """The dtype of a cell's carry, which is that of its arithmetic."""
    return jnp.result_type(*jax.tree.leaves(cell.initial))


def embedded(network: RNN | Cell, xs: np.ndarray) -> np.ndarray:
    """Sequences of tokens (example, time) as sequences of their embeddings; others as they are."""
    return xs if xs.ndim == 3 or network.embedding is None else np.asarray(network.embedding)[xs]


def without_padding(xs: np.ndarray, lengths: Any) -> np.ndarray:
    """One sequence or several, (…, time, …), with zeros from `lengths` (…) on, whatever stands there."""
    there = np.arange(xs.shape[np.ndim(lengths)]) < np.asarray(lengths)[..., None]
    return np.where(there.reshape(there.shape + (1,) * (xs.ndim - there.ndim)), xs, xs.dtype.type(0))


def has_pieces(network: RNN | Cell) -> bool:
    """Whether the network is piecewise affine."""
    return isinstance(network, RNN) and isinstance(network.activation, PiecewiseAffine)


def check(network: RNN | Cell, xs: Any, labels: Any, lengths: Any, image_shape: tuple[int, int] | None) -> None:
    """Refuse what cannot be inspected, before work is spent on it."""
    checks.equally_long("the data", xs)
    if not hasattr(xs, "dtype"):
        kind = type(xs).__name__
        raise TypeError(f"the data must be an array (example, time, input), got {kind}; numpy.asarray makes one")
    cell, count = cell_of(network), len(xs)
    if lengths is not None and xs.ndim > 1:
        checks.integers("the lengths", lengths, "example", {"example": count}, 1, xs.shape[1] + 1)
    full = np.full(count, xs.shape[1] if xs.ndim > 1 else 0) if lengths is None else lengths
    if xs.ndim == 2 and np.issubdtype(xs.dtype, np.integer) and network.embedding is not None:
        xs, count_of_tokens = without_padding(xs, full), len(network.embedding)
        if xs.min() < 0 or xs.max() >= count_of_tokens:
            raise ValueError(f"the data must be tokens in [0, {count_of_tokens}), got {xs.min()} to {xs.max()}")
        xs, full = embedded(network, xs[:1]), full[:1]
    if xs.ndim != 3 or not xs.size or not np.issubdtype(xs.dtype, np.floating):
        raise ValueError(f"the data must be floating, (example, time, input), not empty, got {xs.dtype} {xs.shape}")
    dtype = dtype_of(cell)
    try:
        after = jax.eval_shape(cell, cell.initial, jax.ShapeDtypeStruct(xs.shape[2:], dtype))
        classes = jax.eval_shape(cell.read, after).shape[-1]
    except (TypeError, ValueError) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"the data must fit the network, which does not take {xs.shape[2]} inputs: {said}") from None
    if classes < 2:
        raise ValueError("the network must have at least two outputs, for classes to compare; it has one")
    for first in range(0, len(xs), 1000):
        with np.errstate(over="ignore"):
            some = without_padding(xs[first : first + 1000], full[first : first + 1000])
            finite = np.isfinite(np.asarray(some, dtype)).all(axis=(1, 2))
        if not finite.all():
            raise ValueError(f"the data must be finite in {dtype}, got sequence {first + int(finite.argmin())}")
    if labels is not None:
        checks.integers("the labels", labels, "example", {"example": count}, 0, classes)
    if image_shape is not None and np.prod(image_shape) != xs.shape[1] * xs.shape[2]:
        raise ValueError(f"a sequence of {xs.shape[1]} steps and {xs.shape[2]} inputs does not fold into {image_shape}")
    if image_shape is not None and lengths is not None and lengths.min() < xs.shape[1]:
        raise ValueError("sequences of unequal length fold into no image; leave out the image or the lengths")


class _Found(NamedTuple):
    """Of each sequence of a batch."""

    scores: Array
    margin: Array
    error: Array
    output: Array
    packed: Array


@jax.jit
def _of_pieces(rnn: RNN, xs: Array, labels: Array, lengths: Array) -> _Found:
    """The match scores, the margin of the label (if it is negative, of what is said), the output and the codes."""

    def one(x: Array, label: Array, length: Array) -> _Found:
        affine = affine_map(rnn, x, length=length)
        scores = match(affine, x)
        carried = sum(slope @ h for slope, h in zip(affine.initial_slope, initial_state(rnn), strict=True))
        error = jnp.abs(scores + carried + affine.offset - affine.output).max() / jnp.abs(affine.output).max()
        margin = template_margin(affine, x, jnp.where(label < 0, affine.output.argmax(), label))
        return _Found(scores, margin, error, affine.output, pack(affine.codes))

    return jax.vmap(one)(xs, labels, lengths)


@jax.jit
def _of_cell(cell: Cell, xs: Array, labels: Array, lengths: Array) -> _Found:
    """The output alone."""
    del labels
    nothing = jnp.zeros((len(xs), 0))
    outputs = jax.vmap(lambda x, length: cell.read(last_carry(cell, x, length)))(xs, lengths)
    return _Found(nothing, nothing, nothing, outputs, nothing)


def last_carry(cell: Cell, xs: Array, length: Array) -> PyTree:
    """The carry after the last step that counts."""

    def body(carry: PyTree, now: tuple[Array, Array]) -> tuple[PyTree, None]:
        t, x = now
        return jax.tree.map(lambda new, old: jnp.where(t < length, new, old), cell(carry, x), carry), None

    return jax.lax.scan(body, cell.initial, (jnp.arange(len(xs)), xs))[0]


@jax.jit
def carries(cell: Cell, xs: Array) -> Array:
    """(time, hidden), the flat carry after every step."""
    return jax.vmap(lambda carry: ravel_pytree(carry)[0])(cell.run(xs))


@jax.jit
def _shares(rnn: RNN, xs: Array, lengths: Array, keys: Array, noise_scale: Array) -> Array:
    """(example, part): the shares of slope, initial state and offset in the size of the output about its mean."""

    def one(x: Array, length: Array, key: Array) -> Array:
        zeros = initial_state(rnn)
        keys = jax.random.split(key, len(zeros))
        h0 = tuple(noise_scale * jax.random.normal(k, h.shape, h.dtype) for k, h in zip(keys, zeros, strict=True))
        affine = affine_map(rnn, x, h0, length=length)
        carried = sum(slope @ h for slope, h in zip(affine.initial_slope, h0, strict=True))
        # what all classes share moves no decision: each part is measured about its mean over the classes
        parts = jnp.stack([match(affine, x), carried, affine.offset])
        sizes = jnp.abs(parts - parts.mean(-1, keepdims=True)).mean(-1)
        return sizes / sizes.sum()

    return jax.vmap(one)(xs, lengths, keys)


def read(
    network: RNN | Cell,
    xs: np.ndarray,
    labels: np.ndarray | None,
    lengths: np.ndarray | None,
    image_shape: tuple[int, int] | None,
    noise_scale: float,
    key: Array,
    progress: Callable[..., Iterable[Any]],
) -> Reading:
    """The pass over the sequences."""
    lengths = np.full(len(xs), xs.shape[1]) if lengths is None else lengths
    xs = embedded(network, without_padding(xs, lengths) if xs.ndim == 2 else xs)
    examples, time, inputs = xs.shape
    cell = cell_of(network)
    dtype = dtype_of(cell)
    known = np.full(examples, -1) if labels is None else labels
    measure = partial(_of_pieces, network) if has_pieces(network) else partial(_of_cell, cell)
    form = jax.eval_shape(measure, jax.ShapeDtypeStruct((1, time, inputs), dtype), known[:1], lengths[:1])
    units, classes = sum(np.size(leaf) for leaf in jax.tree.leaves(cell.initial)), form.output.shape[1]
    batch = int(np.clip(BATCH_BYTES // (time * (units + 4 * inputs * (classes + 1))), 1, min(100, examples)))

    def given(rows: np.ndarray) -> np.ndarray:
        return np.asarray(without_padding(xs[rows], lengths[rows]), dtype)

    size = form.packed.size
    most = min(examples, KEPT, max(3, CODE_BYTES // max(size, 1)))
    kept = np.unique(np.linspace(0, examples - 1, most).round().astype(int))
    packed = np.empty((len(kept), size), np.uint8)
    parts: list[_Found] = []
    for first in progress(range(0, examples, batch), desc="reading the sequences"):
        rows = np.minimum(np.arange(first, first + batch), examples - 1)  # the last batch is filled up
        found = jax.tree.map(np.asarray, measure(given(rows), known[rows], lengths[rows]))
        places = slice(*np.searchsorted(kept, [first, first + batch]))
        packed[places] = found.packed[kept[places] - first]
        parts.append(jax.tree.map(lambda leaf, count=examples - first: leaf[:count], found._replace(packed=None)))
    whole: Any = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    broken = ~np.isfinite(whole.output).all(axis=1)
    if broken.any():
        raise FloatingPointError(
            f"the network's output is not finite in {dtype} for {broken.sum()} of {examples} sequences, the first "
            f"being {int(broken.argmax())}"
        )
    pieces = None
    if has_pieces(network):
        noisy = np.minimum(np.arange(-(-min(NOISY, examples) // batch) * batch), examples - 1).reshape(-1, batch)
        scale = jnp.asarray(noise_scale, dtype)
        shares = [
            np.asarray(_shares(network, given(rows), lengths[rows], keys, scale))
            for rows, keys in zip(noisy, jax.random.split(key, noisy.shape), strict=True)
        ]
        means = np.concatenate(shares)[: min(NOISY, examples)].mean(axis=0).tolist()
        named = dict(zip(("slope", "initial state", "offset"), means, strict=True))
        pieces = Pieces(whole.scores, whole.margin, float(whole.error.max()), named, kept, packed)
    return Reading(network, cell, xs, labels, lengths, image_shape, noise_scale, whole.output, pieces)
