"""Batch norm kernels: moments, running averages, the gradient, degenerate batches."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import BatchNorm
from fastmlp.kernels.batchnorm import (
    EPS,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_inference,
    batchnorm_running,
)
from tests import reference
from tests.reference import finite_difference

# (N, F): as in test_linear, chunks above 256 rows included.
SHAPES = [
    (1, 1), (1, 49), (2, 1), (2, 17), (3, 16), (7, 15), (8, 47), (16, 48), (17, 97), (97, 1),
    (33, 600), (255, 5), (256, 17), (257, 3), (600, 16), (1000, 1),
]  # fmt: skip

every_shape = pytest.mark.parametrize(("rows", "features"), SHAPES)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def operands(rows, features, dtype, seed=0, spread=2.0, offset=3.0):
    """x with the given spread and offset; gamma, beta, dy standard normal."""
    rng = np.random.default_rng(seed)
    x = offset + spread * rng.standard_normal((rows, features))
    gamma, beta = rng.standard_normal((2, 1, features))
    dy = rng.standard_normal((rows, features))
    return [a.astype(dtype) for a in (x, gamma, beta, dy)]


def forward(x, gamma, beta):
    """(y, normalised, mean, var)."""
    y, normalised = np.full((2, *x.shape), np.nan, x.dtype)
    mean, var = np.full((2, 1, x.shape[1]), np.nan, x.dtype)
    batchnorm_forward(y, normalised, mean, var, x, gamma, beta)
    return y, normalised, mean, var


def backward(dy, normalised, var, gamma):
    """(dgamma, dbeta, dx)."""
    dx = np.full_like(dy, np.nan)
    dgamma, dbeta = np.full((2, 1, dy.shape[1]), np.nan, dy.dtype)
    batchnorm_backward(dx, dgamma, dbeta, dy, normalised, var, gamma)
    return dgamma, dbeta, dx


def expected_forward(x, gamma, beta):
    wide = [a.astype(np.float64) for a in (x, gamma, beta)]
    return reference.batchnorm_forward(*wide, np.zeros_like(wide[1]), np.ones_like(wide[1]))[:4]


def check(x, gamma, beta, dy):
    """Against float64, or another order of summation in float64.

    A mean of N numbers is off by up to N eps max|x|, which dividing by the standard deviation
    magnifies in ``normalised``; so is x - mean by half an ULP of x. The gradient's sums are off
    by N eps times their magnitudes and by what ``normalised`` is off.
    """
    rows, eps = len(x), np.finfo(x.dtype).eps
    y, normalised, mean, var = forward(x, gamma, beta)
    wide_y, wide_normalised, wide_mean, wide_var = expected_forward(x, gamma, beta)
    std = np.sqrt(wide_var + EPS)
    largest = np.abs(x).max(axis=0, keepdims=True)
    of_mean = (rows + 2) * eps * largest
    off = of_mean / std + (rows + 8) * eps * np.abs(wide_normalised).max(axis=0, keepdims=True)
    assert (np.abs(mean - wide_mean) <= of_mean).all()
    assert (np.abs(var - wide_var) <= of_mean**2 + (rows + 4) * eps * wide_var).all()
    assert (np.abs(normalised - wide_normalised) <= off).all()
    assert (np.abs(y - wide_y) <= off * np.abs(gamma) + 2 * eps * (np.abs(wide_y) + 1)).all()

    arrays = [a.astype(np.float64) for a in (dy, x, normalised, mean, var, gamma)]
    wide_dgamma, wide_dbeta, _ = reference.batchnorm_backward(*arrays)
    dgamma, dbeta, dx = backward(dy, normalised, var, gamma)
    wide_dy, _, norm, _, _, wide_gamma = arrays
    wide_dx = (
        wide_gamma
        / np.sqrt(arrays[4] + EPS)
        * (wide_dy - wide_dbeta / rows - norm * wide_dgamma / rows)
    )
    terms = (rows + 6) * eps
    assert (np.abs(dbeta - wide_dbeta) <= terms * np.abs(dy).sum(axis=0)).all()
    assert (np.abs(dgamma - wide_dgamma) <= terms * np.abs(wide_dy * norm).sum(axis=0)).all()
    magnitudes = np.abs(wide_dy) + np.abs(wide_dy).mean(axis=0)
    magnitudes = magnitudes + np.abs(norm) * np.abs(wide_dy * norm).mean(axis=0)
    scale = np.abs(gamma) / np.sqrt(var + EPS)
    assert (np.abs(dx - wide_dx) <= terms * scale * magnitudes).all()


@every_shape
@both_dtypes
def test_forward_and_backward(rows, features, dtype):
    check(*operands(rows, features, dtype))


@both_dtypes
@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 300), features=st.integers(1, 40), seed=st.integers(0, 999),
    spread=st.sampled_from([1e-3, 1.0, 1e3]), offset=st.sampled_from([0.0, 1.0, -100.0]),
)  # fmt: skip
def test_any_shape_and_moments(dtype, rows, features, seed, spread, offset):
    check(*operands(rows, features, dtype, seed, spread, offset))


@pytest.mark.parametrize("rows", [50, 700])
def test_variance_far_from_zero(rows):
    """Moments in two passes: mean of squares less square of mean would leave no digit here."""
    x, gamma, beta, _ = operands(rows, 17, np.float32, spread=1.0, offset=5000.0)
    assert_allclose(forward(x, gamma, beta)[3], expected_forward(x, gamma, beta)[3], rtol=1e-4)


@both_dtypes
@pytest.mark.parametrize("rows", [1, 2, 64, 512])
def test_constant_features_become_beta(rows, dtype):
    """The variance is 0, eps keeps the quotient finite, and the input gradient is finite too."""
    _, gamma, beta, dy = operands(rows, 17, dtype)
    x = np.broadcast_to(np.exp2(np.arange(17) - 8.0).astype(dtype), (rows, 17)).copy()
    y, normalised, mean, var = forward(x, gamma, beta)
    assert_array_equal(mean, x[:1])
    assert_array_equal(var, 0)
    assert_array_equal(normalised, 0)
    assert_array_equal(y, np.broadcast_to(beta, y.shape))
    dgamma, dbeta, dx = backward(dy, normalised, var, gamma)
    assert_array_equal(dgamma, 0)
    assert np.isfinite(dx).all()
    if rows == 1:
        assert_array_equal(dx, 0)
        assert_array_equal(dbeta, dy)


@pytest.mark.parametrize("rows", [4, 258])
def test_gradients_by_finite_differences(rows):
    """Of the sum of c * y, through mean and variance."""
    x, gamma, beta, c = operands(rows, 3, np.float64)
    _, normalised, _, var = forward(x, gamma, beta)
    dgamma, dbeta, dx = backward(c, normalised, var, gamma)
    gradients = [(gamma, dgamma), (beta, dbeta)] + [(x, dx)] * (rows < 10)
    for variable, gradient in gradients:
        numeric = finite_difference(lambda _: (c * forward(x, gamma, beta)[0]).sum(), variable)
        assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-7)


@every_shape
@both_dtypes
def test_inference(rows, features, dtype):
    x, gamma, beta, _ = operands(rows, features, dtype)
    rng = np.random.default_rng(1)
    mean = rng.standard_normal((1, features)).astype(dtype)
    var = (rng.random((1, features)) + 0.1).astype(dtype)
    y = np.full_like(x, np.nan)
    batchnorm_inference(y, x, gamma, beta, mean, var)
    wide = [a.astype(np.float64) for a in (x, gamma, beta, mean, var)]
    expected = reference.batchnorm_forward(*wide, training=False)[0]
    scale = np.abs(wide[1]) / np.sqrt(wide[4])
    bound = 6 * np.finfo(dtype).eps * (scale * (np.abs(x) + np.abs(mean)) + np.abs(beta))
    assert (np.abs(y - expected) <= bound).all()


@pytest.mark.parametrize("features", [1, 15, 16, 17, 97])
@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
@both_dtypes
def test_running(features, alpha, dtype):
    rng = np.random.default_rng(0)
    running, value = rng.standard_normal((2, features)).astype(dtype)
    expected = alpha * running.astype(np.float64) + (1 - alpha) * value.astype(np.float64)
    bound = 3 * np.finfo(dtype).eps * (np.abs(running) + np.abs(value))
    batchnorm_running(running, value, alpha)
    assert (np.abs(running - expected) <= bound).all()


@pytest.mark.parametrize("rows", [9, 300])
@both_dtypes
def test_a_poisoned_feature_stays_alone(rows, dtype):
    x, gamma, beta, dy = operands(rows, 19, dtype)
    clean = forward(x, gamma, beta)
    clean_gradients = backward(dy, clean[1], clean[3], gamma)
    others = np.arange(19) != 17
    x[5, 17] = np.nan
    results = forward(x, gamma, beta)
    gradients = backward(dy, results[1], results[3], gamma)
    for actual, expected in zip(results, clean, strict=True):
        assert np.isnan(actual[:, 17]).all()
        assert_array_equal(actual[:, others], expected[:, others])
    for name, actual, expected in zip("gbx", gradients, clean_gradients, strict=True):
        assert np.isnan(actual[:, 17]).all() or name == "b"
        assert_array_equal(actual[:, others], expected[:, others])


def test_empty_batch():
    with pytest.raises(ValueError, match=r"at least one row, got shape \(0, 3\)"):
        BatchNorm(3).forward(np.empty((0, 3)))
