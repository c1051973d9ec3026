"""Where a search for fixed points or cycles starts: states of trajectories, checked against the step."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, PyTree

from maso_rnn import checks, functions, network
from maso_rnn.activations import PiecewiseAffine
from maso_rnn.cells import Cell, Step, traced_step
from maso_rnn.network import RNN


def sample_states(
    key: Array,
    trajectories: PyTree[Float[Array, "..."]],
    count: int,
    *,
    noise: float | Array = 0.0,
    mask: Bool[Array, "..."] | None = None,
) -> PyTree[Float[Array, "..."]]:
    """Starts for `fixed_points` and `cycles`: states that trajectories passed through, drawn at random.

    Args:
        key: a random key.
        trajectories: states (trial, time, hidden), or (time, hidden); of a cell with several states a pytree of them.
        count: how many states to draw, each at most once.
        noise: standard deviation of the Gaussian numbers that are added, in the units of the states.
        mask: (trial, time), or (time,): which states may be drawn; padding, for one, may not.

    Returns:
        The pytree with leaves (start, hidden). Where a traced `mask` leaves too few states, the rest are NaN.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or there are fewer states than `count`.
        TypeError: if `trajectories` is not floating, or `key` no key.

    Example:
        >>> states = jnp.arange(6.0).reshape(2, 3, 1)  # two trials of three steps
        >>> sample_states(jax.random.key(0), states, 4).shape
        (4, 1)

    Source:
        Golub, Sussillo, *FixedPointFinder* (2018), `sample_states`.
    """
    key = checks.random_key("key", key)
    count = checks.size("count", count)
    noise = checks.scale("noise", noise)
    trajectories = checks.carry("trajectories", trajectories)
    leading = {leaf.shape[:-1] for leaf in jax.tree.leaves(trajectories)}
    if len(leading) > 1 or not 1 <= len(shape := leading.pop()) <= 2:
        got = jax.tree.map(jnp.shape, trajectories)
        raise ValueError(f"trajectories must be (trial, time, hidden) or (time, hidden) in every leaf, got {got}")
    total = int(np.prod(shape))
    if mask is not None:
        mask = checks.array("mask", mask, "*trial", {"*trial": shape}, kinds=(jnp.bool_,))
        total = int(mask.sum()) if checks.is_concrete(mask) else total
    if count > total:
        raise ValueError(f"count must be at most the {total} states that may be drawn, got {count}")
    checks.finite(trajectories=trajectories)
    return _sampled(key, trajectories, noise, mask, count)


@functools.partial(jax.jit, static_argnames="count")
def _sampled(key: Array, trajectories: PyTree, noise: Array | float, mask: Array | None, count: int) -> PyTree:
    choice_key, noise_key = jax.random.split(key)
    structure: Any
    leaves, structure = jax.tree.flatten(trajectories)
    rows = [leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves]
    allowed = jnp.ones(len(rows[0]), bool) if mask is None else mask.ravel()
    chosen = jax.lax.top_k(jnp.where(allowed, jax.random.uniform(choice_key, allowed.shape), -1), count)[1]
    there = allowed[chosen][:, None]
    drawn = [
        jnp.where(there, row[chosen] + noise * jax.random.normal(key, (count, row.shape[1]), row.dtype), jnp.nan)
        for row, key in zip(rows, jax.random.split(noise_key, len(rows)), strict=True)
    ]
    return structure.unflatten([one.astype(row.dtype) for one, row in zip(drawn, rows, strict=True)])


class Starts(NamedTuple):
    """Starts of a search, and the step that they fit.

    Attributes:
        step: the cell on flat carries, traced now.
        states: (start, hidden), flat.
        inputs: (start, input).
        unravel: a carry of a flat state.
        network: the network behind the step, where it has affine pieces; else None.
        head: the layers of a network that are read once, and have no part in where its state goes.
    """

    step: functions.Traced
    states: np.ndarray
    inputs: np.ndarray
    unravel: Any
    network: RNN | None
    head: RNN | None

    def carries(self, states: Array) -> PyTree:
        """The carries of flat states (state, hidden), with what the head makes of each."""

        def one(state: Array) -> PyTree:
            carry = self.unravel(state)
            if self.head is None:
                return carry
            nothing = tuple(jnp.zeros_like(layer.input_kernel[0]) for layer in self.head.layers)
            return carry + network.step(self.head, nothing, carry[-1])[0]

        return jax.vmap(one)(states)


def read_starts(step: Step | RNN, starts: Any, x: Any, call: str) -> Starts:
    """Starts, inputs and step once they are known to fit; `call` is the name of the function that is given them."""
    _check_starts(starts, x, call)
    own = isinstance(step, RNN)
    head: RNN | None = None
    width: dict[str, int] = {}
    rnn: Any = step if own else getattr(step, "params", None) if isinstance(step, Cell) else None
    if isinstance(step, RNN):
        width = _check_network_and(step, starts)
        if (count := step.every_step) < len(step.layers):
            head = dataclasses.replace(step, layers=step.layers[count:])
            rnn, starts = dataclasses.replace(step, layers=step.layers[:count]), starts[:count]
        step = jax.tree_util.Partial(_step_of_network, rnn)
    starts = jax.tree.map(jnp.asarray, starts)
    dtype, count = jax.tree.leaves(starts)[0].dtype, len(jax.tree.leaves(starts)[0])
    x = jnp.zeros(0, dtype) if x is None else x
    sizes = {"start": count, **width}
    x = checks.array("x", x, "start input?" if getattr(x, "ndim", 1) > 1 else "input?", sizes)
    checks.finite(starts=starts, x=x)
    first = jax.tree.map(lambda leaf: leaf[0], starts)
    inputs = np.broadcast_to(np.asarray(x), (count, x.shape[-1]))
    stepped = _fitting_step(step, starts, first, jax.ShapeDtypeStruct(inputs.shape[1:], inputs.dtype))
    _, unravel = ravel_pytree(first)
    flat = np.asarray(_flat(starts))
    if not own:
        _require_same_twice(step, stepped, first, inputs[0])
    on_flat = functions.traced("step", lambda h, x: ravel_pytree(stepped(unravel(h), x))[0], flat[0], inputs[0])
    pieces = isinstance(rnn, RNN) and isinstance(rnn.activation, PiecewiseAffine)
    return Starts(on_flat, flat, inputs, unravel, rnn if pieces else None, head)


def _check_starts(starts: Any, x: Any, call: str) -> None:
    checks.known(f"call {call} outside jax.jit and jax.vmap, with all starts at once", starts=starts, x=x)
    leaves = jax.tree.leaves(checks.carry("starts", starts))
    if any(leaf.ndim == 0 for leaf in leaves) or len({len(leaf) for leaf in leaves}) != 1:
        raise _misshaped(starts)
    if (dtypes := {leaf.dtype.name for leaf in leaves}) not in ({"float32"}, {"float64"}):
        raise TypeError(f"starts must be all float32 or all float64, got {sorted(dtypes)}; search in float32")


def _check_network_and(rnn: RNN, starts: Any) -> dict[str, int]:
    """The size of the input of a network, once it is known to be good, and starts to be states of its layers."""
    sizes: dict[str, Any] = {}
    dtype = network.check_form(rnn, sizes)
    checks.finite(rnn=rnn)
    if not isinstance(starts, tuple) or all(leaf.ndim == 2 for leaf in jax.tree.leaves(starts)):
        checks.layers("starts", starts, "start hidden", sizes, dtype)
    return {"input?": sizes["input"]}


def _misshaped(starts: PyTree) -> ValueError:
    """What to say of starts that are one carry, or carries of several steps."""
    got = jax.tree.map(jnp.shape, starts)
    return ValueError(
        f"starts must be carries of step with one leading axis of starts in every leaf, got {got}; one alone is "
        "jax.tree.map(lambda leaf: leaf[None], carry), and maso_rnn.sample_states draws from (trial, time, hidden)"
    )


def _step_of_network(rnn: RNN, states: Any, x: Array) -> Any:
    return network.step(rnn, states, x)[0]


@jax.jit
def _flat(starts: PyTree) -> Array:
    return jax.vmap(lambda carry: ravel_pytree(carry)[0])(starts)


def _fitting_step(step: Step, starts: PyTree, first: PyTree, x: Any) -> functions.Traced:
    """The step, traced on one start, if it takes one; else what the starts seem to be, and the call that is right."""
    inner = jax.tree.map(lambda leaf: leaf[0] if leaf.ndim > 1 else None, first)
    takes_rows = all(leaf.ndim > 1 for leaf in jax.tree.leaves(first)) and _takes(step, inner, x)
    try:
        found = traced_step(step, "starts", first, x)
    except Exception:  # whatever a step of the caller's raises; it is raised again unless another shape explains it
        if takes_rows or _takes(step, starts, x):
            raise _misshaped(starts) from None
        raise
    if takes_rows:
        alone = functions.traced("step", step, inner, x)
        silent = jnp.zeros(x.shape, x.dtype)
        rows, row = found(first, silent), alone(inner, silent)
        if all(np.allclose(a[0], b) for a, b in zip(jax.tree.leaves(rows), jax.tree.leaves(row), strict=True)):
            raise _misshaped(starts)
    return found


def _takes(step: Step, carry: PyTree, x: Any) -> bool:
    """Whether the step returns a carry like this one, given it."""
    try:
        traced_step(step, "starts", carry, x)
    except Exception:  # whatever the caller's function does with what is not for it
        return False
    return True


def _require_same_twice(step: Step, found: functions.Traced, carry: PyTree, x: np.ndarray) -> None:
    again = functions.traced("step", step, carry, x)
    same = functools.partial(np.array_equal, equal_nan=True)
    programs: Any = [jax.tree.structure(one) for one in (found, again)]
    if programs[0] == programs[1] and all(map(same, found.constants, again.constants)):
        return
    if not all(map(same, *(jax.tree.leaves(run(carry, x)) for run in (found, again)))):
        raise ValueError("step must give the same carry whenever it is given the same; fix its key, switch dropout off")
