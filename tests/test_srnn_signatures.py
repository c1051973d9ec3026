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


@pytest.fixture(scope="module")
def reference():
    """The signature to depth 3 by Chen's identity, in plain products that JAX differentiates by itself."""

    def joined(path):
        whole = [jnp.zeros((path.shape[1],) * k) for k in (1, 2, 3)]
        for x in jnp.diff(path, axis=0):
            piece = [x, jnp.multiply.outer(x, x) / 2, jnp.multiply.outer(jnp.multiply.outer(x, x), x) / 6]
            whole = [
                whole[k] + piece[k] + sum(jnp.multiply.outer(whole[j], piece[k - j - 1]) for j in range(k))
                for k in range(3)
            ]
        return jnp.concatenate([level.ravel() for level in whole])

    return joined


def number(function):
    return lambda path: jnp.tanh(function(path)).sum()


@pytest.mark.parametrize(
    "transform",
    [
        pytest.param(lambda f: jax.vmap(jax.vmap(f)), id="vmap of vmap"),
        pytest.param(lambda f: jax.vmap(jax.vmap(jax.grad(number(f)))), id="vmap of vmap of grad"),
        pytest.param(lambda f: jax.grad(lambda ps: jax.vmap(jax.vmap(number(f)))(ps).sum()), id="grad of vmap of vmap"),
        pytest.param(lambda f: jax.vmap(jax.vmap(jax.hessian(number(f)))), id="vmap of hessian"),
        pytest.param(lambda f: lambda ps: jax.jacrev(jax.jacrev(number(f)))(ps[0, 0]), id="jacrev of jacrev"),
        pytest.param(lambda f: lambda ps: jax.jvp(jax.vmap(f, 1), (ps[0],), (ps[1],)), id="jvp of vmap of axis 1"),
    ],
)
def test_transforms_equal_those_of_plain_products(transform, reference, key):
    paths = jax.random.normal(key, (2, 3, 4, 2))
    got = jax.jit(transform(lambda path: srnn.signature(path, 3)))(paths)
    wanted = jax.jit(transform(reference))(paths)
    # float64, sums of a few hundred products in another order
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), got, wanted)


def test_a_long_path_in_parts_is_what_it_is_in_one(key, monkeypatch):
    increments = 0.1 * jax.random.normal(key, (517, 2))

    def both():
        return jax.jit(jax.value_and_grad(lambda x: jnp.tanh(signatures._joined(x, 3)).sum()))(increments)

    in_parts, calls = both(), []
    monkeypatch.setattr(signatures, "_parts", lambda steps, size: calls.append(1) or 1)
    for got, wanted in zip(in_parts, both(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-13)  # float64, sums in another order
    assert calls


def test_shares_of_a_batch_on_two_devices(key):
    paths = jax.random.normal(key, (4, 5, 2))
    shares = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("share",))
    spec = jax.sharding.PartitionSpec("share")

    def gradients(paths):
        return jax.vmap(jax.grad(number(lambda path: srnn.signature(path, 3))))(paths)

    in_shares = jax.jit(jax.shard_map(gradients, mesh=shares, in_specs=spec, out_specs=spec))
    np.testing.assert_allclose(in_shares(paths), gradients(paths), rtol=1e-12, atol=1e-14)  # float64


def test_a_gradient_keeps_only_the_levels_below_the_last(key):
    """Of a batch: what XLA sets aside, against the levels that the derivative needs."""
    steps, channels, depth, batch = 200, 4, 4, 8
    paths = jax.ShapeDtypeStruct((batch, steps + 1, channels), jnp.float64)
    gradient = jax.grad(lambda paths: jax.vmap(lambda path: srnn.signature(path, depth).sum())(paths).sum())
    kept = steps * batch * sum(channels**k for k in range(1, depth)) * 8
    # and the increments over 1 … depth, to and fro, the cotangents: less than as much again
    assert jax.jit(gradient).lower(paths).compile().memory_analysis().temp_size_in_bytes < 2 * kept


def test_one_channel_is_the_power_of_its_increment_at_any_depth():
    path = jnp.array([[0.3], [2.0], [-1.0], [1.8]])
    wanted = [1.5**k / math.factorial(k) for k in range(1, 41)]
    np.testing.assert_allclose(srnn.signature(path, 40), wanted, rtol=1e-13)  # 40 products in float64
    slopes = jax.jacobian(lambda x: srnn.signature(path.at[-1, 0].set(x), 40))(1.8)
    np.testing.assert_allclose(slopes, [1.0, *wanted[:-1]], rtol=1e-13)
    program = jax.make_jaxpr(lambda path: signatures._joined(path, 40))(path)
    assert len(program.eqns) < 20  # not the 820 products of Horner's rule
    assert np.isnan(jax.jit(lambda path: srnn.signature(path, 3))(path.at[1].set(jnp.nan))).all()


def test_numpy_paths_are_differenced_before_they_are_cast(unchecked):
    steps = np.random.default_rng(0).normal(size=(20, 2))
    path = 1e9 + np.cumsum(steps, axis=0)
    jax.config.update("jax_enable_x64", False)
    try:
        got, near = srnn.signature(path, 3), srnn.signature(path - 1e9, 3)
        assert got.dtype == jnp.float32
    finally:
        jax.config.update("jax_enable_x64", True)
    # float64 knows 1e9 to 1e-7, float32 to 64 only
    np.testing.assert_allclose(got, near, rtol=1e-4, atol=1e-4)


def test_a_second_call_compiles_nothing(key, unchecked):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    first, second = jax.random.normal(key, (2, 5, 2))
    for convert in (jnp.asarray, np.asarray):
        srnn.signature(convert(first), 2)
        compiled.clear()
        srnn.signature(convert(second), 2)
        assert not [event for event in compiled if "backend_compile" in event]


def test_bad_paths_are_refused(unchecked):
    with pytest.raises(ValueError, match="path must have at least two points"):
        srnn.signature(jnp.zeros((1, 2)), 2)
    with pytest.raises(ValueError, match=r"path must be \(time, channel\).*\(3,\)"):
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
    assert signatures.count_features("depth", 1, deepest) == deepest
    assert signatures.count_features("depth", widest, 1) == widest
    with pytest.raises(ValueError, match="levels above 64 are not made"):
        signatures.count_features("depth", 1, deepest + 1)
    with pytest.raises(ValueError, match="has 67108865 numbers, more than 67108864"):
        signatures.count_features("depth", widest + 1, 1)
