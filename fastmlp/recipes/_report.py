"""The report of a recipe's run: report.json and a Markdown table."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._files import naming
from ..threads import get_num_threads
from ._experiment import Measure, Outcome, Timing

_HEADINGS = (
    "experiment", "figure", "reported", "reproduced", "must reach", "NumPy, s", "fastmlp, s",
)  # fmt: skip


def write(out: Path, outcomes: Sequence[Outcome], quick: bool) -> str:
    """Write report.json and report.md into the folder; returns the Markdown.

    Raises OSError, which names the file, when one cannot be written; so does ``write_page``.
    """
    report = {
        "machine": _machine(), "quick": quick,
        "experiments": [_as_json(outcome, out) for outcome in outcomes],
    }  # fmt: skip
    text = markdown(outcomes, quick)
    _write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    _write_text(out / "report.md", text)
    return text


def markdown(outcomes: Sequence[Outcome], quick: bool) -> str:
    """A row per figure, the seconds in an experiment's first, and what they are the seconds of."""
    rows = [row for outcome in outcomes for row in _rows(outcome, quick)]
    cells = [_HEADINGS, *rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"- {outcome.title}: {_note(outcome)}" for outcome in outcomes]
    machine = _machine()
    where = (
        f"{machine['date']}, fastmlp {machine['fastmlp']}, NumPy {machine['numpy']}, "
        f"Python {machine['python']}, {machine['machine']}, {machine['cores']} cores; threads: "
        f"fastmlp {machine['threads']}, NumPy {machine['numpy_threads']}."
    )
    if quick:
        where += " A quick run on a part of the data: its figures are not those to be reached."
    return "\n".join([*lines, "", *notes, "", where]) + "\n"


def markers(name: str) -> tuple[str, str]:
    """The lines of a Markdown page between which a recipe's table stands."""
    return f"<!-- reproduce:{name}:begin -->", f"<!-- reproduce:{name}:end -->"


def split_page(page: Path, name: str) -> tuple[str, str]:
    """What a page has before and after a recipe's table.

    Raises ValueError, which names the page, when it is no text or lacks the markers.
    """
    first, last = markers(name)
    try:
        with naming(page):
            text = page.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{page} must be UTF-8 text: {error}") from error
    before, begin, rest = text.partition(first)
    _, end, after = rest.partition(last)
    if not begin or not end:
        raise ValueError(f"{page} must have the lines {first} and {last}, and lacks them")
    return before, after


def write_page(page: Path, name: str, text: str) -> None:
    """Put a recipe's table between its markers, and leave the rest of the page as it is."""
    (before, after), (begin, end) = split_page(page, name), markers(name)
    _write_text(page, f"{before}{begin}\n\n{text}\n{end}{after}")


def _write_text(path: Path, text: str) -> None:
    with naming(path):
        path.write_text(text, encoding="utf-8")


def missed(outcomes: Sequence[Outcome]) -> list[str]:
    """What does not reach its bound, in words."""
    return [
        f"{outcome.title}: {measure.what} must be {measure.required}, got {measure.reproduced:.4g}"
        for outcome in outcomes
        for measure in outcome.measures
        if not measure.reached
    ]


def _rows(outcome: Outcome, quick: bool) -> list[tuple[str, ...]]:
    numpy, fast = _seconds(outcome.timing)
    rows: list[tuple[str, ...]] = []
    for index, measure in enumerate(outcome.measures):
        first = (outcome.title, numpy, fast) if index == 0 else ("", "", "")
        required = "" if quick else measure.required
        rows.append((first[0], *_figures(measure), required, *first[1:]))
    return rows


def _figures(measure: Measure) -> tuple[str, str, str]:
    reported = "" if measure.reported is None else f"{measure.reported:g}"
    return measure.what, reported, f"{measure.reproduced:.4g}"


def _seconds(timing: Timing | None) -> tuple[str, str]:
    if timing is None:
        return "", ""
    ratio = timing.numpy_seconds / timing.fastmlp_seconds
    return f"{timing.numpy_seconds:.2f}", f"{timing.fastmlp_seconds:.2f} ({ratio:.1f} × faster)"


def _note(outcome: Outcome) -> str:
    note = f"{outcome.setup}; all of its training took {outcome.seconds:.1f} s."
    if outcome.timing is not None:
        note += f" Timed in both: {outcome.timing.work}, NumPy in float64."
    return note


def _as_json(outcome: Outcome, out: Path) -> dict[str, Any]:
    report = dataclasses.asdict(outcome)
    report["pictures"] = [path.relative_to(out).as_posix() for path in outcome.pictures]
    for entry, measure in zip(report["measures"], outcome.measures, strict=True):
        entry["reached"] = measure.reached
    return report


def _machine() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"), "fastmlp": __version__, "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(), "cores": os.cpu_count(), "threads": get_num_threads(),
        "numpy_threads": os.environ.get("OPENBLAS_NUM_THREADS", "its default"),
    }  # fmt: skip
