"""Step 9, threads and a barrier: each has its share of the tiles, and waits where they depend.

``share(team, count)`` is where a thread's part of 0 ... count - 1 begins and ends.
"""

import numpy as np

from fastmlp import threads
from fastmlp.kernels._sync import barrier, share

from . import setting
from .arrays import trainer
from .blocks import WIDTH, gather_row, transpose_row
from .epoch import compiled, inline, softmax_loss
from .step06_tile import DTYPE, keep_positive, multiply_tile
from .step07_blocks import in_blocks
from .step08_update import learn_tile

TILE = 4 * WIDTH  # numbers that a tile has


@inline
def each_tile(team, y, do, *operands):
    """do(y, block, first row, *operands) for a thread's share of y's tiles."""
    for t in range(*share(team, y.size // TILE)):
        do(y, 4 * t // y.shape[1], 4 * t % y.shape[1], *operands)


@inline
def keep_positive_tile(y, n, i, x):
    """y = y where x > 0, else 0: the four rows of block n from i on."""
    keep_positive(y[n, i : i + 4], x[n, i : i + 4])


@compiled
def epoch(team, losses, first, second, work, x, labels, order):
    """Train on all batches; every thread of the team writes the sum of its losses."""
    a, h, z, dh, logits = work
    loss = 0.0
    for rows in order:
        for i in range(*share(team, len(rows))):
            gather_row(a, i, x, rows[i])
        barrier(team)  # before a is read
        each_tile(team, h, multiply_tile, a, first.w, first.b)
        each_tile(team, h, keep_positive_tile, h)
        for k in range(*share(team, second.w.shape[1])):
            transpose_row(second.wt, second.w, k)
        barrier(team)  # before h and wt are
        each_tile(team, z, multiply_tile, h, second.w, second.b)
        barrier(team)  # before whole rows of z are
        for i in range(*share(team, len(rows))):
            loss += softmax_loss(logits[i], labels[rows[i]], len(rows))
        barrier(team)  # before all of them are
        each_tile(team, dh, multiply_tile, z, second.wt, second.zeros)
        each_tile(team, dh, keep_positive_tile, h)
        each_tile(team, second.w, learn_tile, second, h, z)
        barrier(team)  # before dh is
        each_tile(team, first.w, learn_tile, first, a, dh)
        barrier(team)  # before a becomes the next batch
    losses[team.part] = loss
    barrier(team)


def on_threads(*arguments):
    """The epoch on all threads, which enter it once."""
    losses = np.zeros(threads.get_num_threads())
    threads.run(epoch, losses.size, (losses, *arguments))
    return losses.sum()


train = trainer(on_threads, WIDTH, in_blocks)

if __name__ == "__main__":
    setting.run(train, DTYPE)
