import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from tests.oracles.planes import SIDE, distance_to, two_numbers


@functools.cache
def compiled():
    return jax.jit(maso_rnn.nearest_change, static_argnames="norm")


def compared(seeds):
    """Found over true distances, where the boundary is well within the square."""
    ratios = []
    for seed in seeds:
        rnn, segments = two_numbers(seed)
        for point in np.random.default_rng(seed).normal(size=(3, 2)):
            xs, true = jnp.asarray(point)[:, None], distance_to(segments, point)
            label = maso_rnn.last_output(rnn, xs).argmax()
            found = compiled()(rnn, xs, label)
            if found.found:
                assert maso_rnn.last_output(rnn, found.xs).argmax() == found.label != label
                np.testing.assert_allclose(found.distance, jnp.linalg.norm(found.xs - xs), rtol=1e-12)
            if true < SIDE / 4:
                ratios.append(float(found.distance) / true)
    return np.array(ratios)


def assert_near(ratios):
    assert (ratios > 1 - 1e-9).all()  # nothing is nearer than the boundary
    assert np.median(ratios) < 1.001  # one part in 4,096 of the way
    assert (ratios < 1.1).mean() > 0.8  # a local search: most are the nearest, not all


def test_changes_are_hardly_further_than_the_nearest():
    assert_near(compared(range(12)))


@pytest.mark.slow
def test_changes_of_many_networks_are_hardly_further_than_the_nearest():
    assert_near(compared(range(100)))


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_on_one_piece_it_is_the_distance_to_a_hyperplane(norm):
    rnn = maso_rnn.init(jax.random.key(0), 2, [6], 3, activation="identity", dtype="float64")
    xs = jax.random.normal(jax.random.key(1), (5, 2))
    affine = maso_rnn.affine_map(rnn, xs)
    label = int(affine.output.argmax())
    apart = np.delete(np.asarray(affine.slope[label] - affine.slope), label, axis=0).reshape(2, -1)
    margins = np.delete(np.asarray(affine.output[label] - affine.output), label)
    exact = (margins / np.linalg.norm(apart, ord=2 if norm == "l2" else 1, axis=1)).min()
    found = compiled()(rnn, xs, label, norm=norm)
    assert found.found
    assert exact < found.distance < exact * (1 + 1e-3)  # just beyond it, by one part in 4,096 of the way at most


def test_it_is_no_nearer_than_the_wall_or_the_decision_of_the_own_piece():
    rnn = maso_rnn.init(jax.random.key(3), 2, [12], 4, bias_init=jax.nn.initializers.normal(0.3), dtype="float64")
    xs = jax.random.normal(jax.random.key(4), (6, 2))
    affine = maso_rnn.affine_map(rnn, xs)
    label = affine.output.argmax()
    norms = jnp.linalg.norm((affine.slope[label] - affine.slope).reshape(4, -1), axis=1)
    decision = jnp.where(norms > 0, (affine.output[label] - affine.output) / norms, jnp.inf).min()
    found = compiled()(rnn, xs, label)
    assert found.found
    assert found.distance >= jnp.minimum(decision, maso_rnn.boundary_distance(rnn, xs))


def test_what_is_another_class_already_is_at_distance_zero():
    rnn = maso_rnn.init(jax.random.key(0), 2, [8], 3, dtype="float64")
    xs = jax.random.normal(jax.random.key(1), (5, 2))
    predicted = int(maso_rnn.last_output(rnn, xs).argmax())
    found = compiled()(rnn, xs, (predicted + 1) % 3)
    assert found.distance == 0
    assert found.label == predicted
    np.testing.assert_array_equal(found.xs, xs)


def test_padding_stays_as_it_is_and_changes_no_number():
    rnn = maso_rnn.init(jax.random.key(3), 2, [12], 4, bias_init=jax.nn.initializers.normal(0.3), dtype="float64")
    xs = jax.random.normal(jax.random.key(4), (6, 2))
    label = maso_rnn.last_output(rnn, xs).argmax()
    wanted = compiled()(rnn, xs, label)
    got = compiled()(rnn, jnp.concatenate([xs, jnp.ones((2, 2))]), label, length=6)
    np.testing.assert_allclose(got.distance, wanted.distance, rtol=1e-9)  # another program, other rounding
    np.testing.assert_allclose(got.xs[:6], wanted.xs, atol=1e-9)
    assert (got.xs[6:] == 0).all()


def test_steps_that_stay_are_left_as_they_are():
    rnn = maso_rnn.init(jax.random.key(3), 2, [12], 4, bias_init=jax.nn.initializers.normal(0.3), dtype="float64")
    xs, stays = jax.random.normal(jax.random.key(4), (6, 2)), jnp.arange(6) < 4
    label = maso_rnn.last_output(rnn, xs).argmax()
    found = compiled()(rnn, xs, label, moves=~stays)
    assert found.found
    assert found.label != label
    np.testing.assert_array_equal(found.xs[stays], xs[stays])
    assert found.distance >= maso_rnn.certified_radius(rnn, xs, label, moves=~stays).radius


def test_an_output_that_never_changes_is_not_found():
    rnn = maso_rnn.init(jax.random.key(0), 1, [4], 2, dtype="float64")
    rnn = rnn.replace(readout=maso_rnn.Readout(jnp.zeros((4, 2)), jnp.array([1.0, 0.0])))
    found = compiled()(rnn, jnp.ones((3, 1)), 0)
    assert not found.found
    assert jnp.isinf(found.distance)
    assert jnp.isnan(found.xs).all()


@pytest.mark.usefixtures("unchecked")
def test_bad_requests_are_refused():
    rnn, xs = maso_rnn.init(jax.random.key(0), 1, [4], 2), jnp.ones((3, 1))
    with pytest.raises(ValueError, match="label"):
        maso_rnn.nearest_change(rnn, xs, 2)
    with pytest.raises(TypeError, match="label"):
        maso_rnn.nearest_change(rnn, xs, 0.5)
    with pytest.raises(ValueError, match="norm"):
        maso_rnn.nearest_change(rnn, xs, 0, norm="l1")
    with pytest.raises(ValueError, match="max_projections"):
        maso_rnn.nearest_change(rnn, xs, 0, max_projections=0)
    with pytest.raises(ValueError, match="activation"):
        maso_rnn.nearest_change(rnn.replace(activation=jnp.tanh), xs, 0)
    with pytest.raises(ValueError, match="outputs"):
        maso_rnn.nearest_change(maso_rnn.init(jax.random.key(0), 1, [4], 1), xs, 0)
    assert jnp.isnan(jax.jit(maso_rnn.nearest_change)(rnn, xs, jnp.asarray(7)).distance)
