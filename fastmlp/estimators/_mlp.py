"""``MLPClassifier`` and ``MLPRegressor``: scikit-learn's, trained by fastmlp."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import pairwise
from numbers import Integral, Real
from os import PathLike
from typing import Any, ClassVar, Self

import numpy as np
from sklearn import neural_network
from sklearn.base import _fit_context, is_classifier
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from .._exchange._sklearn import hidden_activations, network_of
from .._extras import require
from ..kernels.activation import ACTIVATIONS
from ..layers import Activation
from ..mlp import MLP
from ..optimizers import Optimizer
from ..presets import OPTIMIZERS
from ..schedules import Schedule
from ._checked import checked
from ._lbfgs import check_parameters, fit_lbfgs
from ._network import LayerArrays, outputs_of
from ._stochastic import Rows, fit_stochastic
from ._whole import WholeParameters, whole

_MORE_CONSTRAINTS: Mapping[str, list[Any]] = {
    "activation": [StrOptions({"logistic", *ACTIVATIONS}), Activation, list, tuple],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "batch_norm": ["boolean"],
    "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
    "compute_dtype": [StrOptions({"float32", "float64", "bfloat16", "auto"}), None],
    "schedule": [Schedule, callable, "array-like", None],
    "optimizer": [StrOptions(set(OPTIMIZERS)), Optimizer, None],
    "callbacks": [list, tuple, None],
    "progress": ["boolean"],
}


class _Compiled(WholeParameters):
    """What takes the place of scikit-learn's training and prediction.

    Base of classes that have one of scikit-learn's as their second base: parameters, checks of the
    input, labels, and what is public stay that one's.
    """

    coefs_ = LayerArrays("W")
    intercepts_ = LayerArrays("b")

    validation_scores_: list[float] | None

    # Of a classifier alone.
    class_weight: Any = None
    label_smoothing: float = 0.0

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, X_val: Any = None, y_val: Any = None
    ) -> Self:
        """Fit the network to X and y.

        X : (N, D) numbers, an array, a data frame, or a CSR or CSC matrix, which is made dense a
            batch at a time
        y : (N,) labels or values, or (N, K) indicators of labels or values
        sample_weight : (N,), of at least 0
        X_val, y_val : rows that ``early_stopping`` looks at in the place of a part of X; without
            it they are scored all the same, in ``validation_scores_``

        Raises ValueError or TypeError as scikit-learn does. Warns with a ``NotFiniteWarning`` where
        the loss ceases to be finite, and keeps the last finite weights. A fit that raises, also
        from a callback, leaves the estimator and ``random_state`` as they were.
        """
        held_out = None
        if X_val is not None or y_val is not None:
            held_out = X_val, y_val
        return self._fit(X, y, sample_weight=sample_weight, held_out=held_out)

    def _fit(
        self: Any, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False,
        held_out: tuple[Any, Any] | None = None,
    ) -> Any:  # fmt: skip
        with whole(self):
            return self._fit_whole(X, y, sample_weight, incremental, held_out)

    def _fit_whole(
        self: Any, X: Any, y: Any, sample_weight: Any, incremental: bool, held_out: Any
    ) -> Any:
        hidden = np.atleast_1d(self.hidden_layer_sizes).astype(int).tolist()
        if any(width <= 0 for width in hidden):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        hidden_activations(self.activation, len(hidden))
        by_lbfgs = self.solver == "lbfgs" and self.optimizer is None
        if by_lbfgs:
            check_parameters(self)
        first = not hasattr(self, "network_") or not (self.warm_start or incremental)
        given = y
        X, y = self._validate_input(X, y, incremental, reset=first)
        X = X.astype(self._dtype_for(X), copy=False)
        rows = self._weighted(X, y.reshape(len(y), -1), given, sample_weight, incremental)
        watched = self._check_held_out(held_out)
        self._random_state = check_random_state(self.random_state)
        sizes = [X.shape[1], *hidden, rows.y.shape[1]]
        if first:
            self._initialize(rows.y, sizes, X.dtype)
        elif not incremental:
            self._take_over(sizes)
        elif self.callbacks or self.schedule is not None or not self._has_optimizer:
            # What is the user's may raise while it trains.
            self.network_ = copy.deepcopy(self.network_)
        if watched is not None and self.validation_scores_ is None:
            self.validation_scores_ = []
        if by_lbfgs:
            fit_lbfgs(self, rows)
        else:
            fit_stochastic(self, rows, watched, incremental)
        if not self.network_.buffers.all_finite():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        return self

    def _dtype_for(self: Any, X: Any) -> Any:
        """Of the rows and the parameters: what is asked for, or that of X."""
        if self.dtype is None and self.compute_dtype == "bfloat16":
            return np.dtype(np.float32)
        dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, got {self.dtype!r}")
        return dtype

    def _weighted(
        self: Any, X: Any, y: np.ndarray, given: Any, sample_weight: Any, incremental: bool
    ) -> Rows:
        """The rows with what they weigh; ``given`` are the labels as the user wrote them."""
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X)
        if self.class_weight is None:
            return Rows(X, y, weights, weights)
        if incremental and self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which does not see all "
                "classes at once: give a dict of weights"
            )
        by_class = compute_sample_weight(self.class_weight, np.asarray(given))
        return Rows(X, y, weights, by_class if weights is None else by_class * weights)

    def _check_held_out(self: Any, held_out: tuple[Any, Any] | None) -> Rows | None:
        if held_out is None:
            return None
        if held_out[0] is None or held_out[1] is None:
            raise ValueError("X_val and y_val must be given together, got one of them")
        X, y = checked(
            self, *held_out, accept_sparse=["csr", "csc"], multi_output=True,
            y_numeric=not is_classifier(self), dtype=(np.float64, np.float32), reset=False,
        )  # fmt: skip
        if is_classifier(self):
            unknown = np.setdiff1d(unique_labels(y), self.classes_)
            if len(unknown):
                raise ValueError(f"y_val must have classes that y has, got {unknown.tolist()}")
            y = self._label_binarizer.transform(y).astype(bool)
        return Rows(X, y.reshape(len(y), -1), None, None)

    def _initialize(self: Any, y: np.ndarray, layer_units: list[int], dtype: Any) -> None:
        self.n_iter_ = self.t_ = 0
        self.n_layers_, self.n_outputs_ = len(layer_units), y.shape[1]
        if is_classifier(self):
            several = self._label_binarizer.y_type_ == "multiclass"
            self.out_activation_ = "softmax" if several else "logistic"
        else:
            self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        drawn = [self._init_coef(*pair, dtype) for pair in pairwise(layer_units)]
        self.network_ = network_of(MLP, self, *zip(*drawn, strict=True))
        if np.any(self.dropout):
            self.network_.dropout_seed = int(self._random_state.randint(1 << 31))
        self._has_optimizer = False
        self._no_improvement_count = 0
        if self.solver != "lbfgs" or self.optimizer is not None:
            self.loss_curve_: list[float] = []
            early = self.early_stopping
            self.best_loss_ = None if early else np.inf
            self.best_validation_score_ = -np.inf if early else None
        self.validation_scores_ = [] if self.early_stopping else None

    def _take_over(self: Any, sizes: list[int]) -> None:
        """Begin a fit from the weights of the last, with what the parameters say by now."""
        present = self.network_
        widths = [present.input_size, *present.hiddens, present.output_size]
        if widths != sizes:
            raise ValueError(
                f"warm_start needs a network of the widths of the previous fit, {widths}, "
                f"got {sizes}"
            )
        self.network_ = network_of(MLP, self, self.coefs_, self.intercepts_)
        if self.network_.parameters.shape == present.parameters.shape:
            self.network_.parameters = present.parameters
            self.network_.statistics = present.statistics

    def to_onnx(self, path: str | PathLike[str], *, input_dtype: str | None = None) -> None:
        """Write the fitted estimator to an ONNX file, as skl2onnx would: opset 17, any number of
        rows.

        The input X, (N, D), is of ``input_dtype``, "float32" or "float64", by default that of the
        network. A classifier's outputs are ``label``, (N,), of ``classes_``, int64, double, bool or
        string, and ``probabilities``, (N, K); of several labels a row ``label``, (N, K) int64. A
        regressor's is ``variable``, (N, K), also for one value a row. ``network_.to_onnx`` writes
        the network alone.

        Raises NotFittedError before ``fit``, and what ``fastmlp.MLP.to_onnx`` raises.
        """
        check_is_fitted(self)
        require("onnx", "onnx")
        from ._onnx import export_mlp

        export_mlp(self, path, input_dtype)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> np.ndarray:
        if check_input:
            X = checked(self, X, accept_sparse=["csr", "csc"], reset=False)
        return outputs_of(self.network_, X)


class MLPClassifier(_Compiled, neural_network.MLPClassifier):
    """scikit-learn's ``MLPClassifier``, trained by fastmlp.

    The parameters up to ``max_fun``, the attributes and the methods are those of
    ``sklearn.neural_network.MLPClassifier`` and mean the same; with the same ``random_state`` so
    are initial weights and batches. New are:

    activation : also any other of fastmlp's, by name or as an ``Activation``; or a list of them,
        one per hidden layer
    dropout : share of the outputs of each hidden layer that is dropped in training, or a list of
        shares, one for the input of each layer
    batch_norm : bool, whether hidden layers have batch norm
    class_weight : "balanced", a dict {label: weight}, or a list of those for several labels
    label_smoothing : s in [0, 1): targets y become (1 - s) y + s / K
    dtype : float32 or float64 of weights and arithmetic, by default that of X
    compute_dtype : of the operands of products, as of ``fastmlp.MLP``; "bfloat16", "auto"
    optimizer : a ``fastmlp.optimizers.Optimizer``, or the name of one in lower case, which takes
        ``learning_rate_init``; it takes the place of ``solver`` and of all that belongs to one.
        ``alpha`` stays
    schedule : a ``fastmlp.schedules.Schedule`` or what else ``lr_schedule`` of ``fastmlp.MLP.fit``
        takes; multiplies the learning rate
    callbacks : list of objects, as for ``fastmlp.MLP.fit``; they are given ``network_``
    progress : bool, whether to show a progress bar

    ``network_`` is the fitted ``fastmlp.MLP``; ``coefs_`` and ``intercepts_`` are views of it.

    Reference: scikit-learn's user guide, section 1.17, "Neural network models (supervised)".
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **neural_network.MLPClassifier._parameter_constraints,
        **_MORE_CONSTRAINTS,
        "class_weight": [StrOptions({"balanced"}), dict, list, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    loss = "log_loss"

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        dtype: Any = None,
        compute_dtype: str | None = None,
        optimizer: Any = None,
        schedule: Any = None,
        callbacks: Any = None,
        progress: bool = False,
    ) -> None:
        self._store(locals())

    @available_if(lambda self: self._check_solver())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """One epoch, as scikit-learn's; ``classes`` are needed in the first call.

        Raises as ``fit``.
        """
        with whole(self):
            return super().partial_fit(X, y, sample_weight, classes)


class MLPRegressor(_Compiled, neural_network.MLPRegressor):
    """scikit-learn's ``MLPRegressor``, trained by fastmlp.

    The parameters up to ``max_fun``, the attributes and the methods are those of
    ``sklearn.neural_network.MLPRegressor`` and mean the same; with the same ``random_state`` so
    are initial weights and batches. What is new is described at ``MLPClassifier``, whose
    ``class_weight`` and ``label_smoothing`` it lacks.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **neural_network.MLPRegressor._parameter_constraints,
        **_MORE_CONSTRAINTS,
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        dtype: Any = None,
        compute_dtype: str | None = None,
        optimizer: Any = None,
        schedule: Any = None,
        callbacks: Any = None,
        progress: bool = False,
    ) -> None:
        self._store(locals())

    def _validate_params(self) -> None:
        loss = self.loss
        if isinstance(loss, (Integral, list, tuple, np.ndarray)):
            (losses,) = self._parameter_constraints["loss"]
            known = ", ".join(map(repr, sorted(losses.options)))
            raise InvalidParameterError(
                f"loss must be one of {known}, got {loss!r}: hidden_layer_sizes is the second "
                f"parameter; write hidden_layer_sizes={loss!r}"
            )
        super()._validate_params()
