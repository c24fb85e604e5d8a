"""Rows of outputs in blocks, worked on a lane each: they are transposed into squares of scratch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import inline, stay_apart
from ._memory import load_partial, store, transpose_part
from ._simd import full_like, vector_lanes
from .packing import ceil_div


class Rows(NamedTuple):
    """Up to as many rows as a register has lanes V, of outputs or of targets.

    Number k of row r lies at ``at + r * row_step + k // V * block_step + k % V``.
    """

    array: np.ndarray
    at: int
    row_step: int
    block_step: int
    count: int
    size: int  # numbers of a row


# Squares of scratch: a block of the outputs, one of the targets, and what comes of them.
OUTPUTS, TARGETS, RESULTS, SQUARES = range(4)


@inline
def live_in(rows, block):
    """How many numbers of a block there are."""
    lanes = vector_lanes(rows.array)
    return min(lanes, rows.size - block * lanes)


@inline
def blocks_of(rows):
    return ceil_div(rows.size, vector_lanes(rows.array))


@inline
def square_at(scratch, number):
    """Where a square begins."""
    return number * vector_lanes(scratch) * vector_lanes(scratch)


@inline
def transpose_in(scratch, number, rows, block):
    """A square = a block of rows, transposed: a register for each of its numbers."""
    stay_apart()
    lanes, live = vector_lanes(scratch), live_in(rows, block)
    square, at = square_at(scratch, number), rows.at + block * rows.block_step
    if rows.count == 1:
        # As at batch 1, where a step of 4-8-2 takes a fifth longer with a transposition.
        like = load_partial(scratch, square, 0)
        for k in range(live):
            store(scratch, square + k * lanes, full_like(like, rows.array[at + k]))
    else:
        transpose_part(
            scratch, square, lanes, rows.array, at, rows.row_step, rows.count, live, lanes
        )  # fmt: skip


@inline
def transpose_out(rows, block, scratch):
    """A block of rows = the square of results, transposed."""
    stay_apart()
    lanes, live = vector_lanes(scratch), live_in(rows, block)
    square, at = square_at(scratch, RESULTS), rows.at + block * rows.block_step
    if rows.count == 1:
        for k in range(live):
            rows.array[at + k] = scratch[square + k * lanes]
    else:
        transpose_part(
            rows.array, at, rows.row_step, scratch, square, lanes, live, rows.count, live
        )  # fmt: skip


@inline
def transpose_next(scratch, number, rows, block):
    """``transpose_in`` a block, but the only one, which is in its square from the beginning."""
    if rows.size > vector_lanes(scratch):
        transpose_in(scratch, number, rows, block)
