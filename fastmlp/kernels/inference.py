"""The forward pass alone: many rows through packed weights, or a few straight from the flat
ones."""

from __future__ import annotations

from ..threads import Team
from ._geometry import Geometry
from ._jit import entry, inline
from ._memory import Place, load, load_numbers, load_partial, store
from ._operands import Chunk, Operand, Rectangle, in_step, publish, rounded_for
from ._simd import fma, sqrt, vector_lanes
from ._sync import barrier, take
from ._vocabulary import WHOLE
from .activation import NO_ACTIVATION, formula_of, store_activated
from .batchnorm import EPS, Affine, BatchBlock, batchnorm_normalise, has_batchnorm
from .embed import clear_row, embed_row, has_embedding, raw_width, sizes_of
from .layernorm import Row, RowAffine, has_layernorm, layernorm_row
from .matmul import Weights, forward_product
from .mix import early_formula, has_mix, mix_alone
from .packing import StridedMatrix, ceil_div, read_row, write_row
from .present import whole
from .scale import has_scale, scale_row


@inline
def _affine_of(layer, flat, column, count):
    """What normalises a block of features, by the running statistics."""
    return Affine(
        load_partial(flat.statistics, layer.flat_mean + column, count),
        load_partial(flat.statistics, layer.flat_var + column, count),
        load_partial(flat.parameters, layer.flat_gamma + column, count),
        load_partial(flat.parameters, layer.flat_beta + column, count),
    )


@inline
def _row_affine_of(layer, flat):
    """What follows the normalisation of a row."""
    gamma, beta = Place(flat.parameters, layer.flat_gamma), Place(flat.parameters, layer.flat_beta)
    return RowAffine(gamma, beta)


@inline
def _read_input(place, step, layer, flat, matrix, row):
    """A row of a strided matrix as the first layer reads it, into blocks ``step`` apart."""
    x, at, columns = place.array, place.at, raw_width(layer)
    read_row(x, at, step, matrix, row, columns)
    if has_embedding(layer):
        clear_row(x, at, step, columns, layer.inputs)
        numbers = Place(flat.parameters, layer.flat_embed)
        embed_row(x, at, step, columns, sizes_of(layer), numbers)
    if has_scale(layer):
        scale_row(x, at, step, Place(flat.parameters, layer.flat_scale), layer.inputs)


@inline
def _add_blocks(unit, y, x):
    """y += x, operands of one width."""
    lanes = vector_lanes(y.blocks.values)
    blocks = ceil_div(y.chunk.width, lanes)
    for block in range(blocks):
        for row in range(y.chunk.rows):
            i = (block * y.chunk.pitch + row) * lanes
            v = load(y.blocks.values, y.chunk.at + i) + load(x.blocks.values, x.chunk.at + i)
            store(y.blocks.values, y.chunk.at + i, v)
    publish(unit, y, Rectangle(0, blocks, 0, y.chunk.rows))


@inline
def _mix_blocks(network, layer, y):
    """Pre-activations, an operand, become the outputs of a parametric activation."""
    values, chunk, formula = y.blocks.values, y.chunk, formula_of(layer, False, WHOLE)
    lanes = vector_lanes(values)
    blocks = ceil_div(layer.outputs, lanes)
    for block in range(blocks):
        column = block * lanes
        live = min(lanes, layer.outputs - column)
        weights = load_partial(network.flat.parameters, layer.flat_mix + column, live)
        for row in range(chunk.rows):
            mix_alone(values, chunk.at + column * chunk.pitch + row * lanes, weights, formula)
    publish(network.unit, y, Rectangle(0, blocks, 0, chunk.rows))


@inline
def _layer_blocks(alone, network, layer, y, x, scratch):
    """One layer on one chunk that this thread has to itself; operands y and x may be overwritten.

    alone : a team of this thread
    """
    lanes = vector_lanes(network.weights)
    normalised = layer.flat_gamma >= 0
    formula = early_formula(layer, False, WHOLE)
    weights = Weights(network.weights, layer.packed_w, layer.packed_b)
    forward_product(
        alone, network.unit, y, whole(x), weights, scratch,
        NO_ACTIVATION if normalised else formula, y.blocks.values,
    )  # fmt: skip
    values, chunk = y.blocks.values, y.chunk
    if has_layernorm(layer):
        affine = _row_affine_of(layer, network.flat)
        for number in range(chunk.rows):
            row = Row(chunk.at + number * lanes, chunk.pitch * lanes, chunk.width)
            layernorm_row(values, values, values, row, affine, formula)
        publish(network.unit, y, Rectangle(0, ceil_div(layer.outputs, lanes), 0, chunk.rows))
    if has_batchnorm(layer):
        # All rows of the chunk, as the only chunk of a batch.
        geometry = Geometry(chunk.rows, chunk.rows, chunk.pitch)
        for number in range(ceil_div(layer.outputs, lanes)):
            column = number * lanes
            moments = _affine_of(layer, network.flat, column, min(lanes, layer.outputs - column))
            block = BatchBlock(chunk.at + column * chunk.pitch, 0, geometry)
            batchnorm_normalise(values, values, values, block, moments, formula)
            publish(network.unit, y, Rectangle(number, number + 1, 0, chunk.rows))
    if has_mix(layer):
        _mix_blocks(network, layer, y)
    if layer.residual != 0:
        _add_blocks(network.unit, y, x)


@entry
def infer_rows(team, out, network, matrix, geometry, workspace, taken):
    """out = the network's outputs for the rows of a strided matrix.

    out : (rows, K) flattened    network : ``PackedWeights``    geometry : ``Geometry``
    workspace : for every part a chunk of the widest layer in two ``Blocks``, and a piece of scratch
    taken : (1,) int64, how many chunks have been taken, 0
    Each part takes one chunk after the other through all layers, so the activations stay in its
    cache, and a part that gets no core for a while takes fewer.
    """
    rows, chunk_rows, pitch = geometry
    lanes = vector_lanes(network.weights)
    inputs = network.table[0].inputs
    classes = network.table[len(network.table) - 1].outputs
    x, y, whole_scratch = workspace
    own_at = team.part * (x.values.size // team.parts)
    piece = whole_scratch.size // team.parts
    scratch = whole_scratch[team.part * piece : (team.part + 1) * piece]
    alone = Team(0, 1, team.sync)
    chunks = ceil_div(rows, chunk_rows)
    number = take(taken)
    while number < chunks:
        start = number * chunk_rows
        count = min(chunk_rows, rows - start)
        for row in range(count):
            at = own_at + row * lanes
            _read_input(
                Place(x.values, at),
                pitch * lanes,
                network.table[0],
                network.flat,
                matrix,
                start + row,
            )
        operand = Operand(x, Chunk(own_at, pitch, count, inputs))
        publish(network.unit, operand, Rectangle(0, ceil_div(inputs, lanes), 0, count))
        for layer in network.table:
            result = Operand(y, Chunk(own_at, pitch, count, layer.outputs))
            _layer_blocks(alone, network, layer, result, operand, scratch)
            x, y = y, x
            operand = result
        for row in range(count):
            at = own_at + row * lanes
            write_row(out, (start + row) * classes, classes, x.values, at, pitch * lanes)
        number = take(taken)
    barrier(team)


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
        store(x, column, rounded_for(unit, load(x, column)))
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
    Whole rows are read, each from its start to its end, which the hardware prefetches. y is read
    and written once for ``count`` rows. The factors are loaded beforehand: the compiler cannot know
    that y does not overlap x, and would load them again for every vector (45 instead of 37 µs on
    784-512-512-10).
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
                total = fma(factors[row], rounded_for(unit, load(w, rows[row] + column)), total)
            store(y, column, total)
        if whole < columns:
            total = load(y, whole)
            for row in range(count):
                rest = load_partial(w, rows[row] + whole, columns - whole)
                total = fma(factors[row], rounded_for(unit, rest), total)
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
    formula = early_formula(layer, False, WHOLE)
    if has_layernorm(layer):
        layernorm_row(y, y, y, Row(0, lanes, outputs), _row_affine_of(layer, flat), formula)
    else:
        for column in range(0, outputs, lanes):
            count = min(lanes, outputs - column)
            v = load(y, column)
            if has_batchnorm(layer):
                mean, variance, gamma, beta = _affine_of(layer, flat, column, count)
                v = gamma * ((v - mean) * (1 / sqrt(variance + EPS))) + beta
            store_activated(y, y, column, v, formula)
    if has_mix(layer):
        for column in range(0, outputs, lanes):
            count = min(lanes, outputs - column)
            weights = load_partial(flat.parameters, layer.flat_mix + column, count)
            mix_alone(y, column, weights, formula_of(layer, False, WHOLE))


@entry
def infer_few_rows(out, table, flat, source, unit, finite, rows, starts):
    """out = the network's outputs for the rows of a strided matrix, one by one on one thread.

    out : (rows, K)    unit : what multiplies many rows; its rounding and its order are kept
    source : a ``StridedMatrix`` as a plain tuple, whose type Numba finds sooner than a named one's
    finite : whether all weights are known to be finite
    rows, starts : scratch, four padded rows of the widest layer and its width in int64
    """
    matrix = StridedMatrix(*source)
    lanes = vector_lanes(flat.parameters)
    padded = rows.size // 4
    x, y = rows[:padded], rows[padded : 2 * padded]
    skip, factors = rows[2 * padded : 3 * padded], rows[3 * padded :]
    for row in range(len(out)):
        _read_input(Place(x, 0), lanes, table[0], flat, matrix, row)
        for index in range(len(table)):
            layer = table[index]
            if layer.residual != 0:
                # The product may round x in its place.
                for column in range(0, layer.inputs, lanes):
                    store(skip, column, load(x, column))
            _layer_row(unit, layer, flat, y, x, factors, starts, finite)
            if layer.residual != 0:
                for column in range(0, layer.outputs, lanes):
                    store(y, column, load(y, column) + load(skip, column))
            x, y = y, x
        write_row(out[row], 0, out.shape[1], x, 0, lanes)
