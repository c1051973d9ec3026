"""The rescaling that makes the diagonal of the path metric as even as it can be.

J is the derivative of all path values of the unrolled network in its weights, and diag(JᵀJ) = κ¹ + κ²: how far paths
move when a weight does. A rescaling by c = e^u makes of it κ_e · e^{2 (u_source − u_target)}. The log-det divergence of
a diagonal from the nearest multiple of the identity is

    F(u) = n log(mean_e κ_e e^{2 (u_s − u_t)}) − Σ_e log(κ_e e^{2 (u_s − u_t)}),

over the n weights that paths use: convex in u, and 0 only where all are equal. Newton's method finds its minimum.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from maso_rnn import checks
from maso_rnn.network import RNN
from path_opt.graph import ReductionGraph, at_sources, at_targets
from path_opt.norms import check_recurrence, log_kappa
from path_opt.rescaling import checked_view, exponential, gauge, like, moved, wide

_MOST = 50  # Newton steps; a dozen is usual
_HALVINGS = 0.5 ** np.arange(12)


def condition(params: PyTree, graph: ReductionGraph, num_steps: int, *, readout: str = "last") -> PyTree:
    """The rescaling of the parameters in which every weight moves the paths about equally far: the same function.

    Equation: the c > 0 of least n log(mean_e κ_e) − Σ_e log κ_e, where κ = κ¹ + κ² = diag(JᵀJ) of the rescaled network.

    Plain gradient descent is steepest descent in path values as nearly as a rescaling can make it so. Like `balance`
    it gives one network for all rescalings of one, up to rounding; unlike it, it knows for how long recurrent weights
    are used.

    Args:
        params: the parameters.
        graph: their reduction graph.
        num_steps: T, the length of the sequences that are trained on.
        readout: `"last"`: the outputs of the last step are read; `"every"`: those of every step.

    Returns:
        A pytree like `params`. A unit that no path passes keeps its balanced scale.

    Raises:
        ValueError: if `num_steps` is below 1, `readout` is neither, `params` does not fit the graph, or a concrete one
            is not finite.
        TypeError: if `num_steps` is not an integer, a leaf is not a floating array, or `graph` is not a reduction
            graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> graph = path_opt.reduction_graph(rnn)
        >>> twice = path_opt.rescale(rnn, graph, [jnp.arange(4.0)])
        >>> a, b = condition(rnn, graph, 5), condition(twice, graph, 5)
        >>> bool(jnp.allclose(a.readout.kernel, b.readout.kernel, rtol=1e-3))
        True

    Source:
        Lebeurrier, Vayer, Gribonval (2026), path-conditioned training, for feed-forward networks; here for weights that
        time shares.
    """
    view = checked_view(params, graph)
    check_recurrence(view.weights, graph)
    num_steps, readout = checks.size("num_steps", num_steps), checks.choice("readout", readout, ("last", "every"))
    return view.write(_condition(view.weights, num_steps, readout))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _condition(weights: RNN, num_steps: int, readout: str) -> RNN:
    near = moved(wide(weights), gauge(wide(weights)), -1)
    logs = log_kappa(near, num_steps, readout)
    return like(moved(near, [exponential(u) for u in _least(near, logs)]), weights)


def _least(weights: RNN, logs: RNN) -> list[Array]:
    """The u of least F, for each layer (hidden,)."""
    used = jax.tree.map(lambda log: log > -jnp.inf, logs)
    count = sum(mask.sum() for mask in jax.tree.leaves(used))

    def divergence(units: list[Array]) -> Array:
        shifts = jax.tree.map(lambda s, t: 2 * (s - t), at_sources(units, weights, 0), at_targets(units, weights, 0))
        moved = jax.tree.map(
            lambda log, shift, mask: jnp.where(mask, jnp.where(mask, log, 0) + shift, -jnp.inf), logs, shifts, used
        )
        leaves = [leaf.ravel() for leaf in jax.tree.leaves(moved)]
        total = sum(jnp.where(leaf > -jnp.inf, leaf, 0).sum() for leaf in leaves)
        return jax.scipy.special.logsumexp(jnp.concatenate(leaves)) - jnp.log(count) - total / count

    slope = jax.grad(divergence)
    rounding = jnp.finfo(weights.readout.kernel.dtype).eps

    def steepness(units: list[Array]) -> Array:
        return jnp.stack([abs(part).max() for part in slope(units)]).max()

    def unfinished(carry: tuple[list[Array], Array, Array]) -> Array:
        units, step, progress = carry
        return (step < _MOST) & progress & (steepness(units) > rounding)

    def newton(carry: tuple[list[Array], Array, Array]) -> tuple[list[Array], Array, Array]:
        units, step, _ = carry
        gradient = slope(units)

        def hessian(direction: list[Array]) -> list[Array]:
            # the last term keeps units that no path passes where they are
            along = jax.jvp(slope, (units,), (direction,))[1]
            return [a + rounding * d for a, d in zip(along, direction, strict=True)]

        direction, _ = jax.scipy.sparse.linalg.cg(hessian, [-part for part in gradient], tol=1e-6)
        tried = [u + _HALVINGS.astype(u.dtype)[:, None] * d for u, d in zip(units, direction, strict=True)]
        values = jax.vmap(divergence)(tried)
        best = jnp.argmin(values)
        better = values[best] < divergence(units)
        return [jnp.where(better, t[best], u) for t, u in zip(tried, units, strict=True)], step + 1, better

    start = [jnp.zeros(layer.input_kernel.shape[1], weights.readout.kernel.dtype) for layer in weights.layers]
    units, _, _ = jax.lax.while_loop(unfinished, newton, (start, jnp.zeros((), jnp.int32), jnp.ones((), bool)))
    return units
