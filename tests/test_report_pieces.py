"""The sections on pieces say what the library says, number by number; those of the demo too."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from benchmarks.quickstart import noise
from maso_rnn import style
from maso_rnn.report import pieces, reading

CLASSES = 3


@pytest.fixture(scope="module")
def rnn():
    bias = jax.nn.initializers.normal(0.5)
    return maso_rnn.init(jax.random.key(0), 1, [6], CLASSES, bias_init=bias, dtype="float32")


@pytest.fixture(scope="module")
def found(rnn):
    xs = np.asarray(jax.random.normal(jax.random.key(1), (12, 8, 1), "float32"))
    return reading.read(
        rnn, xs, np.arange(12) % CLASSES, None, (2, 4), 0.1, jax.random.key(2), lambda steps, desc: steps
    )


def drawn(section):
    """The section, once its pictures are known to draw."""
    for picture in section.pictures:
        assert picture.question.endswith("?")
        assert picture.figure.get_size_inches()[0] <= style.PAGE
        picture.figure.savefig("/dev/null", format="png")
    return section


def test_margins_and_shares_are_those_of_a_loop(rnn, found):
    values = drawn(pieces.templates(found)).values
    maps = [maso_rnn.affine_map(rnn, x) for x in jnp.asarray(found.xs)]
    right = np.array([affine.output.argmax() for affine in maps]) == found.labels
    margins = np.array(
        [
            maso_rnn.template_margin(a, x, int(l))
            for a, x, l in zip(maps, jnp.asarray(found.xs), found.labels, strict=True)
        ]
    )
    assert values["accuracy"] == right.mean()
    assert values["template_wins_where_right"] == (margins[right] > 0).mean()
    assert values["median_margin_wrong"] == pytest.approx(np.median(margins[~right]), rel=1e-4)  # float32
    assert sum(values["shares"].values()) == pytest.approx(1, abs=1e-5)
    assert values["identity_error"] < 1e-5


def test_what_the_input_added_is_that_of_many_gradients(rnn, found):
    values = drawn(pieces.attributions(found)).values
    for i, apart in zip(found.of_different_classes(3), values["relative_difference"], strict=True):
        x, said = jnp.asarray(found.xs[i]), int(found.said[i])
        baseline = jnp.broadcast_to(jnp.asarray(found.mean_input), x.shape)
        gradient = jax.grad(lambda x, said=said: maso_rnn.last_output(rnn, x)[said])
        places = ((jnp.arange(400) + 0.5) / 400)[:, None, None]
        way = jax.vmap(gradient)(baseline + places * (x - baseline)).mean(axis=0) * (x - baseline)
        one = gradient(x) * (x - baseline)
        assert apart == pytest.approx(np.linalg.norm(one - way) / np.linalg.norm(way), rel=0.05)  # of 400 gradients


def test_distances_between_codes_by_hand(rnn, found):
    values = drawn(pieces.codes(found)).values
    codes = [maso_rnn.trajectory(rnn, jnp.asarray(x)).codes for x in found.xs]
    within = [
        float(maso_rnn.hamming(codes[i], codes[j]))
        for i in range(12)
        for j in range(i)
        if found.labels[i] == found.labels[j]
    ]
    assert values["median_within_class"] == pytest.approx(np.median(within), abs=1e-6)  # float32


def test_a_walk_says_which_classes_it_crosses_and_where(rnn, found):
    values = drawn(pieces.walk(found)).values
    first, second = (jnp.asarray(found.xs[i]) for i in pieces._independent(found, 2))
    ends = [int(maso_rnn.last_output(rnn, x).argmax()) for x in (first, second)]
    assert [values["classes_along"][0], values["classes_along"][-1]] == ends
    for at, classes in zip(values["decision_changes_at"], itertools.pairwise(values["classes_along"]), strict=True):
        there = ((1 - at) * first + at * second).astype(first.dtype)
        top = np.sort(maso_rnn.last_output(rnn, there))[::-1]
        assert top[0] == pytest.approx(top[1], abs=1e-4)  # a tie, in float32
        assert classes[0] != classes[1]


def test_a_cap_that_is_hit_is_said(found, monkeypatch):
    monkeypatch.setattr(pieces, "PIECES", 2)
    section = drawn(pieces.walk(found))
    assert section.values["pieces"] == 2
    assert section.values["reached"] < 1
    assert section.warnings


@pytest.mark.parametrize("most", [4_000, 20])
def test_the_plane_or_a_patch_of_it(found, most, monkeypatch):
    monkeypatch.setattr(pieces, "PIECES", most)
    values = drawn(pieces.plane(found)).values
    assert (values["patch_side"] == 1) == (most == 4_000)
    if most == 4_000:
        assert values["share_of_patch_covered"] == pytest.approx(1, abs=1e-9)


def test_every_input_on_a_wall_is_said(rnn, found):
    deaf = rnn.replace(layers=(rnn.layers[0].replace(bias=jnp.zeros(6, "float32")),))
    zero = found._replace(network=deaf, xs=np.zeros_like(found.xs))
    # without bias, inputs of 0 put every unit on its kink
    assert drawn(pieces.walls(zero)).values["on_a_wall"] == 1
    assert pieces.walls(found).values["on_a_wall"] == 0


def test_what_is_proved_is_below_what_is_found(found, monkeypatch):
    assert pieces.safety(found) is None  # too few sequences for a median
    monkeypatch.setattr(pieces, "JUDGED", 1)
    values = drawn(pieces.safety(found)).values
    for name, proved in values["proved"].items():
        assert (proved > 0).all()
        assert (proved <= values["found"][name]).all()


def test_noise_is_measured_and_predicted(rnn, found):
    cost = noise.measured_cost(
        {"one": rnn},
        jnp.asarray(found.xs),
        jnp.asarray(found.labels),
        key=jax.random.key(2),
        scales=(1e-4, 1.0),
        pairs=400,
    )["one, from the start"]
    # at the small scale within four standard errors, and no sample left its region
    assert abs(cost.measured[0] - cost.predicted[0]) < 4 * cost.stderr[0]
    assert cost.stderr[0] < 0.1 * cost.predicted[0]
    assert cost.left[0] < 0.01 < cost.left[1]


def test_the_slope_in_the_initial_state_says_yes_and_no_by_the_numbers(rnn, found):
    doubled = rnn.replace(readout=jax.tree.map(lambda leaf: 2 * leaf, rnn.readout))
    for first, last, answer in [(rnn, doubled, "No"), (doubled, rnn, "Yes")]:
        made = noise.slope_over_training([0, 3], {"x": [first, first], "y": [last, last]}, jnp.asarray(found.xs))
        assert made.pictures[0].reading.startswith(answer)
        ratio = made.values["median_norm"]["y"] / made.values["median_norm"]["x"]
        np.testing.assert_allclose(ratio, 0.5 if answer == "Yes" else 2.0)
