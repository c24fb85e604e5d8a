"""Tables as scikit-learn's users hand them in: arrays, and frames of pandas, polars and others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np

from ._checked import checked

# Of a frame's columns, what names things instead of counting them.
_NAMES_THINGS = (nw.String, nw.Categorical, nw.Enum, nw.Object, nw.Boolean)


class Table:
    """A table of named columns, read one by one.

    names : of the columns; "x0", "x1", ... of an array     rows : how many there are
    """

    def __init__(self, columns: Any, names: Sequence[str], rows: int) -> None:
        """columns : a narwhals frame, or an (N, D) array."""
        self._columns, self.names, self.rows = columns, list(names), rows

    @property
    def matrix(self) -> np.ndarray | None:
        """All columns at once, (N, D), where they are an array of numbers."""
        columns = self._columns
        is_matrix = isinstance(columns, np.ndarray) and columns.dtype.kind in "fiub"
        return columns if is_matrix else None

    def take(self, indices: np.ndarray) -> Table:
        """The rows of these numbers, as a table."""
        return Table(self._columns[indices], self.names, len(indices))

    def names_things(self, index: int) -> bool:
        """Whether a column's dtype is of categories, strings, booleans or objects, in a frame."""
        if isinstance(self._columns, np.ndarray):
            return False
        return isinstance(self._series(index).dtype, _NAMES_THINGS)

    def numbers(self, index: int) -> np.ndarray:
        """A column as (N,) float64, NaN where a value is missing.

        Raises ValueError or TypeError, naming the column, where it holds anything else.
        """
        try:
            if isinstance(self._columns, np.ndarray):
                return self._columns[:, index].astype(np.float64)
            series = self._series(index)
            if series.dtype.is_numeric() or isinstance(series.dtype, nw.Boolean):
                return series.cast(nw.Float64).to_numpy().astype(np.float64)
            if isinstance(series.dtype, _NAMES_THINGS):
                values = [np.nan if _is_missing(v) else v for v in self.values(index)]
                return np.array(values, np.float64)
        except (TypeError, ValueError) as error:
            raise type(error)(f"column {self.names[index]!r} must hold numbers: {error}") from None
        raise TypeError(
            f"column {self.names[index]!r} must hold numbers or categories, got {series.dtype}"
        )

    def values(self, index: int) -> list[Any]:
        """A column's values as they are."""
        if isinstance(self._columns, np.ndarray):
            return list(self._columns[:, index].tolist())
        return list(self._series(index).to_list())

    def codes(self, index: int, known: dict[Any, int]) -> np.ndarray:
        """The numbers that ``known`` gives to a column's values, (N,); -1 for missing and others.

        Raises TypeError, naming the column, where a value cannot be a key.
        """
        with _naming(self.names[index]):
            codes = [known.get(value, -1) for value in self.values(index)]
        return np.array(codes, np.int64)

    def categories(self, index: int) -> list[Any]:
        """The values that occur in a column, in order, without missing ones."""
        with _naming(self.names[index]):
            found = [value for value in set(self.values(index)) if not _is_missing(value)]
        try:
            return sorted(found)
        except TypeError:
            return sorted(found, key=lambda value: (type(value).__name__, str(value)))

    def _series(self, index: int) -> Any:
        return self._columns[:, index]


class _naming:
    """A context in which a TypeError says which column it is about."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TypeError):
            raise TypeError(f"column {self._name!r} must hold categories: {error}") from None


def _is_missing(value: Any) -> bool:
    # pandas' NA is equal to nothing, not even unequal to itself.
    return value is None or type(value).__name__ == "NAType" or value != value


def read_table(estimator: Any, x: Any, *, reset: bool) -> Table:
    """x as a table, with ``n_features_in_`` and ``feature_names_in_`` set or compared.

    Raises what scikit-learn raises: ValueError for other columns than in fit, for no rows or
    columns, or for other than two dimensions; TypeError for sparse matrices.
    """
    if not nw.dependencies.is_into_dataframe(x):
        array = checked(estimator, x, reset=reset, dtype=None, ensure_all_finite=False, order=None)
        return Table(array, [f"x{i}" for i in range(array.shape[1])], len(array))
    frame = nw.from_native(x, eager_only=True)
    for count, what in zip(frame.shape, ("sample", "feature"), strict=True):
        if count == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={frame.shape}) while a minimum of 1 is "
                f"required by {type(estimator).__name__}."
            )
    checked(estimator, x, reset=reset, skip_check_array=True)
    return Table(frame, [str(name) for name in frame.columns], len(frame))


def categorical_columns(table: Table, given: Any) -> list[int]:
    """Which columns hold categories: those of such a dtype, and those that are given besides.

    given : "from_dtype" for no others, or names, numbers or a mask of columns
    Raises ValueError or TypeError, naming what is no column.
    """
    by_dtype = {i for i in range(len(table.names)) if table.names_things(i)}
    if given is None or (isinstance(given, str) and given == "from_dtype"):
        return sorted(by_dtype)
    chosen = np.asarray(given, dtype=None if len(given) else np.int64)
    columns = len(table.names)
    if chosen.ndim != 1:
        raise ValueError(f"categorical_features must be one-dimensional, got {chosen.shape}")
    if chosen.dtype.kind == "b":
        if len(chosen) != columns:
            raise ValueError(
                f"categorical_features as a mask must have {columns} entries, one per column, "
                f"got {len(chosen)}"
            )
        return sorted(by_dtype | set(np.flatnonzero(chosen).tolist()))
    if chosen.dtype.kind in "iu":
        outside = chosen[(chosen < 0) | (chosen >= columns)]
        if len(outside):
            raise ValueError(
                f"categorical_features must lie in 0 ... {columns - 1}, got {outside[0]}"
            )
        return sorted(by_dtype | set(chosen.tolist()))
    missing = [name for name in chosen.tolist() if name not in table.names]
    if missing:
        raise ValueError(f"categorical_features names {missing[0]!r}, which is no column of X")
    return sorted(by_dtype | {table.names.index(name) for name in chosen.tolist()})
