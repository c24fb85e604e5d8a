"""Where the time of a training step goes: ``python -m benchmarks.stages 784-512-512-10``.

Each stage of the compiled epoch is repeated by itself, on the engine's own buffers and threads, and
set beside its two limits: its arithmetic at the FMA peak, and the bytes it must move at the
memory's rate. A stage whose operands stay in cache can be faster than the second.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numba
import numpy as np
from rich.console import Console
from rich.table import Table

from fastmlp import threads
from fastmlp._layout import LayerSpec, Layout
from fastmlp._speed import peak_gflops
from fastmlp.engine import Objective, Trainer, data_of
from fastmlp.kernels import apart, epoch, step
from fastmlp.kernels._jit import OPTIONS, inline
from fastmlp.kernels._rates import unit_for
from fastmlp.kernels._reference import refer
from fastmlp.kernels._sync import barrier
from fastmlp.kernels.activation import ACTIVATIONS, NO_ACTIVATION
from fastmlp.kernels.gather import Batch, gather
from fastmlp.kernels.network import Data, Network, Plan
from fastmlp.kernels.update import Learnt
from fastmlp.optimizers import Momentum

from .compare._probe import triad_gbytes

SECONDS = 0.02
ROUNDS = 9
SAMPLES = 60_000


class Work(NamedTuple):
    """What the stages of a step work on, as the compiled epoch hands it to them."""

    network: Network
    data: Data
    batch: Batch
    plan: Plan
    turn: apart.Turn


def _repeated(stage):
    """An entry point that runs a stage again and again, its threads meeting in between."""

    @numba.njit(**OPTIONS)
    def repeat(team, work, index, times):
        work = refer(work)
        for turn in range(times):
            stage(team, work, index, turn)
            barrier(team)

    return repeat


@inline
def _gather(team, work, index, turn):
    rows = work.batch.geometry.rows
    first = turn * rows % (work.data.order.size - rows)
    batch = Batch(first, work.batch.at, work.batch.geometry, 0, 0, 1.0, -1, 0)
    gather(team, work.network, work.data, batch, False)


@inline
def _forward(team, work, index, turn):
    step.forward_linear(team, work.network, index, work.batch)


@inline
def _loss(team, work, index, turn):
    step.loss_of_rows(team, work.network, work.data, work.plan, work.batch.geometry)


@inline
def _input_gradient(team, work, index, turn):
    step.input_gradient(team, work.network, index, work.batch.geometry)


@inline
def _update(team, work, index, turn):
    step.update_linear(team, work.network, index, work.batch, work.turn)


@inline
def _whole_step(team, work, index, turn):
    _gather(team, work, index, turn)
    barrier(team)
    epoch._step(team, work.network, work.data, work.batch, work.plan, work.turn, 0.0)


GATHER, FORWARD, LOSS, INPUT_GRADIENT, UPDATE, STEP = [
    _repeated(stage) for stage in (_gather, _forward, _loss, _input_gradient, _update, _whole_step)
]


@dataclass(frozen=True)
class Stage:
    """A part of a step: what repeats it, its multiply-adds, and the bytes it must move."""

    name: str
    function: Callable[..., None]
    layer: int
    multiply_adds: float
    bytes: float


def stages_of(
    layers: list[LayerSpec], rows: int, itemsize: int, input_bytes: int, rounds: bool = False
) -> list[Stage]:
    """The stages of a step, in their order; the last is the step itself.

    rounds : operands are bfloat16, which products read, beside the values that they write
    """
    first = layers[0].inputs
    # What a product reads of a number of a batch, and what who computes one writes: rounded, that
    # is twice 2 bytes, by features and by rows.
    operand, forms = (2, 4) if rounds else (itemsize, 0)
    written = itemsize + forms
    stages = [
        # Floats are written where they will lie, which reads the lines first.
        Stage("gather", GATHER, 0, 0, rows * first * (input_bytes + (forms or 2 * itemsize))),
    ]
    backward = []
    for index, layer in enumerate(layers):
        inputs, outputs = layer[:2]
        work, weights = rows * inputs * outputs, inputs * outputs
        rows_in, rows_out = rows * inputs, rows * outputs
        name = f"{index} {inputs}-{outputs}"
        moved = itemsize * weights + operand * rows_in + written * rows_out
        stages.append(Stage(f"forward {name}", FORWARD, index, work, moved))
        if index > 0:
            moved = itemsize * (weights + rows_in) + operand * rows_out + written * rows_in
            backward.append(Stage(f"input gradient {name}", INPUT_GRADIENT, index, work, moved))
        moved = 4 * itemsize * weights + operand * (rows_in + rows_out)
        backward.append(Stage(f"gradient, update {name}", UPDATE, index, work, moved))
    stages.append(Stage("loss", LOSS, 0, 0, 3 * itemsize * rows * layers[-1].outputs))
    stages += sorted(backward, key=lambda stage: -stage.layer)
    work, moved = sum(s.multiply_adds for s in stages), sum(s.bytes for s in stages)
    return [*stages, Stage("whole step", STEP, 0, work, moved)]


class Bench:
    """A network with random weights and data, on which single stages can be run."""

    def __init__(
        self, layers: list[LayerSpec], batch: int, dtype: Any, input_dtype: Any, compute_dtype: str
    ) -> None:
        generator = np.random.default_rng(0)
        layout = Layout(layers, dtype)
        weights = generator.standard_normal(layout.parameters).astype(dtype) / 30
        nothing = np.empty(0, dtype)
        learnt = Learnt(weights, np.zeros_like(weights), nothing, nothing)
        statistics = np.zeros(layout.statistics, dtype)
        optimizer = Momentum(lr=0.0, momentum=0.9)
        unit = unit_for(compute_dtype)
        self.trainer = Trainer(layout, learnt, statistics, batch, Objective(), unit)
        self.trainer.pack()
        self.x = generator.integers(0, 256, (SAMPLES, layers[0].inputs), np.uint8)
        if input_dtype != np.uint8:
            self.x = self.x.astype(input_dtype) / np.dtype(input_dtype).type(255)
        classes = generator.integers(0, layers[-1].outputs, SAMPLES)
        order = generator.permutation(SAMPLES)
        data = data_of(self.x, classes, order, np.zeros(0, dtype))
        trainer = self.trainer
        network = Network(trainer.table, statistics, trainer.packed, trainer.vocabulary)
        rows = Batch(0, 0, trainer.geometry, 0, 0, 1.0, -1, 0)
        factors = optimizer.schedule(np.zeros(1), 0, layout.groups, dtype)[0]
        one = np.dtype(dtype).type(1)
        turn = apart.Turn(factors, True, True, False, one / batch, one / batch)
        plan = trainer.plan()
        self.work = Work(network, data, rows, plan, turn)

    def run(self, stage: Stage, times: int) -> float:
        """Seconds of one turn of a stage."""
        started = time.perf_counter()
        threads.run(stage.function, self.trainer.threads, (self.work, stage.layer, times))
        return (time.perf_counter() - started) / times

    def seconds(self, stages: list[Stage]) -> list[float]:
        """Median seconds of each stage, measured in turns."""
        for stage in stages:
            self.run(stage, 1)
        times = [max(1, int(SECONDS / self.run(stage, 8))) for stage in stages]
        rounds = [
            [self.run(stage, count) for stage, count in zip(stages, times, strict=True)]
            for _ in range(ROUNDS)
        ]
        return [statistics.median(column) for column in zip(*rounds, strict=True)]


def report(stages: list[Stage], seconds: list[float], gflops: float, gbytes: float) -> Table:
    """The table: time, limits, and the share of the FMA peak that was reached."""
    limits = (f"{name} µs" for name in ("time", "arithmetic", "memory"))
    table = Table("stage", *limits, "of peak", "MB")
    for stage, taken in zip(stages, seconds, strict=True):
        arithmetic = 2 * stage.multiply_adds / gflops / 1e9
        table.add_row(
            stage.name, f"{taken * 1e6:.1f}", f"{arithmetic * 1e6:.1f}",
            f"{stage.bytes / gbytes / 1e3:.1f}", f"{arithmetic / taken:.0%}" if arithmetic else "",
            f"{stage.bytes / 1e6:.2f}",
        )  # fmt: skip
    apart = sum(seconds[:-1])
    table.add_row("stages by themselves", f"{apart * 1e6:.1f}", "", "", "", "")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stages", description=__doc__)
    parser.add_argument("network", nargs="?", default="784-512-512-10", help="widths, by dashes")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--compute", default=None, choices=("bfloat16",))
    parser.add_argument("--input", default=None, choices=("uint8", "float32", "float64"))
    parser.add_argument("--threads", type=int, default=threads.get_num_threads())
    options = parser.parse_args()
    threads.set_num_threads(options.threads)
    widths = [int(width) for width in options.network.split("-")]
    formulas = [ACTIVATIONS[options.activation]] * (len(widths) - 2) + [NO_ACTIVATION]
    layers = [
        LayerSpec(*sizes, formula, True, False)
        for *sizes, formula in zip(widths, widths[1:], formulas, strict=False)
    ]
    input_dtype = np.dtype(options.input or options.dtype)
    compute = options.compute or options.dtype
    bench = Bench(layers, options.batch, options.dtype, input_dtype, compute)
    itemsize = np.dtype(options.dtype).itemsize
    stages = stages_of(layers, options.batch, itemsize, input_dtype.itemsize, compute == "bfloat16")
    used = bench.trainer.threads
    seconds = bench.seconds(stages)
    gflops, gbytes = used * peak_gflops(compute), triad_gbytes(used)
    console = Console()
    console.print(
        f"{options.network} {options.activation}, batch {options.batch}, {compute} from "
        f"{input_dtype}, {used} threads; peak {gflops:.0f} GFLOP/s, memory {gbytes:.0f} GB/s"
    )
    console.print(report(stages, seconds, gflops, gbytes))


if __name__ == "__main__":
    main()
