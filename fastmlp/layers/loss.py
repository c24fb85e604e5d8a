"""Criteria: a loss per sample, and its derivative with respect to the outputs.

What a criterion implies is here too: which targets it takes, what ``predict`` returns, and what
counts as an error.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..kernels.activation import ACTIVATIONS, activation_forward
from ..kernels.loss import loss_backward, loss_forward, predicted_values, row_errors, softmax
from ..kernels.pointwise import (
    ABSOLUTE,
    BINARY,
    HUBER,
    LARGEST_LOG_RATE,
    OWN,
    POISSON,
    QUANTILE,
    SOFTMAX,
    SQUARED,
    Loss,
)
from ..validation import (
    FLOATS,
    NearestNames,
    check_choice,
    check_labels,
    check_matrix,
    check_number,
    check_positive,
    check_targets,
    check_weights,
    contiguous,
    label_rows,
)
from ._state import Kept


class Criterion(NearestNames):
    """Base of the criteria: keeps the last ``logits``, ``labels`` and ``loss``.

    A subclass of a user's own defines ``forward`` and ``derivative``, and works in ``forward``,
    ``backward`` and ``step``; ``fit`` needs one of those that fastmlp compiles.
    """

    # What a mean over ``errors`` is called.
    error_name: ClassVar[str] = "error"
    # Whether targets are numbers to come near to, which R² is a measure of.
    of_values: ClassVar[bool] = False

    labels = Kept()
    loss = Kept()

    def __init__(self) -> None:
        self.logits: np.ndarray | None = None
        self.labels = None
        self.loss = None

    @staticmethod
    def of(
        loss: Callable[[float, float], float],
        derivative: Callable[[float, float], float],
        name: str | None = None,
        reduction: str = "mean",
    ) -> Criterion:
        """A criterion from two functions of two numbers, as fast as compiled code.

        loss, derivative : (z, y), an output and its target, to the loss, and to its derivative with
            respect to z; of arithmetic, conditions and the functions of ``math``, as for
            ``Activation.of``. Where one of them raises an exception, the loss is NaN.
        name : for messages, by default that of ``loss``
        reduction : a sample's loss is the "mean" over its outputs, or their "sum"

        Targets and predictions are numbers, as of ``MeanSquaredError``. ``save`` refuses it, since
        no file can keep its functions.
        """
        return _Own(loss, derivative, name, reduction)

    def __call__(self, x: Any, y: Any) -> np.ndarray:
        return self.forward(x, y)

    def forward(self, x: Any, y: Any) -> np.ndarray:
        """The loss of every sample, (N,)."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def derivative(self) -> np.ndarray:
        """The derivative of each sample's loss with respect to its outputs, (N, K)."""
        raise TypeError(f"{type(self).__name__} does not define derivative")

    def check_outputs(self, outputs: int) -> None:
        """Raise ValueError where it does not suit a network of so many outputs."""

    def check_targets(self, name: str, targets: Any, rows: int, outputs: int) -> np.ndarray:
        """(rows,) integer classes or (rows, outputs) real numbers, whichever it takes."""
        return check_labels(name, targets, rows, outputs)

    def class_shares(self, targets: np.ndarray) -> np.ndarray | None:
        """What each row counts for in a mean, (N,) float64; None for 1."""
        return None

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """What rows of outputs, (N, K), stand for: here the most likely class, (N,) int64."""
        return outputs.argmax(axis=1)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Of every class or label, (N, K). Raises TypeError where outputs are no probabilities."""
        p = np.empty_like(outputs)
        softmax(p, outputs)
        return p


class Compiled(Criterion):
    """A criterion that the epoch knows by its ``code``.

    ``arguments`` are the attributes that make it what it is, and how each is checked when it is
    set, now or later.
    """

    code: ClassVar[int]
    arguments: ClassVar[dict[str, Callable[[str, Any], Any]]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        check = self.arguments.get(name)
        super().__setattr__(name, value if check is None else check(name, value))

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self)).parameters
        values = arguments_of(self).items()
        changed = [f"{name}={v!r}" for name, v in values if v != defaults[name].default]
        return f"{type(self).__name__}({', '.join(changed)})"

    def formula(self, outputs: int, dtype: Any) -> Loss:
        """What tells compiled code which criterion this is."""
        return Loss(self.code)

    def weights_of_classes(self, dtype: Any) -> np.ndarray:
        """(K,) of dtype, or empty."""
        return np.empty(0, dtype)

    def forward(self, x: Any, y: Any) -> np.ndarray:
        """The loss of every sample.

        x : (N, K) outputs    y : (N, K) rows of targets, or (N,) where the criterion takes them
        Returns (N,), of the dtype of x. Raises ValueError or TypeError where shapes or dtypes do
        not fit.
        """
        x = np.asarray(x)
        logits = check_matrix("x", x, x.shape[-1] if x.ndim else 0)
        dtype = logits.dtype if logits.dtype in FLOATS else np.dtype(np.float64)
        labels = self.check_targets("y", y, *logits.shape)
        self.logits = contiguous(logits, dtype)
        self.labels = label_rows(labels, logits.shape[1], dtype)
        self.loss = self.losses(self.logits, self.labels)
        return self.loss

    def losses(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(N,): ``forward`` of outputs and targets that have been checked, without a trace."""
        values = np.empty(len(outputs), outputs.dtype)
        rows = label_rows(targets, outputs.shape[1], outputs.dtype)
        loss_forward(values, outputs, rows, *self._compiled(outputs))
        return values

    def errors(self, outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """(N,): of every row its class missed, its share of labels missed, or how far its values
        are off in the mean."""
        errors = np.empty(len(outputs), outputs.dtype)
        rows = label_rows(targets, outputs.shape[1], outputs.dtype)
        row_errors(errors, outputs, rows, self.formula(outputs.shape[1], outputs.dtype))
        return errors

    def derivative(self) -> np.ndarray:
        """The derivative of each loss of the last forward, (N, K), not divided by N.

        Raises RuntimeError before the first ``forward``.
        """
        if self.logits is None or self.labels is None:
            raise RuntimeError(f"{type(self).__name__}: call forward before derivative")
        dz = np.empty_like(self.logits)
        loss_backward(dz, self.logits, self.labels, *self._compiled(self.logits))
        return dz

    def _compiled(self, outputs: np.ndarray) -> tuple[Loss, np.ndarray]:
        dtype = outputs.dtype
        return self.formula(outputs.shape[1], dtype), self.weights_of_classes(dtype)


def _check_class_weights(name: str, value: Any) -> tuple[float, ...] | None:
    return None if value is None else tuple(check_weights(name, value).tolist())


class SoftmaxCrossEntropy(Compiled):
    """Softmax followed by cross-entropy, through LogSumExp: one class out of K.

    label_smoothing : s in [0, 1): labels y become (1 - s) y + s / K
    class_weights : K numbers, not negative, that multiply the labels of their class; means over
        samples are then divided by the sum of the weights of their classes

    The derivative is softmax(x) - y even where a row of labels does not sum to 1; with class
    weights it is that of the loss. Targets are (N,) classes, or (N, K) rows of labels. ``predict``
    gives the most likely class, errors are classes that are missed.
    Reference: CMU 11-785 HW1P1, section 3.2 and appendices A and B; smoothing after Szegedy et al.,
    "Rethinking the inception architecture for computer vision", 2016, section 7.
    """

    code = SOFTMAX
    arguments: ClassVar = {
        "label_smoothing": functools.partial(check_number, least=0, below=1),
        "class_weights": _check_class_weights,
    }

    def __init__(self, label_smoothing: float = 0.0, class_weights: Any = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def check_outputs(self, outputs: int) -> None:
        """At least 2, and as many as there are class weights. Raises ValueError."""
        if outputs == 1:
            raise ValueError(
                "output_size must be at least 2 with SoftmaxCrossEntropy, whose loss of a single "
                "output is always 0: use 2 outputs for two classes, or BinaryCrossEntropy, got 1"
            )
        self._check_length(outputs)

    def _check_length(self, outputs: int) -> None:
        if self.class_weights is not None and len(self.class_weights) != outputs:
            raise ValueError(
                f"class_weights must have {outputs} entries, one per output, "
                f"got {len(self.class_weights)}"
            )

    def check_targets(self, name: str, targets: Any, rows: int, outputs: int) -> np.ndarray:
        self._check_length(outputs)
        return super().check_targets(name, targets, rows, outputs)

    def formula(self, outputs: int, dtype: Any) -> Loss:
        return Loss(self.code, self.label_smoothing)

    def weights_of_classes(self, dtype: Any) -> np.ndarray:
        return np.array(() if self.class_weights is None else self.class_weights, dtype)

    def class_shares(self, targets: np.ndarray) -> np.ndarray | None:
        if self.class_weights is None:
            return None
        weights = np.array(self.class_weights)
        return weights[targets] if targets.ndim == 1 else (targets * weights).sum(axis=1)


class _Pointwise(Compiled):
    """Base of those that look at each output by itself: several labels a sample, and regression.

    With z the outputs and y the targets, (N, K) both, a sample's loss is the mean over its outputs,
    as torch.nn takes it, or their sum. With a single output targets may be (N,), as predictions
    are.
    """

    arguments: ClassVar = {
        "reduction": functools.partial(check_choice, allowed=("mean", "sum")),
    }
    of_values = True
    error_name = "mean absolute error"
    # The least and the largest target.
    targets: ClassVar[tuple[float, float]] = (-np.inf, np.inf)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def formula(self, outputs: int, dtype: Any) -> Loss:
        return Loss(self.code, self._parameter(dtype), self._scale(outputs))

    def _parameter(self, dtype: Any) -> float:
        return 0.0

    def _scale(self, outputs: int) -> float:
        return 1 / outputs if self.reduction == "mean" else 1.0

    def check_targets(self, name: str, targets: Any, rows: int, outputs: int) -> np.ndarray:
        """(rows, outputs) real numbers; (rows,) become a column. Raises ValueError, TypeError."""
        hint = f"; {type(self).__name__} takes no classes"
        return check_targets(name, targets, (rows, outputs), self.targets, hint)

    def values(self, outputs: np.ndarray) -> np.ndarray:
        """What outputs stand for, (N, K)."""
        values = np.empty_like(outputs)
        formula = self.formula(outputs.shape[1], outputs.dtype)
        predicted_values(values.reshape(-1), outputs.reshape(-1), formula)
        return values

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """The values, (N, K); (N,) of a single output."""
        values = self.values(outputs)
        return values[:, 0] if values.shape[1] == 1 else values

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        raise TypeError(f"{type(self).__name__} predicts values, which have no probabilities")


class BinaryCrossEntropy(_Pointwise):
    """log(1 + exp(z)) - y z: K labels a sample, each 0 or 1, or a share between.

    ``predict`` gives the labels with a probability above 1/2, 0 and 1 as int64; errors are shares
    of labels missed. torch.nn.BCEWithLogitsLoss.
    """

    code = BINARY
    of_values = False
    error_name = "share of labels missed"
    targets = (0, 1)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """The labels, int64, (N, K); (N,) of a single output."""
        return super().predict(outputs).astype(np.int64)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """sigmoid(z), (N, K)."""
        p = np.empty_like(outputs)
        flat = p.reshape(-1)
        activation_forward(flat, flat, outputs.reshape(-1), ACTIVATIONS["sigmoid"])
        return p


class MeanSquaredError(_Pointwise):
    """(z - y)**2. torch.nn.MSELoss."""

    code = SQUARED


class MeanAbsoluteError(_Pointwise):
    """``|z - y|``, whose derivative at 0 is 0. torch.nn.L1Loss."""

    code = ABSOLUTE


class Huber(_Pointwise):
    """``(z - y)**2 / 2`` up to ``|z - y| = delta``, then ``delta * (|z - y| - delta / 2)``.

    Reference: Huber, "Robust estimation of a location parameter", 1964; torch.nn.HuberLoss.
    """

    code = HUBER
    arguments: ClassVar = {"delta": check_positive, **_Pointwise.arguments}

    def __init__(self, delta: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.delta = delta

    def _parameter(self, dtype: Any) -> float:
        return self.delta


class PoissonNLL(_Pointwise):
    """exp(z) - y z: counts y of at least 0, whose expectation is exp(z).

    ``predict`` gives exp(z). Beyond 44 in float32 and 354 in float64, where such counts are not
    heard of, exp goes on as a straight line, so that the loss stays finite. torch.nn.PoissonNLLLoss
    with log_input and without the term of Stirling's formula.
    """

    code = POISSON
    targets = (0, np.inf)

    def _parameter(self, dtype: Any) -> float:
        return LARGEST_LOG_RATE[np.dtype(dtype).name]


class Quantile(_Pointwise):
    """q * (y - z) where y is above z, (1 - q) * (z - y) elsewhere: z becomes y's q-th quantile.

    q : in (0, 1)
    Reference: Koenker and Bassett, "Regression quantiles", 1978.
    """

    code = QUANTILE
    arguments: ClassVar = {
        "q": functools.partial(check_positive, below=1),
        **_Pointwise.arguments,
    }

    def __init__(self, q: float = 0.5, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.q = q

    def _parameter(self, dtype: Any) -> float:
        return self.q


class _Own(_Pointwise):
    """Two functions of a user's own."""

    code = OWN

    def __init__(self, loss: Any, derivative: Any, name: str | None, reduction: str) -> None:
        super().__init__(reduction)
        for argument, function in (("loss", loss), ("derivative", derivative)):
            if not callable(function):
                raise TypeError(
                    f"{argument} must be a function of an output and its target, got {function!r}"
                )
        self._functions = loss, derivative
        self.name = getattr(loss, "__name__", "loss") if name is None else str(name)

    def formula(self, outputs: int, dtype: Any) -> Loss:
        """As in ``Compiled``. Raises TypeError where the functions cannot be compiled."""
        return Loss.of_own(*self._functions, self._scale(outputs), dtype)

    def __repr__(self) -> str:
        return f"Criterion.of({self.name})"


CRITERIA: dict[str, type[Compiled]] = {
    cls.__name__: cls
    for cls in (
        SoftmaxCrossEntropy, BinaryCrossEntropy, MeanSquaredError, MeanAbsoluteError, Huber,
        PoissonNLL, Quantile,
    )
}  # fmt: skip
"""Those that a file can name."""


def arguments_of(criterion: Any) -> dict[str, Any]:
    """The arguments that make one of ``CRITERIA`` what it is, by name."""
    return {name: getattr(criterion, name) for name in criterion.arguments}


def is_own(criterion: Any) -> bool:
    """Whether it is made of a user's own functions."""
    return isinstance(criterion, _Own)


def is_compiled_criterion(criterion: Any) -> bool:
    """Whether the engine knows the criterion: its very class, not one derived from it."""
    return type(criterion) in (*CRITERIA.values(), _Own)
