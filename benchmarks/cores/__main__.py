"""``python -m benchmarks.cores``: training on up to 64 cores, by a model made from two of them."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from fastmlp._cores import usable_cores
from fastmlp._speed import peak_gflops, share_together

from ..compare._machine import describe, versions, warnings
from ..compare._probe import read_gbytes
from ..compare._readme import ROOT, add_tasks, rewrite
from ..compare._workloads import WORKLOADS
from ..tabular import load, save
from . import _measure, _record
from ._page import draw, page

NAMES = "784-512-512-10", "784-128-10", "784-300-10", "784-64-64-32-10", "course"
RECORD = ROOT / "benchmarks" / "results" / "cores.json"
PAGE = ROOT / "docs" / "cores.md"
PICTURE = ROOT / "docs" / "images" / "cores.svg"
CASUAL = Path("runs/cores")
_MEMORY_BYTES = 1 << 28


def measure(names: Sequence[str], seconds: float) -> dict[str, Any]:
    """The record of a run, with what the model makes of it."""
    record: dict[str, Any] = {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "machine": describe(),
        "versions": versions(),
        "warnings": warnings(2),
    }
    with _measure.at_most(2), _measure.pinned():
        record["together"] = share_together(np.float32, 2, peak_gflops(np.float32))
        record["costs"] = {
            "line": _measure.line_seconds(seconds),
            "barrier": _measure.barrier_seconds(seconds),
            "memory": 1e9 * read_gbytes(_MEMORY_BYTES, 2),
        }
        record["rows"] = []
        for name in names:
            print(name, file=sys.stderr, flush=True)
            timed = _measure.timed(WORKLOADS[name], seconds)
            record["rows"].append(_record.row_of(WORKLOADS[name], timed))
    return _record.with_curves(record)


def render(record: dict[str, Any]) -> None:
    """The page and its picture."""
    draw(record, PICTURE)
    rewrite(PAGE, page(record, PICTURE.relative_to(PAGE.parent).as_posix()), "cores")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cores",
        description="Measure one core and two, and say what the model makes of it; the record and "
        f"its picture go to {CASUAL}/.",
    )
    parser.add_argument("--seconds", type=float, default=_measure.FIGURE_SECONDS,
        help="of every figure, default %(default)s")  # fmt: skip
    add_tasks(parser, "page")
    arguments = parser.parse_args(argv)
    if arguments.render:
        render(load(RECORD))
        return
    if usable_cores() < 2:
        parser.error("two cores are needed, this process may use one")
    record = measure(NAMES, arguments.seconds)
    Console().print(Markdown(page(record, "cores.svg")))
    for warning in record["warnings"]:
        print(f"beware: {warning}", file=sys.stderr)
    if arguments.write:
        save(RECORD, record)
        render(record)
    else:
        folder = Path.cwd() / CASUAL
        save(folder / "cores.json", record)
        draw(record, folder / "cores.svg")


if __name__ == "__main__":
    main()
