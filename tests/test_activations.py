import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import maso_rnn
from maso_rnn import PiecewiseAffine
from tests.oracles import reference

RELU6 = PiecewiseAffine((0, 6), (0, 1, 0), (0, 0, 6))
HARD_SIGMOID = PiecewiseAffine((-3, 3), (0, 1 / 6, 0), (0, 0.5, 1))
NAMED = {name: maso_rnn.activation(name) for name in ("relu", "leaky_relu", "abs", "hard_tanh", "identity")}
GRID = jnp.linspace(-8.0, 8.0, 1601)  # the kinks of all of them are on it


@pytest.mark.parametrize("name", [*NAMED, "relu6"])
def test_value_and_slope_equal_jax_nn(name):
    act = {**NAMED, "relu6": RELU6}[name]
    theirs = reference.ACTIVATIONS[name]
    np.testing.assert_array_equal(act(GRID), theirs(GRID))
    off_kink = GRID[~jnp.isin(GRID, jnp.asarray(act.breakpoints))]
    slopes = jax.vmap(jax.grad(act))(off_kink)
    np.testing.assert_array_equal(slopes, jax.vmap(jax.grad(theirs))(off_kink))
    np.testing.assert_array_equal(slopes, act.slope(act.code(off_kink), float))


def test_hard_sigmoid_is_one_line():
    np.testing.assert_allclose(HARD_SIGMOID(GRID), jax.nn.hard_sigmoid(GRID), atol=1e-15)  # 1/6 rounds


@pytest.mark.parametrize("act", [*NAMED.values(), RELU6, HARD_SIGMOID])
def test_value_is_slope_times_p_plus_offset(act):
    code = act.code(GRID)
    np.testing.assert_allclose(act.slope(code, float) * GRID + act.offset(code, float), act(GRID), atol=1e-15)
    assert code.dtype == (jnp.bool_ if len(act.slopes) <= 2 else jnp.uint8)


@pytest.mark.parametrize("act", [act for act in [*NAMED.values(), RELU6, HARD_SIGMOID] if act.is_convex])
def test_convex_activations_equal_their_max_affine_form(act):
    np.testing.assert_array_equal(act.max_affine(GRID), act(GRID))


def test_only_convex_activations_have_a_max_affine_form():
    assert [name for name, act in NAMED.items() if not act.is_convex] == ["hard_tanh"]
    with pytest.raises(ValueError, match="convex"):
        NAMED["hard_tanh"].max_affine(GRID)


def test_a_unit_on_its_kink_has_the_lower_code():
    for act in [*NAMED.values(), RELU6]:
        for r, kink in enumerate(act.breakpoints):
            assert int(act.code(jnp.asarray(kink))) == r
            assert jax.grad(act)(kink) == act.slopes[r]
    assert jax.grad(NAMED["relu"])(0.0) == jax.grad(jax.nn.relu)(0.0) == 0.0


def test_nan_and_infinity_are_not_swallowed():
    for act in NAMED.values():
        assert jnp.isnan(act(jnp.asarray(jnp.nan)))
    ends = jnp.array([-jnp.inf, jnp.inf])
    np.testing.assert_array_equal(NAMED["relu"](ends), [0.0, jnp.inf])
    np.testing.assert_array_equal(NAMED["relu"].max_affine(ends), [0.0, jnp.inf])


def test_equal_by_value_hashable_static_and_picklable(unchecked):
    again = PiecewiseAffine([0.0], [-0.0, 1], np.zeros(2))
    assert again == maso_rnn.relu
    assert hash(again) == hash(maso_rnn.relu)
    assert pickle.loads(pickle.dumps(RELU6)) == RELU6
    traces = []
    apply = jax.jit(lambda p, act: traces.append(1) or act(p), static_argnums=1)
    apply(GRID, maso_rnn.relu), apply(GRID, again)
    assert len(traces) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_dtype_is_kept(dtype):
    for act in [*NAMED.values(), RELU6]:
        assert act(GRID.astype(dtype)).dtype == dtype


def test_positively_homogeneous():
    homogeneous = [name for name, act in NAMED.items() if act.is_positively_homogeneous]
    assert homogeneous == ["relu", "leaky_relu", "abs", "identity"]
    for name in homogeneous:
        np.testing.assert_allclose(NAMED[name](2.0 * GRID), 2.0 * NAMED[name](GRID), rtol=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0,), (0, 1), (0, 1)), "offsets"),
        (((0, 0), (0, 1, 2), (0, 0, 0)), "ascending"),
        (((0,), (0, 1, 2), (0, 0, 0)), "slopes"),
        (((np.nan,), (0, 1), (0, 0)), "finite"),
        ((range(256), (0,) * 257, (0,) * 257), "255 breakpoints"),
    ],
)
def test_what_is_not_a_continuous_spline_is_refused(unchecked, arguments, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseAffine(*arguments)


def test_bad_names_and_objects_are_refused(unchecked):
    with pytest.raises(ValueError, match="'rleu'"):
        maso_rnn.activation("rleu")
    for wrong, message in [
        (0.5, "activation must be"),
        (maso_rnn.leaky_relu, "leaky_relu"),
        (PiecewiseAffine, "activation must be"),
    ]:
        with pytest.raises(TypeError, match=message):
            maso_rnn.activation(wrong)
    for wrong in (0.0, None, "01", (1j,)):
        with pytest.raises(TypeError, match="breakpoints must be"):
            PiecewiseAffine(wrong, (0, 1), (0, 0))
    with pytest.raises(TypeError, match="slope must be known, not traced"):
        jax.jit(lambda slope: maso_rnn.leaky_relu(slope)(GRID))(0.1)
    with pytest.raises(TypeError, match="p must be floating, got int64"):
        HARD_SIGMOID(jnp.arange(3))
    with pytest.raises(ValueError, match="finite"):
        maso_rnn.leaky_relu(float("nan"))
