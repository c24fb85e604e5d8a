"""Cosine and sine of angles in turns: at most 4 units in the last place of 1 off."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.kernels._math_turns import cos_sin_turns
from tests.numerics import elementwise, wider

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def cosine(turns):
    return cos_sin_turns(turns)[0]


def sine(turns):
    return cos_sin_turns(turns)[1]


@pytest.fixture(scope="module")
def functions():
    """Both as kernels on arrays."""
    from fastmlp.kernels._jit import inline

    return elementwise(inline(cosine)), elementwise(inline(sine))


def sample(dtype):
    """Around every eighth of a turn, at random over a few turns, and far away."""
    rng = np.random.default_rng(0)
    eighths = (np.arange(-64, 65) / 8).astype(dtype)
    near = [np.nextafter(eighths, dtype(end)) for end in (-np.inf, np.inf)]
    draws = [rng.uniform(-span, span, 100_000).astype(dtype) for span in (1e-6, 1, 8, 1e4)]
    return np.concatenate([eighths, *near, *draws])


@both_dtypes
def test_within_four_units_of_one(functions, dtype):
    """The whole turns are taken off exactly before NumPy, in a wider format, takes over."""
    turns = sample(dtype)
    fraction = (turns - np.round(turns)).astype(wider(dtype))
    angle = 2 * wider(dtype)("3.14159265358979323846264338327950288") * fraction
    for found, truth in zip(functions, (np.cos, np.sin), strict=True):
        errors = np.abs(found(turns) - truth(angle))
        assert errors.max() <= 4 * np.finfo(dtype).eps / 2


@both_dtypes
def test_special_angles(functions, dtype):
    """Quarters are exact; NaN and infinities are NaN; far away every angle counts as whole."""
    quarters = np.arange(-8, 9).astype(dtype) / 4
    cos, sin = (function(quarters) for function in functions)
    assert_array_equal(cos, np.tile([1, 0, -1, 0], 5)[: len(cos)])
    assert_array_equal(sin, np.tile([0, 1, 0, -1], 5)[: len(sin)])
    strange = np.array([np.nan, np.inf, -np.inf], dtype)
    far = np.array([1e30, -1e30, np.finfo(dtype).max], dtype)
    for function, value in zip(functions, (1, 0), strict=True):
        assert np.isnan(function(strange)).all()
        assert_array_equal(function(far), np.full(3, value))
