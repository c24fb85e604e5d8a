"""Five seconds of `fastmlp doctor`: how fast the processor is, and what training makes of it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple

import numpy as np

from .. import _machine
from .._speed import peak_gflops, share_together
from ..initializers import he_normal, zeros
from ..layers import Identity, ReLU, SoftmaxCrossEntropy
from ..mlp import MLP
from ..threads import get_num_threads
from ..warmup import is_cold_for
from .findings import Finding, Found, Line
from .units import in_seconds

SECONDS = 5.0
# Of it, so long nothing runs, to see who else is busy.
_QUIET_SECONDS = 0.5
# Half a second of one core's time, in all, is the system's own.
BUSY_CORES = 0.3
# What is less of the record than this is told: quiet machines of a kind differ by less.
LEAST_OF_RECORD = 0.8
LEAST_TOGETHER = 0.9
# What is less of the record than this is said to be below it, which alone is no finding.
AS_GOOD = 0.95
_ROWS = 5120


class Speed(NamedTuple):
    """Medians of some rounds."""

    busy_cores: float | None  # taken by others
    peak_gflops: float  # of one thread, in float32
    together: float  # share of all threads' peaks that they reach at once
    seconds: float  # to train on a row
    share_of_peak: float  # of all threads, that training reaches
    threads: int


class Record(NamedTuple):
    """What a machine came to in the package's benchmarks, on the same network."""

    processor: str
    vector_bits: int
    threads: int
    date: str
    batch_size: int
    flops_per_sample: float
    peak_gflops: float
    together: float
    share_of_peak: float


def records() -> list[Record]:
    """Those that come with the package."""
    text = (files("fastmlp") / "data" / "speed.json").read_text(encoding="utf-8")
    return [Record(**machine) for machine in json.loads(text)["machines"]]


def network() -> MLP:
    """That of the records."""
    layers = [ReLU(), ReLU(), Identity()]
    return MLP(
        784, 10, [512, 512], layers, he_normal(0), zeros, SoftmaxCrossEntropy(), lr=0.1,
        momentum=0.9,
    )  # fmt: skip


def measure(seconds: float = SECONDS) -> Speed:
    """Measure for about so many seconds, peak and training by turns."""
    began, threads = time.perf_counter(), get_num_threads()
    busy = _machine.busy_cores(min(_QUIET_SECONDS, seconds / 10))
    record, train = records()[0], _training()
    rounds: list[tuple[float, float, float, float]] = []
    while not rounds or time.perf_counter() - began < seconds:
        peak = peak_gflops(np.float32)
        together = share_together(np.float32, threads, peak)
        taken = train(record.batch_size)
        share = record.flops_per_sample / taken / 1e9 / (peak * threads)
        rounds.append((peak, together, taken, share))
    peak, together, taken, share = map(statistics.median, zip(*rounds, strict=True))
    return Speed(busy, peak, together, taken, share, threads)


def _training() -> Callable[..., float]:
    """A function that trains for a short while and returns the seconds per row."""
    mlp, generator = network(), np.random.default_rng(0)
    x = generator.standard_normal((_ROWS, 784), np.float32)
    labels = generator.integers(0, 10, _ROWS)

    def train(batch_size: int, epochs: int = 4) -> float:
        started = time.perf_counter()
        mlp.fit(x, labels, epochs=epochs, batch_size=batch_size, seed=0)
        return (time.perf_counter() - started) / (epochs * _ROWS)

    train(records()[0].batch_size, 1)
    return train


def is_ready() -> bool:
    """Whether there is machine code for it: compiling takes longer than the check."""
    return not is_cold_for(network())


class _Figure(NamedTuple):
    """One of what was measured, and what the record has of it."""

    name: str
    text: str
    reached: float
    recorded: float | None  # None: there is nothing that it can be compared with
    least: float  # less than that is told
    cause: str  # of less, usually
    do: str


def judge(speed: Speed, processor: str) -> Found:
    """What was measured, each with a verdict beside the record of such a machine, if there is one.

    A figure that falls short is a Finding, unless other processes are busy: then only that is one.
    """
    known = records()
    same = next((each for each in known if each.processor == processor), None)
    busy = speed.busy_cores is not None and speed.busy_cores > BUSY_CORES
    figures = _figures(speed, same)
    for figure in figures:
        yield Line(figure.name, f"{figure.text}: {_verdict(figure, busy)}")
    shown = same or known[0]
    yield Line(
        "record",
        f"peak {shown.peak_gflops:.0f} GFLOP/s, together {shown.together:.0%}, "
        f"training {shown.share_of_peak:.0%}",
    )
    yield Line("  of", f"{'this' if same else 'another'} processor, {shown.threads} threads")
    yield Line("others", _others(speed.busy_cores))
    if busy:
        # What else there may be follows from it, or cannot be told.
        yield Finding(
            f"other processes keep {speed.busy_cores:.1f} cores busy",
            "wait for them or end them, and ask again: beside them training is slower, and so "
            "is all that was measured here",
        )
        return
    for figure in figures:
        if figure.reached < figure.least:
            yield Finding(f"{figure.name}: {figure.text}: {_verdict(figure, busy)}", figure.do)


def _figures(speed: Speed, same: Record | None) -> tuple[_Figure, ...]:
    """same : the record of this processor. What threads share depends on how many there are."""
    alike = same if same is not None and same.threads == speed.threads else None
    peak = None if same is None else same.peak_gflops
    share = None if alike is None else alike.share_of_peak
    epoch = in_seconds(60_000 * speed.seconds)
    all_peaks = f"{speed.threads} times the peak of one thread"
    return (
        _Figure(
            "peak", f"{speed.peak_gflops:.0f} GFLOP/s a thread, float32", speed.peak_gflops,
            peak, LEAST_OF_RECORD * (peak or 0), "saving power, heat, or a core shared with others",
            "look whether it saves power, is hot, or shares its core with another",
        ),
        _Figure(
            "together", f"{speed.together:.0%} of {all_peaks}", speed.together,
            None if alike is None else alike.together, LEAST_TOGETHER,
            "threads that share the units of one core",
            f"try FASTMLP_NUM_THREADS={max(1, speed.threads // 2)}",
        ),
        _Figure(
            "training", f"{speed.share_of_peak:.0%} of {all_peaks}, {epoch} for 60,000 rows",
            speed.share_of_peak, share, LEAST_OF_RECORD * (share or 0),
            "others that use the same caches and memory",
            "ask again in a quiet hour; if it stays, report it with the output of "
            "fastmlp doctor --json",
        ),
    )  # fmt: skip


def _verdict(figure: _Figure, busy: bool) -> str:
    """In a few words: whether it is good, and if not, what usually keeps it down."""
    short = figure.reached < figure.least
    why = "beside busy processes" if busy else f"usually by {figure.cause}"
    if figure.recorded is None:
        if not figure.least:
            return "no record of such a machine"
        return f"less than {figure.least:.0%}, {why}" if short else "good"
    share = figure.reached / figure.recorded
    if share >= AS_GOOD:
        return "as good as the record"
    below = f"{1 - share:.0%} below the record"
    return f"{below}, {why}" if short else f"{below}, which is within what is usual"


def _others(busy_cores: float | None) -> str:
    return "not known" if busy_cores is None else f"{busy_cores:.1f} cores busy"
