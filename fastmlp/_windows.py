"""The rows of a fit that are in memory: all of them, or a window at a time, read ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from ._blocks import CheckedBlocks
from .history import FitPlan

# Between two looks for a signal that came just before a wait began.
LOOK_SECONDS = 0.1

# A block that is being read when a fit is interrupted is read to its end: so long that is awaited.
STOP_SECONDS = 0.5


class TrainingSet(NamedTuple):
    """Rows, what the criterion takes as their targets, and their weights."""

    x: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None

    @property
    def samples(self) -> int:
        return len(self.labels)

    @property
    def example(self) -> TrainingSet:
        """Rows of the dtypes and shapes that those of all windows have."""
        return self

    def first(self, count: int) -> TrainingSet:
        """The first so many rows."""
        weights = None if self.weights is None else self.weights[:count]
        return TrainingSet(self.x[:count], self.labels[:count], weights)

    def arguments(self) -> dict[str, Any]:
        """What a fit that goes on must have again, by the names that ``fit`` gives them."""
        return {"x": self.x, "labels": self.labels, "sample_weight": self.weights}

    def windows(
        self, order: np.ndarray, plan: FitPlan, accumulate: int, first: int, end: int
    ) -> Generator[Window, None, None]:
        """A single one, of all steps; ``order`` has the rows of an epoch."""
        yield Window(self, order, 0, plan.steps)


class Window(NamedTuple):
    """Steps first ... last-1 of an epoch, and the rows that they read."""

    data: TrainingSet
    order: np.ndarray  # (n,) int64 rows of the data, batch by batch
    first: int
    last: int


class BlockOrder(NamedTuple):
    """In which order an epoch takes blocks, and what the rows of each window are shuffled by."""

    blocks: np.ndarray
    seed: int | None  # None: they stay as they are

    def rows(self, window: int, count: int) -> np.ndarray:
        """Of a window: any of them is found without those before."""
        if self.seed is None:
            return np.arange(count)
        return np.random.default_rng([self.seed, window]).permutation(count)


class Stream:
    """Rows of blocks, of which two windows are in memory: one is trained on, the other filled.

    An epoch's rows are those of its blocks, in its order, end to end; a window has the next so many
    of them. So blocks may lie across the ends of windows, and batches across those of blocks.
    """

    def __init__(self, blocks: CheckedBlocks, rows: int) -> None:
        """rows : of a window at most, but that it has one update at least"""
        self._blocks, self._rows = blocks, rows
        self.samples, self.example = blocks.samples, TrainingSet(*blocks.empty(0))
        self.count = len(blocks.row_counts)
        self._memory: list[TrainingSet] = []
        # The block that the last window has not used up, and its number.
        self._begun: tuple[int, TrainingSet] | None = None

    def arguments(self) -> dict[str, Any]:
        """As ``TrainingSet.arguments``, by digests."""
        return self._blocks.digests

    def windows(
        self, order: BlockOrder, plan: FitPlan, accumulate: int, first: int, end: int
    ) -> Generator[Window, None, None]:
        """From the one with step ``first`` of an epoch to that with step ``end`` - 1.

        Each is read by a thread of its own while the one before is trained on. What goes wrong
        there is raised here. Closing the generator ends the thread.
        """
        steps = self._steps(plan, accumulate)
        if not self._memory:
            most = min(steps * plan.batch_size, plan.samples)
            self._memory = [TrainingSet(*self._blocks.empty(most)) for _ in range(2)]

        def read_ahead(number: int) -> _Ahead | None:
            begin = number * steps
            if begin >= end:
                return None
            last = min(begin + steps, plan.steps)
            rows = begin * plan.batch_size, min(last * plan.batch_size, plan.samples)

            def read(stopped: threading.Event) -> Window:
                memory = self._memory[number % 2]
                data = self._fill(memory, order.blocks, *rows, stopped)
                return Window(data, order.rows(number, data.samples), begin, last)

            return _Ahead(read)

        number = first // steps
        ahead = read_ahead(number)
        try:
            if ahead is not None:
                ahead.start()
            while ahead is not None:
                window = ahead.wait()
                number += 1
                # Known below before its thread is there: an interrupt may come in between.
                ahead = read_ahead(number)
                if ahead is not None:
                    ahead.start()
                yield window
        finally:
            self._begun = None
            if ahead is not None:
                ahead.stop()

    def _steps(self, plan: FitPlan, accumulate: int) -> int:
        """Of a window. All are about as large: an epoch that ended on a few rows of a block or two
        would end on these alone."""
        updates = -(-plan.steps // accumulate)
        most = max(1, self._rows // (plan.batch_size * accumulate))
        windows = -(-updates // most)
        return min(-(-updates // windows) * accumulate, plan.steps)

    def _fill(
        self, memory: TrainingSet, blocks: np.ndarray, first: int, stop: int,
        stopped: threading.Event,
    ) -> TrainingSet:  # fmt: skip
        """Rows first ... stop-1 of an epoch, in memory of at least so many."""
        counts = self._blocks.row_counts[blocks]
        ends = np.cumsum(counts)
        place = int(np.searchsorted(ends, first))
        at = first
        while at < stop and not stopped.is_set():
            begin = at - (ends[place] - counts[place])
            rows = min(stop, ends[place]) - at
            if rows:
                block = self._block(int(blocks[place]))
                for target, values in zip(memory, block, strict=True):
                    if target is not None and values is not None:
                        target[at - first : at - first + rows] = values[begin : begin + rows]
            at += rows
            if at == ends[place]:
                self._begun = None
            place += 1
        return memory.first(stop - first)

    def _block(self, number: int) -> TrainingSet:
        if self._begun is None or self._begun[0] != number:
            self._begun = None
            self._begun = number, TrainingSet(*self._blocks.read(number))
        return self._begun[1]


class _Ahead:
    """A window that a thread reads, from ``start`` on, while another is trained on."""

    def __init__(self, read: Callable[[threading.Event], Window]) -> None:
        self._read, self._stopped = read, threading.Event()
        self._read_so_far: SimpleQueue[Window | BaseException] = SimpleQueue()
        # An interpreter that ends does not wait for a user's block that never comes.
        self._thread = threading.Thread(target=self._run, name="fastmlp-blocks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._read_so_far.put(self._read(self._stopped))
        except BaseException as error:
            self._read_so_far.put(error)

    def wait(self) -> Window:
        """Until it is there; raises what reading it has raised."""
        while True:
            gone = not self._thread.is_alive()
            with suppress(Empty):
                found = self._read_so_far.get(not gone, LOOK_SECONDS)
                if isinstance(found, BaseException):
                    raise found
                return found
            if gone:
                # In a process that was forked meanwhile there is no such thread.
                return self._read(self._stopped)

    def stop(self) -> None:
        self._stopped.set()
        # It may never have begun.
        with suppress(RuntimeError):
            self._thread.join(STOP_SECONDS)
