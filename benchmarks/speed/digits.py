"""ReLU networks trained on scikit-learn's digits, for what must be measured on trained ones."""

import jax
import jax.numpy as jnp

import maso_rnn

BATCH = 64


def digits(steps, dtype):
    """All images (example, step, input), with numbers from 0 to 1, read in so many steps; and their labels."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return jnp.asarray(images.reshape(len(images), steps, -1) / 16, dtype), jnp.asarray(labels)


def trained(rnn, xs, labels, *, rate, updates):
    """The network after so many steps of Adam, over the whole batches in their order."""
    import optax

    optimiser = optax.adam(rate)

    def loss(rnn, xs, labels):
        outputs = jax.vmap(maso_rnn.last_output, (None, 0))(rnn, xs)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

    @jax.jit
    def train(rnn):
        def body(carry, step):
            rnn, memory = carry
            rows = BATCH * (step % (len(xs) // BATCH)) + jnp.arange(BATCH)
            update, memory = optimiser.update(jax.grad(loss)(rnn, xs[rows], labels[rows]), memory)
            return (optax.apply_updates(rnn, update), memory), None

        return jax.lax.scan(body, (rnn, optimiser.init(rnn)), jnp.arange(updates))[0][0]

    return train(rnn)
