"""Curves in a terminal: two by four dots a character, from Unicode's Braille patterns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Bits of the dots of a character, from the top: of its left column, and of its right one.
_DOTS = (0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)
_BLANK = 0x2800


def curve(heights: Sequence[float], rows: int) -> list[str]:
    """So many lines of characters, the highest first, in which a curve is drawn.

    heights : of each column of dots, from 0 to 1; NaN before the curve begins, between points that
        it joins, and after its end
    """
    cells = np.full((rows, -(-len(heights) // 2)), _BLANK)
    values = np.asarray(heights, float)
    known = np.flatnonzero(np.isfinite(values))
    if len(known):
        columns = np.arange(known[0], known[-1] + 1)
        joined = np.interp(columns, known, values[known])
        dots = np.rint((1 - joined.clip(0, 1)) * (4 * rows - 1)).astype(int)
        before = dots[0]
        for column, dot in zip(columns.tolist(), dots.tolist(), strict=True):
            # Up or down to where it was, so that no step is a gap.
            lowest, highest = sorted((dot, before + (dot > before) - (dot < before)))
            for place in range(lowest, highest + 1):
                cells[place // 4, column // 2] |= _DOTS[column % 2][place % 4]
            before = dot
    return ["".join(map(chr, row)) for row in cells.tolist()]


class Means:
    """Means of values over equal parts of a training, as many as a chart has columns."""

    def __init__(self, columns: int) -> None:
        # Lists: to add to a single number takes a tenth of an array's time.
        self._sums, self._counts = [0.0] * columns, [0] * columns

    def add(self, share: float, value: float) -> None:
        """A value at a share of the training, above 0 and up to 1; left out unless positive."""
        if 0 < value < np.inf:
            column = min(int(share * len(self._sums)), len(self._sums) - 1)
            self._sums[column] += value
            self._counts[column] += 1

    @property
    def values(self) -> np.ndarray:
        """(columns,), NaN where there is none."""
        counts = np.array(self._counts)
        return np.where(counts > 0, np.array(self._sums) / np.maximum(counts, 1), np.nan)
