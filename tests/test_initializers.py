"""Initializers: the spectrum asked for is the spectrum had, in every cell that takes one."""

import math

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.sharding import NamedSharding, PartitionSpec

from maso_rnn import initializers
from maso_rnn.initializers import eigen, np_rnn, per_gate, spectral_radius

LARGE = pytest.param(512, marks=pytest.mark.slow)  # eigenvalues of size 512, twice
BASES = ("schur", "orthogonal", "eigenvectors")
RADIUS = 0.9

# float32 entries: a rounding of 6e-8 each, magnified by the eigenvectors' condition (worst of 4,200 draws: 9.5e-6)
FLOAT32 = 1e-5


def moduli(kernel):
    return np.abs(np.linalg.eigvals(np.asarray(kernel, np.float64)))


def gates_of(kernel, gates, axis=-1):
    return np.split(np.asarray(kernel, np.float64), gates, axis=axis)


@pytest.mark.parametrize("basis", BASES)
@pytest.mark.parametrize("size", [1, 2, 7, 64, LARGE])
def test_every_modulus_is_the_radius(key, basis, size):
    kernel = eigen(RADIUS, basis=basis)(key, (size, size), jnp.float32)
    assert kernel.dtype == jnp.float32
    np.testing.assert_allclose(moduli(kernel), RADIUS, rtol=0, atol=FLOAT32)


@pytest.mark.parametrize("basis", ["schur", "orthogonal"])
@pytest.mark.parametrize("size", [1, 7, 64, LARGE])
def test_schur_and_orthogonal_are_multiples_of_orthogonal_matrices(key, basis, size):
    kernel = np.float64(eigen(RADIUS, basis=basis)(key, (size, size), jnp.float32))
    assert np.abs(kernel.T @ kernel - RADIUS**2 * np.eye(size)).max() < FLOAT32


@pytest.mark.parametrize("basis", ["schur", "eigenvectors"])
def test_phases_are_those_of_the_base_draw(key, basis):
    base = jax.nn.initializers.normal(1.0)
    kernel = eigen(RADIUS, basis=basis, base=base)(key, (33, 33), jnp.float64)
    phases = np.angle(np.linalg.eigvals(kernel))
    wanted = np.angle(np.linalg.eigvals(base(key, (33, 33), jnp.float64)))
    # on the circle, so that π and -π are one phase; float64, times the condition of the eigenvectors
    np.testing.assert_allclose(_sorted_circle(phases), _sorted_circle(wanted), atol=1e-10)


def _sorted_circle(phases):
    """Phases as points of the upper half circle, sorted: each conjugate pair twice."""
    return np.sort(np.cos(phases))


def test_schur_keeps_the_planes_of_the_base_draw(key):
    # the span of the first eigenvectors is invariant under both kernels: that is what a Schur basis is
    base = jax.nn.initializers.normal(1.0)
    drawn = np.asarray(base(key, (9, 9), jnp.float64))
    kernel = np.asarray(eigen(1.0, base=base)(key, (9, 9), jnp.float64))
    values, vectors = np.linalg.eig(drawn)
    first = vectors[:, :2] if values[0].imag else vectors[:, :1]
    plane, _ = np.linalg.qr(np.hstack([first.real, first.imag]))
    plane = plane[:, : first.shape[1]]
    moved = kernel @ plane
    # float64 rounding of an eigenvalue problem of size 9
    np.testing.assert_allclose(plane @ (plane.T @ moved), moved, atol=1e-12)
    # and turns within it as the base draw does
    turned = np.linalg.eigvals(plane.T @ moved)
    np.testing.assert_allclose(np.sort(np.angle(turned)), np.sort(np.angle(values[: len(turned)])), atol=1e-12)


def test_schur_of_a_normal_base_keeps_its_eigenvectors(key):
    # a rotation scaled by 0.3 is normal: the kernel is that rotation, scaled by the radius
    rotation = np.array([[np.cos(1.0), np.sin(1.0)], [-np.sin(1.0), np.cos(1.0)]])
    for turn in (rotation, rotation.T):  # both orientations of the plane
        kernel = eigen(2.0, base=lambda key, shape, dtype, turn=turn: jnp.asarray(0.3 * turn, dtype))(key, (2, 2))
        np.testing.assert_allclose(kernel, 2.0 * turn, atol=1e-14)  # float64 rounding


def test_eigenvectors_basis_is_far_from_normal(key):
    growth = {}
    for basis in ("schur", "eigenvectors"):
        kernel = np.asarray(eigen(1.0, basis=basis)(key, (64, 64)))
        growth[basis] = max(np.linalg.norm(np.linalg.matrix_power(kernel, k), 2) for k in range(1, 30))
    np.testing.assert_allclose(growth["schur"], 1.0, atol=1e-12)  # an orthogonal matrix, in float64
    assert growth["eigenvectors"] > 5  # tens, at this size


def test_angles_are_uniform_up_to_max_phase(key):
    keys = jax.random.split(key, 200)
    kernels = jax.vmap(lambda key: eigen(basis="orthogonal", max_phase=0.5)(key, (8, 8)))(keys)
    phases = np.abs(np.angle(np.linalg.eigvals(kernels))).ravel()
    assert phases.max() <= 0.5 + 1e-12  # rounding
    assert phases.min() > 0
    # 800 angles, each twice: the largest gap of a uniform sample's distribution, Kolmogorov at 1 in 1,000
    sample = np.sort(phases)[::2] / 0.5
    assert np.abs(sample - np.arange(1, 801) / 800).max() < 1.95 / math.sqrt(800)


def test_haar_basis_turns_either_way(key):
    # a plane is turned left or right with the sign of det Q: even under Haar's measure, fixed by the signs of plain QR
    kernels = jax.vmap(lambda key: eigen(basis="orthogonal")(key, (2, 2)))(jax.random.split(key, 400))
    left = float((kernels[:, 0, 1] > 0).mean())
    assert abs(left - 0.5) < 4 * math.sqrt(0.25 / 400)  # four standard errors


def test_haar_axis_has_no_preferred_direction(key):
    # the fixed axis q of an odd kernel is uniform on the sphere: E q_i² = 1 / 3
    kernels = np.asarray(jax.vmap(lambda key: eigen(basis="orthogonal")(key, (3, 3)))(jax.random.split(key, 500)))
    values, vectors = np.linalg.eig(kernels)
    axis = np.take_along_axis(vectors, np.abs(values - 1).argmin(-1)[:, None, None], axis=-1)[..., 0].real
    mean, error = (axis**2).mean(0), (axis**2).std(0) / math.sqrt(500)
    assert np.all(np.abs(mean - 1 / 3) < 4 * error)  # four standard errors, in three entries


def test_odd_sizes_of_orthogonal_have_one_positive_real_eigenvalue(key):
    values = np.linalg.eigvals(eigen(RADIUS, basis="orthogonal", max_phase=2.0)(key, (5, 5)))
    real = values[np.abs(values.imag) < 1e-12].real  # float64 rounding
    np.testing.assert_allclose(real, [RADIUS], atol=1e-12)


@pytest.mark.parametrize("basis", BASES)
def test_jit_and_vmap_draw_the_same(key, basis):
    init = eigen(RADIUS, basis=basis)
    keys = jax.random.split(key, 3)
    eager = jnp.stack([init(k, (5, 5), jnp.float32) for k in keys])
    jitted = jax.jit(jax.vmap(lambda key: init(key, (5, 5), jnp.float32)))(keys)
    # the base draw may be fused differently, by one unit in the last place, and is then decomposed: cond V times that
    np.testing.assert_allclose(jitted, eager, atol=1e-5)
    assert np.abs(jitted[0] - jitted[1]).max() > 0.1  # different keys, different draws
    nested = jax.vmap(jax.vmap(lambda key: init(key, (5, 5), jnp.float32)))(keys[:, None])
    np.testing.assert_allclose(nested[:, 0], eager, atol=1e-5)  # as above


@pytest.mark.parametrize("basis", BASES)
def test_low_precision_is_one_rounding_of_higher_precision(key, basis):
    init = eigen(RADIUS, basis=basis)
    low, high = init(key, (16, 16), jnp.bfloat16), init(key, (16, 16), jnp.float32)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_array_equal(low, high.astype(jnp.bfloat16))


def test_nothing_but_a_callback_is_left_to_the_device(key):
    # what has no eigensolver on an accelerator must not be in the program
    for init in (eigen(), eigen(basis="eigenvectors"), eigen(basis="orthogonal"), np_rnn(), spectral_radius()):
        program = str(jax.make_jaxpr(lambda key, init=init: init(key, (6, 6)))(key))
        assert "pure_callback" in program
        assert not any(name in program for name in ("eig[", "eigh[", "schur", "qr[", "geqrf", "svd"))


def test_default_dtype_is_jax_default(key):
    assert eigen()(key, (3, 3)).dtype == jnp.float64
    with jax.enable_x64(False):
        assert eigen()(key, (3, 3)).dtype == jnp.float32
        np.testing.assert_allclose(moduli(eigen()(key, (33, 33))), 1.0, atol=FLOAT32)


def test_out_sharding_places_the_kernel(key):
    mesh = jax.make_mesh((2,), ("hidden",), axis_types=(jax.sharding.AxisType.Explicit,))
    sharding = NamedSharding(mesh, PartitionSpec(None, "hidden"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    with jax.set_mesh(mesh):
        for init in (eigen(), initializers.identity(), np_rnn(), spectral_radius(), per_gate(eigen(), 1)):
            kernel = init(key, (4, 4), jnp.float32, sharding)
            assert kernel.sharding == sharding
            np.testing.assert_array_equal(jax.device_put(kernel, everywhere), init(key, (4, 4), jnp.float32))


def test_identity_is_the_scaled_identity(key):
    np.testing.assert_array_equal(initializers.identity(0.25)(key, (3, 3)), 0.25 * np.eye(3))


def test_np_rnn_is_positive_and_its_largest_eigenvalue_is_one(key):
    kernel = np.asarray(np_rnn()(key, (32, 32)))
    np.testing.assert_array_equal(kernel, kernel.T)
    values = np.linalg.eigvalsh(kernel)
    np.testing.assert_allclose(values[-1], 1.0, atol=1e-12)  # float64 rounding
    # (λ(A) + 1) / (λ_max(A) + 1): the smallest of A is near 0, the largest near 4 (Marchenko–Pastur), so 1/5
    assert 0.15 < values[0] < 0.3


def test_spectral_radius_scales_its_base(key):
    base = jax.nn.initializers.he_normal()
    kernel, drawn = (np.asarray(init(key, (32, 32))) for init in (spectral_radius(base, RADIUS), base))
    np.testing.assert_allclose(moduli(kernel).max(), RADIUS, atol=1e-12)  # float64 rounding
    np.testing.assert_allclose(kernel / kernel[0, 0], drawn / drawn[0, 0], rtol=1e-12)  # float64 rounding


@pytest.mark.parametrize(("gates", "axis"), [(3, -1), (4, -1), (4, 0), (3, 1)])
@pytest.mark.parametrize("basis", BASES)
def test_each_gate_has_the_spectrum_and_its_own_draw(key, gates, axis, basis):
    shape = [8, 8]
    shape[axis] *= gates
    kernel = per_gate(eigen(RADIUS, basis=basis), gates, axis)(key, tuple(shape), jnp.float32)
    assert kernel.shape == tuple(shape)
    split = gates_of(kernel, gates, axis)
    for gate in split:
        np.testing.assert_allclose(moduli(gate), RADIUS, atol=FLOAT32)
    for g in range(1, gates):
        assert np.abs(split[g] - split[0]).max() > 0.1


def test_orthogonal_on_the_whole_kernel_leaves_each_gate_half_a_radius(key):
    # why per_gate exists: a (H, 4H) kernel with orthonormal rows has entries of variance 1 / 4H, so that each gate is
    # nearly a random matrix of spectral radius sqrt(H / 4H) = 0.5
    whole = jax.nn.initializers.orthogonal()(key, (64, 256))
    radii = [moduli(gate).max() for gate in gates_of(whole, 4)]
    np.testing.assert_allclose(radii, 0.53, atol=0.08)  # edge fluctuations at 64 units
    each = per_gate(jax.nn.initializers.orthogonal(), 4)(key, (64, 256))
    np.testing.assert_allclose([moduli(gate) for gate in gates_of(each, 4)], 1.0, atol=1e-10)  # float64 rounding


INITS = {
    "eigen": eigen(),
    "orthogonal": eigen(basis="orthogonal", max_phase=1.0),
    "eigenvectors": eigen(basis="eigenvectors"),
    "identity": initializers.identity(),
    "np_rnn": np_rnn(),
    "spectral_radius": spectral_radius(),
}


@pytest.mark.parametrize("name", INITS)
def test_drops_into_nnx_cells(name):
    init, rngs, xs = INITS[name], nnx.Rngs(0), jnp.ones((2, 3))
    cells = [
        (nnx.SimpleCell(3, 8, recurrent_kernel_init=init, rngs=rngs), 1),
        (nnx.GRUCell(3, 8, recurrent_kernel_init=per_gate(init, 3), rngs=rngs), 3),
        (nnx.OptimizedLSTMCell(3, 8, recurrent_kernel_init=per_gate(init, 4), rngs=rngs), 4),
    ]
    for cell, gates in cells:
        kernel = cell.dense_h.kernel[...]
        assert kernel.shape == (8, 8 * gates)
        for gate in gates_of(kernel, gates):
            np.testing.assert_allclose(moduli(gate).max(), 1.0, atol=FLOAT32)
        carry = cell.initialize_carry((2, 3), rngs)
        _, out = cell(carry, xs)
        assert out.shape == (2, 8)
    lstm = nnx.LSTMCell(3, 8, recurrent_kernel_init=init, rngs=rngs)  # keeps its gates apart
    for dense in (lstm.hi, lstm.hf, lstm.hg, lstm.ho):
        np.testing.assert_allclose(moduli(dense.kernel[...]).max(), 1.0, atol=FLOAT32)


LINEN = {linen.SimpleCell: 1, linen.GRUCell: 3, linen.LSTMCell: 4, linen.OptimizedLSTMCell: 4}


@pytest.mark.parametrize(
    ("cell", "name"), [(cell, "eigen") for cell in LINEN] + [(linen.SimpleCell, name) for name in INITS]
)
def test_drops_into_linen_cells(key, cell, name):
    module = cell(8, recurrent_kernel_init=INITS[name])
    carry = module.initialize_carry(key, (2, 3))
    params = module.init(key, carry, jnp.ones((2, 3)))["params"]
    kernels = [leaf["kernel"] for name, leaf in params.items() if name.startswith("h")]
    assert len(kernels) == LINEN[cell]
    for kernel in kernels:
        np.testing.assert_allclose(moduli(kernel).max(), 1.0, atol=FLOAT32)
    _, out = module.apply({"params": params}, carry, jnp.ones((2, 3)))
    assert out.shape == (2, 8)


def test_drops_into_linen_rnn(key):
    rnn = linen.RNN(linen.GRUCell(8, recurrent_kernel_init=eigen()))
    params = rnn.init(key, jnp.ones((2, 5, 3), jnp.float32))["params"]
    np.testing.assert_allclose(moduli(params["cell"]["hr"]["kernel"]), 1.0, atol=FLOAT32)


def test_the_equinox_way_of_the_docs(key):
    cell = equinox.nn.GRUCell(3, 8, key=key)
    kernel = per_gate(eigen(), 3, axis=0)(key, cell.weight_hh.shape)
    cell = equinox.tree_at(lambda cell: cell.weight_hh, cell, kernel)
    for gate in gates_of(cell.weight_hh, 3, axis=0):
        np.testing.assert_allclose(moduli(gate), 1.0, atol=FLOAT32)
    assert cell(jnp.ones(3), jnp.zeros(8)).shape == (8,)


ALL = {**INITS, "per_gate": per_gate(eigen(), 4)}


@pytest.mark.parametrize("name", ALL)
def test_zero_sized_shapes_give_empty_arrays(key, name):
    for shape in [(0, 0), (0, 4)]:
        kernel = ALL[name](key, shape, jnp.float32)
        assert kernel.shape == shape
        assert kernel.dtype == jnp.float32
        assert jax.jit(lambda key, shape=shape: ALL[name](key, shape))(key).shape == shape


@pytest.mark.parametrize("name", INITS)
def test_refused_shapes_and_dtypes(key, name):
    init = INITS[name]
    with pytest.raises(ValueError, match=r"\(3, 12\).*per_gate"):
        init(key, (3, 12))
    for shape in [(3,), (2, 3, 3), ()]:
        with pytest.raises(ValueError, match="rank 2"):
            init(key, shape)
    for dtype in (jnp.int32, jnp.complex64, bool):
        with pytest.raises(TypeError, match="dtype"):
            init(key, (3, 3), dtype)


@pytest.mark.parametrize("radius", [0, -1.0, math.nan, math.inf])
def test_refused_radius(radius):
    for make in (eigen, lambda r: spectral_radius(radius=r)):
        with pytest.raises(ValueError, match="radius"):
            make(radius)
    with pytest.raises(ValueError, match="scale"):
        initializers.identity(radius)


@pytest.mark.parametrize("max_phase", [0, -0.1, 3.2, math.nan])
def test_refused_max_phase(max_phase):
    with pytest.raises(ValueError, match="max_phase"):
        eigen(basis="orthogonal", max_phase=max_phase)


def test_refused_options_that_would_do_nothing(unchecked):
    with pytest.raises(ValueError, match="max_phase"):
        eigen(max_phase=1.0)
    with pytest.raises(ValueError, match="base"):
        eigen(basis="orthogonal", base=jax.nn.initializers.he_normal())
    with pytest.raises(ValueError, match="basis"):
        eigen(basis="qr")


def test_refused_gates(key, unchecked):
    with pytest.raises(ValueError, match="3 gates"):
        per_gate(eigen(), 3)(key, (4, 16))
    # whatever the initializer of one gate would take: orthogonal draws any shape
    for init in (eigen(), jax.nn.initializers.orthogonal()):
        with pytest.raises(ValueError, match="2 gates"):
            per_gate(init, 2)(key, (4, 16))
        with pytest.raises(ValueError, match="4 gates"):
            per_gate(init, 4, axis=0)(key, (4, 16))
    for axis in (2, -3):
        with pytest.raises(ValueError, match="axis"):
            per_gate(eigen(), 2, axis=axis)(key, (4, 8))
    with pytest.raises(ValueError, match="shape"):
        per_gate(eigen(), 3)(key, (4, 4, 12))
    with pytest.raises(TypeError, match="axis"):
        per_gate(eigen(), 2, axis=0.0)
    with pytest.raises(ValueError, match="gates"):
        per_gate(eigen(), 0)
    with pytest.raises(TypeError, match="gates"):
        per_gate(eigen(), 2.0)
    with pytest.raises(TypeError, match="init"):
        per_gate(1.0, 2)


JORDAN = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, -0.3]])
BAD_BASES = {
    "zero": (np.zeros((3, 3)), "eigenvalue 0.*base of full rank.*basis='orthogonal'"),
    "singular": (np.diag([1.0, 2.0, 0.0]), "eigenvalue 0"),
    "defective": (JORDAN, "defective.*basis='orthogonal'"),
    "nan": (np.full((3, 3), np.nan), "NaN"),
}


def drawing(matrix):
    return lambda key, shape, dtype: jnp.asarray(matrix, dtype)


@pytest.mark.parametrize("basis", ["schur", "eigenvectors"])
@pytest.mark.parametrize("name", BAD_BASES)
def test_refused_base_draws(key, basis, name):
    matrix, message = BAD_BASES[name]
    init = eigen(basis=basis, base=drawing(matrix))
    with pytest.raises(ValueError, match=message):
        init(key, (3, 3))
    # traced values cannot raise: the draw says it by NaN, and only that draw
    assert np.isnan(jax.jit(lambda key: init(key, (3, 3)))(key)).all()
    # a concrete key can, whatever else is traced
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda scale: scale * init(key, (3, 3)))(1.0)


@pytest.mark.parametrize("basis", ["schur", "eigenvectors"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bases_that_are_bad_up_to_their_rounding_are_refused(key, basis, dtype):
    # in float64 they have full rank and distinct eigenvalues: only roundings apart
    for size in (3, 8):
        left, right = (jax.random.normal(k, (size, size - 1), dtype) for k in jax.random.split(key))
        with pytest.raises(ValueError, match="eigenvalue 0, up to rounding"):
            eigen(basis=basis, base=drawing(left @ right.T))(key, (size, size), dtype)
        double = np.eye(size)
        double[:3, :3] = JORDAN
        double = _turned(key, double)
        with pytest.raises(ValueError, match="defective"):
            eigen(basis=basis, base=drawing(double))(key, (size, size), dtype)


def test_draws_of_eigenvectors_that_float32_cannot_hold_are_refused(key):
    # eigenvalues ±s and nearly parallel eigenvectors: the kernel [[1, 1 / s], [0, -1]], turned, is rounded by 6e-8 / s
    turn = np.asarray(initializers.eigen(basis="orthogonal")(key, (2, 2)))
    base = turn @ np.array([[3e-3, 1.0], [0.0, -3e-3]]) @ turn.T
    init = eigen(basis="eigenvectors", base=drawing(base))
    np.testing.assert_allclose(moduli(init(key, (2, 2), jnp.float64)), 1.0, atol=FLOAT32)
    with pytest.raises(ValueError, match="too close to a defective one for float32"):
        init(key, (2, 2), jnp.float32)


NILPOTENT = {
    "zeros": np.zeros((3, 3)),
    "triangular": np.triu(np.ones((3, 3)), 1),
    "dense": np.outer([1.0, 2.0, -1.0], [1.0, 1.0, 3.0]),  # u vᵀ with u ⟂ v
}


@pytest.mark.parametrize("name", NILPOTENT)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_refused_base_of_spectral_radius(key, name, dtype):
    for matrix in (NILPOTENT[name], _turned(key, NILPOTENT[name])):
        init = spectral_radius(drawing(matrix))
        with pytest.raises(ValueError, match="eigenvalues are all 0"):
            init(key, (3, 3), dtype)
        assert np.isnan(jax.jit(lambda key, init=init: init(key, (3, 3), dtype))(key)).all()


def _turned(key, matrix):
    """In a random orthogonal basis: eigenvalues that were 0 are a root of a rounding now."""
    turn = np.asarray(initializers.eigen(basis="orthogonal")(key, matrix.shape))
    return turn @ matrix @ turn.T


def test_spectral_radius_takes_bases_whose_powers_have_no_trace_for_long(key):
    # a cycle: tr A^k is 0 until k = n, and every eigenvalue has modulus 1
    cycle = np.roll(np.eye(7), 1, axis=0)
    kernel = spectral_radius(drawing(cycle), RADIUS)(key, (7, 7), jnp.float32)
    np.testing.assert_allclose(kernel, RADIUS * cycle, rtol=1e-6)  # float32


def test_ranges_of_dtypes(key):
    for radius in (1e6, 1e-6):
        for init in (eigen(radius), spectral_radius(radius=radius)):
            with pytest.raises(ValueError, match=f"radius = {radius} is out of the range of float16, 6.*e-05 to 65504"):
                init(key, (3, 3), jnp.float16)
    with pytest.raises(ValueError, match=r"scale = 1e\+40 is out of the range of float32"):
        jax.jit(lambda key: initializers.identity(1e40)(key, (3, 3), jnp.float32))(key)
    with pytest.raises(ValueError, match=r"radius = 60000\.0 puts entries out of the range of float16"):
        eigen(6e4, basis="eigenvectors")(key, (16, 16), jnp.float16)
    kernel = eigen(100.0)(key, (4, 4), jnp.float8_e4m3fn)
    assert kernel.dtype == jnp.float8_e4m3fn
    np.testing.assert_array_equal(kernel, eigen(100.0)(key, (4, 4), jnp.float32).astype(jnp.float8_e4m3fn))


def test_refused_makers(unchecked):
    for make in (eigen, lambda radius: spectral_radius(radius=radius), initializers.identity):
        with pytest.raises(TypeError, match="close over it"):
            jax.jit(lambda size, make=make: make(size)(jax.random.key(0), (2, 2)))(1.0)
        with pytest.raises(TypeError, match="None"):
            make(None)
    for make in (lambda: eigen(base=None), lambda: spectral_radius(0.9)):
        with pytest.raises(TypeError, match="base"):
            make()


def test_refused_base_of_wrong_shape(key):
    with pytest.raises(ValueError, match="base"):
        eigen(base=lambda key, shape, dtype: jnp.zeros((2, 2), dtype))(key, (3, 3))
    with pytest.raises(TypeError, match="base"):
        spectral_radius(lambda key, shape, dtype: [[1.0]])(key, (1, 1))
