"""Which epochs have been compiled, and which of them a network is to be trained by."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import Any, NamedTuple

from ._units import Unit
from ._vocabulary import ZEROS, Vocabulary, smallest_with, wider
from .epoch import train_steps


class Epoch(NamedTuple):
    """What a compiled epoch is for."""

    dtype: str  # of the parameters
    unit: type[Unit]
    vocabulary: type[Vocabulary]


def epochs_here() -> set[Epoch]:
    """Those that this process has compiled or loaded."""
    return set(map(_epoch_of, train_steps.signatures))


def epochs_on_disk() -> set[Epoch]:
    """Those whose machine code has been kept."""
    return set(map(_epoch_of, getattr(train_steps._cache, "signatures", list)()))


def _epoch_of(signature: Any) -> Epoch:
    names = list(inspect.signature(train_steps.py_func).parameters)
    network, schedule = (signature[names.index(name)] for name in ("network", "schedule"))
    unit = network.field("packed").field("unit").instance_class
    vocabulary = network.field("vocabulary").instance_class
    return Epoch(schedule.dtype.name, unit, vocabulary)


def is_compiled(dtype: str, unit: Unit, least: Vocabulary) -> bool:
    """Whether there is code on disk for a vocabulary or a larger one."""
    found = epochs_on_disk()
    return any(Epoch(dtype, type(unit), each) in found for each in wider(least))


@lru_cache
def vocabulary_for(dtype: str, unit: Unit, least: Vocabulary, zeros: bool = False) -> Vocabulary:
    """The vocabulary that needs no compiling, or else the smallest that will do.

    dtype : of the parameters    least : what the network and its training have
    zeros : whether ``ZEROS`` would save time. That is no reason to compile where there is code that
        will do, nor to compile any other words.
    """
    wanted = smallest_with(least.words | ZEROS * zeros)
    for enough in (wanted, least):
        for known in (epochs_here(), epochs_on_disk()):
            for each in wider(enough):
                if Epoch(dtype, type(unit), each) in known:
                    return each()
    return wanted if wanted.words & ~ZEROS == least.words else least
