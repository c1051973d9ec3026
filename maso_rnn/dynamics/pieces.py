"""The affine pieces of a network's step, and the fixed points that their equations lead to."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import network
from maso_rnn.activations import require_pieces
from maso_rnn.dynamics.starts import Starts
from maso_rnn.network import RNN

BLOCK = 256  # pieces whose equations are solved at once, while their matrices have at most
MOST = 2**24  # numbers
RANDOM = 256  # random pieces in every restart
FOLLOWED = 20  # times that a piece leads to the next


def restarts(
    found: Starts, states: np.ndarray, inputs: np.ndarray, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Fixed points that pieces lead to: those around (point, hidden) states, one unit switched each, and random ones.

    The equation of a piece has one solution, which is on some piece, whose equation has one solution, …: where a
    solution is on its own piece it is a fixed point. This is Newton's method, undamped.

    Args:
        found: the network, and the inputs that the random pieces are taken with.
        states: (point, hidden), fixed points.
        inputs: (point, input).
        random: where random pieces come from.

    Returns:
        (start, hidden), and (start, input).
    """
    rnn = found.network
    assert rnn is not None
    pieces, hidden = len(require_pieces(rnn.activation).slopes), found.states.shape[1]
    flips = np.concatenate([shift * np.eye(hidden, dtype=np.int32) for shift in range(1, pieces)])
    around = (codes_of(found, states, inputs)[:, None] + flips) % pieces
    drawn = random.integers(0, pieces, (RANDOM, hidden), np.int32)
    codes = np.concatenate([around.reshape(-1, hidden), drawn])
    x = np.concatenate([np.repeat(inputs, len(flips), axis=0), random.choice(found.inputs, RANDOM)])
    ends, wheres = [], []
    for _ in range(FOLLOWED):
        solved = _solutions(rnn, codes, x)
        after = codes_of(found, np.nan_to_num(solved, posinf=0, neginf=0), x)
        finite = np.isfinite(solved).all(axis=1)
        there = finite & (after == codes).all(axis=1)
        ends.append(solved[there])
        wheres.append(x[there])
        together = np.concatenate([after, x], axis=1)[finite & ~there]
        if not len(together):
            break
        _, first = np.unique(together, axis=0, return_index=True)
        codes, x = after[finite & ~there][first], x[finite & ~there][first]
    return np.concatenate(ends), np.concatenate(wheres)


def _solutions(rnn: RNN, codes: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The fixed point of the equation of each piece (piece, hidden); not finite where it is singular."""
    hidden = codes.shape[1]
    block = max(1, min(BLOCK, MOST // hidden**2))
    solved = []
    for i in range(0, len(codes), block):
        count = len(codes[i : i + block])
        some = (np.resize(rows[i : i + block], (block, rows.shape[1])) for rows in (codes, inputs))
        matrices, constants = (np.asarray(part)[:count] for part in _affine(rnn, *some))
        system = np.eye(hidden, dtype=matrices.dtype) - matrices
        singular = ~(np.abs(np.linalg.slogdet(system)[0]) > 0)
        system[singular] = np.eye(hidden)
        solution = np.linalg.solve(system, constants[..., None])[..., 0]
        solution[singular] = np.nan
        solved.append(solution)
    return np.concatenate(solved)


def codes_of(found: Starts, states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The piece of every unit of every layer in the step from each of (point, hidden) states: (point, hidden)."""
    codes = [np.zeros(states.shape, np.int32)[:0]]
    for i in range(0, len(states), BLOCK):
        count = len(states[i : i + BLOCK])
        some = (np.resize(rows[i : i + BLOCK], (BLOCK, rows.shape[1])) for rows in (states, inputs))
        state, x = map(jnp.asarray, some)
        codes.append(np.asarray(_codes(found.network, jax.vmap(found.unravel)(state), x))[:count])
    return np.concatenate(codes)


@jax.jit
def _codes(rnn: RNN, states: tuple[Array, ...], inputs: Array) -> Array:
    """The piece of every unit of every layer, (point, hidden)."""
    act = require_pieces(rnn.activation)

    def one(state: tuple[Array, ...], x: Array) -> Array:
        return jnp.concatenate([act.code(p).astype(jnp.int32) for p in network.step(rnn, state, x)[1]])

    return jax.vmap(one)(states, inputs)


@jax.jit
def _affine(rnn: RNN, codes: Array, inputs: Array) -> tuple[Array, Array]:
    """J and c of step(h) = J h + c on pieces (piece, hidden), of the layers' states one after the other."""
    act = require_pieces(rnn.activation)
    dtype = rnn.readout.kernel.dtype
    slopes, offsets = (jnp.asarray(values, dtype) for values in (act.slopes, act.offsets))
    ends = np.cumsum([layer.input_kernel.shape[1] for layer in rnn.layers])[:-1]

    def one(code: Array, x: Array) -> tuple[Array, Array]:
        def step(h: Array) -> Array:
            below, after = x, []
            for layer, h_l, code_l in zip(rnn.layers, jnp.split(h, ends), jnp.split(code, ends), strict=True):
                p = below @ layer.input_kernel
                p = p if layer.recurrent_kernel is None else p + h_l @ layer.recurrent_kernel
                p = p if layer.bias is None else p + layer.bias
                below = slopes[code_l] * p + offsets[code_l]
                after.append(below)
            return jnp.concatenate(after)

        constant, push = jax.linearize(step, jnp.zeros(code.shape, dtype))
        return jax.vmap(push, out_axes=1)(jnp.eye(code.size, dtype=dtype)), constant

    return jax.vmap(one)(codes, inputs)
