import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from sklearn.kernel_ridge import KernelRidge

import srnn
from srnn import features


def test_basis_is_orthonormal_and_its_integrals_exact():
    times = jnp.array([0.5, 0.6, 1.0, 1.7, 2.5])
    got = features.basis_integrals(times, 4)
    for m in range(5):

        def psi(t, m=m):
            return np.sqrt((2 * m + 1) / 2.0) * np.polynomial.legendre.Legendre.basis(m)(t - 1.5)

        wanted = [scipy.integrate.quad(psi, a, b)[0] for a, b in itertools.pairwise(times)]
        np.testing.assert_allclose(got[:, m], wanted, atol=1e-13)  # Gauss quadrature of polynomials
    fine = jnp.linspace(0.5, 2.5, 2001)
    means = features.basis_integrals(fine, 4) / 0.001
    np.testing.assert_allclose(means.T @ means * 0.001, np.eye(5), atol=1e-4)  # cells of a thousandth


def test_first_level_holds_the_inner_products(key):
    control, times = jax.random.normal(key, (12, 2)), jnp.linspace(0.0, 3.0, 13)
    feature = srnn.response_feature(control, times, order=3, depth=2)
    assert feature.shape == (8 + 64,)
    np.testing.assert_allclose(
        feature[:8].reshape(2, 4), control.T @ features.basis_integrals(times, 3), rtol=1e-12, atol=1e-13
    )
    starts = srnn.response_feature(control, times[:-1], order=3, depth=2)
    np.testing.assert_allclose(starts, feature, rtol=1e-9, atol=1e-12)  # the last edge is recovered by a difference


def smooth_kernels(steps):
    """Of orders 1 and 2, with a kink on the diagonal as true ones have."""
    times = (np.arange(steps) + 0.5) / steps
    gains = np.array([1.0, -0.7])
    first = np.exp(times - 1)[:, None] * gains
    later, earlier = np.maximum.outer(times, times), np.minimum.outer(times, times)
    second = (np.exp(2 * later - 2) * np.exp(earlier - later))[:, :, None, None] * np.outer(gains, gains)
    start, nothing = jnp.arange(steps) / steps, jnp.zeros(())
    return [
        srnn.Kernel(start, jnp.asarray(v), jnp.zeros(v.shape), 1 - start, nothing, jnp.asarray(0), jnp.zeros(2))
        for v in (first, second)
    ]


def test_coefficients_predict_the_response():
    """Feature times coefficients against the Volterra sum of the same kernels: no training."""
    steps = 16
    kernels, times = smooth_kernels(steps), jnp.linspace(0.0, 1.0, steps + 1)
    control = jnp.stack([jnp.sin(5 * times[:-1]), jnp.cos(7 * times[:-1]) ** 2], axis=1)
    exact = srnn.volterra(kernels, control, 1 / steps)
    errors = []
    for order in (0, 1, 4):
        weights = srnn.response_coefficients(kernels, times, order=order)
        feature = srnn.response_feature(control, times, order=order, depth=2)
        first = 2 * (order + 1)
        got = jnp.array([weights[:first] @ feature[:first], weights[first:] @ feature[first:]])
        errors.append(np.abs(got - exact) / np.abs(exact))
    # exp on [0, 1] to degree 4 is good to 1e-5; at order 2 a cell's polynomial is cut into straight pieces, 1/16² of it
    assert errors[-1][0] < 1e-4 < errors[0][0]
    assert errors[-1][1] < 0.01 < errors[0][1]
    one = srnn.response_coefficients(kernels[0], times, order=4)
    np.testing.assert_allclose(one @ srnn.response_feature(control, times, order=4, depth=1), exact[0], rtol=1e-4)


def test_gram_is_the_exponential_of_the_inner_product(key):
    a, b = jax.random.normal(key, (5, 6, 2)), jax.random.normal(jax.random.key(1), (4, 6, 2))
    times = jnp.array([0.0, 0.1, 0.3, 0.4, 0.8, 0.9, 1.5])
    got = srnn.response_gram(a, b, times)
    wanted = np.ones((5, 4))
    for i in range(5):
        for j in range(4):
            for l in range(6):
                wanted[i, j] *= np.exp(a[i, l] @ b[j, l] * (times[l + 1] - times[l]))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)  # float64
    square = srnn.response_gram(a, a, times)
    scale = np.sqrt(np.diag(square))
    np.testing.assert_allclose(
        srnn.response_gram(a, a, times, normalize=True), square / np.outer(scale, scale), rtol=1e-12
    )
    assert np.linalg.eigvalsh(square).min() > 0


def test_gram_does_not_depend_on_the_grid_and_does_not_overflow(key):
    a, times = jax.random.normal(key, (5, 6, 2)), jnp.linspace(0.0, 1.0, 7)
    fine = srnn.response_gram(a.repeat(4, axis=1), a.repeat(4, axis=1), jnp.linspace(0.0, 1.0, 25))
    np.testing.assert_allclose(fine, srnn.response_gram(a, a, times), rtol=1e-10)  # float64 times
    loud = srnn.response_gram(100 * a, 100 * a, times, normalize=True)
    np.testing.assert_allclose(loud, np.eye(5), atol=1e-12)


def test_gram_is_the_inner_product_of_symmetric_series(key):
    """Σ_n ⟨u, v⟩ⁿ/n!: the features of all orders, on the basis that the grid resolves."""
    a, b = 0.5 * jax.random.normal(key, (2, 3, 2))
    times = jnp.linspace(0.0, 1.0, 4)
    x, y = (jnp.asarray(u * np.sqrt(1 / 3)).ravel() for u in (a, b))
    total, left, right, factor = 1.0, jnp.ones(1), jnp.ones(1), 1.0
    for n in range(1, 8):
        left, right, factor = jnp.outer(left, x).ravel(), jnp.outer(right, y).ravel(), factor * n
        total += left @ right / factor
    # order 8 of an inner product below 1: 1/8!
    np.testing.assert_allclose(srnn.response_gram(a[None], b[None], times)[0, 0], total, rtol=1e-5)


def test_gram_serves_kernel_ridge(key):
    controls, times = jax.random.normal(key, (60, 10, 1)), jnp.linspace(0.0, 1.0, 11)
    path = jnp.cumsum(controls[:, :, 0], axis=1) / 10
    target = np.asarray(path[:, -1] + 2 * path[:, 4] ** 2)
    train, test = slice(0, 50), slice(50, 60)
    gram = np.asarray(srnn.response_gram(controls, controls, times, normalize=True))
    model = KernelRidge(kernel="precomputed", alpha=1e-4).fit(gram[train, train], target[train])
    assert np.mean((model.predict(gram[test, train]) - target[test]) ** 2) < 0.5 * np.var(target)


def test_bad_arguments_are_refused(key, unchecked):
    control, times = jnp.ones((4, 2)), jnp.linspace(0.0, 1.0, 5)
    with pytest.raises(ValueError, match="times must be finite and ascend"):
        srnn.response_feature(control, times[::-1], order=1, depth=1)
    with pytest.raises(ValueError, match=r"times must be \(5,\).*\(3,\)"):
        srnn.response_feature(control, times[:3], order=1, depth=1)
    with pytest.raises(ValueError, match="control must be finite"):
        srnn.response_feature(control.at[0].set(jnp.nan), times, order=1, depth=1)
    with pytest.raises(ValueError, match=r"depth = 9: the signature of 20 channels"):
        srnn.response_feature(control, times, order=9, depth=9)
    with pytest.raises(ValueError, match="order must be at least 0"):
        srnn.response_feature(control, times, order=-1, depth=1)
    batch = jnp.ones((3, 4, 2))
    with pytest.raises(ValueError, match=r"controls_b must be \(b, step, input\).*\(3, 4, 1\)"):
        srnn.response_gram(batch, batch[:, :, :1], times)
    with pytest.raises(ValueError, match="controls_a must be finite"):
        srnn.response_gram(batch.at[0].set(jnp.inf), batch, times)
    many = jax.ShapeDtypeStruct((20_000, 4, 2), jnp.float64)
    with pytest.raises(ValueError, match=r"a Gram matrix of 20000 × 20000 has 400000000 numbers"):
        jax.eval_shape(lambda a: srnn.response_gram(a, a, times), many)
    model = srnn.init(key, 2, 3, decay_time=10.0)
    kernel = srnn.response_kernel(model, jnp.sum, t1=1.0, dt=0.25, key=key, paths=2)
    with pytest.raises(ValueError, match="order must be below the number of steps 4, got 4"):
        srnn.response_coefficients(kernel, times, order=4)
    with pytest.raises(TypeError, match=r"kernels must be one srnn\.Kernel"):
        srnn.response_coefficients(kernel.values, times, order=1)


def test_a_loud_gram_keeps_its_digits_in_float32(key):
    a = 1e4 * jax.random.normal(key, (3, 6, 2), jnp.float32)
    a = a.at[1].set(a[0] + 0.1)
    times = jnp.linspace(0.0, 1.0, 7, dtype=jnp.float32)
    gram = srnn.response_gram(a, a, times, normalize=True)
    np.testing.assert_array_equal(np.diag(gram), 1.0)
    assert gram.max() <= 1
    # 2 inputs that differ by 0.1 for a unit of time; controls of 1e4 know that difference to 1e-3
    assert gram[0, 1] == pytest.approx(np.exp(-0.01), rel=1e-3)


def test_what_overflows_is_infinite_and_what_does_not_match_refused(key, unchecked):
    loud, times = jnp.full((2, 4, 1), 100.0), jnp.linspace(0.0, 1.0, 5)
    assert np.isposinf(srnn.response_gram(loud, loud, times)).all()  # compiled or not: exp(1e4)
    assert np.isposinf(jax.jit(lambda a: srnn.response_gram(a, a, times))(loud)).all()
    kernels, edges = smooth_kernels(8), jnp.linspace(0.0, 1.0, 9)
    srnn.response_coefficients(kernels, edges + 3.0, order=1)
    with pytest.raises(ValueError, match="times must be those of the kernels"):
        srnn.response_coefficients(kernels, 2 * edges, order=1)


def test_bad_numpy_arguments_are_refused_under_tracing(unchecked):
    control, times = np.ones((4, 1)), np.linspace(0.0, 1.0, 5)
    for bad, match in (((control, times[::-1]), "times must"), ((np.nan * control, times), "must be finite")):
        with pytest.raises(ValueError, match=match):
            jax.jit(lambda x, bad=bad: x * srnn.response_feature(*bad, order=1, depth=1))(1.0)


def test_numpy_arrays_are_converted_before_their_dtype_is_compared(unchecked):
    jax.config.update("jax_enable_x64", False)
    try:
        control = jnp.ones((4, 1), jnp.float32)
        assert srnn.response_feature(control, np.linspace(0.0, 1.0, 5), order=1, depth=1).dtype == jnp.float32
    finally:
        jax.config.update("jax_enable_x64", True)


def test_float64_numpy_times_are_differenced_before_they_are_cast(unchecked):
    """Steps of 300 s from 1.7e9 s on, which float32 knows to 128 s."""
    control = np.random.default_rng(0).normal(size=(8, 1)).astype(np.float32)
    times = 300.0 * np.arange(9)
    jax.config.update("jax_enable_x64", False)
    try:
        early, late = (srnn.response_feature(control, t, order=2, depth=2) for t in (times, times + 1.7e9))
        grams = [srnn.response_gram(control[None], control[None] + 0.01, t) for t in (times, times + 1.7e9)]
    finally:
        jax.config.update("jax_enable_x64", True)
    assert late.dtype == jnp.float32
    np.testing.assert_allclose(late, early, rtol=1e-5, atol=1e-4)  # float32
    np.testing.assert_allclose(*grams, rtol=1e-6)


def test_traced_times_that_do_not_ascend_show_in_the_result(unchecked):
    control, times = jnp.ones((4, 1)), jnp.linspace(0.0, 1.0, 5)
    feature = jax.jit(lambda times: srnn.response_feature(control, times, order=1, depth=2))
    np.testing.assert_allclose(
        feature(times), srnn.response_feature(control, times, order=1, depth=2), rtol=1e-12, atol=1e-14
    )
    assert np.isnan(feature(times[::-1])).all()
    kernels = smooth_kernels(4)
    weights = jax.jit(lambda times: srnn.response_coefficients(kernels, times, order=1))
    assert np.isfinite(weights(times)).all()
    assert np.isnan(weights(times[::-1])).all()


def test_a_second_call_compiles_nothing(key):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    times, kernels = jnp.linspace(0.0, 1.0, 5), smooth_kernels(4)

    def call(control, times):
        srnn.response_feature(control[0], times, order=1, depth=2)
        srnn.response_coefficients(kernels, times, order=1)
        srnn.response_gram(control, control, times, normalize=True)

    call(jax.random.normal(key, (3, 4, 2)), times)
    compiled.clear()
    call(jax.random.normal(jax.random.key(1), (3, 4, 2)), times)
    assert not [event for event in compiled if "backend_compile" in event]
