"""What goes to another process: a pickle, and the data beside it, once for all fits.

An array of data is put where workers find it, and the pickle has its number among the handles. One
that is mapped from a file stays there: its handle says where.
"""

from __future__ import annotations

import functools
import io
import mmap
import os
import pickle
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._files import naming

LEAST_BYTES = 1 << 16
"""Arrays below that travel in the pickle: opening a file takes longer."""


class MappedArray(NamedTuple):
    """An array in a file, for a process that sees the file under the same path."""

    path: str
    offset: int  # in bytes, of its first number
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def open(self) -> np.ndarray:
        """The array, read-only; what is read of it is in memory once for all processes."""
        whole = np.memmap(self.path, np.uint8, "r")
        return np.ndarray(self.shape, self.dtype, whole.data, self.offset, self.strides)


def place_in_file(array: np.ndarray) -> MappedArray | None:
    """Where an array, or the one that it is a view of, is mapped from; None if it is not.

    What is written to a copy-on-write map is in no file.
    """
    root: Any = array
    while isinstance(root, np.ndarray) and not isinstance(root.base, mmap.mmap):
        root = root.base
    if not isinstance(root, np.memmap) or root.mode == "c" or root.filename is None:
        return None
    path = os.path.abspath(root.filename)
    if not os.path.exists(path):
        return None
    if root.mode != "r":
        root.flush()
    offset = root.offset + _address(array) - _address(root)
    return MappedArray(path, offset, array.dtype, array.shape, array.strides)


def _address(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class Flag(Protocol):
    """Says to the fits of a sweep that they are to end."""

    def is_set(self) -> bool: ...


class Store(ABC):
    """What workers share with the process that they serve: arrays, each once, and a flag."""

    def __init__(self) -> None:
        # With the array itself: another one could have its address once it is gone.
        self._kept: dict[tuple[Any, ...], tuple[np.ndarray, Any]] = {}
        self._lock = threading.RLock()

    def handle(self, array: np.ndarray) -> Any:
        """What a worker opens the array by. Raises OSError where it cannot be written."""
        placed = place_in_file(array)
        if placed is not None:
            return placed
        key = _address(array), array.shape, array.strides, array.dtype.str
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or not self.has(kept[1]):
                kept = self._kept[key] = array, self.put(array)
        return kept[1]

    @abstractmethod
    def put(self, array: np.ndarray) -> Any:
        """Put it there; its handle."""

    def has(self, handle: Any) -> bool:
        """Whether what was put is still to be had."""
        return True

    @property
    @abstractmethod
    def flag(self) -> Flag:
        """For workers, to be pickled."""

    @abstractmethod
    def set_flag(self) -> None:
        """Fits that run end at their next progress, others do not begin."""

    @abstractmethod
    def close(self) -> None:
        """Remove what was put."""


class FileFlag:
    """Set once there is a file of that name, or its folder is there no more."""

    def __init__(self, path: str) -> None:
        self.path, self._folder_seen = path, False

    def is_set(self) -> bool:
        there = os.path.isdir(os.path.dirname(self.path))
        # A machine that does not see the folder is told nothing.
        self._folder_seen |= there
        return os.path.exists(self.path) if there else self._folder_seen


class Folder(Store):
    """A temporary folder, for workers that share this file system."""

    def __init__(self) -> None:
        super().__init__()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def path(self) -> str:
        """Made when it is first needed: threads of this process need none."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(
                    prefix="fastmlp-", ignore_cleanup_errors=True
                )
            return self._folder.name

    def put(self, array: np.ndarray) -> Any:
        path = os.path.join(self.path, f"{len(self._kept)}.npy")
        # Not through a map: where the disk is full, writing to one ends the process.
        with naming(path):
            np.save(path, array, allow_pickle=False)
        return place_in_file(np.load(path, mmap_mode="r"))

    @property
    def flag(self) -> FileFlag:
        return FileFlag(os.path.join(self.path, "end"))

    def set_flag(self) -> None:
        if self._folder is not None:
            Path(self.flag.path).touch()

    def close(self) -> None:
        self._kept.clear()
        if self._folder is not None:
            self._folder.cleanup()


def packed(value: Any, arguments: Mapping[str, Any], store: Store) -> tuple[bytes, list[Any]]:
    """A pickle of the value, and the handles of the data among the arguments of fit in it."""
    places: dict[int, int] = {}
    handles: list[Any] = []
    for array in _data_of(arguments):
        if places.setdefault(id(array), len(handles)) == len(handles):
            handles.append(store.handle(array))
    stream = io.BytesIO()
    _pickler()(stream, places).dump(value)
    return stream.getvalue(), handles


def unpacked(content: bytes, handles: Sequence[Any]) -> Any:
    """What was packed; the handles may have been opened on their way."""
    return _Unpickler(io.BytesIO(content), handles).load()


def _data_of(arguments: Mapping[str, Any]) -> Iterator[np.ndarray]:
    for value in arguments.values():
        for array in value if isinstance(value, (tuple, list)) else (value,):
            if (
                isinstance(array, np.ndarray)
                and array.nbytes >= LEAST_BYTES
                and not array.dtype.hasobject
            ):
                yield array


@functools.cache
def _pickler() -> Callable[[io.BytesIO, Mapping[int, int]], pickle.Pickler]:
    """With functions of the main program and lambdas, where the package for them is there."""
    try:
        from cloudpickle import Pickler as Base  # It comes with Dask and with loky.
    except ImportError:
        from pickle import Pickler as Base

    class Pickler(Base):
        def __init__(self, stream: io.BytesIO, places: Mapping[int, int]) -> None:
            super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
            self._places = places

        def persistent_id(self, value: Any) -> int | None:
            return self._places.get(id(value))

    return Pickler


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, handles: Sequence[Any]) -> None:
        super().__init__(stream)
        self._handles = handles

    def persistent_load(self, place: Any) -> Any:
        handle = self._handles[place]
        return handle.open() if isinstance(handle, MappedArray) else handle
