"""The features that a microbatch has numbers in: products leave out those that are zeros only.

Two in five pixels of 32 handwritten digits are zero in all of them. What such a feature adds to a
product are 0 * w and 0 * d: zeros, unless w or d is infinite or NaN. So it is added once instead of
once per row, and all results have the same bits. An epoch of MNIST takes 0.87 (784-512-512-10,
batch 128), 0.75 (784-128-10, 32), 0.84 (784-300-10, 16), 0.80 (784-64-64-32-10, 100) and 0.73
(784-1000-10, 10,000) of the time; of data that have no such columns, the same (Zen 4, one thread).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import inline
from ._memory import load, store
from ._operands import Blocks, Chunk
from ._simd import fma, full_like, mask_bits, vector_lanes, where
from ._vocabulary import needs_lists
from .packing import ceil_div

# Lists of more than this share of the features are not used: with 92 % of them, which Fashion-MNIST
# has at batch 16, an epoch of 784-300-10 took 3 % longer (Zen 4).
MOST = 0.9


class Features(NamedTuple):
    """Which features of its input a product takes: those of a list, or all.

    A list has the numbers of all features: those that are present, ascending, then the others.
    Behind that come the runs, pairs (first, length): features next to each other that are present
    and lie in one block.
    """

    lists: np.ndarray | int  # int32; 0 where there are none
    at: int  # where the list begins
    width: int  # how many features it has, padded to whole vectors
    present: int  # how many of them are present; -1: there is no list, all are taken
    runs: int


ALL_FEATURES = Features(0, 0, 0, -1, 0)


class Inputs(NamedTuple):
    """An ``Operand`` that a layer reads, and which of its features products take."""

    blocks: Blocks
    chunk: Chunk
    features: Features


@inline
def whole(operand):
    """An operand of which all features are taken."""
    return Inputs(operand.blocks, operand.chunk, ALL_FEATURES)


@inline
def listed_tiles(features, height):
    """Tiles of so many rows that the present features of a list fill; one where there are none."""
    return max(1, ceil_div(features.present, height))


@inline
def _own(team, array):
    """Where this part's piece of an array begins."""
    return team.part * (array.size // team.parts)


@inline
def begin_to_see(team, seen):
    """Forget the rows of the last microbatch."""
    at = _own(team, seen)
    seen[at : at + seen.size // team.parts] = 0


@inline
def see_row(team, seen, row, step, width):
    """Note which features of a row, in blocks ``step`` apart, are not zero."""
    lanes = vector_lanes(seen)
    at = _own(team, seen)
    for block in range(ceil_div(width, lanes)):
        v = load(row.array, row.at + block * step)
        here = at + block * lanes
        store(seen, here, where(v != 0, v, load(seen, here)))


@inline
def features_of_part(team, like, lists, width, present, runs):
    """The list of this part, of ``width`` features."""
    lanes = vector_lanes(like)
    return Features(lists, _own(team, lists), ceil_div(width, lanes) * lanes, present, runs)


@inline
def find_present(team, seen, lists, width):
    """Make this part's list of the features that any part has seen."""
    lanes, piece = vector_lanes(seen), seen.size // team.parts
    own = features_of_part(team, seen, lists, width, -1, 0)
    at, runs_at = own.at, own.at + own.width
    present = runs = 0
    for first in range(0, own.width, lanes):
        bits, before = 0, 0
        for part in range(team.parts):
            # Behind the last feature rows have zeros.
            bits |= mask_bits(load(seen, part * piece + first) != 0)
        for k in range(first, first + lanes):
            now = bits & 1
            bits >>= 1
            # From the other end come those that are not.
            lists[at + (present if now else own.width - 1 - k + present)] = k
            if now > before:
                lists[runs_at + 2 * runs] = k
                lists[runs_at + 2 * runs + 1] = 0
                runs += 1
            if now:
                lists[runs_at + 2 * runs - 1] += 1
            present += now
            before = now
    if present > MOST * width:
        return own
    return features_of_part(team, seen, lists, width, present, runs)


@needs_lists
def add_absent_weights(sums, bias, panel, vectors, features):
    """Place ``sums`` = a panel's biases + 0 * the weights of the features that are absent."""
    lanes = vector_lanes(panel.array)
    for v in range(vectors):
        total = load(bias.array, bias.at + v * lanes)
        for i in range(features.at + features.present, features.at + features.width):
            row = features.lists[i] * vectors
            weight = load(panel.array, panel.at + (row + v) * lanes)
            total = fma(full_like(weight, 0), weight, total)
        store(sums.array, sums.at + v * lanes, total)


@inline
def zero_times(numbers, at, rows):
    """The sum of 0 * each of a block's rows: zeros, but for infinity and NaN."""
    lanes = vector_lanes(numbers)
    total = full_like(load(numbers, at), 0)
    for row in range(rows):
        v = load(numbers, at + row * lanes)
        total = fma(full_like(v, 0), v, total)
    return total
