"""The momentum update of flat buffers, segment by segment."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastmlp.kernels.update import SEGMENT, momentum_update
from tests import reference

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def buffers(size, dtype, seed=0):
    """parameters, velocities, gradients."""
    return np.random.default_rng(seed).standard_normal((3, size)).astype(dtype)


def check(size, segments, rate, dtype, steps=3, seed=0):
    """Some updates against the reference in float64; what no segment covers keeps its bits.

    A step makes at most six roundings, each of a number no larger than |w| + |v| + |g| (factors
    here are at most 2), and factors are rounded to dtype; errors add up over the steps.
    """
    w, v, g = buffers(size, dtype, seed)
    before = w.copy(), v.copy()
    wide_w, wide_v, wide_g = (a.astype(np.float64) for a in (w, v, g))
    table = np.array(segments, SEGMENT)
    covered = np.zeros(size, bool)
    magnitude = np.abs(wide_w) + np.abs(wide_v) + np.abs(wide_g)
    for _ in range(steps):
        momentum_update(w, v, g, table, rate)
        for start, stop, momentum, decay, scale in segments:
            part = slice(start, stop)
            covered[part] = True
            reference.momentum_update(
                wide_w[part], wide_v[part], scale * wide_g[part], rate, momentum, decay
            )
        magnitude = magnitude + np.abs(wide_w) + np.abs(wide_v)
    bound = 8 * steps * np.finfo(dtype).eps * magnitude
    assert (np.abs(w - wide_w) <= bound).all()
    assert (np.abs(v - wide_v) <= bound).all()
    assert_array_equal(w[~covered], before[0][~covered])
    assert_array_equal(v[~covered], before[1][~covered])


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 16, 17, 47, 97, 256, 601])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.01])
@both_dtypes
def test_one_segment(size, momentum, decay, dtype):
    check(size, [(0, size, momentum, decay, 1.0)], 0.1, dtype)


@both_dtypes
def test_segments_with_factors_of_their_own_and_gaps(dtype):
    segments = [(1, 18, 0.9, 0.1, 1.0), (18, 19, 0.0, 0.0, 0.25), (40, 97, 0.5, 0.0, 1.0)]
    check(100, segments, 0.05, dtype)


@both_dtypes
@settings(deadline=None, max_examples=60)
@given(data=st.data(), size=st.integers(1, 150), rate=st.floats(0, 1), seed=st.integers(0, 99))
def test_any_segments(dtype, data, size, rate, seed):
    cuts = sorted([*data.draw(st.lists(st.integers(0, size), max_size=6, unique=True)), size])
    factor = st.sampled_from([0.0, 0.5, 0.9, 1.0])
    segments = [
        (start, stop, data.draw(factor), data.draw(factor), data.draw(factor))
        for start, stop in pairwise(cuts)
        if stop > start
    ]
    check(size, segments, rate, dtype, seed=seed)


@both_dtypes
def test_velocity_without_momentum_is_minus_the_step(dtype):
    w, v, g = buffers(33, dtype)
    momentum_update(w, v, g, np.array([(0, 33, 0.0, 0.0, 1.0)], SEGMENT), 0.5)
    assert_array_equal(v, -g / 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@both_dtypes
def test_a_poisoned_gradient_poisons_its_parameter_alone(value, dtype):
    w, v, g = buffers(35, dtype)
    g[33] = value
    momentum_update(w, v, g, np.array([(0, 35, 0.9, 0.0, 1.0)], SEGMENT), 0.1)
    assert_array_equal(np.isfinite(w), np.arange(35) != 33)
    assert_array_equal(w[33], -value)


def test_rate_zero_without_velocity_changes_nothing():
    w, _, g = buffers(35, np.float64)
    before, v = w.copy(), np.zeros(35)
    momentum_update(w, v, g, np.array([(0, 35, 0.9, 0.1, 1.0)], SEGMENT), 0.0)
    assert_array_equal(w, before)
