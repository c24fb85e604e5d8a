"""A drawing of rectangles, lines and text as SVG, the same bytes every time.

Colours are of middling lightness and surfaces are translucent, so that a drawing without a
background can be read on white and on black. Text stays text.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from benchmarks.pictures import TEXT


class Drawing:
    """Of so many pixels, with a title for those who do not see it."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" '
            'font-family="system-ui, sans-serif" font-size="13">\n'
            f"<title>{escape(title)}</title>\n"
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            f'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="{TEXT}"/></marker>'
            "</defs>\n"
        )
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, strength: float = 0.12
    ) -> None:
        """A rectangle; strength : how much its surface covers, 0 for the edge alone."""
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="2" '
            f'fill="{colour}" fill-opacity="{strength:g}" stroke="{colour}"/>'
        )

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "start", colour: str = TEXT,
        size: int = 13, code: bool = False,
    ) -> None:  # fmt: skip
        font = ' font-family="ui-monospace, monospace"' if code else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}" '
            f'font-size="{size}"{font}>{escape(words)}</text>'
        )

    def line(
        self, x: float, y: float, to_x: float, to_y: float, colour: str = TEXT, *,
        arrow: bool = False, dashed: bool = False, width: float = 1.5,
    ) -> None:  # fmt: skip
        more = ' marker-end="url(#tip)"' if arrow else ""
        more += ' stroke-dasharray="4 4"' if dashed else ""
        self._parts.append(
            f'<line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{colour}" '
            f'stroke-width="{width:g}"{more}/>'
        )

    def __str__(self) -> str:
        return self._head + "\n".join(self._parts) + "\n</svg>\n"
