"""What a network has to know of the table it learnt from: columns, categories, classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..validation import check_choice, check_instance
from ._errors import DatasetError

MOST_BYTES = 2 << 20
"""Of a schema in the file of a network, whose header may have 4 MB."""

_CLASSES = (str, int, bool)


class Column(NamedTuple):
    """A column of numbers; or of text, with a feature for each of its categories."""

    name: str
    categories: tuple[str, ...] | None = None

    @property
    def width(self) -> int:
        """How many features it has."""
        return 1 if self.categories is None else len(self.categories)


@dataclass(frozen=True)
class Schema:
    """How the columns of a table become rows of numbers, and what its targets are called.

    columns : those with features, in order, each with its name and, of text, its categories
    targets : the names of the column with the classes, or of those with the targets of a regression
    classes : what stands in the table for the classes 0, 1, ...: texts, whole numbers or truth
        values; None for a regression
    dtype : of the rows, "uint8", "float32" or "float64"

    Raises ValueError or TypeError for anything else, and for two of a name.
    """

    columns: tuple[Column, ...]
    targets: tuple[str, ...]
    classes: tuple[str, ...] | tuple[int, ...] | None
    dtype: str

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, ("uint8", "float32", "float64"))
        for column in self.columns:
            check_instance("a column", column, Column)
            if column.categories is not None:
                _check_different(f"categories of {column.name!r:.60}", column.categories)
        _check_different("columns", [column.name for column in self.columns])
        _check_different("targets", self.targets)
        if both := {column.name for column in self.columns}.intersection(self.targets):
            raise ValueError(f"a target must not be one of the columns, got {min(both)!r:.60}")
        if self.classes is not None:
            kind = type(self.classes[0]) if self.classes else str
            _check_different("classes", self.classes, kind if kind in _CLASSES else str)

    @property
    def width(self) -> int:
        """How many features a row has."""
        return sum(column.width for column in self.columns)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes as texts."""
        return None if self.classes is None else tuple(map(str, self.classes))

    def check_fits(self, inputs: int, outputs: int) -> None:
        """Raise ValueError unless it is one for a network of that many inputs and outputs.

        One that would take more than 2 MB in the network's file is refused, too.
        """
        if self.width != inputs:
            raise ValueError(f"schema must have {inputs} features, got {self.width}")
        names, what = (
            (self.targets, "targets") if self.classes is None else (self.classes, "classes")
        )
        if len(names) != outputs:
            raise ValueError(f"schema must have {outputs} {what}, got {len(names)}")
        # A text within a text: quotes and signs beyond ASCII take more there.
        size = len(json.dumps(json.dumps(self.to_dict())))
        if size > MOST_BYTES:
            raise ValueError(
                f"schema must take at most {MOST_BYTES:,} bytes in a network's file, got {size:,}: "
                "the names of the columns and the categories are too many or too long"
            )

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold: a column of numbers as its name, one of text with its categories."""
        return {
            "columns": [
                name if categories is None else [name, list(categories)]
                for name, categories in self.columns
            ],
            "targets": list(self.targets),
            "classes": None if self.classes is None else list(self.classes),
            "dtype": self.dtype,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Schema:
        """That of ``to_dict``. Raises ValueError or TypeError for anything else."""
        match dict(fields):
            case {"columns": [*columns], "targets": [*targets], "classes": classes, "dtype": dtype}:
                if len(fields) == 4 and isinstance(classes, list | None):
                    names = None if classes is None else tuple(classes)
                    return cls(tuple(map(_column_of, columns)), tuple(targets), names, dtype)
        raise ValueError(
            "a schema must have columns, targets, classes and a dtype, "
            f"got {', '.join(map(str, fields)):.200}"
        )

    def encode(
        self, where: str, values: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """((N, D) features, the rows of each column of text that have none of its categories).

        where : for errors, the file
        values : (N,) numbers or an object array of texts, by the names of the columns

        Raises DatasetError for texts in a column of numbers, for numbers in one of text, and for
        numbers that the dtype cannot hold.
        """
        rows = len(values[self.columns[0].name])
        x, unknown, end = np.empty((rows, self.width), self.dtype), {}, 0
        for column in self.columns:
            found, begin, end = values[column.name], end, end + column.width
            here = f"{where}: column {column.name!r:.60}"
            if column.categories is None:
                x[:, begin] = self._numbers(here, found)
                continue
            if found.dtype != object:
                raise DatasetError(f"{here} must be text, got {found.dtype}")
            known = {text: place for place, text in enumerate(column.categories)}
            places = np.fromiter((known.get(text, -1) for text in found), np.int64, rows)
            x[:, begin:end] = places[:, np.newaxis] == np.arange(column.width)
            if len(others := np.flatnonzero(places < 0)):
                unknown[column.name] = others
        return x, unknown

    def _numbers(self, where: str, values: np.ndarray) -> np.ndarray:
        """A column in the dtype of all."""
        # Of no rows at all the type is not known.
        if values.dtype == object and len(values):
            raise DatasetError(f"{where} must be numbers, got {first_text(values)}")
        with np.errstate(all="ignore"):
            numbers = values.astype(self.dtype)
        held = np.isfinite(numbers) if self.dtype != "uint8" else numbers == values
        if len(bad := np.flatnonzero(~held)):
            raise DatasetError(
                f"{where} must hold {self.dtype}, as the table that the network learnt from, "
                f"got {values[bad[0]]} in row {bad[0] + 1}"
            )
        return numbers


def first_text(values: np.ndarray) -> str:
    """The first text that is no number, and its row; or the first at all, of numbers as text."""
    row = next((row for row, text in enumerate(values) if not _is_number(text)), 0)
    return f"{values[row]!r:.60} in row {row + 1}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _column_of(entry: Any) -> Column:
    match entry:
        case str(name):
            return Column(name)
        case [str(name), [*categories]]:
            return Column(name, tuple(categories))
    raise ValueError(f"a column must be a name, or a name and its categories, got {entry!r:.80}")


def _check_different(what: str, names: Iterable[Any], kind: type = str) -> None:
    """Refuse none, and two that are the same or not of that very type."""
    found = list(names)
    for name in found:
        if type(name) is not kind:
            raise TypeError(f"{what} must all be {kind.__name__}, got {name!r:.60}")
    if not found or len(set(found)) < len(found):
        raise ValueError(f"{what} must be different names, at least one, got {found!r:.60}")
