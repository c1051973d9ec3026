"""Fixed points of a cell, searched from many starts at once."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int, PyTree

from maso_rnn import checks
from maso_rnn.cells import Step
from maso_rnn.dynamics import shooting
from maso_rnn.dynamics.distinct import NEAR, distinct, reach, told_apart
from maso_rnn.dynamics.eigensystem import eigensystems
from maso_rnn.dynamics.kinks import around_kinks
from maso_rnn.dynamics.pieces import Pieces
from maso_rnn.dynamics.progress import Progress
from maso_rnn.dynamics.shooting import Candidates, Shooting
from maso_rnn.dynamics.starts import Starts, read_starts
from maso_rnn.network import RNN

MOST_RESTARTS = 16
RUNAWAY = 100.0  # times the largest start


class FixedPoints(NamedTuple):
    """What a search found, most often reached first: fixed points, and slow ones, which are flagged.

    Attributes:
        states: a carry like the starts, with a leading axis of points.
        residuals: (point,), ½‖step(h, x) − h‖².
        eigenvalues: (point, hidden), of the Jacobian ∂step/∂h at the point, largest modulus first.
        stable: (point,), whether it is a fixed point, not degenerate, and all eigenvalues are inside the unit circle;
            on a kink, those of the Jacobian of every adjacent piece that was met, which is a sign and no proof.
        reached: (point,), from how many of the starts Newton's method or iteration came to it; 0 for one that only a
            restart found. A start can come to one point by the one and to another by the other.
        outliers: how many starts came only to points far away from where all of them began.
        unconverged: how many starts came to no point.
        slow: (point,), whether it is none, but a place where the state moves little: the residual is least there,
            within the tolerance, and more than rounding.
        degenerate: (point,), whether the Jacobian has an eigenvalue 1 up to half of the digits: one of a continuum of
            fixed points, as on a line attractor, or one that is about to appear or vanish; on a kink, that of any
            adjacent piece that was met.
        on_kink: (point,), whether the Jacobian jumps there, as that of a ReLU network does where a unit switches.
        speeds: (point,), ‖step(h, x) − h‖, by how much the state moves in a step.
        jacobians: (point, hidden, hidden), ∂step_i/∂h_j, of the carry flattened, without the head of a network that is
            read once, which has no state; on a kink as JAX has it there.
        eigenvectors: (point, hidden, hidden), a column of unit length for each eigenvalue, in their order.
        inputs: (point, input), the input that it is a fixed point under.
        start_of: (point,), the first of the starts that came to it; −1 where none did.
        unconverged_states: where the search ended from the starts that came to no point: a carry with a leading axis.
        last_new: how many points the last restart from the pieces of those found has brought: 0 where restarts have
            ended because nothing was new, or all pieces were gone through; None where the step is no piecewise affine
            network.
    """

    states: PyTree[Float[Array, "..."]]
    residuals: Float[Array, " point"]
    eigenvalues: Complex[Array, "point hidden"]
    stable: Bool[Array, " point"]
    reached: Int[Array, " point"]
    outliers: int
    unconverged: int
    slow: Bool[Array, " point"]
    degenerate: Bool[Array, " point"]
    on_kink: Bool[Array, " point"]
    speeds: Float[Array, " point"]
    jacobians: Float[Array, "point hidden hidden"]
    eigenvectors: Complex[Array, "point hidden hidden"]
    inputs: Float[Array, "point input"]
    start_of: Int[Array, " point"]
    unconverged_states: PyTree[Float[Array, "..."]]
    last_new: int | None

    def where(self, mask: Any) -> FixedPoints:
        """The points that a mask (point,) chooses, as in `found.where(found.stable)`; counts of starts stay."""
        mask = checks.array("mask", mask, "point?", {"point?": len(self.stable)}, kinds=(jnp.bool_,))
        chosen = np.flatnonzero(mask)
        return self._replace(
            **{name: jax.tree.map(lambda leaf: leaf[chosen], getattr(self, name)) for name in _OF_POINTS}
        )

    @staticmethod
    def concatenate(searches: Sequence[FixedPoints]) -> FixedPoints:
        """Several searches in one, as under several inputs; points are not compared, and `start_of` stays as it is."""
        if not searches or not all(isinstance(one, FixedPoints) for one in searches):
            raise TypeError("searches must be FixedPoints, at least one, as maso_rnn.fixed_points makes them")
        forms = {str(jax.tree.map(lambda leaf: leaf.shape[1:], (one.states, one.inputs))) for one in searches}
        if len(forms) > 1:
            raise ValueError(f"searches must be of one carry and one size of input, got {' and '.join(sorted(forms))}")
        joined = {
            name: jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(getattr(one, name) for one in searches))
            for name in (*_OF_POINTS, "unconverged_states")
        }
        known = [one.last_new for one in searches if one.last_new is not None]
        return FixedPoints(
            **joined,
            outliers=sum(one.outliers for one in searches),
            unconverged=sum(one.unconverged for one in searches),
            last_new=sum(known) if known else None,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all to an `.npz` file, which `FixedPoints.load` reads. Carries of tuples, lists and dicts only."""
        arrays: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in _OF_POINTS if name != "states"}
        for name in ("states", "unconverged_states"):
            carry = getattr(self, name)
            arrays |= {f"{name}.{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(carry))}
        counts = {name: getattr(self, name) for name in ("outliers", "unconverged", "last_new")}
        about = json.dumps({"format": "rnn-geometry fixed points", "carry": _form(self.states)} | counts)
        with open(path, "wb") as file:
            np.savez(file, about=np.array(about), **arrays)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> FixedPoints:
        """Read what `save` wrote; nothing in the file is run."""
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError(f"{path} was not written by FixedPoints.save")
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"])) if "about" in file else {}
            if about.get("format") != "rnn-geometry fixed points":
                raise ValueError(f"{path} was not written by FixedPoints.save")
            checks.floating(f"{path}: dtype", file["residuals"].dtype)
            fields: dict[str, Any] = {name: jnp.asarray(file[name]) for name in _OF_POINTS if name != "states"}
            for name in ("states", "unconverged_states"):
                leaves = (jnp.asarray(file[f"{name}.{i}"]) for i in range(1000) if f"{name}.{i}" in file)
                fields[name] = _filled(about["carry"], leaves)
        return FixedPoints(**fields, **{name: about[name] for name in ("outliers", "unconverged", "last_new")})


_OF_POINTS = tuple(
    name for name in FixedPoints._fields if name not in ("outliers", "unconverged", "unconverged_states", "last_new")
)


def _form(carry: PyTree) -> Any:
    """A carry as JSON: null for each array."""
    if isinstance(carry, jax.Array | np.ndarray):
        return None
    if type(carry) is tuple:
        return {"tuple": [_form(part) for part in carry]}
    if type(carry) is list:
        return {"list": [_form(part) for part in carry]}
    if type(carry) is dict and all(isinstance(key, str) for key in carry):
        return {"dict": {key: _form(carry[key]) for key in sorted(carry)}}
    raise TypeError(f"states must be arrays in tuples, lists and dicts to be saved, got {type(carry).__name__}")


def _filled(form: Any, leaves: Any) -> PyTree:
    if form is None:
        return next(leaves)
    if "tuple" in form:
        return tuple(_filled(part, leaves) for part in form["tuple"])
    if "list" in form:
        return [_filled(part, leaves) for part in form["list"]]
    return {key: _filled(part, leaves) for key, part in form["dict"].items()}


@np.errstate(over="ignore", invalid="ignore")  # states may run away
def fixed_points(
    step: Step | RNN,
    starts: PyTree[Float[Array, "..."]],
    x: Float[Array, " input"] | Float[Array, "start input"] | None = None,
    *,
    max_steps: int = 500,
    tolerance: float = 1e-10,
    distance: float | None = None,
    outlier_scale: float = 10.0,
    progress: bool = True,
) -> FixedPoints:
    """Where a network comes to rest under a constant input: its fixed points, stable or not, from many starts at once.

    Equation: f(h) = step(h, x) − h = 0 by damped Newton from every start, and from where plain iteration settles. It
    is a fixed point where all |f| ≤ 4ε√n · max(median |start|, |h|, |∂step/∂h| |h|), ε the dtype's precision, which is
    rounding; where ½‖f‖² is least, and within `tolerance` only, it is slow, and flagged. Degenerate: σ_min(J − 1) ≤
    √ε · max(1, σ_max(J − 1)).

    In float32 a place where the state moves by 1e-7 only cannot be told from a fixed point; it is then degenerate.
    A host function: how many points there are is known only when it has run. The cost is that of a few Jacobians and
    (hidden, hidden) solutions for each start.

    Args:
        step: a `Cell`, a network (`maso_rnn.RNN`), or `(carry, x) -> carry`, which must always do the same. A function
            is traced anew at each call, so that the answer is never that of old weights, and compiled once for what it
            does. A piecewise affine network is searched again from the pieces around those of each point found, until
            nothing is new, or from all of its pieces if they are at most 2¹⁴; `all_fixed_points` has more.
        starts: carries with a leading axis of starts, as states that trajectories passed through: `sample_states`.
        x: (input,), the constant input, or (start, input), one for each start; by default none.
        max_steps: of plain iteration, from each start.
        tolerance: a slow point is kept if ½‖f‖² is at most this.
        distance: points under one input are one if closer than this, relative to the norm of the states (of the
            starts, or of the points, whichever is larger). By default that is 1e-3 (1e-2 in float32) for slow and
            degenerate points only; others are one where rounding, over σ_min(J − 1), cannot tell them apart.
        outlier_scale: points further from the centroid of the starts than this many times the starts' mean distance
            are left out; there is nothing to measure by, and none is, where all starts are one.
        progress: whether a search that takes more than ten seconds says on stderr how far it is.

    Returns:
        `FixedPoints(states, residuals, eigenvalues, stable, …)`; none found is an empty leading axis.
        `found.where(found.stable)` chooses; `found.save(path)`, `FixedPoints.load(path)` and
        `FixedPoints.concatenate(searches)` keep and join.

    Raises:
        ValueError: if there are no starts, or no leading axis of starts; if there are not as many inputs as starts;
            if numbers are not finite, an option is not positive, or `step` does not always do the same.
        TypeError: if `starts` or `x` is traced or not floating, `starts` below float32, or `step` does not return a
            carry like a start.

    Example:
        >>> starts = jnp.linspace(-2.0, 2.0, 8)[:, None]
        >>> found = fixed_points(lambda h, x: jnp.tanh(2.0 * h), starts)
        >>> sorted((round(float(h), 3) + 0.0, bool(stable)) for h, stable in zip(found.states.ravel(), found.stable))
        [(-0.958, True), (0.0, False), (0.958, True)]

    Source:
        Sussillo, Barak, *Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
        networks* (2013); Golub, Sussillo, *FixedPointFinder* (2018), for outliers, unique points and inputs; Eisenmann,
        Monfared, Göring, Durstewitz, *Bifurcations and loss jumps in RNN training* (2023), for restarts from pieces.
    """
    max_steps = checks.size("max_steps", max_steps)
    tolerance = checks.number("tolerance", tolerance, above=0)
    distance = None if distance is None else checks.number("distance", distance, above=0)
    outlier_scale = checks.number("outlier_scale", outlier_scale, above=0)
    told = Progress(checks.flag("progress", progress))
    found = read_starts(step, starts, x, "fixed_points")
    problem = Shooting(found.step, 1, float(np.median(np.abs(found.states))), len(found.states), told)
    candidates, came = searched(problem, found.states, found.inputs, max_steps)
    candidates, last_new = _from_pieces(problem, found, candidates)
    far = _far(candidates.states[:, 0], found.states, distance or NEAR, outlier_scale)
    return _described(problem, found, candidates, came, far, tolerance, distance)._replace(last_new=last_new)


def searched(
    problem: Shooting, states: np.ndarray, inputs: np.ndarray, max_steps: int
) -> tuple[Candidates, np.ndarray]:
    """By damped Newton from every start, and from where plain iteration leads: (start, hidden) in.

    Returns:
        The candidates, those of Newton's method from the starts first, and (2, start), the two that each came to.
    """
    newton = shooting.descended(problem, shooting.orbits(problem, states, inputs), inputs)
    after, settled = shooting.iterated(problem, states, inputs, max_steps)
    # those that settle come to few places; those that Newton's method has not brought home may start anew from theirs,
    # unless they run away
    stays = np.abs(after).max(axis=1, initial=0) <= RUNAWAY * np.abs(states).max(initial=0)
    goes_on = settled | ~newton.fixed & stays
    places, place_of = distinct(after[:, None], inputs, ~settled, goes_on, reach(after[:, None], states, NEAR))
    again = shooting.descended(problem, shooting.orbits(problem, after[places], inputs[places]), inputs[places])
    each = np.arange(len(states))
    came = np.stack([each, np.where(place_of >= 0, len(states) + place_of, each)])
    return Candidates.joined(newton, again), came


def _from_pieces(problem: Shooting, found: Starts, candidates: Candidates) -> tuple[Candidates, int | None]:
    """The candidates, and those that the affine pieces around the fixed points among them lead to."""
    if found.network is None:
        return candidates, None
    pieces, inputs = Pieces(found.network), np.unique(found.inputs, axis=0)
    if pieces.are_few(inputs):
        return _with(problem, candidates, *pieces.every(inputs, problem.progress)), 0
    random, before, brought = np.random.default_rng(0), 0, 0
    for k in range(MOST_RESTARTS):
        near = reach(candidates.states, found.states)
        chosen, of, _ = told_apart(problem, candidates, candidates.fixed, near, merged=False)
        new = chosen[~np.isin(np.arange(len(chosen)), of[:before])]
        brought, before = len(new), len(of)
        problem.progress.tell(f"restarts from pieces: {len(chosen)} points")
        if k and not brought:
            break
        states, where = candidates.states[new, 0], candidates.inputs[new]
        candidates = _with(problem, candidates, *pieces.restarts(states, where, inputs, random))
    return candidates, brought


def _with(problem: Shooting, candidates: Candidates, states: np.ndarray, inputs: np.ndarray) -> Candidates:
    """The candidates, and the roots that are found from further (start, hidden) states."""
    ends = shooting.descended(problem, states[:, None].astype(candidates.states.dtype), inputs)
    return Candidates.joined(candidates, Candidates(*(rows[ends.fixed] for rows in ends)))


def _far(points: np.ndarray, starts: np.ndarray, distance: float, outlier_scale: float) -> np.ndarray:
    """Which points are further from the starts' centroid than they are, by far."""
    # from the first start on, so that equal ones are exactly at their centroid
    offsets = starts.astype(np.float64) - starts[0]
    strays = np.linalg.norm(offsets - offsets.mean(axis=0), axis=1)
    if strays.max() <= distance * np.linalg.norm(starts, axis=1).max():
        return np.zeros(len(points), bool)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.linalg.norm(points - starts[0] - offsets.mean(axis=0), axis=1) > outlier_scale * strays.mean()


def _described(
    problem: Shooting,
    found: Starts,
    candidates: Candidates,
    came: np.ndarray,
    far: np.ndarray,
    tolerance: float,
    distance: float | None,
) -> FixedPoints:
    """One point for all candidates that are one, with all that is known of it; `came` is what starts have come to."""
    ends = candidates.fixed | (0.5 * candidates.speeds**2 <= tolerance)  # false for NaN
    near = reach(candidates.states, found.states, distance)
    chosen, point_of, _ = told_apart(problem, candidates, ends & ~far, near, merged=distance is not None)

    reached, first = arrivals(point_of[came], len(chosen))
    at_a_point = (point_of[came] >= 0).any(axis=0)
    left = ~at_a_point & ~ends[came].any(axis=0)

    ranked = np.argsort(-reached, kind="stable")
    chosen, reached, first = chosen[ranked], reached[ranked], first[ranked]
    points, where, fixed, speeds = (rows[chosen] for rows in candidates)
    jacobians = shooting.evaluated(problem, points, where)[1]
    on_kink, steepest, flat = around_kinks(problem, points, where)
    degenerate = np.where(on_kink, flat, shooting.is_degenerate(shooting.singular_values(jacobians)))
    eigenvalues, eigenvectors = eigensystems(jacobians[:, 0])
    inside = np.maximum(np.abs(eigenvalues).max(axis=1, initial=0), steepest) < 1
    narrow = jnp.result_type(points.dtype, jnp.complex64)
    return FixedPoints(
        states=found.carries(jnp.asarray(points[:, 0])),
        residuals=jnp.asarray(0.5 * speeds**2),
        eigenvalues=jnp.asarray(eigenvalues, narrow),
        stable=jnp.asarray(inside & fixed & ~degenerate),
        reached=jnp.asarray(reached),
        outliers=int((~at_a_point & ~left).sum()),
        unconverged=int(left.sum()),
        slow=jnp.asarray(~fixed),
        degenerate=jnp.asarray(degenerate),
        on_kink=jnp.asarray(on_kink),
        speeds=jnp.asarray(speeds),
        jacobians=jnp.asarray(jacobians[:, 0]),
        eigenvectors=jnp.asarray(eigenvectors, narrow),
        inputs=jnp.asarray(where),
        start_of=jnp.asarray(first),
        unconverged_states=found.carries(jnp.asarray(candidates.states[: len(left), 0][left])),
        last_new=None,
    )


def arrivals(points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """From how many starts each point was reached in any of the (way, start) ways, and the first of them."""
    reached, first = np.zeros(count, int), np.full(count, -1)
    for i in range(count):
        starts = np.flatnonzero((points == i).any(axis=0))
        reached[i] = len(starts)
        first[i] = starts[0] if len(starts) else -1
    return reached, first


def fixed_points_along(
    step: Step | RNN,
    starts: PyTree[Float[Array, "..."]],
    start: Float[Array, " input"],
    stop: Float[Array, " input"],
    *,
    count: int = 50,
    **options: Any,
) -> FixedPoints:
    """The fixed points under inputs along a line, where points appear, vanish and change as the input moves.

    Every input is searched from all starts, and then from the points found under its neighbours on the line, as long
    as that brings new ones.

    Args:
        step: as in `fixed_points`.
        starts: carries with a leading axis of starts.
        start: (input,), the first input.
        stop: (input,), the last one.
        count: how many inputs, evenly from the first to the last, at least 2.
        **options: those of `fixed_points`.

    Returns:
        `FixedPoints`, the input that each belongs to in `inputs`. `start_of` and `reached` are of the last round, in
        which the points of all inputs and of their neighbours are the starts.

    Raises:
        ValueError: as `fixed_points`, or if `start` and `stop` are not of one shape.
        TypeError: as `fixed_points`.

    Example:
        >>> starts = jnp.array([[-1.0], [0.0], [1.0]])
        >>> line = jnp.array([-1.0]), jnp.array([1.0])
        >>> found = fixed_points_along(lambda h, x: jnp.tanh(2.0 * h + x), starts, *line, count=9)
        >>> [int((found.inputs[:, 0] == x).sum()) for x in (-1.0, 0.0, 1.0)]  # bistable in the middle
        [1, 3, 1]

    Source:
        Strogatz, *Nonlinear dynamics and chaos* (1994), chapter 3.
    """
    sizes: dict[str, int] = {}
    start = checks.array("start", start, "input", sizes)
    stop = checks.array("stop", stop, "input", sizes)
    count = checks.size("count", count, least=2)
    line = jnp.linspace(start, stop, count)
    starts = checks.carry("starts", starts)
    number = len(jax.tree.leaves(starts)[0])
    every = jax.tree.map(lambda leaf: jnp.tile(leaf, (count, *(1,) * (leaf.ndim - 1))), starts)
    found = fixed_points(step, every, jnp.repeat(line, number, axis=0), **options)
    known = 0
    while len(found.residuals) > known:
        known = len(found.residuals)
        place = np.argmin(np.linalg.norm(np.asarray(found.inputs)[:, None] - np.asarray(line), axis=2), axis=1)
        around = np.concatenate([place, np.maximum(place - 1, 0), np.minimum(place + 1, count - 1)])
        states = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * 3), found.states)
        found = fixed_points(step, states, line[around], **options)
    return found
