"""Fixed points of a cell, searched from many starts at once."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Complex, Float, Int, PyTree

from maso_rnn import checks
from maso_rnn.dynamics.cells import Step, check_carry, flatten


class FixedPoints(NamedTuple):
    """The fixed points that a search found, most often reached first.

    Attributes:
        states: a carry like the starts, with a leading axis of fixed points.
        residuals: (point,), ½‖step(h, x) − h‖².
        eigenvalues: (point, hidden), of the Jacobian ∂step/∂h at the point, largest modulus first.
        stable: (point,), whether all of them are inside the unit circle.
        reached: (point,), how many of the starts came to it.
        outliers: how many starts ended far away from where all of them began.
        unconverged: how many starts ended where the residual is above the tolerance.
    """

    states: PyTree[Float[Array, "..."]]
    residuals: Float[Array, " point"]
    eigenvalues: Complex[Array, "point hidden"]
    stable: Bool[Array, " point"]
    reached: Int[Array, " point"]
    outliers: int
    unconverged: int


def fixed_points(
    step: Step,
    starts: PyTree[Float[Array, "..."]],
    x: Float[Array, " input"] | None = None,
    *,
    learning_rate: float = 0.05,
    max_steps: int = 500,
    tolerance: float = 1e-10,
    distance: float = 1e-3,
    outlier_scale: float = 10.0,
) -> FixedPoints:
    """Fixed points of a cell under a constant input, searched from many starts at once.

    Equation: q(h) = ½‖step(h, x) − h‖², brought down from every start by Adam; what is near zero is finished by
    Newton's method on step(h, x) − h = 0, kept if it stays where it was, and stable if all |λ(∂step/∂h)| < 1.

    A host function: how many points there are is known only when it has run.

    Args:
        step: the cell, `(carry, x) -> carry`. The compiled search is kept for each `step` object: pass the same one
            again rather than a new lambda. What it closes over is read when it is first searched: after training,
            make a new one.
        starts: carries with a leading axis of starts, as states that trajectories passed through.
        x: (input,), the constant input, of any floating dtype that the cell takes; by default (0,), for a cell
            without input.
        learning_rate: of Adam, falling to 0 along a cosine; a step moves no unit by much more than this.
        max_steps: of Adam.
        tolerance: a point is kept if q is at most this.
        distance: points closer than this (Euclidean) are one.
        outlier_scale: points further from the centroid of the starts than this many times the starts' mean distance
            are rejected; there is nothing to measure by, and none is, where all starts are one, up to `distance`.

    Returns:
        `FixedPoints(states, residuals, eigenvalues, stable, reached, outliers, unconverged)`; none found is an
        empty leading axis.

    Raises:
        ValueError: if there are no starts, they are not finite, or an option is not positive.
        TypeError: if `starts` or `x` is traced or not floating, `starts` below float32, or `step` is not hashable or
            does not return a carry like a start.

    Example:
        >>> starts = jnp.linspace(-2.0, 2.0, 8)[:, None]
        >>> found = fixed_points(lambda h, x: jnp.tanh(2.0 * h), starts)
        >>> sorted((round(float(h), 3) + 0.0, bool(stable)) for h, stable in zip(found.states.ravel(), found.stable))
        [(-0.958, True), (0.0, False), (0.958, True)]

    Source:
        Sussillo, Barak, *Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
        networks* (2013); Golub, Sussillo, *FixedPointFinder* (2018), for outliers and unique points.
    """
    if not checks.is_concrete(starts, x):
        raise TypeError(
            "starts and x must be concrete, as the number of fixed points is not known before; call fixed_points "
            "outside jax.jit and jax.vmap (it takes all starts at once)"
        )
    learning_rate = checks.number("learning_rate", learning_rate, above=0)
    tolerance = checks.number("tolerance", tolerance, above=0)
    distance = checks.number("distance", distance, above=0)
    outlier_scale = checks.number("outlier_scale", outlier_scale, above=0)
    max_steps = checks.size("max_steps", max_steps)
    leaves = jax.tree.leaves(starts)
    if not leaves or any(jnp.ndim(leaf) == 0 for leaf in leaves) or len({len(leaf) for leaf in leaves}) != 1:
        raise ValueError(
            "starts must be a carry with one leading axis of starts in every leaf; a single one is h[None]"
        )
    if not len(leaves[0]):
        raise ValueError("starts must hold at least one start, got an empty leading axis")
    first = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], starts)
    x = jnp.zeros(0, leaves[0].dtype) if x is None else checks.array("x", x, "input")
    checks.finite(x=x)
    check_carry(step, "starts", first, x)
    checks.finite(starts=starts)
    starts = jax.tree.map(jnp.asarray, starts)
    begin = np.asarray(jax.vmap(lambda carry: ravel_pytree(carry)[0])(starts))
    if begin.dtype.itemsize < 4:
        raise TypeError(f"starts must be float32 or float64, got {begin.dtype}; search in float32, step with it")
    try:
        hash(step)
    except TypeError:
        raise TypeError(
            f"step must be hashable, as the compiled search is kept for it, got {type(step).__name__}; wrap it once, "
            "as in cell = lambda h, x: step(h, x)"
        ) from None

    # not done yet at this point, but Newton's method knows the way from there
    near = max(tolerance, (0.1 * distance) ** 2)
    ends, descended = map(
        np.asarray, _descend(step, starts, x, near / 100, learning_rate=learning_rate, max_steps=max_steps)
    )
    candidates, candidate_of = _distinct(ends, descended, descended <= near, distance)
    points, residuals = ends[candidates], descended[candidates]
    if len(points):
        polished = _polish(step, first, _padded(points), x, 10 * distance)
        points, residuals = (np.asarray(array)[: len(points)] for array in polished)

    # from the first start on, so that equal ones are exactly at their centroid
    offsets = begin.astype(np.float64) - begin[0]
    strays = np.linalg.norm(offsets - offsets.mean(axis=0), axis=1)
    limit = outlier_scale * strays.mean() if strays.max() > distance else np.inf
    far = np.linalg.norm(points - begin[0] - offsets.mean(axis=0), axis=1) > limit
    converged = residuals <= tolerance
    chosen, chosen_of = _distinct(points, residuals, converged & ~far, distance)
    stand_for = np.bincount(candidate_of[candidate_of >= 0], minlength=len(candidates))  # starts of each candidate
    reached = np.array([stand_for[chosen_of == i].sum() for i in range(len(chosen))], int)
    chosen, reached = (array[np.argsort(-reached, kind="stable")] for array in (chosen, reached))

    points, residuals = points[chosen], residuals[chosen]
    if len(points):
        jacobians = np.asarray(_jacobians(step, first, _padded(points), x), np.float64)[: len(points)]
        eigenvalues: np.ndarray = np.linalg.eigvals(jacobians)
        eigenvalues = np.take_along_axis(eigenvalues, np.argsort(-np.abs(eigenvalues), axis=1, kind="stable"), axis=1)
    else:
        eigenvalues = np.zeros((0, begin.shape[1]))
    _, unravel = ravel_pytree(first)
    return FixedPoints(
        states=jax.vmap(unravel)(jnp.asarray(points)),
        residuals=jnp.asarray(residuals),
        eigenvalues=jnp.asarray(eigenvalues, jnp.result_type(begin.dtype, jnp.complex64)),
        stable=jnp.asarray((np.abs(eigenvalues) < 1).all(axis=1)),
        reached=jnp.asarray(reached),
        outliers=int(stand_for[converged & far].sum()),
        unconverged=int(len(begin) - stand_for[converged].sum()),
    )


@functools.partial(jax.jit, static_argnames=("step", "learning_rate", "max_steps"))
def _descend(
    step: Step, starts: PyTree, x: Array, enough: Array | float, *, learning_rate: float, max_steps: int
) -> tuple[Array, Array]:
    """Where Adam on ½‖step(h) − h‖² ends from every start, and the value there."""
    import optax

    flat, _ = flatten(step, jax.tree.map(lambda leaf: leaf[0], starts))
    # the first gradients are the largest: remembered for as long as by b2 = 0.999, they would stall the descent
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, max_steps), b2=0.9)

    def residuals(states: Array) -> Array:
        return 0.5 * jnp.sum((jax.vmap(lambda h: flat(h, x))(states) - states) ** 2, axis=1)

    def total(states: Array) -> tuple[Array, Array]:
        each = residuals(states)
        return each.sum(), each  # Adam is elementwise: the sum moves every start as by itself

    def body(carry: Any) -> Any:
        k, states, memory, _ = carry
        gradient, each = jax.grad(total, has_aux=True)(states)
        change, memory = adam.update(gradient, memory)
        # a start that is there stays there: Adam's next step would be as long as its last ones
        return k + 1, jnp.where((each > enough)[:, None], states + change, states), memory, each

    def unfinished(carry: Any) -> Array:
        k, _, _, each = carry
        return (k < max_steps) & (each > enough).any()

    states = jax.vmap(lambda carry: ravel_pytree(carry)[0])(starts)
    begin = (0, states, adam.init(states), jnp.full(len(states), jnp.inf, states.dtype))
    _, states, _, _ = jax.lax.while_loop(unfinished, body, begin)
    return states, residuals(states)


@functools.partial(jax.jit, static_argnames="step")
def _polish(step: Step, carry: PyTree, states: Array, x: Array, reach: Array | float) -> tuple[Array, Array]:
    """Newton's method from every state, kept where it lessens the residual without leaving."""
    import optimistix

    flat, _ = flatten(step, carry)
    precision = 100 * float(jnp.finfo(states.dtype).eps)
    newton: Any = optimistix.Newton(rtol=precision, atol=precision)

    def polish(h: Array) -> tuple[Array, Array]:
        def miss(h: Array, _: None) -> Array:
            return flat(h, x) - h

        found = optimistix.root_find(miss, newton, h, max_steps=32, throw=False).value
        before, after = (0.5 * jnp.sum(miss(at, None) ** 2) for at in (h, found))
        better = (after <= before) & (jnp.linalg.norm(found - h) <= reach)
        return jnp.where(better, found, h), jnp.where(better, after, before)

    return jax.vmap(polish)(states)


@functools.partial(jax.jit, static_argnames="step")
def _jacobians(step: Step, carry: PyTree, states: Array, x: Array) -> Array:
    flat, _ = flatten(step, carry)
    return jax.vmap(jax.jacfwd(lambda h: flat(h, x)))(states)


def _padded(states: np.ndarray) -> np.ndarray:
    """Filled up to a power of two, so that few sizes are ever compiled."""
    wanted = 1 << (len(states) - 1).bit_length()
    return np.concatenate([states, np.repeat(states[:1], wanted - len(states), axis=0)])


def _distinct(
    points: np.ndarray, residuals: np.ndarray, allowed: np.ndarray, distance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which allowed points stand for themselves, best first, and which of these each point belongs to (-1: none)."""
    chosen: list[int] = []
    of = np.full(len(points), -1)
    for i in np.argsort(residuals, kind="stable"):
        if not allowed[i] or of[i] >= 0:
            continue
        near = allowed & (of < 0) & (np.linalg.norm(points - points[i], axis=1) <= distance)
        of[near] = len(chosen)
        chosen.append(i)
    return np.array(chosen, int), of
