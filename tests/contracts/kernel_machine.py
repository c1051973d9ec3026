"""Rows of `srnn.kernel_machine`."""

import jax
import jax.numpy as jnp

import srnn
from tests.contracts.table import Row


def field(h, x):
    """A smooth field that reads no arrays, so that it is the same in every dtype."""
    return jnp.tanh(0.5 * h + 0.3 * h[::-1] + x.sum())


def read(h):
    return jnp.stack([h[0] * h[1], h.sum()])


def start(key, dtype):
    h_key, x_key = jax.random.split(key)
    return 0.3 * jax.random.normal(h_key, (3,), dtype), 0.3 * jax.random.normal(x_key, (2,), dtype)


def bounded(key, dtype):
    """Kernels, and a path whose times rise."""
    keys = jax.random.split(key, 3)
    times = jnp.linspace(0.0, 1.0, 4, dtype=dtype)[:, None]
    return (
        0.1 * jax.random.normal(keys[0], (3, 3), dtype),
        0.1 * jax.random.normal(keys[1], (2, 3), dtype),
        jnp.concatenate([times, jax.random.normal(keys[2], (4, 2), dtype)], axis=1),
    )


ROWS = (
    Row(
        srnn.signature_coefficients,
        start,
        call=lambda h0, x0: srnn.signature_coefficients(field, read, h0, x0, order=3),
    ),
    Row(srnn.kernel_norm, start, call=lambda h0, x0: srnn.kernel_norm(field, read, h0, x0, order=3)),
    Row(srnn.expansion_bound, bounded, call=lambda *a: srnn.expansion_bound(*a, order=3)),
)
