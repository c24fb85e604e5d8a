"""The network of an estimator of scikit-learn's: from its parameters to an ``MLP``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._extras import require
from ..layers import (
    Activation,
    BinaryCrossEntropy,
    Criterion,
    Huber,
    Identity,
    PoissonNLL,
    SoftmaxCrossEntropy,
)
from ..layers.activation import activation_named
from ..optimizers import Optimizer
from ..optimizers._scikit_learn import UncorrectedAdam, VelocitySGD
from ..presets import OPTIMIZERS

# Parameters of fastmlp's estimators, and what stands for them in scikit-learn's.
_MORE = {
    "batch_norm": False,
    "compute_dtype": None,
    "dropout": 0.0,
    "label_smoothing": 0.0,
    "optimizer": None,
}


def from_sklearn(cls: Any, estimator: Any) -> Any:
    """See ``MLP.from_sklearn``."""
    require("sklearn", "sklearn")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.utils.validation import check_is_fitted

    if not isinstance(estimator, (MLPClassifier, MLPRegressor)):
        raise TypeError(
            "estimator must be an MLPClassifier or MLPRegressor, of scikit-learn or of "
            f"fastmlp.estimators, got {estimator!r}"
        )
    check_is_fitted(estimator)
    if hasattr(estimator, "network_"):
        return copy.deepcopy(estimator.network_)
    return network_of(cls, estimator, estimator.coefs_, estimator.intercepts_)


def network_of(
    cls: Any, estimator: Any, coefs: Sequence[np.ndarray], intercepts: Sequence[np.ndarray]
) -> Any:
    """An estimator's network, a new ``cls``, with weights (D, K) and biases (K,) of scikit-learn's.

    estimator : scikit-learn's, or fastmlp's, which has more parameters
    """
    weights, biases = iter(coefs), iter(intercepts)
    sizes = [len(coefs[0]), *(len(b) for b in intercepts)]
    hidden = hidden_activations(estimator.activation, len(sizes) - 2)
    return cls(
        sizes[0], sizes[-1], sizes[1:-1], [*hidden, Identity()],
        lambda *_: next(weights), lambda _: next(biases)[None], criterion_of(estimator),
        num_bn_layers=(len(sizes) - 2) * bool(_more(estimator, "batch_norm")),
        optimizer=optimizer_of(estimator), dtype=coefs[0].dtype, batchnorm_reduction="mean",
        compute_dtype=_more(estimator, "compute_dtype"), dropout=_more(estimator, "dropout"),
    )  # fmt: skip


def hidden_activations(activation: Any, count: int) -> list[Activation]:
    """A layer per hidden layer, from a name, an ``Activation``, or a list of them.

    Raises ValueError for an unknown name and for a list of another length.
    """
    if isinstance(activation, (str, Activation)):
        activation = [activation] * count
    if len(activation) != count:
        raise ValueError(
            f"activation must have {count} entries, one per hidden layer, got {len(activation)}"
        )
    return [a if isinstance(a, Activation) else _activation_named(a) for a in activation]


def _activation_named(name: Any) -> Activation:
    return activation_named("sigmoid" if name == "logistic" else name)


def criterion_of(estimator: Any) -> Criterion:
    """The criterion whose derivative with respect to the logits is scikit-learn's."""
    if estimator.out_activation_ == "softmax":
        return SoftmaxCrossEntropy(_more(estimator, "label_smoothing"))
    if estimator.out_activation_ == "logistic":
        return BinaryCrossEntropy(reduction="sum")
    if estimator.out_activation_ == "exp":
        return PoissonNLL(reduction="sum")
    # Half of the squared error, which is Huber's loss for errors that can be squared.
    return Huber(delta=1e18, reduction="sum")


def optimizer_of(estimator: Any) -> Optimizer:
    """The estimator's ``optimizer``, or what its solver stands for."""
    given, rate = _more(estimator, "optimizer"), estimator.learning_rate_init
    if isinstance(given, Optimizer):
        return given
    if given is not None:
        return OPTIMIZERS[given](lr=rate)
    if estimator.solver == "adam":
        betas = estimator.beta_1, estimator.beta_2
        return UncorrectedAdam(rate, betas=betas, eps=estimator.epsilon)
    return VelocitySGD(rate, estimator.momentum, nesterov=estimator.nesterovs_momentum)


def _more(estimator: Any, name: str) -> Any:
    return getattr(estimator, name, _MORE[name])
