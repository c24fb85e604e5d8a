"""The phases of a training step: forward, loss, backward, update.

A step has one phase per layer forward and one per layer backward, with a barrier between them:

    forward l     a_l = act(a_(l-1) @ W_l + b_l), norms, parametric activations, residual
                  connections and dropout in phases of their own
    loss          in the last forward phase if each thread has whole rows of logits, otherwise in
                  one of its own; training ends here if the batch's loss is not finite
    backward l    d_(l-1) = (d_l @ W_l.T) * act'(a_(l-1)), which reads W_l; and, since all have
                  read W_(l+1) one barrier ago, the update of W_(l+1) and b_(l+1)
    last          the update of W_0 and b_0, and the next batch is gathered

So no gradient is written to memory, unless there are several of these: a large batch goes through
forward, loss and backward one microbatch after the other, so that all it needs stays in the
second-level cache, and the updates are made in the backward of the last. Only batch norm wants the
batch whole, which then lies in chunks of rows. Where gradients are clipped together, added up over
batches, or parameters averaged, or where the input has learnt scales or embeddings, they are
*apart* from the update: each phase above writes them, and one more phase updates all parameters.
Those of shards of a batch are left in memory: see ``apart``.

``network`` is a ``Network``, ``index`` counts its layers, and ``batch`` is a microbatch.
"""

from __future__ import annotations

from ._jit import inline
from ._memory import load, load_numbers, load_partial, squares_on_stack, store
from ._operands import Rectangle, operand_of, publish
from ._rows import SQUARES, Rows
from ._simd import vector_lanes
from ._sync import barrier, share
from ._tile import tile_height
from ._vocabulary import NORMS, needs, needs_zeros
from .activation import activation_slope, formula_of, no_activation
from .batchnorm import (
    Affine,
    batch_block,
    batchnorm_input_gradient,
    batchnorm_normalise,
    batchnorm_statistics,
    column_sums,
    has_batchnorm,
    running_average,
)
from .embed import has_embedding
from .extras import (
    backward_embedding,
    backward_layernorm,
    backward_whole,
    changes_output,
    forward_extras,
    forward_layernorm,
    gradient_so_far,
    kept_of,
    output_of,
    publish_block,
    slope_of,
    takes_whole_gradient,
    update_affine,
    update_vectors,
)
from .gather import input_of
from .layernorm import has_layernorm
from .loss import Samples, begin_losses, store_errors, store_gradients, store_losses
from .matmul import (
    ADD,
    ADD_UPDATE,
    STORE,
    UPDATE,
    FusedUpdate,
    GradientTarget,
    Weights,
    forward_product,
    input_gradient_product,
    weight_gradient_product,
)
from .mix import early_formula
from .packing import ceil_div, chunk_count, panel_count
from .present import Inputs, features_of_part, whole
from .rules import FACTORS


@inline
def _weights_of(network, index):
    layer = network.table[index]
    return Weights(network.packed.learnt.parameters, layer.packed_w, layer.packed_b)


@inline
def _whole_inputs(team, network, index, batch, number):
    return whole(input_of(network, index, batch, number))


@needs_zeros(otherwise=_whole_inputs)
def _inputs_of(team, network, index, batch, number):
    """Chunk ``number`` of layer l's input; of the network's, the features that are present."""
    x, packed = input_of(network, index, batch, number), network.packed
    present = batch.present if index == 0 else -1
    width = network.table[0].inputs
    features = features_of_part(team, packed.staged, packed.lists, width, present, batch.runs)
    return Inputs(x.blocks, x.chunk, features)


@inline
def forward_linear(team, network, index, batch):
    """Layer l up to its activation, or up to its batch norm if it has one."""
    layer, packed = network.table[index], network.packed
    normalised = layer.flat_gamma >= 0
    y = packed.normals if normalised else packed.activations
    formula = early_formula(layer, True, network.vocabulary)
    if normalised:
        formula = no_activation(network.vocabulary)
    for number in range(chunk_count(batch.geometry)):
        forward_product(
            team, packed.unit, output_of(network, index, y, batch.geometry, number),
            _inputs_of(team, network, index, batch, number), _weights_of(network, index),
            packed.scratch, formula, packed.slopes,
        )  # fmt: skip


@inline
def _moments_at(network, index):
    """Where layer l's batch moments are kept from its forward to its backward phase."""
    return index * (network.packed.variances.size // len(network.table))


@needs(NORMS)
def _forward_batchnorm(team, network, index, geometry):
    """Batch norm in training mode, and the activation.

    The moments are kept for the backward phase, which moves the running statistics by them: a
    batch whose loss is not finite never gets there.
    """
    layer, packed = network.table[index], network.packed
    lanes = vector_lanes(packed.staged)
    for number in range(*share(team, ceil_div(layer.outputs, lanes))):
        column = number * lanes
        block = batch_block(packed.staged, layer.activations, layer.outputs, geometry, number)
        mean, variance = batchnorm_statistics(packed.normals.values, block)
        affine = Affine(
            mean,
            variance,
            load(packed.learnt.parameters, layer.packed_gamma + column),
            load(packed.learnt.parameters, layer.packed_beta + column),
        )
        batchnorm_normalise(
            packed.activations.values, packed.slopes, packed.normals.values, block, affine,
            early_formula(layer, True, network.vocabulary),
        )  # fmt: skip
        publish_block(network, index, packed.activations, number, geometry)
        store(packed.means, _moments_at(network, index) + column, mean)
        store(packed.variances, _moments_at(network, index) + column, variance)


@needs(NORMS)
def _backward_batchnorm(team, network, index, geometry, turn):
    """d of batch norm's output becomes d of its input; gammas, betas and statistics learn."""
    table, statistics, packed = network.table, network.statistics, network.packed
    layer = table[index]
    lanes = vector_lanes(packed.staged)
    keep = statistics.dtype.type(layer.alpha)
    for number in range(*share(team, ceil_div(layer.outputs, lanes))):
        column = number * lanes
        count = min(lanes, layer.outputs - column)
        block = batch_block(packed.staged, layer.activations, layer.outputs, geometry, number)
        moments_at = _moments_at(network, index) + column
        mean, variance = load(packed.means, moments_at), load(packed.variances, moments_at)
        gamma = load(packed.learnt.parameters, layer.packed_gamma + column)
        dgamma, dbeta = batchnorm_input_gradient(
            packed.deltas.values, packed.normals.values, block, variance, gamma
        )
        publish_block(network, index, packed.deltas, number, geometry)
        running_average(statistics, layer.flat_mean + column, count, mean, keep)
        running_average(statistics, layer.flat_var + column, count, variance, keep)
        gamma_at, beta_at = layer.packed_gamma + column, layer.packed_beta + column
        store(packed.gradients, gamma_at, gradient_so_far(packed, gamma_at, turn) + dgamma)
        store(packed.gradients, beta_at, gradient_so_far(packed, beta_at, turn) + dbeta)
    if turn.fused:
        update_affine(team, network, index, turn)


@inline
def _rows_of_share(team, rows, outputs, packed):
    """(begin, end) of the rows whose logits this part computed, if they lie in one panel."""
    lanes, height = vector_lanes(packed.staged), tile_height(packed.unit, packed.staged)
    blocks, tiles = ceil_div(outputs, lanes), ceil_div(rows, height)
    begin, end = share(team, tiles * blocks)
    return min(rows, ceil_div(begin, blocks) * height), min(rows, ceil_div(end, blocks) * height)


@inline
def loss_of_rows(team, network, data, plan, geometry):
    """Loss and error of this part's rows, and the gradient of the last pre-activations."""
    packed, last = network.packed, len(network.table) - 1
    layer = network.table[last]
    lanes = vector_lanes(packed.staged)
    blocks = ceil_div(layer.outputs, lanes)
    step = geometry.pitch * lanes
    kept, formula = kept_of(network, last).array, formula_of(layer, True, network.vocabulary)
    out, width = packed.deltas.values, blocks * lanes
    scratch = squares_on_stack(out, SQUARES)
    for number in range(chunk_count(geometry)):
        deltas = output_of(network, last, packed.deltas, geometry, number)
        begin, end = _rows_of_share(team, deltas.chunk.rows, layer.outputs, packed)
        for row in range(begin, end, lanes):
            i, at = number * geometry.chunk_rows + row, deltas.chunk.at + row * lanes
            z = Rows(
                packed.activations.values, at, lanes, step, min(lanes, end - row), layer.outputs
            )
            y = Rows(packed.labels, i * width, width, lanes, z.count, layer.outputs)
            samples = Samples(z, y, plan.loss, data.class_weights, scratch, network.vocabulary)
            begin_losses(samples)
            state = store_losses(packed.row_losses, i, samples)
            store_errors(packed.row_errors, i, samples)
            store_gradients(Rows(out, *z[1:]), samples, state)
            for sample in range(z.count):
                weight = packed.row_weights[i + sample]
                packed.row_losses[i + sample] *= weight
                packed.row_errors[i + sample] *= weight
                for block in range(blocks):
                    k = at + sample * lanes + block * step
                    delta = load_partial(out, k, layer.outputs - block * lanes)
                    store(out, k, weight * delta * activation_slope(load(kept, k), formula))
        publish(packed.unit, deltas, Rectangle(0, blocks, begin, end))


@inline
def input_gradient(team, network, index, geometry):
    """d of what layer l reads: the outputs of the layer before, or the input of the network."""
    packed, before = network.packed, max(index - 1, 0)
    kept, formula = kept_of(network, before).array, slope_of(network, before)
    if index == 0 or takes_whole_gradient(network, before):
        formula = no_activation(network.vocabulary)
    for number in range(chunk_count(geometry)):
        target = output_of(network, before, packed.deltas, geometry, number)
        if index == 0:
            width = network.table[0].inputs
            target = operand_of(packed.input_deltas, 0, width, geometry, number)
        input_gradient_product(
            team, packed.unit, target, kept,
            output_of(network, index, packed.deltas, geometry, number),
            _weights_of(network, index), packed.scratch, formula,
        )  # fmt: skip


@inline
def update_linear(team, network, index, batch, turn):
    """The gradient of layer l's weights and biases; and their update, if that is fused."""
    layer, packed, geometry = network.table[index], network.packed, batch.geometry
    chunks = chunk_count(geometry)
    factors = load_numbers(turn.factors, layer.group_w * FACTORS, FACTORS)
    target = GradientTarget(packed.gradients, layer.packed_w)
    learnt = packed.learnt
    update = FusedUpdate(learnt.parameters, learnt.velocities, turn.scale, factors)
    for number in range(chunks):
        first, last = number == 0 and turn.first, number == chunks - 1 and turn.fused
        mode = (UPDATE if first else ADD_UPDATE) if last else (STORE if first else ADD)
        weight_gradient_product(
            team, packed.unit, target, _inputs_of(team, network, index, batch, number),
            output_of(network, index, packed.deltas, geometry, number), mode, update,
        )  # fmt: skip
    if layer.flat_b >= 0:
        lanes = vector_lanes(packed.staged)
        begin, end = share(team, ceil_div(layer.outputs, lanes))
        for number in range(begin, end):
            block = batch_block(packed.staged, layer.activations, layer.outputs, geometry, number)
            at = layer.packed_b + number * lanes
            so_far = gradient_so_far(packed, at, turn)
            store(packed.gradients, at, column_sums(packed.deltas.values, block, so_far))
        if turn.fused:
            first, count = layer.packed_b + begin * lanes, (end - begin) * lanes
            update_vectors(packed, first, count, layer.group_b, turn.scale, turn)


@inline
def forward_pass(team, network, batch):
    """All forward phases of a microbatch, up to the last pre-activations or activations."""
    table, packed = network.table, network.packed
    layers = len(table)
    for index in range(layers):
        forward_linear(team, network, index, batch)
        batchnorm, layernorm = has_batchnorm(table[index]), has_layernorm(table[index])
        whole_rows = panel_count(ceil_div(table[index].outputs, vector_lanes(packed.staged))) == 1
        if batchnorm or layernorm or index < layers - 1 or not whole_rows:
            barrier(team)
        changed = changes_output(network, index)
        if layernorm:
            forward_layernorm(team, network, index, batch.geometry)
            barrier(team)
        if batchnorm:
            _forward_batchnorm(team, network, index, batch.geometry)
        if changed:
            # Each part changes the blocks that it has normalised: no barrier between them.
            forward_extras(team, network, index, batch)
        if batchnorm or changed:
            barrier(team)


@inline
def backward_pass(team, network, data, batch, turn):
    """All backward phases of a microbatch, and the updates that are fused with them."""
    table = network.table
    layers = len(table)
    for index in range(layers - 1, -1, -1):
        if takes_whole_gradient(network, index):
            backward_whole(team, network, index, batch, turn)
            barrier(team)
        if has_batchnorm(table[index]):
            _backward_batchnorm(team, network, index, batch.geometry, turn)
            barrier(team)
        if has_layernorm(table[index]):
            backward_layernorm(team, network, index, batch.geometry, turn)
            barrier(team)
            if turn.fused:
                update_affine(team, network, index, turn)
        if index + 1 < layers:
            update_linear(team, network, index + 1, batch, turn)
        if index > 0 or has_embedding(table[0]):
            input_gradient(team, network, index, batch.geometry)
            barrier(team)
    if has_embedding(table[0]):
        backward_embedding(team, network, data, batch, turn)
    update_linear(team, network, 0, batch, turn)
