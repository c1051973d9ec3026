"""The affine map of every piece of a walk, by updates of low rank from one piece to the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine
from maso_rnn.network import RNN, check_network
from maso_rnn.slices.line import LineWalk
from maso_rnn.slices.stages import HostNetwork, as_float64, bytes_of_step, from_bytes


class PieceMaps(NamedTuple):
    """The affine maps of a walk's pieces.

    On piece k: `output = Σ_t slope[k, :, t] @ xs[t] + Σ_l initial_slope[l][k] @ h0[l] + offset[k]`.

    Attributes:
        slope: (piece, output, time, input), of the last step's output.
        initial_slope: for each layer (piece, output, hidden).
        offset: (piece, output), what the biases and the offsets of the pieces add.
    """

    slope: Float[np.ndarray, "piece output time input"]
    initial_slope: tuple[Float[np.ndarray, "piece output hidden"], ...]
    offset: Float[np.ndarray, "piece output"]


def affine_maps_along(
    rnn: RNN, walk: LineWalk, *, refresh_every: int = 128, length: int | Int[Array, ""] | None = None
) -> PieceMaps:
    """The affine maps of all pieces of a walk, each from the one before by low-rank updates.

    Equation: where unit j of step t changes its piece, slope' − slope = (s' − s) g ⊗ a and the like for the rest, with
    a the slope of its pre-activation, pulled back through the codes before the breakpoint, and g what its state does to
    the output, pushed forward through the codes after it.

    That is one vector for each breakpoint and step in place of a matrix with a row for each output. Rounding adds up
    along the walk, so every `refresh_every`-th map is made afresh. A host function: NumPy in float64.

    Args:
        rnn: the network that the walk is of.
        walk: from `walk_line` or `walk_line_on_device`; its codes are read, and of its outputs how many there are.
        refresh_every: how many pieces share one map made afresh, at least 1; 1 makes no updates.
        length: how many steps counted in the walk, by default all; the rest is padding, with zero slope.

    Returns:
        `PieceMaps(slope, initial_slope, offset)`, of the last step's output, one map for each piece.

    Raises:
        ValueError: if the walk's codes are not of such a network, `refresh_every` is below 1, or `length` is out of
            range.
        TypeError: if an argument is traced, `walk` is no `LineWalk`, or `refresh_every` is not an integer.

    Example:
        >>> import jax
        >>> import maso_rnn
        >>> from jax import numpy as jnp
        >>> from maso_rnn import walk_line
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [8], 3)
        >>> walk = walk_line(rnn, jnp.full((5, 1), -1.0), jnp.ones((5, 1)), max_regions=100)
        >>> maps = affine_maps_along(rnn, walk)
        >>> maps.slope.shape == (walk.pieces, 3, 5, 1)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), theorem 1, for the maps; the updates are the product rule.
    """
    checks.known("this is a host function; use jax.vmap of affine_map", rnn=rnn, walk=walk, length=length)
    check_network(rnn)
    refresh_every = checks.size("refresh_every", refresh_every)
    host = as_float64(rnn)
    codes = _codes_of(walk, host)
    pieces, time, _ = codes[0].shape
    steps = time if length is None else int(checks.index("length", length, 1, time + 1)[0])
    inputs, outputs = len(host.layers[0][0]), host.readout.shape[1]
    # each map as rows (inputs of all steps, initial states, constant)
    maps = np.zeros((pieces, outputs, time * inputs + sum(host.widths) + 1))
    counted = np.r_[: steps * inputs, time * inputs : maps.shape[2]]
    chunk = max(1, 1024 // refresh_every) * refresh_every
    for first in range(0, pieces, chunk):
        some = slice(first, first + chunk)
        found = changes([code[some, :steps] for code in codes], host, refresh_every)
        maps[some, :, counted] = found.maps()
    ends = time * inputs + np.cumsum([0, *host.widths])
    slope, *initial_slope, offset = np.split(maps, ends, axis=2)
    return PieceMaps(slope.reshape(pieces, outputs, time, inputs), tuple(initial_slope), offset[:, :, 0])


def _codes_of(walk: Any, host: HostNetwork) -> list[np.ndarray]:
    """For each layer (piece, time, hidden), the codes of a walk of that network."""
    checks.instance("walk", walk, LineWalk, "maso_rnn.walk_line")
    checks.array("walk.outputs", walk.outputs, "point output", {"output": host.readout.shape[1]})
    checks.array("walk.codes", walk.codes, "piece packed", kinds=(np.uint8,))
    packed, pieces, in_step = np.asarray(walk.codes), int(walk.pieces), sum(bytes_of_step(host))
    fits = packed.shape[1] % in_step == 0 and 1 <= pieces <= len(packed)
    codes = from_bytes(packed[:pieces], host) if fits else []
    if not fits or any(code.max() >= len(host.act.slopes) for code in codes):
        raise ValueError(f"walk must be of this network, of {in_step} bytes of codes a step, got {packed.shape}")
    return codes


class Changes(NamedTuple):
    """Pieces in a row by how each map comes from the one before; maps are rows (inputs, initial states, constant).

    The change c, from the piece before[c] to the next one, adds onto_outputs[c] ⊗ forms[c].
    """

    pieces: int
    refresh_every: int
    fresh: np.ndarray  # (fresh, output, row), the maps of every refresh_every-th piece
    before: np.ndarray
    onto_outputs: np.ndarray  # (change, output)
    forms: np.ndarray  # (change, row)

    def maps(self) -> np.ndarray:
        """(piece, output, row), the map of every piece."""
        maps = np.empty((self.pieces, *self.fresh.shape[1:]))
        maps[:: self.refresh_every] = self.fresh
        update = np.empty(maps.shape[1:])
        along = np.argsort(self.before, kind="stable")
        bounds = np.searchsorted(self.before[along], np.arange(self.pieces + 1))
        for piece in range(self.pieces):
            if piece % self.refresh_every:
                maps[piece] = maps[piece - 1]
                for change in along[bounds[piece - 1] : bounds[piece]]:
                    np.multiply(self.onto_outputs[change][:, None], self.forms[change], out=update)
                    maps[piece] += update
        return maps

    def weighted_sum(self, weights: np.ndarray) -> np.ndarray:
        """(output, row), the sum over pieces of weight · map, without forming the maps."""
        starts = np.arange(0, self.pieces, self.refresh_every)
        total = np.tensordot(np.add.reduceat(weights, starts), self.fresh, axes=1)
        # a change is part of all maps from the next piece to the last before one that is made afresh
        so_far = np.concatenate([[0.0], np.cumsum(weights)])
        ends = np.minimum((self.before // self.refresh_every + 1) * self.refresh_every, self.pieces)
        shares = so_far[ends] - so_far[self.before + 1]
        return total + (shares[:, None] * self.onto_outputs).T @ self.forms


def changes(codes: list[np.ndarray], host: HostNetwork, refresh_every: int, *, slopes_only: bool = False) -> Changes:
    """The maps of pieces in a row by their changes, given for each layer the codes (piece, time, hidden).

    With `slopes_only` their rows are those of inputs alone.
    """
    pieces, outputs = len(codes[0]), host.readout.shape[1]
    fresh = np.arange(0, pieces, refresh_every)
    # every change of a unit's code from one piece to the next: (piece before, step, unit), layer by layer
    found = [np.unravel_index(np.flatnonzero(code[1:] != code[:-1]), code[1:].shape) for code in codes]
    layer = np.repeat(np.arange(len(codes)), [len(before) for before, _, _ in found])
    before, step, unit = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    stage = step * len(codes) + layer
    kept = (before + 1) % refresh_every != 0
    order = np.flatnonzero(kept)[np.argsort(-stage[kept], kind="stable")]  # those of late stages first
    stage, layer, before, step, unit = (array[order] for array in (stage, layer, before, step, unit))
    # for each stage how many are of it or later
    counts = np.bincount(stage, minlength=codes[0].shape[1] * len(codes) + 1)[::-1].cumsum()[::-1]

    # rows that are pulled back: each fresh piece's outputs from the end, then each change's unit from its stage
    from_end = len(fresh) * outputs
    through = np.concatenate([np.repeat(fresh, outputs), before])
    pulled = _pull_back(codes, host, through, from_end, counts, unit, slopes_only)

    old, new = (_at_changes(codes, layer, piece, step, unit) for piece in (before, before + 1))
    slopes, offsets = np.asarray(host.act.slopes), np.asarray(host.act.offsets)
    forms = pulled[from_end:] * (slopes[new] - slopes[old])[:, None]
    maps = pulled[:from_end].reshape(len(fresh), outputs, -1)
    if not slopes_only:
        forms[:, -1] += offsets[new] - offsets[old]
        maps[:, :, -1] += 0 if host.readout_bias is None else host.readout_bias
    onto_outputs = _push_forward(codes, host, before + 1, counts, unit)
    return Changes(pieces, refresh_every, maps, before, onto_outputs, forms)


def _at_changes(
    codes: list[np.ndarray], layer: np.ndarray, piece: np.ndarray, step: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """The codes of single units, as indices into the activation's pieces."""
    found = np.zeros(len(layer), np.intp)
    for l, code in enumerate(codes):
        own = layer == l
        found[own] = code[piece[own], step[own], unit[own]]
    return found


def _scaled(act: PiecewiseAffine, code: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Rows times the slopes of the pieces that the codes name."""
    return rows * (code if act.slopes == (0.0, 1.0) else np.asarray(act.slopes)[code.astype(np.intp)])


def _pull_back(
    codes: list[np.ndarray],
    host: HostNetwork,
    piece: np.ndarray,
    from_end: int,
    counts: np.ndarray,
    unit: np.ndarray,
    slopes_only: bool,
) -> np.ndarray:
    """Linear forms as rows (inputs of all steps, initial states, constant), each through its piece's codes.

    The first `from_end` rows are the outputs of the last step, the others single pre-activations, those of late stages
    first, `counts[k]` of them of stage k or later.
    """
    layers, time = len(codes), codes[0].shape[1]
    inputs, outputs = len(host.layers[0][0]), host.readout.shape[1]
    slopes = np.zeros((len(piece), time, inputs))
    constant = np.zeros(len(piece))
    states = [np.zeros((len(piece), width)) for width in host.widths]
    states[-1][:from_end] = np.tile(host.readout.T, (from_end // outputs, 1))
    constants = np.asarray(host.act.offsets)
    for t in reversed(range(time)):
        onto = np.zeros((0, 0))
        for l in reversed(range(layers)):
            kernel, own, bias = host.layers[l]
            old, active = from_end + counts[[t * layers + l + 1, t * layers + l]]
            state, born = states[l][:old], unit[old - from_end : active - from_end]
            if onto.size:
                state += onto
            code = codes[l][piece[:old], t]
            if host.act.has_offsets:
                constant[:old] += (state * constants[code.astype(np.intp)]).sum(axis=1)
            through = _scaled(host.act, code, state)
            if bias is not None:
                constant[:old] += through @ bias
                constant[old:active] = bias[born]
            if own is not None and (t or not slopes_only):
                np.matmul(through, own.T, out=state)
                states[l][old:active] = own.T[born]
            else:
                state[:] = 0
            onto = np.concatenate([through @ kernel.T, kernel.T[born]])
        slopes[: len(onto), t] = onto
    rows = slopes.reshape(len(piece), -1)
    return rows if slopes_only else np.hstack([rows, *states, constant[:, None]])


def _push_forward(
    codes: list[np.ndarray], host: HostNetwork, piece: np.ndarray, counts: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """What each named unit's state, moved by 1, does to the outputs of the last step: (row, output)."""
    layers, time = len(codes), codes[0].shape[1]
    states = [np.zeros((len(piece), width)) for width in host.widths]
    for t in range(time):
        for l, (kernel, own, _) in enumerate(host.layers):
            first, last = counts[[t * layers + l + 1, t * layers + l]]  # those of this stage; after them those before
            moved = np.zeros_like(states[l][last:]) if own is None else states[l][last:] @ own
            if l:
                moved += states[l - 1][last:] @ kernel
            states[l][last:] = _scaled(host.act, codes[l][piece[last:], t], moved)
            states[l][np.arange(first, last), unit[first:last]] = 1.0
    return states[-1] @ host.readout
