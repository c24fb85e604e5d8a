"""Pieces of HTML: text is escaped here, and the style of the page is here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from string import Template

_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$subtitle</p>
</header>
<main>
$sections
</main>
</body>
</html>
""")

# Blue and orange are apart in lightness; what they mean is also told by dashes and words.
_STYLE = """\
:root { --ground: #ffffff; --text: #1b2027; --faint: #5d6672; --line: #d8dde3; --card: #f4f6f8;
  --first: #0b5cad; --second: #c2570c; --good: 11 92 173; --bad: 214 92 10; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181d; --text: #e4e8ec; --faint: #9aa5b1; --line: #353d47; --card: #1d232a;
    --first: #6fb1f5; --second: #f5a35c; --good: 70 140 215; --bad: 230 120 40; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 70rem; background: var(--ground);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem; border-bottom: 1px solid var(--line); }
p { margin: .4rem 0; max-width: 46rem; } header p, .faint, caption { color: var(--faint); }
.cards { display: flex; flex-wrap: wrap; gap: .6rem; margin: 0; }
.cards div { background: var(--card); border-radius: .5rem; padding: .5rem .9rem; flex: 1 0 8rem; }
.cards dt { color: var(--faint); font-size: .85rem; }
.cards dd { margin: 0; font-size: 1.35rem; font-weight: 600; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); }
figure { margin: 0; max-width: 36rem; } figcaption { font-size: .85rem; color: var(--faint); }
svg { display: block; width: 100%; height: auto; }
svg text { font: 13px system-ui, sans-serif; fill: var(--faint); }
.axis { stroke: var(--line); fill: none; } .mark { stroke: var(--faint); stroke-dasharray: 2 3; }
.first { stroke: var(--first); } .second { stroke: var(--second); stroke-dasharray: 6 4; }
.first, .second { fill: none; stroke-width: 2; }
circle.first { fill: var(--first); stroke: none; }
rect.second { fill: var(--second); stroke: none; }
rect.bar { fill: var(--first); stroke: var(--first); opacity: .75; }
circle.point { fill: var(--first); opacity: .45; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } .facts th { color: var(--faint); font-weight: 400; vertical-align: top; }
.facts td { overflow-wrap: anywhere; }
.figures td, .figures thead th { text-align: right; } .figures thead th { vertical-align: bottom; }
.figures tbody *, .matrix * { white-space: nowrap; max-width: 14rem; overflow: hidden;
  text-overflow: ellipsis; }
.long th[scope=col] { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; }
.matrix th, .matrix td { padding: .2rem .45rem; text-align: right; border: 0; }
.matrix td { min-width: 2.3rem; }
.pictures { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr));
  list-style: none; padding: 0; margin: .8rem 0; font-size: .85rem; }
.pictures img { width: 100%; image-rendering: pixelated; border-radius: .3rem; display: block; }
pre { background: var(--card); border-radius: .5rem; padding: .7rem .9rem; overflow-x: auto;
  font-size: .85rem; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--faint); }
@media print { body { max-width: none; padding: 0; font-size: 11px; }
  section, figure, li { break-inside: avoid; } .wide { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


def page(title: str, subtitle: str, sections: Iterable[str]) -> str:
    """A whole document, which refers to nothing outside of itself; the texts are escaped here."""
    return _PAGE.substitute(
        title=text(title), subtitle=text(subtitle), style=_STYLE, sections="\n".join(sections)
    )


def text(value: object) -> str:
    """A text that may have any characters."""
    return html.escape(str(value))


def section(name: str, heading: str, *parts: str) -> str:
    """A part of the page; name : its id."""
    body = "\n".join(part for part in parts if part)
    return f'<section id="{name}">\n<h2>{text(heading)}</h2>\n{body}\n</section>'


def paragraph(words: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{text(words)}</p>"


def code(words: str) -> str:
    return f"<pre><code>{text(words)}</code></pre>"


def cards(figures: Sequence[tuple[str, str]]) -> str:
    """Figures to be seen first."""
    items = (f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in figures)
    return f'<dl class="cards">{"".join(items)}</dl>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and what they are."""
    lines = (f'<tr><th scope="row">{text(n)}</th><td>{text(v)}</td></tr>' for n, v in rows)
    return f'<div class="wide"><table class="facts">{"".join(lines)}</table></div>'


def figures(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of columns; the first says what the row is of."""
    head = "".join(f'<th scope="col">{text(heading)}</th>' for heading in headings)
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{text(cell)}</td>" for cell in others)
        lines.append(f'<tr><th scope="row">{text(first)}</th>{cells}</tr>')
    return (
        f'<div class="wide"><table class="figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def more(words: str, part: str) -> str:
    """What is shown on demand."""
    return f"<details><summary>{text(words)}</summary>{part}</details>"


def grid(parts: Iterable[str]) -> str:
    """Figures side by side where there is room."""
    return f'<div class="grid">{"".join(parts)}</div>'


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
