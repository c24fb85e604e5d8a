"""Losses of rows of outputs: softmax cross-entropy through LogSumExp, and those of ``pointwise``.

    loss = -sum_k t_k log softmax(z)_k = sum_k t_k (log sum_j exp(z_j - m) - (z_k - m)),  m = max z

The targets t are the row's labels y; smoothed, (1 - s) y + s / K (Szegedy et al., "Rethinking the
inception architecture", 2016, section 7); and weighted by class. Reference: CMU 11-785 HW1P1,
appendices A and B. Rows of labels need not sum to 1; the derivative is softmax(z) - t all the same
(section 3.2), unless classes have weights: then softmax(z) is multiplied by the sum of t.

As many rows as a register has lanes are worked on together, a lane each: blocks of their numbers
are transposed into scratch, so that no sum runs over lanes. All sums over a row are in the order of
its numbers, so a row has the same bits beside whatever other rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import inline, kernel
from ._math import exp
from ._math_smooth import log
from ._memory import Place, load, load_partial, squares_on_stack, store, store_partial
from ._own import call_address
from ._rows import (
    OUTPUTS,
    RESULTS,
    SQUARES,
    TARGETS,
    Rows,
    blocks_of,
    live_in,
    square_at,
    transpose_in,
    transpose_next,
    transpose_out,
)
from ._simd import full_like, vector_lanes, where
from ._sync import barrier, share
from ._vocabulary import RARE, WHOLE, Vocabulary, needs
from .packing import ceil_div
from .pointwise import OWN, SOFTMAX, Loss, point_error, point_loss, point_slope, point_value


class Samples(NamedTuple):
    """Rows of outputs z and of their targets y, and what is to be made of them."""

    z: Rows
    y: Rows
    loss: Loss
    class_weights: np.ndarray  # (K,) of softmax, or empty
    scratch: np.ndarray  # ``SQUARES`` squares, see ``squares_on_stack``
    vocabulary: Vocabulary


class SoftmaxState(NamedTuple):
    """What the derivatives of softmax's rows take: registers, a lane per row."""

    largest: float
    normaliser: float  # sum of exp(z - largest)
    mass: float  # what multiplies the probabilities


@inline
def _largest(z, scratch):
    """The largest of each row of logits; NaN is passed over, and seen in what follows."""
    lanes = vector_lanes(scratch)
    largest = full_like(load(scratch, 0), -np.inf)
    for block in range(blocks_of(z)):
        transpose_next(scratch, OUTPUTS, z, block)
        for k in range(live_in(z, block)):
            v = load(scratch, k * lanes)
            largest = where(v > largest, v, largest)
    return largest


@inline
def _first_largest(rows, scratch, number):
    """Where the largest number of each row first stands, or the first NaN (as np.argmax)."""
    lanes, square = vector_lanes(scratch), square_at(scratch, number)
    largest = full_like(load(scratch, 0), -np.inf)
    where_first = full_like(largest, 0)
    for block in range(blocks_of(rows)):
        transpose_next(scratch, number, rows, block)
        for k in range(live_in(rows, block)):
            v = load(scratch, square + k * lanes)
            # Only NaN differs from itself.
            new_nan = where(v != v, where(largest == largest, full_like(v, 1), 0), 0)
            larger = where(v > largest, full_like(v, 1), new_nan) > 0
            largest = where(larger, v, largest)
            where_first = where(larger, full_like(v, block * lanes + k), where_first)
    return where_first


@inline
def _normaliser(z, scratch, largest):
    """The sum of exp(z - largest) of each row."""
    lanes = vector_lanes(scratch)
    total = full_like(largest, 0)
    for block in range(blocks_of(z)):
        transpose_next(scratch, OUTPUTS, z, block)
        for k in range(live_in(z, block)):
            total = total + exp(load(scratch, k * lanes) - largest)
    return total


@inline
def _target(samples, block, k):
    """Number k of a block of the targets that lies in scratch, smoothed and weighted."""
    scratch, loss = samples.scratch, samples.loss
    lanes = vector_lanes(scratch)
    target = load(scratch, square_at(scratch, TARGETS) + k * lanes)
    if loss.parameter != 0:
        target = (1 - loss.parameter) * target + loss.parameter / samples.y.size
    if samples.class_weights.size > 0:
        target = target * samples.class_weights[block * lanes + k]
    return target


@inline
def begin_losses(samples):
    """Bring the first blocks to scratch: to be called before all that follows."""
    transpose_in(samples.scratch, OUTPUTS, samples.z, 0)
    transpose_in(samples.scratch, TARGETS, samples.y, 0)


@inline
def _transpose_both(samples, block):
    """Bring a block to scratch, unless it is the only one."""
    transpose_next(samples.scratch, OUTPUTS, samples.z, block)
    transpose_next(samples.scratch, TARGETS, samples.y, block)


@inline
def _softmax_losses(samples):
    """(losses, ``SoftmaxState``)."""
    scratch = samples.scratch
    lanes = vector_lanes(scratch)
    largest = _largest(samples.z, scratch)
    normaliser = _normaliser(samples.z, scratch, largest)
    log_normaliser = log(normaliser)
    # Not just 0: a NaN among the logits must be seen even where all labels are 0.
    total, mass = normaliser * 0, full_like(normaliser, 0)
    for block in range(blocks_of(samples.z)):
        _transpose_both(samples, block)
        for k in range(live_in(samples.z, block)):
            target = _target(samples, block, k)
            term = target * (log_normaliser - (load(scratch, k * lanes) - largest))
            # A class of label 0 adds 0, even where its logit is -inf.
            total = total + where(target == 0, full_like(term, 0), term)
            mass = mass + target
    if samples.class_weights.size == 0:
        mass = full_like(mass, 1)
    return total, SoftmaxState(largest, normaliser, mass)


@inline
def _no_sums(samples, of_errors):
    return full_like(load(samples.scratch, 0), 0)


@needs(RARE, _no_sums)
def _sums(samples, of_errors):
    """The sums over each row of its outputs' losses, or of their errors; not of softmax."""
    if samples.loss.code == OWN and not of_errors:
        return _own_losses(samples)
    scratch = samples.scratch
    lanes, targets_at = vector_lanes(scratch), square_at(scratch, TARGETS)
    total = full_like(load(scratch, 0), 0)
    for block in range(blocks_of(samples.z)):
        _transpose_both(samples, block)
        for k in range(live_in(samples.z, block)):
            z, y = load(scratch, k * lanes), load(scratch, targets_at + k * lanes)
            if of_errors:
                total = total + point_error(z, y, samples.loss)
            else:
                total = total + point_loss(z, y, samples.loss)
    return total


@inline
def _own_losses(samples):
    """The sums of a user's own losses, row by row."""
    z, y, loss, _, scratch, _ = samples
    sums_at = square_at(scratch, RESULTS)
    store(scratch, sums_at, full_like(load(scratch, sums_at), 0))
    for row in range(z.count):
        for block in range(blocks_of(z)):
            z_here, y_here = _block_of_row(z, row, block), _block_of_row(y, row, block)
            places = Place(scratch, sums_at + row), z_here, y_here
            call_address(loss.address, places, (live_in(z, block),))
    return load(scratch, sums_at)


@inline
def _block_of_row(rows, row, block):
    return Place(rows.array, rows.at + row * rows.row_step + block * rows.block_step)


@inline
def _losses(samples):
    """(losses, ``SoftmaxState``); of other losses the state is of no use."""
    if samples.loss.code == SOFTMAX:
        return _softmax_losses(samples)
    total = samples.loss.scale * _sums(samples, False)
    # Compiled, all branches must return the same type.
    return total, SoftmaxState(total, total, total)


@inline
def store_losses(losses, at, samples):
    """losses[at :] = those of the samples. Returns their ``SoftmaxState``."""
    values, state = _losses(samples)
    results_at = square_at(samples.scratch, RESULTS)
    store(samples.scratch, results_at, values)
    for row in range(samples.z.count):
        losses[at + row] = samples.scratch[results_at + row]
    return state


@inline
def store_errors(errors, at, samples):
    """errors[at :] = 1 where the class is missed; of other losses the mean ``point_error``."""
    z, y, loss, _, scratch, _ = samples
    results_at, parts = square_at(scratch, RESULTS), 1.0
    if loss.code == SOFTMAX:
        predicted = _first_largest(z, scratch, OUTPUTS)
        expected = _first_largest(y, scratch, TARGETS)
        store(scratch, results_at, where(predicted == expected, full_like(predicted, 0), 1))
    else:
        store(scratch, results_at, _sums(samples, True))
        parts = float(z.size)
    for row in range(z.count):
        errors[at + row] = scratch[results_at + row] / parts


@inline
def store_gradients(out, samples, state):
    """Rows ``out`` = the derivatives of the losses; lanes beyond the last number stay."""
    z, loss, scratch = samples.z, samples.loss, samples.scratch
    lanes = vector_lanes(scratch)
    for block in range(blocks_of(z)):
        if loss.code == OWN:
            _store_own_gradients(out, samples, block)
            continue
        _transpose_both(samples, block)
        for k in range(live_in(z, block)):
            if loss.code == SOFTMAX:
                p = exp(load(scratch, k * lanes) - state.largest) / state.normaliser
                slope = state.mass * p - _target(samples, block, k)
                store(scratch, square_at(scratch, RESULTS) + k * lanes, slope)
            else:
                _store_point_slope(samples, k)
        transpose_out(out, block, scratch)


@needs(RARE)
def _store_point_slope(samples, k):
    """The derivative of number k of the block that lies in scratch."""
    scratch, loss = samples.scratch, samples.loss
    lanes = vector_lanes(scratch)
    z, y = load(scratch, k * lanes), load(scratch, square_at(scratch, TARGETS) + k * lanes)
    slope = loss.scale * point_slope(z, y, loss)
    store(scratch, square_at(scratch, RESULTS) + k * lanes, slope)


@needs(RARE)
def _store_own_gradients(out, samples, block):
    """A block of the derivatives of a user's own loss, row by row."""
    z, y, loss = samples.z, samples.y, samples.loss
    live = live_in(z, block)
    for row in range(z.count):
        place = _block_of_row(out, row, block)
        places = place, _block_of_row(z, row, block), _block_of_row(y, row, block)
        call_address(loss.slope_address, places, (live,))
        v = load_partial(place.array, place.at, live)
        store_partial(place.array, place.at, live, loss.scale * v)


@inline
def _rows_of(matrix, first):
    """Rows of a C-contiguous matrix, from the first of a group on."""
    flat = matrix.reshape(-1)
    rows, size = matrix.shape
    lanes = vector_lanes(flat)
    return Rows(flat, first * size, size, lanes, min(lanes, rows - first), size)


@inline
def _samples_of(outputs, targets, first, loss, class_weights, scratch):
    """A group of rows of two C-contiguous matrices, ready to be worked on."""
    rows = _rows_of(outputs, first), _rows_of(targets, first)
    samples = Samples(*rows, loss, class_weights, scratch, WHOLE)
    begin_losses(samples)
    return samples


def _row_cost(first, outputs, *rest):
    return 24 * outputs.size


@inline
def _groups(team, matrix):
    """(begin, end) of this part's groups of rows."""
    return share(team, ceil_div(len(matrix), vector_lanes(matrix)))


@kernel(cost=_row_cost)
def loss_forward(team, values, outputs, targets, loss, class_weights):
    """The loss of every row.

    values : (N,), overwritten    outputs, targets : (N, K), C-contiguous, of one dtype
    loss : a ``pointwise.Loss``    class_weights : (K,) of softmax, or empty
    """
    scratch = squares_on_stack(values, SQUARES)
    for group in range(*_groups(team, outputs)):
        first = group * vector_lanes(values)
        samples = _samples_of(outputs, targets, first, loss, class_weights, scratch)
        store_losses(values, first, samples)
    barrier(team)


@kernel(cost=_row_cost)
def loss_backward(team, dz, outputs, targets, loss, class_weights):
    """dz = the derivative of every row's loss with respect to its outputs, not divided by N.

    dz : (N, K), overwritten    the others : as in ``loss_forward``
    """
    scratch = squares_on_stack(dz, SQUARES)
    for group in range(*_groups(team, outputs)):
        first = group * vector_lanes(dz)
        samples = _samples_of(outputs, targets, first, loss, class_weights, scratch)
        _, state = _losses(samples)
        store_gradients(_rows_of(dz, first), samples, state)
    barrier(team)


@kernel(cost=_row_cost)
def row_errors(team, errors, outputs, targets, loss):
    """1 where a row's class is missed; of other losses the mean ``point_error`` of its outputs.

    errors : (N,), overwritten    the others : as in ``loss_forward``
    """
    scratch = squares_on_stack(errors, SQUARES)
    for group in range(*_groups(team, outputs)):
        first = group * vector_lanes(errors)
        # Errors do not ask for weights of classes.
        samples = _samples_of(outputs, targets, first, loss, errors[:0], scratch)
        store_errors(errors, first, samples)
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
    scratch, lanes = squares_on_stack(logits, SQUARES), vector_lanes(logits)
    for group in range(*_groups(team, logits)):
        z, out = _rows_of(logits, group * lanes), _rows_of(p, group * lanes)
        transpose_in(scratch, OUTPUTS, z, 0)
        largest = _largest(z, scratch)
        normaliser = _normaliser(z, scratch, largest)
        for block in range(blocks_of(z)):
            transpose_next(scratch, OUTPUTS, z, block)
            for k in range(live_in(z, block)):
                v = exp(load(scratch, k * lanes) - largest) / normaliser
                store(scratch, square_at(scratch, RESULTS) + k * lanes, v)
            transpose_out(out, block, scratch)
    barrier(team)
