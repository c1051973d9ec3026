"""Classification of sequences by what a stochastic RNN can make of them, without training one."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import srnn
from benchmarks.response.reservoirs import reservoir
from benchmarks.response.signals import TASKS

PENALTIES = tuple(10.0**k for k in range(-6, 3))


@dataclasses.dataclass(frozen=True)
class Classification:
    """A data set that is classified in several ways.

    Attributes:
        seed: of what is held back to choose settings on, and of the reservoir.
        task: one of `TASKS`.
        scales: of the input, that are tried.
    """

    seed: int
    task: str
    scales: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)


def measure(one: Classification) -> dict[str, float]:
    """Test accuracy of four methods, penalties and scales chosen on a third of the training sequences."""
    data = TASKS[one.task]()
    known = [np.concatenate([data.train[i], data.validation[i]]) for i in range(2)]
    order = np.random.default_rng([one.seed, 6]).permutation(len(known[0]))
    held, fit = np.split(order, [len(order) // 3])
    inputs = [known[0][fit], known[0][held], np.asarray(data.test.inputs)]
    targets = [known[1][fit], known[1][held], np.asarray(data.test.targets)]
    mean, sd = inputs[0].mean(axis=(0, 1)), inputs[0].std(axis=(0, 1)) + 1e-12
    inputs = [(part - mean) / sd for part in inputs]
    random = functools.partial(reservoir, jax.random.key(one.seed))
    return {
        "response gram": _by_gram(inputs, targets, one.scales),
        "response feature, ridge": _by_features(inputs, targets, one.scales, _response),
        "signature, ridge": _by_features(inputs, targets, one.scales, _signature),
        "reservoir, ridge": _by_features(inputs, targets, one.scales, random),
    }


def _edges(steps: int) -> jax.Array:
    return jnp.linspace(0.0, 1.0, steps + 1)


def _one_hot(targets: np.ndarray, classes: int) -> np.ndarray:
    return 2.0 * np.eye(classes)[targets] - 1.0


def _right(scores: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean(scores.argmax(axis=1) == targets))


def _by_gram(inputs: list[np.ndarray], targets: list[np.ndarray], scales: Sequence[float]) -> float:
    """Kernel ridge on the response gram; scale of the input and penalty chosen on the validation part."""
    from sklearn import kernel_ridge  # a second to import, which sections that only need the kernels do without

    classes, times = max(map(np.max, targets)) + 1, _edges(inputs[0].shape[1])
    wanted = _one_hot(targets[0], classes)
    best = (-1.0, 0.0)
    for scale in scales:
        fit, held, test = (jnp.asarray(scale * part) for part in inputs)
        gram = np.asarray(srnn.response_gram(fit, fit, times, normalize=True), float)
        across = [np.asarray(srnn.response_gram(part, fit, times, normalize=True), float) for part in (held, test)]
        for penalty in PENALTIES:
            ridge = kernel_ridge.KernelRidge(kernel="precomputed", alpha=penalty).fit(gram, wanted)
            chosen = _right(ridge.predict(across[0]), targets[1])
            if chosen > best[0]:
                best = (chosen, _right(ridge.predict(across[1]), targets[2]))
    return best[1]


def _by_features(
    inputs: list[np.ndarray],
    targets: list[np.ndarray],
    scales: Sequence[float],
    feature: Callable[[jax.Array], jax.Array],
) -> float:
    """Ridge on standardised features; scale of the input and penalty chosen on the validation part."""
    from sklearn import linear_model  # a second to import, which sections that only need the kernels do without

    classes = max(map(np.max, targets)) + 1
    wanted = _one_hot(targets[0], classes)
    best = (-1.0, 0.0)
    program = jax.jit(jax.vmap(feature))
    cuts = np.cumsum([len(part) for part in inputs])[:-1]
    for scale in scales:
        rows = np.split(np.asarray(program(jnp.asarray(scale * np.concatenate(inputs))), float), cuts)
        mean, sd = rows[0].mean(axis=0), rows[0].std(axis=0) + 1e-9
        fit, held, test = ((part - mean) / sd for part in rows)
        for penalty in PENALTIES:
            ridge = linear_model.Ridge(alpha=penalty * len(fit)).fit(fit, wanted)
            chosen = _right(ridge.predict(held), targets[1])
            if chosen > best[0]:
                best = (chosen, _right(ridge.predict(test), targets[2]))
    return best[1]


def _response(xs: jax.Array) -> jax.Array:
    return srnn.response_feature(xs, _edges(len(xs)).astype(xs.dtype), order=2, depth=2)


def _signature(xs: jax.Array) -> jax.Array:
    """Of the series itself beside time, from zero, so that where it starts is seen."""
    timed = jnp.concatenate([jnp.linspace(0.0, 1.0, len(xs), dtype=xs.dtype)[:, None], xs], axis=1)
    return srnn.signature(jnp.concatenate([jnp.zeros_like(timed[:1]), timed]), 2)
