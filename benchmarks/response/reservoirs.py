"""A random SRNN, not trained, that sequences are run through."""

from __future__ import annotations

from typing import Any

import jax

import srnn


def reservoir(key: jax.Array, xs: jax.Array) -> jax.Array:
    """The mean state of a random SRNN at four times, (4 · hidden,)."""
    dt, hidden, steps = 0.2, 150, len(xs)
    noise_key, model_key = jax.random.split(key)
    model = srnn.init(model_key, xs.shape[1], hidden, radius=0.9, decay_time=1.5, noise=0.02, dtype=xs.dtype)
    saved = sorted({max(1, steps * part // 4) for part in range(1, 5)})
    run: dict[str, Any] = {"key": noise_key, "paths": 2, "t1": steps * dt, "dt": dt, "save_steps": saved}
    return srnn.simulate(model, xs, **run).mean.ravel()
