"""Searching fixed points from all starts at once, against one start after the other."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maso_rnn import fixed_points

HIDDEN, STARTS, ALONE = 64, 4096, 64


@pytest.fixture(scope="module")
def cell():
    """A network that remembers three patterns: seven fixed points and more, some of them stable."""
    patterns = jax.random.rademacher(jax.random.key(0), (3, HIDDEN), jnp.float32)
    kernel = 1.5 * patterns.T @ patterns / HIDDEN

    def step(h, x):
        return jnp.tanh(h @ kernel)

    return step


def test_fixed_points_batched_against_one_by_one(cell):
    """Compiled once each; 64 of the starts, drawn evenly, stand for all 4,096 in the loop.

    Both do all the work of `fixed_points`: checks, descent, Newton's method, distinct points, stability, and both end
    at fixed points: a search that gives up is no faster. Of one start alone most of that is the cost of calling.
    """
    starts = jax.random.normal(jax.random.key(1), (STARTS, HIDDEN), jnp.float32)
    fixed_points(cell, starts)
    fixed_points(cell, starts[:1])
    ratios = []
    for repeat in range(5):
        began = time.process_time()
        together = fixed_points(cell, starts)
        batched = time.process_time() - began
        chosen = starts[repeat :: STARTS // ALONE][:ALONE]
        began = time.process_time()
        alone = [fixed_points(cell, start[None]) for start in chosen]
        one_by_one = (time.process_time() - began) * STARTS / ALONE
        # the same search: what one start finds, the batch has found
        assert len(together.states) >= 7
        assert together.unconverged < STARTS // 100
        assert sum(one.unconverged for one in alone) <= 1
        for one in alone:
            if len(one.states):
                gaps = np.linalg.norm(np.asarray(together.states) - np.asarray(one.states), axis=1)
                assert gaps.min() < 1e-3  # the distance at which two points are one
        ratios.append(one_by_one / batched)
    print(
        f"one by one / batched, CPU seconds: median {np.median(ratios):.0f}, all {np.round(ratios)}; "
        f"{len(together.states)} points, {together.unconverged} starts unconverged"
    )
    assert np.median(ratios) >= 20
