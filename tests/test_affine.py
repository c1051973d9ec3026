import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import maso_rnn
from tests.oracles import dense, reference
from tests.test_activations import RELU6
from tests.test_network import network, states

PIECEWISE = ["relu", "leaky_relu", "abs", "hard_tanh", "identity", "relu6"]


def network_of(key, layers, activation, **options):
    return network(key, layers, RELU6 if activation == "relu6" else activation, **options)


def rebuilt(affine, xs, h0):
    """slope · xs + initial_slope · h0 + offset, in NumPy."""
    parts = [np.einsum("...ti,ti->...", affine.slope, xs), np.asarray(affine.offset)]
    return sum(parts + [np.asarray(G) @ np.asarray(h) for G, h in zip(affine.initial_slope, h0, strict=True)])


def cast(tree, dtype):
    return jax.tree.map(lambda leaf: leaf.astype(dtype), tree)


@pytest.mark.parametrize("time", [1, 9])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("activation", PIECEWISE)
def test_the_map_gives_the_output(key, activation, layers, time):
    rnn = network_of(key, layers, activation)
    xs, h0 = jax.random.normal(key, (time, 3)), states(key, rnn)
    wanted = np.asarray(reference.forward(rnn, activation, xs, h0))[-1]
    for dtype, rtol in [("float64", 1e-10), ("float32", 1e-4)]:
        # rounding of some hundred operations, relative to the size of the output; no unit is near a kink here
        affine = maso_rnn.affine_map(cast(rnn, dtype), xs.astype(dtype), cast(h0, dtype))
        atol = rtol * np.abs(wanted).max()
        np.testing.assert_allclose(affine.output, wanted, rtol=0, atol=atol)
        np.testing.assert_allclose(rebuilt(affine, xs, h0), wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("activation", PIECEWISE)
def test_slopes_equal_jacrev_of_an_independent_forward_pass(key, activation, layers):
    rnn = network_of(key, layers, activation)
    xs, h0 = jax.random.normal(key, (9, 3)), states(key, rnn)
    slope, initial_slope = jax.jit(
        jax.jacrev(lambda xs, h0: reference.forward(rnn, activation, xs, h0)[-1], argnums=(0, 1))
    )(xs, h0)
    affine = maso_rnn.affine_map(rnn, xs, h0)
    np.testing.assert_allclose(affine.slope, slope, rtol=1e-12, atol=1e-13)  # float64, sums reordered
    for ours, theirs in zip(affine.initial_slope, initial_slope, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
@pytest.mark.parametrize(("layers", "time"), [(1, 6), (3, 16)])
@pytest.mark.parametrize("outputs", [1, 40])  # 40 outputs push forward; 40 > hidden pulls the hidden units back
def test_maps_equal_the_dense_block_triangular_matrices(key, activation, layers, time, outputs):
    rnn = maso_rnn.init(
        key, 2, [5, 4, 3][:layers], outputs, activation=activation, bias_init=jax.nn.initializers.normal(0.5)
    )
    xs, h0 = jax.random.normal(key, (time, 2)), states(key, rnn)
    maps = maso_rnn.affine_maps(rnn, xs, h0)
    slope, initial_slope, offset = dense.affine_maps(rnn, maps.codes)
    tolerance = {"rtol": 1e-11, "atol": 1e-12}  # the dense inverse loses a digit or two
    np.testing.assert_allclose(maps.slope, slope, **tolerance)
    np.testing.assert_allclose(maps.offset, offset, **tolerance)
    for ours, theirs in zip(maps.initial_slope, initial_slope, strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)
    one_by_one = jax.jit(lambda step: maso_rnn.affine_map(rnn, xs, h0, step=step))
    for step in range(0, time, 3):
        one = one_by_one(step)
        for ours, theirs in zip(jax.tree.leaves(one[:4]), jax.tree.leaves(maps[:4]), strict=True):
            np.testing.assert_allclose(ours, theirs[step], **tolerance)
        assert not one.slope[:, step + 1 :].any()


# 6 · outputs rows are pulled back, or 6 · 5 where the units are fewer; 6 · 2 + 5 + 1 = 18 are pushed forward
def test_learned_initial_state_and_missing_biases(key):
    rnn = network(key, 2, bias_init=None)
    h0, xs = states(key, rnn), jax.random.normal(key, (9, 3))
    affine = maso_rnn.affine_map(rnn.replace(initial=h0), xs)
    assert not affine.offset.any()
    np.testing.assert_allclose(rebuilt(affine, xs, h0), affine.output, rtol=1e-12)


def test_on_a_kink_every_unit_has_the_lower_code(key):
    for activation, slope in [("relu", 0.0), ("leaky_relu", 0.01), ("abs", -1.0)]:
        rnn = network(key, 1, activation, bias_init=None)
        affine = maso_rnn.affine_map(rnn, jnp.zeros((2, 3)))
        assert not affine.codes[0].any()
        layer, V = rnn.layers[0], rnn.readout.kernel
        np.testing.assert_allclose(affine.slope[:, 1], slope * (layer.input_kernel @ V).T, rtol=1e-13)


def test_the_map_is_the_same_within_a_piece_and_another_beyond_it(key):
    rnn, xs = network(key, 2), jax.random.normal(key, (9, 3))
    here, near, far = (maso_rnn.affine_map(rnn, xs * (1 + step)) for step in (0.0, 1e-9, -2.0))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, here.codes, near.codes)))
    np.testing.assert_array_equal(here.slope, near.slope)
    np.testing.assert_array_equal(here.offset, near.offset)
    assert not all(jax.tree.leaves(jax.tree.map(np.array_equal, here.codes, far.codes)))


def test_match_and_margin(key):
    rnn, xs = network(key, 1), jax.random.normal(key, (9, 3))
    affine = maso_rnn.affine_map(rnn, xs)
    scores = maso_rnn.match(affine, xs)
    np.testing.assert_allclose(scores, (np.asarray(affine.slope) * np.asarray(xs)).sum((1, 2)), rtol=1e-12)
    for label in (0, 1):
        margin = maso_rnn.template_margin(affine, xs, label)
        np.testing.assert_allclose(margin, scores[label] - scores[1 - label], rtol=1e-12)


def test_steps_and_labels_out_of_range(key, unchecked):
    rnn, xs = network(key, 1), jax.random.normal(key, (9, 3))
    affine = maso_rnn.affine_map(rnn, xs)
    for step in (9, -10):
        with pytest.raises(ValueError, match=rf"step must be in \[-9, 9\), got {step}"):
            maso_rnn.affine_map(rnn, xs, step=step)
        traced = jax.jit(lambda step: maso_rnn.affine_map(rnn, xs, step=step)[:4])(step)
        assert all(jnp.isnan(leaf).all() for leaf in jax.tree.leaves(traced))
    for label in (2, -1):
        with pytest.raises(ValueError, match=r"label must be in \[0, 2\)"):
            maso_rnn.template_margin(affine, xs, label)
        assert jnp.isnan(jax.jit(lambda label: maso_rnn.template_margin(affine, xs, label))(label))
    for wrong in (0.0, jnp.ones(2, int), None, True, "last"):
        with pytest.raises(TypeError, match="step must be"):
            maso_rnn.affine_map(rnn, xs, step=wrong)
    for step in (9, np.int64(-10), 2**40):  # concrete is concrete, inside jit too
        with pytest.raises(ValueError, match="step must be in"):
            jax.jit(lambda xs, step=step: maso_rnn.affine_map(rnn, xs, step=step))(xs)
    single = maso_rnn.affine_map(maso_rnn.init(key, 3, [4], 1), xs)
    with pytest.raises(ValueError, match="at least two outputs"):
        maso_rnn.template_margin(single, xs, 0)
    with pytest.raises(ValueError, match=r"xs must be .*time = 9"):
        maso_rnn.match(affine, xs[:5])
    with pytest.raises(TypeError, match="AffineMap"):
        maso_rnn.match(affine.slope, xs)


@pytest.mark.parametrize("cell", [linen.LSTMCell, linen.OptimizedLSTMCell, linen.GRUCell, linen.SimpleCell])
def test_linearize_flax_cells(key, cell):
    module = cell(5, param_dtype=jnp.float64)
    xs = jax.random.normal(key, (9, 3))
    h0 = jax.tree.map(lambda h: h + 0.1, module.initialize_carry(key, (3,)))
    variables = module.init(key, h0, xs[0])
    V = jax.random.normal(key, (5, 2))

    def step(carry, x):
        return module.apply(variables, carry, x)[0]

    def readout(carry):
        return (carry[0] if isinstance(carry, tuple) and cell is linen.GRUCell else jax.tree.leaves(carry)[-1]) @ V

    def loop(h0, xs):
        carry = h0
        for x in xs:
            carry = step(carry, x)
        return readout(carry)

    linear = maso_rnn.linearize(step, readout, h0, xs)
    wanted = jax.jit(jax.jacfwd(loop, argnums=(0, 1)))(h0, xs)
    np.testing.assert_allclose(linear.slope, wanted[1], rtol=1e-10, atol=1e-12)  # float64, forward against reverse
    for ours, theirs in zip(jax.tree.leaves(linear.initial_slope), jax.tree.leaves(wanted[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
    exact = maso_rnn.linearization_error(linear, step, readout, h0, xs)
    np.testing.assert_allclose(exact, 0, atol=1e-13)

    # first order: the error falls as the square of the step
    along = jax.random.normal(jax.random.fold_in(key, 1), xs.shape)
    at = jax.jit(lambda s: maso_rnn.linearization_error(linear, step, readout, h0, xs + s * along))
    errors = [float(jnp.linalg.norm(at(s))) for s in (1e-3, 1e-2)]
    assert np.log10(errors[1] / errors[0]) == pytest.approx(2, abs=0.1)  # the third order is a per cent of it


def test_linearize_equals_affine_map_where_that_is_exact(key):
    rnn = network(key, 2)
    xs, h0 = jax.random.normal(key, (9, 3)), states(key, rnn)
    affine = maso_rnn.affine_map(rnn, xs, h0)

    def step(carry, x):
        state = []
        for layer, h in zip(rnn.layers, carry, strict=True):
            x = rnn.activation(x @ layer.input_kernel + h @ layer.recurrent_kernel + layer.bias)
            state.append(x)
        return tuple(state)

    linear = maso_rnn.linearize(step, lambda h: h[-1] @ rnn.readout.kernel + rnn.readout.bias, h0, xs)
    for ours, theirs in zip(jax.tree.leaves(affine[:4]), jax.tree.leaves(linear), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def test_narrow_integers_do_not_wrap(key, unchecked):
    rnn = network(key, 1)
    xs = jax.random.normal(key, (200, 3))
    last, twentieth = (maso_rnn.affine_map(rnn, xs, step=step).slope for step in (-1, 20))
    np.testing.assert_array_equal(maso_rnn.affine_map(rnn, xs, step=np.int8(-1)).slope, last)
    for dtype in ("uint8", "int8"):
        traced = jax.jit(lambda step: maso_rnn.affine_map(rnn, xs, step=step).slope)(jnp.asarray(20, dtype))
        np.testing.assert_array_equal(traced, twentieth)


def test_cells_that_do_not_fit_are_refused(key, unchecked):
    xs, h0 = jnp.ones((4, 2)), jnp.zeros(3)

    def cell(h, x):
        return jnp.tanh(h + x.sum())

    for arguments, error, message in [
        ((lambda h, x: (h, h), lambda h: h, h0, xs), TypeError, "like h0"),
        ((lambda h, x: h[:2], lambda h: h, h0, xs), TypeError, r"got float64\[2\]"),
        ((cell, lambda h: h.sum(), h0, xs), ValueError, r"readout must return one floating array \(output,\)"),
        ((cell, lambda h: h[:0], h0, xs), ValueError, "readout must return one floating"),
        ((cell, lambda h: h.astype(int), h0, xs), ValueError, "readout must return one floating"),
        ((lambda h, x: cell(h, x).astype("float32"), lambda h: h, h0, xs), TypeError, "like h0"),
        ((cell, lambda h: h, h0, xs[:0]), ValueError, "xs .*not empty"),
        ((cell, lambda h: h, jnp.zeros(3, int), xs), TypeError, "h0 must be floating"),
        ((cell, lambda h: h, jnp.full(3, jnp.nan), xs), ValueError, "h0 must be finite"),
    ]:
        with pytest.raises(error, match=message):
            maso_rnn.linearize(*arguments)
    linear = maso_rnn.linearize(cell, lambda h: h, h0, xs)
    for arguments, error, message in [
        ((linear.slope, cell, lambda h: h, h0, xs), TypeError, "maso_rnn.linearize"),
        ((linear, cell, lambda h: h, h0, xs[:2]), ValueError, "linearization"),
        ((linear, cell, lambda h: h, h0[:1], xs), ValueError, "linearization"),
        ((linear, cell, lambda h: h[:1], h0, xs), ValueError, "linearization"),
    ]:
        with pytest.raises(error, match=message):
            maso_rnn.linearization_error(*arguments)


def test_a_cell_is_taken_with_its_readout_and_its_carry(key):
    rnn, xs = network(key, 2, "tanh"), jax.random.normal(key, (9, 3))
    cell = maso_rnn.Cell(
        rnn,
        step_of,
        lambda rnn, carry: carry[-1] @ rnn.readout.kernel + rnn.readout.bias,
        maso_rnn.initial_state(rnn),
    )
    linear = maso_rnn.linearize(cell, xs)
    np.testing.assert_allclose(linear.output, maso_rnn.last_output(rnn, xs), rtol=1e-12)
    apart = maso_rnn.linearize(cell, cell.read, cell.initial, xs)
    np.testing.assert_array_equal(linear.slope, apart.slope)
    np.testing.assert_allclose(maso_rnn.linearization_error(linear, cell, xs), 0, atol=1e-14)
    gradient = jax.grad(lambda cell: maso_rnn.linearize(cell, xs).slope.sum())(cell)
    assert jnp.abs(gradient.params.layers[0].recurrent_kernel).max() > 0


def step_of(rnn, carry, x):
    return tuple(states[-1] for states in maso_rnn.trajectory(rnn, x[None], carry).states)


@pytest.mark.parametrize("layers", [1, 2])
def test_padding_changes_no_number(key, layers):
    rnn, xs = network(key, layers), jax.random.normal(key, (9, 3))
    padded = xs.at[5:].set(jnp.nan)
    short, long = maso_rnn.affine_map(rnn, xs[:5]), maso_rnn.affine_map(rnn, padded, length=5)
    np.testing.assert_array_equal(long.slope[:, :5], short.slope)
    assert not long.slope[:, 5:].any()
    for a, b in zip(jax.tree.leaves(short[1:4]), jax.tree.leaves(long[1:4]), strict=True):
        np.testing.assert_array_equal(a, b)
    traced = jax.jit(lambda n: maso_rnn.affine_map(rnn, padded, length=n, step=-2).output)(5)
    np.testing.assert_allclose(traced, maso_rnn.forward(rnn, xs)[3], rtol=1e-12)
    np.testing.assert_array_equal(maso_rnn.forward(rnn, padded, length=5)[:5], maso_rnn.forward(rnn, xs)[:5])
    np.testing.assert_array_equal(maso_rnn.last_output(rnn, padded, length=5), maso_rnn.last_output(rnn, xs[:5]))
    np.testing.assert_allclose(  # another program, another order of summation
        maso_rnn.affine_maps(rnn, padded, length=5).slope[:5, :, :5],
        maso_rnn.affine_maps(rnn, xs[:5]).slope,
        rtol=1e-12,
        atol=1e-14,
    )
    for distance in (maso_rnn.boundary_distance, maso_rnn.doubtful_codes):
        np.testing.assert_array_equal(distance(rnn, padded, length=5), distance(rnn, xs[:5]))
    for length in (0, 10):
        with pytest.raises(ValueError, match="length"):
            maso_rnn.forward(rnn, xs, length=length)
        assert jnp.isnan(jax.jit(lambda n: maso_rnn.last_output(rnn, xs, length=n))(length)).all()


def test_layers_without_recurrence_are_layers(key):
    """An encoder and a head, against the same network with zeros for kernels."""
    rnn, xs = network(key, 3), jax.random.normal(key, (9, 3))
    bare = [layer.replace(recurrent_kernel=None) if l != 1 else layer for l, layer in enumerate(rnn.layers)]
    zeros = [
        layer if l == 1 else layer.replace(recurrent_kernel=jnp.zeros_like(layer.recurrent_kernel))
        for l, layer in enumerate(rnn.layers)
    ]
    without, with_zeros = rnn.replace(layers=tuple(bare)), rnn.replace(layers=tuple(zeros))
    for function in (
        maso_rnn.affine_map,
        maso_rnn.affine_maps,
        maso_rnn.boundary_distance,
        maso_rnn.trajectory,
        maso_rnn.doubtful_codes,
    ):
        for a, b in zip(jax.tree.leaves(function(without, xs)), jax.tree.leaves(function(with_zeros, xs)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
