"""Hand-in 2's cost_grad and NetClassifier against the formulas in NumPy, and their refusals."""

import numpy as np
import pytest

from fastmlp.recipes import _numpy, handin2
from tests.networks import assert_close, batch
from tests.reference import finite_difference

X, CLASSES, _ = batch(33, 7, 4)


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = {"W1": (7, 19), "b1": (1, 19), "W2": (19, 4), "b2": (1, 4)}
    return {name: rng.normal(0, 0.5, shape).astype(dtype) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("c", [0.0, 0.01])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_cost_grad_follows_the_formulas(dtype, c, reduction):
    params = parameters(dtype)
    loss, grads = handin2.cost_grad(X.astype(dtype), CLASSES, params, c, reduction=reduction)
    expected_loss, expected = _numpy.cost_grad(X, CLASSES, params, c, reduction == "mean")
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected_loss, rel=1e-12 if dtype == np.float64 else 1e-5)
    assert grads.keys() == expected.keys() == {"d_w1", "d_b1", "d_w2", "d_b2"}
    for name, gradient in grads.items():
        assert gradient.dtype == dtype
        assert gradient.shape == params[name[2:].replace("w", "W")].shape
        assert_close(gradient, expected[name].astype(dtype))


def test_the_sum_is_the_default_and_biases_may_be_vectors():
    params = parameters()
    loss, grads = handin2.cost_grad(X, CLASSES, params)
    assert loss == handin2.cost_grad(X, CLASSES, params, 0.0, reduction="sum")[0]
    flat = params | {"b1": params["b1"][0], "b2": params["b2"][0]}
    assert_close(handin2.cost_grad(X, CLASSES, flat)[1]["d_b1"], grads["d_b1"])


def test_pixels_are_numbers():
    pixels = np.random.default_rng(0).integers(0, 256, (33, 7), np.uint8)
    results = []
    for x in (pixels, pixels.astype(float)):
        net = handin2.NetClassifier().fit(
            x, CLASSES, init_params=parameters(), lr=1e-6, epochs=1, seed=0
        )
        loss, grads = handin2.cost_grad(x, CLASSES, parameters())
        results.append(
            (net.params["W1"], net.predict(x), net.score(x, CLASSES), loss, grads["d_w1"])
        )
    for got, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("mean", [False, True])
def test_transcription_s_gradients_are_derivatives(mean):
    params = parameters()
    gradients = _numpy.cost_grad(X, CLASSES, params, 0.01, mean)[1]
    for name, p in params.items():
        expected = finite_difference(
            lambda _: _numpy.cost_grad(X, CLASSES, params, 0.01, mean)[0], p
        )
        gradient = gradients[f"d_{name.lower()}"]
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


def test_relu_s_derivative_at_zero_is_zero():
    params = {name: np.zeros_like(p) for name, p in parameters().items()}
    params["W2"] += 1
    assert not handin2.cost_grad(X, CLASSES, params)[1]["d_w1"].any()


def test_fit_follows_steps_of_cost_grad():
    params = parameters()
    net = handin2.NetClassifier().fit(
        X, CLASSES, init_params=params, batch_size=33, lr=0.2, c=0.01, epochs=3, seed=0
    )
    for _ in range(3):
        grads = handin2.cost_grad(X, CLASSES, params, 0.01, reduction="mean")[1]
        params = {name: p - 0.2 * grads[f"d_{name.lower()}"] for name, p in params.items()}
    for name, p in params.items():
        assert_close(net.params[name], p)
    loss = handin2.cost_grad(X, CLASSES, params, reduction="mean")[0]
    assert net.hist["train_loss"][-1] == pytest.approx(loss)


def test_classifier_learns_predicts_and_scores():
    x, y = np.random.default_rng(0).standard_normal((400, 2)), np.zeros(400, int)
    y[x[:, 0] > 0], y[x[:, 1] > 1] = 1, 2
    net = handin2.NetClassifier(hidden_size=16)
    assert net.fit(x[:300], y[:300], x[300:], y[300:], epochs=60, seed=1) is net
    assert {name: p.shape for name, p in net.params.items()} == {
        "W1": (2, 16), "b1": (1, 16), "W2": (16, 3), "b2": (1, 3),
    }  # fmt: skip
    assert {name: len(values) for name, values in net.hist.items()} == {
        "train_loss": 60, "train_acc": 60, "val_loss": 60, "val_acc": 60,
    }  # fmt: skip
    score = net.score(x[300:], y[300:])
    assert score == np.mean(net.predict(x[300:]) == y[300:]) == net.hist["val_acc"][-1]
    assert score > 0.9
    assert net.score(x[:300], y[:300]) == net.hist["train_acc"][-1]
    again = handin2.NetClassifier(hidden_size=16).fit(x[:300], y[:300], epochs=60, seed=1)
    assert again.hist["val_loss"] == again.hist["val_acc"] == []
    np.testing.assert_array_equal(again.params["W1"], net.params["W1"])


def test_given_parameters_stay_and_cost_grad_is_a_method():
    params = parameters(np.float32)
    before = {name: p.copy() for name, p in params.items()}
    net = handin2.NetClassifier().fit(X.astype(np.float32), CLASSES, init_params=params, epochs=1)
    for name, p in before.items():
        np.testing.assert_array_equal(params[name], p)
        assert net.params[name].dtype == np.float32
    assert net.cost_grad is handin2.cost_grad


def test_missing_keys_and_wrong_shapes_are_named():
    params = parameters()
    with pytest.raises(ValueError, match="keys W1, b1, W2, b2, lacks b1, b2"):
        handin2.cost_grad(X, CLASSES, {"W1": params["W1"], "W2": params["W2"]})
    for name, wrong, message in (
        ("W1", np.ones((6, 19)), r"W1 must be \(7, 19\), got \(6, 19\)"),
        ("b1", np.ones((1, 18)), r"b1 must be \(1, 19\), got \(1, 18\)"),
        ("W2", np.ones((4, 19)), r"W2 must be \(19, 19\), got \(4, 19\)"),
        ("b2", np.ones((4, 1)), r"b2 must be \(1, 4\), got \(4, 1\)"),
        ("W2", np.ones(4), r"W2 must be a matrix, got shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            handin2.cost_grad(X, CLASSES, params | {name: wrong})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (None, "params must be a mapping of W1, b1, W2, b2, got None"),
        (parameters() | {"b2": None}, "b2 must hold floats or integers, got dtype object"),
        (parameters() | {"W1": 1j * X}, "W1 must hold floats or integers, got dtype complex128"),
    ],
)
def test_wrong_types_are_named(params, message):
    with pytest.raises(TypeError, match=message):
        handin2.cost_grad(X, CLASSES, params)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full(33, 4), r"labels must lie in 0 ... 3, got 4"),
        (np.full(33, -2), r"labels must lie in 0 ... 3, got -2"),
        (np.zeros(5, int), r"labels must have 33 entries"),
    ],
)
def test_labels_are_checked(labels, message):
    with pytest.raises(ValueError, match=message):
        handin2.cost_grad(X, labels, parameters())
    with pytest.raises(ValueError, match=message):
        handin2.NetClassifier().fit(X, labels, init_params=parameters())


def test_validation_data_come_in_pairs():
    with pytest.raises(ValueError, match="y_val must be given with X_val"):
        handin2.NetClassifier().fit(X, CLASSES, X)
    with pytest.raises(ValueError, match="X_val must be given with y_val"):
        handin2.NetClassifier().fit(X, CLASSES, y_val=CLASSES)


def test_other_refusals():
    with pytest.raises(ValueError, match="reduction must be 'sum' or 'mean', got 'none'"):
        handin2.cost_grad(X, CLASSES, parameters(), reduction="none")
    with pytest.raises(RuntimeError, match="call fit before"):
        handin2.NetClassifier().predict(X)
