"""What each choice costs beside plain ReLU and momentum: ``python -m benchmarks.vocabulary``.

Networks that differ by one choice train on the same rows, in turns in one process; the figure is
the median over the rounds of the ratio of their times, with its quartiles. ``--threads`` and
``--sizes`` choose another setting than all threads and 784-512-512-10.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import fastmlp
from fastmlp import MLP, Activation, Criterion, Identity, optimizers
from fastmlp.initializers import he_normal, zeros
from fastmlp.layers import activation_named

ROWS = 12_800
ROUNDS = 15
PLAIN = "plain"


def bent(z: float) -> float:
    return z if z > 0 else 0.1 * z


def bent_slope(z: float) -> float:
    return 1.0 if z > 0 else 0.1


def sgd(
    gradient: float, parameter: float, velocity: float, lr: float, beta: float
) -> tuple[float, float]:
    velocity = beta * velocity + gradient
    return parameter - lr * velocity, velocity


def squared(z: float, y: float) -> float:
    return (z - y) * (z - y)


def squared_slope(z: float, y: float) -> float:
    return 2 * (z - y)


# Arguments of MLP beside the plain ones; functions, since a criterion has a state of its own.
CHOICES: dict[str, Callable[[], dict[str, Any]]] = {
    PLAIN: dict,
    **{
        name: lambda rule=rule: {"optimizer": rule(lr=1e-4)}
        for name, rule in optimizers.BY_NAME.items()
    },
    "clip_value": lambda: {"optimizer": optimizers.Momentum(0.01, 0.9, clip_value=1.0)},
    "clip_norm": lambda: {"optimizer": optimizers.Momentum(0.01, 0.9, clip_norm=1.0)},
    "average": lambda: {"optimizer": optimizers.Momentum(0.01, 0.9, average=0.99)},
    "optimizers.rule": lambda: {"optimizer": optimizers.rule(sgd, lr=0.01, beta=0.9)},
    **{
        name: lambda name=name: {"activation": lambda: activation_named(name)}
        for name in ("sigmoid", "tanh", "leaky_relu", "elu", "gelu", "gelu_tanh", "silu", "mish")
    },
    "Activation.of": lambda: {"activation": lambda: Activation.of(bent, bent_slope)},
    "label_smoothing": lambda: {"criterion": fastmlp.SoftmaxCrossEntropy(label_smoothing=0.1)},
    "BinaryCrossEntropy": lambda: {"criterion": fastmlp.BinaryCrossEntropy()},
    "MeanSquaredError": lambda: {"criterion": fastmlp.MeanSquaredError()},
    "Criterion.of": lambda: {"criterion": Criterion.of(squared, squared_slope)},
    "batch norm": lambda: {"num_bn_layers": 2},
    "layer norm": lambda: {"num_ln_layers": 2},
    "dropout": lambda: {"dropout": 0.5},
    "residual": lambda: {"residual": True},
    "scale_inputs": lambda: {"scale_inputs": True},
    "parametric_activations": lambda: {"parametric_activations": True},
    "embeddings": lambda: {"embeddings": fastmlp.PeriodicEmbeddings(16)},
}  # fmt: skip


class Contestant:
    """A network that is trained again and again."""

    def __init__(self, sizes: tuple[int, ...], choice: dict[str, Any], batch: int) -> None:
        make = choice.pop("activation", fastmlp.ReLU)
        criterion = choice.pop("criterion", None) or fastmlp.SoftmaxCrossEntropy()
        rule = {} if "optimizer" in choice else {"lr": 0.01, "momentum": 0.9}
        self.mlp = MLP(
            sizes[0], sizes[-1], sizes[1:-1], [*(make() for _ in sizes[1:-1]), Identity()],
            he_normal(0, np.float32), zeros, criterion, **rule, **choice,
        )  # fmt: skip
        self.batch = batch

    def seconds(self, x: np.ndarray, classes: np.ndarray, rows: np.ndarray) -> float:
        softmax = isinstance(self.mlp.criterion, fastmlp.SoftmaxCrossEntropy)
        labels = classes if softmax else rows
        started = time.perf_counter()
        self.mlp.fit(x, labels, batch_size=self.batch, seed=0, check_finite=False)
        return time.perf_counter() - started


def ratios(sizes: tuple[int, ...], batch: int, names: list[str]) -> dict[str, np.ndarray]:
    """By name the quartiles of (time / plain time), over the rounds."""
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, sizes[0]), np.float32)
    classes = rng.integers(0, sizes[-1], ROWS)
    rows = np.eye(sizes[-1], dtype=np.float32)[classes]
    everyone = {name: Contestant(sizes, CHOICES[name](), batch) for name in [PLAIN, *names]}
    times: dict[str, list[float]] = {name: [] for name in everyone}
    for turn in range(ROUNDS + 1):
        for name, contestant in everyone.items():
            taken = contestant.seconds(x, classes, rows)
            if turn > 0:
                times[name].append(taken)
    plain = np.array(times.pop(PLAIN))
    return {
        name: np.quantile(np.array(taken) / plain, [0.25, 0.5, 0.75])
        for name, taken in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vocabulary", description=__doc__)
    parser.add_argument("--choices", nargs="+", choices=[*CHOICES][1:], default=[*CHOICES][1:])
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 32])
    parser.add_argument("--sizes", default="784-512-512-10")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        fastmlp.set_num_threads(arguments.threads)
    sizes = tuple(map(int, arguments.sizes.split("-")))
    measured = [ratios(sizes, batch, arguments.choices) for batch in arguments.batches]
    table = Table(arguments.sizes, *(f"batch {batch}" for batch in arguments.batches))
    for name in arguments.choices:
        cells = (f"{m:.2f} ({a:.2f} to {b:.2f})" for a, m, b in (each[name] for each in measured))
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
