"""The exact affine map that a piecewise-affine RNN is on the piece around an input.

With D_t the diagonal of the slopes that the units use at step t, the output of step T is, in column vectors,

    z_T = Σ_t slope_t x_t + initial_slope h_0 + offset,
    G_T = V,  G_{t-1} = G_t D_t U,   slope_t = G_t D_t W,   initial_slope = G_0,
    offset = c + Σ_t G_t (D_t b + offsets of the pieces used at t),

each layer handing G_t D_t W on to the one below it. That is one forward scan that stores the codes and one pull-back
scan for all outputs. The offset is accumulated from its terms, never taken as what the slopes leave over: the identity
is a check, not a definition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree, Shaped

from maso_rnn import checks
from maso_rnn.activations import PiecewiseAffine, require_pieces
from maso_rnn.network import RNN, States, checked_arguments, read_out, trajectory
from maso_rnn.network import step as network_step


class AffineMap(NamedTuple):
    """`output = Σ_t slope[:, t] @ xs[t] + Σ_l initial_slope[l] @ h0[l] + offset`, on the piece of `codes`.

    From `affine_maps` each of the first four has a leading time axis: the step whose output it is.

    Attributes:
        slope: (output, time, input); zero after the step asked for.
        initial_slope: for each layer (output, hidden).
        offset: (output,), what the biases and the offsets of the pieces add.
        output: (output,), from the forward pass.
        codes: for each layer (time, hidden), the piece that each unit used.
    """

    slope: Float[Array, "output time input"]
    initial_slope: tuple[Float[Array, "output hidden"], ...]
    offset: Float[Array, " output"]
    output: Float[Array, " output"]
    codes: tuple[Shaped[Array, "time hidden"], ...]


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


def affine_map(
    rnn: RNN,
    xs: Float[Array, "time input"],
    h0: States | None = None,
    *,
    step: int | Int[Array, ""] = -1,
) -> AffineMap:
    """The affine map that the network is around `xs`, for the output of one step.

    Equation: G_T = V, G_{t-1} = G_t D_t U, slope_t = G_t D_t W, initial_slope = G_0,
    offset = c + Σ_t G_t (D_t b + piece offsets).

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.
        step: the step whose output is mapped, from 0 or, if negative, from the end; it may be traced.

    Returns:
        `AffineMap(slope, initial_slope, offset, output, codes)`. With a traced `step` out of range all numbers are
        NaN.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, concrete values are
            not finite, or a concrete `step` is out of range.
        TypeError: if `xs` is not a floating array of the network's dtype, or `step` is not an integer.

    Example:
        >>> from maso_rnn import init
        >>> rnn = init(jax.random.key(0), 1, [8], 3)
        >>> xs = jnp.linspace(-1.0, 1.0, 5)[:, None]
        >>> affine = affine_map(rnn, xs)
        >>> rebuilt = jnp.einsum("oti,ti->o", affine.slope, xs) + affine.offset
        >>> bool(jnp.allclose(rebuilt, affine.output, atol=1e-5))
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), theorem 1, with the readout in every term and the products over all steps.
    """
    xs, state = checked_arguments(rnn, xs, h0)
    require_pieces(rnn.activation)
    time = xs.shape[0]
    at, inside = checks.index("step", step, -time, time)
    return _affine_map(rnn, xs, state, jnp.where(at < 0, at + time, at), inside)


@jax.jit  # so that a call outside of jit compiles once, not at every call
def _affine_map(rnn: RNN, xs: Array, state: States, at: Array, inside: Array) -> AffineMap:
    act = require_pieces(rnn.activation)
    top, codes = _run(rnn, act, xs, state, at)
    output = read_out(rnn, top)

    rows = _pulled_rows(rnn)
    pulled = _pull_back(rnn, act, codes, lambda t: jnp.where(t == at, rows, 0), rows.shape[:1])
    numbers = (*_through_readout(rnn, pulled), output)
    slope, initial_slope, offset, output = jax.tree.map(lambda value: jnp.where(inside, value, jnp.nan), numbers)
    return AffineMap(slope, initial_slope, offset, output, codes)


def affine_maps(rnn: RNN, xs: Float[Array, "time input"], h0: States | None = None) -> AffineMap:
    """The affine map of every step's output: `affine_map` for each `step`, on a leading time axis.

    Equation: as `affine_map`; slope[T, :, t] is zero for t > T. Pulls the outputs of all steps back, or pushes the
    inputs of all steps forward, whichever carries fewer rows.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: one (hidden,) for each layer; by default the learned state, else zeros.

    Returns:
        `AffineMap` with slope (time, output, time, input), initial_slope (time, output, hidden) for each layer,
        offset and output (time, output), and codes (time, hidden) for each layer.

    Raises:
        ValueError: if the activation has no pieces, shapes do not fit, the sequence is empty, or concrete values
            are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype.

    Example:
        >>> from maso_rnn import init
        >>> affine = affine_maps(init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1)))
        >>> affine.slope.shape, bool((affine.slope[1, :, 2:] == 0).all())
        ((5, 3, 5, 1), True)

    Source:
        Wang, Balestriero, Baraniuk (2019), theorem 1 and section 3.
    """
    xs, state = checked_arguments(rnn, xs, h0)
    require_pieces(rnn.activation)
    return _affine_maps(rnn, xs, state)


@jax.jit
def _affine_maps(rnn: RNN, xs: Array, state: States) -> AffineMap:
    act = require_pieces(rnn.activation)
    time, inputs = xs.shape
    run = trajectory(rnn, xs, state)

    units = sum(h.shape[0] for h in state)
    rows = _pulled_rows(rnn)
    if time * len(rows) <= time * inputs + units + 1:
        steps = jnp.arange(time)[:, None, None]
        pulled = _pull_back(rnn, act, run.codes, lambda t: jnp.where(steps == t, rows, 0), (time, len(rows)))
        slope, initial_slope, offset = jax.vmap(lambda rows: _through_readout(rnn, rows))(pulled)
    else:
        slope, initial_slope, offset = _push_forward(rnn, act, run.codes, inputs)
    return AffineMap(slope, initial_slope, offset, run.outputs, run.codes)


def _pulled_rows(rnn: RNN) -> Array:
    """What is pulled back through time: the outputs, or the top layer's units where those are fewer."""
    kernel = rnn.readout.kernel
    hidden, outputs = kernel.shape
    return kernel.T if outputs <= hidden else jnp.eye(hidden, dtype=kernel.dtype)


def _through_readout(rnn: RNN, pulled: Any) -> tuple[Array, tuple[Array, ...], Array]:
    """The outputs' slopes and offset, from those of `_pulled_rows`."""
    kernel, bias = rnn.readout.kernel, rnn.readout.bias
    hidden, outputs = kernel.shape
    if outputs > hidden:
        pulled = jax.tree.map(lambda value: jnp.tensordot(kernel, value, axes=(0, 0)), pulled)
    slope, initial_slope, offset = pulled
    return slope, initial_slope, offset if bias is None else offset + bias


def _run(rnn: RNN, act: PiecewiseAffine, xs: Array, state: States, at: Array) -> tuple[Array, tuple[Array, ...]]:
    """The top layer's state after step `at`, and the codes of every step, from one pass."""

    def body(carry: tuple[States, Array], now: tuple[Array, Array]) -> tuple[tuple[States, Array], Any]:
        (state, top), (t, x) = carry, now
        state, pre_activations = network_step(rnn, state, x)
        return (state, jnp.where(t == at, state[-1], top)), tuple(act.code(p) for p in pre_activations)

    (_, top), codes = jax.lax.scan(body, (state, state[-1]), (jnp.arange(xs.shape[0]), xs))
    return top, codes


def _pull_back(
    rnn: RNN,
    act: PiecewiseAffine,
    codes: tuple[Array, ...],
    seed: Callable[[Array], Array],
    rows: tuple[int, ...],
) -> tuple[Array, tuple[Array, ...], Array]:
    """Slope (*rows, time, input), initial slopes (*rows, hidden) and offset (*rows,) of linear forms of the state.

    `seed(t)`, (*rows, hidden), is what the forms put on the top layer's state after step t.
    """
    dtype = rnn.readout.kernel.dtype
    zeros = tuple(jnp.zeros((*rows, code.shape[1]), dtype) for code in codes)

    def body(carry: tuple[Any, Array], now: tuple[Array, tuple[Array, ...]]) -> tuple[Any, Array]:
        (gradients, offset), (t, code) = carry, now
        before = []
        onto = seed(t)  # what the layer above and the readout put on this layer's state
        for l in reversed(range(len(rnn.layers))):
            layer = rnn.layers[l]
            onto = gradients[l] + onto
            through = onto * act.slope(code[l], dtype)
            if layer.bias is not None:
                offset = offset + through @ layer.bias
            if act.has_offsets:
                offset = offset + onto @ act.offset(code[l], dtype)
            before.append(through @ layer.recurrent_kernel.T)
            onto = through @ layer.input_kernel.T
        return (tuple(before[::-1]), offset), onto

    times = jnp.arange(codes[0].shape[0])
    start = (zeros, jnp.zeros(rows, dtype))
    (initial_slope, offset), slope = jax.lax.scan(body, start, (times, codes), reverse=True)
    return jnp.moveaxis(slope, 0, -2), initial_slope, offset


def _push_forward(
    rnn: RNN, act: PiecewiseAffine, codes: tuple[Array, ...], inputs: int
) -> tuple[Array, tuple[Array, ...], Array]:
    """Slope (time, output, time, input), initial slopes (time, output, hidden) and offset (time, output).

    Carries, for each layer, the derivatives of its state as rows: one for each input so far, one for each unit of the
    initial state, and a last row for the affine part.
    """
    dtype = rnn.readout.kernel.dtype
    time = codes[0].shape[0]
    widths = [code.shape[1] for code in codes]
    count = time * inputs + sum(widths) + 1
    start, rows = time * inputs, []
    for width in widths:
        rows.append(jnp.zeros((count, width), dtype).at[start : start + width].set(jnp.eye(width, dtype=dtype)))
        start += width

    def body(rows: tuple[Array, ...], now: tuple[Array, tuple[Array, ...]]) -> tuple[tuple[Array, ...], Array]:
        t, code = now
        after: list[Array] = []
        for l, layer in enumerate(rnn.layers):
            p = rows[l] @ layer.recurrent_kernel
            if l == 0:
                here = jax.lax.dynamic_slice_in_dim(p, t * inputs, inputs)
                p = jax.lax.dynamic_update_slice_in_dim(p, here + layer.input_kernel, t * inputs, axis=0)
            else:
                p = p + after[-1] @ layer.input_kernel
            if layer.bias is not None:
                p = p.at[-1].add(layer.bias)
            p = p * act.slope(code[l], dtype)
            if act.has_offsets:
                p = p.at[-1].add(act.offset(code[l], dtype))
            after.append(p)
        return tuple(after), (after[-1] @ rnn.readout.kernel).T

    _, columns = jax.lax.scan(body, tuple(rows), (jnp.arange(time), codes))
    bounds = [time * inputs + sum(widths[:l]) for l in range(len(widths))]
    slope, *initial_slope, offset = jnp.split(columns, [*bounds, count - 1], axis=-1)
    offset = offset[..., 0]
    if rnn.readout.bias is not None:
        offset = offset + rnn.readout.bias
    return slope.reshape(time, -1, time, inputs), tuple(initial_slope), offset


def match(affine: AffineMap, xs: Float[Array, "time input"]) -> Float[Array, " output"]:
    """How well `xs` matches each output's template: their inner products.

    Equation: match_c = Σ_t slope[c, t] · xs[t].

    Args:
        affine: from `affine_map`; its slope alone is read.
        xs: (time, input), the sequence to match, in the map's dtype.

    Returns:
        (output,), in the units of the output.

    Raises:
        ValueError: if the slope is not (output, time, input), `xs` does not fit it, or concrete ones are not finite.
        TypeError: if `affine` is not an `AffineMap`, or `xs` is not a floating array of its dtype.

    Example:
        >>> from maso_rnn import init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> match(affine_map(rnn, xs), xs).shape
        (3,)

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    if not isinstance(affine, AffineMap):
        raise TypeError(f"affine must be an AffineMap, from maso_rnn.affine_map, got {type(affine).__name__}")
    slope = checks.array("affine.slope", affine.slope, rank=3, axes="(output, time, input)")
    if not slope.size:
        raise ValueError(f"affine.slope must be (output, time, input) and not empty, got shape {slope.shape}")
    checks.finite("affine.slope", slope)
    xs = checks.array("xs", xs, rank=2, axes="(time, input)", dtype=slope.dtype)
    if xs.shape != slope.shape[1:]:
        raise ValueError(f"xs must be (time, input) = {slope.shape[1:]} as in affine.slope, got {xs.shape}")
    checks.finite("xs", xs)
    return jnp.einsum("oti,ti->o", slope, xs)


def template_margin(affine: AffineMap, xs: Float[Array, "time input"], label: int | Int[Array, ""]) -> Float[Array, ""]:
    """By how much the template of the right class matches better than the best of the others.

    Equation: match_label − max_{c ≠ label} match_c.

    Args:
        affine: from `affine_map`; its slope alone is read.
        xs: (time, input), the sequence to match, in the map's dtype.
        label: the right class, in [0, output); it may be traced.

    Returns:
        A scalar in the units of the output, positive where the right template wins; NaN for a traced `label` out of
        range.

    Raises:
        ValueError: if there is only one output, a concrete `label` is out of range, or shapes do not fit.
        TypeError: as `match`; or if `label` is not an integer.

    Example:
        >>> from maso_rnn import init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> affine = affine_map(rnn, xs)
        >>> winner = match(affine, xs).argmax()
        >>> bool(template_margin(affine, xs, winner) > 0)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), section 4.
    """
    scores = match(affine, xs)
    classes = jnp.arange(scores.shape[0])
    if len(classes) < 2:
        raise ValueError("affine must have at least two outputs, for a margin between classes; got one")
    own, inside = checks.index("label", label, 0, len(classes))
    others = jnp.where(classes == own, -jnp.inf, scores)
    return jnp.where(inside, scores[own] - others.max(), jnp.nan)


def linearize(
    step: Callable[[PyTree, Array], PyTree],
    readout: Callable[[PyTree], Float[Array, " output"]],
    h0: PyTree[Float[Array, "..."]],
    xs: Float[Array, "time input"],
) -> Linearization:
    """Any cell (LSTM, GRU, tanh) to first order about `xs`: its template, as `affine_map` has it where it is exact.

    Equation: slope = ∂z/∂xs, initial_slope = ∂z/∂h0, offset = z − slope · xs − initial_slope · h0.

    Args:
        step: the cell, `(carry, x) -> carry`, with x (input,).
        readout: the output of a carry, `carry -> (output,)`; it is read after the last step.
        h0: the initial carry, any pytree of floating arrays.
        xs: (time, input), one sequence, in any floating dtype that the cell takes.

    Returns:
        `Linearization(slope, initial_slope, offset, output)`, exact at `xs` only; `linearization_error` measures it
        elsewhere. Called outside of `jax.jit` it compiles at every call; wrap it when it is called often.

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
    xs, h0 = _checked_cell(step, readout, h0, xs)
    output, pull_back = jax.vjp(lambda h0, xs: _last_output(step, readout, h0, xs), h0, xs)
    basis = jnp.eye(output.shape[0], dtype=output.dtype)
    initial_slope, slope = jax.vmap(pull_back)(basis)
    linear = _apply(slope, initial_slope, h0, xs)
    return Linearization(slope, initial_slope, output - linear, output)


def linearization_error(
    linearization: Linearization,
    step: Callable[[PyTree, Array], PyTree],
    readout: Callable[[PyTree], Float[Array, " output"]],
    h0: PyTree[Float[Array, "..."]],
    xs: Float[Array, "time input"],
) -> Float[Array, " output"]:
    """What a linearization gets wrong at another input or initial carry.

    Equation: z(xs, h0) − (slope · xs + initial_slope · h0 + offset).

    Args:
        linearization: from `linearize`, of the same cell and readout; in floating dtypes of any kind.
        step: the cell, `(carry, x) -> carry`.
        readout: the output of a carry, `carry -> (output,)`.
        h0: the initial carry to test at.
        xs: (time, input), the sequence to test at, in any floating dtype that the cell takes.

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
    linearization = _checked_linearization(linearization)
    xs, h0 = _checked_cell(step, readout, h0, xs)
    if xs.shape != linearization.slope.shape[1:]:
        raise ValueError(f"xs must be {linearization.slope.shape[1:]}, as the linearization has it, got {xs.shape}")
    wanted = jax.tree.map(lambda rows: rows.shape[1:], linearization.initial_slope)
    got = jax.tree.map(jnp.shape, h0)
    if wanted != got:
        raise ValueError(f"h0 must have the shapes that the linearization has it in, {wanted}, got {got}")
    output = _last_output(step, readout, h0, xs)
    if output.shape != linearization.output.shape:
        raise ValueError(
            f"readout must return {linearization.output.shape}, as the linearization has it, got {output.shape}"
        )
    predicted = _apply(linearization.slope, linearization.initial_slope, h0, xs) + linearization.offset
    return output - predicted


def _checked_linearization(linearization: Any) -> Linearization:
    """Floating arrays whose outputs agree, finite where they are concrete."""
    if not isinstance(linearization, Linearization):
        raise TypeError(f"linearization must come from maso_rnn.linearize, got {type(linearization).__name__}")
    checked, name = linearization, "linearization"
    slope = checks.array(f"{name}.slope", checked.slope, rank=3, axes="(output, time, input)")
    output = checks.array(f"{name}.output", checked.output, rank=1, axes="(output,)")
    offset = checks.array(f"{name}.offset", checked.offset, rank=1, axes="(output,)")
    rows = [slope, offset, output]
    for path, leaf in jax.tree.leaves_with_path(checked.initial_slope):
        where = f"{name}.initial_slope{jax.tree_util.keystr(path)}"
        rows.append(checks.array(where, leaf, rank=max(jnp.ndim(leaf), 1), axes="(output, ...)"))
    counts = [len(row) for row in rows]
    if len(set(counts)) > 1:
        raise ValueError(f"{name} must have as many outputs in every array, got {counts}")
    checks.finite(name, rows)
    return Linearization(slope, jax.tree.map(jnp.asarray, checked.initial_slope), offset, output)


def _last_output(step: Any, readout: Any, h0: PyTree, xs: Array) -> Array:
    carry, _ = jax.lax.scan(lambda carry, x: (step(carry, x), None), h0, xs)
    return readout(carry)


def _apply(slope: Array, initial_slope: PyTree, h0: PyTree, xs: Array) -> Array:
    """`slope · xs + initial_slope · h0`."""
    parts = jax.tree.map(lambda rows, h: rows.reshape(rows.shape[0], -1) @ h.ravel(), initial_slope, h0)
    return sum(jax.tree.leaves(parts), start=jnp.einsum("oti,ti->o", slope, xs))


def _checked_cell(step: Any, readout: Any, h0: PyTree, xs: Any) -> tuple[Array, PyTree]:
    """The sequence and the initial carry, once the cell is known to fit them."""
    checks.function("step", step)
    checks.function("readout", readout)
    xs = checks.array("xs", xs, rank=2, axes="(time, input)")
    if not xs.size:
        raise ValueError(f"xs must have at least one step and one input, got shape {xs.shape}")
    checks.finite("xs", xs)
    if not jax.tree.leaves(h0):
        raise ValueError("h0 must hold at least one array, got an empty carry")
    for path, leaf in jax.tree.leaves_with_path(h0):
        checks.array(f"h0{jax.tree_util.keystr(path)}", leaf, rank=jnp.ndim(leaf), axes="floating")
    h0 = jax.tree.map(jnp.asarray, h0)
    checks.finite("h0", h0)
    with checks.calling("step or readout", f"h0 {jax.tree.map(jnp.shape, h0)} and one step of xs, {xs.shape[1:]}"):
        after, output = jax.eval_shape(lambda h, x: ((new := step(h, x)), readout(new)), h0, xs[0])
    wanted, got = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype.name), carry) for carry in (h0, after))
    if wanted != got:
        raise TypeError(f"step must return a carry like h0, {wanted}, got {got}")
    is_vector = isinstance(output, jax.ShapeDtypeStruct) and len(output.shape) == 1 and output.size
    if not is_vector or not jnp.issubdtype(output.dtype, jnp.floating):
        raise ValueError(f"readout must return one floating array (output,), got {output}")
    return xs, h0
