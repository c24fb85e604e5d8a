"""Docstrings of the house, in the markup that Sphinx reads.

An argument is a line ``name : what it is``, continued by lines that are indented; short ones share
a line, four spaces apart. numpydoc's sections have the same form. Here they become definition
lists, and ``docs/ranks.md`` a link.
"""

import re

NAMES = r"\*{0,2}\w+(?:, \*{0,2}\w+)*"
ENTRY = re.compile(rf"({NAMES}) : (.*)")
NEXT = re.compile(rf" {{4,}}(?={NAMES} : )")
PAGE = re.compile(r"\bdocs/([\w/-]+)\.md\b")


def setup(app):
    app.connect("autodoc-process-docstring", _process)
    return {"parallel_read_safe": True}


def _process(app, what, name, obj, options, lines):
    lines[:] = marked_up(lines)


def marked_up(lines):
    """The lines of a docstring as reStructuredText."""
    found, rest, in_section = [], [PAGE.sub(r":doc:`/\1`", line) for line in lines], False
    while rest:
        line = rest.pop(0)
        if rest and line and re.fullmatch("-{4,}", rest[0]):
            rest.pop(0)
            found += ["", f".. rubric:: {line}", ""]
            in_section = True
        elif ENTRY.match(line):
            more = _indented(rest)
            found += ["", *(_typed if in_section and more else _definitions)(line, more)]
        else:
            in_section &= not line
            found.append(line)
    return found


def _indented(rest):
    """Takes the lines that continue an entry."""
    taken = []
    while rest and rest[0].startswith("    "):
        taken.append(rest.pop(0))
    return taken


def _typed(line, more):
    names, kind = ENTRY.match(line).groups()
    return f"{_term(names)} : {kind}", *more, ""


def _definitions(line, more):
    *short, last = NEXT.split(line)
    for entry in short:
        names, text = ENTRY.match(entry).groups()
        yield from (_term(names), f"    {text.strip()}", "")
    names, text = ENTRY.match(last).groups()
    yield from (_term(names), f"    {text}", *more, "")


def _term(names):
    return ", ".join(f"``{name}``" for name in names.split(", "))
