"""CMU 11-785 HW1P1, "MyTorch", spring 2021: the drop-in classes and the visualisation run.

The modules ``mytorch.activation``, ``mytorch.batchnorm``, ``mytorch.linear``, ``mytorch.loss`` and
``hw1.hw1`` of the assignment are this one: change the imports and keep the rest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layers import (
    Activation,
    BatchNorm,
    Criterion,
    Identity,
    Linear,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
    Tanh,
)
from ..mlp import MLP
from ..training import get_training_stats
from ._experiment import Measure, Outcome, Recipe, Setting, compare, seconds_of, split_mnist
from ._figures import ERROR, LOSS, draw, percent, train_and_valid
from ._numpy_mlp import ReferenceMLP, reference_training_stats

__all__ = [
    "MLP",
    "Activation",
    "BatchNorm",
    "Criterion",
    "Identity",
    "Linear",
    "ReLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
    "bias_init",
    "get_training_stats",
    "weight_init",
]

Part = tuple[np.ndarray, np.ndarray]

HIDDENS, LR, MOMENTUM, BATCH_SIZE = [32, 32, 32], 1e-3, 0.856, 100


def weight_init(d0: int, d1: int) -> np.ndarray:
    """The course's initial weights: N(0, 1), (d0, d1) float64, from NumPy's global generator."""
    return np.random.randn(d0, d1)


def bias_init(d: int) -> np.ndarray:
    """The course's initial biases: zeros, (1, d)."""
    return np.zeros((1, d))


def _standardised(x: np.ndarray, y: np.ndarray) -> Part:
    """(x - mean) / deviation, both of all pixels of the partition, float32; one-hot y."""
    scaled = (x - x.mean(dtype=np.float64)) / x.std(dtype=np.float64)
    return scaled.astype(np.float32), np.eye(10, dtype=np.float32)[y]


def _network(cls: Any = MLP, dtype: Any = np.float32) -> Any:
    """The write-up's network as a new object of cls, MLP or ReferenceMLP."""
    np.random.seed(0)
    activations = [Sigmoid(), Sigmoid(), Sigmoid(), Identity()]
    return cls(
        784, 10, HIDDENS, activations, weight_init, bias_init, SoftmaxCrossEntropy(), LR, MOMENTUM,
        dtype=dtype,
    )  # fmt: skip


def visualisation(setting: Setting) -> Outcome:
    """784-32-32-32-10, sigmoid, 200 epochs of MNIST in batches of 100: the four curves.

    Reference: HW1P1, section 3.6; "loss around 0.3, error around 0.1".
    """
    data = split_mnist(setting, valid=5000)
    dset = (
        _standardised(data.train_x, data.train_y),
        _standardised(data.valid_x, data.valid_y),
        ((), ()),
    )
    epochs, stretch = setting.choose(200, 4), setting.choose(10, 2)
    setting.ticker.begin(f"HW1P1: four curves, {epochs} epochs", epochs)

    def run() -> np.ndarray:
        mlp, curves = _network(), []
        # In stretches, so that the ticker has something to tell.
        for _ in range(0, epochs, stretch):
            curves.append(get_training_stats(mlp, dset, stretch, BATCH_SIZE))
            setting.ticker.advance(stretch)
        return np.concatenate(curves, axis=1)

    stats, seconds = seconds_of(run)
    picture = draw(
        setting.out / "curves.png",
        "HW1P1: MNIST, 784-32-32-32-10 sigmoid, lr 0.001, momentum 0.856, batch 100",
        train_and_valid(LOSS, stats[0], stats[2]),
        train_and_valid(ERROR, percent(stats[1]), percent(stats[3])),
    )
    raced = setting.choose(10, 2)

    def transcription() -> Any:
        train, valid = ((x.astype(float), y.astype(float)) for x, y in dset[:2])
        return lambda: reference_training_stats(
            _network(ReferenceMLP, np.float64), (train, valid, ()), raced, BATCH_SIZE
        )

    timing = compare(
        setting, f"{raced} epochs and their validation", transcription,
        lambda: get_training_stats(_network(), dset, raced, BATCH_SIZE),
    )  # fmt: skip
    return Outcome(
        "hw1p1",
        f"784-32-32-32-10 sigmoid, {epochs} epochs, batch {BATCH_SIZE}, lr {LR:g}, "
        f"momentum {MOMENTUM:g}, float32",
        [
            Measure("validation loss", 0.3, float(stats[2, -1]), at_most=0.42),
            Measure("validation error", 0.1, float(stats[3, -1]), at_most=0.13),
            Measure("training loss", None, float(stats[0, -1])),
            Measure("training error", None, float(stats[1, -1])),
        ],
        [picture],
        seconds,
        timing,
    )


RECIPE = Recipe("hw1p1", "CMU 11-785 HW1P1: the visualisation run on MNIST", (visualisation,))
