"""Step 3, one Numba loop: the whole epoch is compiled, every line of NumPy a loop."""

import numpy as np

from . import setting
from .setting import MOMENTUM, RATE, gather, inline, softmax_loss

DTYPE = np.float32


@inline
def add_rows(y, row, a0, a1, a2, a3, w, k):
    """y[row] += a0 * w[k] + ... + a3 * w[k + 3]"""
    for j in range(y.shape[1]):
        y[row, j] += a0 * w[k, j] + a1 * w[k + 1, j] + a2 * w[k + 2, j] + a3 * w[k + 3, j]


@inline
def multiply(y, x, w):
    """y += x @ w"""
    for k in range(0, w.shape[0], 4):
        for i in range(y.shape[0]):
            add_rows(y, i, x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3], w, k)


@inline
def gradient(dw, x, dz):
    """dw += x.T @ dz"""
    for k in range(dw.shape[0]):
        for i in range(0, x.shape[0], 4):
            add_rows(dw, k, x[i, k], x[i + 1, k], x[i + 2, k], x[i + 3, k], dz, i)


@inline
def back(dx, dz, w):
    """dx = dz @ w.T"""
    for i in range(dx.shape[0]):
        for k in range(dx.shape[1]):
            total = DTYPE(0)
            for j in range(w.shape[1]):
                total += dz[i, j] * w[k, j]
            dx[i, k] = total


@setting.compiled
def epoch(parameters, velocities, gradients, work, x, labels, order):
    """Train on all batches; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    dw1, db1, dw2, db2 = gradients
    a, h, z, dh = work
    loss = 0.0
    for rows in order:
        for array in (h, z, dw1, db1, dw2, db2):
            array[:] = 0
        gather(a, x, rows)
        multiply(h, a, w1)
        for i in range(h.shape[0]):
            for j in range(h.shape[1]):
                h[i, j] = max(h[i, j] + b1[0, j], 0)
        multiply(z, h, w2)
        for i in range(z.shape[0]):
            for j in range(z.shape[1]):
                z[i, j] += b2[0, j]
            loss += softmax_loss(z[i], labels[rows[i]], len(rows))
        back(dh, z, w2)
        for i in range(dh.shape[0]):
            for j in range(dh.shape[1]):
                dh[i, j] *= h[i, j] > 0
                db1[0, j] += dh[i, j]
            for j in range(z.shape[1]):
                db2[0, j] += z[i, j]
        gradient(dw1, a, dh)
        gradient(dw2, h, z)
        for n in range(len(parameters)):
            p, v, g = parameters[n], velocities[n], gradients[n]
            for i in range(p.shape[0]):
                for j in range(p.shape[1]):
                    v[i, j] = MOMENTUM * v[i, j] - RATE * g[i, j]
            for i in range(p.shape[0]):
                for j in range(p.shape[1]):
                    p[i, j] += v[i, j]
    return loss


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    parameters = tuple([p.astype(DTYPE) for p in parameters])
    velocities = setting.zeros(*(p.shape for p in parameters))
    gradients = setting.zeros(*(p.shape for p in parameters))
    hidden, classes = parameters[2].shape
    widths = x.shape[1], hidden, classes, hidden
    work = setting.zeros(*((setting.BATCH, width) for width in widths))
    losses = [
        epoch(parameters, velocities, gradients, work, x, labels, order) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return parameters, losses


if __name__ == "__main__":
    setting.run(train, DTYPE)
