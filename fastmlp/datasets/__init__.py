"""Data sets by name: find, download, verify, read.

>>> mnist = fastmlp.datasets.load("mnist")
>>> mnist.train_x.shape, mnist.train_y.shape
((60000, 784), (60000,))
"""

import os
from dataclasses import dataclass
from pathlib import Path

from ..validation import check_choice, nearest
from ._blocks import Blocks, open_blocks
from ._builtin import load_digits, load_synth
from ._dataset import CLASSIFICATION, TASKS, Dataset
from ._errors import DatasetError, DatasetNotFoundError
from ._files import find_idx, find_notmnist, load_idx, load_notmnist, load_npz
from ._known import IDX_SETS
from ._schema import Column, Schema
from ._search import cache_dir
from ._tables import TABLE_SUFFIXES, TableRows, load_rows, load_table

__all__ = [
    "TABLE_SUFFIXES",
    "Availability",
    "Blocks",
    "Column",
    "Dataset",
    "DatasetError",
    "DatasetNotFoundError",
    "Schema",
    "TableRows",
    "available",
    "cache_dir",
    "load",
    "load_rows",
    "load_synth",
    "open_blocks",
]

_OTHERS = {
    "notmnist": "letters A to J, 28×28, from a notMNIST*.npz",
    "synth": "points inside or outside an ellipse, 2 features, 60,000 + 10,000",
    "digits": "handwritten digits, 8×8, 1,797",
}


def load(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None = None,
    *,
    target: str | None = None,
    task: str = CLASSIFICATION,
    progress: bool = False,
) -> Dataset:
    """A data set by its name, or the one in an .npz, .csv or .parquet file.

    name_or_path : "mnist", "fashion-mnist", "notmnist", "synth", "digits"; or the path of an .npz
        file with x (N, ...) uint8, float32 or float64 and y (N,) integer classes, or the same as
        train_x, train_y, test_x, test_y. Of x, y a fifth is held out for testing. Its rows are
        taken for pictures where x is (N, H, W), or uint8 with a square number of pixels, at least
        8×8.
        A .csv or .parquet file is a table of at most 100,000 columns with different names: numbers,
        or text of at most 100 categories, which become a feature each, in sorted order; a fifth of
        it is held out.
    data_dir : folder to look in first; then come the folder that FASTMLP_DATA names and the user's
        cache. In each, the files may lie in a folder of the set's name or directly.
    target : of a table, the name of the column with the classes: text or whole numbers, which are
        numbered from 0 in sorted order
    task : "regression" for a file whose target is a number, y (N,) float32 or float64, instead of a
        class; or several of them, (N, K): an .npz with such a y, a table with a target of "a,b"
    progress : show a progress bar on standard error while downloading.

    mnist and fashion-mnist are downloaded into the user's cache when they are found nowhere; the
    base addresses in FASTMLP_MIRRORS, separated by spaces, take the place of the known mirrors, and
    the files are expected under <address>/<name>/.

    Raises ValueError for an unknown name or task, for regression on a set that has a name, and
    where target is missing for a table or given for anything else; DatasetNotFoundError when
    nothing was found or could be downloaded; DatasetError when a file cannot be read, is not what
    its name says, states sizes that its bytes cannot have or that only a decompression bomb has
    (more than a gigabyte, and 500 times the file), or has values that are missing, NaN or infinite;
    ImportError for a table without pandas, or pyarrow where it is .parquet.
    """
    check_choice("task", task, TASKS)
    name = os.fspath(name_or_path)
    path = Path(name)
    if path.suffix in TABLE_SUFFIXES:
        return load_table(path, target, task)
    if target is not None:
        raise ValueError(
            f"target is for files ending in {' or '.join(TABLE_SUFFIXES)}, "
            f"got {target!r} for {name!r}"
        )
    if task != CLASSIFICATION and name in (*IDX_SETS, *_OTHERS):
        raise ValueError(
            f"task must be {CLASSIFICATION} for {name}, which has classes, got {task!r}"
        )
    if name in IDX_SETS:
        return load_idx(name, data_dir, progress)
    if name == "notmnist":
        return load_notmnist(data_dir)
    if name == "synth":
        return load_synth()
    if name == "digits":
        return load_digits()
    if path.suffix == ".npz" or path.name != name or path.exists():
        return load_npz(path, task)
    names = [*IDX_SETS, *_OTHERS]
    raise ValueError(
        f"data set must be one of {', '.join(names)}, or the path of an .npz, .csv or .parquet "
        f"file, got {name!r}{nearest(name, names)}"
    )


@dataclass(frozen=True)
class Availability:
    """One row of `available`: found is where the set is, None when it is nowhere."""

    name: str
    description: str
    found: str | None
    downloadable: bool


def available(data_dir: str | os.PathLike[str] | None = None) -> list[Availability]:
    """The names that `load` knows and where it would find each; nothing is read or downloaded."""
    idx = [
        Availability(name, known.description, _text(find_idx(name, data_dir)), True)
        for name, known in IDX_SETS.items()
    ]
    places = {
        "notmnist": _text(find_notmnist(data_dir)),
        "synth": "computed",
        "digits": "inside the package",
    }
    return idx + [Availability(name, _OTHERS[name], places[name], False) for name in _OTHERS]


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
