"""The three products of a linear layer, cut into tiles and shared among threads.

    forward          y  = act(x @ w + b)
    weight gradient  dw = scale * x.T @ dz, handed to an update rule or to memory
    input gradient   dx = (dz @ w.T) * act'(x)

Operands lie in blocks and panels (see ``_tile``, ``packing`` and ``_operands``): a ``Chunk`` says
where in the blocks, ``w_at`` where the panels of weights begin. Columns are cut into panels of at
most three vectors, as equally as possible; tiles are numbered panel by panel, and each part
computes a contiguous stretch of them, so that its weights stay in its core's cache from step to
step.

``unit`` multiplies. What a product computes is rounded for the next one where it was computed, and
weights where they are read, in ``scratch``: an equal piece for every part.
"""

from __future__ import annotations

from ._jit import inline
from ._memory import load, store
from ._operands import publish, row_pitch, steps_of, transposed_panel, weight_panel
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
    tiles_begin,
    tiles_end,
)
from .activation import IDENTITY, activate, activation_slope
from .packing import ceil_div, panel_of, panel_start
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
def _activate_tile(y, start, height, row_step, vector_step, vectors, activation):
    for row in range(height):
        for v in range(vectors):
            at = start + row * row_step + v * vector_step
            store(y, at, activate(load(y, at), activation))


@inline
def _multiply_slopes(dx, x, start, height, row_step, vector_step, vectors, activation):
    for row in range(height):
        for v in range(vectors):
            at = start + row * row_step + v * vector_step
            store(dx, at, load(dx, at) * activation_slope(load(x, at), activation))


@inline
def _publish_tile(unit, y, chunk, start, vectors, tile, height):
    """Round a tile of outputs, the ``tile``-th of a panel that starts at block ``start``."""
    lanes = vector_lanes(y.values)
    begin, end = tile * height, min(tile * height + height, chunk.rows)
    at = chunk.at + (start * chunk.pitch + begin) * lanes
    publish(unit, y, chunk, start, start + vectors, begin, end, y.values, at, chunk.pitch)


@_by_width
def _forward_panel(vectors):
    """Tiles first ... last-1 of one panel of y = act(x @ w + b)."""

    @inline
    def compute(unit, y, y_chunk, x, x_chunk, w, w_at, b, b_at, start, first, last, activation):
        lanes, height = vector_lanes(y.values), tile_height(unit, y.values)
        step = height * lanes
        pitch = y_chunk.pitch
        y_at = y_chunk.at + start * pitch * lanes
        depth = steps_of(unit, x_chunk.width)
        for t in range(first, last):
            at = y_at + t * step
            tile = tile_from_row(unit, b, b_at, vectors)
            tile = tile_multiply_blocks(
                unit, tile, x.by_feature, x_chunk.at + t * step, pitch, w, w_at, depth
            )
            tile_store(tile, y.values, at, lanes, pitch * lanes)
            if activation != IDENTITY:
                _activate_tile(y.values, at, height, lanes, pitch * lanes, vectors, activation)
            _publish_tile(unit, y, y_chunk, start, vectors, t, height)

    return compute


@_by_width
def _input_gradient_panel(vectors):
    """Tiles first ... last-1 of one panel of dx = (dz @ w.T) * act'(x)."""

    @inline
    def compute(unit, dx, x, x_chunk, dz, dz_chunk, wt, wt_at, start, first, last, activation):
        lanes, height = vector_lanes(dx.values), tile_height(unit, dx.values)
        step = height * lanes
        pitch = x_chunk.pitch
        x_at = x_chunk.at + start * pitch * lanes
        depth = steps_of(unit, dz_chunk.width)
        for t in range(first, last):
            at = x_at + t * step
            tile = tile_zeros(unit, dx.values, vectors)
            tile = tile_multiply_blocks(
                unit, tile, dz.by_feature, dz_chunk.at + t * step, pitch, wt, wt_at, depth
            )
            tile_store(tile, dx.values, at, lanes, pitch * lanes)
            if activation != IDENTITY:
                _multiply_slopes(
                    dx.values, x.values, at, height, lanes, pitch * lanes, vectors, activation
                )
            _publish_tile(unit, dx, x_chunk, start, vectors, t, height)

    return compute


@_by_width
def _weight_gradient_panel(vectors):
    """Tiles first ... last-1 of one panel of dw = x.T @ dz, and what becomes of them."""

    @inline
    def compute(
        unit, w, v, g, w_at, x, x_chunk, dz, dz_chunk, start, first, last, mode, scale, factors
    ):
        lanes, height = vector_lanes(w), tile_height(unit, w)
        width = vectors * lanes
        pitch = row_pitch(unit, x_chunk.pitch)
        dz_at = dz_chunk.at + start * pitch * lanes
        depth = steps_of(unit, x_chunk.rows)
        for t in range(first, last):
            feature = t * height
            at = w_at + feature * width
            block = x_chunk.at + feature // lanes * pitch * lanes + feature % lanes
            if mode in (ADD, ADD_UPDATE):
                tile = tile_load(unit, g, at, width, lanes, vectors)
            else:
                tile = tile_zeros(unit, w, vectors)
            tile = tile_multiply_transposed(
                unit, tile, x.by_row, block, dz.by_row, dz_at, pitch, depth
            )
            if mode in (UPDATE, ADD_UPDATE):
                _update_by_momentum(tile, scale, (w, v), at, width, factors)
            else:
                tile_store(tile, g, at, width, lanes)

    return compute


@inline
def forward_product(
    part, parts, unit, y, y_chunk, x, x_chunk, w, w_at, b_at, scratch, activation
):  # fmt: skip
    """y = act(x @ w + b), this part's tiles; w holds the panels at w_at and the bias at b_at."""
    lanes, height = vector_lanes(w), tile_height(unit, w)
    tiles, blocks = ceil_div(y_chunk.rows, height), ceil_div(y_chunk.width, lanes)
    panel_rows = ceil_div(x_chunk.width, lanes) * lanes
    scratch_at = part * (scratch.size // parts)
    begin, end = share(part, parts, tiles * blocks)
    tiles_begin(unit)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        start, vectors, first, last = _panel_tiles(blocks, panel, tiles, begin, end)
        column = start * lanes
        panel_w, panel_at = weight_panel(
            unit, scratch, scratch_at, w, w_at + column * panel_rows, x_chunk.width, vectors
        )
        arguments = (
            unit, y, y_chunk, x, x_chunk, panel_w, panel_at, w, b_at + column, start, first, last,
            activation,
        )  # fmt: skip
        _forward_panel(vectors, arguments)
    tiles_end(unit)


@inline
def input_gradient_product(
    part, parts, unit, dx, x, x_chunk, dz, dz_chunk, w, w_at, scratch, activation
):  # fmt: skip
    """dx = (dz @ w.T) * act'(x), this part's tiles; dx and x lie alike in their blocks.

    The panels of w.T are made one at a time: a copy of all of w.T would take memory, and a phase of
    its own to keep up to date.
    """
    lanes, height = vector_lanes(w), tile_height(unit, w)
    inputs, outputs = x_chunk.width, dz_chunk.width
    tiles, blocks = ceil_div(x_chunk.rows, height), ceil_div(inputs, lanes)
    scratch_at = part * (scratch.size // parts)
    begin, end = share(part, parts, tiles * blocks)
    tiles_begin(unit)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        start, vectors, first, last = _panel_tiles(blocks, panel, tiles, begin, end)
        transposed_panel(unit, scratch, scratch_at, w, w_at, inputs, outputs, panel)
        arguments = (
            unit, dx, x, x_chunk, dz, dz_chunk, scratch, scratch_at, start, first, last, activation
        )  # fmt: skip
        _input_gradient_panel(vectors, arguments)
    tiles_end(unit)


@inline
def weight_gradient_product(
    part, parts, unit, w, v, g, w_at, x, x_chunk, dz, dz_chunk, mode, scale, factors
):  # fmt: skip
    """scale * x.T @ dz, this part's tiles, stored in g or used to update w and v, by ``mode``."""
    lanes, height = vector_lanes(w), tile_height(unit, w)
    inputs, outputs = x_chunk.width, dz_chunk.width
    tiles, blocks = ceil_div(inputs, height), ceil_div(outputs, lanes)
    panel_rows = ceil_div(inputs, lanes) * lanes
    begin, end = share(part, parts, tiles * blocks)
    tiles_begin(unit)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        start, vectors, first, last = _panel_tiles(blocks, panel, tiles, begin, end)
        arguments = (
            unit, w, v, g, w_at + start * lanes * panel_rows, x, x_chunk, dz, dz_chunk, start,
            first, last, mode, scale, factors,
        )  # fmt: skip
        _weight_gradient_panel(vectors, arguments)
    tiles_end(unit)
