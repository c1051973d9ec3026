"""The SRNN's paths and kernels against a hand-written scan over the same steps: CPU time and temporary memory."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import srnn
from benchmarks.speed.interleaved import cpu_seconds, ratios
from srnn import response, simulation
from srnn.simulation import Increments
from srnn.statistics import chunks_of

HIDDEN, STEPS, PATHS, DT = 64, 1000, 1024, 0.01
RUN: dict[str, Any] = {"paths": PATHS, "t1": STEPS * DT, "dt": DT}
MIB = 2**20


def setting(*, full: bool) -> tuple[srnn.SRNN, Array]:
    model = srnn.init(jax.random.key(0), 3, HIDDEN, noise_size=HIDDEN if full else None, dtype="float32")
    if full:
        model = dataclasses.replace(model, decay=jnp.diag(model.decay) + 0.0)
    return model, jax.random.normal(jax.random.key(1), (STEPS, 3), "float32")


@functools.partial(jax.jit, static_argnames="full")
def hand_written(model: srnn.SRNN, control: Array, key: Array, *, full: bool) -> Array:
    """What a good hand would write for these kernels, Euler and Gaussian noise."""

    def body(h: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        k, u = now
        db = DT**0.5 * jax.random.normal(jax.random.fold_in(key, k), h.shape, h.dtype)
        noise = db @ model.noise_kernel if full else db * model.noise_kernel
        decayed = h @ model.decay if full else h * model.decay
        rate = jnp.tanh(h @ model.recurrent_kernel + model.bias) - decayed + u @ model.input_kernel
        return h + DT * rate + noise, None

    start = jnp.zeros((PATHS, HIDDEN), "float32")
    return jax.lax.scan(body, start, (jnp.arange(STEPS), control))[0]


def show(benchmark: Any, table: dict[str, dict[str, float]], **extra: Any) -> None:
    benchmark.extra_info.update(programs=table, **extra)
    for name in table.keys() - {"ours"}:
        row = table[name]
        print(f"\nours / {name}: {row['ratio']:.3f} ({row['ratio_low']:.3f} to {row['ratio_high']:.3f}) of CPU time")


@pytest.mark.parametrize(
    ("increments", "full", "limit"),
    [("gaussian", False, 1.1), ("gaussian", True, 1.1), ("two_point", False, 0.4), ("two_point", True, 0.6)],
)
def test_simulate(benchmark: Any, increments: Increments, full: bool, limit: float) -> None:
    model, control = setting(full=full)
    key = jax.random.key(2)

    def ours() -> Array:
        return srnn.simulate(model, control, key=key, increments=increments, **RUN).values

    if increments == "gaussian":
        wanted = hand_written(model, control, key, full=full)
        np.testing.assert_allclose(ours()[:, 0], wanted, atol=2e-5)  # float32, a thousand steps
    programs: dict[str, Callable[[], Array]] = {
        "ours": ours,
        "hand-written Gaussian scan": lambda: hand_written(model, control, key, full=full),
    }
    table = ratios(cpu_seconds(programs, repeats=7), "ours")
    show(benchmark, table)
    benchmark.pedantic(lambda: jax.block_until_ready(ours()), rounds=3, warmup_rounds=1)
    assert table["hand-written Gaussian scan"]["ratio"] <= limit


def test_temporary_memory_of_simulate(benchmark: Any) -> None:
    model, control = setting(full=True)
    grid = simulation.checked_grid(model, t1=RUN["t1"], dt=DT, solver=diffrax.Euler(), increments="gaussian")
    compiled = simulation._paths.lower(
        model,
        control,
        jnp.zeros(HIDDEN, "float32"),
        jax.random.key(2),
        grid=grid,
        paths=PATHS,
        saved=(STEPS,),
        readout=None,
        sharding=None,
    ).compile()
    used = temporary_bytes(compiled)
    benchmark.extra_info["temporary_bytes"] = used
    benchmark.pedantic(lambda: None, rounds=1)
    print(f"\nsimulate: {used / MIB:.2f} MiB of temporary memory")
    assert used < 8 * MIB


def temporary_bytes(compiled: Any) -> int:
    return int(compiled.memory_analysis().temp_size_in_bytes)


def first_activity(state: Array) -> Array:
    return jnp.tanh(state[0])


def test_first_order_kernel(benchmark: Any) -> None:
    """All steps with standard errors, against forward simulations of as many paths."""
    model, _ = setting(full=True)
    key = jax.random.key(2)

    def ours() -> Array:
        return srnn.response_kernel(model, first_activity, key=key, **RUN).values

    programs: dict[str, Callable[[], Array]] = {
        "ours": ours,
        "one forward simulation": lambda: srnn.simulate(model, key=key, **RUN).values,
    }
    table = ratios(cpu_seconds(programs, repeats=5), "ours")
    grid = simulation.checked_grid(model, t1=RUN["t1"], dt=DT, solver=diffrax.Euler(), increments="gaussian")
    chunks = chunks_of(PATHS, response._bytes_per_path(model, grid, STEPS, 1, "adjoint"))
    compiled = response._kernel.lower(
        model,
        jnp.zeros(HIDDEN, "float32"),
        jnp.zeros((STEPS, 3), "float32"),
        key,
        grid=grid,
        chosen=tuple(range(STEPS)),
        readout=first_activity,
        order=1,
        method="adjoint",
        chunks=chunks,
    ).compile()
    used = temporary_bytes(compiled)
    show(benchmark, table, temporary_bytes=used)
    print(f"first-order kernel: {used / MIB:.1f} MiB of temporary memory")
    benchmark.pedantic(lambda: jax.block_until_ready(ours()), rounds=3, warmup_rounds=1)
    assert table["one forward simulation"]["ratio"] <= 5
    assert used <= 64 * MIB
