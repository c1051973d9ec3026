"""The memory that eigenvalues promise, held against that of the network."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from maso_rnn import checks
from maso_rnn.cells import Step, flat_cell
from maso_rnn.dynamics.eigensystem import Eigensystem, horizon, square, wide, with_eigenbasis
from maso_rnn.functions import Traced


class PulseDecay(NamedTuple):
    """The memory that the eigenvalues predict, against that of a pulse, mode by mode.

    Attributes:
        eigenvalues: (hidden,), in the order of `spectrum`.
        predicted: (hidden,), −1 / ln|λ| in steps.
        measured: (hidden,), −1 / (the slope of ln `amplitudes` over time) in steps, 0 where the pulse is gone at once,
            NaN where rounding hides it from the start.
        amplitudes: (hidden, time + 1), what is left of the pulse in the mode it was given to, 1 at the start.
    """

    eigenvalues: Complex[Array, " hidden"]
    predicted: Float[Array, " hidden"]
    measured: Float[Array, " hidden"]
    amplitudes: Float[Array, "hidden time"]


def pulse_decay(
    step: Step,
    kernel: Float[Array, "hidden hidden"],
    state: Float[Array, " hidden"],
    inputs: Float[Array, "time input"],
    *,
    amplitude: float = 1.0,
) -> PulseDecay:
    """How long a pulse is remembered, mode by mode, against the −1 / ln|λ| that its eigenvalue predicts.

    Equation: for each mode i, h'_0 = h_0 + a Re ℓ_i with ℓ_i W = λ_i ℓ_i, and both run through the same inputs; what
    is left after t steps is |((h'_t − h_t) V)_i|, relative to t = 0. In the linear network this is |λ_i|^t exactly.
    The measured horizon is −1 / slope of the least-squares line through its logarithm, over the steps before it is lost
    in rounding: before it first falls below the square root of the dtype's precision, relative to its start or to what
    the pulse has become in all modes together.

    Args:
        step: the cell, `(h, x) -> h` or a `Cell`, any activation: what is measured is what the network does. A
            function is compiled once for what it does.
        kernel: (hidden, hidden), its recurrent kernel: what the modes are taken from.
        state: (hidden,), the state that the pulse is added to.
        inputs: (time, input), what the network sees meanwhile; zeros for silence, (time, 0) for a cell without input.
            Of any floating dtype that the cell takes.
        amplitude: the largest entry of the pulse, positive; small against 1, a tanh network is linear.

    Returns:
        `PulseDecay(eigenvalues, predicted, measured, amplitudes)`; NaN for a traced kernel that is defective, what is
        measured also for traced inputs that are not finite and where the pulse is lost in the rounding of the state
        from the start.

    Raises:
        ValueError: if the kernel is not square, not finite or defective, shapes do not fit, or `amplitude` is not
            positive or beyond the kernel's dtype.
        TypeError: if an array is not floating, or `step` does not return a state like `state`.

    Example:
        >>> kernel = jnp.array([[0.9, 0.0], [0.0, 0.5]])
        >>> found = pulse_decay(lambda h, x: h @ kernel, kernel, jnp.zeros(2), jnp.zeros((20, 0)))
        >>> [(round(float(p), 3), round(float(m), 3)) for p, m in zip(found.predicted, found.measured)]
        [(9.491, 9.491), (1.443, 1.443)]

    Source:
        Dou, Principe (2023), the abstract: eigenvalues explain "how information decays", activations change it.
    """
    kernel = square("kernel", kernel)
    state = checks.array("state", state, "hidden", {"hidden": len(kernel)}, kernel.dtype)
    amplitude = checks.number("amplitude", amplitude, above=0)
    if amplitude > (largest := float(jnp.finfo(kernel.dtype).max)):
        raise ValueError(f"amplitude must be within the range of {kernel.dtype}, {largest:.3g}, got {amplitude:.3g}")
    step, state, inputs = flat_cell(step, state, inputs)
    return _pulse_decay(step, state, inputs, with_eigenbasis(kernel), amplitude)


@jax.jit
def _pulse_decay(
    step: Traced, state: Array, inputs: Array, system: Eigensystem, amplitude: Array | float
) -> PulseDecay:
    def body(carry: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        pulsed, state = carry
        pulsed, state = jax.vmap(lambda h: step(h, x))(pulsed), step(state, x)
        return (pulsed, state), _left(pulsed, state, system.vectors)

    start = (_pulsed(state, system.inverse, amplitude), state)
    _, after = jax.lax.scan(body, start, inputs)
    known = jnp.isfinite(inputs).all()  # tanh makes a number of infinity
    root = math.sqrt(float(jnp.finfo(state.dtype).eps))
    return _decay(_left(*start, system.vectors), after, known, system.eigenvalues, root)


def _pulsed(state: Array, inverse: Array, amplitude: Array | float) -> Array:
    """The state after a pulse into each mode, (mode, hidden)."""
    pulses = inverse.real
    pulses = amplitude * pulses / jnp.abs(pulses).max(axis=1, keepdims=True)
    return state + pulses.astype(state.dtype)


def _left(pulsed: Array, state: Array, vectors: Array) -> tuple[Array, Array]:
    """What is left in each mode, and below what it would be rounding that other modes have carried along."""
    precision = float(jnp.finfo(state.dtype).eps)
    root = math.sqrt(precision)
    change = wide(pulsed) - wide(state)
    length = _norm(change)
    floor = root * length + min(100 * precision, root) * (_norm(wide(state)) + length)
    return jnp.abs(jnp.einsum("mh,hm->m", change.astype(vectors.dtype), vectors)), floor


def _norm(rows: Array) -> Array:
    """The norm along the last axis; the squares of large and of small numbers leave the dtype's range."""
    largest = jnp.abs(rows).max(axis=-1, keepdims=True)
    unit = jnp.where(largest > 0, largest, 1)
    return unit[..., 0] * jnp.linalg.norm(rows / unit, axis=-1)


def _decay(first: Any, later: Any, known: Array, eigenvalues: Array, root: Array | float) -> PulseDecay:
    """From what is left in each mode at the start and after each step, and where that would be rounding."""
    amplitudes, floors = (jnp.concatenate([a[None], b]).T for a, b in zip(first, later, strict=True))
    amplitudes = jnp.where(known, amplitudes, jnp.nan)
    # once lost in rounding, a mode is lost: what it is driven by after that is not its own
    seen = jnp.cumprod(amplitudes > jnp.maximum(floors, root * amplitudes[:, :1]), axis=1)
    amplitudes = amplitudes / amplitudes[:, :1]
    return PulseDecay(
        eigenvalues=eigenvalues,
        predicted=horizon(jnp.log(jnp.abs(eigenvalues))),
        measured=horizon(jax.vmap(_log_slope)(amplitudes, seen)),
        amplitudes=amplitudes,
    )


def _log_slope(amplitudes: Array, seen: Array) -> Array:
    """The least-squares slope of the logarithm over the steps seen: −∞ where it is the first alone, NaN where none."""
    times = jnp.arange(len(amplitudes), dtype=amplitudes.dtype)
    logs = jnp.log(jnp.where(seen, amplitudes, 1))
    mean = (seen * times).sum() / seen.sum()
    centred = seen * (times - mean)
    slope = (centred * logs).sum() / (centred * times).sum()
    return jnp.where(seen.sum() > 1, slope, jnp.where(seen[0], -jnp.inf, jnp.nan))
