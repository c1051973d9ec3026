"""Other penalties than the exact one, to be rejected, and the gap itself by sampling."""

import jax
import jax.numpy as jnp

from tests.oracles import reference


def _initial_slopes(rnn, xs, h0):
    """∂z/∂h0 (output, all units) by reverse mode through a plain loop."""
    slopes = jax.jacrev(lambda h0: reference.forward(rnn, "relu", xs, h0)[-1])(h0)
    return jnp.concatenate(slopes, axis=1)


def diagonal(rnn, xs, h0, scale, loss):
    """The trace with the Hessian's diagonal only."""
    z = reference.forward(rnn, "relu", xs, h0)[-1]
    curvature = jnp.diagonal(jax.hessian(loss)(z))
    return scale**2 / 2 * jnp.sum(curvature[:, None] * _initial_slopes(rnn, xs, h0) ** 2)


def _printed_product(rnn, xs, h0):
    """A_h as the paper prints it: of the top layer, without the readout, and beginning at the second step."""
    states = h0

    def body(carry, x):
        states, product, first = carry
        after, below = [], x
        for layer, h in zip(rnn.layers, states, strict=True):
            p = below @ layer.input_kernel + h @ layer.recurrent_kernel
            p = p if layer.bias is None else p + layer.bias
            after.append(below := jax.nn.relu(p))
        factor = rnn.layers[-1].recurrent_kernel * (p > 0)
        return (tuple(after), jnp.where(first, product, product @ factor), False), None

    top = h0[-1]
    (_, product, _), _ = jax.lax.scan(body, (states, jnp.eye(top.size, dtype=top.dtype), True), xs)
    return product


def printed_cross_entropy(rnn, xs, h0, scale):
    """σ²/2 ‖diag(p(1 − p)) A_h‖², the Bernoulli variance inside the norm, its rows those of the outputs."""
    p = jax.nn.softmax(reference.forward(rnn, "relu", xs, h0)[-1])
    rows = (rnn.readout.kernel.T @ _printed_product(rnn, xs, h0).T) * (p * (1 - p))[:, None]
    return scale**2 / 2 * jnp.sum(rows**2)


def printed_squared_error(rnn, xs, h0, scale):
    """σ²/2 ‖A_h‖², without the readout."""
    return scale**2 / 2 * jnp.sum(_printed_product(rnn, xs, h0) ** 2)


def sampled_gap(key, rnn, xs, h0, scale, loss, pairs):
    """E[loss(h0 + σε)] − loss(h0) by antithetic pairs, its standard error, and the share that leaves the region.

    ε and −ε cancel all odd orders, so what varies between pairs is second order too.
    """

    def body(states, x):
        after, codes, below = [], [], x
        for layer, h in zip(rnn.layers, states, strict=True):
            p = below @ layer.input_kernel + h @ layer.recurrent_kernel
            p = p if layer.bias is None else p + layer.bias
            codes.append(p > 0)
            after.append(below := jax.nn.relu(p))
        return tuple(after), jnp.concatenate(codes)

    def run(h0):
        states, codes = jax.lax.scan(body, h0, xs)
        z = states[-1] @ rnn.readout.kernel
        return loss(z if rnn.readout.bias is None else z + rnn.readout.bias), codes

    value, codes = run(h0)

    def pair(key):
        noise = [scale * jax.random.normal(k, h.shape) for k, h in zip(jax.random.split(key, len(h0)), h0, strict=True)]
        there, codes_there = run(tuple(h + e for h, e in zip(h0, noise, strict=True)))
        back, codes_back = run(tuple(h - e for h, e in zip(h0, noise, strict=True)))
        left = ((codes_there != codes).any().astype(float) + (codes_back != codes).any()) / 2
        return (there + back) / 2 - value, left

    gaps, left = jax.lax.map(pair, jax.random.split(key, pairs), batch_size=500)
    return gaps.mean(), gaps.std() / jnp.sqrt(pairs), left.mean()
