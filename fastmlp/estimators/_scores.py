"""How well a network does on rows it was not trained on: numbers, the better the larger."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mlp import MLP
from ._recipe import Rows


def accuracy(mlp: MLP, rows: Rows) -> float:
    """The share of rows whose class is right."""
    return float(np.average(mlp.predict(rows.x) == rows.y, weights=rows.weights))


def neg_log_loss(mlp: MLP, rows: Rows) -> float:
    """The mean logarithm of the probabilities of the right classes, as scikit-learn's log_loss."""
    chances = mlp.predict_proba(rows.x)[np.arange(len(rows.y)), rows.y]
    least = np.finfo(chances.dtype).eps
    return float(np.average(np.log(np.maximum(chances, least, dtype=float)), weights=rows.weights))


def neg_rmse(mlp: MLP, rows: Rows, unit: Any) -> float:
    """The root of the mean square of what is missed, the mean over outputs, below 0.

    unit : (K,) what a difference of 1 between outputs stands for
    """
    squares = np.average(_misses(mlp, rows) ** 2, axis=0, weights=rows.weights)
    return -float(np.mean(unit * np.sqrt(squares)))


def neg_mae(mlp: MLP, rows: Rows, unit: Any) -> float:
    """The mean of what is missed, over rows and outputs, below 0; ``unit`` as in ``neg_rmse``."""
    misses = np.average(np.abs(_misses(mlp, rows)), axis=0, weights=rows.weights)
    return -float(np.mean(unit * misses))


def _misses(mlp: MLP, rows: Rows) -> np.ndarray:
    """(N, K) float64."""
    return rows.y - mlp.predict(rows.x).reshape(rows.y.shape).astype(np.float64)
