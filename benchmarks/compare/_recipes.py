"""Data and schedules of the workloads that are more than epochs of one data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastmlp.presets import one_cycle
from tests.reference import one_hot

from ..cases import layers
from ._data import images, standardised
from ._workloads import COURSE_VALIDATION, RECORD_EPOCHS, RECORD_PEAK_RATE, Workload


def course_data() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """((train_x, train_y), (val_x, val_y), nothing), standardised per partition, labels one-hot."""
    data = images()
    train = data.train_x[:-COURSE_VALIDATION], data.train_y[:-COURSE_VALIDATION]
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
    """98 % on MNIST: 2.2 epochs of one-cycle rate on standardised pixels."""

    def __init__(self, workload: Workload) -> None:
        data = images()
        self._mean, self._std = data.train_x.mean(), data.train_x.std()
        self.x, self.y = self.prepare(data.train_x), data.train_y
        batch_size = workload.network.batch_size
        whole = int(RECORD_EPOCHS)
        rest = round((RECORD_EPOCHS - whole) * len(self.x))
        self._sizes = [(len(self.x), whole), (rest, 1)]
        steps = [epochs * -(-rows // batch_size) for rows, epochs in self._sizes]
        schedule = one_cycle(RECORD_PEAK_RATE)
        rates = [schedule(step / sum(steps)) for step in range(sum(steps))]
        self._rates = np.split(np.array(rates, np.float32), [steps[0]])

    def prepare(self, x: np.ndarray) -> np.ndarray:
        return standardised(x, self._mean, self._std, np.float32)

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray, int, np.ndarray]]:
        """(x, y, epochs, rate of every step): the whole epochs, then the rest of one."""
        for (rows, epochs), rates in zip(self._sizes, self._rates, strict=True):
            yield self.x[:rows], self.y[:rows], epochs, rates

    @staticmethod
    def order_seed(seed: int, part: int) -> int:
        """Of the shuffling in a part."""
        return 2 * seed + part
