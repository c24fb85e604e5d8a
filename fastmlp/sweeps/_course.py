"""The course of a sweep: fits are handed over, come back, and are tried again where they do not."""

from __future__ import annotations

import contextlib
import pickle
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import CancelledError, Executor, Future
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from ..history import History
from ..mlp import MLP
from ..validation import check_instance
from ._engine import Engine, engine_of
from ._lost import FitLostError
from ._worker import Answer, Ended, Packed, fit, take_over

Entry = tuple[MLP, Mapping[str, Any]]
Result = History | BaseException


class Lost(NamedTuple):
    """Nothing came back from a worker."""

    reason: str


class Handed:
    """A fit in the hands of an executor, which reports its end to a queue.

    In a thread of this process it trains the caller's network itself; where it is pickled on its
    way to a worker, a copy goes.
    """

    def __init__(self, index: int, entry: Entry, course: Course) -> None:
        self.index, (self.mlp, self.arguments) = index, entry
        self._course = course
        self._engine: Engine | None = None
        self.tries, self.lost = 0, ""  # how often it was lost, and why the last time
        self.begun = False  # in this process
        self.refused = False  # it cannot be pickled
        self.future: Future[Any] | None = None
        self.came: Result | bytes | Lost | None = None

    def hand_to(self, engine: Engine) -> None:
        """Raises what the executor does where it takes no fits."""
        self._engine = engine
        try:
            future = engine.submit(self)
        except Exception as error:
            if not self.refused:
                raise
            self._report(error)
        else:
            self.future = future
            future.add_done_callback(self._done)

    def __call__(self) -> None:
        self.begun = True
        came: Result = Ended()
        try:
            came = fit(self.mlp, self.arguments, self._course.end)
        except BaseException as error:
            came = error
        finally:
            self._report(came)

    def _report(self, came: Result | bytes | Lost) -> None:
        # Dask keeps, and would compute again, what somebody has a future of.
        self.came, self.future = came, None
        self._course.ends.put(self)

    def __reduce__(self) -> tuple[type[Packed], Packed]:
        return Packed, self.packed()

    def packed(self) -> Packed:
        """For a worker in another process."""
        assert self._engine is not None
        try:
            return self._engine.packed(self.mlp, self.arguments)
        except Exception:
            self.refused = True
            raise

    @property
    def is_out(self) -> bool:
        """Whether a worker has it, or may have."""
        return self.came is None and (self.begun or self.future is not None)

    def _done(self, future: Future[Any]) -> None:
        """Called once the future is done, in any thread."""
        error = CancelledError() if future.cancelled() else future.exception()
        if error is None:
            # Without a result it was trained in this process, and has said so.
            if future.result() is not None:
                self._report(future.result())
        elif self.refused and isinstance(error, Exception):
            self._report(error)
        else:
            self._report(Lost(in_words(error)))


def in_words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Course:
    """Fits, and the executor that runs them.

    entries : gives network and arguments of the next fit; None while it waits for the end of one
    executor : an executor, or a function that makes one, which is called again where one breaks
    most : how many fits are handed over at a time; None for as many as there are workers
    retries : how often a fit that did not come back is tried again
    """

    def __init__(
        self,
        entries: Iterator[Entry | None],
        executor: Executor | Callable[[], Executor],
        most: int | None,
        retries: int,
    ) -> None:
        self._entries, self._count = entries, 0
        self._most, self._retries = most, retries
        self._make = None if isinstance(executor, Executor) else executor
        self._engine: Engine | None = None
        if isinstance(executor, Executor):
            self._engine = engine_of(executor)
        self._refusal = ""  # why the engine takes no more fits
        self._answered = 0  # fits that came back from the engine, or were lost there
        self._running: dict[int, Handed] = {}
        self._returned: deque[Handed] = deque()
        # Any of several may have been the one that its worker died of: they are tried again after
        # all others, one at a time, so that it takes no other with it.
        self._alone: deque[Handed] = deque()
        self.ends: SimpleQueue[Handed] = SimpleQueue()
        self.end = threading.Event()
        # What came of those that were running when the course was broken off.
        self.late: dict[int, Result] = {}

    def results(self) -> Generator[tuple[int, Result], None, None]:
        """What each fit returned or raised, as they end.

        Closing it before its end ends those that run as of their last finished step.
        """
        try:
            while self._hand_over():
                handed = self._next_end()
                result = self._judge(handed)
                if result is not None:
                    yield handed.index, result
            yield from self._not_taken()
        finally:
            self._close()

    def _hand_over(self) -> bool:
        """Give all workers a fit; whether one is under way."""
        while (engine := self._ready()) is not None and (handed := self._take()) is not None:
            self._running[handed.index] = handed
            try:
                handed.hand_to(engine)
            except Exception as error:
                del self._running[handed.index]
                (self._alone if handed.tries else self._returned).appendleft(handed)
                self._refusal = in_words(error)
        return bool(self._running)

    def _ready(self) -> Engine | None:
        """That of an executor that takes another fit; one that has broken is replaced."""
        if self._engine is None or self._refusal:
            return None if self._running else self._renewed()
        most = self._most or self._engine.workers or sys.maxsize
        return self._engine if len(self._running) < most else None

    def _renewed(self) -> Engine | None:
        """With a new executor; None where there is none, and where the last took not one fit."""
        if self._make is None or (self._refusal and not self._answered):
            return None
        if self._engine is not None:
            self._engine.close()
        executor = self._make()
        check_instance("executor()", executor, Executor)
        self._engine, self._refusal, self._answered = engine_of(executor, own=True), "", 0
        return self._engine

    def _take(self) -> Handed | None:
        if self._returned:
            return self._returned.popleft()
        entry = next(self._entries, None)
        if entry is not None:
            self._count += 1
            return Handed(self._count - 1, entry, self)
        return self._alone.popleft() if self._alone and not self._running else None

    def _next_end(self) -> Handed:
        """Wait for it; a signal that comes just before is answered when it looks again."""
        while True:
            with contextlib.suppress(Empty):
                handed = self.ends.get(timeout=0.1)
                del self._running[handed.index]
                self._answered += 1
                return handed

    def _judge(self, handed: Handed) -> Result | None:
        """What came of a fit; None where it is to be tried again."""
        came = handed.came
        if isinstance(came, bytes):
            answer: Answer = pickle.loads(came)
            # Alone it may have memory enough.
            if isinstance(answer.error, MemoryError) and self._again(handed):
                return None
            return self._taken_over(handed, answer)
        if not isinstance(came, Lost):
            return came
        handed.lost = came.reason
        if self._again(handed):
            return None
        times = "" if handed.tries == 1 else f", {handed.tries} times"
        reason = f"nothing came back from the worker{times}: {came.reason}"
        return FitLostError([handed.index], reason)

    def _again(self, handed: Handed) -> bool:
        handed.tries += 1
        if handed.tries > self._retries:
            return False
        handed.came = None
        self._alone.append(handed)
        return True

    def _taken_over(self, handed: Handed, answer: Answer) -> Result:
        try:
            take_over(handed.mlp, handed.arguments, answer)
        except Warning as warning:  # As an error: so the caller's filters want it.
            return warning
        result = answer.history if answer.error is None else answer.error
        assert result is not None
        return result

    def _not_taken(self) -> Iterator[tuple[int, Result]]:
        """Those that are left where the executor takes no more."""
        left = [*self._returned, *self._alone]
        if self._refusal:
            rest = iter(lambda: next(self._entries, None), None)
            left += [Handed(self._count + i, entry, self) for i, entry in enumerate(rest)]
        for handed in left:
            first = f"nothing came back from the worker: {handed.lost}; " if handed.lost else ""
            reason = f"{first}the executor takes no more fits: {self._refusal}"
            yield handed.index, FitLostError([handed.index], reason)

    def _close(self) -> None:
        try:
            if self._running:
                self._break_off()
        finally:
            if self._engine is not None:
                self._engine.close()

    def _break_off(self) -> None:
        """End those that run. One whose handing over was interrupted does not begin any more."""
        self._retries = 0
        self.end.set()
        if self._engine is not None:
            # A cluster may be gone.
            with contextlib.suppress(Exception):
                self._engine.store.set_flag()
        while any(handed.is_out for handed in self._running.values()):
            # Not what it gives: an interrupt may have come once that was taken.
            with contextlib.suppress(Empty):
                self.ends.get(timeout=0.1)
        for handed in self._running.values():
            result = self._judge(handed)
            if result is not None:
                self.late[handed.index] = result
