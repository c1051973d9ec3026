"""An independent forward pass: a plain loop over time, its own activations, no scan, nothing of the library's."""

import jax
import jax.numpy as jnp

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "leaky_relu": lambda p: jax.nn.leaky_relu(p, 0.01),
    "abs": jnp.abs,
    "hard_tanh": jax.nn.hard_tanh,
    "identity": lambda p: p,
    "tanh": jnp.tanh,
    "relu6": jax.nn.relu6,
}


def forward(rnn, activation, xs, h0):
    """(time, output), for an activation named in `ACTIVATIONS`."""
    act, states, outputs = ACTIVATIONS[activation], list(h0), []
    for x in xs:
        for l, layer in enumerate(rnn.layers):
            p = jnp.dot(layer.input_kernel.T, x) + jnp.dot(layer.recurrent_kernel.T, states[l])
            x = states[l] = act(p if layer.bias is None else p + layer.bias)
        z = jnp.dot(rnn.readout.kernel.T, x)
        outputs.append(z if rnn.readout.bias is None else z + rnn.readout.bias)
    return jnp.stack(outputs)
