"""Whether a point is on a kink of the step, where its Jacobian jumps, and what the Jacobians around it are."""

from __future__ import annotations

import numpy as np

from maso_rnn.dynamics.shooting import Shooting, evaluated, is_degenerate, singular_values

LOOKS = 4  # random directions in which it is looked for a jump
DIRECTIONS = 32  # random ones, beside those of the units, in which the pieces around a kink are met


def around_kinks(
    problem: Shooting, states: np.ndarray, inputs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which (cycle, period, hidden) states are on a kink, and what the pieces around these do.

    It is looked for on both sides, δ = ε^(2/3) of the states' size away, along random directions, which cross a kink
    almost surely. A jump is a change of more than ε^(1/3); what bends so much over so little is called a kink too.

    Returns:
        Whether there is a kink, (cycle,); the largest |eigenvalue| of the pieces around it, and whether the Jacobian of
        the misses is singular on one of them, zero and False off kinks.
    """
    random = np.random.default_rng(0)
    hidden = states.shape[-1]
    jacobians, _, least = _around(problem, states, inputs, random.choice([-1.0, 1.0], (LOOKS, hidden)))
    jumps = np.abs(jacobians[:, :LOOKS] - jacobians[:, LOOKS:]).max(axis=(1, 2, 3, 4), initial=0)
    on_kink, steepest, flat = jumps > least, np.zeros(len(states)), np.zeros(len(states), bool)
    many = np.concatenate([np.eye(hidden), random.choice([-1.0, 1.0], (DIRECTIONS, hidden))])
    for i in np.flatnonzero(on_kink):
        sides, products, _ = _around(problem, states[i : i + 1], inputs[i : i + 1], many)
        steepest[i] = np.abs(np.linalg.eigvals(products)).max()
        flat[i] = is_degenerate(singular_values(sides[0])).any()
    return on_kink, steepest, flat


def _around(
    problem: Shooting, states: np.ndarray, inputs: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the Jacobians are on both sides of every cycle.

    Returns:
        Those of the step, (cycle, side, period, hidden, hidden), their products over the period, and the least change
        that is a jump, (cycle,).
    """
    if not len(states):
        none = np.zeros((0, 2 * len(directions), *states.shape[1:], states.shape[-1]))
        return none, none[:, :, 0], np.zeros(0)
    info = np.finfo(states.dtype)
    away = float(info.eps) ** (2 / 3) * np.maximum(np.abs(states).max(axis=(1, 2)), problem.typical or float(info.tiny))
    sides = np.concatenate([directions, -directions])
    moved = states[:, None] + (away[:, None, None] * sides)[:, :, None].astype(states.dtype)
    flat = moved.reshape(-1, *states.shape[1:])
    _, jacobians, _ = evaluated(problem, flat, np.repeat(inputs, len(sides), axis=0))
    jacobians = jacobians.reshape(*moved.shape[:2], *jacobians.shape[1:])
    least = float(info.eps) ** (1 / 3) * np.maximum(1.0, np.abs(jacobians).max(axis=(1, 2, 3, 4)))
    return jacobians, around_the_cycle(jacobians), least


def around_the_cycle(jacobians: np.ndarray) -> np.ndarray:
    """The product J_p ⋯ J_1 of (…, period, hidden, hidden), in float64."""
    product = jacobians[..., 0, :, :].astype(np.float64)
    for i in range(1, jacobians.shape[-3]):
        product = jacobians[..., i, :, :] @ product
    return product
