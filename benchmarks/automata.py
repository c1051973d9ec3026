"""Weighted automata: random ones learned back from their values, and networks trained on grammars read as automata.

`error` is the largest difference of a value on words, or sequences, that were not learned from, over the largest value.
Of a network that learned one of Tomita's grammars on words of up to twelve symbols an automaton is learned from its
outputs on words half as long. Of the numbers of states tried, the one is taken that errs least on words of middling
length; what is told is on words of twice the length of those trained on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

import maso_rnn
from benchmarks import training
from benchmarks.data import load
from benchmarks.data.dataset import Split
from benchmarks.experiment import Experiment, Size
from benchmarks.rows import Rows, distinct, having
from maso_rnn import plots, plots_automata
from maso_rnn.automata import (
    StateGraph,
    WeightedAutomaton,
    as_cell,
    distance,
    hankel,
    hankel_of_sequences,
    spectral_learning,
    state_graph,
    value,
    words,
)
from maso_rnn.report import Picture, Section
from maso_rnn.style import MARKERS

LONGEST = 12  # of the words trained on
TOLERANCE = 0.2  # of the largest output, by which what follows from one state may differ


@dataclasses.dataclass(frozen=True)
class Recovery:
    """A random automaton to be learned back.

    Attributes:
        states: how many it has.
        source: "words", all of up to three symbols and their joins, or "vectors", sequences drawn at random.
        noise: on every value, in units of the largest.
        seed: of the automaton, the sequences and the noise.
    """

    states: int
    source: str = "words"
    noise: float = 0.0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Extraction:
    """A network that learns a grammar, and the automaton that is learned from it.

    Attributes:
        grammar: Tomita's, 1 to 7.
        seed: of the words, the start and the batches.
        hidden: units of the GRU.
        steps: of Adam.
        rate: of Adam.
        batch: words in a step.
        longest: the longest prefixes and suffixes.
        ranks: the numbers of states tried.
    """

    grammar: int
    seed: int = 0
    hidden: int = 16
    steps: int = 600
    rate: float = 1e-2
    batch: int = 32
    longest: int = 5
    ranks: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 12)


Configuration = Recovery | Extraction


def recover(one: Recovery) -> dict[str, float]:
    """How well a random automaton is learned back, in float64."""
    with jax.enable_x64(True):
        rng = np.random.default_rng([one.seed, one.states])
        n = one.states
        shapes = ((n,), (2, n, n), (n,))
        held = WeightedAutomaton(*(jnp.asarray(rng.standard_normal(shape)) for shape in shapes))
        held = dataclasses.replace(held, transitions=held.transitions / np.sqrt(n))
        if one.source == "words":
            every = words(2, 3)
            blocks = hankel(as_cell(held), every, every, symbols=2)
        else:
            half = int(np.ceil(np.log2(n)))
            blocks = hankel_of_sequences(*(_sequences(held, length, rng) for length in (half, 2 * half, 2 * half + 1)))
        largest = max(float(jnp.abs(part).max()) for part in blocks)
        spoiled = jax.tree.map(lambda part: part + one.noise * largest * rng.standard_normal(part.shape), blocks)
        learned = spectral_learning(spoiled, rank=n)
        if one.source == "words":
            held_out = words(2, 8)
            apart = distance(learned.automaton, as_cell(held), held_out).largest
            scale = max(abs(float(value(held, jnp.array(word)))) for word in held_out[1:])
        else:
            xs, ys = _sequences(held, 9, rng)
            apart = jnp.abs(jax.vmap(lambda x: value(learned.automaton, x))(xs) - ys).max()
            scale = float(jnp.abs(ys).max())
        return {"error": _short(float(apart) / scale), "residual": _short(learned.residual)}


def _sequences(held: WeightedAutomaton, length: int, rng: np.random.Generator) -> tuple[jax.Array, jax.Array]:
    xs = jnp.asarray(rng.standard_normal((2 * 2**length + 20, length, 2)))
    return xs, jax.vmap(lambda x: value(held, x))(xs)


def learn(group: Sequence[Extraction], advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Networks trained on a grammar, and the automata learned from them."""
    found = []
    for one in group:  # every seed has its own words
        data = load("tomita", grammar=one.grammar, seed=one.seed, longest=(LONGEST, 2 * LONGEST - 1, 2 * LONGEST))
        module = linen.GRUCell(one.hidden)
        [trained] = training.train(
            training.celled(module),
            data,
            [training.Run(_start(module, one.seed), one.seed, {"rate": one.rate})],
            _optimizer,
            steps=one.steps,
            batch=one.batch,
            points=1,
        )
        found.append({"test_accuracy": trained.result["test_accuracy"]} | _extracted(one, module, trained.params, data))
        advanced(one.steps)
    return found


def _optimizer(hyper: training.Hyper) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(hyper["rate"]))


def _start(module: linen.GRUCell, seed: int) -> dict[str, Any]:
    cell_key, readout_key = jax.random.split(jax.random.key(seed))
    params = module.init(cell_key, jnp.zeros(module.features), jnp.zeros(2))["params"]
    kernel = jax.nn.initializers.lecun_normal()(readout_key, (module.features, 2), jnp.float32)
    start: dict[str, Any] = jax.device_get({"cell": params, "readout": {"kernel": kernel, "bias": jnp.zeros(2)}})
    return start


def _extracted(one: Extraction, module: linen.GRUCell, params: Any, data: Any) -> dict[str, Any]:
    network = maso_rnn.Cell(
        params,
        lambda params, h, x: module.apply({"params": params["cell"]}, h, x)[0],
        _leaning,
        jnp.zeros(one.hidden),
    )
    every = words(2, one.longest)
    blocks = hankel(network, every, every, symbols=2)
    fits, by_rank = {}, {}
    middling, held_out = _as_words(data.validation), _as_words(data.test)
    for rank in one.ranks:
        try:
            fits[rank] = spectral_learning(blocks, rank=rank)
        except ValueError:  # beyond the numerical rank
            break
        near, far = (distance(fits[rank].automaton, network, chosen) for chosen in (middling, held_out))
        by_rank[rank] = {
            "middling": _short(near.root_mean_square),
            "error": _short(far.root_mean_square / far.scale),
            "agreement": _short(far.agreement),
        }
    best = min(by_rank, key=lambda rank: by_rank[rank]["middling"])
    said = distance(fits[1].automaton, network, held_out).scale  # the network's own scale
    constant = _constant(network, held_out)
    result = {
        "rank": best,
        "agreement": by_rank[best]["agreement"],
        "error": by_rank[best]["error"],
        "agreement_of_one_state": by_rank[1]["agreement"],
        "constant": _short(constant),
        "scale": _short(said),
        "singular_values": [_short(size) for size in fits[best].singular_values[:12]],
        "by_rank": {str(rank): told for rank, told in by_rank.items()},
    }
    try:
        graph = state_graph(fits[best].automaton, tolerance=TOLERANCE, max_states=24)
    except ValueError:  # ever new states
        return result | {"states": "nan", "states_agreement": "nan"}
    decisions = np.asarray([graph.values[graph.run(word), 0] > 0 for word in held_out])
    same = decisions == (_outputs(network, held_out) > 0)
    return result | {
        "states": len(graph.after),
        "states_agreement": _short(same.mean()),
        "after": graph.after.tolist(),
        "values": [_short(out) for out in graph.values[:, 0]],
    }


def _leaning(params: Any, h: jax.Array) -> jax.Array:
    """By how much the network thinks that a word is of the language rather than not, from −1 to 1."""
    logits = h @ params["readout"]["kernel"] + params["readout"]["bias"]
    return jnp.tanh((logits[1:] - logits[:1]) / 2)


def _as_words(split: Split) -> list[tuple[int, ...]]:
    """The words of a split, each once."""
    bits = split.inputs.argmax(axis=2)
    return list(dict.fromkeys(tuple(row[:length].tolist()) for row, length in zip(bits, split.lengths, strict=True)))


def _outputs(network: maso_rnn.Cell, chosen: Sequence[tuple[int, ...]]) -> np.ndarray:
    return np.asarray(hankel(network, chosen, [()], symbols=2).column)[:, 0]


def _constant(network: maso_rnn.Cell, chosen: Sequence[tuple[int, ...]]) -> float:
    """How often the more frequent of the network's two decisions is what it says."""
    share = float((_outputs(network, chosen) > 0).mean())
    return max(share, 1 - share)


def _short(number: Any) -> float:
    return float(f"{float(number):.4g}")


def train(group: Sequence[Configuration], state: Path, advanced: Callable[[int], None]) -> list[dict[str, Any]]:
    """Everything that a group asks for."""
    del state
    if isinstance(group[0], Extraction):
        return learn([one for one in group if isinstance(one, Extraction)], advanced)
    found: list[dict[str, Any]] = []
    for one in group:
        if isinstance(one, Recovery):
            found.append(recover(one))
            advanced(1)
    return found


def of(rows: Rows[Any], kind: type) -> list[Any]:
    """The rows of one kind of configuration."""
    return [row for row in rows.fixed if isinstance(row.configuration, kind)]


def sections(rows: Rows[Configuration]) -> list[Section]:
    """Errors of recovery, agreement by the number of states, and the automaton of each grammar."""
    return [*_recovery(of(rows, Recovery)), *_extraction(of(rows, Extraction))]


def _recovery(rows: list[Any]) -> list[Section]:
    if not rows:
        return []
    figure = plots.new_figure(6, 3.5)
    axes = figure.subplots()
    for i, (source, noise) in enumerate(distinct(rows, lambda one: (one.source, one.noise))):
        chosen = having(rows, source=source, noise=noise)
        at = [row.configuration.states + 0.08 * (i - 1.5) for row in chosen]
        axes.semilogy(
            at, [row.result["error"] for row in chosen], MARKERS[i], color=plots.COLOURS[i],
            label=f"{source}, noise {noise:g}", markersize=4,
        )  # fmt: skip
    axes.set(xlabel="states", ylabel="largest error over largest value")
    axes.legend()
    question = "Is an automaton learned back from what it says?"
    picture = Picture("automata-recovery", question, figure, "Each mark is a random automaton.")
    return [Section("recovery", "Random automata", "", [picture], {"rows": [dict(row.result) for row in rows]})]


def _extraction(rows: list[Any]) -> list[Section]:
    if not rows:
        return []
    grammars = distinct(rows, "grammar")
    figure = plots.new_figure(4 * min(4, len(grammars)), 4 * -(-len(grammars) // 4))
    said = []
    for i, grammar in enumerate(grammars):
        chosen = having(rows, grammar=grammar)
        agreement = np.asarray([row.result["agreement"] for row in chosen])
        said.append(f"{grammar}: {agreement.mean():.3f} ({agreement.min():.3f} to {agreement.max():.3f})")
        axes = figure.add_subplot(-(-len(grammars) // 4), min(4, len(grammars)), i + 1)
        finite = [row.result for row in chosen if "after" in row.result]
        if finite:
            best = max(finite, key=lambda result: result["states_agreement"])
            graph = StateGraph(np.asarray(best["after"]), 0.5 + np.asarray(best["values"]) / 2, ())
            plots_automata.draw_states(graph, axes=axes)
            axes.set_title(f"grammar {grammar}: as the network {best['states_agreement']:.1%}")
        else:
            axes.set_axis_off()
            axes.set_title(f"grammar {grammar}: no finite automaton")
    caption = f"The best of {len(rows) // len(grammars)} seeds. Agreement of the weighted automata, {'; '.join(said)}."
    picture = Picture("automata-grammars", "Which automaton has the network learned?", figure, caption)
    return [
        Section(
            "extraction", "Networks that learned grammars", "", [picture], {"rows": [dict(row.result) for row in rows]}
        )
    ]


def _size(seeds: int, states: Sequence[int], grammars: Sequence[int], **settings: Any) -> Size[Configuration]:
    recoveries = [
        Recovery(n, source, noise, seed)
        for source, noise in (("words", 0.0), ("words", 1e-6), ("vectors", 0.0))
        for n in states
        for seed in range(seeds)
    ]
    extractions = [Extraction(grammar, seed, **settings) for grammar in grammars for seed in range(seeds)]
    return Size(fixed=[*recoveries, *extractions])


EXPERIMENT = Experiment(
    name="automata",
    question="Which automaton is a recurrent network?",
    introduction=lambda size, rows: (
        f"{len(of(rows, Recovery))} random automata learned back, and automata of {len(of(rows, Extraction))} networks "
        "that learned Tomita's grammars."
    ),
    sizes={
        "smoke": lambda: _size(1, [2], [4], hidden=4, steps=20, longest=2, ranks=(1, 2)),
        "small": lambda: _size(5, [2, 3, 4, 5, 6], range(1, 8)),
        "paper": lambda: _size(20, [2, 3, 4, 5, 6], range(1, 8), hidden=64, steps=5000, rate=1e-3, longest=6),
    },
    train=train,
    sections=sections,
    together=lambda one: dataclasses.replace(one, seed=0),
    steps=lambda one: one.steps if isinstance(one, Extraction) else 1,
)
