"""The SRNN's paths by a plain loop over steps, with the noise drawn as the library says it draws it."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32


def normal(key, paths, channels):
    """Standard normal numbers in float64 from JAX's own generator, by logarithms, sines and cosines of NumPy."""
    half = -(-channels // 2)
    counters = np.arange(2 * paths * half, dtype=np.uint32)
    # a block of two words for each counter: the counters come second, zeros first
    both = threefry_2x32(jax.random.key_data(key), jnp.concatenate([jnp.zeros_like(counters), counters]))
    words = np.asarray(both, np.uint64).reshape(2, 2, paths, half)  # word, block, path, pair
    radius = np.sqrt(-2 * np.log(words[0, 0] * 2.0**-32 + words[1, 0] * 2.0**-64 + 2.0**-65))
    sign, swap = words[0, 1] >> 31 & 1, words[0, 1] >> 30 & 1
    low = (words[0, 1] << 2 & 0xFFFFFFFF).astype(np.uint32).view(np.int32) / 2.0**31
    angle = np.pi / 4 * (low + words[1, 1] * 2.0**-61)
    cosine, sine = radius * np.cos(angle) * np.where(sign, -1, 1), radius * np.sin(angle)
    return np.concatenate([np.where(swap, sine, cosine), np.where(swap, cosine, sine)], axis=1)[:, :channels]


def noise(key, k, paths, channels, dt, dtype, increments):
    key = jax.random.fold_in(key, k)
    if increments == "gaussian":
        return jnp.sqrt(jnp.asarray(dt, dtype)) * jnp.asarray(normal(key, paths, channels), dtype)
    words = jax.random.bits(key, (-(-paths // 32), 1, channels), jnp.uint32)
    ones = [(words[p // 32, 0] >> (p % 32)) & 1 for p in range(paths)]
    return jnp.sqrt(jnp.asarray(dt, dtype)) * (2.0 * jnp.stack(ones).astype(dtype) - 1.0)


def paths(model, control, start, *, key, dt, solver, increments="gaussian"):
    """States at 0, dt, …: (step + 1, path, hidden). tanh only."""
    decay = jnp.diag(model.decay) if model.decay.ndim == 1 else model.decay
    sigma = jnp.diag(model.noise_kernel) if model.noise_kernel.ndim == 1 else model.noise_kernel

    def rate(h, u):
        return -h @ decay + jnp.tanh(h @ model.recurrent_kernel + model.bias) + u @ model.input_kernel

    h, states = start, [start]
    for k, u in enumerate(control):
        db = noise(key, k, len(h), len(sigma), dt, h.dtype, increments) @ sigma
        f = rate(h, u)
        if solver == "euler":
            after = h + dt * f + db
        elif solver == "heun":
            after = h + dt * (f + rate(h + dt * f + db, u)) / 2 + db
        else:  # Foster, dos Reis, Strange (2023), equation 6.1, with u inside the drift
            area = normal(jax.random.fold_in(jax.random.fold_in(key, k), 1), len(h), len(sigma))
            area = jnp.sqrt(dt / 12) * area @ sigma
            first = rate(h + area, u)
            second = rate(h + 5 / 6 * (dt * first + db) + area, u)
            after = h + dt * (0.4 * first + 0.6 * second) + db
        h = after
        states.append(h)
    return jnp.stack(states)
