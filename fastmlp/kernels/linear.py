"""The linear layer on plain row-major arrays: pack into tiles' layouts, multiply, unpack.

Outputs are overwritten. Arrays are C-contiguous and of one dtype, float32 or float64; shapes are
checked by the layer, not here.
"""

from __future__ import annotations

import numpy as np

from .. import threads
from ._geometry import blocks_size, geometry_of, padded_width, panels_size, transposed_size
from ._host import aligned_rooms
from ._jit import entry, kernel
from ._memory import store_partial
from ._simd import vector_lanes
from ._sync import barrier, share
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
    chunk_count,
    pack_matrix,
    pack_panels,
    pack_vector,
    rows_in_chunk,
    unpack_matrix,
    unpack_panels,
)


def _multiply_adds(first, shape, *rest):
    rows, inputs, outputs = shape
    return rows * inputs * outputs


def linear_forward(y, x, w, b, activation=IDENTITY):
    """y = act(x @ w + b), fused.

    y : (N, O), overwritten    x : (N, I)
    w : (I, O)    b : (O,) or None    activation : code from ``ACTIVATIONS``
    Reference: CMU 11-785 HW1P1, section 3.4.
    """
    rows, inputs = x.shape
    outputs = w.shape[1]
    geometry = geometry_of(rows, x.dtype)
    bias = np.zeros(outputs, x.dtype) if b is None else b
    sizes = (
        blocks_size(geometry, outputs, x.dtype),
        blocks_size(geometry, inputs, x.dtype),
        panels_size(inputs, outputs, x.dtype) + padded_width(outputs, x.dtype),
    )
    _linear_forward(
        y.reshape(-1), (rows, inputs, outputs), x.reshape(-1), w.reshape(-1), bias.reshape(-1),
        activation, tuple(geometry), aligned_rooms(sizes, x.dtype),
    )  # fmt: skip


@kernel(cost=_multiply_adds)
def _linear_forward(part, parts, sync, y, shape, x, w, b, activation, geometry, room):
    _, inputs, outputs = shape
    y_blocks, x_blocks, panels = room
    pitch = geometry[2]
    x_stride, y_stride = block_stride(x, inputs, pitch), block_stride(x, outputs, pitch)
    b_at = panels.size - y_stride // pitch
    pack_matrix(part, parts, x_blocks, x, inputs, geometry)
    pack_panels(part, parts, panels, 0, w, 0, inputs, outputs)
    pack_vector(part, parts, panels, b_at, b, 0, outputs)
    barrier(sync, part, parts)
    for chunk in range(chunk_count(geometry)):
        forward_product(
            part, parts, y_blocks, chunk * y_stride, x_blocks, chunk * x_stride, pitch,
            rows_in_chunk(geometry, chunk), inputs, outputs, panels, 0, b_at, activation,
        )  # fmt: skip
    barrier(sync, part, parts)
    unpack_matrix(part, parts, y, y_blocks, outputs, geometry)
    barrier(sync, part, parts)


def linear_backward(dw, db, dx, x, w, dz):
    """dw = x.T @ dz / N,  db = mean of dz over the rows,  dx = dz @ w.T.

    dw : (I, O)    db : (O,) or None    dx : (N, I) or None where nobody needs it; overwritten
    x : (N, I)    w : (I, O)    dz : (N, O)
    Reference: CMU 11-785 HW1P1, section 3.4.2.
    """
    rows, inputs = x.shape
    outputs = w.shape[1]
    geometry = geometry_of(rows, x.dtype)
    panels = panels_size(inputs, outputs, x.dtype)
    wanted = threads.worth(rows * inputs * outputs)
    nothing = np.empty(0, x.dtype)
    sizes = (
        blocks_size(geometry, inputs, x.dtype),
        blocks_size(geometry, outputs, x.dtype),
        panels,
        0 if dx is None else panels,
        0 if dx is None else wanted * transposed_size(outputs, x.dtype),
        0 if dx is None else blocks_size(geometry, inputs, x.dtype),
    )
    arguments = (
        dw.reshape(-1), (rows, inputs, outputs), nothing if db is None else db.reshape(-1),
        nothing if dx is None else dx.reshape(-1), x.reshape(-1), w.reshape(-1), dz.reshape(-1),
        tuple(geometry), aligned_rooms(sizes, x.dtype),
    )  # fmt: skip
    threads.run(_linear_backward, wanted, arguments)


@entry
def _linear_backward(part, parts, sync, dw, shape, db, dx, x, w, dz, geometry, room):
    rows, inputs, outputs = shape
    x_blocks, dz_blocks, gradients, panels, transposed, dx_blocks = room
    lanes = vector_lanes(x)
    pitch = geometry[2]
    x_stride, dz_stride = block_stride(x, inputs, pitch), block_stride(x, outputs, pitch)
    one = x.dtype.type(1)
    scale = one / x.dtype.type(rows)
    pack_matrix(part, parts, x_blocks, x, inputs, geometry)
    pack_matrix(part, parts, dz_blocks, dz, outputs, geometry)
    if dx.size > 0:
        pack_panels(part, parts, panels, 0, w, 0, inputs, outputs)
    barrier(sync, part, parts)
    for chunk in range(chunk_count(geometry)):
        in_chunk = rows_in_chunk(geometry, chunk)
        x_at, dz_at = chunk * x_stride, chunk * dz_stride
        if dx.size > 0:
            input_gradient_product(
                part, parts, dx_blocks, x_blocks, x_at, dz_blocks, dz_at, pitch, in_chunk,
                inputs, outputs, panels, 0, transposed, IDENTITY,
            )  # fmt: skip
        weight_gradient_product(
            part, parts, gradients, gradients, gradients, 0, x_blocks, x_at, dz_blocks, dz_at,
            pitch, in_chunk, inputs, outputs, STORE if chunk == 0 else ADD, one, (one, one, one),
        )  # fmt: skip
    if db.size > 0:
        begin, end = share(part, parts, dz_stride // pitch // lanes)
        for block in range(begin, end):
            sums = scale * column_sums(dz_blocks, block * pitch * lanes, dz_stride, geometry)
            at = block * lanes
            store_partial(db, at, min(lanes, outputs - at), sums)
    barrier(sync, part, parts)
    unpack_panels(part, parts, dw, 0, gradients, 0, inputs, outputs, scale)
    if dx.size > 0:
        unpack_matrix(part, parts, dx, dx_blocks, inputs, geometry)
    barrier(sync, part, parts)
