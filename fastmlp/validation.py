"""Checks of what callers hand in: each names what was expected and what came."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
IN_PLACE = (np.dtype(np.uint8), *FLOATS)
EVENTS = ("on_train_begin", "on_progress", "on_epoch_end", "on_train_end")


def check_count(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least ``least``, as an int."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_finite(name: str, value: Any) -> float:
    """A finite real number, as a float."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return float(value)


def check_instance(name: str, value: Any, cls: type) -> None:
    """An object of the class, not the class itself."""
    if not isinstance(value, cls):
        raise TypeError(f"{name} must be an object of class {cls.__name__}, got {value!r}")


def check_sequence(name: str, value: Any) -> list[Any]:
    """A list, tuple or other iterable, as a list."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise TypeError(f"{name} must be a list, got {value!r}")
    return list(value)


def check_callbacks(callbacks: Any) -> list[Any]:
    """Objects with at least one of the methods in ``EVENTS``, as a list."""
    callbacks = check_sequence("callbacks", callbacks)
    for i, callback in enumerate(callbacks):
        methods = [getattr(callback, event) for event in EVENTS if hasattr(callback, event)]
        if isinstance(callback, type) or not methods or not all(map(callable, methods)):
            raise TypeError(
                f"callbacks[{i}] must be an object with one or more of the methods "
                f"{', '.join(EVENTS)}, got {callback!r}"
            )
    return callbacks


def check_dtype(dtype: Any) -> np.dtype[Any]:
    """float32 or float64."""
    if np.dtype(dtype) not in FLOATS:
        raise TypeError(f"dtype must be float32 or float64, got {np.dtype(dtype)}")
    return np.dtype(dtype)


def check_compute_dtype(value: Any, dtype: np.dtype[Any] | None) -> str | None:
    """The name of what the products may be computed in; ``dtype`` is the parameters', if known."""
    if value is None:
        return None
    allowed = ("float32", "float64", "bfloat16", "auto")
    if not isinstance(value, str) or value not in allowed:
        near = difflib.get_close_matches(value, allowed, 1) if isinstance(value, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"compute_dtype must be one of {', '.join(allowed)}, got {value!r}{hint}")
    needed = {"float64": np.float64, "auto": dtype}.get(value, np.float32)
    if dtype is not None and dtype != needed:
        raise ValueError(
            f"compute_dtype={value!r} needs parameters of dtype {np.dtype(needed)}, got {dtype}"
        )
    return value


def check_real(name: str, array: Any) -> np.ndarray:
    """An array of floats, integers or booleans."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold floats or integers, got dtype {array.dtype}")
    return array


def check_matrix(name: str, x: Any, width: int) -> np.ndarray:
    """A real (N, width) array of at least one row, as it is."""
    x = check_real(name, x)
    if x.ndim != 2 or x.shape[1] != width:
        raise ValueError(f"{name} must be (N, {width}), got {x.shape}")
    if len(x) == 0:
        raise ValueError(f"{name} must have at least one row, got shape {x.shape}")
    return x


def check_samples(name: str, x: Any, width: int) -> np.ndarray:
    """A (N, width) array that the engine reads in place; of a foreign byte order, a copy."""
    x = check_matrix(name, x, width)
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if x.dtype not in IN_PLACE:
        raise TypeError(f"{name} must be float32, float64 or uint8, got {x.dtype}")
    return x


def check_labels(name: str, labels: Any, rows: int, classes: int) -> np.ndarray:
    """(rows,) integer classes in [0, classes), or (rows, classes) real numbers, as they are."""
    labels = np.asarray(labels)
    if labels.ndim == 1:
        if labels.dtype.kind not in "iu":
            raise TypeError(
                f"{name} must be integer classes (N,) or rows (N, {classes}), "
                f"got (N,) of dtype {labels.dtype}"
            )
        if len(labels) != rows:
            raise ValueError(
                f"{name} must have {rows} entries, one per row of x, got {len(labels)}"
            )
        if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
            outlier = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(f"{name} must lie in 0 ... {classes - 1}, got {outlier}")
        return labels
    labels = check_real(name, labels)
    if labels.shape != (rows, classes):
        raise ValueError(f"{name} must be ({rows}, {classes}) or ({rows},), got {labels.shape}")
    return labels


def label_rows(labels: np.ndarray, classes: int, dtype: Any) -> np.ndarray:
    """Labels as C-contiguous rows of ``dtype``: a class k becomes the k-th unit vector."""
    if labels.ndim == 2:
        return plain(labels, dtype)
    rows = np.zeros((len(labels), classes), dtype)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def plain(array: Any, dtype: Any) -> np.ndarray:
    """The array itself where it is C-contiguous, aligned, writeable and of ``dtype``, or a copy.

    Anything else would be another type to the compiler, and compile kernels anew.
    """
    # np.require comes to the same array, seven times as slowly.
    if type(array) is np.ndarray and array.dtype == dtype and array.flags.carray:
        return array
    return np.require(array, dtype, ["C", "A", "W"])


def check_shape(name: str, array: np.ndarray, shape: Sequence[int]) -> None:
    """An array of exactly that shape."""
    if array.shape != tuple(shape):
        raise ValueError(f"{name} must be {tuple(shape)}, got {array.shape}")
