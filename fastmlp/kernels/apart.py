"""Gradients that are apart from the update: their sums over the shards of a batch, and the update.

The sum of n rows is that of a fixed tree, whoever adds which part of it:

    ((r_0 + r_1) + (r_2 + r_3)) + ...

Neighbours are added, then neighbouring sums, and so on; one that is left over is taken along. So
2**k consecutive rows, the first of them a multiple of 2**k, have a sum of their own in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import entry, inline
from ._memory import load_partial, store_partial
from ._simd import vector_lanes
from ._sync import barrier, share
from ._vocabulary import APART, EXTRAS, needs
from .gather import scaled_layer
from .packing import ceil_div
from .scale import has_scale, scale_gradients
from .update import PIECE, Instructions, update_network


class Turn(NamedTuple):
    """What becomes of a batch's gradients."""

    factors: np.ndarray  # (groups * FACTORS,) of this step's update
    first: bool  # they replace those in memory, or are added to them
    fused: bool  # the update is made where they are complete
    apart: bool  # it follows in a phase of its own; neither: further microbatches come
    scale: float  # of the gradients in the update
    norm_scale: float  # of those of batch norm


@needs(EXTRAS)
def _prepare_scales(team, network, scale):
    """The gradients of the scales, from those of the weights."""
    if has_scale(network.table[0]):
        scale_gradients(team, scaled_layer(network), scale)
        barrier(team)


@needs(APART)
def update_apart(team, network, plan, turn):
    """Update all parameters from the gradients in memory."""
    packed = network.packed
    _prepare_scales(team, network, turn.scale)
    instructions = Instructions(
        plan.options, turn.factors, turn.scale, turn.norm_scale, packed.terms, packed.staged,
        network.vocabulary,
    )  # fmt: skip
    update_network(team, network.table, packed.learnt, packed.gradients, True, instructions)


@inline
def sum_piece(rows, count, at, live):
    """The first of ``count`` rows = the sum of them all, in ``live`` columns from ``at`` on."""
    width, lanes, apart = rows.size // count, vector_lanes(rows), 1
    while apart < count:
        for row in range(0, count - apart, 2 * apart):
            to, other = row * width + at, (row + apart) * width + at
            for i in range(0, live, lanes):
                part = min(lanes, live - i)
                total = load_partial(rows, to + i, part) + load_partial(rows, other + i, part)
                store_partial(rows, to + i, part, total)
        apart *= 2


@inline
def sum_columns(team, rows, count, begin, end):
    """``sum_piece`` for this part's share of the columns begin ... end-1."""
    lanes = vector_lanes(rows)
    first, stop = share(team, ceil_div(end - begin, lanes))
    stop = min(begin + stop * lanes, end)
    # So few columns at a time that all rows of them stay in the cache.
    for column in range(begin + first * lanes, stop, PIECE):
        sum_piece(rows, count, column, min(PIECE, stop - column))


@entry
def sum_rows(team, rows, count, begin, end):
    """The first of ``count`` rows = the sum of them all, in columns begin ... end-1.

    rows : (count * width,), row-major; what the others hold in these columns is lost
    """
    sum_columns(team, rows, count, begin, end)
    barrier(team)


@entry
def finish_step(team, network, plan, turn, step, sums, steps_out):
    """Write down the sums of a step's losses and errors; and update the network, if it is time.

    network : pinned, whose gradients are in memory, of all shards    turn : which says by ``apart``
    sums : (2,) float64    steps_out : ``StepFigures``, of which the step's are overwritten
    """
    if turn.apart:
        update_apart(team, network, plan, turn)
    barrier(team)
    if team.part == 0:
        steps_out.losses[step], steps_out.errors[step] = sums[0], sums[1]
