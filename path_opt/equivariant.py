"""Adam that follows rescaling: the step from a rescaled network is the rescaled step.

Any update with Δ(c · w) = c · Δ(w) leaves the trained function the same from every rescaled start. With ρ_i a positive
number for each unit that a rescaling multiplies by c_i, n_e = ρ_target / ρ_source goes as w_e does and n_e · g_e does
not change at all; so n · Adam(n · g) follows w exactly. Here ρ_i = (r_i / q_i)^(1/2), with r_i² the sum of the squared
paths into the unit and q_i² that of those out of it, as in `balance`: n · g is the gradient that the balanced network
would have, and at a balanced start this is Adam itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from maso_rnn.network import RNN
from path_opt.graph import ReductionGraph, View
from path_opt.guard import Steps, checked_rate, clipped, guarded
from path_opt.rescaling import gauge, like, moved, wide


def equivariant_adam(
    learning_rate: optax.ScalarOrSchedule, *, graph: ReductionGraph, clip: float | None = None
) -> optax.GradientTransformationExtraArgs:
    """Adam whose steps follow every rescaling of the hidden units, and which is Adam on a balanced network.

    Equation: Δ = n · Adam(n · g), n = ρ_target / ρ_source, ρ_i = (r_i / q_i)^(1/2).

    Args:
        learning_rate: a positive number, or a schedule of the step.
        graph: the reduction graph of the parameters.
        clip: the largest norm that n · g may have, the gradient of the balanced network; None for no bound.

    Returns:
        A transform with the state `GuardedState`, Adam's state inside.

    Raises:
        ValueError: if a concrete `learning_rate` or `clip` is not positive and finite.
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
    adam = clipped(clip, optax.adam(checked_rate(learning_rate)))

    def update(view: View, gradient: RNN, state: PyTree, extra: Mapping[str, Any]) -> tuple[RNN, PyTree]:
        del extra
        seen, units = _enter(gradient, view.weights)
        steps, state = adam.update(view.write(seen), state)
        return _follow(view.read(steps, "Adam's steps"), units), state

    return guarded(Steps(lambda params, weights: adam.init(params), update), graph, "equivariant_adam")


@jax.jit
def _enter(gradient: RNN, weights: RNN) -> tuple[RNN, PyTree]:
    units = gauge(wide(weights))
    return moved(like(gradient, wide(weights)), units), units


@jax.jit
def _follow(steps: RNN, units: PyTree) -> RNN:
    return moved(steps, units)
