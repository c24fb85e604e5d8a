"""How many threads compute, and the pool of threads that do.

Kernels are compiled without the interpreter's lock and split their own work, so the pool is a few
Python threads that wait for a job. It needs no threading layer of Numba's: kernels may be
called from several Python threads at once, and a forked child starts a pool of its own.

The caller computes too. Callers that run at the same time share the threads: each gets those that
the others have not taken, and computes alone if there are none. The number of threads never changes
a result.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._cores import usable_cores

# Below this many multiply-adds per thread one more thread does not pay: handing a job over costs
# 20 to 40 µs.
WORK_PER_THREAD = 2_000_000

# The counters of a team lie a cache line apart (in int64), so that a thread that writes its own
# does not slow down the others.
SLOT = 8

# Where a team that stays counts its calls, in the line of the arrivals, which rests meanwhile; and
# what stands there once it has gone.
CALLS, GONE = 1, -1


class Team(NamedTuple):
    """The threads that share one call of a kernel, as one of them sees it."""

    part: int  # which of them this is, from 0, the caller's own
    parts: int  # how many there are
    sync: np.ndarray  # (SLOT * (1 + parts),) int64: what they meet by, see ``kernels._sync``


# One thread meets nobody: nothing is ever written to this array, so all callers may share it.
_ALONE = Team(0, 1, np.zeros(2 * SLOT, np.int64))


def _default_threads() -> int:
    requested = os.environ.get("FASTMLP_NUM_THREADS")
    if requested is None:
        # joblib tells its worker processes by such variables what each may use.
        limit = os.environ.get("NUMBA_NUM_THREADS", "")
        return min(usable_cores(), max(1, int(limit))) if limit.isdecimal() else usable_cores()
    if not requested.strip().isdecimal() or int(requested) < 1:
        raise ValueError(f"FASTMLP_NUM_THREADS must be a whole number from 1, got {requested!r}")
    return int(requested)


class _Worker(threading.Thread):
    """Waits for (function, arguments) and calls it; ends when it gets None."""

    def __init__(self) -> None:
        super().__init__(name="fastmlp-worker", daemon=True)
        self.jobs: queue.SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = (
            queue.SimpleQueue()
        )

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            function, arguments = job
            # A call that does not compile fails in the caller's own part too, and is raised there.
            with contextlib.suppress(Exception):
                function(*arguments)
            del job, function, arguments


class _Pool:
    """The idle workers, and those that callers have at present.

    Ctrl-C may come between any two operations here, and must cost no thread: a caller's workers are
    in a list that it has made before, and giving them back twice does no harm. The handler of
    another signal may call kernels itself, and has ended when these operations go on.
    """

    def __init__(self, chosen: int | None = None, share: int | None = None) -> None:
        """chosen : how many may compute at a time, where the user has said it
        share : the most otherwise, where processes divide the cores
        """
        self.chosen, self.share = chosen, share
        self._default: int | None = None
        self.lock = threading.RLock()
        self.idle: dict[_Worker, None] = {}
        self.lent: dict[int, list[_Worker]] = {}
        self.staying: dict[int, tuple[Team, list[_Worker]]] = {}

    @property
    def threads(self) -> int:
        """How many may compute at a time."""
        if self.chosen is not None:
            return self.chosen
        # In an attribute of its own: another thread may choose meanwhile.
        if self._default is None:
            self._default = _default_threads()
        return self._default if self.share is None else min(self.share, self._default)

    @property
    def busy(self) -> int:
        """How many threads compute at present, callers among them."""
        return sum(1 + len(workers) for workers in list(self.lent.values()))

    def take(self, wanted: int, workers: list[_Worker]) -> None:
        """Fill an empty list with up to ``wanted - 1``, as far as others have not taken them."""
        with self.lock:
            count = max(0, min(wanted, self.threads - self.busy) - 1)
            if count > 0:
                self._send_away()
            self.lent[id(workers)] = workers
            workers.extend(itertools.islice(self.idle, count))
            for worker in workers:
                self.idle.pop(worker, None)
            try:
                while len(workers) < count:
                    workers.append(_Worker())
                    workers[-1].start()
            except RuntimeError:
                # At the system's limit of threads, or while the interpreter shuts down.
                workers.pop()

    def _send_away(self) -> None:
        """Those that stay for a call that has not come yet."""
        for key, (team, workers) in list(self.staying.items()):
            team.sync[CALLS] = GONE
            self.idle.update(dict.fromkeys(workers))
            workers.clear()
            self.staying.pop(key, None)

    def let_stay(self, team: Team, workers: list[_Worker]) -> None:
        """As ``give_back``, but they look for the caller's next call first."""
        with self.lock:
            self.staying[id(workers)] = team, workers
            self.lent.pop(id(workers), None)

    def call_back(self, workers: list[_Worker]) -> bool:
        """Lend a caller those that it has let stay; False where another has got them."""
        with self.lock:
            self.lent[id(workers)] = workers
            return self.staying.pop(id(workers), None) is not None

    def give_back(self, workers: list[_Worker]) -> None:
        """Keep a caller's workers for the next one, or end those that are too many.

        The caller does it, not the workers: they need the interpreter's lock for that, and the next
        call may come before they get it.
        """
        with self.lock:
            self.lent.pop(id(workers), None)
            self.staying.pop(id(workers), None)
            for worker in workers:
                if worker.is_alive():
                    self.idle[worker] = None
                else:  # Its start was interrupted: should it begin yet, it ends.
                    worker.jobs.put(None)
            workers.clear()
            while len(self.idle) > self.threads - 1:
                self.idle.popitem()[0].jobs.put(None)


# The environment variable is read when a number of threads is first needed: an import should not
# fail because of it, and the command `fastmlp` reports the error in one line.
_pool = _Pool()


def _forget_workers() -> None:
    """A forked child has none of its parent's threads."""
    global _pool
    _pool = _Pool(_pool.chosen, _pool.share)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def set_num_threads(count: int) -> None:
    """Let kernels use up to ``count`` threads, from the next call on.

    Results are the same bits for every count. The default is the number of cores that the process
    may use, by its affinity and its control group's quota, or the environment variable
    ``FASTMLP_NUM_THREADS``; fewer where ``NUMBA_NUM_THREADS`` says so, as in joblib's workers.

    Raises
    ------
    ValueError
        If ``count`` is not a whole number from 1.
    """
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
        raise ValueError(f"count must be a whole number from 1, got {count!r}")
    _pool.chosen = int(count)


def share_threads(count: int) -> None:
    """Let kernels use up to ``count`` threads, unless the user has said how many."""
    if "FASTMLP_NUM_THREADS" not in os.environ:
        _pool.share = count


def get_num_threads() -> int:
    """The number of threads that kernels may use.

    Raises ValueError where ``FASTMLP_NUM_THREADS`` is no whole number from 1.
    """
    return _pool.threads


def run(function: Callable[..., Any], wanted: int, arguments: tuple[Any, ...]) -> Any:
    """Call ``function(team, *arguments)`` on up to ``wanted`` threads at once.

    Returns what part 0, the caller's own, returns. ``function`` must end with a barrier if the
    caller relies on the other parts' work being done.
    """
    workers: list[_Worker] = []
    try:
        try:
            _pool.take(wanted, workers)
            if not workers:
                return function(_ALONE, *arguments)
            return _run_with(workers, function, arguments)
        finally:
            _pool.give_back(workers)
    except BaseException:
        # An interrupt may have come before all were given back.
        _pool.give_back(workers)
        raise


def _run_with(
    workers: list[_Worker], function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    """``run`` on the caller's thread and these."""
    own, *others = _team_of(1 + len(workers))
    return _begin(workers, own, others, function, arguments)


def _team_of(parts: int) -> list[Team]:
    """A new team, as each of its parts sees it."""
    sync = np.zeros(SLOT * (1 + parts), np.int64)
    return [Team(part, parts, sync) for part in range(parts)]


def _begin(
    workers: list[_Worker], own: Team, others: list[Team], function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> Any:  # fmt: skip
    """Give the workers their job, and do part 0."""
    jobs = [(function, (team, *arguments)) for team in others]
    posted: list[None] = []
    try:
        # One call into C: an interrupt comes before it or after it, so that never only some of the
        # workers have a job.
        posted.extend(map(queue.SimpleQueue.put, [worker.jobs for worker in workers], jobs))
        return function(own, *arguments)
    except BaseException as error:
        # An interrupt, or what another signal's handler raised. If that was before part 0 reached
        # its first barrier (it counts in its slot there), the workers still wait for it: it is run
        # once more to let them finish. Code that does not compile fails in every thread.
        while posted and own.sync[SLOT] == 0:
            try:
                function(own, *arguments)
            except KeyboardInterrupt:
                continue
            except Exception:
                break
        raise error


class Crew:
    """Calls of one kernel with the same arguments, between which its threads stay in it.

    They look for the next call for a moment, and then wait for a job as others do: handing over a
    job takes 20 to 40 µs, a call that is looked for less than one. What differs from call to
    call is in memory that the arguments lead to. The kernel uses ``call_up`` and ``called_up`` of
    ``kernels._sync``, and returns GONE where it has done nothing since the others have gone.
    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function, self._arguments = function, arguments
        self._team: Team | None = None
        self._workers: list[_Worker] = []

    def run(self, wanted: int) -> Any:
        """``run`` of the kernel."""
        workers = self._workers
        try:
            team = self._team
            if team is not None and wanted == team.parts and _pool.call_back(workers):
                result = self._function(team, *self._arguments)
                if result != GONE:
                    _pool.let_stay(team, workers)
                    return result
            self._dismiss()
            return self._begin(wanted)
        except BaseException:
            self._dismiss()
            raise

    def _begin(self, wanted: int) -> Any:
        workers: list[_Worker] = []
        self._team, self._workers = None, workers
        _pool.take(wanted, workers)
        if not workers:
            result = self._function(_ALONE, *self._arguments)
            _pool.give_back(workers)
            return result
        team, *others = _team_of(1 + len(workers))
        self._team = team
        result = _begin(workers, team, others, self._function, self._arguments)
        _pool.let_stay(team, workers)
        return result

    def _dismiss(self) -> None:
        if self._team is not None:
            self._team.sync[CALLS] = GONE
        _pool.give_back(self._workers)


def count_for(multiply_adds: float, per_thread: float | None = None) -> int:
    """How many threads to use for so many multiply-adds: 1 ... ``get_num_threads()``.

    per_thread : multiply-adds from which a thread pays, by default ``WORK_PER_THREAD``, which is
        also the most that counts
    """
    per_thread = WORK_PER_THREAD if per_thread is None else min(per_thread, WORK_PER_THREAD)
    return max(1, min(_pool.threads, int(multiply_adds / per_thread)))
