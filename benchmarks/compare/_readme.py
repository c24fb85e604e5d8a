"""The README's part that this package writes, between two markers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._tables import markdown

BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
CHART, ROOFLINE = "speed.png", "roofline.png"


def section(record: dict[str, Any], folder: str) -> str:
    """Table, notes and the two plots, which lie in ``folder`` relative to the README."""
    return "\n\n".join(
        [
            markdown(record),
            f"![Speed relative to fastmlp]({folder}/{CHART})",
            f"![Roofline]({folder}/{ROOFLINE})",
        ]
    )


def rewrite(readme: Path, text: str) -> None:
    """Put ``text`` between the markers. Raises ValueError where there are none."""
    before, _, after = _split(readme)
    readme.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def is_current(readme: Path, text: str) -> bool:
    """Whether ``text`` is what stands between the markers."""
    return _split(readme)[1].strip() == text.strip()


def _split(readme: Path) -> tuple[str, str, str]:
    content = readme.read_text(encoding="utf-8")
    before, begin, rest = content.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme.name} must contain {BEGIN} and {END}, in this order")
    return before, inside, after
