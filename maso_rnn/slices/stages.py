"""A ReLU-like network on the host, stage by stage, as the walks along lines and over planes carry it.

NumPy in float64, whatever the network's dtype. A stage is one layer at one step. A pre-activation counts as on its kink
where it is nearer than the rounding of the sum that it is: a bound by the size of each term, so that it is the same
share of the numbers whatever the scale of inputs and of hidden units.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, States, sequences_in_form

HALF = float(np.finfo(np.float64).eps) / 2  # the relative error of one rounding
INTERPOLATED = 6  # roundings of a state between two points, which are those of each term
WIDE, BLOCK = 128, 512  # from that width on products leave out what is zero at so many neighbouring points


class HostNetwork(NamedTuple):
    """A network's numbers in NumPy, float64; a kernel or a bias that it does not have is None."""

    act: PiecewiseAffine
    layers: tuple[tuple[np.ndarray, np.ndarray | None, np.ndarray | None], ...]
    readout: np.ndarray
    readout_bias: np.ndarray | None
    every_step: int  # how many of the layers, from the first on, are read at every step; the others at the last alone

    @property
    def widths(self) -> list[int]:
        """How many units each layer has."""
        return [kernel.shape[1] for kernel, _, _ in self.layers]

    def outputs(self, rows: np.ndarray) -> np.ndarray:
        """The readout of each row's last layer."""
        z = rows[:, -len(self.readout) :] @ self.readout
        z = z if self.readout_bias is None else z + self.readout_bias
        if not np.isfinite(z).all():
            raise ValueError("rnn grows beyond float64 on these inputs: its output is not finite")
        return z


class Stage(NamedTuple):
    """One layer at one step: what it reads, what it writes, and how."""

    reads: slice
    writes: slice
    weights: np.ndarray
    bias: np.ndarray | None
    sizes: np.ndarray  # like the weights: how large what each was added up from is
    terms: int  # in each sum

    def pre_activations(self, rows: np.ndarray) -> np.ndarray:
        """(point, hidden), at each row."""
        read, width = rows[:, self.reads], self.weights.shape[1]
        if width < WIDE:
            p = read @ self.weights
        else:
            p = np.empty((len(rows), width))
            for first in range(0, len(rows), BLOCK):
                block = read[first : first + BLOCK]
                active = np.flatnonzero(block.any(axis=0))
                np.matmul(block[:, active], self.weights[active], out=p[first : first + BLOCK])
        if self.bias is not None:
            p += self.bias
        return p

    def widest(self, read: np.ndarray) -> float:
        """As much as pre-activations of these rows, and of rows between them, may be off by rounding."""
        largest = max(read.max(initial=0.0), -read.min(initial=0.0))
        return float(self.rounding(np.full(read.shape[1], largest)).max())

    def rounding(self, sizes: np.ndarray) -> np.ndarray:
        """How far off pre-activations may be by rounding, where what is read is of those sizes."""
        found = sizes @ self.sizes
        if self.bias is not None:
            found += np.abs(self.bias)
        found *= (self.terms + INTERPOLATED) * HALF
        return found


class Slice:
    """A network on the inputs that are sums of given directions, as stages that rows go through.

    A row is a point: its coordinates, the factors of the directions, then the state of each layer.
    """

    def __init__(self, host: HostNetwork, state: np.ndarray, directions: np.ndarray):
        self.host, self.state = host, state
        kernel, _, bias = host.layers[0]
        # what each direction (coordinate, time, hidden) puts on the first layer, and the size of its terms
        self.driven, self.terms = directions @ kernel, np.abs(directions) @ np.abs(kernel)
        if bias is not None:
            self.driven[0] += bias
            self.terms[0] += np.abs(bias)
        self.starts = len(directions) + np.cumsum([0, *host.widths])
        self.of_steps = self.driven.shape[1] * host.every_step  # stages before those of a head that is read once

    def points(self, coordinates: np.ndarray) -> np.ndarray:
        """Rows before the first step; the first direction's factor is 1."""
        state = np.broadcast_to(self.state, (len(coordinates), len(self.state)))
        return np.hstack([np.ones((len(coordinates), 1)), coordinates, state])

    def __len__(self) -> int:
        return self.of_steps + len(self.host.layers) - self.host.every_step

    def __getitem__(self, number: int) -> Stage:
        """The stage of that number, in the order of computation."""
        t, l = self.driven.shape[1] - 1, number - self.of_steps + self.host.every_step
        if number < self.of_steps:
            t, l = divmod(number, self.host.every_step)
        if l:
            return self._uppers[l - 1]
        kernel, own, _ = self.host.layers[0]
        weights, sizes = self.driven[:, t], self.terms[:, t]
        if own is not None:
            weights, sizes = np.vstack([weights, own]), np.vstack([sizes, np.abs(own)])
        writes = slice(self.starts[0], self.starts[1])
        return Stage(slice(0, len(weights)), writes, weights, None, sizes, len(kernel) + len(weights) + 1)

    def of_all_steps(self, codes: np.ndarray) -> np.ndarray:
        """The codes of all stages (piece, packed) with zeros at the steps at which a head is not read."""
        step = bytes_of_step(self.host)
        often, once = sum(step[: self.host.every_step]), sum(step[self.host.every_step :])
        if not once:
            return codes
        whole = np.zeros((len(codes), self.driven.shape[1], often + once), np.uint8)
        whole[:, :, :often] = codes[:, :-once].reshape(len(codes), self.driven.shape[1], often)
        whole[:, -1, often:] = codes[:, -once:]
        return whole.reshape(len(codes), -1)

    @functools.cached_property
    def _uppers(self) -> list[Stage]:
        """The stages of the layers above the first, which are the same at every step."""
        stages = []
        for l, (kernel, own, bias) in enumerate(self.host.layers[1:], start=1):
            weights = kernel if own is None else np.vstack([kernel, own])
            first = self.starts[l - 1]
            writes = slice(self.starts[l], self.starts[l + 1])
            reads = slice(first, first + len(weights))
            stages.append(Stage(reads, writes, weights, bias, np.abs(weights), len(weights) + 1))
        return stages


class Sides(NamedTuple):
    """For each kink (point, hidden): whether a unit lies clearly above it, clearly below it."""

    above: list[np.ndarray]
    below: list[np.ndarray]


def sides(p: np.ndarray, read: np.ndarray, stage: Stage, act: PiecewiseAffine, widest: float) -> Sides:
    """The sides of pre-activations where rounding leaves them, given the rows that they were made of.

    Nearly all are on their kink exactly, or clear of it by `widest`, as much as the rounding of any may be; only points
    where some are not are held to their own.
    """
    found = Sides([], [])
    for kink in kinks(act):
        above, below = p > kink + widest, p < kink - widest
        clear = above | below
        if not clear.all() and not (clear := clear | (p == kink)).all():
            close = np.flatnonzero(~clear.all(axis=1))
            own = stage.rounding(np.abs(read[close]))
            above[close], below[close] = p[close] > kink + own, p[close] < kink - own
        found.above.append(above)
        found.below.append(below)
    return found


def kinks(act: PiecewiseAffine) -> tuple[float, ...]:
    """The activation's kinks; without any, one that nothing reaches."""
    return act.breakpoints or (np.inf,)


def activate(act: PiecewiseAffine, p: np.ndarray, out: np.ndarray) -> None:
    """Write `act(p)` into `out`, which may be `p`."""
    if act.breakpoints == (0.0,) and act.slopes == (0.0, 1.0):
        np.maximum(p, 0.0, out=out)
        return
    codes = np.searchsorted(act.breakpoints, p, side="left")  # kinks strictly below p
    np.multiply(p, np.asarray(act.slopes)[codes], out=out)
    out += np.asarray(act.offsets)[codes]


def code_bytes(above: list[np.ndarray]) -> np.ndarray:
    """(pieces, hidden) of whether each kink is passed, as one step's bytes in `pack`'s form."""
    if len(above) > 1:
        return sum((passed.astype(np.uint8) for passed in above[1:]), start=above[0].astype(np.uint8))
    return np.packbits(above[0], axis=1)


def bytes_of_step(host: HostNetwork) -> list[int]:
    """How many bytes the codes of one step take, for each layer."""
    return [width if len(host.act.slopes) > 2 else -(-width // 8) for width in host.widths]


def from_bytes(packed: np.ndarray, host: HostNetwork) -> list[np.ndarray]:
    """For each layer the codes (piece, time, hidden) that were packed as (piece, packed)."""
    lengths = bytes_of_step(host)
    steps = packed.reshape(len(packed), -1, sum(lengths))
    parts = np.split(steps, np.cumsum(lengths)[:-1], axis=-1)
    if len(host.act.slopes) > 2:
        return parts
    bits = [np.unpackbits(part, axis=-1, count=width) for part, width in zip(parts, host.widths, strict=True)]
    return [bit.astype(bool) for bit in bits]


def collected(stages: list[tuple[np.ndarray, np.ndarray]], index: np.ndarray) -> np.ndarray:
    """The codes of all stages for chosen pieces after them."""
    ends = np.cumsum([0, *(codes.shape[1] for codes, _ in stages)])
    collected = np.empty((len(index), ends[-1]), np.uint8)
    for (codes, parents), start, end in zip(reversed(stages), ends[-2::-1], ends[:0:-1], strict=True):
        collected[:, start:end] = codes[index]
        index = parents[index]
    return collected


def padded(codes: np.ndarray, steps: int, time: int) -> np.ndarray:
    """The codes (piece, packed) of so many steps, with zeros for padding up to `time`."""
    return np.pad(codes, ((0, 0), (0, codes.shape[1] // steps * (time - steps))))


def exploring(
    rnn: RNN, h0: States | None, length: Any, advice: str, **corners: Any
) -> tuple[HostNetwork, np.ndarray, list[np.ndarray]]:
    """The network, its state before the first step and the corners, on the host, checked; padding is cut off."""
    checks.known(f"this is a host function; {advice}", rnn=rnn, h0=h0, length=length, **corners)
    arrays, state, time = sequences_in_form(rnn, h0, length, pieces=True, same_dtype=False, **corners)
    steps = time if length is None else int(checks.index("length", length, 1, time + 1)[0])
    on_host = [np.asarray(array)[:steps] for array in arrays]
    state = jax.tree.map(np.asarray, state)
    checks.finite(rnn=jax.tree.map(np.asarray, rnn), h0=state, **dict(zip(corners, on_host, strict=True)))
    host = as_float64(rnn)
    start = [np.zeros(width) for width in host.widths] if state is None else state
    return host, np.concatenate(start, dtype=np.float64), [array.astype(np.float64) for array in on_host]


def as_float64(rnn: RNN) -> HostNetwork:
    """The network in NumPy, float64."""

    def maybe(value: Any) -> np.ndarray | None:
        return None if value is None else np.array(value, np.float64)

    return HostNetwork(
        act=require_pieces(rnn.activation),
        layers=tuple(
            (np.array(layer.input_kernel, np.float64), maybe(layer.recurrent_kernel), maybe(layer.bias))
            for layer in rnn.layers
        ),
        readout=np.array(rnn.readout.kernel, np.float64),
        readout_bias=maybe(rnn.readout.bias),
        every_step=rnn.every_step,
    )
