import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn.slices import line
from tests.oracles import dense_samples

# (activation, hidden sizes, steps)
NETS = (
    ("relu", (12,), 10),
    ("relu", (8, 6, 5), 6),
    ("leaky_relu", (8, 6), 6),
    ("abs", (6, 5), 5),
    ("hard_tanh", (8, 6), 6),
    ("identity", (4,), 3),
)
each_net = pytest.mark.parametrize("net", NETS, ids=lambda net: f"{net[0]}-{len(net[1])}")


@functools.cache
def network_and_corners(net, seed=0, corners=2):
    """A network with biases and a learned initial state, and random inputs."""
    activation, widths, steps = net
    key = jax.random.key(seed)
    rnn = maso_rnn.init(
        key, 2, widths, 3, activation=activation, bias_init=jax.nn.initializers.normal(0.3), dtype="float64"
    )
    rnn = rnn.replace(initial=tuple(0.2 * jnp.ones(width) for width in widths))
    return rnn, tuple(jax.random.normal(jax.random.fold_in(key, 1), (corners, steps, 2)))


def assert_exact(walk, rnn, start, stop, samples=2_000, h0=None):
    """Every piece found, none invented: by midpoints, thirds, neighbours and dense samples."""
    points = np.concatenate([[0.0], walk.breakpoints, [1.0]])
    gaps = np.diff(points)
    assert (gaps > 0).all()
    assert walk.pieces == len(walk.codes) == len(gaps)
    assert (walk.codes[1:] != walk.codes[:-1]).any(axis=1).all()
    # nearer to a breakpoint than this, rounding of a forward pass decides
    clear = gaps > 1e-9
    inputs = (start, stop - start)
    for share in (0.25, 0.75):
        codes, outputs = dense_samples.codes_and_outputs(rnn, inputs, points[:-1] + share * gaps, h0)
        np.testing.assert_array_equal(codes[clear], walk.codes[clear])
        wanted = walk.outputs[:-1] + share * np.diff(walk.outputs, axis=0)
        # float64 forward passes of some hundred operations on numbers of order 1 to 10
        np.testing.assert_allclose(outputs, wanted, atol=1e-11)
    samples = np.random.default_rng(0).uniform(size=samples)
    samples = samples[np.abs(samples[:, None] - points).min(axis=1) > 1e-9]
    codes, _ = dense_samples.codes_and_outputs(rnn, inputs, samples, h0)
    assert dense_samples.distinct(codes) <= dense_samples.distinct(walk.codes)
    np.testing.assert_array_equal(codes, walk.codes[np.searchsorted(walk.breakpoints, samples)])


@each_net
def test_walk_finds_every_piece_and_invents_none(net):
    rnn, (start, stop) = network_and_corners(net)
    walk = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    assert not walk.overflow
    assert walk.reached == 1
    assert walk.pieces == 1 if net[0] == "identity" else walk.pieces > 10
    assert_exact(walk, rnn, start, stop)


def test_walk_from_another_initial_state():
    rnn, (start, stop) = network_and_corners(NETS[0])
    h0 = (jnp.linspace(-1.0, 1.0, 12),)
    walk = maso_rnn.walk_line(rnn, start, stop, h0, max_regions=10_000)
    assert_exact(walk, rnn, start, stop, h0=h0)
    assert walk.pieces != maso_rnn.walk_line(rnn, start, stop, max_regions=10_000).pieces


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_walk_is_exact_on_random_segments(seed):
    rnn, (start, stop) = network_and_corners(("relu", (32,), 20), seed)
    walk = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    assert walk.pieces > 100
    assert_exact(walk, rnn, start, stop, samples=20_000)


@pytest.fixture(scope="module")
def digits():
    """A ReLU network trained on scikit-learn's digits, eight pixels a step, and two digits."""
    import optax
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    xs, labels = jnp.asarray(images.reshape(-1, 8, 8) / 16), jnp.asarray(labels)
    rnn = maso_rnn.init(
        jax.random.key(0), 8, [24], 10, recurrent_init=jax.nn.initializers.orthogonal(), dtype="float64"
    )

    def loss(rnn, xs, labels):
        outputs = jax.vmap(lambda xs: maso_rnn.forward(rnn, xs)[-1])(xs)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()

    optimiser = optax.adam(0.01)

    @jax.jit
    def train(rnn):
        def body(carry, i):
            rnn, memory = carry
            batch = (
                jax.lax.dynamic_slice_in_dim(xs, 64 * (i % 28), 64),
                jax.lax.dynamic_slice_in_dim(labels, 64 * (i % 28), 64),
            )
            update, memory = optimiser.update(jax.grad(loss)(rnn, *batch), memory)
            return (optax.apply_updates(rnn, update), memory), None

        return jax.lax.scan(body, (rnn, optimiser.init(rnn)), jnp.arange(200))[0][0]

    rnn = train(rnn)
    assert loss(rnn, xs, labels) < 0.5  # trained: 2.3 for guessing
    return rnn, xs


def test_walk_between_two_digits_is_exact(digits):
    rnn, xs = digits
    walk = maso_rnn.walk_line(rnn, xs[0], xs[1], max_regions=10_000)
    assert walk.pieces > 10
    assert_exact(walk, rnn, xs[0], xs[1], samples=20_000)


def test_breakpoints_of_two_kinks_and_units_that_rest_on_theirs_are_right():
    """One step, by hand: units x - 0.25, its copy, its opposite, 0, and 0.75 - x with x from 0 to 1."""
    rnn = maso_rnn.RNN(
        layers=(
            maso_rnn.Layer(
                input_kernel=jnp.array([[1.0, 1.0, -1.0, 0.0, -1.0]]),
                recurrent_kernel=jnp.zeros((5, 5)),
                bias=jnp.array([-0.25, -0.25, 0.25, 0.0, 0.75]),
            ),
        ),
        readout=maso_rnn.Readout(kernel=jnp.ones((5, 1))),
    )
    walk = maso_rnn.walk_line(rnn, jnp.zeros((1, 1)), jnp.ones((1, 1)), max_regions=10)
    np.testing.assert_array_equal(walk.breakpoints, [0.25, 0.75])
    (codes,) = maso_rnn.unpack(walk.codes, rnn)
    # the fourth unit rests on its kink, and has the lower code
    np.testing.assert_array_equal(codes[:, 0], np.array([[0, 0, 1, 0, 1], [1, 1, 0, 0, 1], [1, 1, 0, 0, 0]], bool))
    np.testing.assert_array_equal(walk.outputs[:, 0], [1.0, 0.5, 1.0, 1.5])
    on_device = maso_rnn.walk_line_on_device(rnn, jnp.zeros((1, 1)), jnp.ones((1, 1)), max_regions=10)
    assert on_device.pieces == 3
    np.testing.assert_array_equal(on_device.codes[:3], walk.codes)


def test_a_kink_that_is_reached_but_not_passed_is_no_breakpoint():
    """Second step: h - 0.5 with h = relu(x - 0.5), then back: touches its kink at both ends of pieces only."""
    layer = maso_rnn.Layer(
        input_kernel=jnp.array([[1.0, 0.0]]),
        recurrent_kernel=jnp.array([[0.0, 1.0], [0.0, 0.0]]),  # the second unit is the first one, a step before
        bias=jnp.array([-0.5, 0.0]),
    )
    rnn = maso_rnn.RNN(layers=(layer,), readout=maso_rnn.Readout(kernel=jnp.ones((2, 1))))
    start, stop = jnp.zeros((2, 1)), jnp.array([[1.0], [0.0]])
    for walk in (
        maso_rnn.walk_line(rnn, start, stop, max_regions=10),
        maso_rnn.walk_line_on_device(rnn, start, stop, max_regions=10),
    ):
        # relu(relu(x - 0.5)): the two units leave their kinks at one place
        assert walk.pieces == 2
        assert walk.breakpoints[0] == 0.5
        (codes,) = maso_rnn.unpack(jnp.asarray(walk.codes[:2]), rnn)
        np.testing.assert_array_equal(codes[0], np.zeros((2, 2), bool))
        np.testing.assert_array_equal(codes[1], np.array([[True, False], [False, True]]))


def test_without_biases_from_black_all_kinks_are_at_the_end():
    rnn = maso_rnn.init(jax.random.key(0), 2, (9,), 2, bias_init=None, dtype="float64")
    stop = jax.random.normal(jax.random.key(1), (7, 2))
    walk = maso_rnn.walk_line(rnn, jnp.zeros_like(stop), stop, max_regions=100)
    assert walk.pieces == 1  # positively homogeneous: one piece along every ray
    walk = maso_rnn.walk_line(rnn, -stop, stop, max_regions=100)
    np.testing.assert_allclose(walk.breakpoints, [0.5], atol=1e-15)  # and two through the origin; rounding of 0.5
    assert maso_rnn.walk_line_on_device(rnn, -stop, stop, max_regions=100).pieces == 2


def test_twin_units_and_far_ends_make_no_slivers():
    rnn, (start, stop) = network_and_corners(NETS[0])
    wanted = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    layer, (state,) = rnn.layers[0], rnn.initial
    # a second copy of each unit, three times as large, and half of the work for each copy

    def incoming(weights):
        return jnp.concatenate([weights, 3 * weights], axis=-1)

    def outgoing(weights):
        return jnp.concatenate([weights / 2, weights / 6])

    twins = rnn.replace(
        layers=(
            maso_rnn.Layer(
                incoming(layer.input_kernel), outgoing(incoming(layer.recurrent_kernel)), incoming(layer.bias)
            ),
        ),
        readout=rnn.readout.replace(kernel=outgoing(rnn.readout.kernel)),
        initial=(incoming(state),),
    )
    found = maso_rnn.walk_line(twins, start, stop, max_regions=10_000)
    # each crossing happens twice, at places that differ by rounding
    np.testing.assert_allclose(found.breakpoints, wanted.breakpoints, atol=1e-12)
    far = maso_rnn.walk_line(rnn, start, 1e8 * stop, max_regions=10_000)
    codes = maso_rnn.walk_line(rnn, start, start + 1e-3 * (1e8 * stop - start), max_regions=10_000).codes
    assert dense_samples.distinct(codes) <= dense_samples.distinct(far.codes)


@pytest.mark.parametrize("most", [10_000, 20, 1])
@each_net
def test_walks_that_go_on_half_by_half_find_the_same(monkeypatch, net, most):
    rnn, (start, stop) = network_and_corners(net)
    whole = maso_rnn.walk_line(rnn, start, stop, max_regions=most)
    monkeypatch.setattr(line, "CACHED", 3)
    halves = maso_rnn.walk_line(rnn, start, stop, max_regions=most)
    for name, value in whole._asdict().items():
        if name in ("codes", "overflow", "pieces"):
            np.testing.assert_array_equal(getattr(halves, name), value)
        else:  # float64: BLAS may sum a product of fewer rows in another order
            np.testing.assert_allclose(getattr(halves, name), value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("most", [3, 4, 5])
def test_a_walk_that_was_cut_before_it_goes_on_in_halves_says_so(monkeypatch, most):
    # six walls in the first layer, none in the second, where the halves begin
    first = maso_rnn.Layer(jnp.ones((1, 6)), jnp.zeros((6, 6)), -jnp.arange(1.0, 7) / 7)
    second = maso_rnn.Layer(jnp.ones((6, 1)), jnp.zeros((1, 1)), jnp.ones(1))
    rnn = maso_rnn.RNN((first, second), maso_rnn.Readout(jnp.ones((1, 1))))
    monkeypatch.setattr(line, "CACHED", 3)
    walk = maso_rnn.walk_line(rnn, jnp.zeros((1, 1)), jnp.ones((1, 1)), max_regions=most)
    assert walk.overflow
    assert walk.pieces == most
    assert walk.reached == pytest.approx(most / 7)


@each_net
def test_device_walk_agrees_with_the_host(net):
    rnn, (start, stop) = network_and_corners(net)
    walk = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    for most in (walk.pieces + 3, max(1, walk.pieces - 2)):
        host = maso_rnn.walk_line(rnn, start, stop, max_regions=most)
        device = jax.jit(maso_rnn.walk_line_on_device, static_argnames="max_regions")(
            rnn, start, stop, max_regions=most
        )
        count = int(device.pieces)
        assert count == host.pieces == min(most, walk.pieces)
        assert device.overflow == host.overflow == (most < walk.pieces)
        np.testing.assert_array_equal(device.codes[:count], host.codes)
        # float64: the device adds its steps up
        np.testing.assert_allclose(device.breakpoints[: count - 1], host.breakpoints, atol=1e-12)
        np.testing.assert_allclose(device.outputs[: count + 1], host.outputs, atol=1e-11)
        np.testing.assert_allclose(device.reached, host.reached, atol=1e-12)
        # what lies beyond repeats the end
        assert (device.breakpoints[count - 1 :] == device.reached).all()
        assert (device.outputs[count + 1 :] == device.outputs[count]).all()
        assert (device.codes[count:] == device.codes[count - 1]).all()


def test_after_an_overflow_the_walk_is_its_first_pieces():
    rnn, (start, stop) = network_and_corners(NETS[1])
    whole = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    for most in (1, 7, whole.pieces - 1, whole.pieces):
        cut = maso_rnn.walk_line(rnn, start, stop, max_regions=most)
        assert cut.overflow == (most < whole.pieces)
        assert cut.pieces == most
        np.testing.assert_array_equal(cut.codes, whole.codes[:most])
        # float64: points are carried on with other ones beside them
        np.testing.assert_allclose(cut.breakpoints, whole.breakpoints[: most - 1], atol=1e-13)
        np.testing.assert_allclose(cut.outputs, whole.outputs[: most + 1], atol=1e-12)
        np.testing.assert_allclose(cut.reached, [*whole.breakpoints, 1.0][most - 1], atol=1e-13)


@each_net
def test_maps_along_a_walk_are_those_of_its_pieces(net):
    rnn, (start, stop) = network_and_corners(net)
    walk = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    middles = np.convolve(np.concatenate([[0.0], walk.breakpoints, [1.0]]), [0.5, 0.5], "valid")
    xs = start + middles[:, None, None] * (stop - start)
    wanted = jax.jit(jax.vmap(maso_rnn.affine_map, (None, 0)))(rnn, xs)
    for refresh_every in (1, 5, 10_000):
        maps = maso_rnn.affine_maps_along(rnn, walk, refresh_every=refresh_every)
        # float64; also without a refresh, over some hundred updates
        np.testing.assert_allclose(maps.slope, wanted.slope, atol=1e-12)
        np.testing.assert_allclose(maps.offset, wanted.offset, atol=1e-12)
        for got, layer in zip(maps.initial_slope, wanted.initial_slope, strict=True):
            np.testing.assert_allclose(got, layer, atol=1e-12)


def assert_partition(plane, rnn, inputs, samples=2_000):
    assert not plane.overflow
    assert abs(plane.areas.sum() - 1) < 1e-9
    assert (plane.areas >= 0).all()
    # one code, one convex region: distinct over the whole plane
    assert len(dense_samples.distinct(plane.codes)) == len(plane.codes)
    # two points well inside each polygon that is wide enough for rounding not to decide
    wide = [k for k, area in enumerate(plane.areas) if area > 1e-10]
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        weights = [rng.dirichlet(np.full(len(plane.polygons[k]), 5.0)) for k in wide]
        points = np.array([w @ plane.polygons[k] for w, k in zip(weights, wide, strict=True)])
        affine = np.array([w @ plane.outputs[k] for w, k in zip(weights, wide, strict=True)])
        codes, outputs = dense_samples.codes_and_outputs(rnn, inputs, points)
        np.testing.assert_array_equal(codes, plane.codes[wide])
        np.testing.assert_allclose(outputs, affine, atol=1e-11)  # float64 forward passes on numbers of order 1 to 10
    points = np.random.default_rng(0).uniform(size=(samples, 2))
    codes, _ = dense_samples.codes_and_outputs(rnn, inputs, points)
    assert dense_samples.distinct(codes) <= dense_samples.distinct(plane.codes)


@each_net
def test_plane_is_cut_into_exactly_its_pieces(net):
    rnn, (origin, u, v) = network_and_corners(net, corners=3)
    plane = maso_rnn.partition_plane(rnn, origin, u, v, max_regions=20_000)
    assert (len(plane.codes) == 1) if net[0] == "identity" else (len(plane.codes) > 20)
    assert_partition(plane, rnn, (origin, u, v))


def test_plane_through_three_digits_is_cut_into_exactly_its_pieces(digits):
    rnn, xs = digits
    inputs = (xs[0], xs[1] - xs[0], xs[2] - xs[0])
    plane = maso_rnn.partition_plane(rnn, *inputs, max_regions=20_000)
    assert len(plane.codes) > 100
    assert_partition(plane, rnn, inputs, samples=20_000)


def test_edges_of_a_plane_are_walks():
    rnn, (origin, u, v) = network_and_corners(NETS[0], corners=3)
    plane = maso_rnn.partition_plane(rnn, origin, u, v, max_regions=20_000)
    walk = maso_rnn.walk_line(rnn, origin, origin + u, max_regions=20_000)
    on_edge = np.unique(np.concatenate([polygon[polygon[:, 1] == 0, 0] for polygon in plane.polygons]).round(9))
    np.testing.assert_allclose(
        on_edge, np.concatenate([[0], walk.breakpoints, [1]]), atol=2e-9
    )  # rounded to nine digits


def test_without_biases_a_plane_at_the_origin_is_cut_in_wedges():
    rnn = maso_rnn.init(jax.random.key(0), 2, (9,), 2, bias_init=None, dtype="float64")
    u, v = jax.random.normal(jax.random.key(1), (2, 7, 2))
    plane = maso_rnn.partition_plane(rnn, jnp.zeros_like(u), u, v, max_regions=100)
    assert len(plane.polygons) > 3
    # positively homogeneous: all pieces meet at the origin, where every unit is on its kink
    assert all((polygon == 0).all(axis=1).any() for polygon in plane.polygons)
    assert abs(plane.areas.sum() - 1) < 1e-12  # rounding


def test_after_an_overflow_the_polygons_are_some_of_the_pieces():
    rnn, (origin, u, v) = network_and_corners(NETS[0], corners=3)
    whole = dense_samples.distinct(maso_rnn.partition_plane(rnn, origin, u, v, max_regions=20_000).codes)
    for most in (1, 20, len(whole) - 1):
        cut = maso_rnn.partition_plane(rnn, origin, u, v, max_regions=most)
        assert cut.overflow
        assert len(cut.polygons) == len(cut.codes) <= most
        assert dense_samples.distinct(cut.codes) <= whole
    assert not maso_rnn.partition_plane(rnn, origin, u, v, max_regions=len(whole)).overflow


def test_a_float32_network_is_walked_in_float64():
    rnn, (start, stop) = network_and_corners(NETS[0])
    single = jax.tree.map(lambda w: w.astype(jnp.float32), rnn)
    walk = maso_rnn.walk_line(single, start, stop, max_regions=10_000)
    assert walk.breakpoints.dtype == walk.outputs.dtype == np.float64
    double = jax.tree.map(lambda w: w.astype(jnp.float64), single)
    np.testing.assert_array_equal(
        walk.breakpoints, maso_rnn.walk_line(double, start, stop, max_regions=10_000).breakpoints
    )


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("walk", [maso_rnn.walk_line, maso_rnn.walk_line_on_device])
def test_bad_lines_are_refused(walk):
    rnn, (start, stop) = network_and_corners(NETS[0])
    with pytest.raises(ValueError, match="stop must differ from start"):
        walk(rnn, start, start, max_regions=10)
    with pytest.raises(ValueError, match="stop"):
        walk(rnn, start, stop[:-1], max_regions=10)
    with pytest.raises(ValueError, match="stop"):
        walk(rnn, start, stop.at[0, 0].set(jnp.nan), max_regions=10)
    with pytest.raises(ValueError, match="start"):
        walk(rnn, start[:, :1], stop[:, :1], max_regions=10)
    with pytest.raises(TypeError, match="start"):
        walk(rnn, 0.0, stop, max_regions=10)
    with pytest.raises(ValueError, match="max_regions"):
        walk(rnn, start, stop, max_regions=0)
    with pytest.raises(ValueError, match="length"):
        walk(rnn, start, stop, max_regions=10, length=len(start) + 1)
    with pytest.raises(ValueError, match="activation"):
        walk(rnn.replace(activation=jnp.tanh), start, stop, max_regions=10)


@pytest.mark.usefixtures("unchecked")
def test_bad_planes_and_walks_are_refused():
    rnn, (origin, u, v) = network_and_corners(NETS[0], corners=3)
    for bad in (2 * u, 0 * u):
        with pytest.raises(ValueError, match="collinear"):
            maso_rnn.partition_plane(rnn, origin, u, bad, max_regions=10)
    with pytest.raises(ValueError, match="v must"):
        maso_rnn.partition_plane(rnn, origin, u, v[:-1], max_regions=10)
    with pytest.raises(ValueError, match="u must"):
        maso_rnn.partition_plane(rnn, origin, u.at[0].set(jnp.inf), v, max_regions=10)
    with pytest.raises(ValueError, match="max_regions"):
        maso_rnn.partition_plane(rnn, origin, u, v, max_regions=0)
    walk = maso_rnn.walk_line(rnn, origin, u, max_regions=10)
    with pytest.raises(ValueError, match="refresh_every"):
        maso_rnn.affine_maps_along(rnn, walk, refresh_every=0)
    with pytest.raises(TypeError, match="walk must"):
        maso_rnn.affine_maps_along(rnn, walk.codes)
    with pytest.raises(ValueError, match="walk must"):
        maso_rnn.affine_maps_along(rnn, walk._replace(codes=walk.codes[:, :-1]))


@pytest.mark.usefixtures("unchecked")
def test_host_functions_name_the_one_for_the_device_when_traced():
    rnn, (origin, u, v) = network_and_corners(NETS[0], corners=3)
    walk = maso_rnn.walk_line(rnn, origin, u, max_regions=10)
    with pytest.raises(TypeError, match="walk_line_on_device"):
        jax.jit(lambda start: maso_rnn.walk_line(rnn, start, u, max_regions=10).outputs)(origin)
    with pytest.raises(TypeError, match="walk_line_on_device"):
        jax.jit(lambda start: maso_rnn.partition_plane(rnn, start, u, v, max_regions=10).codes)(origin)
    with pytest.raises(TypeError, match="affine_map"):
        jax.jit(lambda rnn: maso_rnn.affine_maps_along(rnn, walk).offset)(rnn)


def test_traced_trouble_is_in_the_result():
    rnn, (start, _) = network_and_corners(NETS[0])
    walk = jax.jit(maso_rnn.walk_line_on_device, static_argnames="max_regions")
    still = walk(rnn, start, start, max_regions=10)
    assert still.pieces == 1
    assert not still.overflow
    lost = walk(rnn, start, jnp.full_like(start, jnp.nan), max_regions=10)
    assert np.isnan(lost.reached)
    assert lost.overflow


def test_corners_are_as_exact_as_their_dtype(key):
    rnn = maso_rnn.init(key, 3, [4], 1, dtype="float32")
    first, second = jax.random.normal(key, (2, 6, 3), "float32")
    third = first + jnp.float32(0.37) * (second - first)
    with pytest.raises(ValueError, match="collinear"):
        maso_rnn.partition_plane(rnn, first, second - first, third - first, max_regions=10)


def test_concrete_ends_may_be_closed_over_inside_jit(key):
    rnn = maso_rnn.init(key, 1, [4], 1)
    start, stop = jnp.zeros((4, 1)), jnp.ones((4, 1))
    outside = maso_rnn.walk_line_on_device(rnn, start, stop, max_regions=5)
    inside = jax.jit(lambda: maso_rnn.walk_line_on_device(rnn, start, stop, max_regions=5))()
    assert int(inside.pieces) == int(outside.pieces)
    with pytest.raises(ValueError, match="length zero"):
        jax.jit(lambda: maso_rnn.walk_line_on_device(rnn, start, start, max_regions=5))()


def unbiased(dtype="float64"):
    """A network without biases, whose pieces do not change when its inputs are scaled, and corners."""
    key = jax.random.key(0)
    rnn = maso_rnn.init(key, 2, [8], 3, bias_init=None, dtype=dtype)
    return rnn, *(jax.random.normal(jax.random.fold_in(key, s), (10, 2), dtype) for s in (10, 11))


SCALES = (1.0, 1e-3, 1e-5, 1e-7, 1e-14, 1e14)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_no_piece_is_lost_at_any_scale_of_the_inputs(dtype):
    rnn, a, b = unbiased(dtype)
    counts = {
        (
            int(maso_rnn.walk_line_on_device(rnn, -s * a, s * b, max_regions=99).pieces),
            maso_rnn.walk_line(rnn, -s * a, s * b, max_regions=99).pieces,
            len(maso_rnn.partition_plane(rnn, -s * a, s * (a + b), s * b[::-1], max_regions=2000).areas),
        )
        for s in (jnp.asarray(s, dtype) for s in SCALES)
    }
    assert len(counts) == 1
    ((device, host, plane),) = counts
    assert device == host > 40
    assert plane > 500
    if dtype == "float32":
        assert (device, host, plane) == (51, 51, 979)


@pytest.mark.parametrize("s", SCALES)
def test_codes_at_any_scale_are_those_of_a_forward_pass(s):
    rnn, a, b = unbiased()
    for walk in (
        maso_rnn.walk_line(rnn, -s * a, s * b, max_regions=99),
        jax.tree.map(np.asarray, maso_rnn.walk_line_on_device(rnn, -s * a, s * b, max_regions=56)),
    ):
        points = np.concatenate([[0.0], walk.breakpoints, [1.0]])
        middles = (points[:-1] + points[1:]) / 2
        codes, outputs = dense_samples.codes_and_outputs(rnn, (-s * a, s * (a + b)), middles)
        np.testing.assert_array_equal(codes, walk.codes)
        wanted = (walk.outputs[:-1] + walk.outputs[1:]) / 2
        np.testing.assert_allclose(outputs, wanted, atol=1e-12 * s)  # float64, at the scale of the inputs


@pytest.mark.parametrize("spread", [1e3, 1e8])
def test_no_piece_is_lost_where_hidden_units_are_rescaled(spread):
    """Each ReLU unit times a power of two of its own: the same function, exactly, with the same pieces."""
    rnn, (origin, u, v) = network_and_corners(NETS[0], corners=3)
    layer, (state,) = rnn.layers[0], rnn.initial
    scales = 2.0 ** np.round(np.log2(spread) * np.linspace(-1, 1, len(state)))
    other = rnn.replace(
        layers=(
            maso_rnn.Layer(
                layer.input_kernel * scales,
                layer.recurrent_kernel * scales / scales[:, None],
                layer.bias * scales,
            ),
        ),
        readout=rnn.readout.replace(kernel=rnn.readout.kernel / scales[:, None]),
        initial=(state * scales,),
    )
    most = {"max_regions": 10_000}
    for walk in (maso_rnn.walk_line, functools.partial(maso_rnn.walk_line_on_device)):
        wanted, got = (walk(net, origin, origin + u, max_regions=200) for net in (rnn, other))
        assert int(got.pieces) == int(wanted.pieces)
        np.testing.assert_array_equal(got.codes, wanted.codes)
        np.testing.assert_allclose(got.breakpoints, wanted.breakpoints, rtol=1e-12)  # another order of summing
    wanted, got = (maso_rnn.partition_plane(net, origin, u, v, **most) for net in (rnn, other))
    assert dense_samples.distinct(got.codes) == dense_samples.distinct(wanted.codes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(15))
def test_scaled_networks_of_many_kinds_keep_their_pieces(seed):
    """Inputs scaled by powers of two, which round nothing: the same pieces, exactly."""
    key = jax.random.key(seed)
    activation = ("relu", "leaky_relu", "abs")[seed % 3]
    rnn = maso_rnn.init(key, 2, [(8,), (6, 5), (24,)][seed % 3], 2, bias_init=None, activation=activation)
    start, stop = jax.random.normal(jax.random.fold_in(key, 1), (2, 10, 2))
    wanted = maso_rnn.walk_line(rnn, start, stop, max_regions=10_000)
    for exponent in (-60, 60):
        got = maso_rnn.walk_line(rnn, start * 2.0**exponent, stop * 2.0**exponent, max_regions=10_000)
        np.testing.assert_array_equal(got.codes, wanted.codes)
        np.testing.assert_array_equal(got.breakpoints, wanted.breakpoints)


def test_padding_changes_no_number():
    rnn, (origin, u, v) = network_and_corners(NETS[1], corners=3)
    steps = len(origin)

    def longer(xs, fill):
        return jnp.concatenate([xs, jnp.full((2, 2), fill)])

    stop = origin + u
    ends = longer(origin, jnp.nan), longer(stop, 5.0)
    wanted = maso_rnn.walk_line(rnn, origin, stop, max_regions=1_000)
    got = maso_rnn.walk_line(rnn, *ends, max_regions=1_000, length=steps)
    np.testing.assert_array_equal(got.breakpoints, wanted.breakpoints)
    np.testing.assert_array_equal(got.outputs, wanted.outputs)
    codes = [maso_rnn.unpack(walk.codes, rnn) for walk in (got, wanted)]
    for padded, layer in zip(*codes, strict=True):
        np.testing.assert_array_equal(padded[:, :steps], layer)
        assert not padded[:, steps:].any()
    device = jax.jit(maso_rnn.walk_line_on_device, static_argnames="max_regions")(
        rnn, *ends, max_regions=wanted.pieces, length=jnp.asarray(steps)
    )
    np.testing.assert_array_equal(device.codes, got.codes)
    np.testing.assert_allclose(device.outputs, wanted.outputs, atol=1e-11)  # float64: the device adds its steps up
    maps = maso_rnn.affine_maps_along(rnn, got, length=steps)
    for field, exact in zip(maps, maso_rnn.affine_maps_along(rnn, wanted), strict=True):
        if field is maps.slope:
            assert (field[:, :, steps:] == 0).all()
            field = field[:, :, :steps]
        jax.tree.map(np.testing.assert_array_equal, field, exact)
    plane = maso_rnn.partition_plane(rnn, origin, u, v, max_regions=20_000)
    corners = longer(origin, 1.0), longer(u, jnp.inf), longer(v, 0.0)
    padded = maso_rnn.partition_plane(rnn, *corners, max_regions=20_000, length=steps)
    np.testing.assert_array_equal(padded.areas, plane.areas)


def test_layers_without_recurrence_are_walked():
    """An encoder below and a head above: as with recurrent kernels of zeros."""
    rnn, (origin, u, v) = network_and_corners(NETS[1], corners=3)
    bare = rnn.replace(
        layers=tuple(l.replace(recurrent_kernel=None) if i != 1 else l for i, l in enumerate(rnn.layers))
    )
    zeros = rnn.replace(
        layers=tuple(
            l.replace(recurrent_kernel=jnp.zeros_like(l.recurrent_kernel)) if i != 1 else l
            for i, l in enumerate(rnn.layers)
        )
    )
    wanted, got = (maso_rnn.walk_line(net, origin, u, max_regions=1_000) for net in (zeros, bare))
    np.testing.assert_array_equal(got.codes, wanted.codes)
    assert_exact(got, bare, origin, u)
    device = maso_rnn.walk_line_on_device(bare, origin, u, max_regions=got.pieces)
    np.testing.assert_array_equal(device.codes, got.codes)
    maps = [maso_rnn.affine_maps_along(net, walk) for net, walk in ((zeros, wanted), (bare, got))]
    np.testing.assert_allclose(maps[1].slope, maps[0].slope, atol=1e-13)  # rounding
    planes = [maso_rnn.partition_plane(net, origin, u, v, max_regions=20_000) for net in (zeros, bare)]
    np.testing.assert_array_equal(planes[1].codes, planes[0].codes)


def test_a_walk_on_the_device_has_no_nan_to_trip_over():
    rnn, (start, stop) = network_and_corners(NETS[0])
    with jax.debug_nans(True):
        walk = maso_rnn.walk_line_on_device(rnn, start, stop, max_regions=150)
    assert int(walk.pieces) < 150


def test_a_second_eager_call_compiles_nothing():
    rnn, (start, stop) = network_and_corners(NETS[0])
    calls = (
        lambda a, b: maso_rnn.walk_line_on_device(rnn, a, b, max_regions=150),
        lambda a, b: maso_rnn.walk_line(rnn, a, b, max_regions=150),
        lambda a, b: maso_rnn.partition_plane(rnn, a, 0.1 * a, 0.1 * b, max_regions=500),
        lambda a, b: maso_rnn.affine_maps_along(rnn, maso_rnn.walk_line(rnn, a, b, max_regions=150)),
        lambda a, b: maso_rnn.integrated_gradients(rnn, a, b),
        lambda a, b: maso_rnn.integrated_gradients_on_device(rnn, a, b, max_regions=150),
        lambda a, b: maso_rnn.decisions(maso_rnn.walk_line_on_device(rnn, a, b, max_regions=500)),
    )
    compiled = []
    for call in calls:
        call(start, stop)
    other = start + 0.25, stop - 0.25
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        for call in calls:
            call(*other)
    finally:
        jax.monitoring.clear_event_listeners()
    assert not compiled
