"""A second eager call with inputs of the same shapes compiles nothing, whatever functions it is given anew."""

import jax
import jax.numpy as jnp
import pytest

import srnn

RUN = {"t1": 0.3, "dt": 0.1, "paths": 4}
COMPILED = "/jax/core/compile/backend_compile_duration"


def calls(round):
    """Every function of paths, with new arrays and new function objects that do the same in each round."""
    key = jax.random.key(round)
    scale = jnp.asarray(1.0 + 0.5 * round)  # a number that Python knows would be part of the program
    model = srnn.init(key, 1, 3, noise=0.5, activation=lambda p: jnp.tanh(p))
    system = srnn.System(scale, lambda params, h, u: u - params * h, 0.5 * jnp.ones(3))
    control = scale * jnp.ones((3, 1))

    def read(h):
        return scale * h[0]

    run = RUN | {"key": key}
    return {
        "drift": lambda: srnn.drift(model, jnp.ones(3)),
        "fluctuation_dissipation": lambda: srnn.fluctuation_dissipation(model, read, burn_in=0.1, **run),
        "from_rate_network": lambda: srnn.simulate(
            srnn.from_rate_network(scale * jnp.eye(3), jnp.ones((1, 3)), jnp.zeros(3), noise=0.1), control, **run
        ),
        "init": lambda: srnn.init(key, 1, 3),
        "response_kernel": lambda: srnn.response_kernel(system, read, **run),
        "simulate": lambda: srnn.simulate(model, lambda t: jnp.sin(t)[None] * scale, readout=read, **run),
        "truncation_bound": lambda: srnn.truncation_bound(model, control, dt=0.1, order=2, readout_sd=scale),
        "volterra": lambda: srnn.volterra(kernel(round), control, 0.1),
        "volterra_terms": lambda: srnn.volterra_terms(system, read, control, max_order=2, **run),
    }


def kernel(round):
    steps = 0.1 * jnp.arange(3)
    values = jnp.full((3, 1), 1.0 + round)
    return srnn.Kernel(steps, values, values, 0.3 - steps, jnp.ones(()), jnp.asarray(0), jnp.zeros(2))


@pytest.mark.parametrize("name", sorted(calls(0)))
def test_nothing_is_compiled_twice(name):
    jax.block_until_ready(calls(0)[name]())
    again = calls(1)[name]
    count = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *args, **kwargs: count.append(event))
    try:
        jax.block_until_ready(again())
    finally:
        jax.monitoring.clear_event_listeners()
    assert COMPILED not in count
