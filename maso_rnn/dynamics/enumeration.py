"""Every fixed point and every cycle of a piecewise affine network, by going through its codes.

On one code the network is affine, so that a code has at most one fixed point, or a whole continuum. A cycle of period p
is a fixed point of p copies of the network in a ring. Layers go in order: each cycle of those below drives the next.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int, Shaped

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.dynamics.eigensystem import eigensystems
from maso_rnn.dynamics.kinks import around_the_cycle
from maso_rnn.dynamics.progress import Progress
from maso_rnn.dynamics.tree import ends_of, possible_codes
from maso_rnn.network import RNN, Layer, check_form

KINKED_CODES = 2**10  # pieces around one cycle whose eigenvalues are looked at
EPS = float(np.finfo(np.float64).eps)


class AllFixedPoints(NamedTuple):
    """Every fixed point, or prime cycle, of a piecewise affine network, each once.

    Attributes:
        states: for each layer (point, hidden), or (cycle, period, hidden) for a period above 1.
        multipliers: (point, units), the eigenvalues of the Jacobian once around, of all layers' states together,
            largest modulus first. A head that is read once has no state: it adds none, and no kink of it counts.
        stable: (point,), whether all of them are inside the unit circle; on a kink, those of every adjacent piece
            (the steepest and up to 1,024 others), which is a sign and no proof.
        residuals: (point,), ½ Σ ‖step(h_i, x) − h_{i+1}‖², in float64.
        reached: (point,), how many codes led to it: one, but more on a kink.
        degenerate: (point,), whether it stands for a continuum of them, on one singular code.
        on_kink: (point,), whether a unit is on a kink there, up to rounding.
        codes: for each layer the piece of every unit, shaped as `states`; on a kink the lower one.
        singular: how many codes had a singular equation, of those that some state may have.
    """

    states: tuple[Float[Array, "..."], ...]
    multipliers: Complex[Array, "point units"]
    stable: Bool[Array, " point"]
    residuals: Float[Array, " point"]
    reached: Int[Array, " point"]
    degenerate: Bool[Array, " point"]
    on_kink: Bool[Array, " point"]
    codes: tuple[Shaped[Array, "..."], ...]
    singular: int


def all_fixed_points(
    rnn: RNN,
    x: Float[Array, " input"] | None = None,
    *,
    period: int = 1,
    max_codes: int = 2**22,
    max_points: int = 100_000,
    prune: bool = True,
    progress: bool = True,
) -> AllFixedPoints:
    """Every fixed point, or every prime cycle, of a piecewise affine network under a constant input: a proof by cases.

    Equation: on codes c with slopes D and offsets o, h = D (Uᵀ h + Wᵀ x + b) + o is linear; its solution counts where
    it has the codes c. What the tree leaves is solved by pivoted elimination in float64, and judged with the rounding
    of that solution. A singular equation is tested for consistency and, by a linear program, for states with its code:
    one of them then stands for all, and alone drives the layers above: what others would do to these is not found.

    A host function, in NumPy and float64. Its time goes as the codes of a layer that cannot be excluded early: at most
    pieces^(units · period), far fewer on most networks.

    Args:
        rnn: the network; its activation must be piecewise affine. For larger ones, see `fixed_points` and `cycles`.
        x: (input,), the constant input, in the network's dtype; by default zeros.
        period: of the cycles; 1 for fixed points.
        max_codes: refuse a network with a layer that has more codes, pieces^(units · period).
        max_points: stop, and refuse, where there are more points; those of a winner-take-all of 20 units are 727,138.
        prune: whether branches without states are left early, which is exact; False goes through every code.
        progress: whether a search that takes more than ten seconds says on stderr how far it is.

    Returns:
        `AllFixedPoints(states, multipliers, stable, residuals, reached, degenerate, on_kink, codes, singular)`.

    Raises:
        ValueError: if the activation has no pieces, `x` does not fit, concrete values are not finite, there are more
            than `max_codes` codes or `max_points` points.
        TypeError: if network or input is traced.

    Example:
        >>> from maso_rnn import Layer, Readout
        >>> one = jnp.ones((1, 1))
        >>> rnn = RNN((Layer(one, 2.0 * one, -one[0]),), Readout(one))  # h = relu(2 h − 1)
        >>> found = all_fixed_points(rnn)
        >>> sorted(found.states[0].ravel().tolist()), int(found.stable.sum())
        ([0.0, 1.0], 1)

    Source:
        Eisenmann, Monfared, Göring, Durstewitz, *Bifurcations and loss jumps in RNN training* (2023), for the equation
        of a code; the tree is this library's.
    """
    period = checks.size("period", period)
    max_codes = checks.size("max_codes", max_codes)
    max_points = checks.size("max_points", max_points)
    prune, told = checks.flag("prune", prune), Progress(checks.flag("progress", progress))
    checks.known("it says how many points there are; search outside jax.jit and jax.vmap", rnn=rnn, x=x)
    sizes: dict[str, int] = {}
    dtype = check_form(rnn, sizes, pieces=True)
    x = jnp.zeros(sizes["input"], dtype) if x is None else checks.array("x", x, "input", sizes, dtype)
    checks.finite(rnn=rnn, x=x)
    act = require_pieces(rnn.activation)
    for l, layer in enumerate(rnn.layers):
        count = len(act.slopes) ** (layer.input_kernel.shape[1] * period)
        if layer.recurrent_kernel is not None and count > max_codes:
            call = "fixed_points" if period == 1 else "cycles"
            raise ValueError(
                f"rnn.layers[{l}] has {count} codes, which max_codes={count} would allow; maso_rnn.{call} searches "
                "from starts instead"
            )
    rings = _rings(rnn, np.asarray(x, np.float64), act, period, max_points, prune, told)
    return _described(rnn, rings, act, period, dtype)


class Rings(NamedTuple):
    """Cycles, of every period that divides the one asked for, of one layer or of all so far, one after the other.

    Attributes:
        states: (cycle, period, unit).
        errors: (cycle, period, unit), how far rounding may have moved them.
        lower: (cycle, period, unit), the pre-activations.
        on_kink: (cycle, period, unit).
        reached: (cycle,), how many codes led to each.
        degenerate: (cycle,), whether it stands for a continuum.
        singular: how many codes had a singular equation.
    """

    states: np.ndarray
    errors: np.ndarray
    lower: np.ndarray
    on_kink: np.ndarray
    reached: np.ndarray
    degenerate: np.ndarray
    singular: int

    @staticmethod
    def none(count: int, period: int, units: int) -> Rings:
        """Rings of zeros."""
        zeros = np.zeros((count, period, units))
        return Rings(zeros, zeros, zeros, zeros > 0, np.ones(count, int), np.zeros(count, bool), 0)


def _rings(
    rnn: RNN, x: np.ndarray, act: PiecewiseAffine, period: int, max_points: int, prune: bool, told: Progress
) -> Rings:
    rings = Rings.none(1, period, 0)
    below = np.broadcast_to(x, (1, period, len(x)))
    errors = np.zeros_like(below)
    for l, layer in enumerate(rnn.layers):
        told.tell(f"layer {l}: {len(below)} cycles below")
        own, of = _driven(layer, below, errors, act, prune, told, max_points)
        by_unit = (np.concatenate([old[of], new], axis=2) for old, new in zip(rings[:4], own[:4], strict=True))
        states, bounds, lower, on_kink = by_unit
        rings = _each_once(
            Rings(
                states,
                bounds,
                lower,
                on_kink,
                rings.reached[of] * own.reached,
                rings.degenerate[of] | own.degenerate,
                rings.singular + own.singular,
            )
        )
        hidden = own.states.shape[2]
        below, errors = rings.states[:, :, -hidden:], rings.errors[:, :, -hidden:]
    return rings


def _driven(
    layer: Layer,
    below: np.ndarray,
    errors: np.ndarray,
    act: PiecewiseAffine,
    prune: bool,
    told: Progress,
    max_points: int,
) -> tuple[Rings, np.ndarray]:
    """What each of the (cycle, period, input) states below can make a layer do, and which of them it is made by."""
    kernel = np.asarray(layer.input_kernel, np.float64)
    drives = below @ kernel + (0 if layer.bias is None else np.asarray(layer.bias, np.float64))
    rounding = 2 * EPS * (len(kernel) + 1) * (np.abs(below) @ np.abs(kernel) + np.abs(drives))
    rounding = rounding + errors @ np.abs(kernel)
    period, hidden = drives.shape[1:]
    ring = _ring_kernel(layer, period)
    found, of = [Rings.none(0, period, hidden)], [np.zeros(0, int)]
    for i, (drive, error) in enumerate(zip(drives, rounding, strict=True)):
        for some in _solutions(ring, drive, error, act, prune, told):
            found.append(some)
            of.append(np.full(len(some.states), i))
            if sum(map(len, of)) > max_points * period:
                raise ValueError(
                    f"there are more than max_points = {max_points}; raise it, or use maso_rnn.fixed_points"
                )
    *parts, singular = zip(*found, strict=True)
    states, bounds, lower, on_kink, reached, degenerate = map(np.concatenate, parts)
    return Rings(states, bounds, lower, on_kink, reached, degenerate, sum(singular)), np.concatenate(of)


def _ring_kernel(layer: Layer, period: int) -> np.ndarray:
    """What the states (period · hidden) of a cycle, one after the other, give to the pre-activations: p = K h + c."""
    hidden = layer.input_kernel.shape[1]
    kernel = np.zeros((period, hidden, period, hidden))
    if layer.recurrent_kernel is not None:
        for t in range(period):
            kernel[t, :, t - 1] = np.asarray(layer.recurrent_kernel, np.float64).T
    return kernel.reshape(period * hidden, period * hidden)


def _each_once(rings: Rings) -> Rings:
    """Cycles that are shifts of each other, or one point on several codes, become one."""
    count, period, units = rings.states.shape
    along = np.random.default_rng(0).standard_normal(units) / np.sqrt(units)
    heights = rings.states @ along
    # each cycle is told from its highest state on, so that shifts of it are the same numbers
    turned = (heights.argmax(axis=1)[:, None] + np.arange(period)) % period
    states, errors, lower, on_kink = (part[np.arange(count)[:, None], turned] for part in rings[:4])
    reach, height = _reach(states, errors), heights.max(axis=1)
    kept: list[int] = []
    reached = rings.reached.copy()
    for i in np.argsort(height, kind="stable"):
        same = None
        for j in reversed(kept):
            both = reach[i] + reach[j]
            if height[j] < height[i] - np.abs(along).sum() * both:
                break
            if np.abs(states[i] - states[j]).max() <= both:
                same = j
                break
        if same is None:
            kept.append(i)
        else:
            reached[same] += reached[i]
    each = np.sort(np.array(kept, int))
    return Rings(
        states[each], errors[each], lower[each], on_kink[each], reached[each], rings.degenerate[each], rings.singular
    )


def _reach(states: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """By how much one and the same cycle may differ from itself, (cycle,)."""
    return 4 * errors.sum(axis=(1, 2)) + 1e-13 * np.abs(states).max(axis=(1, 2), initial=0)


def _solutions(
    ring: np.ndarray, drive: np.ndarray, error: np.ndarray, act: PiecewiseAffine, prune: bool, told: Progress
) -> Iterator[Rings]:
    """Every solution of h = act(K h + c), c (period, hidden) known up to an error, once for each code that has it."""
    if not ring.any():  # nothing is recurrent: one solution, and no code to go through
        on_kink = (np.abs(drive[..., None] - np.array(act.breakpoints)) <= error[..., None]).any(axis=-1)
        state, moved = _value(act, _pieces_of(act, drive), drive), np.abs(act.slopes).max() * error
        one = Rings.none(1, *drive.shape)
        yield one._replace(states=state[None], errors=moved[None], lower=drive[None], on_kink=on_kink[None])
        return
    for codes in possible_codes(ring, drive.ravel(), error.ravel(), act, prune, told):
        found = _solved(codes, ring, drive.ravel(), error.ravel(), act, len(drive))
        states, errors, lower, on_kink = (part.reshape(-1, *drive.shape) for part in found[:4])
        yield found._replace(states=states, errors=errors, lower=lower, on_kink=on_kink)


def _pieces_of(act: PiecewiseAffine, p: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.array(act.breakpoints), p, side="left") if act.breakpoints else np.zeros(p.shape, int)


def _value(act: PiecewiseAffine, codes: np.ndarray, p: np.ndarray) -> np.ndarray:
    return np.array(act.slopes)[codes] * p + np.array(act.offsets)[codes]


def _solved(
    codes: np.ndarray, kernel: np.ndarray, drive: np.ndarray, error: np.ndarray, act: PiecewiseAffine, period: int
) -> Rings:
    """The solutions that lie on their codes (code, unit), up to the rounding of the pivoted solution."""
    units = len(kernel)
    slopes, offsets = (np.array(values)[codes] for values in (act.slopes, act.offsets))
    system = np.eye(units) - slopes[:, :, None] * kernel
    right = slopes * drive + offsets
    # |det| against its largest value, the product of the rows' norms: small where singular, and rarely elsewhere
    with np.errstate(under="ignore"):
        suspect = np.abs(np.linalg.det(system)) <= 1e-8 * np.linalg.norm(system, axis=2).prod(axis=1)
    singular = np.zeros(len(codes), bool)
    if suspect.any():
        sizes = np.linalg.svd(system[suspect], compute_uv=False)
        singular[suspect] = sizes[:, -1] <= 8 * units * EPS * sizes[:, 0]
    regular = ~singular
    inverse = np.linalg.inv(system[regular])
    states = np.zeros((len(codes), units))
    errors = np.zeros((len(codes), units))
    h = np.einsum("cij,cj->ci", inverse, right[regular])
    h = h + np.einsum("cij,cj->ci", inverse, right[regular] - np.einsum("cij,cj->ci", system[regular], h))
    summed = np.einsum("cij,cj->ci", np.abs(system[regular]), np.abs(h)) + np.abs(right[regular])
    doubt = 4 * units * EPS * summed + np.abs(slopes[regular]) * error
    states[regular], errors[regular] = h, np.einsum("cij,cj->ci", np.abs(inverse), doubt)
    lower, blurred = _pre_activations(states, errors, kernel, drive, error)
    low, high = (np.array(ends)[codes] for ends in ends_of(act))
    inside = ((lower + blurred > low) & (lower - blurred <= high)).all(axis=1) & regular
    further = [
        (state, np.full(units, 1e-9 * max(1.0, np.abs(state).max())))
        for i in np.flatnonzero(singular)
        for state in _representatives(system[i], right[i], kernel, drive, error, low[i], high[i], period)
    ]
    degenerate = np.arange(inside.sum() + len(further)) >= inside.sum()
    states, errors = (
        np.concatenate([own[inside], np.reshape([one[k] for one in further], (-1, units))])
        for k, own in enumerate((states, errors))
    )
    lower, blurred = _pre_activations(states, errors, kernel, drive, error)
    breakpoints = np.array(act.breakpoints)
    on_kink = (np.abs(lower[..., None] - breakpoints) <= blurred[..., None]).any(axis=2)
    return Rings(states, errors, lower, on_kink, np.ones(len(states), int), degenerate, int(singular.sum()))


def _pre_activations(
    states: np.ndarray, errors: np.ndarray, kernel: np.ndarray, drive: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pre-activations (code, unit), and how far rounding may have moved them."""
    lower = states @ kernel.T + drive
    rounding = 2 * EPS * len(kernel) * (np.abs(states) @ np.abs(kernel.T) + np.abs(drive))
    return lower, rounding + errors @ np.abs(kernel.T) + error


def _representatives(
    system: np.ndarray,
    right: np.ndarray,
    kernel: np.ndarray,
    drive: np.ndarray,
    error: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    period: int,
) -> list[np.ndarray]:
    """One of the solutions of a singular equation that lie on its code, as far inside as any; none where none does.

    Where that one returns before the period, another that most likely does not is there too, if there are others.
    """
    from scipy.optimize import linprog

    units = len(system)
    left, sizes, basis = np.linalg.svd(system)
    null = sizes <= 8 * units * EPS * sizes[0]
    allowed = 64 * units * EPS * (np.abs(right).max() + sizes[0]) + error.sum()
    if np.abs(left[:, null].T @ right).max() > (allowed if right.any() else 0):
        return []
    start = basis[~null].T @ ((left[:, ~null].T @ right) / sizes[~null])
    along = basis[null].T
    lower, moved = kernel @ start + drive, kernel @ along
    # maximise s, at most 1, with low + s ≤ lower + moved y ≤ high − s
    bounded_low, bounded_high = np.isfinite(low), np.isfinite(high)
    matrix = np.concatenate([-moved[bounded_low], moved[bounded_high]])
    limits = np.concatenate([(lower - low)[bounded_low], (high - lower)[bounded_high]])
    free = along.shape[1]
    place = np.zeros(free)
    if len(matrix):
        inward = np.concatenate([matrix, np.ones((len(matrix), 1))], axis=1)
        objective = np.zeros(free + 1)
        objective[-1] = -1.0
        bounds = [(None, None)] * free + [(-1.0, 1.0)]
        found = linprog(objective, A_ub=inward, b_ub=limits, bounds=bounds, method="highs")
        if not found.success or found.x[-1] < -1e-9 * max(1.0, np.abs(limits).max()):
            return []
        place = found.x[:free]
    states = [start + along @ place]
    ring = states[0].reshape(period, -1)
    size = max(1.0, np.abs(ring).max())
    if any(np.abs(ring - np.roll(ring, -d, axis=0)).max() <= 1e-6 * size for d in range(1, period) if period % d == 0):
        # halfway to where a random height is largest near by, or least: the further of both
        height = np.random.default_rng(0).standard_normal(free)
        bounds = [(there - size, there + size) for there in place]
        ends = [linprog(h, A_ub=matrix, b_ub=limits, bounds=bounds, method="highs").x for h in (height, -height)]
        moves = [along @ (end - place) for end in ends if end is not None]
        states += [states[0] + 0.5 * move for move in sorted(moves, key=np.linalg.norm)[-1:]]
    return states


def _described(rnn: RNN, rings: Rings, act: PiecewiseAffine, period: int, dtype: Any) -> AllFixedPoints:
    """The prime ones among the cycles, with all that is known of them."""
    reach, prime = _reach(rings.states, rings.errors), np.ones(len(rings.states), bool)
    for divisor in (d for d in range(1, period) if period % d == 0):
        prime &= np.abs(rings.states - np.roll(rings.states, -divisor, axis=1)).max(axis=(1, 2)) > reach
    states, lower, on_kink = rings.states[prime], rings.lower[prime], rings.on_kink[prime]
    # what is on a kink up to rounding has the lower piece
    breakpoints = np.array(act.breakpoints)
    codes = _pieces_of(act, lower)
    if len(breakpoints):
        nearest = np.abs(lower[..., None] - breakpoints).argmin(axis=-1)
        codes = np.where(on_kink, nearest, codes)
    values = _value(act, codes, lower)
    ends = np.cumsum([layer.input_kernel.shape[1] for layer in rnn.layers])
    carried = slice(ends[rnn.every_step - 1])  # a head that is read once has no part in where the state goes
    rnn, on_kink = dataclasses.replace(rnn, layers=rnn.layers[: rnn.every_step]), on_kink[:, :, carried]
    jacobians = _jacobians(rnn, np.array(act.slopes)[codes[:, :, carried]])
    multipliers, _ = eigensystems(around_the_cycle(jacobians))
    largest = np.abs(multipliers).max(axis=1, initial=0)
    for i in np.flatnonzero(on_kink.any(axis=(1, 2))):
        largest[i] = max(largest[i], _steepest(rnn, act, codes[i, :, carried], on_kink[i]))

    def by_layer(array: np.ndarray, dtype: Any) -> tuple[Array, ...]:
        array = array[:, 0] if period == 1 else array
        return tuple(jnp.asarray(part.astype(dtype)) for part in np.split(array, ends[:-1], axis=-1))

    return AllFixedPoints(
        states=by_layer(states, dtype),
        multipliers=jnp.asarray(multipliers, jnp.result_type(dtype, jnp.complex64)),
        stable=jnp.asarray((largest < 1) & ~rings.degenerate[prime]),
        residuals=jnp.asarray(0.5 * ((values - states) ** 2).sum(axis=(1, 2)), dtype),
        reached=jnp.asarray(rings.reached[prime]),
        degenerate=jnp.asarray(rings.degenerate[prime]),
        on_kink=jnp.asarray(on_kink.any(axis=(1, 2))),
        codes=by_layer(codes, bool if len(act.slopes) <= 2 else np.uint8),
        singular=rings.singular,
    )


def _jacobians(rnn: RNN, slopes: np.ndarray) -> np.ndarray:
    """The Jacobian of one step at every state of every cycle, from the slopes (cycle, period, unit) after the step.

    The slopes of state i are those of the step that leads to it, so that state i's own step has those of state i + 1.
    """
    slopes = np.roll(slopes, -1, axis=1)
    units = slopes.shape[2]
    rows, first, below = [], 0, None
    for layer in rnn.layers:
        hidden = layer.input_kernel.shape[1]
        own = np.zeros((hidden, units))
        if layer.recurrent_kernel is not None:
            own[:, first : first + hidden] = np.asarray(layer.recurrent_kernel, np.float64).T
        through = own if below is None else own + np.asarray(layer.input_kernel, np.float64).T @ below
        below = slopes[:, :, first : first + hidden, None] * through
        rows.append(below)
        first += hidden
    return np.concatenate(rows, axis=2)


def _steepest(rnn: RNN, act: PiecewiseAffine, codes: np.ndarray, on_kink: np.ndarray) -> float:
    """The largest |multiplier| of the pieces around one cycle that is on kinks."""
    slopes, at = np.array(act.slopes), np.argwhere(on_kink)
    sides = itertools.islice(itertools.product((0, 1), repeat=len(at)), KINKED_CODES)
    around = np.array([slopes[codes + _placed(side, at, codes.shape)] for side in sides])
    steeper = [int(abs(slopes[codes[t, unit] + 1]) > abs(slopes[codes[t, unit]])) for t, unit in at]
    steepest = slopes[codes + _placed(tuple(steeper), at, codes.shape)]
    products = around_the_cycle(_jacobians(rnn, np.concatenate([around, steepest[None]])))
    return float(np.abs(np.linalg.eigvals(products)).max())


def _placed(sides: tuple[int, ...], at: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """By how many pieces the codes of the units on kinks are moved."""
    moved = np.zeros(shape, int)
    moved[tuple(at.T)] = sides
    return moved
