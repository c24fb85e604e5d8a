"""The network behind an estimator: from scikit-learn's parameters to an ``MLP``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..layers import Activation, BinaryCrossEntropy, Criterion, Huber, Identity, PoissonNLL
from ..layers import SoftmaxCrossEntropy as CrossEntropy
from ..layers.activation import activation_named
from ..mlp import MLP
from ..optimizers import Optimizer
from ..optimizers._scikit_learn import UncorrectedAdam, VelocitySGD
from ..presets import OPTIMIZERS

# Rows of a sparse matrix that are made dense at a time, where no batch says how many.
ROWS_AT_A_TIME = 1024


def network_of(
    estimator: Any, coefs: Sequence[np.ndarray], intercepts: Sequence[np.ndarray]
) -> Any:
    """The estimator's network, with weights (D, K) and biases (K,) as scikit-learn draws them."""
    weights, biases = iter(coefs), iter(intercepts)
    sizes = [len(coefs[0]), *(len(b) for b in intercepts)]
    hidden = hidden_activations(estimator.activation, len(sizes) - 2)
    return MLP(
        sizes[0], sizes[-1], sizes[1:-1], [*hidden, Identity()],
        lambda *_: next(weights), lambda _: next(biases)[None], criterion_of(estimator),
        num_bn_layers=(len(sizes) - 2) * bool(estimator.batch_norm),
        optimizer=optimizer_of(estimator), dtype=coefs[0].dtype, batchnorm_reduction="mean",
        compute_dtype=estimator.compute_dtype, dropout=estimator.dropout,
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
        return CrossEntropy(label_smoothing=estimator.label_smoothing)
    if estimator.out_activation_ == "logistic":
        return BinaryCrossEntropy(reduction="sum")
    if estimator.out_activation_ == "exp":
        return PoissonNLL(reduction="sum")
    # Half of the squared error, which is Huber's loss for errors that can be squared.
    return Huber(delta=1e18, reduction="sum")


def optimizer_of(estimator: Any) -> Optimizer:
    """The estimator's ``optimizer``, or what its solver stands for."""
    given, rate = estimator.optimizer, estimator.learning_rate_init
    if isinstance(given, Optimizer):
        return given
    if given is not None:
        return OPTIMIZERS[given](lr=rate)
    if estimator.solver == "adam":
        betas = estimator.beta_1, estimator.beta_2
        return UncorrectedAdam(rate, betas=betas, eps=estimator.epsilon)
    return VelocitySGD(rate, estimator.momentum, nesterov=estimator.nesterovs_momentum)


def restart(network: MLP, optimizer: Optimizer) -> None:
    """Train on with another optimizer, which knows nothing of the steps so far."""
    network.optimizer = optimizer
    network.buffers.forget(network.optimizer)
    network.updates = 0


class Arrays(list[np.ndarray]):
    """Views of a network's arrays; assigning to a place copies into the network."""

    def __setitem__(self, index: Any, value: Any) -> None:
        self[index][...] = value


class LayerArrays:
    """An attribute of an estimator: the weights, or the biases, of its network's layers.

    There once the estimator is fitted. Assigning a list copies it into the network.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, estimator: Any, owner: Any = None) -> Any:
        if estimator is None:
            return self
        try:
            network = estimator.__dict__["network_"]
        except KeyError:
            raise AttributeError(
                f"{type(estimator).__name__} has no weights before it is fitted"
            ) from None
        arrays = (getattr(layer, self._name) for layer in network.linear_layers)
        # scikit-learn's biases have one axis.
        return Arrays(a if self._name == "W" else a.reshape(-1) for a in arrays)

    def __set__(self, estimator: Any, arrays: Sequence[Any]) -> None:
        for view, value in zip(self.__get__(estimator), arrays, strict=True):
            view[...] = value


def dense_blocks(X: Any, rows: int = ROWS_AT_A_TIME) -> Iterator[np.ndarray]:
    """A dense matrix as it is, or a sparse one in dense blocks of rows."""
    if isinstance(X, np.ndarray):
        yield X
        return
    X = X.tocsr()
    for first in range(0, X.shape[0], rows):
        yield X[first : first + rows].toarray()


def outputs_of(network: MLP, X: Any) -> np.ndarray:
    """What scikit-learn calls the output activations, (N, K): probabilities or values."""
    has_probabilities = not network.criterion.of_values
    blocks = []
    for block in dense_blocks(X):
        # To fastmlp integers of 8 bits are pixels.
        x = block if block.dtype in (np.float32, np.float64) else block.astype(network.dtype)
        found = network.predict_proba(x) if has_probabilities else network.predict(x)
        blocks.append(found.reshape(len(x), -1))
    return np.concatenate(blocks)
