"""Step 4, fusing: what is done with a sum is done when it is there, not in a pass of its own."""

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
def multiply(y, x, w, b):
    """y = x @ w + b"""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = b[0, j]
    for k in range(0, w.shape[0], 4):
        for i in range(y.shape[0]):
            add_rows(y, i, x[i, k], x[i, k + 1], x[i, k + 2], x[i, k + 3], w, k)


@inline
def relu(y):
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = max(y[i, j], 0)


@inline
def back(dx, x, dz, w):
    """dx = dz @ w.T where x > 0, else 0"""
    for i in range(dx.shape[0]):
        for k in range(dx.shape[1]):
            total = DTYPE(0)
            for j in range(w.shape[1]):
                total += dz[i, j] * w[k, j]
            dx[i, k] = total if x[i, k] > 0 else 0


@inline
def update(p, v, row, g):
    """The step of a row of parameters by its gradient, a single row."""
    for j in range(p.shape[1]):
        v[row, j] = MOMENTUM * v[row, j] - RATE * g[0, j]
        p[row, j] += v[row, j]
        g[0, j] = 0


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
def epoch(parameters, velocities, work, x, labels, order):
    """All batches of an epoch; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, g1, g2 = work
    loss = 0.0
    for rows in order:
        setting.gather(a.reshape(-1), x, rows)
        multiply(h, a, w1, b1)
        relu(h)
        multiply(z, h, w2, b2)
        for i in range(len(rows)):
            loss += setting.softmax_loss(z[i], labels[rows[i]], len(rows))
        back(dh, h, z, w2)
        learn(w1, b1, vw1, vb1, g1, a, dh)
        learn(w2, b2, vw2, vb2, g2, h, z)
    return loss


def train(parameters, x, labels, epochs, seed):
    parameters = tuple([p.astype(DTYPE) for p in parameters])
    velocities = tuple([np.zeros_like(p) for p in parameters])
    inputs, hidden, outputs = x.shape[1], *parameters[2].shape
    rows = setting.BATCH
    shapes = (rows, inputs), (rows, hidden), (rows, outputs), (rows, hidden), (1, hidden), (1, outputs)
    work = tuple([np.zeros(shape, DTYPE) for shape in shapes])
    losses = [
        epoch(parameters, velocities, work, x, labels, order) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return parameters, losses
