"""The record as tables: for the terminal, and as Markdown for pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import _results as results
from ._peers import PEERS
from ._workloads import LIBRARIES, ROUNDING

_VARIANTS = ("fastmlp-1-thread", "fastmlp-layers", "fastmlp-uint8")

# What the README shows: networks from wide to small, and the libraries most people train with.
FRONT_ROWS = "784-512-512-10", "784-1024-1024-1024-10", "784-128-10", "784-64-64-32-10"
FRONT_PEERS = "torch", "jax", "numpy-f32", "sklearn"


def print_record(record: dict[str, Any]) -> None:
    """All figures, then variants, doubts and the machine."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console.width = 160
    for rows, names in _sections(record):
        table = Table(title="Times as fast as …")
        for heading in ("workload", "batch", "seconds", "of peak"):
            table.add_column(heading, justify="left" if heading == "workload" else "right")
        for name in names:
            table.add_column(PEERS[name].label, justify="right")
        for row in rows:
            table.add_row(*_cells(record, row, names))
        console.print(table)
    if results.anchors(record):
        console.print(_anchor_table(record))
    for line in [*_variant_lines(record), *_machine_lines(record)]:
        console.print(line, highlight=False)
    for row in record["workloads"]:
        for line in results.doubts(row):
            console.print(f"{row['label']}: {line}", style="yellow", highlight=False)


def _anchor_table(record: dict[str, Any]) -> Any:
    """Shares of peak beside those of LIBXSMM-DNN, whose kernels are assembled at run time."""
    from rich.table import Table

    table = Table(
        title="Share of peak",
        caption="LIBXSMM-DNN: on the reference machine, without update, gather and softmax",
    )
    for heading in ("network", "batch", "seconds", "fastmlp", "LIBXSMM-DNN"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for row in results.anchors(record):
        table.add_row(*_cells(record, row, ()), f"{row['libxsmm']:.0%}")
    return table


def markdown(record: dict[str, Any]) -> str:
    """All tables, and the notes below them."""
    tables = [_table(record, rows, names) for rows, names in _sections(record)]
    notes = [
        "seconds: median per epoch; per call of predict; per training for the preset. "
        "of peak: share of the FMA peak that was measured in the same rounds; products with zeros "
        "count as if all of them were made. "
        "× …: times as fast as that library. ±: half of the distance between the quartiles of the "
        "rounds; of a ratio, of both.",
        *_variant_lines(record),
        *_anchor_lines(record),
        *_machine_lines(record),
        *(
            f"{row['label']}: {line}."
            for row in record["workloads"]
            for line in results.doubts(row)
        ),
    ]
    loads = [record["load"]] if "load" in record else []
    return "\n\n".join([*tables, "\n".join(f"- {note}" for note in notes), *loads])


def front(record: dict[str, Any]) -> str:
    """What the README shows of a machine: a table of a few rows, and what they say."""
    rows = [row for row in results.beside_libraries(record) if row["name"] in FRONT_ROWS]
    rows.sort(key=lambda row: FRONT_ROWS.index(row["name"]))
    names = [name for name in FRONT_PEERS if any(name in row["peers"] for row in rows)]
    return f"{_table(record, rows, names)}\n\n{_caption(record, rows, names)}"


def _caption(record: dict[str, Any], rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    """What somebody gets who trains these networks there."""
    shares = [results.share_of_peak(record, row) for row in rows]
    found = {name: [results.times_as_fast(row, name) for row in rows] for name in names}
    gains = ", ".join(
        f"{_range(values, '{:.1f}')} times as fast as by {PEERS[name].label}"
        for name, values in found.items()
        if any(values)
    )
    return (
        f"{record['machine']['cpu']}, {record['threads']} threads, {record['date']}: on these "
        f"networks an epoch of {record['data']} is trained {gains}, "
        f"at {_range(shares, '{:.0%}')} of the peak, the multiply-adds that the processor's cores "
        "can do at most. "
        "±: half of the distance between the quartiles of interleaved rounds."
    )


def _range(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(form.format(value) for value in (min(known), max(known)))
    return " to ".join(ends)


def _table(record: dict[str, Any], rows: list[dict[str, Any]], names: Sequence[str]) -> str:
    headings = ["workload", "batch", "seconds", "of peak"]
    headings += [f"× {PEERS[name].label}" for name in names]
    return markdown_table(headings, [_cells(record, row, names) for row in rows])


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose first column is words and whose others are numbers."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *lines])


def _sections(record: dict[str, Any]) -> list[tuple[list[dict[str, Any]], list[str]]]:
    """The rows of each table, and the peers that are its columns: those that any row has."""
    sections = []
    for rows, order in (
        (results.beside_libraries(record), LIBRARIES),
        (results.rounding(record), ROUNDING),
    ):
        run = {name for row in rows for name in row["peers"]}
        if rows:
            sections.append((rows, [name for name in order if name in run]))
    return sections


def _cells(record: dict[str, Any], row: dict[str, Any], names: Sequence[str]) -> list[str]:
    own = results.seconds(row)
    share = results.share_of_peak(record, row)
    cells = [
        row["label"],
        "" if row["batch_size"] is None else f"{row['batch_size']:,}",
        "void" if own is None else f"{_seconds(own)} {_uncertainty(row, 'fastmlp')}",
        "" if share is None else f"{share:.0%}",
    ]
    return cells + [_ratio(row, name) for name in names]


def _uncertainty(row: dict[str, Any], *peers: str) -> str:
    return f"± {results.uncertainty(row, *peers):.0%}"


def _ratio(row: dict[str, Any], name: str) -> str:
    if name not in row["peers"]:
        return ""
    value = results.times_as_fast(row, name)
    if value is None:
        return "void" if row["peers"][name]["note"].startswith("void") else "–"
    ratio = f"{value:.1f}" if value < 10 else f"{value:.0f}"
    return f"{ratio} {_uncertainty(row, 'fastmlp', name)}"


def _seconds(value: float) -> str:
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _variant_lines(record: dict[str, Any]) -> list[str]:
    words = {
        "fastmlp-1-thread": "{:.2f} × as fast as on one thread",
        "fastmlp-layers": "the layer path runs at {:.0%} of fit's speed",
        "fastmlp-uint8": "uint8 input runs at {:.0%} of float32's speed",
    }
    lines = []
    for row in record["workloads"]:
        found = []
        for name in _VARIANTS:
            value = results.times_as_fast(row, name)
            if value is not None:
                found.append(words[name].format(value))
        if row["name"] == "one-row":
            value = results.times_weights_read(record, row)
            if value is not None:
                rate = record["limits"]["weights_read_1_thread_gbytes"]
                found.append(
                    f"{value:.2f} × the time that reading the weights from cache takes "
                    f"({row['bytes'] / rate / 1e3:.0f} µs); the row is an image, and fastmlp does "
                    "not read the weights that meet its zeros"
                )
        if row["name"] == "record" and "figure" in row["peers"]["fastmlp"]:
            accuracy = 1 - row["peers"]["fastmlp"]["figure"]
            trainings = 1 + len(row["peers"]["fastmlp"].get("rounds", ()))
            found.append(f"test accuracy {accuracy:.2%}, mean of {trainings} seeds")
        if found:
            lines.append(f"{row['label']}: {', '.join(found)}.")
    return lines


def _anchor_lines(record: dict[str, Any]) -> list[str]:
    """One line on the networks of LIBXSMM-DNN, if any were run."""
    shares = [
        f"{row['label']}, batch {row['batch_size']}: {results.share_of_peak(record, row) or 0:.0%} "
        f"({row['libxsmm']:.0%})"
        for row in results.anchors(record)
    ]
    return shares and [
        "Of peak, beside LIBXSMM-DNN's share on the reference machine without update, gather and "
        f"softmax: {'; '.join(shares)}."
    ]


def _machine_lines(record: dict[str, Any]) -> list[str]:
    machine, limits, versions = record["machine"], record["limits"], record["versions"]
    software = ", ".join(
        f"{name} {version}" for name, version in versions.items() if version != "not installed"
    )
    rounded = ""
    if "peak_bfloat16_gflops" in limits:
        rounded = f", {limits['peak_bfloat16_gflops']:.0f} in bfloat16"
    lines = [
        f"{record['date']}, {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['vector_bits']}-bit vectors, {machine['system']}; {record['threads']} threads, "
        f"up to {record['rounds']} interleaved rounds, data: {record['data']}.",
        f"FMA peak per core {limits['peak_float32_gflops']:.0f} GFLOP/s in float32, "
        f"{limits['peak_float64_gflops']:.0f} in float64{rounded}; memory "
        f"{limits['read_gbytes']:.0f} GB/s reading, {limits['triad_gbytes']:.0f} GB/s in a triad.",
        f"Python {machine['python']}, {software}; NumPy's BLAS: {machine['numpy_blas']}.",
    ]
    if record["warnings"]:
        lines.append(f"Doubtful: {', '.join(record['warnings'])}.")
    return lines
