"""Blocks of rows, as users have them, checked one by one when they are read."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._fit_state import digest
from .datasets._block_files import BLOCK_BYTES, rows_of
from .validation import (
    FLOATS,
    check_all_finite,
    check_count,
    check_real,
    check_samples,
    check_weights,
)

# Bytes of x that a window has by default.
WINDOW_BYTES = 1 << 27

Rows = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def check_rows_finite(
    names: tuple[str, str], x: np.ndarray | None, labels: np.ndarray,
    rows: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Raise ValueError where some of the rows of x or labels, or any, have a NaN or infinity.

    x : None where it is known to have none
    """
    if x is not None:
        check_all_finite(names[0], x, rows)
    if labels.ndim == 2:
        check_all_finite(names[1], labels, rows)


class ArrayBlocks:
    """Rows of arrays, which may be memory maps, in blocks of ``BLOCK_BYTES``."""

    def __init__(self, x: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> None:
        self._arrays = [array for array in (x, labels, weights) if array is not None]
        self._rows = rows_of(BLOCK_BYTES, x.shape[1] * x.itemsize)
        starts = range(0, len(x), self._rows)
        self.row_counts = [min(self._rows, len(x) - start) for start in starts]

    def __len__(self) -> int:
        return len(self.row_counts)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        rows = slice(number * self._rows, (number + 1) * self._rows)
        return tuple(array[rows] for array in self._arrays)

    def name(self, number: int) -> str:
        return f"rows from {number * self._rows} on"


class CheckedBlocks:
    """Blocks that fit a network and each other: looked at whenever they are read.

    Attributes
    ----------
    row_counts : (blocks,) int64
    samples : int, of all blocks
    row_bytes : int, of x
    digests : by the names of ``fit``'s arguments, what tells these blocks from others
    """

    def __init__(self, blocks: Any, mlp: Any, finite: bool) -> None:
        """blocks : see ``MLP.fit``; the first is read.    finite : whether to refuse NaN"""
        self._blocks, self._mlp, self._finite = blocks, mlp, finite
        self._kinds: list[tuple[Any, ...]] | None = None
        self.row_counts = self._count()
        self.samples = int(self.row_counts.sum())
        if not self.samples:
            raise ValueError(f"x must have at least one row, got {len(blocks)} blocks without any")
        first = self.read(int(np.flatnonzero(self.row_counts)[0]))
        x, labels, weights = first
        # Copies, which do not keep the block.
        none = None if weights is None else weights[:0].copy()
        self._example: Rows = x[:0].copy(), labels[:0].copy(), none
        self.row_bytes = first[0].shape[1] * first[0].itemsize
        shares = zip(("x", "labels", "sample_weight"), first, strict=True)
        self.digests: dict[str, Any] = {name: self._digest(array) for name, array in shares}

    def _count(self) -> np.ndarray:
        """As ``row_counts`` says, or by reading all of them."""
        counts = getattr(self._blocks, "row_counts", None)
        if counts is None:
            counts = [len(self._arrays(number)[0]) for number in range(len(self._blocks))]
        if len(counts) != len(self._blocks):
            raise ValueError(
                f"row_counts must have a number for each of {len(self._blocks)} blocks, "
                f"got {len(counts)}"
            )
        return np.array(
            [check_count(f"row_counts[{i}]", count, least=0) for i, count in enumerate(counts)],
            np.int64,
        )

    def _digest(self, array: np.ndarray | None) -> dict[str, Any] | None:
        if array is None:
            return None
        shape = [self.samples, *array.shape[1:]]
        return digest(array) | {"shape": shape, "blocks": digest(self.row_counts)["sha256"]}

    def empty(self, rows: int) -> Rows:
        """Memory for so many rows of all blocks."""
        x, labels, weights = self._example
        by_rows = labels.ndim == 2 and labels.dtype not in FLOATS
        dtype = self._mlp.dtype if by_rows else labels.dtype
        return (
            np.empty((rows, *x.shape[1:]), x.dtype),
            np.empty((rows, *labels.shape[1:]), dtype),
            None if weights is None else np.empty(rows),
        )

    def name(self, number: int) -> str:
        """As messages call a block."""
        named = getattr(self._blocks, "name", None)
        return f"block {number}" + (f", {named(number)}" if callable(named) else "")

    def read(self, number: int) -> Rows:
        """A block: x, what the criterion takes as targets, weights.

        Raises ValueError or TypeError, which name the block, where it does not fit the network, the
        blocks before, or what ``row_counts`` says; and whatever reading it raises.
        """
        name, mlp = self.name(number), self._mlp
        arrays = self._arrays(number)
        self._check_alike(name, arrays)
        x = check_samples(f"{name}: x", arrays[0], mlp.input_size, least_rows=0)
        if len(x) != self.row_counts[number]:
            raise ValueError(
                f"{name} must have {self.row_counts[number]} rows, as row_counts says, got {len(x)}"
            )
        labels = mlp.criterion.check_targets(f"{name}: labels", arrays[1], len(x), mlp.output_size)
        weights = None
        if len(arrays) == 3:
            weights = check_weights(f"{name}: sample_weight", arrays[2], len(x), some=False)
        if self._finite:
            check_rows_finite((f"{name}: x", f"{name}: labels"), x, labels)
        return x, labels.astype(np.int64) if labels.ndim == 1 else labels, weights

    def _arrays(self, number: int) -> list[np.ndarray]:
        name = self.name(number)
        try:
            block = self._blocks[number]
        except Exception as error:
            error.add_note(f"raised by reading {name}")
            raise
        if not isinstance(block, (tuple, list)) or not 2 <= len(block) <= 3:
            raise ValueError(
                f"{name} must be (x, labels) or (x, labels, sample_weight), got {block!r:.60}"
            )
        return [check_real(f"{name}[{i}]", array) for i, array in enumerate(block)]

    def _check_alike(self, name: str, arrays: list[np.ndarray]) -> None:
        """Of the columns and dtypes of the first block."""
        kinds = [(array.shape[1:], array.dtype) for array in arrays]
        if self._kinds is None:
            self._kinds = kinds
        if kinds != self._kinds:
            expected, got = (
                ", ".join(f"{s} {d}" for s, d in each) for each in (self._kinds, kinds)
            )
            raise ValueError(
                f"{name} must have rows of the shapes and dtypes of the first block, {expected}, "
                f"got {got}"
            )
