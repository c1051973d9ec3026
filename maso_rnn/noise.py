"""Noise on the initial state, and the exact penalty that it amounts to.

With h0 + σ ε, ε standard normal, the output of the piece around xs is z + σ G ε, G = ∂z/∂h0, so that, as long as the
noise stays on the piece,

    E[loss(z + σ G ε)] − loss(z) = σ²/2 tr(Gᵀ ∇²loss(z) G) + O(σ⁴):

a random initial state is, to second order, an explicit l2 penalty on how far the initial state still reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from maso_rnn import checks
from maso_rnn.affine import AffineMap, affine_map
from maso_rnn.network import RNN, States


def random_initial_state(
    key: Array, carry: PyTree[Float[Array, "..."]], scale: float | int | Float[Array, ""]
) -> PyTree[Float[Array, "..."]]:
    """An initial carry with independent normal noise on every number of it.

    Equation: h0 + scale · ε, ε ~ N(0, I).

    Args:
        key: a random key, as from `jax.random.key`, or of the old kind, as from `jax.random.PRNGKey`.
        carry: the initial carry of any cell: an array, an LSTM's pair, a tuple over layers, any pytree of them.
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
    key, scale = checks.random_key("key", key), _checked_scale(scale)
    leaves, structure = jax.tree.flatten(carry)
    if not leaves:
        raise ValueError("carry must hold at least one array, got an empty pytree")
    for path, leaf in jax.tree.leaves_with_path(carry):
        name = f"carry{jax.tree_util.keystr(path)}"
        checks.array(name, leaf, rank=jnp.ndim(leaf), axes="floating")
    checks.finite("carry", leaves)
    keys = jax.random.split(key, len(leaves))
    noisy = [
        leaf + scale.astype(leaf.dtype) * jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def noise_penalty(
    rnn: RNN,
    xs: Float[Array, "time input"],
    h0: States | None = None,
    *,
    scale: float | int | Float[Array, ""],
    loss: Callable[[Float[Array, " output"]], Float[Array, ""]],
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
    scale = _checked_scale(scale)
    affine = affine_map(rnn, xs, h0)
    if not callable(loss):
        raise TypeError(f"loss must be a function of the output (output,), got {type(loss).__name__}")
    value = jax.eval_shape(loss, affine.output)
    is_scalar = isinstance(value, jax.ShapeDtypeStruct) and value.shape == ()
    if not is_scalar or not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"loss must map the output {affine.output.shape} to a floating scalar, got {value}")
    _, along = jax.linearize(jax.grad(loss), affine.output)
    curvature = jax.vmap(along)(np.eye(affine.output.size, dtype=affine.output.dtype))
    return _expected(curvature, affine, scale)


@jax.jit
def _expected(curvature: Array, affine: AffineMap, scale: Array) -> Array:
    """σ²/2 · tr(Gᵀ H G), of the Hessian H in the output."""
    covariance = sum(g @ g.T for g in affine.initial_slope)
    penalty = scale.astype(affine.output.dtype) ** 2 / 2 * jnp.sum(curvature * covariance)
    # slopes are finite whatever the numbers are; where the output is not, they mean nothing
    return jnp.where(jnp.isfinite(affine.output).all(), penalty, jnp.nan)


def _checked_scale(scale: Any) -> Array:
    """A standard deviation: one number, finite and not negative where it is concrete."""
    if not isinstance(scale, int | float | jax.Array | np.ndarray | np.number) or isinstance(scale, bool):
        raise TypeError(f"scale must be a number, got {type(scale).__name__}")
    if hasattr(scale, "dtype") and jnp.result_type(scale.dtype, jnp.float32).kind != "f":
        raise TypeError(f"scale must be a real number, got {scale.dtype}")
    if hasattr(scale, "dtype") and scale.dtype == bool:
        raise TypeError("scale must be a real number, got bool")
    with jax.ensure_compile_time_eval():  # what is concrete stays so while something else is traced
        checked = jnp.asarray(scale, None if hasattr(scale, "dtype") else float)
    if checked.shape != ():
        raise TypeError(f"scale must be one number, got shape {checked.shape}")
    if checks.is_concrete(checked) and not 0 <= float(checked) < float("inf"):
        raise ValueError(f"scale must be a standard deviation, finite and at least 0, got {float(checked)}")
    return checked
