"""The signature of a batch of 32 paths, and its gradient, against signax's, pysiglib's and tensordev's."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import srnn
from benchmarks.speed.interleaved import Program, best, compare, first_called, installed, jitted
from benchmarks.speed.reach import Bar

INNER = 10  # one forward call takes a millisecond or so: several to each reading of the clock
BATCH = 32
SIZES = [(100, 3, 5), (1000, 3, 4), (1000, 4, 4), (1000, 6, 3), (1000, 6, 4)]
# the most of each one's time
FORWARD = {"signax": 1.0, "pysiglib": {4: 1.4, 6: 1.0}, "tensordev": 1.0}
GRADIENT = {"signax": 1.0, "pysiglib": 1.0, "tensordev": 1.2}


def in_jax(depth: int) -> tuple[dict[str, Callable], list[str]]:
    """Signatures (batch, features) of paths (batch, time, channel), by what is installed; and what is not."""
    modules = {name: installed(name) for name in ("signax", "pysiglib", "tensordev")}
    pysiglib = modules["pysiglib"] and installed("pysiglib.jax_api")

    def by_tensordev(paths):
        levels = modules["tensordev"].path_signature(paths, trunc=depth)[1:]
        return jnp.concatenate([level.reshape(len(paths), -1) for level in levels], axis=1)

    programs = {
        "signax": lambda paths: modules["signax"].signature(paths, depth),
        "pysiglib": lambda paths: pysiglib.sig(paths, depth),
        "tensordev": by_tensordev,
    }
    there = {name: program for name, program in programs.items() if modules[name]}
    return there, [name for name in modules if name not in there]


def walks(length: int, channels: int) -> jax.Array:
    """Random walks, (batch, time, channel), in float32."""
    steps = 0.05 * jax.random.normal(jax.random.key(0), (BATCH, length, channels), "float32")
    return steps.cumsum(axis=1)


def agree(programs: dict[str, Program]) -> None:
    ours = np.asarray(programs["ours"].run())
    for name, program in programs.items():
        # float32, sums of a thousand steps in other orders
        np.testing.assert_allclose(program.run(), ours, atol=5e-5 * np.abs(ours).max(), err_msg=name)


@pytest.mark.parametrize(("length", "channels", "depth"), SIZES)
def test_signature(record, length, channels, depth):
    paths = walks(length, channels)
    others, absent = in_jax(depth)
    ours = jax.vmap(lambda path: srnn.signature(path, depth))
    programs = {name: jitted(function, paths) for name, function in {"ours": ours, **others}.items()}
    if pysiglib := installed("pysiglib"):
        array = np.array(paths)
        programs["pysiglib, of a NumPy array"] = first_called(lambda: pysiglib.sig(array, depth, n_jobs=1))
    agree(programs)

    def repeated(program: Program) -> Program:
        return program._replace(run=lambda: [jax.block_until_ready(program.run()) for _ in range(INNER)])

    table = compare({name: repeated(program) for name, program in programs.items()}, repeats=15)
    most = FORWARD | {"pysiglib": FORWARD["pysiglib"].get(channels)}
    record(
        f"signature of {BATCH} paths, {INNER} times",
        {"length": length, "channel": channels, "depth": depth},
        table,
        [Bar(f"CPU time, against {name}", best(table, name), most[name]) for name in others if most[name]],
        absent,
    )


@pytest.mark.parametrize(("length", "channels", "depth"), SIZES)
def test_gradient(record, length, channels, depth):
    paths = walks(length, channels)
    weights = jax.random.normal(jax.random.key(1), (sum(channels**k for k in range(1, depth + 1)),), "float32")
    others, absent = in_jax(depth)
    functions = {"ours": jax.vmap(lambda path: srnn.signature(path, depth)), **others}

    def gradient(function: Callable) -> Callable:
        return jax.grad(lambda paths: (jnp.tanh(function(paths)) @ weights).sum())

    programs = {name: jitted(gradient(function), paths) for name, function in functions.items()}
    agree(programs)
    table = compare(programs, repeats=15)
    record(
        f"gradient of a loss of the signatures of {BATCH} paths",
        {"length": length, "channel": channels, "depth": depth},
        table,
        [Bar(f"CPU time, against {name}", best(table, name), GRADIENT[name]) for name in others],
        absent,
    )
