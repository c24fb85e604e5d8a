"""linear_forward and linear_backward on shapes that hurt; the layer's errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastmlp import Linear, threads
from fastmlp.kernels.activation import ACTIVATIONS, activation_backward
from fastmlp.kernels.linear import linear_backward, linear_forward
from tests import reference
from tests.numerics import assert_within, product_bound
from tests.reference import finite_difference

# (N, I, O): 1, primes, around vectors (16, 8, 4 lanes) and panels of three, long and thin, and
# batches of several chunks (above 256 rows) with a last chunk of one row or more.
SHAPES = [
    (1, 1, 1), (1, 1, 97), (1, 97, 1), (97, 1, 1), (1, 2, 3), (2, 3, 5), (7, 11, 13), (8, 16, 48),
    (9, 15, 47), (16, 17, 49), (15, 48, 16), (17, 47, 15), (31, 33, 1), (3, 600, 2), (2, 1, 600),
    (1, 64, 144), (24, 49, 97), (255, 3, 17), (256, 16, 1), (257, 1, 49), (600, 17, 16),
    (1000, 5, 3),
]  # fmt: skip

every_shape = pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def operands(rows, inputs, outputs, dtype, seed=0, scale=1.0):
    """x, w, b, dz: standard normal, times scale."""
    rng = np.random.default_rng(seed)
    shapes = (rows, inputs), (inputs, outputs), (1, outputs), (rows, outputs)
    return [(scale * rng.standard_normal(shape)).astype(dtype) for shape in shapes]


def forward(x, w, b, activation="identity"):
    y = np.full((len(x), w.shape[1]), np.nan, x.dtype)
    linear_forward(y, x, w, b, ACTIVATIONS[activation])
    return y


def backward(x, w, dz, bias=True, input_gradient=True):
    """(dw, db, dx), None for those not asked for."""
    dw = np.full_like(w, np.nan)
    db = np.full((1, w.shape[1]), np.nan, x.dtype) if bias else None
    dx = np.full_like(x, np.nan) if input_gradient else None
    linear_backward(dw, db, dx, x, w, dz)
    return dw, db, dx


def check_forward(x, w, b):
    wide = [a.astype(np.float64) for a in (x, w, b)]
    assert_within(forward(x, w, b), reference.linear_forward(*wide), product_bound(x, w, b))


def check_backward(x, w, dz):
    wide = [a.astype(np.float64) for a in (x, w, dz)]
    ones = np.ones((len(x), 1), x.dtype)
    # Two more roundings: of 1 / N and of the product with it.
    bounds = (
        product_bound(x.T, dz, operations=2) / len(x),
        product_bound(ones.T, dz, operations=2) / len(x),
        product_bound(dz, w.T),
    )
    for actual, expected, bound in zip(
        backward(x, w, dz), reference.linear_backward(*wide), bounds, strict=True
    ):
        assert_within(actual, expected, bound)


@every_shape
@both_dtypes
def test_forward(rows, inputs, outputs, dtype):
    x, w, b, _ = operands(rows, inputs, outputs, dtype)
    check_forward(x, w, b)


@every_shape
@both_dtypes
def test_backward(rows, inputs, outputs, dtype):
    x, w, _, dz = operands(rows, inputs, outputs, dtype)
    check_backward(x, w, dz)


@both_dtypes
@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 70), inputs=st.integers(1, 70), outputs=st.integers(1, 70),
    exponent=st.integers(-9, 9), seed=st.integers(0, 999),
)  # fmt: skip
def test_any_shape_and_magnitude(dtype, rows, inputs, outputs, exponent, seed):
    x, w, b, dz = operands(rows, inputs, outputs, dtype, seed, 10.0**exponent)
    check_forward(x, w, b)
    check_backward(x, w, dz)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (9, 17, 49), (257, 3, 5)])
@both_dtypes
def test_fused_activation(activation, rows, inputs, outputs, dtype):
    """No activation is steeper than 2, and each is within 4 ULP of magnitudes up to 1 or of z."""
    x, w, b, _ = operands(rows, inputs, outputs, dtype)
    wide = [a.astype(np.float64) for a in (x, w, b)]
    expected = reference.ACTIVATIONS[activation][0](reference.linear_forward(*wide))
    bound = 2 * product_bound(x, w, b) + 4 * np.finfo(dtype).eps * np.abs(expected)
    assert_within(forward(x, w, b, activation), expected, bound)


@both_dtypes
def test_without_bias(dtype):
    x, w, _, dz = operands(9, 17, 49, dtype)
    assert_array_equal(forward(x, w, None), forward(x, w, np.zeros((1, 49), dtype)))
    dw, db, dx = backward(x, w, dz, bias=False)
    assert db is None
    assert_array_equal(dw, backward(x, w, dz)[0])
    assert_array_equal(dx, backward(x, w, dz)[2])


@pytest.mark.parametrize("rows", [9, 257])
def test_without_input_gradient(rows):
    x, w, _, dz = operands(rows, 17, 49, np.float32)
    dw, db, dx = backward(x, w, dz, input_gradient=False)
    assert dx is None
    assert_array_equal(dw, backward(x, w, dz)[0])
    assert_array_equal(db, backward(x, w, dz)[1])


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_gradients_by_finite_differences(activation):
    """Of the sum of c * act(x w + b); relu and identity have kinks and no curvature."""
    x, w, b, c = operands(5, 4, 3, np.float64)
    formula = ACTIVATIONS[activation]
    a = forward(x, w, b, activation)
    dz = np.empty_like(a)
    activation_backward(dz.reshape(-1), c.reshape(-1), a.reshape(-1), formula)
    dw, db, dx = backward(x, w, dz)
    for variable, gradient in ((w, len(x) * dw), (b, len(x) * db), (x, dx)):
        numeric = finite_difference(lambda _: (c * forward(x, w, b, activation)).sum(), variable)
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rows", [17, 300])
@both_dtypes
def test_a_row_has_the_same_bits_wherever_it_lies(rows, dtype):
    """Each sum runs in the same order in every tile, so neighbours never change a row."""
    x, w, b, dz = operands(rows, 33, 49, dtype)
    y, dx = forward(x, w, b, "tanh"), backward(x, w, dz)[2]
    for row in {0, 1, 8, rows // 2, rows - 1}:
        here = slice(row, row + 1)
        assert_array_equal(forward(x[here], w, b, "tanh"), y[here])
        assert_array_equal(backward(x[here], w, dz[here])[2], dx[here])


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (9, 50, 17), (33, 7, 161)])
def test_more_threads_than_tiles(rows, inputs, outputs, monkeypatch):
    """Shares are then empty or end inside a panel; every tile is still computed, and once."""
    x, w, b, dz = operands(rows, inputs, outputs, np.float32)
    expected = forward(x, w, b), *backward(x, w, dz)
    monkeypatch.setattr(threads, "count_for", lambda multiply_adds: threads.get_num_threads())
    before = threads.get_num_threads()
    try:
        for count in (2, 3, 5, 7, 16):
            threads.set_num_threads(count)
            for actual, value in zip(
                (forward(x, w, b), *backward(x, w, dz)), expected, strict=True
            ):
                assert_array_equal(actual, value)
    finally:
        threads.set_num_threads(before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows", [18, 258])
@both_dtypes
def test_a_poisoned_row_stays_alone(value, rows, dtype):
    x, w, b, dz = operands(rows, 17, 49, dtype)
    y, dx = forward(x, w, b), backward(x, w, dz)[2]
    x[3, 16] = dz[3, 48] = value
    others = np.arange(rows) != 3
    poisoned_y, (dw, db, poisoned_dx) = forward(x, w, b), backward(x, w, dz)
    assert not np.isfinite(poisoned_y[3]).any()
    assert not np.isfinite(poisoned_dx[3]).any()
    assert_array_equal(poisoned_y[others], y[others])
    assert_array_equal(poisoned_dx[others], dx[others])
    assert_array_equal(np.isfinite(db), np.arange(49)[np.newaxis] != 48)
    assert_array_equal(
        np.isfinite(dw), (np.arange(17) != 16)[:, np.newaxis] & (np.arange(49) != 48)
    )


def test_infinity_times_zero_is_not_a_number():
    x, w = np.array([[np.inf, 1.0]]), np.array([[0.0, 2.0], [3.0, 4.0]])
    assert_array_equal(forward(x, w, None), [[np.nan, np.inf]])


@both_dtypes
def test_columns_of_any_stride_and_order_through_the_layer(dtype):
    x, w, b, dz = operands(33, 17, 5, dtype)
    layer = Linear(17, 5, lambda i, o: w, lambda o: b)
    expected_y, expected_dx = layer.forward(x), layer.backward(dz)
    padded = np.full((66, 34), np.nan, dtype)
    padded[::2, ::2] = x
    for other in (np.asfortranarray(x), padded[::2, ::2], x[::-1].copy()[::-1]):
        assert_array_equal(layer.forward(other), expected_y)
        assert_array_equal(layer.backward(np.asfortranarray(dz)), expected_dx)


def test_empty_batch():
    layer = Linear(3, 2, lambda i, o: np.ones((i, o)), lambda o: np.zeros((1, o)))
    with pytest.raises(ValueError, match=r"at least one row, got shape \(0, 3\)"):
        layer.forward(np.empty((0, 3)))
