"""Many fits on one worker and on two: ``python -m benchmarks.sweep``.

32 fits of a network, an epoch of MNIST's size each, by ``train_many``: on threads of this process,
on processes, and on those of loky, if it is installed. A worker computes on one thread. Rounds are
interleaved; medians and quartiles of the seconds and of their ratios. The executors are there, and
their workers have trained once, before the first round; what is measured includes handing out
networks and data, and what comes back.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

import fastmlp
from fastmlp import MLP, train_many

from .compare._machine import describe, versions
from .networks import NETWORKS

ENGINES = ("threads", "processes", "loky")
WORKERS = (1, 2)
SAMPLES = 60_000


def executor(engine: str, workers: int) -> Executor:
    """One whose workers compute on one thread."""
    if engine == "threads":
        return ThreadPoolExecutor(workers)
    if engine == "loky":
        from loky import ProcessPoolExecutor as Pool
    else:
        Pool = ProcessPoolExecutor
    return Pool(workers, initializer=fastmlp.set_num_threads, initargs=(1,))


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Of this process, which fits in it share."""
    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(count)
    try:
        yield
    finally:
        fastmlp.set_num_threads(before)


def fits(name: str, count: int) -> list[tuple[MLP, dict[str, Any]]]:
    """As many networks, which share their data."""
    network = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (SAMPLES, network.sizes[0]), np.uint8)
    labels = rng.integers(0, network.sizes[-1], SAMPLES)
    shared = {"x": x, "labels": labels, "batch_size": network.batch_size}
    return [(network.build(), {**shared, "seed": seed}) for seed in range(count)]


def measure(engine: str, name: str, count: int, rounds: int) -> np.ndarray:
    """Seconds of all fits, (rounds, 2): on one worker, and on two."""
    seconds = np.empty((rounds, len(WORKERS)))
    with contextlib.ExitStack() as stack:
        executors = [stack.enter_context(executor(engine, workers)) for workers in WORKERS]
        for turn in range(-1, rounds):
            for place, workers in enumerate(WORKERS):
                entries = fits(name, workers if turn < 0 else count)
                with threads(workers if engine == "threads" else fastmlp.get_num_threads()):
                    started = time.perf_counter()
                    train_many(entries, executor=executors[place])
                    taken = time.perf_counter() - started
                if turn >= 0:
                    seconds[turn, place] = taken
    return seconds


def row(engine: str, seconds: np.ndarray) -> list[str]:
    """The engine, the medians of the seconds, and the ratio with its quartiles."""
    one, two = np.median(seconds, axis=0)
    low, middle, high = np.quantile(seconds[:, 0] / seconds[:, 1], [0.25, 0.5, 0.75])
    return [engine, f"{one:.2f}", f"{two:.2f}", f"{middle:.3f} ({low:.3f} to {high:.3f})"]


def table(rows: Sequence[Sequence[str]], name: str, count: int) -> str:
    """In Markdown, with the machine it was measured on."""
    heads = ["engine", "one worker, s", "two workers, s", "times as fast"]
    lines = [heads, ["---", "---:", "---:", "---:"], *rows]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return (
        f"{text}\n\n{count} fits of {name}, an epoch of {SAMPLES:,} rows each, "
        f"{describe()['cpu']}, fastmlp {versions()['fastmlp']}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="784-128-10")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--fits", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    engines = [e for e in given.engines if e != "loky" or find_spec("loky")]
    rows = [row(e, measure(e, given.network, given.fits, given.rounds)) for e in engines]
    Console().print(Markdown(table(rows, given.network, given.fits)))


if __name__ == "__main__":
    main()
