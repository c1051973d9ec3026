"""Rows of `maso_rnn.automata`."""

import jax
import jax.numpy as jnp

from maso_rnn import automata
from tests.contracts.table import Row

_READS = "reads the number of states off the numbers"


def automaton(key, dtype, states=3, symbols=2, output=()):
    """A random automaton whose values neither vanish nor grow fast."""
    keys = jax.random.split(key, 3)
    return automata.WeightedAutomaton(
        jax.random.normal(keys[0], (states,), dtype),
        jax.random.normal(keys[1], (symbols, states, states), dtype) / states**0.5,
        jax.random.normal(keys[2], (states, *output), dtype),
    )


def _read(key, dtype):
    return automaton(key, dtype), jnp.array([0, 1, 1, 0])


ROWS = (
    Row(automata.value, _read, case="of a word"),
    Row(
        automata.value,
        lambda key, dtype: (*_read(key, dtype), jnp.asarray(3)),
        call=lambda *a: automata.value(a[0], a[1], length=a[2]),
        case="of a part of it",
    ),
    Row(
        automata.value,
        lambda key, dtype: (automaton(key, dtype, output=(2,)), jax.random.normal(key, (4, 2), dtype)),
        gradient=1,
        case="of vectors",
    ),
    Row(automata.as_cell, lambda key, dtype: (automaton(key, dtype),), call=lambda held: automata.as_cell(held).params),
)

HOST = {
    "maso_rnn.automata.words": "makes a list",
    "maso_rnn.automata.hankel": "asks a function of words, word by word",
    "maso_rnn.automata.hankel_of_sequences": "least squares in NumPy that stop when they are met",
    "maso_rnn.automata.spectral_learning": _READS,
    "maso_rnn.automata.extract": _READS,
    "maso_rnn.automata.from_cell": "asks whether a cell is linear",
    "maso_rnn.automata.distance": "asks a function of words, word by word",
    "maso_rnn.automata.state_graph": _READS,
}
