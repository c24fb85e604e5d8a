"""Softmax cross-entropy through LogSumExp, on rows of logits.

    loss = -sum_k y_k log softmax(z)_k = sum_k y_k (log sum_j exp(z_j - m) - (z_k - m)),  m = max z

Reference: CMU 11-785 HW1P1, appendices A and B. Rows of labels need not sum to 1; the derivative is
softmax(z) - y all the same (section 3.2).
"""

from __future__ import annotations

import math

import numpy as np

from ._jit import inline, kernel
from ._math import exp
from ._memory import load_partial, store_partial
from ._simd import first_lanes, max_lanes, sum_lanes, vector_lanes, where
from ._sync import barrier, share
from .packing import ceil_div


@inline
def _exponentials(z, at, step, block, classes, m):
    """exp(z - m) of a block of a row of logits, zeros beyond the last class."""
    lanes = vector_lanes(z)
    count = min(lanes, classes - block * lanes)
    v = exp(load_partial(z, at + block * step, count) - m)
    return where(first_lanes(v, count), v, 0)


@inline
def _largest(z, at, step, classes):
    """The largest of a row of logits."""
    lanes = vector_lanes(z)
    m = z.dtype.type(-np.inf)
    for block in range(ceil_div(classes, lanes)):
        count = min(lanes, classes - block * lanes)
        v = load_partial(z, at + block * step, count)
        m = max(m, max_lanes(where(first_lanes(v, count), v, -np.inf)))
    return m


@inline
def row_normaliser(z, at, step, classes):
    """(m, sum of exp(z - m)) of a row of logits z, m being its largest."""
    m = _largest(z, at, step, classes)
    sums = _exponentials(z, at, step, 0, classes, m)
    for block in range(1, ceil_div(classes, vector_lanes(z))):
        sums = sums + _exponentials(z, at, step, block, classes, m)
    return m, sum_lanes(sums)


@inline
def row_loss(z, z_at, z_step, y, y_at, y_step, classes):
    """(loss, m, sum of exp(z - m)) of a row of logits z and labels y, in blocks ``step`` apart."""
    lanes = vector_lanes(z)
    m, normaliser = row_normaliser(z, z_at, z_step, classes)
    log_normaliser = math.log(normaliser)
    # Not just 0: a NaN among the logits must be seen even where all labels are 0.
    loss = normaliser * z.dtype.type(0)
    for block in range(ceil_div(classes, lanes)):
        count = min(lanes, classes - block * lanes)
        v = load_partial(z, z_at + block * z_step, count)
        target = load_partial(y, y_at + block * y_step, count)
        # A class of label 0 adds 0, even where its logit is -inf; so do the lanes beyond the last.
        loss += sum_lanes(where(target == 0, 0, target * (log_normaliser - (v - m))))
    return loss, m, normaliser


@inline
def softmax_block(z, at, step, block, classes, m, normaliser):
    """A block of softmax(z), zeros beyond the last class."""
    return _exponentials(z, at, step, block, classes, m) / normaliser


@inline
def argmax_row(z, at, step, classes):
    """The first largest entry of a row in blocks; the first NaN if there is one (as np.argmax)."""
    lanes = vector_lanes(z)
    best, best_class = z[at], 0
    for k in range(1, classes):
        value = z[at + k // lanes * step + k % lanes]
        if value > best or (value != value and best == best):
            best, best_class = value, k
    return best_class


def _row_cost(first, logits, *rest):
    return 24 * logits.size


@kernel(cost=_row_cost)
def softmax_cross_entropy_forward(team, loss, logits, labels):
    """Loss of every row.

    loss : (N,), overwritten    logits, labels : (N, K), C-contiguous, of one dtype
    """
    rows, classes = logits.shape
    z, y = logits.reshape(-1), labels.reshape(-1)
    lanes = vector_lanes(z)
    for row in range(*share(team, rows)):
        at = row * classes
        loss[row], _, _ = row_loss(z, at, lanes, y, at, lanes, classes)
    barrier(team)


@kernel(cost=_row_cost)
def softmax(team, p, logits):
    """p = softmax(logits) of every row.

    p : (N, K), overwritten    logits : (N, K), C-contiguous, of one dtype
    """
    _softmax_minus(team, p, logits, logits, False)
    barrier(team)


@kernel(cost=_row_cost)
def softmax_cross_entropy_backward(team, dz, logits, labels):
    """dz = softmax(logits) - labels, not divided by N.

    dz : (N, K), overwritten    logits, labels : (N, K), C-contiguous, of one dtype
    """
    _softmax_minus(team, dz, logits, labels, True)
    barrier(team)


@inline
def _softmax_minus(team, out, logits, labels, subtract):
    rows, classes = logits.shape
    z, y, flat_out = logits.reshape(-1), labels.reshape(-1), out.reshape(-1)
    lanes = vector_lanes(z)
    for row in range(*share(team, rows)):
        at = row * classes
        m, normaliser = row_normaliser(z, at, lanes, classes)
        for block in range(ceil_div(classes, lanes)):
            i, count = at + block * lanes, min(lanes, classes - block * lanes)
            p = softmax_block(z, at, lanes, block, classes, m, normaliser)
            if subtract:
                p = p - load_partial(y, i, count)
            store_partial(flat_out, i, count, p)
