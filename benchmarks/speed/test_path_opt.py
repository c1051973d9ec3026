"""What one update costs against the gradient it serves: batch 128, time 784, hidden 128."""

import jax
import jax.numpy as jnp
import optax
import pytest

import maso_rnn
import path_opt
from benchmarks.speed.interleaved import cpu_seconds, ratios

BATCH, TIME, HIDDEN = 128, 784, 128


@pytest.fixture(scope="module")
def served():
    """A network, its gradient, and the compiled program that takes it."""
    rnn = maso_rnn.init(jax.random.key(0), 1, [HIDDEN], 10, dtype="float32")
    xs = jax.random.normal(jax.random.key(1), (BATCH, TIME, 1), "float32")
    labels = jnp.arange(BATCH) % 10

    @jax.jit
    def gradient(rnn):
        def loss(rnn):
            outputs = jax.vmap(lambda x: maso_rnn.last_output(rnn, x))(xs)
            return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

        return jax.grad(loss)(rnn)

    return rnn, gradient(rnn), gradient


def second_order(rnn, every):
    return path_opt.path_sgd(
        1e-3, graph=path_opt.reduction_graph(rnn), num_steps=TIME, second_order=True, refresh_every=every
    )


# name: how the transform is made, the steps averaged over, and the largest share of the gradient's CPU time
CASES = {
    "path_space_sgd": (lambda rnn: path_opt.path_space_sgd(1e-3, graph=path_opt.reduction_graph(rnn)), 1, 0.02),
    "path_space_adam": (lambda rnn: path_opt.path_space_adam(1e-3, graph=path_opt.reduction_graph(rnn)), 1, 0.02),
    "equivariant_adam": (lambda rnn: path_opt.equivariant_adam(1e-3, graph=path_opt.reduction_graph(rnn)), 1, 0.02),
    "first order": (
        lambda rnn: path_opt.path_sgd(1e-3, graph=path_opt.reduction_graph(rnn), num_steps=TIME),
        1,
        0.04,
    ),
    # its cost is (hidden, hidden) products, one for each step of time: about hidden / (3 · batch) of the gradient
    "both orders": (lambda rnn: second_order(rnn, 1), 1, 0.30),
    "both orders, every tenth step": (lambda rnn: second_order(rnn, 10), 10, 0.04),
}


@pytest.mark.parametrize("name", CASES)
def test_update_against_its_gradient(benchmark, served, name):
    rnn, gradient, program = served
    make, steps, most = CASES[name]
    transform = make(rnn)
    state, update = transform.init(rnn), jax.jit(transform.update)

    def updates():
        now = state
        for _ in range(steps):
            result, now = update(gradient, now, rnn)
        return result

    table = ratios(cpu_seconds({"update": updates, "gradient": lambda: program(rnn)}, repeats=5), "update")
    share = {quantile: table["gradient"][quantile] / steps for quantile in ("ratio", "ratio_low", "ratio_high")}
    benchmark.extra_info["share_of_gradient"] = share
    print(f"\n{name}: {share['ratio']:.4f} ({share['ratio_low']:.4f} to {share['ratio_high']:.4f}) of the gradient")
    benchmark.pedantic(lambda: jax.block_until_ready(updates()), rounds=3, warmup_rounds=1)
    assert share["ratio"] <= most
