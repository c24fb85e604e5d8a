"""Step 5, a vector type: loops over registers; a product and a sum are one instruction."""

import numpy as np

from fastmlp.kernels._host import lanes
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import fma, where

from . import setting
from .setting import MOMENTUM, RATE, gather, inline, softmax_loss

DTYPE, LANES = np.float32, lanes(4)


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
def multiply(y, x, w, b):
    """y = x @ w + b"""
    for i in range(y.shape[0]):
        for j in range(0, y.shape[1], LANES):
            store(y, i * y.shape[1] + j, load(b, j))
    for k in range(0, w.shape[0], 4):
        for i in range(y.shape[0]):
            add_rows(y, i, x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3], w, k)


@inline
def keep_positive(y, x):
    """y = y where x > 0, else 0: of y itself ReLU, of a gradient its way back through it."""
    for j in range(0, y.size, LANES):
        store(y, j, where(load(x, j) > 0, load(y, j), 0))


@inline
def transpose(wt, w):
    for k in range(w.shape[0]):
        for j in range(w.shape[1]):
            wt[j, k] = w[k, j]


@inline
def update(p, v, row, g):
    """The step of a row of parameters by its gradient g, which becomes 0."""
    for j in range(0, p.shape[1], LANES):
        at = row * p.shape[1] + j
        velocity = MOMENTUM * load(v, at) - RATE * load(g, j)
        store(v, at, velocity)
        store(p, at, load(p, at) + velocity)
        store(g, j, 0)


@inline
def learn(w, b, vw, vb, g, x, dz):
    """The steps by dw = x.T @ dz, of which g (1, outputs) has one row at a time, and by db."""
    for k in range(w.shape[0]):
        for i in range(0, x.shape[0], 4):
            add_rows(g, 0, x[i, k], x[i + 1, k], x[i + 2, k], x[i + 3, k], dz, i)
        update(w, vw, k, g)
    for i in range(0, x.shape[0], 4):
        add_rows(g, 0, 1, 1, 1, 1, dz, i)
    update(b, vb, 0, g)


@setting.compiled
def epoch(parameters, velocities, work, x, labels, order, classes):
    """Train on all batches; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, wt, zeros, g1, g2 = work
    loss = 0.0
    for rows in order:
        gather(a, x, rows)
        multiply(h, a, w1, b1)
        keep_positive(h, h)
        multiply(z, h, w2, b2)
        for i in range(len(rows)):
            loss += softmax_loss(z[i, :classes], labels[rows[i]], len(rows))
        transpose(wt, w2)
        multiply(dh, z, wt, zeros)
        keep_positive(dh, h)
        learn(w1, b1, vw1, vb1, g1, a, dh)
        learn(w2, b2, vw2, vb2, g2, h, z)
    return loss


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    classes = parameters[3].size
    parameters = tuple(setting.padded(parameters, LANES))
    velocities = setting.zeros(*(p.shape for p in parameters))
    hidden, outputs = parameters[2].shape
    widths = x.shape[1], hidden, outputs, hidden
    shapes = [(setting.BATCH, width) for width in widths]
    work = setting.zeros(*shapes, (outputs, hidden), (1, hidden), (1, hidden), (1, outputs))
    losses = [
        epoch(parameters, velocities, work, x, labels, order, classes) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return setting.unpadded(parameters, classes), losses


if __name__ == "__main__":
    setting.run(train, DTYPE)
