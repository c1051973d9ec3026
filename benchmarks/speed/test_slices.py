"""Exact walks against dense sampling, planes, and what they answer: maps, attributions, decisions, nearby changes."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks.speed.digits import digits, trained
from benchmarks.speed.interleaved import best, compare, first_called, jitted
from benchmarks.speed.reach import Bar

SAMPLES = 10_000


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
    """What the walk returns, by evenly spaced points: codes where they change along the line, and outputs.

    By the scan that a good hand would write for this one layer, over as many points as stay in the processor's cache.
    """
    layer, at_once = rnn.layers[0], 250

    @jax.jit
    def run(places):
        def some(places):
            def body(h, now):
                start, stop = now
                x = start + places[:, None] * (stop - start)
                p = x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias
                return jax.nn.relu(p), jnp.packbits(p > 0, axis=-1)

            h, codes = jax.lax.scan(body, jnp.zeros((at_once, len(layer.bias)), start.dtype), (start, stop))
            return codes.swapaxes(0, 1).reshape(at_once, -1), h @ rnn.readout.kernel + rnn.readout.bias

        return jax.tree.map(jnp.concatenate, jax.lax.map(some, places.reshape(-1, at_once)))

    places = (jnp.arange(SAMPLES, dtype=start.dtype) + 0.5) / SAMPLES

    def codes():
        found = np.asarray(run(places)[0])
        return found[np.concatenate([[True], (found[1:] != found[:-1]).any(axis=1)])]

    return codes


@pytest.mark.parametrize(("steps", "hidden"), [(25, 64), (100, 64), (50, 128), (100, 128)])
def test_walk_is_faster_and_more_complete_than_samples(record, steps, hidden):
    rnn, start, stop = network_and_ends(steps, hidden)

    def walk():
        return maso_rnn.walk_line(rnn, start, stop, max_regions=100_000).codes

    programs = {"ours": first_called(walk), f"{SAMPLES:,} samples": first_called(sampler(rnn, start, stop))}
    codes, sampled = (program.run() for program in programs.values())
    pieces, strangers = len(codes), set(map(bytes, sampled)) - set(map(bytes, codes))
    assert len(strangers) <= 0.001 * SAMPLES  # points on a wall, to rounding
    table = compare(programs, repeats=5)
    bars = [Bar("CPU time, against dense sampling", best(table), 1.0)]
    if (steps, hidden) == (100, 128):
        bars.append(Bar("CPU time (s)", table["ours"]["median_cpu_seconds"], 0.5))
    seen = {"pieces": pieces, "pieces that samples see": len(sampled)}
    record("walk along a line", {"time": steps, "hidden": hidden}, table, bars, **seen)


def test_a_piece_of_a_long_walk_costs_as_much_more_as_it_has_steps(record):
    lines = {steps: network_and_ends(steps, 128) for steps in (100, 784)}
    pieces = {}

    def seconds(steps):
        began = time.process_time()
        walk = maso_rnn.walk_line(*lines[steps], max_regions=1_000_000)
        assert not walk.overflow
        pieces[steps] = walk.pieces
        return time.process_time() - began

    # in turn: the machine is not as fast at all times
    spent = np.array([[np.median([seconds(100) for _ in range(5)]), seconds(784)] for _ in range(3)])
    growth = float(np.median(spent[:, 1] / spent[:, 0])) * pieces[100] / pieces[784]
    record(
        "cost of a piece of a long walk",
        {"hidden": 128, "time": 784, "against time": 100},
        {},
        [Bar("CPU time of a piece and step, against 100 steps", growth / 7.84, 1.0)],
        **{f"pieces at {steps} steps": count for steps, count in pieces.items()},
        **dict(zip(("CPU time at 100 steps (s)", "CPU time at 784 steps (s)"), np.median(spent, axis=0), strict=True)),
    )


def test_maps_along_a_walk(record):
    rnn, start, stop = network_and_ends(100, 128)
    walk = maso_rnn.walk_line(rnn, start, stop, max_regions=100_000)
    middles = np.convolve(np.concatenate([[0.0], walk.breakpoints, [1.0]]), [0.5, 0.5], "valid")
    xs = start + jnp.asarray(middles)[:, None, None] * (stop - start)

    def afresh(xs):
        def one(x):
            affine = maso_rnn.affine_map(rnn, x)
            return affine.slope, affine.initial_slope, affine.offset

        return jax.lax.map(one, xs, batch_size=256)

    programs = {
        "ours": first_called(lambda: maso_rnn.affine_maps_along(rnn, walk)),
        "vmap(affine_map)": jitted(afresh, xs),
    }
    found, wanted = (program.run() for program in programs.values())
    drift = max(
        float(np.abs(found.slope - wanted[0]).max()),
        float(np.abs(found.initial_slope[0] - wanted[1][0]).max()),
        float(np.abs(found.offset - wanted[2]).max()),
    )
    assert drift < 1e-9
    table = compare(programs, repeats=3)
    record(
        "all maps along a walk",
        {"time": 100, "hidden": 128},
        table,
        [Bar("CPU time, against each map afresh", best(table), 1 / 2.5)],
        pieces=walk.pieces,
        drift=drift,
    )


def test_plane(record):
    rnn = maso_rnn.init(jax.random.key(0), 1, [64], 10, bias_init=jax.nn.initializers.normal(0.1), dtype="float32")
    origin, u, v = np.asarray(jax.random.normal(jax.random.key(1), (3, 28, 1)), np.float64)

    def cut():
        return maso_rnn.partition_plane(rnn, origin, 0.2 * u, 0.2 * v, max_regions=100_000)

    plane = cut()
    assert not plane.overflow
    assert abs(plane.areas.sum() - 1) < 1e-9
    table = compare({"ours": first_called(cut)}, repeats=3)
    record(
        "partition of a plane",
        {"time": 28, "hidden": 64},
        table,
        [
            Bar("CPU time (s)", table["ours"]["median_cpu_seconds"], 2.0),
            Bar("10,000 polygons, against those found", 10_000 / len(plane.codes), 1.0),
        ],
        polygons=len(plane.codes),
    )


def trained_digits():
    """A network trained on digits, a row of pixels a step, and two of them."""
    xs, labels = digits(8, "float64")
    rnn = maso_rnn.init(jax.random.key(0), 8, [64], 10, dtype="float64")
    return trained(rnn, xs, labels, rate=0.01, updates=400), xs[0], xs[1]


def sampled_gradients(rnn, xs, baseline, samples):
    """Integrated gradients by so many gradients at midpoints, compiled, as many together as stay in the cache."""
    places = (jnp.arange(samples) + 0.5) / samples

    def gradient(s):
        return jax.jacrev(lambda xs: maso_rnn.last_output(rnn, xs))(baseline + s * (xs - baseline))

    @jax.jit
    def run():
        return jax.lax.map(gradient, places, batch_size=min(samples, 300)).mean(axis=0) * (xs - baseline)

    return run


ENOUGH = 1e-4  # of the largest change of an output, for values that are to be read


def test_integrated_gradients_of_a_trained_network(record):
    rnn, xs, baseline = trained_digits()
    exact = maso_rnn.integrated_gradients(rnn, xs, baseline)
    largest = float(np.abs(exact.change).max())

    def wrong(samples):
        return float(np.abs(sampled_gradients(rnn, xs, baseline, samples)() - exact.values).max()) / largest

    enough = next(samples for samples in (300 * 2**k for k in range(12)) if wrong(samples) <= ENOUGH)
    programs = {
        "ours": first_called(lambda: maso_rnn.integrated_gradients(rnn, xs, baseline)),
        "300 gradients": first_called(sampled_gradients(rnn, xs, baseline, 300)),
        f"{enough:,} gradients, as many as err by {ENOUGH:g}": first_called(
            sampled_gradients(rnn, xs, baseline, enough)
        ),
        "on the device": jitted(
            lambda rnn, xs: maso_rnn.integrated_gradients_on_device(rnn, xs, baseline, max_regions=1_000), rnn, xs
        ),
    }
    table = compare(programs)
    record(
        "integrated gradients of a trained network",
        {"time": 8, "hidden": 64},
        table,
        [
            Bar("CPU time, against 300 gradients", best(table, "300 gradients"), 1.0),
            Bar(f"CPU time, against gradients that err by {ENOUGH:g}", best(table, [*programs][2]), 1.0),
        ],
        pieces=exact.pieces,
        **{"error of 300 gradients, of the largest change": wrong(300), "own error": float(exact.error.max())},
    )


@pytest.mark.parametrize(("steps", "hidden"), [(25, 64), (50, 64), (50, 128)])
def test_integrated_gradients(record, steps, hidden):
    rnn, baseline, xs = network_and_ends(steps, hidden)
    exact = maso_rnn.integrated_gradients(rnn, xs, baseline)
    programs = {
        "ours": first_called(lambda: maso_rnn.integrated_gradients(rnn, xs, baseline)),
        "walk_line alone": first_called(lambda: maso_rnn.walk_line(rnn, baseline, xs, max_regions=100_000)),
        "300 gradients": first_called(sampled_gradients(rnn, xs, baseline, 300)),
    }
    wrong = np.abs(programs["300 gradients"].run() - exact.values).max() / np.abs(exact.change).max()
    table = compare(programs, repeats=5)
    record(
        "integrated gradients",
        {"time": steps, "hidden": hidden},
        table,
        [Bar("CPU time, against the walk", best(table, "walk_line alone"), 4.0)],
        pieces=exact.pieces,
        **{"error of 300 gradients, of the largest change": float(wrong), "own error": float(exact.error.max())},
    )


@pytest.mark.parametrize(("steps", "hidden"), [(25, 64), (100, 64), (50, 128)])
def test_decisions(record, steps, hidden):
    rnn, start, stop = network_and_ends(steps, hidden)
    places = (jnp.arange(SAMPLES, dtype=start.dtype) + 0.5) / SAMPLES

    def ours():
        return maso_rnn.decisions(maso_rnn.walk_line(rnn, start, stop, max_regions=100_000))

    @jax.jit
    def classes():
        def one(s):
            return maso_rnn.last_output(rnn, start + s * (stop - start)).argmax()

        return jax.lax.map(one, places, batch_size=250)

    programs = {"ours": first_called(ours), f"classes of {SAMPLES:,} samples": first_called(classes)}
    found, sampled = (program.run() for program in programs.values())
    table = compare(programs, repeats=5)
    record(
        "decisions along a line",
        {"time": steps, "hidden": hidden},
        table,
        [Bar("CPU time, against dense sampling", best(table), 1.0)],
        changes=len(found.places),
        **{"changes that samples see": int((np.diff(sampled) != 0).sum())},
    )


def test_boundary_of_a_plane(record):
    rnn = maso_rnn.init(jax.random.key(0), 1, [64], 10, bias_init=jax.nn.initializers.normal(0.1), dtype="float32")
    origin, u, v = np.asarray(jax.random.normal(jax.random.key(1), (3, 28, 1)), np.float64)
    corners = origin, 0.2 * u, 0.2 * v
    plane = maso_rnn.partition_plane(rnn, *corners, max_regions=100_000)
    programs = {
        "ours": first_called(lambda: maso_rnn.decision_boundary(plane)),
        "partition_plane": first_called(lambda: maso_rnn.partition_plane(rnn, *corners, max_regions=100_000)),
    }
    table = compare(programs, repeats=3)
    record(
        "decision boundary on a plane",
        {"time": 28, "hidden": 64},
        table,
        [Bar("CPU time, against the partition", best(table), 1.0)],
        polygons=len(plane.codes),
        segments=len(programs["ours"].run().segments),
    )


@pytest.mark.parametrize(("steps", "hidden"), [(25, 64), (50, 64), (25, 128)])
def test_nearest_change(record, steps, hidden):
    rnn, xs, _ = network_and_ends(steps, hidden)
    label = maso_rnn.last_output(rnn, xs).argmax()
    program = jitted(maso_rnn.nearest_change, rnn, xs, label)
    found = program.run()
    assert found.found
    table = compare({"ours": program}, repeats=5)
    wall = float(maso_rnn.boundary_distance(rnn, xs))
    record(
        "nearest change of class",
        {"time": steps, "hidden": hidden},
        table,
        [Bar("CPU time (s)", table["ours"]["median_cpu_seconds"], 2.0)],
        distance=float(found.distance),
        **{"distance to the nearest wall": wall},
    )
