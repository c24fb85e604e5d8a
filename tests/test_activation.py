"""Activation kernels: values to 2 ULP, slopes from the values, ends of the range."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp.kernels.activation import ACTIVATIONS, activation_backward, activation_forward
from fastmlp.layers import activation_named
from tests import reference
from tests.numerics import ulps, wider

SIZES = [*range(1, 36), 47, 48, 49, 97, 255, 256, 257, 600]

every_activation = pytest.mark.parametrize("name", ACTIVATIONS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def forward(name, z):
    a = np.full_like(z, np.nan)
    activation_forward(a, z, ACTIVATIONS[name])
    return a


def backward(name, da, a):
    dz = np.full_like(a, np.nan)
    activation_backward(dz, da, a, ACTIVATIONS[name])
    return dz


def truth(name, z):
    with np.errstate(over="ignore"):
        return reference.ACTIVATIONS[name][0](z.astype(wider(z.dtype)))


@every_activation
@both_dtypes
def test_forward_of_any_length(name, dtype):
    rng = np.random.default_rng(0)
    for size in SIZES:
        z = (4 * rng.standard_normal(size)).astype(dtype)
        assert ulps(forward(name, z), truth(name, z)).max() <= 2


@every_activation
@both_dtypes
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_forward_of_any_values(name, dtype, data):
    z = data.draw(hnp.arrays(dtype, st.integers(1, 40), elements=st.floats(
        allow_nan=False, allow_infinity=False, width=8 * np.dtype(dtype).itemsize)))  # fmt: skip
    assert ulps(forward(name, z), truth(name, z)).max() <= 2


@every_activation
@both_dtypes
def test_not_a_number_and_infinities(name, dtype):
    z = np.array([np.nan, np.inf, -np.inf, 0, -0.0] * 4, dtype)
    assert_array_equal(forward(name, z), reference.ACTIVATIONS[name][0](z))


@every_activation
@both_dtypes
def test_backward_of_any_length(name, dtype):
    """da * a * (1 - a) and da * (1 - a * a): three roundings, one of them of a number up to 1."""
    rng = np.random.default_rng(0)
    for size in SIZES:
        a = forward(name, (4 * rng.standard_normal(size)).astype(dtype))
        da = rng.standard_normal(size).astype(dtype)
        expected = da.astype(np.float64) * reference.ACTIVATIONS[name][1](a.astype(np.float64))
        tolerance = 2 * np.finfo(dtype).eps * np.abs(da)
        assert (np.abs(backward(name, da, a) - expected) <= tolerance).all()


@every_activation
def test_backward_in_place(name):
    rng = np.random.default_rng(0)
    a, da = rng.random(37), rng.standard_normal(37)
    expected = backward(name, da, a)
    activation_backward(da, da, a, ACTIVATIONS[name])
    assert_array_equal(da, expected)


@every_activation
def test_slope_by_finite_differences(name):
    z = np.array([-30, -2.5, -1, -0.3, 0.2, 0.7, 1.9, 30])
    slope = backward(name, np.ones_like(z), forward(name, z))
    above, below = forward(name, z + 1e-6), forward(name, z - 1e-6)
    assert_allclose(slope, (above - below) / 2e-6, rtol=1e-8, atol=1e-9)


@both_dtypes
def test_relu_is_flat_at_zero_and_at_minus_zero(dtype):
    z = np.array([0.0, -0.0, np.finfo(dtype).smallest_subnormal], dtype)
    assert_array_equal(backward("relu", np.ones_like(z), forward("relu", z)), [0, 0, 1])


@every_activation
@both_dtypes
def test_gradient_that_is_not_a_number_stays_so(name, dtype):
    a = np.full(21, 0.5, dtype)
    da = np.where(np.arange(21) % 4 == 3, np.nan, 1).astype(dtype)
    assert_array_equal(np.isnan(backward(name, da, a)), np.isnan(da))


@every_activation
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (7,)])
def test_layer_takes_any_shape(name, shape):
    z = np.random.default_rng(0).standard_normal(shape)
    layer = activation_named(name)
    assert_allclose(layer.forward(z), reference.ACTIVATIONS[name][0](z), rtol=1e-15)
    assert layer.derivative().shape == shape
