"""Step 7, a blocked layout: what a tile reads one after the other lies side by side.

A matrix lies in blocks of WIDTH columns, one below the other: element (i, j) is number
j // WIDTH * (rows * WIDTH) + i * WIDTH + j % WIDTH. Arrays keep the shapes of their matrices.
"""

from typing import NamedTuple

import numpy as np

from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import full_like

from . import setting
from .setting import inline, softmax_loss
from .step05_vector import DTYPE, LANES, keep_positive
from .step06_tile import add_product, put, update

WIDTH = 2 * LANES
TILE = 4 * WIDTH


class Matrix(NamedTuple):
    """A matrix in blocks, or the transpose of one: steps within a block and from block to block."""

    values: np.ndarray
    row: int
    rows: int
    column: int
    columns: int


@inline
def blocks(a):
    return Matrix(a.reshape(-1), WIDTH, WIDTH * WIDTH, 1, len(a) * WIDTH)


@inline
def transposed(a):
    return Matrix(a.reshape(-1), 1, len(a) * WIDTH, WIDTH, WIDTH * WIDTH)


@inline
def tile(a, i, b, j, start):
    """start + a[i : i + 4] @ b, the block of columns from j on."""
    c0 = c1 = c2 = c3 = start
    first, of_b = i // WIDTH * a.rows + i % WIDTH * a.row, j * b.shape[0]
    for k in range(b.shape[0]):
        at = first + k // WIDTH * a.columns + k % WIDTH * a.column
        pair = load(b, of_b + k * WIDTH), load(b, of_b + k * WIDTH + LANES)
        c0 = add_product(c0, a.values[at], pair)
        c1 = add_product(c1, a.values[at + a.row], pair)
        c2 = add_product(c2, a.values[at + 2 * a.row], pair)
        c3 = add_product(c3, a.values[at + 3 * a.row], pair)
    return c0, c1, c2, c3


@inline
def gather(batch, x, rows):
    """batch = x[rows], in blocks"""
    for i in range(rows.size):
        for k in range(0, x.shape[1], LANES):
            at = k // WIDTH * (rows.size * WIDTH) + i * WIDTH + k % WIDTH
            store(batch, at, load(x, rows[i] * x.shape[1] + k))


@inline
def place(t, rows):
    """(row, column) at which the tile begins that is number t in memory."""
    return 4 * t % rows, 4 * t // rows * WIDTH


@inline
def multiply(y, x, w, b):
    """y = x @ w + b"""
    for t in range(y.size // TILE):
        i, j = place(t, len(y))
        put(y, t * TILE, tile(x, i, w, j, (load(b, j), load(b, j + LANES))), WIDTH)


@inline
def transpose(wt, w):
    """wt = w.T; w has one block."""
    for k in range(w.shape[0]):
        at = k // WIDTH * (WIDTH * WIDTH) + k % WIDTH
        for j in range(WIDTH):
            wt[at + j * WIDTH] = w[k, j]


@inline
def learn(w, b, vw, vb, g, x, dz):
    """The steps by dw = x.T @ dz, of which g has one tile at a time, and by db."""
    zero = full_like(load(w, 0), 0)
    for t in range(w.size // TILE):
        i, j = place(t, len(w))
        put(g, 0, tile(x, i, dz, j, (zero, zero)), WIDTH)
        for at in range(0, TILE, LANES):
            update(w, vw, t * TILE + at, load(g, at))
    for j in range(0, b.size, WIDTH):
        total = zero, zero
        for at in range(j * len(dz), (j + WIDTH) * len(dz), WIDTH):
            total = total[0] + load(dz, at), total[1] + load(dz, at + LANES)
        update(b, vb, j, total[0])
        update(b, vb, j + LANES, total[1])


@setting.compiled
def epoch(parameters, velocities, work, x, labels, order, classes):
    """Train on all batches; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, wt, zeros, g = work
    loss = 0.0
    for rows in order:
        gather(a, x, rows)
        multiply(h, blocks(a), w1, b1)
        keep_positive(h, h)
        multiply(z, blocks(h), w2, b2)
        for i in range(len(rows)):
            loss += softmax_loss(z[i, :classes], labels[rows[i]], len(rows))
        transpose(wt.reshape(-1), w2)
        multiply(dh, blocks(z), wt, zeros)
        keep_positive(dh, h)
        learn(w1, b1, vw1, vb1, g, transposed(a), dh)
        learn(w2, b2, vw2, vb2, g, transposed(h), z)
    return loss


def in_blocks(p):
    return p.reshape(len(p), -1, WIDTH).swapaxes(0, 1).reshape(p.shape)


def from_blocks(p):
    return p.reshape(-1, len(p), WIDTH).swapaxes(0, 1).reshape(p.shape)


def prepared(parameters, *more):
    """(parameters in blocks, velocities, work space with ``more`` at its end)"""
    parameters = tuple([in_blocks(p) for p in setting.padded(parameters, WIDTH)])
    velocities = setting.zeros(*(p.shape for p in parameters))
    (inputs, hidden), outputs = parameters[0].shape, parameters[3].size
    whole = -(-inputs // WIDTH) * WIDTH
    shapes = [(setting.BATCH, width) for width in (whole, hidden, outputs, hidden)]
    return parameters, velocities, setting.zeros(*shapes, (outputs, hidden), (1, hidden), *more)


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    classes = parameters[3].size
    parameters, velocities, work = prepared(parameters, (4, WIDTH))
    losses = [
        epoch(parameters, velocities, work, x, labels, order, classes) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return setting.unpadded([from_blocks(p) for p in parameters], classes), losses


if __name__ == "__main__":
    setting.run(train, DTYPE)
