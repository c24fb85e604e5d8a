"""The linear layer on plain row-major arrays: pack into tiles' layouts, multiply, unpack.

Outputs are overwritten. Arrays are C-contiguous and of one dtype, float32 or float64; shapes are
checked by the layer, not here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import threads
from ._geometry import Geometry, blocks_size, geometry_of, padded_width, panels_size, scratch_size
from ._jit import entry
from ._memory import Place, load_numbers, load_partial, store_partial
from ._operands import Blocks, WorkspaceBlocks, allocate_workspace, operand_of, pack_operand
from ._simd import vector_lanes
from ._sync import barrier, share
from ._units import FLOATS, Unit
from .activation import NO_ACTIVATION
from .batchnorm import batch_block, column_sums
from .matmul import (
    ADD,
    STORE,
    FusedUpdate,
    GradientTarget,
    Weights,
    forward_product,
    input_gradient_product,
    weight_gradient_product,
)
from .packing import (
    ceil_div,
    chunk_count,
    pack_panels,
    pack_vector,
    unpack_matrix,
    unpack_panels,
)
from .present import whole
from .rules import FACTORS


class ForwardWork(NamedTuple):
    """What a forward pass works with: one argument, since each named tuple takes time to pass."""

    unit: Unit
    geometry: Geometry
    y: Blocks  # of the batch, as x
    x: Blocks
    weights: np.ndarray  # panels, then the bias
    scratch: np.ndarray  # see ``_geometry.scratch_size``


class BackwardWork(NamedTuple):
    """What a backward pass works with."""

    unit: Unit
    geometry: Geometry
    x: Blocks  # of the batch, as dz and dx
    dz: Blocks
    dx: Blocks
    dw: np.ndarray  # panels
    weights: np.ndarray  # panels
    scratch: np.ndarray  # see ``_geometry.scratch_size``
    factors: np.ndarray  # of an update that is not made


def linear_forward(y, x, w, b, formula=NO_ACTIVATION, unit=FLOATS):
    """y = act(x @ w + b), fused.

    y : (N, O), overwritten    x : (N, I)
    w : (I, O)    b : (O,) or None    formula : of act, from ``ACTIVATIONS``
    unit : what multiplies, see ``units``
    Reference: CMU 11-785 HW1P1, section 3.4.
    """
    rows, inputs = x.shape
    outputs = w.shape[1]
    geometry = geometry_of(rows, x.dtype, unit)
    bias = np.zeros(outputs, x.dtype) if b is None else b
    wanted = threads.count_for(rows * inputs * outputs)
    workspace = allocate_workspace(
        unit, x.dtype,
        [
            WorkspaceBlocks(blocks_size(geometry, outputs, x.dtype)),
            WorkspaceBlocks(blocks_size(geometry, inputs, x.dtype), by_feature=True),
        ],
        [panels_size(inputs, outputs, x.dtype) + padded_width(outputs, x.dtype)],
        wanted * scratch_size(unit, inputs, 0, x.dtype),
    )  # fmt: skip
    arguments = (
        y.reshape(-1), x.reshape(-1), w.reshape(-1), bias.reshape(-1),
        formula._replace(keeps_slope=False),
        ForwardWork(unit, geometry, *workspace),
    )  # fmt: skip
    threads.run(_linear_forward, wanted, arguments)


@entry
def _linear_forward(team, y, x, w, b, formula, work):
    unit, geometry, y_blocks, x_blocks, packed, scratch = work
    inputs, outputs = x.size // geometry.rows, b.size
    bias_at = packed.size - ceil_div(outputs, vector_lanes(w)) * vector_lanes(w)
    pack_operand(team, unit, x_blocks, x, inputs, geometry)
    pack_panels(team, Place(packed, 0), Place(w, 0), inputs, outputs)
    pack_vector(team, Place(packed, bias_at), Place(b, 0), outputs)
    barrier(team)
    for chunk in range(chunk_count(geometry)):
        forward_product(
            team, unit, operand_of(y_blocks, 0, outputs, geometry, chunk),
            whole(operand_of(x_blocks, 0, inputs, geometry, chunk)), Weights(packed, 0, bias_at),
            scratch, formula, y_blocks.values,
        )  # fmt: skip
    barrier(team)
    unpack_matrix(team, y, y_blocks.values, outputs, geometry)
    barrier(team)


def linear_backward(dw, db, dx, x, w, dz, unit=FLOATS, scale=None):
    """dw = scale * x.T @ dz,  db = scale * sum of dz over the rows,  dx = dz @ w.T.

    dw : (I, O)    db : (O,) or None    dx : (N, I) or None if it is not needed; overwritten
    x : (N, I)    w : (I, O)    dz : (N, O)    unit : what multiplies, see ``units``
    scale : 1 / N by default
    Reference: CMU 11-785 HW1P1, section 3.4.2.
    """
    rows, inputs = x.shape
    outputs = w.shape[1]
    geometry = geometry_of(rows, x.dtype, unit)
    panels = panels_size(inputs, outputs, x.dtype)
    x_size, dz_size = (blocks_size(geometry, width, x.dtype) for width in (inputs, outputs))
    wanted = threads.count_for(rows * inputs * outputs)
    nothing = np.empty(0, x.dtype)
    through = dx is not None
    workspace = allocate_workspace(
        unit, x.dtype,
        [
            WorkspaceBlocks(x_size, by_row=True, turned=True),
            WorkspaceBlocks(dz_size, by_feature=through, by_row=True),
            WorkspaceBlocks(through * x_size),
        ],
        [panels, through * panels],
        wanted * through * scratch_size(unit, 0, outputs, x.dtype),
    )  # fmt: skip
    arguments = (
        dw.reshape(-1), nothing if db is None else db.reshape(-1),
        dx.reshape(-1) if through else nothing, x.reshape(-1), w.reshape(-1), dz.reshape(-1),
        x.dtype.type(1 / rows if scale is None else scale),
        BackwardWork(unit, geometry, *workspace, np.zeros(FACTORS, x.dtype)),
    )  # fmt: skip
    threads.run(_linear_backward, wanted, arguments)


@entry
def _linear_backward(team, dw, db, dx, x, w, dz, scale, work):
    """db and dx are empty where they are not needed."""
    unit, geometry, x_blocks, dz_blocks, dx_blocks, dw_panels, w_panels, scratch, factors = work
    inputs, outputs = x.size // geometry.rows, dz.size // geometry.rows
    lanes = vector_lanes(x)
    pack_operand(team, unit, x_blocks, x, inputs, geometry)
    pack_operand(team, unit, dz_blocks, dz, outputs, geometry)
    if dx.size > 0:
        pack_panels(team, Place(w_panels, 0), Place(w, 0), inputs, outputs)
    barrier(team)
    target = GradientTarget(dw_panels, 0)
    no_update = FusedUpdate(dw_panels, dw_panels, scale, load_numbers(factors, 0, FACTORS))
    for chunk in range(chunk_count(geometry)):
        x_chunk = whole(operand_of(x_blocks, 0, inputs, geometry, chunk))
        dz_chunk = operand_of(dz_blocks, 0, outputs, geometry, chunk)
        if dx.size > 0:
            dx_chunk = operand_of(dx_blocks, 0, inputs, geometry, chunk)
            weights = Weights(w_panels, 0, 0)
            input_gradient_product(
                team, unit, dx_chunk, x, dz_chunk, weights, scratch, NO_ACTIVATION
            )
        mode = STORE if chunk == 0 else ADD
        weight_gradient_product(team, unit, target, x_chunk, dz_chunk, mode, no_update)
    if db.size > 0:
        for number in range(*share(team, ceil_div(outputs, lanes))):
            block = batch_block(x, 0, outputs, geometry, number)
            sums = column_sums(dz_blocks.values, block, load_partial(x, 0, 0))
            count = min(lanes, outputs - number * lanes)
            store_partial(db, number * lanes, count, scale * sums)
    barrier(team)
    unpack_panels(team, Place(dw, 0), Place(dw_panels, 0), inputs, outputs, scale)
    if dx.size > 0:
        unpack_matrix(team, dx, dx_blocks.values, inputs, geometry)
    barrier(team)
