"""The compiled epoch: many training steps in one call, for any network that a table describes.

A step has one phase per layer forward and one per layer backward, with a barrier between them:

    forward l     a_l = act(a_(l-1) @ W_l + b_l), batch norm in a phase of its own
    loss          in the last forward phase if each thread has whole rows of logits, otherwise in
                  one of its own; training ends here if the batch's loss is not finite
    backward l    d_(l-1) = (d_l @ W_l.T) * act'(a_(l-1)), which reads W_l; and, since all have
                  read W_(l+1) one barrier ago, the update of W_(l+1) and b_(l+1)
    last          the update of W_0 and b_0, and the next batch is gathered

No gradient is written to memory, unless the batch has several chunks. A batch lies in chunks of
rows that fit in the second-level cache. ``network`` is a ``Network``, and ``index`` counts its
layers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._geometry import Geometry
from ._jit import entry, inline
from ._memory import Place, load, load_partial, store
from ._operands import Rectangle, operand_of, publish, publish_from, row_group, share_rows
from ._simd import vector_lanes
from ._sync import barrier, share
from ._tile import tile_height
from .activation import IDENTITY, activation_slope
from .batchnorm import (
    Affine,
    batch_block,
    batchnorm_input_gradient,
    batchnorm_normalise,
    batchnorm_statistics,
    column_sums,
    running_average,
)
from .loss import argmax_row, row_loss, softmax_block
from .matmul import (
    ADD,
    ADD_UPDATE,
    STORE,
    UPDATE,
    Weights,
    WeightTarget,
    forward_product,
    input_gradient_product,
    weight_gradient_product,
)
from .packing import (
    ceil_div,
    chunk_count,
    panel_count,
    prefetch_row,
    read_row,
    row_start,
)
from .update import update_partial

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
def _input_of(network, index, batch, number):
    """Chunk ``number`` of layer l's input."""
    layer, packed = network.table[index], network.packed
    if index == 0:
        return operand_of(packed.inputs, batch.at, layer.inputs, batch.geometry, number)
    at = network.table[index - 1].activations
    return operand_of(packed.activations, at, layer.inputs, batch.geometry, number)


@inline
def _output_of(network, index, blocks, geometry, number):
    """Chunk ``number`` of layer l's activations, or of what else lies in such blocks."""
    layer = network.table[index]
    return operand_of(blocks, layer.activations, layer.outputs, geometry, number)


@inline
def _weights_of(network, index):
    layer = network.table[index]
    return Weights(network.packed.weights, layer.packed_w, layer.packed_b)


@inline
def _gather(team, network, data, batch):
    """The batch's rows of the order into blocks, and their labels."""
    packed, geometry = network.packed, batch.geometry
    begin, end = share_rows(team, packed.unit, geometry.rows)
    if packed.gathered.size > 0:
        _gather_rounded(team, network, data, batch, begin, end)
    else:
        step = geometry.pitch * vector_lanes(packed.weights)
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
    lanes, group = vector_lanes(packed.weights), row_group(packed.unit)
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
        operand = _input_of(network, 0, batch, number)
        publish_from(packed.unit, operand, rectangle, Place(packed.gathered, rows_at), group)


@inline
def _gather_labels(network, data, batch, begin, end):
    """Rows of labels; a class k becomes the k-th unit vector."""
    labels = network.packed.labels
    lanes = vector_lanes(labels)
    classes = network.table[len(network.table) - 1].outputs
    width = ceil_div(classes, lanes) * lanes
    for i in range(begin, end):
        row = data.order[batch.first + i]
        if data.classes.size > 0:
            for k in range(width):
                labels[i * width + k] = 0
            labels[i * width + data.classes[row]] = 1
        else:
            read_row(labels, i * width, lanes, data.y, row, classes)


@inline
def _forward_linear(team, network, index, batch):
    """Layer l up to its activation, or up to its batch norm if it has one."""
    layer, packed = network.table[index], network.packed
    normalised = layer.flat_gamma >= 0
    y = packed.normals if normalised else packed.activations
    activation = IDENTITY if normalised else layer.activation
    for number in range(chunk_count(batch.geometry)):
        forward_product(
            team, packed.unit, _output_of(network, index, y, batch.geometry, number),
            _input_of(network, index, batch, number), _weights_of(network, index), packed.scratch,
            activation,
        )  # fmt: skip


@inline
def _publish_block(network, index, blocks, block, geometry):
    """Round a block of a layer's outputs, or of their gradients, over all rows of the batch."""
    for number in range(chunk_count(geometry)):
        operand = _output_of(network, index, blocks, geometry, number)
        publish(network.packed.unit, operand, Rectangle(block, block + 1, 0, operand.chunk.rows))


@inline
def _moments_at(network, index):
    """Where layer l's batch moments are kept from its forward to its backward phase."""
    return index * (network.packed.variances.size // len(network.table))


@inline
def _forward_batchnorm(team, network, index, geometry):
    """Batch norm in training mode, and the activation.

    The moments are kept for the backward phase, which moves the running statistics by them: a
    batch whose loss is not finite never gets there.
    """
    table, flat, packed = network
    layer = table[index]
    lanes = vector_lanes(packed.weights)
    for number in range(*share(team, ceil_div(layer.outputs, lanes))):
        column = number * lanes
        count = min(lanes, layer.outputs - column)
        block = batch_block(packed.weights, layer.activations, layer.outputs, geometry, number)
        mean, variance = batchnorm_statistics(packed.normals.values, block)
        affine = Affine(
            mean,
            variance,
            load_partial(flat.parameters, layer.flat_gamma + column, count),
            load_partial(flat.parameters, layer.flat_beta + column, count),
        )
        batchnorm_normalise(
            packed.activations.values, packed.normals.values, block, affine, layer.activation
        )
        _publish_block(network, index, packed.activations, number, geometry)
        store(packed.means, _moments_at(network, index) + column, mean)
        store(packed.variances, _moments_at(network, index) + column, variance)


@inline
def _backward_batchnorm(team, network, index, geometry, plan, rate):
    """d of batch norm's output becomes d of its input; all that the layer learns is updated."""
    table, flat, packed = network
    layer = table[index]
    lanes = vector_lanes(packed.weights)
    number_type = packed.weights.dtype.type
    scale = number_type(1) / number_type(geometry.rows) if plan.mean_reduction else number_type(1)
    # HW1P1 section 3.5: batch norm learns without momentum.
    factors = (rate, number_type(0), number_type(0))
    keep = flat.statistics.dtype.type(layer.alpha)
    for number in range(*share(team, ceil_div(layer.outputs, lanes))):
        column = number * lanes
        count = min(lanes, layer.outputs - column)
        block = batch_block(packed.weights, layer.activations, layer.outputs, geometry, number)
        moments_at = _moments_at(network, index) + column
        mean, variance = load(packed.means, moments_at), load(packed.variances, moments_at)
        gamma = load_partial(flat.parameters, layer.flat_gamma + column, count)
        dgamma, dbeta = batchnorm_input_gradient(
            packed.deltas.values, packed.normals.values, block, variance, gamma
        )
        _publish_block(network, index, packed.deltas, number, geometry)
        running_average(flat.statistics, layer.flat_mean + column, count, mean, keep)
        running_average(flat.statistics, layer.flat_var + column, count, variance, keep)
        for at, gradient in ((layer.flat_gamma, dgamma), (layer.flat_beta, dbeta)):
            update_partial(
                flat.parameters, flat.velocities, at + column, count, gradient * scale, factors
            )


@inline
def _rows_of_share(team, rows, outputs, packed):
    """(begin, end) of the rows whose logits this part computed, if they lie in one panel."""
    lanes, height = vector_lanes(packed.weights), tile_height(packed.unit, packed.weights)
    blocks, tiles = ceil_div(outputs, lanes), ceil_div(rows, height)
    begin, end = share(team, tiles * blocks)
    return min(rows, ceil_div(begin, blocks) * height), min(rows, ceil_div(end, blocks) * height)


@inline
def _loss(team, network, geometry):
    """Loss and error of this part's rows, and the gradient of the last pre-activations."""
    packed, last = network.packed, len(network.table) - 1
    layer = network.table[last]
    lanes = vector_lanes(packed.weights)
    classes = layer.outputs
    blocks = ceil_div(classes, lanes)
    step = geometry.pitch * lanes
    z = packed.activations.values
    for number in range(chunk_count(geometry)):
        deltas = _output_of(network, last, packed.deltas, geometry, number)
        begin, end = _rows_of_share(team, deltas.chunk.rows, classes, packed)
        for row in range(begin, end):
            i = number * geometry.chunk_rows + row
            at = deltas.chunk.at + row * lanes
            y_at = i * blocks * lanes
            loss, m, normaliser = row_loss(z, at, step, packed.labels, y_at, lanes, classes)
            packed.row_losses[i] = loss
            truth = argmax_row(packed.labels, y_at, lanes, classes)
            packed.row_errors[i] = argmax_row(z, at, step, classes) != truth
            for block in range(blocks):
                k = at + block * step
                p = softmax_block(z, at, step, block, classes, m, normaliser)
                delta = p - load(packed.labels, y_at + block * lanes)
                slope = activation_slope(load(z, k), layer.activation)
                store(packed.deltas.values, k, delta * slope)
        publish(packed.unit, deltas, Rectangle(0, blocks, begin, end))


@inline
def _input_gradient(team, network, index, geometry):
    """d of the layer before layer l, which is not the first."""
    packed = network.packed
    for number in range(chunk_count(geometry)):
        input_gradient_product(
            team, packed.unit, _output_of(network, index - 1, packed.deltas, geometry, number),
            packed.activations, _output_of(network, index, packed.deltas, geometry, number),
            _weights_of(network, index), packed.scratch, network.table[index - 1].activation,
        )  # fmt: skip


@inline
def _update_linear(team, network, index, batch, plan, rate):
    """The gradient of layer l's weights and biases, and their update."""
    layer, packed, geometry = network.table[index], network.packed, batch.geometry
    number_type = packed.weights.dtype.type
    chunks = chunk_count(geometry)
    scale = number_type(1) / number_type(geometry.rows)
    factors = (rate, number_type(plan.decay), number_type(plan.momentum))
    target = WeightTarget(packed.weights, packed.velocities, packed.gradients, layer.packed_w)
    for number in range(chunks):
        first, last = number == 0, number == chunks - 1
        mode = (UPDATE if first else ADD_UPDATE) if last else (STORE if first else ADD)
        weight_gradient_product(
            team, packed.unit, target, _input_of(network, index, batch, number),
            _output_of(network, index, packed.deltas, geometry, number), mode, scale, factors,
        )  # fmt: skip
    if layer.flat_b >= 0:
        _update_bias(team, network, index, geometry, scale, (rate, number_type(0), factors[2]))


@inline
def _update_bias(team, network, index, geometry, scale, factors):
    """The gradient of layer l's biases, and their update."""
    layer, packed = network.table[index], network.packed
    lanes = vector_lanes(packed.weights)
    for number in range(*share(team, ceil_div(layer.outputs, lanes))):
        block = batch_block(packed.weights, layer.activations, layer.outputs, geometry, number)
        gradient = scale * column_sums(packed.deltas.values, block)
        at = layer.packed_b + number * lanes
        update_partial(packed.weights, packed.velocities, at, lanes, gradient, factors)


@inline
def _step(team, network, batch, plan, rate):
    """Forward, loss and backward of a batch, and all updates.

    Returns the sum of the rows' losses. Where it is not finite, the backward pass and all updates
    are left out.
    """
    table, _, packed = network
    layers = len(table)
    for index in range(layers):
        _forward_linear(team, network, index, batch)
        normalised = table[index].flat_gamma >= 0
        whole_rows = panel_count(ceil_div(table[index].outputs, vector_lanes(packed.weights))) == 1
        if normalised or index < layers - 1 or not whole_rows:
            barrier(team)
        if normalised:
            _forward_batchnorm(team, network, index, batch.geometry)
            barrier(team)
    _loss(team, network, batch.geometry)
    barrier(team)
    # Every part adds up all rows, in the same order, so that all of them decide alike.
    loss = _total(packed.row_losses, batch.geometry.rows)
    if not np.isfinite(loss):
        return loss
    for index in range(layers - 1, -1, -1):
        if table[index].flat_gamma >= 0:
            _backward_batchnorm(team, network, index, batch.geometry, plan, rate)
            barrier(team)
        if index + 1 < layers:
            _update_linear(team, network, index + 1, batch, plan, rate)
        if index > 0:
            _input_gradient(team, network, index, batch.geometry)
            barrier(team)
    _update_linear(team, network, 0, batch, plan, rate)
    return loss


@inline
def _batch_of(plan, data, step, at):
    """A step's batch, to lie at ``at`` in the input buffer; the last of an epoch may be short."""
    first = step * plan.batch_size
    rows = min(plan.batch_size, data.order.size - first)
    return Batch(first, at, Geometry(rows, plan.chunk_rows, plan.pitch))


@entry
def train_steps(team, network, data, plan, rates, first, last, steps_out):
    """Train on the batches first ... last-1 of the order.

    network, data, plan : a ``Network``, ``Data`` and ``Plan``
    rates : (steps,) learning rate of every step of the order
    steps_out : (sum of losses, count of errors) per step, overwritten for the steps done
    Returns ``last``; or, once the sum of a step's losses is not finite, that step, whose sums are
    written while neither it nor any later step changes the network.
    """
    step_losses, step_errors = steps_out
    packed = network.packed
    half = packed.inputs.by_row.size // 2
    batch = _batch_of(plan, data, first, 0)
    _gather(team, network, data, batch)
    barrier(team)
    for step in range(first, last):
        loss = _step(team, network, batch, plan, rates[step])
        if team.part == 0:
            step_losses[step] = loss
            step_errors[step] = _total(packed.row_errors, batch.geometry.rows)
        if not np.isfinite(loss):
            # Once part 0 returns, the next call may overwrite the losses that others still add up.
            barrier(team)
            return step
        if step + 1 < last:
            # The other half of the input buffer was last read in the step before, and the labels
            # in this step's loss; all threads have passed a barrier since.
            batch = _batch_of(plan, data, step + 1, half - batch.at)
            _gather(team, network, data, batch)
        barrier(team)
    return last


@inline
def _total(values, count):
    """Sum of the first ``count`` values, in order."""
    total = 0.0
    for i in range(count):
        total += values[i]
    return total
