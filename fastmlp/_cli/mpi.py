"""Commands that several processes run together, started by mpiexec."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

from .._extras import require
from .._ranks import Ranks, ranks_of

T = TypeVar("T")

# How many there are, as MPICH's launcher says, Intel MPI's and Slurm's too, and Open MPI's.
_SIZES = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"


def world(wanted: bool | None) -> Ranks:
    """All processes that were started together; this one alone where they are not wanted.

    wanted : None to take them where there are several. What all of them would print is printed by
        the first.
    """
    if wanted is None:
        wanted = any(os.environ.get(name, "1") != "1" for name in _SIZES)
    if not wanted:
        return ranks_of(None)
    require("mpi4py", "mpi")
    from mpi4py import MPI

    ranks = ranks_of(MPI.COMM_WORLD if MPI.COMM_WORLD.Get_size() > 1 else None)
    if ranks.rank > 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if ranks.size > 1:
        ranks.share_cores()
    return ranks


def first_before_others(ranks: Ranks, function: Callable[[], T]) -> T:
    """Have the first rank call a function before the others do, who find what it has fetched."""
    results: list[T] = []
    for turn in ([0], range(1, ranks.size)):
        with ranks.together():
            if ranks.rank in turn:
                results.append(function())
    return results[0]
