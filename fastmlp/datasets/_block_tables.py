"""Blocks of rows in tables: the row groups of Parquet files, the batches of Arrow IPC files."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._extras import require
from .._files import in_one_line
from ..validation import nearest
from ._arrow import Batch, batches_of, read_batch
from ._block_files import Kind, Part, check_there, check_unchanged
from ._errors import DatasetError
from ._sizes import check_stated
from ._tables import (
    check_columns,
    check_different,
    check_parquet,
    check_targets,
    names_in,
    shortened,
)


class Columns(NamedTuple):
    """What the columns of a table are for."""

    schema: dict[str, np.dtype]  # all of them, in the file's order
    targets: tuple[str, ...]
    weight: str | None

    @property
    def features(self) -> list[str]:
        return [name for name in self.schema if name not in (*self.targets, self.weight)]

    def kind(self) -> Kind:
        """What the rows are: numbers of one dtype, as ``load_table`` makes them."""
        # uint8 stands for pixels, scaled to [0, 1]: truth values are no such.
        dtypes = self._dtypes(self.features)
        dtype = np.result_type(*(np.float32 if d.kind == "b" else d for d in dtypes))
        labels = np.result_type(*self._dtypes(self.targets))
        return Kind(
            len(self.features), dtype if dtype in (np.uint8, np.float32) else np.dtype(float),
            (len(self.targets),) if len(self.targets) > 1 else (), labels,
            self.weight is not None, tuple(self.schema),
        )  # fmt: skip

    def _dtypes(self, names: Iterable[str]) -> list[np.dtype]:
        return [self.schema[name] for name in names]

    def arrays(self, where: str, table: Any, kind: Kind) -> tuple[np.ndarray, ...]:
        """(x, labels) or (x, labels, weights) of a pyarrow.Table."""
        x = np.empty((table.num_rows, kind.width), kind.dtype)
        for place, name in enumerate(self.features):
            x[:, place] = _values(where, table, name)
        columns = [_values(where, table, name) for name in self.targets]
        labels = np.column_stack(columns) if kind.label_shape else columns[0]
        arrays = x, labels.astype(kind.label_dtype, copy=False)
        return arrays if self.weight is None else (*arrays, _values(where, table, self.weight))


def _values(where: str, table: Any, name: str) -> np.ndarray:
    column = table.column(name)
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise DatasetError(
            f"{where}: column {name!r:.60} must have a value in every row, got none in "
            f"row {row + 1}"
        )
    values: np.ndarray = column.to_numpy()
    return values


class TablePart(NamedTuple):
    """A row group, or a batch: the so-manieth of a file."""

    path: Path
    size: int
    number: int
    rows: int
    kind: Kind
    columns: Columns
    batch: Batch | None = None  # of an Arrow IPC file

    @property
    def name(self) -> str:
        what = "row group" if self.path.suffix == ".parquet" else "batch"
        return f"{self.path}: {what} {self.number}"

    def read(self) -> tuple[np.ndarray, ...]:
        check_unchanged(self.path, self.size)
        # pyarrow raises errors of many classes, its own among them.
        try:
            table = self._table()
        except Exception as error:
            raise DatasetError(f"{self.name}: cannot be read: {in_one_line(error)}") from error
        if table.num_rows != self.rows or _columns_of(table.schema) != self.columns.schema:
            raise DatasetError(f"{self.name}: changed since it was opened")
        return self.columns.arrays(self.name, table, self.kind)

    def _table(self) -> Any:
        if self.batch is None:
            with _open_parquet(self.path) as file:
                return file.read_row_group(self.number, use_threads=False)
        import pyarrow as pa

        row_bytes = _row_bytes(self.columns.schema)
        batch = read_batch(self.path, self.batch, _schema(self.path), row_bytes)
        return pa.Table.from_batches([batch])


def _columns_of(schema: Any) -> dict[str, np.dtype]:
    """Their names and dtypes. Raises ValueError where one is not of numbers."""
    import pyarrow as pa

    check_columns(len(schema))
    check_different(schema.names)
    dtypes = {}
    for field in schema:
        kind = field.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or kind == pa.bool_()):
            raise ValueError(f"column {field.name!r:.60} must be numbers, got {kind!s:.60}")
        dtypes[field.name] = np.dtype(kind.to_pandas_dtype())
    return dtypes


def table_parts(path: Path, target: str, weight: str | None) -> tuple[Kind, list[Part]]:
    """What the rows of a file are, and its row groups or batches.

    target : the name of the column of labels, or several names, separated by commas
    Raises DatasetError, which names the file, and ImportError without pyarrow.
    """
    size = check_there(path)
    require("pyarrow", "tables")
    try:
        look = _look_at_parquet if path.suffix == ".parquet" else _look_at_arrow
        schema, places = look(path)
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read as a table: {in_one_line(error)}") from error
    names = list(schema)
    targets = names_in(target, names)
    check_targets(path, targets, names)
    if weight is not None and (weight not in names or weight in targets):
        raise DatasetError(
            f"{path}: weight must be one of its columns {shortened(names)}, besides the target, "
            f"got {weight!r}{nearest(weight, names)}"
        )
    columns = Columns(schema, tuple(targets), weight)
    if not columns.features:
        raise DatasetError(f"{path}: must have a column besides the target, got none")
    kind = columns.kind()
    return kind, [
        TablePart(path, size, number, rows, kind, columns, batch)
        for number, (rows, batch) in enumerate(places)
        if rows
    ]


# Columns with their dtypes; the rows of each block, and where it lies if need be.
_Found = tuple[dict[str, np.dtype], list[tuple[int, Batch | None]]]


# A footer with a thousand columns takes as long to read as a row group.
@lru_cache(maxsize=16)
def _metadata(path: Path, size: int, changed: int) -> Any:
    from pyarrow.parquet import read_metadata

    return read_metadata(path)


def _open_parquet(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile

    status = path.stat()
    metadata = _metadata(path, status.st_size, status.st_mtime_ns)
    # Not mapped: a file that is cut short would end the process.
    return ParquetFile(path, metadata=metadata, memory_map=False)


def _look_at_parquet(path: Path) -> _Found:
    """Columns, and the rows of each row group."""
    with _open_parquet(path) as file:
        check_parquet(path, file)
        groups = range(file.metadata.num_row_groups)
        counts = [file.metadata.row_group(group).num_rows for group in groups]
        return _columns_of(file.schema_arrow), [(rows, None) for rows in counts]


def _look_at_arrow(path: Path) -> _Found:
    """Columns, and the batches."""
    schema, batches = _columns_of(_schema(path)), batches_of(path)
    check_stated(sum(batch.rows for batch in batches) * _row_bytes(schema), path.stat().st_size)
    return schema, [(batch.rows, batch) for batch in batches]


def _row_bytes(schema: dict[str, np.dtype]) -> int:
    return sum(dtype.itemsize for dtype in schema.values())


def _schema(path: Path) -> Any:
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        return reader.schema
