"""The compiled epoch: many training steps in one call, for any network that a table describes.

Or the parts of a single step, one by one, of a network that is trained by hand.
"""

from __future__ import annotations

import numpy as np

from ..threads import GONE
from ._geometry import Geometry
from ._jit import entry, inline
from ._sync import barrier, call_up, called_up
from ._vocabulary import APART, needs, needs_zeros
from .apart import Turn, update_apart
from .embed import has_embedding
from .gather import Batch, gather, gather_labels
from .network import BACKWARD, FORWARD, WHOLE_STEP
from .present import find_present
from .scale import has_scale
from .step import backward_pass, forward_pass, loss_of_rows
from .update import squares_of_weights


@inline
def _step(team, network, data, batch, plan, turn, loss):
    """Forward, loss and backward of a microbatch, and all updates if it is the last of them.

    Returns ``loss`` and the losses of its rows. Where that is not finite, the backward pass and all
    updates are left out.
    """
    forward_pass(team, network, batch)
    loss_of_rows(team, network, data, plan, batch.geometry)
    barrier(team)
    # Every part adds up all rows, in the same order, so that all of them decide alike.
    loss = _total(loss, network.packed.row_losses, batch.geometry.rows)
    if not np.isfinite(loss):
        return loss
    backward_pass(team, network, data, batch, turn)
    if turn.apart:
        barrier(team)
        update_apart(team, network, plan, turn)
    return loss


@needs(APART)
def _part_of_step(team, network, data, plan, schedule):
    """What ``plan.part`` says of a step whose parts are called one by one.

    Forward of the order's rows; the loss and the backward pass of what the last forward has left,
    with gradients in memory; or the update by these.
    """
    batch = _batch_of(plan, data, 0, 0, 0)
    if plan.part == FORWARD:
        gather(team, network, data, batch, False)
        barrier(team)
        forward_pass(team, network, batch)
    elif plan.part == BACKWARD:
        gather_labels(team, network, data, batch)
        barrier(team)
        loss_of_rows(team, network, data, plan, batch.geometry)
        barrier(team)
        one = data.scales[0]
        turn = Turn(schedule[0], True, False, False, one, one)
        backward_pass(team, network, data, batch, turn)
    else:
        update_apart(team, network, plan, _turn_of(plan, data, schedule, batch))
    barrier(team)


@inline
def _no_parts(team, network, data, plan, schedule):
    """In place of ``_parts_of_steps`` where gradients are never apart."""
    return GONE


@needs(APART, otherwise=_no_parts)
def _parts_of_steps(team, network, data, plan, schedule):
    """One part of a step; all but part 0 then stay for those that follow, which ``plan`` names.

    Returns, to part 0, GONE where the others have gone and nothing has been done, or else 0.
    """
    calls = 0
    going = call_up(team) if team.part == 0 else called_up(team, calls)
    while going:
        _part_of_step(team, network, data, plan, schedule)
        calls += 1
        going = team.part > 0 and called_up(team, calls)
    return GONE if calls == 0 else 0


@inline
def _rows_of_step(plan, data, step):
    """(first, end) of the rows of a step's batch that are trained on: a shard, or all of them.

    The last batch of an epoch may be short.
    """
    rows = min(plan.batch_size, data.order.size - step * plan.batch_size)
    return plan.shard * rows // plan.shards, (plan.shard + 1) * rows // plan.shards


@inline
def _batch_of(plan, data, step, before, at):
    """What follows on so many rows of a step's batch, to lie at ``at`` in the input buffer."""
    rows = min(plan.microbatch_rows, _rows_of_step(plan, data, step)[1] - before)
    dropout = data.dropout[step] if data.dropout.size > 0 else 1.0
    geometry = Geometry(rows, plan.chunk_rows, plan.pitch)
    return Batch(step * plan.batch_size + before, at, geometry, step, before, dropout, -1, 0)


@inline
def _as_it_is(team, network, batch):
    return batch


@needs_zeros(otherwise=_as_it_is)
def _with_present(team, network, batch):
    """A microbatch that all parts have gathered, with its features that are present."""
    packed = network.packed
    found = find_present(team, packed.seen, packed.lists, network.table[0].inputs)
    return Batch(
        batch.first, batch.at, batch.geometry, batch.step, batch.before, batch.dropout,
        found.present, found.runs,
    )  # fmt: skip


@inline
def _ends_step(plan, data, batch):
    """Whether a microbatch is the last of its step's rows."""
    return batch.before + batch.geometry.rows == _rows_of_step(plan, data, batch.step)[1]


@inline
def _turn_of(plan, data, schedule, batch):
    """What becomes of a microbatch's gradients."""
    step = batch.step
    scale, number = data.scales[step], step % plan.accumulate
    complete = number + 1 == plan.accumulate or step + 1 == len(schedule)
    last = complete and _ends_step(plan, data, batch)
    return Turn(
        schedule[step],
        number == 0 and batch.before == _rows_of_step(plan, data, step)[0],
        last and not plan.apart,
        last and plan.apart and plan.shards == 1,
        scale,
        scale if plan.mean_reduction else data.scales.dtype.type(1),
    )


@needs(APART)
def _note_squares(team, network, step, steps_out):
    """The sum of the squares of all weights before a step."""
    packed = network.packed
    squares = squares_of_weights(team, network.table, packed.learnt.parameters, packed.terms)
    if team.part == 0:
        steps_out.squares[step] = squares


@entry
def train_steps(team, network, data, plan, schedule, first, last, steps_out):
    """Train on the batches first ... last-1 of the order.

    network, data, plan : a ``Network``, a ``Data`` and a ``Plan``, pinned
    schedule : (steps, groups * FACTORS) the rule's factors for every step of the order
    steps_out : ``StepFigures``, overwritten for the steps done
    Returns ``last``; or, once the sum of a step's losses is not finite, that step, whose sums are
    written while neither it nor any later step changes the network. For a part of a step
    ``threads.Crew`` calls it: GONE says that nothing has been done.
    """
    if plan.part != WHOLE_STEP:
        return _parts_of_steps(team, network, data, plan, schedule)
    packed = network.packed
    half = packed.inputs.by_row.size // 2
    step, loss, errors = first, 0.0, 0.0
    batch = _batch_of(plan, data, first, _rows_of_step(plan, data, first)[0], 0)
    sees = packed.seen.size > 0
    gather(team, network, data, batch, sees)
    barrier(team)
    while step < last:
        if sees:
            batch = _with_present(team, network, batch)
            # Where one batch has most features, others will: no more time is spent on looking.
            sees = batch.present >= 0
        turn, ends = _turn_of(plan, data, schedule, batch), _ends_step(plan, data, batch)
        if plan.squares and batch.before == 0:
            _note_squares(team, network, step, steps_out)
        loss = _step(team, network, data, batch, plan, turn, loss)
        finite = np.isfinite(loss)
        if team.part == 0:
            errors = _total(errors, packed.row_errors, batch.geometry.rows)
            if ends or not finite:
                steps_out.losses[step] = loss
                # Those of a loss that is NaN may be, too: a step that has been done has a number.
                steps_out.errors[step] = errors if errors >= 0 else 0.0
        if not finite:
            # Once part 0 returns, the next call may overwrite the losses that others still add up.
            barrier(team)
            return step
        before = batch.before + batch.geometry.rows
        if ends:
            step, loss, errors = step + 1, 0.0, 0.0
        if step < last:
            if ends:
                before = _rows_of_step(plan, data, step)[0]
            # The other half of the input buffer was last read one microbatch ago, and the labels
            # in this one's loss; all threads have passed a barrier since.
            batch = _batch_of(plan, data, step, before, half - batch.at)
            if has_scale(network.table[0]) or has_embedding(network.table[0]):
                # The gather reads what other parts have just updated.
                barrier(team)
            gather(team, network, data, batch, sees)
        barrier(team)
    return last


@inline
def _total(total, values, count):
    """``total`` and the first ``count`` values, added in order."""
    for i in range(count):
        total += values[i]
    return total
