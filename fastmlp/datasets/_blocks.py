"""Rows in files that are larger than the memory, block by block."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from ..validation import check_count, check_sequence
from ._block_files import Kind, Part, npy_parts, npz_part
from ._block_tables import table_parts
from ._errors import DatasetError

TABLES = (".parquet", ".arrow", ".feather", ".ipc")
SUFFIXES = (".npy", ".npz", *TABLES)

Source = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


class Blocks(Sequence[tuple[np.ndarray, ...]]):
    """Blocks of rows in files: ``blocks[i]`` reads one, as (x, labels) or (x, labels, weights).

    x : (N, D) numbers    labels : (N,), or (N, K) of several targets    weights : (N,)
    ``open_blocks`` makes them. They can be pickled, and read by several threads at a time: each
    read opens its file. Reading raises DatasetError, which names the file and the row group, batch
    or rows in it, where values are missing, or the file is not what it was when it was opened.

    Attributes
    ----------
    row_counts : tuple of int, the rows of each
    samples : int, all of them
    features : int, D
    dtype : of x
    columns : the names of a table's columns, target and all, or None
    """

    def __init__(self, kind: Kind, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.row_counts = tuple(part.rows for part in parts)
        self.samples = sum(self.row_counts)
        self.features, self.dtype, self.columns = kind.width, kind.dtype, kind.columns

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, number: Any) -> Any:
        return self._parts[number].read()

    def name(self, number: int) -> str:
        """The file of a block, and where it is in there."""
        return self._parts[number].name

    def __repr__(self) -> str:
        return (
            f"Blocks({len(self)} blocks of {self.samples} rows, {self.features} columns of "
            f"{self.dtype})"
        )


def open_blocks(
    files: Source | Iterable[Source], *, target: str | None = None, weight: str | None = None,
    block_rows: int | None = None,
) -> Blocks:  # fmt: skip
    """The rows of files as a sequence of blocks, for ``MLP.fit`` and for loops of ``partial_fit``.

    files : a list of files of one kind, or a single one. All have the same columns, and of each
        column the same dtype.
        .parquet and Arrow IPC (.arrow, .feather, .ipc): tables of numbers; a row group, or a record
        batch, is a block. Needs the extra ``tables``.
        .npz: arrays x (N, ...), y (N,) or (N, K), and perhaps sample_weight (N,), as ``savez`` or
        ``savez_compressed`` writes them; a file is a block.
        A pair (file of x, file of labels) or triple (..., file of weights) of .npy files, in C
        order; so many rows of them are a block.
    target : of tables, the column of labels, or several, "a,b"; the others are features
    weight : of tables, the column of weights, if there is one
    block_rows : of .npy files, by default as many as have a megabyte of x

    No row is read: headers say how many there are. Rows of more than two dimensions become flat.
    Raises DatasetNotFoundError where there is no such file, DatasetError, which names it, for one
    that is not what its name says, states sizes that its bytes cannot have, or has other columns or
    dtypes than the first, ValueError or TypeError for other arguments, ImportError without pyarrow.

    >>> blocks = datasets.open_blocks(sorted(Path("clicks").glob("*.parquet")), target="clicked")
    >>> mlp.fit(blocks, epochs=3, seed=0)
    """
    if block_rows is not None:
        block_rows = check_count("block_rows", block_rows)
    if isinstance(files, (str, os.PathLike)):
        files = [files]
    sources = [_paths(entry) for entry in check_sequence("files", files)]
    if not sources:
        raise ValueError("files must have at least one, got none")
    kinds, parts = [], list[Part]()
    for paths in sources:
        kind, found = _open(paths, target, weight, block_rows)
        kinds.append(kind)
        parts += found
        if kind != kinds[0]:
            raise DatasetError(
                f"{paths[0]}: must have the columns and dtypes of {sources[0][0]}, "
                f"{_differences(kinds[0], kind)}"
            )
    if not parts:
        raise DatasetError(f"{sources[0][0]}: must have at least one row, got none")
    return Blocks(kinds[0], parts)


def _differences(first: Kind, other: Kind) -> str:
    for name, found in zip_longest(first.columns or (), other.columns or ()):
        if name != found:
            return f"{name!r:.60}, got {found!r:.60} in its place"
    return f"{first}, got {other}"


def _paths(entry: Any) -> tuple[Path, ...]:
    if isinstance(entry, (str, os.PathLike)):
        return (Path(entry),)
    return tuple(map(Path, check_sequence("files", entry)))


def _open(
    paths: tuple[Path, ...], target: str | None, weight: str | None, block_rows: int | None
) -> tuple[Kind, list[Part]]:
    """What the rows of a file, or of a pair or triple, are, and its blocks."""
    suffixes = {path.suffix for path in paths}
    if len(suffixes) != 1 or not suffixes <= set(SUFFIXES):
        raise ValueError(
            f"files must end in one of {', '.join(SUFFIXES)}, got {', '.join(map(str, paths))}"
        )
    (suffix,) = suffixes
    if (len(paths) in (2, 3)) != (suffix == ".npy"):
        raise ValueError(
            f"files must be (x, labels) or (x, labels, weights) where they are .npy, and single "
            f"ones otherwise, got {', '.join(map(str, paths))}"
        )
    for name, given in (("target", target), ("weight", weight)):
        if given is not None and suffix not in TABLES:
            raise ValueError(f"{name} is for tables, got {given!r} for {paths[0]}")
    if block_rows is not None and suffix != ".npy":
        raise ValueError(f"block_rows is for .npy files, got {block_rows} for {paths[0]}")
    if suffix in TABLES:
        if target is None:
            raise ValueError(f"target must name the column of {paths[0]} with the labels, got none")
        return table_parts(paths[0], target, weight)
    if suffix == ".npz":
        return npz_part(paths[0])
    return npy_parts(paths, block_rows)
