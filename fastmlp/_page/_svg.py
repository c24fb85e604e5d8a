"""Charts as inline SVG, whose colours are those of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from ._html import text

_WIDTH, _HEIGHT = 420, 260
# Left there is room for a number like 0.00015 beside the name of the axis.
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 12, 12, 40
_MOST_MARKS, _MOST_POINTS = 40, 500
_COUNTED = "epoch", "step"
_FAINTEST = 0.1
"""How much fills a bar of nothing; its outline is whole."""


class Axes:
    """A rectangle of the data's plane, and where its points are in the drawing."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        """x, y : the least and the largest value; equal ones are moved apart"""
        (self.left, self.right), (self.low, self.high) = map(_apart, (x, y))

    def x(self, value: float) -> float:
        share = (value - self.left) / (self.right - self.left)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def point(self, x: float, y: float) -> str:
        return f"{self.x(x):.1f},{self.y(y):.1f}"


def _apart(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high: multiples of 1, 2 or 5 times a power of ten."""
    least = (high - low) / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def chart(axes: Axes, label: str, x_label: str, y_label: str, marks: Iterable[str]) -> str:
    """A drawing with its axes; label : what it shows, for who cannot see it."""
    labels = (
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{text(x_label)}</text>"
        f'<text transform="translate(13,{(_TOP + _HEIGHT - _BOTTOM) / 2:g}) rotate(-90)" '
        f'text-anchor="middle">{text(y_label)}</text>'
    )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(label)}">'
        f"{_axis_marks(axes, x_label in _COUNTED)}{labels}{''.join(marks)}</svg>"
    )


def _axis_marks(axes: Axes, whole: bool) -> str:
    """Lines at round numbers, and the numbers; whole : only whole ones on the x axis."""
    drawn = []
    for value in ticks(axes.left, axes.right):
        if whole and value != round(value):
            continue
        x, bottom = axes.x(value), _HEIGHT - _BOTTOM
        drawn.append(f'<path class="axis" d="M{x:.1f},{bottom}v4"/>')
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{value:g}</text>')
    for value in ticks(axes.low, axes.high):
        y = axes.y(value)
        drawn.append(f'<path class="axis" d="M{_LEFT},{y:.1f}H{_WIDTH - _RIGHT}"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    return "".join(drawn)


def line(axes: Axes, values: Sequence[float], kind: str) -> str:
    """A curve of values at 1, 2, ...; where one is not finite it has a gap.

    kind : its class    Few values have a mark each, of many some are left out.
    """
    every = max(1, -(-len(values) // _MOST_POINTS))
    places = [i for i in range(len(values)) if i % every == 0 or i == len(values) - 1]
    parts: list[str] = []
    before = False
    for i in places:
        finite = math.isfinite(values[i])
        if finite:
            parts.append(f"{'L' if before else 'M'}{axes.point(i + 1, values[i])}")
        before = finite
    drawn = f'<path class="{kind}" d="{"".join(parts)}"/>' if parts else ""
    if len(values) <= _MOST_MARKS:
        drawn += "".join(
            _mark(axes, i + 1, value, kind)
            for i, value in enumerate(values)
            if math.isfinite(value)
        )
    return drawn


def _mark(axes: Axes, place: int, value: float, kind: str) -> str:
    """A disc, or a square where the curve is a second one: single points have no dashes."""
    x, y = axes.x(place), axes.y(value)
    title = f"<title>{text(f'{place}: {value:.6g}')}</title>"
    if kind == "second":
        shape = f'x="{x - 3:.1f}" y="{y - 3:.1f}" width="6" height="6"'
        return f'<rect class="{kind}" {shape}>{title}</rect>'
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3">{title}</circle>'


def bars(
    axes: Axes, edges: Sequence[float], heights: np.ndarray, titles: Sequence[str],
    counts: np.ndarray | None = None,
) -> str:  # fmt: skip
    """A bar between each two edges; one whose height is not finite is left out.

    counts : of what is in each; the fewer, the fainter, by their logarithms
    """
    drawn, shades = [], np.ones(len(heights))
    if counts is not None:
        shades = _FAINTEST + (1 - _FAINTEST) * np.log1p(counts) / np.log1p(max(1, counts.max()))
    for i, (height, title) in enumerate(zip(heights, titles, strict=True)):
        if not math.isfinite(height):
            continue
        left, right, top = axes.x(edges[i]), axes.x(edges[i + 1]), axes.y(height)
        drawn.append(
            f'<rect class="bar" x="{left + 0.5:.1f}" y="{top:.1f}" '
            f'width="{right - left - 1:.1f}" height="{axes.y(axes.low) - top:.1f}" '
            f'fill-opacity="{shades[i]:.2f}">'
            f"<title>{text(title)}</title></rect>"
        )
    return "".join(drawn)


def points(axes: Axes, x: np.ndarray, y: np.ndarray) -> str:
    """A dot each; those that are not finite are left out."""
    finite = np.isfinite(x) & np.isfinite(y)
    return "".join(
        f'<circle class="point" cx="{axes.x(a):.1f}" cy="{axes.y(b):.1f}" r="2.5"/>'
        for a, b in zip(x[finite].tolist(), y[finite].tolist(), strict=True)
    )


def diagonal(axes: Axes) -> str:
    """Where x and y are equal."""
    low, high = max(axes.left, axes.low), min(axes.right, axes.high)
    return f'<path class="mark" d="M{axes.point(low, low)}L{axes.point(high, high)}"/>'


def figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{text(caption)}</figcaption></figure>"
