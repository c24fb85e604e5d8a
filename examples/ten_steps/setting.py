"""What the ten programs share: a network, its data, the order of the rows, and how they are run.

The network has one hidden layer with ReLU, and softmax cross-entropy; SGD with momentum trains it.
Its parameters are w1 (inputs, hidden), b1 (1, hidden), w2 (hidden, classes) and b2 (1, classes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastmlp import datasets

SIZES = 784, 256, 10
BATCH = 8
# Sums of few powers of two: the same numbers in float32 and in float64.
RATE, MOMENTUM = np.float32(1 / 256), np.float32(7 / 8)


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
    sizes = x.shape[1], *SIZES[1:]
    parameters = initial(sizes)
    train(parameters, x[: 2 * BATCH], labels[: 2 * BATCH], 1, 0)
    started = time.perf_counter()
    (w1, b1, w2, b2), losses = train(parameters, x, labels, epochs, 0)
    seconds = (time.perf_counter() - started) / epochs
    logits = np.maximum(data.test_x / largest @ w1 + b1, 0) @ w2 + b2
    wrong = np.mean(logits.argmax(axis=1) != data.test_y)
    figures = f"losses {np.round(losses, 4)}, test error {wrong:.2%}"
    network = "-".join(map(str, sizes))
    print(f"{data.name}, {rows:,} rows, {network}: {seconds:.3f} s an epoch, {figures}")
