"""What the three products read: floats where they lie, or pairs of bfloat16 made from them.

A unit of pairs (see ``_units``) wants two forms of a batch's blocks beside the values, made once,
by the thread that has just computed them:

by_feature   pairs of neighbouring features, for sums over features: [feature // 2V][row][V]
by_row       pairs of rows, for sums over the batch: [feature // V][row // 2][V]

To AMX, what gives the rows of a weight gradient's tile is *turned*: each 16 x 16 pairs of by_row
are transposed. Pairs beyond the last feature or row, as far as a unit takes them, are zeros. Both
forms start where the values start, each in an array of its own, so that one offset leads into all
three. Weights become pairs a panel at a time, in the thread's own scratch, where a product is about
to read them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from ._bfloat16 import (
    pairs_of_lanes,
    pairs_of_neighbours,
    rounded,
    store_neighbours,
    turn_rows,
)
from ._host import aligned_rooms
from ._jit import inline
from ._memory import load, load_partial, store, transpose
from ._simd import first_lanes, full_like, vector_lanes, where
from ._sync import share
from ._units import AmxUnit, FloatUnit, Unit, by_unit, depth_multiple, rows_together, step_depth
from .packing import (
    block_in_panels,
    block_stride,
    ceil_div,
    pack_rows,
    panel_start,
    rows_in_chunk,
    transpose_panel,
)


class Blocks(NamedTuple):
    """The blocks of batches in their three forms; to a unit of floats they are one array."""

    values: np.ndarray
    by_feature: np.ndarray  # empty where no product reads it
    by_row: np.ndarray  # empty where no product reads it
    turned: int = 0  # 1: its by_row gives the rows of tiles


class Wanted(NamedTuple):
    """Room for blocks of ``size`` numbers, and which forms of them a product will read."""

    size: int
    by_feature: bool = False
    by_row: bool = False
    values: bool = True
    turned: bool = False


def rooms_for(
    unit: Unit, dtype, blocks: Sequence[Wanted], sizes: Sequence[int], scratch: int,
    allocate: Callable[..., np.ndarray] = np.empty,
) -> tuple[Any, ...]:  # fmt: skip
    """``Blocks``, then arrays of ``sizes`` numbers, then scratch; see ``aligned_rooms``."""
    if isinstance(unit, FloatUnit):
        rooms = aligned_rooms([*[want.size for want in blocks], *sizes, scratch], dtype, allocate)
        return *[Blocks(room, room, room) for room in rooms[: len(blocks)]], *rooms[len(blocks) :]
    forms = [w.size * form for w in blocks for form in (w.values, w.by_feature, w.by_row)]
    rooms = aligned_rooms([*forms, *sizes, scratch], dtype, allocate)
    in_forms = [
        Blocks(
            rooms[i],
            rooms[i + 1].view(np.uint32),
            rooms[i + 2].view(np.uint32),
            int(w.turned and isinstance(unit, AmxUnit)),
        )
        for i, w in zip(range(0, len(forms), 3), blocks, strict=True)
    ]
    return *in_forms, *rooms[len(forms) : -1], rooms[-1].view(np.uint32)


class Chunk(NamedTuple):
    """Where a chunk of a batch lies in blocks that have room for ``pitch`` rows."""

    at: int
    pitch: int
    rows: int
    width: int


@inline
def chunk_of(like, at, width, geometry, number):
    """A chunk of the batch whose blocks of ``width`` features begin at ``at``.

    geometry = (rows, rows of a chunk, pitch)
    """
    pitch = geometry[2]
    start = at + number * block_stride(like, width, pitch)
    return Chunk(start, pitch, rows_in_chunk(geometry, number), width)


def _constant(of):
    """An intrinsic that gives compiled code a property of a unit."""

    @intrinsic
    def constant(typingctx, unit):
        number = of(unit.instance_class)
        return types.intp(unit), lambda context, builder, sig, args: ir.IntType(64)(number)

    return constant


row_group, _step_depth, _depth_multiple = [
    _constant(of) for of in (rows_together, step_depth, depth_multiple)
]


@inline
def _padded_depth(unit, depth):
    return ceil_div(depth, _depth_multiple(unit)) * _depth_multiple(unit)


@inline
def steps_of(unit, depth):
    """Steps of a product whose sums run over ``depth`` numbers."""
    return ceil_div(depth, _step_depth(unit))


@inline
def row_pitch(unit, pitch):
    """Steps along the batch that a block has room for; ``pitch`` is odd."""
    return ceil_div(pitch, _step_depth(unit))


def _panel_in_place(unit, scratch, scratch_at, w, w_at, rows, vectors):
    return w, w_at


def _panel_of_pairs(unit, scratch, scratch_at, w, w_at, rows, vectors):
    lanes = vector_lanes(w)
    width = vectors * lanes
    for row in range(0, _padded_depth(unit, rows), 2):
        for column in range(0, width, lanes):
            at = w_at + row * width + column
            first = load_partial(w, at, lanes if row < rows else 0)
            second = load_partial(w, at + width, lanes if row + 1 < rows else 0)
            store(scratch, scratch_at + row // 2 * width + column, pairs_of_lanes(first, second))
    return scratch, scratch_at


def weight_panel(unit, scratch, scratch_at, w, w_at, rows, vectors):
    """(array, start) of a panel of weights as the unit reads it; w_at is where the panel starts."""


by_unit(weight_panel)(_panel_in_place, _panel_of_pairs)


def _transpose_floats(unit, scratch, scratch_at, w, w_at, rows, columns, panel):
    transpose_panel(scratch, scratch_at, w, w_at, rows, columns, panel)


def _transpose_pairs(unit, scratch, scratch_at, w, w_at, rows, columns, panel):
    # A square: as many rows of w as a vector has lanes, and as many pairs of its columns.
    lanes = vector_lanes(w)
    row_blocks, column_blocks = ceil_div(rows, lanes), ceil_div(columns, lanes)
    padded_rows = row_blocks * lanes
    start = panel_start(row_blocks, panel)
    vectors = panel_start(row_blocks, panel + 1) - start
    width = vectors * lanes
    square_at = scratch_at + ceil_div(column_blocks, 2) * lanes * width
    for block in range(0, column_blocks, 2):
        at, step = block_in_panels(column_blocks, block, padded_rows, lanes)
        other_at, other_step = at, step
        other_count = columns - (block + 1) * lanes
        if other_count > 0:
            other_at, other_step = block_in_panels(column_blocks, block + 1, padded_rows, lanes)
        for v in range(vectors):
            for i in range(lanes):
                row = (start + v) * lanes + i
                first = _first(load(w, w_at + at + row * step), columns - block * lanes)
                second = _first(load(w, w_at + other_at + row * other_step), other_count)
                store(scratch, square_at + i * lanes, pairs_of_neighbours(first, second))
            to = scratch_at + block // 2 * lanes * width + v * lanes
            transpose(scratch, to, width, scratch, square_at, lanes)


def transposed_panel(unit, scratch, scratch_at, w, w_at, rows, columns, panel):
    """scratch = a panel of the transpose of weights (rows, columns) that lie in panels at w_at."""


by_unit(transposed_panel)(_transpose_floats, _transpose_pairs)


@inline
def _first(v, count):
    """The first ``count`` lanes, zeros in the rest."""
    return where(first_lanes(v, count), v, 0)


def _float_operand(unit, v):
    return v


def _rounded_operand(unit, v):
    return rounded(v)


def operand(unit, v):
    """A register of numbers as a product of the unit reads them."""


by_unit(operand)(_float_operand, _rounded_operand)


def _one_by_one(unit, step, count):
    return step


def _second_first(unit, step, count):
    # The second number of a pair is added first; the last of an odd count has no partner.
    return step if step == count - 1 and count % 2 == 1 else step + 1 - 2 * (step % 2)


def in_step(unit, step, count):
    """Which of ``count`` numbers a sum of the unit adds as its ``step``-th."""


by_unit(in_step)(_one_by_one, _second_first)


def _floats_are_there(unit, blocks, chunk, first, last, begin, end, values, values_at, pitch):
    pass


def _round_blocks(unit, blocks, chunk, first, last, begin, end, values, values_at, pitch):
    lanes = vector_lanes(values)
    rows = chunk.rows
    # Whoever has the last row makes the rows of zeros behind it; a part that has no row at all must
    # not touch the last row's pairs.
    if begin < rows <= end:
        end = _padded_depth(unit, rows)
    for block in range(first, last):
        at = values_at + (block - first) * pitch * lanes
        count = min(lanes, chunk.width - block * lanes)
        by_feature = chunk.at + block // 2 * chunk.pitch * lanes + block % 2 * (lanes // 2)
        by_row = chunk.at + block * row_pitch(unit, chunk.pitch) * lanes
        without_partner = block % 2 == 0 and (block + 1) * lanes >= chunk.width
        for row in range(begin, end, 2):
            low = load_partial(values, at, count if row < rows else 0)
            high = load_partial(values, at + lanes, count if row + 1 < rows else 0)
            if blocks.by_feature.size > 0:
                here = by_feature + row * lanes
                store_neighbours(blocks.by_feature, here, low)
                store_neighbours(blocks.by_feature, here + lanes, high)
                if without_partner:
                    store_neighbours(blocks.by_feature, here + lanes // 2, full_like(low, 0))
                    store_neighbours(
                        blocks.by_feature, here + lanes + lanes // 2, full_like(low, 0)
                    )
            if blocks.by_row.size > 0 and blocks.turned == 0:
                store(blocks.by_row, by_row + row // 2 * lanes, pairs_of_lanes(low, high))
            at += 2 * lanes
        if blocks.by_row.size > 0 and blocks.turned > 0:
            at = values_at + (block - first) * pitch * lanes
            _turn_block(unit, blocks.by_row, by_row, values, at, begin, end, count, rows)


def _nothing_to_turn(unit, by_row, by_row_at, values, at, begin, end, count, rows):
    pass


def _turn_squares(unit, by_row, by_row_at, values, at, begin, end, count, rows):
    # 16 rows, which are half a square: eight of its pairs for each of 16 features.
    for row in range(begin, end, 16):
        half = by_row_at + row // 32 * 256 + row % 32 // 2
        turn_rows(by_row, half, values, at + (row - begin) * 16, count, rows - row)


def _turn_block(unit, by_row, by_row_at, values, at, begin, end, count, rows):
    """Rows begin ... end-1 of a block, which lie at ``at``, into its squares at by_row_at."""


by_unit(_turn_block)(_nothing_to_turn, _nothing_to_turn, _turn_squares)


def publish(unit, blocks, chunk, first, last, begin, end, values, values_at, pitch):
    """Put a rectangle of values into the forms that products read.

    Of rows begin ... end-1 and of the blocks first ... last-1, which lie ``pitch`` rows apart from
    values_at on. ``begin`` is a multiple of ``row_group``, and ``end`` too or the number of rows.
    """


by_unit(publish)(_floats_are_there, _round_blocks)


@inline
def share_rows(part, parts, unit, rows):
    """(begin, end) of this part's rows, none of which must be rounded with another part's."""
    group = row_group(unit)
    begin, end = share(part, parts, ceil_div(rows, group))
    return begin * group, min(end * group, rows)


@inline
def pack_operand(part, parts, unit, blocks, x, width, geometry):
    """Blocks in all their forms = the row-major matrix x, this part's rows."""
    lanes, group, chunk_rows = vector_lanes(x), row_group(unit), geometry[1]
    begin, end = share_rows(part, parts, unit, geometry[0])
    pack_rows(begin, end, blocks.values, x, width, geometry)
    for row in range(begin, end, group):
        chunk = chunk_of(x, 0, width, geometry, row // chunk_rows)
        first, stop = row % chunk_rows, min(row % chunk_rows + group, chunk.rows)
        publish(
            unit, blocks, chunk, 0, ceil_div(width, lanes), first, stop,
            blocks.values, chunk.at + first * lanes, chunk.pitch,
        )  # fmt: skip
