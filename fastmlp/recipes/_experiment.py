"""A recipe, its experiments, and what they are given and return."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import datasets
from ..history import Progress

# Other work on the machine slows single rounds down.
ROUNDS = 5

# Seconds between two measurements: the threads of NumPy's BLAS spin for a while after their work,
# on a core that the next one needs.
PAUSE = 0.1


class Ticker:
    """Receives an experiment's progress; this base class shows nothing."""

    def begin(self, what: str, total: float = 0) -> None:
        """A new stage of that many epochs or rounds; 0 if there is nothing to count."""

    def advance(self, done: float) -> None:
        """So many more epochs or rounds of the stage are done. Called from several threads."""


class Advance:
    """A callback of one fit that passes its progress on to a ticker."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker
        self._done = 0.0

    def on_progress(self, progress: Progress) -> None:
        done = progress.epoch + progress.step / progress.steps
        self._ticker.advance(done - self._done)
        self._done = done


@dataclass(frozen=True)
class Setting:
    """How to run an experiment: where to write, where to read, how much to do.

    quick : a few seconds on a part of the data; shows that all of it works, reaches no figures
    compare : also time the NumPy transcription
    """

    out: Path
    data_dir: str | PathLike[str] | None = None
    quick: bool = False
    compare: bool = False
    ticker: Ticker = field(default_factory=Ticker)

    def choose(self, full: Any, quick: Any) -> Any:
        """The one of the two that this run asks for."""
        return quick if self.quick else full

    def begin(self, what: str, epochs: float) -> tuple[Advance, ...]:
        """Announce a stage of one fit; returns the callbacks to hand to it."""
        self.ticker.begin(f"{what}, {epochs} epochs", epochs)
        return (Advance(self.ticker),)


@dataclass(frozen=True)
class Measure:
    """One figure of a write-up beside the one reached here.

    reported : None where the write-up gives none
    at_least, at_most : what must be reached in a full run; None for no bound
    """

    what: str
    reported: float | None
    reproduced: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def required(self) -> str:
        """The bound in words, "" without one."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def reached(self) -> bool:
        """Whether the bound holds; NaN reaches none."""
        if self.at_least is not None:
            return self.reproduced >= self.at_least
        return self.at_most is None or self.reproduced <= self.at_most


@dataclass(frozen=True)
class Timing:
    """The same piece of work, done by the NumPy transcription and by fastmlp."""

    work: str
    numpy_seconds: float
    fastmlp_seconds: float


@dataclass(frozen=True)
class Outcome:
    """One experiment: its figures, its pictures, how it was run, how long the whole of it took."""

    title: str
    setup: str
    measures: list[Measure]
    pictures: list[Path]
    seconds: float
    timing: Timing | None


@dataclass(frozen=True)
class Recipe:
    """The experiments of a course's write-ups, their name on the command line, and a summary."""

    name: str
    summary: str
    experiments: tuple[Callable[[Setting], Outcome], ...]


class Split(NamedTuple):
    """MNIST's training file, cut in two, and its test file; x (N, 784) uint8, y (N,) int64."""

    train_x: np.ndarray
    train_y: np.ndarray
    valid_x: np.ndarray
    valid_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def split_mnist(setting: Setting, valid: int) -> Split:
    """The last ``valid`` rows of MNIST's training file are for validation; quick takes a tenth."""
    data = datasets.load("mnist", setting.data_dir)
    step = setting.choose(1, 10)
    parts = (
        data.train_x[:-valid:step], data.train_y[:-valid:step],
        data.train_x[-valid::step], data.train_y[-valid::step],
        data.test_x[::step], data.test_y[::step],
    )  # fmt: skip
    return Split(*map(np.ascontiguousarray, parts))


def compare(
    setting: Setting, work: str, numpy: Callable[[], Callable[[], Any]], fastmlp: Callable[[], Any]
) -> Timing | None:
    """Time the same work in both, in turns, and take each one's best of ROUNDS.

    numpy : prepares, and returns what is timed. None where the setting does not ask for it.
    """
    if not setting.compare:
        return None
    setting.ticker.begin(f"timing NumPy and fastmlp: {work}", ROUNDS)
    transcription = numpy()
    seconds = []
    for _ in range(ROUNDS):
        seconds.append([_seconds_alone(function) for function in (transcription, fastmlp)])
        setting.ticker.advance(1)
    return Timing(work, *np.min(seconds, axis=0).tolist())


def _seconds_alone(function: Callable[[], Any]) -> float:
    time.sleep(PAUSE)
    return seconds_of(function)[1]


def seconds_of(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and how long it takes."""
    started = time.perf_counter()
    result = function()
    return result, time.perf_counter() - started
