"""Plain NumPy, the network of tests/reference.py."""

from __future__ import annotations

import numpy as np

from tests.reference import ReferenceMLP, one_hot, reference_training_stats

from . import _recipes
from ._data import orders, training_set
from ._fastmlp import parameters_of
from ._judge import loss, wrong_share
from ._workloads import Workload


class Training:
    """A loop over batches, with the loss kept as one does."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        self.workload = workload
        self.x, classes = training_set(workload.samples, dtype)
        self.y = one_hot(classes, 10, dtype)
        self.mlp = workload.network.build(np.dtype(dtype).type, ReferenceMLP)

    def run(self, seed: int) -> None:
        mlp, batch_size = self.mlp, self.workload.network.batch_size
        for order in orders(len(self.x), seed, self.workload.repeats):
            total = 0.0
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                labels = self.y[batch]
                mlp.forward(self.x[batch])
                mlp.backward(labels)
                mlp.step()
                total += mlp.total_loss(labels)

    def figure(self) -> float:
        return loss(self.workload, parameters_of(self.mlp))


class Course:
    """HW1P1's get_training_stats as a student writes it."""

    def __init__(self, workload: Workload, dtype: str) -> None:
        self.workload = workload
        self.dataset = _recipes.course_data(workload.samples)
        self.mlp = _recipes.course_network(workload, ReferenceMLP)
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
        self.mlp = workload.network.build(np.dtype(dtype).type, ReferenceMLP)
        self.x, _ = training_set(workload.rows, dtype)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.mlp.forward(x).argmax(axis=1)

    def run(self, seed: int) -> None:
        for _ in range(self.workload.repeats):
            self.predict(self.x)

    def figure(self) -> float:
        return wrong_share(self.predict, self.workload.rows, self.dtype)


JOBS = {"train": Training, "course": Course, "inference": Inference}
