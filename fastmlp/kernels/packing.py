"""The layouts in which tiles find their operands side by side, and the way there and back.

V is the lanes of a vector. Arrays are flat; ``at`` is where an operand starts.

blocks   activations and their gradients: [feature // V][row][feature % V], a block having room for
         ``pitch`` rows. Lanes beyond the last feature hold anything: no product
         runs over them.
panels   weights: columns cut into panels of one to three vectors, [panel][row][column in panel].
         Rows and columns are padded to whole vectors.

A caller's matrix is described by a ``source``: (address, bytes from row to row, bytes from
column to column, kind of number), so that one compilation reads any dtype and any strides in
place.
"""

from __future__ import annotations

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


def source_of(matrix: np.ndarray) -> tuple[int, int, int, int]:
    """A 2-D uint8, float32 or float64 array as a source. The caller keeps the array alive."""
    return matrix.ctypes.data, *matrix.strides, KINDS[matrix.dtype]


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
    """v / 255, correctly rounded where products are fused, without a division."""
    reciprocal = 1.0 / 255.0
    first = v * reciprocal
    return fma(fma(first, -255.0, v), reciprocal, first)


def _read_row(kind):
    """One row of a source of a given kind into blocks ``step`` apart, zeros behind the end."""
    scaled = kind == UINT8
    size = _KIND_BYTES[kind]

    @inline
    def read(x, at, step, address, column_step, width):
        lanes = vector_lanes(x)
        whole = width // lanes if column_step == size else 0
        for block in range(whole):
            v = load_from(x, address + block * lanes * size, kind)
            if scaled:
                v = _unit_interval(v)
            store(x, at + block * step, v)
        for column in range(whole * lanes, ceil_div(width, lanes) * lanes):
            value = x.dtype.type(0)
            if column < width:
                value = number_from(x, address + column * column_step, kind)
                if scaled:
                    value = value / x.dtype.type(255)
            x[at + column // lanes * step + column % lanes] = value

    return read


_read_uint8, _read_float32, _read_float64 = [_read_row(k) for k in (UINT8, FLOAT32, FLOAT64)]


@inline
def read_row(x, at, step, source, row, width):
    """x's blocks, ``step`` apart, = row ``row`` of the source; uint8 becomes v / 255."""
    address, row_step, column_step, kind = source
    address += row * row_step
    if kind == UINT8:
        _read_uint8(x, at, step, address, column_step, width)
    elif kind == FLOAT32:
        _read_float32(x, at, step, address, column_step, width)
    else:
        _read_float64(x, at, step, address, column_step, width)


@inline
def prefetch_row(source, row, width):
    """Ask for the cache lines of row ``row`` of a source, if its rows are contiguous."""
    address, row_step, column_step, _ = source
    first = address + row * row_step
    if column_step <= 8:
        for line in range(first, first + width * column_step, 64):
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
    """Chunks that a batch lies in; geometry = (rows, rows of a chunk, pitch)."""
    return ceil_div(geometry[0], geometry[1])


@inline
def rows_in_chunk(geometry, chunk):
    """Rows of a chunk: the last may be short."""
    rows, chunk_rows, _ = geometry
    return min(chunk_rows, rows - chunk * chunk_rows)


@inline
def block_stride(like, width, pitch):
    """Numbers from chunk to chunk of the blocks of ``width`` features."""
    lanes = vector_lanes(like)
    return ceil_div(width, lanes) * lanes * pitch


@inline
def row_start(like, width, geometry, row):
    """Where a row of a batch starts in the blocks of ``width`` features."""
    _, chunk_rows, pitch = geometry
    stride = block_stride(like, width, pitch)
    return row // chunk_rows * stride + row % chunk_rows * vector_lanes(like)


@inline
def pack_matrix(part, parts, blocks, x, width, geometry):
    """Blocks = the row-major matrix x of ``width`` features, this part's rows."""
    pack_rows(*share(part, parts, geometry[0]), blocks, x, width, geometry)


@inline
def pack_rows(begin, end, blocks, x, width, geometry):
    """Rows begin ... end-1 of blocks = the same rows of the row-major matrix x."""
    lanes = vector_lanes(x)
    step = geometry[2] * lanes
    for row in range(begin, end):
        at = row_start(x, width, geometry, row)
        for block in range(ceil_div(width, lanes)):
            column = block * lanes
            v = load_partial(x, row * width + column, min(lanes, width - column))
            store(blocks, at + block * step, v)


@inline
def unpack_matrix(part, parts, y, blocks, width, geometry):
    """The row-major matrix y of ``width`` features = blocks, this part's rows."""
    step = geometry[2] * vector_lanes(y)
    for row in range(*share(part, parts, geometry[0])):
        write_row(y, row * width, width, blocks, row_start(y, width, geometry, row), step)


@inline
def pack_vector(part, parts, packed, at, v, v_at, width):
    """packed = ``width`` numbers from v[v_at], zeros up to a whole vector; this part's share."""
    lanes = vector_lanes(v)
    for block in range(*share(part, parts, ceil_div(width, lanes))):
        column = block * lanes
        store(packed, at + column, load_partial(v, v_at + column, min(lanes, width - column)))


@inline
def unpack_vector(part, parts, v, v_at, packed, at, width):
    """``width`` numbers at v[v_at] = packed, this part's share."""
    lanes = vector_lanes(v)
    for block in range(*share(part, parts, ceil_div(width, lanes))):
        column = block * lanes
        store_partial(v, v_at + column, min(lanes, width - column), load(packed, at + column))


@inline
def pack_panels(part, parts, panels, at, w, w_at, rows, columns):
    """Panels = the row-major matrix (rows, columns) at w[w_at], this part's panels."""
    lanes = vector_lanes(w)
    blocks = ceil_div(columns, lanes)
    padded_rows = ceil_div(rows, lanes) * lanes
    begin, end = share(part, parts, blocks)
    for block in range(begin, end):
        panel_at, step = block_in_panels(blocks, block, padded_rows, lanes)
        count = min(lanes, columns - block * lanes)
        for row in range(padded_rows):
            # Beyond the last row nothing is read: a mask without lanes gives zeros.
            there = count if row < rows else 0
            source = w_at + min(row, rows - 1) * columns + block * lanes
            store(panels, at + panel_at + row * step, load_partial(w, source, there))


@inline
def unpack_panels(part, parts, w, w_at, panels, at, rows, columns, scale):
    """The row-major matrix (rows, columns) at w[w_at] = scale * panels, this part's blocks."""
    lanes = vector_lanes(w)
    blocks = ceil_div(columns, lanes)
    padded_rows = ceil_div(rows, lanes) * lanes
    begin, end = share(part, parts, blocks)
    for block in range(begin, end):
        panel_at, step = block_in_panels(blocks, block, padded_rows, lanes)
        count = min(lanes, columns - block * lanes)
        for row in range(rows):
            v = load(panels, at + panel_at + row * step) * scale
            store_partial(w, w_at + row * columns + block * lanes, count, v)


@inline
def block_in_panels(blocks, block, padded_rows, lanes):
    """Where a block of columns starts in its panel, and the step from row to row."""
    panel = panel_of(blocks, block)
    start = panel_start(blocks, panel)
    step = (panel_start(blocks, panel + 1) - start) * lanes
    return start * lanes * padded_rows + (block - start) * lanes, step


@inline
def transpose_panel(wt, wt_at, w, w_at, rows, columns, panel):
    """wt = one panel of the transpose of a (rows, columns) matrix in panels at w[w_at]."""
    lanes = vector_lanes(w)
    row_blocks, column_blocks = ceil_div(rows, lanes), ceil_div(columns, lanes)
    start = panel_start(row_blocks, panel)
    vectors = panel_start(row_blocks, panel + 1) - start
    step = vectors * lanes
    for block in range(column_blocks):
        from_at, from_step = block_in_panels(column_blocks, block, row_blocks * lanes, lanes)
        for v in range(vectors):
            transpose(
                wt,
                wt_at + block * lanes * step + v * lanes,
                step,
                w,
                w_at + from_at + (start + v) * lanes * from_step,
                from_step,
            )
