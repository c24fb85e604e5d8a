"""Steps and messages that are measured, by one process or by two that mpiexec starts."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastmlp
from fastmlp import _ranks

from ..compare._readme import ROOT
from ..networks import NETWORKS

NAMES = (
    "784-512-512-10", "784-128-10", "784-300-10", "784-64-64-32-10", "784-1024-1024-1024-10",
)  # fmt: skip
# Multiples of a network's own batch at which one process is measured.
MULTIPLES = (1, 2, 4)
# Of one epoch; the first, which may be slow to start, does not count.
SECONDS, EPOCHS = 0.4, 6
SIZES = (1 << 6, 1 << 14, 1 << 18, 1 << 20, 1 << 22)


def seconds_of_step(name: str, batch: int, steps: int, **options: Any) -> float:
    """The median of some epochs' seconds per step, on rows of noise."""
    network, mlp = NETWORKS[name], NETWORKS[name].build()
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (steps * batch, network.sizes[0]), np.uint8)
    y = generator.integers(0, network.sizes[-1], steps * batch)
    history = mlp.fit(x, y, epochs=EPOCHS, batch_size=batch, seed=0, check_finite=False, **options)
    return statistics.median(history.epoch_seconds[1:]) / steps


def steps_for(name: str, batch: int, seconds: float = SECONDS) -> int:
    """About so many seconds of them, at 100 Gflop/s."""
    return max(3, int(seconds * 1e11 / (NETWORKS[name].flops_per_sample * batch)))


def alone(seconds: float = SECONDS) -> dict[str, dict[int, float]]:
    """{network: {batch: seconds of a step}} of this process, on all its threads."""
    found: dict[str, dict[int, float]] = {}
    for name in NAMES:
        batches = [NETWORKS[name].batch_size * m for m in MULTIPLES]
        found[name] = {b: seconds_of_step(name, b, steps_for(name, b, seconds)) for b in batches}
    return found


def together(way: str, seconds: float = SECONDS) -> dict[str, float]:
    """{network: seconds of a step} of all ranks.

    way : "memory", which they share, or "messages" as between machines
    """
    from mpi4py import MPI

    if way == "messages":
        share = _ranks.Ranks.share_cores

        def apart(ranks: Any) -> None:
            share(ranks)
            ranks.one_machine = False

        _ranks.Ranks.share_cores = apart  # type: ignore[method-assign]
    fastmlp.set_num_threads(1)
    batches = {name: NETWORKS[name].batch_size for name in NAMES}
    return {
        name: seconds_of_step(name, b, steps_for(name, b, seconds), comm=MPI.COMM_WORLD)
        for name, b in batches.items()
    }


def link(times: int = 40) -> dict[int, float]:
    """{bytes: seconds} of an all-to-all and an all-gather between all ranks."""
    from mpi4py import MPI

    comm, found = MPI.COMM_WORLD, {}
    for size in SIZES:
        whole, received = np.zeros((2, size), np.uint8)
        share = received[: size // comm.Get_size()]
        taken = []
        for _ in range(times):
            comm.Barrier()
            started = time.perf_counter()
            comm.Alltoall(whole, received)
            comm.Allgather(share, whole)
            taken.append(time.perf_counter() - started)
        found[size] = statistics.median(taken)
    return found


def by_two(what: str, seconds: float) -> Any:
    """What a function of this module returns on the first of two ranks."""
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or "mpiexec"
    command = [mpiexec, "-n", "2", sys.executable, "-m", "benchmarks.ranks", "--rank", what]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command.append(f"--seconds={seconds}")
    ended = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True
    )
    return json.loads(ended.stdout)


def as_rank(what: str, seconds: float) -> None:
    """Print it as JSON, on the first rank."""
    from mpi4py import MPI

    found: Any = link() if what == "link" else together(what, seconds)
    if MPI.COMM_WORLD.Get_rank() == 0:
        print(json.dumps(found))


def measured(seconds: float = SECONDS) -> dict[str, Any]:
    """All of it, as JSON holds it."""
    found: dict[str, Any] = {"alone": alone(seconds)}
    return found | {what: by_two(what, seconds) for what in ("memory", "messages", "link")}
