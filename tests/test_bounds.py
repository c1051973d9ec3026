"""Bounds over balls and proved radii: an oracle in NumPy, samples, attacks, and the exact distance on a plane."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from tests.oracles import crown, planes

TIME, INPUT, HIDDEN, OUTPUT = 5, 2, [6, 5], 3


def network(key, activation="relu", dtype="float64", hidden=HIDDEN):
    return maso_rnn.init(
        key, INPUT, hidden, OUTPUT, activation=activation, bias_init=jax.nn.initializers.normal(0.3), dtype=dtype
    )


def moved(key, xs, radius, norm, count):
    """Inputs on the sphere of that radius, half of them at its corners."""
    away = jax.random.normal(key, (count, *xs.shape), xs.dtype)
    if norm == "l2":
        return xs + radius * away / jnp.sqrt(jnp.square(away).sum((1, 2), keepdims=True))
    return xs + radius * jnp.where(jnp.arange(count)[:, None, None] % 2, jnp.sign(away), jnp.tanh(away))


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("radius", [0.01, 0.3])
def test_bounds_equal_those_of_plain_numpy(key, norm, radius):
    for seed in range(3):
        rnn, xs = network(jax.random.fold_in(key, seed)), jax.random.normal(key, (TIME, INPUT))
        found = maso_rnn.output_bounds(rnn, xs, radius, norm=norm)
        lower, upper = crown.output_bounds(rnn, xs, radius, norm, maso_rnn.initial_state(rnn))
        # what is given away for rounding is some 1e-12 of the terms
        np.testing.assert_allclose(found.lower, lower, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found.upper, upper, rtol=1e-9, atol=1e-10)
        assert (found.lower <= lower).all()
        assert (found.upper >= upper).all()


@pytest.mark.parametrize("activation", ["relu", "tanh", "hard_tanh", "abs", maso_rnn.leaky_relu(-0.5)])
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_sample_is_outside_the_bounds(key, activation, norm):
    @functools.partial(jax.jit, static_argnums=2)
    def worst(rnn, xs, norm, radius, key):
        bounds = maso_rnn.output_bounds(rnn, xs, radius, norm=norm)
        z = jax.vmap(lambda xs: maso_rnn.last_output(rnn, xs))(moved(key, xs, radius, norm, 2_000))
        return jnp.minimum((z - bounds.lower).min(), (bounds.upper - z).min()), bounds

    for seed, radius in enumerate((0.0, 0.05, 0.5, 5.0)):
        rnn, xs = network(jax.random.fold_in(key, seed), activation), jax.random.normal(key, (TIME, INPUT))
        inside, bounds = worst(rnn, xs, norm, radius, key)
        assert inside >= 0
        assert ((bounds.widths >= 0) & jnp.isfinite(bounds.widths)).all()
        if not radius:
            np.testing.assert_allclose(bounds.lower, bounds.upper, atol=1e-11)


def test_bounds_of_float32_hold_for_its_weights_computed_exactly(key):
    """Of the stored weights in float64: the bounds contain them, though the roundings of float32 are larger."""
    found = []
    bound = jax.jit(maso_rnn.output_bounds)
    for seed in range(20):
        rnn = network(jax.random.fold_in(key, seed), dtype="float32")
        xs = jax.random.normal(jax.random.fold_in(key, seed), (TIME, INPUT), "float32")
        wide = jax.tree.map(lambda leaf: leaf.astype("float64"), rnn)
        exact = maso_rnn.last_output(wide, xs.astype("float64"))
        bounds = bound(rnn, xs, 0.0)
        assert ((bounds.lower <= exact) & (exact <= bounds.upper)).all()
        found.append((bounds.upper - bounds.lower).max())
    assert max(found) < 1e-3  # and give little away


class Attacked(NamedTuple):
    """A certificate, the least margin that an attack inside its radius found, and how far samples are in the bounds."""

    found: maso_rnn.Certificate
    least: jax.Array
    inside: jax.Array


def attacked(rnn, xs, key, *, norm, samples):
    """Projected gradient from 64 starts, 60 steps, and samples of the ball and of its surface."""
    label = maso_rnn.last_output(rnn, xs).argmax()
    found = maso_rnn.certified_radius(rnn, xs, label, norm=norm)

    def margin(xs):
        z = maso_rnn.last_output(rnn, xs)
        return z[label] - jnp.where(jnp.arange(len(z)) == label, -jnp.inf, z).max()

    def inside(away):
        if norm == "linf":
            return jnp.clip(away, -found.radius, found.radius)
        size = jnp.sqrt(jnp.square(away).sum())
        return away * jnp.minimum(1, found.radius / jnp.where(size > 0, size, 1))

    def descend(_, away):
        step = jax.vmap(jax.grad(margin))(xs + away)
        size = 1e-30 + jnp.linalg.norm(step, axis=(1, 2), keepdims=True)
        step = jnp.sign(step) if norm == "linf" else step / size
        return jax.vmap(inside)(away - 0.1 * found.radius * step)

    start = jax.vmap(inside)(moved(key, jnp.zeros_like(xs), found.radius, norm, 64))
    away = jax.lax.fori_loop(0, 60, descend, start)
    bounds = maso_rnn.output_bounds(rnn, xs, 3 * found.radius, norm=norm)
    z = jax.vmap(lambda xs: maso_rnn.last_output(rnn, xs))(moved(key, xs, 3 * found.radius, norm, samples))
    contained = jnp.minimum((z - bounds.lower).min(), (bounds.upper - z).min())
    return Attacked(found, jax.vmap(margin)(xs + away).min(), contained)


def assert_holds(results):
    found = results.found
    assert (results.least > 0).all()
    assert (results.inside >= 0).all()
    assert (found.radius >= 0.998 * found.one_piece).all()
    assert (found.one_piece > 0).all()
    assert found.is_predicted.all()
    assert (found.margins > 0).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_no_attack_inside_the_radius_changes_the_class(key, norm):
    run = jax.jit(functools.partial(attacked, norm=norm, samples=100))
    keys = [jax.random.fold_in(key, seed) for seed in range(5)]
    results = [run(network(k, hidden=[6]), jax.random.normal(k, (TIME, INPUT)), k) for k in keys]
    assert_holds(jax.tree.map(lambda *leaves: jnp.stack(leaves), *results))


@pytest.mark.slow
def test_over_two_hundred_networks_no_attack_and_no_sample_gets_past(key):
    @jax.jit
    def run(keys):
        def one(key):
            xs = jax.random.normal(key, (TIME, INPUT))
            return attacked(network(key, hidden=[8]), xs, jax.random.fold_in(key, 1), norm="l2", samples=10_000)

        return jax.lax.map(one, keys, batch_size=20)

    assert_holds(run(jax.random.split(key, 200)))


@pytest.mark.slow
def test_certificates_are_thirty_times_what_one_piece_proves(key):
    @jax.jit
    def gain(key):
        rnn, xs = network(key, hidden=[16]), jax.random.normal(key, (20, INPUT))
        found = maso_rnn.certified_radius(rnn, xs, maso_rnn.last_output(rnn, xs).argmax())
        return found.radius / found.one_piece

    gains = jax.lax.map(gain, jax.random.split(key, 100))
    assert (gains >= 0.998).all()
    assert np.median(gains) >= 30


def test_one_piece_in_l2_is_its_wall_or_its_decision(key):
    rnn, xs = network(key), jax.random.normal(key, (TIME, INPUT))
    affine = maso_rnn.affine_map(rnn, xs)
    label = int(affine.output.argmax())
    others = [c for c in range(OUTPUT) if c != label]
    reach = [
        (affine.output[label] - affine.output[c]) / jnp.linalg.norm(affine.slope[label] - affine.slope[c])
        for c in others
    ]
    wanted = min(maso_rnn.boundary_distance(rnn, xs), *reach)
    np.testing.assert_allclose(maso_rnn.certified_radius(rnn, xs, label).one_piece, wanted, rtol=1e-10)


def below_the_exact_distance(seeds):
    """Certificates over the distance to the boundary, exact on the plane of all inputs of two numbers."""
    shares = []
    for seed in seeds:
        rnn, segments = planes.two_numbers(seed)
        for point in np.random.default_rng(seed).normal(size=(3, 2)):
            xs, exact = jnp.asarray(point)[:, None], planes.distance_to(segments, point)
            if exact < planes.SIDE / 4:  # well within the square that is cut
                found = certified()(rnn, xs, maso_rnn.last_output(rnn, xs).argmax())
                shares.append(float(found.radius) / exact)
    return np.array(shares)


@functools.cache
def certified():
    return jax.jit(maso_rnn.certified_radius)


def test_a_certificate_is_below_the_exact_distance_on_a_plane():
    shares = below_the_exact_distance(range(4))
    assert (shares <= 1).all()
    assert np.median(shares) > 0.1


@pytest.mark.slow
def test_certificates_are_below_the_exact_distance_on_many_planes():
    shares = below_the_exact_distance(range(40))
    assert len(shares) > 60
    assert (shares <= 1).all()
    assert np.median(shares) > 0.3


def test_padding_steps_that_stay_and_radii_of_their_own(key):
    rnn, xs = network(key), jax.random.normal(key, (TIME, INPUT))
    whole = maso_rnn.output_bounds(rnn, xs[:3], 0.1)
    padded = maso_rnn.output_bounds(rnn, xs.at[3:].set(jnp.nan), 0.1, length=3)
    for a, b in zip(whole[:2], padded[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)
    stays = jnp.arange(TIME) < 3
    for norm in ("l2", "linf"):
        some = maso_rnn.output_bounds(rnn, xs, 0.1, norm=norm, moves=stays)
        each = maso_rnn.output_bounds(rnn, xs, 0.1 * stays, norm=norm)
        assert (each.lower <= some.lower + 1e-9).all()  # balls of their own hold the ball around all
        if norm == "linf":
            np.testing.assert_allclose(each.lower, some.lower, rtol=1e-9)
        moving = moved(key, xs, 0.1, norm, 500) * stays[:, None] + xs * ~stays[:, None]
        z = jax.vmap(lambda xs: maso_rnn.last_output(rnn, xs))(moving)
        assert ((z >= some.lower) & (z <= some.upper)).all()


def test_of_a_wrong_class_nothing_is_proved_and_explosions_are_infinite(key, unchecked):
    rnn, xs = network(key), jax.random.normal(key, (TIME, INPUT))
    wrong = int(maso_rnn.last_output(rnn, xs).argmin())
    found = maso_rnn.certified_radius(rnn, xs, wrong)
    assert found.radius == 0
    assert not found.is_predicted
    hot = rnn.replace(
        layers=tuple(layer.replace(recurrent_kernel=1e80 * layer.recurrent_kernel) for layer in rnn.layers)
    )
    bounds = maso_rnn.output_bounds(hot, xs, 1.0)
    assert (jnp.isneginf(bounds.lower) & jnp.isposinf(bounds.upper)).all()
    traced = jax.jit(maso_rnn.output_bounds)
    assert jnp.isnan(traced(rnn, xs, -1.0).lower).all()
    assert jnp.isnan(traced(rnn, xs.at[0, 0].set(jnp.nan), 1.0).upper).all()
    for call in (
        lambda: maso_rnn.output_bounds(rnn, xs, jnp.full(TIME, -1.0)),
        lambda: maso_rnn.output_bounds(rnn, xs, jnp.full(TIME, jnp.inf)),
        lambda: maso_rnn.output_bounds(rnn, xs, -1.0),
        lambda: maso_rnn.output_bounds(rnn, xs, jnp.nan),
        lambda: maso_rnn.output_bounds(rnn, xs, 0.1, norm="l1"),
        lambda: maso_rnn.output_bounds(rnn.replace(activation=jnp.sin), xs, 0.1),
        lambda: maso_rnn.output_bounds(rnn, xs, jnp.ones(3)),
        lambda: maso_rnn.certified_radius(rnn, xs, 3),
        lambda: maso_rnn.output_bounds(jax.tree.map(lambda w: w.astype("float16"), rnn), xs.astype("float16"), 0.1),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
