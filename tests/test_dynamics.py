"""Dynamics: eigenvalues against closed forms, exponents against known systems, memory against a pulse."""

import math
import re

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import maso_rnn
from maso_rnn import (
    eigen,
    entropy_bound,
    jacobian_spectra,
    kaplan_yorke_dimension,
    lyapunov_exponents,
    modal_coordinates,
    per_gate,
    plots,
    pulse_decay,
    recurrent_kernels,
    spectra,
    spectrum,
    spectrum_table,
)
from maso_rnn.report.dynamics import eigenvalues as eigenvalue_section

SILENT = jnp.zeros((20, 0))


def rotation(angle, radius=1.0):
    return radius * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def similar(key, values):
    """A kernel with these eigenvalues and no orthogonal eigenvectors."""
    basis = np.asarray(jax.random.normal(key, (len(values), len(values))))
    return jnp.asarray(basis @ np.diag(values) @ np.linalg.inv(basis))


# spectrum


def test_spectrum_of_a_scaled_rotation():
    found = spectrum(jnp.asarray(rotation(0.5, 0.9)))
    # float64, closed forms
    np.testing.assert_allclose(found.radius, 0.9, atol=1e-14)
    np.testing.assert_allclose(found.eigenvalues, 0.9 * np.exp([0.5j, -0.5j]), atol=1e-14)
    np.testing.assert_allclose(found.horizons, -1 / math.log(0.9), rtol=1e-12)
    np.testing.assert_allclose(found.periods, 2 * math.pi / 0.5, rtol=1e-12)
    np.testing.assert_allclose([found.norm, found.condition, found.transient], [0.9, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(found.departure, 0, atol=1e-14)
    np.testing.assert_allclose(found.growth, 0.9 ** np.arange(65), rtol=1e-12)
    assert not found.defective


def test_spectrum_of_a_triangular_kernel():
    # eigenvalues a, d; the Schur form is the kernel itself: departure |b|; eigenvectors (1, 0), (b, d - a) normalised
    a, b, d = 0.5, 2.0, -0.25
    found = spectrum(jnp.array([[a, b], [0.0, d]]))
    np.testing.assert_allclose(found.eigenvalues, [a, d], rtol=1e-14)
    np.testing.assert_allclose(found.departure, b, rtol=1e-14)
    vectors = np.array([[1, b / math.hypot(b, d - a)], [0, (d - a) / math.hypot(b, d - a)]])
    np.testing.assert_allclose(found.condition, np.linalg.cond(vectors), rtol=1e-12)
    np.testing.assert_allclose(found.periods, [np.inf, 2.0])
    powers = [np.linalg.norm(np.linalg.matrix_power([[a, b], [0, d]], k), 2) for k in range(65)]
    np.testing.assert_allclose(found.growth, powers, rtol=1e-12)
    np.testing.assert_allclose(found.transient, max(powers), rtol=1e-12)


def test_horizons_on_outside_and_at_zero():
    found = spectrum(jnp.diag(jnp.array([2.0, 1.0, 0.0])))
    np.testing.assert_allclose(found.horizons, [-1 / math.log(2), np.inf, 0.0])
    # growth that the radius explains is not transient
    np.testing.assert_allclose(found.transient, 1.0, rtol=1e-12)


def test_growth_of_a_nilpotent_kernel_ends():
    found = spectrum(jnp.array([[0.0, 3.0], [0.0, 0.0]]), steps=4)
    np.testing.assert_allclose(found.growth, [1, 3, 0, 0, 0])
    assert found.transient == 3


def test_growth_beyond_float_range_is_infinite_and_its_transient_is_not(key):
    kernel = 1e10 * jnp.asarray(rotation(1.0), jnp.float32)
    found = spectrum(kernel)
    assert np.isinf(found.growth[-1])
    np.testing.assert_allclose(found.transient, 1.0, rtol=1e-4)  # float32, 64 products


def test_eigenvalues_are_sorted_with_conjugates_together(key):
    values = np.asarray(spectrum(jax.random.normal(key, (9, 9))).eigenvalues)
    assert np.all(np.diff(np.abs(values)) <= 0)
    pairs = values[values.imag != 0].reshape(-1, 2)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1].conj())


DEFECTIVE = {
    "jordan": np.array([[0.5, 1.0], [0.0, 0.5]]),
    "nilpotent": np.diag(np.ones(4), 1),
    "one block among others": np.array([[0.9, 0, 0], [0, 0.5, 1], [0, 0, 0.5]]),
}


@pytest.mark.parametrize("name", DEFECTIVE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_defective_kernels_are_called_so(key, name, dtype):
    jordan = DEFECTIVE[name]
    assert spectrum(jnp.asarray(jordan, dtype)).defective
    # in another basis, where rounding the entries has split the eigenvalues
    basis = np.asarray(jax.random.normal(key, jordan.shape))
    turned = jnp.asarray(basis @ jordan @ np.linalg.inv(basis), dtype)
    found = spectrum(turned)
    assert found.defective
    assert "defective" in spectrum_table(found)
    with pytest.raises(ValueError, match=r"defective.*jacobian_spectra"):
        modal_coordinates(jnp.ones((1, len(jordan)), dtype), turned)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_defective_up_to_the_rounding_of_a_narrow_dtype(key, dtype):
    # rounded, and read as if its entries were exact, the kernel has two eigenvalues well apart
    turned = np.asarray(eigen(basis="orthogonal")(key, (3, 3)))
    turned = jnp.asarray(turned @ DEFECTIVE["one block among others"] @ turned.T, dtype)
    assert spectrum(turned, steps=1).defective
    assert not spectrum(turned.astype(jnp.float32), steps=1).defective
    assert not spectrum(jnp.asarray(rotation(0.5), dtype), steps=1).defective


def test_repeated_eigenvalues_with_eigenvectors_of_their_own_are_not_defective():
    # LAPACK may return one eigenvector twice for the threefold 0 of the first
    for kernel in (jnp.ones((4, 4)), jnp.kron(jnp.eye(2), jnp.ones((2, 2))), jnp.eye(4)):
        found = spectrum(kernel, steps=1)
        assert not found.defective
        assert found.condition < 100  # eigenvectors of a repeated eigenvalue are LAPACK's choice
        np.testing.assert_allclose(found.departure, 0, atol=1e-13)  # symmetric; float64, times that condition


def test_departure_of_a_defective_kernel(key):
    # a strictly triangular matrix, turned, is all departure; rounding leaves eigenvalues a fourth root of 1e-16
    turn = np.asarray(eigen(basis="orthogonal")(key, (4, 4)))
    found = spectrum(jnp.asarray(turn @ np.triu(np.ones((4, 4)), 1) @ turn.T), steps=1)
    assert found.defective
    np.testing.assert_allclose(found.departure, math.sqrt(6), rtol=1e-6)  # that root squared


def test_what_a_dtype_cannot_hold_is_infinite():
    # LAPACK's eigenvectors are (1, 0) and (-1, 1e-292): their inverse is beyond float32, which is no warning
    found = spectrum(jnp.array([[0.0, 1.0], [0.0, 0.0]], jnp.float32), steps=1)
    assert found.defective
    assert np.isinf(found.condition)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_kernels_with_an_eigenbasis_are_not_called_defective(key, dtype):
    ordinary = [np.eye(5), np.zeros((3, 3)), np.ones((1, 1)), np.ones((4, 4)), rotation(0.1)]
    ordinary += [np.asarray(jax.random.normal(k, (n, n))) for k in jax.random.split(key, 20) for n in (2, 16)]
    ordinary += [np.asarray(eigen(basis=b)(key, (16, 16))) for b in ("schur", "orthogonal", "eigenvectors")]
    for kernel in ordinary:
        found = spectrum(jnp.asarray(kernel, dtype), steps=1)
        assert not found.defective
        assert "defective" not in spectrum_table(found)


def test_gradient_of_the_radius_is_that_of_a_simple_eigenvalue():
    # d|λ| along any change of a diagonal kernel is the change of its own entry
    gradient = jax.grad(lambda kernel: spectrum(kernel, steps=1).radius)(jnp.diag(jnp.array([0.9, -0.5])))
    np.testing.assert_allclose(gradient, [[1, 0], [0, 0]], atol=1e-14)  # float64 rounding


def test_spectrum_of_a_traced_kernel_that_is_not_finite_is_nan():
    found = jax.jit(spectrum)(jnp.full((2, 2), jnp.nan))
    assert np.isnan(found.radius)
    assert np.isnan(found.eigenvalues).all()


def test_low_precision_is_computed_higher():
    found = spectrum(jnp.asarray(rotation(0.5), jnp.bfloat16))
    assert found.radius.dtype == jnp.float32


# gates of cells


@pytest.mark.slow
def test_recurrent_kernels_of_every_cell(key):
    init = eigen(0.5)
    rngs = nnx.Rngs(0)
    carry, xs = jnp.zeros(4, jnp.float32), jnp.ones(3, jnp.float32)
    gru = nnx.GRUCell(3, 4, recurrent_kernel_init=per_gate(init, 3), rngs=rngs)
    cells = {
        "simple": (nnx.SimpleCell(3, 4, recurrent_kernel_init=init, rngs=rngs), ["h"]),
        "gru": (gru, ["r", "z", "n"]),
        "lstm": (nnx.LSTMCell(3, 4, recurrent_kernel_init=init, rngs=rngs), list("ifgo")),
        "fast lstm": (
            nnx.OptimizedLSTMCell(3, 4, recurrent_kernel_init=per_gate(init, 4), rngs=rngs),
            list("ifgo"),
        ),
        "linen": (linen.SimpleCell(4, recurrent_kernel_init=init).init(key, carry, xs), ["h"]),
        "linen gru": (linen.GRUCell(4, recurrent_kernel_init=init).init(key, carry, xs)["params"], ["r", "z", "n"]),
        "linen lstm": (
            linen.OptimizedLSTMCell(4, recurrent_kernel_init=init).init(key, (carry,) * 2, xs),
            list("ifgo"),
        ),
        "linen rnn": (
            linen.RNN(linen.GRUCell(4, recurrent_kernel_init=init)).init(key, jnp.ones((1, 2, 3), jnp.float32)),
            ["r", "z", "n"],
        ),
        "rnn": (maso_rnn.init(key, 3, [4, 4], 2, recurrent_init=init), ["layer 0", "layer 1"]),
    }
    torch_like = equinox.nn.LSTMCell(3, 4, key=key)
    weight = per_gate(init, 4, axis=0)(key, (16, 4))
    cells["equinox"] = (equinox.tree_at(lambda cell: cell.weight_hh, torch_like, weight), list("ifgo"))
    for name, (cell, gates) in cells.items():
        found = spectra(cell, steps=1)
        assert list(found) == gates, name
        np.testing.assert_allclose([one.radius for one in found.values()], 0.5, atol=1e-5, err_msg=name)  # float32
    # the gates are where the cell itself has them: in nnx the second third updates
    kernel = gru.dense_h.kernel[...]
    np.testing.assert_array_equal(recurrent_kernels(gru)["z"], kernel[:, 4:8])
    # and equinox multiplies columns
    np.testing.assert_array_equal(recurrent_kernels(cells["equinox"][0])["f"], weight[4:8].T)


def test_spectrum_table_has_every_gate(key):
    cell = nnx.GRUCell(3, 4, recurrent_kernel_init=per_gate(eigen(0.5), 3), rngs=nnx.Rngs(0))
    table = spectrum_table(spectra(cell))
    assert [line.split(":")[0] for line in table.splitlines() if "eigenvalues" in line] == ["r", "z", "n"]
    assert "1.443 ... 1.443 steps" in table  # −1 / ln 0.5
    for quantity in ("radius", "horizons", "periods", "2-norm", "condition", "Henrici", "transient"):
        assert quantity in table


# modal coordinates


def test_modes_of_a_linear_network_only_decay_and_turn(key):
    kernel = 0.5 * jax.random.normal(key, (6, 6))
    states = [jax.random.normal(key, (6,))]
    for _ in range(10):
        states.append(states[-1] @ kernel)
    modes = modal_coordinates(jnp.stack(states), kernel)
    values = spectrum(kernel).eigenvalues
    # float64, ten products
    np.testing.assert_allclose(modes, modes[0] * values ** jnp.arange(11)[:, None], atol=1e-10)


def test_modal_coordinates_take_narrow_dtypes(key):
    kernel, state = jnp.asarray(rotation(0.5), jnp.bfloat16), jax.random.normal(key, (2,), jnp.bfloat16)
    modes = modal_coordinates(state, kernel)
    assert modes.dtype == jnp.complex64
    wide = modal_coordinates(state.astype(jnp.float32), kernel.astype(jnp.float32))
    np.testing.assert_array_equal(modes, wide)


def test_concrete_defective_kernels_are_refused_inside_jit():
    kernel = jnp.asarray(DEFECTIVE["jordan"])
    with pytest.raises(ValueError, match="kernel is defective, up to the rounding of float64"):
        jax.jit(lambda state: modal_coordinates(state, kernel))(jnp.ones((1, 2)))
    with pytest.raises(ValueError, match="kernel is defective"):
        jax.jit(lambda state: pulse_decay(lambda h, x: h @ kernel, kernel, state, SILENT))(jnp.ones(2))


def test_modal_coordinates_of_a_traced_defective_kernel_are_nan():
    assert np.isnan(jax.jit(modal_coordinates)(jnp.ones((1, 2)), jnp.asarray(DEFECTIVE["jordan"]))).all()


# Jacobians and exponents


def tanh_cell(kernel):
    return lambda h, x: jnp.tanh(h @ kernel + x.sum())


def test_jacobian_spectra_are_those_of_the_whole_map(key):
    kernel = 0.8 * jax.random.normal(key, (4, 4))
    h0, inputs = jax.random.normal(key, (4,)), 0.3 * jax.random.normal(key, (5, 2))
    cell = tanh_cell(kernel)
    found = jacobian_spectra(cell, h0, inputs)

    def run(h, steps):
        for x in inputs[:steps]:
            h = cell(h, x)
        return h

    for t in range(1, 6):
        jacobian = jax.jacobian(lambda h, t=t: run(h, t))(h0)
        wanted = np.linalg.svd(jacobian, compute_uv=False)
        # relative to the largest, as documented
        np.testing.assert_allclose(np.exp(found.log_singular_values[t - 1]), wanted, atol=1e-12 * wanted[0])
        eigenvalues = np.linalg.eigvals(jacobian)
        largest = eigenvalues[np.abs(eigenvalues).argmax()]
        got = np.exp(np.asarray(found.log_eigenvalues[t - 1, 0]))
        np.testing.assert_allclose([got.real, abs(got.imag)], [largest.real, abs(largest.imag)], atol=1e-10)  # float64


def test_jacobian_products_do_not_underflow():
    found = jacobian_spectra(lambda h, x: 1e-3 * h, jnp.ones(2, jnp.float32), jnp.zeros((100, 0), jnp.float32))
    np.testing.assert_allclose(found.log_singular_values[-1], 100 * math.log(1e-3), rtol=1e-5)  # float32
    np.testing.assert_allclose(found.log_eigenvalues[-1].real, 100 * math.log(1e-3), rtol=1e-5)  # float32


def test_jacobian_spectra_take_an_lstm(key):
    cell = linen.OptimizedLSTMCell(4)
    carry = (jnp.zeros(4, jnp.float32), jnp.zeros(4, jnp.float32))
    xs = jnp.ones((3, 2), jnp.float32)
    params = cell.init(key, carry, xs[0])
    found = jacobian_spectra(lambda carry, x: cell.apply(params, carry, x)[0], carry, xs)
    assert found.log_singular_values.shape == (3, 8)
    exponents = lyapunov_exponents(lambda carry, x: cell.apply(params, carry, x)[0], carry, xs)
    assert exponents.exponents.shape == (8,)


def test_exponents_of_linear_maps_are_exact(key):
    # after the warm-up Q has turned into the Schur basis, at the rate of the ratio of neighbouring moduli (0.5)
    values = np.array([1.6, -0.8, 0.4, 0.2])
    kernel = similar(key, values)
    found = lyapunov_exponents(lambda h, x: h @ kernel, jnp.zeros(4), jnp.zeros((160, 0)), warmup=100)
    np.testing.assert_allclose(found.exponents, np.log(np.abs(values)), atol=1e-12)  # float64
    # a scaled rotation has no basis to turn into, and needs no warm-up
    turn = jnp.asarray(rotation(0.7, 0.9))
    found = lyapunov_exponents(lambda h, x: h @ turn, jnp.zeros(2), SILENT, warmup=0, dt=0.5)
    np.testing.assert_allclose(found.exponents, math.log(0.9) / 0.5, atol=1e-12)  # float64
    assert found.growth.shape == (20, 2)


def test_exponents_sum_to_the_mean_log_determinant(key):
    # Σ ln|R_ii| = ln|det J|, whatever the basis: for tanh, Σ ln(1 − h²) + ln|det W|
    kernel = jax.random.normal(key, (5, 5))
    h, inputs = jnp.zeros(5), 0.3 * jax.random.normal(key, (30, 2))
    found = lyapunov_exponents(tanh_cell(kernel), h, inputs, warmup=10)
    logs = []
    for x in inputs:
        h = tanh_cell(kernel)(h, x)
        logs.append(float(jnp.log1p(-(h**2)).sum() + np.linalg.slogdet(kernel)[1]))
    np.testing.assert_allclose(found.exponents.sum(), np.mean(logs[10:]), rtol=1e-10)  # float64
    assert int(found.warmup) == 10


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)])
def test_directions_lost_in_rounding_have_exponent_minus_infinity(key, dtype):
    # of rank 2: after the first step rounding is all that is left of the others
    left, right = jax.random.normal(key, (2, 8, 2), dtype)
    for kernel in (left @ right.T, left @ left.T, jnp.ones((8, 8), dtype)):
        found = lyapunov_exponents(lambda h, x, kernel=kernel: h @ kernel / 8, jnp.ones(8, dtype), SILENT.astype(dtype))
        rank = 1 if (kernel == 1).all() else 2
        assert np.isfinite(found.exponents).tolist() == [True] * rank + [False] * (8 - rank)
        assert np.all(np.asarray(found.exponents[rank:]) == -np.inf)
    # small is not lost: what one unit forgets in a step to less than the other's rounding is still exact
    small = jnp.array([1e-12, 2.0], dtype)
    found = lyapunov_exponents(lambda h, x: h * small, jnp.ones(2, dtype), SILENT.astype(dtype))
    np.testing.assert_allclose(found.exponents, np.log([2.0, 1e-12]), rtol=1e-5)  # float32


def test_growth_is_in_the_order_of_its_means(key):
    rates = jnp.array([0.5, 2.0, 1.0])
    inputs = jax.random.normal(key, (20, 3))
    found = lyapunov_exponents(lambda h, x: h * rates * jnp.exp(x), jnp.ones(3), inputs, warmup=4)
    np.testing.assert_allclose(found.growth[4:].mean(axis=0), found.exponents, atol=1e-14)  # float64
    order = np.argsort(-np.asarray(inputs[4:].mean(axis=0) + jnp.log(rates)))
    np.testing.assert_allclose(found.growth, (inputs + jnp.log(rates))[:, order], atol=1e-12)  # float64


def test_narrow_carries_are_decomposed_in_float32():
    kernel = jnp.asarray(rotation(0.5, 0.5), jnp.bfloat16)
    arguments = lambda h, x: h @ kernel, jnp.ones(2, jnp.bfloat16), jnp.zeros((10, 0), jnp.bfloat16)
    exponents = lyapunov_exponents(*arguments).exponents
    assert exponents.dtype == jnp.float32
    np.testing.assert_allclose(exponents, math.log(0.5), atol=0.01)  # bfloat16
    singular = jacobian_spectra(*arguments).log_singular_values
    np.testing.assert_allclose(singular[-1], 10 * math.log(0.5), atol=0.1)  # bfloat16, ten products


def lorenz(h, x):
    """Lorenz's 1963 system by a Runge–Kutta step of 0.01."""

    def field(h):
        return jnp.array([10.0 * (h[1] - h[0]), h[0] * (28.0 - h[2]) - h[1], h[0] * h[1] - 8.0 / 3.0 * h[2]])

    a = field(h)
    b = field(h + 0.005 * a)
    c = field(h + 0.005 * b)
    return h + 0.01 / 6.0 * (a + 2 * b + 2 * c + field(h + 0.01 * c))


@pytest.mark.slow
def test_exponents_of_lorenz():
    found = lyapunov_exponents(lorenz, jnp.array([1.0, 1.0, 20.0]), jnp.zeros((300_000, 0)), warmup=5_000, dt=0.01)
    largest, middle, smallest = found.exponents
    # known to four figures (Sprott 2003); over 3,000 units of time the sampling error is well below 1%
    np.testing.assert_allclose([largest, smallest], [0.9056, -14.572], rtol=0.02)
    assert abs(middle) < 0.02
    # the flow contracts volumes at −(σ + 1 + β) everywhere; a fourth-order step of 0.01 keeps that to 1e-4
    np.testing.assert_allclose(found.exponents.sum(), -(10 + 1 + 8 / 3), rtol=1e-4)


@pytest.mark.slow
def test_first_exponent_of_lorenz_alone():
    steps = jnp.zeros((100_000, 0))
    found = lyapunov_exponents(lorenz, jnp.array([1.0, 1.0, 20.0]), steps, count=1, warmup=5_000, dt=0.01)
    np.testing.assert_allclose(found.exponents, [0.9056], rtol=0.03)  # 1,000 units of time: a sampling error of 1%


def henon(h, x):
    return jnp.stack([1 - 1.4 * h[0] ** 2 + h[1], 0.3 * h[0]])


def test_exponents_of_maps_by_all_and_by_the_first_alone():
    # Hénon: .4192 and ln .3 − .4192 (Sprott 2003); the logistic map at 4: ln 2. 20,000 steps: errors of about 1%
    steps = jnp.zeros((20_000, 0))
    both = lyapunov_exponents(henon, jnp.array([0.1, 0.1]), steps).exponents
    first = lyapunov_exponents(henon, jnp.array([0.1, 0.1]), steps, count=1)
    assert first.growth.shape == (20_000, 1)
    np.testing.assert_allclose(both[0], 0.4192, rtol=0.02)
    np.testing.assert_allclose(both.sum(), math.log(0.3), rtol=1e-10)  # |det J| everywhere, in float64
    np.testing.assert_allclose(first.exponents, both[:1], rtol=1e-3)  # the first directions differ, for a few steps
    np.testing.assert_allclose(kaplan_yorke_dimension(both), 1 + both[0] / -both[1], rtol=1e-12)
    logistic = lyapunov_exponents(lambda h, x: 4 * h * (1 - h), jnp.array([0.2]), steps, count=1)
    np.testing.assert_allclose(logistic.exponents, math.log(2), rtol=0.02)


def test_the_first_exponents_are_those_of_all(key):
    kernel = similar(key, np.array([1.6, -0.8, 0.4, 0.2]))
    some = lyapunov_exponents(lambda h, x: h @ kernel, jnp.zeros(4), jnp.zeros((160, 0)), count=2, warmup=100)
    np.testing.assert_allclose(some.exponents, np.log([1.6, 0.8]), atol=1e-12)  # float64
    # a basis of units would never turn into the direction that grows
    diagonal = jnp.array([0.5, 2.0, 0.1])
    first = lyapunov_exponents(lambda h, x: h * diagonal, jnp.zeros(3), jnp.zeros((100, 0)), count=1, warmup=60)
    np.testing.assert_allclose(first.exponents, math.log(2), atol=1e-12)  # float64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_trajectory_that_diverges_has_no_exponents(dtype):
    found = lyapunov_exponents(lambda h, x: 10 * h**3, jnp.ones(1, dtype), SILENT.astype(dtype), warmup=0)
    np.testing.assert_allclose(found.growth[:2, 0], np.log([30, 3000]), rtol=1e-6)  # 30 h², at 1 and 10
    assert np.isnan(found.exponents).all()


def test_dimension_and_entropy_of_exponents():
    # D = k + Σ / |λ_{k+1}|, by hand
    np.testing.assert_allclose(kaplan_yorke_dimension(jnp.array([-14.5, 0.9, 0.0])), 2 + 0.9 / 14.5)
    assert kaplan_yorke_dimension(jnp.array([-0.1, -2.0])) == 0
    assert kaplan_yorke_dimension(jnp.array([0.2, -0.1, -jnp.inf])) == 2
    assert np.isnan(kaplan_yorke_dimension(jnp.array([0.2, 0.1])))  # the directions that shrink are not there
    assert entropy_bound(jnp.array([0.2, 0.1, -1.0])) == pytest.approx(0.3)


# memory, measured


def test_pulse_decay_is_the_prediction_in_the_linear_network(key):
    kernel = 0.9 * eigen(basis="eigenvectors")(key, (8, 8)) @ jnp.diag(jnp.linspace(0.5, 1.0, 8))
    found = pulse_decay(lambda h, x: h @ kernel, kernel, jnp.zeros(8), jnp.zeros((30, 0)))
    # float64, down to its square root
    np.testing.assert_allclose(found.measured, found.predicted, rtol=1e-5)
    assert found.amplitudes.shape == (8, 31)
    np.testing.assert_allclose(found.predicted, spectrum(kernel).horizons)
    # biases and inputs are the same with and without the pulse, and do not matter
    driven = pulse_decay(lambda h, x: h @ kernel + 1.0 + x.sum(), kernel, jnp.ones(8), jnp.ones((30, 2)))
    np.testing.assert_allclose(driven.measured, driven.predicted, rtol=1e-5)


def test_pulse_decay_stops_where_growing_modes_have_drowned_it(key):
    # 1.7^40 turns a rounding of float32 into hundreds: the decaying modes are measured before that
    kernel = similar(key, np.array([1.7, 1.2, 0.9, 0.6])).astype(jnp.float32)
    inputs = jnp.ones((40, 1), jnp.float32)
    found = pulse_decay(lambda h, x: h @ kernel + x, kernel, jnp.zeros(4, jnp.float32), inputs)
    np.testing.assert_allclose(found.measured, found.predicted, rtol=0.02)  # float32, over a few steps only


def test_pulse_decay_under_tanh_depends_on_its_size(key):
    kernel = eigen(0.95)(key, (8, 8))
    run = [
        pulse_decay(lambda h, x: jnp.tanh(h @ kernel), kernel, jnp.zeros(8), jnp.zeros((30, 0)), amplitude=amplitude)
        for amplitude in (1e-3, 3.0)
    ]
    np.testing.assert_allclose(run[0].measured, run[0].predicted, rtol=1e-4)  # tanh is linear to 1e-6 there
    assert np.all(np.asarray(run[1].measured) < 0.9 * np.asarray(run[1].predicted))  # saturation forgets


def test_pulse_decay_under_relu_is_that_of_the_open_units():
    # every mode of the scaled identity is one unit, and its pulse positive: kept where the unit is open, else cut
    kernel = 0.5 * jnp.eye(3)
    relu = pulse_decay(lambda h, x: jax.nn.relu(h @ kernel), kernel, jnp.zeros(3), SILENT)
    np.testing.assert_allclose(relu.measured, relu.predicted, rtol=1e-10)  # unit pulses are positive
    shut = pulse_decay(lambda h, x: jax.nn.relu(h @ kernel - 1.0), kernel, jnp.zeros(3), SILENT)
    np.testing.assert_array_equal(shut.measured, 0.0)  # no unit is open: gone at once


def test_pulse_decay_takes_narrow_dtypes(key):
    kernel = eigen(0.9)(key, (4, 4), jnp.bfloat16)
    silent = jnp.zeros((30, 0), jnp.bfloat16)
    found = pulse_decay(lambda h, x: h @ kernel, kernel, jnp.zeros(4, jnp.bfloat16), silent)
    assert found.measured.dtype == jnp.float32
    np.testing.assert_allclose(found.measured, found.predicted, rtol=0.05)  # bfloat16: 8 bits


def test_pulse_decay_says_nan_where_rounding_hides_the_pulse():
    kernel = 0.5 * jnp.eye(2, dtype=jnp.float32)
    state, silent = jnp.full(2, 1e3, jnp.float32), SILENT.astype(jnp.float32)
    found = pulse_decay(lambda h, x: h @ kernel + 500.0, kernel, state, silent, amplitude=1e-3)
    assert np.isnan(found.measured).all()


def test_pulse_decay_of_a_traced_defective_kernel_is_nan():
    kernel = jnp.asarray(DEFECTIVE["jordan"])
    found = jax.jit(lambda kernel: pulse_decay(lambda h, x: h @ kernel, kernel, jnp.zeros(2), SILENT))(kernel)
    assert np.isnan(found.measured).all()


def test_numbers_near_the_end_of_the_range():
    # the moduli of complex numbers, norms and powers are taken at a size near 1
    growth = spectrum(1e38 * jnp.eye(2, dtype=jnp.float32), steps=2).growth
    np.testing.assert_allclose(growth, [1, 1e38, np.inf], rtol=1e-5)  # float32, through a logarithm of 87
    kernel = jnp.array([[0.9, 0.1], [0.0, 0.5]], jnp.float32)
    silent = SILENT.astype(jnp.float32)
    for amplitude in (1e-20, 1e19, 1e20, 1e30):
        found = pulse_decay(lambda h, x: h @ kernel, kernel, jnp.zeros(2, jnp.float32), silent, amplitude=amplitude)
        np.testing.assert_allclose(found.measured, found.predicted, rtol=1e-4)  # float32, some ten steps


def test_the_table_counts_growing_modes_apart():
    table = spectrum_table(spectrum(jnp.diag(jnp.array([0.5, 0.1, 1.2, 0.9]))))
    assert "0.4343 ... 9.491 steps, median 1.443; 1 of 4 modes grow" in table
    assert "all modes grow" in spectrum_table(spectrum(2 * jnp.eye(2)))


# eager calls


def test_a_second_eager_call_compiles_nothing(key, compilations):
    kernel = 0.5 * jax.random.normal(key, (4, 4))
    inputs, state = jax.random.normal(key, (6, 2)), jnp.ones(4)
    calls = {
        "spectrum": lambda kernel: spectrum(kernel, steps=5),
        "modal_coordinates": lambda kernel: modal_coordinates(state, kernel),
        # the function is a new one at each call, and reads new weights
        "jacobian_spectra": lambda kernel: jacobian_spectra(tanh_cell(kernel), state, inputs),
        "lyapunov_exponents": lambda kernel: lyapunov_exponents(tanh_cell(kernel), state, inputs, count=2),
        "pulse_decay": lambda kernel: pulse_decay(tanh_cell(kernel), kernel, state, inputs),
        "entropy_bound": lambda kernel: entropy_bound(kernel[0]),
        "kaplan_yorke_dimension": lambda kernel: kaplan_yorke_dimension(kernel[0]),
    }
    other = 0.9 * kernel
    for name, call in calls.items():
        jax.block_until_ready(call(kernel))
        with compilations() as count:
            jax.block_until_ready(call(other))
        assert not count, name


# bad input


def test_refused_kernels(unchecked):
    with pytest.raises(ValueError, match=r"kernel.*\(3, 12\).*spectra"):
        spectrum(jnp.ones((3, 12)))
    for kernel in (jnp.ones(3), jnp.full((2, 2), jnp.nan), jnp.zeros((0, 0))):
        with pytest.raises(ValueError, match="kernel"):
            spectrum(kernel)
    for kernel in (jnp.ones((3, 3), int), [[1.0]]):
        with pytest.raises(TypeError, match="kernel"):
            spectrum(kernel)
    with pytest.raises(ValueError, match="steps"):
        spectrum(jnp.eye(2), steps=0)
    for cell in (object(), {"a": 1}, {"h": 3.0}):
        with pytest.raises(TypeError, match="cell"):
            spectra(cell)
    with pytest.raises(TypeError, match="cell"):
        recurrent_kernels(type("Cell", (), {"weight_hh": jnp.ones((8, 4))})())


def test_refused_states_and_steps(unchecked):
    with pytest.raises(ValueError, match="states"):
        modal_coordinates(jnp.ones((5, 3)), jnp.eye(2))
    with pytest.raises(TypeError, match="states"):
        modal_coordinates([1.0], jnp.eye(1))

    def step(h, x):
        return jnp.tanh(h)

    for function in (jacobian_spectra, lyapunov_exponents):
        with pytest.raises(ValueError, match="inputs"):
            function(step, jnp.ones(2), jnp.zeros((0, 1)))
        with pytest.raises(TypeError, match=r"step.*state"):
            function(lambda h, x: h[:1], jnp.ones(2), SILENT)
        with pytest.raises(TypeError, match="step"):
            function(None, jnp.ones(2), SILENT)
        for state in (jnp.full(2, jnp.inf), ()):
            with pytest.raises(ValueError, match="state"):
                function(step, state, SILENT)
    for options in ({"warmup": 20}, {"dt": 0.0}, {"count": 3}, {"count": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            lyapunov_exponents(step, jnp.ones(2), SILENT, **options)
    with pytest.raises(TypeError, match=r"dt.*close over it"):
        jax.jit(lambda dt: lyapunov_exponents(step, jnp.ones(2), SILENT, dt=dt))(1.0)
    with pytest.raises(ValueError, match="amplitude"):
        pulse_decay(step, jnp.eye(2), jnp.ones(2), SILENT, amplitude=math.nan)
    with pytest.raises(TypeError, match="amplitude"):
        pulse_decay(step, jnp.eye(2), jnp.ones(2), SILENT, amplitude=None)
    with pytest.raises(ValueError, match="state"):
        pulse_decay(step, jnp.eye(2), jnp.ones(3), SILENT)
    for function in (kaplan_yorke_dimension, entropy_bound):
        with pytest.raises(ValueError, match="exponents"):
            function(jnp.ones((2, 2)))


# report and pictures


@pytest.fixture(scope="module")
def section():
    before = maso_rnn.init(jax.random.key(0), 2, [8], 3, recurrent_init=eigen(0.9), dtype=jnp.float64)
    layer = before.layers[0]
    after = before.replace(layers=(layer.replace(recurrent_kernel=1.2 * layer.recurrent_kernel),))
    xs = jax.random.normal(jax.random.key(1), (20, 2))
    return eigenvalue_section({"before training": before, "after training": after}, xs)


def test_section_says_what_was_measured(section):
    assert section.name == "eigenvalues"
    assert [p.name for p in section.pictures] == [
        "eigenvalue-cloud",
        "memory-horizons",
        "power-growth",
        "memory-measured",
    ]
    cloud, horizons, growth, memory = (picture.reading for picture in section.pictures)
    assert re.findall(r"\d+ of 8", cloud) == ["0 of 8", "8 of 8"]
    assert "9.49 steps" in horizons  # −1 / ln 0.9
    assert "1 times" in growth
    # the linear network keeps the prediction, the others do not
    assert memory.count("8 of 8 under identity") == 2
    assert "8 of 8 under relu" not in memory
    values = section.values["before training"]
    np.testing.assert_allclose(values["measured_horizons"]["identity"], values["predicted_horizons"], rtol=1e-6)
    assert "transient growth" in values["report"]
    assert not section.warnings


def test_section_warns_of_a_defective_kernel():
    rnn = maso_rnn.init(jax.random.key(0), 2, [2], 3)
    layer = rnn.layers[0].replace(recurrent_kernel=jnp.asarray(DEFECTIVE["jordan"]))
    section = eigenvalue_section({"start": rnn.replace(layers=(layer,))}, jnp.ones((4, 2)))
    assert [picture.name for picture in section.pictures][-1] == "power-growth"
    assert "defective" in section.warnings[0]


def test_pictures_draw_on_the_axes_given():
    spread = {"a": np.array([0.5, 2.0, np.inf, -3.0, 0.0])}
    for draw in (
        lambda axes: plots.eigenvalue_cloud({"a": np.array([0.5 + 0.5j, 0.5 - 0.5j])}, axes=axes),
        lambda axes: plots.horizon_histogram(spread, axes=axes),
        lambda axes: plots.power_growth({"a": np.array([1.0, 3.0, 0.0])}, {"a": 0.0}, axes=axes),
        lambda axes: plots.memory_measured(spread, spread, title="identity", axes=axes),
    ):
        axes = plots.new_figure().add_subplot()
        assert draw(axes) is axes
        assert draw(None) is not axes
        assert axes.get_xlabel()
    bars = plots.horizon_histogram(spread).containers[0]
    heights = [bar.get_height() for bar in bars]
    assert heights[-1] == 2  # the infinite and the growing one
    assert sum(heights) == 5
