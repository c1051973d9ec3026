"""Cells, `step(carry, x) -> carry`, on flat carries, and what a carry has to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from maso_rnn import checks

Step = Callable[[PyTree, Array], PyTree]


def flatten(step: Step, carry: PyTree) -> tuple[Callable[[Array, Array], Array], Array]:
    """The cell on flat carries, and the carry, flat."""
    h, unravel = ravel_pytree(carry)
    return lambda h, x: ravel_pytree(step(unravel(h), x))[0], h


def flat_cell(step: Step, state: PyTree, inputs: Any) -> tuple[Callable[[Array, Array], Array], Array, Array]:
    """The cell on flat carries, the state, flat, and the inputs, once they are known to fit."""
    inputs = checks.array("inputs", inputs, "time input?")
    if not inputs.shape[0]:
        raise ValueError(f"inputs must have at least one step, got shape {inputs.shape}")
    checks.finite(inputs=inputs)
    check_carry(step, "state", state, inputs[0])
    checks.finite(state=state)
    flat, h = flatten(step, jax.tree.map(jnp.asarray, state))
    return flat, h, inputs


def check_carry(step: Step, name: str, carry: PyTree, x: Array) -> None:
    """The cell takes the carry, floating arrays, and returns one like it."""
    checks.function("step", step)
    for path, leaf in jax.tree.leaves_with_path(carry):
        checks.array(f"{name}{jax.tree_util.keystr(path)}", leaf, "*shape")
    if not sum(leaf.size for leaf in jax.tree.leaves(carry)):
        raise ValueError(f"{name} must hold at least one number, got an empty carry")
    with checks.calling("step", f"{name} {jax.tree.map(jnp.shape, carry)} and an input {x.shape}"):
        after = jax.eval_shape(step, carry, x)
    wanted, got = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), tree) for tree in (carry, after))
    if wanted != got:
        raise TypeError(f"step must return a carry like {name}, {wanted}, got {got}")
