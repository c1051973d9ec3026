import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn.report import partition

CLASSES = 3


@pytest.fixture(scope="module")
def networks():
    keys = jax.random.split(jax.random.key(0))
    return [
        maso_rnn.init(key, 1, [6], CLASSES, bias_init=jax.nn.initializers.normal(0.5), dtype="float32") for key in keys
    ]


@pytest.fixture(scope="module")
def data():
    xs = jax.random.normal(jax.random.key(1), (12, 8, 1), "float32")
    return xs, jnp.arange(12) % CLASSES


def assert_complete(section):
    """Pictures that draw, questions, readings, and numbers that can be written."""
    assert section.title
    assert section.text
    for picture in section.pictures:
        assert picture.question.endswith("?")
        assert picture.reading
        picture.figure.savefig("/dev/null", format="png")
    json.dumps(section.values, default=lambda value: np.asarray(value).tolist())


def test_regions_are_counted_by_steps_and_by_walks(networks, data):
    xs, _ = data
    section = partition.regions([0, 5], {"one": networks, "other": networks[::-1]}, xs, lines=2)
    assert_complete(section)
    codes = jax.vmap(lambda x: maso_rnn.trajectory(networks[0], x).codes)(xs)
    found = section.values["regions_through_time"]["5"]
    np.testing.assert_array_equal(found, maso_rnn.count_regions(codes).counts)
    walk = maso_rnn.walk_line(networks[1], xs[1], xs[2], max_regions=1000)
    assert section.values["pieces_between_two_sequences"]["one"][1][1] == walk.pieces
    assert not section.warnings


def test_a_cap_that_is_hit_is_said(networks, data):
    xs, _ = data
    section = partition.regions([0, 5], {"one": networks}, xs, lines=2, max_regions=2)
    assert section.warnings == ["4 of the walks hit the cap of 2 pieces: what is shown is part of the answer"]
    section = partition.digit_walk(networks[0], xs[0], xs[1], max_regions=2)
    assert section.warnings
    assert section.values["reached"] < 1
    assert_complete(section)


def test_code_distances_by_hand(networks, data):
    xs, labels = data
    section = partition.code_distances(networks[0], xs, labels, image_shape=(2, 4))
    assert_complete(section)
    codes = [maso_rnn.trajectory(networks[0], x).codes for x in xs]
    within = [
        float(maso_rnn.hamming(codes[i], codes[j])) for i in range(12) for j in range(i) if labels[i] == labels[j]
    ]
    assert section.values["median_within_class"] == pytest.approx(np.median(within), abs=1e-6)  # float32


def test_walk_says_which_classes_it_crosses(networks, data):
    xs, _ = data
    section = partition.digit_walk(networks[0], xs[0], xs[1])
    assert_complete(section)
    ends = [int(maso_rnn.forward(networks[0], x)[-1].argmax()) for x in xs[:2]]
    assert section.values["classes_along"][0] == ends[0]
    assert section.values["classes_along"][-1] == ends[1]


@pytest.mark.parametrize("most", [4_000, 20])
def test_plane_or_a_patch_of_it(networks, data, most):
    xs, _ = data
    section = partition.digit_plane(networks[0], tuple(xs[:3]), ("a", "b", "c"), max_regions=most, resolution=12)
    assert_complete(section)
    assert (section.values["patch_side"] == 1) == (most == 4_000)
    if most == 4_000:
        assert section.values["share_of_patch_covered"] == pytest.approx(1, abs=1e-9)


def test_distances_to_the_wall(networks, data):
    xs, labels = data
    deaf = networks[1].replace(layers=(networks[1].layers[0].replace(bias=jnp.zeros(6, "float32")),))
    section = partition.boundary_distances({"one": networks[0], "other": deaf}, xs.at[:, 0].set(0), labels)
    assert_complete(section)
    # without bias, a first input of 0 puts every unit on its kink
    assert section.values["other"]["whole"]["on_a_kink"] == 1
    assert section.values["one"]["whole"]["on_a_kink"] == 0


def test_noise_is_measured_and_predicted(networks, data):
    xs, labels = data
    section = partition.noise({"one": networks[0]}, xs, labels, key=jax.random.key(2), scales=(1e-4, 1.0), pairs=400)
    assert_complete(section)
    found = section.values["one, from the start"]
    # at the small scale within four standard errors, and no sample left its region
    assert abs(found["measured"][0] - found["predicted"][0]) < 4 * found["stderr"][0]
    assert found["stderr"][0] < 0.1 * found["predicted"][0]
    assert found["left"][0] < 0.01 < found["left"][1]


def test_rounds_are_counted(networks, data):
    xs, _ = data
    section = partition.rounds({"trained": networks[0]}, xs[:2], key=jax.random.key(3), lengths=(4, 8, 16), hidden=4)
    assert_complete(section)
    assert section.values["lengths"].tolist() == [4, 8]  # no longer than the sequences
    wanted = np.mean([maso_rnn.parallel_forward(networks[0], x).iterations for x in xs[:2]])
    assert section.values["rounds"]["trained"][1] == wanted


def test_a_class_that_wins_inside_a_piece_is_said():
    from maso_rnn.report.partition import _said_along

    # scores (-x, 1/2, x) from -1 to 1 in one piece, and again cut at places where nobody overtakes
    at = [np.array([-x, 0.5, x]) for x in (-1.0, 1.0)]
    assert _said_along(np.stack(at)) == [0, 1, 2]
    many = np.stack([np.array([-x, 0.5, x]) for x in np.linspace(-1, 1, 8)])
    assert _said_along(many) == [0, 1, 2]
