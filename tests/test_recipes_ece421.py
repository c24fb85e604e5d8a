"""ECE421's functions against the write-ups' formulas in NumPy, and their refusals."""

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.recipes import _numpy, ece421
from tests.networks import assert_close, batch
from tests.reference import finite_difference

X, CLASSES, Y = batch(33, 7, 4)
LOGITS = np.random.default_rng(3).normal(0, 3, (33, 4))


def parameters(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    shapes = (7, 19), (1, 19), (19, 4), (1, 4)
    return [rng.normal(0, 0.5, shape).astype(dtype) for shape in shapes]


both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@both_dtypes
def test_functions_follow_the_formulas_and_keep_the_dtype(dtype):
    logits, y = LOGITS.astype(dtype), Y.astype(dtype)
    w, b = parameters(dtype=dtype)[:2]
    for got, expected in (
        (ece421.relu(logits), _numpy.relu(logits)),
        (ece421.softmax(logits), _numpy.softmax(logits)),
        (ece421.compute(X.astype(dtype), w, b), X.astype(dtype) @ w + b),
        (ece421.grad_ce(y, logits), _numpy.grad_ce(y, logits)),
    ):
        assert got.dtype == dtype
        assert_close(got, expected)
    p = ece421.softmax(logits)
    assert_close(ece421.average_ce(y, p), _numpy.average_ce(y, p), 1e-6)


def test_shapes_and_forms():
    p = ece421.softmax(LOGITS)
    assert ece421.grad_ce(Y, LOGITS).shape == (1, 4)
    assert_close(ece421.gradCE(Y, LOGITS), (p - Y) / 33)
    assert_close(ece421.grad_ce(CLASSES, LOGITS, per_sample=True), (p - Y) / 33)
    assert_close(ece421.grad_total_ce(Y, LOGITS), p - Y)
    assert_close(ece421.total_ce(Y, p), 33 * ece421.average_ce(Y, p))
    assert ece421.compute is ece421.compute_layer is ece421.computeLayer
    assert ece421.averageCE is ece421.average_ce
    assert ece421.relu(np.arange(-2, 2)).tolist() == [0, 0, 0, 1]
    assert ece421.accuracy(Y, Y[::-1]) == np.mean(CLASSES[::-1] == CLASSES)


def test_per_sample_gradient_is_the_derivative_of_the_average():
    logits = LOGITS.copy()
    expected = finite_difference(lambda z: ece421.average_ce(Y, ece421.softmax(z)), logits)
    np.testing.assert_allclose(ece421.gradCE(Y, LOGITS), expected, atol=1e-8)


def test_softmax_and_losses_at_the_limits():
    extreme = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4]])
    assert_close(ece421.softmax(extreme), [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]])
    certain = np.array([[1.0, 0.0]])
    assert ece421.average_ce(np.array([[1.0, 0.0]]), certain) == 0
    assert ece421.average_ce(np.array([[0.0, 1.0]]), certain) == pytest.approx(708.396, abs=1e-3)


def test_xavier_init_draws_from_the_global_generator():
    np.random.seed(4)
    w = ece421.xavier_init(784, 1000, 10)
    np.random.seed(4)
    np.testing.assert_array_equal(w, np.random.normal(0, np.sqrt(2 / 794), (784, 1000)))


@pytest.mark.parametrize("loss", ["average", "total"])
def test_gradients(loss):
    params = parameters()
    grad_w, grad_b = ece421.compute_gradients(
        X, Y, [None, *params[::2]], [None, *params[1::2]], loss
    )
    expected = _numpy.ece421_gradients(X, Y, params, loss == "total")
    for got, reference in zip([grad_w[1], grad_b[1], grad_w[2], grad_b[2]], expected, strict=True):
        assert_close(got, reference)


@pytest.mark.parametrize("total", [False, True])
def test_transcription_s_gradients_are_derivatives(total):
    params = parameters()

    def loss(_):
        hidden = _numpy.relu(X @ params[0] + params[1])
        losses = _numpy.cross_entropies(Y, _numpy.softmax(hidden @ params[2] + params[3]))
        return losses.sum() if total else losses.mean()

    for p, gradient in zip(params, _numpy.ece421_gradients(X, Y, params, total), strict=True):
        np.testing.assert_allclose(gradient, finite_difference(loss, p), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("loss", "alpha"), [("average", 0.1), ("total", 3e-3)])
def test_training_follows_the_transcription(loss, alpha):
    xv, _, yv = batch(12, 7, 4, seed=5)
    np.random.seed(1)
    result = ece421.training(X, Y, 9, alpha, 0.9, 19, data_valid=xv, label_valid=yv, loss=loss)
    np.random.seed(1)
    first = [
        ece421.xavier_init(7, 19, 4), np.zeros((1, 19)),
        ece421.xavier_init(19, 4, 1), np.zeros((1, 4)),
    ]  # fmt: skip
    total = loss == "total"
    params, stats = _numpy.ece421_training((X, Y), (xv, yv), first, 9, alpha, 0.9, total)
    for got, expected in zip(
        [result.W[1], result.b[1], result.W[2], result.b[2]], params, strict=True
    ):
        assert_close(got, expected, 1e-12)
    scale = (33, 12) if total else (1, 1)
    np.testing.assert_allclose(result.loss_train, scale[0] * stats[:, 0], rtol=1e-10)
    np.testing.assert_allclose(result.acc_train, stats[:, 1])
    np.testing.assert_allclose(result.loss_valid, scale[1] * stats[:, 2], rtol=1e-10)
    np.testing.assert_allclose(result.acc_valid, stats[:, 3])


def test_training_without_validation_and_in_float32():
    result = ece421.training(X.astype(np.float32), Y, 2, 0.1, 0.9, 5)
    assert result.W[1].dtype == result.b[2].dtype == np.float32
    assert len(result.loss_train) == 2
    assert result.loss_valid == result.acc_valid == []
    assert ece421.training(X, Y, 0, 0.1, 0.9, 5).loss_train == []


def test_pixels_are_numbers():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7), np.uint8)
    w, b = parameters()[:2]
    assert_close(ece421.compute(pixels, w, b), pixels.astype(float) @ w + b, 1e-12)
    results = []
    for x in (pixels, pixels.astype(float)):
        np.random.seed(0)
        results.append(ece421.training(x, Y[:6], 2, 1e-6, 0.9, 5).W[1])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ece421.softmax(np.ones(3)), r"x must be \(N, 3\), got \(3,\)"),
        (lambda: ece421.softmax(3), r"x must be \(N, K\), got a single number"),
        (lambda: ece421.accuracy(Y, Y[:3]), r"label_pred must be \(33, 4\), got \(3, 4\)"),
        (lambda: ece421.compute(X, np.ones((8, 2)), 0), r"X must be \(N, 8\), got \(33, 7\)"),
        (lambda: ece421.compute(X, np.ones((7, 2)), np.ones(3)), r"b must be \(1, 2\), got \(3,\)"),
        (lambda: ece421.average_ce(np.full(33, 4), LOGITS), r"target must lie in 0 ... 3, got 4"),
        (lambda: ece421.grad_ce(np.full(33, -1), LOGITS), r"target must lie in 0 ... 3, got -1"),
        (lambda: ece421.training(X, CLASSES, 1, 0.1, 0.9, 5), r"label_train must be \(N, K\)"),
        (lambda: ece421.training(X, Y, 1, 0.1, 0.9, 5, data_valid=X), "label_valid must be given"),
        (lambda: ece421.training(X, Y, 1, 0.1, 0.9, 5, label_valid=Y), "data_valid must be given"),
        (lambda: ece421.training(X, Y, 1, 0.1, 0.9, 5, loss="mean"), "'average' or 'total'"),
        (lambda: ece421.training(X, Y, 1, np.nan, 0.9, 5), "alpha must be finite, got nan"),
        (lambda: ece421.training(X, Y, 1, 0.1, 0.9, 0), r"W\[1\] must be a matrix"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gradients_name_the_parameter_that_does_not_fit():
    w1, b1, w2, b2 = parameters()
    with pytest.raises(ValueError, match=r"W\[2\] must be \(19, 4\), got \(4, 4\)"):
        ece421.compute_gradients(X, Y, [None, w1, w2[:4]], [None, b1, b2])
    with pytest.raises(ValueError, match=r"b\[1\] must be \(1, 19\), got \(1, 4\)"):
        ece421.compute_gradients(X, Y, [None, w1, w2], [None, b2, b2])
    with pytest.raises(ValueError, match=r"W must be \[None, hidden, output\], got 2 entries"):
        ece421.compute_gradients(X, Y, [w1, w2], [None, b1, b2])
    with pytest.raises(ValueError, match=r"b must be \[None, hidden, output\], got 2 entries"):
        ece421.compute_gradients(X, Y, [None, w1, w2], [b1, b2])


@pytest.mark.parametrize("arrays", [{}, {"images": np.zeros((9, 28, 28), np.uint8)}])
def test_the_experiment_asks_for_its_file(arrays, alone, tmp_path):
    pytest.importorskip("matplotlib", reason="experiments draw, which needs the extra plot")
    if arrays:
        np.savez(tmp_path / "notMNIST.npz", **arrays)
    setting = ece421.Setting(tmp_path, tmp_path, quick=True)
    with pytest.raises(datasets.DatasetError, match=r"notMNIST.*images.*labels"):
        ece421.average_loss(setting)
