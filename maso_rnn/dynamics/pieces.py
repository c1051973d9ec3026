"""The affine pieces of a network, and the fixed points that their equations lead to."""

from __future__ import annotations

import numpy as np

from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.dynamics.progress import Progress
from maso_rnn.dynamics.tree import possible_codes
from maso_rnn.network import RNN

EVERY = 2**14  # pieces of a network, over all inputs, that are all gone through
MOST = 2**22  # numbers in the equations that are solved at once
RANDOM = 256  # random pieces in every restart
CLOSE = 1e-6  # what a solution that is a fixed point may miss by, relative to its size
FOLLOWED = 20  # times that a piece leads to the next


class Pieces:
    """A piecewise affine network at rest, all layers at once, h = act(K h + c), and which pieces were looked at.

    Attributes:
        activation: of every unit.
        kernel: K, (hidden, hidden), what the states give to the pre-activations.
        input_kernel: (input, hidden), what the input gives.
        bias: (hidden,).
        seen: pieces, each with its input, whose equations have been solved.
    """

    def __init__(self, rnn: RNN):
        widths = [layer.input_kernel.shape[1] for layer in rnn.layers]
        ends, hidden = np.cumsum([0, *widths]), sum(widths)
        self.activation: PiecewiseAffine = require_pieces(rnn.activation)
        self.kernel, self.bias = np.zeros((hidden, hidden)), np.zeros(hidden)
        self.input_kernel = np.zeros((rnn.layers[0].input_kernel.shape[0], hidden))
        for l, layer in enumerate(rnn.layers):
            here = slice(ends[l], ends[l + 1])
            if l:
                self.kernel[here, ends[l - 1] : ends[l]] = np.asarray(layer.input_kernel).T
            else:
                self.input_kernel[:, here] = layer.input_kernel
            if layer.recurrent_kernel is not None:
                self.kernel[here, here] = np.asarray(layer.recurrent_kernel).T
            if layer.bias is not None:
                self.bias[here] = layer.bias
        self.seen: set[bytes] = set()

    def are_few(self, inputs: np.ndarray) -> bool:
        """Whether the pieces under (point, input) inputs are so few that all of them may be gone through."""
        return len(self.activation.slopes) ** len(self.bias) * len(inputs) <= EVERY

    def every(self, inputs: np.ndarray, told: Progress) -> tuple[np.ndarray, np.ndarray]:
        """The fixed points of all pieces under each of the inputs, as `restarts` returns them."""
        ends, wheres = [np.zeros((0, len(self.bias)))], [inputs[:0]]
        for x in inputs:
            drive = x @ self.input_kernel + self.bias
            for codes in possible_codes(self.kernel, drive, np.zeros_like(drive), self.activation, True, told):
                where = np.broadcast_to(x, (len(codes), len(x)))
                solved = self._solutions(codes, where)
                there = self._is_fixed(solved, where)
                ends.append(solved[there])
                wheres.append(where[there])
        return np.concatenate(ends), np.concatenate(wheres)

    def restarts(
        self, states: np.ndarray, inputs: np.ndarray, every: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fixed points that pieces lead to: those around (point, hidden) states, one unit switched, and random ones.

        The equation of a piece has one solution, which is on some piece, whose equation has one solution, …: where a
        solution is on its own piece it is a fixed point. This is Newton's method, undamped. No piece is solved twice.

        Args:
            states: (point, hidden), fixed points.
            inputs: (point, input).
            every: (start, input), the inputs that the random pieces are taken with.
            random: where random pieces come from.

        Returns:
            (start, hidden), and (start, input).
        """
        pieces, hidden = len(self.activation.slopes), len(self.bias)
        flips = np.concatenate([shift * np.eye(hidden, dtype=int) for shift in range(1, pieces)])
        around = (self._codes(states, inputs)[:, None] + flips) % pieces
        codes = np.concatenate([around.reshape(-1, hidden), random.integers(0, pieces, (RANDOM, hidden))])
        x = np.concatenate([np.repeat(inputs, len(flips), axis=0), random.choice(every, RANDOM)])
        ends, wheres = [np.zeros((0, hidden))], [inputs[:0]]
        for _ in range(FOLLOWED):
            codes, x = self._new(codes, x)
            solved = self._solutions(codes, x)
            finite = np.isfinite(solved).all(axis=1)
            codes, x, solved = codes[finite], x[finite], solved[finite]
            there = self._is_fixed(solved, x)
            ends.append(solved[there])
            wheres.append(x[there])
            codes, x = self._codes(solved[~there], x[~there]), x[~there]
        return np.concatenate(ends), np.concatenate(wheres)

    def _new(self, codes: np.ndarray, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pieces that have not been looked at under their input, each once."""
        together = [np.ascontiguousarray(rows).view(np.uint8) for rows in (codes.astype(np.uint8), inputs)]
        names = [row.tobytes() for row in np.concatenate(together, axis=1)]
        fresh = {name: i for i, name in enumerate(names) if name not in self.seen}
        self.seen.update(fresh)
        rows = list(fresh.values())
        return codes[rows], inputs[rows]

    def _is_fixed(self, states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """Whether (point, hidden) states are fixed points, up to what their search for roots takes care of."""
        codes = self._codes(states, inputs)
        slopes, offsets = (np.array(values)[codes] for values in (self.activation.slopes, self.activation.offsets))
        misses = np.abs(slopes * self._pre_activations(states, inputs) + offsets - states).max(axis=1)
        return misses <= CLOSE * np.maximum(1, np.abs(states).max(axis=1))

    def _pre_activations(self, states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        return states @ self.kernel.T + inputs @ self.input_kernel + self.bias

    def _codes(self, states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """The piece of every unit (point, hidden)."""
        p = self._pre_activations(states, inputs)
        return np.searchsorted(np.asarray(self.activation.breakpoints), p, side="left")

    def _solutions(self, codes: np.ndarray, inputs: np.ndarray) -> np.ndarray:
        """The fixed point of the equation of each piece (piece, hidden); not finite where it is singular."""
        hidden = codes.shape[1]
        block = max(1, MOST // hidden**2)
        solved = np.zeros(codes.shape)
        for i in range(0, len(codes), block):
            here = slice(i, i + block)
            slopes, offsets = (
                np.array(values)[codes[here]] for values in (self.activation.slopes, self.activation.offsets)
            )
            system = np.eye(hidden) - slopes[:, :, None] * self.kernel
            right = slopes * (inputs[here] @ self.input_kernel + self.bias) + offsets
            solved[here] = _solved(system, right)
        return solved


def _solved(system: np.ndarray, right: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(system, right[..., None])[..., 0]
    except np.linalg.LinAlgError:  # some are exactly singular
        singular = np.linalg.slogdet(system)[0] == 0
        system[singular] = np.eye(system.shape[1])
        solution = np.linalg.solve(system, right[..., None])[..., 0]
        solution[singular] = np.nan
        return solution
