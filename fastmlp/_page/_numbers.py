"""What a page says of predictions, in numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BINS = 15


class Calibration(NamedTuple):
    """Of samples in bins of equal width, by the probability that was stated."""

    edges: np.ndarray  # (bins + 1,)
    counts: np.ndarray  # (bins,)
    stated: np.ndarray  # (bins,) mean probability, NaN where there is none
    found: np.ndarray  # (bins,) share that was so
    error: float  # the expected calibration error


def calibration(stated: np.ndarray, found: np.ndarray, bins: int = BINS) -> Calibration:
    """How often what was stated with a probability is so.

    stated : (N,) probabilities    found : (N,) bool
    The expected calibration error is sum_b n_b / N |found_b - stated_b|, over bins of equal width
    that have their upper end: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural
    networks", 2017, equations 2 and 3, and its 15 bins.
    """
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.searchsorted(edges, stated.astype(np.float64), side="left") - 1, 0, bins - 1)
    counts = np.bincount(which, minlength=bins)
    sums = (np.bincount(which, values.astype(np.float64), bins) for values in (stated, found))
    some = np.where(counts > 0, counts, np.nan)
    mean_stated, mean_found = (total / some for total in sums)
    gaps = np.nan_to_num(np.abs(mean_found - mean_stated))
    return Calibration(
        edges, counts, mean_stated, mean_found, float(counts @ gaps / max(1, len(stated)))
    )


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) how often a class, the row, was taken for another, the column."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def worst_pairs(
    labels: np.ndarray, predicted: np.ndarray, most: int
) -> list[tuple[int, int, int, float]]:
    """(class, what it was taken for, how often, share of the class), the most frequent first.

    Without a matrix, which of thousands of classes would not fit into memory.
    """
    wrong = labels != predicted
    pairs, counts = np.unique(
        np.column_stack([labels[wrong], predicted[wrong]]), axis=0, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:most]
    totals = np.bincount(labels)
    return [
        (int(t), int(p), int(n), float(n / totals[t]))
        for (t, p), n in zip(pairs[order], counts[order], strict=True)
    ]


class LabelFigures(NamedTuple):
    """Of each label, (K,): shares, NaN where there is nothing to have a share of."""

    frequency: np.ndarray
    wrong: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def label_figures(labels: np.ndarray, predicted: np.ndarray) -> LabelFigures:
    """labels, predicted : (N, K), 0 or 1"""
    both = (labels * predicted).sum(axis=0)
    there, said = labels.sum(axis=0), predicted.sum(axis=0)
    shares = (_share(both, said), _share(both, there), _share(2 * both, said + there))
    return LabelFigures(labels.mean(axis=0), (labels != predicted).mean(axis=0), *shares)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = whole.astype(np.float64)
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


class ValueFigures(NamedTuple):
    """Of each target, (K,)."""

    r2: np.ndarray
    mean_absolute_error: np.ndarray
    root_mean_squared_error: np.ndarray
    bias: np.ndarray  # mean of predicted - true


def value_figures(targets: np.ndarray, predicted: np.ndarray) -> ValueFigures:
    """targets, predicted : (N, K). R² of a target that never changes is NaN."""
    difference = predicted.astype(np.float64) - targets
    squares = (difference**2).mean(axis=0)
    return ValueFigures(
        1 - _share(squares, targets.astype(np.float64).var(axis=0)),
        np.abs(difference).mean(axis=0), np.sqrt(squares), difference.mean(axis=0),
    )  # fmt: skip
