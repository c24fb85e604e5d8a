"""Step 8, the update in the tile: a gradient is used in its registers and never is in memory."""

from fastmlp.kernels._memory import load
from fastmlp.kernels._simd import full_like

from . import setting
from .setting import inline, softmax_loss
from .step05_vector import DTYPE, LANES, keep_positive
from .step06_tile import update
from .step07_blocks import (
    TILE,
    WIDTH,
    blocks,
    from_blocks,
    gather,
    multiply,
    place,
    prepared,
    tile,
    transpose,
    transposed,
)


@inline
def learn(w, b, vw, vb, x, dz):
    """The steps by dw = x.T @ dz, a tile at a time, and by db."""
    zero = full_like(load(w, 0), 0)
    for t in range(w.size // TILE):
        i, j = place(t, len(w))
        c = tile(x, i, dz, j, (zero, zero))
        for r in range(4):
            update(w, vw, t * TILE + r * WIDTH, c[r][0])
            update(w, vw, t * TILE + r * WIDTH + LANES, c[r][1])
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
    a, h, z, dh, wt, zeros = work
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
        learn(w1, b1, vw1, vb1, transposed(a), dh)
        learn(w2, b2, vw2, vb2, transposed(h), z)
    return loss


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    classes = parameters[3].size
    parameters, velocities, work = prepared(parameters)
    losses = [
        epoch(parameters, velocities, work, x, labels, order, classes) / len(x)
        for order in setting.orders(len(x), epochs, seed)
    ]
    return setting.unpadded([from_blocks(p) for p in parameters], classes), losses


if __name__ == "__main__":
    setting.run(train, DTYPE)
