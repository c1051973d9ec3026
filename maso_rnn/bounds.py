"""Sound bounds of the outputs over a ball of inputs, and the radius within which a prediction is proved.

Every unit at every step is put between two straight lines over the range [l, u] of its pre-activation,

    α p + β ≤ act(p) ≤ α' p + β'    for l ≤ p ≤ u,

and a linear form of a state is carried back through time: its coefficient on act(p) becomes one on p, by the lower line
where it is positive and by the upper one where it is negative, that on p one on the layer below, on the state before
and, at last, on the inputs, where the dual norm of what has been gathered bounds it over the ball. The ranges [l, u]
come from the same pass, step after step and layer after layer, cut to those of interval arithmetic.

Numbers are rounded, so each pass also adds up how far roundings may have moved it, by (n + 2) ε Σ|terms| for a sum of n
terms, and gives that away: the bounds hold for the network that has the stored weights and computes exactly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from maso_rnn import checks
from maso_rnn.activations import Activation, PiecewiseAffine
from maso_rnn.distances import norm_distance
from maso_rnn.network import RNN, States, checked_arguments, run_through

NORMS = ("l2", "linf")


class Bounds(NamedTuple):
    """What the outputs of the last step may be, over a ball of inputs.

    Attributes:
        lower: (output,), no output is below it.
        upper: (output,), no output is above it.
        widths: (time,), the widest range of a pre-activation at each step: where it explodes, the bounds say nothing.
    """

    lower: Float[Array, " output"]
    upper: Float[Array, " output"]
    widths: Float[Array, " time"]


class Certificate(NamedTuple):
    """A radius within which no input of the ball changes the class.

    Attributes:
        radius: proved; 0 where the class is not the one predicted.
        one_piece: how far the map of the input's own piece reaches: to its nearest wall, or to its own decision.
        margins: (output,), a lower bound of how far the class is ahead of each other at `radius`; infinite for itself.
        widths: (time,), as in `Bounds`, at `radius`.
        is_predicted: whether the network predicts the class at the input itself.
    """

    radius: Float[Array, ""]
    one_piece: Float[Array, ""]
    margins: Float[Array, " output"]
    widths: Float[Array, " time"]
    is_predicted: Bool[Array, ""]


def output_bounds(
    rnn: RNN,
    xs: Float[Array, "time input"],
    radius: float | Float[Array, ""] | Float[Array, " time"],
    h0: States | None = None,
    *,
    norm: str = "l2",
    moves: Bool[Array, " time"] | None = None,
    length: int | Int[Array, ""] | None = None,
) -> Bounds:
    """What the outputs may become if the input moves by up to `radius`: sound for every input of the ball.

    Equation: lower ≤ z(xs + δ) ≤ upper for all ‖δ‖ ≤ radius, by linear bounds carried back through time.

    Costs time² · hidden³; the bounds widen with time on networks that expand. Batches by `jax.vmap`.

    Args:
        rnn: the network, of a piecewise affine activation or tanh, in float32 or float64.
        xs: (time, input), the middle of the ball, in the network's dtype.
        radius: of the ball around the whole sequence, or (time,), one for the ball around each step; at least 0.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. It is held fixed.
        norm: `"l2"` or `"linf"`.
        moves: (time,), False for steps that stay as they are; by default all move.
        length: how many steps of `xs` count; the rest is padding. May be traced.

    Returns:
        `Bounds(lower, upper, widths)`; infinite where they explode, NaN where traced numbers are not finite or a
        traced radius is negative.

    Raises:
        ValueError: if a concrete `radius` is negative or not finite, the activation has no bounds, `norm` is not known,
            shapes do not fit, or concrete values are not finite.
        TypeError: if the network is not of float32 or float64, or an argument of another type.

    Example:
        >>> from maso_rnn import forward, init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> bounds = output_bounds(rnn, xs, 0.1)
        >>> z = forward(rnn, xs + 0.04)[-1]
        >>> bool((bounds.lower <= z).all() and (z <= bounds.upper).all())
        True

    Source:
        Zhang, Weng, Chen, Hsieh, Daniel, *Efficient neural network robustness certification with general activation
        functions* (2018); Ko et al., *POPQORN* (2019), for recurrent networks.
    """
    rnn, xs, state, length = _checked(rnn, xs, h0, length, norm)
    radius, apart = _checked_radius(radius, len(xs))
    return _output_bounds(rnn, xs, state, length, radius, _checked_moves(moves, len(xs)), norm=norm, apart=apart)


def certified_radius(
    rnn: RNN,
    xs: Float[Array, "time input"],
    label: int | Int[Array, ""],
    h0: States | None = None,
    *,
    norm: str = "l2",
    moves: Bool[Array, " time"] | None = None,
    length: int | Int[Array, ""] | None = None,
    tries: int = 20,
) -> Certificate:
    """A radius within which the class is proved not to change, as large as bisection finds.

    Equation: radius = the largest r tried with min_{‖δ‖ ≤ r} z_label − z_c > 0 for all c ≠ label, by `output_bounds` of
    the differences. The first r tried is what one piece proves; it doubles until a proof fails, then it is halved.

    Args:
        rnn: the network, of a piecewise affine activation or tanh, in float32 or float64.
        xs: (time, input), one sequence, in the network's dtype.
        label: the class, in [0, output); it may be traced.
        h0: one (hidden,) for each layer; by default the learned state, else zeros. It is held fixed.
        norm: `"l2"` or `"linf"`, over the whole sequence.
        moves: (time,), False for steps that stay as they are; by default all move.
        length: how many steps of `xs` count; the rest is padding. May be traced.
        tries: how many radii are tried, each at the cost of one `output_bounds`.

    Returns:
        `Certificate(radius, one_piece, margins, widths, is_predicted)`.

    Raises:
        ValueError: if there is only one output, a concrete `label` is out of range, or as `output_bounds`.
        TypeError: as `output_bounds`.

    Example:
        >>> from maso_rnn import forward, init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> found = certified_radius(rnn, xs, int(forward(rnn, xs)[-1].argmax()))
        >>> bool(found.radius > 0), bool(found.radius >= found.one_piece * 0.999)
        (True, True)

    Source:
        As `output_bounds`.
    """
    rnn, xs, state, length = _checked(rnn, xs, h0, length, norm)
    own, inside = checks.label(label, rnn.readout.kernel.shape[1])
    tries = checks.size("tries", tries)
    moves = _checked_moves(moves, len(xs))
    return _certified(rnn, xs, state, length, own, inside, moves, norm=norm, tries=tries)


def _checked(rnn: RNN, xs: Any, h0: Any, length: Any, norm: str) -> tuple[RNN, Array, States, Array | None]:
    checks.choice("norm", norm, NORMS)
    rnn, xs, state, length = checked_arguments(rnn, xs, h0, length, pieces=False)
    if not isinstance(rnn.activation, PiecewiseAffine) and rnn.activation is not jnp.tanh:
        raise ValueError("rnn.activation must be piecewise affine or tanh, since no bounds of another are known")
    if xs.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"rnn must be float32 or float64, got {xs.dtype}; convert it and xs")
    return rnn, xs, state, length


def _checked_radius(radius: Any, time: int) -> tuple[Any, bool]:
    """The radius, of the ball around all or (time,), and whether each step has its own."""
    apart = isinstance(radius, jax.Array | np.ndarray) and radius.ndim > 0
    radius = checks.array("radius", radius, "time", {"time": time}) if apart else checks.real_number("radius", radius)
    if checks.is_concrete(radius):
        values = np.asarray(radius, np.float64)
        if not (values.min() >= 0 and values.max() < np.inf):
            raise ValueError(f"radius must be finite and at least 0, got {values.min():g} to {values.max():g}")
    return radius, apart


def _checked_moves(moves: Any, time: int) -> Array | None:
    """Which steps may move (time,), None for all."""
    return None if moves is None else checks.array("moves", moves, "time", {"time": time}, kinds=(np.bool_,))


def _radii(xs: Array, radius: Array, moves: Array | None) -> Array:
    """The radius of each step, 0 where it may not move."""
    radii = jnp.broadcast_to(radius, xs.shape[:1]).astype(xs.dtype)
    return radii if moves is None else jnp.where(moves, radii, 0)


@functools.partial(jax.jit, static_argnames=("norm", "apart"))
def _output_bounds(
    rnn: RNN,
    xs: Array,
    state: States,
    length: Array | None,
    radius: Array,
    moves: Array | None,
    *,
    norm: str,
    apart: bool,
) -> Bounds:
    kernel, bias, ball = rnn.readout.kernel.T, rnn.readout.bias, _Ball(_radii(xs, radius, moves), norm, apart)
    found, widths = _lower_bounds(rnn, xs, state, length, ball, jnp.concatenate([kernel, -kernel]))
    lower, upper = jnp.split(found, 2)
    if bias is not None:
        slack = jnp.finfo(xs.dtype).eps
        lower = lower + bias - slack * (jnp.abs(lower) + jnp.abs(bias))
        upper = upper - bias - slack * (jnp.abs(upper) + jnp.abs(bias))
    sound = _all_finite((rnn, xs, state, radius)) & (jnp.asarray(radius) >= 0).all()
    return jax.tree.map(lambda row: jnp.where(sound, row, jnp.nan), Bounds(lower, -upper, widths))


def _all_finite(values: Any) -> Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(values)]).all()


@functools.partial(jax.jit, static_argnames=("norm", "tries"))
def _certified(
    rnn: RNN,
    xs: Array,
    state: States,
    length: Array | None,
    own: Array,
    inside: Array,
    moves: Array | None,
    *,
    norm: str,
    tries: int,
) -> Certificate:
    kernel, bias = rnn.readout.kernel.T, rnn.readout.bias
    movable = _radii(xs, jnp.ones((), xs.dtype), moves)
    ahead = kernel[own] - kernel
    ahead_bias = jnp.zeros(len(kernel), xs.dtype) if bias is None else bias[own] - bias
    others = jnp.arange(len(kernel)) != own

    def margins(radius: Array) -> tuple[Array, Array]:
        found, widths = _lower_bounds(rnn, xs, state, length, _Ball(movable * radius, norm, False), ahead)
        found = found + ahead_bias - 2 * jnp.finfo(xs.dtype).eps * (jnp.abs(found) + jnp.abs(ahead_bias))
        return jnp.where(others, found, jnp.inf), widths

    def outputs(xs: Array) -> Array:
        rows = run_through(rnn, xs, state, length).outputs
        return rows[-1] if length is None else rows[length - 1]

    z, pull_back = jax.vjp(outputs, xs)
    gaps = z[own] - z
    (slopes,) = jax.vmap(pull_back)(jnp.eye(len(z), dtype=z.dtype)[own] - jnp.eye(len(z), dtype=z.dtype))
    steepness = _dual(norm)((slopes * movable[:, None]).reshape(len(z), -1))
    decision = jnp.where(others & (steepness > 0), gaps / jnp.where(steepness > 0, steepness, 1), jnp.inf).min()
    is_predicted = (z.argmax() == own) & inside
    one_piece = jnp.zeros((), xs.dtype)
    if isinstance(rnn.activation, PiecewiseAffine):
        one_piece = jnp.minimum(norm_distance(rnn, xs, state, length, movable, norm), decision)
    one_piece = jnp.where(is_predicted, jnp.maximum(one_piece, 0), 0)
    # a little less, which roundings do not undo
    start = jnp.where(one_piece > 0, 0.999 * one_piece, 0.1 * decision)
    start = jnp.where(jnp.isfinite(start) & (start > 0), start, 1.0)

    def unfinished(carry: tuple[Any, ...]) -> Array:
        proved, failed, _, _, tried = carry
        return (tried < tries) & ~(failed <= 1.01 * proved)

    def again(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        proved, failed, best, widths, tried = carry
        between = jnp.where(jnp.isinf(failed), 4 * proved, jnp.sqrt(proved * failed))
        radius = jnp.where(tried == 0, start, jnp.where(proved == 0, failed / 4, between))
        found, wide = margins(radius)
        holds = (found > 0).all()
        proved, failed = jnp.where(holds, radius, proved), jnp.where(holds, failed, radius)
        return proved, failed, jnp.where(holds, found, best), jnp.where(holds, wide, widths), tried + 1

    nothing, never = jnp.zeros((), xs.dtype), jnp.asarray(jnp.inf, xs.dtype)
    begin = (nothing, never, jnp.where(others, gaps, jnp.inf), jnp.zeros(len(xs), xs.dtype))
    proved, _, best, widths, _ = jax.lax.while_loop(unfinished, again, (*begin, jnp.where(is_predicted, 0, tries)))
    finite = _all_finite((rnn, xs, state)) & inside
    return Certificate(
        jnp.where(finite, proved, jnp.nan), jnp.where(finite, one_piece, jnp.nan), best, widths, is_predicted
    )


# --- the pass through time --------------------------------------------------------------------------------------------


class _Ball(NamedTuple):
    """Where the input may be: within `radii` of each step, apart, or one for all that move, together."""

    radii: Array  # (time,)
    norm: str
    apart: bool

    def spread(self, onto: Array, t: Array) -> Array:
        """What coefficients (row, input) on the input of step t add to how far a form may fall; summed over steps."""
        reach = _dual(self.norm)(self.radii[t] * onto)
        return reach if self.apart or self.norm == "linf" else reach**2

    def fall(self, spread: Array) -> Array:
        """How far a form may fall, from the sum of `spread` over steps."""
        return spread if self.apart or self.norm == "linf" else jnp.sqrt(spread)


def _dual(norm: str) -> Callable[[Array], Array]:
    """The dual norm of each row."""
    if norm == "l2":
        return lambda rows: jnp.sqrt(jnp.square(rows).sum(axis=-1))
    return lambda rows: jnp.abs(rows).sum(axis=-1)


class _Lines(NamedTuple):
    """Two lines about an activation, low_slope p + low_offset ≤ act(p) ≤ high_slope p + high_offset, by unit."""

    low_slope: Array
    low_offset: Array
    high_slope: Array
    high_offset: Array


class _Known(NamedTuple):
    """What is known of one layer at every step: its lines, and the largest |p| and |h|; that of h0 stands in front."""

    lines: _Lines  # of (time, hidden)
    p_size: Array  # (time, hidden)
    h_size: Array  # (time + 1, hidden)


class _Forms(NamedTuple):
    """Linear forms from below: on_states · h + constant − fall(spread) − slack, once the states are those of step k.

    Attributes:
        on: for each layer (row, hidden), coefficients on the states of step k.
        before: the same on the states of the step before, gathered while layers are passed.
        constant: (row,).
        spread: (row,), what `_Ball.spread` has gathered.
        slack: (row,), how much roundings may have added.
    """

    on: tuple[Array, ...]
    before: tuple[Array, ...]
    constant: Array
    spread: Array
    slack: Array


def _times(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


class _Pass(NamedTuple):
    """What forms are carried back through."""

    rnn: RNN
    xs: Array
    state: States
    ball: _Ball
    known: tuple[_Known, ...]

    @property
    def eps(self) -> float:
        return float(jnp.finfo(self.xs.dtype).eps)

    def begin(self, rows: int) -> _Forms:
        zeros = tuple(jnp.zeros((rows, h.shape[0]), self.xs.dtype) for h in self.state)
        nothing = jnp.zeros(rows, self.xs.dtype)
        return _Forms(zeros, zeros, nothing, nothing, nothing)

    def onto_inputs(self, forms: _Forms, on_p: Array, l: int, k: Array) -> _Forms:
        """Coefficients (row, hidden) on pre-activations of layer l at step k, handed on to what these are made of."""
        layer, size = self.rnn.layers[l], jnp.abs(on_p)
        _, before, constant, spread, slack = forms
        on = list(forms.on)
        below_size = jnp.abs(self.xs[k]) + self.ball.radii[k] if l == 0 else self.known[l - 1].h_size[k + 1]
        reach = _times(below_size, jnp.abs(layer.input_kernel))
        onto = _times(on_p, layer.input_kernel.T)
        if layer.recurrent_kernel is not None:
            reach = reach + _times(self.known[l].h_size[k], jnp.abs(layer.recurrent_kernel))
            before = (*before[:l], _times(on_p, layer.recurrent_kernel.T), *before[l + 1 :])
        if layer.bias is not None:
            reach = reach + jnp.abs(layer.bias)
            constant = constant + _times(on_p, layer.bias)
            slack = slack + self.eps * jnp.abs(constant)
        slack = slack + (on_p.shape[1] + 2) * self.eps * _times(size, reach)
        if l == 0:
            constant = constant + _times(onto, self.xs[k])
            slack = slack + (onto.shape[1] + 2) * self.eps * _times(jnp.abs(onto), jnp.abs(self.xs[k]))
            slack = slack + self.eps * jnp.abs(constant)
            spread = spread + self.ball.spread(onto, k)
        else:
            on[l - 1] = on[l - 1] + onto
            slack = slack + self.eps * _times(jnp.abs(on[l - 1]), below_size)
        return _Forms(tuple(on), before, constant, spread, slack)

    def through_layer(self, forms: _Forms, l: int, k: Array) -> _Forms:
        """Coefficients on the states of layer l at step k, moved to its pre-activations and on from there."""
        on = forms.on[l]
        lines = jax.tree.map(lambda line: line[k], self.known[l].lines)
        up, down = jnp.maximum(on, 0), jnp.minimum(on, 0)
        on_p = up * lines.low_slope + down * lines.high_slope
        constant = forms.constant + _times(up, lines.low_offset) + _times(down, lines.high_offset)
        offsets = jnp.maximum(jnp.abs(lines.low_offset), jnp.abs(lines.high_offset))
        slack = forms.slack + self.eps * (_times(jnp.abs(on_p), self.known[l].p_size[k]) + 2 * jnp.abs(constant))
        slack = slack + (on.shape[1] + 2) * self.eps * _times(jnp.abs(on), offsets)
        return self.onto_inputs(forms._replace(constant=constant, slack=slack), on_p, l, k)

    def back(self, forms: _Forms, top: int, k: Array) -> _Forms:
        """Forms on the states of step k below layer `top`, moved to those of the step before."""
        for l in reversed(range(top)):
            forms = self.through_layer(forms, l, k)
        zeros = tuple(jnp.zeros_like(on) for on in forms.on)
        return forms._replace(on=forms.before, before=zeros)

    def to_the_start(self, forms: _Forms, steps: Array) -> Array:
        """The least that forms on the states after so many steps can be, (row,)."""
        layers = len(self.rnn.layers)
        forms = jax.lax.fori_loop(0, steps, lambda i, forms: self.back(forms, layers, steps - 1 - i), forms)
        constant, slack = forms.constant, forms.slack
        for on, h in zip(forms.on, self.state, strict=True):
            constant = constant + _times(on, h)
            slack = slack + self.eps * (jnp.abs(constant) + (len(h) + 2) * _times(jnp.abs(on), jnp.abs(h)))
        fall = self.ball.fall(forms.spread) * (1 + self.eps * (self.xs.size + 8))
        # the slack itself is a sum of positive terms, rounded at most so often
        deep = self.xs.shape[0] * sum(h.shape[0] + 8 for h in self.state)
        least = constant - fall - (slack + 2 * self.eps * (jnp.abs(constant) + fall)) * (1 + self.eps * deep)
        return jnp.where(jnp.isnan(least), -jnp.inf, least)  # infinity less infinity: nothing is known


def _lower_bounds(
    rnn: RNN, xs: Array, state: States, length: Array | None, ball: _Ball, rows: Array
) -> tuple[Array, Array]:
    """The least that rows (row, hidden) of the last layer's last state can be, (row,), and the widths (time,)."""
    time, eps = len(xs), float(jnp.finfo(xs.dtype).eps)
    end = jnp.asarray(time) if length is None else length

    def unknown(h: Array) -> _Known:
        zeros = jnp.zeros((time, h.shape[0]), xs.dtype)
        return _Known(_Lines(zeros, zeros, zeros, zeros), zeros, jnp.concatenate([jnp.abs(h)[None], zeros]))

    def body(carry: tuple[Any, Any], t: Array) -> tuple[tuple[Any, Any], Array]:
        known, ranges = carry
        width = jnp.zeros((), xs.dtype)
        after: list[tuple[Array, Array]] = []
        for l, h in enumerate(state):
            at = _Pass(rnn, xs, state, ball, known)
            hidden = h.shape[0]
            eye = jnp.eye(hidden, dtype=xs.dtype)
            forms = at.onto_inputs(at.begin(2 * hidden), jnp.concatenate([eye, -eye]), l, t)
            least = at.to_the_start(at.back(forms, l, t), t)
            low, high = _interval(at, ranges, after, l, t)
            low, high = jnp.maximum(low, least[:hidden]), jnp.minimum(high, -least[hidden:])
            lines, least_h, most_h = _lines_about(rnn.activation, low, high)
            now = _Known(
                lines, jnp.maximum(jnp.abs(low), jnp.abs(high)), jnp.maximum(jnp.abs(least_h), jnp.abs(most_h))
            )
            at_t = _Known(jax.tree.map(lambda _: t, lines), t, t + 1)
            here = jax.tree.map(lambda rows, i, row: rows.at[i].set(row), known[l], at_t, now)
            known = (*known[:l], here, *known[l + 1 :])
            after.append((least_h, most_h))
            is_read = (l < rnn.every_step) | (t == end - 1)
            width = jnp.maximum(width, jnp.where(is_read, (high - low).max(), 0))
        return (known, tuple(after)), width

    begin = (tuple(map(unknown, state)), tuple((h, h) for h in state))
    (known, _), widths = jax.lax.scan(body, begin, jnp.arange(time))
    at = _Pass(rnn, xs, state, ball, known)
    forms = at.begin(len(rows))
    given = eps * _times(jnp.abs(rows), known[-1].h_size[end])  # the rows may have been rounded once
    forms = forms._replace(on=(*forms.on[:-1], rows), slack=forms.slack + given)
    return at.to_the_start(forms, end), jnp.where(jnp.arange(time) < end, widths, 0)


def _interval(
    at: _Pass, ranges: tuple[Any, ...], after: list[tuple[Array, Array]], l: int, t: Array
) -> tuple[Array, Array]:
    """The range of the pre-activations of layer l at step t by interval arithmetic."""
    layer = at.rnn.layers[l]
    if l == 0:
        x = at.xs[t]
        middle = _times(x, layer.input_kernel)
        reach = at.ball.radii[t] * _dual(at.ball.norm)(layer.input_kernel.T)
        size = _times(jnp.abs(x) + at.ball.radii[t], jnp.abs(layer.input_kernel))
    else:
        middle, reach, size = _moved(after[l - 1], layer.input_kernel)
    if layer.recurrent_kernel is not None:
        parts = zip((middle, reach, size), _moved(ranges[l], layer.recurrent_kernel), strict=True)
        middle, reach, size = (a + b for a, b in parts)
    if layer.bias is not None:
        middle, size = middle + layer.bias, size + jnp.abs(layer.bias)
    terms = layer.input_kernel.shape[0] + (0 if layer.recurrent_kernel is None else layer.recurrent_kernel.shape[0])
    reach = reach + (terms + 8) * at.eps * (size + reach)
    return middle - reach, middle + reach


def _moved(between: tuple[Array, Array], kernel: Array) -> tuple[Array, Array, Array]:
    """The middle, the reach and the size of terms of rows in a range, times a kernel."""
    low, high = between
    size = jnp.maximum(jnp.abs(low), jnp.abs(high))
    parts = ((low + high) / 2, (high - low) / 2, size)
    return (
        _times(parts[0], kernel),
        _times(parts[1], jnp.abs(kernel)),
        _times(parts[2], jnp.abs(kernel)),
    )


def _lines_about(act: Activation, low: Array, high: Array) -> tuple[_Lines, Array, Array]:
    """Two lines about an activation over [low, high], of those tried the nearest at the middle, and its range there.

    For any slope s, the line s p + max(act(q) − s q) is above, the maximum over the ends and wherever act − s q may
    turn: the kinks, or the two points where tanh is that steep.
    """
    ends = jnp.stack([low, high])
    at_ends = act(ends)
    chord = jnp.where(high > low, (at_ends[1] - at_ends[0]) / jnp.where(high > low, high - low, 1), 0)
    if isinstance(act, PiecewiseAffine):
        kinks = jnp.asarray(act.breakpoints, low.dtype).reshape(-1, 1)
        turns = jnp.clip(jnp.broadcast_to(kinks, (len(kinks), len(low))), low, high)
        slopes = jnp.stack([*act.slope(act.code(ends), low.dtype), chord])
        points = jnp.broadcast_to(jnp.concatenate([ends, turns]), (len(slopes), 2 + len(turns), len(low)))
    else:
        steep = 1 - at_ends**2
        flattest, middle = steep.min(axis=0), 1 - act((low + high) / 2) ** 2
        between = [flattest + share * (chord - flattest) for share in (0.25, 0.5, 0.75)]
        slopes = jnp.clip(jnp.stack([*steep, chord, middle, *between]), 0, 1)
        turn = jnp.arctanh(jnp.sqrt(1 - slopes))
        points = jnp.stack([*(jnp.broadcast_to(end, slopes.shape) for end in ends), turn, -turn], axis=1)
        points = jnp.clip(points, low, high)
    values, along = act(points), slopes[:, None] * points
    rounding = 8 * jnp.finfo(low.dtype).eps * (jnp.abs(values) + jnp.abs(along)).max(axis=1)
    least, most = (values - along).min(axis=1) - rounding, (values - along).max(axis=1) + rounding
    middle = slopes * ((low + high) / 2)
    lower, upper = (middle + least).argmax(axis=0), (middle + most).argmin(axis=0)

    def chosen(rows: Array, which: Array) -> Array:
        return jnp.take_along_axis(rows, which[None], axis=0)[0]

    lines = _Lines(chosen(slopes, lower), chosen(least, lower), chosen(slopes, upper), chosen(most, upper))
    slack = 8 * jnp.finfo(low.dtype).eps * jnp.abs(values[0]).max(axis=0)
    return lines, values[0].min(axis=0) - slack, values[0].max(axis=0) + slack
