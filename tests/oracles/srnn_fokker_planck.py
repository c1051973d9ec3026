"""One unit in continuous time, by its density on a grid: no paths and no random numbers.

∂p/∂t = L p + u L₁ p with L p = −∂(drift p) + ½σ² ∂²p and L₁ p = −C ∂p, central differences, Runge–Kutta 4 in time. The
series in the amplitude of u is exact on the grid: p = Σ εⁿ p_n with ∂p_n/∂t = L p_n + u L₁ p_{n−1}.
"""

import numpy as np


class FokkerPlanck:
    def __init__(self, decay, weight, bias, gain, noise, readout, mean, sd, *, half_width=3.0, points=301, drift=None):
        self.x = np.linspace(-half_width, half_width, points)
        dx = self.x[1] - self.x[0]
        derivative = (np.eye(points, k=1) - np.eye(points, k=-1)) / (2 * dx)
        second = (np.eye(points, k=1) - 2 * np.eye(points) + np.eye(points, k=-1)) / dx**2
        rate = -decay * self.x + np.tanh(weight * self.x + bias) if drift is None else drift(self.x)
        self.generator = -derivative * rate + 0.5 * noise**2 * second
        self.push = -gain * derivative
        self.f = readout(self.x)
        self.start = np.exp(-0.5 * ((self.x - mean) / sd) ** 2)
        self.start /= self.start.sum()
        self.dt = 0.2 * dx**2 / noise**2 * 2  # within the stability region of Runge–Kutta 4

    def _advance(self, rate, state, t0, t1):
        steps = max(1, int(np.ceil((t1 - t0) / self.dt)))
        h = (t1 - t0) / steps
        for k in range(steps):
            t = t0 + k * h
            a = rate(t, state)
            b = rate(t + h / 2, state + h / 2 * a)
            c = rate(t + h / 2, state + h / 2 * b)
            d = rate(t + h, state + h * c)
            state = state + h / 6 * (a + 2 * b + 2 * c + d)
        return state

    def response(self, control, t1):
        """E f at t1 under `control`, a function of time."""
        return self.f @ self._advance(
            lambda t, p: self.generator @ p + control(t) * (self.push @ p), self.start, 0.0, t1
        )

    def terms(self, control, t1, order):
        """E f at t1 by orders of the amplitude of `control`, 0 to `order`."""
        series = np.zeros((order + 1, len(self.x)))
        series[0] = self.start

        def rate(t, series):
            lower = np.vstack([np.zeros_like(series[:1]), series[:-1]])
            return series @ self.generator.T + control(t) * (lower @ self.push.T)

        return self._advance(rate, series, 0.0, t1) @ self.f

    def kernel(self, t1, times):
        """The response to an impulse at each of `times` (ascending)."""
        values, p, t = [], self.start, 0.0
        for s in times:
            p = self._advance(lambda _, p: self.generator @ p, p, t, s)
            t = s
            onward = self._advance(lambda _, v: self.generator.T @ v, self.f, s, t1)
            values.append(onward @ (self.push @ p))
        return np.array(values)

    def equal_time_correlation(self, times):
        """The printed kernel: E[f(h_s) (−∇·(C p_s)/p_s)(h_s)], with f at the time of the impulse."""
        values, p, t = [], self.start, 0.0
        for s in times:
            p = self._advance(lambda _, p: self.generator @ p, p, t, s)
            t = s
            values.append(self.f @ (self.push @ p))
        return np.array(values)
