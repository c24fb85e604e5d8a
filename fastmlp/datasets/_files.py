"""The data sets that are read from files: four IDX files, a notMNIST archive, a user's archive."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ._dataset import CLASSIFICATION, Dataset, hold_out_fifth
from ._download import download
from ._errors import DatasetError, DatasetNotFoundError, check_exists
from ._known import IDX_SETS
from ._npz import as_classes, as_rows, as_targets, image_shape, read_npz
from ._search import DataDir, cache_dir, folders

NOTMNIST = "notMNIST*.npz"


def find_idx(name: str, data_dir: DataDir) -> Path | None:
    """The first folder that has all four files of the set."""
    known = IDX_SETS[name]
    return next((path for path in folders(name, data_dir) if not known.missing(path)), None)


def load_idx(name: str, data_dir: DataDir, progress: bool) -> Dataset:
    """Read the four files of the set, downloaded into the cache folder when nothing is found."""
    known = IDX_SETS[name]
    folder = find_idx(name, data_dir)
    if folder is None:
        folder = cache_dir() / name
        try:
            download(name, known, folder, progress=progress)
        except DatasetNotFoundError as error:
            looked_in = [
                f"{path} (lacks {', '.join(missing)})" if len(missing) < len(known.files) else path
                for path in folders(name, data_dir)
                if (missing := known.missing(path))
            ]
            wanted = ", ".join(file.name for file in known.files)
            raise _not_found(name, looked_in, wanted, f"\n{error}") from None
    train_x, train_y, test_x, test_y = (file.read(folder) for file in known.files)
    return Dataset(
        name,
        train_x.reshape(len(train_x), -1),
        train_y.astype(np.int64),
        test_x.reshape(len(test_x), -1),
        test_y.astype(np.int64),
        image_shape=image_shape(train_x),
    )


def find_notmnist(data_dir: DataDir) -> Path | None:
    """The first notMNIST*.npz: in the order of the folders, then of the names."""
    found = (
        path for folder in folders("notmnist", data_dir) for path in sorted(folder.glob(NOTMNIST))
    )
    return next(found, None)


def load_notmnist(data_dir: DataDir) -> Dataset:
    """ECE421's notMNIST: shuffled with seed 521, then split in the course's proportions.

    Of 18,724 images 10,000 / 6,000 / 2,724 are for training, validation and testing.
    """
    path = find_notmnist(data_dir)
    if path is None:
        wanted = f"{NOTMNIST} with the arrays images and labels"
        raise _not_found("notmnist", folders("notmnist", data_dir), wanted)
    images, labels = read_npz(path, ("images", "labels"))
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or len(images) < 4:
        raise DatasetError(
            f"{path}: images must be (N, 28, 28) uint8 with N at least 4, "
            f"got {images.shape} {images.dtype}"
        )
    classes = as_classes(f"{path}: labels", labels, len(images))
    if classes.max() > 9:
        raise DatasetError(f"{path}: labels must be 0 to 9, got {classes.max()}")
    order = np.arange(len(images))
    np.random.RandomState(521).shuffle(order)
    x, y = images.reshape(len(images), -1)[order], classes[order]
    train = len(x) * 10_000 // 18_724
    test = train + len(x) * 6_000 // 18_724
    return Dataset(
        "notmnist", x[:train], y[:train], x[test:], y[test:], x[train:test], y[train:test],
        image_shape(images),
    )  # fmt: skip


def load_npz(path: Path, task: str = CLASSIFICATION) -> Dataset:
    """A user's archive: train_x, train_y, test_x, test_y; or x, y, of which a fifth is held out."""
    as_y = as_classes if task == CLASSIFICATION else as_targets
    check_exists(path)
    arrays = read_npz(path, ("train_x", "train_y", "test_x", "test_y"), ("x", "y"))
    if len(arrays) == 2:
        x = as_rows(f"{path}: x", arrays[0])
        y = as_y(f"{path}: y", arrays[1], len(x))
        if len(x) < 2:
            raise DatasetError(f"{path}: x must have at least 2 rows to hold out a fifth, got 1")
        return hold_out_fifth(path.stem, x, y, image_shape(arrays[0]), task)
    train_x, test_x = as_rows(f"{path}: train_x", arrays[0]), as_rows(f"{path}: test_x", arrays[2])
    _check_alike(path, "x", train_x, test_x)
    train_y = as_y(f"{path}: train_y", arrays[1], len(train_x))
    test_y = as_y(f"{path}: test_y", arrays[3], len(test_x))
    _check_alike(path, "y", train_y, test_y)
    shape = image_shape(arrays[0])
    return Dataset(path.stem, train_x, train_y, test_x, test_y, image_shape=shape, task=task)


def _check_alike(path: Path, name: str, train: np.ndarray, test: np.ndarray) -> None:
    """Refuse a test part of other columns or of another dtype than the training part."""
    if test.shape[1:] != train.shape[1:] or test.dtype != train.dtype:
        columns = "".join(f" {size}" for size in train.shape[1:])
        raise DatasetError(
            f"{path}: test_{name} must be (N,{columns}) {train.dtype} as train_{name} is, "
            f"got {test.shape} {test.dtype}"
        )


def _not_found(
    name: str, looked_in: Sequence[object], wanted: str, download: str = ""
) -> DatasetNotFoundError:
    paths = "\n".join(f"  {path}" for path in looked_in)
    return DatasetNotFoundError(
        f"{name} was not found; looked in\n{paths}{download}\n"
        f"put {wanted} into {cache_dir() / name}, "
        f"or into a folder that data_dir or FASTMLP_DATA names"
    )
