"""The record of a comparison: what ``results.json`` holds, and the figures that follow from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from ._peers import PEERS
from ._rounds import Measured
from ._workloads import WORKLOADS, Workload

# Beyond this, half of the rounds lie too far apart for the median to be believed.
SPREAD_LIMIT = 0.10

# What may differ between runs that continue one another.
_PER_RUN = {"date", "warnings", "limits", "workloads"}


def row(workload: Workload, measured: list[Measured]) -> dict[str, Any]:
    """A workload's part of the record."""
    probe, *peers = measured
    return {
        "name": workload.name,
        "label": workload.label,
        "unit": workload.unit,
        "batch_size": workload.network.batch_size if workload.kind != "inference" else None,
        "dtype": workload.dtype,
        "compute_dtype": workload.compute_dtype,
        "samples": workload.samples,
        "flops": workload.flops,
        "bytes": workload.bytes,
        "peak_gflops": _median(probe, "gflops"),
        "together": _median(probe, "together"),
        "libxsmm": workload.libxsmm,
        "peers": {result.peer.name: _peer(result) for result in peers},
    }


def _median(probe: Measured, figure: str) -> float | None:
    found = [extra[figure] for extra in probe.extra]
    return _significant(median(found)) if found else None


def _peer(result: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {"note": result.note}
    if math.isfinite(result.figure):
        found["figure"] = float(f"{result.figure:.6g}")
    if result.seconds:
        low, high = _quartiles(result.seconds)
        found |= {
            "median": _significant(median(result.seconds)),
            "quartiles": [_significant(low), _significant(high)],
            "rounds": [_significant(value) for value in result.seconds],
        }
    return found


def _significant(value: float) -> float:
    return float(f"{value:.4g}")


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def beside_libraries(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows in which other libraries take part, in float32 or float64."""
    return [
        row
        for row in record["workloads"]
        if not row.get("libxsmm") and not row.get("compute_dtype")
    ]


def rounding(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows in bfloat16."""
    return [row for row in record["workloads"] if row.get("compute_dtype")]


def anchors(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows whose share of peak stands beside LIBXSMM-DNN's."""
    return [row for row in record["workloads"] if row.get("libxsmm")]


def seconds(row: dict[str, Any], peer: str = "fastmlp") -> float | None:
    """A peer's median seconds per unit, None where it has none."""
    value: float | None = row["peers"].get(peer, {}).get("median")
    return value


def spread(row: dict[str, Any], peer: str) -> float:
    """Distance of the quartiles, relative to the median."""
    found = row["peers"][peer]
    low, high = found["quartiles"]
    return float((high - low) / found["median"])


def share_of_peak(record: dict[str, Any], row: dict[str, Any]) -> float | None:
    """fastmlp's FLOP/s over the FMA peak of all threads.

    None for a single row, which is not multiplied by weights where it has zeros.
    """
    own, peak = seconds(row), row["peak_gflops"]
    if own is None or not peak or row["samples"] == 1:
        return None
    return float(row["flops"] / own / (1e9 * peak * record["threads"]))


def times_as_fast(row: dict[str, Any], peer: str) -> float | None:
    """How many times as fast as the peer fastmlp is.

    For fastmlp's own variants: the speed relative to fit, except that one thread is compared like
    a peer.
    """
    own, other = seconds(row), seconds(row, peer)
    if own is None or other is None:
        return None
    if peer in ("fastmlp-layers", "fastmlp-uint8"):
        return own / other
    return other / own


def times_weights_read(record: dict[str, Any], row: dict[str, Any]) -> float | None:
    """A call's time over the time to read the weights from cache on one thread."""
    own = seconds(row)
    rate = record["limits"].get("weights_read_1_thread_gbytes")
    return None if own is None or not rate else float(own / (row["bytes"] / (1e9 * rate)))


def doubts(row: dict[str, Any]) -> Iterator[str]:
    """What to know about a row: busy cores, peers without figures, spreads beyond the limit."""
    together = row.get("together")
    if together is not None and together < 1 - SPREAD_LIMIT:
        yield f"the cores together reached {together:.0%} of their peaks"
    for name, found in row["peers"].items():
        label = PEERS[name].label
        if found["note"]:
            yield f"{label}: {found['note']}"
        elif spread(row, name) > SPREAD_LIMIT:
            yield f"{label}: spread {spread(row, name):.0%}"


def missed(record: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    """Aims that were not reached."""
    workload = WORKLOADS[row["name"]]
    share = share_of_peak(record, row)
    if workload.aim_of_peak and share is not None and share < workload.aim_of_peak:
        yield f"{share:.0%} of peak, aim {workload.aim_of_peak:.0%}"
    for peer, aim in workload.aims.items():
        value = times_as_fast(row, peer)
        if value is not None and value < aim:
            yield f"{value:.2f} × {PEERS[peer].label}, aim {aim:g}"
    own, found = seconds(row), row["peers"]["fastmlp"]
    if workload.aim_seconds and own is not None and own > workload.aim_seconds:
        yield f"{own:.3f} s, aim {workload.aim_seconds:g} s"
    if workload.aim_accuracy and own is not None and 1 - found["figure"] < workload.aim_accuracy:
        yield f"test accuracy {1 - found['figure']:.2%}, aim {workload.aim_accuracy:.0%}"
    reads = times_weights_read(record, row) if workload.aim_weights_read else None
    if reads is not None and reads > workload.aim_weights_read:
        yield f"{reads:.2f} × reading the weights, aim {workload.aim_weights_read:g}"


def setup(record: dict[str, Any]) -> dict[str, Any]:
    """What two runs must have in common for their rows to stand in one table."""
    return {name: value for name, value in record.items() if name not in _PER_RUN}


def write(record: dict[str, Any], folder: Path) -> Path:
    """results.json in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return record
