"""Which rows train a network and which judge it."""

from __future__ import annotations

import numpy as np

Split = tuple[np.ndarray, np.ndarray]


def random_split(rows: int, share: float, generator: np.random.Generator) -> Split:
    """(training rows, validation rows): a random share of them, and at least one of each.

    rows : at least 2
    """
    order = generator.permutation(rows)
    validation = min(max(1, round(share * rows)), rows - 1)
    return np.sort(order[validation:]), np.sort(order[:validation])


def folds(
    rows: int, count: int, classes: np.ndarray | None, generator: np.random.Generator
) -> list[Split]:
    """``count`` splits whose validation rows are each row once, in parts of nearly one size.

    classes : (rows,) labels; every part then has nearly the same share of each
    """
    order = generator.permutation(rows)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    # Dealt out one by one, the rows of a class come to every part in turn.
    part = np.empty(rows, np.int64)
    part[order] = np.arange(rows) % count
    return [(np.flatnonzero(part != i), np.flatnonzero(part == i)) for i in range(count)]
