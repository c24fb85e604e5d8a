"""Dropout: which numbers of a layer's input are left out of a training step, and by what the rest
grows.

A number is multiplied by 0 with probability ``rate``, otherwise by 1 / (1 - rate). A random word of
32 bits decides, which follows from the step, the layer, the row in the batch and the column alone:
it is the same for any number of threads, lanes and chunks, in either dtype and in either path. A
rate is kept to within 2**-32.

Reference: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
2014, scaled in training rather than afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

from ._jit import inline, kernel, stay_apart
from ._memory import load, load_partial, store, store_partial
from ._philox import philox, reaches, signed
from ._simd import full_like, vector_lanes, where
from ._sync import barrier, share
from .activation import activation_slope
from .packing import ceil_div

# The words that a counter gives are for so many rows, one below the other.
ROWS_OF_A_DRAW = 4


class Draw(NamedTuple):
    """What the masks of a layer's input are drawn from in a step."""

    step: int  # its lower 32 bits
    layer: int  # and the upper ones of the step, 16 bits further up
    key: tuple[int, int]
    limit: int  # words below it drop their number
    scale: float  # of the others


@inline
def draw_of(rate, layer, step, key):
    """The ``Draw`` of a step that drops a share ``rate`` of the input of layer l.

    key : int64, all of whose 64 bits count
    """
    limit = min(round(rate * 4294967296.0), 4294967295)
    return Draw(step, layer + (step >> 32 << 16), (key, key >> 32), limit, 1.0 / (1.0 - rate))


@inline
def _factors(like, column, number, draw):
    """What a vector of columns is multiplied by, in each of the rows of the ``number``-th draw."""
    stay_apart()
    a, b, c, d = philox(like, column, (number, draw.step, draw.layer), draw.key)
    zero = load_partial(like, 0, 0)
    scale, limit = full_like(zero, draw.scale), draw.limit
    return (
        where(reaches(a, limit), scale, zero),
        where(reaches(b, limit), scale, zero),
        where(reaches(c, limit), scale, zero),
        where(reaches(d, limit), scale, zero),
    )


@inline
def drop_rows(x, at, rows, column, draw):
    """Multiply rows of a block, which lie at ``at`` one after the other, by their factors.

    rows : (first, end), counted in the batch    column : of the block's first lane
    """
    lanes = vector_lanes(x)
    first, end = rows
    for number in range(first // ROWS_OF_A_DRAW, ceil_div(end, ROWS_OF_A_DRAW)):
        factors = _factors(x, column, number, draw)
        top = number * ROWS_OF_A_DRAW
        for row in range(max(first, top), min(end, top + ROWS_OF_A_DRAW)):
            i = at + (row - first) * lanes
            store(x, i, load(x, i) * factors[row - top])


@inline
def drop_activated(y, slopes, at, rows, column, draw, formula):
    """``drop_rows`` on y = act(z), and on its slopes, which are all kept then.

    slopes : those of act where the formula keeps them; overwritten
    """
    lanes = vector_lanes(y)
    first, end = rows
    for number in range(first // ROWS_OF_A_DRAW, ceil_div(end, ROWS_OF_A_DRAW)):
        factors = _factors(y, column, number, draw)
        top = number * ROWS_OF_A_DRAW
        for row in range(max(first, top), min(end, top + ROWS_OF_A_DRAW)):
            i = at + (row - first) * lanes
            factor, a = factors[row - top], load(y, i)
            kept = load(slopes, i) if formula.keeps_slope else a
            store(slopes, i, factor * activation_slope(kept, formula))
            store(y, i, a * factor)


def dropout_factors(factors, rate, layer, step, seed):
    """What the input of a layer is multiplied by in a training step: 0 or 1 / (1 - rate).

    factors : (N, F) C-contiguous, float32 or float64, overwritten
    rate : share that is dropped, in [0, 1)    layer : int, from 0
    step, seed : int, from 0 to 2**64 - 1
    """
    width = factors.shape[1]
    _dropout_factors(factors.reshape(-1), width, float(rate), layer, signed(step), signed(seed))


@kernel(cost=lambda factors, *rest: 8 * factors.size)
def _dropout_factors(team, factors, width, rate, layer, step, key):
    lanes = vector_lanes(factors)
    draw = draw_of(rate, layer, step, key)
    rows = factors.size // width
    for number in range(*share(team, ceil_div(rows, ROWS_OF_A_DRAW))):
        top = number * ROWS_OF_A_DRAW
        for column in range(0, width, lanes):
            count = min(lanes, width - column)
            of_rows = _factors(factors, column, number, draw)
            for row in range(top, min(rows, top + ROWS_OF_A_DRAW)):
                store_partial(factors, row * width + column, count, of_rows[row - top])
    barrier(team)
