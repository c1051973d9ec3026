"""The signature against signax's and pysiglib's, on batches of 32 paths."""

import jax
import numpy as np
import pytest

import srnn
from benchmarks.speed.interleaved import Program, best, compare, first_called, installed, jitted
from benchmarks.speed.reach import Bar

INNER = 10  # one call takes a millisecond or so: several to each reading of the clock


def competitors(paths, depth):
    """Those that are installed, and the names of the others."""
    programs, signax, pysiglib = {}, installed("signax"), installed("pysiglib")
    if signax:
        programs["signax"] = jitted(lambda paths: signax.signature(paths, depth), paths)
    if pysiglib:
        in_jax, array = installed("pysiglib.jax_api"), np.array(paths)
        programs["pysiglib, in JAX"] = jitted(lambda paths: in_jax.sig(paths, depth), paths)
        programs["pysiglib, of a NumPy array"] = first_called(lambda: pysiglib.sig(array, depth, n_jobs=1))
    return programs, [name for name, module in {"signax": signax, "pysiglib": pysiglib}.items() if not module]


@pytest.mark.parametrize(("length", "channels", "depth"), [(100, 3, 5), (1000, 3, 4), (1000, 6, 3), (1000, 6, 4)])
def test_signature(record, length, channels, depth):
    paths = 0.05 * jax.random.normal(jax.random.key(0), (32, length, channels), "float32")
    others, absent = competitors(paths, depth)
    programs = {"ours": jitted(jax.vmap(lambda path: srnn.signature(path, depth)), paths), **others}
    ours = np.asarray(programs["ours"].run())
    for name in others:
        np.testing.assert_allclose(programs[name].run(), ours, atol=1e-5 * np.abs(ours).max())  # float32

    def repeated(program: Program) -> Program:
        return program._replace(run=lambda: [jax.block_until_ready(program.run()) for _ in range(INNER)])

    table = compare({name: repeated(program) for name, program in programs.items()}, repeats=15)
    record(
        f"signature of 32 paths, {INNER} times",
        {"length": length, "channel": channels, "depth": depth},
        table,
        [Bar("CPU time, against signax", best(table, "signax") if "signax" in table else np.nan, 1.0)],
        absent,
    )
