"""Targets of a regression: a network learns them at a mean of 0 and a deviation of 1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._measures import Figures
from ..datasets import Dataset
from ..mlp import MLP


class Units(NamedTuple):
    """Of the targets as they are: what is taken away, and what one is of the network's, (K,)."""

    mean: np.ndarray
    deviation: np.ndarray

    def scaled(self, targets: np.ndarray) -> np.ndarray:
        """The targets as the network learns them, (N, K)."""
        return (targets.reshape(len(targets), -1) - self.mean) / self.deviation

    def give_to(self, mlp: MLP) -> None:
        """Fold them into the last layer, so that the network predicts targets as they are."""
        last = mlp.linear_layers[-1]
        last.W = last.W * self.deviation
        last.b = last.b * self.deviation + self.mean


def units_of(targets: np.ndarray) -> Units:
    """Those of the targets to train on, (N,) or (N, K)."""
    columns = targets.reshape(len(targets), -1).astype(np.float64)
    deviation = columns.std(axis=0)
    return Units(columns.mean(axis=0), np.where(deviation > 0, deviation, 1.0))


def remark(data: Dataset, units: Units) -> str:
    """What the figures of the training are measured in, in words."""
    deviations = ", ".join(f"{value:.4g}" for value in units.deviation)
    several = "s" if len(units.deviation) > 1 else ""
    return (
        f"{data.num_outputs} target{several}, standardised for the training: losses and mean "
        f"absolute errors of the epochs are in standard deviations, of {deviations}"
    )


def figures_in_words(figures: Figures) -> list[tuple[str, str]]:
    """The lines of the final table."""
    return [
        ("test R²", f"{figures.r2:.4f}"),
        ("test mean absolute error", f"{figures.error:.4g}"),
        ("test root mean squared error", f"{figures.loss**0.5:.4g}"),
    ]
