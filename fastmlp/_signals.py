"""Signals that end a fit by an exception, Ctrl-C above all, and that are answered between steps."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

# Who sends another signal so many seconds after the first does not want to wait.
PATIENCE = 1.0


class Signals:
    """A context that puts signals off: a bookkeeping of several steps is done whole or not at all.

    ``answer`` calls the handlers of those that have come, which may raise, and so does the end of
    the context; within ``at_once`` they are called as if nobody had put them off. Signals without a
    handler in Python keep their effect. In other threads than the main one, which signals never
    reach, nothing happens.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, Any], Any]] = {}
        self._pending: list[int] = []
        self._first = 0.0
        self._waiting = True

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            try:
                for number in SIGNALS:
                    handler = signal.getsignal(number)
                    if callable(handler):
                        self._handlers[number] = handler
                        signal.signal(number, self._handle)
            except BaseException:
                self._give_back()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._give_back()
        self.answer()

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            # Somebody may have set another one meanwhile.
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        impatient = bool(self._pending) and time.monotonic() - self._first > PATIENCE
        if self._waiting and not impatient:
            if not self._pending:
                self._first = time.monotonic()
            self._pending.append(number)
        else:
            self._handlers[number](number, frame)

    def answer(self) -> None:
        """Call the handlers of the signals that have come."""
        while self._pending:
            number = self._pending.pop(0)
            self._handlers[number](number, sys._getframe())

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A part in which code of somebody else runs, for as long as it likes."""
        before, self._waiting = self._waiting, False
        try:
            yield
        finally:
            self._waiting = before


def puts_off(handler: Any) -> bool:
    """Whether a handler is that of ``Signals`` in the place of Python's own for Ctrl-C."""
    signals = getattr(handler, "__self__", None)
    if not isinstance(signals, Signals):
        return False
    return signals._handlers.get(signal.SIGINT) is signal.default_int_handler
