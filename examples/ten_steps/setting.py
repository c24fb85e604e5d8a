"""What the ten programs share: a network, its data, the order of the rows, and what never changes.

The network has one hidden layer with ReLU, and softmax cross-entropy; SGD with momentum trains it.
Its parameters are w1 (inputs, hidden), b1 (1, hidden), w2 (hidden, classes) and b2 (1, classes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numba
import numpy as np

from fastmlp import datasets
from fastmlp.kernels._jit import OPTIONS, inline

SIZES = 784, 256, 10
BATCH = 8
# Sums of few powers of two: the same numbers in float32 and in float64.
RATE, MOMENTUM = np.float32(1 / 256), np.float32(7 / 8)

Arrays = Sequence[np.ndarray]

# Nothing is kept on disk: Numba would not notice that a helper in another file has changed.
compiled = numba.njit(**OPTIONS)


def initial(sizes: tuple[int, int, int] = SIZES) -> list[np.ndarray]:
    """Parameters in float64: weights N(0, 2 / fan_in), biases 0."""
    rng = np.random.default_rng(0)
    inputs, hidden, classes = sizes
    w1 = rng.standard_normal((inputs, hidden)) * np.sqrt(2 / inputs)
    w2 = rng.standard_normal((hidden, classes)) * np.sqrt(2 / hidden)
    return [w1, np.zeros((1, hidden)), w2, np.zeros((1, classes))]


def orders(rows: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of every epoch, (batches, BATCH), shuffled as ``MLP.fit`` shuffles them."""
    rng, order = np.random.default_rng(seed), np.arange(rows)
    for _ in range(epochs):
        rng.shuffle(order)
        yield order.reshape(-1, BATCH)


def padded(parameters: Arrays, width: int) -> list[np.ndarray]:
    """Copies in float32, with columns of zeros behind the classes up to a multiple of ``width``."""
    w1, b1, w2, b2 = (p.astype(np.float32) for p in parameters)
    more = (0, 0), (0, -b2.size % width)
    return [w1, b1, np.pad(w2, more), np.pad(b2, more)]


def unpadded(parameters: Arrays, classes: int) -> list[np.ndarray]:
    """Without the columns that ``padded`` has put there."""
    w1, b1, w2, b2 = parameters
    return [w1, b1, w2[:, :classes], b2[:, :classes]]


def zeros(*shapes: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Arrays in float32: a program's work space."""
    return tuple([np.zeros(shape, np.float32) for shape in shapes])


@inline
def gather(batch, x, rows):
    """batch = x[rows]"""
    for i in range(rows.size):
        for k in range(x.shape[1]):
            batch[i, k] = x[rows[i], k]


@inline
def softmax_loss(z, label, batch):
    """A row's loss; z, its logits, becomes its share in the gradient of the batch's mean loss."""
    largest, total, wanted = z[0], np.float32(0), z[label]
    for logit in z:
        largest = max(largest, logit)
    for j in range(z.size):
        z[j] = np.exp(z[j] - largest)
        total += z[j]
    for j in range(z.size):
        z[j] = (z[j] / total - (j == label)) / batch
    return np.log(total) + largest - wanted


def run(train: Callable[..., Any], dtype: Any, epochs: int = 3) -> None:
    """Train on MNIST and say how it went; before that on a few rows, which compiles.

    Where MNIST is not to be had, the digits inside the package stand in for it.
    """
    try:
        data = datasets.load("mnist")
    except datasets.DatasetError:
        data = datasets.load("digits")
    rows, largest = len(data.train_x) // BATCH * BATCH, data.train_x.max()
    x, labels = (data.train_x[:rows] / largest).astype(dtype), data.train_y[:rows]
    parameters = initial((x.shape[1], *SIZES[1:]))
    train(parameters, x[: 2 * BATCH], labels[: 2 * BATCH], 1, 0)
    started = time.perf_counter()
    (w1, b1, w2, b2), losses = train(parameters, x, labels, epochs, 0)
    seconds = (time.perf_counter() - started) / epochs
    logits = np.maximum(data.test_x / largest @ w1 + b1, 0) @ w2 + b2
    wrong = np.mean(logits.argmax(axis=1) != data.test_y)
    figures = f"losses {np.round(losses, 4)}, test error {wrong:.2%}"
    print(f"{rows:,} rows: {seconds:.3f} s an epoch, {figures}")
