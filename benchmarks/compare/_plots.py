"""The record as pictures: a bar chart of speeds, and fastmlp under the machine's roofs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..pictures import AMBER, BLUE, GREEN, PURPLE, RED, TEXT, picture
from . import _results as results
from ._peers import PEERS
from ._tables import FRONT_PEERS, FRONT_ROWS
from ._workloads import LIBRARIES, ROUNDING

# A colour, and how much of it fills what it borders: of a library's ways to compute, each.
_STYLES = {
    "torch": (RED, 0.9), "torch-compile": (RED, 0.4), "torch-bf16": (RED, 0.1),
    "torch-pure-bf16": (RED, 0.6), "jax": (PURPLE, 0.9), "jax-bf16": (PURPLE, 0.1),
    "numpy-f32": (BLUE, 0.9), "numpy-f64": (BLUE, 0.3), "sklearn": (AMBER, 0.9),
    "fastmlp-float32": (GREEN, 0.3),
}  # fmt: skip
_OWN = GREEN
_BAR = 0.12


# Kinds of peers, each once.
_ALL_PEERS = tuple(dict.fromkeys((*LIBRARIES, *ROUNDING)))


def bar_chart(record: dict[str, Any], path: Path) -> None:
    """Every library's speed relative to fastmlp, a group of bars per workload."""
    compared = results.beside_libraries(record) + results.rounding(record)
    rows = [(record, row) for row in compared if results.seconds(row) is not None]
    _bars(rows, _ALL_PEERS, path)


def front_chart(records: Sequence[dict[str, Any]], path: Path) -> None:
    """The README's rows and libraries, of all machines."""
    rows = [
        (record, row)
        for record in records
        for row in results.beside_libraries(record)
        if row["name"] in FRONT_ROWS and results.seconds(row) is not None
    ]
    _bars(rows, FRONT_PEERS, path)


def _bars(
    rows: Sequence[tuple[dict[str, Any], dict[str, Any]]], names: Sequence[str], path: Path
) -> None:
    """rows : (record, row)"""
    with picture(path, 9, 1.2 + (0.15 + len(names) * _BAR) * len(rows)) as figure:
        axes = figure.subplots()
        _draw_bars(axes, rows, names)
        figure.legend(loc="outside upper center", ncols=6, fontsize=8)


def _draw_bars(
    axes: Any, rows: Sequence[tuple[dict[str, Any], dict[str, Any]]], names: Sequence[str]
) -> None:
    labelled = set()
    for position, (_, row) in enumerate(rows):
        ratios = {name: results.times_as_fast(row, name) for name in names}
        speeds = {name: 1 / value for name, value in ratios.items() if value}
        heights = _BAR * (np.arange(len(speeds)) - (len(speeds) - 1) / 2)
        for offset, (name, speed) in zip(heights, speeds.items(), strict=True):
            label = PEERS[name].label if name not in labelled else None
            labelled.add(name)
            axes.barh(position + offset, speed, 0.8 * _BAR, label=label, **_filled(name))
            axes.text(speed + 0.008, position + offset, f"{speed:.2f}", va="center", size=6)
    axes.axvline(1, color=_OWN, linewidth=1.2)
    several = len({results.machine_of(record) for record, _ in rows}) > 1
    labels = [_row_label(row, record["machine"]["cpu"] if several else "") for record, row in rows]
    axes.set_yticks(range(len(rows)), labels, size=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("speed relative to fastmlp (line at 1)")


def _filled(name: str) -> dict[str, Any]:
    """Of a bar: what Matplotlib takes."""
    colour, strength = _STYLES[name]
    return {"facecolor": (colour, strength), "edgecolor": colour, "linewidth": 0.8}


def _row_label(row: dict[str, Any], machine: str) -> str:
    label = row["label"].replace(", ", ",\n")
    if row["batch_size"] is not None:
        label += f"\nbatch {row['batch_size']:,}"
    return f"{label}\n{machine}" if machine else str(label)


def roofline(record: dict[str, Any], path: Path) -> None:
    """FLOP/s of fastmlp and the libraries over the least number of bytes a unit must move."""
    with picture(path, 8.5, 5.5) as figure:
        axes = figure.subplots()
        _roofs(axes, record)
        _draw_points(axes, results.beside_libraries(record) + results.rounding(record))
        figure.legend(loc="outside upper center", ncols=6, fontsize=8)


def _draw_points(axes: Any, rows: Sequence[dict[str, Any]]) -> None:
    labelled = set()
    for number, row in enumerate(rows, start=1):
        own = results.seconds(row)
        if own is None:
            continue
        intensity = row["flops"] / row["bytes"]
        for name in _ALL_PEERS:
            other = results.seconds(row, name)
            if other is not None:
                label = PEERS[name].label if name not in labelled else None
                labelled.add(name)
                colour, strength = _STYLES[name]
                axes.plot(
                    intensity, row["flops"] / other / 1e9, "o", color=colour, markersize=4,
                    markerfacecolor=(colour, strength), markeredgecolor=colour, markeredgewidth=0.8,
                    label=label,
                )  # fmt: skip
        speed = row["flops"] / own / 1e9
        first = None if "fastmlp" in labelled else "fastmlp"
        labelled.add("fastmlp")
        axes.plot(intensity, speed, "D", color=_OWN, markersize=6, label=first)
        axes.annotate(
            str(number), (intensity, speed), xytext=(0, 6), textcoords="offset points",
            ha="center", size=8,
        )  # fmt: skip
    names = "\n".join(f"{n} {row['label']}" for n, row in enumerate(rows, start=1))
    axes.text(0.99, 0.02, names, transform=axes.transAxes, size=7, ha="right", va="bottom")


def _roofs(axes: Any, record: dict[str, Any]) -> None:
    """The axes, and what the machine allows."""
    axes.set(
        xscale="log", yscale="log", xlim=(0.25, 2000), ylabel="GFLOP/s",
        xlabel="FLOP per byte, if nothing stays in cache from step to step",
    )  # fmt: skip
    limits, threads = record["limits"], record["threads"]
    intensity = np.geomspace(0.25, 2000, 200)
    bandwidths = {
        "memory": limits["read_gbytes"],
        "weights in cache": limits["weights_read_gbytes"],
    }
    peaks = {
        name: threads * limits[f"peak_{name}_gflops"]
        for name in ("bfloat16", "float32", "float64")
        if f"peak_{name}_gflops" in limits
    }
    for style, (name, bandwidth) in zip(("-", "--"), bandwidths.items(), strict=True):
        roof = np.minimum(intensity * bandwidth, max(peaks.values()))
        axes.plot(intensity, roof, style, color=TEXT, linewidth=1)
        # The slope is 1 in logarithmic axes, and the bandwidth in the data that rotation is in.
        axes.text(
            0.3, 0.33 * bandwidth, f"{name}, {bandwidth:.0f} GB/s", size=7,
            rotation=np.degrees(np.arctan(bandwidth)), rotation_mode="anchor",
            transform_rotates_text=True, va="bottom",
        )  # fmt: skip
    for name, peak in peaks.items():
        axes.axhline(peak, color=TEXT, linewidth=0.8, linestyle=":")
        axes.text(2000, peak, f"{name} {peak:.0f}", size=7, ha="right", va="bottom")
