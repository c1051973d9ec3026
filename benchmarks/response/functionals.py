"""Known functionals of a sequence, and how well they are learned from features of it: is the feature universal?

product      ∫∫_{s<t} e^{−2(1−t) − 3(t−s)} u_t u_s: of order 2, and the order in time matters
saturating   tanh(3 ∫ e^{−2(1−t)} u_t dt): of all odd orders
maximum      the largest of ∫_0^t u ds over t: continuous, and not smooth
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import srnn
from benchmarks.response.reservoirs import reservoir
from benchmarks.response.signals import waves

PENALTIES = tuple(10.0**k for k in range(-8, 3))


def _times(us: np.ndarray) -> np.ndarray:
    return np.asarray((np.arange(us.shape[1]) + 0.5) / us.shape[1])


def _product(us: np.ndarray) -> np.ndarray:
    times, u = _times(us), us[:, :, 0]
    lag = times[:, None] - times
    kernel = np.where(lag > 0, np.exp(-2 * (1 - times[:, None]) - 3 * np.abs(lag)), 0)
    return np.asarray(np.einsum("nt,ts,ns->n", u, kernel, u) / len(times) ** 2)


def _saturating(us: np.ndarray) -> np.ndarray:
    times = _times(us)
    return np.asarray(np.tanh(3 * us[:, :, 0] @ np.exp(-2 * (1 - times)) / len(times)))


def _maximum(us: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(us[:, :, 0], axis=1).max(axis=1) / us.shape[1])


FUNCTIONALS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "product": _product,
    "saturating": _saturating,
    "maximum": _maximum,
}


@dataclasses.dataclass(frozen=True)
class Regression:
    """A functional, learned from features of growing depth, from a reservoir and from the sequence itself.

    Attributes:
        seed: of sequences, reservoir and noise.
        functional: one of `FUNCTIONALS`.
        depths: of the response feature, ascending.
        order: the highest polynomial of the feature.
        sequences: to fit on; a third as many to choose the penalty, and as many to test.
        steps: of a sequence.
    """

    seed: int
    functional: str
    depths: tuple[int, ...] = (1, 2, 3, 4)
    order: int = 3
    sequences: int = 2000
    steps: int = 24


def measure(one: Regression) -> dict[str, float]:
    """The test error of each way, as a share of the functional's variance."""
    rng = np.random.default_rng([one.seed, 5])
    controls = waves(rng, one.sequences * 5 // 3, one.steps)
    targets = FUNCTIONALS[one.functional](controls)
    parts = np.split(np.arange(len(controls)), [one.sequences, one.sequences * 4 // 3])
    found = {"raw": _error(controls[:, :, 0], targets, parts)}
    with jax.enable_x64(True):
        us, edges = jnp.asarray(controls), jnp.linspace(0.0, 1.0, one.steps + 1)
        for depth in one.depths:
            feature = functools.partial(srnn.response_feature, times=edges, order=one.order, depth=depth)
            found[f"depth {depth}"] = _error(np.asarray(jax.jit(jax.vmap(feature))(us)), targets, parts)
        states = jax.jit(jax.vmap(functools.partial(reservoir, jax.random.key(one.seed))))(us)
        found["reservoir"] = _error(np.asarray(states), targets, parts)
    return found


def _error(features: np.ndarray, targets: np.ndarray, parts: list[np.ndarray]) -> float:
    """Ridge regression on standardised features, its penalty chosen on the validation part."""
    from sklearn import linear_model  # a second to import, which sections that only need the kernels do without

    fit, held, test = parts
    features = (features - features[fit].mean(axis=0)) / (features[fit].std(axis=0) + 1e-12)
    best = (np.inf, np.inf)
    for penalty in PENALTIES:
        ridge = linear_model.Ridge(alpha=penalty * len(fit)).fit(features[fit], targets[fit])
        errors = [float(np.mean((ridge.predict(features[part]) - targets[part]) ** 2)) for part in (held, test)]
        best = min(best, (errors[0], errors[1]))
    return best[1] / float(targets[test].var())
