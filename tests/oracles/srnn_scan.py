"""The SRNN's paths by a plain loop over steps in a scan, with the noise drawn as the library says it draws it."""

import jax
import jax.numpy as jnp


def noise(key, k, paths, channels, dt, dtype, increments):
    key = jax.random.fold_in(key, k)
    if increments == "gaussian":
        return jnp.sqrt(jnp.asarray(dt, dtype)) * jax.random.normal(key, (paths, channels), dtype)
    words = jax.random.bits(key, (-(-paths // 32), 1, channels), jnp.uint32)
    ones = [(words[p // 32, 0] >> (p % 32)) & 1 for p in range(paths)]
    return jnp.sqrt(jnp.asarray(dt, dtype)) * (2.0 * jnp.stack(ones).astype(dtype) - 1.0)


def paths(model, control, start, *, key, dt, solver, increments="gaussian"):
    """States at 0, dt, …: (step + 1, path, hidden). tanh only."""
    decay = jnp.diag(model.decay) if model.decay.ndim == 1 else model.decay
    sigma = jnp.diag(model.noise_kernel) if model.noise_kernel.ndim == 1 else model.noise_kernel

    def rate(h, u):
        return -h @ decay + jnp.tanh(h @ model.recurrent_kernel + model.bias) + u @ model.input_kernel

    def step(h, now):
        k, u = now
        db = noise(key, k, len(h), len(sigma), dt, h.dtype, increments) @ sigma
        f = rate(h, u)
        if solver == "euler":
            after = h + dt * f + db
        elif solver == "heun":
            after = h + dt * (f + rate(h + dt * f + db, u)) / 2 + db
        else:  # Foster, dos Reis, Strange (2023), equation 6.1, with u inside the drift
            area = jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, k), 1), (len(h), len(sigma)), h.dtype)
            area = jnp.sqrt(dt / 12) * area @ sigma
            first = rate(h + area, u)
            second = rate(h + 5 / 6 * (dt * first + db) + area, u)
            after = h + dt * (0.4 * first + 0.6 * second) + db
        return after, after

    _, states = jax.lax.scan(step, start, (jnp.arange(len(control)), control))
    return jnp.concatenate([start[None], states])
