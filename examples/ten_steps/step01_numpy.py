"""Step 1, NumPy: the formulas as a textbook has them, a line each."""

import numpy as np

from . import setting
from .setting import MOMENTUM, RATE

DTYPE = np.float64


def step(parameters, velocities, x, labels):
    """Train on one batch; returns the sum of its losses."""
    w1, b1, w2, b2 = parameters
    rows = np.arange(len(x))
    h = np.maximum(x @ w1 + b1, 0)
    z = h @ w2 + b2
    e = np.exp(z - z.max(axis=1, keepdims=True))
    p = e / e.sum(axis=1, keepdims=True)
    loss = -np.log(p[rows, labels]).sum()
    p[rows, labels] -= 1
    dz = p / len(x)
    dh = dz @ w2.T * (h > 0)
    gradients = x.T @ dh, dh.sum(axis=0, keepdims=True), h.T @ dz, dz.sum(axis=0, keepdims=True)
    for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
        velocity[:] = MOMENTUM * velocity - RATE * gradient
        parameter += velocity
    return loss


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch), in the dtype of x."""
    parameters = [p.astype(x.dtype) for p in parameters]
    velocities = [np.zeros_like(p) for p in parameters]
    losses = []
    for order in setting.orders(len(x), epochs, seed):
        loss = 0.0
        for rows in order:
            loss += step(parameters, velocities, x[rows], labels[rows])
        losses.append(loss / len(x))
    return parameters, losses


if __name__ == "__main__":
    setting.run(train, DTYPE)
