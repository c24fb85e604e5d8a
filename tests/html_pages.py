"""Reads a page of HTML, and demands that it is well formed and stands alone."""

import re
from html.parser import HTMLParser

# Elements that have no end.
_EMPTY = {"meta", "img", "br"}
_SVG = {"svg", "path", "circle", "rect", "text", "title"}


class Page(HTMLParser):
    """The texts, tables and elements of a page, by the ids of its sections."""

    def __init__(self, source):
        super().__init__()
        self.source = source
        self.texts, self.tables, self.elements = {}, {}, {}
        self._open, self._section = [], ""
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert len(attributes) == len(attrs), f"an attribute twice: {tag} {attrs}"
        _check_alone(tag, attributes)
        if tag == "section":
            self._section = attributes["id"]
            assert self._section not in self.texts, "an id twice"
            self.texts[self._section], self.tables[self._section] = [], []
        self.elements.setdefault(self._section, []).append((tag, attributes))
        if tag == "table":
            self.tables[self._section].append([])
        elif tag == "tr":
            self.tables[self._section][-1].append([])
        elif tag in ("td", "th"):
            self.tables[self._section][-1][-1].append("")
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in _SVG
        _check_alone(tag, dict(attrs))
        self.elements.setdefault(self._section, []).append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data):
        if not data.strip() or "style" in self._open:
            return
        self.texts.setdefault(self._section, []).append(data)
        if {"td", "th"} & set(self._open):
            self.tables[self._section][-1][-1][-1] += data

    def text(self, section):
        return " ".join(self.texts[section])

    def facts(self, section):
        """The last table of a section as a dictionary."""
        return dict(self.tables[section][-1])

    def all(self, section, tag, **wanted):
        """The attributes of a section's elements with that name and these attributes."""
        names = {name.rstrip("_"): value for name, value in wanted.items()}
        return [
            attributes for name, attributes in self.elements[section]
            if name == tag and names.items() <= attributes.items()
        ]  # fmt: skip


def _check_alone(tag, attributes):
    """Nothing from elsewhere, and nothing that runs."""
    assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base"}
    for name, value in attributes.items():
        assert not name.startswith("on")
        assert name not in {"href", "srcset", "action"}
        assert name != "src" or value.startswith("data:image/png;base64,")
        assert "url(" not in (value or "")


def read(path):
    """The page in a file."""
    source = path.read_text(encoding="utf-8")
    assert source.startswith("<!DOCTYPE html>\n")
    assert not re.search(r"https?:|@import|url\(", source)
    return Page(source)
