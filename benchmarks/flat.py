"""``python -m benchmarks.flat``: does a sample cost the same in a set of ten million as of 1,000?

The training sets are memory-mapped files of uint8 images, of zeros, which take no disk; labels are
random. As many samples are drawn at random from each set, in turns, after every page has been
touched once, as by an earlier epoch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import numpy as np

from .networks import NETWORKS, Network

SIZES = [1_000, 10_000, 100_000, 1_000_000, 10_000_000]
_NAMES = ["784-512-512-10", "784-128-10"]
_SAMPLES = 100_000
_TURNS = 5
_PAGE = 4096


class Cost(NamedTuple):
    """Microseconds per sample: in compiled epochs, and of the whole ``fit``."""

    training: float
    whole: float


def mapped(folder: Path, rows: int) -> np.ndarray:
    """(rows, 784) uint8 of zeros in a new file, every page in memory and mapped."""
    path = folder / f"{rows}.bin"
    path.touch()
    os.truncate(path, 784 * rows)
    x = np.memmap(path, np.uint8, "r", shape=(rows, 784))
    x.reshape(-1)[::_PAGE].max()
    return x


def cost(network: Network, mlp: Any, x: np.ndarray, y: np.ndarray, samples: int) -> Cost:
    """Of ``samples`` of the rows of x, in epochs where there are fewer rows."""
    started = time.perf_counter()
    history = mlp.fit(
        x, y, batch_size=network.batch_size, epochs=-(-samples // len(x)),
        max_steps=samples // network.batch_size, seed=0,
    )  # fmt: skip
    whole = time.perf_counter() - started
    return Cost(1e6 * sum(history.epoch_seconds) / samples, 1e6 * whole / samples)


def measure(
    network: Network, sets: dict[int, tuple[Any, Any]], samples: int = _SAMPLES, turns: int = _TURNS
) -> dict[int, list[Cost]]:
    """Rows of a set → its cost in every turn. sets : rows → (images, classes)."""
    mlp = network.build()
    costs: dict[int, list[Cost]] = {rows: [] for rows in sets}
    mlp.fit(*next(iter(sets.values())), batch_size=network.batch_size)
    for _ in range(turns):
        for rows, (x, y) in sets.items():
            costs[rows].append(cost(network, mlp, x, y, samples))
    return costs


def fitting(sizes: list[int]) -> list[int]:
    """Those whose pages take at most half of the machine's memory, where it is known."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return sizes
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [rows for rows in sizes if 784 * rows <= memory / 2]


def _print(name: str, costs: dict[int, list[Cost]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{name}, batch {NETWORKS[name].batch_size}: µs per sample")
    for heading in ("rows", "training", "of the mean", "spread", "whole fit"):
        table.add_column(heading, justify="right")
    medians = {rows: median(each.training for each in found) for rows, found in costs.items()}
    for rows, found in costs.items():
        times = [each.training for each in found]
        table.add_row(
            f"{rows:,}", f"{medians[rows]:.2f}", f"{medians[rows] / fmean(medians.values()):.2f}",
            f"{(max(times) - min(times)) / medians[rows]:.0%}",
            f"{median(each.whole for each in found):.2f}",
        )  # fmt: skip
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.flat", description="Cost of a sample by rows of the training set"
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--folder", type=Path, help="for the files; default: a temporary one")
    arguments = parser.parse_args()
    unknown = set(arguments.networks) - set(NETWORKS)
    if unknown:
        parser.error(f"network must be one of {', '.join(NETWORKS)}, got {', '.join(unknown)}")
    sizes, rng = fitting(SIZES), np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        sets = {r: (mapped(Path(folder), r), rng.integers(0, 10, r)) for r in sizes}
        for name in arguments.networks or _NAMES:
            _print(name, measure(NETWORKS[name], sets))
    for rows in sorted(set(SIZES) - set(sizes)):
        print(f"{rows:,} rows would take more than half of this machine's memory")


if __name__ == "__main__":
    main()
