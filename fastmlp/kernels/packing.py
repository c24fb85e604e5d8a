"""The layouts in which tiles find their operands side by side, and the way there and back.

V is the lanes of a vector. Arrays are flat; ``at`` is where an operand starts.

blocks   activations and their gradients: [feature // V][row][feature % V]. A block has space for
         ``pitch`` rows. Lanes beyond the last feature hold anything: no product runs over them.
panels   weights: columns cut into panels of one to three vectors, [panel][row][column in panel].
         Rows and columns are padded to whole vectors.

A caller's matrix is described by a ``StridedMatrix``, so that one compilation reads any dtype and
any strides in place. In what follows, ``width`` is a number of features, ``geometry`` a
``Geometry``, and a *part* is one thread of a team.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._host import TILE_VECTORS
from ._jit import inline
from ._memory import (
    FLOAT32,
    FLOAT64,
    UINT8,
    load,
    load_from,
    load_partial,
    load_partial_from,
    number_from,
    prefetch,
    store,
    store_partial,
    transpose,
)
from ._simd import fma, vector_lanes
from ._sync import share

KINDS = {np.dtype(np.uint8): UINT8, np.dtype(np.float32): FLOAT32, np.dtype(np.float64): FLOAT64}
_KIND_BYTES = (1, 4, 8)


class StridedMatrix(NamedTuple):
    """A matrix in memory of the caller's, as numbers: none of them is a type to the compiler."""

    address: int  # of its first number
    row_step: int  # bytes from row to row
    column_step: int  # bytes from column to column
    kind: int  # of its numbers: UINT8, FLOAT32 or FLOAT64


def strided(matrix: np.ndarray) -> StridedMatrix:
    """A 2-D uint8, float32 or float64 array, described. The caller keeps the array alive."""
    return StridedMatrix(matrix.ctypes.data, *matrix.strides, KINDS[matrix.dtype])


@inline
def ceil_div(a, b):
    return (a + b - 1) // b


@inline
def panel_count(blocks):
    """Panels that ``blocks`` vectors of columns are cut into: one, or an even number.

    Then two threads get equal halves even where a batch is a single row of tiles: at batch 8,
    784-128-10 went from 0.98 to 1.67 times the speed of one thread.
    """
    panels = ceil_div(blocks, TILE_VECTORS)
    return panels if panels == 1 else panels + panels % 2


@inline
def panel_start(blocks, panel):
    """The first block of a panel; widths differ by one vector at most, wide and narrow mixed."""
    return panel * blocks // panel_count(blocks)


@inline
def panel_of(blocks, block):
    """The panel that holds a block: the last that starts at or before it."""
    return ((block + 1) * panel_count(blocks) - 1) // blocks


@inline
def _unit_interval(v):
    """v / 255 without a division: of every byte the nearest number, fused or not."""
    reciprocal = 1.0 / 255.0
    first = v * reciprocal
    return fma(fma(first, -255.0, v), reciprocal, first)


def _read_row(kind):
    """Compile ``read_row`` for one kind of number; behind the row's end it writes zeros."""
    scaled = kind == UINT8
    size = _KIND_BYTES[kind]

    @inline
    def read(x, at, step, address, column_step, width):
        lanes = vector_lanes(x)
        if column_step == size:
            whole = width // lanes
            for block in range(whole):
                v = load_from(x, address + block * lanes * size, kind)
                store(x, at + block * step, _unit_interval(v) if scaled else v)
            left = width - whole * lanes
            if left > 0:
                # Number by number the last columns of 50 took a third of copying a row.
                v = load_partial_from(x, address + whole * lanes * size, kind, left)
                store(x, at + whole * step, _unit_interval(v) if scaled else v)
            return
        for column in range(ceil_div(width, lanes) * lanes):
            value = x.dtype.type(0)
            if column < width:
                value = number_from(x, address + column * column_step, kind)
                if scaled:
                    value = value / x.dtype.type(255)
            x[at + column // lanes * step + column % lanes] = value

    return read


_read_uint8, _read_float32, _read_float64 = [_read_row(k) for k in (UINT8, FLOAT32, FLOAT64)]


@inline
def read_row(x, at, step, matrix, row, width):
    """x's blocks, ``step`` apart, = row ``row`` of a strided matrix; uint8 becomes v / 255."""
    address = matrix.address + row * matrix.row_step
    if matrix.kind == UINT8:
        _read_uint8(x, at, step, address, matrix.column_step, width)
    elif matrix.kind == FLOAT32:
        _read_float32(x, at, step, address, matrix.column_step, width)
    else:
        _read_float64(x, at, step, address, matrix.column_step, width)


@inline
def read_number(like, matrix, row, column):
    """A number of a strided matrix as one of ``like``'s dtype; uint8 becomes v / 255."""
    address = matrix.address + row * matrix.row_step + column * matrix.column_step
    if matrix.kind == UINT8:
        return number_from(like, address, UINT8) / like.dtype.type(255)
    if matrix.kind == FLOAT32:
        return number_from(like, address, FLOAT32)
    return number_from(like, address, FLOAT64)


@inline
def prefetch_row(matrix, row, width):
    """Ask for the cache lines of row ``row`` of a strided matrix, if its rows are contiguous."""
    first = matrix.address + row * matrix.row_step
    if matrix.column_step <= 8:
        for line in range(first, first + width * matrix.column_step, 64):
            prefetch(line)


@inline
def write_row(y, y_at, width, x, at, step):
    """y[y_at : y_at + width] = the row of blocks ``step`` apart from x[at]."""
    lanes = vector_lanes(x)
    for block in range(ceil_div(width, lanes)):
        count = min(lanes, width - block * lanes)
        store_partial(y, y_at + block * lanes, count, load(x, at + block * step))


@inline
def chunk_count(geometry):
    """Chunks that a batch lies in; ``Geometry.chunks`` for compiled code."""
    return ceil_div(geometry.rows, geometry.chunk_rows)


@inline
def rows_in_chunk(geometry, chunk):
    """Rows of a chunk: the last may be short."""
    return min(geometry.chunk_rows, geometry.rows - chunk * geometry.chunk_rows)


@inline
def block_stride(like, width, pitch):
    """Numbers from chunk to chunk of the blocks of ``width`` features."""
    lanes = vector_lanes(like)
    return ceil_div(width, lanes) * lanes * pitch


@inline
def row_start(like, width, geometry, row):
    """Where a row of a batch starts in the blocks of ``width`` features."""
    stride = block_stride(like, width, geometry.pitch)
    chunk, row_in_chunk = row // geometry.chunk_rows, row % geometry.chunk_rows
    return chunk * stride + row_in_chunk * vector_lanes(like)


@inline
def pack_matrix(team, blocks, x, width, geometry):
    """Blocks = the row-major matrix x of ``width`` features, this part's rows."""
    pack_rows(*share(team, geometry.rows), blocks, x, width, geometry)


@inline
def pack_rows(begin, end, blocks, x, width, geometry):
    """Rows begin ... end-1 of blocks = the same rows of the row-major matrix x."""
    lanes = vector_lanes(x)
    step = geometry.pitch * lanes
    for row in range(begin, end):
        at = row_start(x, width, geometry, row)
        for block in range(ceil_div(width, lanes)):
            column = block * lanes
            v = load_partial(x, row * width + column, min(lanes, width - column))
            store(blocks, at + block * step, v)


@inline
def unpack_matrix(team, y, blocks, width, geometry):
    """The row-major matrix y of ``width`` features = blocks, this part's rows."""
    step = geometry.pitch * vector_lanes(y)
    for row in range(*share(team, geometry.rows)):
        write_row(y, row * width, width, blocks, row_start(y, width, geometry, row), step)


@inline
def pack_vector(team, packed, v, width):
    """``width`` numbers at a place = those at place v, zeros up to a whole vector; this part's."""
    lanes = vector_lanes(v.array)
    for block in range(*share(team, ceil_div(width, lanes))):
        column = block * lanes
        numbers = load_partial(v.array, v.at + column, min(lanes, width - column))
        store(packed.array, packed.at + column, numbers)


@inline
def unpack_vector(team, v, packed, width):
    """``width`` numbers at place v = those at place ``packed``, this part's share."""
    lanes = vector_lanes(v.array)
    for block in range(*share(team, ceil_div(width, lanes))):
        column = block * lanes
        numbers = load(packed.array, packed.at + column)
        store_partial(v.array, v.at + column, min(lanes, width - column), numbers)


@inline
def pack_panels(team, panels, w, rows, columns):
    """Panels at a place = the row-major matrix (rows, columns) at place w, this part's blocks."""
    lanes = vector_lanes(w.array)
    blocks = ceil_div(columns, lanes)
    padded_rows = ceil_div(rows, lanes) * lanes
    for block in range(*share(team, blocks)):
        panel_at, step = block_in_panels(blocks, block, padded_rows, lanes)
        count = min(lanes, columns - block * lanes)
        for row in range(padded_rows):
            # Beyond the last row nothing is read: a mask without lanes gives zeros.
            mask = count if row < rows else 0
            source = w.at + min(row, rows - 1) * columns + block * lanes
            numbers = load_partial(w.array, source, mask)
            store(panels.array, panels.at + panel_at + row * step, numbers)


@inline
def unpack_panels(team, w, panels, rows, columns, scale):
    """The row-major matrix (rows, columns) at place w = scale * panels, this part's blocks."""
    lanes = vector_lanes(w.array)
    blocks = ceil_div(columns, lanes)
    padded_rows = ceil_div(rows, lanes) * lanes
    for block in range(*share(team, blocks)):
        panel_at, step = block_in_panels(blocks, block, padded_rows, lanes)
        count = min(lanes, columns - block * lanes)
        for row in range(rows):
            v = load(panels.array, panels.at + panel_at + row * step) * scale
            store_partial(w.array, w.at + row * columns + block * lanes, count, v)


@inline
def block_in_panels(blocks, block, padded_rows, lanes):
    """Where a block of columns starts in its panel, and the step from row to row."""
    panel = panel_of(blocks, block)
    start = panel_start(blocks, panel)
    step = (panel_start(blocks, panel + 1) - start) * lanes
    return start * lanes * padded_rows + (block - start) * lanes, step


@inline
def transpose_panel(wt, w, rows, columns, panel):
    """Place wt = one panel of the transpose of a (rows, columns) matrix in panels at place w."""
    lanes = vector_lanes(w.array)
    row_blocks, column_blocks = ceil_div(rows, lanes), ceil_div(columns, lanes)
    start = panel_start(row_blocks, panel)
    vectors = panel_start(row_blocks, panel + 1) - start
    step = vectors * lanes
    for block in range(column_blocks):
        from_at, from_step = block_in_panels(column_blocks, block, row_blocks * lanes, lanes)
        for v in range(vectors):
            transpose(
                wt.array,
                wt.at + block * lanes * step + v * lanes,
                step,
                w.array,
                w.at + from_at + (start + v) * lanes * from_step,
                from_step,
            )
