"""The data that all peers train on: MNIST where it is at hand, else images of its shape."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastmlp import datasets


class Images(NamedTuple):
    """train_x (N, 784), test_x (10000, 784), uint8; labels int64; source, in words."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    source: str


@functools.cache
def images() -> Images:
    """MNIST from FASTMLP_DATA or the user's cache; nothing is downloaded."""
    if next(entry.found for entry in datasets.available() if entry.name == "mnist"):
        mnist = datasets.load("mnist")
        return Images(mnist.train_x, mnist.train_y, mnist.test_x, mnist.test_y, "MNIST")
    return generated()


def generated(train: int = 60_000, test: int = 10_000) -> Images:
    """Ten blurred shapes in noise: as many and as large as MNIST's, and learnable."""
    rng = np.random.default_rng(0)
    coarse = rng.random((10, 7, 7)) < 0.3
    shapes = np.kron(coarse, np.ones((4, 4))).reshape(10, 784)
    labels = rng.integers(0, 10, train + test)
    x = rng.integers(0, 128, (train + test, 784), dtype=np.uint8)
    x[shapes[labels] == 0] //= 2
    return Images(x[:train], labels[:train], x[train:], labels[train:], "generated, MNIST-shaped")


def training_set(
    samples: int | None, dtype: Any, features: int = 784
) -> tuple[np.ndarray, np.ndarray]:
    """The first pixels of the first training images, in [0, 1] or as uint8, and their classes."""
    data = images()
    x, y = np.ascontiguousarray(data.train_x[:samples, :features]), data.train_y[:samples]
    return (x if np.dtype(dtype) == np.uint8 else scaled(x, dtype)), y


def scaled(x: np.ndarray, dtype: Any) -> np.ndarray:
    """uint8 → [0, 1]."""
    return x.astype(dtype) / np.dtype(dtype).type(255)


def standardised(x: np.ndarray, mean: float, std: float, dtype: Any) -> np.ndarray:
    """(x - mean) / std."""
    return ((x.astype(np.float64) - mean) / std).astype(dtype)


def orders(samples: int, seed: int, epochs: int) -> Iterator[np.ndarray]:
    """The order of the rows in each epoch, as ``MLP.fit`` shuffles them; one array, reshuffled."""
    rng = np.random.default_rng(seed)
    order = np.arange(samples)
    for _ in range(epochs):
        rng.shuffle(order)
        yield order
