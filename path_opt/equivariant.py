"""Adam that follows rescaling: the step from a rescaled network is the rescaled step.

Any update with Δ(c · w) = c · Δ(w) leaves the trained function the same from every rescaled start. With ρ_i a positive
number for each unit that a rescaling multiplies by c_i, n_e = ρ_target / ρ_source goes as w_e does and n_e · g_e does
not change at all; so n · Adam(n · g) follows w exactly. Here ρ_i = (r_i / q_i)^(1/2), with r_i² the sum of the squared
paths into the unit and q_i² that of those out of it, as in `balance`: n · g is the gradient that the balanced network
would have, and at a balanced start this is Adam itself.
"""

from __future__ import annotations

from typing import Any

import jax
import optax
from jaxtyping import PyTree

from path_opt import checks
from path_opt.graph import ReductionGraph, at_sources, at_targets, require_graph
from path_opt.guard import guarded, like
from path_opt.rescaling import gauge


def equivariant_adam(
    learning_rate: optax.ScalarOrSchedule, *, graph: ReductionGraph
) -> optax.GradientTransformationExtraArgs:
    """Adam whose steps follow every rescaling of the hidden units, and which is Adam on a balanced network.

    Equation: Δ = n · Adam(n · g), n = ρ_target / ρ_source, ρ_i = (r_i / q_i)^(1/2).

    Args:
        learning_rate: a positive number, or a schedule of the step.
        graph: the reduction graph of the parameters.

    Returns:
        A transform with the state `GuardedState`, Adam's state inside.

    Raises:
        ValueError: if a concrete `learning_rate` is not positive and finite.
        TypeError: if `graph` is not a reduction graph.

    Example:
        >>> import maso_rnn, path_opt
        >>> import jax.numpy as jnp
        >>> rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2)
        >>> graph = path_opt.reduction_graph(rnn)
        >>> start = path_opt.balance(rnn, graph)
        >>> loss = lambda rnn: (maso_rnn.forward(rnn, jnp.ones((5, 1)))[-1] ** 2).sum()
        >>> gradient, steps = jax.grad(loss)(start), []
        >>> for transform in (equivariant_adam(0.1, graph=graph), optax.adam(0.1)):
        ...     steps.append(transform.update(gradient, transform.init(start), start)[0].readout.kernel)
        >>> bool(jnp.allclose(*steps, rtol=1e-3))
        True

    Source:
        The path norm of Neyshabur et al. (2016) from both ends, as the unit of Adam (Kingma and Ba, 2015).
    """
    checks.learning_rate(learning_rate)
    require_graph(graph)
    adam = optax.adam(learning_rate)

    def init(params: PyTree) -> PyTree:
        graph.read(params)
        return adam.init(params)

    def update(updates: PyTree, state: PyTree, params: PyTree, **extra: Any) -> tuple[PyTree, PyTree]:
        del extra
        weights = graph.read(params)
        units = gauge(weights)
        sources, targets = at_sources(units, weights), at_targets(units, weights)

        def following(tree: PyTree, what: str) -> PyTree:
            """N times what is in `tree`."""
            edges = like(graph.read(tree, what), weights)
            return graph.write(jax.tree.map(lambda e, s, t: e * (t / s), edges, sources, targets), tree)

        steps, state = adam.update(following(updates, "updates"), state)
        return following(steps, "updates"), state

    return guarded(optax.GradientTransformationExtraArgs(init, update), "equivariant_adam")
