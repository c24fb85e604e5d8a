"""A batch's rows, out of the order in memory, into the blocks that the first layer reads."""

from __future__ import annotations

from typing import NamedTuple

from ._geometry import Geometry
from ._jit import inline
from ._memory import Place
from ._operands import Rectangle, operand_of, publish_from, row_group, share_rows
from ._simd import vector_lanes
from .packing import ceil_div, prefetch_row, read_row, row_start

# How many rows ahead of the one that is copied are asked for. Without that the gather took 7 to 9 %
# of an epoch of 784-128-10 at batch 32 and of 784-64-64-32-10 at batch 100. In the latter it now
# takes 20 µs a step on two threads; asking two rows ahead, into the first-level cache, it took 30.
ROWS_AHEAD = 4


class Batch(NamedTuple):
    """A batch in the input buffer, which has space for two."""

    first: int  # where its rows begin in the order
    at: int  # where its blocks begin in the buffer
    geometry: Geometry


@inline
def input_of(network, index, batch, number):
    """Chunk ``number`` of layer l's input."""
    layer, packed = network.table[index], network.packed
    if index == 0:
        return operand_of(packed.inputs, batch.at, layer.inputs, batch.geometry, number)
    at = network.table[index - 1].activations
    return operand_of(packed.activations, at, layer.inputs, batch.geometry, number)


@inline
def gather(team, network, data, batch):
    """The batch's rows of the order into blocks, and their labels."""
    packed, geometry = network.packed, batch.geometry
    begin, end = share_rows(team, packed.unit, geometry.rows)
    if packed.gathered.size > 0:
        _gather_rounded(team, network, data, batch, begin, end)
    else:
        step = geometry.pitch * vector_lanes(packed.staged)
        values, width = packed.inputs.values, network.table[0].inputs
        for i in range(begin, end):
            place = Place(values, batch.at + row_start(values, width, geometry, i))
            _gather_row(place, step, data, batch.first, i, end, width)
    _gather_labels(network, data, batch, begin, end)


@inline
def _gather_row(place, step, data, first, i, end, width):
    """Row first + i of the order into blocks ``step`` apart; ``end`` is the last row + 1."""
    # Rows lie anywhere in memory: those asked for early arrive while others are copied.
    prefetch_row(data.x, data.order[first + min(i + ROWS_AHEAD, end - 1)], width)
    read_row(place.array, place.at, step, data.x, data.order[first + i], width)


@inline
def _gather_rounded(team, network, data, batch, begin, end):
    """The rows for a unit that rounds: copied as floats, a few at a time, and rounded from there.

    The copies stay in the first-level cache.
    """
    packed, geometry = network.packed, batch.geometry
    lanes, group = vector_lanes(packed.staged), row_group(packed.unit)
    width = network.table[0].inputs
    rows_at = team.part * (packed.gathered.size // team.parts)
    for i in range(begin, end, group):
        stop = min(i + group, end)
        for k in range(i, stop):
            place = Place(packed.gathered, rows_at + (k - i) * lanes)
            _gather_row(place, group * lanes, data, batch.first, k, end, width)
        number = i // geometry.chunk_rows
        before = number * geometry.chunk_rows
        rectangle = Rectangle(0, ceil_div(width, lanes), i - before, stop - before)
        operand = input_of(network, 0, batch, number)
        publish_from(packed.unit, operand, rectangle, Place(packed.gathered, rows_at), group)


@inline
def _gather_labels(network, data, batch, begin, end):
    """Rows of labels, and their weights; a class k becomes the k-th unit vector."""
    labels, weights = network.packed.labels, network.packed.row_weights
    lanes = vector_lanes(labels)
    classes = network.table[len(network.table) - 1].outputs
    width = ceil_div(classes, lanes) * lanes
    for i in range(begin, end):
        row = data.order[batch.first + i]
        weights[i] = data.weights[row] if data.weights.size > 0 else 1
        if data.classes.size > 0:
            for k in range(width):
                labels[i * width + k] = 0
            labels[i * width + data.classes[row]] = 1
        else:
            read_row(labels, i * width, lanes, data.y, row, classes)
