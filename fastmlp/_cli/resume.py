"""What `fastmlp train` keeps to go on later, and how it does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import typer

from .._ranks import Ranks
from ..callbacks import Checkpoint
from ..mlp import MLP
from .errors import TERMINATED, CommandError
from .models import load

CHECKPOINT = "checkpoint.safetensors"
"""In the folder of the results while the training is not at its end."""

# Options that change nothing of what is trained.
_FREE = ("threads", "data_dir", "checkpoint", "out", "resume", "mpi")


class CommandCheckpoint(Checkpoint):
    """One whose state is the options of the command: they are in every file."""

    def __init__(self, path: Path, seconds: float, options: dict[str, Any]) -> None:
        super().__init__(path, seconds=seconds)
        self.options = options

    def state_dict(self) -> dict[str, Any]:
        return self.options

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do: the command began with them."""


class Job(NamedTuple):
    """A training that can go on later, in a process of its own."""

    options: dict[str, Any]
    seconds: float  # between two checkpoints
    unfinished: MLP | None  # to go on with
    ranks: Ranks
    data_dir: Path | None

    def checkpoint(self, folder: Path) -> Checkpoint:
        return CommandCheckpoint(folder / CHECKPOINT, self.seconds, self.options)


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which a system asks a process to end."""


def _terminate(number: int, frame: Any) -> None:
    raise Terminated


@contextmanager
def answering_sigterm() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does, with an exit status of its own."""
    usual = signal.getsignal(signal.SIGTERM)
    if usual != signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except Terminated:
        raise CommandError("terminated", TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, usual)


def options_to_keep(options: SimpleNamespace, dataset: str) -> dict[str, Any]:
    """What says which training it is, as JSON can hold it.

    dataset : its name, in the place of the one that was not given
    """
    kept = {name: value for name, value in vars(options).items() if name not in _FREE}
    return kept | {"dataset": wherever(options.dataset or dataset)}


def wherever(dataset: str) -> str:
    """A name, or the path of a file that is right in any folder."""
    return str(Path(dataset).resolve()) if Path(dataset).suffix else dataset


def go_on(options: SimpleNamespace, context: typer.Context) -> MLP | None:
    """The network of the folder that --resume names, None without one; its options take effect.

    Raises CommandError where nothing is left to do there, and for options that contradict it.
    """
    folder: Path | None = options.resume
    if folder is None:
        return None
    path = folder / CHECKPOINT
    if not path.exists():
        raise CommandError(
            f"--resume {folder} must be the folder of a training that is not at its end: it has no "
            f"{CHECKPOINT}",
            2,
        )
    mlp = load(path)
    states = () if mlp.unfinished is None else mlp.unfinished.callbacks
    kept = next((state for name, state in states if name == CommandCheckpoint.__name__), None)
    if kept is not None:
        # Files of earlier versions say nothing of shards.
        kept = {"shards": None} | kept
    if kept is None or not kept.keys() >= vars(options).keys() - set(_FREE):
        raise CommandError(f"{path} was not written by fastmlp train: fit(resume=True) may go on")
    sources = {name: context.get_parameter_source(name) for name in vars(options)}
    given = [n for n, source in sources.items() if source and source.name == "COMMANDLINE"]
    _check_given({name: getattr(options, name) for name in given}, kept, folder)
    vars(options).update(kept | {"out": folder})
    return mlp


def _check_given(given: dict[str, Any], kept: dict[str, Any], folder: Path) -> None:
    """Raise CommandError for an option that is not what it was."""
    for name, value in given.items():
        was, got = kept.get(name), value
        if name == "dataset":
            got = wherever(value)
        elif name == "out":
            was, got = folder.resolve(), value.resolve()
        elif name in _FREE:
            continue
        if got != was:
            option = "DATASET" if name == "dataset" else f"--{name.replace('_', '-')}"
            raise CommandError(f"{option} is {was} in the training to go on with, got {value}", 2)
