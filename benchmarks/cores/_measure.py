"""What the model is made from: stages on one thread, steps, lines and barriers on two.

Of every figure the least of many short bursts counts: what else runs on the machine can only make
them longer, and two threads that meet all the time wait for the whole of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from fastmlp import threads
from fastmlp._layout import LayerSpec
from fastmlp.engine import data_of
from fastmlp.kernels._host import aligned_zeros, lanes, tile_rows
from fastmlp.kernels._jit import OPTIONS
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import vector_lanes
from fastmlp.kernels._sync import barrier
from fastmlp.kernels.activation import ACTIVATIONS, NO_ACTIVATION
from fastmlp.kernels.network import StepFigures
from fastmlp.optimizers import Momentum

from .. import stages as repeated
from ..compare._workloads import Workload
from ._model import Seconds, Timed, split
from ._sharing import LINE, Stage

# Products whose tiles are rows of the batch.
TILED_BY_ROWS = "forward", "input gradient"

# A burst, and how long bursts of one figure are repeated.
BURST_SECONDS = 0.002
FIGURE_SECONDS = 0.2
# In a call, which begins with a gather of its own.
FEWEST_STEPS, MOST_STEPS = 10, 400
# They fill a part of the second-level cache, as the blocks of a layer do.
LINES = 1_024

_KINDS = {
    repeated.GATHER: "gather", repeated.FORWARD: "forward", repeated.LOSS: "loss",
    repeated.INPUT_GRADIENT: "input gradient", repeated.UPDATE: "update",
}  # fmt: skip


@numba.njit(**OPTIONS)
def _meet(team, times):
    for _ in range(times):
        barrier(team)


@numba.njit(**OPTIONS)
def _pass_on(team, written, read, sums, times):
    """Again and again the first thread writes an array, and after that the second reads one."""
    step = vector_lanes(written)
    total = load(sums, 0)
    for _ in range(times):
        if team.part == 0:
            for i in range(0, written.size, step):
                store(written, i, total)
        barrier(team)
        if team.part == 1:
            for i in range(0, read.size, step):
                total = total + load(read, i)
        barrier(team)
    store(sums, team.part * step, total)


def least(
    burst: Callable[[int], float], seconds: float, fewest: int = 1, most: int = 1 << 20
) -> float:
    """Of the seconds of a turn, in bursts of ``fewest`` to ``most``, of ``BURST_SECONDS`` at least.

    burst : runs so many turns, returns the seconds of all of them
    """
    turns = fewest
    while min(burst(turns), burst(turns)) < BURST_SECONDS and turns < most:
        turns = min(2 * turns, most)
    ends, best = time.perf_counter() + seconds, np.inf
    while time.perf_counter() < ends:
        best = min(best, burst(turns) / turns)
    return best


def on_threads(function: Any, count: int, arguments: tuple[Any, ...]) -> float:
    """Seconds of a call on so many threads."""
    started = time.perf_counter()
    threads.run(function, count, arguments)
    return time.perf_counter() - started


def barrier_seconds(seconds: float = FIGURE_SECONDS) -> float:
    """How long it takes two threads to meet."""
    return least(lambda turns: on_threads(_meet, 2, (turns,)), seconds)


def line_seconds(seconds: float = FIGURE_SECONDS) -> float:
    """What a line costs that one thread has written and another reads.

    That is how much longer it takes if the second thread reads the lines that the first one writes
    than if it reads others. So it includes that the first must take them back to write them again.
    """
    size = LINES * LINE // 4
    one, other = aligned_zeros(size, np.float32), aligned_zeros(size, np.float32)
    sums = aligned_zeros(2 * lanes(4), np.float32)
    moved, kept = (
        least(lambda turns, read=read: on_threads(_pass_on, 2, (one, read, sums, turns)), seconds)
        for read in (one, other)
    )
    return max(0.0, moved - kept) / LINES


class Bench:
    """A workload's network, and what of it is measured."""

    def __init__(self, workload: Workload, rows: int) -> None:
        network, dtype = workload.network, np.dtype(workload.dtype)
        hidden = [ACTIVATIONS[network.activation]] * (len(network.sizes) - 2)
        layers = [
            LayerSpec(*sizes, formula, True, False)
            for sizes, formula in zip(
                pairwise(network.sizes), [*hidden, NO_ACTIVATION], strict=True
            )
        ]
        stages = repeated.stages_of(layers, rows, dtype.itemsize, dtype.itemsize)
        self._bench = repeated.Bench(layers, rows, dtype, dtype, dtype.name)
        self._most = self._bench.trainer.threads
        self._step = 0
        last = len(layers) - 1
        self.stages = {
            Stage(kind, last if kind == "loss" else stage.layer): stage
            for stage in stages
            if (kind := _KINDS.get(stage.function))
        }

    def stage_seconds(self, key: Stage, seconds: float) -> float:
        """Of a stage by itself, on one thread."""
        stage = self.stages[key]
        self._bench.trainer.threads = 1
        return least(lambda turns: turns * self._bench.run(stage, turns), seconds)

    def step_seconds(self, count: int, seconds: float) -> float:
        """Of a step of an epoch, as ``fit`` runs it, on so many threads.

        Raises ValueError where ``fit`` would not take so many for the network.
        """
        bench, trainer = self._bench, self._bench.trainer
        if count > self._most:
            raise ValueError(f"count must be at most {self._most} here, got {count}")
        rows, dtype = trainer.batch_size, trainer.layout.dtype
        order = np.random.default_rng(0).permutation(len(bench.x))
        steps = len(order) // rows
        classes = order % trainer.layout.layers[-1].outputs
        data = data_of(bench.x, classes, order, np.full(steps, 1 / rows, dtype))
        # With a rate of 0 the weights stay as they are, however long this goes on.
        schedule = Momentum(0.0, 0.9).schedule(np.zeros(steps), 0, trainer.layout.groups, dtype)
        figures = StepFigures(np.zeros(steps), np.zeros(steps), np.empty(0))
        trainer.parts = count

        def burst(turns: int) -> float:
            # Through all rows, which then come from memory, as those of an epoch do.
            first = self._step if self._step + turns <= steps else 0
            started = time.perf_counter()
            trainer.train(data, schedule, first, first + turns, figures)
            self._step = first + turns
            return time.perf_counter() - started

        return least(burst, seconds, FEWEST_STEPS, MOST_STEPS)


def timed(workload: Workload, seconds: float = FIGURE_SECONDS) -> Timed:
    """All of a workload's figures; each takes about so many seconds.

    A product takes some time for each of its panels, however few rows there are: what a batch of
    one row of tiles takes, beside a whole one, tells how long.
    """
    rows, height = workload.network.batch_size, tile_rows(np.dtype(workload.dtype).itemsize)
    with at_most(2):
        bench = Bench(workload, rows)
    early = {count: bench.step_seconds(count, seconds) for count in (1, 2)}
    whole = {key: bench.stage_seconds(key, seconds) for key in bench.stages}
    short = Bench(workload, height)
    low = {key: short.stage_seconds(key, seconds) for key in whole if key.kind in TILED_BY_ROWS}
    # Two threads that share a core for a while are not taken for two cores.
    late = {count: bench.step_seconds(count, seconds) for count in (1, 2)}
    tiles = -(-rows // height)
    stages = {
        key: split(taken, low[key], tiles) if key in low else Seconds(taken, 0.0)
        for key, taken in whole.items()
    }
    return Timed(stages, {count: min(early[count], late[count]) for count in early})


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Keep two threads on a core each, where the system has a call for that.

    Beside other programs it would otherwise put both on one core now and then.
    """
    on_threads(_meet, 2, (1,))
    workers = [t.native_id for t in threading.enumerate() if t.name == "fastmlp-worker"]
    everyone = [threading.get_native_id(), *filter(None, workers)]
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    usual = os.sched_getaffinity(0)
    for thread, core in zip(everyone, itertools.cycle(sorted(usual)), strict=False):
        os.sched_setaffinity(thread, {core})
    try:
        yield
    finally:
        for thread in everyone:
            os.sched_setaffinity(thread, usual)


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
    """Let kernels use so many threads."""
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        yield
    finally:
        threads.set_num_threads(before)
