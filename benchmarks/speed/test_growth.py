"""How time and memory grow with the work: exponents fitted on a log scale, beside those expected.

An exponent may be as expected or lower (what a call costs however small the work is flattens it), and at most `SLACK`
above. Time is the least CPU seconds of three runs. Memory is XLA's temporary memory, or of a host function what NumPy
asks for, and its first point is left out: the smallest programs are dominated by what every program needs.
"""

import dataclasses
import functools
import tracemalloc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
import path_opt
import srnn
from benchmarks.speed.interleaved import cpu_seconds, jitted
from benchmarks.speed.reach import Bar

SLACK = 0.25
KEY = jax.random.key(0)


def network(hidden, layers, outputs, inputs=1):
    bias = jax.nn.initializers.normal(0.1)
    return maso_rnn.init(KEY, inputs, [hidden] * layers, outputs, bias_init=bias, dtype="float32")


def batched(function, *, batch, time, hidden, outputs=10, layers=1, inputs=1):
    xs = jax.random.normal(jax.random.key(1), (batch, time, inputs), "float32")
    return jitted(jax.vmap(function, (None, 0)), network(hidden, layers, outputs, inputs), xs)


def walked(*, time, hidden):
    rnn = network(hidden, 1, 10)
    start, stop = np.asarray(jax.random.normal(jax.random.key(1), (2, time, 1)), np.float64)
    return functools.partial(maso_rnn.walk_line, rnn, start, stop, max_regions=100_000)


def normed(*, time, hidden, layers=1, outputs=10):
    rnn = network(hidden, layers, outputs)
    graph = path_opt.reduction_graph(rnn)
    return jitted(lambda rnn: path_opt.path_norm(rnn, graph, time, log=True), rnn)


def simulated(*, paths, steps, hidden):
    model = srnn.init(KEY, 2, hidden, dtype="float32")
    return jitted(lambda key: srnn.simulate(model, key=key, paths=paths, t1=0.01 * steps, dt=0.01).values, KEY)


def responded(*, paths, steps, hidden, order=1):
    model = srnn.init(KEY, 2, hidden, dtype="float32")
    run = {"t1": 0.01 * steps, "dt": 0.01, "paths": paths, "order": order}
    return jitted(lambda key: srnn.response_kernel(model, lambda h: jnp.tanh(h[0]), key=key, **run).values, KEY)


def signed(*, time, channels, depth):
    paths = jax.random.normal(KEY, (64, time, channels), "float32")
    return jitted(jax.vmap(lambda path: srnn.signature(path, depth)), paths)


@dataclasses.dataclass(frozen=True)
class Growth:
    """One function along one axis.

    Attributes:
        make: from sizes to the program.
        at: the sizes that stay.
        along: the size that grows.
        sizes: its values.
        time: the exponent of CPU time expected; with several pieces, of the cost of a piece.
        memory: of memory; None where it isn't a question.
    """

    make: Callable[..., Any]
    at: dict[str, int]
    along: str
    sizes: tuple[int, ...]
    time: float
    memory: float | None = None


AFFINE = functools.partial(batched, maso_rnn.affine_map)
FORWARD = functools.partial(batched, maso_rnn.forward)
DISTANCE = functools.partial(batched, maso_rnn.boundary_distance)
NET = {"batch": 16, "time": 200, "hidden": 64}
BOUNDS = functools.partial(batched, lambda rnn, xs: maso_rnn.output_bounds(rnn, xs, 0.01))
LONG, WIDE, DEEP = (100, 200, 400, 800), (32, 64, 128, 256), (1, 2, 4)

GROWTHS = {
    "affine_map": [
        Growth(AFFINE, NET, "time", LONG, 1, 1),
        Growth(AFFINE, NET, "hidden", WIDE, 2, 1),
        Growth(AFFINE, NET, "outputs", (4, 8, 16, 32), 1, 1),
        Growth(AFFINE, NET, "batch", (4, 16, 64), 1, 1),
        Growth(AFFINE, NET | {"inputs": 64}, "layers", DEEP, 1, 1),  # the first layer as wide as the others
    ],
    "boundary_distance": [
        # the Gram matrix, of the joint state of all layers
        Growth(DISTANCE, {"batch": 1, "hidden": 32}, "time", LONG, 1, 0),
        Growth(DISTANCE, {"batch": 1, "time": 600}, "hidden", WIDE, 3, 2),
        Growth(DISTANCE, {"batch": 1, "time": 600, "hidden": 32}, "layers", DEEP, 3, 2),
        # the gradients themselves, of sequences that are short for the network
        Growth(DISTANCE, {"batch": 1, "hidden": 256}, "time", (50, 100, 200, 400), 2, 1),
        Growth(DISTANCE, {"batch": 1, "time": 50, "hidden": 64}, "layers", DEEP, 1, 1),
        Growth(DISTANCE, {"time": 100, "hidden": 32}, "batch", (4, 16, 64), 1, 1),
    ],
    "forward": [
        Growth(FORWARD, NET, "time", LONG, 1, 1),
        Growth(FORWARD, NET, "hidden", WIDE, 2, 1),
        Growth(FORWARD, NET, "batch", (4, 16, 64), 1, 1),
        Growth(FORWARD, NET | {"inputs": 64}, "layers", DEEP, 1, 1),
    ],
    "walk_line": [
        # of a piece: the steps after the one that it is born in, at hidden² each; memory holds all states of a step
        Growth(walked, {"hidden": 64}, "time", (25, 50, 100, 200), 1),
        Growth(walked, {"time": 50}, "hidden", (32, 64, 128), 2),
    ],
    "output_bounds": [
        # forms of all units of a step, carried back through all steps before it
        Growth(BOUNDS, {"batch": 1, "hidden": 64}, "time", (16, 32, 64, 128), 2, 1),
        Growth(BOUNDS, {"batch": 1, "time": 24}, "hidden", WIDE, 3, 2),
    ],
    "simulate": [
        Growth(simulated, {"paths": 256, "hidden": 32}, "steps", LONG, 1, 0),
        Growth(simulated, {"steps": 200, "hidden": 32}, "paths", (256, 512, 1024, 2048), 1, 1),
        Growth(simulated, {"steps": 200, "paths": 256}, "hidden", WIDE, 2, 1),
    ],
    "response_kernel": [
        Growth(responded, {"paths": 256, "hidden": 32}, "steps", LONG, 1, 1),
        # paths run in chunks that keep memory below a bound
        Growth(responded, {"steps": 200, "hidden": 32}, "paths", (256, 512, 1024, 2048), 1, 0),
        Growth(responded, {"steps": 200, "paths": 256}, "hidden", WIDE, 2, 1),
        # every pair of steps
        Growth(responded, {"paths": 64, "hidden": 8, "order": 2}, "steps", (10, 20, 40), 2, 2),
    ],
    "signature": [
        # memory holds the increments of the path
        Growth(signed, {"channels": 4, "depth": 4}, "time", LONG, 1, 1),
        Growth(signed, {"time": 100, "depth": 3}, "channels", (4, 8, 16), 3, 3),
        Growth(signed, {"time": 100, "channels": 4}, "depth", (3, 4, 5, 6), 1, 1),
    ],
    "path_norm": [
        # the states of every step, laid out for the backward pass of Path-SGD
        Growth(normed, {"hidden": 128}, "time", LONG, 1, 1),
        Growth(normed, {"time": 100}, "hidden", (128, 256, 512), 2, 2),
        Growth(normed, {"time": 100, "hidden": 128}, "layers", DEEP, 1, 1),
        Growth(normed, {"time": 400, "hidden": 128}, "outputs", (10, 40, 160), 1, 0),
    ],
}


def exponent(sizes, costs):
    """The least-squares slope of log cost over log size."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def peak_bytes(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("name", "growth"),
    [pytest.param(name, growth, id=f"{name}-{growth.along}") for name, all in GROWTHS.items() for growth in all],
)
def test_growth(record, name, growth):
    programs = [growth.make(**growth.at | {growth.along: size}) for size in growth.sizes]
    calls = {str(size): getattr(program, "run", program) for size, program in zip(growth.sizes, programs, strict=True)}
    seconds = [float(spent.min()) for spent in cpu_seconds(calls, repeats=3).values()]
    sizes, axis = np.asarray(growth.sizes, float), growth.along
    if name == "signature" and axis == "depth":
        sizes, axis = (
            np.array([sum(4.0**k for k in range(1, depth + 1)) for depth in growth.sizes]),
            "features, by depth",
        )
    facts = {"sizes": sizes.tolist(), "seconds": seconds}
    if name == "walk_line":
        facts["pieces"] = [call().pieces for call in calls.values()]
        facts["bytes"] = [peak_bytes(call) for call in calls.values()]
        facts["time"] = exponent(sizes, np.divide(seconds, facts["pieces"]))
    else:
        facts["bytes"] = [program.temporary_bytes for program in programs]
        facts["time"] = exponent(sizes, seconds)
    facts["memory"] = exponent(sizes[1:], np.maximum(facts["bytes"][1:], 1))
    bars = [Bar(f"exponent of CPU time in {axis}", facts["time"], growth.time + SLACK)]
    if growth.memory is not None:
        bars.append(Bar(f"exponent of memory in {axis}", facts["memory"], growth.memory + SLACK))
    facts["expected"] = {"time": growth.time, "memory": growth.memory}
    record(
        f"growth of {name}",
        {"along": axis} | {one: at for one, at in growth.at.items() if one != axis},
        {},
        bars,
        **facts,
    )
