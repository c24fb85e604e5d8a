"""The record: what was measured, and what the model makes of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from fastmlp.engine import STEP_WORK_PER_THREAD

from ..compare._workloads import Workload
from ._model import Costs, Parts, Seconds, Timed, seconds_on
from ._sharing import LINE, Stage, Step
from ._traffic import phases_on

MOST_CORES = 64
# What lines and barriers between cores that share no cache may cost, beside those that do.
DEARER = 4

Row = dict[str, Any]


def costs_of(record: dict[str, Any]) -> Costs:
    return Costs(**record["costs"])


def row_of(workload: Workload, timed: Timed) -> Row:
    """A workload's measured figures."""
    network = workload.network
    return {
        "name": workload.name,
        "sizes": list(network.sizes),
        "activation": network.activation,
        "batch": network.batch_size,
        "dtype": workload.dtype,
        "stages": [[*stage, *map(_short, seconds)] for stage, seconds in timed.stages.items()],
        "step": {str(count): _short(seconds) for count, seconds in timed.step.items()},
    }


def timed_of(row: Row) -> Timed:
    """The same figures, read from the record."""
    stages = {
        Stage(kind, layer): Seconds(tiles, panels) for kind, layer, tiles, panels in row["stages"]
    }
    return Timed(stages, {int(count): seconds for count, seconds in row["step"].items()})


def predicted(row: Row, costs: Costs, cores: int) -> dict[str, Any]:
    """What the model says of a step on so many cores.

    parts : seconds of work, lines and barriers    dearer : seconds where the last two cost more
    kilobytes : what the core that receives most receives in a step, in 1,000 bytes
    """
    step, timed = Step(tuple(row["sizes"]), row["batch"], row["dtype"]), timed_of(row)
    phases = phases_on(step, cores)
    batch_bytes = step.rows * step.sizes[0] * step.dtype.itemsize
    dear = Costs(DEARER * costs.line, DEARER * costs.barrier, costs.memory)
    most = np.max(np.sum([phase.received for phase in phases], axis=0))
    return {
        "parts": [_short(value) for value in seconds_on(phases, timed, costs, batch_bytes)],
        "dearer": _short(seconds_on(phases, timed, dear, batch_bytes).step),
        "kilobytes": _short(most * LINE / 1e3),
    }


def with_curves(record: dict[str, Any], most: int = MOST_CORES) -> dict[str, Any]:
    """The record with what the model says of every row on 1 to ``most`` cores."""
    costs = costs_of(record)
    rows = [
        row | {"cores": [predicted(row, costs, cores) for cores in range(1, most + 1)]}
        for row in record["rows"]
    ]
    return record | {"rows": rows}


def step_on(row: Row, cores: int) -> float:
    """The model's seconds of a step."""
    return Parts(*row["cores"][cores - 1]["parts"]).step


def speedups(row: Row, dearer: bool = False) -> list[float]:
    """Of 1, 2, ... cores over what one was measured to take."""
    steps = [
        cores["dearer"] if dearer else step_on(row, number)
        for number, cores in enumerate(row["cores"], start=1)
    ]
    return [row["step"]["1"] / seconds for seconds in steps]


def miss(row: Row) -> float:
    """How far the model is from two measured cores, as a share of their time."""
    return step_on(row, 2) / float(row["step"]["2"]) - 1


def threads_of_fit(row: Row) -> int:
    """The most threads that ``fit`` would use for the network's steps, however many there are."""
    work = 3 * sum(a * b for a, b in pairwise(row["sizes"])) * row["batch"]
    return max(1, work // STEP_WORK_PER_THREAD)


def label(row: Row) -> str:
    network = "-".join(map(str, row["sizes"]))
    activation = "ReLU" if row["activation"] == "relu" else row["activation"]
    dtype = "" if row["dtype"] == "float32" else f", {row['dtype']}"
    return f"{network} {activation}{dtype}"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
