"""Step 4, fusing: what is done with a sum is done while it is at hand, not in a pass of its own."""

from . import setting
from .setting import MOMENTUM, RATE, gather, inline, softmax_loss
from .step03_loop import DTYPE, add_rows


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
def relu(h):
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            h[i, j] = max(h[i, j], 0)


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
    """The step of a row of parameters by its gradient g, which becomes 0."""
    for j in range(p.shape[1]):
        v[row, j] = MOMENTUM * v[row, j] - RATE * g[0, j]
        p[row, j] += v[row, j]
        g[0, j] = 0


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
def epoch(parameters, velocities, work, x, labels, order):
    """Train on all batches; returns the sum of the losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, g1, g2 = work
    loss = 0.0
    for rows in order:
        gather(a, x, rows)
        multiply(h, a, w1, b1)
        relu(h)
        multiply(z, h, w2, b2)
        for i in range(len(rows)):
            loss += softmax_loss(z[i], labels[rows[i]], len(rows))
        back(dh, h, z, w2)
        learn(w1, b1, vw1, vb1, g1, a, dh)
        learn(w2, b2, vw2, vb2, g2, h, z)
    return loss


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    parameters = tuple([p.astype(DTYPE) for p in parameters])
    velocities = setting.zeros(*(p.shape for p in parameters))
    hidden, classes = parameters[2].shape
    widths = x.shape[1], hidden, classes, hidden
    shapes = [(setting.BATCH, width) for width in widths]
    work = setting.zeros(*shapes, (1, hidden), (1, classes))
    losses = [
        epoch(parameters, velocities, work, x, labels, order) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return parameters, losses


if __name__ == "__main__":
    setting.run(train, DTYPE)
