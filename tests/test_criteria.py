"""Criteria as layers: the kernels' numbers, PyTorch's, extremes, smoothing, weights, bad input."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import (
    BinaryCrossEntropy,
    Criterion,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonNLL,
    Quantile,
    SoftmaxCrossEntropy,
)
from fastmlp.layers.loss import CRITERIA
from tests.losses import LOSSES, errors, loss_and_derivative, values
from tests.numerics import wider
from tests.reference import finite_difference

# One of each and those that differ by a number; functions, since a criterion has a state.
MAKERS = CRITERIA | {
    "smoothed": lambda: SoftmaxCrossEntropy(label_smoothing=0.2),
    "weighted": lambda: SoftmaxCrossEntropy(class_weights=(0.5, 2, 0, 1)),
    "both": lambda: SoftmaxCrossEntropy(0.1, (1, 3, 0.25, 2)),
    "huber 0.3": lambda: Huber(0.3),
    "quantile 0.9": lambda: Quantile(0.9),
    "summed": lambda: MeanSquaredError(reduction="sum"),
}
POINTWISE = [name for name, cls in CRITERIA.items() if name != "SoftmaxCrossEntropy"]
# torch.nn has no quantile loss.
IN_TORCH = [*sorted(set(CRITERIA) - {"Quantile"}), "smoothed", "weighted", "both"]
every_criterion = pytest.mark.parametrize("name", MAKERS)
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def operands(criterion, rows=9, outputs=4, dtype=np.float64, seed=0):
    """Outputs of magnitude 1, and targets that the criterion takes."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.standard_normal((rows, outputs))
    if isinstance(criterion, SoftmaxCrossEntropy):
        y = rng.dirichlet(np.ones(outputs), rows)
    elif isinstance(criterion, BinaryCrossEntropy):
        y = rng.integers(0, 2, (rows, outputs))
    elif isinstance(criterion, PoissonNLL):
        y = rng.poisson(3, (rows, outputs))
    else:
        y = rng.standard_normal((rows, outputs))
    return z.astype(dtype), y.astype(dtype)


def test_all_have_a_reference():
    assert set(LOSSES) == set(CRITERIA)


@every_criterion
@both_dtypes
def test_against_numpy(name, dtype):
    """A few operations on each output, at most 4 ULP each, and a sum over 4 of them."""
    criterion = MAKERS[name]()
    z, y = operands(criterion, 33, 4, dtype)
    wide_z, wide_y = z.astype(wider(dtype)), y.astype(wider(dtype))
    loss, slope = loss_and_derivative(criterion, wide_z, wide_y)
    eps = np.finfo(dtype).eps
    bound = 30 * eps * (1 + np.abs(z) + np.abs(y) + np.exp(z)).sum(axis=1)
    actual = criterion.forward(z, y)
    assert actual.dtype == dtype
    assert (np.abs(actual - loss) <= bound).all()
    derivative = criterion.derivative()
    assert derivative.dtype == dtype
    assert (np.abs(derivative - slope) <= 10 * eps * (1 + np.abs(slope))).all()
    assert_allclose(criterion.errors(z, y), errors(criterion, z, y), rtol=10 * eps)
    if name in POINTWISE:
        assert_allclose(criterion.predict(z), values(criterion, z), rtol=4 * eps)


@every_criterion
def test_derivative_by_finite_differences(name):
    """Of rows that sum to 1, where softmax's formula is the derivative of its loss."""
    criterion = MAKERS[name]()
    z, y = operands(criterion)
    numeric = finite_difference(lambda z: criterion.forward(z, y).sum(), z)
    criterion.forward(z, y)
    assert_allclose(criterion.derivative(), numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 49])
@pytest.mark.parametrize("name", POINTWISE)
def test_lanes_beyond_the_last_output_count_for_nothing(name, outputs):
    """A loss of 0 and a target of 0 is not a loss of 0 for all of them."""
    criterion = MAKERS[name]()
    z, y = operands(criterion, 3, outputs)
    loss, slope = loss_and_derivative(criterion, z, y)
    assert_allclose(criterion.forward(z, y), loss, rtol=1e-13)
    assert_allclose(criterion.derivative(), slope, rtol=1e-13, atol=1e-15)
    assert_allclose(criterion.errors(z, y), errors(criterion, z, y), rtol=1e-13)


@every_criterion
@both_dtypes
def test_finite_for_extreme_outputs(name, dtype):
    """Up to 1e18 and 1e150: a square of more is no number of the dtype."""
    criterion = MAKERS[name]()
    far = 1e18 if dtype == np.float32 else 1e150
    z = np.array([[far, -far, 0, 1e4], [-far, far, 100, -1e4]], dtype)
    y = np.array([[1, 0, 0, 0], [0, 0, 0, 1]], dtype)
    assert np.isfinite(criterion.forward(z, y)).all()
    assert np.isfinite(criterion.derivative()).all()
    assert np.isfinite(criterion.errors(z, y)).all()


@pytest.mark.parametrize(("dtype", "largest"), [(np.float32, 44), (np.float64, 354)])
def test_a_rate_ends_as_a_straight_line(dtype, largest):
    criterion = PoissonNLL()
    z = np.array([[largest - 1], [largest], [largest + 1], [largest + 9]], dtype)
    top = np.exp(np.longdouble(largest))
    expected = [top / np.exp(np.longdouble(1)), top, 2 * top, 10 * top]
    assert_allclose(criterion.forward(z, 0 * z[:, 0]), expected, rtol=1e-6)
    assert_allclose(criterion.predict(z), expected, rtol=1e-6)
    assert_allclose(criterion.derivative()[1:, 0], top, rtol=1e-6)


def test_a_small_loss_of_a_label_that_is_met_keeps_its_digits():
    """log(1 + exp(-z)), which is lost beside z if that is subtracted last."""
    z, y = np.float32([[30], [-30]]), np.float32([[1], [0]])
    assert_allclose(BinaryCrossEntropy().forward(z, y), np.exp(-30), rtol=1e-6)


@pytest.mark.parametrize("name", ["MeanAbsoluteError", "Huber", "Quantile"])
def test_no_slope_at_a_kink(name):
    criterion = MAKERS[name]()
    criterion.forward(np.ones((2, 3)), np.ones((2, 3)))
    assert_array_equal(criterion.derivative(), 0)


@pytest.mark.parametrize("name", IN_TORCH)
def test_as_pytorch(name):
    """torch.nn's losses in float64. A mean over classes with weights is divided by the weights."""
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra compare")
    criterion = MAKERS[name]()
    z, y = operands(criterion, 33, 4)
    x, target = torch.tensor(z, requires_grad=True), torch.tensor(y)
    if isinstance(criterion, SoftmaxCrossEntropy):
        y = np.random.default_rng(0).integers(0, 4, 33)
        weights = criterion.class_weights
        theirs = torch.nn.CrossEntropyLoss(
            None if weights is None else torch.tensor(weights, dtype=torch.float64),
            reduction="sum", label_smoothing=criterion.label_smoothing,
        )  # fmt: skip
        loss, ours = theirs(x, torch.tensor(y)), criterion.forward(z, y).sum()
    else:
        theirs = {
            "BinaryCrossEntropy": torch.nn.BCEWithLogitsLoss(),
            "MeanSquaredError": torch.nn.MSELoss(),
            "MeanAbsoluteError": torch.nn.L1Loss(),
            "Huber": torch.nn.HuberLoss(),
            "PoissonNLL": torch.nn.PoissonNLLLoss(),
        }[name]
        loss, ours = theirs(x, target) * 33, criterion.forward(z, y).sum()
    loss.backward()
    assert_allclose(ours, loss.item(), rtol=1e-13)
    assert_allclose(criterion.derivative(), x.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_classes_and_their_rows_are_the_same():
    labels = np.array([0, 3, 1, 1])
    z = np.random.default_rng(0).standard_normal((4, 4))
    for name in ("SoftmaxCrossEntropy", "smoothed", "weighted", "both"):
        by_class, by_row = MAKERS[name](), MAKERS[name]()
        assert_array_equal(by_class.forward(z, labels), by_row.forward(z, np.eye(4)[labels]))
        assert_array_equal(by_class.derivative(), by_row.derivative())


def cauchy(z, y):
    return np.log1p((z - y) ** 2)


def cauchy_slope(z, y):
    return 2 * (z - y) / (1 + (z - y) ** 2)


@both_dtypes
def test_of_a_users_own(dtype):
    criterion = Criterion.of(lambda z, y: (z - y) ** 2, lambda z, y: 2 * (z - y))
    z, y = operands(criterion, 33, 17, dtype)
    expected = MeanSquaredError()
    eps = np.finfo(dtype).eps
    assert_allclose(criterion.forward(z, y), expected.forward(z, y), rtol=20 * eps)
    assert_allclose(criterion.derivative(), expected.derivative(), rtol=2 * eps)
    assert_allclose(criterion.errors(z, y), expected.errors(z, y), rtol=20 * eps)
    assert_array_equal(criterion.predict(z), z)
    named = Criterion.of(cauchy, cauchy_slope, name="Cauchy", reduction="sum")
    assert_allclose(named.forward(z, y), cauchy(z, y).sum(axis=1), rtol=20 * eps)
    assert repr(named) == "Criterion.of(Cauchy)"
    assert_array_equal(pickle.loads(pickle.dumps(named)).forward(z, y), named.forward(z, y))


def test_of_a_users_own_that_raises_is_not_a_number():
    def broken(z, y):
        if z > 1:
            raise ValueError
        return z

    criterion = Criterion.of(broken, broken)
    assert_array_equal(criterion.forward(np.array([[0.0, 2.0], [0.5, 0.5]]), np.zeros((2, 2))),
                       [np.nan, 0.5])  # fmt: skip
    assert_array_equal(criterion.derivative(), [[0, np.nan], [0.25, 0.25]])


def test_repr_copy_and_pickle():
    for name, make in MAKERS.items():
        criterion = make()
        for duplicate in (copy.copy(criterion), pickle.loads(pickle.dumps(criterion))):
            assert repr(duplicate) == repr(criterion), name
    assert repr(SoftmaxCrossEntropy()) == "SoftmaxCrossEntropy()"
    assert repr(Huber(0.5)) == "Huber(delta=0.5)"
    assert repr(SoftmaxCrossEntropy(0.1, [1, 2])) == (
        "SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=(1.0, 2.0))"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxCrossEntropy(label_smoothing=1), r"label_smoothing.*below 1.*got 1"),
        (lambda: SoftmaxCrossEntropy(label_smoothing=-0.1), r"label_smoothing.*got -0.1"),
        (lambda: SoftmaxCrossEntropy(label_smoothing=np.nan), r"label_smoothing.*finite.*nan"),
        (lambda: SoftmaxCrossEntropy(class_weights=[1, -2]), r"class_weights\[1\].*got -2"),
        (lambda: SoftmaxCrossEntropy(class_weights=[np.nan, 1]), r"class_weights\[0\].*got nan"),
        (lambda: SoftmaxCrossEntropy(class_weights=[0, 0]), r"class_weights.*above 0.*2 zeros"),
        (lambda: SoftmaxCrossEntropy(class_weights=[[1]]), r"class_weights.*\(1, 1\)"),
        (lambda: SoftmaxCrossEntropy(class_weights=[1, 2])(np.zeros((1, 3)), [0]),
         "class_weights must have 3 entries, one per output, got 2"),
        (lambda: Huber(0), "delta must be above 0, got 0"),
        (lambda: setattr(Huber(), "delta", -1), "delta must be above 0, got -1"),
        (lambda: Quantile(1), "q must be above 0 and below 1, got 1"),
        (lambda: MeanSquaredError("meen"), "reduction.*mean, sum, got 'meen'; did you mean 'mean'"),
        (lambda: MeanSquaredError()(np.zeros((2, 3)), [0, 1]),
         r"y must be \(2, 3\), got \(2,\); MeanSquaredError takes no classes"),
        (lambda: MeanSquaredError()(np.zeros((2, 1)), np.zeros((3, 1))),
         r"y must be \(2, 1\) or \(2,\), got \(3, 1\)"),
        (lambda: BinaryCrossEntropy()(np.zeros((2, 2)), [[0, 1], [2, 0]]),
         r"y\[1, 0\] must be from 0 to 1, got 2"),
        (lambda: PoissonNLL()(np.zeros((2, 1)), [0, -1]), r"y\[1, 0\] must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_functions():
    with pytest.raises(TypeError, match="derivative must be a function of an output and its targe"):
        Criterion.of(cauchy, 3)
    with pytest.raises(TypeError, match=r"that Numba can compile, of Python's arithmetic"):
        Criterion.of(lambda z, y: str(z).title(), cauchy)(np.zeros((1, 1)), [0])
    with pytest.raises(TypeError, match=r"MeanAbsoluteError predicts values.*no probabilities"):
        MeanAbsoluteError().probabilities(np.zeros((1, 1)))
