"""A recurrent network as a kernel machine: the weights of its output on the signature of (t, x).

A residual network h_{j+1} = h_j + f(h_j, x_{j+1}) / T is Euler's scheme for dh = f(h, x) dt. With x a part of the state
this is driven by the path (t, x): time moves h by f, and channel i moves x_i. Taylor's expansion along the path is

    g(h_1) = g(h_0) + Σ_I c_I S_I + …,    c_{i_1 … i_k} = (L_{i_1} … L_{i_k} g)(h_0, x_0),

with S_I the signature, i_1 the earliest channel, and L_i the derivative along the field of channel i. The response
feature (`srnn.features`) is another one: it holds integrals of a control against functions of time, in which the mean
of every *noisy* network is linear. Here the network is without noise, its input is inside, and each coefficient is
computed rather than measured.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from maso_rnn import checks, functions

LARGEST = 2**22  # coefficients
HIGHEST = 8  # order: every one doubles the program
TANH = 2 / math.pi  # |tanh^(k)| ≤ k! (2/π)^(k − 1), as its poles are π/2 from the real line


class SignatureCoefficients(NamedTuple):
    """A network's output as an affine function of a signature.

    Attributes:
        constant: (output,), the output at the start.
        values: (features, output), the weights on `srnn.signature` of (t, x), in its order.
    """

    constant: Float[Array, " output"]
    values: Float[Array, "features output"]


def signature_coefficients(
    field: Callable[[Array, Array], Array],
    readout: Callable[[Array], Array],
    h0: Float[Array, " hidden"],
    x0: Float[Array, " input"],
    *,
    order: int,
) -> SignatureCoefficients:
    """What a network says, as weights on the signature of its input with time: derivatives, and no training.

    Equation: output ≈ constant + signature(path, order) @ values, for the path with rows (t, x_t) from (0, x0).

    Args:
        field: f, `(h, x) -> (hidden,)`, smooth: what time adds to h, per unit of time. Weights of a callable pytree,
            such as `jax.tree_util.Partial(f, weights)`, may be differentiated in.
        readout: `h -> (output,)`, smooth.
        h0: (hidden,), the state before the input.
        x0: (input,), where the input begins.
        order: the depth of the signature, at least 1 and at most 8.

    Returns:
        `SignatureCoefficients(constant, values)`. What order N leaves out falls as the size of the path to the power
        N + 1, on a path that is short enough: see `expansion_bound`.

    Raises:
        ValueError: if there would be too many coefficients, shapes do not fit, or values are not finite.
        TypeError: if `field` or `readout` is no function of such arrays, or an array is not floating.

    Example:
        >>> found = signature_coefficients(lambda h, x: x, lambda h: h, jnp.zeros(1), jnp.zeros(1), order=2)
        >>> found.values.ravel().tolist()  # ∫ x dt: first x, then t
        [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]

    Source:
        Fermanian, Marion, Vert, Biau, *Framing RNN as a kernel method: a neural ODE approach* (2021), proposition 4.
    """
    arguments, order = _checked(field, readout, h0, x0, order)
    return _coefficients(*arguments, order=order)


def kernel_norm(
    field: Callable[[Array, Array], Array],
    readout: Callable[[Array], Array],
    h0: Float[Array, " hidden"],
    x0: Float[Array, " input"],
    *,
    order: int,
    variation: float = 0.5,
) -> Float[Array, ""]:
    """How large a network is as a function of its input, in the space in which it is linear: a penalty for robustness.

    Equation: norm² = Σ_{k≤N} (1/k!)² Σ_I (c_I (2 / (1 − L))^{times in I})², of inputs of total variation at most L < 1.

    Then outputs differ by at most norm · |S(X) − S(Y)| for two inputs X and Y, up to what order N leaves out, with S
    the signature of (x, (1 − L) t / 2), level k times k!. Its square is a penalty; gradients pass into the weights of a
    `field` that is a pytree.

    Args:
        field: as for `signature_coefficients`.
        readout: as for `signature_coefficients`.
        h0: (hidden,).
        x0: (input,).
        order: N.
        variation: L, at least 0 and below 1.

    Returns:
        The norm, over all outputs together; its gradient is 0 where it is 0.

    Raises:
        ValueError: as `signature_coefficients`; or if `variation` is not in [0, 1).
        TypeError: as `signature_coefficients`.

    Example:
        >>> float(kernel_norm(lambda h, x: 3 + 0 * h, lambda h: h, jnp.zeros(1), jnp.zeros(1), order=1, variation=0.0))
        6.0

    Source:
        Fermanian, Marion, Vert, Biau (2021), theorem 1 and section 4.
    """
    arguments, order = _checked(field, readout, h0, x0, order)
    variation = checks.number("variation", variation, least=0)
    if variation >= 1:
        raise ValueError(f"variation must be below 1, got {variation}; scale the inputs")
    return _norm(*arguments, variation, order=order)


def expansion_bound(
    recurrent_kernel: Float[Array, "hidden hidden"],
    input_kernel: Float[Array, "input hidden"],
    path: Float[Array, "time channel"],
    *,
    order: int,
) -> Float[Array, ""]:
    """What the expansion of order N of dh = tanh(h @ U + x @ V + b) dt leaves out of any state at most.

    Equation: P_{N+1} · min((N + 1) T C^N, C^{N+1} / u), with P_k the Taylor coefficients of P′ = 1 + P / (1 − 2P/π),
    P(0) = 0, u the largest column sum of |U|, and C = u T + Σ over pieces of the largest of |dx| @ |V|.

    It falls with the order like (C / r)^N, where r = 0.668 is as far as P exists: the condition is C < r.

    Args:
        recurrent_kernel: U.
        input_kernel: V.
        path: (time, input + 1), rows (t, x_t), t not falling; T is how far it goes.
        order: N, at least 1.

    Returns:
        The bound, whatever the bias, h0 and x0 are; NaN where traced times fall.

    Raises:
        ValueError: if shapes do not fit, known times fall, or values are not finite.
        TypeError: if an array is not floating.

    Example:
        >>> path = jnp.array([[0.0, 0.0], [1.0, 0.5]])
        >>> bounds = [expansion_bound(0.1 * jnp.eye(2), 0.1 * jnp.ones((1, 2)), path, order=n) for n in (1, 2, 3)]
        >>> [float(f"{bound:.1g}") for bound in bounds]
        [0.1, 0.01, 0.002]

    Source:
        After Fermanian, Marion, Vert, Biau (2021), proposition 5, with majorants in place of their constants.
    """
    sizes: dict[str, Any] = {}
    recurrent_kernel = checks.array("recurrent_kernel", recurrent_kernel, "hidden hidden", sizes)
    input_kernel = checks.array("input_kernel", input_kernel, "input hidden", sizes, recurrent_kernel.dtype)
    path = checks.array("path", path, "time channel", None, recurrent_kernel.dtype)
    if path.shape[1] != sizes["input"] + 1 or len(path) < 2:
        raise ValueError(
            f"path must be (time, {sizes['input'] + 1}), time and then the {sizes['input']} inputs of input_kernel, "
            f"with two rows or more, got shape {path.shape}"
        )
    if checks.is_concrete(path) and checks.concretely(lambda: bool((jnp.diff(path[:, 0]) < 0).any())):
        raise ValueError("path must have times that do not fall in its first column")
    checks.finite(recurrent_kernel=recurrent_kernel, input_kernel=input_kernel, path=path)
    return _bound(recurrent_kernel, input_kernel, path, order=checks.size("order", order))


@functools.partial(jax.jit, static_argnames="order")
def _bound(recurrent_kernel: Array, input_kernel: Array, path: Array, *, order: int) -> Array:
    moved = jnp.diff(path, axis=0)
    span, turn = path[-1, 0] - path[0, 0], jnp.abs(recurrent_kernel).sum(axis=0).max()
    size = turn * span + (jnp.abs(moved[:, 1:]) @ jnp.abs(input_kernel)).max(axis=1).sum()
    p, q = [0.0, 1.0], [0.0]  # of P, and of Q = P / (1 − ρP) = P + ρPQ
    for k in range(1, order + 1):
        q.append(p[k] + TANH * sum(p[j] * q[k - j] for j in range(1, k)))
        p.append(q[k] / (k + 1))
    by_turn = jnp.where(turn > 0, size / jnp.where(turn > 0, turn, 1), jnp.inf)
    bound = p[order + 1] * size**order * jnp.minimum((order + 1) * span, by_turn)
    return jnp.where((moved[:, 0] >= 0).all(), bound, jnp.nan)


def _checked(field: Any, readout: Any, h0: Any, x0: Any, order: Any) -> tuple[tuple[Any, ...], int]:
    """Field and readout, traced, and the start, once they are known to fit."""
    h0, x0 = checks.array("h0", h0, "hidden"), checks.array("x0", x0, "input")
    order = checks.size("order", order)
    field, readout = functions.traced("field", field, h0, x0), functions.traced("readout", readout, h0)
    checks.like("what field returns", field.out, "h0", h0)
    out = readout.out
    if not isinstance(out, jax.ShapeDtypeStruct) or len(out.shape) != 1 or not jnp.issubdtype(out.dtype, jnp.floating):
        raise TypeError(f"readout must return one floating array (output,), got {out}")
    channels = len(x0) + 1
    count = sum(channels**k for k in range(1, order + 1)) * out.shape[0] if order <= HIGHEST else math.inf
    if count > LARGEST:
        raise ValueError(
            f"order = {order}: the highest level of {channels} channels has {channels}^{order} coefficients for each "
            f"of {out.shape[0]} outputs; at most {LARGEST} are made, of orders up to {HIGHEST}"
        )
    checks.finite(h0=h0, x0=x0)
    return (field, readout, h0, x0), order


@functools.partial(jax.jit, static_argnames="order")
def _coefficients(field: Any, readout: Any, h0: Array, x0: Array, *, order: int) -> SignatureCoefficients:
    levels = _levels(field, readout, h0, x0, order)
    return SignatureCoefficients(readout(h0), jnp.concatenate([level.reshape(-1, level.shape[-1]) for level in levels]))


@functools.partial(jax.jit, static_argnames="order")
def _norm(field: Any, readout: Any, h0: Array, x0: Array, variation: Array | float, *, order: int) -> Array:
    total = jnp.zeros((), h0.dtype)
    scales = jnp.ones(len(x0) + 1, h0.dtype).at[0].set(2 / (1 - variation))
    for k, level in enumerate(_levels(field, readout, h0, x0, order), start=1):
        for axis in range(k):
            level = level * scales.reshape(-1, *[1] * (k - axis))
        total = total + (level**2).sum() / math.factorial(k) ** 2
    return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1)), 0)


def _levels(field: Any, readout: Any, h0: Array, x0: Array, order: int) -> list[Array]:
    """The coefficients of each level, (channel, …, channel, output), the earliest channel first, time the first one."""
    channels = len(x0) + 1
    letters = jnp.eye(channels, dtype=h0.dtype)
    levels = []
    for k in range(1, order + 1):
        # the readout does not look at x: a word that does not end with time has no weight
        words = np.indices([channels] * (k - 1)).reshape(k - 1, -1).T if k > 1 else np.zeros((1, 0), int)

        def coefficient(word: Array) -> Array:
            function = functools.partial(_along, field, letters[0], lambda h, x: readout(h))
            for letter in word[::-1]:
                function = functools.partial(_along, field, letter, function)
            return function(h0, x0)

        found = jax.vmap(coefficient)(letters[words])
        level = jnp.zeros((len(words), channels, found.shape[-1]), found.dtype).at[:, 0].set(found)
        levels.append(level.reshape(*[channels] * k, -1))
    return levels


def _along(field: Any, letter: Array, function: Callable[[Array, Array], Array], h: Array, x: Array) -> Array:
    """The derivative of a function of (h, x) along the field of a channel."""
    return jax.jvp(function, (h, x), (letter[0] * field(h, x), letter[1:]))[1]
