import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import roughpy

import srnn
from srnn import signatures


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
def test_signature_equals_roughpys(depth, channels):
    path = np.cumsum(0.3 * np.random.default_rng(depth + 10 * channels).normal(size=(9, channels)), axis=0)
    got = np.asarray(srnn.signature(jnp.asarray(path), depth))
    context = roughpy.get_context(channels, depth, roughpy.DPReal)
    stream = roughpy.LieIncrementStream.from_increments(np.diff(path, axis=0), indices=np.arange(8.0), ctx=context)
    wanted = np.asarray(stream.signature(roughpy.RealInterval(0, 8), ctx=context))[1:]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-10)


def test_signature_of_a_straight_line_is_the_tensor_exponential(key):
    x = jax.random.normal(key, (3,))
    path = jnp.linspace(0, 1, 6)[:, None] * x
    wanted, level = [], jnp.ones(())
    for k in range(1, 5):
        level = jnp.multiply.outer(level, x)
        wanted.append(level.ravel() / math.factorial(k))
    np.testing.assert_allclose(srnn.signature(path, 4), jnp.concatenate(wanted), rtol=1e-13, atol=1e-16)  # float64


def test_joined_paths_obey_chens_identity(key):
    path = jax.random.normal(key, (8, 2))

    def levels(path):
        flat = srnn.signature(path, 3)
        return [jnp.ones(1), flat[:2], flat[2:6], flat[6:]]

    a, b, whole = levels(path[:5]), levels(path[4:]), levels(path)
    for k in range(4):
        product = sum(jnp.outer(a[j], b[k - j]).ravel() for j in range(k + 1))
        np.testing.assert_allclose(whole[k], product, rtol=1e-12, atol=1e-13)  # float64


def test_gradient_and_hessian_equal_finite_differences(key):
    path = 0.5 * jax.random.normal(key, (5, 2))
    weights = jax.random.normal(jax.random.key(1), (2 + 4 + 8,))

    @jax.jit
    def f(path):
        return weights @ jnp.tanh(srnn.signature(path, 3))

    a, b = jax.random.normal(jax.random.key(2), (2, 5, 2))
    gradient, hessian = jax.jit(jax.grad(f))(path), jax.jit(jax.hessian(f))(path)
    h = 1e-6  # central: rounding of 1e-10
    slope = (f(path + h * a) - f(path - h * a)) / (2 * h)
    np.testing.assert_allclose((gradient * a).sum(), slope, rtol=1e-7)
    np.testing.assert_allclose(jax.jvp(f, (path,), (a,))[1], slope, rtol=1e-7)
    h = 1e-4  # central second difference: h² of curvature and 1e-16 / h² of rounding, 1e-8 each
    mixed = sum(s * t * f(path + s * h * a + t * h * b) for s in (1, -1) for t in (1, -1)) / (4 * h * h)
    np.testing.assert_allclose(jnp.einsum("ij,ijkl,kl->", a, hessian, b), mixed, rtol=1e-5, atol=1e-6)


def test_bad_paths_are_refused(unchecked):
    with pytest.raises(ValueError, match="path must have at least two points"):
        srnn.signature(jnp.zeros((1, 2)), 2)
    with pytest.raises(ValueError, match=r"path must be \(time, channel\).*got \(3,\)"):
        srnn.signature(jnp.zeros(3), 2)
    with pytest.raises(ValueError, match="path must be finite"):
        srnn.signature(jnp.array([[0.0], [jnp.nan]]), 2)
    with pytest.raises(ValueError, match=r"depth = 12: the signature of 10 channels .* 1111111111110 numbers"):
        srnn.signature(jnp.zeros((5, 10)), 12)
    with pytest.raises(ValueError, match="depth must be at least 1, got 0"):
        srnn.signature(jnp.zeros((5, 1)), 0)
    with pytest.raises(TypeError, match="path must be floating"):
        srnn.signature(jnp.zeros((5, 1), int), 2)


def test_bad_paths_are_refused_under_tracing(unchecked):
    with pytest.raises(ValueError, match="path must be finite"):
        jax.jit(lambda x: x * srnn.signature(np.array([[0.0], [np.nan]]), 2))(1.0)


@pytest.mark.parametrize("channels", [1, 2])
def test_too_deep_a_signature_is_refused(unchecked, channels):
    with pytest.raises(ValueError, match="depth = 20000: levels above 64 are not made"):
        srnn.signature(jnp.zeros((5, channels)), 20_000)


def test_the_largest_signature_is_made_and_no_larger():
    deepest, widest = signatures.LARGEST_DEPTH, signatures.LARGEST_SIGNATURE
    assert signatures.checked_size("depth", 1, deepest) == deepest
    assert signatures.checked_size("depth", widest, 1) == widest
    with pytest.raises(ValueError, match="levels above 64 are not made"):
        signatures.checked_size("depth", 1, deepest + 1)
    with pytest.raises(ValueError, match="has 67108865 numbers, more than 67108864"):
        signatures.checked_size("depth", widest + 1, 1)
