"""expm1, SiLU, GELU, Mish and softplus of registers, in ULP from the correctly rounded value."""

import decimal

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.kernels import _math, _math_smooth
from fastmlp.kernels._jit import inline
from tests.activations import FUNCTIONS, quietly
from tests.numerics import elementwise, ulps, wider
from tests.test_math import neighbours, sample

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@inline
def softplus(z):
    return _math_smooth.softplus(z, 1.0)


COMPILED = {
    "expm1": elementwise(_math.expm1),
    "softplus": elementwise(softplus),
    **{
        name: elementwise(getattr(_math_smooth, name))
        for name in ("silu", "gelu", "gelu_tanh", "mish")
    },
}
TRUTH = {name: FUNCTIONS.get(name, quietly(np.expm1)) for name in COMPILED}
MOST_ULPS = dict.fromkeys(COMPILED, 4) | {"expm1": 2}
every_function = pytest.mark.parametrize("name", COMPILED)

# Where arguments are clipped, where the tail's two approximations of the truth meet, where results
# become subnormal and 0.
THRESHOLDS = {
    np.float32: [1e-4, 0.5, 1.5, 3, 10.5, 10.75, 11, 13, 14.2, 15, 40, 44.4, 88, 104, 109, 170],
    np.float64: [1e-8, 0.5, 1.5, 3, 21, 22, 37.5, 38.6, 40, 44.4, 709, 745, 752, 1400],
}
# Between these and 20 the results are neither 0 nor z.
LOWEST = {
    np.float32: {"silu": -109, "mish": -109, "softplus": -104, "gelu": -14.3, "gelu_tanh": -10.8},
    np.float64: {"silu": -752, "mish": -752, "softplus": -746, "gelu": -38.7, "gelu_tanh": -21.6},
}


def arguments(name, dtype, count=400_000):
    """Finite floats of all magnitudes, of the range that counts, and around the thresholds."""
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [
            sample(dtype)[::20],
            rng.uniform(LOWEST[dtype].get(name, -40), 20, count).astype(dtype),
            rng.standard_normal(count // 2).astype(dtype),
            neighbours(THRESHOLDS[dtype], dtype, 200),
        ]
    )
    return x[x <= 0] if name == "expm1" else x


@every_function
@both_dtypes
def test_ulps_from_the_definition(name, dtype):
    if np.finfo(wider(dtype)).nmant < np.finfo(dtype).nmant + 8:
        pytest.skip("long double is no wider than double here; the decimal test remains")
    x = arguments(name, dtype, 400_000 if dtype == np.float32 else 60_000)
    errors = ulps(COMPILED[name](x), TRUTH[name](x.astype(wider(dtype))))
    worst = errors.argmax()
    assert errors[worst] <= MOST_ULPS[name], f"{name}({x[worst]!r}) is off by {errors[worst]} ULP"


def decimal_normal(z):
    """P(X < z) by a series of positive terms, 1/2 + density(z) * sum of z**(2k+1) / (2k+1)!!."""
    pi = decimal.Decimal(
        "3.14159265358979323846264338327950288419716939937510582097494459230781640"
    )
    term = total = z
    k = 1
    while abs(term) > abs(total) * decimal.Decimal(10) ** -decimal.getcontext().prec:
        k += 2
        term *= z * z / k
        total += term
    return decimal.Decimal(1) / 2 + total * (-z * z / 2).exp() / (2 * pi).sqrt()


def decimal_truth(name, z):
    z = decimal.Decimal(float(z))
    if name == "expm1":
        return float(z.exp() - 1)
    if name == "softplus":
        return float((1 + z.exp()).ln())
    if name == "silu":
        return float(z / (1 + (-z).exp()))
    if name == "mish":
        square = (1 + z.exp()) ** 2
        return float(z * (square - 1) / (square + 1))
    if name == "gelu":
        return float(z * decimal_normal(z))
    pi = decimal.Decimal(
        "3.14159265358979323846264338327950288419716939937510582097494459230781640"
    )
    x = 2 * (2 / pi).sqrt() * (z + decimal.Decimal("0.044715") * z**3)
    return float(z / (1 + (-x).exp()))


@every_function
def test_float64_against_decimal_arithmetic(name):
    """The same claim from another source of truth, on every platform. GELU's tail is a difference
    of two numbers near 1/2, so it is left at what 70 digits of pi still give: z above -11."""
    rng = np.random.default_rng(1)
    lowest = -11 if name == "gelu" else max(LOWEST[np.float64].get(name, -40), -700)
    x = np.concatenate([rng.uniform(lowest, 0, 500), 2.0 ** rng.uniform(-30, 3, 300)])
    x = np.concatenate([x, -(2.0 ** rng.uniform(-30, 3, 300))])
    x = -np.abs(x) if name == "expm1" else x
    # The smallest differences from 1 that occur are about exp(-700), 10**-304.
    with decimal.localcontext(decimal.Context(prec=70 if name == "gelu" else 400)):
        exact = np.array([decimal_truth(name, value) for value in x])
    assert ulps(COMPILED[name](x), exact).max() <= MOST_ULPS[name]


@every_function
def test_every_lane_gives_the_same_bits(name):
    """A value's result does not depend on where in a register, or in a partial one, it lies."""
    x = np.linspace(-3, 0 if name == "expm1" else 3, 41)
    alone = [COMPILED[name](x[i : i + 1])[0] for i in range(x.size)]
    assert_array_equal(COMPILED[name](x), alone)


@both_dtypes
def test_expm1_keeps_tiny_numbers_and_ends_at_minus_one(dtype):
    tiny = -np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, -np.finfo(dtype).tiny, 0, -np.inf, -1e30, np.nan], dtype)
    assert_array_equal(COMPILED["expm1"](x), [tiny, -np.finfo(dtype).tiny, 0, -1, -1, np.nan])


@both_dtypes
def test_log_in_ulps(dtype):
    """Of the numbers it is for, from 1 on; from very near 1, and from around where the mantissa is
    halved and the exponent changes."""
    rng = np.random.default_rng(0)
    turns = np.concatenate([2.0 ** np.arange(60), 2.0 ** (np.arange(60) + 0.5)])
    near = 1 + np.finfo(dtype).eps * np.arange(1000)
    parts = neighbours(turns, dtype, 50), near, np.exp(rng.uniform(0, 80, 100_000))
    x = np.concatenate(parts).astype(dtype)
    x = x[x >= 1]
    log = elementwise(_math_smooth.log)
    assert ulps(log(x), np.log(x.astype(wider(dtype)))).max() <= 4
    assert_array_equal(log(np.array([1, np.nan], dtype)), [0, np.nan])
