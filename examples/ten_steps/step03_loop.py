"""Step 3, one Numba loop: the whole epoch is compiled, every line of NumPy a loop or two."""

import numpy as np

from fastmlp.kernels._jit import entry, inline

from . import setting

DTYPE = np.float32
RATE, MOMENTUM = DTYPE(setting.RATE), DTYPE(setting.MOMENTUM)


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


@inline
def add_bias(y, b):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += b[0, j]


@inline
def sum_rows(db, dz):
    for i in range(dz.shape[0]):
        for j in range(dz.shape[1]):
            db[0, j] += dz[i, j]


@inline
def update(p, v, g):
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            v[i, j] = MOMENTUM * v[i, j] - RATE * g[i, j]
    for i in range(p.shape[0]):
        for j in range(p.shape[1]):
            p[i, j] += v[i, j]


@entry
def epoch(parameters, velocities, gradients, work, x, labels, order):
    """All batches of an epoch; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    dw1, db1, dw2, db2 = gradients
    a, h, z, dh = work
    loss = 0.0
    for rows in order:
        for array in work:
            array[:] = 0
        for array in gradients:
            array[:] = 0
        setting.gather(a.reshape(-1), x, rows)
        multiply(h, a, w1)
        add_bias(h, b1)
        for i in range(h.shape[0]):
            for j in range(h.shape[1]):
                h[i, j] = max(h[i, j], 0)
        multiply(z, h, w2)
        add_bias(z, b2)
        for i in range(len(rows)):
            loss += setting.softmax_loss(z[i], labels[rows[i]], len(rows))
        back(dh, z, w2)
        for i in range(dh.shape[0]):
            for j in range(dh.shape[1]):
                dh[i, j] *= h[i, j] > 0
        gradient(dw1, a, dh)
        sum_rows(db1, dh)
        gradient(dw2, h, z)
        sum_rows(db2, z)
        for p, v, g in zip(parameters, velocities, gradients):
            update(p, v, g)
    return loss


def train(parameters, x, labels, epochs, seed):
    parameters = tuple([p.astype(DTYPE) for p in parameters])
    velocities = tuple([np.zeros_like(p) for p in parameters])
    gradients = tuple([np.zeros_like(p) for p in parameters])
    inputs, hidden, outputs = x.shape[1], *parameters[2].shape
    work = tuple([np.empty((setting.BATCH, n), DTYPE) for n in (inputs, hidden, outputs, hidden)])
    losses = [
        epoch(parameters, velocities, gradients, work, x, labels, order) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return parameters, losses
