"""RealMLP: networks for tables that need no tuning, as scikit-learn's estimators."""

from __future__ import annotations

from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y

from ..layers import MeanSquaredError, SoftmaxCrossEntropy
from ._realmlp_base import RealMLP
from ._recipe import Task
from ._scores import accuracy, neg_log_loss, neg_mae, neg_rmse


class RealMLPClassifier(ClassifierMixin, RealMLP):
    """A classifier for tables that needs no tuning: RealMLP-TD-S.

    Numbers are shifted and scaled by their quartiles and pressed into (-3, 3), categories become
    columns of their own (see ``Columns``). Every column is multiplied by a number that is learnt;
    three hidden layers of 256 follow. It is trained for 256 epochs by Adam, with a rate that goes
    up and down four times and with smoothed labels; the epoch that does best on a random fifth of
    the rows, the last of those that do, is the one that is kept.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
    activation : str
        Of the hidden layers, one of fastmlp's by name.
    parametric_activation : bool
        Learn, for every hidden neuron, how much of its activation is the identity.
    periodic_embedding : bool
        Learn, for every column of numbers, three sums of cosines of it, which the network takes
        beside it (``fastmlp.PeriodicEmbeddings``).
    dropout : float
        Share of the hidden layers' outputs that is dropped in the first half of the training; in
        the second it falls to 0 along a cosine, as ``weight_decay`` does. RealMLP-TD has 0.15.
    weight_decay : float
        Share of a weight that goes per step, times the rate. RealMLP-TD has 0.02.
    init : "normal" or "data"
        Weights and biases from N(0, 1) and the last layer's 0, or, as RealMLP-TD, such that every
        neuron's products deviate by 1 on the training rows and its kink is among them.
    learning_rate_init : float
        The largest learning rate. RealMLP-TD has 0.04 for classes and 0.2 for values.
    batch_size : int
        An epoch's last rows, too few for a batch, wait for the next epoch.
    max_iter : int
        Epochs.
    label_smoothing : float
        Share of every label that is spread over all classes, in training alone.
    val_metric : "class_error" or "log_loss"
        What the epochs are judged by; the loss without smoothing.
    validation_fraction : float
        Share of the rows that judge the epochs; with 0 the last epoch is kept.
    n_cv : int
        From 2 on, so many networks, each judged by a part of the rows and trained on the others, a
        network per core at a time; predictions are the mean of theirs.
    refit : bool
        Train one network more, on all rows, for as many epochs as were best (the mean of those of
        the folds). It then predicts, alone.
    categorical_features : "from_dtype" or array-like of str, int or bool
        Columns that hold categories, besides those of a frame whose dtype says so: categories,
        strings, booleans, objects.
    dtype : "float32" or "float64"
    compute_dtype : str, optional
        As in ``fastmlp.MLP``.
    n_jobs : int, optional
        How many networks are trained at a time, by default as many as there are threads.
    random_state : int, RandomState instance or None

    Attributes
    ----------
    classes_ : (K,) the labels
    networks_, network_ : list of MLP, or the only one
        Networks that take ``columns_``' result: linear layers and activations, with embeddings
        where these are asked for.
    columns_ : Columns
        The preprocessing.
    best_epoch_ : int, or list of int with ``n_cv``
        The epoch that was kept, counted from 1.
    validation_scores_ : list of float, a list of lists with ``n_cv``, or None without validation
        After every epoch, the larger the better: accuracy, or log loss below 0.
    loss_curve_ : list of float
        Training loss after every epoch, of the first network.
    n_iter_ : int
        Epochs.
    n_features_in_, feature_names_in_ : as in scikit-learn

    Reference: Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", 2024.
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **RealMLP._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "val_metric": [StrOptions({"class_error", "log_loss"})],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (256, 256, 256),
        activation: str = "selu",
        *,
        parametric_activation: bool = False,
        periodic_embedding: bool = False,
        dropout: float = 0.0,
        weight_decay: float = 0.0,
        init: str = "normal",
        learning_rate_init: float = 0.04,
        batch_size: int = 256,
        max_iter: int = 256,
        label_smoothing: float = 0.1,
        val_metric: str = "class_error",
        validation_fraction: float = 0.2,
        n_cv: int = 1,
        refit: bool = False,
        categorical_features: Any = "from_dtype",
        dtype: str = "float32",
        compute_dtype: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self._store(locals())

    def _check_y(self, y: Any) -> np.ndarray:
        y = _check_y(y, estimator=self)
        check_classification_targets(y)
        return y

    def _learn_classes(self, y: np.ndarray) -> None:
        self.classes_ = np.unique(y)

    def _learn_targets(self, y: np.ndarray, weights: np.ndarray | None) -> None:
        present = np.unique(y)
        if len(present) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of at least 2 classes, whose weight is above 0, "
                f"but the data contains only one class: {present[0]!r}"
            )

    def _encode(self, y: np.ndarray) -> np.ndarray:
        codes = np.minimum(np.searchsorted(self.classes_, y), len(self.classes_) - 1)
        unknown = np.flatnonzero(self.classes_[codes] != y)
        if len(unknown):
            raise ValueError(f"y_val has a class that y lacks: {y[unknown[0]]!r}")
        return codes

    def _task(self) -> Task:
        score = accuracy if self.val_metric == "class_error" else neg_log_loss
        return Task(len(self.classes_), SoftmaxCrossEntropy(self.label_smoothing), score)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of every class for every row of X, (N, K); columns as ``classes_``."""
        x = self._columns(X)
        return np.mean([network.predict_proba(x) for network in self.networks_], axis=0)

    def predict(self, X: Any) -> np.ndarray:
        """The most likely label of every row of X, (N,)."""
        chances = self.predict_proba(X)
        return self.classes_[chances.argmax(axis=1)]


class RealMLPRegressor(RegressorMixin, RealMLP):
    """A regressor for tables that needs no tuning: RealMLP-TD-S.

    As ``RealMLPClassifier``, with Mish in the place of SELU, a larger learning rate, and the
    squared error of targets that are standardised.

    Parameters are those of ``RealMLPClassifier``, without ``label_smoothing``, and

    val_metric : "rmse" or "mae"
        What the epochs are judged by: the root of the mean square of what is missed, or its mean.

    Attributes are likewise, without ``classes_``, and

    y_mean_, y_std_ : float, or (K,) arrays
        Of the targets; a network's output is ``(y - y_mean_) / y_std_``.
    validation_scores_ : after every epoch, the larger the better: the metric below 0
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **RealMLP._parameter_constraints,
        "val_metric": [StrOptions({"rmse", "mae"})],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (256, 256, 256),
        activation: str = "mish",
        *,
        parametric_activation: bool = False,
        periodic_embedding: bool = False,
        dropout: float = 0.0,
        weight_decay: float = 0.0,
        init: str = "normal",
        learning_rate_init: float = 0.07,
        batch_size: int = 256,
        max_iter: int = 256,
        val_metric: str = "rmse",
        validation_fraction: float = 0.2,
        n_cv: int = 1,
        refit: bool = False,
        categorical_features: Any = "from_dtype",
        dtype: str = "float32",
        compute_dtype: str | None = None,
        n_jobs: int | None = None,
        random_state: Any = None,
    ) -> None:
        self._store(locals())

    def _check_y(self, y: Any) -> np.ndarray:
        y = check_array(y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=self)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if y.ndim > 2 or y.ndim == 0:
            raise ValueError(f"y must be (N,) or (N, K), got {y.shape}")
        return y

    def _learn_classes(self, y: np.ndarray) -> None:
        pass

    def _learn_targets(self, y: np.ndarray, weights: np.ndarray | None) -> None:
        self.y_mean_ = np.average(y, axis=0, weights=weights)
        self.y_std_ = np.sqrt(np.average((y - self.y_mean_) ** 2, axis=0, weights=weights))

    def _encode(self, y: np.ndarray) -> np.ndarray:
        if np.shape(y)[1:] != np.shape(self.y_mean_):
            raise ValueError(f"y_val must be (N, {np.size(self.y_mean_)}), got {y.shape}")
        targets = (y - self.y_mean_) / np.where(self.y_std_ > 0, self.y_std_, 1)
        return targets.reshape(len(y), -1).astype(self.dtype)

    def _task(self) -> Task:
        score = neg_rmse if self.val_metric == "rmse" else neg_mae
        return Task(np.size(self.y_mean_), MeanSquaredError(), partial(score, unit=self.y_std_))

    def predict(self, X: Any) -> np.ndarray:
        """The values for every row of X, (N,) or (N, K) float64."""
        x = self._columns(X)
        outputs = [network.predict(x).astype(np.float64) for network in self.networks_]
        return np.mean(outputs, axis=0) * self.y_std_ + self.y_mean_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
