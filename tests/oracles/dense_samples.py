"""What a line or a plane looks like by sampling alone: the code and the output at given points, by forward passes."""

import jax
import jax.numpy as jnp
import numpy as np

import maso_rnn


def codes_and_outputs(rnn, inputs, coordinates, h0=None):
    """Packed codes and last outputs at origin + Σ coordinates · directions, `inputs` = (origin, *directions)."""
    origin, *directions = (jnp.asarray(x) for x in inputs)

    @jax.jit
    def run(coordinates):
        def one(place):
            xs = origin + sum(c * d for c, d in zip(place, directions, strict=True))
            run = maso_rnn.trajectory(rnn, xs, h0)
            return maso_rnn.pack(run.codes), run.outputs[-1]

        return jax.lax.map(one, coordinates, batch_size=256)

    codes, outputs = run(jnp.asarray(coordinates).reshape(len(coordinates), -1))
    return np.asarray(codes), np.asarray(outputs)


def distinct(codes):
    """The set of distinct rows."""
    return {row.tobytes() for row in np.asarray(codes)}
