"""A network of one's own, opened up: the sections of the main job for one trained network and a set of sequences.

Sequences are read in batches of a fixed shape, so that memory does not grow with their number. What costs more than
one pass over them (walls, walks, planes, code distances) is measured on as much as a fixed amount of arithmetic allows,
and each section says on how much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from maso_rnn import plots
from maso_rnn.activations import require_pieces
from maso_rnn.affine import affine_map, match, template_margin
from maso_rnn.codes import count_regions, pack, unpack
from maso_rnn.distances import boundary_distance
from maso_rnn.network import RNN, Readout, check_network, initial_state, trajectory
from maso_rnn.report import dynamics, partition
from maso_rnn.report.document import Picture, Section
from maso_rnn.report.templates import template_section

BATCH_BYTES = 2**26  # of codes and slopes at once
CODE_BYTES = 2**26  # of packed codes kept
WORK = 1e11  # multiply-adds of a section that cannot measure everything: ten seconds or so on two cores
COMPARED = 1e10  # bytes of codes compared, over all pairs twice
KEPT = 2_000  # sequences whose codes are kept: they are compared all with all
PIECES = 4_000  # of a walk or a partition
WALLS = 100  # sequences whose nearest wall is looked for, over fewer steps where need be
NOISY = 100  # sequences that are run from random initial states too


class Reading(NamedTuple):
    """What one pass over the sequences found.

    Attributes:
        rnn: the network.
        xs: (example, time, input), the sequences.
        labels: (example,), their classes, or None.
        image_shape: how a sequence folds into an image.
        noise_scale: standard deviation of the initial states at which shares are measured.
        numbers: what `template_section` shows of the network.
        kept: (kept,), the sequences whose codes were kept, evenly spread.
        packed: (kept, bytes), their packed codes.
    """

    rnn: RNN
    xs: np.ndarray
    labels: np.ndarray | None
    image_shape: tuple[int, int] | None
    noise_scale: float
    numbers: dict[str, Any]
    kept: np.ndarray
    packed: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """(example,), the labels, or the class said where there are none."""
        return self.numbers["said"] if self.labels is None else self.labels

    @property
    def work(self) -> int:
        """Multiply-adds to read one sequence; what is done unit by unit takes as long as a hundred for each."""
        kernels = [kernel for layer in self.rnn.layers for kernel in (layer.input_kernel, layer.recurrent_kernel)]
        units = sum(layer.recurrent_kernel.shape[0] for layer in self.rnn.layers)
        return self.xs.shape[1] * (sum(kernel.size for kernel in kernels) + 100 * units)

    @property
    def most_pieces(self) -> int:
        """As many pieces as a walk may carry: each has a code, and a state for every unit."""
        return max(2, min(PIECES, CODE_BYTES // (2 * self.packed.shape[1])))

    def affordable(self, work: float, most: int, least: int = 1) -> int:
        """How many things that take `work` multiply-adds each fit into a section."""
        return max(least, min(most, int(WORK / work)))

    def sequences(self, chosen: Any) -> Array:
        """The sequences chosen, in the network's dtype."""
        return jnp.asarray(np.asarray(self.xs[chosen], self.rnn.readout.kernel.dtype))


def inspect(
    rnn: RNN,
    xs: Float[np.ndarray, "example time input"],
    labels: Int[np.ndarray, " example"] | None = None,
    *,
    image_shape: tuple[int, int] | None = None,
    noise_scale: float = 0.1,
    key: Array,
    progress: Callable[..., Iterable[Any]] = lambda steps, desc: steps,
) -> list[Section]:
    """The sections of a report on one network: templates, regions, codes, walk, plane, walls, eigenvalues.

    A host function: it reads `xs` batch by batch, and a memory-mapped array stays on disk.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (example, time, input), the sequences.
        labels: (example,), their classes; by default what the network says.
        image_shape: how a sequence folds into an image.
        noise_scale: standard deviation of the initial states at which their share of the output is measured.
        key: draws those initial states.
        progress: wraps what is gone through, and takes what it is: `tqdm.tqdm`.

    Returns:
        The sections, for `report.write`.

    Raises:
        ValueError: if the activation has no pieces, there are fewer than two outputs or no sequence, shapes or labels
            do not fit, or a sequence is not finite.
        FloatingPointError: if the network's output is not finite.

    Example:
        >>> import maso_rnn
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> [section.name for section in inspect(rnn, np.ones((1, 6, 1)), key=jax.random.key(1))]
        ['templates', 'regions', 'boundary', 'eigenvalues']

    Source:
        Wang, Balestriero, Baraniuk (2019), sections 3 and 4; Dou, Principe (2023), for the eigenvalues.
    """
    check(rnn, xs, labels, image_shape)
    reading = _read(rnn, xs, labels, image_shape, noise_scale, key, progress)
    sections = (_templates, _regions, _codes, _walk, _plane, _walls, _eigenvalues)
    made = [make(reading) for make in progress(sections, desc="sections")]
    return [section for section in made if section is not None]


def check(
    rnn: RNN,
    xs: np.ndarray,
    labels: np.ndarray | None,
    image_shape: tuple[int, int] | None,
) -> None:
    """Refuse what cannot be inspected, before work is spent on it."""
    check_network(rnn, pieces=True)
    inputs, classes = rnn.layers[0].input_kernel.shape[0], rnn.readout.kernel.shape[1]
    if classes < 2:
        raise ValueError("the network must have at least two outputs, for classes to compare; it has one")
    if xs.ndim != 3 or not xs.size:
        raise ValueError(f"the data must be (example, time, input) and not empty, got shape {xs.shape}")
    if not np.issubdtype(xs.dtype, np.floating):
        raise ValueError(f"the data must be floating, got {xs.dtype}; convert it as the network was trained on it")
    if xs.shape[2] != inputs:
        raise ValueError(f"the data must have {inputs} inputs, as the network has, got {xs.shape[2]} in {xs.shape}")
    dtype = rnn.readout.kernel.dtype
    for first in range(0, len(xs), 1000):
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(xs[first : first + 1000], dtype)).all(axis=(1, 2))
        if not finite.all():
            raise ValueError(f"the data must be finite in {dtype}, got sequence {first + int(finite.argmin())}")
    if labels is not None:
        if labels.shape != (len(xs),):
            raise ValueError(f"the labels must be one for each of the {len(xs)} sequences, got shape {labels.shape}")
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"the labels must be integers, got {labels.dtype}")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(f"the labels must be in [0, {classes}), got {labels.min()} to {labels.max()}")
    if image_shape is not None and np.prod(image_shape) != xs.shape[1] * xs.shape[2]:
        raise ValueError(f"a sequence of {xs.shape[1]} steps and {xs.shape[2]} inputs does not fold into {image_shape}")


class _Found(NamedTuple):
    """Of each sequence of a batch."""

    said: Array
    scores: Array
    margin: Array
    error: Array
    output: Array
    packed: Array


@jax.jit
def _measure(rnn: RNN, xs: Array, labels: Array) -> _Found:
    """What is said, the match scores, the margin of the label (if it is negative, of what is said), the codes."""

    def one(x: Array, label: Array) -> _Found:
        affine = affine_map(rnn, x)
        said, scores = affine.output.argmax(), match(affine, x)
        carried = sum(slope @ h for slope, h in zip(affine.initial_slope, initial_state(rnn), strict=True))
        error = jnp.abs(scores + carried + affine.offset - affine.output).max() / jnp.abs(affine.output).max()
        margin = template_margin(affine, x, jnp.where(label < 0, said, label))
        return _Found(said, scores, margin, error, affine.output, pack(affine.codes))

    return jax.vmap(one)(xs, labels)


@jax.jit
def _shares(rnn: RNN, xs: Array, keys: Array, noise_scale: Array) -> Array:
    """(example, part): the shares of slope, initial state and offset in the size of the output about its mean."""

    def one(x: Array, key: Array) -> Array:
        zeros = initial_state(rnn)
        keys = jax.random.split(key, len(zeros))
        h0 = tuple(noise_scale * jax.random.normal(k, h.shape, h.dtype) for k, h in zip(keys, zeros, strict=True))
        affine = affine_map(rnn, x, h0)
        carried = sum(slope @ h for slope, h in zip(affine.initial_slope, h0, strict=True))
        parts = jnp.stack([match(affine, x), carried, affine.offset])
        sizes = jnp.abs(parts - parts.mean(-1, keepdims=True)).mean(-1)
        return sizes / sizes.sum()

    return jax.vmap(one)(xs, keys)


def _read(
    rnn: RNN,
    xs: np.ndarray,
    labels: np.ndarray | None,
    image_shape: tuple[int, int] | None,
    noise_scale: float,
    key: Array,
    progress: Callable[..., Iterable[Any]],
) -> Reading:
    examples, time, inputs = xs.shape
    units = sum(layer.recurrent_kernel.shape[0] for layer in rnn.layers)
    classes = rnn.readout.kernel.shape[1]
    batch = int(np.clip(BATCH_BYTES // (time * (units + 4 * inputs * (classes + 1))), 1, min(100, examples)))
    dtype = rnn.readout.kernel.dtype
    known = np.full(examples, -1) if labels is None else labels
    small = jax.eval_shape(_measure, rnn, jax.ShapeDtypeStruct((1, time, inputs), dtype), known[:1]).packed.size
    kept = np.unique(np.linspace(0, examples - 1, min(examples, KEPT, max(3, CODE_BYTES // small))).round().astype(int))
    packed = np.empty((len(kept), small), np.uint8)
    parts: list[_Found] = []
    for first in progress(range(0, examples, batch), desc="sequences"):
        rows = np.minimum(np.arange(first, first + batch), examples - 1)  # the last batch is filled up
        found = jax.tree.map(np.asarray, _measure(rnn, np.asarray(xs[rows], dtype), known[rows]))
        places = slice(*np.searchsorted(kept, [first, first + batch]))
        packed[places] = found.packed[kept[places] - first]
        parts.append(jax.tree.map(lambda leaf, count=examples - first: leaf[:count], found._replace(packed=None)))
    whole: _Found = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    broken = ~np.isfinite(whole.output).all(axis=1)
    if broken.any():
        raise FloatingPointError(
            f"the network's output is not finite in {dtype} for {broken.sum()} of {examples} sequences, the first "
            f"being {int(broken.argmax())}"
        )
    noisy = np.minimum(np.arange(-(-min(NOISY, examples) // batch) * batch), examples - 1).reshape(-1, batch)
    keys = jax.random.split(key, noisy.shape)
    scale = jnp.asarray(noise_scale, dtype)
    shares = [
        np.asarray(_shares(rnn, np.asarray(xs[rows], dtype), own, scale)) for rows, own in zip(noisy, keys, strict=True)
    ]
    columns = np.concatenate(shares)[: min(NOISY, examples)].T
    numbers = {
        "said": whole.said,
        "right": whole.said == (whole.said if labels is None else labels),
        "margin": whole.margin,
        "scores": whole.scores,
        "identity_error": whole.error.max(),
        "shares": dict(zip(("slope", "initial state", "offset"), columns, strict=True)),
    }
    return Reading(rnn, xs, labels, image_shape, noise_scale, numbers, kept, packed)


def _templates(found: Reading) -> Section:
    section = template_section(
        found.rnn,
        found.xs,
        found.labels,
        {"the network": found.numbers},
        image_shape=found.image_shape,
        noise_scale=found.noise_scale,
    )
    if found.labels is None:
        return section._replace(warnings=["No labels were given: the class that the network says stands for them."])
    return section


def _regions(found: Reading) -> Section:
    time = found.xs.shape[1]
    counted = jax.tree.map(np.asarray, count_regions((jnp.asarray(found.packed).reshape(len(found.kept), time, -1),)))
    alone = int(np.argmax(counted.saturated)) + 1 if counted.saturated.any() else None
    figure = plots.new_figure(9, 4)
    plots.regions_through_time({"the network": counted.counts}, sequences=len(found.kept), axes=figure.add_subplot())
    reading = f"At the end the {len(found.kept)} sequences lie in {counted.counts[-1]} regions; " + (
        f"from step {alone} on every one has a region of its own, so that more sequences would show more."
        if alone
        else "some still share one."
    )
    return Section(
        "regions",
        "Regions",
        "Sequences share a region where every unit at every step is on the same piece of its activation: there the "
        "network is one affine map. The count of distinct codes cannot exceed the number of sequences.",
        [
            Picture(
                "regions-through-time",
                "How does the partition build up as the sequences are read?",
                figure,
                reading,
            )
        ],
        {
            "sequences": len(found.kept),
            "regions_through_time": counted.counts,
            "step_from_which_all_are_told_apart": alone,
        },
    )


def _codes(found: Reading) -> Section | None:
    """How a code goes through time, how the codes of the classes part, and who is near whom."""
    if len(found.kept) < 3:
        return None
    time = found.xs.shape[1]
    truth = found.truth[found.kept]
    steps = np.unique(np.linspace(time / 4, time, 4).round().astype(int).clip(1))
    few = _of_different_classes(found, 3)
    own = np.searchsorted(found.kept, few)
    shown = [[np.asarray(code) for code in unpack(found.packed[i], found.rnn)] for i in own]
    order = plots.barcode_order([np.stack(layer) for layer in zip(*shown, strict=True)])
    bars = plots.new_figure(5 * len(few), 5)
    for axes, i, codes in zip(bars.subplots(1, len(few), squeeze=False)[0], few, shown, strict=True):
        plots.barcode(codes, order=order, axes=axes)
        axes.set_title(_named(found, i), loc="left", fontsize=9)
    always = np.mean(np.concatenate([(layer == layer[:1, :1]).all(axis=(0, 1)) for layer in _stacked(shown)]))
    flips = np.mean([(code[1:] != code[:-1]).mean() for codes in shown for code in codes]) if time > 1 else 0.0

    maps = plots.new_figure(4.2 * len(steps), 4.4)
    agree = {}
    for axes, t in zip(maps.subplots(1, len(steps), squeeze=False)[0], steps, strict=True):
        at = found.packed.reshape(len(found.kept), time, -1)[:, t - 1]
        values = np.concatenate([np.asarray(code)[:, 0] for code in unpack(at, found.rnn)], axis=1).astype(np.float32)
        plots.code_map(values, truth, title=f"after step {t}", axes=axes)
        apart = ((values**2).sum(1)[:, None] + (values**2).sum(1) - 2 * values @ values.T).round()
        np.fill_diagonal(apart, np.inf)
        # ties are as likely as not to be of the class: their mean
        nearest = apart == apart.min(axis=1, keepdims=True)
        agree[int(t)] = float(((truth[:, None] == truth) & nearest).sum(1) @ (1 / nearest.sum(1)) / len(truth))
    same = truth[:, None] == truth
    chance = float((same.sum() - len(truth)) / (len(truth) * (len(truth) - 1)))

    most = int(np.clip(np.sqrt(COMPARED / found.packed.shape[1]), 3, len(found.kept)))
    compared = np.unique(np.linspace(0, len(found.kept) - 1, most).round().astype(int))
    distances = partition.distance_section(
        _distances(found.packed[compared], found.rnn, time),
        found.sequences(found.kept[compared]),
        truth[compared],
        image_shape=found.image_shape,
    )
    kind = "class" if found.labels is not None else "class said"
    pictures = [
        Picture(
            "barcode",
            "Which piece is each unit on as a sequence is read, and do the codes of different inputs differ?",
            bars,
            f"{always:.0%} of the units are on one piece all the time in all {len(few)}; at a step {flips:.1%} of the "
            "units change their piece.",
        ),
        Picture(
            "code-map",
            f"Do the codes of one {kind} come together as time goes on?",
            maps,
            "The nearest code at that step has the same class for "
            + ", ".join(f"{share:.0%} after step {t}" for t, share in agree.items())
            + f"; by chance it would for {chance:.0%}. {len(found.kept)} sequences.",
        ),
    ]
    return distances._replace(
        pictures=[*pictures, *distances.pictures],
        title="Codes",
        text="A code says which piece of its activation every unit is on at every step: equal codes, one affine map. "
        + distances.text,
        values={
            **distances.values,
            "compared": len(compared),
            "units_on_one_piece": always,
            "units_that_change_at_a_step": flips,
            "nearest_code_has_same_class_after_step": agree,
        },
    )


def _distances(packed: np.ndarray, rnn: RNN, steps: int) -> np.ndarray:
    """(example, example): the share of units on different pieces, as `hamming`, from packed codes."""
    units = sum(layer.recurrent_kernel.shape[0] for layer in rnn.layers)
    two_pieces = len(require_pieces(rnn.activation).slopes) <= 2
    apart = np.zeros((len(packed), len(packed)), np.int64)
    for i, own in enumerate(packed):
        other = packed[:i]
        apart[i, :i] = (np.bitwise_count(own ^ other) if two_pieces else own != other).sum(axis=1, dtype=np.int64)
    return (apart + apart.T) / (steps * units)


def _stacked(shown: list[list[np.ndarray]]) -> list[np.ndarray]:
    """For each layer (example, time, hidden)."""
    return [np.stack(layer) for layer in zip(*shown, strict=True)]


def _walk(found: Reading) -> Section | None:
    ends = _independent(found, 2)
    if len(ends) < 2:
        return None
    first, second = (np.asarray(found.sequences(i)) for i in ends)
    cap = found.affordable(found.work, found.most_pieces)
    return partition.digit_walk(
        found.rnn, first, second, (_named(found, ends[0]), _named(found, ends[1])), max_regions=cap
    )


def _plane(found: Reading) -> Section | None:
    corners = _independent(found, 3)
    if len(corners) < 3:
        return None
    first, second, third = (np.asarray(found.sequences(i)) for i in corners)
    most = found.most_pieces
    one, two, three = (_named(found, i) for i in corners)
    return partition.digit_plane(
        found.rnn,
        (first, second, third),
        (one, two, three),
        max_regions=found.affordable(10 * found.work, most),
        max_along=found.affordable(4 * found.work, most),
        resolution=int(np.sqrt(found.affordable(found.work, 150**2, least=30**2))),
    )


@partial(jax.jit, static_argnames=("first", "steps"))
def _to_walls(rnn: RNN, xs: Array, *, first: int, steps: int) -> Array:
    def one(x: Array) -> Array:
        state = tuple(h[-1] for h in trajectory(rnn, x[:first]).states) if first else initial_state(rnn)
        return boundary_distance(rnn, x[first : first + steps], state)

    return jax.vmap(one)(xs)


def _walls(found: Reading) -> Section:
    """The distance to the nearest wall, over as many steps of the second half as can be afforded."""
    examples, time, _ = found.xs.shape
    units = sum(layer.recurrent_kernel.shape[0] for layer in found.rnn.layers)
    per_step = 2 * units**3  # two products of the Gram recursion
    count = min(WALLS, examples)
    first = time // 2
    steps = found.affordable(count * per_step / 2, time - first)
    chosen = np.unique(np.linspace(0, examples - 1, count).round().astype(int))
    batch = int(np.clip(BATCH_BYTES // (units * (time + 8 * units) * 8), 1, min(20, count)))
    distances = np.concatenate(
        [
            np.asarray(_to_walls(found.rnn, found.sequences(rows), first=first, steps=steps))
            for rows in np.resize(chosen, (-(-count // batch), batch))
        ]
    )[:count]
    right = found.numbers["right"][chosen]
    names = ("predicted right", "predicted wrong") if found.labels is not None else ("all sequences", "none")
    figure = plots.new_figure(8, 4)
    on_kink = float((distances == 0).mean())
    plots.right_and_wrong(
        np.log10(np.where(distances == 0, np.nan, distances)),
        right,
        label="log10 of the distance, in units of the input",
        title=f"{on_kink:.0%} of {count} lie exactly on a wall, at distance 0, and are not drawn" if on_kink else "",
        names=names,
        axes=figure.add_subplot(),
    )
    parts = {"right": distances[right], "wrong": distances[~right]}
    medians = {name: float(np.median(part)) if part.size else None for name, part in parts.items()}
    nearer = partition.nearer(parts["wrong"], parts["right"])
    reading = f"The median over {count} sequences is {np.median(distances):.2g}"
    if nearer is not None:
        reading += (
            f": {medians['right']:.2g} where right, {medians['wrong']:.2g} where wrong. Of a wrong and a right one the "
            f"wrong one is nearer in {nearer:.0%} of pairs (half would be chance)"
        )
    question = "How far may an input move before some unit changes its piece?"
    if found.labels is not None:
        question = "Are inputs that the network gets wrong nearer to a wall of their region?"
    return Section(
        "boundary",
        "The nearest wall",
        "The distance from an input to the nearest wall of its region: how far the input may move, in any direction, "
        "before some unit at some step changes its piece. It is exact, from the pre-activations and the norms of their "
        f"gradients; here over {steps} of the {time} steps alone, from the state reached after step {first}.",
        [Picture("boundary-distance", question, figure, f"{reading}; {on_kink:.0%} lie exactly on a wall.")],
        {
            "sequences": count,
            "steps": [first + 1, first + steps],
            "on_a_kink": on_kink,
            "median_right": medians["right"],
            "median_wrong": medians["wrong"],
            "share_of_pairs_where_the_wrong_one_is_nearer": nearer,
        },
    )


def _eigenvalues(found: Reading) -> Section:
    """The recurrent kernels of the first, the middle and the last layer, each reading what it reads in the network."""
    rnn = found.rnn
    depth = len(rnn.layers)
    x = found.sequences(0)
    reads = [x, *trajectory(rnn, x).states[:-1]]
    shown = sorted({0, depth // 2, depth - 1})
    # one layer each, with a readout that nothing reads
    networks = {
        f"layer {l}": RNN(rnn.layers[l : l + 1], Readout(rnn.readout.kernel), None, rnn.activation) for l in shown
    }
    section = dynamics.eigenvalues(networks, {f"layer {l}": reads[l] for l in shown})
    if len(shown) < depth:
        warning = f"Of {depth} layers the first, the middle and the last are shown."
        return section._replace(warnings=[*section.warnings, warning])
    return section


def _named(found: Reading, i: int) -> str:
    if found.labels is None:
        return f"sequence {i} (says {found.numbers['said'][i]})"
    return f"sequence {i} (class {found.labels[i]})"


def _of_different_classes(found: Reading, count: int) -> list[int]:
    """The first sequences of different classes predicted right, then any others; among those whose codes were kept."""
    right = found.kept[found.numbers["right"][found.kept]]
    _, firsts = np.unique(found.truth[right], return_index=True)
    chosen = right[firsts]
    return [int(i) for i in [*chosen, *np.setdiff1d(found.kept, chosen)][:count]]


def _independent(found: Reading, count: int) -> list[int]:
    """At most `count` such sequences that lie neither on one another nor on one line."""
    chosen: list[int] = []
    for i in _of_different_classes(found, 50):
        points = np.asarray(found.sequences([*chosen, i]), np.float64).reshape(len(chosen) + 1, -1)
        sides = points[1:] - points[0]
        lengths = np.linalg.norm(sides, axis=1, keepdims=True)
        if lengths.all() and (not chosen or np.linalg.matrix_rank(sides / lengths, tol=1e-4) == len(sides)):
            chosen.append(i)
        if len(chosen) == count:
            break
    return chosen
