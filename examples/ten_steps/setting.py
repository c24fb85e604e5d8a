"""What the ten programs share: one network, its data, the order of the rows, and how they run.

The network is 784-128-10 with ReLU and softmax cross-entropy, trained by SGD with momentum. Its
parameters are w1 (784, 128), b1 (1, 128), w2 (128, 10) and b2 (1, 10). Every program has

    train(parameters, x, labels, epochs, seed) -> (new parameters, mean loss of every epoch)

and takes x (N, 784) in its ``DTYPE``. N is a multiple of ``BATCH``; the widths are those of the
parameters, and the hidden one is a multiple of two vectors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastmlp import datasets
from fastmlp.kernels._jit import inline

SIZES = 784, 128, 10
BATCH = 8
RATE, MOMENTUM = 0.002, 0.9
EPOCHS = 3


def initial(sizes: tuple[int, int, int] = SIZES, dtype: Any = np.float64) -> list[np.ndarray]:
    """Weights N(0, 2 / fan_in), biases 0."""
    rng = np.random.default_rng(0)
    pairs = [(rng.standard_normal(p) * np.sqrt(2 / p[0]), np.zeros((1, p[1]))) for p in zip(sizes, sizes[1:])]
    return [array.astype(dtype) for pair in pairs for array in pair]


def orders(rows: int, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """The rows of each epoch as (batches, BATCH), shuffled as ``MLP.fit`` shuffles them."""
    rng, order = np.random.default_rng(seed), np.arange(rows)
    for _ in range(epochs):
        rng.shuffle(order)
        yield order.reshape(-1, BATCH)


@inline
def softmax_loss(logits, label, batch):
    """The loss of a row (1-D); ``logits`` become the gradient of the mean over the batch."""
    largest, total, correct = logits[0], np.float32(0), logits[label]
    for z in logits:
        largest = max(largest, z)
    for j in range(logits.size):
        logits[j] = np.exp(logits[j] - largest)
        total += logits[j]
    loss = np.log(total) + largest - correct
    for j in range(logits.size):
        logits[j] = (logits[j] / total - (j == label)) / batch
    return loss


@inline
def gather(batch, x, rows):
    """The rows of x one after another in ``batch``, which is flat."""
    for i in range(rows.size):
        for k in range(x.shape[1]):
            batch[i * x.shape[1] + k] = x[rows[i], k]


def padded(parameters, width):
    """float32 copies, with columns of zeros behind the outputs up to a multiple of ``width``."""
    w1, b1, w2, b2 = (p.astype(np.float32) for p in parameters)
    more = (0, 0), (0, -b2.size % width)
    return w1, b1, np.pad(w2, more), np.pad(b2, more)


def unpadded(parameters, classes):
    w1, b1, w2, b2 = parameters
    return w1, b1, w2[:, :classes], b2[:, :classes]


def in_blocks(p, width):
    """A matrix, flat, in blocks of ``width`` columns."""
    return p.reshape(len(p), -1, width).swapaxes(0, 1).ravel()


def from_blocks(p, like):
    rows, columns = like.shape
    return p.reshape(-1, rows, 2*16).swapaxes(0, 1).reshape(rows, columns)
