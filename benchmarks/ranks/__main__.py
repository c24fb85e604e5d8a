"""One fit on several machines: ``python -m benchmarks.ranks``, in less than three minutes.

Measures steps of one process on two threads and of two processes on one each, fits what a step
costs to them, and prints from which batch on 2 to 1,024 machines help. With ``--write`` results,
the tables of ``docs/ranks.md`` and its figure are replaced; ``--render`` makes the latter from the
results that are there.
"""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from ..compare._machine import describe, versions
from ..compare._readme import ROOT, rewrite
from . import _measure, _report

RESULTS, PAGE = ROOT / "benchmarks" / "results" / "ranks.json", ROOT / "docs" / "ranks.md"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ranks", description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace results, tables and figure")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    parser.add_argument("--seconds", type=float, default=_measure.SECONDS, help="of an epoch")
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        _measure.as_rank(options.rank, options.seconds)
        return
    if options.render:
        record = json.loads(RESULTS.read_text(encoding="utf-8"))
    else:
        load = os.getloadavg()[0]
        record = {"machine": describe(), "versions": versions(), "load": load}
        record = json.loads(json.dumps(record | _measure.measured(options.seconds)))
    if options.write:
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.write or options.render:
        write(record)
    for text in _report.sections(record).values():
        Console().print(Markdown(text))


def write(record: dict[str, Any]) -> None:
    """The tables of the page, and its figure."""
    for name, text in _report.sections(record).items():
        rewrite(PAGE, text, name)
    _report.draw(record, ROOT / "docs" / "images" / "ranks.svg")


if __name__ == "__main__":
    main()
