"""VU assignment 1: both versions of its functions, the example done by hand, and the refusals."""

import numpy as np
import pytest

from fastmlp.recipes import _numpy, _scalar_net, vu_dl1
from fastmlp.recipes._vu_dl1_runs import deviation_by_hand
from tests.networks import assert_close, batch
from tests.reference import finite_difference

X, CLASSES, Y = batch(33, 7, 4)

INPUTS, TARGET = [1, -1], [1, 0]
W1, B1 = [[1, -1], [1, -1], [-1, 1]], [0, 0, 0]
W2, B2 = [[1, -1, -1], [1, -1, -1]], [0, 0]


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = (7, 19), (1, 19), (19, 4), (1, 4)
    return [rng.normal(0, 0.5, shape).astype(dtype) for shape in shapes]


def test_the_example_done_by_hand():
    state = vu_dl1.forward_pass(INPUTS, W1, B1, W2, B2)
    assert all(isinstance(values, list) for values in state)
    np.testing.assert_allclose(state[3], [0.5, 0.5], rtol=0, atol=1e-12)
    assert vu_dl1.cross_entropy(state[3], TARGET) == pytest.approx(0.6931471805599453, abs=1e-12)
    dw1, db1, dw2, db2 = vu_dl1.backward_pass(INPUTS, *state, TARGET, W2)
    row = [-0.44039853898894116, -0.44039853898894116, -0.05960146101105877]
    np.testing.assert_allclose(dw1, np.zeros((3, 2)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(db1, np.zeros(3), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dw2, [row, np.negative(row)], rtol=0, atol=1e-12)
    np.testing.assert_allclose(db2, [-0.5, 0.5], rtol=0, atol=1e-12)
    assert deviation_by_hand() <= 1e-12


def test_the_deviation_is_measured(monkeypatch):
    monkeypatch.setattr(_scalar_net, "sigmoid", lambda x: 0.5)
    # The output is the same, and gradients are 0.25 where 0.44 and 0.06 are expected.
    assert deviation_by_hand() == pytest.approx(0.44039853898894116 - 0.25)


def lists(seed=0):
    """A 3-4-2 network and a sample, in lists with the weights of each unit in a row."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).tolist() for shape in (3, (4, 3), 4, (2, 4), 2)]


def test_lists_and_arrays_agree():
    x, w1, b1, w2, b2 = lists()
    target = [0, 1]
    state = vu_dl1.forward_pass(x, w1, b1, w2, b2)
    arrays = np.transpose(w1), np.array([b1]), np.transpose(w2), np.array([b2])
    batch_state = vu_dl1.forward_pass(np.array([x]), *arrays)
    for values, rows in zip(state, batch_state, strict=True):
        assert_close(rows, [values])
    dw1, db1, dw2, db2 = vu_dl1.backward_pass(x, *state, target, w2)
    expected = vu_dl1.backward_pass(
        np.array([x]), np.array([target]), batch_state[1], batch_state[3], arrays[2]
    )
    for got, reference in zip(
        (np.transpose(dw1), [db1], np.transpose(dw2), [db2]), expected, strict=True
    ):
        assert_close(got, reference)


def test_as_printed_takes_the_slope_of_the_hidden_input():
    x, w1, b1, w2, b2 = lists()
    state = vu_dl1.forward_pass(x, w1, b1, w2, b2)
    delta = np.array(state[3]) - [0, 1]
    z = np.array(state[0])
    expected = delta @ np.array(w2) * (z * (1 - z))
    gradients = vu_dl1.backward_pass(x, *state, [0, 1], w2, as_printed=True)
    assert_close(gradients[1], expected)
    assert_close(gradients[0], np.outer(expected, x))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_follow_the_transcription(dtype):
    x, params = X.astype(dtype), parameters(dtype)
    state = vu_dl1.forward_pass(x, *params)
    for got, expected in zip(state, _numpy.vu_forward(x, *params), strict=True):
        assert got.dtype == dtype
        assert_close(got, expected)
    gradients = vu_dl1.backward_pass(x, Y, state[1], state[3], params[2])
    expected = _numpy.vu_backward(x, Y.astype(dtype), state[1], state[3], params[2])
    for got, reference, p in zip(gradients, expected, params, strict=True):
        assert got.dtype == dtype
        assert got.shape == p.shape
        assert_close(got, reference)
    loss = vu_dl1.cross_entropy(state[3], Y)
    assert loss == pytest.approx(_numpy.average_ce(Y, state[3].astype(float)), rel=1e-5)


def test_transcription_s_gradients_are_derivatives():
    params = parameters()
    _, a1, _, a2 = _numpy.vu_forward(X, *params)
    gradients = _numpy.vu_backward(X, Y, a1, a2, params[2])
    for p, gradient in zip(params, gradients, strict=True):
        expected = finite_difference(
            lambda _: _numpy.average_ce(Y, _numpy.vu_forward(X, *params)[3]), p
        )
        np.testing.assert_allclose(gradient, expected, atol=1e-8)


@pytest.mark.parametrize("labels", [Y, CLASSES])
def test_train_and_evaluate_follows_the_transcription(labels):
    params = parameters()
    before = [p.copy() for p in params]
    xv, classes, yv = batch(12, 7, 4, seed=5)
    valid = yv if labels is Y else classes
    *got, losses, accuracies, valid_accuracies = vu_dl1.train_and_evaluate(
        X, labels, xv, valid, *params, 8, 0.5
    )
    expected, stats = _numpy.vu_training((X, Y), (xv, yv), params, 8, 0.5)
    for p, reference, old, now in zip(got, expected, before, params, strict=True):
        assert_close(p, reference, 1e-12)
        np.testing.assert_array_equal(now, old)
    np.testing.assert_allclose(losses, stats[:, 0], rtol=1e-10)
    np.testing.assert_allclose(accuracies, stats[:, 1])
    np.testing.assert_allclose(valid_accuracies, stats[:, 3])


def test_batches_are_shuffled_by_seed():
    def train(**options):
        return vu_dl1.train_and_evaluate(X, Y, X, Y, *parameters(), 2, 0.5, **options)[0]

    np.testing.assert_array_equal(train(batch_size=5, seed=1), train(batch_size=5, seed=1))
    assert not np.array_equal(train(batch_size=5, seed=1), train(batch_size=5, seed=2))
    assert not np.array_equal(train(batch_size=5, seed=1), train())


def test_small_functions():
    assert vu_dl1.sigmoid(0) == 0.5
    assert isinstance(vu_dl1.sigmoid(1), float)
    assert vu_dl1.sigmoid(-1e4) == 0
    assert_close(vu_dl1.sigmoid(X), _numpy.sigmoid(X))
    assert vu_dl1.sigmoid_derivative(0.25) == 0.1875
    assert_close(vu_dl1.softmax([1.0, 2.0]), _numpy.softmax(np.array([[1.0, 2.0]]))[0])
    assert vu_dl1.softmax([1e4, -1e4]) == [1, 0]
    assert_close(vu_dl1.softmax(X), _numpy.softmax(X))
    assert vu_dl1.cross_entropy([0.0, 1.0], [1, 0]) == pytest.approx(-np.log(1e-15))
    assert vu_dl1.get_accuracy([1, 2, 3, 4], [1, 2, 0, 0]) == 0.5
    assert vu_dl1.one_hot_encode(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert vu_dl1.normalize_data([[0, 5], [10, 5]]).tolist() == [[-1, 0], [1, 0]]
    params, gradients = parameters(), [np.ones_like(p) for p in parameters()]
    updated = vu_dl1.update_weights(*params, *gradients, 0.5)
    assert_close(updated[0], params[0] - 0.5)
    expected = _numpy.vu_forward(X, *params)[3].argmax(axis=1)
    np.testing.assert_array_equal(vu_dl1.predict(X, *params), expected)


def test_load_synth_is_the_course_s():
    (x, y), (xv, yv), classes = vu_dl1.load_synth()
    assert x.shape == (60_000, 2)
    assert xv.shape == (10_000, 2)
    assert y.shape == (60_000,)
    assert yv.shape == (10_000,)
    assert classes == 2
    assert round(y.mean(), 4) == 0.5582


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vu_dl1.one_hot_encode([0, 10]), r"y must lie in 0 ... 9, got 10"),
        (lambda: vu_dl1.cross_entropy([0.5, 0.5], [1]), "target must have 2 entries, got 1"),
        (lambda: vu_dl1.get_accuracy([1, 2, 3], [1]), r"predictions must be \(1,\), got \(3,\)"),
        (lambda: vu_dl1.update_weights(*parameters(), *parameters()[::-1], 0.1),
         r"dW1 must be \(7, 19\), got \(1, 4\)"),
        (lambda: vu_dl1.forward_pass(INPUTS, [[1, 2, 3]], [0], W2, B2),
         "weights_input_hidden must have rows of 2 weights, got 3"),
        (lambda: vu_dl1.forward_pass(INPUTS, W1, [0, 0], W2, B2), "biases_hidden must have"),
        (lambda: vu_dl1.forward_pass(INPUTS, W1, B1, [[1, 2]], [0]),
         "weights_hidden_output must have rows of 3 weights, got 2"),
        (lambda: vu_dl1.forward_pass(X, *parameters()[:2], np.ones((3, 4)), 0),
         r"A1 must be \(N, 3\), got \(33, 19\)"),
        (lambda: vu_dl1.forward_pass(X, np.ones((8, 2)), 0, 0, 0), r"X must be \(N, 8\)"),
        (lambda: vu_dl1.backward_pass(X, Y, np.ones((33, 3)), Y, np.ones((4, 4))),
         r"W2 must be \(3, 4\), got \(4, 4\)"),
        (lambda: vu_dl1.backward_pass(X, Y, np.ones((3, 3)), Y, np.ones((3, 4))),
         r"A1 must be \(33, 3\), got \(3, 3\)"),
        (lambda: vu_dl1.train_and_evaluate(X, np.full(33, 7), X, Y, *parameters(), 1, 0.1),
         r"labels must lie in 0 ... 3, got 7"),
        (lambda: vu_dl1.train_and_evaluate(X, Y, X, Y, *parameters(), 1, np.inf),
         "learning_rate must be finite"),
    ],
)  # fmt: skip
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()
