"""The compiled epoch: many training steps in one call, for any network that a table describes.

A step has one phase per layer forward and one per layer backward, with a barrier between them:

    forward l     a_l = act(a_(l-1) @ W_l + b_l), batch norm in a phase of its own
    loss          part of the last forward phase where a thread has whole rows of logits; where
                  the batch's loss is not finite, training ends here
    backward l    d_(l-1) = (d_l @ W_l.T) * act'(a_(l-1)), which reads W_l; and, since all have
                  read W_(l+1) one barrier ago, the update of W_(l+1) and b_(l+1)
    last          the update of W_0 and b_0, and the next batch is gathered

No gradient is written to memory, unless the batch has several chunks. A batch lies in chunks of
rows that fit in the second-level cache; ``geometry`` is (rows, rows of a chunk, pitch).
"""

from __future__ import annotations

import numpy as np

from ._jit import entry, inline
from ._memory import load, load_partial, store
from ._operands import chunk_of, publish, row_group, share_rows
from ._simd import vector_lanes
from ._sync import barrier, share
from ._tile import tile_height
from .activation import IDENTITY, activation_slope
from .batchnorm import (
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
    forward_product,
    input_gradient_product,
    weight_gradient_product,
)
from .packing import (
    block_stride,
    ceil_div,
    chunk_count,
    panel_count,
    prefetch_row,
    read_row,
    row_start,
    rows_in_chunk,
)
from .update import update_partial

# Rows asked for before they are copied. Without it the gather took 7 to 9 % of an epoch of
# 784-128-10 at batch 32 and of 784-64-64-32-10 at batch 100. With it, the second's takes 20 µs a
# step on two threads; with two rows ahead, into the first-level cache, it took 30.
ROWS_AHEAD = 4


@inline
def _input_of(table, index, packed, batch_at):
    """(blocks, start) of layer l's input."""
    if index == 0:
        return packed.inputs, batch_at
    return packed.activations, table[index - 1].activations


@inline
def _gather(part, parts, table, packed, data, geometry, first, batch_at):
    """Rows first, first + 1, ... of the order into blocks."""
    begin, end = share_rows(part, parts, packed.unit, geometry[0])
    if packed.gathered.size > 0:
        _gather_rounded(part, parts, begin, end, table, packed, data, geometry, first, batch_at)
    else:
        step = geometry[2] * vector_lanes(packed.weights)
        values, width = packed.inputs.values, table[0].inputs
        for i in range(begin, end):
            at = batch_at + row_start(values, width, geometry, i)
            _gather_row(values, at, step, data, first, i, end, width)
    _gather_labels(begin, end, table, packed.labels, data, first)


@inline
def _gather_row(values, at, step, data, first, i, end, width):
    """Row first + i of the order into blocks ``step`` apart; ``end`` is the last row + 1."""
    # Rows lie anywhere in memory: asked for early, the next ones arrive while one is copied.
    prefetch_row(data.x, data.order[first + min(i + ROWS_AHEAD, end - 1)], width)
    read_row(values, at, step, data.x, data.order[first + i], width)


@inline
def _gather_rounded(part, parts, begin, end, table, packed, data, geometry, first, batch_at):
    """The same by way of a few rows of floats at a time, which stay in the first-level cache."""
    lanes, group = vector_lanes(packed.weights), row_group(packed.unit)
    width = table[0].inputs
    room_at = part * (packed.gathered.size // parts)
    for i in range(begin, end, group):
        stop = min(i + group, end)
        for k in range(i, stop):
            at = room_at + (k - i) * lanes
            _gather_row(packed.gathered, at, group * lanes, data, first, k, end, width)
        number = i // geometry[1]
        chunk = chunk_of(packed.weights, batch_at, width, geometry, number)
        row, row_stop = i - number * geometry[1], stop - number * geometry[1]
        publish(
            packed.unit, packed.inputs, chunk, 0, ceil_div(width, lanes), row, row_stop,
            packed.gathered, room_at, group,
        )  # fmt: skip


@inline
def _gather_labels(begin, end, table, labels, data, first):
    """Rows of labels; a class k becomes the k-th unit vector."""
    lanes = vector_lanes(labels)
    classes = table[len(table) - 1].outputs
    width = ceil_div(classes, lanes) * lanes
    for i in range(begin, end):
        row = data.order[first + i]
        if data.classes.size > 0:
            for k in range(width):
                labels[i * width + k] = 0
            labels[i * width + data.classes[row]] = 1
        else:
            read_row(labels, i * width, lanes, data.y, row, classes)


@inline
def _forward_linear(part, parts, table, index, packed, batch_at, geometry):
    """Layer l up to its activation, or up to its batch norm if it has one."""
    layer = table[index]
    x, x_at = _input_of(table, index, packed, batch_at)
    normalised = layer.flat_gamma >= 0
    y = packed.normals if normalised else packed.activations
    activation = IDENTITY if normalised else layer.activation
    for chunk in range(chunk_count(geometry)):
        forward_product(
            part, parts, packed.unit,
            y, chunk_of(packed.weights, layer.activations, layer.outputs, geometry, chunk),
            x, chunk_of(packed.weights, x_at, layer.inputs, geometry, chunk),
            packed.weights, layer.packed_w, layer.packed_b, packed.scratch, activation,
        )  # fmt: skip


@inline
def _publish_block(packed, blocks, layer, block, geometry):
    """Round a block of a layer's outputs, or of their gradients, over all rows of the batch."""
    lanes, pitch = vector_lanes(packed.weights), geometry[2]
    for number in range(chunk_count(geometry)):
        chunk = chunk_of(packed.weights, layer.activations, layer.outputs, geometry, number)
        at = chunk.at + block * pitch * lanes
        publish(
            packed.unit, blocks, chunk, block, block + 1, 0, chunk.rows, blocks.values, at, pitch
        )


@inline
def _moments_at(table, index, packed):
    """Where layer l's batch moments are kept from its forward to its backward phase."""
    return index * (packed.variances.size // len(table))


@inline
def _forward_batchnorm(part, parts, table, index, flat, packed, geometry):
    """Batch norm in training mode, and the activation.

    The moments are kept for the backward phase, which moves the running statistics by them: a
    batch whose loss is not finite never gets there.
    """
    layer = table[index]
    pitch = geometry[2]
    lanes = vector_lanes(packed.weights)
    stride = block_stride(packed.weights, layer.outputs, pitch)
    begin, end = share(part, parts, ceil_div(layer.outputs, lanes))
    for block in range(begin, end):
        column = block * lanes
        at = layer.activations + column * pitch
        count = min(lanes, layer.outputs - column)
        mean, variance = batchnorm_statistics(packed.normals.values, at, stride, geometry)
        gamma = load_partial(flat.parameters, layer.flat_gamma + column, count)
        beta = load_partial(flat.parameters, layer.flat_beta + column, count)
        batchnorm_normalise(
            packed.activations.values, packed.normals.values, at, stride, geometry,
            mean, variance, gamma, beta, layer.activation,
        )  # fmt: skip
        _publish_block(packed, packed.activations, layer, block, geometry)
        store(packed.means, _moments_at(table, index, packed) + column, mean)
        store(packed.variances, _moments_at(table, index, packed) + column, variance)


@inline
def _backward_batchnorm(part, parts, table, index, flat, packed, geometry, plan, rate):
    """d of batch norm's output becomes d of its input; all that the layer learns is updated."""
    layer = table[index]
    pitch = geometry[2]
    lanes = vector_lanes(packed.weights)
    number = packed.weights.dtype.type
    stride = block_stride(packed.weights, layer.outputs, pitch)
    scale = number(1) / number(geometry[0]) if plan.mean_reduction else number(1)
    # HW1P1 section 3.5: batch norm learns without momentum.
    factors = (rate, number(0), number(0))
    keep = flat.statistics.dtype.type(layer.alpha)
    begin, end = share(part, parts, ceil_div(layer.outputs, lanes))
    for block in range(begin, end):
        column = block * lanes
        count = min(lanes, layer.outputs - column)
        moments_at = _moments_at(table, index, packed) + column
        mean, variance = load(packed.means, moments_at), load(packed.variances, moments_at)
        gamma = load_partial(flat.parameters, layer.flat_gamma + column, count)
        dgamma, dbeta = batchnorm_input_gradient(
            packed.deltas.values, packed.normals.values, layer.activations + column * pitch,
            stride, geometry, variance, gamma,
        )  # fmt: skip
        _publish_block(packed, packed.deltas, layer, block, geometry)
        running_average(flat.statistics, layer.flat_mean + column, count, mean, keep)
        running_average(flat.statistics, layer.flat_var + column, count, variance, keep)
        for at, gradient in ((layer.flat_gamma, dgamma), (layer.flat_beta, dbeta)):
            update_partial(
                flat.parameters, flat.velocities, at + column, count, gradient * scale, factors
            )


@inline
def _rows_of_share(part, parts, rows, outputs, packed):
    """(begin, end) of the rows whose logits this part computed, if they lie in one panel."""
    lanes, height = vector_lanes(packed.weights), tile_height(packed.unit, packed.weights)
    blocks, tiles = ceil_div(outputs, lanes), ceil_div(rows, height)
    begin, end = share(part, parts, tiles * blocks)
    return min(rows, ceil_div(begin, blocks) * height), min(rows, ceil_div(end, blocks) * height)


@inline
def _loss(part, parts, table, packed, geometry, row_losses, row_errors):
    """Loss and error of this part's rows, and the gradient of the last pre-activations."""
    layer = table[len(table) - 1]
    _, chunk_rows, pitch = geometry
    lanes = vector_lanes(packed.weights)
    classes = layer.outputs
    blocks = ceil_div(classes, lanes)
    stride = block_stride(packed.weights, classes, pitch)
    step = pitch * lanes
    for chunk in range(chunk_count(geometry)):
        in_chunk = rows_in_chunk(geometry, chunk)
        begin, end = _rows_of_share(part, parts, in_chunk, classes, packed)
        for row in range(begin, end):
            i = chunk * chunk_rows + row
            at = layer.activations + chunk * stride + row * lanes
            y_at = i * blocks * lanes
            z = packed.activations.values
            loss, m, normaliser = row_loss(z, at, step, packed.labels, y_at, lanes, classes)
            row_losses[i] = loss
            truth = argmax_row(packed.labels, y_at, lanes, classes)
            row_errors[i] = argmax_row(z, at, step, classes) != truth
            for block in range(blocks):
                k = at + block * step
                p = softmax_block(z, at, step, block, classes, m, normaliser)
                delta = p - load(packed.labels, y_at + block * lanes)
                slope = activation_slope(load(z, k), layer.activation)
                store(packed.deltas.values, k, delta * slope)
        logits = chunk_of(packed.weights, layer.activations, classes, geometry, chunk)
        publish(
            packed.unit, packed.deltas, logits, 0, blocks, begin, end,
            packed.deltas.values, logits.at + begin * lanes, pitch,
        )  # fmt: skip


@inline
def _input_gradient(part, parts, table, index, packed, geometry):
    """d of the layer before layer l, which is not the first."""
    layer, before = table[index], table[index - 1]
    for chunk in range(chunk_count(geometry)):
        input_gradient_product(
            part, parts, packed.unit, packed.deltas, packed.activations,
            chunk_of(packed.weights, before.activations, layer.inputs, geometry, chunk),
            packed.deltas,
            chunk_of(packed.weights, layer.activations, layer.outputs, geometry, chunk),
            packed.weights, layer.packed_w, packed.scratch, before.activation,
        )  # fmt: skip


@inline
def _update_linear(part, parts, table, index, packed, batch_at, geometry, plan, rate):
    """The gradient of layer l's weights and biases, and their update."""
    layer = table[index]
    pitch = geometry[2]
    lanes = vector_lanes(packed.weights)
    number = packed.weights.dtype.type
    x, x_at = _input_of(table, index, packed, batch_at)
    chunks = chunk_count(geometry)
    scale = number(1) / number(geometry[0])
    factors = (rate, number(plan.decay), number(plan.momentum))
    for chunk in range(chunks):
        first, last = chunk == 0, chunk == chunks - 1
        mode = (UPDATE if first else ADD_UPDATE) if last else (STORE if first else ADD)
        weight_gradient_product(
            part, parts, packed.unit,
            packed.weights, packed.velocities, packed.gradients, layer.packed_w,
            x, chunk_of(packed.weights, x_at, layer.inputs, geometry, chunk),
            packed.deltas,
            chunk_of(packed.weights, layer.activations, layer.outputs, geometry, chunk),
            mode, scale, factors,
        )  # fmt: skip
    if layer.flat_b >= 0:
        y_stride = block_stride(packed.weights, layer.outputs, pitch)
        factors = (rate, number(0), number(plan.momentum))
        begin, end = share(part, parts, ceil_div(layer.outputs, lanes))
        for block in range(begin, end):
            gradient = scale * column_sums(
                packed.deltas.values, layer.activations + block * pitch * lanes, y_stride, geometry
            )
            at = layer.packed_b + block * lanes
            update_partial(packed.weights, packed.velocities, at, lanes, gradient, factors)


@inline
def _step(part, parts, sync, table, flat, packed, geometry, batch_at, plan, rate, rows_out):
    """Forward, loss and backward of the batch at batch_at, up to the first layer's update.

    Returns the sum of the rows' losses. Where it is not finite, the backward pass and all updates
    are left out.
    """
    layers = len(table)
    row_losses, row_errors = rows_out
    for index in range(layers):
        _forward_linear(part, parts, table, index, packed, batch_at, geometry)
        normalised = table[index].flat_gamma >= 0
        whole_rows = panel_count(ceil_div(table[index].outputs, vector_lanes(packed.weights))) == 1
        if normalised or index < layers - 1 or not whole_rows:
            barrier(sync, part, parts)
        if normalised:
            _forward_batchnorm(part, parts, table, index, flat, packed, geometry)
            barrier(sync, part, parts)
    _loss(part, parts, table, packed, geometry, row_losses, row_errors)
    barrier(sync, part, parts)
    # Every part adds up all rows, in the same order, so that all of them decide alike.
    loss = _total(row_losses, geometry[0])
    if not np.isfinite(loss):
        return loss
    for index in range(layers - 1, -1, -1):
        if table[index].flat_gamma >= 0:
            _backward_batchnorm(part, parts, table, index, flat, packed, geometry, plan, rate)
            barrier(sync, part, parts)
        if index + 1 < layers:
            _update_linear(part, parts, table, index + 1, packed, batch_at, geometry, plan, rate)
        if index > 0:
            _input_gradient(part, parts, table, index, packed, geometry)
            barrier(sync, part, parts)
    _update_linear(part, parts, table, 0, packed, batch_at, geometry, plan, rate)
    return loss


@inline
def _batch_geometry(plan, data, step):
    """Geometry of a step's batch; the last of an epoch may be short."""
    left = data.order.size - step * plan.batch_size
    return min(plan.batch_size, left), plan.chunk_rows, plan.pitch


@entry
def train_steps(
    part, parts, sync, table, flat, packed, data, plan, rates, first, last, rows_out, steps_out
):
    """Train on the batches first ... last-1 of the order.

    rates : (steps,) learning rate of every step of the order
    rows_out : (loss, error) per row of a batch, room to work
    steps_out : (sum of losses, count of errors) per step, overwritten for the steps done
    Returns ``last``; or, once the sum of a step's losses is not finite, that step, whose sums are
    written while neither it nor any later step changes the network.
    """
    step_losses, step_errors = steps_out
    half = packed.inputs.by_row.size // 2
    geometry = _batch_geometry(plan, data, first)
    _gather(part, parts, table, packed, data, geometry, first * plan.batch_size, 0)
    barrier(sync, part, parts)
    for step in range(first, last):
        batch_at = (step - first) % 2 * half
        geometry = _batch_geometry(plan, data, step)
        loss = _step(
            part, parts, sync, table, flat, packed, geometry, batch_at, plan, rates[step], rows_out
        )
        if part == 0:
            step_losses[step] = loss
            step_errors[step] = _total(rows_out[1], geometry[0])
        if not np.isfinite(loss):
            # Once part 0 returns, the next call may overwrite the losses that others still add up.
            barrier(sync, part, parts)
            return step
        if step + 1 < last:
            # The other half of the inputs has been free since the last step; the labels are free
            # since this step's loss, one barrier ago or more.
            following = _batch_geometry(plan, data, step + 1)
            _gather(
                part, parts, table, packed, data, following,
                (step + 1) * plan.batch_size, half - batch_at,
            )  # fmt: skip
        barrier(sync, part, parts)
    return last


@inline
def _total(values, count):
    """Sum of the first ``count`` values, in order."""
    total = 0.0
    for i in range(count):
        total += values[i]
    return total
