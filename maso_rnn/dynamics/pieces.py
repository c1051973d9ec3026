"""The affine pieces of a network's step, and the fixed points that their equations promise."""

from __future__ import annotations


import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from maso_rnn import network
from maso_rnn.activations import require_pieces
from maso_rnn.dynamics.starts import Starts
from maso_rnn.network import RNN

MOST = 2**24  # numbers in the Jacobians that are held at once


def restarts(found: Starts, states: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fixed points of the affine pieces around those that (point, hidden) states are on: one unit switched each.

    Returns:
        (start, hidden), those that are finite, and (start,), the state that each was made from.
    """
    rnn = found.network
    assert rnn is not None
    unravelled = jax.vmap(found.unravel)(jnp.asarray(states))
    codes = np.asarray(_codes(rnn, unravelled, jnp.asarray(inputs)), np.int32)
    pieces = len(require_pieces(rnn.activation).slopes)
    hidden = states.shape[1]
    around = np.repeat(codes[:, None], 1 + hidden * (pieces - 1), axis=1)
    unit, shift = np.divmod(np.arange(hidden * (pieces - 1)), pieces - 1)
    rows = np.arange(len(unit))
    around[:, 1 + rows, unit] = (around[:, 1 + rows, unit] + 1 + shift) % pieces
    around = around.reshape(-1, hidden)
    of = np.repeat(np.arange(len(states)), 1 + hidden * (pieces - 1))
    ends = []
    block = max(1, min(256, MOST // hidden**2))
    for i in range(0, len(around), block):
        some = np.resize(around[i : i + block], (block, hidden))
        x = np.resize(inputs[of[i : i + block]], (block, inputs.shape[1]))
        matrices, constants = map(np.asarray, _affine(rnn, some, x))
        system = np.eye(hidden, dtype=states.dtype) - matrices
        with np.errstate(all="ignore"):
            singular = ~(np.abs(np.linalg.det(system)) > 0)
            system[singular] = np.eye(hidden)
            solved = np.linalg.solve(system, constants[..., None])[..., 0]
        solved[singular] = np.nan
        ends.append(solved[: len(around[i : i + block])])
    end = np.concatenate(ends)
    finite = np.isfinite(end).all(axis=1)
    return end[finite], of[finite]


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
