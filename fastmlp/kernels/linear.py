"""The linear layer on plain row-major arrays: pack into tiles' layouts, multiply, unpack.

Outputs are overwritten. Arrays are C-contiguous and of one dtype, float32 or float64; shapes are
checked by the layer, not here.
"""

from __future__ import annotations

import numpy as np

from .. import threads
from ._geometry import blocks_size, geometry_of, padded_width, panels_size, scratch_size
from ._jit import entry
from ._memory import store_partial
from ._operands import Wanted, chunk_of, pack_operand, rooms_for
from ._simd import vector_lanes
from ._sync import barrier, share
from ._units import FLOATS
from .activation import IDENTITY
from .batchnorm import column_sums
from .matmul import (
    ADD,
    STORE,
    forward_product,
    input_gradient_product,
    weight_gradient_product,
)
from .packing import (
    block_stride,
    ceil_div,
    chunk_count,
    pack_panels,
    pack_vector,
    unpack_matrix,
    unpack_panels,
)


def linear_forward(y, x, w, b, activation=IDENTITY, unit=FLOATS):
    """y = act(x @ w + b), fused.

    y : (N, O), overwritten    x : (N, I)
    w : (I, O)    b : (O,) or None    activation : code from ``ACTIVATIONS``
    unit : what multiplies, see ``units``
    Reference: CMU 11-785 HW1P1, section 3.4.
    """
    rows, inputs = x.shape
    outputs = w.shape[1]
    geometry = geometry_of(rows, x.dtype, unit)
    bias = np.zeros(outputs, x.dtype) if b is None else b
    wanted = threads.worth(rows * inputs * outputs)
    room = rooms_for(
        unit, x.dtype,
        [
            Wanted(blocks_size(geometry, outputs, x.dtype)),
            Wanted(blocks_size(geometry, inputs, x.dtype), by_feature=True),
        ],
        [panels_size(inputs, outputs, x.dtype) + padded_width(outputs, x.dtype)],
        wanted * scratch_size(unit, inputs, 0, x.dtype),
    )  # fmt: skip
    arguments = (
        y.reshape(-1), x.reshape(-1), w.reshape(-1), bias.reshape(-1), activation, tuple(geometry),
        unit, room,
    )  # fmt: skip
    threads.run(_linear_forward, wanted, arguments)


@entry
def _linear_forward(part, parts, sync, y, x, w, b, activation, geometry, unit, room):
    y_blocks, x_blocks, panels, scratch = room
    inputs, outputs = x.size // geometry[0], b.size
    b_at = panels.size - ceil_div(outputs, vector_lanes(w)) * vector_lanes(w)
    pack_operand(part, parts, unit, x_blocks, x, inputs, geometry)
    pack_panels(part, parts, panels, 0, w, 0, inputs, outputs)
    pack_vector(part, parts, panels, b_at, b, 0, outputs)
    barrier(sync, part, parts)
    for chunk in range(chunk_count(geometry)):
        forward_product(
            part, parts, unit, y_blocks, chunk_of(x, 0, outputs, geometry, chunk),
            x_blocks, chunk_of(x, 0, inputs, geometry, chunk), panels, 0, b_at, scratch, activation,
        )  # fmt: skip
    barrier(sync, part, parts)
    unpack_matrix(part, parts, y, y_blocks.values, outputs, geometry)
    barrier(sync, part, parts)


def linear_backward(dw, db, dx, x, w, dz, unit=FLOATS):
    """dw = x.T @ dz / N,  db = mean of dz over the rows,  dx = dz @ w.T.

    dw : (I, O)    db : (O,) or None    dx : (N, I) or None where nobody needs it; overwritten
    x : (N, I)    w : (I, O)    dz : (N, O)    unit : what multiplies, see ``units``
    Reference: CMU 11-785 HW1P1, section 3.4.2.
    """
    rows, inputs = x.shape
    outputs = w.shape[1]
    geometry = geometry_of(rows, x.dtype, unit)
    panels = panels_size(inputs, outputs, x.dtype)
    x_size, dz_size = (blocks_size(geometry, width, x.dtype) for width in (inputs, outputs))
    wanted = threads.worth(rows * inputs * outputs)
    nothing = np.empty(0, x.dtype)
    through = dx is not None
    room = rooms_for(
        unit, x.dtype,
        [
            Wanted(x_size, by_row=True, turned=True),
            Wanted(dz_size, by_feature=through, by_row=True),
            Wanted(through * x_size),
        ],
        [panels, through * panels],
        wanted * through * scratch_size(unit, 0, outputs, x.dtype),
    )  # fmt: skip
    arguments = (
        dw.reshape(-1), nothing if db is None else db.reshape(-1),
        dx.reshape(-1) if through else nothing, x.reshape(-1), w.reshape(-1), dz.reshape(-1),
        tuple(geometry), unit, room,
    )  # fmt: skip
    threads.run(_linear_backward, wanted, arguments)


@entry
def _linear_backward(part, parts, sync, dw, db, dx, x, w, dz, geometry, unit, room):
    x_blocks, dz_blocks, dx_blocks, gradients, panels, scratch = room
    rows, _, pitch = geometry
    inputs, outputs = x.size // rows, dz.size // rows
    lanes = vector_lanes(x)
    one = x.dtype.type(1)
    scale = one / x.dtype.type(rows)
    pack_operand(part, parts, unit, x_blocks, x, inputs, geometry)
    pack_operand(part, parts, unit, dz_blocks, dz, outputs, geometry)
    if dx.size > 0:
        pack_panels(part, parts, panels, 0, w, 0, inputs, outputs)
    barrier(sync, part, parts)
    for chunk in range(chunk_count(geometry)):
        x_chunk = chunk_of(x, 0, inputs, geometry, chunk)
        dz_chunk = chunk_of(x, 0, outputs, geometry, chunk)
        if dx.size > 0:
            input_gradient_product(
                part, parts, unit, dx_blocks, x_blocks, x_chunk, dz_blocks, dz_chunk,
                panels, 0, scratch, IDENTITY,
            )  # fmt: skip
        weight_gradient_product(
            part, parts, unit, gradients, gradients, gradients, 0, x_blocks, x_chunk,
            dz_blocks, dz_chunk, STORE if chunk == 0 else ADD, one, (one, one, one),
        )  # fmt: skip
    if db.size > 0:
        dz_stride = block_stride(x, outputs, pitch)
        begin, end = share(part, parts, ceil_div(outputs, lanes))
        for block in range(begin, end):
            at = block * pitch * lanes
            sums = scale * column_sums(dz_blocks.values, at, dz_stride, geometry)
            store_partial(db, block * lanes, min(lanes, outputs - block * lanes), sums)
    barrier(sync, part, parts)
    unpack_panels(part, parts, dw, 0, gradients, 0, inputs, outputs, scale)
    if dx.size > 0:
        unpack_matrix(part, parts, dx, dx_blocks.values, inputs, geometry)
    barrier(sync, part, parts)
