"""Which of the places where searches have ended are one and the same point or cycle."""

from __future__ import annotations

import numpy as np

from maso_rnn.dynamics import shooting
from maso_rnn.dynamics.shooting import Candidates, Shooting

NEAR = 1e-3  # relative distance within which slow and degenerate points are one, or 2 ε^(1/3), if that is more
DOUBT = 8.0  # at a fold, where two roots meet, they can be told apart at more than this many roundings


def reach(states: np.ndarray, starts: np.ndarray, distance: float | None = None) -> np.ndarray:
    """A distance relative to the size of the (start, hidden) starts and of each (candidate, period, hidden) cycle.

    By default it is one that roots which are threefold, as h³ = 0, are known to in the dtype, or more.
    """
    if distance is None:
        distance = max(NEAR, 2 * float(np.cbrt(np.finfo(states.dtype).eps)))
    sizes = np.linalg.norm(states, axis=2).max(axis=1)
    return distance * np.maximum(np.median(np.linalg.norm(starts, axis=1)), sizes)


def distinct(
    states: np.ndarray, inputs: np.ndarray, order: np.ndarray, allowed: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which allowed cycles stand for themselves, least `order` first, and which of these each is near to (−1: none).

    Args:
        states: (candidate, period, hidden).
        inputs: (candidate, input): cycles under different inputs are different.
        order: (candidate,).
        allowed: (candidate,).
        near: (candidate,), how near to each another one, told from whatever state on, is the same.
    """
    chosen: list[int] = []
    of = np.full(len(states), -1)
    ranks = np.argsort(order, kind="stable")
    left = ranks[allowed[ranks]]
    one_input = bool((inputs == inputs[:1]).all())
    while len(left):
        i = left[0]
        one = apart(states[left], states[i]) <= near[i]
        one[0] = True
        if not one_input:
            one &= (inputs[left] == inputs[i]).all(axis=1)
        of[left[one]] = len(chosen)
        chosen.append(int(i))
        left = left[~one]
    return np.array(chosen, int), of


def apart(states: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How far (candidate, period, hidden) cycles are from another one, by the shift that brings it nearest."""
    gaps = [np.linalg.norm(states - np.roll(other, shift, axis=0), axis=2).max(axis=1) for shift in range(len(other))]
    return np.min(gaps, axis=0)


def told_apart(
    problem: Shooting, candidates: Candidates, allowed: np.ndarray, near: np.ndarray, *, merged: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `distinct`, but isolated roots are one only where rounding cannot tell them apart, however near they are.

    A root is known up to r = 8 |f| / σ_min(∂f), |f| being rounding at least, and two are one within the larger r: at a
    fold, f = a (h² − δ²), that is where f is rounding all the way between them. Where ∂f is singular, and at slow
    points, r is what is called near.

    Args:
        problem: the search.
        candidates: those that miss by least, first of those that are fixed, stand for the others.
        allowed: (candidate,).
        near: (candidate,).
        merged: whether isolated roots that are near are one as well.

    Returns:
        The chosen ones, which of them each candidate belongs to (−1: none), and r of the chosen ones.
    """
    states, inputs, fixed, speeds = candidates
    order = np.argsort(np.lexsort((speeds, ~fixed)))
    chosen, radii = np.zeros(0, int), np.zeros(0)
    of, left = np.full(len(states), -1), allowed
    while left.any():
        found, found_of = distinct(states, inputs, order, left, near)
        own = _radii(problem, states[found], inputs[found], fixed[found], near[found], merged)
        members, first = np.flatnonzero(found_of >= 0), not len(chosen)
        for k, (i, radius) in enumerate(zip(found, own, strict=True)):
            here = members[found_of[members] == k]
            here = here[(apart(states[here], states[i]) <= radius) | ~fixed[here] | (here == i)]
            # those found together are further apart than what is near
            rivals = np.flatnonzero(radii > near[chosen]) if first and radius <= near[i] else np.arange(len(chosen))
            one = apart(states[chosen[rivals]], states[i]) <= np.maximum(radii[rivals], radius)
            one &= (inputs[chosen[rivals]] == inputs[i]).all(axis=1)
            if one.any():
                of[here] = rivals[one][0]
            else:
                of[here] = len(chosen)
                chosen, radii = np.append(chosen, i), np.append(radii, radius)
        left = allowed & (of < 0)
    return chosen, of, radii


def _radii(
    problem: Shooting, states: np.ndarray, inputs: np.ndarray, fixed: np.ndarray, near: np.ndarray, merged: bool
) -> np.ndarray:
    """How far from each cycle another one may be that is the same as far as rounding can tell: (cycle,)."""
    misses, jacobians, carried = shooting.evaluated(problem, states, inputs)
    missed = np.maximum(np.linalg.norm(misses, axis=(1, 2)), shooting.rounding(problem, states, carried))
    sizes = shooting.singular_values(jacobians)
    isolated = fixed & ~shooting.is_degenerate(sizes)
    root = DOUBT * missed / np.where(isolated, sizes[:, -1], 1)
    return np.where(isolated, np.maximum(root, near) if merged else root, near)
