"""Coupled oscillatory RNNs: damped, driven oscillators as a cell, with bounds on their states and gradients.

In rows, with y the places of the oscillators and z their speeds,

    y″ = tanh(y @ recurrent_kernel + y′ @ velocity_kernel + u @ input_kernel + bias) − γ y − ε y′,

stepped with everything explicit but the damping, and the place after the speed:

    z_n = (z_{n−1} + dt (tanh(a_n) − γ y_{n−1})) / (1 + dt ε),    y_n = y_{n−1} + dt z_n.

Without tanh this is stable up to γ dt² = 4 + 2 ε dt. What holds with it, and why, is in `cornn_bounds`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from maso_rnn import checks
from maso_rnn.cells import Cell
from maso_rnn.network import Readout


@struct.dataclass
class Oscillators:
    """The parameters of a coupled oscillatory RNN.

    Attributes:
        recurrent_kernel: (hidden, hidden), what places do.
        velocity_kernel: (hidden, hidden), what speeds do.
        input_kernel: (input, hidden).
        bias: (hidden,).
        readout: of the places.
        dt: the time that one step takes, static.
        gamma: γ, the squared frequency of every oscillator by itself, static.
        epsilon: ε, the damping, static.
    """

    recurrent_kernel: Any
    velocity_kernel: Any
    input_kernel: Any
    bias: Any
    readout: Readout
    dt: float = struct.field(pytree_node=False)
    gamma: float = struct.field(pytree_node=False)
    epsilon: float = struct.field(pytree_node=False)


class CornnBounds(NamedTuple):
    """What a coupled oscillatory RNN cannot exceed; infinite where the conditions are not met.

    Attributes:
        states: (steps,), of γ|y_n|² + |z_n|² after each step from rest, if γ dt < 2 ε.
        growth: of a perturbation in one step, in the norm of the page on the maths, if γ dt² < 4.
        gradient: of the derivative of the loss in any entry of the kernels and the bias, if both hold.
    """

    states: Float[Array, " steps"]
    growth: Float[Array, ""]
    gradient: Float[Array, ""]


def cornn(
    key: Array,
    input_size: int,
    hidden_size: int,
    output_size: int,
    *,
    dt: float,
    gamma: float,
    epsilon: float,
    dtype: Any = None,
) -> Cell:
    """A coupled oscillatory RNN: hidden units that swing and are damped, so that gradients neither grow nor fade fast.

    Equation: z' = (z + dt (tanh(y @ W + z @ 𝒲 + u @ V + b) − γ y)) / (1 + dt ε), y' = y + dt z', output y' @ Q + c.

    Args:
        key: draws the weights, all of them uniform within ±1 / √(input + 2 hidden), the readout's within ±1 / √hidden.
        input_size: of a step's input.
        hidden_size: how many oscillators.
        output_size: of the readout.
        dt: the time that one step takes, positive.
        gamma: γ, positive.
        epsilon: ε, at least 0. With dt and γ it must be within γ dt² < 4 + 2 ε dt, beyond which steps run away.
        dtype: of the weights; by default JAX's own.

    Returns:
        A `Cell` whose carry is (y, z), each (hidden,), from rest, and whose parameters are `Oscillators`.

    Raises:
        ValueError: if a size is not positive, or dt, γ and ε are out of range.
        TypeError: if they are not numbers, or `key` is no random key.

    Example:
        >>> cell = cornn(jax.random.key(0), 1, 4, 2, dt=0.05, gamma=1.0, epsilon=1.0)
        >>> y, z = cell(cell.initial, jnp.ones(1))
        >>> bool(jnp.allclose(y, 0.05 * z)), cell.read((y, z)).shape
        (True, (2,))

    Source:
        Rusch, Mishra, *Coupled oscillatory recurrent neural network (coRNN)* (2021), equations 1 and 3, the damping
        implicit.
    """
    key = checks.random_key("key", key)
    inputs, hidden = checks.size("input_size", input_size), checks.size("hidden_size", hidden_size)
    outputs, dtype = checks.size("output_size", output_size), checks.floating("dtype", dtype)
    dt, gamma = checks.number("dt", dt, above=0), checks.number("gamma", gamma, above=0)
    epsilon = checks.number("epsilon", epsilon, least=0)
    if gamma * dt**2 >= 4 + 2 * epsilon * dt:
        raise ValueError(
            "dt, gamma, epsilon must be within gamma dt² < 4 + 2 epsilon dt, or steps run away, got "
            f"{gamma * dt**2:g} and {4 + 2 * epsilon * dt:g}; with dt below "
            f"{(epsilon + (epsilon**2 + 4 * gamma) ** 0.5) / gamma:.3g} they do not"
        )
    wide, narrow = (inputs + 2 * hidden) ** -0.5, hidden**-0.5
    shapes = ((hidden, hidden), (hidden, hidden), (inputs, hidden), (hidden,), (hidden, outputs), (outputs,))
    keys = jax.random.split(key, len(shapes))
    limits = (wide, wide, wide, wide, narrow, narrow)
    places, speeds, driven, bias, kernel, offset = (
        jax.random.uniform(key, shape, dtype, -limit, limit)
        for key, shape, limit in zip(keys, shapes, limits, strict=True)
    )
    rest = jnp.zeros(hidden, dtype)
    return Cell(
        Oscillators(places, speeds, driven, bias, Readout(kernel, offset), dt, gamma, epsilon),
        _step,
        _read,
        (rest, rest),
    )


def _step(params: Oscillators, carry: tuple[Array, Array], u: Array) -> tuple[Array, Array]:
    y, z = carry
    p = y @ params.recurrent_kernel + z @ params.velocity_kernel + u @ params.input_kernel + params.bias
    z = (z + params.dt * (jnp.tanh(p) - params.gamma * y)) / (1 + params.dt * params.epsilon)
    return y + params.dt * z, z


def _read(params: Oscillators, carry: tuple[Array, Array]) -> Array:
    return carry[0] @ params.readout.kernel + params.readout.bias


def cornn_bounds(cell: Cell, steps: int, *, largest_input: float = 1.0, slope: float = 1.0) -> CornnBounds:
    """What the states, the perturbations and the gradients of a coupled oscillatory RNN cannot exceed.

    Equation: γ|y_n|² + |z_n|² ≤ E_n := hidden · n dt / (2ε − γ dt);
    growth μ = m + δ dt √((‖W‖²/γ + ‖𝒲‖² + dt‖W‖‖𝒲‖) / a), with δ = 1 / (1 + ε dt), a = 1 − γ dt²/4 and m = 1 + O(dt³)
    the growth without tanh; |∂loss/∂θ| ≤ slope · δ dt / √(γ a) · Σ_k μ^(N−k) max(1, input, √(E_{k−1} max(1, 1/γ))).

    So over a time N dt gradients grow at most like exp(N dt √(‖W‖²/γ + ‖𝒲‖²)), however many steps it takes. The page on
    the maths has the proof.

    Args:
        cell: from `cornn`, at rest before the first step.
        steps: N, how many.
        largest_input: the largest absolute value of an input.
        slope: the largest Euclidean norm of the loss's gradient in the places at a step; where a loss is a mean over
            steps, of what it is the mean of.

    Returns:
        `CornnBounds(states, growth, gradient)`.

    Raises:
        ValueError: if `steps` is not positive, a number is negative, or values are not finite.
        TypeError: if `cell` is none of `cornn`'s.

    Example:
        >>> cell = cornn(jax.random.key(0), 1, 4, 2, dt=0.05, gamma=1.0, epsilon=1.0)
        >>> bounds = cornn_bounds(cell, 20)
        >>> bool(1 < bounds.growth < 1.1), bool(bounds.states[-1] < 4)
        (True, True)

    Source:
        After Rusch, Mishra (2021), propositions 3.1 and 3.2, which are for γ = ε = 1 and an explicit condition on dt.
    """
    checks.instance("cell", cell, Cell, "maso_rnn.cornn")
    params = checks.instance("cell.params", cell.params, Oscillators, "maso_rnn.cornn")
    sizes: dict[str, Any] = {}
    kernel = checks.array("cell.params.recurrent_kernel", params.recurrent_kernel, "hidden hidden", sizes)
    axes = {"velocity_kernel": "hidden hidden", "input_kernel": "input hidden", "bias": "hidden"}
    checks.fields("cell.params", params, sizes, kernel.dtype, **axes)
    checks.finite(cell=cell)
    steps = checks.size("steps", steps)
    largest_input, slope = (
        checks.number(name, value, least=0) for name, value in (("largest_input", largest_input), ("slope", slope))
    )
    return _bounds(params, largest_input, slope, steps=steps)


@functools.partial(jax.jit, static_argnames="steps")
def _bounds(params: Oscillators, largest_input: Array | float, slope: Array | float, *, steps: int) -> CornnBounds:
    dt, gamma, epsilon, dtype = params.dt, params.gamma, params.epsilon, params.bias.dtype
    places, speeds = (jnp.linalg.norm(kernel, 2) for kernel in (params.recurrent_kernel, params.velocity_kernel))
    damped, room = 1 / (1 + epsilon * dt), 1 - gamma * dt**2 / 4
    if 2 * epsilon > gamma * dt:
        energy = len(params.bias) * dt / (2 * epsilon - gamma * dt) * jnp.arange(steps + 1, dtype=dtype)
    else:
        energy = jnp.full(steps + 1, jnp.inf, dtype)
    if room > 0:
        # the largest λ with (1 − λ)(δ² − λ) = (γ dt²/4)(δ − λ)², the squared norm of a step without tanh
        b = 1 + damped**2 - gamma * dt**2 * damped / 2
        alone = ((b + max(b**2 - 4 * (room * damped) ** 2, 0.0) ** 0.5) / (2 * room)) ** 0.5
        coupled = places**2 / gamma + speeds**2 + dt * places * speeds
        growth = alone + damped * dt * jnp.sqrt(coupled / room)
        enters = jnp.maximum(jnp.sqrt(energy[:-1] * max(1.0, 1 / gamma)), jnp.maximum(1.0, largest_input))
        grown = growth ** jnp.arange(steps - 1, -1, -1, dtype=dtype)
        gradient = slope * damped * dt * (grown * enters).sum() / (gamma * room) ** 0.5
    else:
        growth = gradient = jnp.asarray(jnp.inf, dtype)
    return CornnBounds(energy[1:], growth.astype(dtype), gradient.astype(dtype))
