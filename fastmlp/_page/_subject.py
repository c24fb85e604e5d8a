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
        """Of a row, as text."""
        return [f"{value:.4g}" for value in self.x[row, :MOST_FEATURES].tolist()]

    def feature_headings(self) -> list[str]:
        return [f"x[{i}]" for i in range(min(MOST_FEATURES, self.x.shape[1]))]


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
