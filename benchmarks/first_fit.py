"""``python -m benchmarks.first_fit``: how long the first fit of an installation takes.

Networks of several kinds, each in fresh processes with an empty cache; the figure is from the call
of ``fit`` to its return, of one epoch over a few rows. ``benchmarks.coldstart`` says of what.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from fastmlp._cores import usable_cores

from .coldstart import empty_cache, import_seconds, run_fresh
from .compare._machine import describe, versions, warnings
from .compare._readme import RESULTS, ROOT, add_tasks, latest, rewrite
from .compare._results import machine_of
from .tabular import load, save

NAME = "first_fit.json"
PAGES = (ROOT / "README.md", ROOT / "docs" / "features.md")
CASUAL = Path("runs/first_fit")


class Kind(NamedTuple):
    """A network of dense layers of ReLU: its options, and what becomes of its data."""

    options: str
    data: str = ""


# By the name in the sentence.
KINDS = {
    "plain layers with momentum": Kind("lr=0.01, momentum=0.9"),
    "data that have columns of zeros, as MNIST has": Kind("lr=0.01, momentum=0.9", "x[:, ::3] = 0"),
    "Adam": Kind("optimizer=optimizers.Adam(lr=1e-3)"),
    "the rarer activations, losses and update rules": Kind("optimizer=optimizers.Lion(lr=1e-4)"),
    "batch norm and dropout": Kind("lr=0.01, num_bn_layers=1, dropout=0.1"),
    "layer norm, residual connections and the like": Kind("lr=0.01, num_ln_layers=1"),
}

_FIT = """
import json, time
import numpy as np
from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy, optimizers
rng = np.random.default_rng(0)
mlp = MLP(
    784, 10, [64, 32], [ReLU(), ReLU(), Identity()],
    lambda a, b: rng.standard_normal((a, b)) / a**0.5, lambda d: np.zeros((1, d)),
    SoftmaxCrossEntropy(), dtype=np.float32, {options}
)
x, labels = rng.standard_normal((256, 784)).astype(np.float32), rng.integers(0, 10, 256)
{data}
started = time.perf_counter()
mlp.fit(x, labels, batch_size=64)
print(json.dumps(time.perf_counter() - started))
"""


def program(kind: Kind) -> str:
    """What is run of a kind."""
    return _FIT.format(**kind._asdict())


def measure(rounds: int) -> dict[str, Any]:
    """The record of a run."""
    record: dict[str, Any] = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": describe(),
        "versions": versions(),
        "warnings": warnings(1),
        "threads": usable_cores(),
        "import": import_seconds()["fastmlp"],
    }
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for name, kind in KINDS.items():
            with empty_cache() as cache:
                seconds[name].append(run_fresh(program(kind), cache))
            print(f"{name}: {seconds[name][-1]:.1f} s", file=sys.stderr, flush=True)
    return record | {"seconds": seconds}


def sentence(record: dict[str, Any]) -> str:
    """The figures in words."""
    (first, *others), machine = list(KINDS), record["machine"]
    seconds = {kind: f"{median(found):.0f}" for kind, found in record["seconds"].items()}
    rest = ", ".join(f"{seconds[kind]} with {kind}" for kind in others)
    beside = "; ".join(record["warnings"]) or "nothing else running"
    return (
        f"**The first `fit` compiles**: {seconds[first]} seconds for {first}; "
        f"in their place {rest} ({machine['cpu']}, {record['date']}, {beside})."
    )


def render(record: dict[str, Any]) -> None:
    """Write the sentence into the pages."""
    for page in PAGES:
        rewrite(page, sentence(record), "first-fit")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.first_fit",
        description=f"Measure the first fit with an empty cache; the record goes to {CASUAL}/.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    add_tasks(parser, "pages")
    arguments = parser.parse_args(argv)
    record = load(latest(NAME)) if arguments.render else measure(arguments.rounds)
    if arguments.write:
        save(ROOT / RESULTS / machine_of(record) / NAME, record)
    elif not arguments.render:
        save(Path.cwd() / CASUAL / NAME, record)
    if arguments.write or arguments.render:
        render(record)
    print(sentence(record))


if __name__ == "__main__":
    main()
