"""What one update costs against the gradient it serves, beside optax's own SGD and Adam."""

import jax
import jax.numpy as jnp
import optax
import pytest

import maso_rnn
import path_opt
from benchmarks.speed.interleaved import Program, cpu_seconds, first_called, jitted, ratios
from benchmarks.speed.reach import Bar

BATCH, TIME, HIDDEN = 128, 784, 128
INNER = 10  # updates to each reading of the clock


def path_sgd(graph, **settings):
    return path_opt.path_sgd(1e-3, graph=graph, num_steps=TIME, **settings)


# name: the transform, and the largest share of the gradient's CPU time
CASES = {
    "path_space_sgd": (lambda graph: path_opt.path_space_sgd(1e-3, graph=graph), 0.005),
    "path_space_adam": (lambda graph: path_opt.path_space_adam(1e-3, graph=graph), 0.005),
    "equivariant_adam": (lambda graph: path_opt.equivariant_adam(1e-3, graph=graph), 0.02),
    "path_sgd, κ¹": (path_sgd, 0.02),
    # its cost is (hidden, hidden) products, one for each step of time: about hidden / (3 · batch) of the gradient
    "path_sgd, κ¹ + κ²": (lambda graph: path_sgd(graph, second_order=True), 0.30),
    "path_sgd, κ¹ + κ² every tenth step": (lambda graph: path_sgd(graph, second_order=True, refresh_every=10), 0.04),
}
OPTAX = {"optax.sgd": lambda graph: optax.sgd(1e-3), "optax.adam": lambda graph: optax.adam(1e-3)}


@pytest.fixture(scope="module")
def measured():
    """Seconds of ten updates by each transform, and of the gradient, all interleaved; and the programs."""
    rnn = maso_rnn.init(jax.random.key(0), 1, [HIDDEN], 10, dtype="float32")
    xs = jax.random.normal(jax.random.key(1), (BATCH, TIME, 1), "float32")
    labels = jnp.arange(BATCH) % 10

    @jax.grad
    def gradient(rnn):
        outputs = jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

    programs = {"gradient": jitted(gradient, rnn)}
    found, graph = programs["gradient"].run(), path_opt.reduction_graph(rnn)
    for name, make in (OPTAX | {name: make for name, (make, _) in CASES.items()}).items():
        programs[name] = updates(make(graph), found, rnn)
    return programs, cpu_seconds({name: program.run for name, program in programs.items()}, repeats=5)


def updates(transform, gradient, rnn):
    """Ten updates in a row: a refresh every tenth step comes once."""
    state, update = transform.init(rnn), jax.jit(transform.update)

    def run():
        now = state
        for _ in range(INNER):
            result, now = update(gradient, now, rnn)
        return result

    one = jitted(transform.update, gradient, state, rnn)
    return Program(first_called(run).run, one.first_seconds, one.temporary_bytes)


@pytest.mark.parametrize("name", CASES)
def test_update_against_its_gradient(record, measured, name):
    programs, seconds = measured
    shown = (name, *OPTAX, "gradient")
    table = ratios({one: seconds[one] / (1 if one == "gradient" else INNER) for one in shown}, name)
    for one in shown:
        table[one] |= {
            "first_seconds": programs[one].first_seconds,
            "temporary_bytes": programs[one].temporary_bytes,
        }
    record(
        f"one update: {name}",
        {"batch": BATCH, "time": TIME, "hidden": HIDDEN},
        table,
        [Bar("CPU time, against the gradient", table["gradient"]["ratio"], CASES[name][1])],
    )
