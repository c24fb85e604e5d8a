"""The figures that peers must agree on, computed alike for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tests import reference

from ._data import images, training_set
from ._workloads import Workload

ROWS = 5_000


class Parameters(NamedTuple):
    """A trained layer: w (I, O), b (O,), and batch norm's (gamma, beta, mean, var) or None."""

    w: Any
    b: Any
    batchnorm: Sequence[Any] | None = None


def loss(workload: Workload, layers: Sequence[Parameters]) -> float:
    """Mean cross-entropy in float64 on the first training rows, batch norm in evaluation mode."""
    features, *_, classes = workload.network.sizes
    x, y = training_set(min(ROWS, workload.samples), np.float64, features)
    logits, rows = _logits(workload, layers, x), reference.one_hot(y, classes)
    return float(reference.softmax_cross_entropy(logits, rows)[0].mean())


def share_wrong_in_test(
    workload: Workload, layers: Sequence[Parameters], prepare: Callable[[np.ndarray], np.ndarray]
) -> float:
    """Share of the test images classified wrongly; ``prepare`` scales them."""
    data = images()
    logits = _logits(workload, layers, prepare(data.test_x).astype(np.float64))
    return float((logits.argmax(axis=1) != data.test_y).mean())


def wrong_share(predict: Callable[[np.ndarray], Any], rows: int, dtype: Any) -> float:
    """Share of training images that ``predict`` gets wrong, called with ``rows`` at a time."""
    count = max(rows, 1_000)
    x, y = training_set(count, dtype)
    found = [
        np.asarray(predict(x[first : first + rows])).reshape(-1) for first in range(0, count, rows)
    ]
    return float((np.concatenate(found) != y).mean())


def _logits(workload: Workload, layers: Sequence[Parameters], x: np.ndarray) -> np.ndarray:
    for number, (w, b, batchnorm) in enumerate(layers):
        x = reference.linear_forward(x, *(np.asarray(a, np.float64) for a in (w, b)))
        if batchnorm is not None:
            gamma, beta, mean, var = (np.asarray(a, np.float64).reshape(1, -1) for a in batchnorm)
            x = reference.batchnorm_forward(x, gamma, beta, mean, var, training=False)[0]
        if number < len(layers) - 1:
            x = reference.ACTIVATIONS[workload.network.activation][0](x)
    return x
