"""What can go wrong with a data set."""

from pathlib import Path

from .._files import nearest_file


class DatasetError(RuntimeError):
    """A data set cannot be loaded, or a data file is not what its name says."""


class DatasetNotFoundError(DatasetError):
    """A data set is in none of the folders searched and could not be downloaded."""


def check_exists(path: Path) -> None:
    """Raise DatasetNotFoundError, with the nearest name, unless there is such a file."""
    if not path.exists():
        raise DatasetNotFoundError(f"{path}: no such file{nearest_file(path)}")
