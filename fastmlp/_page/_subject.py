"""What a page is about."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

MOST_ROWS, MOST_FEATURES = 24, 8
"""How many of the worst rows are shown, and how many of their features."""


class Subject(NamedTuple):
    """A network, and the data that it is judged by."""

    mlp: Any
    x: np.ndarray  # (N, D)
    targets: np.ndarray  # (N,) classes, or (N, K)
    image_shape: tuple[int, int] | None
    names: tuple[str, ...]  # of the outputs, (K,)

    def first_features(self, row: int) -> list[str]:
        """Of a row, as text: its columns where the network knows those of a table."""
        schema = self.mlp.schema
        if schema is None:
            return [f"{value:.4g}" for value in self.x[row, :MOST_FEATURES].tolist()]
        cells, end = [], 0
        for column in schema.columns[:MOST_FEATURES]:
            begin, end = end, end + column.width
            cells.append(_as_in_table(self.x[row, begin:end], column.categories))
        return cells

    def feature_headings(self) -> list[str]:
        return self._features()[:MOST_FEATURES]

    def left_out(self) -> str:
        """Of how many columns or features the first are shown, where not all are; or nothing."""
        count = len(self._features())
        what = "features" if self.mlp.schema is None else "columns"
        return f" Of {count:,} {what} the first {MOST_FEATURES} are shown." * (
            count > MOST_FEATURES
        )

    def _features(self) -> list[str]:
        if self.mlp.schema is None:
            return [f"x[{i}]" for i in range(self.x.shape[1])]
        return [column.name for column in self.mlp.schema.columns]


def _as_in_table(features: np.ndarray, categories: tuple[str, ...] | None) -> str:
    """What stands in a column; "–" for a text that is none of its categories."""
    if categories is None:
        return f"{features[0]:.6g}"
    return categories[int(features.argmax())] if features.any() else "–"


def words(value: object) -> str:
    """An option's value."""
    if isinstance(value, tuple):
        return ", ".join(map(words, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """ "–" where there is none."""
    return f"{100 * share:.2f} %" if np.isfinite(share) else "–"
