"""Data and schedules of the workloads that are more than epochs of one data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp import layers
from fastmlp.presets import PRESETS, one_cycle
from tests.reference import one_hot

from ._data import images, standardised
from ._judge import Parameters, share_wrong_in_test
from ._workloads import COURSE_VALIDATION, Workload


def course_data(samples: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """((train_x, train_y), (val_x, val_y), nothing), standardised per partition, labels one-hot."""
    data = images()
    train = data.train_x[:samples], data.train_y[:samples]
    validation = data.train_x[-COURSE_VALIDATION:], data.train_y[-COURSE_VALIDATION:]
    parts = [
        (standardised(x, x.mean(), x.std(), np.float64), one_hot(y, 10))
        for x, y in (train, validation)
    ]
    return (*parts, (np.empty((0, 784)), np.empty((0, 10))))


def course_network(workload: Workload, cls: type) -> Any:
    """784-32-32-32-10 sigmoid with standard normal weights, zero biases."""
    network = workload.network
    rng = np.random.RandomState(0)
    return cls(
        784, 10, list(network.sizes[1:-1]), [*[layers.Sigmoid() for _ in network.sizes[1:-1]],
        layers.Identity()], rng.randn, lambda d: np.zeros((1, d)), layers.SoftmaxCrossEntropy(),
        network.lr, momentum=network.momentum,
    )  # fmt: skip


class Record:
    """98 % on MNIST: the speedrun preset, on standardised pixels."""

    def __init__(self) -> None:
        data = images()
        self.preset = PRESETS["speedrun"]
        self._mean, self._std = data.train_x.mean(), data.train_x.std()
        self.x, self.y = self.prepare(data.train_x), data.train_y

    def prepare(self, x: np.ndarray) -> np.ndarray:
        """Pixels as the network takes them."""
        return standardised(x, self._mean, self._std, np.float32)

    def rates(self) -> list[float]:
        """The learning rate of every step."""
        steps = self.preset.max_steps or 0
        rate = one_cycle(self.preset.lr)
        return [rate(step / steps) for step in range(steps)]

    def mean_error(self, workload: Workload, trainings: list[list[Parameters]]) -> float:
        """Share of the test images classified wrongly, mean over all trainings."""
        errors = [share_wrong_in_test(workload, layers, self.prepare) for layers in trainings]
        return float(np.mean(errors))
