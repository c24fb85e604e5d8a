"""Activation kernels: values to a few ULP, slopes, ends of the range, numbers of their own."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import ELU, GELU, LeakyReLU, Softplus
from fastmlp.kernels.activation import ACTIVATIONS, activation_backward, activation_forward
from fastmlp.layers import activation_named
from fastmlp.layers.activation import parameter_of
from tests import activations, reference
from tests.numerics import ulps, wider

SIZES = [*range(1, 36), 47, 48, 49, 97, 255, 256, 257, 600]

# The four of HW1P1 are held to 2.
MOST_ULPS = dict.fromkeys(ACTIVATIONS, 4) | dict.fromkeys(
    ("identity", "sigmoid", "tanh", "relu"), 2
)

# Slopes have kinks at these.
KINKS = {
    "relu": [0],
    "leaky_relu": [0],
    "selu": [0],
    "hard_sigmoid": [-3, 3],
    "hard_swish": [-3, 3],
}

every_activation = pytest.mark.parametrize("name", ACTIVATIONS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def forward(name, z):
    return forward_and_kept(name, z)[0]


def forward_and_kept(name, z):
    """(a, what the formula keeps); what the kernel must not write stays NaN."""
    a, slopes = np.full_like(z, np.nan), np.full_like(z, np.nan)
    formula = ACTIVATIONS[name]
    activation_forward(a, slopes, z, formula)
    assert formula.keeps_slope or np.isnan(slopes).all()
    return a, slopes if formula.keeps_slope else a


def backward(name, da, kept):
    dz = np.full_like(kept, np.nan)
    activation_backward(dz, da, kept, ACTIVATIONS[name])
    return dz


def truth(name, z):
    with np.errstate(over="ignore"):
        return reference.ACTIVATIONS[name][0](z.astype(wider(z.dtype)))


def pickled(layer):
    return pickle.loads(pickle.dumps(layer))


def slopes_of(name, z):
    return reference.SLOPES[name](z.astype(wider(z.dtype)))


def finite_arrays(dtype):
    """Up to 40 numbers of any size."""
    width = 8 * np.dtype(dtype).itemsize
    elements = st.floats(allow_nan=False, allow_infinity=False, width=width)
    return hnp.arrays(dtype, st.integers(1, 40), elements=elements)


@every_activation
@both_dtypes
def test_forward_of_any_length(name, dtype):
    rng = np.random.default_rng(0)
    for size in SIZES:
        z = (4 * rng.standard_normal(size)).astype(dtype)
        assert ulps(forward(name, z), truth(name, z)).max() <= MOST_ULPS[name]


@every_activation
@both_dtypes
@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_forward_of_any_values(name, dtype, data):
    z = data.draw(finite_arrays(dtype))
    assert ulps(forward(name, z), truth(name, z)).max() <= MOST_ULPS[name]


@every_activation
@both_dtypes
def test_not_a_number_and_infinities(name, dtype):
    z = np.array([np.nan, np.inf, -np.inf, 0, -0.0] * 4, dtype)
    a = forward(name, z)
    number = ~np.isnan(z)
    assert_array_equal(np.isnan(a), ~number)
    assert ulps(a[number], truth(name, z[number])).max() <= MOST_ULPS[name]


@every_activation
@both_dtypes
def test_slopes_at_the_infinities_are_their_limits(name, dtype):
    z = np.array([np.inf, -np.inf] * 9, dtype)
    slopes = backward(name, np.ones_like(z), forward_and_kept(name, z)[1])
    far = np.array([1e4, -1e4] * 9, dtype)
    assert_allclose(slopes, slopes_of(name, far), rtol=1e-6, atol=1e-6)


@every_activation
@both_dtypes
def test_backward_of_any_length(name, dtype):
    """Slopes are at most 2. Those from a are off by three roundings of numbers up to 1 (SELU: 2);
    those that are kept, by the few of each term of their formula, which add up to at most 2."""
    rng = np.random.default_rng(0)
    for size in SIZES:
        z = (4 * rng.standard_normal(size)).astype(dtype)
        da = rng.standard_normal(size).astype(dtype)
        expected = da.astype(wider(dtype)) * slopes_of(name, z)
        tolerance = 4 * np.finfo(dtype).eps * np.abs(da)
        dz = backward(name, da, forward_and_kept(name, z)[1])
        assert (np.abs(dz - expected) <= tolerance).all()


@every_activation
@both_dtypes
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_slopes_of_any_values(name, dtype, data):
    z = data.draw(finite_arrays(dtype))
    slopes = backward(name, np.ones_like(z), forward_and_kept(name, z)[1])
    assert (np.abs(slopes - slopes_of(name, z)) <= 4 * np.finfo(dtype).eps).all()


@every_activation
def test_backward_in_place(name):
    rng = np.random.default_rng(0)
    kept, da = rng.random(37), rng.standard_normal(37)
    expected = backward(name, da, kept)
    activation_backward(da, da, kept, ACTIVATIONS[name])
    assert_array_equal(da, expected)


@every_activation
def test_slope_by_finite_differences(name):
    z = np.array([-30, -2.5, -1, -0.3, 0.2, 0.7, 1.9, 30])
    slope = backward(name, np.ones_like(z), forward_and_kept(name, z)[1])
    above, below = forward(name, z + 1e-6), forward(name, z - 1e-6)
    assert_allclose(slope, (above - below) / 2e-6, rtol=1e-8, atol=1e-9)


@both_dtypes
def test_relu_is_flat_at_zero_and_at_minus_zero(dtype):
    z = np.array([0.0, -0.0, np.finfo(dtype).smallest_subnormal], dtype)
    assert_array_equal(backward("relu", np.ones_like(z), forward("relu", z)), [0, 0, 1])


@pytest.mark.parametrize("name", KINKS)
@both_dtypes
def test_slopes_next_to_a_kink(name, dtype):
    """The floats on either side of it have the slopes of their sides, itself that of PyTorch."""
    at = np.array(KINKS[name], dtype)
    z = np.concatenate([np.nextafter(at, dtype(-9)), at, np.nextafter(at, dtype(9))])
    slopes = backward(name, np.ones_like(z), forward_and_kept(name, z)[1])
    assert_allclose(slopes, slopes_of(name, z), rtol=3 * np.finfo(dtype).eps, atol=0)


@every_activation
@both_dtypes
def test_gradient_that_is_not_a_number_stays_so(name, dtype):
    kept = np.full(21, 0.5, dtype)
    da = np.where(np.arange(21) % 4 == 3, np.nan, 1).astype(dtype)
    assert_array_equal(np.isnan(backward(name, da, kept)), np.isnan(da))


# Layers


@every_activation
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4), (7,)])
def test_layer_takes_any_shape(name, shape):
    z = np.random.default_rng(0).standard_normal(shape)
    layer = activation_named(name)
    assert_allclose(layer.forward(z), truth(name, z).astype(np.float64), rtol=1e-15)
    slopes = slopes_of(name, z).astype(np.float64)
    assert_allclose(layer.derivative(), slopes, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("number", [-2.5, -0.3, 0, 0.2, 1, 3])
@pytest.mark.parametrize("cls", [LeakyReLU, ELU, Softplus])
@both_dtypes
def test_numbers_of_their_own(cls, number, dtype):
    """Positional, as in PyTorch; negative ones turn the sign of the activation."""
    if cls is Softplus and number <= 0:
        number = 0.125 - number
    z = np.concatenate([np.linspace(-30, 30, 1001), [0.0]]).astype(dtype)
    layer = cls(number)
    a = layer(z)
    wide = z.astype(wider(dtype))
    assert ulps(a, activations.FUNCTIONS[layer.name](wide, dtype(number))).max() <= 4
    expected = activations.SLOPES[layer.name](wide, dtype(number))
    tolerance = 4 * np.finfo(dtype).eps * max(1, abs(number))
    assert (np.abs(layer.derivative() - expected) <= tolerance).all()


@pytest.mark.parametrize("beta", [1e-3, 0.3, 7, 1e3])
@both_dtypes
def test_softplus_keeps_its_digits_where_its_exponential_is_subnormal(beta, dtype):
    lowest = np.log(np.finfo(dtype).smallest_subnormal.astype(np.float64)) * 1.01
    z = np.linspace(lowest, 5, 20_001).astype(dtype) / dtype(beta)
    exact = activations.softplus(z.astype(wider(dtype)), dtype(beta))
    assert ulps(Softplus(beta)(z), exact).max() <= 4


def test_defaults_are_those_of_pytorch():
    numbers = {name: parameter_of(activation_named(name)) for name in ACTIVATIONS}
    assert {name: number for name, number in numbers.items() if number is not None} == {
        "leaky_relu": 0.01, "elu": 1.0, "softplus": 1.0
    }  # fmt: skip
    for name, number in numbers.items():
        assert number is None or ACTIVATIONS[name].parameter == number
    assert GELU().name == "gelu"
    assert GELU(approximate="tanh").name == "gelu_tanh"


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (fastmlp.SiLU(), "SiLU()"),
        (LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
        (ELU(), "ELU(alpha=1.0)"),
        (Softplus(beta=2), "Softplus(beta=2.0)"),
        (GELU("tanh"), "GELU(approximate='tanh')"),
    ],
)
def test_representation_is_the_call_that_makes_it(layer, text):
    assert repr(layer) == text
    assert repr(eval(text, vars(fastmlp) | {name: getattr(fastmlp, name) for name in (
        "SiLU", "LeakyReLU", "ELU", "Softplus", "GELU")})) == text  # fmt: skip


@pytest.mark.parametrize("layer", [LeakyReLU(0.2), ELU(-0.5), Softplus(2), GELU("tanh")], ids=repr)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickled])
def test_copies_keep_their_numbers(layer, duplicate):
    z = np.linspace(-3, 3, 7)
    twin = duplicate(layer)
    assert repr(twin) == repr(layer)
    assert_array_equal(twin(z), layer(z))


# Bad input


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LeakyReLU(np.nan), ValueError, "negative_slope must be finite, got nan"),
        (lambda: LeakyReLU("0.1"), TypeError, "negative_slope must be a number, got '0.1'"),
        (lambda: ELU(alpha=np.inf), ValueError, "alpha must be finite, got inf"),
        (lambda: ELU(None), TypeError, "alpha must be a number, got None"),
        (lambda: Softplus(0), ValueError, "beta must be greater than 0, got 0"),
        (lambda: Softplus(beta=-1.5), ValueError, "beta must be greater than 0, got -1.5"),
        (lambda: Softplus(np.nan), ValueError, "beta must be finite, got nan"),
        (lambda: GELU("erf"), ValueError, "approximate must be one of none, tanh, got 'erf'"),
        (lambda: GELU(True), ValueError, "approximate must be one of none, tanh, got True"),
        (
            lambda: activation_named("leakyrelu"), ValueError,
            "activation must be one of elu, .*tanh, got 'leakyrelu'; did you mean 'leaky_relu'",
        ),
        (lambda: activation_named(["relu"]), ValueError, r"activation must be one of .*\['relu'\]"),
        (lambda: activation_named("relu", 0.5), ValueError, "relu has no number of its own"),
        (lambda: activation_named("elu", np.nan), ValueError, "alpha must be finite, got nan"),
    ],
)  # fmt: skip
def test_bad_numbers_and_names(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_refused_number_changes_nothing():
    layer = Softplus(2)
    with pytest.raises(ValueError, match="beta must be greater than 0"):
        layer.beta = -1
    assert layer.beta == 2
    layer.beta = 3
    assert_allclose(layer(np.zeros(1)), np.log(2) / 3, rtol=1e-15)
