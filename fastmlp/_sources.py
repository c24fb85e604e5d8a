"""What ``fit`` trains on: arrays, or blocks of rows, checked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from . import callbacks as own
from ._blocks import WINDOW_BYTES, ArrayBlocks, CheckedBlocks, check_rows_finite
from ._windows import Stream, TrainingSet
from .datasets._block_files import rows_of
from .history import FitPlan
from .kernels.held import hold
from .kernels.present import MOST
from .validation import (
    check_count,
    check_flag,
    check_sample_weight,
    check_samples,
)

BLOCKS = "blocks"

# The forms in which x may be held, and the fewest epochs that gain what it takes. Of MNIST either
# gains 10 to 23 ms an epoch on one thread of Zen 4. The pass takes 8 to 23 ms beyond the look for
# NaN, but up to 150 and 400 ms in a virtual machine whose memory the host has to find first.
LEAST_EPOCHS = {np.uint8: 5, np.float32: 20}
# Fewer bytes stay in the second-level cache.
LEAST_BYTES = 1 << 22
# Rows that are looked at for columns of zeros: 0.1 ms of MNIST in float64.
MOST_ROWS = 64
# Multiply-adds a number of x in the forward pass: of an epoch of 784-32-10 reading x is 9 to 23 %,
# of 784-256-10 it is 1 to 4, and beyond that not worth the memory.
MOST_WORK = 300


def data_of_fit(mlp: Any, x: Any, labels: Any, options: Any) -> TrainingSet | Stream:
    """The arrays, or a stream of blocks: of the user's, or of arrays that are shuffled by blocks.

    Raises ValueError or TypeError; so far the values of arrays are not looked at, nor more than
    the first of a user's blocks.
    """
    shuffle, window = options.shuffle, options.window
    if not (isinstance(shuffle, str) and shuffle == BLOCKS):
        if isinstance(shuffle, str):
            raise ValueError(f"shuffle must be True, False or {BLOCKS!r}, got {shuffle!r}")
        check_flag("shuffle", shuffle)
    if window is not None:
        window = check_count("window", window)
    if labels is None or hasattr(x, "row_counts"):
        return _stream(mlp, _users_blocks(x, labels, options.sample_weight), options, window)
    x, labels = check_data("x", "labels", x, labels, mlp)
    weights = check_sample_weight("sample_weight", options.sample_weight, len(x))
    if shuffle == BLOCKS:
        return _stream(mlp, ArrayBlocks(x, labels, weights), options, window)
    if window is not None:
        raise ValueError(f"window needs blocks, or shuffle={BLOCKS!r}, got {window} without them")
    return TrainingSet(x, labels, weights)


def _users_blocks(x: Any, labels: Any, weights: Any) -> Any:
    if isinstance(x, np.ndarray) or hasattr(x, "__array__"):
        raise TypeError("labels must be given with an array x; only blocks have their own")
    if not (hasattr(x, "__len__") and hasattr(x, "__getitem__")):
        raise TypeError(
            f"x without labels must be a sequence of blocks, (x, labels) each, got {x!r:.60}"
        )
    for name, given in (("labels", labels), ("sample_weight", weights)):
        if given is not None:
            raise TypeError(f"{name} must be left out where x is blocks: each has its own")
    if not len(x):
        raise ValueError("x must have at least one block, got none")
    return x


def _stream(mlp: Any, blocks: Any, options: Any, window: int | None) -> Stream:
    checked = CheckedBlocks(blocks, mlp, options.check_finite)
    return Stream(checked, window or rows_of(WINDOW_BYTES, checked.row_bytes))


def check_data(
    x_name: str, labels_name: str, x: Any, labels: Any, mlp: Any
) -> tuple[np.ndarray, np.ndarray]:
    """x and labels that fit the network and each other."""
    x = check_samples(x_name, x, mlp.input_size)
    return x, mlp.criterion.check_targets(labels_name, labels, len(x), mlp.output_size)


def check_set(name: str, data: Any, mlp: Any, finite: bool = True, most: int = 3) -> TrainingSet:
    """(x, labels), and their weights where they may have some, that fit the network."""
    if not isinstance(data, (tuple, list)) or not 2 <= len(data) <= most:
        weighted = " or (x, labels, sample_weight)" if most == 3 else ""
        raise ValueError(f"{name} must be a pair (x, labels){weighted}, got {data!r:.60}")
    names = f"{name}[0]", f"{name}[1]"
    x, labels = check_data(*names, data[0], data[1], mlp)
    if finite:
        check_rows_finite(names, x, labels)
    given = data[2] if len(data) == 3 else None
    return TrainingSet(x, labels, check_sample_weight(f"{name}[2]", given, len(x)))


def held(data: TrainingSet, mlp: Any, plan: FitPlan, callbacks: Sequence[Any] = ()) -> TrainingSet:
    """The same rows for a fit to read: x in a smaller form where the network reads the same bits.

    That is uint8 where all numbers are those of k / 255; else float32 where they are its own, or
    where the network rounds them to it anyway. All of them are finite then, and x is not read
    again: it stays as it is where callbacks might change it, and where another array, a file or
    another process has the memory. Data that are in no smaller form cost a look at the first
    numbers.
    """
    x = data.x
    if not (
        _is_ordinary(x)
        and mlp.layout.multiply_adds <= MOST_WORK * x.shape[1]
        and all(map(_is_own, callbacks))
    ):
        return data
    # Where there is no memory for it, a fit goes without.
    with suppress(MemoryError):
        for form, epochs in LEAST_EPOCHS.items():
            if plan.total_steps < epochs * plan.steps:
                break
            smaller = np.empty_like(x, form)
            # Both in the order in which they lie in memory.
            if smaller.nbytes < x.nbytes and hold(smaller.ravel("K"), x.ravel("K"), mlp.dtype):
                return data._replace(x=smaller)
    return data


def _is_own(callback: Any) -> bool:
    """Whether a callback is one of fastmlp's, which leave the data alone."""
    return type(callback).__module__.startswith(f"{own.__name__}.")


def _is_ordinary(x: Any) -> bool:
    """Whether x is a large array of floats without gaps, in memory that NumPy has taken."""
    if not isinstance(x, np.ndarray) or x.nbytes < LEAST_BYTES or x.dtype.kind != "f":
        return False
    return x.flags.forc and _in_own_memory(x)


def _in_own_memory(x: Any) -> bool:
    """Whether x is in memory that NumPy has taken: no file, and nobody else's."""
    root = x
    while isinstance(root, np.ndarray) and isinstance(root.base, np.ndarray):
        root = root.base
    return isinstance(root, np.ndarray) and root.flags.owndata


def has_columns_of_zeros(x: Any, rows: int) -> bool:
    """Whether a batch of so many rows of x has many, judged by rows from all of it.

    x : an array, or sparse rows of SciPy's. False of an array that is not in memory: it would have
        to be read for that.
    """
    is_sparse = hasattr(x, "indices")
    if not (is_sparse or _in_own_memory(x)):
        return False
    rows = min(rows, MOST_ROWS)
    sample = x[:: max(1, x.shape[0] // rows)][:rows]
    present = np.unique(sample.indices) if is_sparse else np.flatnonzero((sample != 0).any(axis=0))
    return len(present) <= MOST * x.shape[1]
