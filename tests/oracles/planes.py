"""Networks that read two numbers, and the exact distance to where their class changes, by cutting the whole plane."""

import jax
import numpy as np

import maso_rnn

SIDE = 12.0  # of the square of inputs that is looked over


def two_numbers(seed):
    """A network that reads two numbers, and the exact boundary of its classes over a square around the origin."""
    normal = jax.nn.initializers.normal(0.5)
    rnn = maso_rnn.init(jax.random.key(seed), 1, [10], 4, bias_init=normal, recurrent_init=normal, dtype="float64")
    origin, u, v = -SIDE / 2 * np.ones((2, 1)), np.array([[SIDE], [0.0]]), np.array([[0.0], [SIDE]])
    plane = maso_rnn.partition_plane(rnn, origin, u, v, max_regions=20_000)
    return rnn, maso_rnn.decision_boundary(plane).segments * SIDE - SIDE / 2


def distance_to(segments, point):
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    share = ((point - start) * along).sum(axis=1) / (along**2).sum(axis=1)
    nearest = start + np.clip(share, 0, 1)[:, None] * along
    return np.linalg.norm(nearest - point, axis=1).min(initial=np.inf)
