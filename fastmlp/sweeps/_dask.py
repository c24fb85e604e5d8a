"""Dask's workers: data are scattered to them, and they look at an event of the scheduler."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import Executor, Future
from typing import Any

import numpy as np
from distributed import Client, Event
from distributed.cfexecutor import ClientExecutor

from ._engine import Engine, Fit
from ._travel import Store
from ._worker import answer

# Seconds between two questions to the scheduler.
_BETWEEN_LOOKS = 0.5


def client_of(executor: Executor) -> Client | None:
    """Whose ``get_executor`` has made it, if it is one of Dask's; nothing else says so."""
    return executor._client if isinstance(executor, ClientExecutor) else None


class _EventFlag:
    """An event of the scheduler, which a worker asks for now and then."""

    def __init__(self, event: Event) -> None:
        self._event, self._next, self._is_set = event, 0.0, False

    def is_set(self) -> bool:
        now = time.monotonic()
        if not self._is_set and now >= self._next:
            self._is_set, self._next = self._event.is_set(), now + _BETWEEN_LOOKS
        return self._is_set


class _Scattered(Store):
    """Arrays as futures of a client, with a copy for each worker."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client, self._event = client, Event(client=client)

    def put(self, array: np.ndarray) -> Any:
        return self._client.scatter(array, broadcast=True, hash=False)

    def has(self, handle: Any) -> bool:
        """Not once all workers that had it have died."""
        return handle.status in ("finished", "pending")

    @property
    def flag(self) -> _EventFlag:
        return _EventFlag(self._event)

    def set_flag(self) -> None:
        self._event.set()

    def close(self) -> None:
        self._kept.clear()
        self._event.clear()


class DaskEngine(Engine):
    """The executor of a client."""

    def __init__(self, executor: Executor, own: bool, client: Client) -> None:
        super().__init__(executor, own, _Scattered(client))
        self._client = client

    @property
    def workers(self) -> int | None:
        return sum(self._client.nthreads().values()) or None

    @property
    def sharers(self) -> int:
        """Processes: threads of one share what that has."""
        hosts = Counter(address.rpartition(":")[0] for address in self._client.nthreads())
        return max(hosts.values(), default=1)

    def submit(self, fit: Fit) -> Future[Any]:
        # Dask puts arrays in the place of its futures where they are arguments.
        arguments: dict[str, Any] = {"pure": False}  # Two equal fits are two all the same.
        return self.executor.submit(answer, *fit.packed(), **arguments)
