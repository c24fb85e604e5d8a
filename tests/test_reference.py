"""The reference judged in turn: by finite differences, and by numbers worked out by hand."""

import ast
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp.recipes import _numpy, _numpy_mlp
from tests.activations import FROM_ACTIVATION, FUNCTIONS, SLOPES
from tests.reference import (
    ReferenceMLP,
    batchnorm_backward,
    batchnorm_forward,
    finite_difference,
    linear_backward,
    linear_forward,
    momentum_update,
    one_hot,
    reference_training_stats,
    softmax,
    softmax_cross_entropy,
    train_epoch,
)

# Central differences with h = 1e-6 carry an error of about 1e-16 / 1e-6 from rounding and h² from
# the third derivative: 1e-7 leaves room for losses around 10 summed over a batch.
FINITE_DIFFERENCE = {"rtol": 1e-6, "atol": 1e-7}


@pytest.fixture
def rng():
    return np.random.default_rng(20210208)


def make_mlp(rng, dtype=np.float64, **options):
    """5-4-3-6-3 with every activation and batch norm on two layers; 3 classes."""
    return ReferenceMLP(
        5,
        3,
        [4, 3, 6],
        ["sigmoid", "tanh", "relu", "identity"],
        lambda fan_in, fan_out: rng.standard_normal((fan_in, fan_out)).astype(dtype),
        lambda fan_out: rng.standard_normal((1, fan_out)).astype(dtype),
        **({"lr": 0.1, "momentum": 0.9, "num_bn_layers": 2} | options),
    )


def test_the_reference_uses_nothing_that_it_judges():
    """NumPy and the standard library alone, and each formula once."""
    defined = []
    for module in (_numpy, _numpy_mlp):
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert [alias.name for alias in node.names] == ["numpy"]
            elif isinstance(node, ast.ImportFrom):
                own = node.level == 1 and node.module == "_numpy"
                assert own or (
                    node.level == 0 and node.module in sys.stdlib_module_names | {"collections.abc"}
                )
        defined += [node.name for node in tree.body if hasattr(node, "name")]
    assert len(defined) == len(set(defined))


def test_finite_difference_of_a_known_function_restores_its_argument():
    x = np.array([[1.0, -2.0, 3.0]])
    before = x.copy()
    assert_allclose(finite_difference(lambda v: (v**3).sum(), x), 3 * before**2, rtol=1e-8)
    assert_array_equal(x, before)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_activation_derivative(name, rng):
    function = FUNCTIONS[name]
    x = rng.standard_normal((7, 5)) * 3
    expected = finite_difference(lambda v: function(v).sum(), x)
    assert_allclose(SLOPES[name](x), expected, **FINITE_DIFFERENCE)
    if name in FROM_ACTIVATION:
        assert_allclose(FROM_ACTIVATION[name](function(x)), expected, **FINITE_DIFFERENCE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", _numpy_mlp.ACTIVATIONS)
def test_activation_keeps_dtype_and_survives_extremes(name, dtype):
    function, derivative = _numpy_mlp.ACTIVATIONS[name]
    x = np.array([-1e4, -1, 0, 1, 1e4], dtype)
    y = function(x)
    assert y.dtype == derivative(y).dtype == dtype
    limits = {"identity": (-1e4, 1e4), "sigmoid": (0, 1), "tanh": (-1, 1), "relu": (0, 1e4)}
    assert (y[0], y[-1]) == limits[name]
    middle = {"identity": (0, 1), "sigmoid": (0.5, 0.25), "tanh": (0, 1), "relu": (0, 0)}
    assert (y[2], derivative(y)[2]) == middle[name]


def test_linear_gradients(rng):
    x, w, b = rng.standard_normal((6, 5)), rng.standard_normal((5, 3)), rng.standard_normal((1, 3))
    delta = rng.standard_normal((6, 3))

    def loss(_):
        return (delta * linear_forward(x, w, b)).sum()

    dw, db, dx = linear_backward(x, w, delta)
    assert_allclose(6 * dw, finite_difference(loss, w), **FINITE_DIFFERENCE)
    assert_allclose(6 * db, finite_difference(loss, b), **FINITE_DIFFERENCE)
    assert_allclose(dx, finite_difference(loss, x), **FINITE_DIFFERENCE)
    assert linear_backward(x, w, delta, need_dx=False)[2] is None
    assert_array_equal(linear_forward(x, w, b, "relu"), np.maximum(x @ w + b, 0))


def test_softmax_cross_entropy_by_hand():
    logits = np.log([[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]])
    labels = np.array([[0.0, 0.0, 1.0], [2.0, 3.0, 4.0]])
    loss, dlogits = softmax_cross_entropy(logits, labels)
    assert_allclose(loss, [math.log(8 / 5), 5 * math.log(4) + 4 * math.log(2)], rtol=1e-14)
    assert_allclose(
        dlogits, np.array([[1 / 8, 2 / 8, -3 / 8], [-7 / 4, -11 / 4, -7 / 2]]), rtol=1e-14
    )
    assert_allclose(softmax(logits), [[1 / 8, 2 / 8, 5 / 8], [1 / 4, 1 / 4, 1 / 2]], rtol=1e-14)


def test_softmax_cross_entropy_derivative(rng):
    """softmax - y is the gradient where the rows of y sum to 1."""
    logits = rng.standard_normal((5, 4)) * 3
    labels = softmax(rng.standard_normal((5, 4)))
    expected = finite_difference(lambda x: softmax_cross_entropy(x, labels)[0].sum(), logits)
    assert_allclose(softmax_cross_entropy(logits, labels)[1], expected, **FINITE_DIFFERENCE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_cross_entropy_of_huge_logits(dtype):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]], dtype)
    loss, dlogits = softmax_cross_entropy(logits, one_hot(np.array([0, 0, 0]), 2, dtype))
    assert loss.dtype == dlogits.dtype == dtype
    assert_allclose(loss, [0, 2e4, math.log(2)], rtol=1e-6)
    assert_array_equal(dlogits, [[0, 0], [-1, 1], [-0.5, 0.5]])


def test_batchnorm_forward_by_hand():
    x = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]])
    ones, zeros = np.ones((1, 2)), np.zeros((1, 2))
    y, norm, mean, var, running_mean, running_var = batchnorm_forward(
        x, 2 * ones, 3 * ones, zeros, ones, alpha=0.75
    )
    assert_array_equal(mean, [[3, 20]])
    assert_allclose(var, [[8 / 3, 200]])
    assert_allclose(norm, (x - [3, 20]) / np.sqrt([8 / 3, 200]), rtol=1e-8)
    assert_allclose(y, 2 * norm + 3)
    assert_allclose(running_mean, [[0.75, 5]])
    assert_allclose(running_var, [[0.75 + 8 / 12, 50.75]])
    y, _, _, _, *running = batchnorm_forward(x, ones, zeros, 2 * ones, 4 * ones, training=False)
    assert_allclose(y, (x - 2) / 2, rtol=1e-8)
    assert_array_equal(running, [2 * ones, 4 * ones])


def test_batchnorm_gradients(rng):
    x, delta = rng.standard_normal((2, 6, 4))
    gamma, beta = rng.standard_normal((2, 1, 4))

    def forward():
        return batchnorm_forward(x, gamma, beta, np.zeros((1, 4)), np.ones((1, 4)))

    def loss(_):
        return (delta * forward()[0]).sum()

    norm, mean, var = forward()[1:4]
    gradients = batchnorm_backward(delta, x, norm, mean, var, gamma)
    for gradient, argument in zip(gradients, (gamma, beta, x), strict=True):
        assert_allclose(gradient, finite_difference(loss, argument), **FINITE_DIFFERENCE)


def test_momentum_update_by_hand():
    w, velocity, grad = np.array([1.0, -2.0]), np.array([0.5, 0.5]), np.array([10.0, 20.0])
    momentum_update(w, velocity, grad, lr=0.1, momentum=0.5)
    assert_allclose(velocity, [0.25 - 1, 0.25 - 2])
    assert_allclose(w, [0.25, -3.75])
    momentum_update(w, velocity, grad, lr=0.1, momentum=0.0, weight_decay=0.5)
    assert_allclose(velocity, [-1 - 0.025, -2 + 0.375])
    assert_array_equal(grad, [10, 20])


def test_all_gradients_of_a_network_with_batchnorm(rng):
    """dW and db belong to the mean loss of the batch, dgamma and dbeta to the summed loss."""
    mlp = make_mlp(rng)
    x, labels = rng.standard_normal((9, 5)), one_hot(rng.integers(0, 3, 9), 3)

    def total(_):
        mlp.forward(x)
        return mlp.total_loss(labels)

    total(None)
    mlp.backward(labels)
    for layer in mlp.linear_layers:
        assert_allclose(9 * layer.dW, finite_difference(total, layer.W), **FINITE_DIFFERENCE)
        assert_allclose(9 * layer.db, finite_difference(total, layer.b), **FINITE_DIFFERENCE)
    for layer in mlp.bn_layers:
        assert_allclose(layer.dgamma, finite_difference(total, layer.gamma), **FINITE_DIFFERENCE)
        assert_allclose(layer.dbeta, finite_difference(total, layer.beta), **FINITE_DIFFERENCE)


def test_step_moves_every_parameter_by_its_rule(rng):
    mlp = make_mlp(rng, batchnorm_reduction="mean", weight_decay=0.25)
    x, labels = rng.standard_normal((9, 5)), one_hot(rng.integers(0, 3, 9), 3)
    mlp.forward(x)
    mlp.backward(labels)
    linear, bn = mlp.linear_layers[0], mlp.bn_layers[0]
    linear.momentum_W[:] = linear.momentum_b[:] = 1
    w, b, gamma, beta = (a.copy() for a in (linear.W, linear.b, bn.gamma, bn.beta))
    mlp.step()
    assert_allclose(linear.W, w + 0.9 - 0.1 * (linear.dW + 0.5 * w))
    assert_allclose(linear.b, b + 0.9 - 0.1 * linear.db)
    assert_allclose(bn.gamma, gamma - 0.1 / 9 * bn.dgamma)
    assert_allclose(bn.beta, beta - 0.1 / 9 * bn.dbeta)
    mlp.zero_grads()
    assert not any(np.any(g) for g in (linear.dW, linear.db, bn.dgamma, bn.dbeta))


def test_float32_stays_float32(rng):
    mlp = make_mlp(rng, np.float32)
    x, labels = rng.standard_normal((9, 5)), one_hot(rng.integers(0, 3, 9), 3)
    for _ in range(2):
        mlp.forward(x)
        mlp.backward(labels)
        mlp.step()
    arrays = [mlp.output, *mlp.states]
    arrays += [v for a in mlp.linear_layers + mlp.bn_layers for v in vars(a).values()]
    assert {a.dtype for a in arrays if isinstance(a, np.ndarray)} == {np.dtype(np.float32)}


def test_layers_without_bias(rng):
    mlp = ReferenceMLP(2, 2, [3], ["tanh", "identity"], lambda i, o: np.ones((i, o)), None)
    x = rng.standard_normal((4, 2))
    assert_allclose(mlp(x), np.tanh(x.sum(axis=1, keepdims=True)) * [3, 3])
    mlp.backward(one_hot(np.array([0, 1, 1, 1]), 2))
    mlp.step()
    assert mlp.linear_layers[0].b is None
    assert np.any(mlp.linear_layers[1].W != 1)


def test_training_stats_learn_a_separable_problem(rng):
    x = rng.standard_normal((210, 5))
    y = one_hot((x[:, :3] * 4).argmax(axis=1), 3)
    mlp = make_mlp(rng, batchnorm_reduction="mean")
    unread = object()
    np.random.seed(0)
    stats = reference_training_stats(mlp, ((x[:150], y[:150]), (x[150:], y[150:]), unread), 30, 16)
    assert [s.shape for s in stats] == [(30,)] * 4
    losses, errors, val_losses, val_errors = stats
    assert losses[-1] < 0.3 * losses[0]
    assert errors[-1] < 0.15 < errors[0]
    assert val_losses[-1] < 0.6
    assert val_errors[-1] < 0.2
    mlp.eval()
    mlp.forward(x[150:])
    assert val_errors[-1] == mlp.error(y[150:]) / 60


def test_training_stats_shuffle_one_index_array_before_every_epoch(rng, monkeypatch):
    mlp, by_hand = make_mlp(np.random.default_rng(1)), make_mlp(np.random.default_rng(1))
    x, y = rng.standard_normal((10, 5)), one_hot(rng.integers(0, 3, 10), 3)

    def rotate(order):
        order[:] = np.roll(order, 3)

    monkeypatch.setattr(np.random, "shuffle", rotate)
    losses, errors, *_ = reference_training_stats(mlp, ((x, y), (x, y), None), 2, 4)
    for epoch in range(2):
        loss, wrong = train_epoch(by_hand, x, y, 4, np.roll(np.arange(10), 3 * (epoch + 1)))
        assert (losses[epoch], errors[epoch]) == (loss / 10, wrong / 10)
    assert_array_equal(mlp.linear_layers[0].W, by_hand.linear_layers[0].W)


def test_eval_mode_normalises_with_running_statistics(rng):
    mlp = make_mlp(rng)
    x = rng.standard_normal((9, 5))
    mlp(x)
    mlp.eval()
    running = [v.copy() for bn in mlp.bn_layers for v in (bn.running_mean, bn.running_var)]
    assert_allclose(mlp(x[:1]), mlp(x)[:1], rtol=1e-12)
    after = [v for bn in mlp.bn_layers for v in (bn.running_mean, bn.running_var)]
    for left, right in zip(running, after, strict=True):
        assert_array_equal(left, right)
