"""``python -m benchmarks.compare``: how fast fastmlp is on this machine, beside other libraries."""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastmlp._cores import usable_cores

from .. import load
from ..source import installed_digest
from . import _machine, _readme, _results
from ._data import images
from ._peers import PEERS
from ._readme import PAGES, RESULTS, ROOT, Page
from ._rounds import Comparison
from ._workloads import WORKLOADS, Workload

CASUAL = Path("runs/compare")

# Beside busy processes.
LOAD_EPOCHS = 5

# Compiling C++ takes longer than a rough answer may.
_NOT_QUICK = {"torch-compile"}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description="Measure fastmlp beside other libraries, in interleaved rounds. Results and "
        f"plots go to {CASUAL}/, for the record to this machine's folder in {RESULTS}/.",
    )
    parser.add_argument("--quick", action="store_true", help="a rough answer within a minute")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", choices=[*WORKLOADS],
        help=f"some of: {', '.join(WORKLOADS)}")  # fmt: skip
    parser.add_argument("--peers", nargs="+", metavar="NAME", choices=[*PEERS],
        help=f"beside fastmlp, some of: {', '.join(PEERS)}")  # fmt: skip
    parser.add_argument("--threads", type=_count, default=usable_cores(),
        help="of every library")  # fmt: skip
    parser.add_argument("--rounds", type=_count, help="default 7, quick 3")
    parser.add_argument("--resume", action="store_true", help="keep the workloads that an earlier "
        f"run of the same kind has left in {CASUAL}/, measure the others")  # fmt: skip
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--readme", action="store_true", help="keep the results as this machine's "
        "record, and rewrite the pages; trains beside busy processes, too")  # fmt: skip
    task.add_argument("--bfloat16", action="store_true", help="the same for the workloads in "
        "bfloat16 and docs/bfloat16.md")  # fmt: skip
    task.add_argument("--render", action="store_true", help="measure nothing: redraw all "
        "tables and plots from the records")  # fmt: skip
    task.add_argument("--check", action="store_true", help="measure nothing: exit with 1 if a "
        "page's table is not the record's")  # fmt: skip
    arguments = parser.parse_args(argv)
    partial = arguments.quick or arguments.workloads or arguments.peers
    if partial and (arguments.readme or arguments.bfloat16):
        parser.error("a record needs a complete run: no --quick, --workloads or --peers")
    return arguments


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text}")
    return value


def _chosen(arguments: argparse.Namespace) -> list[Workload]:
    workloads = [WORKLOADS[name] for name in arguments.workloads or WORKLOADS]
    if arguments.quick and not arguments.workloads:
        workloads = [workload for workload in workloads if workload.quick]
    if arguments.readme or arguments.bfloat16:
        workloads = [w for w in workloads if bool(w.compute_dtype) == arguments.bfloat16]
    return [workload.shortened() for workload in workloads] if arguments.quick else workloads


def _peers_of(workload: Workload, arguments: argparse.Namespace) -> list[str]:
    """fastmlp, then those of the workload's peers that were asked for."""
    wanted = set(arguments.peers or workload.peers)
    if arguments.quick and not arguments.peers:
        wanted -= _NOT_QUICK
    return ["fastmlp", *(name for name in workload.peers if name in wanted)]


def _new_record(arguments: argparse.Namespace) -> dict[str, Any]:
    """A record without figures: when, how, on what."""
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "quick": arguments.quick,
        "threads": arguments.threads,
        "rounds": arguments.rounds or (3 if arguments.quick else 7),
        "data": images().source,
        "machine": _machine.describe(),
        "versions": _machine.versions(),
        "source": installed_digest(),
        "peers": arguments.peers,
        "warnings": _machine.warnings(arguments.threads),
        "workloads": [],
    }


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The record of a run, which is written to the folder after every workload."""
    record = _new_record(arguments)
    if arguments.resume:
        _take_over(record, folder)
    order, done = list(WORKLOADS), {row["name"] for row in record["workloads"]}
    chosen = [workload for workload in _chosen(arguments) if workload.name not in done]
    everyone = dict.fromkeys(name for w in chosen for name in _peers_of(w, arguments))
    started = time.monotonic()
    with Comparison(arguments.threads, _say) as comparison:
        comparison.start(everyone)
        record["limits"] = comparison.limits(WORKLOADS["784-512-512-10"])
        for number, workload in enumerate(chosen, start=1):
            minutes = (time.monotonic() - started) / 60
            _say(f"[{number}/{len(chosen)}, {minutes:.1f} min] {workload.label}")
            measured = comparison.measure(
                workload, _peers_of(workload, arguments), record["rounds"]
            )
            record["workloads"].append(_results.row(workload, measured))
            record["workloads"].sort(key=lambda row: order.index(row["name"]))
            _results.write(record, folder)
    if arguments.readme:
        _say("beside busy processes")
        record["load"] = load.table(load.rows(load.NAMES, LOAD_EPOCHS, load.LOADS), LOAD_EPOCHS)
        _results.write(record, folder)
    return record


def _take_over(record: dict[str, Any], folder: Path) -> None:
    """The rows of an earlier run. Raises SystemExit if there is none, or it was another kind."""
    try:
        earlier = _results.read(folder)
    except FileNotFoundError:
        raise SystemExit(f"there is no earlier run in {CASUAL}/ to resume") from None
    now, then = _results.setup(record), _results.setup(earlier)
    other = sorted(name for name in now | then if now.get(name) != then.get(name))
    if other:
        raise SystemExit(f"the run in {CASUAL}/ is of another kind: {', '.join(other)} differ")
    record["workloads"] = earlier["workloads"]
    record["warnings"] = sorted({*earlier["warnings"], *record["warnings"]})


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _keep(record: dict[str, Any], folder: Path) -> None:
    """results.json and both plots."""
    from . import _plots

    _results.write(record, folder)
    _plots.bar_chart(record, folder / _readme.CHART)
    _plots.roofline(record, folder / _readme.ROOFLINE)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    if arguments.check:
        return max(_check(page) for page in PAGES.values())
    if arguments.render:
        for kind in _readme.KINDS:
            for folder, record in _readme.kept(kind):
                _keep(record, ROOT / folder)
        _rewrite_pages()
        return 0
    from ._tables import print_record

    record = measure(arguments, Path.cwd() / CASUAL)
    print_record(record)
    if arguments.readme or arguments.bfloat16:
        kind = "readme" if arguments.readme else "bfloat16"
        _keep(record, ROOT / _readme.folder_of(kind, record))
        _rewrite_pages()
    else:
        _keep(record, Path.cwd() / CASUAL)
    return 0


def _rewrite_pages() -> None:
    """Show the records of all machines."""
    from . import _plots

    records = [record for _, record in _readme.kept("readme")]
    _plots.front_chart(records, ROOT / RESULTS / _readme.CHART)
    for page in PAGES.values():
        _readme.rewrite(ROOT / page.path, page.text())


def _check(page: Page) -> int:
    if not _readme.kept(page.kind):
        _say(f"there is no record in {RESULTS}")
        return 1
    current = _readme.is_current(ROOT / page.path, page.text())
    if not current:
        _say(f"{page.path} does not show the records in {RESULTS}: run with --render")
    return 0 if current else 1


if __name__ == "__main__":
    sys.exit(main())
