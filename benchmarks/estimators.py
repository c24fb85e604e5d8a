"""fastmlp's estimators beside scikit-learn's own: ``python -m benchmarks.estimators``.

Both fit and predict the same rows in turns, in one process, in float32 and with the same random
state, for a fixed number of epochs; a figure is the median over the rounds of the ratio of their
times, with its quartiles. Then searches over parameters, in one process and in two. With
``--write`` the results go to ``docs/scikit-learn.md``, between its marks.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import joblib
import numpy as np
from rich.console import Console
from rich.markdown import Markdown
from sklearn import neural_network
from sklearn.model_selection import GridSearchCV

import fastmlp
from fastmlp import datasets, estimators
from fastmlp._speed import peak_gflops, share_together

from .compare._machine import describe, versions
from .compare._readme import ROOT, rewrite
from .compare._rounds import OWN_CORES, SETTLE_SECONDS

ROUNDS = 7
# Of a search, in one process or in two.
FITS = 8
# How long to wait, in all, for cores of one's own.
PATIENCE_SECONDS = 120.0
PAGE = ROOT / "docs" / "scikit-learn.md"

# Nothing ends a fit before its epochs are over.
ENDLESS = {"tol": 0.0, "n_iter_no_change": 10**9, "random_state": 0}


class Case(NamedTuple):
    """Rows by columns, and what is fitted to them."""

    name: str
    rows: int
    columns: int
    arguments: dict[str, Any]


CASES = (
    Case("MNIST, 784-100-10", 60_000, 784, {"max_iter": 3}),
    Case("20,000 x 50", 20_000, 50, {"max_iter": 10}),
    Case("2,000 x 20", 2_000, 20, {"max_iter": 50}),
    Case("200 x 4", 200, 4, {"max_iter": 200}),
    Case("200 x 4, batches of 16", 200, 4, {"max_iter": 100, "batch_size": 16}),
    Case("200 x 4, `sgd`", 200, 4, {"max_iter": 200, "solver": "sgd"}),
    Case("200 x 4, `early_stopping`", 200, 4, {"max_iter": 100, "early_stopping": True}),
    Case("200 x 4, `lbfgs`", 200, 4, {"max_iter": 100, "solver": "lbfgs"}),
)


def rows_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Images, or two classes that a noisy plane parts."""
    if case.name.startswith("MNIST"):
        data = datasets.load("mnist")
        return (data.train_x / 255).astype(np.float32), data.train_y
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.rows, case.columns), np.float32)
    noise = rng.standard_normal(case.rows)
    return x, (x @ rng.standard_normal(case.columns) + noise > 0).astype(int)


def seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def settled(function: Callable[[], Any], calls: int = 1) -> float:
    """The median over calls, once what ran before has let go of the cores."""
    time.sleep(SETTLE_SECONDS)
    return float(np.median([seconds(function) for _ in range(calls)]))


class Cores:
    """Waits until all threads have a core each: two virtual ones may be one of metal."""

    def __init__(self) -> None:
        self.patience = PATIENCE_SECONDS
        self.peak = peak_gflops(np.float32)

    def wait(self) -> None:
        while self.patience > 0:
            started = time.perf_counter()
            threads = fastmlp.get_num_threads()
            if share_together(np.float32, threads, self.peak) >= OWN_CORES:
                return
            time.sleep(1)
            self.patience -= time.perf_counter() - started


def measure(case: Case, rounds: int, cores: Cores) -> list[str]:
    """A row of the table: its name, our seconds, and the ratios of fitting and of predicting."""
    x, y = rows_of(case)
    arguments = ENDLESS | case.arguments
    both = [
        library.MLPClassifier(**arguments).fit(x, y) for library in (estimators, neural_network)
    ]
    fits, predictions = (np.empty((rounds, 2)) for _ in range(2))
    for turn in range(rounds):
        cores.wait()
        fits[turn] = [settled(lambda e=e: e.fit(x, y)) for e in both]
        # Many short calls, of which the median is not one that was disturbed.
        calls = max(3, 2000 // len(x))
        predictions[turn] = [settled(lambda e=e: e.predict(x), calls) for e in both]
    taken = np.median(fits[:, 0])
    return [case.name, f"{taken:.3g} s", _ratio(fits), _ratio(predictions)]


def _ratio(times: np.ndarray) -> str:
    low, middle, high = np.quantile(times[:, 1] / times[:, 0], [0.25, 0.5, 0.75])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def searches(rounds: int, cores: Cores) -> list[list[str]]:
    """What two worker processes gain beside one, and beside one process of two threads."""
    x, y = rows_of(CASES[1])
    estimator = estimators.MLPClassifier(**ENDLESS, max_iter=10)
    grid = {"alpha": [1e-5, 1e-4, 1e-3, 1e-2]}

    def search(jobs: int) -> Callable[[], Any]:
        return GridSearchCV(estimator, grid, cv=2, n_jobs=jobs, refit=False).fit(x, y)

    def alone() -> None:
        for _ in range(FITS):
            estimator.fit(x, y)

    def one() -> None:
        # joblib's only worker would be this process, with all its threads.
        before = fastmlp.get_num_threads()
        fastmlp.set_num_threads(1)
        try:
            alone()
        finally:
            fastmlp.set_num_threads(before)

    def two() -> None:
        with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
            joblib.Parallel()(joblib.delayed(estimator.fit)(x, y) for _ in range(FITS))

    table = []
    contests = {
        f"{FITS} fits, two workers of one thread beside one thread": (one, two),
        f"{FITS} fits, two workers of one thread beside two threads": (alone, two),
        "`GridSearchCV`, `n_jobs=2` beside `n_jobs=1`": (lambda: search(1), lambda: search(2)),
    }
    for name, (first, second) in contests.items():
        first(), second()
        times = np.empty((rounds, 2))
        for turn in range(rounds):
            cores.wait()
            times[turn] = seconds(second), seconds(first)
        table.append([name, f"{np.median(times[:, 0]):.3g} s", _ratio(times), ""])
    return table


def section(table: list[list[str]], first: float) -> str:
    """The table and what it was measured on, in Markdown."""
    heads = ["", "fastmlp", "fit, times as fast", "predict, times as fast"]
    lines = [heads, ["---"] * 4, *table]
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    machine, used = describe(), versions()
    software = ", ".join(f"{name} {used[name]}" for name in ("fastmlp", "numba", "scikit-learn"))
    return (
        f"{text}\n\n{machine['cpu']}, {fastmlp.get_num_threads()} threads, {software}; medians, "
        f"quartiles in parentheses. The first fit of the process took {first:.1f} s, of which all "
        "but a moment to load or make machine code."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.estimators", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    # For the worker processes.
    os.environ["PYTHONWARNINGS"] = "ignore"
    x, y = rows_of(CASES[3])
    small = estimators.MLPClassifier(max_iter=1)
    first = seconds(lambda: small.fit(x, y))
    cores = Cores()
    table = [measure(case, arguments.rounds, cores) for case in CASES]
    text = section([*table, *searches(arguments.rounds, cores)], first)
    Console().print(Markdown(text))
    if arguments.write:
        rewrite(PAGE, text, "speed")


if __name__ == "__main__":
    main()
