"""Step 5, a vector type: the loops run over registers, and a sum and a product are one instruction."""

import numpy as np

from fastmlp.kernels._host import lanes
from fastmlp.kernels._jit import entry, inline
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import fma, where

from . import setting

DTYPE, LANES = np.float32, lanes(4)
RATE, MOMENTUM = DTYPE(setting.RATE), DTYPE(setting.MOMENTUM)


@inline
def add_rows(y, row, a0, a1, a2, a3, w, k):
    """y[row] += a0 * w[k] + ... + a3 * w[k + 3]"""
    columns = y.shape[1]
    for j in range(0, columns, LANES):
        at = k * columns + j
        s = fma(a0, load(w, at), load(y, row * columns + j))
        s = fma(a1, load(w, at + columns), s)
        s = fma(a2, load(w, at + 2 * columns), s)
        store(y, row * columns + j, fma(a3, load(w, at + 3 * columns), s))


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
def relu(y):
    for j in range(0, y.size, LANES):
        store(y, j, where(load(y, j) > 0, load(y, j), 0))


@inline
def back(dx, x, dz, w, wt):
    """dx = dz @ w.T where x > 0, else 0; wt has room for w.T"""
    for k in range(w.shape[0]):
        for j in range(w.shape[1]):
            wt[j, k] = w[k, j]
    dx[:] = 0
    for k in range(0, wt.shape[0], 4):
        for i in range(dx.shape[0]):
            add_rows(dx, i, dz[i, k], dz[i, k + 1], dz[i, k + 2], dz[i, k + 3], wt, k)
    for j in range(0, dx.size, LANES):
        store(dx, j, where(load(x, j) > 0, load(dx, j), 0))


@inline
def update(p, v, row, g):
    """The step of a row of parameters by its gradient, a single row."""
    for j in range(0, p.shape[1], LANES):
        at = row * p.shape[1] + j
        velocity = MOMENTUM * load(v, at) - RATE * load(g, j)
        store(v, at, velocity)
        store(p, at, load(p, at) + velocity)
        store(g, j, velocity * 0)


@inline
def learn(w, b, vw, vb, g, x, dz):
    """The step by dw = x.T @ dz, which is never whole: g has a row of it; and by that of b."""
    for k in range(w.shape[0]):
        for i in range(0, x.shape[0], 4):
            add_rows(g, 0, x[i, k], x[i + 1, k], x[i + 2, k], x[i + 3, k], dz, i)
        update(w, vw, k, g)
    for i in range(0, x.shape[0], 4):
        add_rows(g, 0, 1, 1, 1, 1, dz, i)
    update(b, vb, 0, g)


@entry
def epoch(parameters, velocities, work, x, labels, order, classes):
    """All batches of an epoch; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, g1, g2, wt = work
    loss = 0.0
    for rows in order:
        setting.gather(a.reshape(-1), x, rows)
        multiply(h, a, w1, b1)
        relu(h)
        multiply(z, h, w2, b2)
        for i in range(len(rows)):
            loss += setting.softmax_loss(z[i, :classes], labels[rows[i]], len(rows))
        back(dh, h, z, w2, wt)
        learn(w1, b1, vw1, vb1, g1, a, dh)
        learn(w2, b2, vw2, vb2, g2, h, z)
    return loss


def train(parameters, x, labels, epochs, seed):
    parameters, classes = setting.padded(parameters, LANES), parameters[3].size
    velocities = tuple([np.zeros_like(p) for p in parameters])
    inputs, hidden, outputs = x.shape[1], *parameters[2].shape
    rows = setting.BATCH
    shapes = (rows, inputs), (rows, hidden), (rows, outputs), (rows, hidden), (1, hidden), (1, outputs), (outputs, hidden)
    work = tuple([np.zeros(shape, DTYPE) for shape in shapes])
    losses = [
        epoch(parameters, velocities, work, x, labels, order, classes) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return setting.unpadded(parameters, classes), losses
