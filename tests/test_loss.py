"""Softmax cross-entropy kernels: accuracy, extreme logits, labels that are no distribution."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import SoftmaxCrossEntropy
from fastmlp.kernels.loss import loss_backward, loss_forward, softmax
from fastmlp.kernels.pointwise import SOFTMAX, Loss
from tests import reference
from tests.numerics import wider
from tests.reference import finite_difference, one_hot

SHAPES = [(1, 1), (1, 2), (2, 7), (9, 8), (3, 10), (17, 15), (5, 16), (5, 17), (7, 47), (2, 48),
          (3, 49), (600, 3), (1, 1000), (97, 97)]  # fmt: skip

every_shape = pytest.mark.parametrize(("rows", "classes"), SHAPES)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def operands(rows, classes, dtype, seed=0, scale=3.0):
    """Normal logits, and positive rows of labels that sum to about 1."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((rows, classes))
    return logits.astype(dtype), rng.dirichlet(np.ones(classes), rows).astype(dtype)


def forward(logits, labels):
    loss = np.full(len(logits), np.nan, logits.dtype)
    loss_forward(loss, logits, labels, Loss(SOFTMAX), logits[0, :0])
    return loss


def backward(logits, labels):
    dz = np.full_like(logits, np.nan)
    loss_backward(dz, logits, labels, Loss(SOFTMAX), logits[0, :0])
    return dz


def probabilities(logits):
    p = np.full_like(logits, np.nan)
    softmax(p, logits)
    return p


def check(logits, labels):
    """Each exp is 2 ULP off, its argument z - m half an ULP of itself; K of them are summed."""
    dtype, (_, classes) = logits.dtype, logits.shape
    eps = np.finfo(dtype).eps
    wide_z, wide_y = logits.astype(wider(dtype)), labels.astype(wider(dtype))
    loss, _ = reference.softmax_cross_entropy(wide_z, wide_y)
    p = reference.softmax(wide_z)
    spread = wide_z.max(axis=1, keepdims=True) - wide_z
    relative = (classes + 6 + spread.max(axis=1, keepdims=True)) * eps
    assert (np.abs(probabilities(logits) - p) <= relative * p + np.finfo(dtype).tiny).all()
    assert (np.abs(backward(logits, labels) - (p - wide_y)) <= relative * p + eps).all()
    terms = (classes + 6) * eps * (np.abs(wide_y) * (1 + spread + np.log(classes))).sum(axis=1)
    bound = terms + relative[:, 0] * np.abs(wide_y).sum(axis=1)
    assert (np.abs(forward(logits, labels) - loss) <= bound).all()


@every_shape
@both_dtypes
def test_against_the_reference(rows, classes, dtype):
    check(*operands(rows, classes, dtype))


@both_dtypes
@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 20), classes=st.integers(1, 70), seed=st.integers(0, 999),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1000.0]),
)  # fmt: skip
def test_any_shape_and_spread(dtype, rows, classes, seed, scale):
    check(*operands(rows, classes, dtype, seed, scale))


@pytest.mark.parametrize("classes", [2, 10, 17])
@both_dtypes
def test_a_row_has_the_same_bits_beside_other_rows(classes, dtype):
    """Several rows are worked on together, and the last few by themselves."""
    logits, labels = operands(37, classes, dtype)
    # The last slice has a single row.
    slices = [slice(first, first + 4) for first in range(0, 37, 4)]
    for result in (forward, backward, lambda z, y: probabilities(z), SoftmaxCrossEntropy().errors):
        whole = result(logits, labels)
        for rows in slices:
            assert_array_equal(result(logits[rows], labels[rows]), whole[rows])


@both_dtypes
def test_labels_that_do_not_sum_to_one(dtype):
    """The loss uses the row as it is; the derivative is softmax(z) - y all the same."""
    logits, labels = operands(9, 17, dtype)
    check(logits, 7 * labels)
    check(logits, labels - dtype(0.5))
    assert_array_equal(forward(logits, 0 * labels), 0)
    assert_array_equal(backward(logits, 0 * labels), probabilities(logits))


@pytest.mark.parametrize("classes", [2, 10, 17])
def test_derivative_by_finite_differences(classes):
    """Of rows that sum to 1, where the formula is the derivative of the loss."""
    logits, labels = operands(3, classes, np.float64)
    numeric = finite_difference(lambda z: forward(z, labels).sum(), logits)
    assert_allclose(backward(logits, labels), numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("classes", [3, 16, 50])
@both_dtypes
def test_probabilities_sum_to_one_and_shifts_do_not_matter(classes, dtype):
    """Whole numbers, so that the shifted logits are exact."""
    logits = np.random.default_rng(0).integers(-20, 20, (33, classes)).astype(dtype)
    p = probabilities(logits)
    assert_allclose(p.sum(axis=1), 1, rtol=classes * np.finfo(dtype).eps)
    assert_array_equal(probabilities(logits + 1000), p)


@both_dtypes
def test_huge_logits(dtype):
    logits = np.array([[1e4, -1e4, 0], [-3e38, 3e38, 0]], dtype)
    assert_array_equal(probabilities(logits), [[1, 0, 0], [0, 1, 0]])
    assert_allclose(forward(logits[:1], one_hot(np.array([1]), 3, dtype)), [2e4], rtol=1e-6)
    assert_array_equal(forward(logits, one_hot(np.array([0, 1]), 3, dtype)), [0, 0])


@both_dtypes
def test_an_impossible_class_costs_nothing_unless_it_is_the_label(dtype):
    logits = np.array([[0.0, -np.inf, 0.0]], dtype)
    assert_allclose(forward(logits, one_hot(np.array([0]), 3, dtype)), np.log(2), rtol=1e-6)
    assert_array_equal(forward(logits, one_hot(np.array([1]), 3, dtype)), np.inf)
    assert_array_equal(probabilities(logits), [[0.5, 0, 0.5]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("classes", [3, 17, 33, 97])
@both_dtypes
def test_a_poisoned_row_stays_alone(value, classes, dtype):
    """infinity - infinity is not a number, as in NumPy; wherever it stands, the row is lost."""
    logits, labels = operands(5, classes, dtype)
    clean = forward(logits, labels), probabilities(logits), backward(logits, labels)
    others = np.arange(5) != 2
    for k in range(classes):
        poisoned = logits.copy()
        poisoned[2, k] = value
        results = forward(poisoned, labels), probabilities(poisoned), backward(poisoned, labels)
        for actual, expected in zip(results, clean, strict=True):
            assert np.isnan(actual[2]).all()
            assert_array_equal(actual[others], expected[others])


def test_empty_batch():
    with pytest.raises(ValueError, match=r"at least one row, got shape \(0, 3\)"):
        SoftmaxCrossEntropy().forward(np.empty((0, 3)), np.empty((0, 3)))


def test_nan_logits_are_seen_without_labels():
    """In NumPy 0 * NaN is NaN too."""
    loss = SoftmaxCrossEntropy()(np.full((1, 3), np.nan), np.zeros((1, 3)))
    assert np.isnan(loss).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 7, 8, 9, 16, 17, 33])
def test_missed_classes_are_those_of_argmax(classes, dtype):
    """Ties, infinities and NaN included: the first largest counts, or the first NaN."""
    rng = np.random.default_rng(classes)
    outputs = rng.integers(-2, 2, (300, classes)).astype(dtype)
    outputs[rng.random(outputs.shape) < 0.05] = -np.inf
    outputs[rng.random(outputs.shape) < 0.05] = np.nan
    outputs[:3] = [[0], [-np.inf], [np.nan]]
    labels = rng.integers(0, 2, (300, classes)).astype(dtype)
    missed = SoftmaxCrossEntropy().errors(outputs, labels)
    assert_array_equal(missed, outputs.argmax(axis=1) != labels.argmax(axis=1))
