"""Exact walks against dense sampling, their cost, and all maps along one by low-rank updates."""

import time
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import maso_rnn
from benchmarks.speed.interleaved import cpu_seconds, ratios

SAMPLES = 10_000
SIZES = [(25, 64), (50, 64), (100, 64), (50, 32), (50, 128), (100, 128)]  # (time, hidden)


@pytest.fixture(autouse=True)
def one_thread():
    """NumPy's products on one core: threads that wait for each other would be counted as work."""
    with threadpool_limits(1, "blas"):
        yield


@pytest.fixture(autouse=True)
def float64():
    """The dtype of the walks, for all that they are compared to."""
    with jax.enable_x64(True):
        yield


def network_and_ends(steps, hidden, outputs=10):
    rnn = maso_rnn.init(
        jax.random.key(0), 1, [hidden], outputs, bias_init=jax.nn.initializers.normal(0.1), dtype="float64"
    )
    start, stop = jax.random.normal(jax.random.key(1), (2, steps, 1), "float64")
    return rnn, start, stop


def sampler(rnn, start, stop):
    """What the walk returns, by evenly spaced points: codes where they change along the line, and outputs."""

    @jax.jit
    def run(places):
        def one(s):
            run = maso_rnn.trajectory(rnn, start + s * (stop - start))
            return maso_rnn.pack(run.codes), run.outputs[-1]

        return jax.lax.map(one, places, batch_size=256)

    places = (jnp.arange(SAMPLES, dtype=start.dtype) + 0.5) / SAMPLES

    def codes():
        found = np.asarray(run(places)[0])
        return found[np.concatenate([[True], (found[1:] != found[:-1]).any(axis=1)])]

    return codes


@pytest.mark.parametrize(("steps", "hidden"), SIZES)
def test_walk_is_faster_and_more_complete_than_samples(benchmark, steps, hidden):
    rnn, start, stop = network_and_ends(steps, hidden)
    sample = sampler(rnn, start, stop)

    def walk():
        return maso_rnn.walk_line(rnn, start, stop, max_regions=100_000).codes

    pieces, seen = len(walk()), len(sample())
    table = ratios(cpu_seconds({"ours": walk, "samples": sample}, repeats=5), "ours")
    ours = table["ours"]["median_cpu_seconds"]
    benchmark.extra_info |= {"programs": table, "pieces": pieces, "pieces_that_samples_see": seen}
    print(
        f"\ntime {steps}, hidden {hidden}: {pieces} pieces in {ours:.3f} s of CPU; {SAMPLES} samples see {seen} in "
        f"{table['samples']['median_cpu_seconds']:.3f} s; ours / samples {table['samples']['ratio']:.3f}"
    )
    benchmark.pedantic(walk, rounds=3, warmup_rounds=1)
    assert seen < pieces
    assert table["samples"]["ratio"] < 1
    if (steps, hidden) == (100, 128):
        assert ours < 1


def test_cost_and_memory_as_time_and_hidden_grow(benchmark):
    """Least-squares fits of log cost = a log time + b log hidden + c, for pieces, CPU seconds and peak memory."""
    rows = []
    for steps, hidden in SIZES:
        rnn, start, stop = network_and_ends(steps, hidden)
        spent = []
        for _ in range(3):
            began = time.process_time()
            walk = maso_rnn.walk_line(rnn, start, stop, max_regions=100_000)
            spent.append(time.process_time() - began)
        tracemalloc.start()
        maso_rnn.walk_line(rnn, start, stop, max_regions=100_000)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows.append((steps, hidden, walk.pieces, min(spent), peak))
    table = np.log(np.asarray(rows, float))
    design = np.column_stack([table[:, :2], np.ones(len(table))])
    for column, name in enumerate(("pieces", "cpu_seconds", "peak_bytes"), start=2):
        power, *_ = np.linalg.lstsq(design, table[:, column], rcond=None)
        benchmark.extra_info[name] = {"time": power[0], "hidden": power[1]}
        print(f"\n{name} grow as time^{power[0]:.2f} hidden^{power[1]:.2f}")
    benchmark.extra_info["rows"] = rows
    benchmark.pedantic(lambda: maso_rnn.walk_line(rnn, start, stop, max_regions=100_000), rounds=1)
    # pieces grow at most as the number of units and steps, the work as pieces · time · hidden²
    assert benchmark.extra_info["cpu_seconds"]["time"] < 3
    assert benchmark.extra_info["cpu_seconds"]["hidden"] < 4


def test_maps_along_a_walk(benchmark):
    rnn, start, stop = network_and_ends(100, 128)
    walk = maso_rnn.walk_line(rnn, start, stop, max_regions=100_000)
    middles = np.convolve(np.concatenate([[0.0], walk.breakpoints, [1.0]]), [0.5, 0.5], "valid")
    xs = start + jnp.asarray(middles)[:, None, None] * (stop - start)

    def updates():
        return maso_rnn.affine_maps_along(rnn, walk)

    @jax.jit
    def afresh(xs):
        def one(x):
            affine = maso_rnn.affine_map(rnn, x)
            return affine.slope, affine.initial_slope, affine.offset

        return jax.lax.map(one, xs, batch_size=256)

    found, wanted = updates(), afresh(xs)
    drift = max(
        float(np.abs(found.slope - wanted[0]).max()),
        float(np.abs(found.initial_slope[0] - wanted[1][0]).max()),
        float(np.abs(found.offset - wanted[2]).max()),
    )
    table = ratios(cpu_seconds({"ours": updates, "vmap(affine_map)": lambda: afresh(xs)}, repeats=5), "ours")
    ratio = table["vmap(affine_map)"]["ratio"]
    benchmark.extra_info |= {"programs": table, "pieces": walk.pieces, "drift": drift}
    print(f"\n{walk.pieces} maps: ours / vmap(affine_map) {ratio:.3f} of CPU time, drift {drift:.1e}")
    benchmark.pedantic(updates, rounds=2, warmup_rounds=1)
    assert drift < 1e-9
    assert ratio < 1 / 2.5


def test_plane(benchmark):
    rnn = maso_rnn.init(jax.random.key(0), 1, [64], 10, bias_init=jax.nn.initializers.normal(0.1), dtype="float32")
    origin, u, v = np.asarray(jax.random.normal(jax.random.key(1), (3, 28, 1)), np.float64)

    def cut():
        return maso_rnn.partition_plane(rnn, origin, 0.35 * u, 0.35 * v, max_regions=100_000)

    plane = cut()
    seconds = cpu_seconds({"ours": cut}, repeats=3)["ours"]
    benchmark.extra_info |= {"pieces": len(plane.codes), "cpu_seconds": float(np.median(seconds))}
    print(f"\n{len(plane.codes)} polygons in {np.median(seconds):.2f} s of CPU")
    benchmark.pedantic(cut, rounds=1)
    assert not plane.overflow
    assert abs(plane.areas.sum() - 1) < 1e-9
