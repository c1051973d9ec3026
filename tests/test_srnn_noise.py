"""Normal numbers by Box and Muller: exactly those of the formula, and normal by every test of theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from srnn import noise
from tests.oracles import srnn_scan

KEYS = 24
TRUE = jnp.asarray(True)
draw = jax.jit(noise.normal, static_argnums=(1, 2))


@pytest.mark.parametrize("channels", [1, 2, 5, 8])
def test_numbers_are_those_of_the_formula(key, channels):
    wanted = srnn_scan.normal(key, 7, channels)
    got = draw(key, (7, channels), "float64", TRUE)
    assert got.shape == (7, channels)
    assert got.dtype == "float64"
    # polynomials to the last bit, one rounding of the radius, which is below 9
    np.testing.assert_allclose(got, wanted, rtol=1e-14, atol=1e-15)
    narrow = draw(key, (7, channels), "float32", TRUE)
    assert narrow.dtype == "float32"


def samples(dtype, paths=20_000, channels=5):
    keys = jax.random.split(jax.random.key(5), KEYS)
    return np.stack([np.asarray(draw(key, (paths, channels), dtype, TRUE), np.float64) for key in keys])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_are_normal(dtype):
    x = samples(dtype)
    count = x.size  # 2.4 million
    assert np.isfinite(x).all()
    # moments 1 to 4, whose variances are 1, 2, 15 and 96: four standard errors
    for power, (mean, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        assert abs((x**power).mean() - mean) < 4 * np.sqrt(variance / count)
    # Kolmogorov and Smirnov's p-values over 24 keys are uniform: the least is below 1e-4 once in 400 runs
    p_values = [scipy.stats.kstest(own.ravel(), "norm").pvalue for own in x]
    assert min(p_values) > 1e-4
    assert scipy.stats.kstest(p_values, "uniform").pvalue > 1e-3
    # pairs that share words are half a row apart; neighbours, and channels of one path
    for a, b in ((x[..., :2], x[..., 3:]), (x[:, :-1], x[:, 1:]), (x[..., :-1], x[..., 1:])):
        for one, other in ((a, b), (a**2 - 1, b**2 - 1), (a, b**2 - 1)):
            correlation = (one * other).mean() / (one.std() * other.std())
            assert abs(correlation) < 4.5 / np.sqrt(one.size)


@pytest.mark.slow
def test_tails_reach_beyond_five(key):
    """Of 2^28 float32 numbers, 154 are beyond ±5 and .53 beyond ±6; 32 bits of a radius reach to 6.76."""
    beyond = jax.jit(lambda key: jnp.stack([
        (jnp.abs(noise.normal(key, (2**14, 2**8), "float32", TRUE)) > size).sum() for size in (4, 5)
    ]))  # fmt: skip
    counts = sum(np.asarray(beyond(own)) for own in jax.random.split(key, 64))
    wanted = 2**28 * 2 * scipy.stats.norm.sf([4, 5])
    assert (np.abs(counts - wanted) < 4 * np.sqrt(wanted)).all()


def test_other_generators_are_taken():
    key = jax.random.key(1, impl="rbg")
    x = np.asarray(draw(key, (40_000, 3), "float32", TRUE))
    # 120,000 numbers: four standard errors of mean and variance
    assert abs(x.mean()) < 4 / np.sqrt(x.size)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / x.size)
