"""The solver ``lbfgs``: SciPy's L-BFGS-B on the compiled gradient of all rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result

from ..engine import Objective, Trainer, data_of
from ..kernels._rates import unit_for
from ..kernels.network import Data, StepFigures
from ._network import ROWS_AT_A_TIME
from ._stochastic import Rows, loss_terms_of, targets_of

# What acts on batches and epochs, and its default.
_FOR_EPOCHS = {
    "dropout": 0.0, "batch_norm": False, "callbacks": None, "progress": False, "schedule": None,
    "optimizer": None,
}  # fmt: skip


def check_parameters(estimator: Any) -> None:
    """Raise ValueError where a parameter is set that acts on batches or epochs."""
    for name in _FOR_EPOCHS:
        value, default = getattr(estimator, name), _FOR_EPOCHS[name]
        if value is not default and value != default:
            raise ValueError(f"{name} needs solver 'sgd' or 'adam', got {value!r} with 'lbfgs'")


def fit_lbfgs(estimator: Any, rows: Rows) -> None:
    """Minimise the loss over all rows; ``max_iter`` iterations, ``max_fun`` evaluations at most."""
    network = estimator.network_
    loss = _Loss(estimator, rows)
    found = scipy.optimize.minimize(
        loss, network.parameters.astype(np.float64), method="L-BFGS-B", jac=True,
        options={
            "maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol
        },
    )  # fmt: skip
    estimator.n_iter_ = _check_optimize_result("lbfgs", found, estimator.max_iter)
    estimator.loss_ = float(found.fun)
    network.parameters = found.x.astype(network.dtype)


class _Loss:
    """The loss of flat parameters and its gradient, over all rows.

    The rows go through the network in batches that stay in the cache, whose gradients are added up.
    """

    def __init__(self, estimator: Any, rows: Rows) -> None:
        self.network = network = estimator.network_
        self.X = rows.X if isinstance(rows.X, np.ndarray) else rows.X.tocsr()
        self.targets = targets_of(estimator, rows.y)
        self.weights = None if rows.weights is None else rows.weights.astype(network.dtype)
        self.terms = loss_terms_of(estimator, rows)
        self.samples = self.X.shape[0]
        self.count = float(self.samples if rows.weights is None else rows.weights.sum())
        self.batch = min(ROWS_AT_A_TIME, self.samples)
        self.steps = -(-self.samples // self.batch)
        self.penalised = network.layout.of_weights()
        self.trainer = self._trainer()
        self.figures = StepFigures(np.zeros(self.steps), np.zeros(self.steps), np.empty(0))

    def _trainer(self) -> Trainer:
        network = self.network
        learnt, statistics = network.buffers.for_writing()
        # One more batch than there are: no update follows.
        objective = Objective(
            network.optimizer.options, apart=True, accumulate=self.steps + 1,
            loss=network.criterion.formula(network.output_size, network.dtype),
        )  # fmt: skip
        unit = unit_for(network.compute_dtype)
        return Trainer(network.layout, learnt, statistics, self.batch, objective, unit)

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        self.network.parameters = parameters.astype(self.network.dtype)
        self.trainer.pack()
        layout = self.network.layout
        factors = self.network.optimizer.schedule(np.zeros(1), 0, layout.groups, layout.dtype)
        schedule = np.repeat(factors, self.steps + 1, axis=0)
        for data, first, last in self._batches():
            self.trainer.train(data, schedule, first, last, self.figures)
        weights = np.where(self.penalised, self.network.parameters, 0).astype(np.float64)
        loss = (
            self.terms.scale * self.figures.losses.sum() + self.terms.alpha / 2 * weights @ weights
        )
        if self.terms.constants is not None:
            loss += self.terms.constants.sum()
        gradient = self.trainer.gradients() + self.terms.alpha * weights
        return loss / self.count, gradient / self.count

    def _batches(self) -> Iterator[tuple[Data, int, int]]:
        """(rows, first step, last step): all at once, or each batch of a sparse matrix."""
        order, scales = np.arange(self.samples), np.zeros(self.steps, self.network.dtype)
        if isinstance(self.X, np.ndarray):
            yield data_of(self.X, self.targets, order, scales, self.weights), 0, self.steps
            return
        for step in range(self.steps):
            start = step * self.batch
            rows = slice(start, start + self.batch)
            weights = None if self.weights is None else self.weights[rows]
            # Named, so that they are there while compiled code has their addresses.
            block, targets = self.X[rows].toarray(), self.targets[rows]
            yield data_of(block, targets, order - start, scales, weights), step, step + 1
