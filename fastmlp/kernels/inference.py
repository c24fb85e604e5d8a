"""The forward pass alone: many rows through packed weights, or a few straight from the flat
ones."""

from __future__ import annotations

import numpy as np

from ._jit import entry, inline
from ._memory import load, load_numbers, load_partial, store
from ._operands import Chunk, in_step, operand, publish
from ._simd import fma, sqrt, vector_lanes
from ._sync import barrier, share
from .activation import IDENTITY, activate
from .batchnorm import EPS, batchnorm_normalise
from .matmul import forward_product
from .packing import ceil_div, read_row, write_row


@inline
def _normalise_block(layer, flat, column, count):
    """(mean, variance, gamma, beta) of a block of features, from the running statistics."""
    return (
        load_partial(flat.statistics, layer.flat_mean + column, count),
        load_partial(flat.statistics, layer.flat_var + column, count),
        load_partial(flat.parameters, layer.flat_gamma + column, count),
        load_partial(flat.parameters, layer.flat_beta + column, count),
    )


@inline
def _layer_blocks(unit, layer, flat, weights, scratch, y, x, room_at, geometry):
    """One layer on one chunk that this thread has to itself; y and x may both be overwritten."""
    rows, _, pitch = geometry
    lanes = vector_lanes(weights)
    normalised = layer.flat_gamma >= 0
    y_chunk = Chunk(room_at, pitch, rows, layer.outputs)
    forward_product(
        0, 1, unit, y, y_chunk, x, Chunk(room_at, pitch, rows, layer.inputs), weights,
        layer.packed_w, layer.packed_b, scratch, IDENTITY if normalised else layer.activation,
    )  # fmt: skip
    if normalised:
        for block in range(ceil_div(layer.outputs, lanes)):
            column = block * lanes
            count = min(lanes, layer.outputs - column)
            mean, variance, gamma, beta = _normalise_block(layer, flat, column, count)
            at = room_at + column * pitch
            batchnorm_normalise(
                y.values, y.values, at, 0, geometry, mean, variance, gamma, beta, layer.activation
            )
            publish(unit, y, y_chunk, block, block + 1, 0, rows, y.values, at, pitch)


@entry
def infer_rows(part, parts, sync, out, table, flat, weights, source, first, geometry, unit, room):
    """out = the network's outputs for rows first, first + 1, ... of the source.

    out : (rows, K) flattened    weights : packed, see ``pack_buffer``
    geometry : (rows, rows of a chunk, pitch)    unit : what multiplies
    room : two ``Blocks`` of one chunk of the widest layer for every part, and scratch
    Chunks are shared among the parts; each takes its own through all layers, so the activations
    stay in its cache.
    """
    rows, chunk_rows, pitch = geometry
    lanes = vector_lanes(weights)
    layers = len(table)
    classes = table[layers - 1].outputs
    x, y, whole_scratch = room
    room_at = part * (x.values.size // parts)
    piece = whole_scratch.size // parts
    scratch = whole_scratch[part * piece : (part + 1) * piece]
    begin, end = share(part, parts, ceil_div(rows, chunk_rows))
    for chunk in range(begin, end):
        start = chunk * chunk_rows
        count = min(chunk_rows, rows - start)
        here = (count, chunk_rows, pitch)
        for row in range(count):
            at = room_at + row * lanes
            read_row(x.values, at, pitch * lanes, source, first + start + row, table[0].inputs)
        x_chunk = Chunk(room_at, pitch, count, table[0].inputs)
        blocks = ceil_div(x_chunk.width, lanes)
        publish(unit, x, x_chunk, 0, blocks, 0, count, x.values, room_at, pitch)
        for index in range(layers):
            _layer_blocks(unit, table[index], flat, weights, scratch, y, x, room_at, here)
            x, y = y, x
        for row in range(count):
            at = room_at + row * lanes
            write_row(out, (start + row) * classes, classes, x.values, at, pitch * lanes)
    barrier(sync, part, parts)


@inline
def _factors_of(unit, factors, starts, x, count, columns, at, finite):
    """factors = the numbers of x[:count], as and in the order that a product reads them.

    starts : for each of them, where its row of a matrix at ``at`` of ``columns`` columns starts
    finite : whether the matrix is known to be finite; zeros are left out then, since 0 times
        infinity or NaN is NaN
    Returns how many factors there are.
    """
    lanes = vector_lanes(x)
    for column in range(0, count, lanes):
        store(x, column, operand(unit, load(x, column)))
    left = 0
    for step in range(count):
        k = in_step(unit, step, count)
        factors[left] = x[k]
        starts[left] = at + k * columns
        left += x[k] != 0 or not finite
    return left


def _add_rows(count):
    """y += x[k : k + count] @ (as many rows of w), one number of x after the other.

    w : row-major    starts : where each row starts in w    y : padded to whole vectors
    Whole rows are read, one after the other in memory, which the hardware foresees. y goes through
    the first-level cache once in ``count`` rows. The compiler cannot know that y is no part of x:
    it would read the factors again for every vector, were they not taken out first (45 for 37 µs
    on 784-512-512-10).
    """

    @inline
    def add(unit, y, x, w, starts, k, columns):
        lanes = vector_lanes(y)
        whole = columns // lanes * lanes
        factors = load_numbers(x, k, count)
        rows = load_numbers(starts, k, count)
        for column in range(0, whole, lanes):
            total = load(y, column)
            for row in range(count):
                total = fma(factors[row], operand(unit, load(w, rows[row] + column)), total)
            store(y, column, total)
        if whole < columns:
            total = load(y, whole)
            for row in range(count):
                rest = load_partial(w, rows[row] + whole, columns - whole)
                total = fma(factors[row], operand(unit, rest), total)
            store(y, whole, total)

    return add


_add_eight_rows, _add_row = _add_rows(8), _add_rows(1)


@inline
def _layer_row(unit, layer, flat, y, x, factors, starts, finite):
    """One layer on one row: y = act(norm(x @ w + b)), from the flat parameters.

    Rows of a finite w that meet a zero are not read: four of five pixels of a digit are zeros, and
    about half of what a ReLU leaves.
    """
    lanes = vector_lanes(y)
    outputs = layer.outputs
    for column in range(0, outputs, lanes):
        count = min(lanes, outputs - column) if layer.flat_b >= 0 else 0
        store(y, column, load_partial(flat.parameters, max(layer.flat_b, 0) + column, count))
    left = _factors_of(unit, factors, starts, x, layer.inputs, outputs, layer.flat_w, finite)
    eights = left // 8 * 8
    for k in range(0, eights, 8):
        _add_eight_rows(unit, y, factors, flat.parameters, starts, k, outputs)
    for k in range(eights, left):
        _add_row(unit, y, factors, flat.parameters, starts, k, outputs)
    for column in range(0, layer.outputs, lanes):
        count = min(lanes, layer.outputs - column)
        v = load(y, column)
        if layer.flat_gamma >= 0:
            mean, variance, gamma, beta = _normalise_block(layer, flat, column, count)
            v = gamma * ((v - mean) * (1 / sqrt(variance + EPS))) + beta
        store(y, column, activate(v, layer.activation))


@entry
def infer_few_rows(out, table, flat, source, unit, finite):
    """out = the network's outputs for the first rows of the source, one by one on one thread.

    out : (rows, K)    unit : what multiplies many rows; its rounding and its order are kept
    finite : whether all weights are known to be finite
    """
    lanes = vector_lanes(flat.parameters)
    widest = 0
    for layer in table:
        widest = max(widest, layer.inputs, layer.outputs)
    padded = ceil_div(widest, lanes) * lanes
    x, y = np.empty(padded, out.dtype), np.empty(padded, out.dtype)
    factors, starts = np.empty(padded, out.dtype), np.empty(widest, np.int64)
    for row in range(len(out)):
        read_row(x, 0, lanes, source, row, table[0].inputs)
        for index in range(len(table)):
            _layer_row(unit, table[index], flat, y, x, factors, starts, finite)
            x, y = y, x
        write_row(out[row], 0, out.shape[1], x, 0, lanes)
