"""Closed forms for the linear model, dh = (−h A + u C) dt + dB σ with f = sin(a·h + φ), in NumPy float64.

Both for continuous time (matrix exponentials) and for the Euler chain of step dt, whose moments are exact sums. With
h Gaussian, E sin = exp(−v/2) sin(m + φ) with m, v the mean and variance of a·h, and the input moves only m.
"""

import numpy as np
import scipy.linalg


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
        # ∫ |σ e^{-As} a|² ds by Van Loan's block exponential
        n = len(self.start)
        source = self.noise.T @ self.noise
        block = np.block([[self.decay.T, source], [np.zeros((n, n)), -self.decay]])
        big = scipy.linalg.expm(block * t1)
        covariance = big[n:, n:].T @ big[:n, n:]
        mean = self.start @ propagate(t1) @ self.weights
        return self._moments(pushes, self.weights @ covariance @ self.weights, mean)
