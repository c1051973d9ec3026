"""A ReLU-like network on the host, stage by stage, as the walks along lines and over planes carry it.

NumPy in float64, whatever the network's dtype. A pre-activation counts as on its kink where it is nearer than the
rounding error of the sum that it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, States, check_network, initial_state

EPS = float(np.finfo(np.float64).eps)


class Stage(NamedTuple):
    """One layer at one step: what it reads, what it writes, and how."""

    reads: slice
    writes: slice
    weights: np.ndarray
    bias: np.ndarray | None
    scales: np.ndarray  # (hidden,), times the norm of what is read: how large the terms of the sum may be


class HostNetwork(NamedTuple):
    """A network on the host, in float64, and the directions in which its input is explored.

    A point is a row (coordinates, then the state of each layer); the first coordinate is 1, and the input is the sum of
    the coordinates times the directions.
    """

    act: PiecewiseAffine
    layers: tuple[tuple[np.ndarray, np.ndarray, np.ndarray | None], ...]
    readout: np.ndarray
    readout_bias: np.ndarray | None
    state: np.ndarray  # of all layers
    directions: np.ndarray  # (coordinate, time, input)

    def points(self, coordinates: np.ndarray) -> np.ndarray:
        """Rows (point, coordinates and state) before the first step."""
        ones = np.ones((len(coordinates), 1))
        return np.hstack([ones, coordinates, np.broadcast_to(self.state, (len(coordinates), len(self.state)))])

    def stages(self, first: int = 0) -> Iterator[Stage]:
        """Every layer of every step from the first stage on, in the order of computation."""
        kernel, recurrent, bias = self.layers[0]
        driven = self.directions @ kernel
        terms = np.abs(self.directions) @ np.abs(kernel)
        if bias is not None:
            driven[0] += bias
            terms[0] += np.abs(bias)
        count = len(driven)
        end = count + len(recurrent)
        squares = (recurrent**2).sum(axis=0)
        uppers, below = [], slice(count, end)
        for kernel, own, offset in self.layers[1:]:
            writes = slice(below.stop, below.stop + len(own))
            weights = np.vstack([kernel, own])
            square = (weights**2).sum(axis=0) + (0 if offset is None else offset**2)
            uppers.append(Stage(slice(below.start, writes.stop), writes, weights, offset, np.sqrt(square)))
            below = writes
        for number in range(first, driven.shape[1] * len(self.layers)):
            t, layer = divmod(number, len(self.layers))
            if layer:
                yield uppers[layer - 1]
            else:
                scales = np.sqrt(squares + (terms[:, t] ** 2).sum(axis=0))
                yield Stage(slice(0, end), slice(count, end), np.vstack([driven[:, t], recurrent]), None, scales)

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """The readout of each row's last layer."""
        z = rows[:, -len(self.readout) :] @ self.readout
        z = z if self.readout_bias is None else z + self.readout_bias
        if not np.isfinite(z).all():
            raise ValueError("rnn grows beyond float64 on these inputs: its output is not finite")
        return z


class Sides(NamedTuple):
    """For each kink (point, hidden): whether a unit lies clearly above it, clearly below it."""

    above: list[np.ndarray]
    below: list[np.ndarray]

    @classmethod
    def of(cls, p: np.ndarray, norms: np.ndarray, stage: Stage, act: PiecewiseAffine) -> Sides:
        """The sides of pre-activations, sums of terms of those norms, where rounding leaves them."""
        # nearly all are clear of the widest tolerance of any; only the others are held to their own
        widest = tolerance(norms.max(initial=0.0), stage.scales.max(initial=0.0))
        sides = cls([], [])
        for kink in act.breakpoints or (np.inf,):  # without kinks: all units below one that nothing reaches
            above, below = p > kink + widest, p < kink - widest
            clear = above | below
            if not clear.all():
                point, unit = np.nonzero(~clear)
                value, own = p[point, unit], tolerance(norms[point], stage.scales[unit])
                above[point, unit] = value > kink + own
                below[point, unit] = value < kink - own
            sides.above.append(above)
            sides.below.append(below)
        return sides


def pre_activations(stage: Stage, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The stage's pre-activations at each point, and (point,) how large the terms of its sums are in norm."""
    read = rows[:, stage.reads]
    p = read @ stage.weights
    if stage.bias is not None:
        p += stage.bias
    return p, np.sqrt(np.einsum("ij,ij->i", read, read) + 1.0)


def tolerance(norm: np.ndarray | np.floating, scale: np.ndarray | np.floating) -> np.ndarray | np.floating:
    """How far from its kink a pre-activation may be by rounding alone, for a sum of terms of that norm."""
    return 4 * EPS * norm * scale


def activate(act: PiecewiseAffine, p: np.ndarray, out: np.ndarray) -> None:
    """Write `act(p)` into `out`, which may be `p`."""
    if act.breakpoints == (0.0,) and act.slopes == (0.0, 1.0):
        np.maximum(p, 0.0, out=out)
        return
    codes = np.searchsorted(act.breakpoints, p, side="left")  # kinks strictly below p
    np.multiply(p, np.asarray(act.slopes)[codes], out=out)
    out += np.asarray(act.offsets)[codes]


def code_bytes(act: PiecewiseAffine, above: list[np.ndarray]) -> np.ndarray:
    """(pieces, hidden) of whether each kink is passed, as one step's bytes in `pack`'s form."""
    if len(above) > 1:
        return sum((passed.astype(np.uint8) for passed in above[1:]), start=above[0].astype(np.uint8))
    return np.packbits(above[0], axis=1)


def collected(stages: list[tuple[np.ndarray, np.ndarray]], index: np.ndarray) -> np.ndarray:
    """The codes of all stages for chosen pieces after them."""
    ends = np.cumsum([0, *(codes.shape[1] for codes, _ in stages)])
    collected = np.empty((len(index), ends[-1]), np.uint8)
    for (codes, parents), start, end in zip(reversed(stages), ends[-2::-1], ends[:0:-1], strict=True):
        collected[:, start:end] = codes[index]
        index = parents[index]
    return collected


def exploring(rnn: RNN, h0: States | None, corners: dict[str, Any], advice: str) -> HostNetwork:
    """The network and the corners on the host, once all have been checked."""
    if not checks.is_concrete(rnn, h0, *corners.values()):
        raise TypeError(f"rnn, h0, {', '.join(corners)} must not be traced: this is a host function; {advice}")
    check_network(rnn, pieces=True)
    with jax.ensure_compile_time_eval():  # a host function looks at concrete values even while others are traced
        checked_corners(rnn, corners)
    directions = np.stack([np.array(corner, np.float64) for corner in corners.values()])
    return as_float64(rnn, h0)._replace(directions=directions)


def as_float64(rnn: RNN, h0: States | None) -> HostNetwork:
    """The network in NumPy, float64, with no direction to explore yet."""

    def numbers(value: Any) -> np.ndarray:
        return np.array(value, np.float64)

    with jax.ensure_compile_time_eval():
        state = initial_state(rnn, h0)

    def maybe(value: Any) -> np.ndarray | None:
        return None if value is None else numbers(value)

    return HostNetwork(
        act=require_pieces(rnn.activation),
        layers=tuple((numbers(l.input_kernel), numbers(l.recurrent_kernel), maybe(l.bias)) for l in rnn.layers),
        readout=numbers(rnn.readout.kernel),
        readout_bias=maybe(rnn.readout.bias),
        state=np.concatenate([numbers(h) for h in state]),
        directions=np.zeros((0, 0, len(rnn.layers[0].input_kernel))),
    )


def checked_corners(rnn: RNN, corners: dict[str, Any], dtype: Any = None) -> list[Array]:
    """Inputs (time, input) of one shape that the network can read, the second one not equal to the first."""
    channels = rnn.layers[0].input_kernel.shape[0]
    first_name = next(iter(corners))
    arrays = []
    for name, corner in corners.items():
        arrays.append(checks.array(name, corner, "time input", dtype=dtype))
        if corner.shape[1] != channels or not corner.shape[0]:
            raise ValueError(f"{name} must be (time, {channels}) with at least one step, got {corner.shape}")
        if corner.shape != arrays[0].shape:
            raise ValueError(f"{name} must have the shape of {first_name}, {arrays[0].shape}, got {corner.shape}")
        checks.finite(**{name: arrays[-1]})
    if (
        "stop" in corners
        and checks.is_concrete(corners)
        and np.array_equal(np.asarray(corners["start"]), np.asarray(corners["stop"]))
    ):
        raise ValueError("stop must differ from start: the segment has length zero")
    return arrays
