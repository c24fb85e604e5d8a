"""ECE421, assignment 2: a 784-1000-10 network on notMNIST, full batches with momentum.

Write-up one trains on the total cross-entropy, write-up two on the average. Functions keep the
write-ups' names, arguments and results. float32 stays float32, all else computes in float64; uint8
pixels are numbers from 0 to 255, as for NumPy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import datasets
from ..history import History
from ..layers import ReLU
from ..mlp import MLP
from ..validation import check_labels, check_number, check_shape, label_rows
from . import _numpy
from ._experiment import Measure, Outcome, Recipe, Setting, compare, seconds_of
from ._figures import ACCURACY, LOSS, draw, percent, train_and_valid
from ._networks import (
    affine,
    as_numbers,
    as_rows,
    check_together,
    float_dtype,
    gradients,
    parameters,
    softmax_rows,
    two_layers,
)

ALPHA, TOTAL_ALPHA, GAMMA, HIDDEN_UNITS = 0.1, 1e-5, 0.9, 1000

# Of the course's notMNIST.npz. From another file, accuracies are asked for that a PyTorch run on
# 10,000 images of the parent set comes near to.
WHOLE_TRAINING_PART = 10_000

# What the velocities of write-up two start from.
FIRST_VELOCITY = 1e-5

_NAMES = "W[1]", "b[1]", "W[2]", "b[2]"


def relu(x: Any) -> np.ndarray:
    """max(x, 0) of every entry, the shape of x. Both write-ups, section 1.1."""
    return ReLU().forward(x)


def softmax(x: Any) -> np.ndarray:
    """exp(x_j) / sum_k exp(x_k) of every row of x, (N, K), safe from overflow. Section 1.1."""
    return softmax_rows("x", x)


def compute(X: Any, W: Any, b: Any) -> np.ndarray:
    """X W + b, (N, O), of X (N, I), W (I, O) and b (1, O) or (O,).

    Write-up one calls it compute_layer, the course's handout computeLayer.
    """
    return affine(("X", "W", "b"), X, W, b)


compute_layer = computeLayer = compute


def average_ce(target: Any, prediction: Any) -> float:
    """-1/N sum_n sum_k y log p: the mean over samples.

    target : (N, K) rows, or (N,) classes    prediction : (N, K) probabilities
    A probability of 0 counts as the smallest normal number of its dtype. Both write-ups, 1.1.
    """
    return float(_cross_entropies(target, prediction).mean(dtype=np.float64))


def total_ce(target: Any, prediction: Any) -> float:
    """-sum_n sum_k y log p: the sum over samples, which write-up one trains on (section 1.2)."""
    return float(_cross_entropies(target, prediction).sum(dtype=np.float64))


averageCE = average_ce


def grad_ce(target: Any, logits: Any, per_sample: bool = False) -> np.ndarray:
    """The gradient of average_ce(target, softmax(logits)) with respect to the logits.

    target : (N, K) rows, or (N,) classes    logits : (N, K)
    per_sample False: the mean over the batch of softmax(logits) - target, (1, K), as write-up one
        has it (equation 3).
    per_sample True: (softmax(logits) - target) / N, (N, K), which backpropagation needs; write-up
        two, section 1.2.
    """
    gradient = grad_total_ce(target, logits)
    return gradient / len(gradient) if per_sample else gradient.mean(axis=0, keepdims=True)


def gradCE(target: Any, logits: Any) -> np.ndarray:
    """``grad_ce`` per sample, (N, K): write-up two's name and form (section 1.2)."""
    return grad_ce(target, logits, per_sample=True)


def grad_total_ce(target: Any, logits: Any) -> np.ndarray:
    """The gradient of total_ce: softmax(logits) - target, (N, K). Write-up one, section 1.2."""
    p = softmax(logits)
    return p - label_rows(check_labels("target", target, *p.shape), p.shape[1], p.dtype)


def xavier_init(neurons_in: int, n_units: int, neurons_out: int) -> np.ndarray:
    """N(0, 2 / (neurons_in + neurons_out)), (neurons_in, n_units) float64.

    From NumPy's global generator. Write-up two calls it with (784, 1000, 10) and (1000, 10, 1).
    """
    return np.random.normal(0, np.sqrt(2 / (neurons_in + neurons_out)), (neurons_in, n_units))


def accuracy(label: Any, label_pred: Any) -> float:
    """The fraction of rows, (N, K) both, whose largest prediction is at the label's 1."""
    label, label_pred = np.asarray(label), np.asarray(label_pred)
    check_shape("label_pred", label_pred, label.shape)
    return _numpy.accuracy(label, label_pred)


def compute_gradients(
    dataIN: Any, label: Any, W: Any, b: Any, loss: str = "average"
) -> tuple[list[Any], list[Any]]:
    """(gradW, gradb) of a two-layer ReLU network, each [0, hidden, output] as in write-up two.

    dataIN : (N, D)    label : (N, K) rows, or (N,) classes    W, b : [None, hidden, output]
    loss : "average" as write-up two, or "total" as write-up one: N times as much
    """
    for name, arrays in (("W", W), ("b", b)):
        if len(arrays) != 3:
            raise ValueError(f"{name} must be [None, hidden, output], got {len(arrays)} entries")
    x = as_numbers(dataIN)
    mlp = two_layers(x, _NAMES, (W[1], b[1], W[2], b[2]), ReLU())
    mlp.forward(x)
    mlp.backward(label)
    scale = _scale(loss, len(x))
    w1, b1, w2, b2 = (scale * gradient for gradient in gradients(mlp))
    return [0, w1, w2], [0, b1, b2]


class Training(NamedTuple):
    """What ``training`` returns: the parameters, [None, hidden, output], and figures per epoch.

    Losses are means per sample, or sums where the total loss was trained on; each is taken after
    the epoch's update. The validation's are empty without validation data.
    """

    W: list[Any]
    b: list[Any]
    loss_train: list[float]
    acc_train: list[float]
    loss_valid: list[float]
    acc_valid: list[float]


def training(
    data_train: Any, label_train: Any, epochs: int, alpha: float, gamma: float, hidden_units: int,
    *, data_valid: Any = None, label_valid: Any = None, loss: str = "average", dtype: Any = None,
    callbacks: Any = (),
) -> Training:  # fmt: skip
    """Full-batch gradient descent with momentum: v = gamma v + alpha grad, W = W - v.

    data_train : (N, D)    label_train : (N, K) rows; data_valid, label_valid likewise
    loss : "average", write-up two, or "total", write-up one, whose gradients are N times as large
    dtype : float32 or float64, by default that of data_train; callbacks : of ``MLP.fit``
    Weights are drawn by ``xavier_init``, biases start at 0, velocities at 1e-5 (section 1.3).
    """
    label_train = np.asarray(label_train)
    if label_train.ndim != 2:
        raise ValueError(f"label_train must be (N, K) rows, got {label_train.shape}")
    check_together(("data_valid", "label_valid"), data_valid, label_valid)
    scale = _scale(loss, len(label_train))
    x = as_numbers(data_train, dtype)
    mlp = _network(
        x, (hidden_units, label_train.shape[1]), dtype,
        scale * check_number("alpha", alpha), gamma,
    )  # fmt: skip
    valid = None if data_valid is None else (as_numbers(data_valid, dtype), label_valid)
    history = mlp.fit(
        x, label_train, epochs=epochs, batch_size=len(label_train), shuffle=False,
        validation_data=valid, callbacks=callbacks,
    )  # fmt: skip
    figures = _after_each_epoch(mlp, x, label_train, history)
    w1, b1, w2, b2 = parameters(mlp)
    losses, accuracies = figures
    return Training(
        [None, w1, w2], [None, b1, b2],
        [value * scale for value in losses], accuracies,
        [value * (1 if loss == "average" else len(label_valid)) for value in history.val_loss],
        [1 - error for error in history.val_error],
    )  # fmt: skip


def _after_each_epoch(mlp: MLP, x: Any, labels: Any, history: History) -> tuple[Any, Any]:
    """Training losses and accuracies after each epoch.

    A full batch's figures are taken before its update: they are those after the epoch before.
    """
    if not history.train_loss:
        return [], []
    loss, error = mlp.evaluate(x, labels)
    errors = [*history.train_error[1:], error]
    return [*history.train_loss[1:], loss], [1 - value for value in errors]


def _network(x: np.ndarray, sizes: tuple[int, int], dtype: Any, lr: float, gamma: float) -> MLP:
    arrays = _first_parameters(x.shape[-1], *sizes)
    dtype = dtype or float_dtype(x)
    mlp = two_layers(x, _NAMES, arrays, ReLU(), lr, momentum=gamma, dtype=dtype)
    # W = W - v here, W = W + v in the library.
    mlp.velocities[:] = -FIRST_VELOCITY
    return mlp


def _first_parameters(inputs: int, hidden: int, outputs: int) -> list[np.ndarray]:
    return [
        xavier_init(inputs, hidden, outputs), np.zeros((1, hidden)),
        xavier_init(hidden, outputs, 1), np.zeros((1, outputs)),
    ]  # fmt: skip


def _scale(loss: str, samples: int) -> int:
    """By how much gradients exceed those of the mean loss."""
    if loss not in ("average", "total"):
        raise ValueError(f"loss must be 'average' or 'total', got {loss!r}")
    return 1 if loss == "average" else samples


def _cross_entropies(target: Any, prediction: Any) -> np.ndarray:
    p = as_rows("prediction", prediction)
    return _numpy.cross_entropies(
        label_rows(check_labels("target", target, *p.shape), p.shape[1], p.dtype), p
    )


def average_loss(setting: Setting) -> Outcome:
    """Write-up two: 200 epochs on the average loss, alpha 0.1, gamma 0.9 (section 1.3)."""
    return _experiment(
        setting, "average", ALPHA,
        {"training accuracy": (0.9842, 0.98, 0.99), "validation accuracy": (0.9143, 0.905, 0.90)},
        {"training loss": 0.0918, "validation loss": 0.3018},
    )  # fmt: skip


def total_loss(setting: Setting) -> Outcome:
    """Write-up one: 200 epochs on the total loss, alpha 1e-5, gamma 0.9 (section 1.3)."""
    return _experiment(
        setting, "total", TOTAL_ALPHA,
        {"training accuracy": (0.968, 0.96, 0.975), "validation accuracy": (0.902, 0.895, 0.895)},
        {},
    )  # fmt: skip


def _experiment(
    setting: Setting, loss: str, alpha: float,
    accuracies: dict[str, tuple[float, float, float]], losses: dict[str, float],
) -> Outcome:  # fmt: skip
    """accuracies : reported, to be reached on notMNIST.npz, to be reached on another sample."""
    data = datasets.load("notmnist", setting.data_dir)
    step = setting.choose(1, 10)
    x, y = _part(data.train_x, data.train_y, step)
    xv, yv = _part(data.valid_x, data.valid_y, step)
    epochs = setting.choose(200, 10)

    def run(epochs: int, callbacks: Any = ()) -> Training:
        np.random.seed(0)
        return training(
            x, y, epochs, alpha, GAMMA, HIDDEN_UNITS,
            data_valid=xv, label_valid=yv, loss=loss, dtype=np.float32, callbacks=callbacks,
        )  # fmt: skip

    callbacks = setting.begin(f"ECE421: {loss} loss", epochs)
    result, seconds = seconds_of(lambda: run(epochs, callbacks))
    picture = draw(
        setting.out / f"{loss}_loss.png",
        f"ECE421 A2: notMNIST, 784-1000-10 ReLU, {loss} loss, α {alpha:g}, γ {GAMMA:g}, full batch",
        train_and_valid(
            LOSS,
            np.divide(result.loss_train, _scale(loss, len(x))),
            np.divide(result.loss_valid, _scale(loss, len(xv))),
        ),
        train_and_valid(ACCURACY, percent(result.acc_train), percent(result.acc_valid)),
    )
    raced = setting.choose(20, 3)

    def transcription() -> Any:
        train, valid = (x.astype(float), y.astype(float)), (xv.astype(float), yv.astype(float))
        return lambda: _numpy.ece421_training(
            train, valid, _first_parameters(784, HIDDEN_UNITS, 10), raced, alpha, GAMMA,
            loss == "total",
        )  # fmt: skip

    timing = compare(
        setting, f"{raced} full-batch epochs, both parts evaluated after each",
        transcription, lambda: run(raced),
    )  # fmt: skip
    bound = 1 if len(data.train_y) == WHOLE_TRAINING_PART else 2
    reached = {
        "training accuracy": result.acc_train[-1],
        "validation accuracy": result.acc_valid[-1],
        "training loss": result.loss_train[-1] / _scale(loss, len(x)),
        "validation loss": result.loss_valid[-1] / _scale(loss, len(xv)),
    }
    test = _part(data.test_x, data.test_y, step)
    measures = [
        *(
            Measure(what, row[0], reached[what], at_least=row[bound])
            for what, row in accuracies.items()
        ),
        Measure("test accuracy", 0.901 if loss == "total" else None, _test_accuracy(result, *test)),
        *(
            Measure(what, losses.get(what), reached[what])
            for what in ("training loss", "validation loss")
        ),
    ]
    return Outcome(
        f"ece421, {loss} loss",
        f"784-{HIDDEN_UNITS}-10 ReLU, {epochs} full-batch epochs of {len(x):,} images, "
        f"α {alpha:g}, γ {GAMMA:g}, float32",
        measures, [picture], seconds, timing,
    )  # fmt: skip


def _part(x: Any, y: Any, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Every step-th row: x float32 in [0, 1], y one-hot."""
    return x[::step] / np.float32(255), np.eye(10, dtype=np.float32)[y[::step]]


def _test_accuracy(result: Training, x: np.ndarray, y: np.ndarray) -> float:
    arrays = result.W[1], result.b[1], result.W[2], result.b[2]
    return 1 - two_layers(x, _NAMES, arrays, ReLU()).evaluate(x, y)[1]


RECIPE = Recipe(
    "ece421", "ECE421 A2: average and total cross-entropy on notMNIST", (average_loss, total_loss)
)
