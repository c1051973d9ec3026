"""Pictures of automata: their states in a circle, and where each symbol leads from each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch

from maso_rnn.automata import StateGraph
from maso_rnn.plots import new_axes
from maso_rnn.style import COLOURS, GREY, INK, LABEL, SMALL

RADIUS = 0.16  # of a state, where the circle that they lie on has 1


def draw_states(graph: StateGraph, *, symbols: Sequence[str] | None = None, axes: Axes | None = None) -> Axes:
    """A finite automaton: a circle for each state with its value, an arrow for each step, in the colour of its symbol.

    Words begin at the state with the arrow from nowhere. States that accept have a second circle: their value is above
    one half or, of several outputs, the last is the largest.

    Args:
        graph: from `maso_rnn.automata.state_graph`.
        symbols: what the symbols are called; by default their numbers.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from maso_rnn import automata
        >>> swap = jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
        >>> even = automata.WeightedAutomaton(jnp.array([1.0, 0.0]), swap, jnp.array([1.0, 0.0]))
        >>> draw_states(automata.state_graph(even)).get_title()
        '2 states'
    """
    axes = new_axes(axes, width=5, height=5)
    states, alphabet = graph.after.shape
    names = [str(symbol) for symbol in range(alphabet)] if symbols is None else list(symbols)
    angles = np.pi - 2 * np.pi * np.arange(states) / states  # the first on the left, then with the clock
    places = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    values = graph.values.reshape(states, -1)
    for place, value in zip(places, values, strict=True):
        is_accepting = value.argmax() == len(value) - 1 if len(value) > 1 else value[0] > 0.5
        for radius in (RADIUS, 0.82 * RADIUS)[: 1 + bool(is_accepting)]:
            axes.add_patch(Circle(tuple(place), radius, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=3))
        axes.text(place[0], place[1], f"{value[-1]:.2f}", ha="center", va="center", fontsize=SMALL, color=INK, zorder=4)
    _arrow(axes, places[0] - [0.4, 0.4], places[0], GREY, bend=0.0)
    for before in range(states):
        for after in dict.fromkeys(graph.after[before].tolist()):
            by = [symbol for symbol in range(alphabet) if graph.after[before, symbol] == after]
            colour = COLOURS[by[0] % len(COLOURS)] if len(by) == 1 else INK
            label = ", ".join(names[symbol] for symbol in by)
            if before == after:
                at = _loop(axes, places[before], angles[before] - 0.4 * (before == 0), colour)
            else:
                at = _arrow(axes, places[before], places[after], colour, bend=0.18)
            axes.text(at[0], at[1], label, ha="center", va="center", fontsize=LABEL, color=colour, zorder=5)
    axes.set(xlim=(-1.75, 1.6), ylim=(-1.6, 1.6), aspect="equal", title=f"{states} state{'s' * (states != 1)}")
    axes.set_axis_off()
    return axes


def _arrow(axes: Axes, start: np.ndarray, stop: np.ndarray, colour: str, *, bend: float) -> np.ndarray:
    """An arrow between two places, bent to its left; where its label stands."""
    along = stop - start
    length = np.linalg.norm(along)
    side = np.array([-along[1], along[0]])
    middle = (start + stop) / 2 + bend * side
    ends = [end + RADIUS * (middle - end) / np.linalg.norm(middle - end) for end in (start, stop)]
    is_from_nowhere = not bend
    ends[0] = start if is_from_nowhere else ends[0]
    axes.add_patch(_patch(ends[0], ends[1], colour, f"arc3,rad={-bend * 1.6}"))
    return middle + 0.12 * side / length


def _loop(axes: Axes, place: np.ndarray, angle: float, colour: str) -> np.ndarray:
    """An arrow from a state to itself, on the outside; where its label stands."""
    ends = [place + RADIUS * np.array([np.cos(angle + turn), np.sin(angle + turn)]) for turn in (0.6, -0.6)]
    axes.add_patch(_patch(ends[0], ends[1], colour, "arc3,rad=-1.6"))
    return place + 2.6 * RADIUS * np.array([np.cos(angle), np.sin(angle)])


def _patch(start: np.ndarray, stop: np.ndarray, colour: str, style: str) -> FancyArrowPatch:
    return FancyArrowPatch(
        tuple(start), tuple(stop), connectionstyle=style, arrowstyle="-|>", mutation_scale=12, color=colour, zorder=2
    )
