"""Training beside busy processes: ``python -m benchmarks.load``.

An epoch of each network on rows of MNIST's size, on one thread, on all, and on as many as ``fit``
finds best while it runs; alone, and beside 1, 2 and 4 processes that do nothing but count. Then two
processes that train side by side, beside one alone. The median and the worst of some epochs.

``--way`` measures ``fit``, ``predict`` of all rows, or the loop of forward, backward and step.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

import fastmlp
from fastmlp import _pace

from .compare._machine import describe, versions
from .compare._tables import markdown_table
from .networks import NETWORKS

NAMES = "784-512-512-10", "784-128-10", "784-300-10", "784-64-64-32-10"
LOADS = (0, 1, 2, 4)
SAMPLES = 60_000
# A cell of the table ends after so many seconds, and at least so many epochs.
SECONDS, LEAST = 20.0, 3
_COUNT = "n = 0\nwhile True: n += 1"


@contextlib.contextmanager
def busy(processes: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """As many processes that never rest."""
    running = [subprocess.Popen([sys.executable, "-c", _COUNT]) for _ in range(processes)]
    try:
        yield running
    finally:
        for process in running:
            process.kill()
            process.wait()


class _Until:
    """Says at the end of an epoch whether a cell's time is over: a callback."""

    def __init__(self) -> None:
        self._started, self._epochs = time.perf_counter(), 0

    def on_epoch_end(self, mlp: Any = None, history: Any = None) -> bool:
        self._epochs += 1
        return self._epochs >= LEAST and time.perf_counter() - self._started > SECONDS


def _fit(mlp: Any, data: tuple[np.ndarray, np.ndarray], batch: int, epochs: int) -> list[float]:
    history = mlp.fit(*data, epochs=epochs, batch_size=batch, callbacks=[_Until()])
    return list(history.epoch_seconds)


def _timed(function: Callable[[], Any], times: int) -> list[float]:
    found: list[float] = []
    until = _Until()
    while len(found) < times:
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
        if until.on_epoch_end():
            break
    return found


def _predict(mlp: Any, data: tuple[np.ndarray, np.ndarray], batch: int, epochs: int) -> list[float]:
    mlp.predict(data[0])
    return _timed(lambda: mlp.predict(data[0]), epochs)


def _loop(mlp: Any, data: tuple[np.ndarray, np.ndarray], batch: int, epochs: int) -> list[float]:
    x, y = data

    def epoch() -> None:
        for first in range(0, len(x), batch):
            mlp.zero_grads()
            mlp.forward(x[first : first + batch])
            mlp.backward(y[first : first + batch])
            mlp.step()

    return _timed(epoch, epochs)


WAYS = {"fit": _fit, "predict": _predict, "loop": _loop}


def seconds_of_epochs(
    name: str, epochs: int, threads: int | None = None, way: str = "fit"
) -> list[float]:
    """Of one training, or of so many predictions of all rows.

    threads : None to find out while it runs
    """
    network, mlp = NETWORKS[name], NETWORKS[name].build()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (SAMPLES, mlp.input_size), np.uint8)
    y = rng.integers(0, mlp.output_size, SAMPLES)
    before = fastmlp.get_num_threads()
    try:
        fastmlp.set_num_threads(threads or before)
        _pace.TRIALS = threads is None
        return WAYS[way](mlp, (x, y), network.batch_size, epochs)
    finally:
        fastmlp.set_num_threads(before)
        _pace.TRIALS = True


def measure(name: str, epochs: int, loads: Sequence[int], way: str = "fit") -> list[list[str]]:
    """A row for each load: median and worst epoch on one thread, on all, and found."""
    most, rows = fastmlp.get_num_threads(), []
    for load in loads:
        with busy(load):
            times = [seconds_of_epochs(name, epochs, count, way) for count in (1, most, None)]
        cells = [f"{statistics.median(t):.3g} ({max(t):.3g})" for t in times]
        shares = (of(times[2]) / min(map(of, times[:2])) for of in (statistics.median, max))
        rows.append([name, str(load), *cells, "{:.2f} ({:.2f})".format(*shares)])
    return rows


def side_by_side(name: str, epochs: int, way: str = "fit") -> list[str]:
    """A row: one training on one thread, and two, in processes of their own, on all that they find.

    It ends in what both do in the time of the one.
    """
    alone = statistics.median(seconds_of_epochs(name, epochs, 1, way))
    seconds = functools.partial(seconds_of_epochs, name, threads=None, way=way)
    # Twice as many epochs, the middle of which both processes surely share.
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        both = list(pool.map(seconds, [2 * epochs] * 2))
    each = [statistics.median(t[len(t) // 4 : 1 + 3 * len(t) // 4]) for t in both]
    together = sum(alone / median for median in each)
    found = " and ".join(f"{median:.3g}" for median in each)
    return [name, "another training", f"{alone:.3g}", "", found, f"{together:.2f}"]


def rows(
    names: Sequence[str], epochs: int, loads: Sequence[int], way: str = "fit"
) -> list[list[str]]:
    """All of them, network by network."""
    found = []
    for name in names:
        found += [*measure(name, epochs, loads, way), side_by_side(name, epochs, way)]
    return found


def table(rows: list[list[str]], epochs: int) -> str:
    """In Markdown, with what it was measured on."""
    most = fastmlp.get_num_threads()
    heads = ["network", "busy processes", "1 thread", f"{most} threads", "found", "of the best"]
    text = markdown_table(heads, rows)
    machine, used = describe(), versions()
    return (
        f"{text}\n\nSeconds of an epoch of {SAMPLES:,} rows, medians of {epochs} epochs (of fewer "
        f"where these take more than {SECONDS:g} s), the worst in parentheses; of the best: found "
        f"beside the better of the two fixed numbers, median beside median and worst beside worst, "
        f"and of two trainings what both do in the time of one alone on one thread. "
        f"{machine['cpu']}, {machine['cores']} cores, fastmlp {used['fastmlp']}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--loads", type=int, nargs="+", default=LOADS)
    parser.add_argument("--way", choices=WAYS, default="fit")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NAMES, metavar="NAME")
    arguments = parser.parse_args()
    found = rows(arguments.networks, arguments.epochs, arguments.loads, arguments.way)
    Console().print(Markdown(table(found, arguments.epochs)))


if __name__ == "__main__":
    main()
