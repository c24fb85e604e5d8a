"""Losses of rows of outputs: softmax cross-entropy through LogSumExp, and those of ``pointwise``.

    loss = -sum_k t_k log softmax(z)_k = sum_k t_k (log sum_j exp(z_j - m) - (z_k - m)),  m = max z

The targets t are the row's labels y; smoothed, (1 - s) y + s / K (Szegedy et al., "Rethinking the
inception architecture", 2016, section 7); and weighted by class. Reference: CMU 11-785 HW1P1,
appendices A and B. Rows of labels need not sum to 1; the derivative is softmax(z) - t all the same
(section 3.2), unless classes have weights: then softmax(z) is multiplied by the sum of t.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ._jit import inline, kernel
from ._math import exp
from ._memory import Place, load_partial, store_partial
from ._own import call_address
from ._simd import first_lanes, first_true, max_lanes, sum_lanes, vector_lanes, where
from ._sync import barrier, share
from .packing import ceil_div
from .pointwise import OWN, SOFTMAX, point_error, point_loss, point_slope, point_value


class Row(NamedTuple):
    """A row of outputs, or of targets, in blocks ``step`` apart."""

    array: np.ndarray
    at: int
    step: int
    size: int


class RowState(NamedTuple):
    """What a row's derivative takes, of softmax."""

    largest: float
    normaliser: float  # sum of exp(z - largest)
    mass: float  # what multiplies the probabilities


@inline
def _live(row, block):
    """How many numbers of a block there are."""
    lanes = vector_lanes(row.array)
    return min(lanes, row.size - block * lanes)


@inline
def _block(row, block):
    """A block of a row, zeros beyond its last number."""
    return load_partial(row.array, row.at + block * row.step, _live(row, block))


@inline
def _blocks(row):
    return ceil_div(row.size, vector_lanes(row.array))


@inline
def _exponentials(z, block, m):
    """exp(z - m) of a block of a row of logits, zeros beyond the last class."""
    v = exp(_block(z, block) - m)
    return where(first_lanes(v, _live(z, block)), v, 0)


@inline
def _largest(z):
    """The largest of a row of logits."""
    m = z.array.dtype.type(-np.inf)
    for block in range(_blocks(z)):
        v = _block(z, block)
        m = max(m, max_lanes(where(first_lanes(v, _live(z, block)), v, -np.inf)))
    return m


@inline
def _normaliser(z):
    """(m, sum of exp(z - m)) of a row of logits z, m being its largest."""
    m = _largest(z)
    sums = _exponentials(z, 0, m)
    for block in range(1, _blocks(z)):
        sums = sums + _exponentials(z, block, m)
    return m, sum_lanes(sums)


@inline
def _targets(y, block, loss, class_weights):
    """A block of a row of labels, smoothed and weighted; zeros beyond the last class."""
    target, live = _block(y, block), _live(y, block)
    if loss.parameter != 0:
        smoothed = (1 - loss.parameter) * target + loss.parameter / y.size
        target = where(first_lanes(target, live), smoothed, 0)
    if class_weights.size > 0:
        target = target * load_partial(class_weights, block * vector_lanes(y.array), live)
    return target


@inline
def _softmax_loss(z, y, loss, class_weights):
    """(loss, ``RowState``) of a row of logits and labels."""
    number = z.array.dtype.type
    m, normaliser = _normaliser(z)
    log_normaliser = math.log(normaliser)
    # Not just 0: a NaN among the logits must be seen even where all labels are 0.
    total, mass = normaliser * number(0), number(0)
    for block in range(_blocks(z)):
        target = _targets(y, block, loss, class_weights)
        # A class of label 0 adds 0, even where its logit is -inf; so do the lanes beyond the last.
        terms = where(target == 0, 0, target * (log_normaliser - (_block(z, block) - m)))
        total += sum_lanes(terms)
        mass += sum_lanes(target)
    return total, RowState(m, normaliser, mass if class_weights.size > 0 else number(1))


@inline
def row_loss(z, y, loss, class_weights, scratch):
    """(loss, ``RowState``) of a row of outputs z and targets y.

    scratch : a place for a number
    """
    number = z.array.dtype.type
    if loss.code == SOFTMAX:
        return _softmax_loss(z, y, loss, class_weights)
    total = number(0)
    if loss.code == OWN:
        scratch.array[scratch.at] = 0
        for block in range(_blocks(z)):
            z_here = Place(z.array, z.at + block * z.step)
            y_here = Place(y.array, y.at + block * y.step)
            call_address(loss.address, (scratch, z_here, y_here), (_live(z, block),))
        total = scratch.array[scratch.at]
    else:
        for block in range(_blocks(z)):
            v = point_loss(_block(z, block), _block(y, block), loss)
            total += sum_lanes(where(first_lanes(v, _live(z, block)), v, 0))
    # Only softmax's derivative reads the state; compiled, all branches must return the same type.
    return number(loss.scale) * total, RowState(total, total, total)


@inline
def row_gradient(z, y, block, loss, class_weights, state, scratch):
    """A block of the derivative of the row's loss, zeros beyond its last number.

    scratch : a place for a block
    """
    live = _live(z, block)
    if loss.code == SOFTMAX:
        p = _exponentials(z, block, state.largest) / state.normaliser
        return state.mass * p - _targets(y, block, loss, class_weights)
    if loss.code == OWN:
        z_here = Place(z.array, z.at + block * z.step)
        y_here = Place(y.array, y.at + block * y.step)
        call_address(loss.slope_address, (scratch, z_here, y_here), (live,))
        slope = load_partial(scratch.array, scratch.at, live)
    else:
        slope = point_slope(_block(z, block), _block(y, block), loss)
    return where(first_lanes(slope, live), loss.scale * slope, 0)


@inline
def _argmax(row):
    """The first largest entry of a row; the first NaN if there is one (as np.argmax)."""
    lanes = vector_lanes(row.array)
    for block in range(_blocks(row)):
        v = _block(row, block)
        lane = first_true(v != v)
        if lane < lanes:
            return block * lanes + lane
    largest = _largest(row)
    for block in range(_blocks(row)):
        lane = first_true(_block(row, block) == largest)
        # A zero beyond the last entry may be as large, but comes after the one that is looked for.
        if lane < lanes:
            return block * lanes + lane
    return 0


@inline
def row_error(z, y, loss):
    """1 where the class is missed; of other losses the mean ``point_error`` of the outputs."""
    if loss.code == SOFTMAX:
        return 1.0 if _argmax(z) != _argmax(y) else 0.0
    total = 0.0
    for block in range(_blocks(z)):
        v = point_error(_block(z, block), _block(y, block), loss)
        total += sum_lanes(where(first_lanes(v, _live(z, block)), v, 0))
    return total / z.size


@inline
def _row_of(matrix, row):
    """A row of a C-contiguous matrix."""
    flat = matrix.reshape(-1)
    return Row(flat, row * matrix.shape[1], vector_lanes(flat), matrix.shape[1])


def _row_cost(first, outputs, *rest):
    return 24 * outputs.size


@kernel(cost=_row_cost)
def loss_forward(team, values, outputs, targets, loss, class_weights):
    """The loss of every row.

    values : (N,), overwritten    outputs, targets : (N, K), C-contiguous, of one dtype
    loss : a ``pointwise.Loss``    class_weights : (K,) of softmax, or empty
    """
    for row in range(*share(team, len(outputs))):
        z, y = _row_of(outputs, row), _row_of(targets, row)
        values[row], _ = row_loss(z, y, loss, class_weights, Place(values, row))
    barrier(team)


@kernel(cost=_row_cost)
def loss_backward(team, dz, outputs, targets, loss, class_weights):
    """dz = the derivative of every row's loss with respect to its outputs, not divided by N.

    dz : (N, K), overwritten    the others : as in ``loss_forward``
    """
    out = dz.reshape(-1)
    for row in range(*share(team, len(outputs))):
        z, y = _row_of(outputs, row), _row_of(targets, row)
        _, state = row_loss(z, y, loss, class_weights, Place(out, z.at))
        for block in range(_blocks(z)):
            at = z.at + block * z.step
            gradient = row_gradient(z, y, block, loss, class_weights, state, Place(out, at))
            store_partial(out, at, _live(z, block), gradient)
    barrier(team)


@kernel(cost=_row_cost)
def row_errors(team, errors, outputs, targets, loss):
    """1 where a row's class is missed; of other losses the mean ``point_error`` of its outputs.

    errors : (N,), overwritten    the others : as in ``loss_forward``
    """
    for row in range(*share(team, len(outputs))):
        errors[row] = row_error(_row_of(outputs, row), _row_of(targets, row), loss)
    barrier(team)


@kernel(cost=_row_cost)
def predicted_values(team, values, outputs, loss):
    """What outputs stand for, of losses other than softmax: see ``point_value``.

    values : (n,), overwritten    outputs : (n,), of one dtype    loss : a ``pointwise.Loss``
    """
    lanes = vector_lanes(outputs)
    begin, end = share(team, ceil_div(outputs.size, lanes))
    for i in range(begin * lanes, end * lanes, lanes):
        count = min(lanes, outputs.size - i)
        store_partial(values, i, count, point_value(load_partial(outputs, i, count), loss))
    barrier(team)


@kernel(cost=_row_cost)
def softmax(team, p, logits):
    """p = softmax(logits) of every row.

    p : (N, K), overwritten    logits : (N, K), C-contiguous, of one dtype
    """
    out = p.reshape(-1)
    for row in range(*share(team, len(logits))):
        z = _row_of(logits, row)
        m, normaliser = _normaliser(z)
        for block in range(_blocks(z)):
            at = z.at + block * z.step
            store_partial(out, at, _live(z, block), _exponentials(z, block, m) / normaliser)
    barrier(team)
