"""What RealMLP's classifier and regressor share: from a table to trained networks."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Sequence
from numbers import Integral, Real
from os import PathLike
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
)

from .._extras import require
from ..kernels.activation import ACTIVATIONS
from ..sweeps import train_many
from ._columns import Columns
from ._folds import folds, random_split
from ._recipe import Recipe, Rows, Task, Training, folded
from ._tables import Table, categorical_columns, read_table
from ._whole import WholeParameters, whole

# Seeds of splits, of the refit and of each network are drawn from here.
_SEEDS = np.iinfo(np.int32).max


class RealMLP(WholeParameters, BaseEstimator, metaclass=ABCMeta):
    """What the classifier and the regressor share."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "parametric_activation": ["boolean"],
        "periodic_embedding": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "init": [StrOptions({"normal", "data"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "n_cv": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "dtype": [StrOptions({"float32", "float64"})],
        "compute_dtype": [StrOptions({"float32", "float64", "bfloat16", "auto"}), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Learn from a table.

        Parameters
        ----------
        X : (N, D) array, or data frame of pandas, polars and others
            NaN and None are missing values; infinity is refused.
        y : (N,) targets, of a regressor also (N, K)
        sample_weight : (N,) numbers of at least 0, optional
            A row counts as so many.
        X_val, y_val : optional
            What the epochs are judged by, in the place of rows of X.

        Raises ValueError or TypeError where scikit-learn's own estimators do. A training whose loss
        is no longer finite ends with a ``NotFiniteWarning``, and its last finite network is kept.
        A fit that raises leaves the estimator and ``random_state`` as they were.
        """
        with whole(self):
            return self._fit_whole(X, y, sample_weight, X_val, y_val)

    def _fit_whole(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any) -> Self:
        recipe = self._recipe()
        table = read_table(self, X, reset=True)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        y = self._check_y(y)
        check_consistent_length(X, y)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True
            )
        self._learn_classes(y)
        if weights is not None and not weights.all():
            kept = np.flatnonzero(weights)
            table, y, weights = table.take(kept), y[kept], weights[kept]
        self._check_rows(y, X_val, y_val)
        self._learn_targets(y, weights)
        categorical = categorical_columns(table, self.categorical_features)
        self.columns_ = Columns(categorical).fit(table, weights)
        if self.periodic_embedding:
            recipe = recipe._replace(embedded=self.columns_.numbers)
        rows = Rows(self.columns_.transform(table, recipe.dtype), self._encode(y), weights)
        validation = None if X_val is None else self._validation_rows(X_val, y_val)
        self._train(recipe, rows, validation)
        return self

    # What the two differ in

    @abstractmethod
    def _check_y(self, y: Any) -> np.ndarray:
        """y as an array of targets that the estimator takes."""

    @abstractmethod
    def _learn_classes(self, y: np.ndarray) -> None:
        """Of a classifier: from all rows, also those whose weight is 0."""

    @abstractmethod
    def _learn_targets(self, y: np.ndarray, weights: np.ndarray | None) -> None:
        """What ``_encode`` needs, from the rows that count."""

    @abstractmethod
    def _encode(self, y: np.ndarray) -> np.ndarray:
        """y as the criterion takes it."""

    @abstractmethod
    def _task(self) -> Task:
        """What the networks are for."""

    # Fitting

    def _recipe(self) -> Recipe:
        """The constructor's arguments as the training takes them. Raises ValueError."""
        hidden = np.atleast_1d(np.asarray(self.hidden_layer_sizes))
        if (
            hidden.ndim != 1
            or (len(hidden) and hidden.dtype.kind not in "iu")
            or (hidden < 1).any()
        ):
            raise ValueError(
                f"hidden_layer_sizes must be whole numbers above 0, got {self.hidden_layer_sizes!r}"
            )
        return Recipe(
            tuple(map(int, hidden)), self.activation, float(self.learning_rate_init),
            int(self.batch_size), int(self.max_iter), bool(self.parametric_activation),
            float(self.dropout), float(self.weight_decay), self.init == "data", 0,
            np.dtype(self.dtype), self.compute_dtype,
        )  # fmt: skip

    def _check_rows(self, y: np.ndarray, x_val: Any, y_val: Any) -> None:
        """Enough rows for training and validation, and validation rows with their targets."""
        if (x_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be given together, or neither")
        if x_val is not None and self.n_cv > 1:
            raise ValueError(f"X_val has no use with n_cv={self.n_cv}: each fold has its own rows")
        judged = self.n_cv > 1 or x_val is not None or self.validation_fraction > 0
        if self.refit and not judged:
            raise ValueError(
                "refit=True trains for as many epochs as did best on validation rows, but "
                "validation_fraction is 0"
            )
        least = max(self.n_cv, 1 + (x_val is None and self.validation_fraction > 0))
        if len(y) < least:
            raise ValueError(
                f"Found array with {len(y)} sample(s) while a minimum of {least} is required by "
                f"{type(self).__name__} with n_cv={self.n_cv} and "
                f"validation_fraction={self.validation_fraction}."
            )

    def _validation_rows(self, x_val: Any, y_val: Any) -> Rows:
        table = read_table(self, x_val, reset=False)
        y_val = self._check_y(y_val)
        check_consistent_length(x_val, y_val)
        return Rows(self.columns_.transform(table, self.dtype), self._encode(y_val), None)

    def _train(self, recipe: Recipe, rows: Rows, validation: Rows | None) -> None:
        """Train the networks, and take over what came of it."""
        seeds = check_random_state(self.random_state).randint(_SEEDS, size=2 + self.n_cv).tolist()
        task, shares = self._task(), self._shares(rows, validation, np.random.default_rng(seeds[0]))
        trainings = [
            Training(recipe, task, train, held, seed)
            for (train, held), seed in zip(shares, seeds[2:], strict=True)
        ]
        self._run(trainings)
        self.loss_curve_ = trainings[0].losses
        self.n_iter_ = max(len(training.losses) for training in trainings)
        scores = [training.best.scores for training in trainings]
        epochs = [training.best.epoch for training in trainings]
        self.validation_scores_ = scores if self.n_cv > 1 else scores[0] or None
        self.best_epoch_ = epochs if self.n_cv > 1 else epochs[0]
        if self.refit:
            last = max(1, round(sum(epochs) / len(epochs)))
            trainings = [Training(recipe, task, rows, None, seeds[1], last)]
            self._run(trainings)
        self.networks_ = [folded(training.mlp) for training in trainings]

    def _shares(
        self, rows: Rows, validation: Rows | None, generator: np.random.Generator
    ) -> list[tuple[Rows, Rows | None]]:
        """(training rows, validation rows) of each network."""
        if self.n_cv > 1:
            classes = rows.y if rows.y.ndim == 1 else None
            splits = folds(len(rows.y), self.n_cv, classes, generator)
            return [(rows.take(train), rows.take(held)) for train, held in splits]
        if validation is not None or self.validation_fraction == 0:
            return [(rows, validation)]
        train, held = random_split(len(rows.y), self.validation_fraction, generator)
        return [(rows.take(train), rows.take(held))]

    def _run(self, trainings: Sequence[Training]) -> None:
        """Side by side, one per core."""
        if len(trainings) == 1:
            trainings[0].mlp.fit(**trainings[0].arguments)
            return
        workers = None if self.n_jobs is None else effective_n_jobs(self.n_jobs)
        train_many([(training.mlp, training.arguments) for training in trainings], workers)

    # Predicting

    @property
    def network_(self) -> Any:
        """The network, where there is one."""
        networks: list[Any] = getattr(self, "networks_", [])
        if len(networks) != 1:
            raise AttributeError(
                f"{type(self).__name__} has {len(networks)} networks: see networks_"
            )
        return networks[0]

    def _columns(self, X: Any) -> np.ndarray:
        """X as the networks take it."""
        check_is_fitted(self, "networks_")
        table: Table = read_table(self, X, reset=False)
        return self.columns_.transform(table, self.networks_[0].dtype)

    def to_onnx(self, path: str | PathLike[str], *, input_dtype: str | None = None) -> None:
        """Write the fitted estimator with its preprocessing to an ONNX file, of opset 17.

        Where all columns are numbers, the model has one input X, (N, D); otherwise an input (N, 1)
        for every column, by its name: strings, booleans, int64 or double for categories, as they
        were in ``fit``. Numbers are of ``input_dtype``, "float32" or "float64", by default
        float64, as ``fit`` reads them. A missing number is NaN, and a missing category any value
        that ``fit`` has not seen: either is the same to the estimator. Infinity, which it refuses,
        is taken for the largest number.

        A classifier's outputs are ``label``, (N,), of ``classes_``, and ``probabilities``, (N, K);
        a regressor's is ``variable``, (N, K) double, also for one value a row. Of several networks
        they are the mean, as in ``predict``. Where a column has such a name, the output's has an
        underscore behind it.

        Raises NotFittedError before ``fit``, and what ``fastmlp.MLP.to_onnx`` raises; ValueError,
        naming the column, where its categories are of several kinds.
        """
        check_is_fitted(self, "networks_")
        require("onnx", "onnx")
        from ._onnx import export_realmlp

        export_realmlp(self, path, input_dtype)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        return tags
