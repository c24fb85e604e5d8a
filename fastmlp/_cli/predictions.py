"""The file that `fastmlp predict --out` writes, with a line for each row."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from .._files import write_whole
from ..layers import BinaryCrossEntropy
from .predict import read_rows

if TYPE_CHECKING:
    from ..mlp import MLP


def check_out(out: Path, files: Sequence[Path]) -> None:
    """Raise typer.BadParameter unless it is a .csv, and none of the files that are read."""
    if out.suffix != ".csv":
        raise typer.BadParameter(f"must end in .csv, got {out}", param_hint="--out")
    if out.exists() and any(out.samefile(path) for path in files):
        raise typer.BadParameter(f"must be another file than {out}, a FILE", param_hint="--out")


def write(mlp: MLP, files: Sequence[Path], invert: bool, out: Path) -> int:
    """Write the predictions, whole or not at all; return of how many rows they are.

    Columns are the file, where there are several; the row in it, from 1; the prediction; and of
    classes the probability of each by its name. Of several labels a sample, or several values, each
    has a column by its name in the place of the prediction.

    Raises as ``predict.read_rows`` does; OSError, which names the file, when it cannot be written.
    """
    several, count = len(files) > 1, 0
    content = io.StringIO(newline="")
    writer = csv.writer(content)
    writer.writerow(_different([*["file"] * several, "row", *_headings(mlp)]))
    for path in files:
        x, _ = read_rows(mlp, path, invert)
        count += len(x)
        for row, cells in enumerate(_cells(mlp, x), 1):
            writer.writerow([*[path] * several, row, *cells])
    # A name may have signs that UTF-8 has not.
    write_whole(out, content.getvalue().encode(errors="backslashreplace"))
    return count


def _headings(mlp: MLP) -> list[str]:
    if mlp.criterion.of_values and mlp.output_size == 1:
        return ["prediction"]
    return [*["prediction"] * _has_classes(mlp), *_names(mlp)]


def _names(mlp: MLP) -> list[str]:
    """Those of the classes, labels or targets, by default their numbers."""
    schema = mlp.schema
    known = None if schema is None else schema.class_names or schema.targets
    return list(known or map(str, range(mlp.output_size)))


def _has_classes(mlp: MLP) -> bool:
    return not mlp.criterion.of_values and not isinstance(mlp.criterion, BinaryCrossEntropy)


def _cells(mlp: MLP, x: np.ndarray) -> Iterator[list[str]]:
    """Numbers with as many digits as their dtype has."""
    found = mlp.predict(x) if mlp.criterion.of_values else mlp.predict_proba(x)
    names = _names(mlp)
    for row in found.reshape(len(x), mlp.output_size):
        yield [*[names[row.argmax()]] * _has_classes(mlp), *map(str, row)]


def _different(headings: Iterable[str]) -> list[str]:
    """One that was there before, as a class called row, has underscores behind it."""
    found: list[str] = []
    for heading in headings:
        while heading in found:
            heading += "_"
        found.append(heading)
    return found
