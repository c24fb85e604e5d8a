"""The network behind an estimator: its arrays by scikit-learn's names, and what it predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..mlp import MLP
from ..optimizers import Optimizer

# Rows of a sparse matrix that are made dense at a time, where no batch says how many.
ROWS_AT_A_TIME = 1024


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
