"""The parts of the README and of other pages that measurements write, between two marks."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import _results
from ._tables import front, markdown

CHART, ROOFLINE = "speed.svg", "roofline.svg"
ROOT = Path(__file__).parents[2]
RESULTS = Path("benchmarks/results")
"""Of the root: a folder for every machine, and the chart of the README."""

# Of a machine: the folder of a kind of record, below that of the machine.
KINDS = {"readme": "", "bfloat16": "bfloat16"}


class Kept(NamedTuple):
    """A record, and its folder from the root."""

    folder: Path
    record: dict[str, Any]


def kept(kind: str) -> list[Kept]:
    """The records of a kind, one for each machine."""
    paths = sorted(ROOT.joinpath(RESULTS).glob(str(Path("*", KINDS[kind], "results.json"))))
    return [Kept(p.parent.relative_to(ROOT), _results.read(p.parent)) for p in paths]


def latest(name: str) -> Path:
    """The record of that name, one for each machine, that was measured last."""
    paths = ROOT.joinpath(RESULTS).glob(f"*/{name}")
    return max(paths, key=lambda path: (json.loads(path.read_text("utf-8"))["date"], path))


def add_tasks(parser: argparse.ArgumentParser, pages: str) -> None:
    """``--write`` and ``--render``, of a command whose record ``pages`` show."""
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--write", action="store_true",
        help=f"keep the record in {RESULTS}/ and write the {pages}")  # fmt: skip
    task.add_argument("--render", action="store_true",
        help=f"measure nothing: write the {pages} from the record")  # fmt: skip


def folder_of(kind: str, record: dict[str, Any]) -> Path:
    """Where a record of this machine belongs, from the root: another machine's has another."""
    return RESULTS / _results.machine_of(record) / KINDS[kind]


def _front_page(records: Sequence[Kept], page: Path) -> str:
    """A table of a few rows for each machine, and one chart."""
    image = f"![Speed relative to fastmlp]({_seen_from(page, RESULTS / CHART)})"
    return "\n\n".join([*(front(record) for _, record in records), image])


def _whole_page(records: Sequence[Kept], page: Path) -> str:
    """All tables, notes and plots of each machine, under its name."""
    return "\n\n".join(
        f"### {record['machine']['cpu']}, {record['threads']} threads\n\n"
        + section(record, _seen_from(page, folder))
        for folder, record in records
    )


class Page(NamedTuple):
    """A page from the root, the kind of the records it shows, and what it shows of them."""

    path: Path
    kind: str
    show: Callable[[Sequence[Kept], Path], str]

    def text(self) -> str:
        """What should stand between its marks."""
        return self.show(kept(self.kind), self.path)


PAGES = {
    "readme": Page(Path("README.md"), "readme", _front_page),
    "results": Page(RESULTS / "README.md", "readme", _whole_page),
    "bfloat16": Page(Path("docs/bfloat16.md"), "bfloat16", _whole_page),
}


def _seen_from(page: Path, path: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()


def marks(name: str) -> tuple[str, str]:
    """The lines between which a part of a page is generated."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def section(record: dict[str, Any], folder: str) -> str:
    """Tables, notes and the two plots, which lie in ``folder`` relative to the page."""
    return "\n\n".join(
        [
            markdown(record),
            f"![Speed relative to fastmlp]({folder}/{CHART})",
            f"![Roofline]({folder}/{ROOFLINE})",
        ]
    )


def rewrite(page: Path, text: str, name: str = "speed") -> None:
    """Put ``text`` between the marks of that name. Raises ValueError where there are none."""
    before, _, after = _split(page, name)
    begin, end = marks(name)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def is_current(page: Path, text: str) -> bool:
    """Whether ``text`` is what stands between the marks."""
    return _split(page, "speed")[1].strip() == text.strip()


def _split(page: Path, name: str) -> tuple[str, str, str]:
    first, last = marks(name)
    before, begin, rest = page.read_text(encoding="utf-8").partition(first)
    inside, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page.name} must contain {first} and {last}, in this order")
    return before, inside, after
