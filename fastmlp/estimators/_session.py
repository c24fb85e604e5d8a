"""A fit under way, with scikit-learn's penalty and on rows that may be sparse."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._measures import means
from .._session import Session
from .._windows import TrainingSet
from ..engine import data_of
from ..history import FitPlan
from ..kernels.network import StepFigures
from ..kernels.rules import FACTORS, WEIGHTS
from ..schedules import Schedule


class LossTerms(NamedTuple):
    """What scikit-learn's loss is, beside what is minimised."""

    alpha: float  # of the L2 penalty
    scale: float = 1.0  # of the criterion's loss
    constants: np.ndarray | None = None  # (N,), added to the weighted losses of the rows


class PenalisedSession(Session):
    """A fit whose L2 penalty, alpha / 2 * sum(W**2), is divided by the weight of each batch.

    The rows may be those of a CSR matrix, which are made dense a batch at a time.
    """

    def __init__(
        self, network: Any, train: TrainingSet, plan: FitPlan, schedule: Schedule,
        terms: LossTerms,
    ) -> None:  # fmt: skip
        self.terms = terms
        self.wants_squares = terms.alpha > 0
        super().__init__(network, train, plan, schedule)

    def _factors(self, rates: np.ndarray, step: int, last: int) -> np.ndarray:
        schedule = super()._factors(rates, step, last)
        decay = means(self.terms.alpha, self._present_totals.losses[step:last])
        by_group = schedule[step:last].reshape(last - step, -1, FACTORS)
        of_weights = [group.kind == WEIGHTS for group in self._trainer.layout.groups]
        by_group[:, of_weights, 1] += decay[:, None]
        return schedule

    def _run(self, schedule: np.ndarray, step: int, last: int) -> int:
        x, labels, weights = self.train_set.x, self._labels, self._weights
        if isinstance(x, np.ndarray):
            return super()._run(schedule, step, last)
        order, scales, size = self._window.order, self._scales, self.plan.batch_size
        for i in range(step, last):
            rows = order[i * size : (i + 1) * size]
            # Compiled code gets addresses: the arrays must stay until it has run.
            block, targets = x[rows].toarray(), labels[rows]
            data = data_of(
                block, targets, np.arange(len(rows)), scales[i : i + 1],
                None if weights is None else weights[rows],
            )  # fmt: skip
            self._trainer.draw_masks(self.mlp.dropout_seed, self.mlp.dropout_steps + i - step)
            figures = StepFigures(*(values[i : i + 1] for values in self.figures))
            if self._trainer.train(data, schedule[i : i + 1], 0, 1, figures) < 1:
                return i
        return last

    def mean_loss(self, order: np.ndarray) -> float:
        """The mean over the epoch's batches, weighted by their rows, with all terms."""
        starts = np.arange(0, len(order), self.plan.batch_size)
        sums = self.terms.scale * self.figures.losses
        if self.terms.constants is not None:
            sums += np.add.reduceat(self.terms.constants[order], starts)
        if self.wants_squares:
            sums += self.terms.alpha / 2 * self.figures.squares
        rows = np.diff(starts, append=len(order))
        return float(means(sums, self._present_totals.losses) @ rows / len(order))
