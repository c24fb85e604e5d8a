"""The arrays of the compiled programs, 3 to 9, and their ``train``.

Every array begins on a cache line, so that no vector of it lies across two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastmlp.kernels._host import aligned_zeros

from . import setting

Layout = Callable[[np.ndarray], np.ndarray]


class Layer(NamedTuple):
    """A layer's arrays: its parameters, their velocities, and room to compute in."""

    w: np.ndarray  # (inputs, outputs)
    b: np.ndarray  # (1, outputs)
    vw: np.ndarray
    vb: np.ndarray
    dw: np.ndarray  # room for the gradients, or for a part of them
    db: np.ndarray
    wt: np.ndarray  # (outputs, inputs), room for w.T
    zeros: np.ndarray  # (1, inputs), the bias on the way back


def trainer(
    epoch: Callable[..., float], width: int, layout: Layout = np.asarray
) -> Callable[..., Any]:
    """A program's ``train``, which hands arrays in float32 to its epoch.

    epoch : (first layer, second layer, work, x, labels, order) -> the sum of the losses
    width : matrices get columns of zeros behind their own, up to a multiple of it
    layout : a matrix -> the array that the program works on, the matrix itself or blocks of its
        columns, (columns // width, rows, width)
    """

    def zeros(rows: int, columns: int) -> np.ndarray:
        columns += -columns % width
        return aligned_zeros(rows * columns, np.float32).reshape(rows, columns)

    def padded(matrix: np.ndarray) -> np.ndarray:
        copy = zeros(*matrix.shape)
        copy[:, : matrix.shape[1]] = matrix
        return copy

    def layer(w: np.ndarray, b: np.ndarray) -> Layer:
        w, b = padded(w), padded(b)
        shapes = w.shape, b.shape, w.shape, b.shape, w.shape[::-1], (1, len(w))
        return Layer(*map(layout, [w, b, *(zeros(*shape) for shape in shapes)]))

    def train(parameters, x, labels, epochs, seed):
        """(the trained parameters, the mean loss of every epoch); x is in float32."""
        w1, b1, w2, b2 = parameters
        first, second = layer(w1, b1), layer(w2, b2)
        widths = len(w1), b1.size, b2.size, b1.size
        a, h, z, dh = [layout(zeros(setting.BATCH, n)) for n in widths]
        work = a, h, z, dh, matrix(z)[:, : b2.size]
        losses = [
            epoch(first, second, work, x, labels, order) / len(x)
            for order in setting.orders(len(x), epochs, seed)
        ]
        trained = zip((first.w, first.b, second.w, second.b), parameters, strict=True)
        return [matrix(p)[:, : given.shape[1]] for p, given in trained], losses

    return train


def matrix(array: np.ndarray) -> np.ndarray:
    """What ``layout`` was given: a copy, or, of a matrix or a single block, the same memory."""
    return array if array.ndim == 2 else array.swapaxes(0, 1).reshape(array.shape[1], -1)
