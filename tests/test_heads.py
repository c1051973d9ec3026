"""A head that is read once has codes and walls at the last step alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import distances, files
from maso_rnn.network import step as network_step

TIME = 6


def network(activation="relu", heads=1):
    """Two recurrent layers, and a head of one or two."""
    widths = [3, 4, 5, 4][: 2 + heads]
    rnn = maso_rnn.init(jax.random.key(2), 2, widths, 3, activation=activation)
    rnn = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), rnn)
    layers = (*rnn.layers[:2], *(layer.replace(recurrent_kernel=None) for layer in rnn.layers[2:]))
    return rnn.replace(layers=layers, read_once=True)


def ends(seed=0):
    start, stop = jax.random.normal(jax.random.key(seed), (2, TIME, 2))
    return start, stop


def read_pre_activations(rnn, xs):
    """Those that the last output depends on: of the running layers at every step, of the head at the last."""
    state, found = maso_rnn.initial_state(rnn), []
    for t, x in enumerate(xs):
        state, pre_activations = network_step(rnn, state, x)
        found += pre_activations if t == len(xs) - 1 else pre_activations[:2]
    return jnp.concatenate(found)


def kinks_along(rnn, start, stop, count=20_001):
    """How many kinks of what is read lie on a segment, by looking at many points of it (a point for one kink)."""
    p = jax.jit(jax.vmap(lambda s: read_pre_activations(rnn, start + s * (stop - start))))(jnp.linspace(0, 1, count))
    return sum(int((np.diff(np.asarray(p) > kink, axis=0) != 0).sum()) for kink in rnn.activation.breakpoints)


def test_its_codes_are_those_of_the_last_step():
    rnn, (xs, _) = network(), ends()
    once, every = maso_rnn.trajectory(rnn, xs), maso_rnn.trajectory(rnn.replace(read_once=False), xs)
    assert (once.outputs == every.outputs).all()
    for l, (code, full) in enumerate(zip(once.codes, every.codes, strict=True)):
        assert (code[-1] == full[-1]).all()
        assert (code[:-1] == full[:-1]).all() if l < 2 else (full[:-1].any() and not code[:-1].any())


@pytest.mark.parametrize(("activation", "heads"), [("relu", 2), ("hard_tanh", 1)])
def test_every_piece_on_a_line_and_no_other_is_found(activation, heads):
    rnn, (start, stop) = network(activation, heads), ends()
    walk = maso_rnn.walk_line(rnn, start, stop, max_regions=1000)
    every = maso_rnn.walk_line(rnn.replace(read_once=False), start, stop, max_regions=1000)
    assert walk.pieces - 1 == kinks_along(rnn, start, stop) < every.pieces - 1
    middles = (np.r_[0, walk.breakpoints] + np.r_[walk.breakpoints, 1]) / 2
    at = start + middles[:, None, None] * (stop - start)
    codes = jax.vmap(lambda x: maso_rnn.pack(maso_rnn.trajectory(rnn, x).codes))(at)
    assert (np.asarray(codes) == walk.codes).all()
    slopes = jax.vmap(jax.jacobian(lambda x: maso_rnn.last_output(rnn, x)))(at)
    assert np.allclose(maso_rnn.affine_maps_along(rnn, walk).slope, slopes)


@pytest.mark.slow
def test_the_walk_on_a_device_is_the_walk_on_the_host_with_padding_too():
    rnn, (start, stop) = network(), ends()
    host = maso_rnn.walk_line(rnn, start, stop, max_regions=200)
    padded = [jnp.concatenate([end, 7 * end]) for end in (start, stop)]
    long = maso_rnn.walk_line(rnn, *padded, max_regions=200, length=TIME)
    device = maso_rnn.walk_line_on_device(rnn, *padded, max_regions=200, length=TIME)
    assert host.pieces == long.pieces == int(device.pieces)
    assert np.allclose(device.breakpoints[: host.pieces - 1], host.breakpoints)
    assert (np.asarray(device.codes)[: host.pieces] == long.codes).all()
    assert (long.codes[:, : host.codes.shape[1]] == host.codes).all()
    exact = maso_rnn.integrated_gradients(rnn, stop, start)
    assert np.allclose(maso_rnn.integrated_gradients_on_device(rnn, stop, start, max_regions=200).values, exact.values)


def test_a_plane_has_the_pieces_of_what_is_read():
    rnn, (origin, u) = network("hard_tanh"), ends()
    v = origin[::-1]
    plane = maso_rnn.partition_plane(rnn, origin, u, v, max_regions=5000)
    every = maso_rnn.partition_plane(rnn.replace(read_once=False), origin, u, v, max_regions=5000)
    assert len(plane.codes) < len(every.codes)
    assert np.isclose(plane.areas.sum(), 1)
    assert len(np.unique(plane.codes, axis=0)) == len(plane.codes)  # no piece is cut by a wall that nothing reads
    middles = np.stack([polygon.mean(axis=0) for polygon in plane.polygons])
    at = origin + middles[:, 0, None, None] * u + middles[:, 1, None, None] * v
    codes = jax.vmap(lambda x: maso_rnn.pack(maso_rnn.trajectory(rnn, x).codes))(at)
    assert (np.asarray(codes) == plane.codes).all()


def test_the_nearest_wall_is_one_of_what_is_read():
    rnn = network("hard_tanh")
    every = rnn.replace(read_once=False)
    read = jax.jit(lambda xs: (read_pre_activations(rnn, xs), jax.jacobian(lambda x: read_pre_activations(rnn, x))(xs)))
    by_gram_matrix = jax.jit(
        lambda rnn, xs: distances._by_gram_matrix(rnn, xs, maso_rnn.initial_state(rnn), jnp.asarray(TIME))[0]
    )
    further = 0
    for seed in range(8):
        xs = ends(seed)[0]
        p, gradients = read(xs)
        sizes = jnp.linalg.norm(gradients.reshape(len(p), -1), axis=1)
        wall = min(float((jnp.abs(p - kink) / sizes).min()) for kink in rnn.activation.breakpoints)
        padded = jnp.concatenate([xs, 5 * xs])
        for found in (
            maso_rnn.boundary_distance(rnn, xs),
            maso_rnn.boundary_distance(rnn, padded, length=TIME),
            by_gram_matrix(rnn, xs),
        ):
            assert np.isclose(found, wall, rtol=1e-9)  # a sum of some dozen terms, squared
        further += wall > maso_rnn.boundary_distance(every, xs) * (1 + 1e-9)
    assert further  # some unread wall is nearer


def test_doubt_is_of_what_is_read():
    zeros, ones = jnp.zeros((2, 2)), jnp.ones(2)
    layers = (maso_rnn.Layer(zeros, zeros, ones), maso_rnn.Layer(jnp.array([[1.0], [-1.0]])))  # 1 − 1 in the head
    rnn = maso_rnn.RNN(layers, maso_rnn.Readout(jnp.ones((1, 1))), read_once=True)
    xs = ends()[0]
    assert int(maso_rnn.doubtful_codes(rnn, xs)) == 1
    assert int(maso_rnn.doubtful_codes(rnn.replace(read_once=False), xs)) == TIME


@pytest.mark.slow
def test_bounds_and_rounds_are_those_of_what_is_read():
    rnn, (xs, _) = network("hard_tanh"), ends(5)
    every = rnn.replace(read_once=False)
    bounds, full = maso_rnn.output_bounds(rnn, 0.3 * xs, 0.1), maso_rnn.output_bounds(every, 0.3 * xs, 0.1)
    assert jnp.allclose(bounds.lower, full.lower)
    assert (bounds.widths <= full.widths).all()
    assert bounds.widths[-1] == full.widths[-1]
    codes = maso_rnn.parallel_forward(rnn, xs).trajectory.codes
    assert all(map(jnp.array_equal, codes, maso_rnn.trajectory(rnn, xs).codes))


def test_a_map_of_any_step_reads_the_head_there():
    rnn, (xs, _) = network(), ends()
    every = maso_rnn.affine_maps(rnn, xs)
    for t in (2, TIME - 1):
        affine = maso_rnn.affine_map(rnn, xs, step=t)
        assert np.allclose(affine.slope, jax.jacobian(lambda x, t=t: maso_rnn.forward(rnn, x)[t])(xs))
        assert np.allclose(affine.slope, every.slope[t])
        assert affine.codes[2][t].any()
        assert not np.delete(np.asarray(affine.codes[2]), t, axis=0).any()


def test_it_has_no_state():
    # the state goes to 0, clear of the kink; the head, without biases, is on its own there
    one, bias = jnp.ones((1, 1)), -jnp.ones(1)
    layers = (maso_rnn.Layer(one, 0.5 * one, bias), maso_rnn.Layer(one))
    rnn = maso_rnn.RNN(layers, maso_rnn.Readout(one), read_once=True)
    exact = maso_rnn.all_fixed_points(rnn)
    found = maso_rnn.fixed_points(rnn, (jnp.ones((2, 1)), jnp.ones((2, 1))), jnp.zeros(1))
    for points, values in ((exact, exact.multipliers), (found, found.eigenvalues)):
        assert [state.shape for state in points.states] == [(1, 1), (1, 1)]
        assert values.shape == (1, 1)
        assert points.stable.all()
        assert not points.on_kink.any()
    assert maso_rnn.all_fixed_points(rnn.replace(read_once=False)).on_kink.all()
    with pytest.raises(ValueError, match="read_once"):
        maso_rnn.forward(rnn.replace(layers=layers[1:]), jnp.ones((3, 1)))


def test_a_file_keeps_it(tmp_path):
    rnn = network()
    files.save(tmp_path / "rnn.safetensors", rnn)
    again = files.load(tmp_path / "rnn.safetensors")
    assert again.read_once
    assert "read once" in str(again)
    files.save(tmp_path / "rnn.safetensors", rnn.replace(read_once=False))
    assert not files.load(tmp_path / "rnn.safetensors").read_once
