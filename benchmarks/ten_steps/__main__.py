"""``python -m benchmarks.ten_steps``: the programs of examples/ten_steps, and their page."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from fastmlp._cores import usable_cores

from ..compare import _results
from ..compare._data import images
from ..compare._machine import describe, versions, warnings
from ..compare._readme import RESULTS, ROOT, add_tasks, latest, rewrite
from ..compare._rounds import Comparison
from ..compare._workloads import Workload
from ..tabular import load, save
from ._page import draw, sections
from ._steps import PEERS, WORKLOAD

NAME = "ten_steps.json"
PAGE = ROOT / "docs" / "ten-steps.md"
PICTURE = ROOT / "docs" / "images" / "ten-steps.svg"
CASUAL = Path("runs/ten_steps")


def measure(workload: Workload, rounds: int, names: Sequence[str] = tuple(PEERS)) -> dict[str, Any]:
    """The record of a run."""
    threads = usable_cores()
    record: dict[str, Any] = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": describe(),
        "versions": versions(),
        "warnings": warnings(threads),
        "threads": threads,
        "data": images().source,
    }
    with Comparison(threads, _say, PEERS) as comparison:
        measured = comparison.measure(workload, names, rounds)
    return record | {"workload": _results.row(workload, measured)}


def render(record: dict[str, Any]) -> None:
    """The page and its picture."""
    draw(record, PICTURE)
    for name, text in sections(record).items():
        rewrite(PAGE, text, name)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ten_steps",
        description="Measure an epoch of the ten programs of examples/ten_steps in interleaved "
        f"rounds, in less than four minutes; the record goes to {CASUAL}/.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="at most, default %(default)s")
    parser.add_argument("--samples", type=int,
        help="rows of the training set, for a rough answer; default all")  # fmt: skip
    add_tasks(parser, "page")
    arguments = parser.parse_args(argv)
    if arguments.render:
        render(load(latest(NAME)))
        return
    network = replace(WORKLOAD.network, samples=arguments.samples)
    record = measure(replace(WORKLOAD, network=network), arguments.rounds)
    if arguments.write:
        save(ROOT / RESULTS / _results.machine_of(record) / NAME, record)
        render(record)
    else:
        save(Path.cwd() / CASUAL / NAME, record)
        draw(record, Path.cwd() / CASUAL / PICTURE.name)
    Console().print(Markdown(sections(record)["ten-steps"]))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
