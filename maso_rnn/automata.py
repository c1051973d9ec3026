"""Weighted automata: linear networks that read words, and how one is learned from what a network says of words.

A weighted automaton gives a word s_1 … s_T the value

    f(s_1 … s_T) = initial @ A[s_1] @ … @ A[s_T] @ final,

with a square matrix for each symbol. It is a linear second-order RNN, h_t = Σ_i x_t[i] h_{t−1} @ A[i], read on one-hot
vectors; on any other vectors it is one too. The Hankel matrix of f has f(uv) at prefix u and suffix v. Its rank is the
number of states of the smallest automaton for f (Fliess), and a factorisation P S of it gives that automaton:
A[s] = P⁺ H_s S⁺, where H_s has f(usv). Here both factors come from a singular value decomposition.

Words are sequences of whole numbers below the number of symbols, as tuples; `words` lists all of them. What a value is
is the caller's to say: a number, or (output,), as a network has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from maso_rnn import checks, functions
from maso_rnn.cells import Cell, output_after, traced_step
from maso_rnn.network import RNN, Inputs, embedded, until

__all__ = [
    "Distance",
    "Hankel",
    "Learned",
    "StateGraph",
    "WeightedAutomaton",
    "as_cell",
    "distance",
    "extract",
    "from_cell",
    "hankel",
    "hankel_of_sequences",
    "spectral_learning",
    "state_graph",
    "value",
    "words",
]

Word: TypeAlias = Sequence[int]
Source: TypeAlias = Cell | Mapping[tuple[int, ...], Any] | Callable[[tuple[int, ...]], Any]
"""What has a value for each word: a `Cell`, values by word, or a function of a word."""

MOST_WORDS = 2**22  # of a Hankel block, or of a list of all words
MOST_SWEEPS = 1000  # over the cores of a tensor train


@struct.dataclass
class WeightedAutomaton:
    """A weighted automaton, which is a linear second-order RNN: a pytree whose weights are leaves.

    Attributes:
        initial: (state,).
        transitions: (symbol, state, state), from the state before to the state after.
        final: (state,), or (state, output) where a value is a vector.
    """

    initial: Any
    transitions: Any
    final: Any


class Hankel(NamedTuple):
    """Blocks of the Hankel matrix of a function f of words; (output,) is last on each where f is a vector.

    Attributes:
        block: (prefix, suffix), f(uv).
        shifted: (symbol, prefix, suffix), f(u symbol v).
        column: (prefix,), f(u).
        row: (suffix,), f(v).
    """

    block: Float[Array, "prefix suffix *output"]
    shifted: Float[Array, "symbol prefix suffix *output"]
    column: Float[Array, "prefix *output"]
    row: Float[Array, "suffix *output"]


class Learned(NamedTuple):
    """An automaton that was learned.

    Attributes:
        automaton: the automaton.
        singular_values: (value,), of the block, largest first: a gap shows how many states there are.
        residual: what it misses of the shifted blocks, relative, in the Frobenius norm: rounding where the blocks are
            exact and large enough.
    """

    automaton: WeightedAutomaton
    singular_values: Float[Array, " value"]
    residual: Float[Array, ""]


class Distance(NamedTuple):
    """How far an automaton is from what it stands for, on words.

    Attributes:
        largest: the largest difference of a value.
        root_mean_square: of all differences.
        scale: the root mean square of the values themselves.
        agreement: the share of words with the same decision: the largest output, or the sign of a single one.
    """

    largest: Float[Array, ""]
    root_mean_square: Float[Array, ""]
    scale: Float[Array, ""]
    agreement: Float[Array, ""]


class StateGraph(NamedTuple):
    """The states that an automaton comes to, told apart by what follows from them.

    Attributes:
        after: (state, symbol), the state after each symbol; state 0 is where words begin.
        values: (state,) or (state, output), the value of the words that end there.
        words: for each state a shortest word that leads to it.
    """

    after: np.ndarray
    values: np.ndarray
    words: tuple[tuple[int, ...], ...]

    def run(self, word: Word) -> int:
        """The state after a word of the alphabet."""
        state = 0
        for symbol in _words("word", [word], self.after.shape[1])[0]:
            state = int(self.after[state, symbol])
        return state


def words(symbols: int, longest: int) -> list[tuple[int, ...]]:
    """All words up to a length, the shortest first, and each length in alphabetical order.

    Args:
        symbols: how many there are.
        longest: the length of the longest words, at least 0.

    Returns:
        The words, the empty one first.

    Raises:
        ValueError: if there are more than 2^22 of them.
        TypeError: if a size is not an integer.

    Example:
        >>> words(2, 2)
        [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1)]
    """
    symbols, longest = checks.size("symbols", symbols), checks.size("longest", longest, least=0)
    shorter = itertools.takewhile(lambda n: symbols**n <= MOST_WORDS, range(longest + 1))
    if len(list(shorter)) <= longest or sum(symbols**n for n in range(longest + 1)) > MOST_WORDS:
        raise ValueError(f"longest must leave at most {MOST_WORDS} words of {symbols} symbols, got {longest}")
    return [word for n in range(longest + 1) for word in itertools.product(range(symbols), repeat=n)]


def value(
    automaton: WeightedAutomaton, word: Inputs, *, length: int | Int[Array, ""] | None = None
) -> Float[Array, "*output"]:
    """What an automaton says of a word, or of a sequence of vectors.

    Equation: initial @ A[s_1] @ … @ A[s_T] @ final, where A[s_t] is Σ_i x_t[i] A[i] for vectors x_t.

    Args:
        automaton: the automaton.
        word: (time,), whole numbers below the number of symbols, or (time, symbol), vectors; at least one.
        length: how many of them count, from 0, the empty word; the rest is padding. May be traced.

    Returns:
        A number, or (output,) where `final` has an axis of outputs. NaN for a traced symbol beyond the alphabet.

    Raises:
        ValueError: if shapes do not fit, or a symbol is beyond the alphabet.
        TypeError: if `word` is of no numbers, or `automaton` is none.

    Example:
        >>> double = WeightedAutomaton(jnp.ones(1), jnp.array([[[1.0]], [[2.0]]]), jnp.ones(1))  # 2 to the number of 1s
        >>> float(value(double, jnp.array([1, 0, 1])))
        4.0

    Source:
        Li, Precup, Rabusseau, *Connecting weighted automata, tensor networks and recurrent neural networks through
        spectral learning* (2020), definitions 2 and 6.
    """
    sizes = _checked(automaton)
    alphabet = checks.concretely(lambda: jnp.eye(sizes["symbol"], dtype=automaton.transitions.dtype))
    xs = checks.array("word", embedded("word", word, alphabet), "time symbol", sizes, automaton.transitions.dtype)
    if length is not None:
        length, inside = checks.index("length", length, 0, len(xs) + 1)
        xs = until(length, xs)
        if not checks.is_concrete(inside):
            xs = jnp.where(inside, xs, jnp.nan)
            length = jnp.where(inside, length, len(xs))
    checks.finite(automaton=automaton, word=xs)
    return _value(automaton, xs, length)


@jax.jit
def _value(automaton: WeightedAutomaton, xs: Array, length: Array | None) -> Array:
    return output_after(
        lambda h, x: _step(automaton, h, x), lambda h: h @ automaton.final, automaton.initial, xs, length
    )


def _step(automaton: WeightedAutomaton, h: Array, x: Array) -> Array:
    return jnp.einsum("i,ijk,j->k", x, automaton.transitions, h, precision="highest")


def _read(automaton: WeightedAutomaton, h: Array) -> Array:
    return jnp.atleast_1d(h @ automaton.final)


def as_cell(automaton: WeightedAutomaton) -> Cell:
    """An automaton as the linear second-order RNN that it is, which embeds words as one-hot vectors.

    Args:
        automaton: the automaton.

    Returns:
        A `Cell` with input (symbol,), state (state,) and output (output,), whose parameters are the automaton.

    Raises:
        ValueError: if its shapes do not fit together, or its numbers are not finite.
        TypeError: if it is none.

    Example:
        >>> double = WeightedAutomaton(jnp.ones(1), jnp.array([[[1.0]], [[2.0]]]), jnp.ones(1))
        >>> network = as_cell(double)
        >>> network.read(network(network.initial, jnp.array([0.0, 1.0]))).tolist()
        [2.0]

    Source:
        Li, Precup, Rabusseau (2020), theorem 3.
    """
    sizes = _checked(automaton)
    checks.finite(automaton=automaton)
    alphabet = checks.concretely(lambda: jnp.eye(sizes["symbol"], dtype=automaton.transitions.dtype))
    return Cell(automaton, _step, _read, automaton.initial, alphabet)


def from_cell(cell: Cell, *, symbols: int | None = None) -> WeightedAutomaton:
    """A linear second-order RNN as an automaton: exactly, so that `as_cell` gives the same network back.

    Equation: A[i, j] = step(e_j, e_i), final[j] = readout(e_j).

    Args:
        cell: a network whose step is linear in its state and linear in its input, and whose readout is linear.
        symbols: how many symbols there are: the size of the input, where the cell does not embed its symbols.

    Returns:
        The automaton, whose states are the numbers of the carry.

    Raises:
        ValueError: if the cell is not linear in each, or `symbols` is missing or not the number of embedded ones.
        TypeError: if `cell` is none.

    Example:
        >>> double = WeightedAutomaton(jnp.ones(1), jnp.array([[[1.0]], [[2.0]]]), jnp.ones(1))
        >>> from_cell(as_cell(double)).transitions.ravel().tolist()
        [1.0, 2.0]

    Source:
        Li, Precup, Rabusseau (2020), theorem 3.
    """
    alphabet = _alphabet(cell, symbols)
    start = checks.carry("cell.initial", cell.initial)
    checks.finite(cell=cell)
    initial, unravel = ravel_pytree(start)
    stepped = traced_step(cell, "cell.initial", start, alphabet[0])
    read = functions.traced("readout", cell.read, start)

    def step(h: Array, x: Array) -> Array:
        return ravel_pytree(stepped(unravel(h), x))[0]

    basis = jnp.eye(initial.size, dtype=initial.dtype)
    transitions = jax.vmap(lambda x: jax.vmap(lambda h: step(h, x))(basis))(alphabet)
    final = jax.vmap(lambda h: read(unravel(h)))(basis)
    found = WeightedAutomaton(initial, transitions, final)
    # at random points, where a function that is not linear in each is not by chance what a linear one is
    rng = np.random.default_rng(0)
    h, mix = (jnp.asarray(rng.standard_normal((initial.size, n)), initial.dtype) for n in (initial.size, len(alphabet)))
    pairs = (
        (jax.vmap(step)(h, mix @ alphabet), jax.vmap(lambda h, x: _step(found, h, x))(h, mix)),
        (jax.vmap(lambda h: read(unravel(h)))(h), h @ final),
    )
    for told, linear in pairs:
        if not bool(jnp.allclose(told, linear, rtol=0, atol=1e3 * jnp.finfo(h.dtype).eps * jnp.abs(linear).max())):
            raise ValueError(
                "cell must be linear in its state and in its input, as h @ A[symbol] is, and so must its readout; "
                "maso_rnn.automata.extract learns an automaton that is near any other cell"
            )
    return found


def hankel(source: Source, prefixes: Sequence[Word], suffixes: Sequence[Word], *, symbols: int) -> Hankel:
    """Blocks of the Hankel matrix of anything that has a value for each word.

    Args:
        source: a `Cell`, which reads words as one-hot vectors, or as it embeds them; a function of a word, such as
            the frequency of the word in a sample; or values by word.
        prefixes: words; `words` lists all up to a length.
        suffixes: words.
        symbols: how many symbols there are.

    Returns:
        `Hankel(block, shifted, column, row)`.

    Raises:
        ValueError: if there are no prefixes or suffixes, a word has a symbol beyond the alphabet, values are missing,
            not finite or of several shapes, or there are too many words.
        TypeError: if `source` is none of these.

    Example:
        >>> every = words(2, 1)
        >>> hankel(lambda word: 2.0 ** sum(word), every, every, symbols=2).block.tolist()
        [[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [2.0, 2.0, 4.0]]

    Source:
        Li, Precup, Rabusseau (2020), section 2.2.
    """
    symbols = checks.size("symbols", symbols)
    return _blocks(
        "source", source, _words("prefixes", prefixes, symbols), _words("suffixes", suffixes, symbols), symbols
    )


def _blocks(name: str, source: Any, prefixes: list[Any], suffixes: list[Any], symbols: int) -> Hankel:
    count = (symbols + 1) * len(prefixes) * len(suffixes)
    if count > MOST_WORDS:
        raise ValueError(f"prefixes and suffixes must make at most {MOST_WORDS} words, got {count}; give fewer")
    between = [(), *((symbol,) for symbol in range(symbols))]
    wanted = [u + s + v for s in between for u in prefixes for v in suffixes] + prefixes + suffixes
    known = dict.fromkeys(wanted)
    found = _values(name, source, list(known), symbols)
    at = {word: i for i, word in enumerate(known)}
    values = found[np.asarray([at[word] for word in wanted])]
    blocks = values[:count].reshape(symbols + 1, len(prefixes), len(suffixes), *values.shape[1:])
    column, row = values[count : count + len(prefixes)], values[count + len(prefixes) :]
    return Hankel(*map(jnp.asarray, (blocks[0], blocks[1:], column, row)))


def hankel_of_sequences(
    short: tuple[Any, Any], double: tuple[Any, Any], longer: tuple[Any, Any], *, rank: int | None = None
) -> Hankel:
    """Blocks of the Hankel matrix from sequences of vectors and what is said of them.

    Equation: y = ⟨H, x_1 ⊗ … ⊗ x_l⟩, solved for the tensor H by least squares, for the lengths l = L, 2L and 2L + 1;
    `spectral_learning` of the blocks gives the linear second-order RNN that says so.

    Args:
        short: (xs, ys) of sequences of L vectors: xs (sequence, L, input), ys (sequence,) or (sequence, output).
        double: of 2L vectors.
        longer: of 2L + 1.
        rank: by default H is any tensor, of input^l numbers, and as many sequences are needed. With a rank it is a
            tensor train of that rank, fitted core by core: some l · input · rank² sequences will do, and many may
            be needed for it to find the least squares; `Learned.residual` and held-out sequences tell.

    Returns:
        The blocks, with all words of length L as prefixes and suffixes.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or there are too few sequences.
        TypeError: if an array is not floating.

    Example:
        >>> keys = iter(jax.random.split(jax.random.key(0), 3))
        >>> draws = [jax.random.normal(next(keys), (40, length, 2)) for length in (1, 2, 3)]
        >>> blocks = hankel_of_sequences(*((xs, xs.sum(axis=2).prod(axis=1)) for xs in draws))
        >>> spectral_learning(blocks, rank=1).automaton.transitions.shape
        (2, 1, 1)

    Source:
        Li, Precup, Rabusseau (2020), section 5: theorems 6 and 7; the tensor train by alternating least squares.
    """
    rank = None if rank is None else checks.size("rank", rank)
    sizes: dict[str, Any] = {}
    tensors = {}
    pairs = {"short": short, "double": double, "longer": longer}
    for name, pair in pairs.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{name} must be a pair of sequences and their values, got {type(pair).__name__}")
        sizes.pop("sequence", None), sizes.pop("time", None)
        xs = checks.array(f"{name} sequences", pair[0], "sequence time input", sizes)
        ys = checks.array(
            f"{name} values", pair[1], "sequence output" if getattr(pair[1], "ndim", 1) == 2 else "sequence", sizes
        )
        tensors[name] = (np.asarray(xs, float), np.asarray(ys, float), xs.dtype)
        if ys.shape[1:] != (wanted := tensors["short"][1].shape[1:]):
            raise ValueError(f"{name} values must be as those of short, sequence and then {wanted}, got {ys.shape[1:]}")
    half = tensors["short"][0].shape[1]
    for name, wanted in (("double", 2 * half), ("longer", 2 * half + 1)):
        if tensors[name][0].shape[1] != wanted:
            raise ValueError(f"{name} must have {wanted} steps, as short has {half}, got {tensors[name][0].shape[1]}")
    checks.finite(**pairs)
    d, dtype = sizes["input"], tensors["short"][2]
    first, even, odd = (_tensor(name, xs, ys, rank) for name, (xs, ys, _) in tensors.items())
    side = d**half
    output = first.shape[1:]
    return Hankel(
        jnp.asarray(even.reshape(side, side, *output), dtype),
        jnp.asarray(np.moveaxis(odd.reshape(side, d, side, *output), 1, 0), dtype),
        jnp.asarray(first, dtype),
        jnp.asarray(first, dtype),
    )


def spectral_learning(blocks: Hankel, *, rank: int | None = None, tolerance: float | None = None) -> Learned:
    """The smallest automaton with these Hankel blocks; with fewer states, one that is near it.

    Equation: block ≈ P S by its largest singular values; A[s] = P⁺ shifted[s] S⁺, initial = row S⁺, final = P⁺ column.

    The blocks determine it if they have the rank of the whole Hankel matrix. With neither `rank` nor `tolerance` they
    are taken for exact, and refused where they cannot be shown to have it: give more prefixes and suffixes.

    Args:
        blocks: from `hankel` or `hankel_of_sequences`.
        rank: how many states; by default as many as there are singular values above the tolerance.
        tolerance: of the largest singular value, what counts as 0; by default rounding, the sum of both sides of
            the block in units of the dtype's precision.

    Returns:
        `Learned(automaton, singular_values, residual)`, computed in float64 and cast to the blocks' dtype.

    Raises:
        ValueError: if `rank` is beyond the numerical rank, shapes do not fit, values are not finite, or blocks taken
            for exact are too small. The singular values are told.
        TypeError: if an argument is of the wrong type.

    Example:
        >>> every = words(2, 1)
        >>> learned = spectral_learning(hankel(lambda word: 2.0 ** sum(word), every, every, symbols=2))
        >>> learned.automaton.initial.shape, round(float(value(learned.automaton, jnp.array([1, 1, 1]))), 4)
        ((1,), 8.0)

    Source:
        Balle, Carreras, Luque, Quattoni, *Spectral learning of weighted automata* (2014); Li, Precup, Rabusseau (2020),
        section 2.2.
    """
    block, shifted, column, row = _checked_blocks(blocks)
    precision = float(jnp.finfo(blocks.block.dtype).eps)
    told = sum(block.shape[:2]) * precision if tolerance is None else checks.number("tolerance", tolerance, least=0)
    symbols, prefixes, suffixes = shifted.shape[:3]
    output = block.shape[2:]
    flat, shifts = block.reshape(prefixes, -1), shifted.reshape(symbols, prefixes, -1)
    left, sizes, right = np.linalg.svd(flat, full_matrices=False)
    numerical = int((sizes > told * sizes[0]).sum())
    shown = ", ".join(f"{size:.3g}" for size in sizes[: max(numerical + 2, 4)])
    states = numerical if rank is None else checks.size("rank", rank)
    if not numerical:
        raise ValueError(
            f"blocks have no singular value above the tolerance, {told:.2g} of the largest; they are {shown}"
            + ("; give a tolerance below 1" if sizes[0] else "; give prefixes and suffixes with other values than 0")
        )
    if states > numerical:
        raise ValueError(
            f"rank must be from 1 to {numerical}, the numerical rank of the block, got {rank}; its singular values are "
            f"{shown}, and more of them need more prefixes and suffixes"
        )
    is_exact = rank is None and tolerance is None
    if is_exact and numerical == min(flat.shape):
        raise ValueError(
            f"blocks of {prefixes} prefixes and {suffixes} suffixes have all the rank, {numerical}, that they can, and "
            f"may be too small: give more of both, or rank= to say how many states there are; singular values {shown}"
        )
    roots = np.sqrt(sizes[:states])
    into, onto = left[:, :states].T / roots[:, None], right[:states].T / roots  # P⁺ and S⁺
    transitions = into @ shifts @ onto
    final = (into @ column.reshape(prefixes, -1)).reshape(states, *output)
    rebuilt = (left[:, :states] * roots) @ transitions @ (roots[:, None] * right[:states])
    residual = np.linalg.norm(rebuilt - shifts) / max(np.linalg.norm(shifts), np.finfo(float).tiny)
    if is_exact and residual > np.sqrt(precision):
        raise ValueError(
            f"blocks are too small, or not exact: {states} states miss {residual:.1g} of the shifted blocks; give more "
            f"prefixes and suffixes, or rank= or tolerance= for what is not exact; singular values {shown}"
        )
    dtype = blocks.block.dtype
    automaton = WeightedAutomaton(*(jnp.asarray(part, dtype) for part in (row.reshape(-1) @ onto, transitions, final)))
    return Learned(automaton, jnp.asarray(sizes, dtype), jnp.asarray(residual, dtype))


def extract(
    cell: Cell, *, longest: int, rank: int | None = None, tolerance: float | None = None, symbols: int | None = None
) -> Learned:
    """An automaton that is near a network on words: learned from its outputs on short ones.

    Args:
        cell: the network, whose output is what an automaton is to say; `maso_rnn.cell` makes one of a network.
            Outputs that stay within bounds, such as probabilities, are nearer to an automaton's than logits.
        longest: the length of the longest prefixes and suffixes; words twice as long, and one symbol, are read.
        rank: how many states, as for `spectral_learning`.
        tolerance: as for `spectral_learning`; for a trained network give one of them.
        symbols: how many symbols there are: the size of the input, where the cell does not embed them.

    Returns:
        `Learned(automaton, singular_values, residual)`; `distance` says how far it is from the network on other words.

    Raises:
        ValueError: as `hankel` and `spectral_learning`.
        TypeError: likewise.

    Example:
        >>> double = WeightedAutomaton(jnp.ones(1), jnp.array([[[1.0]], [[2.0]]]), jnp.ones(1))
        >>> extract(as_cell(double), longest=1).automaton.initial.shape
        (1,)

    Source:
        Ayache, Eyraud, Goudian, *Explaining black boxes on sequential data using weighted automata* (2018).
    """
    alphabet = _alphabet(cell, symbols)
    every = words(len(alphabet), longest)
    return spectral_learning(_blocks("cell", cell, every, every, len(alphabet)), rank=rank, tolerance=tolerance)


def distance(automaton: WeightedAutomaton, source: Source, held_out: Sequence[Word]) -> Distance:
    """How far an automaton is from a network, or another function of words, on words that it was not learned from.

    Args:
        automaton: the automaton.
        source: as for `hankel`.
        held_out: the words.

    Returns:
        `Distance(largest, root_mean_square, scale, agreement)`.

    Raises:
        ValueError: if there are no words, one has a symbol beyond the alphabet, or values have other shapes.
        TypeError: if an argument is of the wrong type.

    Example:
        >>> double = WeightedAutomaton(jnp.ones(1), jnp.array([[[1.0]], [[2.0]]]), jnp.ones(1))
        >>> float(distance(double, lambda word: 2.0 ** sum(word), [(0, 1), (1, 1, 1)]).largest)
        0.0
    """
    symbols = _checked(automaton)["symbol"]
    checks.finite(automaton=automaton)
    chosen = _words("held_out", held_out, symbols)
    theirs = _values("source", source, chosen, symbols)
    ours = _values("automaton", as_cell(automaton), chosen, symbols).reshape(len(chosen), -1)
    theirs = theirs.reshape(len(chosen), -1)
    if ours.shape != theirs.shape:
        raise ValueError(f"source must give {ours.shape[1]} outputs, as the automaton does, got {theirs.shape[1]}")
    apart = ours - theirs
    same = (
        ours.argmax(axis=1) == theirs.argmax(axis=1)
        if ours.shape[1] > 1
        else (ours > 0).ravel() == (theirs > 0).ravel()
    )
    parts = (np.abs(apart).max(), np.sqrt((apart**2).mean()), np.sqrt((theirs**2).mean()), same.mean())
    return Distance(*(jnp.asarray(part, automaton.transitions.dtype) for part in parts))


@np.errstate(over="ignore", invalid="ignore")  # values may run away
def state_graph(automaton: WeightedAutomaton, *, tolerance: float = 1e-6, max_states: int = 64) -> StateGraph:
    """The finite automaton that a weighted one is, where few states are told apart by what follows from them.

    From the empty word on, a symbol leads to the state whose futures, the values of what may follow, are nearest, if
    they are within the tolerance, and to a new one if not.

    Args:
        automaton: the automaton; `maso_rnn.plots_automata.draw_states` draws what is found.
        tolerance: by how much futures of one state may differ, relative to the largest value among those met.
        max_states: the most states.

    Returns:
        `StateGraph(after, values, words)`.

    Raises:
        ValueError: if there are more states, or the automaton's shapes or numbers are no good.
        TypeError: if an argument is of the wrong type.

    Example:
        >>> swap = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])  # 1 if the number of 1s is even
        >>> state_graph(WeightedAutomaton(jnp.array([1.0, 0.0]), swap, jnp.array([1.0, 0.0]))).after.tolist()
        [[0, 1], [1, 0]]

    Source:
        Nerode, *Linear automaton transformations* (1958): states are words that have the same futures.
    """
    sizes = _checked(automaton)
    checks.finite(automaton=automaton)
    tolerance = checks.number("tolerance", tolerance, above=0)
    max_states = checks.size("max_states", max_states)
    initial, transitions, final = (np.asarray(part, float) for part in jax.tree.leaves(automaton))
    futures = _futures(transitions, final.reshape(sizes["state"], -1))
    places, access = [initial], [tuple[int, ...]()]
    after: list[list[int]] = []
    scale = np.abs(initial @ futures).max()
    while len(after) < len(places):
        now = len(after)
        after.append([])
        for symbol, matrix in enumerate(transitions):
            reached = places[now] @ matrix
            size = np.abs(reached @ futures).max()
            if not np.isfinite(size):
                raise ValueError(f"automaton must have finite values, but it runs away on {(*access[now], symbol)}")
            scale = max(scale, size)
            apart = np.abs((np.asarray(places) - reached) @ futures).max(axis=1)
            nearest = int(apart.argmin())
            if apart[nearest] > tolerance * scale:
                if len(places) == max_states:
                    raise ValueError(
                        f"max_states of {max_states} are not enough at tolerance {tolerance:g}: the automaton has more "
                        "states, or comes to ever new ones; give more, or a larger tolerance"
                    )
                nearest = len(places)
                places.append(reached)
                access.append((*access[now], symbol))
            after[now].append(nearest)
    return StateGraph(np.asarray(after), np.asarray(places) @ final, tuple(access))


def _futures(transitions: np.ndarray, final: np.ndarray) -> np.ndarray:
    """(state, future), what follows by the shortest words whose values tell all states apart that any words do."""
    kept, span = [], np.zeros((len(final), 0))
    queue = list(final.T)
    for vector in queue:  # it grows as it is read
        left = vector - span @ (span.T @ vector)
        if np.linalg.norm(left) > 1e-9 * np.linalg.norm(vector):
            kept.append(vector)
            span, _ = np.linalg.qr(np.stack(kept, axis=1))
            queue.extend(matrix @ vector for matrix in transitions)
    return np.stack(kept, axis=1) if kept else final


def _checked(automaton: Any) -> dict[str, Any]:
    """The sizes of an automaton whose shapes fit together."""
    checks.instance("automaton", automaton, WeightedAutomaton, "maso_rnn.automata.WeightedAutomaton")
    sizes: dict[str, Any] = {}
    first = checks.array("automaton.initial", automaton.initial, "state", sizes)
    checks.array("automaton.transitions", automaton.transitions, "symbol state state", sizes, first.dtype)
    has_outputs = getattr(automaton.final, "ndim", 1) == 2
    checks.array("automaton.final", automaton.final, "state output" if has_outputs else "state", sizes, first.dtype)
    return sizes


def _checked_blocks(blocks: Any) -> list[np.ndarray]:
    """The blocks, in float64, once they are known to fit."""
    checks.instance("blocks", blocks, Hankel, "maso_rnn.automata.hankel")
    sizes: dict[str, Any] = {}
    output = " output" * (getattr(blocks.block, "ndim", 2) == 3)
    block = checks.array("blocks.block", blocks.block, f"prefix suffix{output}", sizes)
    rest = {"shifted": f"symbol prefix suffix{output}", "column": f"prefix{output}", "row": f"suffix{output}"}
    checks.fields("blocks", blocks, sizes, block.dtype, **rest)
    if not checks.is_concrete(blocks):
        raise TypeError("blocks must be known numbers, as the number of states is read off them: not under jax.jit")
    checks.finite(blocks=blocks)
    return [np.asarray(part, float) for part in blocks]


def _alphabet(cell: Any, symbols: int | None) -> Array:
    """What each symbol is to a cell, (symbol, input)."""
    checks.instance("cell", cell, Cell, "maso_rnn.cell")
    symbols = None if symbols is None else checks.size("symbols", symbols)
    if cell.embedding is not None:
        if symbols not in (None, len(cell.embedding)):
            raise ValueError(f"symbols must be the {len(cell.embedding)} that the cell embeds, or None, got {symbols}")
        return jnp.asarray(cell.embedding)
    if symbols is None:
        raise ValueError("symbols must be given: the size of the cell's input, as it has no embedding")
    dtype = jnp.result_type(*jax.tree.leaves(checks.carry("cell.initial", cell.initial)))
    return jnp.eye(symbols, dtype=dtype)


def _words(name: str, given: Any, symbols: int) -> list[tuple[int, ...]]:
    """Words as tuples, all of them of the alphabet."""
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence | np.ndarray):
        raise TypeError(f"{name} must be a list of words, as maso_rnn.automata.words makes, got {type(given).__name__}")
    if not len(given):
        raise ValueError(f"{name} must hold at least one word")
    found = []
    for word in given:
        if isinstance(word, str) or not isinstance(word, Sequence | np.ndarray | jax.Array):
            raise TypeError(f"{name} must hold words, tuples of whole numbers, got {type(word).__name__}")
        found.append(tuple(checks.size(f"a symbol of {name}", symbol, least=0) for symbol in word))
        if max(found[-1], default=0) >= symbols:
            raise ValueError(
                f"{name} must be words of symbols below {symbols}, got {found[-1]}; symbols= says how many"
            )
    return found


def _values(name: str, source: Any, chosen: Sequence[tuple[int, ...]], symbols: int) -> np.ndarray:
    """(word,) or (word, output), what is said of each word."""
    if isinstance(source, Cell):
        return _cell_values(name, source, chosen, symbols)
    if isinstance(source, Mapping):
        missing = [word for word in chosen if word not in source]
        if missing:
            raise ValueError(
                f"{name} must have all {len(chosen)} words, but {len(missing)} are missing, as {missing[0]}"
            )
        rows = [source[word] for word in chosen]
    else:
        if isinstance(source, WeightedAutomaton | RNN):
            made = "maso_rnn.automata.as_cell" if isinstance(source, WeightedAutomaton) else "maso_rnn.cell"
            raise TypeError(f"{name} must be a Cell, got {type(source).__name__}; {made} makes one of it")
        checks.function(name, source)
        with checks.calling(name, "a word, a tuple of whole numbers"):
            rows = [source(word) for word in chosen]
    shapes = {np.shape(row) for row in rows}
    if len(shapes) > 1 or len(next(iter(shapes))) > 1 or 0 in next(iter(shapes)):
        raise ValueError(f"{name} must give one number, or (output,), for every word, got shapes {sorted(shapes)}")
    values = np.asarray(rows)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} must give real numbers, got {values.dtype}")
    values = values if values.dtype == np.float32 else values.astype(float)
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must give finite values, got NaN or infinity among them")
    return values


def _cell_values(name: str, cell: Cell, chosen: Sequence[tuple[int, ...]], symbols: int) -> np.ndarray:
    alphabet = _alphabet(cell, symbols)
    start = checks.carry(f"{name}.initial", cell.initial)
    checks.finite(**{name: cell})
    stepped = traced_step(cell, f"{name}.initial", start, alphabet[0])
    read = functions.traced("readout", cell.read, start)
    out = read.out
    if not isinstance(out, jax.ShapeDtypeStruct) or len(out.shape) != 1 or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"{name} must read out floating numbers (output,), got {out}")
    lengths = np.asarray([len(word) for word in chosen])
    padded = np.zeros((len(chosen), max(1, lengths.max())), int)
    for row, word in zip(padded, chosen, strict=True):
        row[: len(word)] = word
    values = np.asarray(_outputs(stepped, read, start, alphabet, padded, lengths))
    if not np.isfinite(values).all():
        raise ValueError(
            f"{name} must give finite values, got NaN or infinity from the cell: it diverges on longer words"
        )
    return values


@jax.jit
def _outputs(step: Any, read: Any, start: Any, alphabet: Array, padded: Array, lengths: Array) -> Array:
    return jax.vmap(lambda word, length: output_after(step, read, start, alphabet[word], length))(padded, lengths)


def _tensor(name: str, xs: np.ndarray, ys: np.ndarray, rank: int | None) -> np.ndarray:
    """(input^time,) and outputs: the tensor whose products with x_1 ⊗ … ⊗ x_time are nearest to the values."""
    count, time, d = xs.shape
    design = xs[:, 0]
    for t in range(1, time):
        design = (design[:, :, None] * xs[:, t, None, :]).reshape(count, -1)
    found, _, met, _ = np.linalg.lstsq(design, ys, rcond=None)
    if rank is not None:
        return _tensor_train(name, xs, ys.reshape(count, -1), found, rank).reshape(found.shape)
    if met < d**time:
        raise ValueError(
            f"{name} must have {d**time} sequences, input^time, or more, whose products are independent, got {count} "
            f"with {met}; give more, or shorter ones, or rank="
        )
    return found


def _tensor_train(name: str, xs: np.ndarray, ys: np.ndarray, start: np.ndarray, rank: int) -> np.ndarray:
    """The same as a tensor train, by alternating least squares from a tensor; outputs are the last core's last axis."""
    count, time, d = xs.shape
    width = ys.shape[1]
    ranks = [1, *(min(rank, d**t, d ** (time - t) * width) for t in range(1, time)), width]
    largest = max(ranks[t] * d * ranks[t + 1] for t in range(time)) // width
    if count < largest:
        raise ValueError(f"{name} must have {largest} sequences or more for a tensor train of rank {rank}, got {count}")
    cores, rest = [], start.reshape(1, -1)
    for t in range(time - 1):
        left, sizes, right = np.linalg.svd(rest.reshape(ranks[t] * d, -1), full_matrices=False)
        cores.append(left[:, : ranks[t + 1]].reshape(ranks[t], d, ranks[t + 1]))
        rest = sizes[: ranks[t + 1], None] * right[: ranks[t + 1]]
    cores.append(rest.reshape(ranks[time - 1], d, width))
    missed = np.inf
    for _ in range(MOST_SWEEPS):
        # orthogonal cores on both sides keep each problem as well posed as it can be
        after = [np.broadcast_to(np.eye(width), (count, width, width))]
        for t in range(time - 1, 0, -1):
            rows, factor = np.linalg.qr(cores[t].reshape(ranks[t], -1).T)
            cores[t] = rows.T.reshape(ranks[t], d, ranks[t + 1])
            cores[t - 1] = cores[t - 1] @ factor.T
            after.append(np.einsum("ni,aib,nbo->nao", xs[:, t], cores[t], after[-1]))
        before = np.ones((count, 1))
        for t in range(time):
            design = np.einsum("na,ni,nbo->noaib", before, xs[:, t], after[time - 1 - t])
            solved, *_ = np.linalg.lstsq(design.reshape(count * width, -1), ys.ravel(), rcond=None)
            cores[t] = solved.reshape(ranks[t], d, ranks[t + 1])
            if t < time - 1:
                cores[t] = np.linalg.qr(cores[t].reshape(-1, ranks[t + 1]))[0].reshape(cores[t].shape)
            before = np.einsum("na,ni,aib->nb", before, xs[:, t], cores[t])
        last, missed = missed, float(np.linalg.norm(before - ys) / max(np.linalg.norm(ys), np.finfo(float).tiny))
        if missed <= 1e-14 or (missed < 1e-10 and missed > 0.9 * last):
            break
    found = np.ones((1, 1))
    for core in cores:
        found = np.einsum("pa,aib->pib", found, core).reshape(-1, core.shape[2])
    return found
