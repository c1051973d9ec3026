"""Float64 against rational arithmetic on small cases, and the page of float32's errors against what they are."""

import jax
import numpy as np
import pytest

import maso_rnn
import path_opt
import srnn
from tests import precision
from tests.contracts.network import network, sequence
from tests.oracles import exact


def relative(got, wanted):
    """The largest difference over the largest number, the difference taken exactly."""
    got, wanted = np.ravel(exact.exact(got)), np.ravel(np.asarray(wanted, dtype=object))
    return float(max(abs(got - wanted)) / max(abs(wanted)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_affine_maps_agree_with_rational_arithmetic(key, dtype):
    leaning = maso_rnn.PiecewiseAffine((-1, 1), (0.25, 1, 0.25), (-0.75, 0, 0.75))  # offsets, and no piece is flat
    rnn, xs = network(key, dtype, activation=leaning), sequence(key, dtype)
    found = maso_rnn.affine_map(rnn, xs)
    output, slope, initial, offset = exact.affine_map(rnn, xs, rnn.initial)
    limit = 50 * np.finfo(dtype).eps  # six steps of sums of up to twelve terms
    assert relative(found.output, output) < limit
    assert relative(found.slope, slope) < limit
    assert relative(found.offset, offset) < limit
    assert all(relative(a, b) < limit for a, b in zip(found.initial_slope, initial, strict=True))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_signatures_agree_with_rational_arithmetic(key, dtype):
    path = jax.random.normal(key, (5, 2), dtype)
    assert relative(srnn.signature(path, 3), exact.signature(path, 3)) < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_path_norms_agree_with_rational_arithmetic(key, dtype):
    rnn = network(key, dtype)
    graph = path_opt.reduction_graph(rnn, skeleton="modulo")
    got = np.asarray(path_opt.path_norm(rnn, graph, 4))
    assert relative(got, exact.path_norm(rnn, 4)) < 50 * np.finfo(dtype).eps  # positive terms: nothing cancels


@pytest.mark.slow
@pytest.mark.parametrize("size", precision.SIZES[:2], ids=str)
def test_the_page_of_errors_says_what_they_are(size):
    column = precision.SIZES.index(size)
    lines = [line.split("|")[1:-1] for line in precision.PAGE.read_text().splitlines() if line.startswith("| `")]
    published = {line[0].replace("`", "").strip(): float(line[1 + column]) for line in lines}
    found = precision.errors(*size)
    assert set(published) == set(found)
    for name, error in found.items():
        # another processor sums in another order; errors this small are a rounding or two
        assert error < max(8 * published[name], 1e-6), name
