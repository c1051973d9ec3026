"""The affine map of every piece of a walk, by updates of low rank from one piece to the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine
from maso_rnn.codes import unpack
from maso_rnn.network import RNN, check_network
from maso_rnn.slices.line import LineWalk
from maso_rnn.slices.stages import HostNetwork, as_float64


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


def affine_maps_along(rnn: RNN, walk: LineWalk, *, refresh_every: int = 128) -> PieceMaps:
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

    Returns:
        `PieceMaps(slope, initial_slope, offset)`, of the last step's output, one map for each piece.

    Raises:
        ValueError: if the walk's codes are not of such a network, or `refresh_every` is below 1.
        TypeError: if an argument is traced, `walk` is none, or `refresh_every` is not an integer.

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
    if not checks.is_concrete(rnn, walk):
        raise TypeError(
            "rnn and walk must not be traced: affine_maps_along is a host function; use jax.vmap of affine_map"
        )
    check_network(rnn)
    refresh_every = checks.size("refresh_every", refresh_every)
    codes = _codes_of(walk, rnn)
    pieces = len(codes[0])
    host = as_float64(rnn, None)
    inputs, units = len(host.layers[0][0]), len(host.state)
    outputs, time = host.readout.shape[1], codes[0].shape[1]
    # each map as rows (inputs of all steps, initial states, constant)
    maps = np.empty((pieces, outputs, time * inputs + units + 1))
    chunk = max(1, 1024 // refresh_every) * refresh_every
    for first in range(0, pieces, chunk):
        _fill(maps[first : first + chunk], [code[first : first + chunk] for code in codes], host, refresh_every)
    ends = time * inputs + np.cumsum([0, *(len(own) for _, own, _ in host.layers)])
    slope, *initial_slope, offset = np.split(maps, ends, axis=2)
    return PieceMaps(slope.reshape(pieces, outputs, time, inputs), tuple(initial_slope), offset[:, :, 0])


def _codes_of(walk: Any, rnn: RNN) -> list[np.ndarray]:
    """For each layer (piece, time, hidden), the codes of a walk of that network."""
    if not isinstance(walk, LineWalk):
        raise TypeError(f"walk must be a LineWalk, from maso_rnn.walk_line, got {type(walk).__name__}")
    for name in ("codes", "outputs"):
        value = getattr(walk, name)
        if not isinstance(value, jax.Array | np.ndarray) or value.ndim != 2:
            raise TypeError(
                f"walk.{name} must be an array of rank 2, got {getattr(value, 'shape', type(value).__name__)}"
            )
    wanted, got = rnn.readout.kernel.shape[1], walk.outputs.shape[1]
    if wanted != got:
        raise ValueError(f"walk must be of this network, of {wanted} outputs, got one of {got}")
    pieces = int(walk.pieces)
    if not 1 <= pieces <= len(walk.codes):
        raise ValueError(f"walk.codes must have a row for each of {pieces} pieces, got {len(walk.codes)}")
    try:
        with jax.ensure_compile_time_eval():
            return [np.asarray(code) for code in unpack(np.asarray(walk.codes)[:pieces], rnn)]
    except (TypeError, ValueError) as error:
        raise type(error)(f"walk.codes: {error}") from None


def _fill(maps: np.ndarray, codes: list[np.ndarray], host: HostNetwork, refresh_every: int) -> None:
    """Write the maps (piece, output, ...) of pieces in a row."""
    pieces, outputs, length = maps.shape
    fresh = np.arange(0, pieces, refresh_every)
    # every change of a unit's code from one piece to the next: (piece before, step, unit), layer by layer
    changes = [np.nonzero(code[1:] != code[:-1]) for code in codes]
    layer = np.repeat(np.arange(len(codes)), [len(before) for before, _, _ in changes])
    before, step, unit = (np.concatenate(arrays) for arrays in zip(*changes, strict=True))
    kept = (before + 1) % refresh_every != 0
    order = np.flatnonzero(kept)[np.argsort(-step[kept], kind="stable")]  # those of late steps first
    layer, before, step, unit = (array[order] for array in (layer, before, step, unit))

    # rows that are pulled back: each fresh piece's outputs from the end, then each change's unit from its step
    from_end = len(fresh) * outputs
    seeds = np.concatenate([np.full(from_end, codes[0].shape[1]), step])
    through = np.concatenate([np.repeat(fresh, outputs), before])
    pulled = _pull_back(codes, host, through, seeds, from_end, layer, unit)
    onto_outputs = _push_forward(codes, host, before + 1, step, layer, unit)

    old, new = (_at_changes(codes, layer, piece, step, unit) for piece in (before, before + 1))
    slopes, offsets = np.asarray(host.act.slopes), np.asarray(host.act.offsets)
    forms = pulled[from_end:] * (slopes[new] - slopes[old])[:, None]
    forms[:, -1] += offsets[new] - offsets[old]
    maps[fresh] = pulled[:from_end].reshape(len(fresh), outputs, length)
    if host.readout_bias is not None:
        maps[fresh, :, -1] += host.readout_bias
    update = np.empty(maps.shape[1:])
    along = np.argsort(before, kind="stable")
    bounds = np.searchsorted(before[along], np.arange(pieces + 1))
    for piece in np.setdiff1d(np.arange(pieces), fresh):
        maps[piece] = maps[piece - 1]
        for change in along[bounds[piece - 1] : bounds[piece]]:
            np.multiply(onto_outputs[change][:, None], forms[change], out=update)
            maps[piece] += update


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
    seeds: np.ndarray,
    from_end: int,
    layer: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """Linear forms as rows (inputs of all steps, initial states, constant), each through its piece's codes.

    The first `from_end` rows are the outputs of the last step, the others single pre-activations of step `seeds`, with
    those of late steps first.
    """
    _, time, _ = codes[0].shape
    inputs, outputs = len(host.layers[0][0]), host.readout.shape[1]
    slopes = np.zeros((len(piece), time, inputs))
    constant = np.zeros(len(piece))
    states = [np.zeros((len(piece), len(own))) for _, own, _ in host.layers]
    states[-1][:from_end] = np.tile(host.readout.T, (from_end // outputs, 1))
    constants = np.asarray(host.act.offsets)
    for t in reversed(range(time)):
        active = int(np.searchsorted(-seeds, -t, side="right"))
        born = slice(int(np.searchsorted(-seeds, -t, side="left")), active)
        onto = np.zeros((active, 0))
        for l in reversed(range(len(codes))):
            kernel, own, bias = host.layers[l]
            onto = states[l][:active] + onto if onto.size else states[l][:active]
            code = codes[l][piece[:active], t]
            if host.act.has_offsets:
                constant[:active] += (onto * constants[code.astype(np.intp)]).sum(axis=1)
            through = _scaled(host.act, code, onto)
            mine = np.flatnonzero(layer[born.start - from_end : born.stop - from_end] == l) + born.start
            through[mine, unit[mine - from_end]] = 1.0
            if bias is not None:
                constant[:active] += through @ bias
            states[l][:active] = through @ own.T
            onto = through @ kernel.T
        slopes[:active, t] = onto
    return np.hstack([slopes.reshape(len(piece), -1), *states, constant[:, None]])


def _push_forward(
    codes: list[np.ndarray],
    host: HostNetwork,
    piece: np.ndarray,
    step: np.ndarray,
    layer: np.ndarray,
    unit: np.ndarray,
) -> np.ndarray:
    """What each named unit's state, moved by 1, does to the outputs of the last step: (row, output)."""
    _, time, _ = codes[0].shape
    states = [np.zeros((len(piece), len(own))) for _, own, _ in host.layers]
    for t in range(time):
        first = int(np.searchsorted(-step, -t, side="left"))  # of those that have begun
        last = int(np.searchsorted(-step, -t, side="right"))
        below = np.zeros((len(piece) - first, 0))
        for l, (kernel, own, _) in enumerate(host.layers):
            moved = states[l][first:] @ own
            if l:
                moved += below @ kernel
            moved = _scaled(host.act, codes[l][piece[first:], t], moved)
            mine = np.flatnonzero(layer[first:last] == l)
            moved[mine, unit[first:last][mine]] = 1.0
            states[l][first:] = below = moved
    return states[-1] @ host.readout
