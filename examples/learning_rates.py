"""Find a learning rate: ``python examples/learning_rates.py``.

Trains the same network with nine rates, three seeds each, as many at a time as there are cores, and
draws the validation losses into ``learning_rates.png``. Needs the extra ``plot``.
"""

from __future__ import annotations

import warnings

import numpy as np
from matplotlib.figure import Figure

from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy, datasets, train_many
from fastmlp.history import NotFiniteWarning
from fastmlp.initializers import he_normal, zeros

RATES, SEEDS = np.geomspace(0.001, 10, 9), range(3)


def network(rate: float, seed: int) -> MLP:
    layers = [ReLU(), Identity()]
    return MLP(64, 10, [64], layers, he_normal(seed), zeros, SoftmaxCrossEntropy(), lr=rate)


def losses(epochs: int) -> np.ndarray:
    """(rates, seeds) validation losses of the last epoch; infinite where training diverged."""
    data = datasets.load("digits")
    x, labels = data.train_x, data.train_y
    options = {"epochs": epochs, "validation_data": (x[:200], labels[:200])}
    options |= {"x": x[200:], "labels": labels[200:], "batch_size": 32}
    fits = [(network(rate, seed), {**options, "seed": seed}) for rate in RATES for seed in SEEDS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFiniteWarning)  # of rates that are too large
        histories = train_many(fits)
    last = [h.val_loss[-1] if len(h.val_loss) == epochs else np.inf for h in histories]
    return np.nan_to_num(last, nan=np.inf, posinf=np.inf).reshape(len(RATES), len(SEEDS))


def main(epochs: int = 10) -> float:
    """The rate whose mean loss is the lowest."""
    found = losses(epochs)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.loglog(RATES, found, "o", color="#3182bd", markersize=4)
    means = found.mean(axis=1)
    axes.loglog(RATES, np.where(np.isfinite(means), means, np.nan), color="#3182bd")
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"validation loss after {epochs} epochs")
    figure.savefig("learning_rates.png", dpi=150)
    return float(RATES[means.argmin()])


if __name__ == "__main__":
    print(f"best learning rate: {main():.3g}")
