"""Step 5, a vector type: loops over registers; a product and a sum are one instruction.

``load`` and ``store`` move a vector; where, they count from the array's first number.
"""

from fastmlp.kernels._host import lanes
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import fma, where

from . import setting
from .arrays import trainer
from .epoch import compiled_epoch, gather, inline, transpose
from .setting import MOMENTUM, RATE
from .step03_loop import DTYPE
from .step04_fusing import fused

LANES = lanes(4)  # numbers of four bytes in a vector


@inline
def copy_row(y, row, b):
    """y[row] = b"""
    for j in range(0, y.shape[1], LANES):
        store(y, row * y.shape[1] + j, load(b, j))


@inline
def add_rows(y, row, a0, a1, a2, a3, w, k):
    """y[row] += a0 * w[k] + ... + a3 * w[k + 3]"""
    columns = y.shape[1]
    for j in range(0, columns, LANES):
        at = k * columns + j
        s = fma(a0, load(w, at), load(y, row * columns + j))
        s = fma(a1, load(w, at + columns), s)
        s = fma(a2, load(w, at + 2 * columns), s)
        s = fma(a3, load(w, at + 3 * columns), s)
        store(y, row * columns + j, s)


@inline
def keep_positive(y, x):
    """y = y where x > 0, else 0"""
    for j in range(0, y.size, LANES):
        store(y, j, where(load(x, j) > 0, load(y, j), 0))


@inline
def update(p, v, row, g):
    """The step of a row of parameters by its gradient g, which becomes 0."""
    for j in range(0, p.shape[1], LANES):
        at = row * p.shape[1] + j
        velocity = MOMENTUM * load(v, at) - RATE * load(g, j)
        store(v, at, velocity)
        store(p, at, load(p, at) + velocity)
        store(g, j, 0)


multiply, learn = fused(copy_row, add_rows, update)
epoch = compiled_epoch(gather, transpose, multiply, keep_positive, learn)
train = trainer(epoch, LANES)

if __name__ == "__main__":
    setting.run(train, DTYPE)
