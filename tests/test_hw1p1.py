"""CMU 11-785 HW1P1's interface, one test per promise: names, shapes, signs, sums and means."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import (
    MLP,
    Activation,
    BatchNorm,
    Criterion,
    Identity,
    Linear,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from tests import reference
from tests.networks import (
    ACTIVATION_CLASSES,
    AWKWARD_BATCHES,
    AWKWARD_SIZES,
    assert_close,
    assert_same_state,
    batch,
    build,
    gradients,
    state,
)
from tests.reference import ReferenceMLP

# Every size meets every other role once: (N, I, O).
SHAPES = [
    (AWKWARD_BATCHES[k % 5], size, AWKWARD_SIZES[(k + shift) % 9])
    for shift in (0, 4)
    for k, size in enumerate(AWKWARD_SIZES)
]
DEEP = [Sigmoid, Tanh, ReLU, Identity]

both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@pytest.fixture
def rng():
    return np.random.default_rng(11785)


def test_public_names():
    assert set(fastmlp.__all__) >= {
        "MLP", "Linear", "BatchNorm", "Identity", "Sigmoid", "Tanh", "ReLU", "Activation",
        "Criterion", "SoftmaxCrossEntropy", "get_training_stats",
    }  # fmt: skip


# Activations


@both_dtypes
@pytest.mark.parametrize("shape", [(1, 1), (7, 17), (33, 49)])
@pytest.mark.parametrize("cls", ACTIVATION_CLASSES)
def test_activation_keeps_its_output_for_the_derivative(cls, shape, dtype, rng):
    activation = cls()
    assert isinstance(activation, Activation)
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    function, derivative = reference.ACTIVATIONS[cls.__name__.lower()]
    y = activation(x)
    assert_close(y, function(x), 1e-6 if dtype == np.float32 else 1e-15)
    assert_array_equal(activation.forward(x), y)
    assert_array_equal(activation.state, y)
    assert y.dtype == dtype
    slope = activation.derivative()
    assert_close(
        np.broadcast_to(slope, shape), derivative(y), 2e-7 if dtype == np.float32 else 1e-15
    )
    assert cls is Identity or (slope.shape, slope.dtype) == (shape, dtype)


@pytest.mark.parametrize("cls", [Sigmoid, Tanh, ReLU])
def test_derivative_is_a_function_of_state(cls):
    activation = cls()
    activation(np.ones((2, 2)))
    activation.state = np.array([[0.0, 0.25], [0.5, 1.0]])
    expected = reference.ACTIVATIONS[cls.__name__.lower()][1](activation.state)
    assert_close(activation.derivative(), expected)


def test_relu_derivative_at_zero_is_zero():
    relu = ReLU()
    assert_array_equal(relu(np.array([[-1.0, -0.0, 0.0, 2.0]])), [[0, 0, 0, 2]])
    assert_array_equal(relu.derivative(), [[0, 0, 0, 1]])


# Loss


@both_dtypes
@pytest.mark.parametrize("row_sum", [1, 9])
@pytest.mark.parametrize(("samples", "classes"), [(1, 1), (7, 10), (33, 17), (8, 97)])
def test_softmax_cross_entropy(samples, classes, row_sum, dtype, rng):
    """Rows of y may have any sum; the derivative stays softmax(x) - y and is not divided by N."""
    logits = (3 * rng.standard_normal((samples, classes))).astype(dtype)
    labels = rng.random((samples, classes))
    labels = (row_sum * labels / labels.sum(axis=1, keepdims=True)).astype(dtype)
    criterion = SoftmaxCrossEntropy()
    assert isinstance(criterion, Criterion)
    loss = criterion(logits, labels)
    expected, dlogits = reference.softmax_cross_entropy(logits, labels)
    assert (loss.shape, loss.dtype) == ((samples,), dtype)
    assert_close(loss, expected, 1e-6 if dtype == np.float32 else 1e-14)
    derivative = criterion.derivative()
    assert (derivative.shape, derivative.dtype) == ((samples, classes), dtype)
    assert_close(derivative, dlogits, 1e-6 if dtype == np.float32 else 1e-14)
    assert_array_equal(criterion.forward(logits, labels), loss)
    for kept, value in (("logits", logits), ("labels", labels), ("loss", loss)):
        assert_array_equal(getattr(criterion, kept), value)


@both_dtypes
def test_huge_logits_have_finite_loss(dtype):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4]], dtype)
    criterion = SoftmaxCrossEntropy()
    loss = criterion(logits, np.array([[1, 0]] * 4, dtype))
    assert_close(loss, [0, 2e4, np.log(2), np.log(2)], 1e-7)
    assert_close(criterion.derivative(), [[0, 0], [-1, 1], [-0.5, 0.5], [-0.5, 0.5]], 1e-7)


# Linear


@both_dtypes
def test_linear_starts_from_its_initialisers(dtype, rng):
    w, b = rng.standard_normal((5, 3)).astype(dtype), rng.standard_normal((1, 3)).astype(dtype)
    calls = []

    def weight_init_fn(fan_in, fan_out):
        calls.append((fan_in, fan_out))
        return w

    def bias_init_fn(fan_out):
        calls.append((fan_out,))
        return b

    layer = Linear(5, 3, weight_init_fn, bias_init_fn)
    assert calls == [(5, 3), (3,)]
    assert_array_equal(layer.W, w)
    assert_array_equal(layer.b, b)
    for name, like in (("dW", w), ("db", b), ("momentum_W", w), ("momentum_b", b)):
        assert_array_equal(getattr(layer, name), np.zeros_like(like))
        assert getattr(layer, name).dtype == dtype


def test_bias_from_a_flat_initialiser_is_a_row():
    layer = Linear(2, 3, lambda d0, d1: np.ones((d0, d1)), lambda d: np.arange(float(d)))
    assert_array_equal(layer.b, [[0, 1, 2]])


@both_dtypes
@pytest.mark.parametrize(("samples", "fan_in", "fan_out"), SHAPES)
def test_linear_forward_and_backward(samples, fan_in, fan_out, dtype, rng):
    """dW and db are means over the batch, the returned gradient is not."""
    layer = Linear(fan_in, fan_out, lambda d0, d1: rng.standard_normal((d0, d1)).astype(dtype),
                   lambda d: rng.standard_normal((1, d)).astype(dtype))  # fmt: skip
    x = rng.standard_normal((samples, fan_in)).astype(dtype)
    delta = rng.standard_normal((samples, fan_out)).astype(dtype)
    y = layer.forward(x)
    assert y.dtype == dtype
    assert_close(y, reference.linear_forward(x.astype(float), layer.W, layer.b))
    dx = layer.backward(delta)
    assert dx.dtype == layer.dW.dtype == layer.db.dtype == dtype
    expected = reference.linear_backward(x.astype(float), layer.W, delta.astype(float))
    for actual, value in zip((layer.dW, layer.db, dx), expected, strict=True):
        assert_close(actual, value)


# Batch normalisation


def test_batchnorm_starts_from_the_identity():
    layer = BatchNorm(3)
    assert (layer.alpha, layer.eps) == (0.9, 1e-8)
    assert BatchNorm(3, alpha=0.5).alpha == 0.5
    for name in ("gamma", "running_var"):
        assert_array_equal(getattr(layer, name), np.ones((1, 3)))
    for name in ("beta", "dgamma", "dbeta", "running_mean"):
        assert_array_equal(getattr(layer, name), np.zeros((1, 3)))


@both_dtypes
@pytest.mark.parametrize(("samples", "features"), [(2, 1), (7, 17), (8, 16), (9, 49), (33, 97)])
def test_batchnorm_training(samples, features, dtype, rng):
    """Biased variance normalises and enters the running estimate; dgamma, dbeta are batch sums."""
    x, delta = rng.standard_normal((2, samples, features)).astype(dtype)
    layer = BatchNorm(features, alpha=0.75)
    layer.gamma[:], layer.beta[:] = rng.standard_normal((2, features))
    x64, gamma, beta = x.astype(float), layer.gamma.astype(float), layer.beta.astype(float)
    zeros, ones = np.zeros((1, features)), np.ones((1, features))
    expected = reference.batchnorm_forward(x64, gamma, beta, zeros, ones, 0.75)
    y = layer.forward(x)
    assert y.dtype == dtype
    # Two samples may lie close together: dividing by their deviation magnifies rounding.
    tolerance = 1e-11 if dtype == np.float64 else 1e-4
    names = ("out", "norm", "mean", "var", "running_mean", "running_var")
    for name, value in zip(names, expected, strict=True):
        assert_close(getattr(layer, name), value, tolerance)
    assert_array_equal(y, layer.out)
    assert_array_equal(layer.x, x)
    _, norm, mean, var, _, _ = expected
    dx = layer.backward(delta)
    assert dx.dtype == dtype
    backward = reference.batchnorm_backward(delta.astype(float), x64, norm, mean, var, gamma)
    for actual, value in zip((layer.dgamma, layer.dbeta, dx), backward, strict=True):
        assert_close(actual, value, tolerance)


@both_dtypes
def test_batchnorm_eval_uses_and_keeps_the_running_values(dtype, rng):
    layer = BatchNorm(17)
    layer.forward(rng.standard_normal((9, 17)).astype(dtype) + 2)
    running = layer.running_mean.copy(), layer.running_var.copy()
    x = rng.standard_normal((1, 17)).astype(dtype)
    y = layer.forward(x, eval=True)
    assert y.dtype == dtype
    assert_close(y, (x - running[0]) / np.sqrt(running[1] + 1e-8))
    assert_array_equal((layer.running_mean, layer.running_var), running)


# MLP


def test_sample_constructor_call_of_the_text():
    np.random.seed(8)
    weight_init_fn, bias_init_fn = np.random.randn, lambda d: np.zeros((1, d))
    activations, criterion = [Sigmoid(), Sigmoid(), Sigmoid(), Identity()], SoftmaxCrossEntropy()
    mlp = MLP(784, 10, [64, 64, 32], activations, weight_init_fn, bias_init_fn, criterion,
              0.008, momentum=0.9, num_bn_layers=0)  # fmt: skip
    assert [layer.W.shape for layer in mlp.linear_layers] == [
        (784, 64), (64, 64), (64, 32), (32, 10),
    ]  # fmt: skip
    assert all(isinstance(layer, Linear) for layer in mlp.linear_layers)
    assert not mlp.bn_layers
    assert (mlp.input_size, mlp.output_size, mlp.nlayers) == (784, 10, 4)
    assert (mlp.lr, mlp.momentum, mlp.num_bn_layers) == (0.008, 0.9, 0)
    assert mlp.train_mode
    assert not mlp.bn
    assert all(a is b for a, b in zip(mlp.activations, activations, strict=True))
    assert mlp.criterion is criterion
    y = mlp(np.random.randn(20, 784))
    assert_array_equal(mlp.output, y)
    mlp.backward(np.eye(10)[np.arange(20) % 10])
    mlp.step()
    arrays = [y, *state(mlp).values(), *gradients(mlp).values()]
    assert {a.dtype for a in arrays} == {np.dtype(np.float64)}


def test_initialisers_are_called_layer_by_layer():
    """weight_init_fn(in, out), then bias_init_fn(out): with a seed the order of draws matters."""
    calls = []

    def weight_init_fn(d0, d1):
        calls.append((d0, d1))
        return np.random.randn(d0, d1)

    def bias_init_fn(d):
        calls.append((d,))
        return np.random.randn(1, d)

    def initialise(cls):
        np.random.seed(3)
        arguments = [Tanh(), ReLU(), Identity()], weight_init_fn, bias_init_fn
        mlp = cls(5, 2, [4, 3], *arguments, SoftmaxCrossEntropy(), 0.1, num_bn_layers=1)
        return state(mlp), np.random.random()

    mlp, next_draw = initialise(MLP)
    assert calls == [(5, 4), (4,), (4, 3), (3,), (3, 2), (2,)]
    expected, expected_draw = initialise(ReferenceMLP)
    assert_same_state(mlp, expected)
    assert next_draw == expected_draw


def test_batchnorm_sits_between_linear_and_activation():
    mlp = build([5, 4, 3, 2], [Sigmoid, Tanh, Identity], num_bn_layers=1)
    x, _, _ = batch(9, 5, 2)
    mlp.forward(x)
    assert mlp.bn
    (bn,) = mlp.bn_layers
    assert isinstance(bn, BatchNorm)
    first, second, third = mlp.linear_layers
    assert_close(bn.x, reference.linear_forward(x, first.W, first.b))
    first_state, second_state, third_state = (activation.state for activation in mlp.activations)
    assert_close(first_state, reference.sigmoid(bn.out))
    assert_close(
        second_state, reference.tanh(reference.linear_forward(first_state, second.W, second.b))
    )
    assert_close(third_state, reference.linear_forward(second_state, third.W, third.b))
    assert_array_equal(mlp.output, third_state)


@pytest.mark.parametrize(
    ("sizes", "activations", "num_bn_layers"),
    [
        ([17, 10], [Identity], 0),
        ([17, 10], [Identity], 1),
        ([5, 1, 3], [ReLU, Identity], 0),
        ([15, 16, 17, 7, 10], DEEP, 0),
        ([47, 49, 48, 97, 3], DEEP, 2),
        ([16, 97, 47, 17, 10], DEEP, 4),
        ([8, 9, 5], [Tanh, Sigmoid], 1),
    ],
)
@pytest.mark.parametrize(
    ("samples", "dtype"), [*((n, np.float64) for n in AWKWARD_BATCHES), (9, np.float32)]
)
def test_training_by_hand(sizes, activations, num_bn_layers, samples, dtype):
    """Five steps on five batches: outputs, losses, errors, gradients and parameters.

    float32 is compared with float64 from the same float32 weights: each step adds an error of a few
    1e-6 of the gradients, which batch norm over nine samples can magnify tenfold.
    """
    tolerance = 1e-12 if dtype == np.float64 else 1e-4
    options = {"dtype": dtype, "momentum": 0.9, "num_bn_layers": num_bn_layers}
    mlp = build(sizes, activations, **options)
    expected = build(sizes, activations, ReferenceMLP, cast=np.float64, **options)
    for seed in range(5):
        x, _, y = batch(samples, sizes[0], sizes[-1], dtype=dtype, seed=seed)
        for network in (mlp, expected):
            network.zero_grads()
            network.forward(x)
            network.backward(y)
            network.step()
        assert mlp.output.dtype == dtype
        assert_close(mlp.output, expected.output, tolerance)
        assert_close(mlp.total_loss(y), expected.total_loss(y), tolerance)
        assert mlp.error(y) == expected.error(y)
        assert_same_state(gradients(mlp), gradients(expected), tolerance)
        assert_same_state(state(mlp), state(expected), tolerance)


def test_error_and_total_loss_are_of_the_last_forward():
    mlp = build([2, 2], lr=0.1)
    mlp.linear_layers[0].W = np.eye(2)
    mlp.linear_layers[0].b = np.zeros((1, 2))
    mlp.forward(np.log([[1.0, 3.0], [4.0, 1.0], [1.0, 1.5]]))
    y = np.array([[0, 1], [0, 1], [1, 0]])
    assert mlp.error(y) == 2
    assert_close(mlp.total_loss(y), np.log(4 / 3) + np.log(5) + np.log(2.5))


def test_step():
    """Momentum for W and b, none for gamma and beta; lr and momentum are read at each step."""
    mlp = build([3, 4, 2], num_bn_layers=1)
    mlp.lr, mlp.momentum = 0.25, 0.5
    linear, bn = mlp.linear_layers[0], mlp.bn_layers[0]
    linear.W[:], linear.dW[:], linear.momentum_W[:] = 1, 2, 3
    linear.b[:], linear.db[:], linear.momentum_b[:] = 4, 5, 6
    bn.dgamma[:], bn.dbeta[:] = 7, 8
    mlp.step()
    assert_array_equal(linear.momentum_W, np.full((3, 4), 1.0))
    assert_array_equal(linear.W, np.full((3, 4), 2.0))
    assert_array_equal(linear.momentum_b, np.full((1, 4), 1.75))
    assert_array_equal(linear.b, np.full((1, 4), 5.75))
    mlp.step()
    assert_array_equal(bn.gamma, np.full((1, 4), 1 - 2 * 0.25 * 7))
    assert_array_equal(bn.beta, np.full((1, 4), -2 * 0.25 * 8.0))


def test_zero_grads():
    mlp = build([3, 4, 2], num_bn_layers=1)
    x, _, y = batch(9, 3, 2)
    mlp.forward(x)
    mlp.backward(y)
    assert all(np.any(gradient) for name, gradient in gradients(mlp).items() if name != "db0")
    mlp.zero_grads()
    assert not any(np.any(gradient) for gradient in gradients(mlp).values())


def test_train_and_eval():
    mlp = build([3, 4, 2], num_bn_layers=1)
    x, _, _ = batch(9, 3, 2)
    training_output = mlp.forward(x).copy()
    before = state(mlp)
    mlp.eval()
    assert not mlp.train_mode
    output = mlp.forward(x).copy()
    linear, bn = mlp.linear_layers[0], mlp.bn_layers[0]
    norm = (reference.linear_forward(x, linear.W, linear.b) - bn.running_mean) / np.sqrt(
        bn.running_var + bn.eps
    )
    hidden = reference.relu(bn.gamma * norm + bn.beta)
    last = mlp.linear_layers[1]
    assert_close(output, reference.linear_forward(hidden, last.W, last.b))
    assert_same_state(state(mlp), before)
    mlp.train()
    assert mlp.train_mode
    assert_array_equal(mlp.forward(x), training_output)
