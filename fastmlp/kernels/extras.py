"""What layers have besides products and activations: dropout, layer norm, residual connections.

``network`` is a ``Network``, ``index`` counts its layers. Layers without such extras run none of
this.
"""

from __future__ import annotations

from ._jit import inline
from ._memory import Place, load, load_numbers, load_partial, store
from ._operands import Rectangle, operand_of, publish, share_rows
from ._simd import vector_lanes
from ._sync import barrier, share
from ._vocabulary import EXTRAS, NORMS, needs
from .activation import activation_slope, formula_of, keeping
from .batchnorm import affine_gradients, batch_block
from .dropout import drop_activated, drop_rows
from .embed import add_gradients, multiply_gradients, raw_width, sizes_of
from .gather import dropout_of, input_of, rows_in_batch
from .layernorm import Row, RowAffine, layernorm_row, layernorm_row_gradient
from .mix import early_formula, has_mix, mix_rows
from .packing import ceil_div, chunk_count, read_number, row_start, rows_in_chunk
from .rules import FACTORS
from .scale import has_scale
from .update import PIECE, apply_momentum


@inline
def output_of(network, index, blocks, geometry, number):
    """Chunk ``number`` of layer l's activations, or of what else lies in such blocks."""
    layer = network.table[index]
    return operand_of(blocks, layer.activations, layer.outputs, geometry, number)


@inline
def kept_of(network, index):
    """What layer l's slopes are taken from: its activations, or the slopes themselves."""
    packed = network.packed
    kept = slope_of(network, index).keeps_slope
    # Not the array itself: without reference counts Numba returns none.
    return Place(packed.slopes, 0) if kept else Place(packed.activations.values, 0)


@inline
def is_dropped(network, index):
    """Whether a training step drops some of layer l's outputs."""
    return index + 1 < len(network.table) and network.table[index + 1].dropout > 0


@inline
def is_residual(network, index):
    """Whether layer l's input is added to its output; False behind the last layer."""
    return index < len(network.table) and network.table[index].residual != 0


@inline
def takes_whole_gradient(network, index):
    """Whether the gradient of layer l's output is wanted before it is multiplied by the slopes."""
    changed = is_residual(network, index) or is_residual(network, index + 1)
    return changed or has_mix(network.table[index])


@inline
def changes_output(network, index):
    """Whether layer l's output is changed once its activation is computed."""
    changed = is_dropped(network, index) or is_residual(network, index)
    return changed or has_mix(network.table[index])


@inline
def slope_of(network, index):
    """The formula of layer l's slopes, all of which are kept where its output is changed later."""
    formula = formula_of(network.table[index], True, network.vocabulary)
    kept = formula.keeps_slope or changes_output(network, index)
    return keeping(formula, kept)


@inline
def publish_block(network, index, blocks, block, geometry):
    """Round a block of a layer's outputs, or of their gradients, over all rows of the batch."""
    for number in range(chunk_count(geometry)):
        operand = output_of(network, index, blocks, geometry, number)
        publish(network.packed.unit, operand, Rectangle(block, block + 1, 0, operand.chunk.rows))


@inline
def _stretch_of(network, index, batch, block, chunk):
    """Where a chunk begins in a block of layer l, and (first, end) of its rows in the batch."""
    layer, geometry = network.table[index], batch.geometry
    place = batch_block(network.packed.staged, layer.activations, layer.outputs, geometry, block)
    first = chunk * geometry.chunk_rows
    rows = rows_in_batch(batch, first, first + rows_in_chunk(geometry, chunk))
    return place.at + chunk * place.stride, rows


@inline
def forward_block(network, index, block, batch):
    """A block of layer l's outputs, once it is activated: its input is added, some are dropped.

    Parametric activations are computed here, before that.
    """
    for chunk in range(chunk_count(batch.geometry)):
        if has_mix(network.table[index]):
            _mix_chunk(network, index, block, batch, chunk)
        if is_residual(network, index):
            _add_input_chunk(network, index, block, batch, chunk)
        if is_dropped(network, index):
            _drop_chunk(network, index, block, batch, chunk)
    publish_block(network, index, network.packed.activations, block, batch.geometry)


@inline
def _kept_before_drops(network, index):
    """What is kept of layer l before some of its outputs are dropped."""
    formula = formula_of(network.table[index], True, network.vocabulary)
    return keeping(formula, formula.keeps_slope or has_mix(network.table[index]))


@needs(EXTRAS)
def _mix_chunk(network, index, block, batch, chunk):
    """A block of a chunk of pre-activations becomes outputs of a parametric activation."""
    packed, layer = network.packed, network.table[index]
    at, rows = _stretch_of(network, index, batch, block, chunk)
    weights = load(packed.learnt.parameters, layer.packed_mix + block * vector_lanes(packed.staged))
    formula = formula_of(layer, True, network.vocabulary)
    y = packed.activations.values
    mix_rows(y, packed.slopes, packed.bends, at, rows[1] - rows[0], weights, formula)


@needs(EXTRAS)
def _add_input_chunk(network, index, block, batch, chunk):
    """Add layer l's input to a block of a chunk of its outputs."""
    packed, operand = network.packed, input_of(network, index, batch, chunk)
    at, rows = _stretch_of(network, index, batch, block, chunk)
    x_at = operand.chunk.at + block * operand.chunk.pitch * vector_lanes(packed.staged)
    x, kept = Place(operand.blocks.values, x_at), _kept_before_drops(network, index)
    add_input(packed.activations.values, packed.slopes, at, x, rows, kept)


@inline
def _drop_chunk(network, index, block, batch, chunk):
    """Drop some of a block of a chunk of layer l's outputs, and of what is kept of them."""
    packed, column = network.packed, block * vector_lanes(network.packed.staged)
    at, rows = _stretch_of(network, index, batch, block, chunk)
    y, draw = packed.activations.values, dropout_of(network, index + 1, batch)
    if is_residual(network, index):
        drop_rows(y, at, rows, column, draw)
    else:
        kept = _kept_before_drops(network, index)
        drop_activated(y, packed.slopes, at, rows, column, draw, kept)
        if has_mix(network.table[index]):
            drop_rows(packed.bends, at, rows, column, draw)


@inline
def add_input(y, slopes, at, x, rows, formula):
    """Rows of a block of y = act(z) become act(z) + x; all slopes of act are kept.

    x : a ``Place``    rows : (first, end)    slopes : those of act where the formula keeps them
    """
    lanes = vector_lanes(y)
    first, end = rows
    for row in range(end - first):
        i = at + row * lanes
        a = load(y, i)
        if not formula.keeps_slope:
            store(slopes, i, activation_slope(a, formula))
        store(y, i, a + load(x.array, x.at + row * lanes))


@needs(NORMS)
def forward_extras(team, network, index, batch):
    """``forward_block`` for this part's blocks."""
    lanes = vector_lanes(network.packed.staged)
    for block in range(*share(team, ceil_div(network.table[index].outputs, lanes))):
        forward_block(network, index, block, batch)


@needs(EXTRAS)
def backward_whole(team, network, index, batch, turn):
    """d of layer l's output, whole, becomes d of what its activation is of.

    What passed by the layer behind is added; what passes by this one is kept. The weights of a
    parametric activation learn.
    """
    packed, geometry = network.packed, batch.geometry
    deltas, lanes = packed.deltas.values, vector_lanes(packed.staged)
    residual, behind = is_residual(network, index), is_residual(network, index + 1)
    kept, formula, layer = (
        kept_of(network, index).array,
        slope_of(network, index),
        network.table[index],
    )
    for block in range(*share(team, ceil_div(layer.outputs, lanes))):
        mix_at = layer.packed_mix + block * lanes
        sums = (
            gradient_so_far(packed, mix_at, turn) if has_mix(layer) else load_partial(deltas, 0, 0)
        )
        for chunk in range(chunk_count(geometry)):
            at, rows = _stretch_of(network, index, batch, block, chunk)
            end = at + (rows[1] - rows[0]) * lanes
            # The same part has had the same block of the layer behind, which is as wide.
            to_skips = -layer.activations
            if behind:
                for i in range(at, end, lanes):
                    store(deltas, i, load(deltas, i) + load(packed.skips, i + to_skips))
            if residual and is_dropped(network, index):
                drop_rows(deltas, at, rows, block * lanes, dropout_of(network, index + 1, batch))
            if has_mix(layer):
                for i in range(at, end, lanes):
                    sums = sums + load(deltas, i) * load(packed.bends, i)
            for i in range(at, end, lanes):
                v = load(deltas, i)
                if residual:
                    store(packed.skips, i + to_skips, v)
                store(deltas, i, v * activation_slope(load(kept, i), formula))
        publish_block(network, index, packed.deltas, block, geometry)
        if has_mix(layer):
            store(packed.gradients, mix_at, sums)
            if turn.fused:
                update_vectors(packed, mix_at, lanes, layer.group_mix, turn.scale, turn)


@inline
def _rows_of_part(team, network, geometry, number):
    """(begin, end) of this part's rows of a chunk."""
    return share_rows(team, network.packed.unit, rows_in_chunk(geometry, number))


@inline
def _row_of(network, index, geometry, number, row):
    """A row of a chunk of layer l's blocks."""
    lanes = vector_lanes(network.packed.staged)
    chunk = output_of(network, index, network.packed.deltas, geometry, number).chunk
    return Row(chunk.at + row * lanes, chunk.pitch * lanes, chunk.width)


@inline
def _scale_at(network, index, geometry, number):
    """Where it is kept by what the first row of a chunk was divided in layer l."""
    each = network.packed.row_scales.size // len(network.table)
    return index * each + number * geometry.chunk_rows


@needs(EXTRAS)
def forward_layernorm(team, network, index, geometry):
    """Layer norm, and the activation, of this part's rows."""
    layer, packed = network.table[index], network.packed
    parameters, formula = packed.learnt.parameters, early_formula(layer, True, network.vocabulary)
    gamma, beta = Place(parameters, layer.packed_gamma), Place(parameters, layer.packed_beta)
    blocks = ceil_div(layer.outputs, vector_lanes(packed.staged))
    for number in range(chunk_count(geometry)):
        begin, end = _rows_of_part(team, network, geometry, number)
        scale_at = _scale_at(network, index, geometry, number)
        for row in range(begin, end):
            packed.row_scales[scale_at + row] = layernorm_row(
                packed.activations.values, packed.slopes, packed.normals.values,
                _row_of(network, index, geometry, number, row), RowAffine(gamma, beta), formula,
            )  # fmt: skip
        operand = output_of(network, index, packed.activations, geometry, number)
        publish(packed.unit, operand, Rectangle(0, blocks, begin, end))


@needs(EXTRAS)
def backward_layernorm(team, network, index, geometry, turn):
    """d of layer norm's output becomes d of its input; gammas and betas are to be updated then."""
    layer, packed = network.table[index], network.packed
    deltas, normals = packed.deltas.values, packed.normals.values
    lanes = vector_lanes(packed.staged)
    blocks = ceil_div(layer.outputs, lanes)
    for number in range(*share(team, blocks)):
        block = batch_block(packed.staged, layer.activations, layer.outputs, geometry, number)
        gamma_at, beta_at = layer.packed_gamma + number * lanes, layer.packed_beta + number * lanes
        dgamma, dbeta = affine_gradients(
            deltas, normals, block,
            gradient_so_far(packed, gamma_at, turn), gradient_so_far(packed, beta_at, turn),
        )  # fmt: skip
        store(packed.gradients, gamma_at, dgamma)
        store(packed.gradients, beta_at, dbeta)
    # Those sums are over all rows: none may change before.
    barrier(team)
    gamma = Place(packed.learnt.parameters, layer.packed_gamma)
    for number in range(chunk_count(geometry)):
        begin, end = _rows_of_part(team, network, geometry, number)
        scale_at = _scale_at(network, index, geometry, number)
        for row in range(begin, end):
            place = _row_of(network, index, geometry, number, row)
            scale = packed.row_scales[scale_at + row]
            layernorm_row_gradient(deltas, normals, place, gamma, scale)
        operand = output_of(network, index, packed.deltas, geometry, number)
        publish(packed.unit, operand, Rectangle(0, blocks, begin, end))


@needs(EXTRAS)
def backward_embedding(team, network, data, batch, turn):
    """The gradients of this part's columns' embeddings, from those of the first layer's input.

    Must come after a barrier.
    """
    layer, packed, geometry = network.table[0], network.packed, batch.geometry
    learnt, at = packed.learnt.parameters, layer.packed_embed
    sizes, lanes = sizes_of(layer), vector_lanes(packed.staged)
    if layer.dropout > 0:
        _drop_input_deltas(team, network, batch)
        barrier(team)
    deltas = Place(packed.staged, team.part * PIECE)
    for column in range(*share(team, sizes.columns)):
        if turn.first:
            zero = packed.gradients.dtype.type(0)
            multiply_gradients(Place(packed.gradients, at), sizes, column, zero)
        feature = raw_width(layer) + column * sizes.outputs
        for i in range(geometry.rows):
            row_at = row_start(packed.staged, layer.inputs, geometry, i)
            for m in range(sizes.outputs):
                block, lane = (feature + m) // lanes, (feature + m) % lanes
                delta = packed.input_deltas.values[row_at + block * geometry.pitch * lanes + lane]
                if has_scale(layer):
                    delta *= learnt[layer.packed_scale + feature + m]
                deltas.array[deltas.at + m] = delta
            value = read_number(packed.staged, data.x, data.order[batch.first + i], column)
            add_gradients(
                Place(packed.gradients, at), Place(learnt, at), sizes, column, value, deltas
            )


@inline
def _drop_input_deltas(team, network, batch):
    """What dropout has multiplied the first layer's input by multiplies its gradient."""
    layer, values, geometry = network.table[0], network.packed.input_deltas.values, batch.geometry
    lanes = vector_lanes(values)
    for block in range(*share(team, ceil_div(layer.inputs, lanes))):
        place = batch_block(values, 0, layer.inputs, geometry, block)
        for chunk in range(chunk_count(geometry)):
            first = chunk * geometry.chunk_rows
            rows = rows_in_batch(batch, first, first + rows_in_chunk(geometry, chunk))
            draw = dropout_of(network, 0, batch)
            drop_rows(values, place.at + chunk * place.stride, rows, block * lanes, draw)


@inline
def gradient_so_far(packed, at, turn):
    """A vector of gradients, to which those of a microbatch's rows are added one by one.

    So the bits do not depend on how a batch is cut into microbatches.
    """
    return load_partial(packed.gradients, at, 0 if turn.first else vector_lanes(packed.gradients))


@inline
def update_vectors(packed, at, count, group, scale, turn):
    """Update consecutive parameters of a group by momentum, from the gradients that were kept."""
    factors = load_numbers(turn.factors, group * FACTORS, FACTORS)
    apply_momentum(packed.learnt, at, count, Place(packed.gradients, at), scale, factors)


@needs(NORMS)
def update_affine(team, network, index, turn):
    """Update this part's share of layer l's gammas and betas by momentum."""
    layer, packed = network.table[index], network.packed
    lanes = vector_lanes(packed.staged)
    begin, end = share(team, ceil_div(layer.outputs, lanes))
    count, scale = (end - begin) * lanes, turn.norm_scale
    for first in (layer.packed_gamma, layer.packed_beta):
        update_vectors(packed, first + begin * lanes, count, layer.group_norm, scale, turn)
