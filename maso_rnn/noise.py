"""Noise on the initial state, and the exact penalty that it amounts to.

With h0 + σ ε, ε standard normal, the output of the piece around xs is z + σ G ε, G = ∂z/∂h0, so that, as long as the
noise stays on the piece,

    E[loss(z + σ G ε)] − loss(z) = σ²/2 tr(Gᵀ ∇²loss(z) G) + O(σ⁴):

a random initial state is, to second order, an explicit l2 penalty on how far the initial state still reaches.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from maso_rnn import checks, functions
from maso_rnn.affine import map_at
from maso_rnn.cells import Cell
from maso_rnn.network import RNN, Inputs, States, checked_arguments


def random_initial_state(
    key: Array, carry: PyTree[Float[Array, "..."]], scale: float | int | Float[Array, ""]
) -> PyTree[Float[Array, "..."]]:
    """An initial carry with independent normal noise on every number of it.

    Equation: h0 + scale · ε, ε ~ N(0, I).

    Args:
        key: a random key, as from `jax.random.key`, or of the old kind, as from `jax.random.PRNGKey`.
        carry: the initial carry of any cell: an array, an LSTM's pair, a tuple over layers, any pytree of them; or a
            `Cell`, which brings its own.
        scale: the standard deviation σ of the noise, at least 0, in the units of the carry; of any real dtype.

    Returns:
        A carry of the same structure, shapes and dtypes.

    Raises:
        ValueError: if a concrete `scale` is negative or not finite, or `carry` has no leaf or is not finite.
        TypeError: if a leaf of `carry` is not a floating array, `scale` is not a real number, or `key` no key.

    Example:
        >>> cell, hidden = random_initial_state(jax.random.key(0), (jnp.zeros(3), jnp.zeros(3)), 0.1)
        >>> bool((cell != hidden).all() and (cell != 0).all())
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), section 5.
    """
    key, scale = checks.random_key("key", key), checks.scale("scale", scale)
    carry = checks.carry("carry", carry.initial if isinstance(carry, Cell) else carry)
    checks.finite(carry=carry)
    leaves, structure = jax.tree.flatten(carry)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + scale.astype(leaf.dtype) * jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def noise_penalty(
    rnn: RNN,
    xs: Inputs,
    h0: States | None = None,
    *,
    scale: float | int | Float[Array, ""],
    loss: Callable[[Float[Array, " output"]], Float[Array, ""]],
    length: int | Int[Array, ""] | None = None,
) -> Float[Array, ""]:
    """What noise on the initial state adds to the expected loss, to second order: an explicit regulariser.

    Equation: σ²/2 · tr(Gᵀ ∇²loss(z) G), G = ∂z/∂h0 over all layers, z the output of the last step. ∇²loss is
    diag(p) − p pᵀ for cross-entropy and the identity for half the squared error.

    Args:
        rnn: the network; its activation must be piecewise affine.
        xs: (time, input), one sequence, in the network's dtype.
        h0: the mean initial state, one (hidden,) for each layer; by default the learned state, else zeros.
        scale: the standard deviation σ of the noise on every unit of every layer, at least 0, of any real dtype.
        loss: twice differentiable, from the output z (output,) to a scalar; the target is part of it.
        length: how many steps of `xs` count; the rest is padding. May be traced.

    Returns:
        A scalar in the units of the loss, differentiable in `rnn`, `xs`, `h0` and `scale`. It is negative only where
        the loss curves down, and NaN where the output is not finite.

    Raises:
        ValueError: if `loss` does not return a scalar, a concrete `scale` is negative or not finite, the activation
            has no pieces, shapes do not fit, or concrete values are not finite.
        TypeError: if `xs` is not a floating array of the network's dtype, or `scale` is not a real number.

    Example:
        >>> import optax
        >>> from maso_rnn import init
        >>> rnn, xs = init(jax.random.key(0), 1, [8], 3), jnp.ones((5, 1))
        >>> loss = lambda z: optax.softmax_cross_entropy_with_integer_labels(z, 2)
        >>> bool(noise_penalty(rnn, xs, scale=0.1, loss=loss) > 0)
        True

    Source:
        Wang, Balestriero, Baraniuk (2019), theorem 2, with the readout in G, the product over all steps, and the
        Hessian itself in the trace.
    """
    scale = checks.scale("scale", scale)
    rnn, xs, state, length = checked_arguments(rnn, xs, h0, length)
    output = jax.ShapeDtypeStruct(rnn.readout.kernel.shape[1:], xs.dtype)
    loss = functions.traced("loss", loss, output)
    value = loss.out
    is_scalar = isinstance(value, jax.ShapeDtypeStruct) and value.shape == ()
    if not is_scalar or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"loss must map the output {output.shape} to a floating scalar, got {value}")
    return _penalty(loss, rnn, xs, state, length, scale)


@jax.jit
def _penalty(loss: functions.Traced, rnn: RNN, xs: Array, state: States, length: Array | None, scale: Array) -> Array:
    """σ²/2 · tr(Gᵀ H G), of the Hessian H of the loss in the output."""
    affine = map_at(rnn, xs, state, jnp.asarray(-1), jnp.asarray(True), length)
    _, along = jax.linearize(jax.grad(loss), affine.output)
    curvature = jax.vmap(along)(jnp.eye(affine.output.size, dtype=affine.output.dtype))
    covariance = sum(g @ g.T for g in affine.initial_slope)
    penalty = scale.astype(affine.output.dtype) ** 2 / 2 * jnp.sum(curvature * covariance)
    # slopes are finite whatever the numbers are; where the output is not, they mean nothing
    return jnp.where(jnp.isfinite(affine.output).all(), penalty, jnp.nan)
