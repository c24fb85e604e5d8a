"""The three products of a linear layer, cut into tiles and shared among threads.

    forward          y  = act(x @ w + b)
    weight gradient  dw = scale * x.T @ dz, handed to an update rule or to memory
    input gradient   dx = (dz @ w.T) * act', from what the forward phase has kept

x, y, dx and dz are ``Operand``s, chunks of a batch in blocks; weights lie in panels (see ``_tile``,
``packing`` and ``_operands``). Columns are cut into panels of at most three vectors, as equally as
possible. Tiles are numbered panel by panel, and each part computes a contiguous stretch of them, so
that its weights stay in its core's cache from step to step.

``unit`` multiplies. Results are rounded for the next product by the thread that computed them;
weights are rounded just before they are read, in ``scratch``, of which every part has an equal
piece.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._host import TILE_VECTORS
from ._jit import inline
from ._memory import Place, load, squares_on_stack, store
from ._operands import (
    Rectangle,
    publish,
    row_pitch,
    steps_of,
    transposed_panel,
    weight_panel,
)
from ._simd import full_like, vector_lanes
from ._sync import share
from ._tile import (
    tile_from_row,
    tile_height,
    tile_load,
    tile_store,
    tile_updater,
    tile_zeros,
)
from ._tile_products import (
    tile_multiply_blocks,
    tile_multiply_listed,
    tile_multiply_transposed,
    tiles_begin,
    tiles_end,
)
from ._vocabulary import needs_lists
from .activation import IDENTITY, activate_short, activation_slope, is_short, store_longer
from .packing import ceil_div, panel_of, panel_start
from .present import ALL_FEATURES, Features, add_absent_weights, listed_tiles, zero_times
from .rules import momentum_rule

# Modes of a weight gradient: it is stored, added to what is stored, or used for an update, alone or
# after the stored one was added. A batch of several chunks adds up its gradient in memory first.
STORE, ADD, UPDATE, ADD_UPDATE = 0, 1, 2, 3

_update_by_momentum = tile_updater(momentum_rule)


class Weights(NamedTuple):
    """The parameters of a layer in a packed buffer."""

    array: np.ndarray
    panels_at: int  # where its panels begin
    bias_at: int  # where its bias begins


class GradientTarget(NamedTuple):
    """The panels of a layer's weight gradient in memory."""

    gradients: np.ndarray
    at: int  # where they begin, as the weights do in their buffer


class FusedUpdate(NamedTuple):
    """What becomes of a weight gradient that is used at once, by momentum."""

    parameters: np.ndarray
    velocities: np.ndarray
    scale: float  # of the gradient
    factors: tuple[float, ...]  # of the rule


class PanelTiles(NamedTuple):
    """The tiles of one panel that a part computes: first ... last-1."""

    block: int  # the panel's first block of columns
    vectors: int  # its width in vectors
    first: int
    last: int


class ListedRows(NamedTuple):
    """As many rows of a panel as a tile has, whose features follow each other in a list."""

    features: Features
    at: int  # where the panel begins
    first: int  # the number of the first feature in the list
    height: int
    vectors: int


@inline
def _row_at(tile, row, lanes):
    """Where a row of ``ListedRows`` begins."""
    feature = tile.features.lists[tile.features.at + tile.first + row]
    return tile.at + feature * tile.vectors * lanes


@inline
def _panels_of_share(blocks, tiles, begin, end):
    """(first, last + 1) of the panels with tiles in [begin, end), counted in vectors of tiles."""
    if begin >= end:
        return 0, 0
    return panel_of(blocks, begin // tiles), panel_of(blocks, (end - 1) // tiles) + 1


@inline
def _panel_tiles(blocks, panel, tiles, begin, end):
    """A panel's tiles that begin in [begin, end), counted in vectors of tiles."""
    start = panel_start(blocks, panel)
    vectors = panel_start(blocks, panel + 1) - start
    first = max(0, ceil_div(begin - start * tiles, vectors))
    last = min(tiles, ceil_div(end - start * tiles, vectors))
    return PanelTiles(start, vectors, first, last)


@inline
def _scratch_of(team, scratch):
    """This part's piece of scratch."""
    return Place(scratch, team.part * (scratch.size // team.parts))


def _by_width(panel_function):
    """Compile a function of a panel for each number of vectors, and choose among them.

    With a constant number of vectors the tile is a constant number of registers. The function is
    given here, not as an argument of ``choose``: Numba caches no caller that passes functions.
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
def _activate_tile(y, slopes, start, height, row_step, vector_step, vectors, formula):
    if is_short(formula):
        # A loop of its own, which the compiler repeats for each of them, without calls.
        for row in range(height):
            for v in range(vectors):
                at = start + row * row_step + v * vector_step
                store(y, at, activate_short(load(y, at), formula))
    else:
        for row in range(height):
            for v in range(vectors):
                at = start + row * row_step + v * vector_step
                store_longer(y, slopes, at, load(y, at), formula)


@inline
def _multiply_slopes(dx, kept, start, height, row_step, vector_step, vectors, formula):
    for row in range(height):
        for v in range(vectors):
            at = start + row * row_step + v * vector_step
            store(dx, at, load(dx, at) * activation_slope(load(kept, at), formula))


@inline
def _publish_tile(unit, y, block, vectors, tile, height):
    """Round a tile of outputs, the ``tile``-th of a panel that starts at a block."""
    begin, end = tile * height, min(tile * height + height, y.chunk.rows)
    publish(unit, y, Rectangle(block, block + vectors, begin, end))


@_by_width
def _forward_panel(vectors):
    """Some tiles of one panel of y = act(x @ w + b)."""

    @inline
    def compute(unit, y, x, w, b, tiles, formula, slopes):
        values = y.blocks.values
        lanes, height = vector_lanes(values), tile_height(unit, values)
        step = height * lanes
        pitch = y.chunk.pitch
        y_at = y.chunk.at + tiles.block * pitch * lanes
        depth = steps_of(unit, x.chunk.width)
        for t in range(tiles.first, tiles.last):
            at = y_at + t * step
            tile = tile_from_row(unit, b.array, b.at, vectors)
            tile = tile_multiply_blocks(
                unit, tile, x.blocks.by_feature, x.chunk.at + t * step, pitch, w.array, w.at, depth,
                x.features,
            )  # fmt: skip
            tile_store(tile, values, at, lanes, pitch * lanes)
            if formula.code != IDENTITY or formula.keeps_slope:
                _activate_tile(values, slopes, at, height, lanes, pitch * lanes, vectors, formula)
            _publish_tile(unit, y, tiles.block, vectors, t, height)

    return compute


@_by_width
def _input_gradient_panel(vectors):
    """Some tiles of one panel of dx = (dz @ w.T) * act', from a panel of w.T."""

    @inline
    def compute(unit, dx, kept, dz, wt, tiles, formula):
        values = dx.blocks.values
        lanes, height = vector_lanes(values), tile_height(unit, values)
        step = height * lanes
        pitch = dx.chunk.pitch
        dx_at = dx.chunk.at + tiles.block * pitch * lanes
        depth = steps_of(unit, dz.chunk.width)
        for t in range(tiles.first, tiles.last):
            at = dx_at + t * step
            tile = tile_zeros(unit, values, vectors)
            tile = tile_multiply_blocks(
                unit, tile, dz.blocks.by_feature, dz.chunk.at + t * step, pitch,
                wt.array, wt.at, depth, ALL_FEATURES,
            )  # fmt: skip
            tile_store(tile, values, at, lanes, pitch * lanes)
            if formula.code != IDENTITY or formula.keeps_slope:
                _multiply_slopes(values, kept, at, height, lanes, pitch * lanes, vectors, formula)
            _publish_tile(unit, dx, tiles.block, vectors, t, height)

    return compute


@_by_width
def _weight_gradient_panel(vectors):
    """Some tiles of one panel of dw = x.T @ dz, and what becomes of them."""

    @inline
    def compute(unit, target, x, dz, tiles, mode, update):
        g, panels_at = target
        lanes, height = vector_lanes(g), tile_height(unit, g)
        width = vectors * lanes
        pitch = row_pitch(unit, x.chunk.pitch)
        w_at = panels_at + tiles.block * lanes * ceil_div(x.chunk.width, lanes) * lanes
        dz_at = dz.chunk.at + tiles.block * pitch * lanes
        depth = steps_of(unit, x.chunk.rows)
        for t in range(tiles.first, tiles.last):
            feature = t * height
            at = w_at + feature * width
            block = x.chunk.at + feature // lanes * pitch * lanes + feature % lanes
            if mode in (ADD, ADD_UPDATE):
                tile = tile_load(unit, g, at, width, lanes, vectors)
            else:
                tile = tile_zeros(unit, g, vectors)
            tile = tile_multiply_transposed(
                unit, tile, x.blocks.by_row, block, dz.blocks.by_row, dz_at, pitch, depth
            )
            if mode in (UPDATE, ADD_UPDATE):
                _update_by_momentum(
                    tile, update.scale, (update.parameters, update.velocities), at, width,
                    update.factors,
                )  # fmt: skip
            else:
                tile_store(tile, g, at, width, lanes)

    return compute


@inline
def _begin_rows(rows, target, tile, mode):
    """What a tile of listed rows is added to: zeros, or what is stored of their gradients."""
    lanes = vector_lanes(rows)
    for row in range(tile.height):
        at = _row_at(tile, row, lanes)
        for v in range(tile.vectors):
            so_far = load(target.gradients, at + v * lanes)
            if mode in (STORE, UPDATE):
                so_far = full_like(so_far, 0)
            store(rows, (row * tile.vectors + v) * lanes, so_far)


@inline
def _use_rows(rows, target, tile, mode, update):
    """The gradients of a tile of listed rows are stored, or used for their update."""
    lanes = vector_lanes(rows)
    for row in range(tile.height):
        at = _row_at(tile, row, lanes)
        for v in range(tile.vectors):
            here, gradient = at + v * lanes, load(rows, (row * tile.vectors + v) * lanes)
            if mode in (UPDATE, ADD_UPDATE):
                old = load(update.parameters, here), load(update.velocities, here)
                weight, velocity = momentum_rule(update.scale * gradient, old, update.factors)
                store(update.parameters, here, weight)
                store(update.velocities, here, velocity)
            else:
                store(target.gradients, here, gradient)


@_by_width
def _listed_gradient_panel(vectors):
    """What ``_weight_gradient_panel`` does, of the features of a list.

    Its tiles are of those present; of the rest, whose gradients are 0 * dz, a part has a share of
    the same size.
    """

    @inline
    def compute(unit, target, x, dz, tiles, mode, update):
        g, pitch = target.gradients, dz.chunk.pitch
        lanes, height = vector_lanes(g), tile_height(unit, g)
        width = vectors * lanes
        w_at = target.at + tiles.block * lanes * ceil_div(x.chunk.width, lanes) * lanes
        dz_at = dz.chunk.at + tiles.block * pitch * lanes
        rows, zeros = squares_on_stack(g, TILE_VECTORS), squares_on_stack(g, TILE_VECTORS)
        for v in range(vectors):
            nothing = zero_times(dz.blocks.values, dz_at + v * pitch * lanes, dz.chunk.rows)
            store(zeros, v * lanes, nothing)
        listed, own = listed_tiles(x.features, height), tiles.last - tiles.first
        rest = x.features.width // height - listed
        rest_first, rest_last = tiles.first * rest // listed, tiles.last * rest // listed
        for number in range(own + rest_last - rest_first):
            t = (tiles.first if number < own else listed + rest_first - own) + number
            tile_rows = ListedRows(x.features, w_at, t * height, height, vectors)
            _begin_rows(rows, target, tile_rows, mode)
            if number < own:
                tile = tile_load(unit, rows, 0, width, lanes, vectors)
                tile = tile_multiply_listed(
                    unit, tile, x.blocks.values, x.chunk.at, x.features, t * height,
                    dz.blocks.values, dz_at, pitch, x.chunk.rows,
                )  # fmt: skip
                tile_store(tile, rows, 0, width, lanes)
            else:
                for k in range(0, height * width, lanes):
                    store(rows, k, load(rows, k) + load(zeros, k % width))
            _use_rows(rows, target, tile_rows, mode, update)

    return compute


@needs_lists
def _listed_gradient(features, vectors, arguments):
    """``_listed_gradient_panel``, where there may be a list."""
    _listed_gradient_panel(vectors, arguments)


@inline
def forward_product(team, unit, y, x, weights, scratch, formula, slopes):
    """y = act(x @ w + b), this part's tiles; w and b lie in ``weights``.

    x : ``Inputs``
    slopes : those of act, laid out as y's values; written where the formula keeps them
    """
    w, panels_at, bias_at = weights
    lanes, height = vector_lanes(w), tile_height(unit, w)
    tiles, blocks = ceil_div(y.chunk.rows, height), ceil_div(y.chunk.width, lanes)
    inputs = x.chunk.width
    panel_rows = ceil_div(inputs, lanes) * lanes
    own_scratch = _scratch_of(team, scratch)
    sums = Place(squares_on_stack(w, 3), 0)
    begin, end = share(team, tiles * blocks)
    tiles_begin(unit)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        own = _panel_tiles(blocks, panel, tiles, begin, end)
        column = own.block * lanes
        at = Place(w, panels_at + column * panel_rows)
        panel_w = weight_panel(unit, own_scratch, at, inputs, own.vectors)
        bias = Place(w, bias_at + column)
        if x.features.present >= 0:
            add_absent_weights(sums, bias, at, own.vectors, x.features)
            bias = sums
        arguments = (unit, y, x, panel_w, bias, own, formula, slopes)
        _forward_panel(own.vectors, arguments)
    tiles_end(unit)


@inline
def input_gradient_product(team, unit, dx, kept, dz, weights, scratch, formula):
    """dx = (dz @ w.T) * act', this part's tiles.

    kept : what the formula keeps of x = act(...), activations or slopes, laid out as dx's values
    The panels of w.T are made one at a time: a copy of all of w.T would take memory, and a phase of
    its own to keep it up to date.
    """
    w = Place(weights.array, weights.panels_at)
    lanes, height = vector_lanes(w.array), tile_height(unit, w.array)
    inputs, outputs = dx.chunk.width, dz.chunk.width
    tiles, blocks = ceil_div(dx.chunk.rows, height), ceil_div(inputs, lanes)
    own_scratch = _scratch_of(team, scratch)
    begin, end = share(team, tiles * blocks)
    tiles_begin(unit)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        own = _panel_tiles(blocks, panel, tiles, begin, end)
        transposed_panel(unit, own_scratch, w, inputs, outputs, panel)
        _input_gradient_panel(own.vectors, (unit, dx, kept, dz, own_scratch, own, formula))
    tiles_end(unit)


@inline
def weight_gradient_product(team, unit, target, x, dz, mode, update):
    """x.T @ dz, this part's tiles: kept at the target or used for an update, as ``mode`` says.

    x : ``Inputs``
    update : a ``FusedUpdate``, which STORE and ADD do not look at
    """
    lanes, height = vector_lanes(target.gradients), tile_height(unit, target.gradients)
    tiles, blocks = ceil_div(x.chunk.width, height), ceil_div(dz.chunk.width, lanes)
    if x.features.present >= 0:
        tiles = listed_tiles(x.features, height)
    begin, end = share(team, tiles * blocks)
    tiles_begin(unit)
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        own = _panel_tiles(blocks, panel, tiles, begin, end)
        arguments = (unit, target, x, dz, own, mode, update)
        if x.features.present < 0:
            _weight_gradient_panel(own.vectors, arguments)
        else:
            _listed_gradient(x.features, own.vectors, arguments)
    tiles_end(unit)
