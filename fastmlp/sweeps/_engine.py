"""Executors: how many workers one has, and how a fit and its data reach them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from concurrent.futures import Executor, Future
from typing import Any, Protocol

from ..mlp import MLP
from ._travel import Folder, Store, packed
from ._worker import Job, Packed, this_process

# How many processes mpiexec has started on this machine: MPICH's variable, and Open MPI's.
_LOCAL_RANKS = "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"


class Fit(Protocol):
    """What an engine runs."""

    def __call__(self) -> Any: ...

    def packed(self) -> Packed: ...


class Engine:
    """An executor whose workers share this file system, or are threads of this process."""

    def __init__(self, executor: Executor, own: bool, store: Store | None = None) -> None:
        """own : whether it is to be shut down in the end"""
        self.executor, self._own, self.store = executor, own, store or Folder()

    @property
    def workers(self) -> int | None:
        """How many fits run at a time; None if the executor does not say.

        Those of Python, loky and mpi4py all have this attribute.
        """
        count: int | None = getattr(self.executor, "_max_workers", None)
        return count

    @property
    def sharers(self) -> int:
        """How many worker processes share the cores of a machine, as far as is known."""
        workers = self.workers or 1
        if not type(self.executor).__module__.startswith("mpi4py"):
            return workers
        return min([workers, *(int(os.environ[n]) for n in _LOCAL_RANKS if n in os.environ)])

    def packed(self, mlp: MLP, arguments: Mapping[str, Any]) -> Packed:
        """A fit for a worker in another process."""
        job = Job(mlp, arguments, self.store.flag, self.sharers, this_process())
        return Packed(*packed(job, arguments, self.store))

    def submit(self, fit: Fit) -> Future[Any]:
        """Have it called in a worker; on its way to another process it becomes ``packed``."""
        return self.executor.submit(fit)

    def close(self) -> None:
        """To be called once no fit runs."""
        try:
            if self._own:
                self.executor.shutdown()
        finally:
            self.store.close()


def engine_of(executor: Executor, own: bool = False) -> Engine:
    """own : as of ``Engine``"""
    # Who has a client of Dask's has imported it.
    if "distributed" in sys.modules:
        from ._dask import DaskEngine, client_of

        client = client_of(executor)
        if client is not None:
            return DaskEngine(executor, own, client)
    return Engine(executor, own)
