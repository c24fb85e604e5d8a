"""Matrices as blocks of columns, for steps 6 to 9.

Element (i, j) of a matrix is blocks[j // WIDTH, i, j % WIDTH]. A row of a block is two vectors
wide, a *pair*: a tuple of the two in registers.
"""

from fastmlp.kernels._memory import load, store

from .epoch import inline
from .setting import MOMENTUM, RATE
from .step05_vector import LANES

WIDTH = 2 * LANES


def in_blocks(matrix):
    """A view of a matrix, (columns // WIDTH, rows, WIDTH)."""
    return matrix.reshape(len(matrix), -1, WIDTH).swapaxes(0, 1)


@inline
def get(row):
    """A pair from memory."""
    return load(row, 0), load(row, LANES)


@inline
def put(row, pair):
    """A pair to memory."""
    store(row, 0, pair[0])
    store(row, LANES, pair[1])


@inline
def sum_rows(block):
    """The sum of a block's rows, a pair."""
    left, right = get(block[0])
    for i in range(1, block.shape[0]):
        pair = get(block[i])
        left, right = left + pair[0], right + pair[1]
    return left, right


@inline
def update(p, v, gradient):
    """The step of a row of a block of parameters by a pair."""
    for half in range(2):
        at = half * LANES
        velocity = MOMENTUM * load(v, at) - RATE * gradient[half]
        store(v, at, velocity)
        store(p, at, load(p, at) + velocity)


@inline
def gather_row(batch, i, x, row):
    """batch[i] = x[row]"""
    for k in range(0, x.shape[1], LANES):
        store(batch[k // WIDTH, i], k % WIDTH, load(x[row], k))


@inline
def gather(batch, x, rows):
    """batch = x[rows]"""
    for i in range(rows.size):
        gather_row(batch, i, x, rows[i])


@inline
def transpose_row(wt, w, k):
    """wt[:, k] = w[k]; w has one block."""
    for j in range(WIDTH):
        wt[k // WIDTH, j, k % WIDTH] = w[0, k, j]


@inline
def transpose(wt, w):
    """wt = w.T"""
    for k in range(w.shape[1]):
        transpose_row(wt, w, k)
