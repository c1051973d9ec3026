"""The distance to the nearest kink with every pre-activation's Jacobian formed: slow, and plainly right."""

import jax
import jax.numpy as jnp

from tests.oracles import reference


def pre_activations(rnn, activation, xs, h0):
    """All pre-activations in one vector, for an activation named in `reference.ACTIVATIONS`."""
    act = reference.ACTIVATIONS[activation]

    def body(states, x):
        after, found = [], []
        for layer, h in zip(rnn.layers, states, strict=True):
            p = x @ layer.input_kernel + h @ layer.recurrent_kernel
            p = p if layer.bias is None else p + layer.bias
            found.append(p)
            after.append(x := act(p))
        return tuple(after), jnp.concatenate(found)

    return jax.lax.scan(body, h0, xs)[1].ravel()


def distance(rnn, activation, xs, h0):
    """min |p - kink| / ‖∇p‖ by `jacrev`, infinite where a gradient vanishes."""
    p = pre_activations(rnn, activation, xs, h0)
    jacobian = jax.jacrev(lambda xs: pre_activations(rnn, activation, xs, h0))(xs)
    norms = jnp.linalg.norm(jacobian.reshape(p.size, -1), axis=1)
    to_kink = jnp.abs(p[:, None] - jnp.asarray(rnn.activation.breakpoints)).min(axis=1)
    return jnp.where(norms > 0, to_kink / norms, jnp.inf).min()
