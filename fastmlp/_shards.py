"""Training on shards of a batch, on one process or several, with the same bits in the end.

A batch is cut into a fixed number of shards, runs of its rows. Each has a row of gradients of its
own, and these are added in the tree of ``kernels.apart.sum_rows``, which does not ask whose they
are. So is what batch norm makes of its running statistics, which lie behind them: every shard is
normalised by its own mean and variance, and the statistics of all are averaged. Reference: Hoffer,
Hubara and Soudry, "Train longer, generalize better", 2017, ghost batch normalization.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from . import threads
from ._layout import Layout
from ._ranks import Ranks
from .engine import Objective, Trainer
from .kernels._geometry import padded
from .kernels._host import aligned_zeros
from .kernels._units import Unit
from .kernels.apart import Turn, finish_step, sum_rows
from .kernels.epoch import train_steps
from .kernels.network import Data, Network, Plan, StepFigures
from .kernels.update import Learnt

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


class Sums(Protocol):
    """A row for every shard of this rank, and the sum of those of all ranks."""

    rows: np.ndarray  # (own shards, width), which their owner overwrites until ``total``

    def total(self) -> np.ndarray:
        """The sum, (width,), to be read until ``close_step``; the rows are lost."""

    def close_step(self) -> None:
        """Return once no other rank reads what this one is about to overwrite."""


class Messages:
    """Each rank adds its share of the columns, of all ranks, and sends the others their sum.

    MPI only moves the numbers: what it would add, it would add in an order of its own. One rank
    alone sends nothing.
    """

    def __init__(self, ranks: Ranks, width: int, dtype: Any) -> None:
        self._comm = None if ranks.size == 1 else ranks.comm
        self.rows = aligned_zeros(len(ranks.own) * width, dtype).reshape(-1, width)
        self._received = aligned_zeros(width, dtype).reshape(ranks.size, -1)

    def total(self) -> np.ndarray:
        total = sum_of(self.rows)
        if self._comm is None:
            return total
        self._comm.Alltoall(total, self._received)
        self._comm.Allgather(sum_of(self._received), total)
        return total

    def close_step(self) -> None:
        """No rank reads another's memory."""


class SharedMemory:
    """Rows of ranks on one machine, in memory that all of them read and write."""

    def __init__(self, ranks: Ranks, width: int, dtype: Any) -> None:
        from mpi4py import MPI

        self._comm, size, dtype = ranks.comm, ranks.size, np.dtype(dtype)
        own = len(ranks.own) * width * dtype.itemsize
        self._window = MPI.Win.Allocate_shared(own, dtype.itemsize, comm=self._comm)
        # One rank's part follows on another's: that is MPI's default.
        start = self._window.Shared_query(0)[0].address
        memory: Any = MPI.buffer.fromaddress(start, size * own)
        self._all = np.frombuffer(memory, dtype).reshape(-1, width)
        self.rows = self._all[ranks.own.start : ranks.own.stop]
        self.rows[:] = 0
        self._columns = ranks.rank * width // size, (ranks.rank + 1) * width // size
        self._window.Lock_all(MPI.MODE_NOCHECK)
        ranks.at_end(self._free)
        self._meet()

    def _meet(self) -> None:
        """Return once all ranks are here, and see what they have written."""
        self._window.Sync()
        self._comm.Barrier()
        self._window.Sync()

    def total(self) -> np.ndarray:
        self._meet()
        sum_of(self._all, *self._columns)
        self._meet()
        return self._all[0]

    def close_step(self) -> None:
        self._meet()

    def _free(self) -> None:
        self._window.Unlock_all()
        self._window.Free()


def sums_of(ranks: Ranks, width: int, dtype: Any) -> Sums:
    """What suits where the ranks are; every rank's share of the columns begins a cache line."""
    kind = SharedMemory if ranks.size > 1 and ranks.one_machine else Messages
    return kind(ranks, padded(width, ranks.size * _LINE), dtype)


class ShardTrainer(Trainer):
    """A trainer on the shards that a rank has of every batch."""

    def __init__(
        self, layout: Layout, flat: Learnt, statistics: np.ndarray, batch_size: int,
        objective: Objective, unit: Unit, ranks: Ranks,
    ) -> None:  # fmt: skip
        """objective : with gradients apart    ranks : all of which make one at the same time"""
        rows = -(-batch_size // ranks.shards)
        super().__init__(layout, flat, statistics, batch_size, objective, unit, rows)
        self._ranks = ranks
        self._sums = sums_of(ranks, layout.packed + layout.statistics, layout.dtype)

    def train(
        self, data: Data, schedule: np.ndarray, first: int, last: int, steps_out: StepFigures
    ) -> int:
        """As ``Trainer.train``, step by step; without one, it compiles what a step needs."""
        # The kernels write into the places of a shard's steps.
        scratch = StepFigures(*map(np.empty_like, steps_out))
        shards = [
            self._shard(row, k) for row, k in zip(self._sums.rows, self._ranks.own, strict=True)
        ]
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

    def _shard(self, row: np.ndarray, shard: int) -> tuple[Network, Plan]:
        """What a shard trains, whose gradients and statistics go into a row, and how."""
        return self._network(row), self.plan(shard, self._ranks.shards)

    def _network(self, row: np.ndarray) -> Network:
        gradients, statistics = self._parts(row)
        return Network(self.table, statistics, self.packed._replace(gradients=gradients))

    def _parts(self, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(gradients, statistics) of a row."""
        return row[: self.layout.packed], row[self.layout.packed :][: self.layout.statistics]

    def _rows_of(self, data: Data, step: int) -> int:
        """Rows of a batch; the last of an epoch may be short."""
        return min(self.batch_size, data.order.size - step * self.batch_size)

    def _train_shards(
        self, data: Data, schedule: np.ndarray, step: int, scratch: StepFigures,
        shards: list[tuple[Network, Plan]],
    ) -> np.ndarray:  # fmt: skip
        """Gradients of this rank's shards into their rows; returns all ranks' (loss, errors)."""
        rows, begins = self._rows_of(data, step), step % self.objective.accumulate == 0
        sums = np.zeros((len(shards), 2))
        for (network, plan), row, own in zip(shards, self._sums.rows, sums, strict=True):
            empty = plan.shard * rows // plan.shards == (plan.shard + 1) * rows // plan.shards
            if begins and empty:
                row[:] = 0
            elif begins:
                network.statistics[:] = self.statistics
            if not empty:
                self.run(train_steps, network, data, plan, schedule, step, step + 1, scratch)
                own[:] = scratch.losses[step], scratch.errors[step]
        return sum_of(self._ranks.gathered(sums))

    def _finish(
        self, data: Data, schedule: np.ndarray, step: int, sums: np.ndarray, steps_out: StepFigures
    ) -> None:
        """Write a step's figures down, and update the network where the gradients are complete."""
        every = self.objective.accumulate
        complete = (step + 1) % every == 0 or step + 1 == len(schedule)
        total = self._sums.total() if complete else self._sums.rows[0]
        if complete:
            # Of a short batch some shards may have had no rows, and have no statistics then.
            counted = min(self._ranks.shards, self._rows_of(data, step - step % every))
            np.divide(self._parts(total)[1], counted, out=self.statistics)
        scale = data.scales[step]
        norm_scale = scale if self.objective.mean_reduction else data.scales.dtype.type(1)
        turn = Turn(schedule[step], False, False, complete, scale, norm_scale)
        network = self._network(total)
        self.run(finish_step, network, self.plan(), turn, step, sums, steps_out)
        if complete:
            self._sums.close_step()

    def _compile(
        self, data: Data, schedule: np.ndarray, step: int, scratch: StepFigures,
        shard: tuple[Network, Plan],
    ) -> None:  # fmt: skip
        """Call all that a step calls, and change nothing."""
        network, plan = shard
        self.run(train_steps, network, data, plan, schedule, step, step, scratch)
        one = data.scales.dtype.type(1)
        turn = Turn(schedule[step], False, False, False, one, one)
        sums = sum_of(self._ranks.gathered(np.zeros((len(self._ranks.own), 2))))
        self.run(finish_step, network, plan, turn, step, sums, scratch)
        self._sums.total()
        self._sums.close_step()
