"""VU Deep Learning, assignment 1: a sigmoid network in Python lists, then in NumPy arrays.

The write-up gives both versions of a function the same name. Here the first argument decides: a
list of numbers, one sample, takes the version of lists; a matrix, a sample per row, that of arrays.
float32 stays float32, all else computes in float64; uint8 pixels are numbers from 0 to 255.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import datasets
from ..kernels.activation import ACTIVATIONS, activation_backward
from ..kernels.linear import linear_backward
from ..layers import Sigmoid
from ..mlp import MLP
from ..validation import check_labels, check_number, check_shape, label_rows
from . import _numpy, _scalar_net
from ._networks import (
    Arrays,
    affine,
    as_numbers,
    as_rows,
    float_dtype,
    parameters,
    softmax_rows,
    two_layers,
)

_NAMES = "W1", "b1", "W2", "b2"


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)): a float for a number, an array of the same shape for an array."""
    return _scalar_net.sigmoid(float(x)) if np.ndim(x) == 0 else Sigmoid().forward(x)


def sigmoid_derivative(output: Any) -> Any:
    """output (1 - output): the slope of the sigmoid where its value is ``output``."""
    return output * (1 - output)


def softmax(x: Any) -> Any:
    """exp(x_j) / sum_k exp(x_k), safe from overflow: of a list, or of every row of a matrix."""
    return _scalar_net.softmax(x) if _is_sample(x) else softmax_rows("x", x)


def cross_entropy(output: Any, target: Any) -> float:
    """-sum_k t_k log y_k of one sample; of a batch, (N, K) both, the mean over its samples.

    In lists an output below 1e-15 counts as that, as in the write-up, which does not show the
    version of arrays; there a 0 counts as the smallest normal number.
    """
    if _is_sample(output):
        return _scalar_net.cross_entropy(output, target)
    p = as_rows("output", output)
    labels = label_rows(check_labels("target", target, *p.shape), p.shape[1], p.dtype)
    return float(_numpy.cross_entropies(labels, p).mean(dtype=np.float64))


def forward_pass(inputs: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> tuple[Any, Any, Any, Any]:
    """(hidden input, hidden output, output input, output).

    Lists: forward_pass(inputs, weights_input_hidden, biases_hidden, weights_hidden_output,
    biases_output), weights in a list per unit; returns lists.
    Arrays: forward_pass(X, W1, b1, W2, b2), X (N, D), W1 (D, H), b1 (1, H), W2 (H, K), b2 (1, K);
    returns Z1, A1, Z2, A2. Raises ValueError, which names the array that does not fit.
    """
    if _is_sample(inputs):
        return _scalar_net.forward_pass(inputs, w1, b1, w2, b2)
    z1 = affine(("X", "W1", "b1"), inputs, w1, b1)
    a1 = Sigmoid().forward(z1)
    z2 = affine(("A1", "W2", "b2"), a1, w2, b2)
    return z1, a1, z2, softmax_rows("Z2", z2)


def backward_pass(*arguments: Any, as_printed: bool = False) -> tuple[Any, Any, Any, Any]:
    """The gradients of both layers' weights and biases, hidden layer first.

    Lists: backward_pass(inputs, hidden_layer_input, hidden_layer_output, output_layer_input,
    outputs, target, weights_hidden_output). As printed, the write-up takes the sigmoid's slope
    s (1 - s) of the hidden layer's input; that of its output is the derivative, and is used unless
    as_printed. In the write-up's own example both give the same.
    Arrays: backward_pass(X, Y, A1, A2, W2), Y (N, K) rows; returns dW1, db1, dW2, db2 of the mean
    loss.
    """
    if _is_sample(arguments[0]):
        inputs, hidden_in, hidden_out, _, outputs, target, w2 = arguments
        slope_of = hidden_in if as_printed else hidden_out
        return _scalar_net.backward_pass(inputs, hidden_out, outputs, target, w2, slope_of)
    return _backward_arrays(*arguments)


def _backward_arrays(X: Any, Y: Any, A1: Any, A2: Any, W2: Any) -> Arrays:
    dtype = float_dtype(X, A1, A2, W2)
    x, a1, a2, w2 = (np.ascontiguousarray(array, dtype) for array in (X, A1, A2, W2))
    check_shape("W2", w2, (a1.shape[1], a2.shape[1]))
    check_shape("A1", a1, (len(x), a1.shape[1]))
    dz2 = a2 - label_rows(check_labels("Y", Y, len(x), a2.shape[1]), a2.shape[1], dtype)
    dw1 = np.empty((x.shape[1], a1.shape[1]), dtype)
    dw2 = np.empty_like(w2)
    db1, db2 = np.empty((1, a1.shape[1]), dtype), np.empty((1, a2.shape[1]), dtype)
    dz1 = np.empty_like(a1)
    linear_backward(dw2, db2, dz1, a1, w2, dz2)
    activation_backward(dz1.reshape(-1), dz1.reshape(-1), a1.reshape(-1), ACTIVATIONS["sigmoid"])
    # Without an input gradient the weights are not read: only their shape counts.
    linear_backward(dw1, db1, None, x, dw1, dz1)
    return dw1, db1, dw2, db2


def update_weights(
    W1: Any, b1: Any, W2: Any, b2: Any, dW1: Any, db1: Any, dW2: Any, db2: Any, learning_rate: float
) -> Arrays:
    """Each parameter minus learning_rate times its gradient, as new arrays.

    ValueError names the gradient whose shape is not its parameter's.
    """
    pairs = list(zip((W1, b1, W2, b2), map(np.asarray, (dW1, db1, dW2, db2)), strict=True))
    for name, (p, g) in zip(_NAMES, pairs, strict=True):
        check_shape(f"d{name}", g, np.shape(p))
    w1, b1, w2, b2 = (p - learning_rate * g for p, g in pairs)
    return w1, b1, w2, b2


def predict(X: Any, W1: Any, b1: Any, W2: Any, b2: Any) -> np.ndarray:
    """The most likely class of every row of X, (N,)."""
    x = as_numbers(X)
    return two_layers(x, _NAMES, (W1, b1, W2, b2), Sigmoid()).predict(x)


def get_accuracy(predictions: Any, labels: Any) -> float:
    """The fraction of predictions, (N,), that equal the labels, (N,)."""
    predictions, labels = np.asarray(predictions), np.asarray(labels)
    check_shape("predictions", predictions, labels.shape)
    return float(np.mean(predictions == labels))


def one_hot_encode(y: Any, num_classes: int = 10) -> np.ndarray:
    """Classes (N,) as rows (N, num_classes) float64; ValueError names one out of range."""
    return label_rows(check_labels("y", y, len(y), num_classes), num_classes, np.float64)


def normalize_data(data: Any) -> np.ndarray:
    """2 (x - min) / (max - min) - 1, with the minimum and maximum of all entries."""
    x = as_numbers(data)
    return 2 * (x - x.min()) / (x.max() - x.min()) - 1


def load_synth(
    num_train: int = 60_000, num_val: int = 10_000, seed: int = 0
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray], int]:
    """((x_train, y_train), (x_val, y_val), 2): x (N, 2) float64, y (N,) int64."""
    data = datasets.load_synth(num_train, num_val, seed)
    return (data.train_x, data.train_y), (data.test_x, data.test_y), 2


def xavier(D: int, H: int, K: int, seed: Any = None) -> Arrays:
    """W1, b1, W2, b2, float64: weights N(0, 1 / fan_in), as the write-up's "Xavier"; biases 0."""
    generator = np.random.default_rng(seed)
    w1, w2 = (generator.standard_normal(size) / np.sqrt(size[0]) for size in ((D, H), (H, K)))
    return w1, np.zeros((1, H)), w2, np.zeros((1, K))


def network(X: Any, arrays: Any, learning_rate: float, dtype: Any = None) -> MLP:
    """The sigmoid network of those W1, b1, W2, b2 for the rows of X, to be trained by ``fit``."""
    rate = check_number("learning_rate", learning_rate)
    return two_layers(np.asarray(X), _NAMES, arrays, Sigmoid(), rate, dtype=dtype)


def train_and_evaluate(
    X_train: Any, y_train: Any, X_val: Any, y_val: Any, W1: Any, b1: Any, W2: Any, b2: Any,
    epochs: int, learning_rate: float, *, batch_size: int | None = None, seed: Any = None,
    callbacks: Any = (),
) -> tuple[Any, ...]:  # fmt: skip
    """Gradient descent from W1, b1, W2, b2, which are left as they are.

    X_train (N, D), y_train (N, K) rows or (N,) classes; X_val and y_val likewise
    batch_size : None for full batches, as printed; else batches shuffled by seed
    callbacks : of ``MLP.fit``
    Returns W1, b1, W2, b2, training_losses, training_accuracies, validation_accuracies: one figure
    per epoch, training's before its updates, validation's after.
    """
    x, xv = as_numbers(X_train), as_numbers(X_val)
    mlp = network(x, (W1, b1, W2, b2), learning_rate)
    history = mlp.fit(
        x, y_train, epochs=epochs, batch_size=batch_size or len(x),
        shuffle=batch_size is not None, seed=seed, validation_data=(xv, y_val),
        callbacks=callbacks,
    )  # fmt: skip
    return (
        *parameters(mlp), history.train_loss, [1 - error for error in history.train_error],
        [1 - error for error in history.val_error],
    )  # fmt: skip


def _is_sample(x: Any) -> bool:
    """Whether x is one sample's list of numbers, not a matrix."""
    return np.ndim(x) == 1
