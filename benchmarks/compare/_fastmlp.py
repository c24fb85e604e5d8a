"""fastmlp's own jobs, and what the other NumPy-based peers share with them."""

from __future__ import annotations

from typing import Any

import numpy as np

import fastmlp

from . import _setups
from ._data import orders, training_set
from ._judge import Parameters, loss, wrong_share
from ._workloads import Workload


def parameters_of(mlp: Any) -> list[Parameters]:
    """The trained layers of an object with HW1P1's attributes."""
    norms: list[Any] = [(n.gamma, n.beta, n.running_mean, n.running_var) for n in mlp.bn_layers]
    norms += [None] * (len(mlp.linear_layers) - len(norms))
    return [
        Parameters(layer.W, layer.b, norm)
        for layer, norm in zip(mlp.linear_layers, norms, strict=True)
    ]


class Training:
    """``fit``; or, by hand, forward, backward and step."""

    def __init__(
        self, workload: Workload, input_dtype: str | None = None, by_hand: bool = False,
        compute_dtype: str | None = None,
    ) -> None:  # fmt: skip
        self.workload = workload
        dtype, features = input_dtype or workload.dtype, workload.network.sizes[0]
        self.x, self.y = training_set(workload.samples, dtype, features)
        self.mlp = workload.network.build(np.dtype(workload.dtype).type)
        self.mlp.compute_dtype = compute_dtype or workload.compute_dtype
        self.by_hand = by_hand

    def run(self, seed: int) -> None:
        epochs, batch_size = self.workload.repeats, self.workload.network.batch_size
        if not self.by_hand:
            self.mlp.fit(self.x, self.y, epochs=epochs, batch_size=batch_size, seed=seed)
            return
        for order in orders(len(self.x), seed, epochs):
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                self.mlp.forward(self.x[batch])
                self.mlp.backward(self.y[batch])
                self.mlp.step()

    def figure(self) -> float:
        return loss(self.workload, parameters_of(self.mlp))


class Course:
    """HW1P1's visualisation run through ``get_training_stats``."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.dataset = _setups.course_data(workload.samples)
        self.mlp = _setups.course_network(workload, fastmlp.MLP)
        self.validation_loss = np.nan

    def run(self, seed: int) -> None:
        np.random.seed(seed)
        stats = fastmlp.get_training_stats(
            self.mlp, self.dataset, self.workload.repeats, self.workload.network.batch_size
        )
        self.validation_loss = stats[2][-1]

    def figure(self) -> float:
        return float(self.validation_loss)


class Inference:
    """``predict``."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.mlp = workload.network.build(np.dtype(workload.dtype).type)
        self.x, _ = training_set(workload.rows, workload.dtype)

    def run(self, seed: int) -> None:
        for _ in range(self.workload.repeats):
            self.mlp.predict(self.x)

    def figure(self) -> float:
        return wrong_share(self.mlp.predict, self.workload.rows, self.workload.dtype)


class Record:
    """The speedrun preset, from scratch each time."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.record = _setups.Record()
        self.rates = self.record.rates()
        self.trained: list[list[Parameters]] = []

    def run(self, seed: int) -> None:
        preset = self.record.preset
        mlp = self.workload.network.build(np.float32, seed=seed)
        mlp.fit(
            self.record.x, self.record.y, epochs=preset.epochs, batch_size=preset.batch_size,
            max_steps=preset.max_steps, seed=seed, lr_schedule=self.rates,
        )  # fmt: skip
        self.trained.append(parameters_of(mlp))

    def figure(self) -> float:
        return self.record.mean_error(self.workload, self.trained)


JOBS = {"train": Training, "course": Course, "inference": Inference, "record": Record}
