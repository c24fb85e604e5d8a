"""Lines of text on a terminal. It imports nothing that takes time: errors go through it, too."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TextIO

_JOINED = "\0"  # in the place of a space where no line is broken


def say(text: str, to: TextIO | None = None) -> None:
    """Print lines; on a terminal, those that are too long are broken, behind commas if they can.

    to : standard output by default
    """
    stream = sys.stdout if to is None else to
    if stream.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(_wrapped(line, width) for line in text.split("\n"))
    print(text, file=stream, flush=True)


def _wrapped(line: str, width: int) -> str:
    """What stands between commas, a name and its value, stays in one line where it has room."""
    parts = line.split(", ")
    joined = [part.replace(" ", _JOINED) if len(part) < width else part for part in parts]
    lines = textwrap.fill(", ".join(joined), width, break_long_words=False, break_on_hyphens=False)
    return lines.replace(_JOINED, " ")
