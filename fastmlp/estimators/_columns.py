"""RealMLP's preprocessing: the columns of a table as numbers of about one size, none far out.

Reference: Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and
boosted trees on tabular data", 2024, section 3 ("robust scaling and smooth clipping").
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._tables import Table

# From here on the clipped value is 3 to the last bit of float64, and squares do not overflow.
FAR = 1e12
LARGEST = np.finfo(np.float64).max
# Half of one over this is still finite.
_LEAST_WIDTH = 4 * np.finfo(np.float64).tiny
_QUARTILES = np.array([0.25, 0.5, 0.75])


class Columns:
    """What ``fit`` has seen of each column, and how ``transform`` makes numbers of it.

    Numbers come first, a missing one as the column's mean; then, for each column of numbers in
    which some were missing, 1 where one is and 0 elsewhere; then the categories, -1 and 1 where
    there are two of them, otherwise a column of zeros and ones for each, and zeros where the
    value is missing or was not there in ``fit``. All of these are then shifted and scaled,
    z = s (x - median), by s = 1 / (upper - lower quartile), or 2 / (largest - smallest) where
    the quartiles are equal, or 0 where all are; and pressed into (-3, 3): z / sqrt(1 + (z/3)**2).

    Quartiles are those of the inverted distribution function, the mean of two where it jumps
    between them (NumPy's "averaged_inverted_cdf"), so that a weight counts as so many rows.

    names : of the columns of the result    numbers : how many of the first are a table's numbers
    center, scale : (d,) float64 each
    """

    def __init__(self, categorical: list[int]) -> None:
        """categorical : which of the table's columns hold categories."""
        self._categorical = categorical

    def fit(self, table: Table, weights: np.ndarray | None = None) -> Columns:
        """Learn from a table, whose rows count as often as ``weights`` say, (N,) above 0.

        Raises ValueError or TypeError, naming the column, for what is no finite number.
        """
        self._table_names = list(table.names)
        kept = set(self._categorical)
        self._numeric = [i for i in range(len(table.names)) if i not in kept]
        self.numbers = len(self._numeric)
        numbers = self._numbers(table)
        missing = np.isnan(numbers)
        self._means = _means_of_known(numbers, missing, weights)
        self._gaps = np.flatnonzero(missing.any(axis=0))
        self._categories = [table.categories(i) for i in self._categorical]
        self._known = [{v: k for k, v in enumerate(found)} for found in self._categories]
        self.names = self._names()
        raw = self._join(numbers, missing, table)
        lower, self.center, upper = _quartiles(raw, weights)
        self.scale = _scales(lower, upper, raw.min(axis=0), raw.max(axis=0))
        return self

    def transform(self, table: Table, dtype: Any = np.float64) -> np.ndarray:
        """The columns as the network takes them, (N, d) of ``dtype``, float32 or float64."""
        numbers = self._numbers(table)
        # A sum sees every NaN, and one pass over the numbers is all that most tables need.
        with np.errstate(all="ignore"):
            complete = not np.isnan(numbers.sum())
        if complete and not len(self._gaps):
            raw = self._join(numbers, None, table)
        else:
            raw = self._join(numbers, np.isnan(numbers), table)
        return self._clipped(raw).astype(dtype, copy=False)

    def _numbers(self, table: Table) -> np.ndarray:
        """The columns of numbers, (N, k) float64 of its own memory, NaN where one is missing."""
        matrix = table.matrix
        if matrix is not None:
            chosen = matrix[:, self._numeric] if self._categorical else matrix
            numbers = np.array(chosen, np.float64, order="C")
        else:
            numbers = np.empty((table.rows, len(self._numeric)))
            for column, index in enumerate(self._numeric):
                numbers[:, column] = table.numbers(index)
        self._refuse_infinity(numbers, table)
        return numbers

    def _refuse_infinity(self, numbers: np.ndarray, table: Table) -> None:
        with np.errstate(all="ignore"):
            if np.isfinite(numbers.sum()):
                return
        infinite = np.isinf(numbers).any(axis=0)
        if infinite.any():
            name = table.names[self._numeric[int(np.argmax(infinite))]]
            raise ValueError(f"Input X contains infinity in column {name!r}.")

    def _names(self) -> list[str]:
        numeric = [self._table_names[i] for i in self._numeric]
        names = [*numeric, *(f"{numeric[i]}=missing" for i in self._gaps)]
        for index, found in zip(self._categorical, self._categories, strict=True):
            values = found[1:] if len(found) == 2 else found or ["missing"]
            names += [f"{self._table_names[index]}={value}" for value in values]
        return names

    def _join(self, numbers: np.ndarray, missing: np.ndarray | None, table: Table) -> np.ndarray:
        """Numbers, gaps and categories beside each other, (N, d); ``numbers`` is written to."""
        if missing is not None:
            np.copyto(numbers, self._means, where=missing)
        if numbers.shape[1] == len(self.names):
            return numbers
        raw = np.zeros((table.rows, len(self.names)))
        end = numbers.shape[1]
        raw[:, :end] = numbers
        if missing is not None:
            raw[:, end : end + len(self._gaps)] = missing[:, self._gaps]
        end += len(self._gaps)
        for index, known in zip(self._categorical, self._known, strict=True):
            codes = table.codes(index, known)
            rows = np.flatnonzero(codes >= 0)
            if len(known) == 2:
                raw[rows, end] = 2 * codes[rows] - 1
                end += 1
            else:
                raw[rows, end + codes[rows]] = 1
                end += max(1, len(known))
        return raw

    def _clipped(self, raw: np.ndarray) -> np.ndarray:
        """Shift, scale and clip in place."""
        with np.errstate(over="ignore"):
            raw -= self.center
            np.clip(raw, -LARGEST, LARGEST, out=raw)
            raw *= self.scale
        np.clip(raw, -FAR, FAR, out=raw)
        raw /= np.sqrt(1 + (raw / 3) ** 2)
        return raw


def _means_of_known(
    numbers: np.ndarray, missing: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """The mean of each column's known numbers, (k,); 0 where none is known."""
    ones = np.ones(len(numbers)) if weights is None else weights
    counts = ones @ ~missing
    with np.errstate(over="ignore"):
        sums = ones @ np.where(missing, 0, numbers)
    means = np.divide(sums, counts, out=np.zeros(len(counts)), where=counts > 0)
    return np.clip(means, -LARGEST, LARGEST)


def _quartiles(raw: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Lower quartile, median and upper quartile of each column, (3, d)."""
    with np.errstate(over="ignore"):
        if weights is None:
            return np.quantile(raw, _QUARTILES, axis=0, method="averaged_inverted_cdf")
        return np.stack([_weighted_quartiles(column, weights) for column in raw.T], axis=1)


def _weighted_quartiles(column: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(3,) quartiles of numbers that count as often as their weights say."""
    order = np.argsort(column, kind="stable")
    cumulated = np.cumsum(weights[order])
    wanted = _QUARTILES * cumulated[-1]
    # The first that reaches what is wanted, and the first that goes beyond it.
    at, beyond = (np.searchsorted(cumulated, wanted, side) for side in ("left", "right"))
    last = len(column) - 1
    pair = column[order[np.minimum([at, beyond], last)]]
    return pair[0] + (pair[1] - pair[0]) / 2


def _scales(
    lower: np.ndarray, upper: np.ndarray, smallest: np.ndarray, largest: np.ndarray
) -> np.ndarray:
    """What each column is multiplied by, (d,)."""
    with np.errstate(over="ignore"):
        widths = upper - lower
        ranges = largest / 2 - smallest / 2
    widths = np.where(widths > _LEAST_WIDTH, widths, ranges)
    return np.divide(1, widths, out=np.zeros(len(widths)), where=widths > _LEAST_WIDTH)
