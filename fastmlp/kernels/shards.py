"""Many steps on shards of their batches in one call, by processes that share memory.

The processes are one more team, the *peers*. Each trains on its shards, adds its share of the
columns of all gradients, and updates its own copy of the parameters by the sum. They meet three
times a step: once all gradients are there, once they are added, and once all have read the sum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..threads import Team
from ._jit import entry, inline
from ._reference import refer
from ._sync import barrier, share
from .apart import Turn, sum_columns, sum_piece, update_apart
from .epoch import train_steps
from .network import Network, Packed, Plan, StepFigures


class Shared(NamedTuple):
    """What the peers share, and what each needs besides to train on its shards."""

    peers: Team
    rows: np.ndarray  # (shards * width,) gradients, and behind them batch norm's statistics
    figures: np.ndarray  # (shards * 2,) float64, losses and errors of a step
    sums: np.ndarray  # (shards * 2,) float64, each peer's own: room to add these up
    scratch: StepFigures  # each peer's own: what a step tells of a shard


@inline
def _meet(team, peers):
    """Return once all threads of all peers are here."""
    barrier(team)
    if team.part == 0:
        barrier(peers)
    barrier(team)


@inline
def _into_row(network, rows, at):
    """The network, whose gradients go to a row, and its running statistics behind them."""
    packed = network.packed
    end = at + packed.gradients.size
    into = Packed(
        packed.unit, packed.learnt, rows[at:end], packed.staged, packed.terms, packed.scratch,
        packed.gathered, packed.inputs, packed.labels, packed.row_weights, packed.activations,
        packed.normals, packed.slopes, packed.bends, packed.deltas, packed.input_deltas,
        packed.skips, packed.means, packed.variances, packed.row_scales, packed.row_losses,
        packed.row_errors, packed.seen, packed.lists, packed.masks,
    )  # fmt: skip
    statistics = rows[end : end + network.statistics.size]
    return Network(network.table, statistics, into, network.vocabulary)


@inline
def _rows_of(plan, data, step):
    """Rows of a step's batch; the last of an epoch may be short."""
    return min(plan.batch_size, data.order.size - step * plan.batch_size)


@inline
def _plan_of(plan, shard):
    return Plan(
        plan.batch_size, plan.microbatch_rows, plan.chunk_rows, plan.pitch, plan.options,
        plan.apart, plan.accumulate, plan.mean_reduction, plan.loss, plan.squares, shard,
        plan.shards, plan.part,
    )  # fmt: skip


@inline
def _train_shard(team, network, data, plan, schedule, step, shared):
    """A step of the shard that ``plan`` names, into its row."""
    count = _rows_of(plan, data, step)
    empty = plan.shard * count // plan.shards == (plan.shard + 1) * count // plan.shards
    width = shared.rows.size // plan.shards
    at = plan.shard * width
    # Referred to here: a Reference lives no longer than the function that makes it.
    into = refer(_into_row(network, shared.rows, at))
    if step % plan.accumulate == 0 and team.part == 0:
        if empty:
            for i in range(at, at + width):
                shared.rows[i] = 0
        for i in range(0 if empty else into.statistics.size):
            into.statistics[i] = network.statistics[i]
    barrier(team)
    if not empty:
        train_steps(team, into, data, plan, schedule, step, step + 1, shared.scratch)
    if team.part == 0:
        shared.figures[2 * plan.shard] = 0 if empty else shared.scratch.losses[step]
        shared.figures[2 * plan.shard + 1] = 0 if empty else shared.scratch.errors[step]


@inline
def _add_figures(team, plan, shared):
    """(loss, errors) of a step, the sums over all shards."""
    sums = shared.sums
    if team.part == 0:
        for i in range(sums.size):
            sums[i] = shared.figures[i]
        sum_piece(sums, plan.shards, 0, 2)
    barrier(team)
    return sums[0], sums[1]


@inline
def _update(team, network, data, plan, schedule, step, shared):
    """Add all rows up, and update the network by their sum."""
    peers, width = shared.peers, shared.rows.size // plan.shards
    begin, end = peers.part * width // peers.parts, (peers.part + 1) * width // peers.parts
    sum_columns(team, shared.rows, plan.shards, begin, end)
    _meet(team, peers)
    total = refer(_into_row(network, shared.rows, 0))
    if team.part == 0:
        # Of a short batch some shards may have had no rows, and have no statistics then.
        counted = min(plan.shards, _rows_of(plan, data, step - step % plan.accumulate))
        for i in range(network.statistics.size):
            network.statistics[i] = total.statistics[i] / counted
    scale = data.scales[step]
    norm_scale = scale if plan.mean_reduction else data.scales.dtype.type(1)
    turn = Turn(schedule[step], False, False, True, scale, norm_scale)
    update_apart(team, total, plan, turn)


@entry
def train_shards(team, network, data, plan, schedule, steps, shared, steps_out):
    """``epoch.train_steps`` on all shards of ``plan``, of which this peer has its share.

    steps : (first, last)    shared : ``Shared``
    """
    first, last = steps
    begin, end = share(shared.peers, plan.shards)
    for step in range(first, last):
        for shard in range(begin, end):
            _train_shard(team, network, data, refer(_plan_of(plan, shard)), schedule, step, shared)
        _meet(team, shared.peers)
        loss, errors = _add_figures(team, plan, shared)
        finite = np.isfinite(loss)
        if finite and ((step + 1) % plan.accumulate == 0 or step + 1 == len(schedule)):
            _update(team, network, data, plan, schedule, step, shared)
        _meet(team, shared.peers)
        if team.part == 0:
            steps_out.losses[step] = loss
            # Those of a loss that is NaN may be, too: a step that has been done has a number.
            steps_out.errors[step] = errors if errors >= 0 else 0.0
        if not finite:
            return step
    return last
