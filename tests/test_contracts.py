"""One battery, run on every public function: what a JAX user may take for granted of each of them."""

import json
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tests.contracts import table

ROWS = table.rows()
HOST, TRANSFORMS = table.exempt("HOST"), table.exempt("TRANSFORMS")


def each(rows):
    # one worker per row: its checks share what has been compiled
    return pytest.mark.parametrize(
        "row", [pytest.param(row, id=row.name, marks=pytest.mark.xdist_group(row.name)) for row in rows]
    )


def assert_equal(got, wanted, rtol):
    """Equal structure, and equal numbers up to `rtol` of each array's largest one."""
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        a, b = _numbers(a), _numbers(b)
        if np.issubdtype(b.dtype, np.inexact):
            finite = b[np.isfinite(b)]
            scale = np.abs(finite).max() if finite.size else 1.0
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale, err_msg=jax.tree_util.keystr(path))
        else:
            np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))


def at(i, tree):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def _numbers(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf)


def test_every_public_function_has_a_row():
    covered = {row.name.split("[")[0] for row in ROWS} | set(HOST) | set(TRANSFORMS)
    assert table.public_functions() == covered


def test_every_exemption_has_a_reason():
    assert all({**HOST, **TRANSFORMS}.values())
    assert all(row.why for row in ROWS if row.gradient is None or not row.batched)


@each(ROWS)
def test_jit_equals_eager(row, key):
    arguments = row.arguments(key, jnp.float64)
    # float64; fusing may reorder a sum, which the row's tolerance bounds
    assert_equal(row.compiled(*arguments), row(*arguments), row.tolerance)


@each(ROWS)
def test_a_second_call_does_not_recompile(row, key):
    row.compiled(*row.arguments(key, jnp.float64))
    before = row.traces[0]
    row.compiled(*row.arguments(jax.random.fold_in(key, 1), jnp.float64))
    assert row.traces[0] == before


@each(ROWS)
def test_a_second_eager_call_compiles_nothing(row, key, compilations):
    first, second = (row.arguments(k, jnp.float64) for k in (key, jax.random.fold_in(key, 1)))
    jax.block_until_ready(row(*first))
    with compilations() as count:
        jax.block_until_ready(row(*second))
    assert not count


@each([row for row in ROWS if row.batched])
def test_vmap_equals_loop_with_the_batch_on_two_devices(row, key):
    batch = row.batch(key, jnp.float64)
    axes = row.axes(batch)
    sharding = NamedSharding(Mesh(jax.devices()[:2], ("batch",)), PartitionSpec("batch"))
    together = row.compiled_batch(
        *(jax.device_put(a, sharding) if axis == 0 else a for a, axis in zip(batch, axes, strict=True))
    )
    together = jax.tree.map(_numbers, together)
    for i in range(2):
        one = [at(i, a) if axis == 0 else a for a, axis in zip(batch, axes, strict=True)]
        assert_equal(at(i, together), row.compiled(*one), row.tolerance)


@each([row for row in ROWS if row.gradient is not None])
def test_gradient_equals_finite_difference(row, key):
    arguments = list(row.arguments(key, jnp.float64))

    def given(x):
        return (*arguments[: row.gradient], x, *arguments[row.gradient + 1 :])

    def scalar(result, numpy):
        leaves = [leaf for leaf in jax.tree.leaves(result) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        leaves = [numpy.where(numpy.isfinite(leaf), leaf, 0) for leaf in leaves]  # a period may be infinite
        return sum(numpy.vdot(leaf, numpy.cos(1.0 + numpy.arange(leaf.size)).reshape(leaf.shape)) for leaf in leaves)

    at = arguments[row.gradient]
    leaves, structure = jax.tree.flatten(at)
    keys = jax.random.split(key, len(leaves))
    along = structure.unflatten(
        [np.asarray(jax.random.normal(k, leaf.shape, leaf.dtype)) for k, leaf in zip(keys, leaves, strict=True)]
    )
    # reverse mode, and central differences: h = 1e-6 leaves h² curvature and 1e-16 / h of rounding, about 1e-9
    gradient = jax.jit(jax.grad(lambda x: scalar(row(*given(x)), jnp)))(at)
    slope = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(along), strict=True))
    moved = [jax.tree.map(lambda a, d, h=h: np.asarray(a) + h * d, at, along) for h in (1e-6, -1e-6)]
    forth, back = (scalar(row.compiled(*given(x)), np) for x in moved)
    assert slope != 0
    assert np.isfinite(slope)
    np.testing.assert_allclose(slope, (forth - back) / 2e-6, rtol=1e-6, atol=1e-7)


@each(ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_in_is_dtype_out(row, key, dtype):
    result = jax.eval_shape(row, *row.arguments(key, jnp.dtype(dtype)))
    inexact = [leaf.dtype.name for leaf in jax.tree.leaves(result) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    assert set(inexact) <= {dtype}


@each(ROWS)
def test_no_key_is_used_twice(row, key):
    arguments = row.arguments(key, jnp.float64)
    with jax.debug_key_reuse(True):
        jax.jit(lambda *a: row(*a)).trace(*arguments)  # which is when it is looked for


@each(ROWS)
def test_result_survives_pickling_and_tree_round_trip(row, key):
    result = row.compiled(*row.arguments(key, jnp.float64))
    leaves, structure = jax.tree.flatten(result)
    assert_equal(structure.unflatten(leaves), result, 0.0)
    copy = pickle.loads(pickle.dumps(result))
    assert type(copy) is type(result)
    assert_equal(copy, result, 0.0)


IMPORT = """
import json, logging, sys
import jax, flax.struct, numpy as np
import random
before = (dict(jax.config.values), logging.root.level, list(logging.root.handlers), random.getstate())
import {package}
after = (dict(jax.config.values), logging.root.level, list(logging.root.handlers), random.getstate())
heavy = [m for m in ("matplotlib", "sklearn", "torch", "pandas") if m in sys.modules]
print(json.dumps({{"unchanged": before == after, "heavy": heavy}}))
"""


@pytest.mark.parametrize("package", table.PACKAGES)
def test_import_changes_nothing_and_pulls_in_no_plotting(package):
    run = subprocess.run(
        [sys.executable, "-c", IMPORT.format(package=package)], capture_output=True, text=True, check=True
    )
    assert json.loads(run.stdout) == {"unchanged": True, "heavy": []}
