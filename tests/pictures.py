"""What a picture of a page must be: readable on white and on dark."""

import re
import xml.etree.ElementTree as ET

from benchmarks.pictures import COLOURS, TEXT

GROUNDS = {"white": "#ffffff", "dark": "#121212", "darker": "#0d1117"}


def luminance(colour):
    """Of #rrggbb. Reference: WCAG 2.2, "relative luminance"."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """Reference: WCAG 2.2, "contrast ratio"."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def assert_readable(svg):
    """Of Matplotlib's text: it has the known colours alone, and no ground."""
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {TEXT, *COLOURS}
    assert not re.search(r"(fill|stroke): (?!none|#|url)", svg)
    texts = [group for group in ET.fromstring(svg).iter() if group.get("id", "")[:5] == "text_"]
    assert texts
    for group in texts:
        # Of black, Matplotlib says nothing.
        assert f"fill: {TEXT}" in group[0].get("style", "")
