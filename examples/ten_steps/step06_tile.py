"""Step 6, a tile: sums of four rows by two vectors stay in registers until they are complete."""

from typing import NamedTuple

import numpy as np

from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import fma, full_like

from . import setting
from .setting import MOMENTUM, RATE, gather, inline, softmax_loss
from .step05_vector import DTYPE, LANES, keep_positive, transpose


class Matrix(NamedTuple):
    """A matrix, or the transpose of one: element (i, k) is values[i * row + k * column]."""

    values: np.ndarray
    row: int
    column: int


@inline
def add_product(c, a, b):
    """c + a * b, of two vectors."""
    return fma(a, b[0], c[0]), fma(a, b[1], c[1])


@inline
def tile(a, i, b, j, start):
    """start + a[i : i + 4] @ b, the two vectors of columns from j on."""
    c0 = c1 = c2 = c3 = start
    for k in range(b.shape[0]):
        at = i * a.row + k * a.column
        pair = load(b, k * b.shape[1] + j), load(b, k * b.shape[1] + j + LANES)
        c0 = add_product(c0, a.values[at], pair)
        c1 = add_product(c1, a.values[at + a.row], pair)
        c2 = add_product(c2, a.values[at + 2 * a.row], pair)
        c3 = add_product(c3, a.values[at + 3 * a.row], pair)
    return c0, c1, c2, c3


@inline
def put(y, at, c, step):
    """Store the four rows of a tile."""
    for r in range(4):
        store(y, at + r * step, c[r][0])
        store(y, at + r * step + LANES, c[r][1])


@inline
def multiply(y, x, w, b):
    """y = x @ w + b"""
    rows, columns = y.shape
    for j in range(0, columns, 2 * LANES):
        for i in range(0, rows, 4):
            c = tile(x, i, w, j, (load(b, j), load(b, j + LANES)))
            put(y, i * columns + j, c, columns)


@inline
def update(p, v, at, gradient):
    """The step of a vector of parameters."""
    velocity = MOMENTUM * load(v, at) - RATE * gradient
    store(v, at, velocity)
    store(p, at, load(p, at) + velocity)


@inline
def learn(w, b, vw, vb, g, x, dz):
    """The steps by dw = x.T @ dz, of which g has one tile at a time, and by db."""
    columns, zero = w.shape[1], full_like(load(w, 0), 0)
    for j in range(0, columns, 2 * LANES):
        for i in range(0, w.shape[0], 4):
            put(g, 0, tile(x, i, dz, j, (zero, zero)), 2 * LANES)
            for r in range(4):
                at = (i + r) * columns + j
                update(w, vw, at, load(g, 2 * r * LANES))
                update(w, vw, at + LANES, load(g, 2 * r * LANES + LANES))
    for j in range(0, columns, LANES):
        total = zero
        for i in range(dz.shape[0]):
            total = total + load(dz, i * columns + j)
        update(b, vb, j, total)


@setting.compiled
def epoch(parameters, velocities, work, x, labels, order, classes):
    """Train on all batches; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, wt, zeros, g = work
    flat_a, flat_h, flat_z = a.reshape(-1), h.reshape(-1), z.reshape(-1)
    (inputs, hidden), outputs = w1.shape, w2.shape[1]
    loss = 0.0
    for rows in order:
        gather(a, x, rows)
        multiply(h, Matrix(flat_a, inputs, 1), w1, b1)
        keep_positive(h, h)
        multiply(z, Matrix(flat_h, hidden, 1), w2, b2)
        for i in range(len(rows)):
            loss += softmax_loss(z[i, :classes], labels[rows[i]], len(rows))
        transpose(wt, w2)
        multiply(dh, Matrix(flat_z, outputs, 1), wt, zeros)
        keep_positive(dh, h)
        learn(w1, b1, vw1, vb1, g, Matrix(flat_a, 1, inputs), dh)
        learn(w2, b2, vw2, vb2, g, Matrix(flat_h, 1, hidden), z)
    return loss


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    classes = parameters[3].size
    parameters = tuple(setting.padded(parameters, 2 * LANES))
    velocities = setting.zeros(*(p.shape for p in parameters))
    (inputs, hidden), outputs = parameters[0].shape, parameters[3].size
    shapes = [(setting.BATCH, width) for width in (inputs, hidden, outputs, hidden)]
    work = setting.zeros(*shapes, (outputs, hidden), (1, hidden), (4, 2 * LANES))
    losses = [
        epoch(parameters, velocities, work, x, labels, order, classes) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return setting.unpadded(parameters, classes), losses


if __name__ == "__main__":
    setting.run(train, DTYPE)
