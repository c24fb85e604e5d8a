"""Update rules as scikit-learn's solvers define them, for the estimators that stand for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..kernels.rules import CODES
from . import Adam, Optimizer


@dataclass(repr=False)
class UncorrectedAdam(Adam):
    """Adam whose eps is added to the root before its bias is corrected, as scikit-learn has it.

    w = w - lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps).
    Reference: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, the end of
    section 2.
    """

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        super()._fill(factors, rates, t)
        factors[:, :, 0] /= factors[:, :, 6]
        factors[:, :, 6] = 1


@dataclass(repr=False)
class VelocitySGD(Optimizer):
    """Momentum whose velocity is a step: v = kept * v - lr * g, so that it keeps older rates.

    w = w + v, or with ``nesterov`` w + kept * v - lr * g. Unlike ``momentum``, ``kept`` may be 1.
    Reference: Sutskever et al., "On the importance of initialization and momentum", 2013.
    """

    lr: float = 1e-3
    kept: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = True
    rule: ClassVar[str] = "momentum"

    @property
    def code(self) -> int:
        return CODES["nesterov" if self.nesterov else "momentum"]

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates
        factors[:, :, 3] = self.kept
        factors[:, :, 4] = rates
        factors[:, :, 5] = self.kept
