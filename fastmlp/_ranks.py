"""The processes of one fit on several machines, and what they tell each other by MPI.

Every rank calls ``fit`` with the same arguments and takes the same course. What decides on that
course and is not the same everywhere, a clock, a signal, an error, is exchanged where all ranks
come by: ``of_first``, ``everywhere``, ``together``. A rank that fails between two such places ends
the others by ``MPI_Abort``: they would wait for it forever.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from . import threads
from ._cores import cores_to_run_on, usable_cores
from .kernels._host import aligned_zeros
from .validation import check_count

T = TypeVar("T")


class RankError(RuntimeError):
    """Another rank of a fit has failed; the message names it, and says of what.

    here : the rank that raises this
    """

    def __init__(self, message: str, here: int) -> None:
        super().__init__(message)
        self.here = here


class Ranks:
    """The processes of a fit; by default this one alone, which asks nobody.

    shards : in how many parts a batch is cut, of which every rank has as many; see ``cut``
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm, self.shards = comm, 1
        self.rank: int = 0 if comm is None else comm.Get_rank()
        self.size: int = 1 if comm is None else comm.Get_size()
        # Whether all share the memory of one machine.
        self.one_machine = True
        self._parted, self._ends = False, contextlib.ExitStack()

    def cut(self, shards: Any) -> None:
        """Cut batches into so many shards, by default one for each rank. Raises ValueError."""
        count = self.size if shards is None else check_count("shards", shards)
        each, left = divmod(count, self.size)
        if self.size > 1 and (left or each & (each - 1)):
            raise ValueError(
                f"shards must be the number of ranks, {self.size}, times 1, 2, 4 or another power "
                f"of two, got {count}"
            )
        self.shards = count

    @property
    def own(self) -> range:
        """The shards of this rank."""
        count = self.shards // self.size
        return range(self.rank * count, (self.rank + 1) * count)

    @contextlib.contextmanager
    def joined(self) -> Iterator[Ranks]:
        """A fit of all ranks, on a communicator of its own.

        An error of this rank that the others do not know of is printed, and ends them.
        """
        if self.size == 1:
            yield self
            return
        self.comm = self.comm.Dup()
        self.share_cores()
        try:
            yield self
        except BaseException:
            if not self._parted:
                # Not sys.stderr: the command has ranks that are silent there.
                traceback.print_exc(file=sys.__stderr__)
                says = f"fastmlp: rank {self.rank} of {self.size} failed, and ends the others"
                print(says, file=sys.__stderr__, flush=True)
                self.comm.Abort(1)
            raise
        finally:
            # All ranks come here, at the end or after the same error.
            self._ends.close()
            self.comm.Free()

    def share_cores(self) -> None:
        """Divide the cores of a machine among its ranks, unless the user has said otherwise."""
        from mpi4py import MPI

        machine = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        cores = set().union(*machine.allgather(cores_to_run_on()))
        share = usable_cores(among=len(cores)) // machine.Get_size()
        threads.share_threads(min(usable_cores(), max(1, share)))
        self.one_machine = machine.Get_size() == self.size
        machine.Free()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A part after which all ranks go on, or none: each raises its own error, or names one.

        No rank may wait for another within it.
        """
        if self.size == 1 or self._parted:
            yield
            return
        error: BaseException | None = None
        try:
            yield
        except BaseException as caught:
            error = caught
        told = self.comm.allgather(_in_words(error))
        self._parted = any(word is not None for word in told)
        if error is not None:
            raise error
        for rank, word in enumerate(told):
            if isinstance(word, type):
                raise word
            if word is not None:
                raise RankError(f"rank {rank} of {self.size} failed: {word}", self.rank)

    def part(self) -> None:
        """From here on no rank waits for another."""
        self._parted = True

    def of_first(self, value: T) -> T:
        """What it is on rank 0."""
        if self.size == 1 or self._parted:
            return value
        first: T = self.comm.bcast(value)
        return first

    def everywhere(self, value: T) -> list[T]:
        """What it is on each rank."""
        return [value] if self.size == 1 else list(self.comm.allgather(value))

    def agree(self, values: dict[str, str]) -> None:
        """Raise ValueError, which names them, where ranks have different values."""
        all_values = self.everywhere(values)
        for name, first in all_values[0].items():
            different = [r for r in range(self.size) if all_values[r].get(name) != first]
            if different:
                self.part()
                raise ValueError(
                    f"all ranks of a fit must have the same {name}, got {first} on rank 0 and "
                    f"{all_values[different[0]].get(name)} on {_names(different)}"
                )

    def share(self, total: int) -> tuple[int, int]:
        """(begin, end) of this rank's share of so many rows."""
        return self.rank * total // self.size, (self.rank + 1) * total // self.size

    def outputs(self, function: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
        """function(x), (N, K), each rank having computed its share of the rows."""
        if self.size == 1:
            return function(x)
        mine = x[slice(*self.share(len(x)))]
        return np.concatenate(self.comm.allgather(function(mine)))

    def shared_bytes(self, count: int) -> np.ndarray:
        """Zeros, (count,) uint8, in memory that all ranks read and write, until ``joined`` ends."""
        if self.size == 1:
            return aligned_zeros(count, np.uint8)
        from mpi4py import MPI

        window = MPI.Win.Allocate_shared(count if self.rank == 0 else 0, 1, comm=self.comm)
        self._ends.callback(window.Free)
        memory: Any = MPI.buffer.fromaddress(window.Shared_query(0)[0].address, count)
        found = np.frombuffer(memory, np.uint8)
        # Each rank's share is near its cores.
        found[slice(*self.share(count))] = 0
        self.comm.Barrier()
        return found

    def gathered(self, values: np.ndarray) -> np.ndarray:
        """The rows of all ranks, (shards, n), of which this one has ``own``."""
        if self.size == 1:
            return values
        everywhere = np.empty((self.shards, *values.shape[1:]), values.dtype)
        self.comm.Allgather(values, everywhere)
        return everywhere


ALONE = Ranks()


def ranks_of(comm: Any) -> Ranks:
    """Those of a communicator of mpi4py's, or of None; TypeError for anything else."""
    # Who has a communicator has imported it: MPI starts with the import.
    mpi: Any = sys.modules.get("mpi4py.MPI")
    known = mpi is not None and isinstance(comm, mpi.Intracomm) and comm != mpi.COMM_NULL
    if comm is not None and not known:
        raise TypeError(
            f"comm must be a communicator of mpi4py's like MPI.COMM_WORLD, got {comm!r}"
        )
    return Ranks(comm)


def _in_words(error: BaseException | None) -> str | type[KeyboardInterrupt] | None:
    """What the other ranks are told of an error; an interrupt they raise themselves."""
    if error is None or isinstance(error, KeyboardInterrupt):
        return None if error is None else type(error)
    return f"{type(error).__name__}: {error}"


def _names(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
