"""What loading gives, and how a set that has no test part is split."""

from dataclasses import dataclass

import numpy as np

from ._schema import Schema

CLASSIFICATION, REGRESSION = TASKS = "classification", "regression"


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set, split.

    train_x, test_x, valid_x : (N, D) uint8, float32 or float64, C-contiguous; images are flattened
    train_y, test_y, valid_y : (N,) int64 classes, counted from 0; or, where the task is regression,
        float32 or float64 targets, (N,) of a single one, (N, K) of several
    task : "classification" or "regression"
    image_shape : (H, W) where the rows are pictures, else None
    schema : of a table, how its columns became features, and what its targets are called
    The validation part is None where the data set has none of its own.
    """

    name: str
    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    valid_x: np.ndarray | None = None
    valid_y: np.ndarray | None = None
    image_shape: tuple[int, int] | None = None
    schema: Schema | None = None
    task: str = CLASSIFICATION

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """What the file calls the classes 0, 1, ..., where it gives them other names."""
        return None if self.schema is None else self.schema.class_names

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """Of a table, the texts of each column that has a feature for each of them."""
        columns = () if self.schema is None else self.schema.columns
        return {name: texts for name, texts in columns if texts is not None}

    @property
    def num_outputs(self) -> int:
        """Of a network for the set: as many as it has classes, or targets."""
        if self.task == CLASSIFICATION:
            return self.num_classes
        return 1 if self.train_y.ndim == 1 else self.train_y.shape[1]

    @property
    def num_classes(self) -> int:
        """One more than the largest class in any part. Raises ValueError where there are none."""
        if self.task != CLASSIFICATION:
            raise ValueError(f"{self.name} has no classes: its task is {self.task}")
        parts = (self.train_y, self.test_y, self.valid_y)
        return 1 + max(int(y.max()) for y in parts if y is not None)

    def __repr__(self) -> str:
        valid = "" if self.valid_x is None else f"valid {self.valid_x.shape}, "
        of = "classes" if self.task == CLASSIFICATION else "targets"
        return (
            f"Dataset({self.name!r}, train {self.train_x.shape}, {valid}"
            f"test {self.test_x.shape}, {self.train_x.dtype}, {self.num_outputs} {of})"
        )


def hold_out_fifth(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    image_shape: tuple[int, int] | None,
    task: str = CLASSIFICATION,
) -> Dataset:
    """Take a fifth of the rows, the same share of every class and the same each time, for testing.

    x : (N, D)    y : as in ``Dataset``    N at least 2. Both parts keep the order of the rows.
    """
    order = np.random.RandomState(0).permutation(len(y))
    if task == CLASSIFICATION:
        order = order[np.argsort(y[order], kind="stable")]
    held = np.zeros(len(y), bool)
    held[order[::5]] = True
    return Dataset(name, x[~held], y[~held], x[held], y[held], image_shape=image_shape, task=task)
