"""Cells: any recurrent network as a step and a readout, and what it is to first order around an input.

A step is a function `(carry, x) -> carry`, the carry any pytree of floating arrays, x (input,). A `Cell` holds one
together with its parameters, its readout and its initial carry, so that gradients and new weights pass through it, and
it is taken wherever a step is taken. A function of the caller is traced anew at every call: what it reads may change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, PyTree

from maso_rnn import checks, functions
from maso_rnn.network import Inputs, embedded, padded


@struct.dataclass
class Cell:
    """A recurrent network of any kind: a pytree whose weights are leaves.

    Calling it makes one step with its parameters: `cell(carry, x)`. So a cell is a step, and is taken wherever one is.

    Attributes:
        params: any pytree of arrays.
        step: `(params, carry, x) -> carry`, static.
        readout: `(params, carry) -> (output,)`, static.
        initial: the carry before the first step.
        embedding: (token, input), what each token stands for, or None. Sequences of integers are embedded by it, and
            whatever is said of inputs is said of the embedded ones.

    Example:
        >>> cell = Cell(jnp.full(2, 0.5), lambda w, h, x: w * h + x, lambda w, h: h, jnp.zeros(2))
        >>> cell(jnp.ones(2), jnp.ones(2)).tolist(), cell.read(jnp.ones(2)).tolist()
        ([1.5, 1.5], [1.0, 1.0])
    """

    params: PyTree
    step: Callable[[PyTree, PyTree, Array], PyTree] = struct.field(pytree_node=False)
    readout: Callable[[PyTree, PyTree], Array] = struct.field(pytree_node=False)
    initial: PyTree
    embedding: PyTree = None

    def __repr__(self) -> str:
        trees = (self.initial, (self.params, self.embedding))
        carried, weights = ([leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "size")] for tree in trees)
        dtypes = ", ".join(sorted({str(leaf.dtype) for leaf in weights}))
        state, count = sum(leaf.size for leaf in carried), sum(leaf.size for leaf in weights)
        return f"Cell({state:,} state variables, {dtypes}, {count:,} parameters)"

    def __call__(self, carry: PyTree, x: Array) -> PyTree:
        """The carry after one step."""
        return self.step(self.params, carry, x)

    def read(self, carry: PyTree) -> Array:
        """The output (output,) of a carry."""
        return self.readout(self.params, carry)

    def run(self, xs: Inputs) -> PyTree:
        """The carry after every step of one sequence: each leaf with a leading time axis, for `sample_states`."""
        return _run(self, checks.array("xs", embedded("xs", xs, self.embedding), "time input"))


@jax.jit
def _run(cell: Cell, xs: Array) -> PyTree:
    def body(carry: PyTree, x: Array) -> tuple[PyTree, PyTree]:
        after = cell(carry, x)
        return after, after

    return jax.lax.scan(body, cell.initial, xs)[1]


Step: TypeAlias = Cell | Callable[[PyTree, Array], PyTree]
"""What a function that takes a cell takes: a `Cell`, or `(carry, x) -> carry`."""


class Linearization(NamedTuple):
    """`output ≈ Σ_t slope[:, t] @ xs[t] + initial_slope · h0 + offset`, to first order about an input.

    Attributes:
        slope: (output, time, input), the Jacobian in the input.
        initial_slope: the Jacobian in the initial carry: its pytree, each leaf with a leading output axis.
        offset: (output,), such that the formula is exact at the input it was taken at.
        output: (output,), from the forward pass.
    """

    slope: Float[Array, "output time input"]
    initial_slope: PyTree[Float[Array, "output ..."]]
    offset: Float[Array, " output"]
    output: Float[Array, " output"]


def linearize(
    step: Step,
    readout: Callable[[PyTree], Float[Array, " output"]] | Inputs | None = None,
    h0: PyTree[Float[Array, "..."]] = None,
    xs: Inputs | None = None,
    *,
    length: int | Int[Array, ""] | None = None,
) -> Linearization:
    """Any cell (LSTM, GRU, tanh) to first order about `xs`: its template, as `affine_map` has it where it is exact.

    Equation: slope = ∂z/∂xs, initial_slope = ∂z/∂h0, offset = z − slope · xs − initial_slope · h0.

    `linearize(cell, xs)` is enough for a `Cell`, which brings its readout and its initial carry.

    Args:
        step: a `Cell`, or `(carry, x) -> carry`, with x (input,). A function is compiled once for what it does: a new
            one that does something else is compiled again.
        readout: the output of a carry, `carry -> (output,)`; it is read after the last step.
        h0: the initial carry, any pytree of floating arrays.
        xs: (time, input), one sequence, in any floating dtype that the cell takes; or (time,), tokens, where the cell
            embeds them.
        length: how many steps of `xs` count; the rest is padding, with zero slope. May be traced.

    Returns:
        `Linearization(slope, initial_slope, offset, output)`, exact at `xs` only; `linearization_error` measures it
        elsewhere.

    Raises:
        ValueError: if `xs` is not (time, input), is empty, `readout` does not give (output,), `h0` holds no array, or
            concrete values are not finite.
        TypeError: if `xs` or a leaf of `h0` is not a floating array, `step` or `readout` is not a function, or `step`
            does not return a carry like `h0`. What they raise themselves is passed on with a note.

    Example:
        >>> cell = lambda h, x: jnp.tanh(x + 0.5 * h)
        >>> linear = linearize(cell, lambda h: h, jnp.zeros(1), jnp.zeros((3, 1)))
        >>> linear.slope.ravel().tolist()
        [0.25, 0.5, 1.0]

    Source:
        First-order Taylor expansion; the smooth counterpart of Wang, Balestriero, Baraniuk (2019), theorem 1.
    """
    return _linearize(*_checked(step, readout, h0, xs, length))


@jax.jit
def _linearize(step: Any, readout: Any, h0: PyTree, xs: Array, length: Array | None) -> Linearization:
    output, pull_back = jax.vjp(lambda h0, xs: output_after(step, readout, h0, xs, length), h0, xs)
    initial_slope, slope = jax.vmap(pull_back)(jnp.eye(output.shape[0], dtype=output.dtype))
    return Linearization(slope, initial_slope, output - _apply(slope, initial_slope, h0, xs), output)


def linearization_error(
    linearization: Linearization,
    step: Step,
    readout: Callable[[PyTree], Float[Array, " output"]] | Inputs | None = None,
    h0: PyTree[Float[Array, "..."]] = None,
    xs: Inputs | None = None,
    *,
    length: int | Int[Array, ""] | None = None,
) -> Float[Array, " output"]:
    """What a linearization gets wrong at another input or initial carry.

    Equation: z(xs, h0) − (slope · xs + initial_slope · h0 + offset).

    Args:
        linearization: from `linearize`, of the same cell and readout; in floating dtypes of any kind.
        step: the cell, a `Cell` or `(carry, x) -> carry`; after a `Cell` the sequence may follow at once.
        readout: the output of a carry, `carry -> (output,)`.
        h0: the initial carry to test at.
        xs: (time, input), the sequence to test at, in any floating dtype that the cell takes.
        length: how many steps of `xs` count; the rest is padding. May be traced.

    Returns:
        (output,), true output minus predicted, in the units of the output.

    Raises:
        ValueError: as `linearize`; or if `xs`, `h0` or the output do not have the shapes that the linearization was
            taken at.
        TypeError: as `linearize`; or if `linearization` is none of floating arrays.

    Example:
        >>> cell = lambda h, x: jnp.tanh(x + 0.5 * h)
        >>> linear = linearize(cell, lambda h: h, jnp.zeros(1), jnp.zeros((3, 1)))
        >>> error = linearization_error(linear, cell, lambda h: h, jnp.zeros(1), jnp.full((3, 1), 0.1))
        >>> bool(abs(error[0]) < 0.01)
        True

    Source:
        First-order Taylor expansion.
    """
    checks.instance("linearization", linearization, Linearization, "maso_rnn.linearize")
    linearization = checks.carry("linearization", linearization)
    stepped, read, h0, xs, length = _checked(step, readout, h0, xs, length)
    output = read.out
    wanted = jax.tree.map(lambda h: (*output.shape, *h.shape), Linearization(xs, h0, jnp.zeros(()), jnp.zeros(())))
    got = jax.tree.map(jnp.shape, linearization)
    if wanted != got:
        raise ValueError(f"linearization must be of this cell and of sequences {xs.shape}: shapes {wanted}, got {got}")
    return _error(linearization, stepped, read, h0, xs, length)


@jax.jit
def _error(linear: Linearization, step: Any, readout: Any, h0: PyTree, xs: Array, length: Array | None) -> Array:
    predicted = _apply(linear.slope, linear.initial_slope, h0, xs) + linear.offset
    return output_after(step, readout, h0, xs, length) - predicted


def output_after(step: Any, readout: Any, h0: PyTree, xs: Array, length: Array | None) -> Array:
    """What is read out after a sequence, or after its first `length` steps."""

    def body(carry: PyTree, now: tuple[Array, Array]) -> tuple[PyTree, None]:
        t, x = now
        after = step(carry, x)
        if length is not None:  # padding leaves the carry as it is
            after = jax.tree.map(lambda new, old: jnp.where(t < length, new, old), after, carry)
        return after, None

    carry, _ = jax.lax.scan(body, h0, (jnp.arange(len(xs)), xs))
    return readout(carry)


def _apply(slope: Array, initial_slope: PyTree, h0: PyTree, xs: Array) -> Array:
    """`slope · xs + initial_slope · h0`."""
    parts = jax.tree.map(lambda rows, h: rows.reshape(rows.shape[0], -1) @ h.ravel(), initial_slope, h0)
    return sum(jax.tree.leaves(parts), start=jnp.einsum("oti,ti->o", slope, xs))


def _checked(step: Any, readout: Any, h0: Any, xs: Any, length: Any) -> tuple[Any, Any, PyTree, Array, Array | None]:
    """Step and readout, traced, the initial carry, and the sequence, once they are known to fit."""
    if isinstance(step, Cell):
        readout, xs = (None, readout) if xs is None else (readout, xs)
        readout, h0 = readout or step.read, step.initial if h0 is None else h0
        xs = embedded("xs", xs, step.embedding, length)
    xs = checks.array("xs", xs, "time input")
    h0 = checks.carry("h0", h0)
    (xs,), h0, length = padded([xs], h0, length)
    checks.finite(xs=xs, h0=h0)
    stepped = traced_step(step, "h0", h0, xs[0])
    read = functions.traced("readout", readout, h0)
    out = read.out
    is_vector = isinstance(out, jax.ShapeDtypeStruct) and len(out.shape) == 1 and out.shape[0]
    if not is_vector or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"readout must return one floating array (output,), got {out}")
    return stepped, read, h0, xs, length


def traced_step(step: Step, name: str, carry: PyTree, x: Array | jax.ShapeDtypeStruct) -> functions.Traced:
    """The step, traced now; it must return a carry like the one it is given, which messages call `name`."""
    found = functions.traced("step", step, carry, x)
    checks.like("what step returns", found.out, name, carry)
    return found


def flat_cell(step: Step, state: PyTree, inputs: Any) -> tuple[functions.Traced, Array, Array]:
    """The step on flat carries, traced now, the state, flat, and the inputs, once they are known to fit."""
    inputs = embedded("inputs", inputs, step.embedding) if isinstance(step, Cell) else inputs
    inputs = checks.array("inputs", inputs, "time input?")
    state = checks.carry("state", state)
    checks.finite(state=state, inputs=inputs)
    stepped = traced_step(step, "state", state, inputs[0])
    h, unravel = ravel_pytree(state)
    return functions.traced("step", lambda h, x: ravel_pytree(stepped(unravel(h), x))[0], h, inputs[0]), h, inputs
