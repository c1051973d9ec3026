"""Three formulas of Lim (2021) as they are printed fail here, beside the forms that the library has in their place:

- the Volterra terms over the square, without 1/n!, where the ordered simplex is meant;
- the feature path u ⊗ ψ, where its integral over time is meant;
- the kernel as a correlation at equal times, where the readout is at the later time.
"""

import jax
import jax.numpy as jnp
import numpy as np

import srnn
from srnn import features
from tests.oracles import srnn_printed
from tests.oracles.srnn_fokker_planck import FokkerPlanck


def test_the_square_domain_is_wrong_from_order_two(key):
    model = srnn.init(key, 1, 3, noise=0.3, radius=0.5).replace(bias=jnp.array([0.8, 0.5, -0.9]))
    control = jnp.ones((8, 1))
    options = {"t1": 1.0, "dt": 0.125, "key": key, "paths": 50}
    kernels = [srnn.response_kernel(model, jnp.sum, order=n, **options) for n in (1, 2)]
    right = srnn.volterra(kernels, control, 0.125)
    printed = srnn_printed.square_domain(kernels[0].values, kernels[1].values, control, 0.125)
    amplitudes = np.array([0.2, 0.1, 0.05])
    rest = srnn.simulate(model, readout=jnp.sum, **options).mean[0]
    driven = [srnn.simulate(model, a * control, readout=jnp.sum, **options).mean[0] for a in amplitudes]

    def slope(terms):
        errors = np.array(driven) - rest - amplitudes * terms[0] - amplitudes**2 * terms[1]
        return np.polyfit(np.log(amplitudes), np.log(np.abs(errors)), 1)[0]

    # one chunk: all runs have the same noise, so that only truncation is left
    assert abs(slope(right) - 3) < 0.15
    assert abs(slope(printed) - 2) < 0.15  # it is off by the entire second order: no better than order 1
    np.testing.assert_allclose(printed[1], 2 * right[1], rtol=1e-12)


def test_the_literal_feature_sees_end_points_only(key):
    times = jnp.linspace(0.0, 1.0, 17)
    controls = jax.random.normal(key, (200, 16, 1)).at[:, 0].set(0.5).at[:, -1].set(-0.5)
    target = controls[:, :, 0] @ jnp.exp(-(1 - times[:-1])) / 16  # what a leaky unit makes of the control
    target = np.asarray(target - target.mean())
    middles = (times[1:] + times[:-1]) - 1
    basis = np.polynomial.legendre.legvander(np.asarray(middles), 5)

    def unexplained(features):
        features = np.round(features - features.mean(axis=0), 12)  # what is left of a constant is no feature
        weights = np.linalg.lstsq(features, target, rcond=1e-10)[0]
        return np.var(target - features @ weights) / np.var(target)

    def literal(control):
        return srnn.signature(jnp.asarray(srnn_printed.literal_path(control, basis)), 1)

    right = jax.vmap(lambda u: srnn.response_feature(u, times, order=5, depth=1))(controls)
    assert unexplained(right) < 1e-8  # a sixth-degree fit of exp(t) on [0, 1] is good to 1e-5, squared
    assert unexplained(jnp.stack([literal(u) for u in controls])) > 0.999


def test_the_equal_time_correlation_is_not_the_kernel():
    oracle = FokkerPlanck(1.0, 0.5, 0.3, 0.8, 0.6, np.tanh, mean=-0.2, sd=0.4)
    model = srnn.SRNN(jnp.array([1.0]), jnp.array([[0.5]]), jnp.array([0.3]), jnp.array([[0.8]]), jnp.array([0.6]))
    paths, dt = 20_000, 0.05
    start = -0.2 + 0.4 * jax.random.normal(jax.random.key(1), (paths, 1))
    kernel = srnn.response_kernel(
        model, lambda h: jnp.tanh(h[0]), t1=1.0, dt=dt, key=jax.random.key(2), paths=paths, initial=start, steps=(0, 10)
    )
    times = np.array([0.0, 0.5]) + dt / 2
    # 3 standard errors, and 0.25 dt for Euler's step
    allowed = 3 * kernel.stderr[:, 0] + 0.25 * dt
    assert (np.abs(kernel.values[:, 0] - oracle.kernel(1.0, times)) < allowed).all()
    assert (np.abs(kernel.values[:, 0] - oracle.equal_time_correlation(times)) > 5 * allowed).all()


def test_monomials_lose_ten_digits_against_the_librarys_basis():
    times = jnp.linspace(0.0, 1.0, 2001)
    basis = features.basis_integrals(times, 15) * 2000  # means over steps
    monomials = np.vander(np.asarray(times[1:] + times[:-1]) / 2, 16)
    assert np.linalg.cond(basis) < 2
    assert np.linalg.cond(monomials) > 1e9 * np.linalg.cond(basis)
