"""Training several networks side by side, one per core: seeds, learning rates, batch sizes."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

from .history import History, Progress
from .mlp import MLP
from .threads import get_num_threads
from .validation import check_count, check_instance, check_names


class _Ended(Exception):
    """Another fit of the sweep has failed, or the user has interrupted."""


def _wait(ends: SimpleQueue[None]) -> None:
    """Until one more has ended; a signal that comes just before is answered when it looks again."""
    while True:
        with contextlib.suppress(Empty):
            return ends.get(timeout=0.1)


class _EndWithTheOthers:
    """A callback that ends its fit from within when the event is set."""

    def __init__(self, event: threading.Event) -> None:
        self._event = event

    def on_progress(self, progress: Progress) -> None:
        if self._event.is_set():
            raise _Ended


def train_many(
    fits: Iterable[tuple[MLP, Mapping[str, Any]]], max_workers: int | None = None
) -> list[History]:
    """Fit several networks at the same time, each on a core of its own.

    fits : pairs of a network and the arguments of its ``fit``. A callback that is shared by several
        fits is called from several threads.
    max_workers : how many fits run at a time, by default ``get_num_threads()``

    Returns their histories in order. Networks and histories are, to the bit, what fitting one after
    the other gives. An error of one fit, or an interrupt, ends them all: it is raised once each is
    left as of its last finished step, with a note that says which entry of ``fits`` raised it.

    Raises TypeError or ValueError, before the first fit begins, for an entry that is no such pair
    and for a network that occurs twice.

    >>> train_many((network(seed), {"x": x, "labels": y, "seed": seed}) for seed in range(5))
    """
    fits = [_check_entry(f"fits[{i}]", entry) for i, entry in enumerate(fits)]
    entries: dict[int, int] = {}
    for i, (mlp, _) in enumerate(fits):
        if (first := entries.setdefault(id(mlp), i)) != i:
            raise ValueError(
                f"fits[{i}] must have a network of its own, got that of fits[{first}] again"
            )
    limit = get_num_threads() if max_workers is None else check_count("max_workers", max_workers)
    # None begins before all are handed over: the executor loses sight of a thread whose start is
    # interrupted, and would not wait for its fit. Their ends are counted by a queue as well, since
    # an interrupt inside concurrent.futures.wait can leave a lock taken.
    begin: SimpleQueue[None] = SimpleQueue()
    ends: SimpleQueue[None] = SimpleQueue()
    end = threading.Event()

    def fit(mlp: MLP, arguments: Mapping[str, Any]) -> History:
        begin.get()
        try:
            if end.is_set():
                raise _Ended
            callbacks = (*arguments.get("callbacks", ()), _EndWithTheOthers(end))
            return mlp.fit(**{**arguments, "callbacks": callbacks})
        except BaseException:
            end.set()
            raise
        finally:
            ends.put(None)

    with ThreadPoolExecutor(min(limit, max(1, len(fits)))) as executor:
        try:
            futures = [executor.submit(fit, *pair) for pair in fits]
            for _ in fits:
                begin.put(None)
            for _ in fits:
                _wait(ends)
        finally:
            end.set()
            for _ in fits:
                begin.put(None)
    for i, future in enumerate(futures):
        error = future.exception()
        if error is not None and not isinstance(error, _Ended):
            error.add_note(f"raised by fits[{i}] of train_many")
            raise error
    return [future.result() for future in futures]


def _check_entry(name: str, entry: Any) -> tuple[MLP, Mapping[str, Any]]:
    """A network and arguments that its ``fit`` has."""
    if not isinstance(entry, (tuple, list)) or len(entry) != 2:
        raise TypeError(f"{name} must be a pair (network, arguments of fit), got {entry!r:.60}")
    mlp, arguments = entry
    check_instance(f"{name}[0]", mlp, MLP)
    if not isinstance(arguments, Mapping):
        raise TypeError(f"{name}[1] must be a mapping of fit's arguments, got {arguments!r:.60}")
    try:
        check_names(MLP.fit, arguments)
        inspect.signature(mlp.fit).bind(**arguments)
    except TypeError as error:
        raise TypeError(f"{name}[1]: {error}") from None
    return mlp, arguments
