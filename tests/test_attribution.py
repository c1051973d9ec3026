import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import network
from maso_rnn.slices import line
from tests.oracles import attribution

# (activation, hidden sizes)
NETS = (("relu", (12,)), ("leaky_relu", (6, 5)), ("hard_tanh", (8, 6)), ("abs", (6, 5)))
each_net = pytest.mark.parametrize("net", NETS, ids=lambda net: f"{net[0]}-{len(net[1])}")


@functools.cache
def network_and_ends(net, seed=0, dtype="float64"):
    """A network with biases and a learned initial state, an input and a baseline."""
    activation, widths = net
    key = jax.random.key(seed)
    rnn = maso_rnn.init(
        key, 2, widths, 3, activation=activation, bias_init=jax.nn.initializers.normal(0.3), dtype=dtype
    )
    rnn = rnn.replace(initial=tuple(0.2 * jnp.ones(width, dtype) for width in widths))
    return rnn, *jax.random.normal(jax.random.fold_in(key, 1), (2, 6, 2), dtype)


def cell(rnn):
    return maso_rnn.Cell(
        rnn,
        lambda rnn, h, x: network.step(rnn, h, x)[0],
        lambda rnn, h: network.read_out(rnn, h[-1]),
        maso_rnn.initial_state(rnn),
    )


def assert_complete(found, rnn, xs, baseline):
    change = maso_rnn.last_output(rnn, xs) - maso_rnn.last_output(rnn, baseline)
    # float64: sums of some ten pieces with numbers of order 1 to 10
    np.testing.assert_allclose(found.change, change, atol=1e-12)
    np.testing.assert_allclose(found.values.sum(axis=(1, 2)), change, atol=1e-12)
    assert (found.error <= 1e-12).all()


@each_net
def test_integrated_gradients_are_exact(net):
    rnn, xs, baseline = network_and_ends(net)
    found = maso_rnn.integrated_gradients(rnn, xs, baseline)
    assert_complete(found, rnn, xs, baseline)
    assert found.pieces == maso_rnn.walk_line(rnn, baseline, xs, max_regions=1_000).pieces > 5
    samples = 20_000
    sampled = attribution.riemann_sum(lambda xs: maso_rnn.last_output(rnn, xs), xs, baseline, samples)
    # a midpoint rule is wrong by half a step at each breakpoint, times the jump of the gradient there
    maps = maso_rnn.affine_maps_along(rnn, maso_rnn.walk_line(rnn, baseline, xs, max_regions=1_000))
    jumps = np.abs(np.diff(maps.slope, axis=0)).sum(axis=0) * np.abs(xs - baseline)
    assert (np.abs(found.values - sampled) <= jumps / (2 * samples) + 1e-12).all()


@pytest.mark.slow
def test_integrated_gradients_are_complete_on_a_thousand_random_networks():
    for seed in range(1_000):
        rnn, xs, baseline = network_and_ends(NETS[seed % 4], seed // 4)
        assert (maso_rnn.integrated_gradients(rnn, xs, baseline).error <= 1e-12).all()


@each_net
def test_on_the_device_they_are_the_same(net):
    rnn, xs, baseline = network_and_ends(net)
    wanted = maso_rnn.integrated_gradients(rnn, xs, baseline)
    run = jax.jit(maso_rnn.integrated_gradients_on_device, static_argnames="max_regions")
    found = run(rnn, xs, baseline, max_regions=100)
    assert int(found.pieces) == wanted.pieces
    assert not found.overflow
    assert_complete(found, rnn, xs, baseline)
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-12)  # float64, as above
    cut = run(rnn, xs, baseline, max_regions=wanted.pieces - 1)
    assert cut.overflow
    assert np.isnan(cut.values).all()


def test_stretch_by_stretch_they_are_the_same(monkeypatch):
    rnn, xs, baseline = network_and_ends(NETS[0])
    wanted = maso_rnn.integrated_gradients(rnn, xs, baseline)
    monkeypatch.setattr(line, "CACHED", 5)
    found = maso_rnn.integrated_gradients(rnn, xs, baseline)
    assert found.pieces == wanted.pieces
    np.testing.assert_allclose(found.values, wanted.values, atol=1e-13)  # rounding of another order of summing


def test_padding_changes_no_number():
    rnn, xs, baseline = network_and_ends(NETS[1])
    longer = [jnp.concatenate([x, jnp.full((3, 2), fill)]) for x, fill in ((xs, jnp.nan), (baseline, 7.0))]
    wanted = maso_rnn.integrated_gradients(rnn, xs, baseline)
    on_device = jax.jit(maso_rnn.integrated_gradients_on_device, static_argnames="max_regions")
    by_quadrature = maso_rnn.integrated_gradients_by_quadrature
    for found, exact in (
        (maso_rnn.integrated_gradients(rnn, *longer, length=6), wanted),
        (on_device(rnn, *longer, max_regions=100, length=6), wanted),
        (
            by_quadrature(cell(rnn), jnp.nan_to_num(longer[0]), longer[1], length=6, max_intervals=20),
            by_quadrature(cell(rnn), xs, baseline, max_intervals=20),
        ),
    ):
        np.testing.assert_allclose(found.values[:, :6], exact.values, atol=1e-13)  # rounding
        assert (found.values[:, 6:] == 0).all()
        assert found.pieces == exact.pieces


def test_a_smooth_cell_by_quadrature():
    rnn, xs, baseline = network_and_ends(NETS[0])
    smooth = cell(rnn.replace(activation=jnp.tanh))
    found = maso_rnn.integrated_gradients_by_quadrature(smooth, xs, baseline, tolerance=1e-11)
    assert not found.overflow
    # what was asked for, to rounding
    assert (found.error <= 1.001e-11 * np.abs(found.values).sum(axis=(1, 2)).max()).all()
    output = functools.partial(maso_rnn.last_output, rnn.replace(activation=jnp.tanh))
    samples = [attribution.riemann_sum(output, xs, baseline, n) for n in (500, 1_000)]
    # the midpoint rule's error falls as the square of the step: a quarter of it is left at half the step
    np.testing.assert_allclose(found.values, samples[1] + (samples[1] - samples[0]) / 3, atol=1e-9)
    np.testing.assert_allclose(found.change, output(xs) - output(baseline), atol=1e-12)


def test_quadrature_of_pieces_says_how_far_off_it_is():
    rnn, xs, baseline = network_and_ends(NETS[0])
    exact = maso_rnn.integrated_gradients(rnn, xs, baseline)
    for most in (1, 30, 3_000):
        found = maso_rnn.integrated_gradients_by_quadrature(cell(rnn), xs, baseline, tolerance=1e-4, max_intervals=most)
        assert (np.abs(found.values - exact.values).sum(axis=(1, 2)) <= found.error).all()
        assert bool(found.overflow) == (most < 3_000)


def test_a_way_of_length_zero_adds_nothing():
    rnn, xs, _ = network_and_ends(NETS[0])
    for found in (
        maso_rnn.integrated_gradients(rnn, xs, xs),
        maso_rnn.integrated_gradients_on_device(rnn, xs, xs, max_regions=100),
        maso_rnn.integrated_gradients_by_quadrature(cell(rnn), xs, xs),
    ):
        assert (found.values == 0).all()
        assert (found.change == 0).all()
        assert not found.overflow


def test_in_float32_they_are_complete_to_its_rounding():
    rnn, xs, baseline = network_and_ends(NETS[0], dtype="float32")
    found = maso_rnn.integrated_gradients_on_device(rnn, xs, baseline, max_regions=100)
    assert found.values.dtype == jnp.float32
    assert (found.error < 1e-5).all()  # some hundred roundings of 6e-8
    on_host = maso_rnn.integrated_gradients(rnn, xs, baseline)
    np.testing.assert_allclose(found.values, on_host.values, atol=1e-4)  # codes of slivers may differ


@pytest.mark.usefixtures("unchecked")
def test_bad_ways_are_refused():
    rnn, xs, baseline = network_and_ends(NETS[0])
    pieces = maso_rnn.integrated_gradients(rnn, xs, baseline).pieces
    with pytest.raises(ValueError, match=rf"max_regions must be more than {pieces - 1}.* of the way"):
        maso_rnn.integrated_gradients(rnn, xs, baseline, max_regions=pieces - 1)
    for attribute in (
        maso_rnn.integrated_gradients,
        functools.partial(maso_rnn.integrated_gradients_on_device, max_regions=10),
    ):
        with pytest.raises(ValueError, match=r"xs|baseline"):
            attribute(rnn, xs, baseline[:-1])
        with pytest.raises(ValueError, match="baseline"):
            attribute(rnn, xs, baseline.at[0, 0].set(jnp.nan))
        with pytest.raises(ValueError, match="activation"):
            attribute(rnn.replace(activation=jnp.tanh), xs, baseline)
    with pytest.raises(TypeError, match="integrated_gradients_on_device"):
        jax.jit(lambda xs: maso_rnn.integrated_gradients(rnn, xs, baseline).values)(xs)
    by_quadrature = maso_rnn.integrated_gradients_by_quadrature
    with pytest.raises(TypeError, match="cell"):
        by_quadrature(rnn, xs, baseline)
    with pytest.raises(ValueError, match="tolerance"):
        by_quadrature(cell(rnn), xs, baseline, tolerance=0.0)
    with pytest.raises(ValueError, match="baseline"):
        by_quadrature(cell(rnn), xs, baseline[:, :1])
