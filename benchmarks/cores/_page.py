"""The record as tables and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..compare._tables import markdown_table
from ..pictures import COLOURS, TEXT, picture
from ._record import DEARER, MOST_CORES, Row, label, miss, speedups, step_on, threads_of_fit

SHOWN = 2, 4, 8, 16, 32, 64
RECEIVED = 2, 8, 64


def page(record: dict[str, Any], picture: str) -> str:
    """Model beside measurement, the curves, and what moves; ``picture`` as seen from the page."""
    rows, costs, machine = record["rows"], record["costs"], record["machine"]
    worst = max(abs(miss(row)) for row in rows)
    two = ["network", "batch", "1 core", "2 cores", "model", "miss", "of it lines", "barriers"]
    curve = [
        "network",
        *map(str, SHOWN),
        "most",
        "at cores",
        "`fit` takes up to",
        f"64, {DEARER} ×",
    ]
    moved = ["network", *(f"{cores} cores" for cores in RECEIVED), "barriers", "lines, 64 cores"]
    return "\n\n".join(
        [
            "Microseconds of a step, measured on one core and two, and by the model on two:",
            markdown_table(two, [_two_cores(row) for row in rows]),
            f"The model misses two cores by at most {worst:.0%}. Between them a line costs "
            f"{1e9 * costs['line']:.1f} ns and a barrier {1e9 * costs['barrier']:.0f} ns; memory "
            f"gives them {costs['memory'] / 1e9:.0f} GB/s. Side by side they reach "
            f"{record['together']:.0%} of twice what one does. {machine['cpu']}, "
            f"{record['date']}.",
            "By the model, times as fast as one core:",
            markdown_table(curve, [_curve(row) for row in rows]),
            f"![Speed over one core, by cores]({picture})",
            "Kilobytes that the core which receives most receives from others in a step; and the "
            f"share of a step that barriers and lines take on {MOST_CORES} cores:",
            markdown_table(moved, [_moved(row) for row in rows]),
        ]
    )


def _two_cores(row: Row) -> list[str]:
    _, lines, barriers = row["cores"][1]["parts"]
    seconds = row["step"]["1"], row["step"]["2"], step_on(row, 2)
    return [
        label(row), str(row["batch"]), *(f"{1e6 * s:.1f}" for s in seconds),
        f"{miss(row):+.1%}", f"{1e6 * lines:.1f}", f"{1e6 * barriers:.1f}",
    ]  # fmt: skip


def _curve(row: Row) -> list[str]:
    found = speedups(row)
    most = max(found)
    return [
        label(row), *(f"{found[cores - 1]:.1f}" for cores in SHOWN), f"{most:.1f}",
        str(found.index(most) + 1), str(threads_of_fit(row)),
        f"{speedups(row, dearer=True)[MOST_CORES - 1]:.1f}",
    ]  # fmt: skip


def _moved(row: Row) -> list[str]:
    received = [f"{row['cores'][cores - 1]['kilobytes']:.0f}" for cores in RECEIVED]
    _, lines, barriers = row["cores"][MOST_CORES - 1]["parts"]
    step = step_on(row, MOST_CORES)
    return [label(row), *received, f"{barriers / step:.0%}", f"{lines / step:.0%}"]


def draw(record: dict[str, Any], path: Path) -> None:
    """The curves, and the two cores that were measured."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    with picture(path, 7.5, 5) as figure:
        axes = figure.subplots()
        most = len(record["rows"][0]["cores"])
        axes.plot([1, most], [1, most], ":", color=TEXT, linewidth=1.2, label="perfect split")
        for colour, row in zip(COLOURS, record["rows"], strict=True):
            found = speedups(row)
            name = f"{label(row)}, batch {row['batch']}"
            axes.plot(range(1, most + 1), found, color=colour, linewidth=1.8, label=name)
            measured = row["step"]["1"] / row["step"]["2"]
            axes.plot(2, measured, "o", color=colour, markersize=6, fillstyle="none")
        axes.set(xscale="log", yscale="log", xlabel="cores", ylabel="times as fast as one core")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(LogLocator(2))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.legend(fontsize=9, loc="upper left")
