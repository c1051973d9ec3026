"""Tomita's seven regular grammars over {0, 1}, in sets that no rule about the length can tell apart.

Every set holds, of each length in it, as many strings of the language as others, both drawn evenly from all there
are. So "accept what has an even length" is right half of the time, and so is any other rule that looks at the length
alone; a set drawn freely would give it 0.75 and more where only even lengths are in the language (grammars 2 and 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.data.dataset import Dataset, Split


class Automaton(NamedTuple):
    """A deterministic finite automaton that starts in state 0.

    Attributes:
        language: what it accepts.
        after: after[state] = (the state after a 0, the state after a 1).
        accepting: the states that it accepts in.
    """

    language: str
    after: tuple[tuple[int, int], ...]
    accepting: frozenset[int]

    def accepts(self, string: Sequence[int]) -> bool:
        """Whether the string is in the language."""
        state = 0
        for bit in string:
            state = self.after[state][bit]
        return state in self.accepting


GRAMMARS = {
    1: Automaton("1*", ((1, 0), (1, 1)), frozenset({0})),
    2: Automaton("(10)*", ((2, 1), (0, 2), (2, 2)), frozenset({0})),
    3: Automaton(
        "an odd run of 1s is followed, later on, by even runs of 0s only",
        ((0, 1), (2, 0), (3, 4), (2, 3), (4, 4)),
        frozenset({0, 1, 3}),
    ),
    4: Automaton("no 000", ((1, 0), (2, 0), (3, 0), (3, 3)), frozenset({0, 1, 2})),
    5: Automaton("even numbers of 0s and of 1s", ((1, 2), (0, 3), (3, 0), (2, 1)), frozenset({0})),
    6: Automaton("the numbers of 0s and 1s differ by a multiple of 3", ((1, 2), (2, 0), (0, 1)), frozenset({0})),
    7: Automaton("0*1*0*1*", ((0, 1), (2, 1), (2, 3), (4, 3), (4, 4)), frozenset({0, 1, 2, 3})),
}


def tomita(
    grammar: int,
    *,
    seed: int = 0,
    examples: int = 512,
    longest: tuple[int, int, int] = (12, 14, 16),
) -> Dataset:
    """Strings of a grammar and others, one bit a step in two channels, class 1 where it is in the language.

    Args:
        grammar: 1 to 7.
        seed: of the draws.
        examples: in each of the three parts, a multiple of 2; strings may repeat (some languages have one of a length).
        longest: the longest strings to train on, to choose on and to test on; each part begins where the one before
            it ends, so that no string is in two of them.

    Raises:
        ValueError: if there is no such grammar, `examples` is odd, or a part has no length with strings of both kinds.
    """
    if grammar not in GRAMMARS:
        raise ValueError(f"grammar must be one of 1 to 7, got {grammar}")
    if examples < 2 or examples % 2:
        raise ValueError(f"examples must be a positive multiple of 2, half of each class, got {examples}")
    automaton, rng = GRAMMARS[grammar], np.random.default_rng([seed, grammar])
    counts = _counts(automaton, longest[-1])
    parts = []
    for shortest, last in zip((1, longest[0] + 1, longest[1] + 1), longest, strict=True):
        lengths = [n for n in range(shortest, last + 1) if counts[1][n, 0] and counts[0][n, 0]]
        if not lengths:
            raise ValueError(
                f"longest: no length from {shortest} to {last} has strings both in and out of the language"
            )
        inputs = np.zeros((examples, longest[-1], 2), np.float32)
        targets = np.arange(examples, dtype=np.int32) % 2
        length_of = np.array([lengths[(i // 2) % len(lengths)] for i in range(examples)])
        for i, (target, length) in enumerate(zip(targets, length_of, strict=True)):
            bits = _draw(automaton, counts[target], length, rng)
            inputs[i, np.arange(length), bits] = 1
        order = rng.permutation(examples)
        parts.append(Split(inputs[order], targets[order], length_of[order]))
    train, validation, test = parts
    return Dataset(
        train,
        validation,
        test,
        name=f"tomita-{grammar}",
        source="generated; M. Tomita, Dynamic construction of finite-state automata from examples (1982)",
        licence="none needed",
    )


def _counts(automaton: Automaton, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """How many strings of each length are rejected, and accepted, from each state: (length + 1, state) twice."""
    accepted = np.zeros((longest + 1, len(automaton.after)))
    accepted[0, list(automaton.accepting)] = 1
    rejected = np.zeros_like(accepted)
    rejected[0] = 1 - accepted[0]
    after = np.array(automaton.after)
    for count in (accepted, rejected):
        for length in range(1, longest + 1):
            count[length] = count[length - 1][after].sum(axis=1)
    return rejected, accepted


def _draw(automaton: Automaton, count: np.ndarray, length: int, rng: np.random.Generator) -> list[int]:
    """One string, all of that length and kind being equally likely."""
    state, bits = 0, []
    for left in range(length - 1, -1, -1):
        zero, one = (count[left, state_after] for state_after in automaton.after[state])
        bits.append(int(rng.random() * (zero + one) >= zero))
        state = automaton.after[state][bits[-1]]
    return bits
