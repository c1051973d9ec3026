"""Rows of `maso_rnn.dynamics`."""

import jax
import jax.numpy as jnp

import maso_rnn
from tests.contracts.network import sequence
from tests.contracts.table import Row

HIDDEN = 4


def kernel(key, dtype):
    """Random, so that all eigenvalues are simple and can be differentiated."""
    return 0.5 * jax.random.normal(key, (HIDDEN, HIDDEN), dtype)


def _step(h, x):
    return jnp.tanh(h @ jnp.asarray(kernel(jax.random.key(3), h.dtype)) + 0.3 * x.sum())


def _state_and_inputs(key, dtype):
    return 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (HIDDEN,), dtype), sequence(key, dtype)


def _differentiable(found):
    """Real and imaginary parts; without the eigenvectors' condition, which is taken as a constant."""
    fields = found._replace(condition=None, defective=None)
    return fields._replace(eigenvalues=_parts(found.eigenvalues))


def _parts(values):
    return jnp.stack([values.real, values.imag])


def _pulse(matrix, state, inputs):
    return maso_rnn.pulse_decay(lambda h, x: jnp.tanh(h @ matrix + x.sum()), matrix, state, inputs)


def _exponents(key, dtype):
    """Some positive, and more negative, so that the dimension is between them."""
    return jnp.asarray([0.5, 0.2, -1.0, -2.0], dtype) + 0.1 * jax.random.uniform(key, (4,), dtype)


ROWS = (
    Row(
        maso_rnn.spectrum,
        lambda key, dtype: (kernel(key, dtype),),
        call=lambda matrix: _differentiable(maso_rnn.spectrum(matrix, steps=5)),
    ),
    Row(
        maso_rnn.modal_coordinates,
        lambda key, dtype: (kernel(jax.random.key(3), dtype), jax.random.normal(key, (3, HIDDEN), dtype)),
        call=lambda matrix, states: _parts(maso_rnn.modal_coordinates(states, matrix)),
        gradient=1,
        why="the phase of an eigenvector is arbitrary: the derivative is in the states",
    ),
    Row(
        maso_rnn.jacobian_spectra,
        _state_and_inputs,
        call=lambda state, inputs: maso_rnn.jacobian_spectra(_step, state, inputs[:3])._replace(log_eigenvalues=None),
        batched=(0, 1),
        tolerance=1e-9,  # the smallest singular value of a product, relative to the largest
    ),
    Row(
        maso_rnn.lyapunov_exponents,
        _state_and_inputs,
        call=lambda state, inputs: maso_rnn.lyapunov_exponents(_step, state, inputs, warmup=1),
        batched=(0, 1),
    ),
    Row(
        maso_rnn.lyapunov_exponents,
        _state_and_inputs,
        call=lambda state, inputs: maso_rnn.lyapunov_exponents(_step, state, inputs, warmup=1, count=2),
        batched=(0, 1),
        case="count",
    ),
    Row(maso_rnn.kaplan_yorke_dimension, lambda key, dtype: (_exponents(key, dtype),)),
    Row(maso_rnn.entropy_bound, lambda key, dtype: (_exponents(key, dtype),)),
    Row(
        maso_rnn.sample_states,
        lambda key, dtype: (key, jax.random.normal(jax.random.fold_in(key, 1), (3, 5, HIDDEN), dtype)),
        call=lambda key, states: maso_rnn.sample_states(key, states, 4, noise=0.1),
        batched=(0, 1),
        gradient=1,
        why="the derivative is in the states",
    ),
    Row(
        maso_rnn.pulse_decay,
        lambda key, dtype: (kernel(key, dtype), *_state_and_inputs(key, dtype)),
        call=lambda matrix, state, inputs: _pulse(matrix, state, inputs)._replace(eigenvalues=None),
        batched=(0, 1, 2),
        gradient=None,
        tolerance=1e-9,  # eigenvectors, magnified by their condition
        why="which steps count is a comparison, and the phase of an eigenvector is arbitrary",
    ),
)

HOST = {
    "maso_rnn.all_fixed_points": "NumPy inside; how many points there are is known only after the search",
    "maso_rnn.cycles": "how many cycles there are is known only after the search; refuses tracers",
    "maso_rnn.fixed_points_along": "calls fixed_points for all inputs on a line",
    "maso_rnn.fixed_points": "how many points there are is known only after the search; refuses tracers",
    "maso_rnn.recurrent_kernels": "looks arrays up in a cell and splits them",
    "maso_rnn.spectra": "calls spectrum for each kernel that it looks up in a cell",
    "maso_rnn.spectrum_table": "makes text",
}
