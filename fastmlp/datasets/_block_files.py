"""Blocks of rows in .npy and .npz files: read as bytes, never mapped.

A memory map of a file that somebody cuts short meanwhile would end the process; reading one raises
an error, which names it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from .._files import in_one_line, naming
from ._errors import DatasetError, check_exists
from ._npz import Header, npz_headers, read_into, read_npy_header, read_npz_again

NPZ_KEYS = ("x", "y", "sample_weight"), ("x", "y")


BLOCK_BYTES = 1 << 20
"""Of x, in a block of an .npy file or an array. A disk that turns reads so many in about the time
that it takes to find them."""


def rows_of(size: int, row_bytes: int) -> int:
    """How many rows have so many bytes, one at least."""
    return max(1, size // max(1, row_bytes))


class Kind(NamedTuple):
    """What the rows of a file are: those of all files must be the same."""

    width: int
    dtype: np.dtype
    label_shape: tuple[int, ...]  # of one row
    label_dtype: np.dtype
    weighted: bool
    columns: tuple[str, ...] | None = None

    def __str__(self) -> str:
        labels = f"labels {self.label_shape} {self.label_dtype}"
        weights = ", weights" * self.weighted
        return f"x ({self.width},) {self.dtype}, {labels}{weights}"


class Part(Protocol):
    """A block in a file."""

    @property
    def path(self) -> Path: ...

    @property
    def rows(self) -> int: ...

    @property
    def name(self) -> str:
        """As messages call it."""

    def read(self) -> tuple[np.ndarray, ...]:
        """(x, labels) or (x, labels, weights). Raises DatasetError, which names the file."""


def check_unchanged(path: Path, size: int) -> None:
    """Raise DatasetError where the file has another size than it had when it was opened."""
    try:
        present = os.stat(path).st_size
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read any more: {error.strerror}") from error
    if present != size:
        raise DatasetError(
            f"{path}: changed since it was opened: it had {size} bytes, got {present}"
        )


def check_there(path: Path) -> int:
    """The size of a file."""
    check_exists(path)
    return os.stat(path).st_size


class NpyFile(NamedTuple):
    """An array in an .npy file."""

    path: Path
    size: int
    header: Header

    def rows(self, first: int, count: int) -> np.ndarray:
        """(count, ...) of them, in the machine's byte order. Raises DatasetError."""
        check_unchanged(self.path, self.size)
        array = np.empty((count, *self.header.shape[1:]), self.header.dtype)
        with naming(self.path), open(self.path, "rb", buffering=0) as file:
            file.seek(self.header.offset + first * (array.nbytes // count))
            try:
                read_into(array, file)
            except ValueError as error:
                raise DatasetError(f"{self.path}: changed while it was read: {error}") from error
        return _native(array)


class NpyPart(NamedTuple):
    """The same rows of the files of x, labels and weights."""

    files: tuple[NpyFile, ...]
    first: int
    rows: int

    @property
    def path(self) -> Path:
        return self.files[0].path

    @property
    def name(self) -> str:
        return f"{self.path}: rows from {self.first} on"

    def read(self) -> tuple[np.ndarray, ...]:
        x, *others = (file.rows(self.first, self.rows) for file in self.files)
        return x.reshape(self.rows, -1), *others


class NpzPart(NamedTuple):
    """A whole archive, whose members are compressed or not: they cannot be read in parts."""

    path: Path
    size: int
    headers: dict[str, Header]

    @property
    def rows(self) -> int:
        return self.headers["x"].shape[0]

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> tuple[np.ndarray, ...]:
        check_unchanged(self.path, self.size)
        x, *others = map(_native, read_npz_again(self.path, self.headers))
        return x.reshape(self.rows, -1), *others


def _native(array: np.ndarray) -> np.ndarray:
    """In the machine's byte order."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def npy_parts(paths: tuple[Path, ...], rows: int | None) -> tuple[Kind, list[Part]]:
    """What the rows are, and blocks of so many of them, by default of a megabyte of x.

    paths : of the files of x, labels and, where there are some, weights
    """
    files = tuple(map(_open_npy, paths))
    x, *others = files
    for file in others:
        if file.header.shape[:1] != x.header.shape[:1]:
            raise DatasetError(
                f"{file.path}: must have as many rows as {x.path}, whose shape is "
                f"{x.header.shape}, got {file.header.shape}"
            )
    kind = _kind_of(str(x.path), [file.header for file in files])
    rows = rows or rows_of(BLOCK_BYTES, kind.width * kind.dtype.itemsize)
    samples = x.header.shape[0]
    starts = range(0, samples, rows)
    return kind, [NpyPart(files, first, min(rows, samples - first)) for first in starts]


def _open_npy(path: Path) -> NpyFile:
    size = check_there(path)
    try:
        with open(path, "rb") as file:
            header = read_npy_header(file, size)
        if header.fortran and len(header.shape) > 1:
            raise ValueError("its rows must lie one after the other (C order), got Fortran's order")
    # numpy's parser of array headers raises errors of a dozen types.
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read as .npy: {in_one_line(error)}") from error
    return NpyFile(path, size, header)


def npz_part(path: Path) -> tuple[Kind, list[Part]]:
    """What the rows of an archive are, and a single block of them."""
    size = check_there(path)
    # Of the longer list of keys first: weights are taken where there are some.
    headers = npz_headers(path, *NPZ_KEYS)
    kind = _kind_of(str(path), headers)
    return kind, [NpzPart(path, size, dict(zip(NPZ_KEYS[0], headers, strict=False)))]


def _kind_of(where: str, headers: Sequence[Header]) -> Kind:
    """Of x, labels and, where there are three, weights. Raises DatasetError."""
    x, labels, *weights = headers
    for header in headers:
        if header.dtype.kind not in "biuf" or header.dtype.itemsize > 8:
            raise DatasetError(f"{where}: must hold numbers of up to 64 bits, got {header.dtype}")
    if len(x.shape) < 2:
        raise DatasetError(f"{where}: x must be (N, D) or (N, ...), got {x.shape}")
    if any(header.shape[:1] != x.shape[:1] for header in headers):
        got = ", ".join(str(header.shape) for header in headers)
        raise DatasetError(f"{where}: x, labels and weights must have as many rows, got {got}")
    return Kind(
        math.prod(x.shape[1:]), x.dtype.newbyteorder("="), labels.shape[1:],
        labels.dtype.newbyteorder("="), bool(weights),
    )  # fmt: skip
