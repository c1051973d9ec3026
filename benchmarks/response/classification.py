"""Classification of sequences by what a stochastic RNN can make of them, without training one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

import srnn
from benchmarks.data.dataset import Dataset

PENALTIES = tuple(10.0**k for k in range(-6, 3))
SCALES = (0.1, 0.3, 1.0, 3.0)


def accuracies(data: Dataset, *, seed: int, reservoirs: int) -> dict[str, dict[str, float]]:
    """Test accuracy of four methods, penalties and scales chosen on the validation part."""
    inputs = [np.asarray(part.inputs) for part in (data.train, data.validation, data.test)]
    mean, sd = inputs[0].mean(axis=(0, 1)), inputs[0].std(axis=(0, 1)) + 1e-12
    inputs = [(part - mean) / sd for part in inputs]
    targets = [np.asarray(part.targets) for part in (data.train, data.validation, data.test)]
    results = {
        "response gram": _by_gram(inputs, targets),
        "response feature, ridge": _by_features(inputs, targets, _response),
        "signature, ridge": _by_features(inputs, targets, _signature),
    }
    runs = [
        _by_features(inputs, targets, functools.partial(_reservoir, jax.random.fold_in(jax.random.key(seed), r)))
        for r in range(reservoirs)
    ]
    results["reservoir, ridge"] = float(np.mean(runs))
    count = len(targets[2])
    return {
        name: {"accuracy": value, "stderr": float(np.sqrt(value * (1 - value) / count))}
        for name, value in results.items()
    }


def _edges(steps: int) -> jax.Array:
    return jnp.linspace(0.0, 1.0, steps + 1)


def _one_hot(targets: np.ndarray, classes: int) -> np.ndarray:
    return 2.0 * np.eye(classes)[targets] - 1.0


def _right(scores: np.ndarray, targets: np.ndarray) -> float:
    return float(np.mean(scores.argmax(axis=1) == targets))


def _by_gram(inputs: list[np.ndarray], targets: list[np.ndarray]) -> float:
    """Kernel ridge on the response gram; scale of the input and penalty chosen on the validation part."""
    classes, times = max(map(np.max, targets)) + 1, _edges(inputs[0].shape[1])
    wanted = _one_hot(targets[0], classes)
    best = (-1.0, 0.0)
    for scale in SCALES:
        fit, held, test = (jnp.asarray(scale * part) for part in inputs)
        gram = np.asarray(srnn.response_gram(fit, fit, times, normalize=True), float)
        across = [np.asarray(srnn.response_gram(part, fit, times, normalize=True), float) for part in (held, test)]
        for penalty in PENALTIES:
            ridge = KernelRidge(kernel="precomputed", alpha=penalty).fit(gram, wanted)
            chosen = _right(ridge.predict(across[0]), targets[1])
            if chosen > best[0]:
                best = (chosen, _right(ridge.predict(across[1]), targets[2]))
    return best[1]


def _by_features(
    inputs: list[np.ndarray], targets: list[np.ndarray], feature: Callable[[jax.Array], jax.Array]
) -> float:
    """Ridge on standardised features; scale of the input and penalty chosen on the validation part."""
    classes = max(map(np.max, targets)) + 1
    wanted = _one_hot(targets[0], classes)
    best = (-1.0, 0.0)
    program = jax.jit(jax.vmap(feature))
    cuts = np.cumsum([len(part) for part in inputs])[:-1]
    for scale in SCALES:
        rows = np.split(np.asarray(program(jnp.asarray(scale * np.concatenate(inputs))), float), cuts)
        mean, sd = rows[0].mean(axis=0), rows[0].std(axis=0) + 1e-9
        fit, held, test = ((part - mean) / sd for part in rows)
        for penalty in PENALTIES:
            ridge = Ridge(alpha=penalty * len(fit)).fit(fit, wanted)
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


def _reservoir(key: jax.Array, xs: jax.Array) -> jax.Array:
    """The mean state of a random SRNN at four times."""
    dt, hidden, steps = 0.2, 150, len(xs)
    noise_key, model_key = jax.random.split(key)
    model = srnn.init(model_key, xs.shape[1], hidden, radius=0.9, decay_time=1.5, noise=0.02, dtype=xs.dtype)
    saved = sorted({max(1, steps * part // 4) for part in range(1, 5)})
    run: dict[str, Any] = {"key": noise_key, "paths": 2, "t1": steps * dt, "dt": dt, "save_steps": saved}
    return srnn.simulate(model, xs, **run).mean.ravel()
