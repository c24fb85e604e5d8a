"""`fastmlp doctor`: what training finds on this machine, and what to do about it."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from .. import _machine
from . import speed_check
from .findings import CHECKS, Finding, Found, Line

# Columns of names, and where the output is no terminal, of all.
_NAME, _WIDTH = 13, 80


def doctor(
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure for five seconds.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, for a bug report.")
    ] = False,
) -> int:
    """Look for what makes training slow here.

    Processor, threads, machine code, versions, variables and data; then five seconds of
    measurements, each with a verdict beside the record that comes with the package. Everything that
    is found has a line that says what to do.

    The exit status is 1 if there is a problem, 0 if there is none; notes are none.
    """
    report: dict[str, dict[str, str]] = {}
    findings: list[Finding] = []
    figures: dict[str, Any] | None = None
    for title, check in CHECKS.items():
        _take(title, check(), report, findings, shown=not as_json)
    if speed:
        measured = _measured()
        found: Found = iter([_NOT_COMPILED])
        if measured is not None:
            figures = measured._asdict()
            found = speed_check.judge(measured, _machine.cpu_model())
        _take("Speed", found, report, findings, shown=not as_json)
    if as_json:
        listed = [finding._asdict() for finding in findings]
        print(json.dumps({"report": report, "speed": figures, "findings": listed}, indent=1))
    else:
        _print_findings(findings)
    return int(any(finding.problem for finding in findings))


_NOT_COMPILED = Line("measured", "no: fastmlp warmup has to compile the kernels before")


def _measured() -> speed_check.Speed | None:
    """None where kernels would have to be compiled, which takes longer than the check."""
    if not speed_check.is_ready():
        return None
    if sys.stderr.isatty():
        print("measuring for five seconds ...", file=sys.stderr, flush=True)
    return speed_check.measure()


def _take(
    title: str,
    found: Found,
    report: dict[str, dict[str, str]],
    findings: list[Finding],
    shown: bool,
) -> None:
    """Sort what a check found, and print its lines."""
    each = list(found)
    lines = [line for line in each if isinstance(line, Line)]
    findings += [finding for finding in each if isinstance(finding, Finding)]
    report[title] = {line.name.strip(): line.value for line in lines}
    if shown and lines:
        print(title)
        for name, value in lines:
            _print_wrapped(f"  {name.ljust(_NAME)}  ", value)
        print(flush=True)


def _print_findings(findings: Sequence[Finding]) -> None:
    """Problems first."""
    for finding in sorted(findings, key=lambda finding: not finding.problem):
        _print_wrapped("problem: " if finding.problem else "note: ", finding.what)
        _print_wrapped("   -> ", finding.do)
    if not any(finding.problem for finding in findings):
        print("no problem found")


def _print_wrapped(begin: str, text: str) -> None:
    """In the width of the terminal, whole words, so that paths and commands can be copied."""
    width = shutil.get_terminal_size((_WIDTH, 24)).columns
    indent = " " * min(len(begin), width // 4)
    lines = textwrap.wrap(
        begin + text, max(width, 20), subsequent_indent=indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    print("\n".join(lines))
