"""How good outputs are: means over samples that have weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Figures(NamedTuple):
    """What ``MLP.evaluate`` and ``MLP.score`` make of a data set."""

    loss: float
    error: float
    r2: float | None  # None where targets are not values


def means(totals: Any, counts: Any) -> np.ndarray:
    """totals / counts in float64; 0 where nothing counts."""
    counts = np.asarray(counts, np.float64)
    return np.divide(totals, counts, out=np.zeros_like(counts), where=counts > 0)


def row_counts(
    criterion: Any, targets: np.ndarray, weights: np.ndarray | None
) -> np.ndarray | None:
    """What each row counts for in a mean loss, (N,) float64: its weight, times its class's.

    None where all count for 1.
    """
    shares: np.ndarray | None = criterion.class_shares(targets)
    if shares is None:
        return weights
    return shares if weights is None else weights * shares


def total_count(criterion: Any, targets: np.ndarray, weights: np.ndarray | None) -> float:
    """What the sum of the rows' losses is divided by."""
    counts = row_counts(criterion, targets, weights)
    return float(len(targets) if counts is None else counts.sum())


def figures_of(
    criterion: Any, outputs: np.ndarray, targets: np.ndarray, weights: np.ndarray | None
) -> Figures:
    """Loss, error and R² of outputs, (N, K), for targets that the criterion takes."""
    ones = np.ones(len(outputs)) if weights is None else weights
    losses = criterion.losses(outputs, targets)
    loss = means((ones * losses).sum(), total_count(criterion, targets, weights))
    error = means((ones * criterion.errors(outputs, targets)).sum(), ones.sum())
    r2 = r2_score(criterion.values(outputs), targets, ones) if criterion.of_values else None
    return Figures(float(loss), float(error), r2)


def r2_score(values: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """1 - residual / total sum of squares, the mean over outputs, weighted by row.

    Where an output's targets are all equal, 1 if they are met and 0 if not, as scikit-learn's
    ``r2_score`` with ``force_finite``.
    """
    targets = targets.astype(np.float64)
    mean = weights @ targets / weights.sum()
    residual = weights @ (targets - values) ** 2
    total = weights @ (targets - mean) ** 2
    constant = total == 0
    scores = np.where(constant, residual == 0, 1 - residual / np.where(constant, 1, total))
    return float(scores.mean())
