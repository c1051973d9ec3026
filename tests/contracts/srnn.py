"""Rows of `srnn`."""

import jax
import jax.numpy as jnp

import srnn
from tests.contracts.table import Row

STEPS, DT = 4, 0.1
TIMES = tuple(k * DT for k in range(STEPS + 1))
OPTIONS = {"t1": STEPS * DT, "dt": DT}


def read(state):
    return jnp.tanh(state).sum() + state[0] ** 2


def _model(key, dtype):
    model = srnn.init(key, 2, 3, noise=0.5, dtype=dtype)
    return model.replace(bias=jnp.linspace(-0.5, 0.8, 3, dtype=dtype))


def _control(key, dtype, *shape):
    return jax.random.normal(jax.random.fold_in(key, 1), (*shape, STEPS, 2), dtype)


def driven(key, dtype):
    """A model, a key and a control."""
    return _model(key, dtype), jax.random.fold_in(key, 2), _control(key, dtype)


def _simulate(model, key, control):
    return srnn.simulate(model, control, key=key, paths=4, save_steps=(2, STEPS), **OPTIONS)


def _kernel(order, method):
    def call(model, key, control):
        options = OPTIONS | {"steps": (0, 3), "order": order, "method": method, "control": control, "compare": False}
        kernel = srnn.response_kernel(model, read, key=key, paths=4, **options)
        return kernel.values, kernel.stderr, kernel.diverged

    return call


def _terms(model, key, control):
    return _beside_one(srnn.volterra_terms(model, read, control, max_order=2, key=key, paths=4, **OPTIONS))


def _fluctuation_dissipation(model, key):
    return _beside_one(srnn.fluctuation_dissipation(model, read, key=key, paths=4, burn_in=DT, **OPTIONS))


def _beside_one(found):
    """A mismatch is in standard errors: rounding is measured against one of them, not against a mismatch near 0."""
    return found._replace(mismatch=1 + found.mismatch)


def _made_kernel(order, weights):
    """A kernel of chosen values, as an argument that has a gradient."""
    steps = jnp.arange(STEPS, dtype=weights.dtype) * DT
    shape = (STEPS, 2) if order == 1 else (STEPS, STEPS, 2, 2)
    values = jnp.exp(-jnp.arange(weights.size, dtype=weights.dtype) * 0.1).reshape(shape) * weights.reshape(shape)
    spread = jnp.full(shape, 0.1, weights.dtype)
    growth, drift = jnp.zeros((), weights.dtype), jnp.zeros(2, weights.dtype)
    return srnn.Kernel(steps, values, spread, STEPS * DT - steps, growth, jnp.asarray(0), drift)


def _kernel_weights(key, dtype):
    first, second = jax.random.split(key)
    return jax.random.normal(first, (STEPS, 2), dtype), jax.random.normal(second, (STEPS, STEPS, 2, 2), dtype)


def _volterra(first, second, control):
    return srnn.volterra([_made_kernel(1, first), _made_kernel(2, second)], control, DT)


def _coefficients(first, second):
    times = jnp.asarray(TIMES, first.dtype)
    return srnn.response_coefficients([_made_kernel(1, first), _made_kernel(2, second)], times, order=1)


def _bound(model, control):
    return srnn.truncation_bound(model, control, dt=DT, order=2, readout_sd=1.5)


def _feature(control):
    return srnn.response_feature(control, jnp.asarray(TIMES, control.dtype), order=1, depth=2)


def _gram(a, b):
    return srnn.response_gram(a, b, jnp.asarray(TIMES, a.dtype))


def _system(key, dtype):
    """A system whose input is added, and one more that enters inside."""
    own = _model(key, dtype)
    params = (own.recurrent_kernel, own.bias)
    return srnn.System(params, _pulled, own.noise_kernel, own.input_kernel)


def _pulled(params, h, u):
    return jnp.tanh(h @ params[0] + params[1] + u.sum()) - h


def driven_system(key, dtype):
    return _system(key, dtype), jax.random.fold_in(key, 2), _control(key, dtype)


def _rate_network(recurrent, inputs, bias):
    return srnn.drift(srnn.from_rate_network(recurrent, inputs, bias, time_constant=2.0, noise=0.3), bias)


def _rate_kernels(key, dtype):
    first, second = jax.random.split(key)
    return (
        jax.random.normal(first, (3, 3), dtype),
        jax.random.normal(second, (2, 3), dtype),
        jnp.linspace(-0.5, 0.8, 3, dtype=dtype),
    )


HOST = {"srnn.memory_timescales": "how many modes there are, and which of them oscillate, is found out, in NumPy"}

ROWS = (
    Row(
        srnn.init,
        lambda key, dtype: (key, jnp.ones((), dtype)),
        call=lambda key, one: srnn.init(key, 2, 3, dtype=one.dtype),
        batched=(0,),
        gradient=None,
        why="a draw has no gradient in its key",
    ),
    Row(srnn.drift, lambda key, dtype: (_model(key, dtype), _control(key, dtype) @ jnp.ones((2, 3), dtype))),
    Row(srnn.from_rate_network, _rate_kernels, call=_rate_network, batched=(0,)),
    Row(srnn.simulate, driven, call=_simulate),
    Row(srnn.simulate, driven_system, call=_simulate, case="system"),
    *(
        Row(srnn.response_kernel, driven, call=_kernel(order, method), case=f"{method} {order}", tolerance=1e-10)
        for method in ("adjoint", "tangent", "malliavin")
        for order in (1, 2)
    ),
    Row(srnn.response_kernel, driven_system, call=_kernel(1, "adjoint"), case="system", tolerance=1e-10),
    Row(srnn.volterra_terms, driven, call=_terms),
    Row(srnn.volterra, lambda key, dtype: (*_kernel_weights(key, dtype), _control(key, dtype)), call=_volterra),
    Row(srnn.truncation_bound, lambda key, dtype: (_model(key, dtype), _control(key, dtype)), call=_bound),
    Row(
        srnn.fluctuation_dissipation,
        lambda key, dtype: (_model(key, dtype), jax.random.fold_in(key, 2)),
        call=_fluctuation_dissipation,
        batched=(1,),
    ),
    Row(
        srnn.signature,
        lambda key, dtype: (jax.random.normal(key, (5, 2), dtype),),
        call=lambda path: srnn.signature(path, 3),
    ),
    Row(srnn.response_feature, lambda key, dtype: (_control(key, dtype),), call=_feature),
    Row(srnn.response_coefficients, _kernel_weights, call=_coefficients, batched=(0, 1)),
    Row(
        srnn.response_gram,
        lambda key, dtype: (_control(key, dtype, 3), _control(jax.random.fold_in(key, 3), dtype, 2)),
        call=_gram,
    ),
)
