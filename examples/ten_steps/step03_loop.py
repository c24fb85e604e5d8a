"""Step 3, one Numba loop: the whole epoch is compiled, every line of NumPy a loop."""

import numpy as np

from . import setting
from .arrays import trainer
from .epoch import compiled_epoch, gather, inline, transpose
from .setting import MOMENTUM, RATE

DTYPE = np.float32


@inline
def add_rows(y, row, a0, a1, a2, a3, w, k):
    """y[row] += a0 * w[k] + ... + a3 * w[k + 3]"""
    for j in range(y.shape[1]):
        y[row, j] += a0 * w[k, j] + a1 * w[k + 1, j] + a2 * w[k + 2, j] + a3 * w[k + 3, j]


@inline
def multiply(y, x, w, b):
    """y = x @ w + b"""
    y[:] = 0
    for k in range(0, w.shape[0], 4):
        for i in range(y.shape[0]):
            add_rows(y, i, x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3], w, k)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += b[0, j]


@inline
def keep_positive(y, x):
    """y = y where x > 0, else 0: of y itself ReLU, of a gradient its way back through it."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = y[i, j] if x[i, j] > 0 else DTYPE(0)


@inline
def update(p, v, g):
    """v = MOMENTUM * v - RATE * g; p += v"""
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            v[i, j] = MOMENTUM * v[i, j] - RATE * g[i, j]
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            p[i, j] += v[i, j]


@inline
def learn(layer, x, dz):
    """The steps of w by dw = x.T @ dz, and of b by db, the sum of dz's rows."""
    layer.dw[:] = 0
    layer.db[:] = 0
    for k in range(layer.dw.shape[0]):
        for i in range(0, x.shape[0], 4):
            add_rows(layer.dw, k, x[i, k], x[i + 1, k], x[i + 2, k], x[i + 3, k], dz, i)
    for i in range(0, x.shape[0], 4):
        add_rows(layer.db, 0, 1, 1, 1, 1, dz, i)
    update(layer.w, layer.vw, layer.dw)
    update(layer.b, layer.vb, layer.db)


epoch = compiled_epoch(gather, transpose, multiply, keep_positive, learn)
# Four rows at a time, of w2.T too: the ten classes get two columns of zeros beside them.
train = trainer(epoch, width=4)

if __name__ == "__main__":
    setting.run(train, DTYPE)
