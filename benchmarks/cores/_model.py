"""The time of a training step on n cores, from what one core and two cores were measured to do.

A step takes the sum over its phases of what the busiest core takes, and the barriers between them:

    sum over phases of max over cores of (sum over stages of share * seconds + lines * line)
        + barriers * barrier(n)

- share: what a core has of a stage's tiles, and how many of its panels it prepares (``_sharing``).
- seconds: of the whole stage on one thread, by itself. What the stages of a step take more when
  they follow each other is added to each in proportion, so that one core takes what was measured.
- lines: those that come from other cores' caches (``_traffic``), each as dear as between the two
  cores that were measured, also where many want the same one: all cores share one last cache.
  Receiving them does not overlap with arithmetic.
- barrier(n): every core adds 1 to one counter, one after the other: n / 2 of what two cores take.
- The gather takes no less time than the memory, which gives all cores no more bytes a second
  than it gave two, takes for the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ._sharing import GATHER, Stage
from ._traffic import Phase


class Costs(NamedTuple):
    """Seconds of a line from another core, and of two that meet; the memory's bytes a second."""

    line: float
    barrier: float
    memory: float


class Seconds(NamedTuple):
    """Of a stage on one thread: of all its tiles, and of preparing its panels."""

    tiles: float
    panels: float


class Timed(NamedTuple):
    """A network's stages on one thread, and its whole step by the number of threads."""

    stages: dict[Stage, Seconds]
    step: dict[int, float]


class Parts(NamedTuple):
    """What a step's seconds consist of."""

    work: float
    lines: float
    barriers: float

    @property
    def step(self) -> float:
        return sum(self)


def split(whole: float, lowest: float, tiles: int) -> Seconds:
    """A product's seconds, from those with ``tiles`` rows of tiles and those with one."""
    if tiles == 1:
        return Seconds(whole, 0.0)
    panels = min(max(0.0, (tiles * lowest - whole) / (tiles - 1)), whole)
    return Seconds(whole - panels, panels)


def seconds_on(phases: Sequence[Phase], timed: Timed, costs: Costs, batch_bytes: int) -> Parts:
    """A step on as many cores as the phases are of.

    batch_bytes : what the gather reads
    """
    parts = len(phases[0].received)
    alone = sum(sum(seconds) for seconds in timed.stages.values())
    slower = timed.step[1] / alone
    work = lines = 0.0
    for phase in phases:
        own = np.zeros(parts)
        for stage, tiles, panels in zip(phase.stages, phase.tiles, phase.panels, strict=True):
            seconds = timed.stages.get(stage, Seconds(0.0, 0.0))
            taken = slower * (tiles * seconds.tiles + panels * seconds.panels)
            if stage == GATHER:
                least = min(batch_bytes / costs.memory, slower * seconds.tiles)
                taken = np.where(tiles > 0, np.maximum(taken, least), 0.0)
            own += taken
        moved = phase.received * costs.line
        busiest = np.argmax(own + moved)
        work, lines = work + own[busiest], lines + moved[busiest]
    return Parts(float(work), float(lines), len(phases) * barrier_of(costs, parts))


def barrier_of(costs: Costs, parts: int) -> float:
    """Seconds of so many cores that meet; one core meets nobody."""
    return costs.barrier * parts / 2 if parts > 1 else 0.0
