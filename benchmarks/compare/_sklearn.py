"""scikit-learn's MLPClassifier, an epoch per ``partial_fit``."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier

from ._data import orders, training_set
from ._judge import Parameters, loss, wrong_share
from ._workloads import Workload

_ACTIVATIONS = {"relu": "relu", "sigmoid": "logistic", "tanh": "tanh"}

# The images are finite; checking them again at every call would be timed.
sklearn.set_config(assume_finite=True)


class _GivenOrder(np.random.RandomState):
    """Makes MLPClassifier shuffle into the order that all peers share."""

    order: np.ndarray

    def shuffle(self, x: Any) -> None:
        x[:] = self.order


def _classifier(workload: Workload, x: np.ndarray, y: np.ndarray) -> MLPClassifier:
    """A classifier with the given initial weights, zero biases and no momentum gathered yet."""
    network = workload.network
    if network.batchnorm:
        raise LookupError("has no batch norm")
    generator = _GivenOrder(0)
    few = min(len(x), network.batch_size)
    classifier = MLPClassifier(
        network.sizes[1:-1], activation=_ACTIVATIONS[network.activation], solver="sgd", alpha=0,
        batch_size=few, learning_rate="constant", learning_rate_init=network.lr,
        momentum=network.momentum, nesterovs_momentum=False, shuffle=True, random_state=generator,
    )  # fmt: skip
    # The first call builds the layers and the optimiser; their arrays are then set in place.
    generator.order = np.arange(few)
    classifier.partial_fit(x[:few], y[:few], classes=np.arange(10))
    initial = network.initial_weights(x.dtype)
    for w, b, value in zip(classifier.coefs_, classifier.intercepts_, initial, strict=True):
        w[:], b[:] = value, 0
    for velocity in classifier._optimizer.velocities:
        velocity[:] = 0
    return classifier


class Training:
    """``partial_fit`` over all rows is an epoch."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.x, self.y = training_set(workload.samples, workload.dtype)
        self.classifier = _classifier(workload, self.x, self.y)

    def run(self, seed: int) -> None:
        for order in orders(len(self.x), seed, self.workload.repeats):
            self.classifier.random_state.order = order
            self.classifier.partial_fit(self.x, self.y)

    def figure(self) -> float:
        layers = zip(self.classifier.coefs_, self.classifier.intercepts_, strict=True)
        return loss(self.workload, [Parameters(w, b) for w, b in layers])


class Inference:
    """``predict``."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.x, y = training_set(workload.rows, workload.dtype)
        self.classifier = _classifier(workload, self.x, y)

    def run(self, seed: int) -> None:
        for _ in range(self.workload.repeats):
            self.classifier.predict(self.x)

    def figure(self) -> float:
        return wrong_share(self.classifier.predict, self.workload.rows, self.workload.dtype)


JOBS = {"train": Training, "inference": Inference}
