"""The pages, README.md and those below docs/, and the blocks of code on them.

Blocks of Python on a page run in order, with the same names. Between them ``<!-- setup ... -->``
and ``<!-- check ... -->`` have Python that a reader need not see; ``<!-- not run: why -->`` in
front of a block leaves it out. Where a comment behind a print has a figure, it is what is printed.
"""

import re
import textwrap
from typing import NamedTuple

from tests.processes import ROOT

# Made by the build, from docstrings and from the command's help, or not a page of the site's own.
GENERATED = "_build", "reference"

PIECE = re.compile(
    r"<!-- (?:setup|check):?\n(?P<hidden>.*?)-->"
    r"|(?:<!-- not run: (?P<reason>[^>]*?) -->\s*)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
SAID = re.compile(r"print\(.*\)  # (.*\d.*)")


class Block(NamedTuple):
    """A block of code: where it begins, in which language, and why it is not run, if it is not."""

    line: int
    language: str
    text: str
    reason: str | None = None

    def said(self):
        """The lines that it says it prints."""
        return SAID.findall(self.text)


def pages():
    """{path from the root: text}"""
    docs = ROOT / "docs"
    found = [p for p in sorted(docs.rglob("*.md")) if p.relative_to(docs).parts[0] not in GENERATED]
    return {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in (ROOT / "README.md", *found)
    }


def blocks(text):
    """The blocks of a page in order; hidden ones are of the language "hidden"."""
    for piece in PIECE.finditer(text):
        name = "text" if piece["hidden"] is None else "hidden"
        language = piece["language"] if name == "text" else "hidden"
        line = text.count("\n", 0, piece.start(name)) + 1
        yield Block(line, language, textwrap.dedent(piece[name]), piece["reason"])


def block(text, language, words):
    """The one block of that language that has those words."""
    (found,) = (b for b in blocks(text) if b.language == language and words in b.text)
    return found
