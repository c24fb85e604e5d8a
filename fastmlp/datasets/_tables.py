"""Tables with named columns, .csv and .parquet: features as numbers, classes or targets."""

from __future__ import annotations

import csv
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._extras import require
from .._files import in_one_line
from .._machine import release
from ..validation import check_instance, nearest
from ._dataset import CLASSIFICATION, Dataset, hold_out_fifth
from ._errors import DatasetError, check_exists
from ._npz import image_shape
from ._schema import Column, Schema, first_text
from ._sizes import check_stated

TABLE_SUFFIXES = (".csv", ".parquet")

MOST_COLUMNS = 100_000
"""pandas takes a kilobyte and 25 µs for each, where a file has two bytes for it."""

# Bytes of a value in memory, by Parquet's physical types.
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8}

MOST_CATEGORIES = 100
"""Different texts that a column may have: one with more is a name or a note, not a category."""


def load_table(path: Path, target: str | None, task: str = CLASSIFICATION) -> Dataset:
    """The rows of a table, of which a fifth is held out; its columns have different names.

    Numbers are taken as they are: a table of uint8 or float32 alone as such, any other as float64.
    A column of text has a feature for each of its texts, in sorted order, 1 where the row has it
    and 0 elsewhere. The target's values, text or whole numbers, are numbered in sorted order; for
    regression the targets are numbers, float32 where all of them are, otherwise float64.

    Raises DatasetError, which names file and column, ValueError without a target, and ImportError
    without pandas.
    """
    check_exists(path)
    if target is None:
        what = "classes" if task == CLASSIFICATION else "targets"
        raise ValueError(f"target must name the column of {path} with the {what}, got none")
    frame = _read(path)
    targets = [target] if task == CLASSIFICATION else names_in(target, frame.columns)
    check_targets(path, targets, frame.columns.tolist())
    if len(frame) < 2:
        raise DatasetError(
            f"{path}: must have at least 2 rows to hold out a fifth, got {len(frame)}"
        )
    classes = None
    if task == CLASSIFICATION:
        y, classes = _classes(f"{path}: target {target!r}", frame[target])
    else:
        y = _numbers(path, frame[targets])
    values = _columns(path, frame.drop(columns=targets))
    schema = Schema(_learnt(path, values), tuple(targets), classes, _dtype_of(values))
    x, _ = schema.encode(str(path), values)
    data = hold_out_fifth(path.stem, x, y, image_shape(x), task)
    return replace(data, schema=schema)


class TableRows(NamedTuple):
    """The rows of a table as a network takes them.

    x : (N, D) uint8, float32 or float64
    unknown : by the names of columns of text, the rows, from 0, whose text is none of the column's
        categories: in x all its features are 0 there
    """

    x: np.ndarray
    unknown: dict[str, np.ndarray]


def load_rows(path: str | os.PathLike[str], schema: Schema) -> TableRows:
    """The rows of a .csv or .parquet table as those of another were read, for which schema is.

    Its columns are found by their names, in any order; what else it has, targets too, is left
    alone.

    Raises DatasetNotFoundError where there is no such file; DatasetError where it cannot be read,
    lacks a column, or has values in one that are missing, or neither such numbers nor texts as
    schema says; ValueError for another suffix; ImportError without pandas, or pyarrow where it is
    .parquet.
    """
    check_instance("schema", schema, Schema)
    path = Path(path)
    if path.suffix not in TABLE_SUFFIXES:
        raise ValueError(f"a table must end in {' or '.join(TABLE_SUFFIXES)}, got {str(path)!r}")
    names = [column.name for column in schema.columns]
    frame = _read(path, schema.columns)[names]
    return TableRows(*schema.encode(str(path), _columns(path, frame)))


def names_in(target: str, columns: Any) -> list[str]:
    """The column of that name, or the columns whose names it lists, separated by commas."""
    return [target] if target in columns else [name.strip() for name in target.split(",")]


def check_targets(path: Path, targets: list[str], known: list[str]) -> None:
    for i, name in enumerate(targets):
        if name not in known:
            raise DatasetError(
                f"{path}: target must be one of its columns {shortened(known)}, "
                f"got {name!r}{nearest(name, known)}{_separators(path, known)}"
            )
        if name in targets[:i]:
            raise DatasetError(f"{path}: target must name different columns, got {name!r} twice")


def _read(path: Path, wanted: Sequence[Column] | None = None) -> Any:
    """The data frame, columns named by texts. Whatever is wrong with the file is a DatasetError.

    wanted : columns that it must have; by default all that it has
    """
    check_exists(path)
    require("pandas", "tables")
    if path.suffix == ".parquet":
        require("pyarrow", "tables")
    try:
        frame = (_read_csv if path.suffix == ".csv" else _read_parquet)(path, wanted)
        frame.columns = [str(name) for name in frame.columns]
        # One that pandas takes for the index is none.
        _check_wanted(path, wanted, frame.columns.tolist())
        return frame
    except DatasetError:
        raise
    # pandas and pyarrow raise errors of many classes, the latter's own among them.
    except Exception as error:
        what = path.suffix.removeprefix(".")
        raise DatasetError(f"{path}: cannot be read as {what}: {in_one_line(error)}") from error


def _read_csv(path: Path, wanted: Sequence[Column] | None) -> Any:
    import pandas as pd

    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = filter(None, csv.reader(file))
        names, first = next(rows, []), next(rows, [])
    check_columns(len(names))
    check_different(names)
    longer = f"rows must have at most {len(names)} fields, as the first one has"
    longer += _separators(path, names)
    # Of longer rows pandas takes the first fields for their names, and shifts the others: in time
    # that grows with the square of how many.
    if len(first) > len(names):
        raise ValueError(longer)
    # Categories may look like numbers, all that a file has of them at least.
    texts = {name: str for name, categories in wanted or () if categories is not None}
    # The float64 next to what a number's text says. pandas 3.1 and later warn who asks for it.
    asked = release(pd.__version__) < (3, 1)
    exact: Any = {"float_precision": "round_trip"} if asked else {}
    # In pieces, a column of numbers and texts would be both.
    frame = pd.read_csv(path, low_memory=False, dtype=texts, **exact)
    # It ends lines where csv does not, too.
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(longer)
    return frame


def _check_wanted(path: Path, wanted: Sequence[Column] | None, found: list[str]) -> None:
    names, known = [name for name, _ in wanted or ()], set(found)
    if missing := [name for name in names if name not in known]:
        raise DatasetError(
            f"{path}: must have the columns {shortened(names)}, lacks {shortened(missing)}"
            f"{nearest(missing[0], found)}{_separators(path, found)}"
        )


def _separators(path: Path, names: Sequence[str]) -> str:
    """What to do about the columns of a .csv that seem to be one, since no commas separate them."""
    if path.suffix != ".csv" or len(names) != 1:
        return ""
    found = next((sign for sign in ";\t|" if sign in names[0]), None)
    return "" if found is None else f"; columns must be separated by commas, not by {found!r}"


def check_different(names: list[str]) -> None:
    """pandas would rename the second of two, in time that grows with the square of how many."""
    for name, other in itertools.pairwise(sorted(filter(None, names))):
        if name == other:
            raise ValueError(f"columns must have different names, got {name!r:.60} twice")


def _read_parquet(path: Path, wanted: Sequence[Column] | None) -> Any:
    import pandas as pd
    from pyarrow.parquet import ParquetFile

    names = None if wanted is None else [name for name, _ in wanted]
    with ParquetFile(path) as file:
        _check_wanted(path, wanted, [column.path for column in file.schema])
        columns, rows = check_parquet(path, file, names)
    # A text that rows refer to is not copied for each of them. pyarrow can do so unless texts are
    # of an encoding DELTA_..., where two kilobytes become a gigabyte.
    texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    chosen = None if wanted is None else [column.path for column in columns]
    frame = pd.read_parquet(path, engine="pyarrow", columns=chosen, read_dictionary=texts)
    if len(frame) != rows:
        raise ValueError(f"{rows} rows are promised, {len(frame)} follow")
    return frame


def check_parquet(
    path: Path, file: Any, wanted: Sequence[str] | None = None
) -> tuple[list[Any], int]:
    """The columns of an open pyarrow.parquet.ParquetFile, and how many rows it has.

    wanted : names of columns, to leave out all others; by default all are wanted
    Raises ValueError for lists, too many columns, and sizes that its bytes cannot have.
    """
    columns = [file.schema.column(place) for place in range(len(file.schema))]
    stated, groups = file.metadata, range(file.metadata.num_row_groups)
    rows = sum(stated.row_group(group).num_rows for group in groups)
    if rows != stated.num_rows:
        raise ValueError(f"{stated.num_rows} rows are promised, and {rows} in its parts")
    check_columns(len(columns))
    if wanted is not None:
        kept = set(wanted)
        columns = [column for column in columns if column.path in kept]
    for column in columns:
        if column.max_repetition_level > 0:
            raise ValueError(f"column {column.path!r:.60} must be numbers or text, got lists")
    sizes = [_WIDTHS.get(column.physical_type, column.length or 8) for column in columns]
    # Runs of equal values take a few bytes, whatever their length.
    check_stated(rows * sum(sizes), path.stat().st_size)
    return columns, rows


def check_columns(columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise ValueError(f"must have at most {MOST_COLUMNS:,} columns, got {columns:,}")


def _classes(where: str, column: Any) -> tuple[np.ndarray, tuple[Any, ...]]:
    """(classes from 0, what stands for them) of a column of text or whole numbers."""
    values = _values(where, column)
    if values.dtype.kind == "f" and len(broken := np.flatnonzero(values % 1)):
        raise DatasetError(
            f"{where} must be text or whole numbers, one class for each row, "
            f"got {values[broken[0]]} in {_row(broken)}; for numbers: --task regression, "
            'in Python task="regression"'
        )
    classes, found = _numbered(values)
    if len(found) < 2:
        raise DatasetError(f"{where} must have at least 2 classes, got only {found[0]!s:.60}")
    if values.dtype.kind == "f":
        found = [int(value) for value in found]
    return classes, tuple(found)


def _numbers(path: Path, frame: Any) -> np.ndarray:
    """The targets in the columns of a table: (N,) of a single one, (N, K) of several."""
    columns = []
    for name in frame.columns:
        where = f"{path}: target {name!r}"
        values = _values(where, frame[name])
        if values.dtype.kind == "O":
            raise DatasetError(f"{where} must be numbers for regression, got {first_text(values)}")
        columns.append(values)
    single = all(values.dtype == np.float32 for values in columns)
    y = np.column_stack(columns).astype(np.float32 if single else np.float64)
    return y[:, 0] if len(columns) == 1 else y


def _numbered(values: np.ndarray) -> tuple[np.ndarray, list[Any]]:
    """((N,) int64 places, the different values in sorted order); NumPy would sort all texts."""
    import pandas as pd

    places, found = pd.factorize(values, sort=True)
    return places.astype(np.int64), found.tolist()


def _columns(path: Path, frame: Any) -> dict[str, np.ndarray]:
    """The values of all columns by name, as ``Schema.encode`` takes them."""
    return {name: _values(f"{path}: column {name!r:.60}", frame[name]) for name in frame.columns}


def _learnt(path: Path, values: Mapping[str, np.ndarray]) -> tuple[Column, ...]:
    """The columns of a table, with the categories of those of text."""
    columns = []
    for name, found in values.items():
        if found.dtype != object:
            columns.append(Column(name))
            continue
        _, texts = _numbered(found)
        if len(texts) > MOST_CATEGORIES:
            raise DatasetError(
                f"{path}: column {name!r:.60} must be numbers, or text of at most "
                f"{MOST_CATEGORIES} categories, got {len(texts)} different texts"
            )
        columns.append(Column(name, tuple(texts)))
    if not columns:
        raise DatasetError(f"{path}: must have a column besides the target, got none")
    return tuple(columns)


def _dtype_of(values: Mapping[str, np.ndarray]) -> str:
    """One that holds all columns: "uint8" and "float32" where that is enough, or "float64"."""
    # uint8 stands for pixels, scaled to [0, 1]: truth values and categories are no such.
    found = {np.dtype(np.float32) if v.dtype.kind in "bO" else v.dtype for v in values.values()}
    dtype = np.result_type(*found)
    return dtype.name if dtype in (np.uint8, np.float32) else "float64"


def _values(where: str, column: Any) -> np.ndarray:
    """A column as booleans, finite numbers, or an object array of text; none of it missing."""
    missing = np.flatnonzero(column.isna())
    if len(missing):
        raise DatasetError(f"{where} must have a value in every row, got none in {_row(missing)}")
    kind = column.dtype.kind
    if kind == "O":
        values: np.ndarray = column.astype(object).to_numpy()
        other = next((value for value in values if not isinstance(value, str)), None)
        if other is not None:
            raise DatasetError(f"{where} must be numbers or text, got {other!r:.60} in it")
        return values
    if kind not in "biuf":
        raise DatasetError(f"{where} must be numbers or text, got {column.dtype}")
    # Nullable types of pandas, once nothing is missing, are NumPy's.
    numbers: np.ndarray = column.to_numpy(getattr(column.dtype, "numpy_dtype", column.dtype))
    if kind == "f" and len(bad := np.flatnonzero(~np.isfinite(numbers))):
        raise DatasetError(f"{where} must be finite, got {numbers[bad[0]]} in {_row(bad)}")
    return numbers


def _row(rows: np.ndarray) -> str:
    """The first of the rows, counted from 1 as a reader of the table does, without its names."""
    return f"row {rows[0] + 1}"


def shortened(names: list[str]) -> str:
    return in_one_line(", ".join(names[:10] + ["..."] * (len(names) > 10)))
