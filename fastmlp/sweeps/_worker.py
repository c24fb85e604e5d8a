"""A fit in the process of a worker: what comes there, and what goes back."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import secrets
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._cores import usable_cores
from .._fit_state import FitState, network_state, set_network_state
from ..history import History, Progress
from ..mlp import MLP
from ..threads import get_num_threads, set_num_threads
from ._travel import Flag, unpacked

# What an optimizer has that an answer brings back: not functions, which are no longer the same.
_PLAIN = (int, float, bool, tuple, dict, type(None))

# Tells interpreters apart; a forked child has its parent's, and another number.
_INTERPRETER = secrets.token_hex(8)


class Ended(Exception):
    """Another fit has failed, or the user has interrupted."""


class EndWithTheOthers:
    """A callback that ends its fit from within once the flag is set."""

    def __init__(self, flag: Flag) -> None:
        self._flag = flag

    def on_progress(self, progress: Progress) -> None:
        if self._flag.is_set():
            raise Ended


class Job(NamedTuple):
    """What goes to a worker."""

    mlp: MLP
    arguments: Mapping[str, Any]
    flag: Flag
    sharers: int  # processes that share the cores of a machine
    home: str  # the process that it comes from


class Said(NamedTuple):
    """A warning."""

    message: Any
    category: Any
    filename: str
    lineno: int


class Answer(NamedTuple):
    """All that a fit changes of its network, what it returned or raised, and what it said."""

    arrays: dict[str, np.ndarray]
    numbers: dict[str, Any]  # of the network
    optimizer: dict[str, Any]
    unfinished: FitState | None
    history: History | None
    generator: Any  # the state of a generator that was given as the seed
    error: BaseException | None
    heard: list[Said]


def this_process() -> str:
    return f"{_INTERPRETER}-{os.getpid()}"


def fit(mlp: MLP, arguments: Mapping[str, Any], flag: Flag) -> History:
    """One that ends when the flag is set. Raises ``Ended`` then, and what ``MLP.fit`` raises."""
    if flag.is_set():
        raise Ended
    callbacks = (*arguments.get("callbacks", ()), EndWithTheOthers(flag))
    return mlp.fit(**{**arguments, "callbacks": callbacks})


def answer(content: bytes, handles: Sequence[Any]) -> bytes:
    """Run the job that is packed there; returns its ``Answer``, pickled."""
    job: Job = unpacked(content, handles)
    heard: list[Said] = []
    error = None
    at_home = job.home == this_process()
    with contextlib.nullcontext() if at_home else _guests.visit(job.sharers, heard):
        try:
            fit(job.mlp, job.arguments, job.flag)
        except BaseException as raised:
            error = _that_can_travel(raised)
    return pickle.dumps(_answer_of(job, error, heard), pickle.HIGHEST_PROTOCOL)


class Packed(NamedTuple):
    """A fit that was pickled: to be called where it arrives."""

    content: bytes
    handles: list[Any]

    def __call__(self) -> bytes:
        return answer(*self)


def _answer_of(job: Job, error: BaseException | None, heard: list[Said]) -> Answer:
    mlp, bits = job.mlp, generator_of_seed(job.arguments)
    numbers = {"dropout_seed": mlp.dropout_seed, "compute_dtype": mlp.compute_dtype}
    return Answer(
        network_state(mlp), numbers, _plain_values(mlp), mlp.unfinished, mlp.history,
        None if bits is None else bits.state, error, heard,
    )  # fmt: skip


def _plain_values(mlp: MLP) -> dict[str, Any]:
    values = {f.name: getattr(mlp.optimizer, f.name) for f in dataclasses.fields(mlp.optimizer)}
    return {name: value for name, value in values.items() if isinstance(value, _PLAIN)}


def generator_of_seed(arguments: Mapping[str, Any]) -> np.random.BitGenerator | None:
    """What a seed draws its numbers from, where that has a state which a fit changes."""
    seed = arguments.get("seed")
    bits = getattr(seed, "bit_generator", seed)
    return bits if isinstance(bits, np.random.BitGenerator) else None


def take_over(mlp: MLP, arguments: Mapping[str, Any], answer: Answer) -> None:
    """Bring a network, in place, to where its fit has left the worker's copy; say its warnings."""
    for name, value in _changes(_plain_values(mlp), answer.optimizer).items():
        setattr(mlp.optimizer, name, value)
    for name, value in answer.numbers.items():
        if getattr(mlp, name) != value:
            setattr(mlp, name, value)
    set_network_state(mlp, answer.arrays)
    mlp.unfinished, mlp.history = answer.unfinished, answer.history
    bits = generator_of_seed(arguments)
    if bits is not None:
        bits.state = answer.generator
    for said in answer.heard:
        warnings.warn_explicit(*said)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if before.get(name) != value}


def _that_can_travel(error: BaseException) -> BaseException:
    """The error, or one in its words, with a note of where in the worker it was raised."""
    trace = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    if not isinstance(error, Ended):
        error.add_note(f"in a worker:\n{trace}")
    return error


class _Visits:
    """The fits of others that run in this process at present.

    They share its threads, as many as are its part of the cores, and what a warning says is kept
    for the one in whose thread it was said. The last to go leaves both as they were.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: dict[int, list[Said]] = {}
        self._leave: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def visit(self, sharers: int, heard: list[Said]) -> Iterator[None]:
        """sharers : as of ``Job``    heard : gets what this thread's warnings say"""
        with self._lock:
            if not self._heard:
                self._arrive(sharers)
            self._heard[threading.get_ident()] = heard
        try:
            yield
        finally:
            with self._lock:
                del self._heard[threading.get_ident()]
                if not self._heard:
                    self._leave()

    def _arrive(self, sharers: int) -> None:
        before, caught = get_num_threads(), warnings.catch_warnings()
        caught.__enter__()
        warnings.simplefilter("always")
        warnings.showwarning = self._hear
        set_num_threads(max(1, min(before, usable_cores() // sharers)))

        def leave() -> None:
            set_num_threads(before)
            caught.__exit__(None, None, None)

        self._leave = leave

    def _hear(
        self, message: Any, category: Any, filename: str, lineno: int, *rest: Any, **more: Any
    ) -> None:
        heard = self._heard.get(threading.get_ident())
        if heard is not None:
            heard.append(Said(message, category, filename, lineno))


_guests = _Visits()
