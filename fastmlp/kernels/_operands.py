"""What the three products read: floats where they lie, or pairs of bfloat16 made from them.

A unit of pairs (see ``_units``) reads a batch's blocks in two forms, which are made from the values
once, by the thread that has just computed them:

by_feature   pairs of neighbouring features, for sums over features: [feature // 2V][row][V]
by_row       pairs of rows, for sums over the batch: [feature // V][row // 2][V]

For AMX, the operand whose features become the rows of a weight gradient's tile is *turned*: every
square of 16 x 16 pairs in its by_row is transposed. Pairs beyond the last feature or row, as far as
a unit reads them, are zeros. Values and forms are arrays of their own in which a chunk starts at
the same offset. Weights become pairs a panel at a time, in the thread's own scratch, just before a
product reads them.
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
from ._host import aligned_arrays
from ._jit import inline
from ._memory import Place, load, load_partial, store, transpose
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
    """The blocks of batches in their three forms; for a unit of floats all are one array."""

    values: np.ndarray
    by_feature: np.ndarray  # empty where no product reads it
    by_row: np.ndarray  # empty where no product reads it
    turned: int = 0  # 1: the squares of by_row are transposed, for AMX


class WorkspaceBlocks(NamedTuple):
    """Blocks to be allocated: how many numbers, and in which forms products will read them."""

    size: int
    by_feature: bool = False
    by_row: bool = False
    values: bool = True
    turned: bool = False


def allocate_workspace(
    unit: Unit, dtype, blocks: Sequence[WorkspaceBlocks], sizes: Sequence[int], scratch: int,
    allocate: Callable[..., np.ndarray] = np.empty,
) -> tuple[Any, ...]:  # fmt: skip
    """The buffers that a kernel works in: ``Blocks``, arrays of ``sizes`` numbers, then scratch.

    unit : decides on the forms of blocks, and on what scratch holds: numbers of dtype, or pairs
    scratch : how many of these    allocate : see ``aligned_arrays``
    """
    if isinstance(unit, FloatUnit):
        counts = [*[block.size for block in blocks], *sizes, scratch]
        arrays = aligned_arrays(counts, dtype, allocate)
        return *[Blocks(a, a, a) for a in arrays[: len(blocks)]], *arrays[len(blocks) :]
    forms = [b.size * form for b in blocks for form in (b.values, b.by_feature, b.by_row)]
    arrays = aligned_arrays([*forms, *sizes, scratch], dtype, allocate)
    in_forms = [
        Blocks(
            arrays[i],
            arrays[i + 1].view(np.uint32),
            arrays[i + 2].view(np.uint32),
            int(block.turned and isinstance(unit, AmxUnit)),
        )
        for i, block in zip(range(0, len(forms), 3), blocks, strict=True)
    ]
    return *in_forms, *arrays[len(forms) : -1], arrays[-1].view(np.uint32)


class Chunk(NamedTuple):
    """Where a chunk of a batch lies in blocks."""

    at: int  # its first number
    pitch: int  # rows that a block has space for
    rows: int
    width: int  # features


class Operand(NamedTuple):
    """A chunk of a batch as a product reads or writes it."""

    blocks: Blocks
    chunk: Chunk


class Rectangle(NamedTuple):
    """A part of a chunk: rows row_begin ... row_end-1 of blocks block_begin ... block_end-1."""

    block_begin: int
    block_end: int
    row_begin: int
    row_end: int


@inline
def operand_of(blocks, at, width, geometry, number):
    """Chunk ``number`` of the batch of ``width`` features that begins at ``at`` in the blocks."""
    start = at + number * block_stride(blocks.values, width, geometry.pitch)
    return Operand(blocks, Chunk(start, geometry.pitch, rows_in_chunk(geometry, number), width))


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
    """Steps along the batch that a block has space for; ``pitch`` is odd."""
    return ceil_div(pitch, _step_depth(unit))


def _panel_in_place(unit, scratch, w, rows, vectors):
    return w


def _panel_of_pairs(unit, scratch, w, rows, vectors):
    lanes = vector_lanes(w.array)
    width = vectors * lanes
    for row in range(0, _padded_depth(unit, rows), 2):
        for column in range(0, width, lanes):
            at = w.at + row * width + column
            first = load_partial(w.array, at, lanes if row < rows else 0)
            second = load_partial(w.array, at + width, lanes if row + 1 < rows else 0)
            pairs_at = scratch.at + row // 2 * width + column
            store(scratch.array, pairs_at, pairs_of_lanes(first, second))
    return scratch


def weight_panel(unit, scratch, w, rows, vectors):
    """The place of a panel of weights as the unit reads it: place w, or made in scratch."""


by_unit(weight_panel)(_panel_in_place, _panel_of_pairs)


def _transpose_floats(unit, scratch, w, rows, columns, panel):
    transpose_panel(scratch, w, rows, columns, panel)


def _transpose_pairs(unit, scratch, w, rows, columns, panel):
    # A square: as many rows of w as a vector has lanes, and as many pairs of its columns.
    lanes = vector_lanes(w.array)
    row_blocks, column_blocks = ceil_div(rows, lanes), ceil_div(columns, lanes)
    padded_rows = row_blocks * lanes
    start = panel_start(row_blocks, panel)
    vectors = panel_start(row_blocks, panel + 1) - start
    width = vectors * lanes
    square_at = scratch.at + ceil_div(column_blocks, 2) * lanes * width
    for block in range(0, column_blocks, 2):
        at, step = block_in_panels(column_blocks, block, padded_rows, lanes)
        other_at, other_step = at, step
        other_count = columns - (block + 1) * lanes
        if other_count > 0:
            other_at, other_step = block_in_panels(column_blocks, block + 1, padded_rows, lanes)
        for v in range(vectors):
            for i in range(lanes):
                row = (start + v) * lanes + i
                first = _first(load(w.array, w.at + at + row * step), columns - block * lanes)
                second = _first(load(w.array, w.at + other_at + row * other_step), other_count)
                store(scratch.array, square_at + i * lanes, pairs_of_neighbours(first, second))
            to = scratch.at + block // 2 * lanes * width + v * lanes
            transpose(scratch.array, to, width, scratch.array, square_at, lanes)


def transposed_panel(unit, scratch, w, rows, columns, panel):
    """Scratch = a panel of the transpose of weights (rows, columns) that lie in panels at w."""


by_unit(transposed_panel)(_transpose_floats, _transpose_pairs)


@inline
def _first(v, count):
    """The first ``count`` lanes, zeros in the rest."""
    return where(first_lanes(v, count), v, 0)


def _as_it_is(unit, v):
    return v


def _rounded(unit, v):
    return rounded(v)


def rounded_for(unit, v):
    """A register of numbers as a product of the unit reads them."""


by_unit(rounded_for)(_as_it_is, _rounded)


def _one_by_one(unit, step, count):
    return step


def _second_first(unit, step, count):
    # The second number of a pair is added first; the last of an odd count has no partner.
    return step if step == count - 1 and count % 2 == 1 else step + 1 - 2 * (step % 2)


def in_step(unit, step, count):
    """Which of ``count`` numbers a sum of the unit adds as its ``step``-th."""


by_unit(in_step)(_one_by_one, _second_first)


def _nothing_to_round(unit, operand, rectangle, values, pitch):
    pass


def _round_blocks(unit, operand, rectangle, values, pitch):
    blocks, chunk = operand
    block_begin, block_end, begin, end = rectangle
    lanes = vector_lanes(values.array)
    # The part that has the last row also makes the rows of zeros behind it. A part that has no rows
    # at all must not touch the last row's pairs.
    if begin < chunk.rows <= end:
        end = _padded_depth(unit, chunk.rows)
    for block in range(block_begin, block_end):
        at = values.at + (block - block_begin) * pitch * lanes
        count = min(lanes, chunk.width - block * lanes)
        by_feature = chunk.at + block // 2 * chunk.pitch * lanes + block % 2 * (lanes // 2)
        by_row = chunk.at + block * row_pitch(unit, chunk.pitch) * lanes
        without_partner = block % 2 == 0 and (block + 1) * lanes >= chunk.width
        for row in range(begin, end, 2):
            low = load_partial(values.array, at, count if row < chunk.rows else 0)
            high = load_partial(values.array, at + lanes, count if row + 1 < chunk.rows else 0)
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
            first = Place(values.array, values.at + (block - block_begin) * pitch * lanes)
            squares = Place(blocks.by_row, by_row)
            _turn_block(unit, squares, first, begin, end, count, chunk.rows)


def _nothing_to_turn(unit, squares, values, begin, end, count, rows):
    pass


def _turn_squares(unit, squares, values, begin, end, count, rows):
    # 16 rows, which are half a square: eight of its pairs for each of 16 features.
    for row in range(begin, end, 16):
        half = squares.at + row // 32 * 256 + row % 32 // 2
        at = values.at + (row - begin) * 16
        turn_rows(squares.array, half, values.array, at, count, rows - row)


def _turn_block(unit, squares, values, begin, end, count, rows):
    """Rows begin ... end-1 of a block, which lie at place ``values``, into its squares."""


by_unit(_turn_block)(_nothing_to_turn, _nothing_to_turn, _turn_squares)


def publish_from(unit, operand, rectangle, values, pitch):
    """Put the values of a rectangle of an operand into the forms that products read.

    values : place of the first; blocks lie ``pitch`` rows apart from there
    The rectangle's rows begin at a multiple of ``row_group``; they end at one too, or at the last
    row of the chunk.
    """


by_unit(publish_from)(_nothing_to_round, _round_blocks)


@inline
def publish(unit, operand, rectangle):
    """``publish_from`` the operand's own values, which have just been computed."""
    values, chunk = operand.blocks.values, operand.chunk
    first = rectangle.block_begin * chunk.pitch + rectangle.row_begin
    place = Place(values, chunk.at + first * vector_lanes(values))
    publish_from(unit, operand, rectangle, place, chunk.pitch)


@inline
def share_rows(team, unit, rows):
    """(begin, end) of this part's rows: no row shares a pair with a row of another part."""
    group = row_group(unit)
    begin, end = share(team, ceil_div(rows, group))
    return begin * group, min(end * group, rows)


@inline
def pack_operand(team, unit, blocks, x, width, geometry):
    """Blocks in all their forms = the row-major matrix x, this part's rows."""
    group, chunk_rows = row_group(unit), geometry.chunk_rows
    all_blocks = ceil_div(width, vector_lanes(x))
    begin, end = share_rows(team, unit, geometry.rows)
    pack_rows(begin, end, blocks.values, x, width, geometry)
    for row in range(begin, end, group):
        operand = operand_of(blocks, 0, width, geometry, row // chunk_rows)
        first = row % chunk_rows
        stop = min(first + group, operand.chunk.rows)
        publish(unit, operand, Rectangle(0, all_blocks, first, stop))
