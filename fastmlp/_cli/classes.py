"""Remarks on the labels of a data set, made before a network is trained on it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from .._files import in_one_line
from ..datasets import Dataset, Schema
from .errors import CommandError
from .lines import say

MOST_UNUSED = 10_000
"""Outputs without a sample that a network may have; with 256 hidden units they take 10 MB."""

MOST_NUMBERS = 30
"""Whole numbers that a table may have for classes before it is asked whether they are values."""

MOST_SHOWN = 5
MOST_NAMED = 20

_RENUMBER = "np.unique(labels, return_inverse=True)[1] numbers the classes from 0 without gaps"


def check_classes(data: Dataset) -> None:
    """Print on standard error which classes have no training sample, if some have none.

    A network has an output for every number from 0 to the largest label. Raises CommandError when
    more than MOST_UNUSED of the outputs, and more than half of them, would have no sample.
    """
    found, outputs = np.unique(data.train_y), data.num_classes
    unused = outputs - len(found)
    if unused > max(MOST_UNUSED, len(found)):
        raise CommandError(
            f"{data.name}: the labels have {_counted(len(found), 'value')} but go up to "
            f"{outputs - 1}, and a network has an output for every number up to there; {_RENUMBER}"
        )
    if unused:
        gaps = _gaps(found, outputs)
        hint = "subtract 1 from labels that count from 1" if gaps == [(0, 0)] else _RENUMBER
        say(
            f"{data.name}: of the classes 0 to {outputs - 1}, {unused} "
            f"{'has' if unused == 1 else 'have'} no training sample: {_shortened(gaps)}; "
            f"the network has outputs for all; {hint}",
            sys.stderr,
        )


def remark_on_numbers(data: Dataset, ask: str = "--task regression") -> None:
    """Print on standard error how values are learnt, where a table's classes may be such.

    ask : what asks for it
    """
    names = None if data.schema is None else data.schema.classes
    if names is not None and len(names) > MOST_NUMBERS and type(names[0]) is int:
        say(f"{data.name}: {len(names)} classes; for numbers: {ask}", sys.stderr)


def table_remarks(data: Dataset) -> list[str]:
    """What became of the columns of a table: its classes and categories, in words."""
    remarks = []
    if data.class_names is not None:
        last = len(data.class_names) - 1
        remarks.append(f"classes 0 to {last}: {_named(data.class_names)}")
    for column, texts in data.categories.items():
        remarks.append(f"column {column!r}: a feature for each of {_named(texts)}")
    return remarks


def schema_remarks(schema: Schema) -> list[str]:
    """Which columns a network takes, and what it tells of them, in words of a line each."""
    columns = [
        name if categories is None else f"{name} ({len(categories)} categories)"
        for name, categories in schema.columns
    ]
    targets = _named(schema.targets)
    told = f"targets: {targets}"
    if schema.class_names is not None:
        told = f"classes of {targets}: {_named(schema.class_names)}"
    return [in_one_line(text) for text in (f"columns: {_named(columns)}", told)]


def _named(names: Sequence[str]) -> str:
    return ", ".join([*names[:MOST_NAMED], *["..."] * (len(names) > MOST_NAMED)])


def _gaps(found: np.ndarray, outputs: int) -> list[tuple[int, int]]:
    """(first, last) of each run of numbers below outputs that are not in found, which is sorted."""
    edges = np.concatenate([[-1], found, [outputs]])
    wide = np.flatnonzero(np.diff(edges) > 1)
    return [(int(edges[k]) + 1, int(edges[k + 1]) - 1) for k in wide]


def _shortened(gaps: list[tuple[int, int]]) -> str:
    shown = [
        str(first) if first == last else f"{first} to {last}" for first, last in gaps[:MOST_SHOWN]
    ]
    return ", ".join(shown + ["..."] * (len(gaps) > MOST_SHOWN))


def _counted(number: int, what: str) -> str:
    return f"{number} different {what}s" if number > 1 else f"1 {what}"
