"""The record as a table, as a picture, and as what is said below every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..compare import _results
from ..compare._tables import markdown_table
from ..pictures import BLUE, RED, picture
from . import _steps
from ._steps import STEPS, Step


def seconds(record: dict[str, Any], name: str) -> float:
    """Median seconds of an epoch."""
    found = _results.seconds(record["workload"], name)
    if found is None:
        raise ValueError(f"{name} has no seconds: {record['workload']['peers'][name]['note']}")
    return found


def share(record: dict[str, Any], name: str) -> float:
    """Share of the FMA peak of all threads."""
    row = record["workload"]
    peak = 1e9 * row["peak_gflops"] * record["threads"]
    return float(row["flops"] / seconds(record, name) / peak)


def gain(record: dict[str, Any], step: Step) -> str:
    """How many times as fast as the step before it, in words."""
    before = STEPS[step.number - 2].module
    ratio = seconds(record, before) / seconds(record, step.module)
    noise = _results.uncertainty(record["workload"], before, step.module)
    if abs(ratio - 1) <= noise:
        return f"within the noise as fast as step {step.number - 1} ({ratio:.2f} ×, ± {noise:.0%})"
    return f"{ratio:.2f} × as fast as step {step.number - 1} (± {noise:.0%})"


def sections(record: dict[str, Any]) -> dict[str, str]:
    """What stands between the marks of each name."""
    return {"ten-steps": _summary(record)} | {
        f"step-{step.number}": _below(record, step) for step in STEPS
    }


def _summary(record: dict[str, Any]) -> str:
    row, first = record["workload"], seconds(record, STEPS[0].module)
    head = ["step", "seconds an epoch", "±", "of peak", "× step before", "× NumPy"]
    lines = []
    for step in STEPS:
        own = seconds(record, step.module)
        before = seconds(record, STEPS[max(0, step.number - 2)].module)
        lines.append(
            [
                f"{step.number}. {step.title}", f"{own:.3f}",
                f"{_results.uncertainty(row, step.module):.0%}",
                f"{share(record, step.module):.0%}",
                f"{before / own:.2f}" if step.number > 1 else "", f"{first / own:.1f}",
            ]
        )  # fmt: skip
    threads = record["threads"]
    kept = ""
    if _steps.MEMORY_KEPT in row["peers"]:  # older records have no such figure
        kept = f"Step 1 takes {seconds(record, _steps.MEMORY_KEPT):.3f} s where the C library "
        kept += "keeps its memory. "
    numpy_all = seconds(record, _steps.NUMPY_THREADS)
    alone = seconds(record, _steps.EPOCH_ALONE)
    notes = [
        f"{row['label']}, batch {row['batch_size']}; an epoch is {row['samples']:,} rows, "
        f"{record['data']}. {record['machine']['cpu']}, {threads} threads, {record['date']}. "
        f"Steps 1 to 8 run on one thread; the peak is that of all {threads}, "
        f"{threads * row['peak_gflops']:.0f} GFLOP/s in float32, measured in the same rounds. "
        "±: half of the distance between the quartiles.",
        f"{kept}Step 2 with BLAS on {threads} threads takes {numpy_all:.3f} s, step 10 on one "
        f"{alone:.3f} s.",
        *(f"Beware: {warning}." for warning in record["warnings"]),
    ]
    if row["together"] is not None and row["together"] < 1 - _results.SHARED_LIMIT:
        notes.append(f"The threads together reached {row['together']:.0%} of their peaks.")
    picture = "![Share of the processor's peak, step by step](images/ten-steps.svg)"
    return "\n\n".join([picture, markdown_table(head, lines), *notes])


def _below(record: dict[str, Any], step: Step) -> str:
    """A step's code and its figures."""
    own, part = seconds(record, step.module), share(record, step.module)
    said = f"**{own:.3f} s an epoch, {part:.0%} of peak**"
    said += f", {gain(record, step)}." if step.number > 1 else "."
    path, excerpt = _steps.path_of(step.module), _steps.excerpt(step)
    code = f"<!-- not run: an excerpt of {path} -->\n```python\n{excerpt}\n```"
    others = ", ".join(map(_link, _steps.imported(step)))
    return f"{code}\n\n{_link(step.module)}: {said}\n\nReads with: {others}."


def _link(module: str) -> str:
    return f"[{module}.py](../{_steps.path_of(module)})"


def draw(record: dict[str, Any], path: Path) -> None:
    """A bar for every step."""
    from matplotlib.ticker import PercentFormatter

    with picture(path, 7.5, 4.2) as figure:
        axes = figure.subplots()
        shares = [share(record, step.module) for step in STEPS]
        names = [f"{step.number}. {step.title}" for step in STEPS]
        bars = axes.barh(names, shares, color=[*[BLUE] * 9, RED], height=0.7)
        labels = [f"{seconds(record, step.module):.2f} s" for step in STEPS]
        axes.bar_label(bars, labels, padding=4, fontsize=9)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1))
        axes.set_xlabel(f"share of the FMA peak of {record['threads']} threads")
