"""Closed forms for the linear model, dh = (−h A + u C) dt + dB σ with f = sin(a·h + φ), in NumPy float64.

Both for continuous time (matrix exponentials) and for the Euler chain of step dt, whose moments are exact sums. With
h Gaussian, E sin = exp(−v/2) sin(m + φ) with m, v the mean and variance of a·h, and the input moves only m.
"""

import functools

import jax.numpy as jnp
import numpy as np
import scipy.linalg

import srnn


class OrnsteinUhlenbeck:
    def __init__(self, decay, inputs, noise, start, weights, phase):
        self.decay, self.inputs, self.noise = (np.asarray(x, float) for x in (decay, inputs, noise))
        self.start, self.weights, self.phase = np.asarray(start, float), np.asarray(weights, float), phase

    def _moments(self, pushes, variance, mean):
        factor = np.exp(-variance / 2)
        first = factor * np.cos(mean + self.phase) * pushes
        second = -factor * np.sin(mean + self.phase) * np.einsum("ki,lj->klij", pushes, pushes)
        return first, second

    def chain(self, t1, dt):
        """First and second kernels (step, input), (step, step, input, input) of the Euler chain."""
        steps = round(t1 / dt)
        one = np.eye(len(self.start)) - dt * self.decay
        after = [np.linalg.matrix_power(one, steps - 1 - k) for k in range(steps)]
        pushes = np.stack([self.inputs @ power @ self.weights for power in after])
        variance = dt * sum(np.sum((self.noise @ power @ self.weights) ** 2) for power in after)
        mean = self.start @ np.linalg.matrix_power(one, steps) @ self.weights
        return self._moments(pushes, variance, mean)

    def flow(self, t1, times):
        """The same in continuous time, for impulses at `times`."""

        def propagate(t):
            return scipy.linalg.expm(-self.decay * t)

        pushes = np.stack([self.inputs @ propagate(t1 - t) @ self.weights for t in times])
        mean = self.start @ propagate(t1) @ self.weights
        return self._moments(pushes, self.weights @ self.covariance(t1) @ self.weights, mean)

    def covariance(self, t1):
        """Of h_t1 in continuous time: ∫ e^{-A's} σ'σ e^{-As} ds by Van Loan's block exponential."""
        n = len(self.start)
        block = np.block([[self.decay.T, self.noise.T @ self.noise], [np.zeros((n, n)), -self.decay]])
        big = scipy.linalg.expm(block * t1)
        return big[n:, n:].T @ big[:n, n:]

    def expectation(self, t1):
        """E f(h_t1) in continuous time, without input."""
        mean = self.start @ scipy.linalg.expm(-self.decay * t1) @ self.weights
        return np.exp(-self.weights @ self.covariance(t1) @ self.weights / 2) * np.sin(mean + self.phase)


@functools.cache
def example():
    """Four units, two inputs, full non-symmetric noise, away from stationarity: model, oracle, readout, start."""
    rng = np.random.default_rng(0)
    decay = 1.5 * np.eye(4) + 0.4 * rng.normal(size=(4, 4))
    inputs, noise = rng.normal(size=(2, 4)), 0.5 * rng.normal(size=(4, 4)) + 0.3 * np.eye(4)
    weights, start = rng.normal(size=4), rng.normal(size=4)
    model = srnn.SRNN(
        jnp.asarray(decay),
        jnp.zeros((4, 4)),
        jnp.zeros(4),
        jnp.asarray(inputs),
        jnp.asarray(noise),
        activation="identity",
    )
    oracle = OrnsteinUhlenbeck(decay, inputs, noise, start, weights, 0.4)
    return model, oracle, functools.partial(_sine, weights=tuple(weights), phase=0.4), jnp.asarray(start)


def _sine(state, *, weights, phase):
    return jnp.sin(state @ jnp.asarray(weights, state.dtype) + phase)
