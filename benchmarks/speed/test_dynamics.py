"""Searching fixed points from all starts at once, against one start after the other."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.speed.interleaved import compare, first_called
from benchmarks.speed.reach import Bar
from maso_rnn import fixed_points

HIDDEN, STARTS, ALONE = 64, 4096, 32


def remembering(h, x):
    """A network that remembers three patterns: seven fixed points and more, some of them stable."""
    del x
    patterns = jax.random.rademacher(jax.random.key(0), (3, HIDDEN), jnp.float32)
    return jnp.tanh(h @ (1.5 * patterns.T @ patterns / HIDDEN))


def test_fixed_points_batched_against_one_by_one(record):
    """32 of the starts, drawn evenly, stand for all 4,096 in the loop.

    Both do all the work of `fixed_points`: checks, descent, Newton's method, distinct points, stability, and both end
    at fixed points: a search that gives up is no faster. Of one start alone most of that is the cost of calling.
    """
    starts = jax.random.normal(jax.random.key(1), (STARTS, HIDDEN), jnp.float32)

    def one_by_one():
        return [fixed_points(remembering, start[None]) for start in starts[:: STARTS // ALONE]]

    together, alone = fixed_points(remembering, starts), one_by_one()
    # the same search: what one start finds, the batch has found
    assert len(together.states) >= 7
    assert together.unconverged < STARTS // 100
    assert sum(one.unconverged for one in alone) <= 1
    for one in alone:
        if len(one.states):
            gaps = np.linalg.norm(np.asarray(together.states) - np.asarray(one.states), axis=1)
            assert gaps.min() < 1e-3  # the distance at which two points are one
    programs = {
        "ours": first_called(lambda: fixed_points(remembering, starts)),
        f"{ALONE} starts one by one": first_called(one_by_one),
    }
    table = compare(programs, repeats=3)
    ratio = table[f"{ALONE} starts one by one"]["ratio"] * ALONE / STARTS
    record(
        "fixed points from many starts",
        {"hidden": HIDDEN, "starts": STARTS},
        table,
        [Bar("CPU time of a start, against one alone", ratio, 1 / 20)],
        points=len(together.states),
    )
