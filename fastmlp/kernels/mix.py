"""Parametric activations: y = z + w * (act(z) - z), with a learnt w for every neuron.

    dz = dy * (1 + w * (act'(z) - 1)),  dw = sum of dy * (act(z) - z)

Sums are over the rows of a batch. What w is multiplied by is called the bend of z. Reference:
Holzmüller, Grinsztajn and Steinwart, "Better by default", 2024, appendix A.1.
"""

from __future__ import annotations

from ._geometry import norm_work
from ._jit import inline, kernel
from ._memory import load, store, store_partial
from ._simd import vector_lanes
from ._sync import barrier, share
from .activation import activation_slope, formula_of, no_activation, store_activated
from .batchnorm import batch_block
from .packing import ceil_div, chunk_count, pack_matrix, rows_in_chunk


@inline
def has_mix(layer):
    """Whether a row of the layer table has a parametric activation."""
    return layer.flat_mix >= 0


@inline
def early_formula(layer, training, vocabulary):
    """What is applied where pre-activations are stored: nothing yet of a parametric activation."""
    return no_activation(vocabulary) if has_mix(layer) else formula_of(layer, training, vocabulary)


@inline
def mix_rows(y, slopes, bends, at, rows, weights, formula):
    """``rows`` registers of y from ``at`` on, of pre-activations, become outputs.

    slopes, bends : overwritten by dy/dz and by what ``weights``, a register, is multiplied by
    """
    lanes = vector_lanes(y)
    for i in range(at, at + rows * lanes, lanes):
        z = load(y, i)
        store_activated(bends, slopes, i, z, formula)
        a = load(bends, i)
        slope = activation_slope(load(slopes, i) if formula.keeps_slope else a, formula)
        bend = a - z
        store(y, i, z + weights * bend)
        store(slopes, i, 1 + weights * (slope - 1))
        store(bends, i, bend)


@inline
def mix_alone(y, at, weights, formula):
    """A register of y, of pre-activations, becomes outputs; nothing is kept."""
    z = load(y, at)
    store_activated(y, y, at, z, formula)
    store(y, at, z + weights * (load(y, at) - z))


@inline
def product_sums(x, y, block):
    """Sum of x * y over the rows of a block."""
    lanes = vector_lanes(x)
    total = load(x, block.at) * 0
    for chunk in range(chunk_count(block.geometry)):
        for row in range(rows_in_chunk(block.geometry, chunk)):
            i = block.at + chunk * block.stride + row * lanes
            total = total + load(x, i) * load(y, i)
    return total


def mix_gradient(dw, dy, bends, scale):
    """dw = scale * sum of dy * bends over the rows.

    dw : (F,), overwritten    dy, bends : (N, F)    scale : number
    """
    arrays = dw.reshape(-1), dy.reshape(-1), bends.reshape(-1)
    _mix_gradient(*arrays, dy.dtype.type(scale), norm_work(dy))


@kernel(cost=lambda dw, dy, *rest: 4 * dy.size)
def _mix_gradient(team, dw, dy, bends, scale, work):
    geometry, dy_blocks, bend_blocks = work
    lanes, features = vector_lanes(dy), dw.size
    pack_matrix(team, dy_blocks, dy, features, geometry)
    pack_matrix(team, bend_blocks, bends, features, geometry)
    barrier(team)
    for number in range(*share(team, ceil_div(features, lanes))):
        block = batch_block(dy, 0, features, geometry, number)
        sums = scale * product_sums(dy_blocks, bend_blocks, block)
        store_partial(dw, number * lanes, min(lanes, features - number * lanes), sums)
    barrier(team)
