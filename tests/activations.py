"""Every activation in plain NumPy, from its definition: values and slopes at z.

In float64 for float32 kernels, in long double for float64 ones: a formula here may lose a few
digits, as long as all those of the kernel's dtype are right.
"""

import math

import numpy as np

from fastmlp.recipes import _numpy_mlp

NEGATIVE_SLOPE, ALPHA, BETA = 0.01, 1.0, 1.0
# Klambauer et al., 2017, with 19 digits.
SELU_SCALE = np.longdouble("1.050700987355480493")
SELU_ALPHA = np.longdouble("1.673263242354377285")


def quietly(function):
    """Without warnings where an intermediate result leaves the range of floats."""

    def call(*arguments):
        with np.errstate(all="ignore"):
            return function(*arguments)

    return call


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def finite(function):
    """A function of z that is z times what goes to 0 exponentially: 0, not NaN, at -inf."""

    def call(z):
        return np.where(z == -np.inf, -0.0, function(np.where(z == -np.inf, -1, z)))

    return call


def leaky_relu(z, negative_slope=NEGATIVE_SLOPE):
    return np.where(z <= 0, z.dtype.type(negative_slope) * z, z)


def leaky_relu_slope(z, negative_slope=NEGATIVE_SLOPE):
    return np.where(z > 0, 1, z.dtype.type(negative_slope))


def elu(z, alpha=ALPHA):
    return np.where(z <= 0, z.dtype.type(alpha) * np.expm1(np.minimum(z, 0)), z)


def elu_slope(z, alpha=ALPHA):
    return np.where(z > 0, 1, z.dtype.type(alpha) * np.exp(np.minimum(z, 0)))


def selu(z):
    scale, alpha = z.dtype.type(SELU_SCALE), z.dtype.type(SELU_ALPHA)
    return scale * np.where(z <= 0, alpha * np.expm1(np.minimum(z, 0)), z)


def selu_slope(z):
    scale, alpha = z.dtype.type(SELU_SCALE), z.dtype.type(SELU_ALPHA)
    return scale * np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0)))


def softplus(z, beta=BETA):
    beta = z.dtype.type(beta)
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(beta * z))) / beta


def softplus_slope(z, beta=BETA):
    return sigmoid(z.dtype.type(beta) * z)


def softsign(z):
    return np.where(np.isinf(z), np.sign(z), z / (1 + np.abs(z)))


def softsign_slope(z):
    return 1 / (1 + np.abs(z)) ** 2


def hard_sigmoid(z):
    return np.clip(z + 3, 0, 6) / 6


def hard_sigmoid_slope(z):
    return np.where(np.abs(z) < 3, 1 / z.dtype.type(6), 0)


@finite
def hard_swish(z):
    return z * (np.clip(z + 3, 0, 6) / 6)


def hard_swish_slope(z):
    return np.where(z <= -3, 0, np.where(z >= 3, 1, z / 3 + 0.5))


@finite
def silu(z):
    return z * sigmoid(z)


def silu_slope(z):
    return np.where(np.isinf(z), z > 0, sigmoid(z) * (1 + z * sigmoid(-z)))


def _of_exponential(z):
    """e**2 + 2e for e = exp(z), up to where the ratio of it and 2 more is 1."""
    e = np.exp(np.minimum(z, 100))
    return e, e * (e + 2)


@finite
def mish(z):
    _, n = _of_exponential(z)
    return z * (n / (n + 2))


def mish_slope(z):
    e, n = _of_exponential(z)
    slope = n / (n + 2) + np.minimum(z, 100) * (4 * e * (1 + e) / (n + 2) / (n + 2))
    return np.where(np.isinf(z), z > 0, slope)


def normal_tail(x):
    """P(X > x) of a standard normal X for x >= 0, to the digits of x's dtype."""
    # x * x would lose digits that count in the exponential.
    head = x.astype(np.float32).astype(x.dtype)
    density = np.exp(-head * head / 2) * np.exp(-(x - head) * (x + head) / 2)
    density /= np.sqrt(2 * np.arctan(x.dtype.type(1)) * 4)
    # Abramowitz & Stegun 26.2.11 up to 1.5, Laplace's continued fraction (26.2.14) beyond.
    small = np.minimum(x, 1.5)
    term = series = small
    for k in range(3, 101, 2):
        term = term * small * small / k
        series = series + term
    large = np.maximum(x, 1.5)
    fraction = large
    for k in range(400, 0, -1):
        fraction = large + k / fraction
    return np.where(x < 1.5, 0.5 - density * series, density / fraction)


def normal(z):
    """P(X < z) of a standard normal X."""
    tail = normal_tail(np.minimum(np.abs(z), 100))
    return np.where(z > 0, 1 - tail, tail)


def _density(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@finite
def gelu(z):
    return z * normal(z)


def gelu_slope(z):
    near = np.clip(z, -100, 100)
    return normal(z) + near * _density(near)


def _bent(z):
    """(x, dx/dz) for z * sigmoid(x)."""
    factor = 2 * np.sqrt(1 / (2 * np.arctan(z.dtype.type(1))))
    cubic = z.dtype.type(44715) / 1000000
    return factor * z * (1 + cubic * z * z), factor * (1 + 3 * cubic * z * z)


@finite
def gelu_tanh(z):
    return z * sigmoid(_bent(z)[0])


def gelu_tanh_slope(z):
    near = np.clip(z, -100, 100)
    x, dx = _bent(near)
    return sigmoid(x) * (1 + near * dx * sigmoid(-x))


# Functions of z that take the activation's number as second argument where it has one.
FUNCTIONS = {name: rows[0] for name, rows in _numpy_mlp.ACTIVATIONS.items()} | {
    name: quietly(function)
    for name, function in {
        "leaky_relu": leaky_relu, "elu": elu, "selu": selu, "softplus": softplus,
        "softsign": softsign, "hard_sigmoid": hard_sigmoid, "hard_swish": hard_swish, "silu": silu,
        "mish": mish, "gelu": gelu, "gelu_tanh": gelu_tanh,
    }.items()
}  # fmt: skip
SLOPES = {
    name: (lambda z, rows=rows: rows[1](rows[0](z)))
    for name, rows in _numpy_mlp.ACTIVATIONS.items()
} | {
    name: quietly(function)
    for name, function in {
        "leaky_relu": leaky_relu_slope, "elu": elu_slope, "selu": selu_slope,
        "softplus": softplus_slope, "softsign": softsign_slope, "hard_sigmoid": hard_sigmoid_slope,
        "hard_swish": hard_swish_slope, "silu": silu_slope, "mish": mish_slope, "gelu": gelu_slope,
        "gelu_tanh": gelu_tanh_slope,
    }.items()
}  # fmt: skip

# What the backward kernels compute: the slope from the activation, for those that keep that.
FROM_ACTIVATION = {name: rows[1] for name, rows in _numpy_mlp.ACTIVATIONS.items()} | {
    "leaky_relu": lambda a: np.where(a > 0, 1, a.dtype.type(NEGATIVE_SLOPE)),
    "elu": lambda a: np.where(a > 0, 1, a + a.dtype.type(ALPHA)),
    "selu": lambda a: np.where(
        a > 0, a.dtype.type(SELU_SCALE), a + a.dtype.type(SELU_SCALE * SELU_ALPHA)
    ),
    "softplus": lambda a: -np.expm1(-a.dtype.type(BETA) * a),
    "softsign": lambda a: (1 - np.abs(a)) ** 2,
    "hard_sigmoid": lambda a: np.where((a > 0) & (a < 1), 1 / a.dtype.type(6), 0),
}
