"""Generated problems: what is to be said follows from what was shown, and guessing gets what it is said to get."""

import numpy as np
import pytest

from benchmarks.data.adding import adding, ternary_adding
from benchmarks.data.copying import copy_memory


def test_ternary_adding_says_the_sum_of_the_marked_bits():
    data = ternary_adding(100, examples=2000)
    for split in data[:3]:
        bits, marks = split.inputs[..., 0], split.inputs[..., 1]
        assert set(np.unique(bits)) == {0, 1}
        np.testing.assert_array_equal(marks[:, :50].sum(1), 1)
        np.testing.assert_array_equal(marks[:, 50:].sum(1), 1)
        np.testing.assert_array_equal(split.targets, (bits * marks).sum(1))
        assert split.targets.dtype == np.int32
        # 1/4, 1/2, 1/4, each with a standard error of at most 0.011
        np.testing.assert_allclose(np.bincount(split.targets) / 2000, [0.25, 0.5, 0.25], atol=0.045)
    with pytest.raises(ValueError, match="length must be at least 2"):
        ternary_adding(1)


SUMS = [1.0192785263061523, 0.5439831018447876, 0.6880750060081482, 0.9261912107467651]


def test_adding_has_not_moved():
    # published results hang on these draws
    np.testing.assert_allclose(adding(10, examples=4).test.targets[:, 0], SUMS, rtol=1e-6)


def test_copying_says_the_first_ten_after_the_signal():
    data = copy_memory(7, examples=300)
    for split in data[:3]:
        assert split.inputs.shape == (300, 27, 10)
        np.testing.assert_array_equal(split.inputs.sum(-1), 1)
        shown = split.inputs.argmax(-1)
        np.testing.assert_array_equal(shown[:, :10], split.targets[:, 17:])
        np.testing.assert_array_equal(np.argwhere(shown == 9), [[i, 16] for i in range(300)])  # the signal, once
        assert not shown[:, 10:16].any()
        assert not shown[:, 17:].any()
        assert not split.targets[:, :17].any()
        assert set(np.unique(split.targets[:, 17:])) == set(range(1, 9))
    assert (data.train.inputs != data.test.inputs).any()
    with pytest.raises(ValueError, match="delay and examples must be at least 1, got 0"):
        copy_memory(0)


@pytest.mark.parametrize("make", [adding, ternary_adding, copy_memory])
def test_the_seed_decides(make):
    same = [make(12, seed=seed, examples=16).validation.inputs for seed in (1, 1, 2)]
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[0] != same[2]).any()
