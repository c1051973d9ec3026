"""Inputs of another class near a given one.

On its piece a network is affine, so that the nearest place where one class overtakes another is a projection onto a
hyperplane. The search projects, looks along the way there for the first change that the network itself makes, and
projects anew by the map of the piece it has come to: from piece to piece, ever nearer. What it finds is an input of
another class, so its distance bounds the true one from above, as a certificate does from below.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from maso_rnn import checks
from maso_rnn.affine import map_at
from maso_rnn.network import RNN, States, checked_arguments, last_output

AT_ONCE, ROUNDS = 16, 3  # places on the way that are looked at together, and how often the stretch before is cut anew
BEYOND = 4  # how far the way is gone along past the first projection, in its lengths


class NearestChange(NamedTuple):
    """An input that the network puts into another class.

    Attributes:
        xs: (time, input), the input; NaN where none was found.
        distance: how far it is from the given one, over the whole sequence; infinite where none was found.
        label: the class it is put into.
        found: whether there is one.
    """

    xs: Float[Array, "time input"]
    distance: Float[Array, ""]
    label: Int[Array, ""]
    found: Bool[Array, ""]


def nearest_change(
    rnn: RNN,
    xs: Float[Array, "time input"],
    label: int | Int[Array, ""],
    h0: States | None = None,
    *,
    norm: str = "l2",
    moves: Bool[Array, " time"] | None = None,
    max_projections: int = 64,
    length: int | Int[Array, ""] | None = None,
) -> NearestChange:
    """An input near `xs` that is of another class: an upper bound on how far the nearest one is.

    Equation: x ← xs − (m / ‖g‖*) u(g), with m and g the margin at `xs` and its gradient by the affine map around x, and
    u(g) the direction in which g falls fastest for the norm; then the first change on the way from `xs` to x.

    A local search, once towards each of the other classes: what it finds is certainly of another class, and often, not
    always, the nearest; to about one in 4,000 where it is on the piece of `xs`. Each projection costs one affine map
    and 48 forward passes for each class.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        label: the class to get away from, as a rule the predicted one; it may be traced.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. It is held fixed.
        norm: in which distances are measured, `"l2"` or `"linf"`.
        moves: (time,), False for steps that stay as they are; by default all move.
        max_projections: after how many the search ends at the latest.
        length: how many steps of `xs` count; the rest is padding, and stays as it is. May be traced.

    Returns:
        `NearestChange(xs, distance, label, found)`; at distance 0 where `xs` is of another class already. NaN for a
        traced `label` out of range.

    Raises:
        ValueError: if there is only one output, a concrete `label` is out of range, `norm` is not known, the activation
            has no pieces, shapes do not fit, or concrete values are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype, or `label` is not an integer.

    Example:
        >>> from maso_rnn import init, last_output
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> label = last_output(rnn, xs).argmax()
        >>> change = nearest_change(rnn, xs, label)
        >>> bool(change.found), bool(last_output(rnn, change.xs).argmax() != label)
        (True, True)

    Source:
        Moosavi-Dezfooli, Fawzi, Frossard (2016), *DeepFool*, for the projections; from piece to piece along the way is
        this package's own.
    """
    rnn, xs, state, length = checked_arguments(rnn, xs, h0, length)
    outputs = rnn.readout.kernel.shape[1]
    own, inside = checks.label(label, outputs)
    checks.choice("norm", norm, ("l2", "linf"))
    most = checks.size("max_projections", max_projections)
    if moves is not None:
        moves = checks.array("moves", moves, "time", {"time": len(xs)}, kinds=(np.bool_,))
    return _nearest(rnn, xs, state, length, own, inside, moves, norm, most)


class _Search(NamedTuple):
    """The nearest change so far, and from where to project next."""

    at: Array
    best: Array
    distance: Array
    damping: Array
    projections: Array


@functools.partial(jax.jit, static_argnames=("norm", "most"))
def _nearest(
    rnn: RNN,
    xs: Array,
    state: States,
    length: Array | None,
    own: Array,
    inside: Array,
    moves: Array | None,
    norm: str,
    most: int,
) -> NearestChange:
    dtype, eps = xs.dtype, float(jnp.finfo(xs.dtype).eps)
    others = jnp.arange(rnn.readout.kernel.shape[1]) != own

    def lead(at: Array) -> Array:
        """By how much the best of the others is ahead, beyond rounding."""
        z = last_output(rnn, at, state, length=length)
        return jnp.where(others, z, -jnp.inf).max() - z[own] - 16 * eps * jnp.abs(z).max()

    def project(at: Array, target: Array) -> Array:
        """From `xs` to where the map around `at` has the class that leads there overtake, or else the target."""
        affine = map_at(rnn, at, state, jnp.asarray(-1), jnp.asarray(True), length)
        apart = affine.slope[own] - affine.slope
        apart = apart if moves is None else jnp.where(moves[:, None], apart, 0)
        margins = affine.output[own] - affine.output + jnp.tensordot(apart, xs - at, axes=2)
        steps = jnp.abs(apart).sum(axis=(1, 2)) if norm == "linf" else jnp.square(apart).sum(axis=(1, 2))
        leader = jnp.where(others, affine.output, -jnp.inf).argmax()
        other = jnp.where(affine.output[leader] > affine.output[own], leader, target)
        size = jnp.where(steps[other] > 0, margins[other] / jnp.where(steps[other] > 0, steps[other], 1), 0)
        return -size * (jnp.sign(apart[other]) if norm == "linf" else apart[other])

    def first_change(way: Array, most: Array) -> tuple[Array, Array]:
        """Of the places xs + t · way, 0 < t ≤ most, the first that is of another class, and whether there is one."""

        def closer(_: Array, between: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            low, high, found = between
            places = low + (high - low) * jnp.arange(1, AT_ONCE + 1, dtype=dtype) / AT_ONCE
            changed = jax.vmap(lambda t: lead(xs + t * way) > 0)(places)
            first = changed.argmax()
            some = changed.any()
            return (
                jnp.where(some & (first > 0), places[first - 1], low),
                jnp.where(some, places[first], high),
                found | some,
            )

        _, high, found = jax.lax.fori_loop(0, ROUNDS, closer, (jnp.zeros((), dtype), most, jnp.asarray(False)))
        return high, found

    def distance(way: Array) -> Array:
        return jnp.abs(way).max() if norm == "linf" else jnp.sqrt(jnp.square(way).sum())

    def body(target: Array, now: _Search) -> _Search:
        is_known = jnp.isfinite(now.distance)
        way = project(now.at, target)
        way = jnp.where(is_known, way + now.damping * (now.best - xs - way), way)
        size = distance(way)
        reach = jnp.where(is_known, now.distance / jnp.where(size > 0, size, 1), BEYOND)
        t, found = first_change(way, reach)
        # only what is nearer by more than rounding is progress
        better = found & (t * size < now.distance * (1 - 1e-4)) & (size > 0)
        best = jnp.where(better, xs + t * way, now.best)
        return _Search(
            at=jnp.where(is_known | better, best, xs + way),
            best=best,
            distance=jnp.where(better, distance(best - xs), now.distance),
            damping=jnp.where(better, 0.0, (1 + now.damping) / 2 * is_known).astype(dtype),
            projections=now.projections + 1,
        )

    nothing = jnp.zeros((), dtype)
    is_other = lead(xs) > 0
    start = _Search(xs, xs, jnp.where(is_other, nothing, jnp.inf), nothing, jnp.zeros((), jnp.int32))

    def towards(target: Array) -> _Search:
        return jax.lax.while_loop(
            lambda now: (now.projections < most) & (now.damping < 0.99) & (now.distance > 0),
            functools.partial(body, target),
            start,
        )

    searches = jax.vmap(towards)(jnp.arange(len(others)))
    nearest = jnp.where(others, searches.distance, jnp.inf).argmin()
    done = jax.tree.map(lambda field: field[nearest], searches)
    z = last_output(rnn, done.best, state, length=length)
    label = z.argmax()
    found = jnp.isfinite(done.distance) & (label != own) & inside
    return NearestChange(
        xs=jnp.where(found, done.best, jnp.nan),
        distance=jnp.where(inside, jnp.where(found, done.distance, jnp.inf), jnp.nan),
        label=label,
        found=found,
    )
