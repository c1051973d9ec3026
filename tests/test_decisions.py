import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import LineWalk, PlanePartition


@functools.cache
def network_and_inputs(seed, corners=2, activation="relu", outputs=5):
    """A small network, without biases for every third seed, and random inputs."""
    key = jax.random.key(seed)
    bias = None if seed % 3 == 0 else jax.nn.initializers.normal(0.3)
    rnn = maso_rnn.init(key, 2, [8], outputs, activation=activation, bias_init=bias, dtype="float64")
    return rnn, np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (corners, 6, 2)))


def outputs_at(walk, s):
    points = np.concatenate([[0.0], walk.breakpoints, [1.0]])
    return np.stack([np.interp(s, points, column) for column in walk.outputs.T], axis=1)


def assert_decided(walk):
    """No class missed and none invented, by dense samples; the leaders are tied where they change."""
    found = maso_rnn.decisions(walk)
    assert (np.diff(found.classes) != 0).all()
    assert (np.diff(found.places, prepend=0.0, append=1.0) > 0).all()
    beside = np.concatenate([found.places - 1e-9, found.places + 1e-9])
    s = np.concatenate([np.random.default_rng(0).uniform(size=2_000), beside[(beside > 0) & (beside < 1)]])
    z = outputs_at(walk, s)
    second, first = np.sort(z, axis=1)[:, -2:].T
    clear = first - second > 1e-13  # nearer than that, rounding decides
    got = found.classes[np.searchsorted(found.places, s)]
    np.testing.assert_array_equal(got[clear], z.argmax(axis=1)[clear])
    tied, index = outputs_at(walk, found.places), np.arange(len(found.places))
    # float64: outputs of order 1 with a few roundings each
    np.testing.assert_allclose(tied[index, found.classes[1:]], tied[index, found.classes[:-1]], atol=1e-14)
    np.testing.assert_allclose(tied[index, found.classes[1:]], tied.max(axis=1, initial=-np.inf), atol=1e-14)
    return found


def walked(seed, **options):
    rnn, (start, stop) = network_and_inputs(seed, **options)
    return maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)


def test_no_decision_on_a_line_is_missed_and_none_invented():
    found = [assert_decided(walked(seed)) for seed in range(40)]
    assert sum(len(decided.places) for decided in found) > 40


@pytest.mark.slow
def test_no_decision_is_missed_or_invented_on_a_thousand_random_lines():
    for seed in range(1_000):
        assert_decided(walked(seed, activation=("relu", "hard_tanh", "abs")[seed % 3 if seed % 2 else 0]))


def line(places, outputs):
    """A walk with those breakpoints and outputs."""
    outputs = np.asarray(outputs, float)
    codes = np.arange(len(outputs) - 1, dtype=np.uint8)[:, None]
    return LineWalk(np.asarray(places, float), codes, outputs, False, len(codes), 1.0)


def test_a_class_that_leads_inside_one_piece_only_is_found():
    # three lines 1 - s, s and 0.75: the last leads from 0.25 to 0.75
    found = maso_rnn.decisions(line([], [[1.0, 0.0, 0.75], [0.0, 1.0, 0.75]]))
    np.testing.assert_allclose(found.places, [0.25, 0.75])
    np.testing.assert_array_equal(found.classes, [0, 2, 1])


def test_ties_go_to_the_lower_class_and_touching_is_no_change():
    tied_all_along = line([0.5], [[1.0, 1.0], [2.0, 2.0], [0.0, 0.0]])
    np.testing.assert_array_equal(maso_rnn.decisions(tied_all_along).classes, [0])
    touching = line([0.5], [[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]])  # class 0 reaches class 1 and goes back
    np.testing.assert_array_equal(maso_rnn.decisions(touching).classes, [1])
    from_a_tie = line([0.5], [[1.0, 1.0], [1.0, 2.0], [1.0, 1.0]])
    np.testing.assert_array_equal(maso_rnn.decisions(from_a_tie).classes, [1])
    into_a_tie = line([0.5], [[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])  # tied from the breakpoint on
    found = maso_rnn.decisions(into_a_tie)
    np.testing.assert_array_equal(found.classes, [1, 0])
    np.testing.assert_allclose(found.places, [0.5])
    three = maso_rnn.decisions(line([], [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
    np.testing.assert_array_equal(three.classes, [2, 0])


def test_a_walk_on_the_device_is_decided_alike():
    rnn, (start, stop) = network_and_inputs(1)
    on_host = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    on_device = maso_rnn.walk_line_on_device(rnn, jnp.asarray(start), jnp.asarray(stop), max_regions=200)
    wanted, got = maso_rnn.decisions(on_host), maso_rnn.decisions(on_device)
    np.testing.assert_array_equal(got.classes, wanted.classes)
    np.testing.assert_allclose(got.places, wanted.places, atol=1e-12)  # float64, and the device adds its steps up


def crossed(boundary, start, along):
    """Where the segment start + s along meets the boundary's segments, and the classes there, in order of s."""
    first, to = boundary.segments[:, 0], boundary.segments[:, 1] - boundary.segments[:, 0]
    determinant = along[0] * to[:, 1] - along[1] * to[:, 0]
    apart = first - start
    s = (apart[:, 0] * to[:, 1] - apart[:, 1] * to[:, 0]) / determinant
    t = (apart[:, 0] * along[1] - apart[:, 1] * along[0]) / determinant
    met = np.flatnonzero((t >= 0) & (t <= 1) & (s > 0) & (s < 1))
    met = met[np.argsort(s[met])]
    return s[met], boundary.classes[met]


def assert_boundary(seed, lines=5):
    """On any line through the plane the boundary is crossed where a walk along it decides, and nowhere else."""
    rnn, (origin, u, v) = network_and_inputs(seed, 3)
    plane = maso_rnn.partition_plane(rnn, origin, u, v, max_regions=20_000)
    boundary = maso_rnn.decision_boundary(plane)
    assert (boundary.classes[:, 0] < boundary.classes[:, 1]).all()
    for a, b in np.random.default_rng(seed).uniform(size=(lines, 2, 2)):
        ends = [origin + c * u + d * v for c, d in (a, b)]
        wanted = maso_rnn.decisions(maso_rnn.walk_line(rnn, *ends, max_regions=10_000))
        places, classes = crossed(boundary, a, b - a)
        np.testing.assert_allclose(places, wanted.places, atol=1e-9)  # rounding of places, by the slope of the crossing
        pairs = np.sort(np.stack([wanted.classes[:-1], wanted.classes[1:]], axis=1), axis=1)
        np.testing.assert_array_equal(classes, pairs)
    return boundary


def test_the_boundary_on_a_plane_is_where_walks_through_it_decide():
    assert sum(len(assert_boundary(seed).segments) for seed in range(1, 9)) > 50


@pytest.mark.slow
def test_the_boundary_is_where_walks_decide_on_many_planes():
    for seed in range(100):
        assert_boundary(seed, lines=20)


def square(outputs):
    """One polygon, the unit square, with those outputs at its corners."""
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return PlanePartition((corners,), np.zeros((1, 1), np.uint8), (np.asarray(outputs, float),), np.ones(1), False)


def test_boundaries_by_hand():
    # class 0 leads where a < 0.5
    halves = maso_rnn.decision_boundary(square([[1, 0], [0, 1], [0, 1], [1, 0]]))
    np.testing.assert_allclose(np.sort(halves.segments[0], axis=0), [[0.5, 0.0], [0.5, 1.0]])
    np.testing.assert_array_equal(halves.classes, [[0, 1]])
    # 1 - 2a, 2a - 1 and 0.5: class 2 leads in the middle, though at no corner
    middle = maso_rnn.decision_boundary(square([[1, -1, 0.5], [-1, 1, 0.5], [-1, 1, 0.5], [1, -1, 0.5]]))
    np.testing.assert_array_equal(middle.classes[np.argsort(middle.segments[:, 0, 0])], [[0, 2], [1, 2]])
    np.testing.assert_allclose(np.sort(middle.segments[:, 0, 0]), [0.25, 0.75])


def test_a_boundary_along_an_edge_is_found_once():
    # tied at 0 in the lower square, so class 0; class 2 leads in the upper one
    lower = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.5]])
    upper = lower + np.array([0.0, 0.5])
    outputs = np.zeros((4, 3)), np.array([[0, 0, 0], [0, 0, 0], [-1, -2, 1], [-1, -2, 1]], float)
    plane = PlanePartition((lower, upper), np.zeros((2, 1), np.uint8), outputs, np.full(2, 0.5), False)
    found = maso_rnn.decision_boundary(plane)
    np.testing.assert_array_equal(found.classes, [[0, 2]])
    np.testing.assert_array_equal(np.sort(found.segments[0], axis=0), [[0.0, 0.5], [1.0, 0.5]])


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_decided_is_refused():
    rnn, (start, stop, other) = network_and_inputs(1, 3)
    cut = maso_rnn.walk_line(rnn, start, stop, max_regions=3)
    with pytest.raises(ValueError, match=r"walk.*max_regions"):
        maso_rnn.decisions(cut)
    with pytest.raises(TypeError, match="walk"):
        maso_rnn.decisions(cut.outputs)
    with pytest.raises(ValueError, match=r"plane.*max_regions"):
        maso_rnn.decision_boundary(maso_rnn.partition_plane(rnn, start, stop, other, max_regions=3))
    single, ends = network_and_inputs(1, outputs=1)
    with pytest.raises(ValueError, match="two outputs"):
        maso_rnn.decisions(maso_rnn.walk_line(single, *ends, max_regions=1_000))
    with pytest.raises(TypeError, match="traced"):
        jax.jit(lambda outputs: maso_rnn.decisions(cut._replace(outputs=outputs)).places)(jnp.asarray(cut.outputs))
