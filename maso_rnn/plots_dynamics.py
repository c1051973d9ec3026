"""Pictures of where a network comes to rest: among its states, as an input moves, and the eigenvalues there."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from maso_rnn.dynamics import FixedPoints
from maso_rnn.style import COLOURS, legend, new_axes

# how a point is drawn: its marker, and whether it is filled
KINDS = {
    "stable": ("o", True),
    "unstable": ("X", False),
    "of a continuum, or about to vanish": ("D", False),
    "slow, not a fixed point": ("v", False),
}


def kinds(found: FixedPoints) -> np.ndarray:
    """The kind of each point: a key of `KINDS`, (point,)."""
    stable, degenerate, slow = (np.asarray(flags) for flags in (found.stable, found.degenerate, found.slow))
    names = list(KINDS)
    return np.select([slow, degenerate, stable], [names[3], names[2], names[0]], names[1])


def fixed_points_among_states(
    found: FixedPoints, trajectories: Any = None, *, shown: int = 20, axes: Axes | None = None
) -> Axes:
    """Fixed points in the plane in which states vary most, with trajectories; the shape says whether a point is stable.

    Lines through a point are its leading eigenvector: along it a change of the state lives longest, or grows.

    Args:
        found: from `maso_rnn.fixed_points`.
        trajectories: states (trial, time, hidden), or a pytree of them as the carry is; the plane is that of their two
            leading principal components. By default that of the points.
        shown: how many trials are drawn at most.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from maso_rnn import fixed_points
        >>> found = fixed_points(lambda h, x: jnp.tanh(2.0 * h), jnp.linspace(-2.0, 2.0, 8).reshape(4, 2))
        >>> fixed_points_among_states(found).get_xlabel()
        'first principal component'

    Source:
        Sussillo, Barak, *Opening the black box* (2013), figure 2; Golub, Sussillo, *FixedPointFinder* (2018).
    """
    axes = new_axes(axes, width=7, height=5)
    points = _flat(found.states, 1)
    states = points if trajectories is None else _flat(trajectories, 2)
    centre, plane = _principal_plane(states.reshape(-1, states.shape[-1]))
    if trajectories is not None:
        for path in (states[:shown] - centre) @ plane:
            axes.plot(*path.T, color="#bbbbbb", linewidth=0.6, zorder=0)
    places = (points - centre) @ plane
    around = ((states - centre) @ plane).reshape(-1, 2)
    spread = np.ptp(around, axis=0).max() if len(around) else 1.0
    values, vectors = np.asarray(found.eigenvalues)[:, 0], np.asarray(found.eigenvectors)[:, :, 0]
    for place, value, vector in zip(places, values, vectors, strict=True):
        along = vector.real @ plane
        size = np.linalg.norm(along)
        if size > 1e-9:
            ends = place + 0.06 * spread * np.array([[-1.0], [1.0]]) * along / size
            colour = COLOURS[1] if abs(value) > 1 else COLOURS[0]
            axes.plot(*ends.T, color=colour, linewidth=1.5, zorder=1)
    _draw(axes, places[:, 0], places[:, 1], kinds(found))
    share = (around**2).sum() / max(((states - centre) ** 2).sum(), np.finfo(float).tiny)
    axes.set(
        xlabel="first principal component",
        ylabel="second principal component",
        title=f"{len(points)} points; the plane has {share:.0%} of the states' variance",
    )
    return axes


def fixed_points_along_line(found: FixedPoints, *, axes: Axes | None = None) -> Axes:
    """Fixed points as the input moves along a line: where they appear, vanish and change their stability.

    Args:
        found: from `maso_rnn.fixed_points_along`.
        axes: where to draw.

    Returns:
        The axes: across the place on the line, 0 where the input that moves most is least and 1 where it is largest;
        up the states' leading component.

    Example:
        >>> import jax.numpy as jnp
        >>> from maso_rnn import fixed_points_along
        >>> starts = jnp.array([[-1.0], [1.0]])
        >>> line = jnp.array([-1.0]), jnp.array([1.0])
        >>> found = fixed_points_along(lambda h, x: jnp.tanh(2 * h + x), starts, *line, count=9)
        >>> fixed_points_along_line(found).get_xlabel()
        'place of the input on the line'

    Source:
        Strogatz, *Nonlinear dynamics and chaos* (1994), chapter 3, for such a bifurcation diagram.
    """
    axes = new_axes(axes, width=7, height=4)
    points, inputs = _flat(found.states, 1), np.asarray(found.inputs, float)
    centre, plane = _principal_plane(points)
    _, along = _principal_plane(inputs)
    place = inputs @ along[:, 0]
    if inputs.size:
        mover = np.abs(along[:, 0]).argmax()
        place = place * (1 if along[mover, 0] > 0 else -1)  # upwards in the input that moves most
        place = (place - place.min()) / (np.ptp(place) or 1.0)
    _draw(axes, place, (points - centre) @ plane[:, 0], kinds(found), size=18)
    axes.set(xlabel="place of the input on the line", ylabel="first principal component of the points")
    return axes


def eigenvalues_of_points(found: FixedPoints, *, shown: int = 7, axes: Axes | None = None) -> Axes:
    """The eigenvalues of each fixed point in the complex plane: outside the unit circle is a way out of it.

    Args:
        found: from `maso_rnn.fixed_points`.
        shown: how many points are drawn at most, those most often reached.
        axes: where to draw.

    Returns:
        The axes.

    Example:
        >>> import jax.numpy as jnp
        >>> from maso_rnn import fixed_points
        >>> found = fixed_points(lambda h, x: jnp.tanh(2.0 * h), jnp.linspace(-2.0, 2.0, 8)[:, None])
        >>> len(eigenvalues_of_points(found).get_legend().get_texts())
        3

    Source:
        Sussillo, Barak, *Opening the black box* (2013).
    """
    axes = new_axes(axes, width=8, height=5)
    angle = np.linspace(0, 2 * np.pi, 400)
    axes.plot(np.cos(angle), np.sin(angle), color="#888888", linewidth=1, zorder=0)
    values, names = np.asarray(found.eigenvalues)[:shown], kinds(found)
    for i, (one, colour) in enumerate(zip(values, COLOURS * (len(values) // len(COLOURS) + 1), strict=False)):
        marker, filled = KINDS[str(names[i])]
        outside = int((np.abs(one) > 1).sum())
        axes.scatter(
            one.real,
            one.imag,
            s=24,
            marker=marker,
            facecolors=colour if filled else "none",
            edgecolors=colour,
            label=f"point {i}, {names[i]}: {outside} outside",
        )
    reach = 1.1 * max(1.0, float(np.abs(values).max(initial=0)))
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="real part", ylabel="imaginary part")
    if len(values):
        legend(axes, outside=True)
    return axes


def _draw(axes: Axes, across: np.ndarray, up: np.ndarray, names: np.ndarray, size: float = 60) -> None:
    handles = []
    for (name, (marker, filled)), colour in zip(KINDS.items(), COLOURS, strict=False):
        here = names == name
        if here.any():
            face = colour if filled else "none"
            axes.scatter(across[here], up[here], s=size, marker=marker, facecolors=face, edgecolors=colour, zorder=2)
            label = f"{name}: {int(here.sum())}"
            handles.append(Line2D([], [], linestyle="", marker=marker, markerfacecolor=face, color=colour, label=label))
    if handles:
        legend(axes, handles=handles, outside=True)


def _flat(carry: Any, leading: int) -> np.ndarray:
    """The carry as one array, its first `leading` axes kept."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(carry)]
    return np.concatenate(
        [leaf.reshape(*leaf.shape[:leading], math.prod(leaf.shape[leading:])) for leaf in leaves], axis=-1
    )


def _principal_plane(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of (state, hidden), and the two directions (hidden, 2) in which they vary most."""
    centre = states.mean(axis=0) if len(states) else np.zeros(states.shape[1])
    offsets = states - centre
    directions = np.linalg.eigh(offsets.T @ offsets)[1][:, ::-1]  # all of them, also where there are few states
    plane = np.zeros((states.shape[1], 2))
    plane[:, : min(2, states.shape[1])] = directions[:, :2]
    return centre, plane
