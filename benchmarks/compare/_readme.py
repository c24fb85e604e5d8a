"""The parts of the README and of other pages that measurements write, between two marks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from ._tables import markdown

CHART, ROOFLINE = "speed.png", "roofline.png"
ROOT = Path(__file__).parents[2]


class Page(NamedTuple):
    """A page that shows a record, and the folder of that record; both from the root."""

    path: Path
    folder: Path

    def text(self, record: dict[str, Any]) -> str:
        """What the page should show of it."""
        return section(record, Path(os.path.relpath(self.folder, self.path.parent)).as_posix())


PAGES = {
    "readme": Page(Path("README.md"), Path("benchmarks/results")),
    "bfloat16": Page(Path("docs/bfloat16.md"), Path("benchmarks/results/bfloat16")),
}


def marks(name: str) -> tuple[str, str]:
    """The lines between which a part of a page is generated."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def section(record: dict[str, Any], folder: str) -> str:
    """Table, notes and the two plots, which lie in ``folder`` relative to the page."""
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
