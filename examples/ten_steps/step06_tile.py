"""Step 6, a tile: the sums of four rows by two vectors stay in registers until they are complete."""

from typing import NamedTuple

import numpy as np

from fastmlp.kernels._host import lanes
from fastmlp.kernels._jit import entry, inline
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import fma, full_like, where

from . import setting

DTYPE, LANES = np.float32, lanes(4)
RATE, MOMENTUM = DTYPE(setting.RATE), DTYPE(setting.MOMENTUM)


class Matrix(NamedTuple):
    """A matrix, or the transpose of one: element (i, k) is values[i * row + k * column]."""

    values: np.ndarray
    row: int
    column: int


@inline
def add_product(c, a, b):
    return fma(a, b[0], c[0]), fma(a, b[1], c[1])


@inline
def tile(a, i, b, j, columns, start):
    """start + a[i : i + 4] @ b, of which the two vectors of columns from j on."""
    c0 = c1 = c2 = c3 = start
    for k in range(b.size // columns):
        at, of_b = i * a.row + k * a.column, k * columns + j
        pair = load(b, of_b), load(b, of_b + LANES)
        c0 = add_product(c0, a.values[at], pair)
        c1 = add_product(c1, a.values[at + a.row], pair)
        c2 = add_product(c2, a.values[at + 2 * a.row], pair)
        c3 = add_product(c3, a.values[at + 3 * a.row], pair)
    return c0, c1, c2, c3


@inline
def put(y, at, step, c):
    """The four rows of a tile, ``step`` apart."""
    for r in range(4):
        store(y, at + r * step, c[r][0])
        store(y, at + r * step + LANES, c[r][1])


@inline
def multiply(y, x, w, b):
    """y = x @ w + b"""
    for j in range(0, b.size, 2 * LANES):
        for i in range(0, y.size // b.size, 4):
            start = load(b, j), load(b, j + LANES)
            put(y, i * b.size + j, b.size, tile(x, i, w, j, b.size, start))


@inline
def relu(y):
    for j in range(0, y.size, LANES):
        store(y, j, where(load(y, j) > 0, load(y, j), 0))


@inline
def back(dx, x, dz, w, wt, zeros):
    """dx = dz @ w.T where x > 0, else 0; wt has room for w.T"""
    hidden, outputs = zeros.size, w.size // zeros.size
    for k in range(hidden):
        for j in range(outputs):
            wt[j * hidden + k] = w[k * outputs + j]
    multiply(dx, Matrix(dz, outputs, 1), wt, zeros)
    for j in range(0, dx.size, LANES):
        store(dx, j, where(load(x, j) > 0, load(dx, j), 0))


@inline
def update(p, v, at, gradient):
    """The step of a vector of parameters."""
    velocity = MOMENTUM * load(v, at) - RATE * gradient
    store(v, at, velocity)
    store(p, at, load(p, at) + velocity)


@inline
def learn(w, b, vw, vb, g, x, dz):
    """The step by dw = x.T @ dz, which is never whole: g has a tile of it; and by that of b."""
    columns = b.size
    zero = full_like(load(g, 0), 0)
    for j in range(0, columns, 2 * LANES):
        for i in range(0, w.size // columns, 4):
            put(g, 0, 2 * LANES, tile(x, i, dz, j, columns, (zero, zero)))
            for r in range(4):
                update(w, vw, (i + r) * columns + j, load(g, 2 * r * LANES))
                update(w, vw, (i + r) * columns + j + LANES, load(g, 2 * r * LANES + LANES))
    for j in range(0, columns, LANES):
        total = zero
        for i in range(j, dz.size, columns):
            total = total + load(dz, i)
        update(b, vb, j, total)


@entry
def epoch(parameters, velocities, work, x, labels, order, classes):
    """All batches of an epoch; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, g, wt, zeros = work
    inputs, hidden, outputs = x.shape[1], b1.size, b2.size
    loss = 0.0
    for rows in order:
        setting.gather(a, x, rows)
        multiply(h, Matrix(a, inputs, 1), w1, b1)
        relu(h)
        multiply(z, Matrix(h, hidden, 1), w2, b2)
        for i in range(len(rows)):
            row = z[i * outputs : i * outputs + classes]
            loss += setting.softmax_loss(row, labels[rows[i]], len(rows))
        back(dh, h, z, w2, wt, zeros)
        learn(w1, b1, vw1, vb1, g, Matrix(a, 1, inputs), dh)
        learn(w2, b2, vw2, vb2, g, Matrix(h, 1, hidden), z)
    return loss


def train(parameters, x, labels, epochs, seed):
    padded, classes = setting.padded(parameters, 2 * LANES), parameters[3].size
    parameters = tuple([p.ravel() for p in padded])
    velocities = tuple([np.zeros_like(p) for p in parameters])
    inputs, hidden, outputs = x.shape[1], *padded[2].shape
    rows = setting.BATCH
    sizes = rows * inputs, rows * hidden, rows * outputs, rows * hidden, 8 * LANES, hidden * outputs, hidden
    work = tuple([np.zeros(size, DTYPE) for size in sizes])
    losses = [
        epoch(parameters, velocities, work, x, labels, order, classes) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return setting.unpadded(padded, classes), losses
