"""Training on shards of a batch, on one process or several, with the same bits in the end.

A batch is cut into a fixed number of shards, runs of its rows. Each has a row of gradients of its
own, and these are added in the tree of ``kernels.apart.sum_rows``, which does not ask whose they
are. So is what batch norm makes of its running statistics, which lie behind them: every shard is
normalised by its own mean and variance, and the statistics of all are averaged. Reference: Hoffer,
Hubara and Soudry, "Train longer, generalize better", 2017, ghost batch normalization.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import threads
from ._layout import Layout
from ._ranks import Ranks
from .engine import Objective, Trainer
from .kernels._geometry import padded
from .kernels._host import aligned_zeros
from .kernels._reference import Pinned
from .kernels._units import Unit
from .kernels.apart import Turn, finish_step, sum_rows
from .kernels.epoch import train_steps
from .kernels.network import Data, Network, StepFigures
from .kernels.shards import Shared, train_shards
from .kernels.update import Learnt
from .threads import SLOT, Team

# Adding two numbers takes about as long as so many multiply-adds of a product.
_WORK_OF_AN_ADDITION = 8

# Numbers after which another cache line begins.
_LINE = 16


def sum_of(rows: np.ndarray, begin: int = 0, end: int | None = None) -> np.ndarray:
    """The sum of (n, width) rows in the tree, in columns begin ... end-1: the first, overwritten.

    The others are lost there.
    """
    end = rows.shape[1] if end is None else end
    parts = threads.count_for(_WORK_OF_AN_ADDITION * len(rows) * (end - begin))
    threads.run(sum_rows, parts, (rows.reshape(-1), len(rows), begin, end))
    return rows[0]


def trainer_of(ranks: Ranks, *arguments: Any) -> Trainer:
    """A trainer on a rank's shards of each batch; the arguments are those of ``Trainer``.

    All ranks make one at the same time. Its gradients are apart.
    """
    if ranks.shards == 1:
        return Trainer(*arguments)
    kind = InMemory if ranks.one_machine else ByMessages
    return kind(ranks, *arguments)


class _ShardTrainer(Trainer):
    """What both kinds have: as much room as the largest shard needs."""

    def __init__(
        self, ranks: Ranks, layout: Layout, flat: Learnt, statistics: np.ndarray, batch_size: int,
        objective: Objective, unit: Unit,
    ) -> None:  # fmt: skip
        rows = -(-batch_size // ranks.shards)
        super().__init__(layout, flat, statistics, batch_size, objective, unit, rows)
        self._ranks = ranks
        # Gradients and statistics; every rank's share of the columns begins a cache line.
        self._width = padded(layout.packed + layout.statistics, ranks.size * _LINE)


class InMemory(_ShardTrainer):
    """On one machine: all rows are in memory that all ranks read and write."""

    def __init__(self, ranks: Ranks, *arguments: Any) -> None:
        super().__init__(ranks, *arguments)
        dtype, shards = self.layout.dtype, ranks.shards
        sizes = [8 * SLOT * (1 + ranks.size), 16 * padded(shards, 4)]
        memory = ranks.shared_bytes(sum(sizes) + shards * self._width * dtype.itemsize)
        sync, figures, rows = np.split(memory, np.cumsum(sizes))
        sync, figures, rows = sync.view(np.int64), figures.view(float), rows.view(dtype)
        self._shared = Shared(
            Team(ranks.rank, ranks.size, sync), rows, figures[: 2 * shards],
            np.empty(2 * shards), StepFigures(*np.empty((3, 0))),
        )  # fmt: skip

    def train(
        self, data: Data, schedule: np.ndarray, first: int, last: int, steps_out: StepFigures
    ) -> int:
        network = self.network(self.vocabulary).value
        # A shard's figures are written into the places of its steps.
        shared = self._shared._replace(scratch=StepFigures(*map(np.empty_like, steps_out)))
        plan = Pinned(self.plan(0, self._ranks.shards))
        arguments = Pinned(data), plan, schedule, (first, last), shared, steps_out
        reached: int = self.run(train_shards, network, *arguments)
        return reached


class ByMessages(_ShardTrainer):
    """On several machines: each rank adds its share of the columns, and sends the others the sum.

    MPI only moves the numbers: what it would add, it would add in an order of its own.
    """

    def __init__(self, ranks: Ranks, *arguments: Any) -> None:
        super().__init__(ranks, *arguments)
        dtype = self.layout.dtype
        self._rows = aligned_zeros(len(ranks.own) * self._width, dtype).reshape(-1, self._width)
        self._received = aligned_zeros(self._width, dtype).reshape(ranks.size, -1)

    def _total(self) -> np.ndarray:
        """The sum of the rows of all ranks, (width,), in place of the first of this one's."""
        total = sum_of(self._rows)
        self._ranks.comm.Alltoall(total, self._received)
        self._ranks.comm.Allgather(sum_of(self._received), total)
        return total

    def train(
        self, data: Data, schedule: np.ndarray, first: int, last: int, steps_out: StepFigures
    ) -> int:
        """As ``Trainer.train``, step by step; without one, it compiles what a step needs."""
        # The kernels write into the places of a shard's steps.
        scratch = StepFigures(*map(np.empty_like, steps_out))
        plans = [Pinned(self.plan(k, self._ranks.shards)) for k in self._ranks.own]
        shards = list(zip(map(self._network_of, self._rows), plans, strict=True))
        if first == last:
            self._compile(data, schedule, first, scratch, shards[0])
        for step in range(first, last):
            sums = self._train_shards(data, schedule, step, scratch, shards)
            if not np.isfinite(sums[0]):
                # Those of a loss that is NaN may be, too: a step that was done has a number.
                errors = sums[1] if sums[1] >= 0 else 0.0
                steps_out.losses[step], steps_out.errors[step] = sums[0], errors
                return step
            self._finish(data, schedule, step, sums, steps_out)
        return last

    def _network_of(self, row: np.ndarray) -> Pinned:
        """The network with the gradients of a row, and the statistics behind them."""
        gradients, statistics = self._parts(row)
        packed = self.packed._replace(gradients=gradients)
        return Pinned(Network(self.table, statistics, packed, self.vocabulary))

    def _parts(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(gradients, statistics) of a row."""
        return row[: self.layout.packed], row[self.layout.packed :][: self.layout.statistics]

    def _rows_of(self, data: Data, step: int) -> int:
        """Rows of a batch; the last of an epoch may be short."""
        return min(self.batch_size, data.order.size - step * self.batch_size)

    def _train_shards(
        self, data: Data, schedule: np.ndarray, step: int, scratch: StepFigures,
        shards: list[tuple[Pinned, Pinned]],
    ) -> np.ndarray:  # fmt: skip
        """Gradients of this rank's shards into their rows; returns all ranks' (loss, errors)."""
        rows, begins = self._rows_of(data, step), step % self.objective.accumulate == 0
        sums, pinned = np.zeros((len(shards), 2)), Pinned(data)
        for (network, plan), row, own in zip(shards, self._rows, sums, strict=True):
            shard, count = plan.value.shard, plan.value.shards
            empty = shard * rows // count == (shard + 1) * rows // count
            if begins and empty:
                row[:] = 0
            elif begins:
                network.value.statistics[:] = self.statistics
            if not empty:
                self.run(train_steps, network, pinned, plan, schedule, step, step + 1, scratch)
                own[:] = scratch.losses[step], scratch.errors[step]
        return sum_of(self._ranks.gathered(sums))

    def _finish(
        self, data: Data, schedule: np.ndarray, step: int, sums: np.ndarray, steps_out: StepFigures
    ) -> None:
        """Write a step's figures down, and update the network where the gradients are complete."""
        every = self.objective.accumulate
        complete = (step + 1) % every == 0 or step + 1 == len(schedule)
        total = self._total() if complete else self._rows[0]
        if complete:
            # Of a short batch some shards may have had no rows, and have no statistics then.
            counted = min(self._ranks.shards, self._rows_of(data, step - step % every))
            np.divide(self._parts(total)[1], counted, out=self.statistics)
        scale = data.scales[step]
        norm_scale = scale if self.objective.mean_reduction else data.scales.dtype.type(1)
        turn = Turn(schedule[step], False, False, complete, scale, norm_scale)
        network = self._network_of(total)
        self.run(finish_step, network, self.plan(), turn, step, sums, steps_out)

    def _compile(
        self, data: Data, schedule: np.ndarray, step: int, scratch: StepFigures,
        shard: tuple[Pinned, Pinned],
    ) -> None:  # fmt: skip
        """Call all that a step calls, and change nothing."""
        network, plan = shard
        self.run(train_steps, network, Pinned(data), plan, schedule, step, step, scratch)
        one = data.scales.dtype.type(1)
        turn = Turn(schedule[step], False, False, False, one, one)
        sums = sum_of(self._ranks.gathered(np.zeros((len(self._ranks.own), 2))))
        self.run(finish_step, network, plan.value, turn, step, sums, scratch)
        self._total()
