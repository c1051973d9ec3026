import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import maso_rnn
from tests.oracles import noise

WIDTHS = ((), (12,), (12, 9))
OUTPUTS = 4
SCALE = 1e-3
LOSSES = {
    "cross-entropy": lambda z: optax.softmax_cross_entropy_with_integer_labels(z, 2),
    "half squared error": lambda z: 0.5 * jnp.sum((z - jnp.arange(OUTPUTS)) ** 2),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def network(key, layers):
    return maso_rnn.init(
        key, 2, WIDTHS[layers], OUTPUTS, bias_init=jax.nn.initializers.normal(0.5), dtype="float64"
    ).replace(initial=tuple(jnp.full(width, 0.5) for width in WIDTHS[layers]))


@pytest.mark.parametrize("layers", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize("name", LOSSES)
def test_penalty_is_the_gap_that_noise_makes_and_other_forms_are_not(key, layers, name):
    loss = LOSSES[name]

    @jax.jit
    def compare(rnn, xs, key):
        h0 = rnn.initial
        gap, error, left = noise.sampled_gap(key, rnn, xs, h0, SCALE, loss, pairs=20_000)
        if name == "cross-entropy":
            others = [noise.diagonal(rnn, xs, h0, SCALE, loss), noise.printed_cross_entropy(rnn, xs, h0, SCALE)]
        else:  # whose Hessian is diagonal
            others = [noise.printed_squared_error(rnn, xs, h0, SCALE)]
        off = [
            jnp.abs(form - gap) / error for form in (maso_rnn.noise_penalty(rnn, xs, scale=SCALE, loss=loss), *others)
        ]
        return error / gap, left, jnp.stack(off)

    keys = jax.random.split(key, 3)
    found = [compare(network(k, layers), jax.random.normal(k, (8, 2)), k) for k in keys]
    spreads, left, off = (np.stack(values) for values in zip(*found, strict=True))
    assert (spreads <= 0.02).all()  # the samples are large enough to tell
    assert (left == 0).all()  # at this scale no sample changes its region
    assert (off[:, 0] < 3).all()
    # the median of three networks: on a single one a wrong form may be right by chance
    assert (np.median(off[:, 1:], axis=0) > 10).all()


def test_penalty_is_the_trace_with_the_hessian(key):
    rnn, xs = network(key, 2), jax.random.normal(key, (8, 2))
    affine = maso_rnn.affine_map(rnn, xs)
    slopes = np.concatenate(affine.initial_slope, axis=1)
    p = np.asarray(jax.nn.softmax(affine.output))
    wanted = {
        "cross-entropy": SCALE**2 / 2 * np.trace(slopes.T @ (np.diag(p) - np.outer(p, p)) @ slopes),
        "half squared error": SCALE**2 / 2 * (slopes**2).sum(),
    }
    for name, loss in LOSSES.items():
        # float64, a few hundred products
        penalty = maso_rnn.noise_penalty(rnn, xs, scale=SCALE, loss=loss)
        np.testing.assert_allclose(penalty, wanted[name], rtol=1e-12)


@each_loss
def test_remainder_is_of_fourth_order(key, loss):
    # on one piece the odd orders cancel: quartering the noise cuts the error by 4⁴ = 256 for cross-entropy;
    # half the squared error is quadratic, and has no remainder
    rnn, xs = network(key, 1), jax.random.normal(key, (8, 2))
    affine = maso_rnn.affine_map(rnn, xs)
    directions = jax.random.normal(key, (64, 12)) / 4
    directions = jnp.concatenate([directions, -directions])

    def remainder(scale):
        # the piece's own map, so that no sample can leave it; and the quadratic form of these very samples
        steps = scale * directions @ affine.initial_slope[0].T
        gap = jax.vmap(loss)(affine.output + steps).mean() - loss(affine.output)
        curvature = jax.hessian(loss)(affine.output)
        return float(gap - 0.5 * jnp.einsum("ni,ij,nj->n", steps, curvature, steps).mean())

    coarse, fine = remainder(0.4), remainder(0.1)
    if abs(coarse) > 1e-12:  # rounding of a loss of order 1
        assert 200 < coarse / fine < 320
    else:
        assert abs(fine) < 1e-12


def test_penalty_as_a_regulariser_makes_the_initial_state_matter_less(key):
    rnn, xs = network(key, 1), jax.random.normal(key, (8, 2))
    penalty = jax.jit(
        jax.value_and_grad(lambda rnn: maso_rnn.noise_penalty(rnn, xs, scale=1.0, loss=LOSSES["half squared error"]))
    )
    before, gradient = penalty(rnn)
    optimiser = optax.adam(0.02)
    memory = optimiser.init(rnn)
    for _ in range(15):
        update, memory = optimiser.update(gradient, memory)
        rnn = optax.apply_updates(rnn, update)
        after, gradient = penalty(rnn)
    assert after < 0.5 * before
    # and a small step against the gradient lowers it by what the gradient says, to second order in the step
    (start, gradient), step = penalty(rnn), 1e-5
    down = penalty(jax.tree.map(lambda w, g: w - step * g, rnn, gradient))[0]
    fall = step * optax.tree.norm(gradient, squared=True)
    np.testing.assert_allclose(start - down, fall, rtol=1e-2)


def test_more_noise_leaves_the_region_more_often(key):
    rnn, xs = network(key, 2), jax.random.normal(key, (8, 2))
    left = [
        float(noise.sampled_gap(key, rnn, xs, rnn.initial, scale, LOSSES["cross-entropy"], pairs=500)[2])
        for scale in (1e-3, 1e-2, 0.1, 1.0)
    ]
    assert left == sorted(left)
    assert left[0] < 0.01
    assert left[-1] > 0.9


@pytest.mark.parametrize(
    "cell",
    [
        nnx.LSTMCell,
        *(pytest.param(cell, marks=pytest.mark.slow) for cell in (nnx.GRUCell, nnx.OptimizedLSTMCell, nnx.SimpleCell)),
    ],
)
def test_any_cells_carry_gets_noise(key, cell):
    module = cell(3, 500, rngs=nnx.Rngs(0))
    carry = module.initialize_carry((3,), nnx.Rngs(0))
    noisy = maso_rnn.random_initial_state(key, carry, 0.1)
    assert jax.tree.structure(noisy) == jax.tree.structure(carry)
    leaves = [np.asarray(leaf - zero) / 0.1 for leaf, zero in zip(*map(jax.tree.leaves, (noisy, carry)), strict=True)]
    for leaf in leaves:
        assert leaf.shape == (500,)
        # 500 normal numbers: mean within 4.5/√500 and deviation within 4.5/√1000 with all but 1e-5 of chance
        assert abs(leaf.mean()) < 4.5 / np.sqrt(500)
        assert abs(leaf.std() - 1) < 4.5 / np.sqrt(1000)
    if len(leaves) == 2:  # independent: correlation within 4.5/√500
        assert abs(np.corrcoef(leaves)[0, 1]) < 4.5 / np.sqrt(500)
    assert module(noisy, jnp.ones(3))[1].shape == (500,)


def test_noise_is_about_the_given_state_and_of_its_dtype(key):
    carry = (jnp.ones(3, jnp.float32), {"c": jnp.full((2, 2), 5.0)})
    same = maso_rnn.random_initial_state(key, carry, 0.0)
    assert [leaf.dtype for leaf in jax.tree.leaves(same)] == [jnp.float32, jnp.float64]
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(carry), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_refused(key):
    rnn, xs, loss = network(key, 1), jnp.ones((8, 2)), LOSSES["cross-entropy"]
    for scale in (-1.0, jnp.nan, jnp.inf):
        with pytest.raises(ValueError, match="scale"):
            maso_rnn.noise_penalty(rnn, xs, scale=scale, loss=loss)
        with pytest.raises(ValueError, match="scale"):
            maso_rnn.random_initial_state(key, jnp.zeros(3), scale)
    for scale in ("big", jnp.ones(2)):
        with pytest.raises(TypeError, match="scale"):
            maso_rnn.noise_penalty(rnn, xs, scale=scale, loss=loss)
    with pytest.raises(ValueError, match="loss must map the output"):
        maso_rnn.noise_penalty(rnn, xs, scale=0.1, loss=lambda z: z**2)
    with pytest.raises(TypeError, match="loss"):
        maso_rnn.noise_penalty(rnn, xs, scale=0.1, loss=3.0)
    with pytest.raises(TypeError, match=r"carry\[1\]"):
        maso_rnn.random_initial_state(key, (jnp.zeros(3), jnp.zeros(3, int)), 0.1)
    with pytest.raises(ValueError, match="carry"):
        maso_rnn.random_initial_state(key, (), 0.1)
    with pytest.raises(ValueError, match="h0"):
        maso_rnn.noise_penalty(rnn, xs, (jnp.ones(3),), scale=0.1, loss=loss)


@pytest.mark.parametrize("scale", [-1.0, np.float32("nan")])
def test_concrete_scales_are_checked_inside_jit_too(key, unchecked, scale):
    with pytest.raises(ValueError, match="scale must be a standard deviation"):
        jax.jit(lambda carry: maso_rnn.random_initial_state(key, carry, scale))(jnp.zeros(3))


def test_a_loss_that_is_not_a_floating_scalar_is_refused(key, unchecked):
    rnn = maso_rnn.init(key, 1, [4], 3)
    for loss in (lambda z: z.argmax(), lambda z: z):
        with pytest.raises(ValueError, match="floating scalar"):
            maso_rnn.noise_penalty(rnn, jnp.ones((5, 1)), scale=0.1, loss=loss)
