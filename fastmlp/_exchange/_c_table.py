"""What a C file says of the table that its network has learnt from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def comment(schema: Any) -> str:
    """Lines of a comment: which number of a row is which column, which output is which class."""
    return " *\n" + "".join(f" * {line}\n" for line in _lines(schema))


def _lines(schema: Any) -> Iterator[str]:
    for place, says in enumerate(_inputs(schema)):
        yield f"x[{place}] : {says}"
    known = schema.class_names
    of = "" if known is None else f" of {', '.join(map(_quoted, schema.targets))}"
    for place, name in enumerate(known or schema.targets):
        yield f"y[{place}] : {_quoted(name)}{of}"


def _inputs(schema: Any) -> Iterator[str]:
    for name, categories in schema.columns:
        if categories is None:
            yield _quoted(name)
        for category in categories or ():
            yield f"1 where {_quoted(name)} is {_quoted(category)}, otherwise 0"


def _quoted(name: str) -> str:
    """The name as JSON has it, in a line, without what would end a comment or begin another."""
    text = "".join(
        sign if sign.isprintable() else json.dumps(sign)[1:-1]
        for sign in json.dumps(name, ensure_ascii=False)
    )
    return text.replace("*/", "*\\/").replace("/*", "/\\u002a")
