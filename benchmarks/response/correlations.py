"""Whether response kernels are correlation functions of the undriven dynamics: estimates that must agree.

Of a tanh network the first-order kernel is estimated three ways with separate noise: by derivatives along paths,
carried backward (adjoint) or forward (tangent), and as a correlation of the output with the noise of an earlier step,
with neither derivative nor input (malliavin). The second order is estimated by the adjoint and as a correlation. Of a
linear network the density is known: there the paper's own correlation, of the output at the end with −∇·(C p_s)/p_s at
the earlier time s, is compared with the response in closed form.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

import srnn
from benchmarks.response import kernels
from srnn.response import Method

METHODS: tuple[Method, ...] = ("adjoint", "tangent", "malliavin")


@dataclasses.dataclass(frozen=True)
class Correlations:
    """A network whose kernels are estimated several ways.

    Attributes:
        seed: of network and noise.
        paths: of each estimate.
        hidden: units.
        steps: of the longest lag.
        every: one step in so many is looked at.
        dt: units of time a step.
    """

    seed: int
    paths: int = 20_000
    hidden: int = 16
    steps: int = 32
    every: int = 4
    dt: float = 0.1


def measure(one: Correlations) -> dict[str, Any]:
    """Mean squared differences in standard errors (1 where only chance parts two estimates), and variances.

    `signal` is the mean square of the adjoint's kernel in its own standard errors against the correlation: what a
    difference would be if one of the two were zero.
    """
    with jax.enable_x64(True):
        model_key, *keys = jax.random.split(jax.random.key(one.seed), 7)
        model = kernels.tanh_srnn(model_key, inputs=1, hidden=one.hidden)
        model = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model)
        chosen = tuple(range(0, one.steps, one.every))
        run: dict[str, Any] = {"t1": one.steps * one.dt, "dt": one.dt, "paths": one.paths, "steps": chosen}
        first = {
            method: srnn.response_kernel(model, kernels.readout, method=method, key=key, **run)
            for method, key in zip(METHODS, keys, strict=False)
        }
        second = {
            method: srnn.response_kernel(model, kernels.readout, method=method, order=2, key=key, **run)
            for method, key in zip(METHODS[::2], keys[3:], strict=False)
        }
        differences = {f"{a}, {b}": _apart(first[a], first[b]) for a, b in itertools.combinations(METHODS, 2)}
        differences["second order"] = _apart(*second.values())
        differences["score"] = _score(model, keys[5], one, chosen)
        nothing = first["malliavin"]._replace(values=jnp.zeros_like(first["malliavin"].values))
        return {
            "differences": differences,
            "signal": _apart(first["adjoint"], nothing),
            "variances": {method: float((found.stderr**2).mean()) * one.paths for method, found in first.items()},
        }


def _apart(a: srnn.Kernel, b: srnn.Kernel) -> float:
    """The mean squared difference in standard errors; of a second order, of its different entries."""
    spread = np.asarray(jnp.hypot(a.stderr, b.stderr))
    z = np.asarray(a.values - b.values) / spread
    if z.ndim == 4:
        z = z[np.tril_indices(len(z))]
    return float((z**2).mean())


def _score(model: srnn.SRNN, key: Array, one: Correlations, chosen: tuple[int, ...]) -> float:
    """The paper's correlation in a linear network against its response in closed form."""
    linear = dataclasses.replace(model, activation="identity", recurrent_kernel=0.5 * model.recurrent_kernel)
    linear = dataclasses.replace(linear, bias=jnp.zeros_like(model.bias))
    last = one.steps
    after = tuple(k + 1 for k in chosen)  # a push in step k is felt in the state after it
    saved = srnn.simulate(
        linear,
        key=key,
        paths=one.paths,
        t1=one.steps * one.dt,
        dt=one.dt,
        save_steps=sorted({*after, last}),
    ).values
    transition = np.eye(one.hidden) + one.dt * np.asarray(linear.recurrent_kernel - jnp.diag(linear.decay))
    noise = one.dt * np.diag(np.asarray(linear.noise_kernel) ** 2)
    covariances = [np.zeros_like(noise)]
    for _ in range(last):
        covariances.append(transition.T @ covariances[-1] @ transition + noise)
    along = np.ones(one.hidden) / math.sqrt(one.hidden)
    slope = _mean_slope(float(along @ covariances[last] @ along))
    push = np.asarray(linear.input_kernel)[0]
    end = np.asarray(jax.vmap(kernels.readout)(saved[:, -1]))
    squares = []
    for i, k in enumerate(after):
        score = np.asarray(saved[:, i]) @ np.linalg.solve(covariances[k], push)
        products = end * score
        exact = slope * push @ np.linalg.matrix_power(transition, last - k) @ along
        squares.append((products.mean() - exact) ** 2 / (products.var(ddof=1) / one.paths))
    return float(np.mean(squares))


def _mean_slope(variance: float) -> float:
    """E tanh'(x) of a normal x of mean 0."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    slopes = 1 - np.tanh(math.sqrt(variance) * nodes) ** 2
    return float(weights @ slopes / weights.sum())
