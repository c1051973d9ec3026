"""The codes that fixed points of a piecewise affine network may have, by a tree that leaves those that none can.

Codes are assigned unit by unit: assigning a unit's piece eliminates its state from the equations of all others, which
the codes below share, and shows codes that no state can have, so that their branch ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from maso_rnn.activations import PiecewiseAffine
from maso_rnn.dynamics.progress import Progress

CHUNK = 2**19  # numbers of the equations that are held at once
PIVOT = 1e-2  # an elimination by less than this waits for another unit
DOUBT = 1e-8  # roundings of the tree, relative to its largest number; what it leaves is solved again, with pivoting


class Branch(NamedTuple):
    """Codes of the first units, and the equations that are left: p = T h_left + c for all units.

    Attributes:
        codes: (branch, assigned).
        waiting: units that are assigned but not eliminated yet; the first columns of T are theirs.
        matrix: T, (branch, unit, left).
        constant: c, (branch, unit).
        grown: (branch,), the largest number that T has had.
        size: (branch,), the largest number that c has had.
    """

    codes: np.ndarray
    waiting: tuple[int, ...]
    matrix: np.ndarray
    constant: np.ndarray
    grown: np.ndarray
    size: np.ndarray

    def rows(self, chosen: np.ndarray | slice) -> Branch:
        """Some of the branches."""
        return Branch(self.codes[chosen], self.waiting, *(part[chosen] for part in self[2:]))


def possible_codes(
    kernel: np.ndarray, drive: np.ndarray, error: np.ndarray, act: PiecewiseAffine, prune: bool, told: Progress
) -> Iterator[np.ndarray]:
    """The codes (code, unit) that the tree cannot exclude, in chunks."""
    units = len(kernel)
    size = float((np.abs(drive) + error).max())
    stack = [
        Branch(
            np.zeros((1, 0), np.uint8),
            (),
            kernel[None],
            drive[None],
            np.full(1, max(1.0, float(np.abs(kernel).max()))),
            np.full(1, size),
        )
    ]
    while stack:
        branch = stack.pop()
        assigned = branch.codes.shape[1]
        most = max(1, CHUNK // (units * (units - assigned + 1)))
        if len(branch.codes) > most:
            stack += [branch.rows(slice(i, i + most)) for i in range(0, len(branch.codes), most)]
            continue
        ahead = sum(len(one.codes) * float(len(act.slopes)) ** -one.codes.shape[1] for one in [branch, *stack])
        told.tell(f"codes: {100 * (1 - ahead):.0f} % gone through")
        grown: dict[tuple[int, ...], list[Branch]] = {}
        for piece in range(len(act.slopes)):
            for part in _assigned(branch, piece, act):
                left = part.rows(_possible(part, act, error)) if prune or assigned + 1 == units else part
                if len(left.codes):
                    grown.setdefault(left.waiting, []).append(left)
        for waiting, parts in grown.items():
            codes, _, *numbers = map(np.concatenate, (zip(*(p._replace(waiting=()) for p in parts), strict=True)))
            if assigned + 1 == units:
                yield codes
            else:
                stack.append(Branch(codes, waiting, *numbers))


def _assigned(branch: Branch, piece: int, act: PiecewiseAffine) -> Iterator[Branch]:
    """The branches with the next unit on that piece, and what can be eliminated so eliminated."""
    unit, first = branch.codes.shape[1], len(branch.waiting)
    codes = np.concatenate([branch.codes, np.full((len(branch.codes), 1), piece, np.uint8)], axis=1)
    slope, offset = act.slopes[piece], act.offsets[piece]
    column = branch.matrix[:, :, first]
    rest = np.delete(branch.matrix, first, axis=2)
    branch = branch._replace(codes=codes)
    if slope == 0:
        constant = branch.constant + column * offset if offset else branch.constant
        yield branch._replace(matrix=rest, constant=constant, size=_largest(branch.size, constant))
        return
    group = (*branch.waiting, unit)
    slopes, offsets = (np.array(values)[codes[:, group]] for values in (act.slopes, act.offsets))
    system = np.eye(len(group)) - slopes[:, :, None] * branch.matrix[:, group][:, :, : len(group)]
    if len(group) == 1:
        good = np.abs(system[:, 0, 0]) >= PIVOT
    else:
        good = np.linalg.svd(system, compute_uv=False)[:, -1] >= PIVOT
    if good.any():
        some = branch.rows(good) if not good.all() else branch
        moving = some.matrix[:, :, : len(group)]
        after = some.matrix[:, :, len(group) :]
        wanted = slopes[good, :, None] * np.concatenate([after[:, group], some.constant[:, group, None]], axis=2)
        wanted[:, :, -1] += offsets[good]
        solved = wanted / system[good] if len(group) == 1 else np.linalg.solve(system[good], wanted)
        moved = moving @ solved if len(group) > 1 else moving * solved
        matrix, constant = after + moved[:, :, :-1], some.constant + moved[:, :, -1]
        yield Branch(
            some.codes, (), matrix, constant, _largest(some.grown, matrix), _largest(some.size, moved[:, :, -1])
        )
    if not good.all():
        yield branch.rows(~good)._replace(waiting=group)


def _largest(before: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.maximum(before, np.abs(values).reshape(len(values), -1).max(axis=1, initial=0))


def _possible(branch: Branch, act: PiecewiseAffine, error: np.ndarray) -> np.ndarray:
    """Which branches some state may have: where no assigned unit is off its piece whatever the others do.

    A piece holds its upper end, not its lower one; where rounding counts, both.
    """
    assigned, waiting = branch.codes.shape[1], len(branch.waiting)
    lows, highs = ends_of(act)
    images = np.array([_image(act, [r]) for r in range(len(act.slopes))])[branch.codes[:, branch.waiting]]
    whole = np.broadcast_to(_image(act, range(len(act.slopes))), (len(images), branch.matrix.shape[2] - waiting, 2))
    low, high = np.moveaxis(np.concatenate([images, whole], axis=1), 2, 0)
    matrix, constant = branch.matrix[:, :assigned], branch.constant[:, :assigned]
    rising, falling = np.maximum(matrix, 0), np.minimum(matrix, 0)
    finite_low, finite_high = (np.where(np.isinf(end), 0, end)[..., None] for end in (low, high))
    most = constant + (rising @ finite_high + falling @ finite_low)[..., 0]
    least = constant + (rising @ finite_low + falling @ finite_high)[..., 0]
    endless_low, endless_high = np.isinf(low)[:, None], np.isinf(high)[:, None]
    if endless_low.any() or endless_high.any():
        # a coefficient of the size of rounding may have either sign; one that is exactly zero has none
        doubt = (1e-3 * DOUBT * branch.grown)[:, None, None]
        rises, falls = (matrix > -doubt) & (matrix != 0), (matrix < doubt) & (matrix != 0)
        most[(rises & endless_high | falls & endless_low).any(axis=2)] = np.inf
        least[(rises & endless_low | falls & endless_high).any(axis=2)] = -np.inf
    slack = (DOUBT * branch.size)[:, None] + (branch.grown[:, None] * error.max() if error.any() else 0)
    low, high = (np.array(ends)[branch.codes] for ends in (lows, highs))
    return ~((most + slack <= low) | (least - slack > high)).any(axis=1)


def ends_of(act: PiecewiseAffine) -> tuple[list[float], list[float]]:
    """The lower and the upper end of each piece."""
    return [-np.inf, *act.breakpoints], [*act.breakpoints, np.inf]


def _image(act: PiecewiseAffine, pieces: Iterable[int]) -> tuple[float, float]:
    """The least and the largest value on some pieces."""
    lows, highs = ends_of(act)
    values = []
    for r in pieces:
        slope, offset = act.slopes[r], act.offsets[r]
        values += [offset] if slope == 0 else [slope * end + offset for end in (lows[r], highs[r])]
    return min(values), max(values)
