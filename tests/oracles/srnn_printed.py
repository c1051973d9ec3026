"""Formulas as they are printed in Lim (2021), where they are slips: for the tests that show that they fail."""

import numpy as np


def square_domain(first, second, control, dt):
    """The Volterra terms of orders 1 and 2 over the whole interval and square, without 1/n!."""
    push = np.asarray(control) * dt
    return np.array([np.einsum("ki,ki->", first, push), np.einsum("klij,ki,lj->", second, push, push)])


def literal_path(control, basis):
    """The path t ↦ u_t ⊗ ψ(t), (step, input · order): without the integral over time."""
    return np.einsum("ki,km->kim", control, basis).reshape(len(control), -1)
