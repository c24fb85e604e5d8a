"""Plain NumPy: in-place arithmetic, one temporary per product, as one writes it for speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference import ReferenceMLP, reference_training_stats

from . import _setups
from ._data import orders, training_set
from ._judge import Parameters, loss, wrong_share
from ._workloads import Workload

_KEEP, _EPS = 0.9, 1e-8


def _relu(z: np.ndarray) -> None:
    np.maximum(z, 0, out=z)


def _relu_back(delta: np.ndarray, a: np.ndarray) -> None:
    delta *= a > 0


def _sigmoid(z: np.ndarray) -> None:
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += 1
    np.reciprocal(z, out=z)


def _sigmoid_back(delta: np.ndarray, a: np.ndarray) -> None:
    delta *= a
    delta *= 1 - a


Elementwise = tuple[Callable[[Any], None], Callable[[Any, Any], None]]
_ACTIVATIONS: dict[str, Elementwise] = {
    "relu": (_relu, _relu_back),
    "sigmoid": (_sigmoid, _sigmoid_back),
}


class _BatchNorm:
    """Batch norm on (N, F), in training mode."""

    def __init__(self, width: int, dtype: Any) -> None:
        self.gamma, self.var = np.ones(width, dtype), np.ones(width, dtype)
        self.beta, self.mean = np.zeros(width, dtype), np.zeros(width, dtype)

    def forward(self, z: np.ndarray) -> np.ndarray:
        mean = z.mean(axis=0)
        z -= mean
        var = np.einsum("nf,nf->f", z, z) / len(z)
        for running, value in ((self.mean, mean), (self.var, var)):
            running *= _KEEP
            running += (1 - _KEEP) * value
        self.inverse_std = 1 / np.sqrt(var + z.dtype.type(_EPS))
        z *= self.inverse_std
        self.normalised = z
        return self.gamma * z + self.beta

    def backward(self, delta: np.ndarray, lr: float) -> None:
        """delta becomes the gradient of the input; gamma and beta take their step."""
        dgamma = np.einsum("nf,nf->f", delta, self.normalised)
        dbeta = delta.sum(axis=0)
        delta -= dbeta / len(delta)
        delta -= self.normalised * (dgamma / len(delta))
        delta *= self.gamma * self.inverse_std
        self.gamma -= lr * dgamma
        self.beta -= lr * dbeta


class _Network:
    """A network of the workload's shape and initial weights."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        network = workload.network
        self.lr, self.momentum = network.lr, network.momentum
        self.activate, self.activate_back = _ACTIVATIONS[network.activation]
        self.weights = network.initial_weights(dtype)
        self.biases = [np.zeros(w.shape[1], dtype) for w in self.weights]
        self.velocities = [np.zeros_like(p) for p in (*self.weights, *self.biases)]
        widths = network.sizes[1:-1] if network.batchnorm else ()
        self.norms = [_BatchNorm(width, dtype) for width in widths]

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        """The input, every hidden layer's output, the logits."""
        outputs = [x]
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = outputs[-1] @ w
            z += b
            if k < len(self.norms):
                z = self.norms[k].forward(z)
            if k < len(self.weights) - 1:
                self.activate(z)
            outputs.append(z)
        return outputs

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """A training step on classes y; returns the sum of the losses before it."""
        *outputs, delta = self.forward(x)
        rows = np.arange(len(y))
        delta -= delta.max(axis=1, keepdims=True)
        correct = delta[rows, y]
        np.exp(delta, out=delta)
        sums = delta.sum(axis=1, keepdims=True)
        delta /= sums
        delta[rows, y] -= 1
        delta /= len(y)
        gradients: list[Any] = [None] * len(self.velocities)
        for k in reversed(range(len(self.weights))):
            if k < len(self.norms):
                self.norms[k].backward(delta, self.lr)
            gradients[k] = outputs[k].T @ delta
            gradients[len(self.weights) + k] = delta.sum(axis=0)
            if k > 0:
                delta = delta @ self.weights[k].T
                self.activate_back(delta, outputs[k])
        parameters = (*self.weights, *self.biases)
        for p, v, g in zip(parameters, self.velocities, gradients, strict=True):
            v *= self.momentum
            g *= self.lr
            v -= g
            p += v
        return float(np.log(sums).sum() - correct.sum())

    def parameters(self) -> list[Parameters]:
        norms: list[Any] = [(n.gamma, n.beta, n.mean, n.var) for n in self.norms]
        norms += [None] * (len(self.weights) - len(norms))
        layers = zip(self.weights, self.biases, norms, strict=True)
        return [Parameters(w, b, norm) for w, b, norm in layers]


class Training:
    """A loop over batches, with the loss kept as one does."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        self.workload = workload
        self.x, self.y = training_set(workload.samples, dtype)
        self.network = _Network(workload, dtype)

    def run(self, seed: int) -> None:
        batch_size = self.workload.network.batch_size
        for order in orders(len(self.x), seed, self.workload.repeats):
            total = 0.0
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                total += self.network.step(self.x[batch], self.y[batch])

    def figure(self) -> float:
        return loss(self.workload, self.network.parameters())


class Course:
    """HW1P1's get_training_stats as a student writes it."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        self.workload = workload
        self.dataset = _setups.course_data(workload.samples)
        self.mlp = _setups.course_network(workload, ReferenceMLP)
        self.validation_loss = np.nan

    def run(self, seed: int) -> None:
        np.random.seed(seed)
        stats = reference_training_stats(
            self.mlp, self.dataset, self.workload.repeats, self.workload.network.batch_size
        )
        self.validation_loss = stats[2][-1]

    def figure(self) -> float:
        return float(self.validation_loss)


class Inference:
    """The forward pass and argmax."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        self.workload, self.dtype = workload, dtype
        self.network = _Network(workload, dtype)
        self.x, _ = training_set(workload.rows, dtype)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.network.forward(x)[-1].argmax(axis=1)

    def run(self, seed: int) -> None:
        for _ in range(self.workload.repeats):
            self.predict(self.x)

    def figure(self) -> float:
        return wrong_share(self.predict, self.workload.rows, self.dtype)


JOBS = {"train": Training, "course": Course, "inference": Inference}
