"""Weighted automata: their values, both ways to networks, and learning them from blocks, sequences and cells."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.patches import Circle

import maso_rnn
from benchmarks.data.tomita import GRAMMARS
from maso_rnn import automata, plots_automata
from tests.contracts.automata import automaton


def by_products(held, word):
    """A word's value by matrices multiplied one by one."""
    h = np.asarray(held.initial)
    for symbol in word:
        h = h @ np.asarray(held.transitions)[symbol]
    return h @ np.asarray(held.final)


def exact_blocks(held, longest):
    every = automata.words(len(held.transitions), longest)
    return automata.hankel(lambda word: by_products(held, word), every, every, symbols=len(held.transitions))


def of_grammar(number):
    """The characteristic function of a Tomita grammar as a weighted automaton."""
    grammar = GRAMMARS[number]
    states = len(grammar.after)
    transitions = np.zeros((2, states, states))
    for state, after in enumerate(grammar.after):
        transitions[[0, 1], state, after] = 1
    accepting = np.isin(np.arange(states), list(grammar.accepting)).astype(float)
    return automata.WeightedAutomaton(*map(jnp.asarray, (np.eye(states)[0], transitions, accepting)))


def test_all_words_are_there_once_the_shortest_first():
    found = automata.words(3, 4)
    assert len(set(found)) == len(found) == 1 + 3 + 9 + 27 + 81
    assert found == sorted(found, key=lambda word: (len(word), word))
    with pytest.raises(ValueError, match="longest"):
        automata.words(2, 40)


@pytest.mark.parametrize("output", [(), (2,)])
def test_the_value_of_a_word_is_the_product_of_its_matrices(key, output):
    held = automaton(key, jnp.float64, symbols=3, output=output)
    word = [2, 1, 0, 0, 2]
    for length in range(6):
        # products of at most six matrices: their rounding
        got = automata.value(held, jnp.array(word), length=length)
        np.testing.assert_allclose(got, by_products(held, word[:length]), rtol=1e-13)
    np.testing.assert_allclose(automata.value(held, jnp.array(word)), by_products(held, word), rtol=1e-13)


def test_symbols_beyond_the_alphabet_are_refused_and_traced_ones_show(key):
    held = automaton(key, jnp.float64)
    with pytest.raises(ValueError, match="word"):
        automata.value(held, jnp.array([0, 2]))
    with pytest.raises(ValueError, match="prefixes"):
        automata.hankel(sum, [(0, 2)], [()], symbols=2)
    with pytest.raises(ValueError, match="held_out"):
        automata.distance(held, sum, [(5,)])
    assert jnp.isnan(jax.jit(lambda word: automata.value(held, word))(jnp.array([0, 2])))


def test_an_automaton_is_a_linear_network_and_that_network_the_automaton(key):
    held = automaton(key, jnp.float64, output=(2,))
    back = automata.from_cell(automata.as_cell(held))
    jax.tree.map(np.testing.assert_array_equal, back, held)

    def step(params, h, x):
        return automata.as_cell(params)(h, x)

    plain = maso_rnn.Cell(held, step, lambda params, h: h @ params.final, held.initial)
    jax.tree.map(np.testing.assert_array_equal, automata.from_cell(plain, symbols=2), held)
    for other in (
        lambda p, h, x: jnp.tanh(step(p, h, x)),
        lambda p, h, x: h + x.sum(),
        lambda p, h, x: step(p, h, x**2),
    ):
        with pytest.raises(ValueError, match="cell"):
            automata.from_cell(maso_rnn.Cell(held, other, lambda p, h: h @ p.final, held.initial), symbols=2)


@pytest.mark.parametrize("states", [2, 3, 4, 5, 6])
def test_a_random_minimal_automaton_is_recovered_from_exact_blocks(key, states):
    held = automaton(jax.random.fold_in(key, states), jnp.float64, states=states)
    learned = automata.spectral_learning(exact_blocks(held, 3))
    assert learned.automaton.initial.shape == (states,)
    assert learned.residual < 1e-13
    found = automata.distance(learned.automaton, automata.as_cell(held), automata.words(2, 8))
    assert found.largest < 1e-12 * found.scale
    assert found.agreement == 1


@pytest.mark.slow
def test_random_automata_are_recovered_whatever_the_draw(key):
    every = automata.words(2, 8)
    for draw in range(40):
        held = automaton(jax.random.fold_in(key, draw), jnp.float64, states=2 + draw % 5)
        learned = automata.spectral_learning(exact_blocks(held, 3), rank=2 + draw % 5)
        found = automata.distance(learned.automaton, automata.as_cell(held), every)
        # singular values of random blocks span some three digits, at most five
        assert found.largest < 1e-11 * found.scale, draw


def test_the_error_grows_with_the_noise_on_the_blocks_and_is_told(key):
    held, rng = automaton(key, jnp.float64), np.random.default_rng(0)
    blocks = exact_blocks(held, 3)
    every, errors, residuals = automata.words(2, 8), [], []
    for noise in (1e-8, 1e-6, 1e-4):
        spoiled = jax.tree.map(lambda part, noise=noise: part + noise * rng.standard_normal(part.shape), blocks)
        learned = automata.spectral_learning(spoiled, rank=3)
        errors.append(automata.distance(learned.automaton, automata.as_cell(held), every).largest)
        residuals.append(learned.residual)
    # of first order in the noise: a hundred times as much, but for another draw
    assert all(20 < after / before < 500 for before, after in itertools.pairwise(errors))
    assert all(50 < after / before < 200 for before, after in itertools.pairwise(residuals))


def test_ranks_beyond_the_blocks_are_refused_with_the_singular_values(key):
    held = automaton(key, jnp.float64)
    blocks = exact_blocks(held, 2)
    largest = f"{float(automata.spectral_learning(blocks).singular_values[0]):.3g}"
    with pytest.raises(ValueError, match="rank") as told:
        automata.spectral_learning(blocks, rank=4)
    assert largest in str(told.value)
    with pytest.raises(ValueError, match="blocks"):  # all the rank that two words can show
        automata.spectral_learning(
            automata.hankel(lambda word: by_products(held, word), [(), (0,)], [(), (1,)], symbols=2)
        )
    # a function of no finite automaton, whose blocks have a small rank: 0 of all words that are shorter than five
    every = automata.words(2, 2)
    blocks = automata.hankel(lambda word: float(not 0 < len(word) < 5), every, every, symbols=2)
    with pytest.raises(ValueError, match="blocks"):
        automata.spectral_learning(blocks)


def test_blocks_without_any_rank_are_refused_as_such():
    every = automata.words(2, 1)
    blocks = automata.hankel(lambda word: 0.0, every, every, symbols=2)
    for options in ({}, {"rank": 1}):
        with pytest.raises(ValueError, match="blocks"):
            automata.spectral_learning(blocks, **options)
    blocks = automata.hankel(lambda word: 2.0 ** sum(word), every, every, symbols=2)
    with pytest.raises(ValueError, match="tolerance"):
        automata.spectral_learning(blocks, tolerance=1.0)


def test_what_has_no_value_for_a_word_is_refused(key, unchecked):
    every = automata.words(2, 1)
    with pytest.raises(ValueError, match="source"):
        automata.hankel(lambda word: np.ones(0), every, every, symbols=2)
    with pytest.raises(TypeError, match="as_cell"):
        automata.hankel(automaton(key, jnp.float64), every, every, symbols=2)
    with pytest.raises(TypeError, match=r"maso_rnn\.cell"):
        automata.hankel(maso_rnn.init(key, 2, [2], 1), every, every, symbols=2)


def test_values_by_word_must_all_be_there():
    known = {word: float(sum(word)) for word in automata.words(2, 3)}
    every = automata.words(2, 1)
    assert automata.spectral_learning(automata.hankel(known, every, every, symbols=2), rank=2).residual < 1e-13
    with pytest.raises(ValueError, match="source"):
        automata.hankel(known, automata.words(2, 2), every, symbols=2)


@pytest.mark.parametrize(("rank", "count"), [(None, 300), (2, 220)])
def test_a_linear_network_on_vectors_is_recovered_from_sequences(key, rank, count):
    held = automaton(key, jnp.float64, states=2, symbols=3, output=(2,))
    half = 1 if rank is None else 2  # of length 5 a tensor has 243 numbers, a train of rank 2 has 54

    def data(time):
        xs = jax.random.normal(jax.random.fold_in(key, time), (count, time, 3))
        return xs, jax.vmap(lambda x: automata.value(held, x))(xs)

    blocks = automata.hankel_of_sequences(data(half), data(2 * half), data(2 * half + 1), rank=rank)
    learned = automata.spectral_learning(blocks, rank=2)
    xs, wanted = data(9)
    got = jax.vmap(lambda x: automata.value(learned.automaton, x))(xs)
    assert jnp.abs(got - wanted).max() < 1e-12 * jnp.abs(wanted).max()


def test_too_few_sequences_are_refused(key):
    def data(time, count):
        xs = jax.random.normal(jax.random.fold_in(key, time), (count, time, 3))
        return xs, xs.sum(axis=2).prod(axis=1)

    with pytest.raises(ValueError, match="longer"):
        automata.hankel_of_sequences(data(1, 9), data(2, 9), data(3, 26))
    with pytest.raises(ValueError, match="longer"):
        automata.hankel_of_sequences(data(1, 9), data(2, 9), data(3, 26), rank=9)
    with pytest.raises(ValueError, match="double"):
        automata.hankel_of_sequences(data(1, 30), data(3, 30), data(3, 30))
    xs, ys = data(2, 9)
    with pytest.raises(ValueError, match="double"):
        automata.hankel_of_sequences(data(1, 9), (xs, ys[:, None]), data(3, 27))


@pytest.mark.parametrize("grammar", [3, 5, 7])
def test_a_regular_language_is_learned_and_its_states_are_found(grammar):
    held = of_grammar(grammar)
    learned = automata.extract(automata.as_cell(held), longest=3)
    graph = automata.state_graph(learned.automaton)
    truth = GRAMMARS[grammar]
    assert len(graph.after) == len(truth.after)
    for word in automata.words(2, 9):
        assert abs(graph.values[graph.run(word)] - truth.accepts(word)) < 1e-6
    with pytest.raises(ValueError, match="max_states"):
        automata.state_graph(learned.automaton, max_states=2)


def test_an_automaton_of_ever_new_states_is_refused():
    double = automata.WeightedAutomaton(jnp.ones(1), jnp.array([[[0.5]]]), jnp.ones(1))
    with pytest.raises(ValueError, match="tolerance"):
        automata.state_graph(double, tolerance=1e-9, max_states=8)
    with pytest.raises(ValueError, match="automaton"):  # 1, 1e200, and then none
        automata.state_graph(automata.WeightedAutomaton(jnp.ones(1), jnp.array([[[1e200]]]), jnp.ones(1)))
    graph = automata.state_graph(double)
    for beyond in ((-1,), (1,)):
        with pytest.raises(ValueError, match="word"):
            graph.run(beyond)


def test_extraction_from_a_network_says_how_far_it_is(key):
    network = maso_rnn.init(key, 2, [6], 1, activation="tanh", dtype=jnp.float64)
    cell = maso_rnn.cell(network)
    held_out, far = [(0, 1) * 4, (1, 1, 0) * 3], []
    for rank in (2, 8):
        learned = automata.extract(cell, longest=3, rank=rank, symbols=2)
        far.append(automata.distance(learned.automaton, cell, held_out))
    # values of the network by itself
    wanted = [maso_rnn.last_output(network, jax.nn.one_hot(jnp.array(word), 2))[0] for word in held_out]
    got = [automata.value(learned.automaton, jnp.array(word))[0] for word in held_out]
    np.testing.assert_allclose(far[1].largest, np.abs(np.subtract(got, wanted)).max(), rtol=1e-6)
    assert far[1].largest < far[0].largest


def test_every_state_and_every_step_is_drawn():
    graph = automata.state_graph(of_grammar(4))
    axes = plots_automata.draw_states(graph, symbols=["a", "b"])
    told = [text.get_text() for text in axes.texts]
    steps = {(state, after) for state, row in enumerate(graph.after) for after in row}
    assert len(told) == len(graph.after) + len(steps)
    assert told.count("a, b") == 1  # the state of no return
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    assert len(circles) == len(graph.after) + 3  # one more where it accepts
    outputs = graph._replace(values=np.stack([1 - graph.values, graph.values], axis=1))
    again = plots_automata.draw_states(outputs)
    assert len(again.patches) == len(axes.patches)
