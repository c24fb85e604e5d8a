"""Step 7, a blocked layout: what a tile reads one after the other lies side by side."""

from typing import NamedTuple

import numpy as np

from fastmlp.kernels._host import lanes
from fastmlp.kernels._jit import entry, inline
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import fma, full_like, where

from . import setting

DTYPE, LANES = np.float32, lanes(4)
WIDTH = 2 * LANES  # of a block of columns: element (i, j) is at j // WIDTH * WIDTH * rows + i * WIDTH + j % WIDTH
RATE, MOMENTUM = DTYPE(setting.RATE), DTYPE(setting.MOMENTUM)


class Matrix(NamedTuple):
    """A matrix in blocks or the transpose of one, by the steps to the next row, column, block."""

    values: np.ndarray
    row: int
    rows: int
    column: int
    columns: int


@inline
def blocks(values, rows):
    return Matrix(values, WIDTH, WIDTH * WIDTH, 1, rows * WIDTH)


@inline
def transposed(a):
    return Matrix(a.values, a.column, a.columns, a.row, a.rows)


@inline
def add_product(c, a, b):
    return fma(a, b[0], c[0]), fma(a, b[1], c[1])


@inline
def tile(a, i, b, j, depth, start):
    """start + a[i : i + 4] @ b, of which the block of columns from j on."""
    c0 = c1 = c2 = c3 = start
    for k in range(depth):
        at = i // WIDTH * a.rows + i % WIDTH * a.row + k // WIDTH * a.columns + k % WIDTH * a.column
        of_b = j * depth + k * WIDTH
        pair = load(b, of_b), load(b, of_b + LANES)
        c0 = add_product(c0, a.values[at], pair)
        c1 = add_product(c1, a.values[at + a.row], pair)
        c2 = add_product(c2, a.values[at + 2 * a.row], pair)
        c3 = add_product(c3, a.values[at + 3 * a.row], pair)
    return c0, c1, c2, c3


@inline
def put(y, at, c):
    """The four rows of a tile."""
    for r in range(4):
        store(y, at + r * WIDTH, c[r][0])
        store(y, at + r * WIDTH + LANES, c[r][1])


@inline
def gather(batch, x, rows):
    """Some rows of x, in blocks."""
    for i in range(rows.size):
        for k in range(0, x.shape[1], LANES):
            at = k // WIDTH * rows.size * WIDTH + i * WIDTH + k % WIDTH
            store(batch, at, load(x, rows[i] * x.shape[1] + k))


@inline
def multiply(y, x, w, b):
    """y = x @ w + b"""
    rows = y.size // b.size
    for j in range(0, b.size, WIDTH):
        for i in range(0, rows, 4):
            start = load(b, j), load(b, j + LANES)
            put(y, j * rows + i * WIDTH, tile(x, i, w, j, w.size // b.size, start))


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
            at = k // WIDTH * outputs * WIDTH + j * WIDTH + k % WIDTH
            wt[at] = w[j // WIDTH * hidden * WIDTH + k * WIDTH + j % WIDTH]
    multiply(dx, blocks(dz, dx.size // hidden), wt, zeros)
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
    inputs, rows = w.size // b.size, dz.size // b.size
    zero = full_like(load(g, 0), 0)
    for j in range(0, b.size, WIDTH):
        for i in range(0, inputs, 4):
            put(g, 0, tile(x, i, dz, j, rows, (zero, zero)))
            for r in range(0, 4 * WIDTH, LANES):
                update(w, vw, j * inputs + i * WIDTH + r, load(g, r))
        total = zero, zero
        for i in range(j * rows, (j + WIDTH) * rows, WIDTH):
            total = total[0] + load(dz, i), total[1] + load(dz, i + LANES)
        update(b, vb, j, total[0])
        update(b, vb, j + LANES, total[1])


@entry
def epoch(parameters, velocities, work, x, labels, order, classes):
    """All batches of an epoch; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, g, wt, zeros = work
    batch = order.shape[1]
    loss = 0.0
    for rows in order:
        gather(a, x, rows)
        multiply(h, blocks(a, batch), w1, b1)
        relu(h)
        multiply(z, blocks(h, batch), w2, b2)
        for i in range(batch):
            row = z[i * WIDTH : i * WIDTH + classes]
            loss += setting.softmax_loss(row, labels[rows[i]], batch)
        back(dh, h, z, w2, wt, zeros)
        learn(w1, b1, vw1, vb1, g, transposed(blocks(a, batch)), dh)
        learn(w2, b2, vw2, vb2, g, transposed(blocks(h, batch)), z)
    return loss


def train(parameters, x, labels, epochs, seed):
    padded, classes = setting.padded(parameters, WIDTH), parameters[3].size
    parameters = tuple([setting.in_blocks(p, WIDTH) for p in padded])
    velocities = tuple([np.zeros_like(p) for p in parameters])
    inputs, hidden, outputs = x.shape[1] + WIDTH, *padded[2].shape
    rows = setting.BATCH
    sizes = rows * inputs, rows * hidden, rows * outputs, rows * hidden, 4 * WIDTH, hidden * outputs, hidden
    work = tuple([np.zeros(size, DTYPE) for size in sizes])
    losses = [
        epoch(parameters, velocities, work, x, labels, order, classes) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    padded = [setting.from_blocks(p, like) for p, like in zip(parameters, padded, strict=True)]
    return setting.unpadded(padded, classes), losses
