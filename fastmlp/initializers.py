"""Weight and bias initialisers, in the form that MLP and Linear take.

The factories take a numpy.random.Generator, or a seed for one, and return a function of
(fan_in, fan_out). Given the same Generator, the layers of a network draw one after the other.

>>> MLP(784, 10, [512], [ReLU(), Identity()], he_normal(seed), zeros, SoftmaxCrossEntropy(), lr=0.1)
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from .validation import check_dtype

WeightInit = Callable[[int, int], np.ndarray]


def he_normal(generator: np.random.Generator | int, dtype: DTypeLike = np.float32) -> WeightInit:
    """N(0, 2 / fan_in), for ReLU. He et al. 2015, "Delving deep into rectifiers", equation 10."""
    return _normal(generator, dtype, lambda fan_in, fan_out: 2 / fan_in)


def xavier_normal(
    generator: np.random.Generator | int, dtype: DTypeLike = np.float32
) -> WeightInit:
    """N(0, 2 / (fan_in + fan_out)), for tanh. Glorot and Bengio 2010, equation 12.

    The variance is the paper's; its distribution is uniform. See also lecun_normal, which some
    courses call Xavier.
    """
    return _normal(generator, dtype, lambda fan_in, fan_out: 2 / (fan_in + fan_out))


def lecun_normal(generator: np.random.Generator | int, dtype: DTypeLike = np.float32) -> WeightInit:
    """N(0, 1 / fan_in), for sigmoid and tanh. LeCun et al. 1998, "Efficient BackProp", eq. 16."""
    return _normal(generator, dtype, lambda fan_in, fan_out: 1 / fan_in)


def zeros(fan_out: int) -> np.ndarray:
    """A bias row of zeros, (1, fan_out) float64; a network takes its dtype from the weights."""
    return np.zeros((1, fan_out))


def _normal(
    generator: np.random.Generator | int,
    dtype: DTypeLike,
    variance: Callable[[int, int], float],
) -> WeightInit:
    draws = np.random.default_rng(generator)
    result: Any = check_dtype(dtype).type

    def weights(fan_in: int, fan_out: int) -> np.ndarray:
        w = draws.standard_normal((fan_in, fan_out), dtype=result)
        w *= np.sqrt(variance(fan_in, fan_out))
        return w

    return weights
