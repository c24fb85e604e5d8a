"""exp, sigmoid and tanh of registers: at most 2 ULP from the correctly rounded value.

``benchmarks/ulp.py`` looks at every float32; here are samples of both formats, dense where the
formulas change.
"""

import decimal

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.kernels import _math
from tests.numerics import elementwise, ordinals, ulps, wider

MOST_ULPS = 2

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


TRUTH = {"exp": np.exp, "sigmoid": sigmoid, "tanh": np.tanh}
every_function = pytest.mark.parametrize("name", TRUTH)

# Where a formula changes or a result leaves a range: ends of exp and of its normal and subnormal
# results, half of them (tanh doubles its argument), ends of the interval of one reduction, 0, where
# tanh and sigmoid saturate, smallest and largest floats.
THRESHOLDS = {
    np.float32: [
        0, 1.2e-38, 3.4e38, 2e-4, 0.34657359, 0.5493061, 0.6931472, 1, 2, 9.01, 10, 16.6, 17.3,
        87.33655, 88.72284, 89, 103.27893, 103.97208, 104,
    ],
    np.float64: [
        0, 2.3e-308, 1.7e308, 1e-8, 0.34657359027997264, 0.5493061443340549, 0.6931471805599453, 1,
        2, 19.07, 20, 36.7, 37.43, 708.3964185322641, 709.782712893384, 710, 744.4400719213812,
        745.1332191019412, 746,
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def functions():
    """The functions as kernels on arrays."""
    return {name: elementwise(getattr(_math, name)) for name in TRUTH}


def neighbours(values, dtype, count=1000):
    """The ``count`` floats on either side of each value and of its negative."""
    integer = np.int32 if dtype == np.float32 else np.int64
    centres = np.array(values, dtype).view(integer)
    near = (centres[:, np.newaxis] + np.arange(-count, count + 1, dtype=integer)).ravel()
    x = near[near >= 0].view(dtype)
    return np.concatenate([x, -x])


def sample(dtype):
    """Finite floats: all over the bit patterns, all over exp's range, around the thresholds."""
    rng = np.random.default_rng(0)
    if dtype == np.float32:
        x = np.arange(0, 1 << 32, 997, dtype=np.int64).astype(np.uint32).view(np.float32)
    else:
        patterns = rng.integers(0, 1 << 64, 300_000, dtype=np.uint64).view(np.float64)
        lowest, largest = rng.uniform(-746, -708, 200_000), rng.uniform(-746, 710, 500_000)
        x = np.concatenate([patterns, lowest, largest, rng.standard_normal(500_000)])
    x = np.concatenate([x, neighbours(THRESHOLDS[dtype], dtype)])
    return x[np.isfinite(x)]


@every_function
@both_dtypes
def test_within_two_ulps(functions, name, dtype):
    if np.finfo(wider(dtype)).nmant < np.finfo(dtype).nmant + 8:
        pytest.skip("long double is no wider than double here; the decimal test remains")
    x = sample(dtype)
    with np.errstate(all="ignore"):
        exact = TRUTH[name](x.astype(wider(dtype)))
    errors = ulps(functions[name](x), exact)
    worst = errors.argmax()
    assert errors[worst] <= MOST_ULPS, f"{name}({x[worst]!r}) is off by {errors[worst]} ULP"


def decimal_truth(name, x):
    x = decimal.Decimal(float(x))
    if name == "exp":
        return float(x.exp())
    if name == "sigmoid":
        return float(1 / (1 + (-x).exp()))
    square = (2 * x).exp()
    return float((square - 1) / (square + 1))


@every_function
def test_float64_against_decimal_arithmetic(functions, name):
    """The same claim from another source of truth: 60 decimal digits, on every platform."""
    rng = np.random.default_rng(1)
    magnitudes = 2.0 ** rng.uniform(-40, 9.5, 1500)
    x = np.concatenate([magnitudes, -magnitudes, rng.uniform(-745, -708, 200)])
    x = x[x < 709]
    with decimal.localcontext(decimal.Context(prec=60)):
        exact = np.array([decimal_truth(name, value) for value in x])
    assert ulps(functions[name](x), exact).max() <= MOST_ULPS


@every_function
@both_dtypes
def test_not_a_number_and_infinities(functions, name, dtype):
    x = np.array([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0], dtype)
    limits = {"exp": [np.inf, 0, 1, 1], "sigmoid": [1, 0, 0.5, 0.5], "tanh": [1, -1, 0, 0]}
    assert_array_equal(functions[name](x), [np.nan, np.nan, *limits[name]])


@both_dtypes
def test_tanh_keeps_the_sign_of_zero(functions, dtype):
    zeros = functions["tanh"](np.array([0.0, -0.0], dtype))
    assert_array_equal(np.signbit(zeros), [False, True])


@both_dtypes
def test_beyond_the_range(functions, dtype):
    largest = np.finfo(dtype).max
    beyond = np.array([1.01 * np.log(largest.astype(np.float64)) + 16, largest / 2, largest], dtype)
    assert_array_equal(functions["exp"](beyond), np.inf)
    assert_array_equal(functions["exp"](-2 * beyond[:1]), 0)
    assert_array_equal(functions["exp"](-beyond[1:]), 0)
    assert_array_equal(functions["sigmoid"](-2 * beyond[:1]), 0)
    assert_array_equal(functions["sigmoid"](-beyond[1:]), 0)
    assert_array_equal(functions["sigmoid"](beyond), 1)
    assert_array_equal(functions["tanh"](beyond), 1)


@every_function
def test_every_lane_gives_the_same_bits(functions, name):
    """A value's result does not depend on where in a register, or in a partial one, it lies."""
    x = np.linspace(-3, 3, 41)
    alone = [functions[name](x[i : i + 1])[0] for i in range(x.size)]
    assert_array_equal(functions[name](x), alone)


def test_ulps_counts_floats():
    """The ruler itself: neighbours are 1 apart, also across 0 and from the largest to infinity."""
    x = np.array([1.0, -1.0, 0.0, 5e-324, np.finfo(np.float64).max])
    with np.errstate(over="ignore"):
        above = np.nextafter(x, np.inf)
    assert_array_equal(ulps(above, x), 1)
    assert_array_equal(ordinals(np.array([0.0, -0.0])), 0)
    smallest = np.array([np.nextafter(np.float32(0), np.float32(1))])
    assert_array_equal(ulps(-smallest, smallest.astype(np.float64)), 2)
