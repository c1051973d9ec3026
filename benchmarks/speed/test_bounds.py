"""Bounds over balls of inputs and proved radii: their cost, their growth, and how far they reach on trained digits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks.speed.digits import BATCH, digits, trained
from benchmarks.speed.interleaved import best, compare, jitted
from benchmarks.speed.reach import Bar

RADIUS = 0.01
IMAGES = 40


def network_and_input(time, hidden):
    bias = jax.nn.initializers.normal(0.1)
    rnn = maso_rnn.init(jax.random.key(0), 1, [hidden], 10, bias_init=bias, dtype="float32")
    return rnn, jax.random.normal(jax.random.key(1), (time, 1), "float32")


def by_intervals(rnn, xs):
    """What the outputs may be by interval arithmetic alone, of one layer, as a good hand would write it."""
    layer = rnn.layers[0]

    def body(h, x):
        middle, reach = (h[0] + h[1]) / 2, (h[1] - h[0]) / 2
        p = x @ layer.input_kernel + middle @ layer.recurrent_kernel + layer.bias
        r = RADIUS * jnp.linalg.norm(layer.input_kernel, axis=0) + reach @ jnp.abs(layer.recurrent_kernel)
        return (jax.nn.relu(p - r), jax.nn.relu(p + r)), None

    start = jnp.zeros_like(layer.bias)
    (low, high), _ = jax.lax.scan(body, (start, start), xs)
    middle, reach = (low + high) / 2 @ rnn.readout.kernel, (high - low) / 2 @ jnp.abs(rnn.readout.kernel)
    return middle - reach, middle + reach


def test_output_bounds(record):
    rnn, xs = network_and_input(64, 128)
    programs = {
        "ours": jitted(lambda rnn, xs: maso_rnn.output_bounds(rnn, xs, RADIUS), rnn, xs),
        "intervals alone": jitted(by_intervals, rnn, xs),
    }
    bounds, (low, high) = (program.run() for program in programs.values())
    table = compare(programs, repeats=3)
    record(
        "bounds of the outputs over a ball",
        {"time": 64, "hidden": 128},
        table,
        [Bar("CPU time (s)", table["ours"]["median_cpu_seconds"], 0.19)],
        **{"widest": float((bounds.upper - bounds.lower).max())},
        **{"widest by intervals": str(float(jnp.nan_to_num(high - low, nan=jnp.inf, posinf=jnp.inf).max()))},
    )


@pytest.mark.parametrize(("time", "hidden"), [(16, 64), (32, 64)])
def test_certified_radius(record, time, hidden):
    rnn, xs = network_and_input(time, hidden)
    label = maso_rnn.last_output(rnn, xs).argmax()
    programs = {
        "ours": jitted(maso_rnn.certified_radius, rnn, xs, label),
        "one output_bounds": jitted(lambda rnn, xs: maso_rnn.output_bounds(rnn, xs, RADIUS), rnn, xs),
    }
    found = programs["ours"].run()
    table = compare(programs, repeats=3)
    record(
        "certified radius",
        {"time": time, "hidden": hidden},
        table,
        [Bar("CPU time, against as many bounds as radii may be tried", best(table) / 20, 1.1)],
        radius=float(found.radius),
        **{"what one piece proves": float(found.one_piece)},
    )


def network_and_images(steps, hidden=32):
    """A network trained on digits read in so many steps, and held-out images that it gets right; its accuracy."""
    xs, labels = digits(steps, "float32")
    fit, held_out = slice(24 * BATCH), slice(24 * BATCH, None)
    rnn = maso_rnn.init(jax.random.key(0), xs.shape[2], [hidden], 10, dtype="float32")
    rnn = trained(rnn, xs[fit], labels[fit], rate=0.003, updates=1_500)
    said = jax.vmap(maso_rnn.last_output, (None, 0))(rnn, xs[held_out]).argmax(axis=1)
    right = np.flatnonzero(said == labels[held_out])[:IMAGES]
    return rnn, xs[held_out][right], labels[held_out][right], float((said == labels[held_out]).mean())


@pytest.mark.parametrize("steps", [8, 16, 64])
def test_radii_of_trained_digits(record, steps):
    """How many times what one piece proves is proved, and how much of the distance to another class that is."""
    rnn, xs, labels, accuracy = network_and_images(steps)
    certify = jax.jit(lambda x, label: maso_rnn.certified_radius(rnn, x, label))
    change = jax.jit(lambda x, label: maso_rnn.nearest_change(rnn, x, label).distance)
    found = [certify(x, label) for x, label in zip(xs, labels, strict=True)]
    radii, one_piece = (np.array([getattr(one, name) for one in found]) for name in ("radius", "one_piece"))
    nearest = np.array([change(x, label) for x, label in zip(xs, labels, strict=True)])
    assert (radii <= nearest).all()
    gain = float(np.median(radii / one_piece))
    record(
        "certified radius of trained digits",
        {"time": steps, "hidden": 32},
        {},
        [Bar("what one piece proves, against a thirtieth of the radius (median)", 30 / gain, 1)],
        **{
            "radius over what one piece proves (median)": gain,
            "radius (median)": float(np.median(radii)),
            "nearest change (median)": float(np.median(nearest)),
            "radius over the nearest change (median)": float(np.median(radii / nearest)),
            "accuracy": accuracy,
            "images": len(xs),
        },
    )
