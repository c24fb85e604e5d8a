"""The solvers ``sgd`` and ``adam``: compiled epochs, judged as scikit-learn does.

scikit-learn's loop is followed in what it draws from the random state, in what it counts, and in
when it stops: ``sklearn.neural_network``, ``BaseMultilayerPerceptron._fit_stochastic``.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from scipy.special import xlogy
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from .._exchange._sklearn import optimizer_of
from .._measures import r2_score
from .._run import Listeners, run_epoch
from .._sources import held
from .._windows import TrainingSet
from ..callbacks import ProgressBar
from ..history import FitPlan, History
from ..schedules import as_schedule
from ..training import warn_if_lost
from ..validation import check_callbacks
from ._network import outputs_of, restart
from ._session import LossTerms, PenalisedSession

# Below this rate the learning rate "adaptive" ends a fit instead of falling further.
LEAST_RATE = 1e-6


class Rows(NamedTuple):
    """Checked rows, their targets in columns, and what they weigh."""

    X: Any  # (N, D), dense or sparse
    y: np.ndarray  # (N, K) of bool or of numbers
    sample_weight: np.ndarray | None
    weights: np.ndarray | None  # the sample weights, times those of the classes


def fit_stochastic(estimator: Any, rows: Rows, held_out: Rows | None, incremental: bool) -> None:
    """Train the estimator's network: one epoch where ``incremental``, else until it converges."""
    if estimator.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    if estimator.early_stopping and held_out is None:
        rows, held_out = _split(estimator, rows)
    network = estimator.network_
    if not (incremental and estimator._has_optimizer):
        restart(network, optimizer_of(estimator))
        estimator._has_optimizer = True
    _Fit(estimator, rows, held_out, incremental).run()


def _split(estimator: Any, rows: Rows) -> tuple[Rows, Rows]:
    """(rows to train on, rows that are held out)."""
    stratified = is_classifier(estimator) and estimator.n_outputs_ == 1
    there = [name for name, array in rows._asdict().items() if array is not None]
    halves = train_test_split(
        *(getattr(rows, name) for name in there),
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=rows.y if stratified else None,
    )
    train = rows._replace(**dict(zip(there, halves[::2], strict=True)))
    held_out = rows._replace(**dict(zip(there, halves[1::2], strict=True)))
    if held_out.X.shape[0] < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' "
            "or the size of your dataset."
        )
    return train, held_out


def score(estimator: Any, rows: Rows) -> float:
    """The accuracy of a classifier, or R²; what ``estimator.score`` gives, without its checks."""
    outputs = outputs_of(estimator.network_, rows.X)
    weights = np.ones(len(outputs)) if rows.sample_weight is None else rows.sample_weight
    if not np.isfinite(outputs).all():
        return float("nan")
    if estimator.out_activation_ == "softmax":
        right = rows.y[np.arange(len(outputs)), outputs.argmax(axis=1)]
    elif estimator.out_activation_ == "logistic":
        right = ((outputs > 0.5) == rows.y).all(axis=1)
    else:
        return r2_score(outputs, rows.y, weights)
    return float(right @ weights / weights.sum())


class _Fit:
    """One call of ``fit`` or ``partial_fit``."""

    def __init__(
        self, estimator: Any, rows: Rows, held_out: Rows | None, incremental: bool
    ) -> None:
        self.estimator, self.incremental = estimator, incremental
        self.network, self.held_out = estimator.network_, held_out
        self.samples = rows.X.shape[0]
        self.epochs = 1 if incremental else estimator.max_iter
        self.plan = self._plan()
        callbacks = check_callbacks(estimator.callbacks or (), self.plan)
        X = rows.X if isinstance(rows.X, np.ndarray) else rows.X.tocsr()
        train = TrainingSet(X, targets_of(estimator, rows.y), rows.weights)
        train = held(train, self.network, self.plan, callbacks)
        schedule = as_schedule(estimator.schedule, self.plan, self.network.lr, self.network.dtype)
        self.session = PenalisedSession(
            self.network, train, self.plan, schedule, loss_terms_of(estimator, rows)
        )
        if estimator.progress:
            callbacks.append(ProgressBar())
        self.listeners = Listeners(callbacks, self.session)
        self.history = self.network.history = History(error_name=self.network.criterion.error_name)
        self.best: tuple[np.ndarray, np.ndarray] | None = None

    def _plan(self) -> FitPlan:
        size = self.estimator.batch_size
        if size == "auto":
            size = min(200, self.samples)
        elif size > self.samples:
            warnings.warn(
                f"batch_size is {size}, more than the {self.samples} samples: one batch of all "
                "of them is taken",
                stacklevel=2,
            )
            size = self.samples
        steps = -(-self.samples // size)
        watched = self.held_out is not None
        return FitPlan(self.epochs, steps, int(size), self.samples, watched, self.epochs * steps)

    def run(self) -> None:
        before = self.network.updates
        with self.session:
            order = np.arange(self.samples, dtype=np.int64)
            self.session.prepare()
            try:
                self.listeners.tell("on_train_begin", self.network, self.plan)
                self._run_epochs(order)
            except KeyboardInterrupt:
                warnings.warn("Training interrupted by user.", stacklevel=2)
            finally:
                self.listeners.tell_the_end(self.network, self.history)
        if self.session.lost and self.network.updates == before:
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                f"values and need to be preprocessed: {self.session.lost}"
            )
        warn_if_lost(self.session, stacklevel=5)
        if self.best is not None:
            self.network.parameters, self.network.statistics = self.best

    def _run_epochs(self, order: np.ndarray) -> None:
        estimator = self.estimator
        estimator.n_iter_ = 0
        for epoch in range(self.epochs):
            if estimator.shuffle:
                # As sklearn.utils.shuffle, which takes longer than a small epoch.
                places = np.arange(self.samples)
                estimator._random_state.shuffle(places)
                order = order[places]
            run_epoch(self.session, epoch, order, self.history, self.listeners)
            self._count(order)
            self._judge()
            if self.listeners.tell("on_epoch_end", self.network, self.history):
                return
            if self.session.lost or self._has_converged() or self.incremental:
                return
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the "
            "optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=6,
        )

    def _count(self, order: np.ndarray) -> None:
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += self.samples
        estimator.loss_ = np.nan if self.session.lost else self.session.mean_loss(order)
        estimator.loss_curve_.append(estimator.loss_)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")

    def _judge(self) -> None:
        """Count the epochs since the last that was better, by the held-out rows or by the loss."""
        estimator = self.estimator
        if self.held_out is not None:
            self._score_held_out(self.held_out)
        if estimator.early_stopping:
            gained = estimator.validation_scores_[-1] - estimator.best_validation_score_
            better = not gained < estimator.tol  # NaN is as good as better.
            if gained > 0:
                estimator.best_validation_score_ = estimator.validation_scores_[-1]
                with self.session.rest():
                    self.best = self.network.parameters.copy(), self.network.statistics.copy()
        else:
            better = not estimator.loss_ > estimator.best_loss_ - estimator.tol
            estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        estimator._no_improvement_count = 0 if better else estimator._no_improvement_count + 1

    def _score_held_out(self, rows: Rows) -> None:
        reached = float("nan")
        if not self.session.lost:
            with self.session.rest():
                reached = score(self.estimator, rows)
        self.estimator.validation_scores_.append(reached)
        if self.estimator.verbose:
            print(f"Validation score: {reached:f}")

    def _has_converged(self) -> bool:
        """Whether to stop; otherwise the rate of the next epoch is set."""
        estimator, network = self.estimator, self.network
        by_solver = estimator.solver == "sgd" and estimator.optimizer is None
        if by_solver and estimator.learning_rate == "invscaling":
            rate = float(estimator.learning_rate_init) / (estimator.t_ + 1) ** estimator.power_t
            network.lr = rate
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Validation score" if estimator.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} for "
            f"{estimator.n_iter_no_change} consecutive epochs."
        )
        if not (by_solver and estimator.learning_rate == "adaptive"):
            self._say(f"{message} Stopping.")
            return True
        if network.lr <= LEAST_RATE:
            self._say(f"{message} Learning rate too small. Stopping.")
            return True
        network.lr /= 5
        self._say(f"{message} Setting learning rate to {network.lr:f}")
        estimator._no_improvement_count = 0
        return False

    def _say(self, message: str) -> None:
        if self.estimator.verbose:
            print(message)


def targets_of(estimator: Any, y: np.ndarray) -> np.ndarray:
    """Targets as the network's criterion takes them: classes, or rows."""
    if estimator.out_activation_ == "softmax":
        return y.argmax(axis=1)
    rows = y.astype(estimator.network_.dtype)
    if estimator.out_activation_ == "logistic" and estimator.label_smoothing:
        rows = (1 - estimator.label_smoothing) * rows + estimator.label_smoothing / 2
    return rows


def loss_terms_of(estimator: Any, rows: Rows) -> LossTerms:
    """What scikit-learn adds to the criterion's loss."""
    if estimator.out_activation_ == "identity":
        return LossTerms(estimator.alpha, 1 / estimator.n_outputs_)
    if estimator.out_activation_ == "exp":
        # Its loss of counts is half of the deviance, 0 at the best.
        y = rows.y.astype(np.float64)
        constants = (xlogy(y, y) - y).sum(axis=1)
        if rows.weights is not None:
            constants *= rows.weights
        return LossTerms(estimator.alpha, constants=constants)
    return LossTerms(estimator.alpha)
