"""The three products of a linear layer, cut into tiles and shared among threads.

    forward          y  = act(x @ w + b)
    weight gradient  dw = scale * x.T @ dz, handed to an update rule or to memory
    input gradient   dx = (dz @ w.T) * act'(x)

Operands lie in blocks and panels (see ``_tile`` and ``packing``): arrays are flat, a start says
where the operand begins. ``pitch`` is the number of rows a block has room for. Columns are cut into
panels of at most three vectors, as equally as possible; tiles are numbered panel by panel, and each
part computes a contiguous stretch of them, so that its weights stay in its core's cache from step
to step.
"""

from __future__ import annotations

from ._jit import inline
from ._memory import load, store
from ._simd import vector_lanes
from ._sync import share
from ._tile import (
    tile_from_row,
    tile_height,
    tile_load,
    tile_multiply_blocks,
    tile_multiply_transposed,
    tile_store,
    tile_updater,
    tile_zeros,
)
from .activation import IDENTITY, activate, activation_slope
from .packing import ceil_div, panel_of, panel_start, transpose_panel
from .update import momentum_rule

# What becomes of a weight gradient. A batch of many chunks adds up its gradient in memory first.
STORE, ADD, UPDATE, ADD_UPDATE = 0, 1, 2, 3

_update_by_momentum = tile_updater(momentum_rule)


@inline
def _panels_of_share(blocks, tiles, begin, end):
    """(first, last + 1) of the panels with tiles in [begin, end), counted in vectors of tiles."""
    if begin >= end:
        return 0, 0
    return panel_of(blocks, begin // tiles), panel_of(blocks, (end - 1) // tiles) + 1


@inline
def _panel_tiles(blocks, panel, tiles, begin, end):
    """A panel's first block and vectors, and (first, last + 1) of its tiles begun in the share."""
    start = panel_start(blocks, panel)
    vectors = panel_start(blocks, panel + 1) - start
    first = max(0, ceil_div(begin - start * tiles, vectors))
    last = min(tiles, ceil_div(end - start * tiles, vectors))
    return start, vectors, first, last


def _by_width(panel_function):
    """Compile a function of a panel for each number of vectors, and choose among them.

    With the number of vectors known, the tile's registers are; passed as an argument, a compiled
    function would keep its caller out of the cache.
    """
    one, two, three = [panel_function(vectors) for vectors in (1, 2, 3)]

    @inline
    def choose(vectors, arguments):
        if vectors == 3:
            three(*arguments)
        elif vectors == 2:
            two(*arguments)
        else:
            one(*arguments)

    return choose


@inline
def _activate_tile(y, start, row_step, vector_step, vectors, activation):
    for row in range(tile_height(y)):
        for v in range(vectors):
            at = start + row * row_step + v * vector_step
            store(y, at, activate(load(y, at), activation))


@inline
def _multiply_slopes(dx, x, start, row_step, vector_step, vectors, activation):
    for row in range(tile_height(dx)):
        for v in range(vectors):
            at = start + row * row_step + v * vector_step
            store(dx, at, load(dx, at) * activation_slope(load(x, at), activation))


@_by_width
def _forward_panel(vectors):
    """Tiles first ... last-1 of one panel of y = act(x @ w + b)."""

    @inline
    def compute(y, y_at, x, x_at, pitch, depth, w, w_at, b_at, first, last, activation):
        lanes = vector_lanes(y)
        step = tile_height(y) * lanes
        for t in range(first, last):
            tile = tile_from_row(w, b_at, vectors)
            tile = tile_multiply_blocks(tile, x, x_at + t * step, pitch, w, w_at, depth)
            tile_store(tile, y, y_at + t * step, lanes, pitch * lanes)
            if activation != IDENTITY:
                _activate_tile(y, y_at + t * step, lanes, pitch * lanes, vectors, activation)

    return compute


@_by_width
def _input_gradient_panel(vectors):
    """Tiles first ... last-1 of one panel of dx = (dz @ w.T) * act'(x)."""

    @inline
    def compute(dx, x, at, dz, dz_at, pitch, depth, wt, wt_at, first, last, activation):
        lanes = vector_lanes(dx)
        step = tile_height(dx) * lanes
        for t in range(first, last):
            tile = tile_zeros(dx, vectors)
            tile = tile_multiply_blocks(tile, dz, dz_at + t * step, pitch, wt, wt_at, depth)
            tile_store(tile, dx, at + t * step, lanes, pitch * lanes)
            if activation != IDENTITY:
                _multiply_slopes(dx, x, at + t * step, lanes, pitch * lanes, vectors, activation)

    return compute


@_by_width
def _weight_gradient_panel(vectors):
    """Tiles first ... last-1 of one panel of dw = x.T @ dz, and what becomes of them."""

    @inline
    def compute(w, v, g, w_at, x, x_at, dz, dz_at, pitch, rows, first, last, mode, scale, factors):
        lanes = vector_lanes(w)
        height = tile_height(w)
        width = vectors * lanes
        for t in range(first, last):
            feature = t * height
            at = w_at + feature * width
            block = x_at + feature // lanes * pitch * lanes + feature % lanes
            if mode in (ADD, ADD_UPDATE):
                tile = tile_load(g, at, width, lanes, vectors)
            else:
                tile = tile_zeros(w, vectors)
            tile = tile_multiply_transposed(tile, x, block, dz, dz_at, pitch, rows)
            if mode in (UPDATE, ADD_UPDATE):
                _update_by_momentum(tile, scale, (w, v), at, width, factors)
            else:
                tile_store(tile, g, at, width, lanes)

    return compute


@inline
def forward_product(
    part, parts, y, y_at, x, x_at, pitch, rows, inputs, outputs, w, w_at, b_at, activation
):
    """y = act(x @ w + b), this part's tiles; w holds the panels at w_at and the bias at b_at."""
    lanes, height = vector_lanes(y), tile_height(y)
    tiles, blocks = ceil_div(rows, height), ceil_div(outputs, lanes)
    panel_rows = ceil_div(inputs, lanes) * lanes
    begin, end = share(part, parts, tiles * blocks)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        start, vectors, first, last = _panel_tiles(blocks, panel, tiles, begin, end)
        column = start * lanes
        arguments = (
            y, y_at + column * pitch, x, x_at, pitch, inputs,
            w, w_at + column * panel_rows, b_at + column, first, last, activation,
        )  # fmt: skip
        _forward_panel(vectors, arguments)


@inline
def input_gradient_product(
    part, parts, dx, x, x_at, dz, dz_at, pitch, rows, inputs, outputs, w, w_at, room, activation
):  # fmt: skip
    """dx = (dz @ w.T) * act'(x), this part's tiles; dx and x alike in blocks from x_at.

    The panels of w.T are made one at a time in ``room``, (parts * widest such panel,): a copy of
    all of w.T would take memory, and a phase of its own to keep up to date.
    """
    lanes, height = vector_lanes(dx), tile_height(dx)
    tiles, blocks = ceil_div(rows, height), ceil_div(inputs, lanes)
    room_at = part * (room.size // parts)
    begin, end = share(part, parts, tiles * blocks)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        start, vectors, first, last = _panel_tiles(blocks, panel, tiles, begin, end)
        column = start * lanes
        arguments = (
            dx, x, x_at + column * pitch, dz, dz_at, pitch, outputs,
            room, room_at, first, last, activation,
        )  # fmt: skip
        transpose_panel(room, room_at, w, w_at, inputs, outputs, panel)
        _input_gradient_panel(vectors, arguments)


@inline
def weight_gradient_product(
    part, parts, w, v, g, w_at, x, x_at, dz, dz_at, pitch, rows, inputs, outputs,
    mode, scale, factors,
):  # fmt: skip
    """scale * x.T @ dz, this part's tiles, stored in g or used to update w and v, by ``mode``."""
    lanes, height = vector_lanes(w), tile_height(w)
    tiles, blocks = ceil_div(inputs, height), ceil_div(outputs, lanes)
    panel_rows = ceil_div(inputs, lanes) * lanes
    begin, end = share(part, parts, tiles * blocks)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        start, vectors, first, last = _panel_tiles(blocks, panel, tiles, begin, end)
        column = start * lanes
        arguments = (
            w, v, g, w_at + column * panel_rows, x, x_at, dz, dz_at + column * pitch,
            pitch, rows, first, last, mode, scale, factors,
        )  # fmt: skip
        _weight_gradient_panel(vectors, arguments)
