"""``train_many``."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

from ..history import History
from ..mlp import MLP
from ..threads import get_num_threads
from ..validation import check_choice, check_count, check_flag, check_instance, check_names
from ._course import Course, Entry, Result
from ._lost import FitLostError, all_of
from ._progress import FitsDone
from ._worker import Ended, generator_of_seed


def train_many(
    fits: Iterable[tuple[MLP, Mapping[str, Any]]],
    max_workers: int | None = None,
    *,
    executor: Executor | Callable[[], Executor] | None = None,
    retries: int = 1,
    progress: bool = False,
    on_error: str = "raise",
) -> list[History]:
    """Fit several networks at the same time, each in a worker of its own.

    fits : pairs of a network and the arguments of its ``fit``
    max_workers : how many fits run at a time, by default ``get_num_threads()``, or as many as the
        executor has workers
    executor : any of ``concurrent.futures``, whose workers may be threads, processes or machines;
        or a function that makes one, which is shut down in the end, and takes the place of one that
        has broken. By default threads of this process
    retries : how often a fit that does not come back from its worker, or for which that had no
        memory, is tried again: after the others, and with no other beside it
    progress : show how many fits have ended, and a line of figures for each; needs Rich
    on_error : "raise" ends all fits by the error of one; "return" has the error in the place of
        its history, and lets the others go on

    Returns their histories in order. Networks and histories are, to the bit, what fitting one after
    the other gives, and so are generators that are given as seeds. An error of one fit, or an
    interrupt, ends them all: it is raised once each is left as of its last finished step, with a
    note that says which entry of ``fits`` raised it.

    In threads a callback that is shared by several fits is called by several of them. Another
    process has a copy of the network, whose numbers, history and unfinished fit come back into the
    caller's, and copies of the callbacks, of which nothing comes back. Arrays of 64 kB and more are
    sent once for all fits: through files in ``tempfile.gettempdir()``, for Dask by ``scatter``;
    those that are mapped from a file are opened by its path. A process takes its share of the
    machine's cores.

    Raises TypeError or ValueError, before the first fit begins, for an entry that is no such pair,
    for a network or a generator that occurs twice, and ``FitLostError`` once the other fits have
    ended, for those that did not come back.

    >>> train_many((network(seed), {"x": x, "labels": y, "seed": seed}) for seed in range(5))
    >>> train_many(fits, executor=ProcessPoolExecutor)
    """
    entries = [_check_entry(f"fits[{i}]", entry) for i, entry in enumerate(fits)]
    _check_own("network", [mlp for mlp, _ in entries])
    _check_own("generator", [generator_of_seed(arguments) for _, arguments in entries])
    check_count("retries", retries, least=0)
    check_flag("progress", progress)
    check_choice("on_error", on_error, ("raise", "return"))
    if max_workers is not None:
        check_count("max_workers", max_workers)
    if executor is None:
        most = min(max_workers or get_num_threads(), max(1, len(entries)))
        course = Course(iter(entries), lambda: ThreadPoolExecutor(most), most, retries)
    elif isinstance(executor, Executor) or callable(executor):
        course = Course(iter(entries), executor, max_workers, retries)
    else:
        raise TypeError(
            f"executor must be one of concurrent.futures, or a function that makes one, "
            f"got {executor!r:.60}"
        )
    returned: type[Exception] = Exception if on_error == "return" else Ended
    results = _results(course, entries, progress, returned)
    _raise_first(course.late | results, returned)
    return [results[i] for i in range(len(entries))]  # type: ignore[misc]


def _results(
    course: Course, entries: Sequence[Entry], progress: bool, returned: type[Exception]
) -> dict[int, Result]:
    """What came of each, or of those until the first error that is not returned."""
    results: dict[int, Result] = {}
    shown = FitsDone(len(entries)) if progress else contextlib.nullcontext()
    with shown as done, contextlib.closing(course.results()) as ends:
        for i, result in ends:
            results[i] = result
            if done is not None:
                done.tell(i, entries[i][0], result)
            # A lost fit takes no other with it.
            if not isinstance(result, (History, FitLostError, returned)):
                break
    return results


def _raise_first(results: Mapping[int, Result], returned: type[Exception]) -> None:
    """Raise the error of the first entry that has one of its own, else that of the lost."""
    lost = []
    for i, result in sorted(results.items()):
        if isinstance(result, (History, Ended, returned)):
            continue
        if not isinstance(result, FitLostError):
            result.add_note(f"raised by fits[{i}] of train_many")
            raise result
        lost.append(result)
    if lost:
        raise all_of(lost)


def _check_own(what: str, owned: Sequence[Any]) -> None:
    """Raise ValueError where an object occurs twice."""
    first: dict[int, int] = {}
    for i, thing in enumerate(owned):
        if thing is not None and first.setdefault(id(thing), i) != i:
            raise ValueError(
                f"fits[{i}] must have a {what} of its own, got that of fits[{first[id(thing)]}] "
                "again"
            )


def _check_entry(name: str, entry: Any) -> Entry:
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
