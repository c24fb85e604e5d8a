"""Initialisers: shapes, dtypes, spread, and the order of the draws."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy
from fastmlp.initializers import he_normal, lecun_normal, xavier_normal, zeros

VARIANCES = {
    he_normal: lambda fan_in, fan_out: 2 / fan_in,
    xavier_normal: lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    lecun_normal: lambda fan_in, fan_out: 1 / fan_in,
}

every_initializer = pytest.mark.parametrize(
    ("initializer", "variance"), VARIANCES.items(), ids=lambda value: value.__name__
)


@every_initializer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_and_variance(initializer, variance, dtype):
    w = initializer(0, dtype)(300, 200)
    assert (w.shape, w.dtype) == ((300, 200), np.dtype(dtype))
    # Of n draws the mean is off by about sigma / sqrt(n), the variance by sqrt(2 / n) of it.
    expected = variance(300, 200)
    assert abs(w.mean()) < 5 * np.sqrt(expected / w.size)
    assert abs(w.var() / expected - 1) < 5 * np.sqrt(2 / w.size)


@every_initializer
def test_layers_draw_one_after_the_other(initializer, variance):
    together = initializer(7)
    first, second = together(4, 3), together(4, 3)
    assert not np.array_equal(first, second)
    generator = np.random.default_rng(7)
    assert_array_equal(initializer(generator)(4, 3), first)
    assert_array_equal(initializer(generator)(4, 3), second)


@every_initializer
def test_float32_by_default_and_nothing_but_floats(initializer, variance):
    assert initializer(0)(2, 3).dtype == np.float32
    with pytest.raises(TypeError, match=r"float32 or float64.*int32"):
        initializer(0, np.int32)


def test_a_network_takes_them():
    mlp = MLP(5, 3, [4], [ReLU(), Identity()], he_normal(0), zeros, SoftmaxCrossEntropy(), 0.1)
    assert mlp.dtype == np.float32
    assert all(not layer.b.any() for layer in mlp.linear_layers)
    assert zeros(4).shape == (1, 4)
