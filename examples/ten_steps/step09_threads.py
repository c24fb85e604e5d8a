"""Step 9, threads and a barrier: each has its share of the tiles, and waits where they depend."""

import numpy as np

from fastmlp import threads
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import full_like, where
from fastmlp.kernels._sync import barrier, share

from . import setting
from .setting import inline, softmax_loss
from .step05_vector import DTYPE, LANES
from .step06_tile import put, update
from .step07_blocks import TILE, WIDTH, blocks, from_blocks, place, prepared, tile, transposed


@inline
def gather(team, batch, x, rows):
    """batch = x[rows], in blocks"""
    for i in range(*share(team, rows.size)):
        for k in range(0, x.shape[1], LANES):
            at = k // WIDTH * (rows.size * WIDTH) + i * WIDTH + k % WIDTH
            store(batch, at, load(x, rows[i] * x.shape[1] + k))


@inline
def multiply(team, y, x, w, b):
    """y = x @ w + b"""
    for t in range(*share(team, y.size // TILE)):
        i, j = place(t, len(y))
        put(y, t * TILE, tile(x, i, w, j, (load(b, j), load(b, j + LANES))), WIDTH)


@inline
def keep_positive(team, y, x):
    """y = y where x > 0, else 0, in the tiles that ``multiply`` gives the same thread."""
    begin, end = share(team, y.size // TILE)
    for j in range(begin * TILE, end * TILE, LANES):
        store(y, j, where(load(x, j) > 0, load(y, j), 0))


@inline
def transpose(team, wt, w):
    """wt = w.T; w has one block."""
    for k in range(*share(team, w.shape[0])):
        at = k // WIDTH * (WIDTH * WIDTH) + k % WIDTH
        for j in range(WIDTH):
            wt[at + j * WIDTH] = w[k, j]


@inline
def learn(team, w, b, vw, vb, x, dz):
    """The steps by dw = x.T @ dz, a tile at a time, and by db."""
    zero = full_like(load(w, 0), 0)
    for t in range(*share(team, w.size // TILE)):
        i, j = place(t, len(w))
        c = tile(x, i, dz, j, (zero, zero))
        for r in range(4):
            update(w, vw, t * TILE + r * WIDTH, c[r][0])
            update(w, vw, t * TILE + r * WIDTH + LANES, c[r][1])
    for block in range(*share(team, b.size // WIDTH)):
        j, total = block * WIDTH, (zero, zero)
        for at in range(j * len(dz), (j + WIDTH) * len(dz), WIDTH):
            total = total[0] + load(dz, at), total[1] + load(dz, at + LANES)
        update(b, vb, j, total[0])
        update(b, vb, j + LANES, total[1])


@setting.compiled
def epoch(team, losses, parameters, velocities, work, x, labels, order, classes):
    """Train on all batches; every part writes the sum of its losses."""
    w1, b1, w2, b2 = parameters
    vw1, vb1, vw2, vb2 = velocities
    a, h, z, dh, wt, zeros = work
    loss = 0.0
    for rows in order:
        gather(team, a, x, rows)
        barrier(team)
        multiply(team, h, blocks(a), w1, b1)
        keep_positive(team, h, h)
        transpose(team, wt.reshape(-1), w2)
        barrier(team)
        multiply(team, z, blocks(h), w2, b2)
        barrier(team)
        for i in range(*share(team, len(rows))):
            loss += softmax_loss(z[i, :classes], labels[rows[i]], len(rows))
        barrier(team)
        multiply(team, dh, blocks(z), wt, zeros)
        keep_positive(team, dh, h)
        learn(team, w2, b2, vw2, vb2, transposed(h), z)
        barrier(team)
        learn(team, w1, b1, vw1, vb1, transposed(a), dh)
        barrier(team)
    losses[team.part] = loss
    barrier(team)


def train(parameters, x, labels, epochs, seed):
    """(the trained parameters, the mean loss of every epoch); x is in ``DTYPE``."""
    classes = parameters[3].size
    parameters, velocities, work = prepared(parameters)
    count = threads.get_num_threads()
    losses = np.zeros((epochs, count))
    for number, order in enumerate(setting.orders(len(x), epochs, seed)):
        arguments = losses[number], parameters, velocities, work, x, labels, order, classes
        threads.run(epoch, count, arguments)
    parameters = [from_blocks(p) for p in parameters]
    return setting.unpadded(parameters, classes), (losses.sum(axis=1) / len(x)).tolist()


if __name__ == "__main__":
    setting.run(train, DTYPE)
