"""A batch's rows, out of the order in memory, into the blocks that the first layer reads."""

from __future__ import annotations

from typing import NamedTuple

from ._geometry import Geometry
from ._jit import inline
from ._memory import Place, load, store
from ._operands import Rectangle, operand_of, publish_from, row_group, share_rows
from ._simd import vector_lanes
from ._vocabulary import EXTRAS, NORMS, needs, needs_rounding, needs_zeros
from .dropout import draw_of, drop_rows
from .embed import clear_row, embed_row, has_embedding, raw_width, sizes_of
from .packing import ceil_div, prefetch_row, read_row, row_start
from .present import begin_to_see, see_row
from .scale import ScaledLayer, has_scale, scale_row

# How many rows ahead of the one that is copied are asked for. Without that the gather took 7 to 9 %
# of an epoch of 784-128-10 at batch 32 and of 784-64-64-32-10 at batch 100. In the latter it now
# takes 20 µs a step on two threads; asking two rows ahead, into the first-level cache, it took 30.
ROWS_AHEAD = 4


class Batch(NamedTuple):
    """A microbatch in the input buffer, which has space for two."""

    first: int  # where its rows begin in the order
    at: int  # where its blocks begin in the buffer
    geometry: Geometry
    step: int  # of the epoch
    before: int  # rows of the step's batch that came in earlier microbatches
    dropout: float  # what the shares that are dropped are multiplied by
    present: int  # of the input's features, and runs of these: see ``present.Features``
    runs: int


@inline
def dropout_of(network, index, batch):
    """What of layer l's input a step drops."""
    masks = network.packed.masks
    share = network.table[index].dropout * batch.dropout
    return draw_of(share, index, masks[1] + batch.step, masks[0])


@inline
def rows_in_batch(batch, first, end):
    """Rows of a microbatch as its step's batch counts them, by which dropout draws."""
    return batch.before + first, batch.before + end


@inline
def input_of(network, index, batch, number):
    """Chunk ``number`` of layer l's input."""
    layer, packed = network.table[index], network.packed
    if index == 0:
        return operand_of(packed.inputs, batch.at, layer.inputs, batch.geometry, number)
    at = network.table[index - 1].activations
    return operand_of(packed.activations, at, layer.inputs, batch.geometry, number)


@inline
def _scales_of(network):
    """What the columns of the input are multiplied by."""
    return Place(network.packed.learnt.parameters, network.table[0].packed_scale)


@inline
def scaled_layer(network):
    """The first layer, whose input has learnt scales."""
    packed, layer = network.packed, network.table[0]
    return ScaledLayer(
        Place(packed.learnt.parameters, layer.packed_w), Place(packed.gradients, layer.packed_w),
        _scales_of(network), Place(packed.gradients, layer.packed_scale),
        layer.inputs, layer.outputs, True,
    )  # fmt: skip


@inline
def gather(team, network, data, batch, sees):
    """The batch's rows of the order into blocks, and their labels.

    sees : whether to note which features they have, for ``present.find_present``
    """
    packed = network.packed
    begin, end = share_rows(team, packed.unit, batch.geometry.rows)
    if packed.gathered.size > 0:
        _gather_rounded(team, network, data, batch, begin, end)
    else:
        _gather_floats(team, network, data, batch, begin, end, sees)
    _gather_labels(network, data, batch, begin, end)


@inline
def gather_labels(team, network, data, batch):
    """The labels alone."""
    begin, end = share_rows(team, network.packed.unit, batch.geometry.rows)
    _gather_labels(network, data, batch, begin, end)


@needs_zeros()
def _begin_to_see(team, network):
    begin_to_see(team, network.packed.seen)


@needs_zeros()
def _see_row(team, network, place, step):
    see_row(team, network.packed.seen, place, step, network.table[0].inputs)


@inline
def _gather_floats(team, network, data, batch, begin, end, sees):
    """The rows for a unit that multiplies floats, straight to where they stay."""
    values, geometry = network.packed.inputs.values, batch.geometry
    step, width = geometry.pitch * vector_lanes(values), network.table[0].inputs
    if sees:
        _begin_to_see(team, network)
    for i in range(begin, end):
        place = Place(values, batch.at + row_start(values, width, geometry, i))
        _gather_row(place, step, data, batch.first, i, end, raw_width(network.table[0]))
        _complete_row(network, place, step)
        if sees:
            _see_row(team, network, place, step)
    if network.table[0].dropout > 0:
        chunk_rows = geometry.chunk_rows
        for number in range(begin // chunk_rows, ceil_div(end, chunk_rows)):
            first, stop = max(begin, number * chunk_rows), min(end, (number + 1) * chunk_rows)
            place = Place(values, batch.at + row_start(values, width, geometry, first))
            _drop_inputs(place, step, (first, stop), network, batch)


@inline
def _gather_row(place, step, data, first, i, end, width):
    """Row first + i of the order into blocks ``step`` apart; ``end`` is the last row + 1."""
    # Rows lie anywhere in memory: those asked for early arrive while others are copied.
    prefetch_row(data.x, data.order[first + min(i + ROWS_AHEAD, end - 1)], width)
    read_row(place.array, place.at, step, data.x, data.order[first + i], width)


@needs(EXTRAS)
def _complete_row(network, place, step):
    """What follows on a row, in blocks ``step`` apart: its embeddings, and the scales."""
    layer = network.table[0]
    if has_embedding(layer):
        numbers = Place(network.packed.learnt.parameters, layer.packed_embed)
        clear_row(place.array, place.at, step, raw_width(layer), layer.inputs)
        embed_row(place.array, place.at, step, raw_width(layer), sizes_of(layer), numbers)
    if has_scale(layer):
        scale_row(place.array, place.at, step, _scales_of(network), layer.inputs)


@needs(NORMS)
def _drop_inputs(place, step, rows, network, batch):
    """Drop from rows of the microbatch, in one chunk, whose blocks lie ``step`` apart."""
    lanes = vector_lanes(place.array)
    draw, rows = dropout_of(network, 0, batch), rows_in_batch(batch, *rows)
    for block in range(ceil_div(network.table[0].inputs, lanes)):
        drop_rows(place.array, place.at + block * step, rows, block * lanes, draw)


@inline
def _keep_inputs(place, rows, network, batch):
    """Copy gathered rows of the batch, all in one chunk, to where they are read as floats."""
    packed, geometry = network.packed, batch.geometry
    lanes, width = vector_lanes(packed.gathered), network.table[0].inputs
    first, end = rows
    for row in range(first, end):
        at = batch.at + row_start(packed.gathered, width, geometry, row)
        for block in range(ceil_div(width, lanes)):
            v = load(place.array, place.at + (block * row_group(packed.unit) + row - first) * lanes)
            store(packed.inputs.values, at + block * geometry.pitch * lanes, v)


@needs_rounding
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
            columns = raw_width(network.table[0])
            _gather_row(place, group * lanes, data, batch.first, k, end, columns)
            _complete_row(network, place, group * lanes)
        if network.table[0].dropout > 0:
            place = Place(packed.gathered, rows_at)
            _drop_inputs(place, group * lanes, (i, stop), network, batch)
        number = i // geometry.chunk_rows
        before = number * geometry.chunk_rows
        if packed.inputs.values.size > 0:
            place = Place(packed.gathered, rows_at)
            _keep_inputs(place, (i, stop), network, batch)
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
